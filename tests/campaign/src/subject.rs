//! The box under test: the real agent behind the shim.

use crate::segments;
use crate::shim::Shim;
use anyhow::{Context, Result, ensure};
use campanile_tests::demo::micros_now;
use campanile_tests::edge_box::EdgeBox;
use campanile_tests::process::Process;
use campanile_tests::roster::{BoxPlan, Camera, Picture};
use campanile_tests::simcam::{Simcam, write_private};
use campanile_tests::until::{until, until_each};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Between two looks at the disk for new footage.
const LOOK: Duration = Duration::from_millis(100);
/// A camera's stream that is not on the disk by then counts as never recorded again.
pub const RECORDS_WITHIN: Duration = Duration::from_secs(60);
const WALKS_WITHIN: Duration = Duration::from_secs(30);
const WALKED: &str = "media folder walked";

pub struct Subject {
    pub edge: EdgeBox,
    /// Main and sub-stream of each camera.
    pub streams: usize,
    walks: usize,
    /// UTC at which the present process was started.
    pub started_us: i64,
}

/// Camera and `main` or `sub`.
pub type StreamName = (String, String);

impl Subject {
    /// A box that records in the clear, without a hub.
    pub fn in_clear(name: &str, cameras: &[Camera], folder: PathBuf, simcam: &Simcam) -> Result<Self> {
        let subject = Self::prepare(name, cameras, folder, simcam)?;
        let config = std::fs::read_to_string(subject.edge.config()).context("cannot read the configuration")?;
        let clear = config.replacen("config_version = 1", "config_version = 1\nrecord_in_clear = true", 1);
        ensure!(clear != config, "the configuration has no version");
        write_private(Path::new(&subject.edge.config()), &clear)?;
        Ok(subject)
    }

    /// A box that is to be enrolled.
    pub fn prepare(name: &str, cameras: &[Camera], folder: PathBuf, simcam: &Simcam) -> Result<Self> {
        std::fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let folder = std::fs::canonicalize(&folder).context("a folder has a path")?;
        let plan = BoxPlan { name: name.to_owned(), cameras: cameras.to_vec() };
        let edge = EdgeBox::prepare(plan, folder, Some(simcam))?;
        Ok(Self { edge, streams: cameras.len() * 2, walks: 0, started_us: 0 })
    }

    pub fn media(&self) -> PathBuf {
        self.edge.folder.join("media")
    }

    pub fn state(&self) -> PathBuf {
        self.edge.folder.join("state")
    }

    /// A shim that watches this box's folders.
    pub fn shim(&self) -> Shim {
        Shim { roots: vec![self.media(), self.state()], ..Shim::default() }
    }

    pub fn start(&mut self, shim: &Shim) -> Result<()> {
        let log = self.edge.folder.join("edge.log");
        self.walks = self.count_walks();
        self.started_us = micros_now()?;
        let arguments = ["run", "--config", &self.edge.config()];
        self.edge.process = Some(Process::start_with("campanile-edge", &arguments, &log, |command| shim.set(command))?);
        Ok(())
    }

    pub fn process(&mut self) -> Result<&mut Process> {
        self.edge.process.as_mut().context("the box does not run")
    }

    fn count_walks(&self) -> usize {
        let log = std::fs::read_to_string(self.edge.folder.join("edge.log")).unwrap_or_default();
        log.matches(WALKED).count()
    }

    /// Waits for the walk of the present process.
    pub fn walked(&mut self) -> Result<()> {
        until("the media folder is walked", WALKS_WITHIN, || {
            self.process().and_then(Process::still_runs).map_err(|error| format!("{error:#}"))?;
            let walks = self.count_walks();
            if walks > self.walks { Ok(()) } else { Err(format!("{walks} walks")) }
        })
    }

    /// Waits until every stream has a fragment of the present process on the disk; gives when each had, after the start.
    pub fn records(&mut self) -> Result<BTreeMap<StreamName, i64>> {
        let since = self.started_us;
        self.records_since(since)
    }

    /// The same of segments that were opened since `since_us`; times count from there.
    pub fn records_since(&mut self, since_us: i64) -> Result<BTreeMap<StreamName, i64>> {
        let mut found: BTreeMap<StreamName, i64> = BTreeMap::new();
        let (streams, media) = (self.streams, self.media());
        until_each(LOOK, "every stream is recorded", RECORDS_WITHIN, || {
            self.process().and_then(Process::still_runs).map_err(|error| format!("{error:#}"))?;
            for stream in begun_since(&media, since_us) {
                let now = micros_now().map_err(|error| error.to_string())?;
                found.entry(stream).or_insert(now - since_us);
            }
            if found.len() == streams { Ok(()) } else { Err(format!("{} of {streams} streams", found.len())) }
        })?;
        Ok(found)
    }

    /// Waits until every stream has footage on the disk that began at or after `since_us`; gives when each had, since then.
    pub fn footage_since(&mut self, since_us: i64) -> Result<BTreeMap<StreamName, i64>> {
        let mut found: BTreeMap<StreamName, i64> = BTreeMap::new();
        let (streams, media) = (self.streams, self.media());
        until_each(LOOK, "every stream is recorded again", RECORDS_WITHIN, || {
            self.process().and_then(Process::still_runs).map_err(|error| format!("{error:#}"))?;
            let now = micros_now().map_err(|error| error.to_string())?;
            for (stream, pieces) in footage(&media) {
                if pieces.last().is_some_and(|(began, _)| *began >= since_us) {
                    found.entry(stream).or_insert(now - since_us);
                }
            }
            if found.len() == streams { Ok(()) } else { Err(format!("{} of {streams} streams", found.len())) }
        })?;
        Ok(found)
    }

    /// Waits for the process's end; false when it goes on.
    pub fn dies_within(&mut self, limit: Duration) -> Result<bool> {
        let process = self.process()?;
        let ended = until("the box dies", limit, || match process.has_ended() {
            Ok(true) => Ok(()),
            Ok(false) => Err("it runs".to_owned()),
            Err(error) => Err(format!("{error:#}")),
        });
        Ok(ended.is_ok())
    }
}

/// Streams with a fragment in a segment that was opened since then.
fn begun_since(media: &Path, since_us: i64) -> Vec<StreamName> {
    let is_new = |path: &PathBuf| {
        let modified = std::fs::metadata(path).and_then(|metadata| metadata.modified());
        let age = modified.ok().and_then(|at| at.duration_since(std::time::UNIX_EPOCH).ok());
        age.is_some_and(|at| at.as_micros() as i64 >= since_us)
    };
    let begun = segments::list(media).into_iter().filter(is_new).filter_map(|path| {
        let stream = segments::stream_of(&path).filter(|(_, stream)| stream != "index")?;
        let whole = segments::read(&std::fs::read(&path).ok()?)?;
        let opened = whole.header.opened.as_ref().map_or(0, |opened| opened.utc_us);
        (opened >= since_us && !whole.pieces.is_empty()).then_some(stream)
    });
    begun.collect()
}

/// Beginning and end of each readable fragment, UTC, by stream.
pub fn footage(media: &Path) -> BTreeMap<StreamName, Vec<(i64, i64)>> {
    let mut found: BTreeMap<StreamName, Vec<(i64, i64)>> = BTreeMap::new();
    for path in segments::list(media) {
        let stream = segments::stream_of(&path).filter(|(_, stream)| stream != "index");
        let whole = std::fs::read(&path).ok().and_then(|bytes| segments::read(&bytes));
        if let (Some(stream), Some(whole)) = (stream, whole) {
            found
                .entry(stream)
                .or_default()
                .extend(whole.pieces.iter().map(|piece| (piece.began_us(), piece.over_us())));
        }
    }
    found.values_mut().for_each(|pieces| pieces.sort_unstable());
    found
}

/// A camera of another simulator, as if it were a real one.
pub fn real(camera: &Camera, simcam: &Simcam) -> Result<Camera> {
    let (served, password) = simcam.camera(&camera.key)?;
    let picture = Picture::Real {
        main: served.main_url.clone(),
        sub: Some(served.sub_url.clone()),
        username: served.username.clone(),
        password: password.to_owned(),
    };
    Ok(Camera { picture, ..camera.clone() })
}

/// Until the wall clock passes `utc_us`.
pub fn pause_until(utc_us: i64) -> Result<()> {
    while let Some(left) = u64::try_from(utc_us - micros_now()?).ok().filter(|left| *left > 0) {
        std::thread::sleep(Duration::from_micros(left));
    }
    Ok(())
}

/// Bytes of the files below a folder.
pub fn used_bytes(folder: &Path) -> u64 {
    let (mut waiting, mut used) = (vec![folder.to_owned()], 0);
    while let Some(folder) = waiting.pop() {
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            match entry.metadata() {
                Ok(metadata) if metadata.is_dir() => waiting.push(entry.path()),
                Ok(metadata) => used += metadata.len(),
                Err(_) => {}
            }
        }
    }
    used
}
