//! Keys of holds: made when a hold is placed, destroyed when it is released or its end has come.

use super::super::held_keys::HeldKeys;
use super::super::ring::HoldKey;
use super::{For, Keeper, KeeperError, RingKeeper};
use crate::access::Registered;
use campanile_proto::ids::HoldId;
use campanile_proto::segment::key_pair;
use campanile_proto::time::WallTime;
use campanile_proto::types::v1::SegmentHeader;
use std::collections::BTreeSet;

impl RingKeeper {
    /// Makes a hold's key pair, on the disk before anything is wrapped to it. Blocks on the disk.
    pub fn make_hold(&self, hold: HoldId, until: WallTime) -> Result<(), KeeperError> {
        let mut kept = self.ring();
        let (private, public) = key_pair();
        kept.ring.holds.entry(hold).or_insert(HoldKey { until, private, public });
        kept.write().map_err(KeeperError::Ring)
    }

    /// Whether there is a key of this hold.
    pub fn holds(&self, hold: HoldId) -> bool {
        self.ring().ring.holds.contains_key(&hold)
    }

    /// Destroys a hold's key; whether there was one. Blocks on the disk.
    pub fn destroy_hold(&self, hold: HoldId) -> Result<bool, KeeperError> {
        let mut kept = self.ring();
        let had = kept.ring.holds.remove(&hold).is_some();
        if had || kept.unwritten {
            kept.write().map_err(KeeperError::Ring)?;
        }
        Ok(had)
    }

    /// The keys of these sealings of a segment, wrapped to the hold's key: as long as the segment's own key lives.
    pub fn wrap_for_hold(
        &self,
        hold: HoldId,
        (header, header_bytes): (&SegmentHeader, &[u8]),
        wrapped: &[u8],
        sealings: impl IntoIterator<Item = u32>,
    ) -> Result<Vec<u8>, KeeperError> {
        let key = self.unwrap(For::Hold(hold), header, header_bytes, wrapped)?;
        self.wrap_held(hold, (header, header_bytes), &HeldKeys::of(&key, sealings))
    }

    /// The same blob with the keys of these sealings only. `None`: it has not all of them.
    pub fn narrow_hold(
        &self,
        hold: HoldId,
        header: (&SegmentHeader, &[u8]),
        blob: &[u8],
        sealings: &BTreeSet<u32>,
    ) -> Result<Option<Vec<u8>>, KeeperError> {
        let mut keys = self.unwrap_held(hold, header, blob)?;
        keys.retain(|sealing| sealings.contains(&sealing));
        if keys.sealings().count() < sealings.len() {
            return Ok(None);
        }
        self.wrap_held(hold, header, &keys).map(Some)
    }

    /// What a hold opens of a segment, for an access whose entry is open.
    pub fn open_held(
        &self,
        _access: Registered,
        hold: HoldId,
        header: (&SegmentHeader, &[u8]),
        blob: &[u8],
    ) -> Result<HeldKeys, KeeperError> {
        if self.ring().ring.holds.get(&hold).is_some_and(|key| key.until <= self.clock.utc()) {
            return Err(KeeperError::NoHold(hold));
        }
        self.unwrap_held(hold, header, blob)
    }

    fn wrap_held(
        &self,
        hold: HoldId,
        header: (&SegmentHeader, &[u8]),
        keys: &HeldKeys,
    ) -> Result<Vec<u8>, KeeperError> {
        let public = self.ring().ring.holds.get(&hold).map(|key| key.public).ok_or(KeeperError::NoHold(hold))?;
        keys.wrap(hold, header, &public).map_err(KeeperError::Seal)
    }

    fn unwrap_held(&self, hold: HoldId, header: (&SegmentHeader, &[u8]), blob: &[u8]) -> Result<HeldKeys, KeeperError> {
        let kept = self.ring();
        let key = kept.ring.holds.get(&hold).ok_or(KeeperError::NoHold(hold))?;
        HeldKeys::unwrap(hold, header, blob, &key.private).map_err(KeeperError::Seal)
    }
}
