//! What a recorder of a test is made with.

use super::home::Home;
use super::recorder::Setting;
use super::segment::{Disk, OwnDisk, SegmentFile};
use super::store::Store;
use crate::facts::Facts;
use crate::media::stamp::{Belief, Stamper};
use campanile_proto::ids::CameraId;
use campanile_proto::time::{SimClock, WallTime};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Arc, Mutex};
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
        disk: Arc::new(OwnDisk),
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

/// A disk that fails when it is told to, and counts what it is asked.
#[derive(Default, Clone)]
pub struct FailingDisk(Arc<Mutex<Faults>>);

#[derive(Default)]
pub struct Faults {
    /// Error number of every write; half of it is written.
    pub writes: Option<i32>,
    /// Error number of every flush; what was not flushed before is lost, as when the kernel dropped it.
    pub flushes: Option<i32>,
    /// That succeeded.
    pub flushed: usize,
}

impl FailingDisk {
    pub fn set(&self, change: impl FnOnce(&mut Faults)) {
        change(&mut self.0.lock().unwrap());
    }

    pub fn flushed(&self) -> usize {
        self.0.lock().unwrap().flushed
    }
}

impl Disk for FailingDisk {
    fn create(&self, path: &Path) -> std::io::Result<Box<dyn SegmentFile>> {
        let file = File::options().write(true).create_new(true).open(path)?;
        Ok(Box::new(FailingFile { file, faults: self.0.clone(), flushed_bytes: Mutex::new(0) }))
    }
}

struct FailingFile {
    file: File,
    faults: Arc<Mutex<Faults>>,
    flushed_bytes: Mutex<u64>,
}

impl SegmentFile for FailingFile {
    fn append(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        match self.faults.lock().unwrap().writes {
            None => self.file.append(bytes),
            Some(error) => {
                self.file.append(&bytes[..bytes.len() / 2])?;
                Err(std::io::Error::from_raw_os_error(error))
            }
        }
    }

    fn sync(&self) -> std::io::Result<()> {
        let (mut faults, mut flushed) = (self.faults.lock().unwrap(), self.flushed_bytes.lock().unwrap());
        let length = self.file.metadata()?.len();
        if let Some(error) = faults.flushes {
            self.file.write_all_at(&vec![0; (length - *flushed) as usize], *flushed)?;
            return Err(std::io::Error::from_raw_os_error(error));
        }
        *flushed = length;
        faults.flushed += 1;
        Ok(())
    }
}
