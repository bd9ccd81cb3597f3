//! The keeper of private keys: unwraps the key of one segment while its hour lasts, and destroys hours.

use super::ring::{Ring, RingError, RingFolder};
use crate::fleet::Identity;
use campanile_proto::edge::v1::{SealingKeys, SignedKeys};
use campanile_proto::ids::{EdgeId, OrganisationId};
use campanile_proto::kind::Kind;
use campanile_proto::segment::{SealError, SegmentKey, key_pair};
use campanile_proto::signed;
use campanile_proto::time::{Clock, MICROS_PER_SECOND, MonoTime, WallTime, kept_until};
use campanile_proto::types::v1::{KeyKind, SegmentHeader};
use prost::Message;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Hour keys are made this far ahead: a box that hears nothing for so long seals to its reserve key.
const HOURS_AHEAD: i64 = 35 * 24;
/// Made ahead again once a day's worth is used up, so that a box gets one message a day.
const HOURS_BATCH: i64 = 24;
/// What a box with a clock slightly behind may still seal to.
const HOURS_BEHIND: i64 = 1;
/// Wall clock and monotonic clock may part this much since the start before the time is not believed.
const TRUSTED_DRIFT_US: i64 = 120 * MICROS_PER_SECOND;

/// Unwraps the key of one segment. The one way to a private key.
pub trait Keeper: Send + Sync {
    fn unwrap(&self, header: &SegmentHeader, header_bytes: &[u8], wrapped: &[u8]) -> Result<SegmentKey, KeeperError>;
}

/// Why a segment's key is not given out.
#[derive(Debug, thiserror::Error)]
pub enum KeeperError {
    #[error("the term of hour {hour} is over and its key destroyed")]
    Destroyed { hour: i64 },
    #[error("no key of hour {hour} and {days} days is in the ring")]
    Unknown { hour: i64, days: u32 },
    #[error("no reserve key of this box is in the ring")]
    NoReserve,
    #[error("the segment is of another organisation")]
    OtherOrganisation,
    #[error("the segment says it is sealed to no kind of key this version knows")]
    UnknownKind,
    #[error("the segment's key does not open")]
    Seal(#[source] SealError),
    #[error("the key ring failed")]
    Ring(#[source] RingError),
}

impl KeeperError {
    pub fn kind(&self) -> Kind {
        match self {
            Self::Destroyed { .. } => Kind::Expired,
            Self::Ring(_) => Kind::Internal,
            Self::OtherOrganisation => Kind::Denied,
            _ => Kind::Invalid,
        }
    }
}

/// What a round of [`RingKeeper::maintain`] did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Maintained {
    /// Hours whose keys were destroyed.
    pub destroyed: Vec<i64>,
    /// New keys are there to be delivered.
    pub extended: bool,
    /// The wall clock jumped: nothing was destroyed, somebody must look.
    pub clock_jumped: bool,
}

/// The ring in its folder.
pub struct RingKeeper {
    identity: Arc<Identity>,
    clock: Arc<dyn Clock>,
    retention_days: u32,
    started: (WallTime, MonoTime),
    ring: Mutex<(RingFolder, Ring)>,
}

impl RingKeeper {
    /// Opens or makes the ring, and makes hour keys ahead.
    pub fn open(
        folder: &Path,
        identity: Arc<Identity>,
        retention_days: u32,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, KeeperError> {
        let opened = RingFolder::open(folder, identity.id).map_err(KeeperError::Ring)?;
        let started = (clock.utc(), clock.mono());
        let keeper = Self { identity, clock, retention_days, started, ring: Mutex::new(opened) };
        keeper.maintain()?;
        Ok(keeper)
    }

    fn ring(&self) -> MutexGuard<'_, (RingFolder, Ring)> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Generation of the keys to be delivered.
    pub fn generation(&self) -> u32 {
        self.ring().1.generation
    }

    /// Whether wall clock and monotonic clock agree since the start.
    pub fn clock_trusted(&self) -> bool {
        let (utc, mono) = (self.clock.utc() - self.started.0, self.clock.mono() - self.started.1);
        utc.abs_diff(mono) <= TRUSTED_DRIFT_US as u64
    }

    /// Makes hour keys ahead; destroys those whose hour plus retention has begun. Blocks on the disk.
    pub fn maintain(&self) -> Result<Maintained, KeeperError> {
        let (now, trusted) = (self.clock.utc(), self.clock_trusted());
        let mut locked = self.ring();
        let (folder, ring) = &mut *locked;
        let mut done = Maintained { clock_jumped: !trusted, ..Maintained::default() };
        if trusted {
            let over = ring.hours.keys().copied().filter(|&(hour, days)| over(hour, u32::from(days), now));
            let over: Vec<_> = over.collect();
            for class in &over {
                ring.hours.remove(class);
            }
            done.destroyed = over.into_iter().map(|(hour, _)| hour).collect();
            done.extended = extend(ring, now.hour(), self.retention_days as u8);
        }
        if done.extended || !done.destroyed.is_empty() {
            folder.write(ring).map_err(KeeperError::Ring)?;
        }
        Ok(done)
    }

    /// Public keys for one box, signed; its reserve key is made when it has none. Blocks on the disk.
    pub fn signed_keys(&self, edge: EdgeId) -> Result<SignedKeys, KeeperError> {
        let now = self.clock.utc().hour();
        let days = self.retention_days as u8;
        let mut locked = self.ring();
        let (folder, ring) = &mut *locked;
        if !ring.reserves.contains_key(&edge) {
            ring.reserves.insert(edge, key_pair());
            folder.write(ring).map_err(KeeperError::Ring)?;
        }
        let class = || ring.hours.range((now - HOURS_BEHIND, 0)..).filter(|((_, class), _)| *class == days);
        let first = class().next().map_or(now, |((hour, _), _)| *hour);
        let in_a_row = class().zip(first..).take_while(|(((hour, _), _), expected)| hour == expected);
        let public = |bytes: &[u8; 32]| bytes::Bytes::copy_from_slice(bytes);
        let keys = SealingKeys {
            organisation_id: self.identity.id.into(),
            edge_id: edge.into(),
            generation: ring.generation,
            first_hour: u64::try_from(first).unwrap_or(0),
            hour_keys: in_a_row.map(|((_, (_, key)), _)| public(&key.0)).collect(),
            reserve_key: ring.reserves.get(&edge).map(|(_, key)| public(&key.0)).unwrap_or_default(),
            retention_days: self.retention_days,
        };
        let payload = keys.encode_to_vec();
        let signature = signed::sign(signed::EDGE, "SealingKeys", &payload, &self.identity.long_term);
        Ok(SignedKeys { payload: payload.into(), signature: signature.into() })
    }
}

impl Keeper for RingKeeper {
    fn unwrap(&self, header: &SegmentHeader, header_bytes: &[u8], wrapped: &[u8]) -> Result<SegmentKey, KeeperError> {
        if OrganisationId::try_from(&header.organisation_id) != Ok(self.identity.id) {
            return Err(KeeperError::OtherOrganisation);
        }
        let hour = i64::try_from(header.hour).map_err(|_| KeeperError::UnknownKind)?;
        // The shorter of the class and of today's rule, before any key is looked at.
        if over(hour, header.retention_days.min(self.retention_days), self.clock.utc()) {
            return Err(KeeperError::Destroyed { hour });
        }
        let locked = self.ring();
        let ring = &locked.1;
        let private = match header.key_kind() {
            KeyKind::Hour => {
                let days = header.retention_days;
                let class = u8::try_from(days).ok().and_then(|days| ring.hours.get(&(hour, days)));
                class.map(|(private, _)| private).ok_or(KeeperError::Unknown { hour, days })?
            }
            KeyKind::Reserve => {
                let edge = EdgeId::try_from(&header.edge_id).map_err(|_| KeeperError::NoReserve)?;
                ring.reserves.get(&edge).map(|(private, _)| private).ok_or(KeeperError::NoReserve)?
            }
            KeyKind::Unspecified => return Err(KeeperError::UnknownKind),
        };
        SegmentKey::unwrap(header, header_bytes, wrapped, private).map_err(KeeperError::Seal)
    }
}

fn over(hour: i64, days: u32, now: WallTime) -> bool {
    kept_until(WallTime::from_hour(hour), days) <= now
}

/// Whether keys were made.
fn extend(ring: &mut Ring, now_hour: i64, days: u8) -> bool {
    let wanted = now_hour - HOURS_BEHIND..=now_hour + HOURS_AHEAD;
    let lasts = ring.hours.contains_key(&(now_hour, days))
        && ring.hours.contains_key(&(now_hour + HOURS_AHEAD - HOURS_BATCH, days));
    if lasts {
        return false;
    }
    for hour in wanted {
        ring.hours.entry((hour, days)).or_insert_with(key_pair);
    }
    ring.generation += 1;
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use campanile_proto::segment::PublicKey;
    use campanile_proto::time::{MICROS_PER_HOUR, SimClock};
    use campanile_proto::types::v1::Suite;

    fn keeper(dir: &Path, clock: &Arc<SimClock>) -> RingKeeper {
        RingKeeper::open(dir, Arc::new(Identity::for_tests()), 7, clock.clone()).unwrap()
    }

    fn keys(keeper: &RingKeeper, edge: EdgeId) -> SealingKeys {
        SealingKeys::decode(keeper.signed_keys(edge).unwrap().payload).unwrap()
    }

    /// A segment of the hour sealed as a box would, and its key.
    fn segment(keeper: &RingKeeper, hour: i64, kind: KeyKind) -> (SegmentHeader, Vec<u8>, Vec<u8>) {
        let edge = EdgeId::from_u128(5);
        let keys = keys(keeper, edge);
        let public = match kind {
            KeyKind::Hour => &keys.hour_keys[(hour - keys.first_hour as i64) as usize],
            _ => &keys.reserve_key,
        };
        let header = SegmentHeader {
            organisation_id: keys.organisation_id.clone(),
            edge_id: edge.into(),
            suite: Suite::Aes256Gcm.into(),
            key_kind: kind.into(),
            hour: hour as u64,
            key_generation: keys.generation,
            retention_days: keys.retention_days,
            ..SegmentHeader::default()
        };
        let bytes = header.encode_to_vec();
        let key = SegmentKey::random().unwrap();
        let wrapped = key.wrap(&header, &bytes, &PublicKey::from_bytes(public).unwrap()).unwrap();
        (header, bytes, wrapped)
    }

    #[test]
    fn a_destroyed_hour_opens_nothing_and_one_step_earlier_opens() {
        let dir = tempfile::tempdir().unwrap();
        let clock = Arc::new(SimClock::starting_at(WallTime::from_hour(490_000)));
        let keeper = keeper(dir.path(), &clock);
        for kind in [KeyKind::Hour, KeyKind::Reserve] {
            let (header, bytes, wrapped) = segment(&keeper, 490_000, kind);
            assert!(keeper.unwrap(&header, &bytes, &wrapped).is_ok());
        }
        let (header, bytes, wrapped) = segment(&keeper, 490_000, KeyKind::Hour);
        clock.advance_micros(168 * MICROS_PER_HOUR - 1);
        assert!(!keeper.maintain().unwrap().destroyed.contains(&490_000));
        assert!(keeper.unwrap(&header, &bytes, &wrapped).is_ok());
        clock.advance_micros(1);
        assert!(keeper.maintain().unwrap().destroyed.contains(&490_000));
        assert!(matches!(keeper.unwrap(&header, &bytes, &wrapped), Err(KeeperError::Destroyed { hour: 490_000 })));
        // The key itself is gone, not only the permission: a clock set back brings nothing back.
        clock.step_utc(WallTime::from_hour(490_001));
        assert!(matches!(keeper.unwrap(&header, &bytes, &wrapped), Err(KeeperError::Unknown { .. })));
        drop(keeper);
        let reopened = self::keeper(dir.path(), &clock);
        assert!(matches!(
            reopened.unwrap(&header, &bytes, &wrapped),
            Err(KeeperError::Unknown { .. } | KeeperError::Seal(_))
        ));
    }

    #[test]
    fn a_clock_that_jumps_destroys_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let clock = Arc::new(SimClock::starting_at(WallTime::from_hour(490_000)));
        let keeper = keeper(dir.path(), &clock);
        clock.step_utc(WallTime::from_hour(490_900));
        let done = keeper.maintain().unwrap();
        assert!(done.clock_jumped && done.destroyed.is_empty() && !done.extended);
        clock.step_utc(WallTime::from_hour(490_000));
        assert!(!keeper.maintain().unwrap().clock_jumped);
    }

    #[test]
    fn keys_reach_35_days_ahead_and_one_batch_a_day() {
        let dir = tempfile::tempdir().unwrap();
        let clock = Arc::new(SimClock::starting_at(WallTime::from_hour(490_000)));
        let keeper = keeper(dir.path(), &clock);
        let before = keys(&keeper, EdgeId::from_u128(5));
        assert_eq!((before.first_hour, before.hour_keys.len()), (489_999, 35 * 24 + 2));
        clock.advance_micros(MICROS_PER_HOUR);
        assert!(!keeper.maintain().unwrap().extended);
        clock.advance_micros(25 * MICROS_PER_HOUR);
        assert!(keeper.maintain().unwrap().extended);
        let after = keys(&keeper, EdgeId::from_u128(5));
        assert_eq!(after.generation, before.generation + 1);
        assert_eq!(after.reserve_key, before.reserve_key);
        assert_eq!(after.hour_keys[0], before.hour_keys[26]);
    }
}
