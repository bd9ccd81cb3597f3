//! Partners pinned, agreements proposed, signed, revoked; what partners must be told, until they were.

use super::agreement::{self, AgreementDraft, Problem, State};
use super::connect::{first_contact, within};
use super::directory::{Held, Partner};
use super::error::{AskError, FederationError};
use super::lease::Ended;
use super::refuse::{self, malformed, refusal, schema_too_old, unavailable};
use super::store::Tell;
use super::viewing::accepted;
use super::{Federation, Inner, mandate, read, write};
use campanile_proto::federation::v1::{Agreement, IntroduceRequest, Introduction, Refusal, Revocation, SignedEnvelope};
use campanile_proto::ids::{AgreementId, CameraId, OrganisationId};
use campanile_proto::kind::Chain;
use campanile_proto::signed;
use campanile_proto::time::WallTime;
use prost::Message;

const CALL_SECONDS: u64 = 5;
/// Unsigned proposals of one partner that wait for our people.
const MAX_WAITING: usize = 64;

impl Federation {
    /// Pins the organisation at `address` if its long-term key has the fingerprint that people compared.
    pub async fn add_partner(&self, address: &str, expected_fingerprint: &str) -> Result<Partner, FederationError> {
        let (introduction, authority) = introduce(address).await?;
        let believed = self.believe(introduction, authority, address)?;
        let partner = believed.0.clone();
        if normal(&partner.fingerprint) != normal(expected_fingerprint) {
            let (address, found) = (address.to_owned(), partner.fingerprint);
            return Err(FederationError::Fingerprint { address, expected: expected_fingerprint.to_owned(), found });
        }
        if self.partner(partner.id).is_some_and(|held| held.key != partner.key) {
            return Err(FederationError::OtherKey(partner.id));
        }
        self.keep(believed).await?;
        Ok(partner)
    }

    /// Asks a partner for its newest mandate, at every address known of it.
    pub(super) async fn refresh(&self, partner: &Partner) -> Result<(), FederationError> {
        let mut outcome = Err(FederationError::UnknownPartner(partner.id));
        for address in partner.mandate.endpoints.iter().chain([&partner.address]) {
            outcome = self.refresh_at(partner, address).await;
            if outcome.is_ok() {
                break;
            }
        }
        outcome
    }

    async fn refresh_at(&self, partner: &Partner, address: &str) -> Result<(), FederationError> {
        let (introduction, authority) = introduce(address).await?;
        let found = self.believe(introduction, authority, &partner.address)?;
        if found.0.id != partner.id || found.0.key != partner.key {
            return Err(FederationError::OtherKey(partner.id));
        }
        if found.0.mandate.sequence <= partner.mandate.sequence {
            return Ok(());
        }
        self.keep(found).await
    }

    /// Checks an introduction against itself: card, mandate signed by the card's key, TLS by the mandate's authority.
    fn believe(
        &self,
        introduction: Introduction,
        authority: Option<[u8; 32]>,
        address: &str,
    ) -> Result<Believed, FederationError> {
        let card = introduction.card.ok_or(FederationError::Card("there is none"))?;
        let (id, key) = mandate::read_card(&card).map_err(FederationError::Card)?;
        if id == self.us() {
            return Err(FederationError::Ourselves(id));
        }
        let envelope = introduction.mandate.unwrap_or_default();
        let mandate = mandate::read(&envelope, id, &key, self.0.clock.utc()).map_err(FederationError::Mandate)?;
        if authority.is_none_or(|seen| mandate.tls_authority.as_ref() != seen) {
            return Err(FederationError::OtherAuthority);
        }
        let partner = Partner::of(card, mandate, address.to_owned()).map_err(FederationError::Card)?;
        Ok(Believed(partner, envelope))
    }

    async fn keep(&self, Believed(partner, mandate): Believed) -> Result<(), FederationError> {
        let card = partner.card.encode_to_vec();
        self.0.store.put_partner(partner.id, card, &mandate, partner.address.clone()).await?;
        write(&self.0.directory).partners.insert(partner.id, partner);
        Ok(())
    }

    /// Signs a draft and leaves it, half-signed, at the partner.
    pub async fn propose(&self, draft: AgreementDraft) -> Result<AgreementId, FederationError> {
        let partner = self.partner(draft.partner).ok_or(FederationError::UnknownPartner(draft.partner))?;
        let drawn = agreement::draw_up(&draft, vec![self.card(), partner.card.clone()], self.0.clock.utc());
        agreement::check(&drawn).map_err(FederationError::Agreement)?;
        let us = self.us();
        agreement::is_filled_in(&drawn, |owner| owner == us.as_bytes()).map_err(FederationError::Agreement)?;
        let envelope = signed::envelope(&drawn, self.us(), &self.0.identity.long_term);
        let held = Held::of(envelope, drawn).ok_or(FederationError::Stored { what: "agreement" })?;
        let id = held.id;
        self.hold(held, vec![(partner.id, Tell::Propose)]).await?;
        self.tell_untold().await;
        Ok(id)
    }

    /// Signs what a partner proposed. Where it left our cameras open, `offered` is filled in; these are new
    /// bytes, which the partner's hub countersigns by itself because nothing else has changed.
    pub async fn sign(&self, id: AgreementId, offered: Vec<CameraId>) -> Result<(), FederationError> {
        let held = self.held(id)?;
        match held.state(self.us(), self.0.clock.utc()) {
            State::AwaitingUs => {}
            State::Revoked => return Err(FederationError::Revoked(id)),
            State::Expired => return Err(FederationError::Expired(id)),
            State::Proposed | State::Live | State::Suspended => return Ok(()),
        }
        let filled = agreement::fill_in(&held.agreement, self.us(), &offered);
        agreement::check(&filled)
            .and_then(|()| agreement::is_filled_in(&filled, |_| true))
            .map_err(FederationError::Agreement)?;
        let mut envelope = held.envelope.clone();
        if filled != held.agreement {
            envelope = SignedEnvelope { payload: filled.encode_to_vec().into(), signatures: Vec::new(), ..envelope };
        }
        signed::countersign(&mut envelope, self.us(), &self.0.identity.long_term);
        let signed = Held::of(envelope, filled).ok_or(FederationError::Stored { what: "agreement" })?;
        let tell = held.others(self.us()).into_iter().map(|partner| (partner, Tell::Conclude)).collect();
        self.hold(Held { suspended: held.suspended, ..signed }, tell).await?;
        self.tell_untold().await;
        Ok(())
    }

    /// Ends an agreement: here at once, at the partner as soon as it can be told.
    pub async fn revoke(&self, id: AgreementId, reason: &str) -> Result<(), FederationError> {
        let held = self.held(id)?;
        if held.revoked_at.is_some() {
            return Ok(());
        }
        if !agreement::is_text(reason, 0, 500) {
            let remedy = "must be at most 500 printable characters";
            return Err(FederationError::Agreement(Problem::Malformed { field: "reason", remedy }));
        }
        let now = self.0.clock.utc();
        let revocation = Revocation {
            agreement_id: id.into(),
            organisation_id: self.us().into(),
            at_us: now.0,
            reason: reason.to_owned(),
        };
        let envelope = signed::envelope(&revocation, self.us(), &self.0.identity.long_term);
        self.revoked(id, &envelope, now, held.others(self.us())).await?;
        self.tell_untold().await;
        Ok(())
    }

    /// Refuses first, writes then: a disk that fails must not keep an agreement alive.
    async fn revoked(
        &self,
        id: AgreementId,
        envelope: &SignedEnvelope,
        at: WallTime,
        tell: Vec<OrganisationId>,
    ) -> Result<(), FederationError> {
        if let Some(held) = write(&self.0.directory).agreements.get_mut(&id) {
            held.revoked_at.get_or_insert(at);
        }
        self.publish();
        let _ = self.0.revoked.send(id);
        self.0.end_leases(id).await;
        Ok(self.0.store.revoke(id, envelope, at, tell).await?)
    }

    fn held(&self, id: AgreementId) -> Result<Held, FederationError> {
        read(&self.0.directory).agreements.get(&id).cloned().ok_or(FederationError::UnknownAgreement(id))
    }

    async fn hold(&self, held: Held, tell: Vec<(OrganisationId, Tell)>) -> Result<(), FederationError> {
        self.0.store.put_agreement(held.id, &held.envelope, tell).await?;
        let mut directory = write(&self.0.directory);
        // A revocation that arrived in between stands.
        let revoked_at = directory.agreements.get(&held.id).and_then(|before| before.revoked_at);
        directory.agreements.insert(held.id, Held { revoked_at, ..held });
        drop(directory);
        self.publish();
        Ok(())
    }

    /// A partner leaves a half-signed agreement.
    pub(super) async fn proposed(&self, from: &Partner, envelope: SignedEnvelope) -> Result<(), Refusal> {
        let agreement = self.acceptable(from, &envelope)?;
        agreement::is_filled_in(&agreement, |owner| owner == from.id.as_bytes()).map_err(refused)?;
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
            let known = |s: &campanile_proto::federation::v1::Signature| {
                before.signers.iter().any(|id| s.organisation_id.as_ref() == id.as_bytes().as_slice())
            };
            envelope.signatures.extend(new.into_iter().filter(|signature| !known(signature)));
        }
        let signers = agreement::signers(&envelope, &agreement);
        let holds = |s: &campanile_proto::federation::v1::Signature| {
            signers.iter().any(|id| s.organisation_id.as_ref() == id.as_bytes().as_slice())
        };
        envelope.signatures.retain(holds);
        let held = Held::of(envelope, agreement).ok_or_else(unavailable)?;
        let suspended = before.is_some_and(|before| before.suspended);
        self.hold(Held { suspended, ..held }, Vec::new()).await.map_err(not_written)
    }

    /// Tells partners what they were not told yet; what fails stays for the next time.
    pub(super) async fn tell_untold(&self) {
        let untold = match self.0.store.untold().await {
            Ok(untold) => untold,
            Err(error) => return tracing::error!(error = %Chain(&error), "what partners must be told cannot be read"),
        };
        let tell = untold.into_iter().map(|one| async move {
            let (partner, agreement) = (one.partner, one.agreement);
            match self.tell(partner, agreement, one.tell, one.revocation).await {
                Ok(()) => {}
                // What the partner will never accept is not told again.
                Err(AskError::Refused(refusal)) if !refuse::kind_of(&refusal.code).may_retry() => {
                    tracing::warn!(%partner, %agreement, code = refusal.code, sentence = refusal.sentence, "the partner does not accept");
                }
                Err(error) => {
                    return tracing::warn!(%partner, %agreement, error = %Chain(&error), "partner not told; trying again");
                }
            }
            if let Err(error) = self.0.store.told(partner, agreement, one.tell).await {
                tracing::error!(error = %Chain(&error), "what a partner was told cannot be written");
            }
        });
        futures::future::join_all(tell).await;
    }

    async fn tell(
        &self,
        partner: OrganisationId,
        agreement: AgreementId,
        tell: Tell,
        revocation: Option<SignedEnvelope>,
    ) -> Result<(), AskError> {
        let known = self.partner(partner).ok_or(AskError::UnknownPartner(partner))?;
        let held = self.held(agreement).map_err(|_| AskError::NoAgreement)?;
        let mut client = self.0.connections.client(&known);
        let receipt = match tell {
            Tell::Propose => within(CALL_SECONDS, client.propose(held.envelope)).await?,
            Tell::Conclude => within(CALL_SECONDS, client.conclude(held.envelope)).await?,
            Tell::Revoke => within(CALL_SECONDS, client.revoke(revocation.unwrap_or_default())).await?,
        };
        accepted(receipt.into_inner())
    }
}

impl Inner {
    pub(super) fn is_revoked(&self, agreement: AgreementId) -> bool {
        read(&self.directory).agreements.get(&agreement).is_none_or(|held| held.revoked_at.is_some())
    }

    pub(super) async fn end_leases(&self, agreement: AgreementId) {
        futures::future::join_all(self.leases.end_agreement(agreement).into_iter().map(Ended::close)).await;
    }
}

/// A partner whose introduction holds together, and its mandate's envelope.
struct Believed(Partner, SignedEnvelope);

async fn introduce(address: &str) -> Result<(Introduction, Option<[u8; 32]>), FederationError> {
    if !mandate::is_endpoint(address) {
        return Err(FederationError::Address(address.chars().take(100).collect()));
    }
    let (mut client, pin) = first_contact(address);
    let introduction = within(CALL_SECONDS, client.introduce(IntroduceRequest {})).await;
    let introduction = introduction.map_err(|source| FederationError::Reach { address: address.to_owned(), source })?;
    Ok((introduction.into_inner(), pin.seen()))
}

/// A fingerprint without what people put between its digits.
fn normal(fingerprint: &str) -> String {
    fingerprint.chars().filter(char::is_ascii_hexdigit).map(|c| c.to_ascii_uppercase()).collect()
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
