//! Raw frames into an MP4.
//!
//! Belongs here: one H.264 or H.265 encoder writing one file.
//! Does not belong here: where frames come from, where files are kept (`program`).
//! Invariant: the same frames give the same access units (one thread, no wall clock); no
//! B-frames; a key frame every `gop` frames and nowhere else.

use std::path::{Path, PathBuf};

use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_app as gst_app;
use thiserror::Error;

use crate::units::Codec;

/// Why frames could not be encoded.
#[derive(Debug, Error)]
pub enum EncodeError {
    /// GStreamer or an encoder is missing.
    #[error("cannot set up encoding {path}")]
    SetUp {
        /// The file.
        path: PathBuf,
        /// GStreamer's reason.
        source: gst::glib::Error,
    },
    /// The pipeline failed.
    #[error("cannot encode {path}: {reason}")]
    Encode {
        /// The file.
        path: PathBuf,
        /// GStreamer's message.
        reason: String,
    },
}

/// What to encode to.
#[derive(Debug, Clone)]
pub struct Format {
    /// Coding.
    pub codec: Codec,
    /// Pixels, even.
    pub width: u32,
    /// Pixels, even.
    pub height: u32,
    /// Frames per second as a fraction.
    pub fps: (u32, u32),
    /// Aimed at.
    pub kbit_per_s: u32,
    /// Frames from key frame to key frame.
    pub gop: u32,
}

impl Format {
    /// The encoder as a piece of a pipeline description.
    pub fn encoder(&self) -> String {
        let Format { codec, kbit_per_s, gop, .. } = self;
        match codec {
            Codec::H264 => format!(
                "x264enc speed-preset=superfast threads=1 bframes=0 b-adapt=false aud=false \
                 key-int-max={gop} bitrate={kbit_per_s} vbv-buf-capacity=2000 \
                 option-string=scenecut=0:keyint-min={gop} ! video/x-h264,stream-format=avc,alignment=au"
            ),
            Codec::H265 => format!(
                "x265enc speed-preset=ultrafast key-int-max={gop} bitrate={kbit_per_s} log-level=error \
                 option-string=bframes=0:scenecut=0:min-keyint={gop}:open-gop=0:frame-threads=1:pools=none:info=0 \
                 ! h265parse ! video/x-h265,stream-format=hvc1,alignment=au"
            ),
        }
    }
}

/// A running encoder.
#[derive(Debug)]
pub struct Encoder {
    path: PathBuf,
    pipeline: gst::Pipeline,
    source: gst_app::AppSrc,
    format: Format,
    pushed: u64,
}

impl Encoder {
    /// Starts writing to `path`.
    pub fn start(format: &Format, path: &Path) -> Result<Encoder, EncodeError> {
        let set_up = |source| EncodeError::SetUp { path: path.to_owned(), source };
        gst::init().map_err(set_up)?;
        let chain = format!(
            "appsrc name=in format=time block=true max-bytes=12000000 ! {} ! mp4mux ! filesink name=out",
            format.encoder()
        );
        let failed = |reason: &str| EncodeError::Encode { path: path.to_owned(), reason: reason.into() };
        let pipeline = gst::parse::launch(&chain).map_err(set_up)?;
        let pipeline = pipeline.downcast::<gst::Pipeline>().map_err(|_| failed("no pipeline"))?;
        let source = pipeline
            .by_name("in")
            .and_then(|element| element.downcast::<gst_app::AppSrc>().ok())
            .ok_or_else(|| failed("no appsrc"))?;
        let out = pipeline.by_name("out").ok_or_else(|| failed("no filesink"))?;
        out.set_property("location", path.to_string_lossy().as_ref());
        let rate = gst::Fraction::new(format.fps.0 as i32, format.fps.1 as i32);
        source.set_caps(Some(
            &gst::Caps::builder("video/x-raw")
                .field("format", "I420")
                .field("width", format.width as i32)
                .field("height", format.height as i32)
                .field("framerate", rate)
                .field("colorimetry", "bt709")
                .build(),
        ));
        let encoder = Encoder { path: path.to_owned(), pipeline, source, format: format.clone(), pushed: 0 };
        if encoder.pipeline.set_state(gst::State::Playing).is_err() {
            return Err(encoder.failure());
        }
        Ok(encoder)
    }

    /// Encodes the next I420 frame; waits when the encoder is behind.
    pub fn push(&mut self, frame: &[u8]) -> Result<(), EncodeError> {
        let (num, den) = (u64::from(self.format.fps.0), u64::from(self.format.fps.1));
        let time = |index: u64| gst::ClockTime::from_nseconds(index * den * 1_000_000_000 / num);
        let mut buffer = gst::Buffer::from_slice(frame.to_vec());
        if let Some(fresh) = buffer.get_mut() {
            fresh.set_pts(time(self.pushed));
            fresh.set_duration(time(self.pushed + 1) - time(self.pushed));
        }
        self.pushed += 1;
        self.source.push_buffer(buffer).map(|_| ()).map_err(|_| self.failure())
    }

    /// Writes the end of the file.
    pub fn finish(self) -> Result<(), EncodeError> {
        if self.source.end_of_stream().is_err() {
            return Err(self.failure());
        }
        wait_for_end(&self.pipeline).map_err(|reason| EncodeError::Encode { path: self.path.clone(), reason })
    }

    fn failure(&self) -> EncodeError {
        let reason =
            self.pipeline.bus().and_then(|bus| bus.pop_filtered(&[gst::MessageType::Error])).and_then(|message| {
                match message.view() {
                    gst::MessageView::Error(error) => Some(error.error().to_string()),
                    _ => None,
                }
            });
        EncodeError::Encode {
            path: self.path.clone(),
            reason: reason.unwrap_or_else(|| "the encoder takes no more frames".into()),
        }
    }
}

impl Drop for Encoder {
    fn drop(&mut self) {
        // A pipeline has to be stopped before it is released; there is nobody to report to.
        let _ = self.pipeline.set_state(gst::State::Null);
    }
}

/// The longest that draining an encoder or a transcoding may take without finishing.
const LONGEST_DRAIN_S: u64 = 600;

fn wait_for_end(pipeline: &gst::Pipeline) -> Result<(), String> {
    let bus = pipeline.bus().ok_or("pipeline without a bus")?;
    let wanted = [gst::MessageType::Eos, gst::MessageType::Error];
    let limit = gst::ClockTime::from_seconds(LONGEST_DRAIN_S);
    match bus.timed_pop_filtered(limit, &wanted).as_ref().map(|message| message.view()) {
        Some(gst::MessageView::Eos(_)) => Ok(()),
        Some(gst::MessageView::Error(error)) => Err(error.error().to_string()),
        _ => Err(format!("not finished after {LONGEST_DRAIN_S} s")),
    }
}

/// Transcodes any video file to a height of `lines`, keeping its proportions and frame times.
pub fn transcode(from: &Path, codec: Codec, lines: u32, kbit_per_s: u32, to: &Path) -> Result<(), EncodeError> {
    let set_up = |source| EncodeError::SetUp { path: to.to_owned(), source };
    let failed = |reason: String| EncodeError::Encode { path: to.to_owned(), reason };
    gst::init().map_err(set_up)?;
    // A second at the usual rates of cameras; the true rate is known only once frames come.
    let format = Format { codec, width: 0, height: lines, fps: (0, 1), kbit_per_s, gop: 25 };
    let chain = format!(
        "filesrc name=in ! decodebin ! videoconvertscale ! \
         video/x-raw,format=I420,height={lines},pixel-aspect-ratio=1/1 ! {} ! mp4mux ! filesink name=out",
        format.encoder()
    );
    let pipeline = gst::parse::launch(&chain).map_err(set_up)?;
    let pipeline = pipeline.downcast::<gst::Pipeline>().map_err(|_| failed("no pipeline".into()))?;
    for (name, path) in [("in", from), ("out", to)] {
        let element = pipeline.by_name(name).ok_or_else(|| failed("no such element".into()))?;
        element.set_property("location", path.to_string_lossy().as_ref());
    }
    let ended = match pipeline.set_state(gst::State::Playing) {
        Ok(_) => wait_for_end(&pipeline),
        Err(_) => Err("the pipeline does not start".into()),
    };
    // Stopped whatever came of it; the outcome is what matters.
    let _ = pipeline.set_state(gst::State::Null);
    ended.map_err(failed)
}
