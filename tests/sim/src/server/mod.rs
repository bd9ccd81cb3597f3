//! RTSP servers that behave like cameras.
//!
//! Belongs here: serving programs over RTSP with digest authentication, one live time line for
//! all clients of a camera, faults that a test asks for.
//! Does not belong here: what is played (`program`), configuration files (`config`).
//! Invariant: each client has its own threads, so a slow one delays nobody; what a client is
//! sent is in the log before.

mod camera;
mod feed;
mod guests;
mod mount;

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Instant;

use gstreamer as gst;
use gstreamer::glib;
use gstreamer_rtsp_server as rtsp;
use gstreamer_rtsp_server::prelude::*;
use serde::{Deserialize, Serialize};
use thiserror::Error;

pub use camera::CameraControl;

use crate::config::{CameraConfig, SimConfig};
use crate::journal::JournalError;
use crate::program::{self, Program, ProgramError};
use camera::Camera;
use guests::Guests;

/// Why the cameras cannot serve.
#[derive(Debug, Error)]
pub enum ServerError {
    /// GStreamer cannot be used.
    #[error("cannot initialise GStreamer")]
    Initialise(#[source] glib::Error),
    /// A folder cannot be made.
    #[error("cannot make folder {path}")]
    Folder {
        /// The folder.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A camera has nothing to play.
    #[error("cannot prepare camera {camera}")]
    Prepare {
        /// Its name.
        camera: String,
        /// The reason.
        source: ProgramError,
    },
    /// A log cannot be opened.
    #[error("cannot log camera {camera}")]
    Log {
        /// Its name.
        camera: String,
        /// The reason.
        source: JournalError,
    },
    /// The address is taken or not ours.
    #[error("cannot listen on {listen}")]
    Listen {
        /// The address.
        listen: SocketAddr,
    },
    /// A thread cannot be started.
    #[error("cannot start a thread")]
    Thread(#[source] std::io::Error),
    /// The RTSP server refuses its own parts.
    #[error("cannot set up the RTSP server: {part} is missing")]
    SetUp {
        /// What.
        part: &'static str,
    },
    /// The ready file.
    #[error("cannot write {path}")]
    Ready {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
}

/// Where a camera is served; a list of these is the ready file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServedCamera {
    /// Name and path.
    pub name: String,
    /// Number in the strip.
    pub number: u16,
    /// Main stream, without credentials.
    pub main_url: String,
    /// Sub-stream, without credentials.
    pub sub_url: String,
    /// Who may read it.
    pub username: String,
}

/// Running cameras. Dropping it ends them.
#[derive(Debug)]
pub struct SimServer {
    address: SocketAddr,
    server: rtsp::RTSPServer,
    cameras: Vec<Arc<Camera>>,
    guests: Guests,
    context: glib::MainContext,
    main_loop: glib::MainLoop,
    listening: Option<glib::SourceId>,
    thread: Option<JoinHandle<()>>,
}

/// Sessions of UDP clients that went away are looked for this often.
const CLEANUP_S: u32 = 2;

impl SimServer {
    /// Prepares all programs (rendering what is not cached), then serves. Returns when every
    /// camera answers; writes the ready file if one is configured.
    pub fn start(config: SimConfig) -> Result<SimServer, ServerError> {
        gst::init().map_err(ServerError::Initialise)?;
        for path in [&config.log_dir, &config.cache_dir] {
            std::fs::create_dir_all(path).map_err(|source| ServerError::Folder { path: path.clone(), source })?;
        }
        let programs = prepare_all(&config)?;
        let epoch = Instant::now();
        let mut cameras = Vec::new();
        for (camera, programs) in config.cameras.iter().zip(programs) {
            let made = Camera::new(camera, programs, &config.log_dir, epoch)
                .map_err(|source| ServerError::Log { camera: camera.name.clone(), source })?;
            cameras.push(Arc::new(made));
        }
        let server = rtsp::RTSPServer::new();
        server.set_address(&config.listen.ip().to_string());
        server.set_service(&config.listen.port().to_string());
        server.set_auth(Some(&mount::authentication(&config.cameras)));
        let pool = rtsp::RTSPThreadPool::new();
        // Unlimited: a thread for each client. One for all lets a slow client stall the others.
        pool.set_max_threads(-1);
        server.set_thread_pool(Some(&pool));
        let mounts = server.mount_points().ok_or(ServerError::SetUp { part: "mount points" })?;
        for camera in &cameras {
            mount::add(&mounts, camera);
        }
        let running = SimServer::listen(config.listen, server, cameras)?;
        if let Some(path) = &config.ready_file {
            running.write_ready(path)?;
        }
        Ok(running)
    }

    fn listen(
        listen: SocketAddr,
        server: rtsp::RTSPServer,
        cameras: Vec<Arc<Camera>>,
    ) -> Result<SimServer, ServerError> {
        let context = glib::MainContext::new();
        let guests = Guests::default();
        guests.welcome(&server);
        let listening = server.attach(Some(&context)).map_err(|_| ServerError::Listen { listen })?;
        let port = u16::try_from(server.bound_port()).map_err(|_| ServerError::Listen { listen })?;
        if let Some(pool) = server.session_pool() {
            let cleanup = glib::timeout_source_new_seconds(CLEANUP_S, None, glib::Priority::DEFAULT, move || {
                pool.cleanup();
                glib::ControlFlow::Continue
            });
            cleanup.attach(Some(&context));
        }
        let main_loop = glib::MainLoop::new(Some(&context), false);
        let looping = main_loop.clone();
        let thread = std::thread::Builder::new()
            .name("simcam-accept".into())
            .spawn(move || looping.run())
            .map_err(ServerError::Thread)?;
        Ok(SimServer {
            address: SocketAddr::new(listen.ip(), port),
            server,
            cameras,
            guests,
            context,
            main_loop,
            listening: Some(listening),
            thread: Some(thread),
        })
    }

    /// The address that was bound.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where the cameras are.
    pub fn cameras(&self) -> Vec<ServedCamera> {
        self.cameras
            .iter()
            .map(|camera| ServedCamera {
                name: camera.name.clone(),
                number: camera.number,
                main_url: self.url(&camera.name, "main"),
                sub_url: self.url(&camera.name, "sub"),
                username: camera.username.clone(),
            })
            .collect()
    }

    /// URL of a stream (`main` or `sub`), without credentials.
    pub fn url(&self, camera: &str, stream: &str) -> String {
        let host = match self.address.ip() {
            IpAddr::V4(ip) => ip.to_string(),
            IpAddr::V6(ip) => format!("[{ip}]"),
        };
        format!("rtsp://{host}:{}/{camera}/{stream}", self.address.port())
    }

    /// Faults of a camera; `None` for an unknown name.
    pub fn camera(&self, name: &str) -> Option<CameraControl> {
        let camera = self.cameras.iter().find(|camera| camera.name == name)?;
        Some(CameraControl::new(camera.clone(), self.server.clone(), self.guests.clone()))
    }

    /// Ends every client and closes the port. Dropping does the same.
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        let Some(thread) = self.thread.take() else {
            return;
        };
        if let Some(source) = self.listening.take().and_then(|id| self.context.find_source_by_id(&id)) {
            source.destroy();
        }
        for camera in &self.cameras {
            camera.switch_off();
        }
        self.guests.dismiss(|_| true);
        if let Some(pool) = self.server.session_pool() {
            // UDP sessions outlive their connection.
            pool.filter(Some(&mut |_, _| rtsp::RTSPFilterResult::Remove));
        }
        // From inside the loop: quitting a loop that has not begun to run is forgotten.
        let main_loop = self.main_loop.clone();
        let quit = glib::idle_source_new(None, glib::Priority::DEFAULT, move || {
            main_loop.quit();
            glib::ControlFlow::Break
        });
        quit.attach(Some(&self.context));
        // A panicking accept loop has nothing left to end.
        let _ = thread.join();
        for camera in &self.cameras {
            camera.join_feeders();
        }
    }

    fn write_ready(&self, path: &std::path::Path) -> Result<(), ServerError> {
        let ready = |source| ServerError::Ready { path: path.to_owned(), source };
        let text = serde_json::to_vec_pretty(&self.cameras()).map_err(|error| ready(error.into()))?;
        let aside = path.with_extension(format!("tmp{}", std::process::id()));
        std::fs::write(&aside, text).map_err(ready)?;
        std::fs::rename(&aside, path).map_err(ready)
    }
}

impl Drop for SimServer {
    fn drop(&mut self) {
        self.end();
    }
}

/// Prepares as many cameras at a time as there are processors.
fn prepare_all(config: &SimConfig) -> Result<Vec<[Program; 2]>, ServerError> {
    let at_once = std::thread::available_parallelism().map_or(1, usize::from);
    let prepare = |camera: &CameraConfig| {
        program::prepare(&camera.source, camera.codec, &config.cache_dir)
            .map_err(|source| ServerError::Prepare { camera: camera.name.clone(), source })
    };
    let mut programs = Vec::new();
    for group in config.cameras.chunks(at_once) {
        let made: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = group.iter().map(|camera| scope.spawn(|| prepare(camera))).collect();
            threads
                .into_iter()
                .map(|thread| thread.join().unwrap_or(Err(ServerError::SetUp { part: "a rendering thread" })))
                .collect()
        });
        for program in made {
            programs.push(program?);
        }
    }
    Ok(programs)
}
