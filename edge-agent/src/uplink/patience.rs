//! How long to wait before the next session. Pure.

use super::UplinkError;
use std::time::Duration;

const MIN_WAIT: Duration = Duration::from_secs(1);
/// A thousand boxes whose hub comes back are all there within this.
const MAX_WAIT: Duration = Duration::from_secs(15);
/// A session that lasted this long behind its welcome was a good one. Dialling does not count: a hub that answers
/// late and refuses is not well.
const GOOD_SESSION: Duration = Duration::from_secs(5);

/// Attempts in a row that came to nothing.
#[derive(Debug, Default)]
pub(super) struct Patience {
    failures: u32,
}

impl Patience {
    /// The session ended, `lasted` after the hub's welcome, if it said one. Doubles up to the longest wait, of which
    /// `random` (any number) takes away up to half, so that boxes do not come back in step after a hub's restart.
    pub fn wait(&mut self, lasted: Option<Duration>, error: &UplinkError, random: u32) -> Duration {
        let full = match error {
            UplinkError::RenewalDue | UplinkError::IndexMadeAnew => return Duration::ZERO,
            UplinkError::Goodbye(_) => MAX_WAIT,
            _ if lasted.is_some_and(|lasted| lasted >= GOOD_SESSION) => {
                self.failures = 0;
                MIN_WAIT
            }
            _ => {
                let full = MIN_WAIT.saturating_mul(1 << self.failures.min(5)).min(MAX_WAIT);
                self.failures = self.failures.saturating_add(1);
                full
            }
        };
        full.mul_f64(0.5 + 0.5 * f64::from(random) / f64::from(u32::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn lost() -> UplinkError {
        UplinkError::NoWelcome(20)
    }

    #[test]
    fn a_hub_that_lets_every_session_die_at_its_welcome_is_left_alone_more_and_more() {
        let mut patience = Patience::default();
        let mut wait =
            |lasted: Option<u64>| patience.wait(lasted.map(Duration::from_secs), &lost(), u32::MAX).as_secs();
        assert_eq!([wait(None), wait(Some(0)), wait(Some(4)), wait(None), wait(None)], [1, 2, 4, 8, 15]);
        assert_eq!([wait(Some(5)), wait(None)], [1, 1]);
    }

    #[test]
    fn a_certificate_is_renewed_at_once_and_a_goodbye_waits_longest() {
        let mut patience = Patience::default();
        assert_eq!(patience.wait(Some(Duration::from_secs(9)), &UplinkError::RenewalDue, 0), Duration::ZERO);
        assert_eq!(patience.wait(None, &UplinkError::Goodbye("revoked".into()), u32::MAX), MAX_WAIT);
        assert_eq!(patience.wait(None, &UplinkError::Goodbye("revoked".into()), 0), MAX_WAIT / 2);
    }

    proptest! {
        #[test]
        fn waits_stay_within_their_bounds_whatever_happens(
            ends in proptest::collection::vec((proptest::option::of(0u64..20), any::<u32>()), 1..80)
        ) {
            let mut patience = Patience::default();
            for (lasted, random) in ends {
                let wait = patience.wait(lasted.map(Duration::from_secs), &lost(), random);
                prop_assert!(wait >= MIN_WAIT / 2 && wait <= MAX_WAIT);
            }
        }
    }
}
