//! Units of one stream become small pictures, in the caller's thread: nothing waits, and no thread is woken.

use super::shrink::{Component, shrink};
use super::{element, initialise};
use crate::media::{Codec, SourceError, StreamFormat};
use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_video as gst_video;
use gstreamer_video::prelude::*;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Motion of people and vehicles needs no more pictures a second; each costs a conversion and a look.
const PICTURES_PER_SECOND: u64 = 10;
/// Decoded pictures waiting to be looked at.
const MAX_PICTURES: usize = 16;
/// Width of pictures for motion and thumbnails; a cell of the grid is 10 of them.
pub const PICTURE_WIDTH: u32 = 320;
/// Pools of buffers that are made before the process is shut in, for a decoder may ask again when the size changes;
/// one that is made inside cannot wake anybody and says so at every picture.
const POOLS: usize = 2;
/// So that pictures reordered before the first stay positive.
const PTS_OFFSET_90K: i64 = 900_000;

/// A decoded picture, I420.
pub struct Picture {
    pub pts_90k: i64,
    pub width: usize,
    pub height: usize,
    planes: Vec<u8>,
    offsets: [usize; 3],
    strides: [usize; 3],
}

impl Picture {
    /// Plane 0 is luma, 1 and 2 are Cb and Cr at half size; with its stride.
    pub fn plane(&self, plane: usize) -> (&[u8], usize) {
        (self.planes.get(self.offsets[plane]..).unwrap_or(&[]), self.strides[plane])
    }
}

/// Decodes units of one stream into small pictures.
pub struct Decoder {
    decoder: gst::Element,
    source: gst::Pad,
    /// Linked for as long as it lives.
    _sink: gst::Pad,
    taken: Arc<Mutex<Taken>>,
}

/// A decoder whose plugins are loaded and that has seen no byte of a camera.
pub struct IdleDecoder(Decoder);

/// What comes out of the decoder.
#[derive(Default)]
struct Taken {
    layout: Option<gst_video::VideoInfo>,
    /// When the next picture is due, nanoseconds.
    next_ns: u64,
    pictures: VecDeque<Picture>,
}

impl IdleDecoder {
    /// Tells it what comes, and starts it.
    pub fn begin(self, format: &StreamFormat) -> Result<Decoder, SourceError> {
        let Self(decoder) = self;
        let (media, stream) = match format.codec {
            Codec::H264 => ("video/x-h264", "avc"),
            Codec::H265 => ("video/x-h265", "hvc1"),
        };
        let caps = gst::Caps::builder(media)
            .field("stream-format", stream)
            .field("alignment", "au")
            .field("codec_data", gst::Buffer::from_slice(format.decoder_configuration.clone()))
            .build();
        let begins = [
            gst::event::StreamStart::new("units"),
            gst::event::Caps::new(&caps),
            gst::event::Segment::new(&gst::FormattedSegment::<gst::ClockTime>::new()),
        ];
        if begins.into_iter().all(|event| decoder.source.push_event(event)) {
            Ok(decoder)
        } else {
            Err(SourceError::Machine("the decoder does not take this format".into()))
        }
    }
}

impl Decoder {
    /// Loads what `format` needs: of it only the codec is looked at.
    pub fn load(format: &StreamFormat) -> Result<IdleDecoder, SourceError> {
        initialise()?;
        let decoder = element(match format.codec {
            Codec::H264 => "avdec_h264",
            Codec::H265 => "avdec_h265",
        })?;
        decoder.set_property("max-threads", 1i32);
        // Else it holds back 16 pictures of a stream that does not say how it is reordered.
        decoder.set_property_from_str("std-compliance", "normal");
        let taken = Arc::<Mutex<Taken>>::default();
        let source = gst::Pad::builder(gst::PadDirection::Src).name("units").build();
        let sink = sink(&taken);
        let fits = || SourceError::Machine("the decoder's parts do not fit".into());
        let (into, out) = (decoder.static_pad("sink").ok_or_else(fits)?, decoder.static_pad("src").ok_or_else(fits)?);
        source.link(&into).map_err(|_| fits())?;
        out.link(&sink).map_err(|_| fits())?;
        source.set_active(true).map_err(|_| fits())?;
        sink.set_active(true).map_err(|_| fits())?;
        let playing = decoder.set_state(gst::State::Playing);
        playing.map_err(|_| SourceError::Machine("the decoder does not start".into()))?;
        Ok(IdleDecoder(Self { decoder, source, _sink: sink, taken }))
    }

    /// Decodes; false when the decoder failed for good.
    pub fn push(&self, data: bytes::Bytes, pts_90k: i64) -> bool {
        let mut buffer = gst::Buffer::from_slice(data);
        if let Some(buffer) = buffer.get_mut() {
            let ns = (pts_90k.saturating_add(PTS_OFFSET_90K)).max(0) as u64 * 100_000 / 9;
            buffer.set_pts(gst::ClockTime::from_nseconds(ns));
        }
        self.source.push(buffer).is_ok()
    }

    /// The next picture if there is one already.
    pub fn next(&self) -> Option<Picture> {
        lock(&self.taken).pictures.pop_front()
    }

    /// No more units come: the pictures that were still inside.
    pub fn finish(&self) -> Vec<Picture> {
        let _ = self.source.push_event(gst::event::Eos::new());
        std::iter::from_fn(|| self.next()).collect()
    }
}

impl Drop for Decoder {
    fn drop(&mut self) {
        let _ = self.decoder.set_state(gst::State::Null);
    }
}

fn lock(taken: &Mutex<Taken>) -> MutexGuard<'_, Taken> {
    taken.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Where pictures come out.
fn sink(taken: &Arc<Mutex<Taken>>) -> gst::Pad {
    let (layouts, pictures) = (taken.clone(), taken.clone());
    let pools: Mutex<Vec<_>> =
        Mutex::new(std::iter::repeat_with(gst_video::VideoBufferPool::new).take(POOLS).collect());
    gst::Pad::builder(gst::PadDirection::Sink)
        .name("pictures")
        .event_function(move |_, _, event| {
            if let gst::EventView::Caps(caps) = event.view() {
                lock(&layouts).layout = gst_video::VideoInfo::from_caps(caps.caps()).ok();
            }
            true
        })
        .query_function(move |pad, parent, query| match query.view_mut() {
            // Then the decoder writes where it likes to, and nothing is copied.
            gst::QueryViewMut::Allocation(wanted) => {
                wanted.add_allocation_meta::<gst_video::VideoMeta>(None);
                let size = wanted.get().0.and_then(|caps| gst_video::VideoInfo::from_caps(caps).ok());
                let pool = pools.lock().unwrap_or_else(PoisonError::into_inner).pop();
                if let (Some(size), Some(pool)) = (size, pool) {
                    wanted.add_allocation_pool(Some(&pool), size.size() as u32, 0, 0);
                }
                true
            }
            _ => gst::Pad::query_default(pad, parent, query),
        })
        .chain_function(move |_, _, buffer| {
            lock(&pictures).take(&buffer);
            Ok(gst::FlowSuccess::Ok)
        })
        .build()
}

impl Taken {
    fn take(&mut self, buffer: &gst::Buffer) {
        let (Some(pts), Some(layout)) = (buffer.pts(), &self.layout) else { return };
        if self.pictures.len() >= MAX_PICTURES || !is_due(&mut self.next_ns, pts.nseconds()) {
            return;
        }
        let pts_90k = ((pts.nseconds() * 9 + 50_000) / 100_000) as i64 - PTS_OFFSET_90K;
        if let Some(picture) = gst_video::VideoFrameRef::from_buffer_ref_readable(buffer, layout)
            .ok()
            .and_then(|frame| small(&frame, pts_90k))
        {
            self.pictures.push_back(picture);
        }
    }
}

/// Lets through at most `PICTURES_PER_SECOND`; every picture is decoded all the same.
fn is_due(next_ns: &mut u64, now: u64) -> bool {
    let step = 1_000_000_000 / PICTURES_PER_SECOND;
    let next = *next_ns;
    // A tenth early is in time, for cameras' clocks jitter; a time line that jumped starts anew.
    if now + step / 10 < next && next - now <= 2 * step {
        return false;
    }
    *next_ns = if now > next + step || next > now + step { now } else { next } + step;
    true
}

/// Luma and chroma at `PICTURE_WIDTH`, square pixels or not; none of what is no luma and chroma.
fn small(frame: &gst_video::VideoFrameRef<&gst::BufferRef>, pts_90k: i64) -> Option<Picture> {
    let format = frame.format_info();
    if !format.is_yuv() && !format.is_gray() || format.is_complex() {
        return None;
    }
    let (width, height) = (frame.width() as usize, frame.height() as usize);
    let to_width = width.min(PICTURE_WIDTH as usize) & !1;
    let to_height = (height * to_width / width.max(1)).max(2) & !1;
    let halves = (to_width / 2, to_height / 2);
    let mut planes = Vec::with_capacity(to_width * to_height + 2 * halves.0 * halves.1);
    let mut offsets = [0; 3];
    for (component, offset) in offsets.iter_mut().enumerate() {
        *offset = planes.len();
        let (to_width, to_height) = if component == 0 { (to_width, to_height) } else { halves };
        match of(frame, component) {
            Some(from) => shrink(&from, to_width, to_height, &mut planes),
            // Grey.
            None if component > 0 => planes.resize(planes.len() + to_width * to_height, 128),
            None => return None,
        }
    }
    Some(Picture {
        pts_90k,
        width: to_width,
        height: to_height,
        planes,
        offsets,
        strides: [to_width, halves.0, halves.0],
    })
}

fn of<'a>(frame: &'a gst_video::VideoFrameRef<&gst::BufferRef>, component: usize) -> Option<Component<'a>> {
    let format = frame.format_info();
    if component >= format.n_components() as usize {
        return None;
    }
    let plane = *format.plane().get(component)?;
    let (offset, depth) = (*format.poffset().get(component)? as usize, *format.depth().get(component)?);
    let shift = *format.shift().get(component)?;
    let size = |length: u32, halvings: &[u32]| Some((length as usize).div_ceil(1 << halvings.get(component)?));
    Some(Component {
        bytes: frame.plane_data(plane).ok()?.get(offset..)?,
        stride: usize::try_from(*frame.plane_stride().get(plane as usize)?).ok()?,
        step: usize::try_from(*format.pixel_stride().get(component)?).ok()?,
        width: size(frame.width(), format.w_sub())?,
        height: size(frame.height(), format.h_sub())?,
        extra_bits: if depth > 8 { depth - 8 + shift } else { 0 },
    })
}

#[cfg(test)]
mod tests;
