//! How this box is, told each half minute.

use crate::clock::Timekeeper;
use crate::hardware;
use crate::identity::Identity;
use crate::index::{Index, IndexError, SegmentRow};
use crate::record::retain::Foreseen;
use campanile_proto::edge::v1::{Alarm, AlarmKind, EdgeHealth};
use campanile_proto::ids::CameraId;
use campanile_proto::kind::Chain;
use campanile_proto::time::Clock;
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
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
    /// As configured, those that are gone included.
    pub camera_names: Arc<HashMap<CameraId, String>>,
    pub foreseen: watch::Receiver<Option<Foreseen>>,
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
        let suspect = self.index.suspect_segments().await?;
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
        let foreseen = *self.foreseen.borrow();
        let mut alarms = disk_errors(&suspect, &self.media_dir, &self.camera_names);
        alarms.extend(foreseen.and_then(|foreseen| few_days(&foreseen, &self.media_dir, &self.camera_names)));
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
            days_kept: foreseen.map_or(0.0, |foreseen| foreseen.forecast.days),
            days_agreed: foreseen.map_or(0, |foreseen| foreseen.forecast.agreed),
            alarms,
        };
        self.index.health(edge, health, self.clock.utc()).await
    }
}

/// One alarm a camera, for as long as footage is there that its disk failed to take. `suspect`: oldest first.
fn disk_errors(suspect: &[SegmentRow], media_dir: &Path, names: &HashMap<CameraId, String>) -> Vec<Alarm> {
    let mut of_camera: BTreeMap<CameraId, Vec<&SegmentRow>> = BTreeMap::new();
    for row in suspect {
        of_camera.entry(row.camera).or_default().push(row);
    }
    let alarm = |rows: Vec<&SegmentRow>| {
        let newest = rows.last()?;
        let name = names.get(&newest.camera).cloned().unwrap_or_else(|| newest.camera.to_string());
        let segments = if rows.len() == 1 { "1 segment".to_owned() } else { format!("{} segments", rows.len()) };
        let cause = newest.suspect.as_deref().unwrap_or_default();
        Some(Alarm {
            kind: AlarmKind::DiskError.into(),
            camera_id: newest.camera.into(),
            sentence: format!(
                "the disk at {} failed {segments} of {name}: {cause}; look for its errors in the kernel's log and replace it",
                media_dir.display()
            ),
            at: Some(newest.end.clone()),
        })
    };
    of_camera.into_values().filter_map(alarm).collect()
}

/// An alarm while fewer days are foreseen than were agreed.
fn few_days(foreseen: &Foreseen, media_dir: &Path, names: &HashMap<CameraId, String>) -> Option<Alarm> {
    let Foreseen { forecast, camera } = foreseen;
    let of = |camera: &CameraId| names.get(camera).cloned().unwrap_or_else(|| camera.to_string());
    let (days, agreed) = (forecast.days, forecast.agreed);
    let sentence = match camera {
        Some(camera) => format!(
            "{} will keep {days:.1} days of {agreed} within its max_bytes: raise it, or lower the camera's bit rate",
            of(camera)
        ),
        None => format!(
            "the disk at {} will keep {days:.1} days of {agreed}: give it room, or lower the cameras' bit rates",
            media_dir.display()
        ),
    };
    let camera_id = camera.map(Into::into).unwrap_or_default();
    forecast.is_short().then(|| Alarm { kind: AlarmKind::FewDays.into(), camera_id, sentence, at: None })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::Fact;
    use crate::record::forecast::Forecast;
    use crate::specimen::{NOON, Specimen};
    use campanile_proto::ids::RunId;
    use campanile_proto::time::{MonoTime, WallTime};
    use campanile_proto::types::v1::Stream;

    #[test]
    fn fewer_days_than_agreed_are_an_alarm_that_says_whose_bound_it_is() {
        let camera = CameraId::from_u128(1);
        let names = HashMap::from([(camera, "Piazza".to_owned())]);
        let alarm = |days, camera| {
            let forecast = Forecast { days, agreed: 7, bound_of: None };
            few_days(&Foreseen { forecast, camera }, Path::new("/srv/media"), &names)
        };
        assert_eq!((alarm(7.0, None), alarm(12.0, Some(camera))), (None, None));
        let of_disk = alarm(3.25, None).unwrap();
        assert!(of_disk.sentence.contains("/srv/media will keep 3.2 days of 7") && of_disk.camera_id.is_empty());
        let of_camera = alarm(1.0, Some(camera)).unwrap();
        assert!(of_camera.sentence.starts_with("Piazza will keep 1.0 days of 7"), "{}", of_camera.sentence);
    }

    #[tokio::test]
    async fn a_disk_that_failed_is_named_with_its_camera_until_the_footage_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let index = Index::open(&folder.path().join("index.sqlite")).unwrap();
        let (piazza, scuola) = (CameraId::from_u128(1), CameraId::from_u128(2));
        let mut facts = Vec::new();
        for (camera, start_s) in [(piazza, 0), (piazza, 600), (scuola, 0)] {
            let segment = Specimen::open(camera, Stream::Main, RunId::random(), start_s, 0);
            facts.push(Fact::SegmentOpened {
                segment: segment.id,
                camera,
                stream: Stream::Main,
                path: segment.path(folder.path()),
                header: segment.header.clone(),
                wrapped_key: Default::default(),
            });
            if camera == piazza {
                facts.push(Fact::SegmentSuspect { segment: segment.id, cause: format!("cause {start_s}") });
            }
        }
        index.take(facts, WallTime(NOON), MonoTime(0)).await.unwrap();
        let names = HashMap::from([(piazza, "Piazza".to_owned())]);
        let alarms = async || disk_errors(&index.suspect_segments().await.unwrap(), Path::new("/srv/media"), &names);
        let told = alarms().await;
        assert_eq!(told.len(), 1);
        let (sentence, at) = (&told[0].sentence, told[0].at.as_ref().unwrap());
        assert!(["/srv/media", "2 segments of Piazza", "cause 600"].iter().all(|part| sentence.contains(part)));
        assert_eq!((&told[0].camera_id, at.utc_us), (&piazza.into(), NOON + 600_000_000));
        for row in index.suspect_segments().await.unwrap() {
            index.delete_segment(row.id, "age").await.unwrap();
        }
        assert!(alarms().await.is_empty());
    }
}
