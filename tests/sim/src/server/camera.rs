//! One camera: its streams, its faults.
//!
//! Belongs here: state shared by a camera's clients; pausing, killing and restarting it.
//! Does not belong here: RTSP set-up (`mount`), sending (`feed`).
//! Invariant: clients see one time line, counted from the server's start; faults do not move it.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

use gstreamer_rtsp_server as rtsp;
use gstreamer_rtsp_server::prelude::*;

use super::guests::Guests;
use super::mount;
use crate::config::CameraConfig;
use crate::journal::{Journal, JournalError};
use crate::program::Program;

/// What a camera is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    /// Sending.
    Playing,
    /// Answers, sends nothing.
    Paused,
    /// Dead: does not answer.
    Off,
}

/// A camera's mode and the way to wait for its change.
#[derive(Debug)]
pub(super) struct Gate {
    mode: Mutex<Mode>,
    changed: Condvar,
}

impl Gate {
    pub(super) fn mode(&self) -> MutexGuard<'_, Mode> {
        self.mode.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn changed(&self) -> &Condvar {
        &self.changed
    }

    fn set(&self, mode: Mode) {
        *self.mode() = mode;
        self.changed.notify_all();
    }

    /// Wakes all feeders, so that one whose client left notices. Taking the lock first closes
    /// the window between a feeder's look and its wait.
    pub(super) fn wake(&self) {
        drop(self.mode());
        self.changed.notify_all();
    }
}

/// One stream of a camera.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) camera: String,
    pub(super) kind: &'static str,
    pub(super) program: Program,
    pub(super) journal: Journal,
    pub(super) next_client: AtomicU64,
    /// RTP time of the camera's start: the same for all clients of the stream.
    pub(super) rtp_base: u32,
    pub(super) epoch: Instant,
}

impl Stream {
    /// Position on the time line.
    pub(super) fn now_90k(&self) -> u64 {
        (self.epoch.elapsed().as_nanos() * 9 / 100_000) as u64
    }

    pub(super) fn new_client(&self) -> u64 {
        self.next_client.fetch_add(1, Ordering::Relaxed)
    }
}

/// A camera.
#[derive(Debug)]
pub(super) struct Camera {
    pub(super) name: String,
    pub(super) number: u16,
    pub(super) username: String,
    pub(super) streams: [Arc<Stream>; 2],
    pub(super) gate: Gate,
    pub(super) feeders: Mutex<Vec<JoinHandle<()>>>,
}

impl Camera {
    pub(super) fn new(
        config: &CameraConfig,
        programs: [Program; 2],
        log_dir: &Path,
        epoch: Instant,
    ) -> Result<Camera, JournalError> {
        let [main, sub] = programs;
        let stream = |kind: &'static str, program: Program| {
            let path = log_dir.join(format!("{}.{kind}.log", config.name));
            let (journal, next_client) = Journal::open(&path)?;
            Ok(Arc::new(Stream {
                camera: config.name.clone(),
                kind,
                program,
                journal,
                next_client: AtomicU64::new(next_client),
                // Not nought, so that readers meet offsets as real cameras have them.
                rtp_base: (u32::from(config.number) + 1).wrapping_mul(0x9e37_79b1) ^ kind.len() as u32,
                epoch,
            }))
        };
        Ok(Camera {
            name: config.name.clone(),
            number: config.number,
            username: config.username.clone(),
            streams: [stream("main", main)?, stream("sub", sub)?],
            gate: Gate { mode: Mutex::new(Mode::Playing), changed: Condvar::new() },
            feeders: Mutex::new(Vec::new()),
        })
    }

    pub(super) fn path(&self, stream: &Stream) -> String {
        format!("/{}/{}", self.name, stream.kind)
    }

    pub(super) fn switch_off(&self) {
        self.gate.set(Mode::Off);
    }

    fn feeders(&self) -> MutexGuard<'_, Vec<JoinHandle<()>>> {
        self.feeders.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn keep_feeder(&self, feeder: JoinHandle<()>) {
        let mut feeders = self.feeders();
        feeders.retain(|feeder| !feeder.is_finished());
        feeders.push(feeder);
    }

    pub(super) fn join_feeders(&self) {
        let feeders: Vec<_> = self.feeders().drain(..).collect();
        for feeder in feeders {
            // A panic was printed where it happened; ending goes on.
            let _ = feeder.join();
        }
    }
}

/// Faults of one camera.
#[derive(Debug, Clone)]
pub struct CameraControl {
    camera: Arc<Camera>,
    server: rtsp::RTSPServer,
    guests: Guests,
}

impl CameraControl {
    pub(super) fn new(camera: Arc<Camera>, server: rtsp::RTSPServer, guests: Guests) -> CameraControl {
        CameraControl { camera, server, guests }
    }

    /// RTSP goes on answering, no bytes are sent.
    pub fn pause(&self) {
        self.camera.gate.set(Mode::Paused);
    }

    /// Sends again, from the next key frame of the time line, which went on meanwhile.
    pub fn resume(&self) {
        self.camera.gate.set(Mode::Playing);
    }

    /// The camera dies: its clients' connections are closed, its paths answer 404.
    pub fn kill(&self) {
        self.camera.switch_off();
        if let Some(mounts) = self.server.mount_points() {
            for stream in &self.camera.streams {
                mounts.remove_factory(&self.camera.path(stream));
            }
        }
        self.guests.dismiss(|client| watches(client, &self.camera));
        self.camera.join_feeders();
    }

    /// Comes back on the same port and paths.
    pub fn restart(&self) {
        if let Some(mounts) = self.server.mount_points() {
            mount::add(&mounts, &self.camera);
        }
        self.camera.gate.set(Mode::Playing);
    }
}

fn watches(client: &rtsp::RTSPClient, camera: &Camera) -> bool {
    let paths = camera.streams.each_ref().map(|stream| camera.path(stream));
    let mut found = false;
    client.session_filter(Some(&mut |_, session| {
        session.filter(Some(&mut |_, media| {
            found |= paths.iter().any(|path| media.matches(path).is_some());
            rtsp::RTSPFilterResult::Keep
        }));
        rtsp::RTSPFilterResult::Keep
    }));
    found
}
