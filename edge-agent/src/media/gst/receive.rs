//! Opens RTSP streams over UDP and TLS as packets.

use super::{element, initialise};
use crate::config::Transport;
use crate::media::outlet::Outlet;
use crate::media::rtcp::NTP_TO_UNIX_US;
use crate::media::stamp::Stamper;
use crate::media::{Address, Codec, QUEUE_UNITS, Source, SourceError};
use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_app as gst_app;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{mpsc, oneshot};

/// Jitter a camera's network may show over UDP.
const LATENCY_MS: u32 = 200;
/// A camera that does not answer within this is unreachable.
const CONNECT_TIMEOUT_US: u64 = 5_000_000;

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

/// Opens a stream over UDP or TLS.
pub fn open(address: &Address, stamper: &Stamper) -> Result<Source, SourceError> {
    initialise()?;
    let (sender, items) = mpsc::channel(QUEUE_UNITS);
    let outlet = Arc::new(Outlet::new(sender, stamper.clone()));
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
