//! What this box believes of the time, and why: a cabinet's clock may be dead.
//!
//! UTC is never corrected where it was written down; anchors say later what a monotonic instant really was.

use crate::identity::replace_file;
use campanile_proto::edge::v1::HubTime;
use campanile_proto::ids::BootId;
use campanile_proto::signed;
use campanile_proto::time::{Clock, MonoTime, WallTime};
use campanile_proto::types::v1::{Anchor, Instant, TimeSource};
use ed25519_dalek::VerifyingKey;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// No release of this program is older: 2026-11-01T00:00Z.
const RELEASED: WallTime = WallTime(1_793_491_200_000_000);
/// A clock that ran ahead further than the hour keys reach while nobody looked is not believed without a
/// second source.
const MAX_UNSEEN_US: i64 = 35 * 86_400 * 1_000_000;
/// The hub's time and ours differ by no more than this, or ours is wrong.
const MAX_DISAGREEMENT_US: i64 = 120 * 1_000_000;
/// Drift of a cheap crystal over its range of temperature, parts per million.
const DRIFT_PPM: u64 = 50;
/// A system clock that nobody vouches for.
const SYSTEM_UNCERTAINTY_US: u64 = 60 * 1_000_000;
const NTP_UNCERTAINTY_US: u64 = 100_000;
const UNKNOWN_UNCERTAINTY_US: u64 = 365 * 86_400 * 1_000_000;
/// systemd-timesyncd makes this once it is synchronised (systemd-timesyncd.service(8)).
const TIMESYNC_MARK: &str = "/run/systemd/timesync/synchronized";
/// What is deleted by its age has one that is known to the hour.
const MAX_PROVEN_UNCERTAINTY_US: u64 = 3_600 * 1_000_000;

#[derive(Serialize, Deserialize)]
struct LastKnown {
    utc_us: i64,
}

/// The time as far as this box knows it, for certificates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reckoned {
    pub at: WallTime,
    /// The hub or NTP said so in this boot.
    pub vouched: bool,
}

impl Reckoned {
    /// Nobody vouches for it.
    pub fn unvouched(at: WallTime) -> Self {
        Self { at, vouched: false }
    }
}

/// Keeps the time: cheap to share.
pub struct Timekeeper {
    clock: Arc<dyn Clock>,
    path: PathBuf,
    /// Latest instant known to be past when the process started.
    floor: WallTime,
    /// False: neither this file nor the system clock of an earlier run vouches for the clock.
    plausible: bool,
    /// The hub's word in this boot.
    hub: Mutex<Option<Anchor>>,
    mark: PathBuf,
    /// The system clock when the mark of NTP was first seen.
    synchronised: Mutex<Option<(MonoTime, WallTime)>>,
}

impl Timekeeper {
    /// Reads `clock.json` in the state folder; a missing or damaged one is no time at all.
    pub fn open(state_dir: &Path, clock: Arc<dyn Clock>) -> Self {
        Self::with_mark(state_dir, clock, Path::new(TIMESYNC_MARK))
    }

    fn with_mark(state_dir: &Path, clock: Arc<dyn Clock>, mark: &Path) -> Self {
        let path = state_dir.join("clock.json");
        let last = std::fs::read(&path).ok().and_then(|text| serde_json::from_slice::<LastKnown>(&text).ok());
        let floor = last.as_ref().map_or(RELEASED, |last| RELEASED.max(WallTime(last.utc_us)));
        let system = clock.utc();
        let plausible = system >= floor && (last.is_none() || system - floor < MAX_UNSEEN_US);
        let (hub, synchronised) = (Mutex::new(None), Mutex::new(None));
        Self { clock, path, floor, plausible, hub, mark: mark.to_owned(), synchronised }
    }

    /// What the hub or NTP said in this boot, carried on by the monotonic clock; else the latest of release, last
    /// persisted and system time. For certificates and for nothing else.
    pub fn reckoned(&self) -> Reckoned {
        match self.vouched() {
            Some((at, _)) => Reckoned { at, vouched: true },
            None => Reckoned::unvouched(self.clock.utc().max(self.floor)),
        }
    }

    /// Whether the system clock may say which hour it is.
    pub fn trusted(&self) -> bool {
        match self.vouched() {
            Some((at, _)) => (self.clock.utc() - at).abs() < MAX_DISAGREEMENT_US,
            None => self.clock.utc() >= self.floor && self.plausible,
        }
    }

    /// The time that may decide what is deleted: vouched for in this boot, the system clock agreeing with it. The
    /// earliest it can be.
    pub fn proven(&self) -> Option<WallTime> {
        let (at, uncertainty_us) = self.vouched()?;
        let agrees = (self.clock.utc() - at).abs() < MAX_DISAGREEMENT_US;
        let earliest = at.plus_micros(-i64::try_from(uncertainty_us).unwrap_or(i64::MAX));
        (agrees && uncertainty_us < MAX_PROVEN_UNCERTAINTY_US).then_some(earliest)
    }

    /// Present UTC as the hub or NTP told it in this boot, and its uncertainty.
    fn vouched(&self) -> Option<(WallTime, u64)> {
        let mono = self.clock.mono();
        if let Some(anchor) = self.hub() {
            return Some((carried(&anchor, mono), uncertainty_at(&anchor, mono)));
        }
        let (at, utc) = self.synchronised()?;
        let age_us = mono - at;
        Some((utc.plus_micros(age_us), NTP_UNCERTAINTY_US + age_us.unsigned_abs() / 1_000_000 * DRIFT_PPM))
    }

    /// NTP goes on steering the clock: each look that finds it where the monotonic one expects it is a new start.
    /// A clock that jumped since was set by somebody else, and the start stays.
    fn synchronised(&self) -> Option<(MonoTime, WallTime)> {
        if !self.mark.exists() {
            return None;
        }
        let now = (self.clock.mono(), self.clock.utc());
        let mut known = self.synchronised.lock().unwrap_or_else(PoisonError::into_inner);
        let jumped = known.is_some_and(|(mono, utc)| ((now.1 - utc) - (now.0 - mono)).abs() >= MAX_DISAGREEMENT_US);
        if !jumped {
            *known = Some(now);
        }
        *known
    }

    /// This boot and how long it has been up.
    pub fn boot(&self) -> (BootId, MonoTime) {
        (self.clock.boot(), self.clock.mono())
    }

    /// Who vouches for the system clock, and how closely.
    pub fn belief(&self) -> (TimeSource, u64) {
        if !self.trusted() {
            return (TimeSource::LastKnown, UNKNOWN_UNCERTAINTY_US);
        }
        if let Some(anchor) = self.hub() {
            let off = (self.clock.utc() - carried(&anchor, self.clock.mono())).unsigned_abs();
            return (TimeSource::Hub, off + uncertainty_at(&anchor, self.clock.mono()));
        }
        if self.synchronised().is_some() {
            return (TimeSource::Ntp, NTP_UNCERTAINTY_US);
        }
        (TimeSource::System, SYSTEM_UNCERTAINTY_US)
    }

    /// The system clock as an anchor of this boot.
    pub fn system_anchor(&self) -> Anchor {
        let (source, uncertainty_us) = self.belief();
        let source = if source == TimeSource::Hub { TimeSource::System } else { source };
        let Instant { boot_id, mono_us, utc_us, .. } = self.clock.instant(0);
        Anchor { boot_id, mono_us, utc_us, uncertainty_us, source: source.into() }
    }

    /// Takes the hub's signed time, asked for at `asked`: it was read between then and now, so half of that is
    /// its uncertainty. None when the signature is not the organisation's.
    pub fn take_hub_time(&self, time: &HubTime, asked: MonoTime, key: &VerifyingKey) -> Option<Anchor> {
        let payload = [time.utc_us.to_le_bytes(), time.uncertainty_us.to_le_bytes()].concat();
        signed::verify(signed::EDGE, "HubTime", &payload, &time.signature, key).ok()?;
        let now = self.clock.mono();
        let half = ((now - asked) / 2).max(0);
        let anchor = Anchor {
            boot_id: self.clock.boot().into(),
            mono_us: asked.0 + half,
            utc_us: time.utc_us,
            uncertainty_us: time.uncertainty_us.saturating_add(half.unsigned_abs()),
            source: TimeSource::Hub.into(),
        };
        let mut hub = self.hub.lock().unwrap_or_else(PoisonError::into_inner);
        let worse = |old: &Anchor| uncertainty_at(old, now) > uncertainty_at(&anchor, now);
        if hub.as_ref().is_none_or(worse) {
            *hub = Some(anchor.clone());
        }
        Some(anchor)
    }

    /// Writes down the time for the next start; only one that was vouched for. It replaces a later one that was
    /// written down on a clock's own word.
    pub fn persist(&self) -> std::io::Result<()> {
        let Some((at, _)) = self.vouched() else { return Ok(()) };
        let text = serde_json::to_vec(&LastKnown { utc_us: at.0 }).map_err(std::io::Error::other)?;
        replace_file(&self.path, &text)
    }

    fn hub(&self) -> Option<Anchor> {
        self.hub.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn carried(anchor: &Anchor, mono: MonoTime) -> WallTime {
    WallTime(anchor.utc_us).plus_micros(mono.0.saturating_sub(anchor.mono_us))
}

fn uncertainty_at(anchor: &Anchor, mono: MonoTime) -> u64 {
    let age = mono.0.abs_diff(anchor.mono_us);
    anchor.uncertainty_us.saturating_add(age / 1_000_000 * DRIFT_PPM)
}

/// Anchors of any boots, for reading what is stored.
#[derive(Debug, Clone, Default)]
pub struct Anchors(Vec<Anchor>);

impl Anchors {
    pub fn new(anchors: Vec<Anchor>) -> Self {
        Self(anchors)
    }

    /// Present UTC of an instant and its uncertainty: through the best anchor of its boot, or as believed
    /// then when that boot has none better.
    pub fn present(&self, instant: &Instant) -> (WallTime, u64) {
        let mono = MonoTime(instant.mono_us);
        let best = self
            .0
            .iter()
            .filter(|anchor| anchor.boot_id == instant.boot_id)
            .min_by_key(|anchor| uncertainty_at(anchor, mono));
        match best.filter(|best| uncertainty_at(best, mono) < instant.uncertainty_us) {
            Some(best) => (carried(best, mono), uncertainty_at(best, mono)),
            None => (WallTime(instant.utc_us), instant.uncertainty_us),
        }
    }

    /// Present UTC of an instant by the hub's or NTP's word in its boot, and its uncertainty.
    pub fn vouched(&self, instant: &Instant) -> Option<(WallTime, u64)> {
        let mono = MonoTime(instant.mono_us);
        let by_others = |anchor: &&Anchor| matches!(anchor.source(), TimeSource::Hub | TimeSource::Ntp);
        let of_boot = self.0.iter().filter(|anchor| anchor.boot_id == instant.boot_id);
        let best = of_boot.filter(by_others).min_by_key(|anchor| uncertainty_at(anchor, mono))?;
        let uncertainty_us = uncertainty_at(best, mono);
        (uncertainty_us < MAX_PROVEN_UNCERTAINTY_US).then_some((carried(best, mono), uncertainty_us))
    }

    pub fn of_boot(&self, boot: BootId) -> usize {
        self.0.iter().filter(|anchor| anchor.boot_id == boot.as_bytes().as_slice()).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use campanile_proto::time::SimClock;
    use ed25519_dalek::SigningKey;

    fn hub_time(utc: WallTime, key: &SigningKey) -> HubTime {
        let payload = [utc.0.to_le_bytes(), 1_000u64.to_le_bytes()].concat();
        let signature = signed::sign(signed::EDGE, "HubTime", &payload, key).into();
        HubTime { utc_us: utc.0, uncertainty_us: 1_000, signature }
    }

    const NOON: WallTime = WallTime(1_800_000_000_000_000);
    const DAY_US: i64 = 86_400 * 1_000_000;

    /// Without NTP, whatever the machine that tests has.
    fn keeper(state: &Path, clock: &Arc<SimClock>) -> Timekeeper {
        Timekeeper::with_mark(state, clock.clone(), &state.join("no-mark"))
    }

    fn vouched_for(keeper: &Timekeeper, at: WallTime) -> &Timekeeper {
        let key = SigningKey::from_bytes(&[1; 32]);
        keeper.take_hub_time(&hub_time(at, &key), keeper.clock.mono(), &key.verifying_key()).unwrap();
        keeper
    }

    #[test]
    fn a_clock_far_ahead_is_never_written_down_and_heals_when_the_hub_speaks() {
        let state = tempfile::tempdir().unwrap();
        let ahead = NOON.plus_micros(13 * 365 * DAY_US);
        let clock = Arc::new(SimClock::starting_at(ahead));
        let dead = keeper(state.path(), &clock);
        dead.persist().unwrap();
        assert!(!state.path().join("clock.json").exists());
        assert_eq!((dead.reckoned(), dead.proven()), (Reckoned::unvouched(ahead), None));
        // What an earlier version wrote on that clock's word.
        std::fs::write(state.path().join("clock.json"), format!(r#"{{"utc_us":{}}}"#, ahead.0)).unwrap();
        let dead = keeper(state.path(), &clock);
        vouched_for(&dead, NOON).persist().unwrap();
        assert_eq!(dead.reckoned(), Reckoned { at: NOON, vouched: true });
        let healed = keeper(state.path(), &Arc::new(SimClock::starting_at(NOON.plus_micros(DAY_US))));
        assert!(healed.trusted());
    }

    #[test]
    fn nothing_is_deleted_on_the_word_of_a_clock_that_is_only_plausible() {
        let state = tempfile::tempdir().unwrap();
        vouched_for(&keeper(state.path(), &Arc::new(SimClock::starting_at(NOON))), NOON).persist().unwrap();
        let ahead = NOON.plus_micros(20 * DAY_US);
        let clock = Arc::new(SimClock::starting_at(ahead));
        let keeper = keeper(state.path(), &clock);
        assert!(keeper.trusted(), "the box may have been off for that long");
        assert_eq!(keeper.proven(), None, "or its clock is wrong");
        vouched_for(&keeper, NOON);
        assert_eq!(keeper.proven(), None, "the clock says otherwise than the hub");
        clock.step_utc(NOON);
        assert!(keeper.proven().is_some_and(|at| at <= NOON && NOON - at < 1_000_000));
    }

    #[test]
    fn ntp_proves_the_time_until_somebody_sets_the_clock() {
        let state = tempfile::tempdir().unwrap();
        let clock = Arc::new(SimClock::starting_at(NOON));
        let mark = state.path().join("mark");
        let keeper = Timekeeper::with_mark(state.path(), clock.clone(), &mark);
        assert_eq!(keeper.proven(), None);
        std::fs::write(&mark, "").unwrap();
        assert!(keeper.proven().is_some());
        clock.advance_micros(DAY_US);
        assert!(keeper.proven().is_some_and(|at| NOON.plus_micros(DAY_US) - at < 1_000_000));
        clock.step_utc(NOON.plus_micros(20 * DAY_US));
        assert_eq!((keeper.proven(), keeper.trusted()), (None, false));
        clock.step_utc(NOON.plus_micros(DAY_US));
        assert!(keeper.proven().is_some());
    }

    #[test]
    fn a_dead_clock_is_not_trusted_until_the_hub_speaks_and_it_is_set() {
        let state = tempfile::tempdir().unwrap();
        let clock = Arc::new(SimClock::starting_at(WallTime(0)));
        let keeper = keeper(state.path(), &clock);
        assert!(!keeper.trusted());
        assert_eq!(keeper.reckoned(), Reckoned::unvouched(RELEASED));
        let key = SigningKey::from_bytes(&[1; 32]);
        let asked = clock.mono();
        clock.advance_micros(10_000);
        let anchor = keeper.take_hub_time(&hub_time(NOON, &key), asked, &key.verifying_key()).unwrap();
        assert_eq!(anchor.uncertainty_us, 6_000);
        assert!(!keeper.trusted(), "the system clock still says 1970");
        clock.step_utc(NOON.plus_micros(5_000));
        assert!(keeper.trusted());
        assert_eq!(keeper.belief().0, TimeSource::Hub);
    }

    #[test]
    fn strangers_do_not_set_the_time() {
        let state = tempfile::tempdir().unwrap();
        let clock = Arc::new(SimClock::starting_at(NOON));
        let keeper = Timekeeper::open(state.path(), clock.clone());
        let (ours, other) = (SigningKey::from_bytes(&[1; 32]), SigningKey::from_bytes(&[2; 32]));
        assert!(keeper.take_hub_time(&hub_time(NOON, &other), clock.mono(), &ours.verifying_key()).is_none());
    }

    #[test]
    fn a_clock_that_jumped_while_the_box_was_off_is_not_trusted() {
        let state = tempfile::tempdir().unwrap();
        vouched_for(&keeper(state.path(), &Arc::new(SimClock::starting_at(NOON))), NOON).persist().unwrap();
        let trusted = |at: WallTime| keeper(state.path(), &Arc::new(SimClock::starting_at(at))).trusted();
        assert!(trusted(NOON.plus_micros(86_400_000_000)));
        assert!(!trusted(NOON.plus_micros(MAX_UNSEEN_US)));
        assert!(!trusted(NOON.plus_micros(-1)));
    }

    #[test]
    fn the_best_anchor_of_its_boot_says_when_it_was() {
        let boot = BootId::random();
        let anchor = |mono_us, utc_us, uncertainty_us, boot: BootId| Anchor {
            boot_id: boot.into(),
            mono_us,
            utc_us,
            uncertainty_us,
            source: TimeSource::Hub.into(),
        };
        let anchors = Anchors::new(vec![
            anchor(0, 5_000_000, 9_000, boot),
            anchor(0, 7_000_000, 10, boot),
            anchor(0, 0, 0, BootId::random()),
        ]);
        let at = |boot: BootId| Instant { boot_id: boot.into(), mono_us: 500, utc_us: 42, uncertainty_us: 60_000_000 };
        assert_eq!(anchors.present(&at(boot)), (WallTime(7_000_500), 10));
        assert_eq!(anchors.present(&at(BootId::random())), (WallTime(42), 60_000_000));
    }
}
