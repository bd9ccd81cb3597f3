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

    /// The stage's result, or none when it took longer than `at_most` or than there is time.
    pub async fn stage<T>(self, at_most: Duration, stage: impl Future<Output = T>) -> Option<T> {
        let until = self.0.min(Instant::now() + at_most);
        tokio::time::timeout_at(until, stage).await.ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn stages_that_hang_share_one_deadline() {
        let time = Duration::from_millis(60);
        let (ending, began) = (Ending::within(time), Instant::now());
        for _ in 0..20 {
            assert_eq!(ending.stage(Duration::from_millis(50), std::future::pending::<()>()).await, None);
        }
        let took = began.elapsed();
        assert!(took >= time && took < time * 10, "{took:?}: twenty stages of their own would take a second");
        assert_eq!(ending.stage(time, async { 7 }).await, Some(7), "what is ready is not late");
    }
}
