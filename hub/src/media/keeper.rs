//! The keeper of private keys: unwraps the key of one segment while its hour lasts, and destroys hours.

use super::alarm::Alarm;
use super::kept::{HOURS_AHEAD, HOURS_BEHIND, Kept, Maintained, over};
use super::ring::{Reserve, RingError, RingFolder};
use super::trust::{self, PROBATION_US, Reading, TIMESYNC_MARK, TRUSTED_DRIFT_US, Trust};
use crate::access::Registered;
use crate::fleet::Identity;
use campanile_proto::edge::v1::{SealingKeys, SignedKeys};
use campanile_proto::ids::{EdgeId, HoldId, OrganisationId};
use campanile_proto::kind::{Chain, Kind};
use campanile_proto::segment::{SealError, SegmentKey, key_pair};
use campanile_proto::signed;
use campanile_proto::time::{Clock, MICROS_PER_HOUR, MICROS_PER_SECOND, WallTime};
use campanile_proto::types::v1::{KeyKind, SegmentHeader, Stream};
use prost::Message;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tracing::{error, warn};

/// Generations count fewer than minutes since 1970: one further above that than this is nobody's honest word, and
/// not even a box that lies every time brings them to their end.
const GENERATIONS_AHEAD: u32 = 366 * 24 * 60;
/// Every lift gives every box new keys: one box causes so many of them only.
const LIFTS_APART_US: i64 = MICROS_PER_HOUR;

/// What a key is unwrapped for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum For {
    /// Somebody's access, which stands in the register.
    Access(Registered),
    /// A report on its arrival; what is in it is shown through an access only.
    Report,
    /// A hold that stands: its fragments' keys are wrapped to the hold's key, and nothing is opened.
    Hold(HoldId),
}

/// Unwraps the key of one segment. The one way to a private key.
pub trait Keeper: Send + Sync {
    fn unwrap(
        &self,
        purpose: For,
        header: &SegmentHeader,
        header_bytes: &[u8],
        wrapped: &[u8],
    ) -> Result<SegmentKey, KeeperError>;

    /// Whether the wall clock may decide that something is past its term for good.
    fn may_destroy(&self) -> bool;
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
    #[error("footage is opened for an access in the register only")]
    NoAccess,
    #[error("the segment is of another organisation")]
    OtherOrganisation,
    #[error("the segment says it is sealed to no kind of key this version knows")]
    UnknownKind,
    #[error("no key of hold {0} is in the ring: it was released, its end has come, or the ring was lost")]
    NoHold(HoldId),
    #[error("the segment's key does not open")]
    Seal(#[source] SealError),
    #[error("the key ring failed")]
    Ring(#[source] RingError),
    #[error("this machine's clock says another time than that: set it first")]
    ClockDiffers,
}

impl KeeperError {
    pub fn kind(&self) -> Kind {
        match self {
            Self::Destroyed { .. } | Self::NoHold(_) => Kind::Expired,
            Self::Ring(_) => Kind::Internal,
            Self::OtherOrganisation | Self::NoAccess => Kind::Denied,
            Self::ClockDiffers => Kind::Conflict,
            _ => Kind::Invalid,
        }
    }
}

/// The ring in its folder.
pub struct RingKeeper {
    identity: Arc<Identity>,
    clock: Arc<dyn Clock>,
    retention_days: u32,
    ring: Mutex<Kept>,
    belief: Mutex<Belief>,
    alarms: Mutex<BTreeSet<Alarm>>,
}

/// Why the wall clock is believed, if it is.
struct Belief {
    path: PathBuf,
    /// Files whose touch says that the clock is synchronised.
    marks: Vec<PathBuf>,
    /// A reading of this boot that was believed: the clock still is while it goes on from there. Not sure: it is
    /// once its time of probation is over.
    since: Option<Reading>,
}

impl Belief {
    fn trust(&self, now: &Reading) -> Trust {
        match &self.since {
            Some(since) if !now.goes_on_from(since) => Trust::None,
            Some(since) if since.sure || now.mono_us - since.mono_us >= PROBATION_US => Trust::Sure,
            Some(_) => Trust::Plausible,
            None => Trust::None,
        }
    }

    /// Looks at the second source again.
    fn look_again(&mut self, now: &Reading) {
        let vouched = match self.trust(now) {
            Trust::Sure => false,
            // A mark of this boot, and no step since the start.
            Trust::Plausible => self.marks.iter().any(|mark| mark.exists()),
            Trust::None => trust::vouched(&self.marks, now.utc),
        };
        if vouched {
            self.since = Some(Reading { sure: true, ..*now });
        }
    }
}

impl RingKeeper {
    /// Opens or makes the ring, and makes hour keys ahead.
    pub fn open(
        folder: &Path,
        identity: Arc<Identity>,
        retention_days: u32,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, KeeperError> {
        Self::open_beside(folder, identity, retention_days, clock, vec![PathBuf::from(TIMESYNC_MARK)])
    }

    /// With these marks of synchronisation, in place of systemd-timesyncd's.
    pub fn open_beside(
        folder: &Path,
        identity: Arc<Identity>,
        retention_days: u32,
        clock: Arc<dyn Clock>,
        marks: Vec<PathBuf>,
    ) -> Result<Self, KeeperError> {
        let path = folder.join("clock.json");
        let (folder, mut ring) = RingFolder::open(folder, identity.id).map_err(KeeperError::Ring)?;
        let mut alarms = BTreeSet::new();
        if folder.number == 0 {
            ring.generation = generation_of(clock.utc());
            if !identity.made_now {
                error!("{}", Alarm::RingLost);
                alarms.insert(Alarm::RingLost);
            }
        }
        let ring_made = ring.hours.last_key_value().map(|((hour, _), _)| WallTime::from_hour(hour - HOURS_AHEAD));
        let now = Reading::of(&*clock);
        let synchronised = marks.iter().any(|mark| mark.exists());
        let trust = trust::believed_at_start(&now, Reading::read(&path).as_ref(), ring_made, synchronised);
        let since = (trust != Trust::None).then_some(Reading { sure: trust == Trust::Sure, ..now });
        let belief = Belief { path, marks, since };
        let (confirmed, revoked, lifted, done) = Default::default();
        let ring = Mutex::new(Kept { folder, ring, unwritten: false, confirmed, revoked, lifted, done });
        let (belief, alarms) = (Mutex::new(belief), Mutex::new(alarms));
        let keeper = Self { identity, clock, retention_days, ring, belief, alarms };
        keeper.prepare()?;
        // Nobody is connected yet who would have to be told.
        keeper.ring().done.extended = false;
        Ok(keeper)
    }

    fn ring(&self) -> MutexGuard<'_, Kept> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn belief(&self) -> MutexGuard<'_, Belief> {
        self.belief.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Generation of the keys to be delivered.
    pub fn generation(&self) -> u32 {
        self.ring().ring.generation
    }

    fn trust(&self) -> Trust {
        self.belief().trust(&Reading::of(&*self.clock))
    }

    /// Whether the wall clock is believed: keys are made by it.
    pub fn clock_trusted(&self) -> bool {
        self.trust() != Trust::None
    }

    /// A person says what time it is: the clock is believed from now on if it says about the same. Blocks on
    /// the disk.
    pub fn confirm_clock(&self, time: WallTime) -> Result<(), KeeperError> {
        let now = Reading { sure: true, ..Reading::of(&*self.clock) };
        if (now.utc - time).saturating_abs() > TRUSTED_DRIFT_US {
            return Err(KeeperError::ClockDiffers);
        }
        let mut belief = self.belief();
        belief.since = Some(now);
        self.write_down(&belief, &now);
        Ok(())
    }

    fn write_down(&self, belief: &Belief, now: &Reading) {
        if let Err(failure) = now.write(&belief.path) {
            warn!(error = %Chain(&failure), "the time is not written down for the next start");
        }
    }

    /// What somebody must look at.
    pub fn alarms(&self) -> Vec<Alarm> {
        let clock = (!self.clock_trusted()).then_some(Alarm::Clock);
        let others = self.alarms.lock().unwrap_or_else(PoisonError::into_inner).clone();
        clock.into_iter().chain(others).collect()
    }

    /// Makes hour keys ahead; destroys those whose hour plus retention has begun, and reserve keys that no box
    /// has sealed to for as long. Blocks on the disk.
    pub fn maintain(&self) -> Result<Maintained, KeeperError> {
        self.prepare()?;
        let mut kept = self.ring();
        Ok(Maintained { clock_doubted: !self.clock_trusted(), ..std::mem::take(&mut kept.done) })
    }

    /// The round; what it did is told by the next [`RingKeeper::maintain`].
    fn prepare(&self) -> Result<(), KeeperError> {
        let now = Reading::of(&*self.clock);
        let trust = {
            let mut belief = self.belief();
            belief.look_again(&now);
            let trust = belief.trust(&now);
            if trust != Trust::None {
                self.write_down(&belief, &Reading { sure: trust == Trust::Sure, ..now });
            }
            trust
        };
        let mut kept = self.ring();
        if trust == Trust::Sure {
            kept.destroy(now.utc);
            kept.retire(now.utc);
        }
        if trust != Trust::None {
            kept.extend(now.utc.hour(), self.retention_days as u8);
        }
        if kept.unwritten { kept.write().map_err(KeeperError::Ring) } else { Ok(()) }
    }

    /// What a box says it seals to. A generation above the ring's means that this is an older ring, or one made
    /// anew: then the ring's rises above it, and every box is to be given keys that are in it. Blocks on the disk.
    pub fn box_holds(&self, edge: EdgeId, generation: u32) -> Result<bool, KeeperError> {
        let mut kept = self.ring();
        if generation <= kept.ring.generation {
            kept.confirm(edge, generation);
            return Ok(false);
        }
        let minute = generation_of(self.clock.utc());
        let above = generation.checked_add(1).filter(|_| generation <= minute.saturating_add(GENERATIONS_AHEAD));
        let Some(above) = above else {
            warn!(%edge, generation, "box claims sealing keys of a generation that cannot be");
            return Ok(false);
        };
        let now = self.clock.mono();
        if kept.lifted.get(&edge).is_some_and(|at| now - *at < LIFTS_APART_US) {
            warn!(%edge, generation, "box claims newer sealing keys than were made, again");
            return Ok(false);
        }
        kept.lifted.insert(edge, now);
        kept.ring.generation = minute.max(above);
        kept.write().map_err(KeeperError::Ring)?;
        drop(kept);
        let alarm = Alarm::RingOlder { edge };
        error!(generation, "{alarm}");
        self.alarms.lock().unwrap_or_else(PoisonError::into_inner).insert(alarm);
        Ok(true)
    }

    /// The box is revoked: its reserve keys are retired by the next round, the newest as well. To be told at every
    /// start, for all of them.
    pub fn revoked(&self, edge: EdgeId) {
        self.ring().revoked.insert(edge);
    }

    /// Public keys for one box, signed; with every generation it gets a new reserve key. Blocks on the disk.
    pub fn signed_keys(&self, edge: EdgeId) -> Result<SignedKeys, KeeperError> {
        let now = self.clock.utc().hour();
        let days = self.retention_days as u8;
        let mut kept = self.ring();
        let generation = kept.ring.generation;
        let reserves = kept.ring.reserves.entry(edge).or_default();
        if reserves.last().is_none_or(|newest| newest.made < generation) {
            let (private, public) = key_pair();
            reserves.push(Reserve { made: generation, retired: None, private, public });
            kept.unwritten = true;
        }
        // No box is given a key that a crash would lose.
        if kept.unwritten {
            kept.write().map_err(KeeperError::Ring)?;
        }
        let ring = &kept.ring;
        let class = || ring.hours.range((now - HOURS_BEHIND, 0)..).filter(|((_, class), _)| *class == days);
        let first = class().next().map_or(now, |((hour, _), _)| *hour);
        let in_a_row = class().zip(first..).take_while(|(((hour, _), _), expected)| hour == expected);
        let public = |bytes: &[u8; 32]| bytes::Bytes::copy_from_slice(bytes);
        let reserve = ring.reserves.get(&edge).and_then(|reserves| reserves.last());
        let keys = SealingKeys {
            organisation_id: self.identity.id.into(),
            edge_id: edge.into(),
            generation,
            first_hour: u64::try_from(first).unwrap_or(0),
            hour_keys: in_a_row.map(|((_, (_, key)), _)| public(&key.0)).collect(),
            reserve_key: reserve.map(|reserve| public(&reserve.public.0)).unwrap_or_default(),
            retention_days: self.retention_days,
        };
        let payload = keys.encode_to_vec();
        let signature = signed::sign(signed::EDGE, "SealingKeys", &payload, &self.identity.long_term);
        Ok(SignedKeys { payload: payload.into(), signature: signature.into() })
    }
}

impl Keeper for RingKeeper {
    fn unwrap(
        &self,
        purpose: For,
        header: &SegmentHeader,
        header_bytes: &[u8],
        wrapped: &[u8],
    ) -> Result<SegmentKey, KeeperError> {
        // Reports carry the index stream: footage is opened for an access, or not.
        if purpose == For::Report && header.stream() != Stream::Index {
            return Err(KeeperError::NoAccess);
        }
        if let For::Hold(hold) = purpose
            && !self.holds(hold)
        {
            return Err(KeeperError::NoHold(hold));
        }
        if OrganisationId::try_from(&header.organisation_id) != Ok(self.identity.id) {
            return Err(KeeperError::OtherOrganisation);
        }
        let hour = i64::try_from(header.hour).map_err(|_| KeeperError::UnknownKind)?;
        // The shorter of the class and of today's rule, before any key is looked at. The hour of a reserve key
        // is what a box with a dead clock believed: whoever opens judges what is inside by present UTC.
        let hour_key = header.key_kind() == KeyKind::Hour;
        // A report that is answered with this is gone: a clock in doubt only hides footage.
        let judged = purpose != For::Report || self.may_destroy();
        if hour_key && judged && over(hour, header.retention_days.min(self.retention_days), self.clock.utc()) {
            return Err(KeeperError::Destroyed { hour });
        }
        let mut kept = self.ring();
        let key = match header.key_kind() {
            KeyKind::Hour => {
                let days = header.retention_days;
                let class = u8::try_from(days).ok().and_then(|days| kept.ring.hours.get(&(hour, days)));
                let (private, _) = class.ok_or(KeeperError::Unknown { hour, days })?;
                SegmentKey::unwrap(header, header_bytes, wrapped, private).map_err(KeeperError::Seal)
            }
            KeyKind::Reserve => {
                let edge = EdgeId::try_from(&header.edge_id).map_err(|_| KeeperError::NoReserve)?;
                let reserves = kept.ring.reserves.get(&edge).map(Vec::as_slice).unwrap_or_default();
                // The newest of its generation, mostly; a box may have been given the same generation twice.
                let candidates = reserves.iter().rev().filter(|reserve| reserve.made <= header.key_generation);
                let mut result = Err(KeeperError::NoReserve);
                for reserve in candidates {
                    result =
                        SegmentKey::unwrap(header, header_bytes, wrapped, &reserve.private).map_err(KeeperError::Seal);
                    if result.is_ok() {
                        break;
                    }
                }
                result
            }
            KeyKind::Unspecified => Err(KeeperError::UnknownKind),
        }?;
        // Sealed by a box that holds this generation, and with it no older reserve key.
        if let Ok(edge) = EdgeId::try_from(&header.edge_id)
            && header.key_generation <= kept.ring.generation
        {
            kept.confirm(edge, header.key_generation);
        }
        Ok(key)
    }

    fn may_destroy(&self) -> bool {
        self.trust() == Trust::Sure
    }
}

mod holds;

/// Minutes since 1970: above every generation that a ring counted up to before it was lost.
fn generation_of(now: WallTime) -> u32 {
    u32::try_from(now.0 / (60 * MICROS_PER_SECOND)).unwrap_or(0)
}

#[cfg(test)]
pub(crate) mod tests;
