//! Counter-signatures under registers' checkpoints: a register that shrinks or forks is noticed by its partners.

use super::Federation;
use super::connect::within;
use super::directory::Partner;
use super::error::AskError;
use super::store::StoreError;
use campanile_proto::federation::v1::SignedEnvelope;
use campanile_proto::signed::{self, SignatureError};
use campanile_proto::types::v1::Checkpoint;

const CALL_SECONDS: u64 = 5;

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
    #[error("the checkpoint cannot be kept")]
    Store(#[from] StoreError),
}

/// Whether `found` may follow `held`, pure.
fn follows(held: Option<&Checkpoint>, found: &Checkpoint) -> Result<(), WitnessError> {
    let Some(held) = held else { return Ok(()) };
    if found.tree_size < held.tree_size {
        return Err(WitnessError::Shrunk { held: held.tree_size, found: found.tree_size });
    }
    if found.tree_size == held.tree_size && found.root_hash != held.root_hash {
        return Err(WitnessError::Forked(found.tree_size));
    }
    Ok(())
}

impl Federation {
    /// Counter-signs a partner's checkpoint, whose signature was checked.
    pub(super) async fn witnessed(
        &self,
        from: &Partner,
        mut envelope: SignedEnvelope,
    ) -> Result<SignedEnvelope, WitnessError> {
        let found: Checkpoint = signed::open_strictly(&envelope).map_err(WitnessError::Unreadable)?;
        if found.organisation_id != bytes::Bytes::from(from.id) {
            return Err(WitnessError::OtherOrganisation);
        }
        let held = self.0.store.checkpoint(from.id, false).await?;
        let held = held.map(|held| signed::open_strictly::<Checkpoint>(&held)).transpose();
        follows(held.map_err(WitnessError::Unreadable)?.as_ref(), &found).inspect_err(|error| {
            tracing::error!(partner = %from.id, %error, "a partner's register does not grow as it must");
        })?;
        signed::countersign(&mut envelope, self.us(), &self.0.identity.register);
        self.0.store.put_checkpoint(from.id, false, found.tree_size, &envelope).await?;
        Ok(envelope)
    }

    /// Has a partner counter-sign our checkpoint, and keeps it.
    pub(super) async fn be_witnessed(&self, partner: &Partner, checkpoint: SignedEnvelope) -> Result<(), AskError> {
        let size = signed::open_strictly::<Checkpoint>(&checkpoint).map_err(AskError::NotSigned)?.tree_size;
        let payload = checkpoint.payload.clone();
        let mut client = self.0.connections.client(partner);
        let answer = within(CALL_SECONDS, client.witness(checkpoint)).await?.into_inner();
        let key = partner.register_key(self.0.clock.utc()).ok_or(AskError::UnknownPartner(partner.id))?;
        signed::verify_envelope::<Checkpoint>(&answer, partner.id, &key).map_err(AskError::NotSigned)?;
        if answer.payload != payload {
            return Err(AskError::Unexpected("another checkpoint"));
        }
        if let Err(error) = self.0.store.put_checkpoint(partner.id, true, size, &answer).await {
            tracing::error!(%error, "counter-signed checkpoint not kept");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_register_only_grows() {
        let at = |tree_size, root: u8| Checkpoint { tree_size, root_hash: vec![root; 32].into(), ..Default::default() };
        assert!(follows(None, &at(3, 1)).is_ok());
        assert!(follows(Some(&at(3, 1)), &at(3, 1)).is_ok());
        assert!(follows(Some(&at(3, 1)), &at(9, 2)).is_ok());
        assert!(matches!(follows(Some(&at(3, 1)), &at(2, 1)), Err(WitnessError::Shrunk { held: 3, found: 2 })));
        assert!(matches!(follows(Some(&at(3, 1)), &at(3, 2)), Err(WitnessError::Forked(3))));
    }
}
