//! Keys of single fragments of one segment, wrapped to the key of a hold: one blob a segment.
//!
//! `blob = length of the wrapped key u32 | wrapped key | sealed (number of the sealing u32, key 32)*`, little-endian.
//! The blob's own key is wrapped by HPKE with the segment's header as a segment's key is, under another label, and
//! seals once.

use campanile_proto::ids::HoldId;
use campanile_proto::segment::{FragmentKey, PrivateKey, PublicKey, SealError, SegmentKey};
use campanile_proto::types::v1::SegmentHeader;
use std::collections::BTreeMap;
use zeroize::Zeroizing;

const LABEL: &[u8] = b"campanile.hold.v1\0";
const KEY_BYTES: usize = 32;
const ENTRY_BYTES: usize = 4 + KEY_BYTES;

/// What a hold opens of one segment, by the number of the sealing.
#[derive(Debug, Clone, Default)]
pub struct HeldKeys(BTreeMap<u32, FragmentKey>);

impl HeldKeys {
    /// Of these sealings; their keys and no others.
    pub fn of(key: &SegmentKey, sealings: impl IntoIterator<Item = u32>) -> Self {
        Self(sealings.into_iter().map(|sealing| (sealing, key.fragment_key(sealing))).collect())
    }

    pub fn retain(&mut self, keep: impl Fn(u32) -> bool) {
        self.0.retain(|sealing, _| keep(*sealing));
    }

    pub fn sealings(&self) -> impl Iterator<Item = u32> + '_ {
        self.0.keys().copied()
    }

    /// `None`: the hold does not cover this payload.
    pub fn open(&self, suite: i32, sealing: u32, header: &[u8], sealed: &[u8]) -> Option<Result<Vec<u8>, SealError>> {
        Some(self.0.get(&sealing)?.open(suite, header, sealed))
    }

    pub(super) fn wrap(
        &self,
        hold: HoldId,
        (header, header_bytes): (&SegmentHeader, &[u8]),
        to: &PublicKey,
    ) -> Result<Vec<u8>, SealError> {
        let label = label(hold, header_bytes);
        // Room for all at once, so that no half-grown buffer with keys is left behind.
        let mut plain = Zeroizing::new(Vec::with_capacity(self.0.len() * ENTRY_BYTES));
        for (sealing, key) in &self.0 {
            plain.extend_from_slice(&sealing.to_le_bytes());
            plain.extend_from_slice(key.expose());
        }
        let key = SegmentKey::random()?;
        let wrapped = key.wrap(header, &label, to)?;
        let sealed = key.seal(header.suite, 0, &label, &plain)?;
        Ok([&(wrapped.len() as u32).to_le_bytes()[..], &wrapped, &sealed].concat())
    }

    pub(super) fn unwrap(
        hold: HoldId,
        (header, header_bytes): (&SegmentHeader, &[u8]),
        blob: &[u8],
        with: &PrivateKey,
    ) -> Result<Self, SealError> {
        let (label, damaged) = (label(hold, header_bytes), SealError::NotAuthentic);
        let (length, rest) = blob.split_first_chunk::<4>().ok_or(damaged.clone())?;
        let (wrapped, sealed) = rest.split_at_checked(u32::from_le_bytes(*length) as usize).ok_or(damaged)?;
        let key = SegmentKey::unwrap(header, &label, wrapped, with)?;
        let plain = Zeroizing::new(key.open(header.suite, 0, &label, sealed)?);
        let entry = |entry: &[u8]| {
            let (sealing, key) = entry.split_first_chunk::<4>().ok_or(SealError::NotAuthentic)?;
            Ok((u32::from_le_bytes(*sealing), FragmentKey::from_bytes(key)?))
        };
        plain.chunks(ENTRY_BYTES).map(entry).collect::<Result<_, _>>().map(Self)
    }
}

fn label(hold: HoldId, header_bytes: &[u8]) -> Vec<u8> {
    [LABEL, hold.as_bytes(), header_bytes].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use campanile_proto::segment::key_pair;
    use campanile_proto::types::v1::Suite;
    use prost::Message;

    #[test]
    fn a_blob_opens_the_fragments_it_is_of_for_its_hold_alone() {
        let header = SegmentHeader { suite: Suite::Aes256Gcm.into(), hour: 7, ..SegmentHeader::default() };
        let bytes = header.encode_to_vec();
        let (key, (private, public)) = (SegmentKey::random().unwrap(), key_pair());
        let hold = HoldId::from_u128(1);
        let blob = HeldKeys::of(&key, [0, 4, 5]).wrap(hold, (&header, &bytes), &public).unwrap();
        let opened = HeldKeys::unwrap(hold, (&header, &bytes), &blob, &private).unwrap();
        assert_eq!(opened.sealings().collect::<Vec<_>>(), [0, 4, 5]);
        let sealed = |n| key.seal(header.suite, n, b"head", b"pixels").unwrap();
        assert_eq!(opened.open(header.suite, 4, b"head", &sealed(4)).unwrap().unwrap(), b"pixels");
        assert!(opened.open(header.suite, 6, b"head", &sealed(6)).is_none());

        let other_hold = HeldKeys::unwrap(HoldId::from_u128(2), (&header, &bytes), &blob, &private);
        assert!(other_hold.is_err());
        assert!(HeldKeys::unwrap(hold, (&header, &bytes), &blob, &key_pair().0).is_err());
        for cut in 0..blob.len() {
            assert!(HeldKeys::unwrap(hold, (&header, &bytes), &blob[..cut], &private).is_err(), "{cut}");
        }
    }
}
