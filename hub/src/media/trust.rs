//! Whether the wall clock may be believed so far that keys are destroyed by it: pure, and the reading of both
//! clocks that outlives the process.

use campanile_proto::ids::BootId;
use campanile_proto::time::{Clock, MICROS_PER_HOUR, MICROS_PER_SECOND, WallTime};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// Wall clock and monotonic clock may part this much before the time is not believed.
pub(super) const TRUSTED_DRIFT_US: i64 = 120 * MICROS_PER_SECOND;
/// A hub may be off for a long week end and a holiday; a clock that ran ahead further while nobody looked is
/// believed with a second source only.
const PLAUSIBLE_SPAN_US: i64 = 8 * 24 * MICROS_PER_HOUR;
/// systemd-timesyncd makes this, in every boot anew, once it is synchronised (systemd-timesyncd.service(8)).
pub(super) const TIMESYNC_MARK: &str = "/run/systemd/timesync/synchronized";

/// Both clocks at one instant of one boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Reading {
    pub utc: WallTime,
    mono_us: i64,
    boot: BootId,
}

impl Reading {
    pub fn of(clock: &dyn Clock) -> Self {
        Self { utc: clock.utc(), mono_us: clock.mono().0, boot: clock.boot() }
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

/// At the start of the process. `last` is the last reading that was believed; `ring_made` when the ring's newest
/// keys were made, which says about the same where the reading is missing; `synchronised` a second source.
pub(super) fn believed_at_start(
    now: &Reading,
    last: Option<&Reading>,
    ring_made: Option<WallTime>,
    synchronised: bool,
) -> bool {
    let plausible = |then: WallTime| (-TRUSTED_DRIFT_US..=PLAUSIBLE_SPAN_US).contains(&(now.utc - then));
    match (last, ring_made) {
        // The monotonic clock knows what happened since, so that no other word is needed, nor believed.
        (Some(last), _) if last.boot == now.boot => now.goes_on_from(last),
        (Some(last), _) => synchronised || plausible(last.utc),
        (None, Some(made)) => synchronised || plausible(made),
        // Nothing there that could be destroyed.
        (None, None) => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = 24 * MICROS_PER_HOUR;

    fn reading(boot: u128, utc: i64, mono_us: i64) -> Reading {
        Reading { utc: WallTime(utc), mono_us, boot: BootId::from_u128(boot) }
    }

    #[test]
    fn within_a_boot_only_the_monotonic_clock_counts() {
        let last = reading(1, 100 * DAY, DAY);
        for (utc, mono, believed) in
            [(130 * DAY, 31 * DAY, true), (101 * DAY, DAY + 5, false), (99 * DAY, 2 * DAY, false)]
        {
            for synchronised in [false, true] {
                let now = reading(1, utc, mono);
                assert_eq!(believed_at_start(&now, Some(&last), None, synchronised), believed, "{now:?}");
            }
        }
    }

    #[test]
    fn after_a_boot_a_week_is_plausible_and_a_year_needs_a_second_source() {
        let last = reading(1, 100 * DAY, 50 * DAY);
        let believed = |utc, synchronised| believed_at_start(&reading(2, utc, 5), Some(&last), None, synchronised);
        assert!(believed(107 * DAY, false) && believed(500 * DAY, true));
        assert!(!believed(500 * DAY, false) && !believed(99 * DAY, false));
    }

    #[test]
    fn without_a_reading_the_rings_own_keys_say_when_it_was_last_known() {
        let believed = |utc, made| believed_at_start(&reading(2, utc, 5), None, made, false);
        assert!(believed(101 * DAY, Some(WallTime(100 * DAY))) && believed(0, None));
        assert!(!believed(500 * DAY, Some(WallTime(100 * DAY))));
    }
}
