//! GStreamer: the only file that names it. Opens RTSP streams as packets, and decodes units into pictures.

use super::outlet::Outlet;
use super::stamp::Stamper;
use super::{Address, Codec, Opener, Source, SourceError, StreamFormat};
use crate::config::Transport;
use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_app as gst_app;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, mpsc as std_mpsc};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

/// Jitter a camera's network may show over UDP.
const LATENCY_MS: u32 = 200;
/// A camera that does not answer within this is unreachable.
const CONNECT_TIMEOUT_US: u64 = 5_000_000;
/// Units waiting for the recorder: 5 s of 25 pictures a second.
const QUEUE_UNITS: usize = 128;
/// Between 1900 (NTP) and 1970.
const NTP_TO_UNIX_US: i64 = 2_208_988_800_000_000;
/// Motion of people and vehicles needs no more pictures a second; each costs a conversion.
const PICTURES_PER_SECOND: u64 = 10;
/// Decoded pictures waiting to be looked at.
const QUEUE_PICTURES: usize = 16;
/// Undecoded bytes waiting in the decoder.
const QUEUE_BYTES: u64 = 4 << 20;
/// Width of pictures for motion and thumbnails; a cell of the grid is 10 of them.
pub const PICTURE_WIDTH: u32 = 320;

/// Initialises GStreamer once.
pub fn initialise() -> Result<(), SourceError> {
    static DONE: OnceLock<Result<(), String>> = OnceLock::new();
    DONE.get_or_init(|| gst::init().map_err(|error| error.to_string())).clone().map_err(SourceError::Machine)
}

fn element(name: &str) -> Result<gst::Element, SourceError> {
    gst::ElementFactory::make(name)
        .build()
        .map_err(|_| SourceError::Machine(format!("GStreamer's element {name} is not installed")))
}

/// A pipeline that stops when dropped, off the caller's thread: closing a dead camera can take seconds.
struct Running {
    pipeline: gst::Pipeline,
    /// Dropped once it stands still.
    closed: Arc<Mutex<Option<oneshot::Sender<()>>>>,
}

impl Running {
    fn new(pipeline: gst::Pipeline) -> (Self, oneshot::Receiver<()>) {
        let (sender, receiver) = oneshot::channel();
        (Self { pipeline, closed: Arc::new(Mutex::new(Some(sender))) }, receiver)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let (pipeline, closed) = (self.pipeline.clone(), self.closed.clone());
        let stop = move || {
            let _ = pipeline.set_state(gst::State::Null);
            drop(closed.lock().unwrap_or_else(PoisonError::into_inner).take());
        };
        if std::thread::Builder::new().name("close-stream".into()).spawn(stop.clone()).is_err() {
            stop();
        }
    }
}

/// Opens RTSP addresses.
pub struct RtspOpener {
    stamper: Stamper,
}

impl RtspOpener {
    pub fn new(stamper: Stamper) -> Result<Self, SourceError> {
        initialise()?;
        Ok(Self { stamper })
    }
}

impl Opener for RtspOpener {
    fn open(&self, address: &Address) -> Result<Source, SourceError> {
        let (sender, items) = mpsc::channel(QUEUE_UNITS);
        let outlet = Arc::new(Outlet::new(sender, self.stamper.clone()));
        let pipeline = gst::Pipeline::new();
        let source = rtsp_source(address)?;
        pipeline.add(&source).map_err(|_| SourceError::Machine("the pipeline takes no source".into()))?;
        choose_streams(&source, &outlet);
        link_video(&pipeline, &source, &outlet);
        watch_bus(&pipeline, &outlet);
        let (running, closed) = Running::new(pipeline);
        let playing = running.pipeline.set_state(gst::State::Playing);
        playing.map_err(|_| SourceError::Unreachable("refused at once".into()))?;
        Ok(Source::new(items, running).watched(outlet.losses(), outlet.waiting(), closed))
    }
}

fn rtsp_source(address: &Address) -> Result<gst::Element, SourceError> {
    let source = element("rtspsrc")?;
    source.set_property("location", &address.url);
    source.set_property("latency", LATENCY_MS);
    source.set_property("tcp-timeout", CONNECT_TIMEOUT_US);
    // No silent change to TCP: the installer chose.
    source.set_property("timeout", 0u64);
    source.set_property("add-reference-timestamp-meta", true);
    source.set_property("user-agent", concat!("Campanile/", env!("CARGO_PKG_VERSION")));
    let protocols = match address.transport {
        Transport::Tcp => "tcp",
        Transport::Udp => "udp",
    };
    source.set_property_from_str("protocols", protocols);
    if let (Some(user), Some(password)) = (&address.username, &address.password) {
        source.set_property("user-id", user);
        source.set_property("user-pw", password.expose());
    }
    Ok(source)
}

/// Asks for the first video stream only, and notes what it is when it cannot be recorded.
fn choose_streams(source: &gst::Element, outlet: &Arc<Outlet>) {
    let outlet = outlet.clone();
    let chosen = AtomicBool::new(false);
    source.connect("select-stream", false, move |values| {
        let caps = values.get(2).and_then(|value| value.get::<gst::Caps>().ok());
        let wanted = caps.as_ref().and_then(|caps| caps.structure(0)).is_some_and(|structure| {
            if structure.get::<&str>("media") != Ok("video") {
                return false;
            }
            if codec_of(structure).is_none() {
                outlet.found(structure.get::<&str>("encoding-name").unwrap_or("an unnamed format"));
                return false;
            }
            !chosen.swap(true, Ordering::SeqCst)
        });
        Some(wanted.to_value())
    });
}

fn codec_of(structure: &gst::StructureRef) -> Option<Codec> {
    match structure.get::<&str>("encoding-name") {
        Ok("H264") => Some(Codec::H264),
        Ok("H265") => Some(Codec::H265),
        _ => None,
    }
}

fn link_video(pipeline: &gst::Pipeline, source: &gst::Element, outlet: &Arc<Outlet>) {
    let (to, pipeline) = (outlet.clone(), pipeline.downgrade());
    source.connect_pad_added(move |_, pad| {
        let Some(pipeline) = pipeline.upgrade() else { return };
        let caps = pad.current_caps().unwrap_or_else(|| pad.query_caps(None));
        let Some((codec, structure)) = caps.structure(0).and_then(|s| Some((codec_of(s)?, s))) else { return };
        let sprops: Vec<&str> = ["sprop-parameter-sets", "sprop-vps", "sprop-sps", "sprop-pps"]
            .iter()
            .filter_map(|name| structure.get::<&str>(*name).ok())
            .collect();
        let clock_rate = structure.get::<i32>("clock-rate").ok().and_then(|rate| u32::try_from(rate).ok());
        to.begin(codec, clock_rate.unwrap_or(90_000), &sprops);
        let sink = gst_app::AppSink::builder().sync(false).async_(false).callbacks(packets_to(&to)).build();
        let linked = pipeline.add(&sink).is_ok()
            && sink.sync_state_with_parent().is_ok()
            && sink.static_pad("sink").is_some_and(|sink_pad| pad.link(&sink_pad).is_ok());
        if !linked {
            to.end(SourceError::Machine("the stream could not be linked".into()));
        }
    });
    let to = outlet.clone();
    source.connect_no_more_pads(move |_| to.no_more_streams());
}

fn packets_to(outlet: &Arc<Outlet>) -> gst_app::AppSinkCallbacks {
    let (packets, ended) = (outlet.clone(), outlet.clone());
    gst_app::AppSinkCallbacks::builder()
        .new_sample(move |sink| {
            let sample = sink.pull_sample().map_err(|_| gst::FlowError::Eos)?;
            if let Some(buffer) = sample.buffer()
                && let Ok(map) = buffer.map_readable()
            {
                packets.packet(&map, camera_time(buffer));
            }
            Ok(gst::FlowSuccess::Ok)
        })
        .eos(move |_| ended.end(SourceError::Ended("end of stream".into())))
        .build()
}

/// What the camera's sender reports say of this packet.
fn camera_time(buffer: &gst::BufferRef) -> Option<i64> {
    let mut metas = buffer.iter_meta::<gst::ReferenceTimestampMeta>();
    let meta = metas.find(|m| m.reference().structure(0).is_some_and(|s| s.name() == "timestamp/x-ntp"))?;
    i64::try_from(meta.timestamp().useconds()).ok()?.checked_sub(NTP_TO_UNIX_US)
}

fn watch_bus(pipeline: &gst::Pipeline, outlet: &Arc<Outlet>) {
    let Some(bus) = pipeline.bus() else { return };
    let outlet = outlet.clone();
    bus.set_sync_handler(move |_, message| {
        match message.view() {
            gst::MessageView::Error(error) => outlet.end(cause(&error.error())),
            gst::MessageView::Eos(_) => outlet.end(SourceError::Ended("end of stream".into())),
            _ => {}
        }
        gst::BusSyncReply::Drop
    });
}

/// GStreamer's sentence is kept only where it names no address and no user.
fn cause(error: &gst::glib::Error) -> SourceError {
    match error.kind::<gst::ResourceError>() {
        Some(gst::ResourceError::NotAuthorized) => SourceError::AuthenticationRefused,
        Some(gst::ResourceError::NotFound) => SourceError::Unreachable("no such stream at the camera".into()),
        Some(gst::ResourceError::Read) => SourceError::Ended("the connection broke".into()),
        Some(gst::ResourceError::Settings) => SourceError::Unreachable("it offers no such transport".into()),
        Some(_) => SourceError::Unreachable("no connection".into()),
        None => SourceError::Ended("it sends what is not RTP video".into()),
    }
}

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

/// Decodes units of one stream into small pictures, in a thread of its own.
pub struct Decoder {
    source: gst_app::AppSrc,
    pictures: std_mpsc::Receiver<Picture>,
    failed: Arc<AtomicBool>,
    running: Running,
}

/// A decoder whose plugins are loaded and that has seen no byte of a camera.
pub struct IdleDecoder(Decoder);

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
        decoder.source.set_caps(Some(&caps));
        let playing = decoder.running.pipeline.set_state(gst::State::Playing);
        playing.map_err(|_| SourceError::Machine("the decoder does not start".into()))?;
        Ok(decoder)
    }
}

impl Decoder {
    /// Loads what `format` needs: of it only the codec and the size are looked at.
    pub fn load(format: &StreamFormat) -> Result<IdleDecoder, SourceError> {
        initialise()?;
        let pipeline = gst::Pipeline::new();
        let (parser, decoder) = match format.codec {
            Codec::H264 => ("h264parse", "avdec_h264"),
            Codec::H265 => ("h265parse", "avdec_h265"),
        };
        let source = gst_app::AppSrc::builder().format(gst::Format::Time).is_live(true).block(true).build();
        source.set_max_bytes(QUEUE_BYTES);
        let (parser, decoder, convert) = (element(parser)?, element(decoder)?, element("videoconvertscale")?);
        decoder.set_property("max-threads", 1i32);
        thin_out(&decoder);
        let width = format.width.min(PICTURE_WIDTH) & !1;
        let height = (format.height * width / format.width.max(1)).max(2) & !1;
        let raw = gst::Caps::builder("video/x-raw")
            .field("format", "I420")
            .field("width", width as i32)
            .field("height", height as i32)
            .field("pixel-aspect-ratio", gst::Fraction::new(1, 1))
            .build();
        let (sender, pictures) = std_mpsc::sync_channel(QUEUE_PICTURES);
        let sink = gst_app::AppSink::builder().sync(false).caps(&raw).callbacks(pictures_to(sender)).build();
        let chain = [source.upcast_ref(), &parser, &decoder, &convert, sink.upcast_ref()];
        pipeline.add_many(chain).map_err(|_| SourceError::Machine("the decoder's parts do not fit".into()))?;
        gst::Element::link_many(chain).map_err(|_| SourceError::Machine("the decoder's parts do not link".into()))?;
        let failed = Arc::new(AtomicBool::new(false));
        let note = failed.clone();
        if let Some(bus) = pipeline.bus() {
            bus.set_sync_handler(move |_, message| {
                if matches!(message.view(), gst::MessageView::Error(_)) {
                    note.store(true, Ordering::Release);
                }
                gst::BusSyncReply::Drop
            });
        }
        let (running, _) = Running::new(pipeline);
        let ready = running.pipeline.set_state(gst::State::Ready);
        ready.map_err(|_| SourceError::Machine("the decoder does not get ready".into()))?;
        Ok(IdleDecoder(Self { source, pictures, failed, running }))
    }

    /// Waits while the decoder has enough; false when it failed for good.
    pub fn push(&self, data: bytes::Bytes, pts_90k: i64) -> bool {
        let mut buffer = gst::Buffer::from_slice(data);
        if let Some(buffer) = buffer.get_mut() {
            // An offset, so that pictures reordered before the first stay positive.
            let ns = (pts_90k.saturating_add(PTS_OFFSET_90K)).max(0) as u64 * 100_000 / 9;
            buffer.set_pts(gst::ClockTime::from_nseconds(ns));
        }
        self.source.push_buffer(buffer).is_ok() && !self.failed.load(Ordering::Acquire)
    }

    /// The next picture if there is one already.
    pub fn next(&self) -> Option<Picture> {
        self.pictures.try_recv().ok()
    }

    /// No more units come: the pictures that were still inside.
    pub fn finish(&self) -> Vec<Picture> {
        let _ = self.source.end_of_stream();
        std::iter::from_fn(|| self.pictures.recv_timeout(Duration::from_millis(500)).ok()).collect()
    }
}

const PTS_OFFSET_90K: i64 = 900_000;

/// Lets through at most `PICTURES_PER_SECOND` decoded pictures; every one is decoded all the same.
fn thin_out(decoder: &gst::Element) {
    let next_ns = AtomicU64::new(0);
    let Some(pad) = decoder.static_pad("src") else { return };
    pad.add_probe(gst::PadProbeType::BUFFER, move |_, probe| {
        let Some(pts) = probe.buffer().and_then(|buffer| buffer.pts()) else { return gst::PadProbeReturn::Ok };
        let (now, next) = (pts.nseconds(), next_ns.load(Ordering::Relaxed));
        let step = 1_000_000_000 / PICTURES_PER_SECOND;
        // A tenth early is in time, for cameras' clocks jitter; a time line that jumped starts anew.
        if now + step / 10 < next && next - now <= 2 * step {
            return gst::PadProbeReturn::Drop;
        }
        let due = if now > next + step || next > now + step { now } else { next };
        next_ns.store(due + step, Ordering::Relaxed);
        gst::PadProbeReturn::Ok
    });
}

fn pictures_to(sender: std_mpsc::SyncSender<Picture>) -> gst_app::AppSinkCallbacks {
    gst_app::AppSinkCallbacks::builder()
        .new_sample(move |sink| {
            let sample = sink.pull_sample().map_err(|_| gst::FlowError::Eos)?;
            if let Some(picture) = picture(&sample) {
                let _ = sender.try_send(picture);
            }
            Ok(gst::FlowSuccess::Ok)
        })
        .build()
}

fn picture(sample: &gst::Sample) -> Option<Picture> {
    let (buffer, caps) = (sample.buffer()?, sample.caps()?.structure(0)?);
    let pts_90k = ((buffer.pts()?.nseconds() * 9 + 50_000) / 100_000) as i64 - PTS_OFFSET_90K;
    let width = usize::try_from(caps.get::<i32>("width").ok()?).ok()?;
    let height = usize::try_from(caps.get::<i32>("height").ok()?).ok()?;
    let planes = buffer.map_readable().ok()?.to_vec();
    // Layout of I420 in system memory: GstVideoInfo rounds strides up to 4 bytes and rows to 2.
    let (stride, half) = (width.next_multiple_of(4), width.div_ceil(2).next_multiple_of(4));
    let (rows, half_rows) = (height.next_multiple_of(2), height.div_ceil(2));
    let offsets = [0, stride * rows, stride * rows + half * half_rows];
    (planes.len() >= offsets[2] + half * half_rows).then_some(Picture {
        pts_90k,
        width,
        height,
        planes,
        offsets,
        strides: [stride, half, half],
    })
}
