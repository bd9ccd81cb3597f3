//! Whether the town has this camera masked: it records nothing until that is taken back, with or without a hub.

use crate::uplink::Wishes;
use campanile_proto::ids::CameraId;
use tokio::sync::watch;

#[derive(Debug, Clone)]
pub struct Masked {
    camera: CameraId,
    wishes: watch::Receiver<Wishes>,
}

impl Masked {
    pub fn new(camera: CameraId, wishes: watch::Receiver<Wishes>) -> Self {
        Self { camera, wishes }
    }

    pub fn is_now(&self) -> bool {
        self.wishes.borrow().masked.contains(&self.camera)
    }

    /// Returns while it is masked.
    pub async fn begins(&mut self) {
        self.becomes(true).await;
    }

    /// Returns while it is not.
    pub async fn ends(&mut self) {
        self.becomes(false).await;
    }

    async fn becomes(&mut self, masked: bool) {
        let camera = self.camera;
        let changed = self.wishes.wait_for(|wishes| wishes.masked.contains(&camera) == masked).await.is_ok();
        if !changed {
            // Nobody wishes anything any more.
            std::future::pending().await
        }
    }
}
