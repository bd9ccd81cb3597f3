//! What a camera plays: made once, kept in the cache.
//!
//! Belongs here: turning a scene or a file into a main and a sub-stream, and finding them again.
//! Does not belong here: sending them (`server`), encoding itself (`encode`).
//! Invariant: a cached file is complete (written aside, then renamed) and its name depends on
//! everything that its content depends on; processes may share a cache.

use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use sha2::{Digest as _, Sha256};
use thiserror::Error;
use tracing::info;

use crate::demux::{self, Clip, DemuxError};
use crate::encode::{self, EncodeError, Encoder, Format};
use crate::scene::truth::Truth;
use crate::scene::{Renderer, SCENE_VERSION, SceneParams};
use crate::timeline::Timeline;
use crate::units::Codec;

/// Why a camera has nothing to play.
#[derive(Debug, Error)]
pub enum ProgramError {
    /// The cache folder or a file in it.
    #[error("cannot write {path}")]
    Cache {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The clip cannot be looked at.
    #[error("cannot look at {path}")]
    Look {
        /// The clip.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// Encoding failed.
    #[error("cannot make a stream")]
    Encode(#[source] EncodeError),
    /// A stream cannot be read.
    #[error("cannot read a stream")]
    Demux(#[source] DemuxError),
    /// Nothing can start.
    #[error("{path} has no key frame")]
    NoKeyFrame {
        /// The clip.
        path: PathBuf,
    },
    /// The configuration says otherwise.
    #[error("{path} is {found:?}, not {wanted:?}")]
    OtherCodec {
        /// The clip.
        path: PathBuf,
        /// What it is.
        found: Codec,
        /// What was asked.
        wanted: Codec,
    },
}

/// Where a camera's pictures come from.
#[derive(Debug, Clone, PartialEq)]
pub enum Source {
    /// A generated scene.
    Scene(SceneParams),
    /// A video file, and one for the sub-stream.
    File {
        /// Main stream.
        main: PathBuf,
        /// Sub-stream; made from the main stream when absent.
        sub: Option<PathBuf>,
    },
}

/// Files of a rendered scene.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rendered {
    /// MP4.
    pub main: PathBuf,
    /// MP4.
    pub sub: PathBuf,
    /// [`Truth`] as JSON.
    pub truth: PathBuf,
}

/// One stream, ready to be sent.
#[derive(Debug, Clone)]
pub struct Program {
    /// Caps of the access units.
    pub clip: Clip,
    /// When each is due.
    pub timeline: Timeline,
}

const SUB_LINES: u32 = 360;
/// 1.8 Mbit/s at 720p15 and in proportion elsewhere: what cameras of that size are set to.
const MAIN_BITS_PER_PIXEL: f64 = 0.13;
/// 300 kbit/s at 640x360 and 7.5 frames/s.
const SUB_BITS_PER_PIXEL: f64 = 0.174;
/// The strip has to survive in small pictures too.
const LEAST_KBIT_PER_S: u32 = 150;

fn rate(bits: f64, width: u32, height: u32, fps: f64) -> u32 {
    ((bits * f64::from(width) * f64::from(height) * fps / 1_000.0) as u32).max(LEAST_KBIT_PER_S)
}

/// Encodings of a scene: main with a key frame every 2 s, sub every second.
fn formats(params: &SceneParams, codec: Codec) -> (Format, Format) {
    let fps = f64::from(params.main_fps);
    let sub_fps = fps / f64::from(params.sub_every);
    let main = Format {
        codec,
        width: params.main_width,
        height: params.main_height,
        fps: (params.main_fps, 1),
        kbit_per_s: rate(MAIN_BITS_PER_PIXEL, params.main_width, params.main_height, fps),
        gop: params.main_fps * 2,
    };
    let sub = Format {
        width: params.sub_width,
        height: params.sub_height,
        fps: (params.main_fps, params.sub_every),
        kbit_per_s: rate(SUB_BITS_PER_PIXEL, params.sub_width, params.sub_height, sub_fps),
        gop: (sub_fps.round() as u32).max(1),
        ..main.clone()
    };
    (main, sub)
}

/// Renders and encodes a scene into `cache`, or finds it there.
pub fn render(params: &SceneParams, codec: Codec, cache: &Path) -> Result<Rendered, ProgramError> {
    let (main_format, sub_format) = formats(params, codec);
    let key = fingerprint(&format!("{SCENE_VERSION} {params:?} {main_format:?} {sub_format:?}"));
    let path = |ending: &str| cache.join(format!("scene-{key}.{ending}"));
    let rendered = Rendered { main: path("main.mp4"), sub: path("sub.mp4"), truth: path("truth.json") };
    // The truth is renamed last: where it is, the streams are.
    if rendered.truth.exists() {
        return Ok(rendered);
    }
    let started = std::time::Instant::now();
    make_folder(cache)?;
    let aside = Aside::new(cache)?;
    let (main, sub, truth) = (aside.path("main.mp4"), aside.path("sub.mp4"), aside.path("truth.json"));
    let made = render_into(params, (&main_format, &main), (&sub_format, &sub))?;
    let text =
        serde_json::to_vec(&made).map_err(|error| ProgramError::Cache { path: truth.clone(), source: error.into() })?;
    std::fs::write(&truth, text).map_err(|source| ProgramError::Cache { path: truth.clone(), source })?;
    for (from, to) in [(main, &rendered.main), (sub, &rendered.sub), (truth, &rendered.truth)] {
        std::fs::rename(from, to).map_err(|source| ProgramError::Cache { path: to.clone(), source })?;
    }
    let ms = started.elapsed().as_millis() as u64;
    info!(camera = params.number, frames = params.loop_frames, ms, "scene rendered");
    Ok(rendered)
}

fn render_into(params: &SceneParams, main: (&Format, &Path), sub: (&Format, &Path)) -> Result<Truth, ProgramError> {
    let mut main = Encoder::start(main.0, main.1).map_err(ProgramError::Encode)?;
    let mut sub = Encoder::start(sub.0, sub.1).map_err(ProgramError::Encode)?;
    let mut renderer = Renderer::new(params);
    let tenth = (params.loop_frames / 10).max(1);
    for index in 0..params.loop_frames {
        let frame = renderer.render(index);
        main.push(frame.main).map_err(ProgramError::Encode)?;
        if let Some(picture) = frame.sub {
            sub.push(picture).map_err(ProgramError::Encode)?;
        }
        if index > 0 && index.is_multiple_of(tenth) {
            info!(camera = params.number, frame = index, of = params.loop_frames, "rendering");
        }
    }
    main.finish().map_err(ProgramError::Encode)?;
    sub.finish().map_err(ProgramError::Encode)?;
    Ok(renderer.into_truth())
}

/// Main and sub-stream of a source. `codec` is what scenes are encoded to and, where given, what
/// a file has to be.
pub fn prepare(source: &Source, codec: Option<Codec>, cache: &Path) -> Result<[Program; 2], ProgramError> {
    let (main, sub) = match source {
        Source::Scene(params) => {
            let rendered = render(params, codec.unwrap_or(Codec::H264), cache)?;
            (rendered.main, rendered.sub)
        }
        Source::File { main, sub: Some(sub) } => (main.clone(), sub.clone()),
        Source::File { main, sub: None } => {
            let found = load(main)?.clip.codec;
            (main.clone(), small_copy(main, codec.unwrap_or(found), cache)?)
        }
    };
    let programs = [load(&main)?, load(&sub)?];
    for (program, path) in programs.iter().zip([main, sub]) {
        let found = program.clip.codec;
        if let Some(wanted) = codec.filter(|&wanted| wanted != found) {
            return Err(ProgramError::OtherCodec { path, found, wanted });
        }
    }
    Ok(programs)
}

fn load(path: &Path) -> Result<Program, ProgramError> {
    let clip = demux::read(path).map_err(ProgramError::Demux)?;
    let timeline = Timeline::new(&clip).ok_or_else(|| ProgramError::NoKeyFrame { path: path.to_owned() })?;
    Ok(Program { clip, timeline })
}

/// The sub-stream of a file that has none.
fn small_copy(main: &Path, codec: Codec, cache: &Path) -> Result<PathBuf, ProgramError> {
    let look = |source| ProgramError::Look { path: main.to_owned(), source };
    let full = main.canonicalize().map_err(look)?;
    let meta = full.metadata().map_err(look)?;
    let age = meta.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    let key = fingerprint(&format!("{full:?} {} {age:?} {codec:?} {SUB_LINES}", meta.len()));
    let kept = cache.join(format!("sub-{key}.mp4"));
    if kept.exists() {
        return Ok(kept);
    }
    make_folder(cache)?;
    let aside = Aside::new(cache)?;
    let made = aside.path("sub.mp4");
    encode::transcode(&full, codec, SUB_LINES, 300, &made).map_err(ProgramError::Encode)?;
    std::fs::rename(&made, &kept).map_err(|source| ProgramError::Cache { path: kept.clone(), source })?;
    Ok(kept)
}

fn fingerprint(text: &str) -> String {
    let digest = Sha256::digest(text.as_bytes());
    hex::encode(&digest[..12])
}

fn make_folder(path: &Path) -> Result<(), ProgramError> {
    std::fs::create_dir_all(path).map_err(|source| ProgramError::Cache { path: path.to_owned(), source })
}

/// A folder of our own inside the cache, so that renaming stays on one file system.
struct Aside {
    folder: PathBuf,
}

impl Aside {
    fn new(cache: &Path) -> Result<Aside, ProgramError> {
        let unique = format!("making-{}-{:016x}", std::process::id(), rand::random::<u64>());
        let folder = cache.join(unique);
        make_folder(&folder)?;
        Ok(Aside { folder })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }
}

impl Drop for Aside {
    fn drop(&mut self) {
        // Left-overs in a cache harm nobody.
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}
