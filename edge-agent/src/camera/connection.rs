//! When to try again. Pure.

use campanile_proto::edge::v1::CameraCondition;
use campanile_proto::time::MonoTime;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(60);
/// Cameras lock an account after a few wrong passwords in a row.
const AFTER_REFUSAL: Duration = Duration::from_secs(30);
/// Of refusals in a row: somebody must change the password first.
const LONGEST_REFUSED: Duration = Duration::from_secs(1800);
/// What a stream must last to count as well again.
const WELL_AFTER: Duration = Duration::from_secs(20);

/// Attempts of one stream.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Connection {
    failures: u32,
}

impl Connection {
    /// The stream ended after it had recorded for so long. How long to wait: doubling from 1 to 60 s, of which
    /// `random` (any number) takes away up to half, so that cameras behind one switch do not come back at once.
    pub fn failed(&mut self, cause: CameraCondition, recorded: Duration, random: u32) -> Duration {
        if recorded >= WELL_AFTER {
            self.failures = 0;
        }
        let doubled = FIRST.saturating_mul(1 << self.failures.min(6)).min(LONGEST);
        self.failures = self.failures.saturating_add(1);
        let longest = match cause {
            CameraCondition::AuthenticationRefused | CameraCondition::UnsupportedCodec => doubled.max(AFTER_REFUSAL),
            _ => doubled,
        };
        jittered(longest, random)
    }
}

/// Refused passwords of one camera, shared by its streams: cameras lock an account after a few wrong ones, whichever
/// stream asked.
#[derive(Debug, Clone, Default)]
pub struct Refusals(Arc<Mutex<Refused>>);

#[derive(Debug, Default)]
struct Refused {
    rounds: u32,
    not_before: Option<MonoTime>,
}

impl Refusals {
    /// The camera refused at `now`: how long to wait, doubling from half a minute to half an hour. The other stream's
    /// refusal in the same round does not count again.
    pub fn refused(&self, now: MonoTime, random: u32) -> Duration {
        let rest = self.rest(now);
        if !rest.is_zero() {
            return rest;
        }
        let mut refused = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let full = AFTER_REFUSAL.saturating_mul(1 << refused.rounds.min(6)).min(LONGEST_REFUSED);
        refused.rounds = refused.rounds.saturating_add(1);
        let wait = jittered(full, random);
        refused.not_before = Some(MonoTime(now.0.saturating_add(i64::try_from(wait.as_micros()).unwrap_or(i64::MAX))));
        wait
    }

    /// How long this camera is not to be asked.
    pub fn rest(&self, now: MonoTime) -> Duration {
        let refused = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let rest = refused.not_before.map_or(0, |until| until - now);
        Duration::from_micros(u64::try_from(rest).unwrap_or(0))
    }

    /// The camera let a stream in.
    pub fn accepted(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Refused::default();
    }
}

fn jittered(longest: Duration, random: u32) -> Duration {
    longest.mul_f64(0.5 + 0.5 * f64::from(random) / f64::from(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const CAUSES: [CameraCondition; 4] = [
        CameraCondition::Unreachable,
        CameraCondition::NoBytes,
        CameraCondition::AuthenticationRefused,
        CameraCondition::UnsupportedCodec,
    ];

    #[test]
    fn waits_double_and_begin_anew_once_a_stream_lasted() {
        let mut connection = Connection::default();
        let mut wait = |recorded| {
            connection.failed(CameraCondition::Unreachable, Duration::from_secs(recorded), u32::MAX).as_secs()
        };
        assert_eq!([wait(0), wait(0), wait(0), wait(5)], [1, 2, 4, 8]);
        assert_eq!([wait(100), wait(0)], [1, 2]);
    }

    #[test]
    fn a_wrong_password_is_tried_ever_less_often_by_both_streams_together() {
        let main = Refusals::default();
        let sub = main.clone();
        let (mut now, mut waits) = (MonoTime(0), Vec::new());
        for _ in 0..9 {
            let wait = main.refused(now, u32::MAX);
            waits.push(wait.as_secs());
            assert_eq!(sub.refused(now, 0), wait, "one round for both");
            assert!(!sub.rest(MonoTime(now.0 + 1)).is_zero());
            now = MonoTime(now.0 + wait.as_micros() as i64);
            assert!(sub.rest(now).is_zero());
        }
        assert_eq!(waits, [30, 60, 120, 240, 480, 960, 1800, 1800, 1800]);
        sub.accepted();
        assert_eq!(main.refused(now, u32::MAX).as_secs(), 30);
    }

    proptest! {
        #[test]
        fn waits_stay_within_their_bounds(
            failures in proptest::collection::vec((0usize..4, 0u64..100, any::<u32>()), 1..100)
        ) {
            let mut connection = Connection::default();
            for (cause, recorded, random) in failures {
                let wait = connection.failed(CAUSES[cause], Duration::from_secs(recorded), random);
                prop_assert!(wait >= FIRST / 2 && wait <= LONGEST);
                prop_assert!(cause < 2 || wait >= AFTER_REFUSAL / 2);
            }
        }
    }
}
