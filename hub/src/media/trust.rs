//! Whether the wall clock may be believed so far that keys are destroyed by it: pure, and the reading of both
//! clocks that outlives the process.
//!
//! Invariants: a clock that is *believed* makes keys ahead; only one that is *sure* destroys, judges reports and is
//! told to boxes. Within a boot a belief goes on while wall and monotonic clock do. Across a boot a clock that ran
//! ahead by no more than a long week end is believed, and sure an hour later if it did not step meanwhile (time for
//! NTP to find that it is wrong); a mark of synchronisation or a person's word makes it sure at once. A belief lost
//! to a step comes back with a mark touched since by the clock as it is now.

use campanile_proto::ids::BootId;
use campanile_proto::time::{Clock, MICROS_PER_HOUR, MICROS_PER_SECOND, WallTime};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// Wall clock and monotonic clock may part this much before the time is not believed.
pub(super) const TRUSTED_DRIFT_US: i64 = 120 * MICROS_PER_SECOND;
/// A hub may be off for a long week end and a holiday; a clock that ran ahead further while nobody looked is
/// believed with a second source only.
const PLAUSIBLE_SPAN_US: i64 = 8 * 24 * MICROS_PER_HOUR;
/// From the start of the process until a clock that is plausible only is sure.
pub(super) const PROBATION_US: i64 = MICROS_PER_HOUR;
/// systemd-timesyncd makes this, in every boot anew, and touches it whenever it is synchronised (systemd-timesyncd.service(8)).
pub(crate) const TIMESYNC_MARK: &str = "/run/systemd/timesync/synchronized";

/// Both clocks at one instant of one boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Reading {
    pub utc: WallTime,
    pub mono_us: i64,
    pub boot: BootId,
    /// Whether it was sure; versions that did not write it down did not know.
    #[serde(default)]
    pub sure: bool,
}

impl Reading {
    pub fn of(clock: &dyn Clock) -> Self {
        Self { utc: clock.utc(), mono_us: clock.mono().0, boot: clock.boot(), sure: false }
    }

    /// As written down by [`Reading::write`]; a missing or damaged file is no reading.
    pub fn read(path: &Path) -> Option<Self> {
        serde_json::from_slice(&std::fs::read(path).ok()?).ok()
    }

    pub fn write(&self, path: &Path) -> Result<(), crate::fleet::IdentityError> {
        crate::fleet::identity::write_private(path, &serde_json::to_vec(self).unwrap_or_default())
    }

    /// Whether as much wall time as monotonic time went by since `earlier`, which is of the same boot.
    pub fn goes_on_from(&self, earlier: &Self) -> bool {
        let (utc, mono) = (self.utc - earlier.utc, self.mono_us.saturating_sub(earlier.mono_us));
        self.boot == earlier.boot && utc.saturating_sub(mono).saturating_abs() <= TRUSTED_DRIFT_US
    }
}

/// How far the clock is believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trust {
    None,
    Plausible,
    Sure,
}

/// Whether any of these files was touched within the last two minutes by the clock as it is now: a step since
/// would have made its age another one.
pub(super) fn vouched(marks: &[PathBuf], now: WallTime) -> bool {
    let touched = |mark: &PathBuf| std::fs::metadata(mark).and_then(|file| file.modified()).ok();
    let micros = |at: SystemTime| at.duration_since(UNIX_EPOCH).ok().and_then(|at| i64::try_from(at.as_micros()).ok());
    let ages = marks.iter().filter_map(touched).filter_map(micros).map(|at| now - WallTime(at));
    ages.into_iter().any(|age| (0..=TRUSTED_DRIFT_US).contains(&age))
}

/// At the start of the process. `last` is the last reading that was believed; `ring_made` when the ring's newest
/// keys were made, which says about the same where the reading is missing; `synchronised` a second source.
pub(super) fn believed_at_start(
    now: &Reading,
    last: Option<&Reading>,
    ring_made: Option<WallTime>,
    synchronised: bool,
) -> Trust {
    let plausible = |then: WallTime| {
        let near = (-TRUSTED_DRIFT_US..=PLAUSIBLE_SPAN_US).contains(&(now.utc - then));
        if synchronised {
            Trust::Sure
        } else if near {
            Trust::Plausible
        } else {
            Trust::None
        }
    };
    match (last, ring_made) {
        // The monotonic clock knows what happened since, so that no other word is needed, nor believed.
        (Some(last), _) if last.boot == now.boot => match (now.goes_on_from(last), last.sure) {
            (true, true) => Trust::Sure,
            (true, false) => Trust::Plausible,
            (false, _) => Trust::None,
        },
        (Some(last), _) => plausible(last.utc),
        (None, Some(made)) => plausible(made),
        // Nothing there that could be destroyed.
        (None, None) => Trust::Sure,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = 24 * MICROS_PER_HOUR;

    fn reading(boot: u128, utc: i64, mono_us: i64) -> Reading {
        Reading { utc: WallTime(utc), mono_us, boot: BootId::from_u128(boot), sure: true }
    }

    #[test]
    fn within_a_boot_only_the_monotonic_clock_counts() {
        let last = reading(1, 100 * DAY, DAY);
        for (utc, mono, believed) in
            [(130 * DAY, 31 * DAY, true), (101 * DAY, DAY + 5, false), (99 * DAY, 2 * DAY, false)]
        {
            for synchronised in [false, true] {
                let now = reading(1, utc, mono);
                let expected = if believed { Trust::Sure } else { Trust::None };
                assert_eq!(believed_at_start(&now, Some(&last), None, synchronised), expected, "{now:?}");
                let unsure = Reading { sure: false, ..last };
                assert_ne!(believed_at_start(&now, Some(&unsure), None, synchronised), Trust::Sure);
            }
        }
    }

    #[test]
    fn after_a_boot_a_week_is_plausible_and_a_year_needs_a_second_source() {
        let last = reading(1, 100 * DAY, 50 * DAY);
        let believed = |utc, synchronised| believed_at_start(&reading(2, utc, 5), Some(&last), None, synchronised);
        assert_eq!((believed(107 * DAY, false), believed(500 * DAY, true)), (Trust::Plausible, Trust::Sure));
        assert_eq!((believed(500 * DAY, false), believed(99 * DAY, false)), (Trust::None, Trust::None));
    }

    #[test]
    fn without_a_reading_the_rings_own_keys_say_when_it_was_last_known() {
        let believed = |utc, made| believed_at_start(&reading(2, utc, 5), None, made, false);
        assert_eq!(believed(101 * DAY, Some(WallTime(100 * DAY))), Trust::Plausible);
        assert_eq!((believed(0, None), believed(500 * DAY, Some(WallTime(100 * DAY)))), (Trust::Sure, Trust::None));
    }
}
