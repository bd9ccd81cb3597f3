//! Time: UTC as int64 microseconds, the box's monotonic clock beside it, and clocks as parameters.

use crate::ids::BootId;
use crate::types::v1::Instant;
use serde::{Deserialize, Serialize};
use std::sync::atomic::{AtomicI64, Ordering};
use std::{fmt, ops};

pub const MICROS_PER_SECOND: i64 = 1_000_000;
pub const MICROS_PER_HOUR: i64 = 3_600 * MICROS_PER_SECOND;
/// Retention nobody can exceed by configuration: seven days from capture.
pub const MAX_RETENTION_HOURS: i64 = 168;

/// UTC in microseconds since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct WallTime(pub i64);

/// CLOCK_BOOTTIME in microseconds: keeps running in suspend, starts anew at boot.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct MonoTime(pub i64);

impl WallTime {
    /// Hours since 1970-01-01T00Z: the name of an hour key.
    pub fn hour(self) -> i64 {
        self.0.div_euclid(MICROS_PER_HOUR)
    }

    pub fn from_hour(hour: i64) -> Self {
        Self(hour * MICROS_PER_HOUR)
    }

    pub fn plus_micros(self, micros: i64) -> Self {
        Self(self.0.saturating_add(micros))
    }
}

impl ops::Sub for WallTime {
    type Output = i64;
    /// Microseconds from `other` to `self`.
    fn sub(self, other: Self) -> i64 {
        self.0.saturating_sub(other.0)
    }
}

impl ops::Sub for MonoTime {
    type Output = i64;
    fn sub(self, other: Self) -> i64 {
        self.0.saturating_sub(other.0)
    }
}

impl fmt::Debug for WallTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}us", self.0)
    }
}

/// Instant from which footage captured at `captured` is not released any more: the key of its hour is
/// destroyed at the start of the hour plus retention, so nothing outlives its term.
pub fn kept_until(captured: WallTime, retention_days: u32) -> WallTime {
    let hours = (i64::from(retention_days) * 24).min(MAX_RETENTION_HOURS);
    WallTime::from_hour(captured.hour() + hours)
}

/// The oldest instant whose footage is still released at `now`.
pub fn kept_since(now: WallTime, retention_days: u32) -> WallTime {
    let hours = (i64::from(retention_days) * 24).min(MAX_RETENTION_HOURS);
    WallTime::from_hour(now.hour() + 1 - hours)
}

/// Where a component gets the time: the machine, or a test.
pub trait Clock: Send + Sync {
    fn utc(&self) -> WallTime;
    fn mono(&self) -> MonoTime;
    fn boot(&self) -> BootId;

    /// Both clocks at once, as a fragment or report carries them.
    fn instant(&self, uncertainty_us: u64) -> Instant {
        Instant { boot_id: self.boot().into(), mono_us: self.mono().0, utc_us: self.utc().0, uncertainty_us }
    }
}

/// The machine's clocks.
pub struct SystemClock {
    boot: BootId,
}

impl SystemClock {
    /// Reads the kernel's boot id; a machine without one gets a random id per process.
    pub fn new() -> Self {
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id")
            .ok()
            .and_then(|text| text.trim().parse().ok())
            .unwrap_or_else(BootId::random);
        Self { boot }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    fn utc(&self) -> WallTime {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        WallTime(match since {
            Ok(after) => i64::try_from(after.as_micros()).unwrap_or(i64::MAX),
            Err(before) => -i64::try_from(before.duration().as_micros()).unwrap_or(i64::MAX),
        })
    }

    fn mono(&self) -> MonoTime {
        let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_BOOTTIME)
            .expect("CLOCK_BOOTTIME is readable because Linux has had it since 2.6.39");
        MonoTime(now.tv_sec() * MICROS_PER_SECOND + now.tv_nsec() / 1_000)
    }

    fn boot(&self) -> BootId {
        self.boot
    }
}

/// A clock that a test cranks.
pub struct SimClock {
    boot: BootId,
    utc: AtomicI64,
    mono: AtomicI64,
}

impl SimClock {
    pub fn starting_at(utc: WallTime) -> Self {
        Self { boot: BootId::random(), utc: AtomicI64::new(utc.0), mono: AtomicI64::new(MICROS_PER_SECOND) }
    }

    /// Both clocks go on.
    pub fn advance_micros(&self, micros: i64) {
        self.utc.fetch_add(micros, Ordering::SeqCst);
        self.mono.fetch_add(micros, Ordering::SeqCst);
    }

    /// Somebody sets the wall clock; the monotonic one does not notice.
    pub fn step_utc(&self, utc: WallTime) {
        self.utc.store(utc.0, Ordering::SeqCst);
    }
}

impl Clock for SimClock {
    fn utc(&self) -> WallTime {
        WallTime(self.utc.load(Ordering::SeqCst))
    }

    fn mono(&self) -> MonoTime {
        MonoTime(self.mono.load(Ordering::SeqCst))
    }

    fn boot(&self) -> BootId {
        self.boot
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_outlives_seven_days() {
        let last_of_hour = WallTime::from_hour(500).plus_micros(MICROS_PER_HOUR - 1);
        for captured in [WallTime::from_hour(500), last_of_hour] {
            let until = kept_until(captured, 7);
            assert!(until - captured <= MAX_RETENTION_HOURS * MICROS_PER_HOUR);
            assert!(until - captured > (MAX_RETENTION_HOURS - 1) * MICROS_PER_HOUR);
        }
        assert_eq!(kept_until(last_of_hour, 30), kept_until(last_of_hour, 7));
    }

    #[test]
    fn what_is_kept_since_an_instant_is_all_that_is_not_past_its_term() {
        for now in [1_795_424_400_000_000, 1_795_424_400_000_001, 1_795_427_999_999_999].map(WallTime) {
            let since = kept_since(now, 7);
            assert!(kept_until(since, 7) > now && kept_until(since.plus_micros(-1), 7) <= now, "{now:?}");
        }
    }

    #[test]
    fn system_clock_runs_forward() {
        let clock = SystemClock::new();
        let before = clock.mono();
        assert!(clock.mono() >= before && before.0 > 0);
        assert_eq!(clock.boot(), SystemClock::new().boot());
    }
}
