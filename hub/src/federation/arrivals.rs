//! What partners bring: proposals, concluded agreements, revocations. Nothing is believed but what is signed
//! with the keys people pinned.

use super::agreement::{self, Problem, State};
use super::directory::{Held, Partner};
use super::error::FederationError;
use super::refuse::{self, malformed, refusal, schema_too_old, unavailable};
use super::store::Tell;
use super::{Federation, read};
use campanile_proto::federation::v1::{Agreement, Refusal, Signature, SignedEnvelope};
use campanile_proto::ids::{AgreementId, OrganisationId};
use campanile_proto::kind::Chain;
use campanile_proto::signed;

/// Unsigned proposals of one partner that wait for our people.
const MAX_WAITING: usize = 64;

impl Federation {
    /// A partner leaves a half-signed agreement.
    pub(super) async fn proposed(&self, from: &Partner, envelope: SignedEnvelope) -> Result<(), Refusal> {
        let agreement = self.acceptable(from, &envelope)?;
        agreement::is_filled_in(&agreement, |owner| owner == from.id.as_bytes()).map_err(refused)?;
        let _alone = self.0.changing.lock().await;
        let now = self.0.clock.utc();
        let waiting = {
            let directory = read(&self.0.directory);
            let waits =
                |held: &&Held| held.state(self.us(), now) == State::AwaitingUs && held.signers.contains(&from.id);
            directory.agreements.values().filter(waits).count()
        };
        if waiting >= MAX_WAITING {
            return Err(refusal(refuse::BUSY, "too many proposals wait for this organisation's people"));
        }
        self.merge(agreement, envelope).await.map(drop)
    }

    /// A partner brings an agreement with every signature, or our own proposal with its cameras filled in.
    pub(super) async fn concluded(&self, from: &Partner, envelope: SignedEnvelope) -> Result<(), Refusal> {
        let agreement = self.acceptable(from, &envelope)?;
        agreement::is_filled_in(&agreement, |_| true).map_err(refused)?;
        let _alone = self.0.changing.lock().await;
        if let Some(ours) = self.completed(from, &envelope, &agreement) {
            return self.countersign(from, ours, envelope, agreement).await;
        }
        let signers = agreement::signers(&envelope, &agreement);
        if signers.len() < agreement.parties.len() {
            return Err(malformed("signatures: every party must have signed"));
        }
        self.merge(agreement, envelope).await.map(drop)
    }

    /// Our own proposal, if `agreement` is it with nothing changed but what we left for `from` to fill in.
    fn completed(&self, from: &Partner, envelope: &SignedEnvelope, agreement: &Agreement) -> Option<Held> {
        let ours = self.held(AgreementId::try_from(&agreement.agreement_id).ok()?).ok()?;
        let open = ours.revoked_at.is_none() && ours.signers == [self.us()];
        let other = ours.envelope.payload != envelope.payload;
        (open && other && agreement::completes(&ours.agreement, agreement, from.id)).then_some(ours)
    }

    /// Our people signed that these cameras may be filled in: only grants to us have grown.
    async fn countersign(
        &self,
        from: &Partner,
        ours: Held,
        mut envelope: SignedEnvelope,
        agreement: Agreement,
    ) -> Result<(), Refusal> {
        envelope.signatures.retain(|s| s.organisation_id.as_ref() == from.id.as_bytes());
        signed::countersign(&mut envelope, self.us(), &self.0.identity.long_term);
        let held = Held::of(envelope, agreement).ok_or_else(unavailable)?;
        let tell = vec![(from.id, Tell::Conclude)];
        self.hold(Held { suspended: ours.suspended, ..held }, tell).await.map_err(not_written)?;
        // The partner waits for our answer to this call; it is told in its own.
        let federation = self.clone();
        tokio::spawn(async move { federation.tell_untold().await });
        Ok(())
    }

    /// A partner revokes: its word alone is enough.
    pub(super) async fn revoked_by(&self, from: &Partner, envelope: SignedEnvelope) -> Result<(), Refusal> {
        let (id, revocation) = agreement::read_revocation(&envelope).map_err(refused)?;
        let party = self.held(id).is_ok_and(|held| agreement::names(&held.agreement, from.id, from.key.as_bytes()));
        if !party || revocation.organisation_id != bytes::Bytes::from(from.id) {
            return Err(refuse::not_granted(""));
        }
        tracing::warn!(partner = %from.id, agreement = %id, "agreement revoked by the partner");
        let never_ours = self.held(id).is_ok_and(|held| !held.signers.contains(&self.us()));
        if never_ours {
            return self.withdrawn(id).await.map_err(not_written);
        }
        self.revoked(id, &envelope, self.0.clock.utc(), Vec::new()).await.map_err(|error| {
            tracing::error!(error = %Chain(&error), "revocation not written");
            unavailable()
        })
    }

    /// Reads what a partner signed: whole, between it and us, with the keys we know.
    fn acceptable(&self, from: &Partner, envelope: &SignedEnvelope) -> Result<Agreement, Refusal> {
        let agreement = agreement::read(envelope).map_err(refused)?;
        if !agreement::names(&agreement, self.us(), self.0.identity.long_term.verifying_key().as_bytes()) {
            return Err(refused(Problem::NotOurs));
        }
        if !agreement::names(&agreement, from.id, from.key.as_bytes()) {
            return Err(refused(Problem::NotTheirs));
        }
        let known = |id: &OrganisationId, key: &[u8]| {
            *id == self.us() || self.partner(*id).is_none_or(|partner| partner.key.as_bytes() == key)
        };
        let cards = agreement::cards(&agreement).map_err(refused)?;
        if !cards.iter().all(|(id, card)| known(id, &card.public_key)) {
            return Err(malformed("parties: one is named with another key than the one known here"));
        }
        if self.0.clock.utc().0 >= agreement.valid_until_us {
            return Err(refusal(refuse::EXPIRED, "the agreement is over already"));
        }
        Ok(agreement)
    }

    /// Adds the signatures that hold to those already held over the same bytes.
    async fn merge(&self, agreement: Agreement, mut envelope: SignedEnvelope) -> Result<(), Refusal> {
        let id = AgreementId::try_from(&agreement.agreement_id).map_err(|_| malformed("agreement_id must be an id"))?;
        let before = self.held(id).ok();
        if let Some(before) = &before {
            if before.envelope.payload != envelope.payload {
                return Err(refused(Problem::OtherBytes));
            }
            let new: Vec<_> = envelope.signatures.drain(..).collect();
            envelope.signatures = before.envelope.signatures.clone();
            let known =
                |s: &Signature| before.signers.iter().any(|id| s.organisation_id.as_ref() == id.as_bytes().as_slice());
            envelope.signatures.extend(new.into_iter().filter(|signature| !known(signature)));
        }
        let signers = agreement::signers(&envelope, &agreement);
        let holds = |s: &Signature| signers.iter().any(|id| s.organisation_id.as_ref() == id.as_bytes().as_slice());
        envelope.signatures.retain(holds);
        let held = Held::of(envelope, agreement).ok_or_else(unavailable)?;
        let suspended = before.is_some_and(|before| before.suspended);
        self.hold(Held { suspended, ..held }, Vec::new()).await.map_err(not_written)
    }
}

fn not_written(error: FederationError) -> Refusal {
    tracing::error!(error = %Chain(&error), "agreement not written");
    unavailable()
}

fn refused(problem: Problem) -> Refusal {
    match problem {
        Problem::SchemaTooOld(_) => schema_too_old(),
        Problem::Signature(_) => refusal("BAD_SIGNATURE", "a signature does not hold"),
        other => malformed(other.to_string()),
    }
}
