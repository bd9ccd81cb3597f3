//! The cameras' tasks, each on its own: one that dies is started again and slows nobody.

use crate::camera::board::Board;
use crate::config::CameraConfig;
use crate::supervise::{Camera, Dependencies, SuperviseError};
use campanile_proto::ids::CameraId;
use campanile_proto::kind::Chain;
use campanile_proto::types::v1::Stream;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

/// Before a camera's task that panicked is started again.
const AGAIN_AFTER: Duration = Duration::from_secs(2);

/// Starts one camera and keeps it running until `stop`.
pub fn start(
    tasks: &mut JoinSet<()>,
    config: Arc<CameraConfig>,
    id: CameraId,
    mut dependencies: Dependencies,
    stop: CancellationToken,
) {
    let span = tracing::info_span!("camera", name = %config.name);
    let life = async move {
        while !stop.is_cancelled() {
            let (its, with) = (config.clone(), dependencies.clone());
            // Off the runtime: it reads the disk.
            let made = tokio::task::spawn_blocking(move || Camera::new(its, id, with)).await;
            match made {
                Ok(Ok(camera)) => {
                    dependencies = for_the_next_life(dependencies);
                    // Owned: whoever aborts this life ends the camera with it.
                    let mut owned = JoinSet::new();
                    owned.spawn(camera.run(stop.clone()).in_current_span());
                    match owned.join_next().await {
                        _ if stop.is_cancelled() => return,
                        Some(Err(error)) => tracing::error!(%error, "camera task died"),
                        _ => tracing::error!("camera task ended by itself"),
                    }
                }
                Ok(Err(error)) => {
                    tracing::error!(error = %Chain(&error), "camera cannot be started");
                    say_why(&config, id, &dependencies, &error);
                }
                Err(error) => tracing::error!(%error, "camera could not be made"),
            }
            tokio::select! {
                () = tokio::time::sleep(AGAIN_AFTER) => {}
                () = stop.cancelled() => {}
            }
        }
    };
    tasks.spawn(life.instrument(span));
}

/// The box was off once, before the first life.
fn for_the_next_life(dependencies: Dependencies) -> Dependencies {
    Dependencies { off_since: None, ..dependencies }
}

/// The hub and the installer see a camera that does not even begin.
fn say_why(config: &CameraConfig, id: CameraId, with: &Dependencies, error: &SuperviseError) {
    let now = with.clock.instant((with.believe)().uncertainty_us);
    let board = Board::new(config, id, with.facts.clone());
    board.set(Stream::Main, error.condition(), &Chain(error).to_string(), now);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::{self, Fact, Facts};
    use crate::media::SourceError;
    use crate::media::stamp::Belief;
    use crate::record::home::Home;
    use campanile_proto::edge::v1::CameraCondition;
    use campanile_proto::time::{SimClock, WallTime};
    use campanile_proto::types::v1::Instant;
    use std::sync::atomic::{AtomicBool, Ordering};

    fn dependencies(
        media: &std::path::Path,
        clock: Arc<SimClock>,
        facts: Facts,
        asked: impl Fn() + Send + Sync + 'static,
    ) -> Dependencies {
        Dependencies {
            clock,
            believe: Arc::new(move || {
                asked();
                Belief { trusted: true, uncertainty_us: 7 }
            }),
            keys: tokio::sync::watch::channel(None).1,
            facts,
            media_dir: media.to_owned(),
            home: Home::new(media, media),
            identity: None,
            record_in_clear: true,
            signer: None,
            retention_days: 7,
            full: Arc::default(),
            wishes: tokio::sync::watch::channel(Default::default()).1,
            gaps: Default::default(),
            off_since: None,
            analyser: None,
        }
    }

    fn porta(host: &str) -> CameraConfig {
        let text = format!(
            "config_version = 1\nname = \"n\"\nstate_dir = \"s\"\nmedia_dir = \"m\"\n[[camera]]\nname = \"porta\"\n\
             main = \"rtsp://{host}/1\"\n"
        );
        crate::config::Config::parse(&text, std::path::Path::new("edge.toml")).unwrap().cameras.remove(0)
    }

    #[tokio::test]
    async fn a_camera_task_that_is_started_again_does_not_say_that_the_box_was_off() {
        let (facts, mut received, _) = facts::channel();
        let media = tempfile::tempdir().unwrap();
        let clock = Arc::new(SimClock::starting_at(WallTime(crate::specimen::NOON)));
        let dies = Arc::new(AtomicBool::new(false));
        let asked = {
            let dies = dies.clone();
            move || assert!(!dies.swap(false, Ordering::SeqCst), "on purpose")
        };
        let mut with = dependencies(media.path(), clock.clone(), facts, asked);
        with.off_since = Some(Instant::default());
        // Taken and given back: nobody listens there.
        let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let (mut tasks, stop) = (JoinSet::new(), CancellationToken::new());
        start(&mut tasks, Arc::new(porta(&nobody.to_string())), CameraId::from_u128(1), with, stop.clone());
        let mut next = async || {
            let fact = tokio::time::timeout(Duration::from_secs(20), received.recv()).await;
            fact.expect("nothing more is told").unwrap()
        };
        let is_off = |fact: &Fact| matches!(fact, Fact::Gap { gap, .. } if gap.cause() == CameraCondition::EdgeOff);
        while !is_off(&next().await) {}
        dies.store(true, Ordering::SeqCst);
        clock.advance_micros(2_000_000);
        let is = |fact: &Fact, wanted| matches!(fact, Fact::Camera(state) if state.streams[0].condition() == wanted);
        // A life begins with it.
        while !is(&next().await, CameraCondition::Connecting) {}
        loop {
            let fact = next().await;
            assert!(!is_off(&fact), "{fact:?}");
            if is(&fact, CameraCondition::Unreachable) {
                break;
            }
        }
        stop.cancel();
        while tasks.join_next().await.is_some() {}
    }

    #[tokio::test]
    async fn a_camera_that_cannot_be_made_is_told_with_its_cause() {
        let (facts, mut received, _) = facts::channel();
        let media = tempfile::tempdir().unwrap();
        let clock = Arc::new(SimClock::starting_at(WallTime(1)));
        let with = dependencies(media.path(), clock, facts, || {});
        let config = porta("h:554");
        let error = SuperviseError::Media(SourceError::Machine("GStreamer is not installed".into()));
        say_why(&config, CameraId::from_u128(1), &with, &error);
        let Ok(Fact::Camera(state)) = received.try_recv() else { panic!("nothing was told") };
        assert_eq!((state.name.as_str(), state.streams[0].condition()), ("porta", CameraCondition::Unreachable));
        assert!(state.streams[0].detail.contains("GStreamer is not installed"), "{}", state.streams[0].detail);
    }
}
