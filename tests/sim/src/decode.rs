//! Reading strips back out of a video file.
//!
//! Belongs here: decoding a file frame by frame and reading each frame's strip.
//! Does not belong here: the strip's layout (`strip`).
//! Invariant: one result for each decoded frame, in presentation order.

use std::path::Path;

use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_app as gst_app;
use gstreamer_video as gst_video;
use gstreamer_video::prelude::*;
use serde::{Deserialize, Serialize};

use crate::demux::{DemuxError, ticks};
use crate::strip::{self, Luma, Mark};

/// A decoded frame.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadFrame {
    /// Presentation time.
    pub pts_90k: u64,
    /// What its strip says; `None` when unreadable.
    pub mark: Option<Mark>,
}

/// Decodes a video file and reads every frame's strip.
pub fn read_marks(path: &Path) -> Result<Vec<ReadFrame>, DemuxError> {
    let set_up = |source| DemuxError::SetUp { path: path.to_owned(), source };
    let failed = |reason: String| DemuxError::Read { path: path.to_owned(), reason };
    gst::init().map_err(set_up)?;
    // Converting to one planar format; GRAY8 would rescale the range on some decoders.
    let chain = "filesrc name=in ! decodebin ! videoconvert ! video/x-raw,format=I420 \
                 ! appsink name=out sync=false max-buffers=8";
    let pipeline = gst::parse::launch(chain).map_err(set_up)?;
    let pipeline = pipeline.downcast::<gst::Pipeline>().map_err(|_| failed("no pipeline".into()))?;
    let source = pipeline.by_name("in").ok_or_else(|| failed("no filesrc".into()))?;
    source.set_property("location", path.to_string_lossy().as_ref());
    let sink = pipeline
        .by_name("out")
        .and_then(|element| element.downcast::<gst_app::AppSink>().ok())
        .ok_or_else(|| failed("no appsink".into()))?;
    let frames = match pipeline.set_state(gst::State::Playing) {
        Ok(_) => pull(&pipeline, &sink).map_err(failed),
        Err(_) => Err(failed("the pipeline does not start".into())),
    };
    // Stopped whatever came of it; the outcome is what matters.
    let _ = pipeline.set_state(gst::State::Null);
    frames
}

fn pull(pipeline: &gst::Pipeline, sink: &gst_app::AppSink) -> Result<Vec<ReadFrame>, String> {
    let bus = pipeline.bus().ok_or("pipeline without a bus")?;
    let mut frames = Vec::new();
    let mut idle = 0;
    loop {
        if let Some(message) = bus.pop_filtered(&[gst::MessageType::Error])
            && let gst::MessageView::Error(error) = message.view()
        {
            return Err(error.error().to_string());
        }
        let Some(sample) = sink.try_pull_sample(gst::ClockTime::from_seconds(1)) else {
            if sink.is_eos() {
                return Ok(frames);
            }
            idle += 1;
            if idle > 30 {
                return Err("no frame for 30 s".into());
            }
            continue;
        };
        idle = 0;
        let (Some(buffer), Some(caps)) = (sample.buffer(), sample.caps()) else {
            continue;
        };
        let video = gst_video::VideoInfo::from_caps(caps).map_err(|error| error.to_string())?;
        let frame =
            gst_video::VideoFrameRef::from_buffer_ref_readable(buffer, &video).map_err(|error| error.to_string())?;
        let luma = Luma {
            samples: frame.plane_data(0).map_err(|error| error.to_string())?,
            stride: frame.plane_stride().first().copied().unwrap_or(0) as usize,
            width: video.width() as usize,
            height: video.height() as usize,
        };
        let pts_90k = buffer.pts().map_or(0, ticks);
        frames.push(ReadFrame { pts_90k, mark: strip::read(luma) });
    }
}
