//! The cameras' tasks, each on its own: one that dies is started again and slows nobody.

use crate::config::CameraConfig;
use crate::supervise::{Camera, Dependencies};
use campanile_proto::ids::CameraId;
use campanile_proto::kind::Chain;
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
            match Camera::new(config.clone(), id, dependencies.clone()) {
                Ok(camera) => {
                    // Owned: whoever aborts this life ends the camera with it.
                    let mut owned = JoinSet::new();
                    owned.spawn(camera.run(stop.clone()).in_current_span());
                    match owned.join_next().await {
                        _ if stop.is_cancelled() => return,
                        Some(Err(error)) => tracing::error!(%error, "camera task died"),
                        _ => tracing::error!("camera task ended by itself"),
                    }
                }
                Err(error) => tracing::error!(error = %Chain(&error), "camera cannot be started"),
            }
            tokio::select! {
                () = tokio::time::sleep(AGAIN_AFTER) => {}
                () = stop.cancelled() => {}
            }
        }
    };
    tasks.spawn(life.instrument(span));
}
