//! When a child is taken for hung, and how soon the next one starts. Pure.

use std::time::{Duration, Instant};

/// After a sign of life the next one is not missed before this.
const PAUSE: Duration = Duration::from_millis(1_200);
/// How often a child that works gives one: more often than it is missed.
pub const SIGN: Duration = Duration::from_secs(1);
/// A sign that is owed for this long does not come: of the five seconds within which motion is to be looked at again
/// more than one is left, for another child to start and for the key frame it waits for.
const HANG: Duration = Duration::from_secs(2);
/// The same before the first sign, while libraries are loaded: a box that starts with eight cameras takes a while.
const HANG_AT_FIRST: Duration = Duration::from_secs(10);

/// What is heard of one child. It works on what it was given, and gives a sign for it.
#[derive(Debug, Clone, Default)]
pub struct Pulse {
    heard: Option<Instant>,
    owed_since: Option<Instant>,
}

impl Pulse {
    /// The child was given a unit.
    pub fn given(&mut self, now: Instant) {
        if self.heard.is_none_or(|heard| now.saturating_duration_since(heard) >= PAUSE) {
            self.owed_since.get_or_insert(now);
        }
    }

    /// It said something.
    pub fn heard(&mut self, now: Instant) {
        *self = Self { heard: Some(now), owed_since: None };
    }

    pub fn hangs(&self, now: Instant) -> bool {
        let limit = if self.heard.is_some() { HANG } else { HANG_AT_FIRST };
        self.owed_since.is_some_and(|since| now.saturating_duration_since(since) >= limit)
    }
}

/// Starts without a rest: a few in a row, and one more each time this has passed.
const AT_ONCE: u32 = 4;
const EARNED_AFTER: Duration = Duration::from_secs(15);
/// Of a camera whose pictures end every child; doubles up to the second value.
const FIRST_REST: Duration = Duration::from_secs(1);
const LONGEST_REST: Duration = Duration::from_secs(60);

/// Rests between the children of one camera.
#[derive(Debug, Clone)]
pub struct Rests {
    at_once: u32,
    earned_at: Instant,
    rest: Duration,
}

impl Rests {
    pub fn new(now: Instant) -> Self {
        Self { at_once: AT_ONCE, earned_at: now, rest: FIRST_REST }
    }

    /// A child died: how long to wait before the next.
    pub fn died(&mut self, now: Instant) -> Duration {
        let passed = now.saturating_duration_since(self.earned_at);
        let earned = u32::try_from(passed.as_secs() / EARNED_AFTER.as_secs()).unwrap_or(u32::MAX);
        if earned > 0 {
            self.earned_at = now;
            self.at_once = self.at_once.saturating_add(earned).min(AT_ONCE);
        }
        match self.at_once.checked_sub(1) {
            Some(left) => {
                self.at_once = left;
                if left + 1 == AT_ONCE {
                    self.rest = FIRST_REST;
                }
                Duration::ZERO
            }
            None => {
                let rest = self.rest;
                self.rest = (rest * 2).min(LONGEST_REST);
                // What is waited out is not earned.
                self.earned_at = now + rest;
                rest
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_child_that_stops_is_missed_within_three_and_a_half_seconds() {
        let start = Instant::now();
        let mut pulse = Pulse::default();
        pulse.given(start);
        assert!(!pulse.hangs(start + 9_999 * MS) && pulse.hangs(start + 10_000 * MS), "it never said a word");
        pulse.heard(start + 400 * MS);
        // Fifteen units a second from then on, and silence.
        let missed = (0..).map(|unit| start + 400 * MS + unit * 66 * MS).find(|&now| {
            pulse.given(now);
            pulse.hangs(now)
        });
        assert!(missed.unwrap() - (start + 400 * MS) <= 3_500 * MS);
    }

    #[test]
    fn a_camera_that_kills_every_child_gets_ever_fewer_and_one_that_did_so_once_does_not_wait() {
        let mut now = Instant::now();
        let mut rests = Rests::new(now);
        let waits: Vec<u64> = (0..12)
            .map(|_| {
                now += 100 * MS;
                let rest = rests.died(now);
                now += rest;
                rest.as_secs()
            })
            .collect();
        assert_eq!(waits, [0, 0, 0, 0, 1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(rests.died(now + 90_000 * MS), Duration::ZERO);
        let mut once_in_a_while = Rests::new(now);
        assert!((1..100).all(|n| once_in_a_while.died(now + n * 15_000 * MS).is_zero()));
    }

    proptest! {
        #[test]
        fn a_child_that_gives_its_signs_is_never_missed(
            gaps in proptest::collection::vec(0u32..20_000, 1..200), work in 0u32..1_000
        ) {
            // The child's side: a sign for a unit it has done, unless one was given just before.
            let (mut pulse, mut now) = (Pulse::default(), Instant::now());
            let (mut last_sign, mut pending) = (None::<Instant>, Vec::<Instant>::new());
            for gap in gaps {
                let next = now + gap * MS;
                for done in pending.extract_if(.., |done| *done <= next) {
                    if last_sign.is_none_or(|last| done - last >= SIGN) {
                        last_sign = Some(done);
                        pulse.heard(done);
                    }
                }
                now = next;
                prop_assert!(!pulse.hangs(now), "{pulse:?}");
                if pending.is_empty() {
                    pulse.given(now);
                    pending.push(now + work * MS);
                }
            }
        }

        #[test]
        fn rests_are_bounded_and_starts_too(lives in proptest::collection::vec(0u32..30_000, 1..400)) {
            let start = Instant::now();
            let (mut now, mut rests, mut at_once) = (start, Rests::new(start), 0u64);
            for life in lives {
                now += life * MS;
                let rest = rests.died(now);
                prop_assert!(rest <= LONGEST_REST);
                at_once += u64::from(rest.is_zero());
                now += rest;
            }
            prop_assert!(at_once <= u64::from(AT_ONCE) + (now - start).as_secs() / EARNED_AFTER.as_secs());
        }
    }
}
