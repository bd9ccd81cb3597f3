//! What a new segment is sealed to.

use super::orders::{EdgeIdentity, Setting};
use super::rotate::SealedTo;
use crate::keys::KeySet;
use campanile_proto::ids::{EdgeId, OrganisationId};
use campanile_proto::segment::PublicKey;
use campanile_proto::types::v1::KeyKind;

/// A key and whose it is.
pub(super) struct Sealing {
    /// None: in the clear.
    pub to: Option<PublicKey>,
    pub kind: KeyKind,
    pub rule: SealedTo,
    pub identity: EdgeIdentity,
}

impl Sealing {
    /// `None`: this must not be recorded.
    pub fn choose(setting: &Setting, keys: Option<&KeySet>, hour: i64) -> Option<Self> {
        let Some(keys) = keys else {
            let nobody = EdgeIdentity { organisation: OrganisationId::from_u128(0), edge: EdgeId::from_u128(0) };
            // An enrolled box without keys waits for some: nobody meant it to record what a thief can watch.
            return (setting.record_in_clear && setting.identity.is_none()).then_some(Self {
                to: None,
                kind: KeyKind::Unspecified,
                rule: SealedTo { generation: 0, reserve: false, retention_days: setting.retention_days },
                identity: nobody,
            });
        };
        let (kind, to) = keys.for_hour(hour, setting.stamper.belief().trusted);
        Some(Self {
            to: Some(to),
            kind,
            rule: SealedTo {
                generation: keys.generation,
                reserve: kind == KeyKind::Reserve,
                // The class that the hub looks the key up by; a shorter rule of this box acts by unlinking.
                retention_days: keys.retention_days,
            },
            identity: EdgeIdentity { organisation: keys.organisation, edge: keys.edge },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::fixture;
    use bytes::Bytes;
    use campanile_proto::edge::v1::{SealingKeys, SignedKeys};
    use campanile_proto::ids::CameraId;
    use campanile_proto::segment::key_pair;
    use campanile_proto::signed;
    use ed25519_dalek::SigningKey;
    use prost::Message;

    #[test]
    fn footage_of_a_box_that_keeps_fewer_days_than_its_hub_names_the_class_of_its_key() {
        let (edge, signer) = (EdgeId::random(), SigningKey::from_bytes(&[1; 32]));
        let public = || Bytes::copy_from_slice(&key_pair().1.0);
        let keys = SealingKeys {
            organisation_id: OrganisationId::from_u128(1).into(),
            edge_id: edge.into(),
            generation: 3,
            first_hour: 100,
            hour_keys: vec![public()],
            reserve_key: public(),
            retention_days: 7,
        };
        let payload = keys.encode_to_vec();
        let signature = signed::sign(signed::EDGE, "SealingKeys", &payload, &signer).into();
        let keys = SignedKeys { payload: payload.into(), signature };
        let keys = KeySet::verify(&keys, &signer.verifying_key(), edge).unwrap();
        let media = tempfile::tempdir().unwrap();
        let mut setting = fixture::in_clear(media.path(), CameraId::from_u128(1), crate::facts::channel().0);
        setting.retention_days = 3;
        let days = |keys, hour| Sealing::choose(&setting, keys, hour).map(|sealing| sealing.rule.retention_days);
        assert_eq!(days(Some(&keys), 100), Some(7), "its hour key");
        assert_eq!(days(Some(&keys), 900), Some(7), "its reserve key");
        assert_eq!(days(None, 100), Some(3), "without keys its own file says it");
    }
}
