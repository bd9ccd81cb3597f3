//! Agreements proposed, signed and revoked by our people; what partners must be told, until they were.

use super::agreement::{self, AgreementDraft, Problem, State};
use super::connect::within;
use super::directory::{Held, NotInForce};
use super::error::{AskError, FederationError};
use super::lease::Ended;
use super::refuse;
use super::store::Tell;
use super::viewing::accepted;
use super::{Federation, Inner, read, write};
use campanile_proto::federation::v1::{Revocation, SignedEnvelope};
use campanile_proto::ids::{AgreementId, CameraId, OrganisationId};
use campanile_proto::kind::Chain;
use campanile_proto::signed;
use campanile_proto::time::WallTime;
use prost::Message;

const CALL_SECONDS: u64 = 5;

impl Federation {
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
        if self.signed(id, &offered).await? {
            self.tell_untold().await;
        }
        Ok(())
    }

    /// Whether our signature is new.
    pub(super) async fn signed(&self, id: AgreementId, offered: &[CameraId]) -> Result<bool, FederationError> {
        let _alone = self.0.changing.lock().await;
        let held = self.held(id)?;
        match held.state(self.us(), self.0.clock.utc()) {
            State::AwaitingUs => {}
            State::Revoked => return Err(FederationError::Revoked(id)),
            State::Expired => return Err(FederationError::Expired(id)),
            State::Proposed | State::Live | State::Suspended => return Ok(false),
        }
        let filled = agreement::fill_in(&held.agreement, self.us(), offered);
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
        Ok(true)
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

    /// Our people have compared a suspended agreement with the partner's: it is in force again.
    pub async fn confirm(&self, id: AgreementId) -> Result<(), FederationError> {
        let _alone = self.0.changing.lock().await;
        let held = self.held(id)?;
        if held.revoked_at.is_some() {
            return Err(FederationError::Revoked(id));
        }
        if !held.suspended {
            return Ok(());
        }
        self.0.store.confirm(id).await?;
        if let Some(held) = write(&self.0.directory).agreements.get_mut(&id) {
            held.suspended = false;
        }
        self.publish();
        Ok(())
    }

    /// Suspends every agreement until it is confirmed: what this hub holds is not what it once held.
    pub(super) async fn suspend_all(&self) -> Result<(), FederationError> {
        let ids: Vec<AgreementId> = {
            let mut directory = write(&self.0.directory);
            directory.agreements.values_mut().for_each(|held| held.suspended = true);
            directory.agreements.keys().copied().collect()
        };
        self.publish();
        for id in ids {
            self.0.end_leases(id).await;
        }
        Ok(self.0.store.suspend_all(0).await?)
    }

    /// Refuses first, writes then: a disk that fails must not keep an agreement alive.
    pub(super) async fn revoked(
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

    /// Forgets a proposal that our people never signed: kept, it would let a partner fill the disk.
    pub(super) async fn withdrawn(&self, id: AgreementId) -> Result<(), FederationError> {
        let _alone = self.0.changing.lock().await;
        if self.held(id).is_ok_and(|held| held.signers.contains(&self.us())) {
            return Err(FederationError::Agreement(Problem::OtherBytes));
        }
        self.0.store.forget(id).await?;
        write(&self.0.directory).agreements.remove(&id);
        self.publish();
        Ok(())
    }

    pub(super) fn held(&self, id: AgreementId) -> Result<Held, FederationError> {
        read(&self.0.directory).agreements.get(&id).cloned().ok_or(FederationError::UnknownAgreement(id))
    }

    pub(super) async fn hold(&self, held: Held, tell: Vec<(OrganisationId, Tell)>) -> Result<(), FederationError> {
        self.0.store.put_agreement(held.id, &held.envelope, tell).await?;
        let mut directory = write(&self.0.directory);
        // A revocation or a suspension that arrived in between stands.
        let before = directory.agreements.get(&held.id);
        let revoked_at = before.and_then(|before| before.revoked_at);
        let suspended = before.map_or(held.suspended, |before| before.suspended);
        directory.agreements.insert(held.id, Held { revoked_at, suspended, ..held });
        drop(directory);
        self.publish();
        Ok(())
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
        let held = self.held(agreement).map_err(|_| AskError::NotInForce(NotInForce::None))?;
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
