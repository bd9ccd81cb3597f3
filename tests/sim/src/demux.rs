//! Reading access units out of a video file without touching them.
//!
//! Belongs here: opening any H.264 or H.265 file with GStreamer and holding its access units.
//! Does not belong here: encoding (`encode`), looping (`timeline`), decoding to pictures (`decode`).
//! Invariant: an MP4's NAL units are the file's own (no parser runs on them); times are 90 kHz.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_app as gst_app;
use thiserror::Error;

use crate::units::{self, Codec};

/// Why a file could not be read.
#[derive(Debug, Error)]
pub enum DemuxError {
    /// GStreamer or one of its plugins is missing.
    #[error("cannot set up reading {path}")]
    SetUp {
        /// The file.
        path: PathBuf,
        /// GStreamer's reason.
        source: gst::glib::Error,
    },
    /// The file cannot be opened.
    #[error("cannot open {path}")]
    Open {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The pipeline failed on it.
    #[error("cannot read {path}: {reason}")]
    Read {
        /// The file.
        path: PathBuf,
        /// GStreamer's message.
        reason: String,
    },
    /// Its fragments are damaged.
    #[error("cannot read the fragments of {path}")]
    Fragments {
        /// The file.
        path: PathBuf,
        /// Which, and how.
        source: crate::fragments::FragmentError,
    },
    /// It holds no H.264 or H.265 picture.
    #[error("{path} holds no H.264 or H.265 video")]
    NoVideo {
        /// The file.
        path: PathBuf,
    },
}

/// One access unit of a file, in decoding order.
#[derive(Debug, Clone)]
pub struct DemuxedUnit {
    /// NAL units, each preceded by its length.
    pub bytes: Bytes,
    /// Presentation time.
    pub pts_90k: u64,
    /// Decoding time; the presentation time where the container has none.
    pub dts_90k: u64,
    /// Duration where the container states one.
    pub duration_90k: Option<u64>,
    /// Sync sample.
    pub key: bool,
    /// Fingerprint, see [`units::hash_nals`].
    pub sha256: String,
}

/// The video track of a file.
#[derive(Debug, Clone)]
pub struct Clip {
    /// Its coding.
    pub codec: Codec,
    /// Caps for an `appsrc` (avc or hvc1, with `codec_data`).
    pub caps: gst::Caps,
    /// Its access units in decoding order.
    pub units: Vec<DemuxedUnit>,
}

impl Clip {
    /// Width and height in pixels, as its format says.
    pub fn size(&self) -> Option<(u32, u32)> {
        let structure = self.caps.structure(0)?;
        let side = |name: &str| structure.get::<i32>(name).ok().and_then(|side| u32::try_from(side).ok());
        Some((side("width")?, side("height")?))
    }

    /// avcC or hvcC (ISO/IEC 14496-15), without the box header.
    pub fn decoder_configuration(&self) -> Option<Bytes> {
        let buffer = self.caps.structure(0)?.get::<gst::Buffer>("codec_data").ok()?;
        let map = buffer.map_readable().ok()?;
        Some(Bytes::copy_from_slice(&map))
    }
}

/// 90 kHz ticks of a GStreamer time, to the nearest.
pub(crate) fn ticks(time: gst::ClockTime) -> u64 {
    ((u128::from(time.nseconds()) * 9 + 50_000) / 100_000) as u64
}

/// Reads the whole video track of a file into memory.
pub fn read(path: &Path) -> Result<Clip, DemuxError> {
    let set_up = |source| DemuxError::SetUp { path: path.to_owned(), source };
    gst::init().map_err(set_up)?;
    let chain = if is_iso(path)? {
        "filesrc name=file ! qtdemux ! appsink name=out sync=false caps=video/x-h264;video/x-h265"
    } else {
        // Containers that carry byte streams: a parser has to find the lengths.
        "filesrc name=file ! parsebin ! appsink name=out sync=false \
         caps=video/x-h264,stream-format=avc,alignment=au;video/x-h265,stream-format=hvc1,alignment=au"
    };
    let pipeline = gst::parse::launch(chain).map_err(set_up)?;
    let pipeline = pipeline.downcast::<gst::Pipeline>().map_err(|_| unreadable(path, "no pipeline"))?;
    let by_name = |name: &str| pipeline.by_name(name).ok_or_else(|| unreadable(path, "no such element"));
    by_name("file")?.set_property("location", path.to_string_lossy().as_ref());
    let sink = by_name("out")?.downcast::<gst_app::AppSink>().map_err(|_| unreadable(path, "no appsink"))?;
    let clip = pull_all(path, &pipeline, &sink);
    // Failing to reach NULL leaves nothing to do: the pipeline is dropped next.
    let _ = pipeline.set_state(gst::State::Null);
    clip
}

fn unreadable(path: &Path, reason: impl ToString) -> DemuxError {
    DemuxError::Read { path: path.to_owned(), reason: reason.to_string() }
}

/// ISO base media: `ftyp`, `styp` or `moov` leads.
fn is_iso(path: &Path) -> Result<bool, DemuxError> {
    let open = |source| DemuxError::Open { path: path.to_owned(), source };
    let mut head = [0u8; 8];
    let mut file = std::fs::File::open(path).map_err(open)?;
    match file.read_exact(&mut head) {
        Ok(()) => Ok(matches!(&head[4..8], b"ftyp" | b"styp" | b"moov")),
        Err(_) => Ok(false),
    }
}

fn pull_all(path: &Path, pipeline: &gst::Pipeline, sink: &gst_app::AppSink) -> Result<Clip, DemuxError> {
    let error_on_bus = || {
        pipeline.bus().and_then(|bus| bus.pop_filtered(&[gst::MessageType::Error])).map(|message| {
            match message.view() {
                gst::MessageView::Error(error) => error.error().to_string(),
                _ => String::new(),
            }
        })
    };
    if pipeline.set_state(gst::State::Playing).is_err() {
        return Err(unreadable(path, error_on_bus().unwrap_or_else(|| "pipeline does not start".into())));
    }
    let mut clip: Option<Clip> = None;
    let mut length_size = 4;
    let mut stalls = 0;
    loop {
        let Some(sample) = sink.try_pull_sample(gst::ClockTime::from_seconds(1)) else {
            if sink.is_eos() {
                break;
            }
            if let Some(reason) = error_on_bus() {
                return Err(unreadable(path, reason));
            }
            stalls += 1;
            if stalls > 30 {
                return Err(unreadable(path, "no access unit for 30 s"));
            }
            continue;
        };
        stalls = 0;
        if clip.is_none() {
            let caps = sample.caps().ok_or_else(|| unreadable(path, "sample without caps"))?;
            length_size = length_size_of(caps);
            clip = Some(new_clip(path, caps)?);
        }
        if let (Some(clip), Some(buffer)) = (clip.as_mut(), sample.buffer()) {
            clip.units.push(unit_of(path, buffer, clip.codec, length_size)?);
        }
    }
    if let Some(reason) = error_on_bus() {
        return Err(unreadable(path, reason));
    }
    clip.filter(|clip| !clip.units.is_empty()).ok_or_else(|| DemuxError::NoVideo { path: path.to_owned() })
}

fn new_clip(path: &Path, caps: &gst::CapsRef) -> Result<Clip, DemuxError> {
    let structure = caps.structure(0).ok_or_else(|| unreadable(path, "empty caps"))?;
    let (codec, format) = match structure.name().as_str() {
        "video/x-h264" => (Codec::H264, "avc"),
        _ => (Codec::H265, "hvc1"),
    };
    // The payloaders of 1.22 know avc and hvc1 only; avc3 and hev1 differ in where parameter
    // sets may stand, which a payloader that repeats them does not mind.
    let mut caps = caps.to_owned();
    let writable = caps.make_mut();
    writable.set("stream-format", format);
    writable.set("alignment", "au");
    Ok(Clip { codec, caps, units: Vec::new() })
}

/// `lengthSizeMinusOne` of avcC (byte 4) or hvcC (byte 21), ISO/IEC 14496-15.
fn length_size_of(caps: &gst::CapsRef) -> usize {
    let Some(structure) = caps.structure(0) else {
        return 4;
    };
    let at = if structure.name() == "video/x-h264" { 4 } else { 21 };
    structure
        .get::<gst::Buffer>("codec_data")
        .ok()
        .and_then(|buffer| buffer.map_readable().ok().and_then(|map| map.get(at).copied()))
        .map_or(4, |byte| usize::from(byte & 3) + 1)
}

fn unit_of(path: &Path, buffer: &gst::BufferRef, codec: Codec, length_size: usize) -> Result<DemuxedUnit, DemuxError> {
    let map = buffer.map_readable().map_err(|_| unreadable(path, "buffer cannot be mapped"))?;
    let pts = buffer.pts().or(buffer.dts()).ok_or_else(|| unreadable(path, "access unit without a time"))?;
    Ok(DemuxedUnit {
        bytes: Bytes::copy_from_slice(&map),
        pts_90k: ticks(pts),
        dts_90k: ticks(buffer.dts().unwrap_or(pts)),
        duration_90k: buffer.duration().map(ticks).filter(|&ticks| ticks > 0),
        key: !buffer.flags().contains(gst::BufferFlags::DELTA_UNIT),
        sha256: units::hash_length_prefixed(&map, length_size, codec),
    })
}
