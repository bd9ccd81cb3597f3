//! When to try again. Pure.

use campanile_proto::edge::v1::CameraCondition;
use std::time::Duration;

const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(60);
/// Cameras lock an account after a few wrong passwords in a row.
const AFTER_REFUSAL: Duration = Duration::from_secs(30);
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
        longest.mul_f64(0.5 + 0.5 * f64::from(random) / f64::from(u32::MAX))
    }
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
