//! What a recorder of a test is made with.

use super::home::Home;
use super::recorder::Setting;
use super::store::Store;
use crate::facts::Facts;
use crate::media::stamp::{Belief, Stamper};
use campanile_proto::ids::CameraId;
use campanile_proto::time::{SimClock, WallTime};
use std::path::Path;
use std::sync::Arc;
use tokio::sync::watch;

/// Records in clear, on a clock that stands still.
pub fn in_clear(media: &Path, camera: CameraId, facts: Facts) -> Setting {
    let clock = Arc::new(SimClock::starting_at(WallTime(crate::specimen::NOON)));
    on(clock, media, camera, facts)
}

/// Records in clear, on the test's clock.
pub fn on(clock: Arc<SimClock>, media: &Path, camera: CameraId, facts: Facts) -> Setting {
    Setting {
        camera,
        store: Store::new(media.to_owned(), Home::new(media, media)),
        stamper: Stamper::new(clock, Arc::new(|| Belief { trusted: true, uncertainty_us: 7 })),
        keys: watch::channel(None).1,
        identity: None,
        record_in_clear: true,
        retention_days: 7,
        signer: None,
        facts,
        full: Arc::default(),
    }
}
