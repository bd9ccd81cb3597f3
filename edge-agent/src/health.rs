//! How this box is, told each half minute.

use crate::clock::Timekeeper;
use crate::hardware;
use crate::identity::Identity;
use crate::index::{Index, IndexError};
use campanile_proto::edge::v1::EdgeHealth;
use campanile_proto::kind::Chain;
use campanile_proto::time::Clock;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

const INTERVAL: Duration = Duration::from_secs(30);

/// Tells it.
#[derive(Clone)]
pub struct Health {
    /// Renewed from time to time.
    pub identity: watch::Receiver<Identity>,
    pub index: Index,
    pub clock: Arc<dyn Clock>,
    pub timekeeper: Arc<Timekeeper>,
    pub media_dir: PathBuf,
    pub analyse_restarts: Arc<AtomicU64>,
}

impl Health {
    pub async fn run(self, stop: CancellationToken) {
        loop {
            if let Err(error) = self.once().await {
                tracing::error!(error = %Chain(&error), "health not reported");
            }
            tokio::select! {
                () = tokio::time::sleep(INTERVAL) => {}
                () = stop.cancelled() => return,
            }
        }
    }

    async fn once(&self) -> Result<(), IndexError> {
        let progress = self.index.progress().await?;
        let media_dir = self.media_dir.clone();
        // A disk that hangs hangs this thread, not the runtime's.
        let board = tokio::task::spawn_blocking(move || {
            (hardware::disk(&media_dir), hardware::resident_bytes(), hardware::load(), hardware::temperature_celsius())
        });
        let (disk, memory_bytes, load, temperature_celsius) = board.await.unwrap_or_default();
        let (source, uncertainty_us) = self.timekeeper.belief();
        let (edge, expires) = {
            let identity = self.identity.borrow();
            (identity.edge, identity.validity().map_or(0, |(_, until)| until))
        };
        let health = EdgeHealth {
            at: Some(self.clock.instant(uncertainty_us)),
            software: concat!("campanile-edge ", env!("CARGO_PKG_VERSION")).to_owned(),
            disk_free_bytes: disk.map_or(0, |disk| disk.free_bytes),
            disk_total_bytes: disk.map_or(0, |disk| disk.total_bytes),
            memory_bytes,
            load,
            outbox_waiting: progress.waiting,
            clock: source.into(),
            clock_uncertainty_us: uncertainty_us,
            analyse_restarts: self.analyse_restarts.load(Ordering::Relaxed),
            certificate_expires_us: u64::try_from(expires).unwrap_or(0) * 1_000_000,
            temperature_celsius,
            acknowledged_through: progress.acknowledged_through,
        };
        self.index.health(edge, health, self.clock.utc()).await
    }
}
