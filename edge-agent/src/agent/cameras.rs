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
    dependencies: Dependencies,
    stop: CancellationToken,
) {
    let span = tracing::info_span!("camera", name = %config.name);
    let life = async move {
        while !stop.is_cancelled() {
            let (its, with) = (config.clone(), dependencies.clone());
            // Off the runtime: GStreamer reads its registry at the first use.
            let made = tokio::task::spawn_blocking(move || Camera::new(its, id, with)).await;
            match made {
                Ok(Ok(camera)) => {
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

/// The hub and the installer see a camera that does not even begin.
fn say_why(config: &CameraConfig, id: CameraId, with: &Dependencies, error: &SuperviseError) {
    let now = with.clock.instant((with.believe)().uncertainty_us);
    let board = Board::new(config, id, with.facts.clone());
    board.set(Stream::Main, error.condition(), &Chain(error).to_string(), now);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::{self, Fact};
    use crate::media::SourceError;
    use crate::media::stamp::Belief;
    use crate::record::home::Home;
    use campanile_proto::edge::v1::CameraCondition;
    use campanile_proto::time::{SimClock, WallTime};

    #[tokio::test]
    async fn a_camera_that_cannot_be_made_is_told_with_its_cause() {
        let (facts, mut received, _) = facts::channel();
        let media = tempfile::tempdir().unwrap();
        let with = Dependencies {
            clock: Arc::new(SimClock::starting_at(WallTime(1))),
            believe: Arc::new(|| Belief { trusted: true, uncertainty_us: 7 }),
            keys: tokio::sync::watch::channel(None).1,
            facts,
            media_dir: media.path().to_owned(),
            home: Home::new(media.path(), media.path()),
            identity: None,
            record_in_clear: true,
            signer: None,
            retention_days: 7,
            full: Arc::default(),
            off_since: None,
            analyser: None,
        };
        let text = "config_version = 1\nname = \"n\"\nstate_dir = \"s\"\nmedia_dir = \"m\"\n[[camera]]\nname = \"porta\"\n\
                    main = \"rtsp://h:554/1\"\n";
        let config = crate::config::Config::parse(text, std::path::Path::new("edge.toml")).unwrap().cameras.remove(0);
        let error = SuperviseError::Media(SourceError::Machine("GStreamer is not installed".into()));
        say_why(&config, CameraId::from_u128(1), &with, &error);
        let Ok(Fact::Camera(state)) = received.try_recv() else { panic!("nothing was told") };
        assert_eq!((state.name.as_str(), state.streams[0].condition()), ("porta", CameraCondition::Unreachable));
        assert!(state.streams[0].detail.contains("GStreamer is not installed"), "{}", state.streams[0].detail);
    }
}
