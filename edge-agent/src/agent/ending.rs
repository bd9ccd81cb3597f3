//! The one deadline of an end: each stage takes of what is left.

use std::future::Future;
use std::time::Duration;
use tokio::time::Instant;

/// From the signal to the last byte on disk; with what `main` waits for threads it makes ten seconds, and systemd
/// kills after ninety.
const DEADLINE: Duration = Duration::from_secs(9);

/// An end that has begun.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ending(Instant);

impl Ending {
    pub fn begin() -> Self {
        Self::within(DEADLINE)
    }

    fn within(time: Duration) -> Self {
        Self(Instant::now() + time)
    }

    /// When a stage that begins now is over at the latest.
    fn until(self, now: Instant, at_most: Duration) -> Instant {
        self.0.min(now + at_most)
    }

    /// The stage's result, or none when it took longer than `at_most` or than there is time.
    pub async fn stage<T>(self, at_most: Duration, stage: impl Future<Output = T>) -> Option<T> {
        tokio::time::timeout_at(self.until(Instant::now(), at_most), stage).await.ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stages_that_hang_share_one_deadline() {
        let (began, second) = (Instant::now(), Duration::from_secs(1));
        let ending = Ending(began + 9 * second);
        let mut now = began;
        for _ in 0..20 {
            now = ending.until(now, 5 * second);
        }
        assert_eq!(now - began, 9 * second, "twenty stages of their own would take a hundred seconds");
        assert_eq!(ending.until(began, 2 * second) - began, 2 * second, "a stage has its own bound too");
    }

    #[tokio::test]
    async fn a_stage_that_hangs_is_left_and_what_is_ready_is_not_late() {
        let over = Ending::within(Duration::ZERO);
        assert_eq!(over.stage(DEADLINE, std::future::pending::<()>()).await, None);
        assert_eq!(over.stage(DEADLINE, async { 7 }).await, Some(7));
        assert_eq!(Ending::begin().stage(Duration::ZERO, std::future::pending::<()>()).await, None);
    }
}
