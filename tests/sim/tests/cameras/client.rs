//! A plain RTSP client that keeps what it receives.

use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use campanile_sim::units::{Codec, hash_annexb};
use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_app as gst_app;

/// One received access unit.
#[derive(Debug, Clone)]
pub struct Received {
    pub sha256: String,
    pub pts_ns: u64,
}

pub struct Client {
    pipeline: gst::Pipeline,
    sink: gst_app::AppSink,
    codec: Codec,
    /// RTP times in order of arrival, one for each packet with a marker.
    rtp_times: std::sync::Arc<std::sync::Mutex<Vec<u32>>>,
}

impl Client {
    pub fn open(url: &str, user: &str, password: &str, codec: Codec, protocol: &str) -> anyhow::Result<Client> {
        gst::init()?;
        let name = match codec {
            Codec::H264 => "h264",
            Codec::H265 => "h265",
        };
        let pipeline = gst::parse::launch(&format!(
            "rtspsrc location={url} user-id={user} user-pw={password} protocols={protocol} latency=200 \
             ! rtp{name}depay name=depay ! {name}parse \
             ! video/x-{name},stream-format=byte-stream,alignment=au ! appsink name=out sync=false"
        ))?
        .downcast::<gst::Pipeline>()
        .map_err(|_| anyhow::anyhow!("no pipeline"))?;
        let sink = pipeline.by_name("out").and_then(|e| e.downcast::<gst_app::AppSink>().ok()).context("appsink")?;
        let rtp_times = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
        let noted = rtp_times.clone();
        let pad = pipeline.by_name("depay").and_then(|e| e.static_pad("sink")).context("depay")?;
        let note = move |buffer: &gst::BufferRef| {
            let Ok(map) = buffer.map_readable() else {
                return;
            };
            // RFC 3550 5.1: marker in the second byte, timestamp in bytes 4 to 7.
            if map.len() > 12 && map[1] & 0x80 != 0 {
                noted.lock().unwrap().push(u32::from_be_bytes([map[4], map[5], map[6], map[7]]));
            }
        };
        pad.add_probe(gst::PadProbeType::BUFFER | gst::PadProbeType::BUFFER_LIST, move |_, probe| {
            if let Some(buffer) = probe.buffer() {
                note(buffer);
            } else if let Some(list) = probe.buffer_list() {
                list.iter().for_each(&note);
            }
            gst::PadProbeReturn::Ok
        });
        pipeline.set_state(gst::State::Playing)?;
        Ok(Client { pipeline, sink, codec, rtp_times })
    }

    /// Receives `count` access units within `limit`.
    pub fn receive(&self, count: usize, limit: Duration) -> anyhow::Result<Vec<Received>> {
        let started = Instant::now();
        let bus = self.pipeline.bus().context("bus")?;
        let mut units = Vec::new();
        while units.len() < count {
            if let Some(message) = bus.pop_filtered(&[gst::MessageType::Error])
                && let gst::MessageView::Error(error) = message.view()
            {
                bail!("{}: {:?}", error.error(), error.debug());
            }
            if started.elapsed() > limit {
                bail!("{} of {count} access units after {limit:?}", units.len());
            }
            let Some(sample) = self.sink.try_pull_sample(gst::ClockTime::from_mseconds(200)) else {
                continue;
            };
            let buffer = sample.buffer().context("buffer")?;
            units.push(Received {
                sha256: hash_annexb(&buffer.map_readable()?, self.codec),
                pts_ns: buffer.pts().map_or(0, |pts| pts.nseconds()),
            });
        }
        Ok(units)
    }

    pub fn rtp_times(&self) -> Vec<u32> {
        self.rtp_times.lock().unwrap().clone()
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let _ = self.pipeline.set_state(gst::State::Null);
    }
}
