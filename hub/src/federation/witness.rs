//! Counter-signatures under registers' checkpoints: a register that shrinks, forks or is rewritten is noticed
//! by its partners, and by its own hub when it was restored.

use super::Federation;
use super::connect::within;
use super::directory::Partner;
use super::error::AskError;
use super::owner::Owner;
use super::store::StoreError;
use crate::register::{Root, verify_consistency};
use campanile_proto::federation::v1::SignedEnvelope;
use campanile_proto::kind::Chain;
use campanile_proto::signed::{self, SignatureError};
use campanile_proto::types::v1::Checkpoint;
use std::sync::Arc;

const CALL_SECONDS: u64 = 5;
/// Hashes of a proof over as many leaves as there can be, twice (RFC 9162 section 2.1.4).
const MAX_PROOF: usize = 128;

/// Why a checkpoint is not counter-signed.
#[derive(Debug, thiserror::Error)]
pub enum WitnessError {
    #[error("the checkpoint cannot be read")]
    Unreadable(#[source] SignatureError),
    #[error("the checkpoint is of another organisation")]
    OtherOrganisation,
    #[error("the checkpoint has {found} leaves, an earlier one {held}")]
    Shrunk { held: u64, found: u64 },
    #[error("two checkpoints of {0} leaves have different roots")]
    Forked(u64),
    #[error("nothing proves that the tree of {held} leaves is the beginning of that of {found}")]
    Unproved { held: u64, found: u64 },
    #[error("the checkpoint cannot be kept")]
    Store(#[from] StoreError),
}

/// The tree a checkpoint speaks of.
pub(crate) fn root_of(checkpoint: &Checkpoint) -> Option<Root> {
    Some(Root { size: checkpoint.tree_size, hash: checkpoint.root_hash.as_ref().try_into().ok()? })
}

/// Whether `found` may follow `held`, pure.
fn follows(held: Option<&Checkpoint>, found: &Checkpoint, proof: &[bytes::Bytes]) -> Result<(), WitnessError> {
    let Some(held) = held else { return Ok(()) };
    if found.tree_size < held.tree_size {
        return Err(WitnessError::Shrunk { held: held.tree_size, found: found.tree_size });
    }
    if found.tree_size == held.tree_size {
        return if found.root_hash == held.root_hash { Ok(()) } else { Err(WitnessError::Forked(found.tree_size)) };
    }
    let hashes: Option<Vec<[u8; 32]>> =
        proof.iter().take(MAX_PROOF).map(|hash| hash.as_ref().try_into().ok()).collect();
    let proved = match (root_of(held), root_of(found), hashes) {
        (Some(held), Some(found), Some(hashes)) => held.size == 0 || verify_consistency(&held, &found, &hashes),
        _ => false,
    };
    proved.then_some(()).ok_or(WitnessError::Unproved { held: held.tree_size, found: found.tree_size })
}

impl Federation {
    /// Counter-signs a partner's checkpoint, whose signature was checked. Where it does not follow the newest
    /// one we signed, that one is the answer.
    pub(super) async fn witnessed(
        &self,
        from: &Partner,
        mut envelope: SignedEnvelope,
    ) -> Result<SignedEnvelope, WitnessError> {
        let proof = std::mem::take(&mut envelope.consistency);
        let found: Checkpoint = signed::open_strictly(&envelope).map_err(WitnessError::Unreadable)?;
        if found.organisation_id != bytes::Bytes::from(from.id) {
            return Err(WitnessError::OtherOrganisation);
        }
        let held = self.0.store.checkpoint(from.id, false).await?;
        if let Some(held) = held {
            let before = signed::open_strictly::<Checkpoint>(&held).map_err(WitnessError::Unreadable)?;
            match follows(Some(&before), &found, &proof) {
                Ok(()) => {}
                // It did not know what we signed last, and may prove the rest with its next call.
                Err(error @ WitnessError::Unproved { .. }) => {
                    tracing::info!(partner = %from.id, %error, "checkpoint not counter-signed yet");
                    return Ok(held);
                }
                Err(error) => {
                    tracing::error!(partner = %from.id, %error, "a partner's register does not grow as it must");
                    return Ok(held);
                }
            }
        }
        signed::countersign(&mut envelope, self.us(), &self.0.identity.register);
        self.0.store.put_checkpoint(from.id, false, found.tree_size, &envelope).await?;
        Ok(envelope)
    }

    /// Has a partner counter-sign our checkpoint, and keeps it. What it signed before and our register does not
    /// contain shows that ours was restored: then every agreement is suspended.
    pub(super) async fn be_witnessed(
        &self,
        owner: &Arc<dyn Owner>,
        partner: &Partner,
        checkpoint: SignedEnvelope,
    ) -> Result<(), AskError> {
        let ours: Checkpoint = signed::open_strictly(&checkpoint).map_err(AskError::NotSigned)?;
        let mut before = self.witnessed_by(partner).await;
        // A second time when the partner remembers a later signature than we do.
        for _ in 0..2 {
            let mut asked = checkpoint.clone();
            if let Some(before) = before.as_ref().filter(|before| before.tree_size < ours.tree_size) {
                let proof = owner.growth(before.tree_size, ours.tree_size).await.unwrap_or_default();
                asked.consistency = proof.iter().map(|hash| bytes::Bytes::copy_from_slice(hash)).collect();
            }
            let mut client = self.0.connections.client(partner);
            let answer = within(CALL_SECONDS, client.witness(asked)).await?.into_inner();
            let key = partner.register_key(self.0.clock.utc()).ok_or(AskError::UnknownPartner(partner.id))?;
            signed::verify_envelope::<Checkpoint>(&answer, partner.id, &key).map_err(AskError::NotSigned)?;
            if answer.payload == checkpoint.payload {
                if let Err(error) = self.0.store.put_checkpoint(partner.id, true, ours.tree_size, &answer).await {
                    tracing::error!(%error, "counter-signed checkpoint not kept");
                }
                return Ok(());
            }
            let us = self.0.identity.register.verifying_key();
            signed::verify_envelope::<Checkpoint>(&answer, self.us(), &us).map_err(AskError::NotSigned)?;
            let held: Checkpoint = signed::open_strictly(&answer).map_err(AskError::NotSigned)?;
            if !self.is_beginning(owner, &held).await {
                return Err(self.distrust(partner, &held).await);
            }
            before = Some(held);
        }
        Err(AskError::Unexpected("another checkpoint"))
    }

    /// The newest checkpoint of ours that a partner counter-signed.
    async fn witnessed_by(&self, partner: &Partner) -> Option<Checkpoint> {
        let kept = self.0.store.checkpoint(partner.id, true).await;
        let kept =
            kept.inspect_err(|error| tracing::error!(error = %Chain(error), "counter-signed checkpoint not read"));
        signed::open_strictly(&kept.ok()??).ok()
    }

    /// Every checkpoint of ours that partners counter-signed: what our register must still begin with.
    pub async fn witnessed_checkpoints(&self) -> Vec<(Partner, Checkpoint)> {
        let mut found = Vec::new();
        for partner in self.partners() {
            if let Some(checkpoint) = self.witnessed_by(&partner).await {
                found.push((partner, checkpoint));
            }
        }
        found
    }

    /// Compares our register with what partners signed of it: at every start, because the last one may have
    /// ended with a restore.
    pub(super) async fn check_witnessed(&self, owner: &Arc<dyn Owner>) {
        for (partner, checkpoint) in self.witnessed_checkpoints().await {
            if !self.is_beginning(owner, &checkpoint).await {
                self.distrust(&partner, &checkpoint).await;
            }
        }
    }

    /// Whether our register, as it is now, begins with that tree.
    async fn is_beginning(&self, owner: &Arc<dyn Owner>, checkpoint: &Checkpoint) -> bool {
        let Some(then) = root_of(checkpoint) else { return false };
        let begins = owner.begins_with(then).await;
        // A register that cannot be read just now has not been shown to be another one.
        begins.unwrap_or_else(|error| {
            tracing::error!(error = %Chain(&error), "register not compared with what was witnessed");
            true
        })
    }

    async fn distrust(&self, partner: &Partner, checkpoint: &Checkpoint) -> AskError {
        tracing::error!(
            partner = %partner.id, size = checkpoint.tree_size,
            "our register does not contain what this partner witnessed: it was restored or changed, and every agreement is suspended until it is confirmed"
        );
        if let Err(error) = self.suspend_all().await {
            tracing::error!(error = %Chain(&error), "suspension of agreements not written");
        }
        AskError::Unexpected("a checkpoint that our register does not contain")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_register_only_grows() {
        let at = |tree_size, root: u8| Checkpoint { tree_size, root_hash: vec![root; 32].into(), ..Default::default() };
        let follows = |held: Option<&Checkpoint>, found: &Checkpoint| follows(held, found, &[]);
        assert!(follows(None, &at(3, 1)).is_ok());
        assert!(follows(Some(&at(3, 1)), &at(3, 1)).is_ok());
        assert!(matches!(follows(Some(&at(3, 1)), &at(9, 2)), Err(WitnessError::Unproved { held: 3, found: 9 })));
        assert!(matches!(follows(Some(&at(3, 1)), &at(2, 1)), Err(WitnessError::Shrunk { held: 3, found: 2 })));
        assert!(matches!(follows(Some(&at(3, 1)), &at(3, 2)), Err(WitnessError::Forked(3))));
    }
}
