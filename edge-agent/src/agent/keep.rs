//! Services beside the cameras: one that ends or panics before its time is started again, and stops nothing.

use std::future::Future;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Before a service is started again; doubles up to the second value.
const FIRST_REST: Duration = Duration::from_millis(500);
const LONGEST_REST: Duration = Duration::from_secs(60);

/// Keeps what `start` makes running until `stop`.
pub(super) fn keep<F>(
    services: &mut JoinSet<()>,
    name: &'static str,
    stop: &CancellationToken,
    start: impl Fn() -> F + Send + 'static,
) where
    F: Future<Output = ()> + Send + 'static,
{
    let stop = stop.clone();
    services.spawn(async move {
        let mut rest = FIRST_REST;
        while !stop.is_cancelled() {
            let began = Instant::now();
            let mut owned = JoinSet::new();
            owned.spawn(start());
            let ended = owned.join_next().await;
            if stop.is_cancelled() {
                return;
            }
            match ended {
                Some(Err(error)) => tracing::error!(service = name, %error, "a service died and is started again"),
                _ => tracing::error!(service = name, "a service ended by itself and is started again"),
            }
            if began.elapsed() > LONGEST_REST {
                rest = FIRST_REST;
            }
            tokio::select! {
                () = tokio::time::sleep(rest) => {}
                () = stop.cancelled() => return,
            }
            rest = (rest * 2).min(LONGEST_REST);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[tokio::test]
    async fn a_service_that_panics_or_ends_is_started_again_and_the_others_go_on() {
        let (stop, mut services) = (CancellationToken::new(), JoinSet::new());
        let lives = Arc::new(AtomicUsize::new(0));
        let (counted, ends) = (lives.clone(), stop.clone());
        keep(&mut services, "fragile", &stop, move || {
            let (life, ends) = (counted.fetch_add(1, Ordering::SeqCst), ends.clone());
            async move {
                match life {
                    0 => panic!("on purpose"),
                    1 => {}
                    _ => ends.cancelled().await,
                }
            }
        });
        let ends = stop.clone();
        keep(&mut services, "sound", &stop, move || ends.clone().cancelled_owned());
        let third_life = async {
            while lives.load(Ordering::SeqCst) < 3 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), third_life).await.expect("three lives");
        assert_eq!(services.len(), 2);
        stop.cancel();
        while let Some(ended) = services.join_next().await {
            ended.unwrap();
        }
    }
}
