//! The public keys this box seals to.

use campanile_proto::edge::v1::{SealingKeys, SignedKeys};
use campanile_proto::ids::{EdgeId, OrganisationId};
use campanile_proto::segment::PublicKey;
use campanile_proto::signed::{self, SignatureError};
use campanile_proto::types::v1::KeyKind;
use ed25519_dalek::VerifyingKey;
use prost::Message;
use std::sync::Arc;
use tokio::sync::watch;

/// The newest keys, none before enrolment.
pub type KeysWatch = watch::Receiver<Option<Arc<KeySet>>>;

/// Hour keys and the reserve key, one generation.
#[derive(Debug, Clone, PartialEq)]
pub struct KeySet {
    pub organisation: OrganisationId,
    pub edge: EdgeId,
    pub generation: u32,
    pub retention_days: u32,
    first_hour: i64,
    hour_keys: Vec<PublicKey>,
    reserve_key: PublicKey,
}

/// Why delivered keys are not used.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    #[error("sealing keys are not signed by this box's organisation")]
    Signature(#[source] SignatureError),
    #[error("sealing keys are malformed: {0}")]
    Malformed(&'static str),
    #[error("sealing keys are meant for edge {0}")]
    OtherEdge(EdgeId),
}

impl KeySet {
    /// Reads keys signed by the organisation that this box pinned at enrolment.
    pub fn verify(signed: &SignedKeys, organisation_key: &VerifyingKey, edge: EdgeId) -> Result<Self, KeysError> {
        signed::verify(signed::EDGE, "SealingKeys", &signed.payload, &signed.signature, organisation_key)
            .map_err(KeysError::Signature)?;
        let keys = SealingKeys::decode(signed.payload.clone()).map_err(|_| KeysError::Malformed("not a message"))?;
        let meant_for = EdgeId::try_from(&keys.edge_id).map_err(|_| KeysError::Malformed("edge id"))?;
        if meant_for != edge {
            return Err(KeysError::OtherEdge(meant_for));
        }
        let public =
            |bytes: &bytes::Bytes| PublicKey::from_bytes(bytes).map_err(|_| KeysError::Malformed("key length"));
        if !(1..=7).contains(&keys.retention_days) {
            return Err(KeysError::Malformed("retention is not 1 to 7 days"));
        }
        Ok(Self {
            organisation: OrganisationId::try_from(&keys.organisation_id)
                .map_err(|_| KeysError::Malformed("organisation id"))?,
            edge,
            generation: keys.generation,
            retention_days: keys.retention_days,
            first_hour: i64::try_from(keys.first_hour).map_err(|_| KeysError::Malformed("first hour"))?,
            hour_keys: keys.hour_keys.iter().map(public).collect::<Result<_, _>>()?,
            reserve_key: public(&keys.reserve_key)?,
        })
    }

    /// The first hour without an hour key.
    pub fn end_hour(&self) -> i64 {
        self.first_hour.saturating_add(self.hour_keys.len() as i64)
    }

    /// The key for footage captured in `hour` (since 1970), or the reserve key: beyond the last hour key, or
    /// when the clock cannot be trusted to know the hour.
    pub fn for_hour(&self, hour: i64, clock_trusted: bool) -> (KeyKind, PublicKey) {
        let at = hour.checked_sub(self.first_hour).and_then(|n| usize::try_from(n).ok());
        match at.filter(|_| clock_trusted).and_then(|n| self.hour_keys.get(n)) {
            Some(key) => (KeyKind::Hour, *key),
            None => (KeyKind::Reserve, self.reserve_key),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use campanile_proto::segment::key_pair;
    use ed25519_dalek::SigningKey;

    fn signed(edge: EdgeId, signer: &SigningKey) -> SignedKeys {
        let keys = SealingKeys {
            organisation_id: OrganisationId::from_u128(1).into(),
            edge_id: edge.into(),
            generation: 3,
            first_hour: 100,
            hour_keys: vec![bytes::Bytes::copy_from_slice(&key_pair().1.0); 2],
            reserve_key: bytes::Bytes::copy_from_slice(&key_pair().1.0),
            retention_days: 7,
        };
        let payload = keys.encode_to_vec();
        let signature = signed::sign(signed::EDGE, "SealingKeys", &payload, signer);
        SignedKeys { payload: payload.into(), signature: signature.into() }
    }

    #[test]
    fn seals_to_the_reserve_key_beyond_its_hours_and_without_a_clock() {
        let (edge, signer) = (EdgeId::random(), SigningKey::from_bytes(&[1; 32]));
        let keys = KeySet::verify(&signed(edge, &signer), &signer.verifying_key(), edge).unwrap();
        let kind = |hour, trusted| keys.for_hour(hour, trusted).0;
        assert_eq!((kind(100, true), kind(101, true)), (KeyKind::Hour, KeyKind::Hour));
        assert_eq!(
            (kind(99, true), kind(102, true), kind(100, false)),
            (KeyKind::Reserve, KeyKind::Reserve, KeyKind::Reserve)
        );
    }

    #[test]
    fn believes_only_its_organisation_and_only_for_itself() {
        let (edge, signer) = (EdgeId::random(), SigningKey::from_bytes(&[1; 32]));
        let stranger = SigningKey::from_bytes(&[2; 32]);
        let keys = signed(edge, &stranger);
        assert!(matches!(KeySet::verify(&keys, &signer.verifying_key(), edge), Err(KeysError::Signature(_))));
        let keys = signed(EdgeId::random(), &signer);
        assert!(matches!(KeySet::verify(&keys, &signer.verifying_key(), edge), Err(KeysError::OtherEdge(_))));
    }
}
