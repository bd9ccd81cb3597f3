//! Whether a record still goes into the open segment. Pure.

use campanile_proto::ids::RunId;
use campanile_proto::segment::MAX_SEGMENT_SECONDS;
use campanile_proto::time::{MICROS_PER_SECOND, WallTime};

/// From here on a key frame is a good place to begin a new segment.
const SOFT_LIMIT_US: i64 = (MAX_SEGMENT_SECONDS - 20) * MICROS_PER_SECOND;
const HARD_LIMIT_US: i64 = MAX_SEGMENT_SECONDS * MICROS_PER_SECOND;
/// What an hour's last fragment may take from its first picture to its order.
const LATE_US: i64 = 4 * MICROS_PER_SECOND;

/// The open segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Open {
    pub run: RunId,
    /// UTC hour believed when it was opened.
    pub hour: i64,
    pub opened_mono_us: i64,
    /// What the records are sealed to.
    pub sealed_to: SealedTo,
}

/// Names the public key of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SealedTo {
    /// 0 in the clear.
    pub generation: u32,
    pub reserve: bool,
    pub retention_days: u32,
}

/// What is to be written next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Next {
    pub run: RunId,
    pub hour: i64,
    pub mono_us: i64,
    pub sealed_to: SealedTo,
    pub starts_with_key: bool,
}

/// Whether `next` begins a new segment: another run, hour or key, or the segment is full.
pub fn begins_segment(open: &Open, next: &Next) -> bool {
    let age = next.mono_us - open.opened_mono_us;
    open.run != next.run
        || open.hour != next.hour
        || open.sealed_to != next.sealed_to
        || age >= HARD_LIMIT_US
        || age >= SOFT_LIMIT_US && next.starts_with_key
}

/// Whether an open segment is to be closed though nothing comes. A fragment that began before the hour is written
/// up to two fragments later.
pub fn is_over(open: &Open, utc: WallTime, mono_us: i64) -> bool {
    let passed = open.hour < utc.plus_micros(-LATE_US).hour();
    passed || open.hour > utc.hour() || mono_us - open.opened_mono_us >= HARD_LIMIT_US
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TO: SealedTo = SealedTo { generation: 1, reserve: false, retention_days: 7 };

    fn open(run: RunId) -> Open {
        Open { run, hour: 500, opened_mono_us: 0, sealed_to: TO }
    }

    fn next(run: RunId, mono_us: i64) -> Next {
        Next { run, hour: 500, mono_us, sealed_to: TO, starts_with_key: false }
    }

    #[test]
    fn a_new_run_hour_or_key_begins_a_segment() {
        let run = RunId::random();
        let same = next(run, 1_000_000);
        assert!(!begins_segment(&open(run), &same));
        assert!(begins_segment(&open(run), &Next { run: RunId::random(), ..same }));
        assert!(begins_segment(&open(run), &Next { hour: 501, ..same }));
        assert!(begins_segment(&open(run), &Next { hour: 499, ..same }), "a clock set back is another hour too");
        for sealed_to in
            [SealedTo { generation: 2, ..TO }, SealedTo { reserve: true, ..TO }, SealedTo { retention_days: 3, ..TO }]
        {
            assert!(begins_segment(&open(run), &Next { sealed_to, ..same }));
        }
    }

    #[test]
    fn an_hours_last_fragment_still_finds_its_segment() {
        let (open, next) = (open(RunId::random()), WallTime::from_hour(501));
        assert!(!is_over(&open, next.plus_micros(-1), 0) && !is_over(&open, next.plus_micros(LATE_US - 1), 0));
        assert!(is_over(&open, next.plus_micros(LATE_US), 0));
        assert!(is_over(&open, WallTime::from_hour(500).plus_micros(-1), 0), "the clock was set back");
        assert!(is_over(&open, next.plus_micros(-1), HARD_LIMIT_US));
    }

    proptest! {
        #[test]
        fn no_segment_is_longer_than_its_limit_and_none_ends_early_within_a_group(
            steps in proptest::collection::vec((1i64..2_000_000, any::<bool>()), 1..2_000)
        ) {
            let run = RunId::random();
            let (mut now, mut segment) = (0, open(run));
            for (step, starts_with_key) in steps {
                now += step;
                let next = Next { starts_with_key, ..next(run, now) };
                if begins_segment(&segment, &next) {
                    let age = now - segment.opened_mono_us;
                    prop_assert!(starts_with_key && age >= SOFT_LIMIT_US || age >= HARD_LIMIT_US);
                    segment = Open { opened_mono_us: now, ..segment };
                }
                prop_assert!(now - segment.opened_mono_us < HARD_LIMIT_US);
            }
        }
    }
}
