//! Who records: Campanile's box, and what others would use.

use crate::peers;
use anyhow::{Context, Result, ensure};
use campanile_tests::process::Process;
use campanile_tests::rig::{Rig, SOON, one_box, wait_for_edge};
use campanile_tests::roster::Camera;
use campanile_tests::town::Town;
use campanile_tests::until::until;
use nix::unistd::Pid;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Contender {
    /// Sealed recording, durable each second, motion and events at a hub.
    Campanile,
    /// `ffmpeg -c copy -f segment`, a process a camera.
    Ffmpeg,
    /// `gst-launch-1.0 … splitmuxsink`, a process a camera.
    Splitmux,
    /// Debian's `motion` on the sub-streams: motion alone, one process.
    Motion,
    /// The main stream copied, Frigate's motion stage on the sub-stream.
    FrigateLike,
}

impl Contender {
    pub const RECORDING: [Self; 3] = [Self::Campanile, Self::Ffmpeg, Self::Splitmux];
    pub const WITH_MOTION: [Self; 4] = [Self::Campanile, Self::Ffmpeg, Self::Motion, Self::FrigateLike];

    pub fn name(self) -> &'static str {
        match self {
            Self::Campanile => "campanile-edge",
            Self::Ffmpeg => "ffmpeg -c copy -f segment",
            Self::Splitmux => "gst-launch splitmuxsink",
            Self::Motion => "motion, sub-stream alone",
            Self::FrigateLike => "ffmpeg copy + Frigate's motion stage",
        }
    }

    /// Records both streams of every camera that `rig` serves.
    pub fn start(self, rig: &Rig, cameras: &[Camera]) -> Result<Running> {
        let folder = rig.path("recorded");
        std::fs::create_dir_all(&folder).context("cannot make the folder to record to")?;
        let mut running = Running { town: None, others: Vec::new(), folder };
        match self {
            Self::Campanile => {
                let town = rig.running_town("prato", one_box("cabinet", cameras))?;
                running.folder = town.boxes[0].folder.join("media");
                wait_for_edge(&town, "cabinet", "connected", |row| row["connected"] == true)?;
                running.town = Some(town);
            }
            Self::Motion => running.others.push(peers::motion(rig, cameras, &running.folder)?),
            Self::FrigateLike => {
                for camera in cameras {
                    running.others.extend(peers::frigate_like(rig, camera, &running.folder)?);
                }
            }
            Self::Ffmpeg | Self::Splitmux => {
                for camera in cameras {
                    running.others.push(self.start_other(rig, camera, &running.folder)?);
                }
            }
        }
        let wanted = cameras.len() * self.streams_recorded();
        until("every stream is recorded", SOON, || match files(&running.folder).len() {
            found if found >= wanted => Ok(()),
            found => Err(format!("{found} of {wanted} files")),
        })?;
        Ok(running)
    }

    /// Of each camera, from the start.
    fn streams_recorded(self) -> usize {
        match self {
            Self::Campanile | Self::Ffmpeg | Self::Splitmux => 2,
            Self::FrigateLike => 1,
            Self::Motion => 0,
        }
    }

    fn start_other(self, rig: &Rig, camera: &Camera, folder: &Path) -> Result<Process> {
        let (served, password) = rig.simcam.camera(&camera.key)?;
        let out = |stream: &str, ending: &str| format!("{}/{}-{stream}-{ending}", folder.display(), camera.key);
        let arguments: Vec<String> = match self {
            Self::Ffmpeg => {
                let source = |url: &str| url.replace("rtsp://", &format!("rtsp://{}:{password}@", served.username));
                let mut all: Vec<String> = ["-nostdin", "-loglevel", "error"].map(str::to_owned).to_vec();
                for url in [&served.main_url, &served.sub_url] {
                    all.extend(["-rtsp_transport", "tcp", "-i", &source(url)].map(str::to_owned));
                }
                for (map, stream) in [("0:v", "main"), ("1:v", "sub")] {
                    let to = out(stream, "%03d.mp4");
                    let copy = ["-map", map, "-c", "copy", "-f", "segment", "-segment_time", "60"];
                    all.extend(copy.iter().chain(&["-reset_timestamps", "1", to.as_str()]).map(|&one| one.to_owned()));
                }
                all
            }
            _ => {
                let chain = |url: &str, stream: &str| {
                    format!(
                        "rtspsrc protocols=tcp location={url} user-id={} user-pw={password} ! rtph264depay ! \
                         h264parse ! splitmuxsink max-size-time=60000000000 location={}",
                        served.username,
                        out(stream, "%03d.mp4")
                    )
                };
                let both = format!("{} {}", chain(&served.main_url, "main"), chain(&served.sub_url, "sub"));
                both.split_whitespace().map(str::to_owned).collect()
            }
        };
        let program = if self == Self::Ffmpeg { "ffmpeg" } else { "gst-launch-1.0" };
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        Process::start_other(program, &arguments, &rig.path(&format!("{}.log", camera.key)))
    }
}

/// Processor time of all analysing children since they began.
#[derive(Debug, Clone, Copy, Default)]
pub struct Analysed {
    decode_us: u64,
    look_us: u64,
}

impl Analysed {
    pub fn decode_share(&self) -> f64 {
        self.decode_us as f64 / (self.decode_us + self.look_us).max(1) as f64
    }

    pub fn look_share(&self) -> f64 {
        self.look_us as f64 / (self.decode_us + self.look_us).max(1) as f64
    }
}

/// A contender at work; ended with this.
pub struct Running {
    town: Option<Town>,
    others: Vec<Process>,
    folder: PathBuf,
}

impl Running {
    /// The processes that record, without their descendants.
    pub fn processes(&self) -> Result<Vec<Pid>> {
        let boxes = self.town.iter().flat_map(|town| &town.boxes).filter_map(|edge| edge.process.as_ref());
        let pids = boxes.chain(&self.others).map(Process::pid);
        pids.map(|pid| Ok(Pid::from_raw(i32::try_from(pid).context("a process id fits i32")?))).collect()
    }

    /// What the box says of its analysis; zeros for others.
    pub fn analysed(&self) -> Result<Analysed> {
        let Some(edge) = self.town.as_ref().and_then(|town| town.boxes.first()) else { return Ok(Analysed::default()) };
        let log = edge.process.as_ref().context("the box runs")?.log();
        let mut newest = BTreeMap::new();
        for line in log.lines().filter(|line| line.contains(" analysis took ")) {
            let value = |key: &str| line.split(' ').find_map(|word| word.strip_prefix(key));
            let number = |key: &str| value(key)?.parse::<u64>().ok();
            if let (Some(camera), Some(decode), Some(look)) =
                (value("camera="), number("decode_us="), number("look_us="))
            {
                newest.insert(camera, (decode, look));
            }
        }
        ensure!(
            !newest.is_empty(),
            "the box says nothing of its analysis; set CAMPANILE_LOG=info,edge_agent::analyse=debug"
        );
        let sum = newest.values().fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
        Ok(Analysed { decode_us: sum.0, look_us: sum.1 })
    }

    pub fn end(mut self) -> Result<()> {
        for process in &mut self.others {
            process.still_runs()?;
            process.kill()?;
        }
        match &mut self.town {
            Some(town) => town.end(),
            None => Ok(()),
        }
    }
}

/// Files below `folder` that hold something of a video stream.
fn files(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths
        .into_iter()
        .flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] })
        .filter(|path| !path.components().any(|part| part.as_os_str() == "index"))
        .filter(|path| path.metadata().is_ok_and(|metadata| metadata.len() > 0))
        .collect()
}
