//! RTSP over TCP (RFC 2326), the way most cameras are read: the words are retina's, the packets go to our outlet.
//!
//! Belongs here: which stream of a camera is asked for, its packets and reports, why a connection ended.
//! Does not belong here: what packets become (`outlet`), when to try again (`camera`), UDP and TLS (`gst`).
//! Invariant: retina puts nothing together from packets; every NAL unit reaches the outlet as sent.

mod sets;
#[cfg(test)]
mod tests;

pub use sets::parameter_sets;

use super::outlet::Outlet;
use super::rtcp::{self, SenderReport};
use super::stamp::Stamper;
use super::{Address, Codec, Opener, Source, SourceError, gst};
use crate::config::Transport;
use futures::StreamExt;
use retina::client::{
    Credentials, Described, InitialSequenceNumberPolicy, InitialTimestampPolicy, PacketItem, PlayOptions, Playing,
    Session, SessionOptions, SetupOptions, Stream, UnknownRtcpSsrcPolicy,
};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

/// A camera that does not answer within this is unreachable.
const ANSWER: Duration = Duration::from_secs(5);

/// Opens RTSP addresses: over TCP itself, others through GStreamer, which is loaded at the first of them.
pub struct RtspOpener {
    stamper: Stamper,
}

impl RtspOpener {
    pub fn new(stamper: Stamper) -> Self {
        Self { stamper }
    }
}

impl Opener for RtspOpener {
    fn open(&self, address: &Address) -> Result<Source, SourceError> {
        if !address.url.starts_with("rtsp://") || address.transport == Transport::Udp {
            return gst::open(address, &self.stamper);
        }
        let (sender, items) = mpsc::channel(super::QUEUE_UNITS);
        let outlet = Arc::new(Outlet::new(sender, self.stamper.clone()));
        let (losses, waiting) = (outlet.losses(), outlet.waiting());
        let (open, (is_closed, closed)) = (CancellationToken::new(), oneshot::channel());
        tokio::spawn(read(address.clone(), outlet, open.clone(), is_closed));
        Ok(Source::new(items, open.drop_guard()).watched(losses, waiting, closed))
    }
}

/// One connection from its beginning to its end. The session takes its leave of the camera as it is dropped.
async fn read(address: Address, outlet: Arc<Outlet>, stop: CancellationToken, is_closed: oneshot::Sender<()>) {
    tokio::select! {
        () = stop.cancelled() => {}
        Err(error) = receive(&address, &outlet) => outlet.end(error),
    }
    drop(is_closed);
}

async fn receive(address: &Address, outlet: &Outlet) -> Result<Infallible, SourceError> {
    let mut session = described(address).await?;
    let (number, codec) = choose(session.streams(), outlet)?;
    in_time(session.setup(number, SetupOptions::default())).await?;
    let video = &session.streams()[number];
    let (payload_type, clock_rate) = (video.rtp_payload_type(), video.clock_rate_hz());
    let sets = parameter_sets(session.sdp(), payload_type);
    outlet.begin(codec, clock_rate, &sets.iter().map(String::as_str).collect::<Vec<_>>());
    // What the camera says of its first packet is not needed, and often wrong.
    let options = PlayOptions::default()
        .initial_timestamp(InitialTimestampPolicy::Ignore)
        .initial_seq(InitialSequenceNumberPolicy::Ignore)
        .unknown_rtcp_ssrc(UnknownRtcpSsrcPolicy::ProcessPackets);
    let mut session = in_time(session.play(options)).await?;
    let mut followed = Followed { payload_type, clock_rate, report: None };
    loop {
        followed.take(next(&mut session).await?, outlet)?;
    }
}

async fn described(address: &Address) -> Result<Session<Described>, SourceError> {
    let url = address.url.parse().map_err(|_| SourceError::Unreachable("its address is none".into()))?;
    let credentials = address.username.clone().zip(address.password.as_ref());
    let credentials =
        credentials.map(|(username, password)| Credentials { username, password: password.expose().into() });
    let name = concat!("Campanile/", env!("CARGO_PKG_VERSION")).to_owned();
    in_time(Session::describe(url, SessionOptions::default().creds(credentials).user_agent(name))).await
}

/// The first video stream that can be recorded; what others there are is noted.
fn choose(streams: &[Stream], outlet: &Outlet) -> Result<(usize, Codec), SourceError> {
    for (number, stream) in streams.iter().enumerate().filter(|(_, stream)| stream.media() == "video") {
        match stream.encoding_name() {
            "h264" => return Ok((number, Codec::H264)),
            "h265" => return Ok((number, Codec::H265)),
            other => outlet.found(&other.to_ascii_uppercase()),
        }
    }
    Err(SourceError::UnsupportedCodec("no video".into()))
}

/// A camera's answer, while it answers.
async fn in_time<T>(answer: impl Future<Output = Result<T, retina::Error>>) -> Result<T, SourceError> {
    let answered = tokio::time::timeout(ANSWER, answer).await;
    answered.map_err(|_| SourceError::Unreachable("no answer".into()))?.map_err(|error| refusal(&error))
}

/// RFC 2326 section 7.1.1. retina's sentences name addresses: they stay in the log.
fn refusal(error: &retina::Error) -> SourceError {
    tracing::debug!(%error, "a camera does not play");
    match error.status_code() {
        Some(401 | 403) => SourceError::AuthenticationRefused,
        Some(404 | 410) => SourceError::Unreachable("no such stream at the camera".into()),
        Some(461) => SourceError::Unreachable("it offers no such transport".into()),
        Some(200..300) => SourceError::Unreachable("its answer cannot be understood".into()),
        Some(status) => SourceError::Unreachable(format!("it refuses with status {status}")),
        None => SourceError::Unreachable("no connection".into()),
    }
}

async fn next(session: &mut Session<Playing>) -> Result<PacketItem, SourceError> {
    match session.next().await {
        Some(Ok(item)) => Ok(item),
        Some(Err(error)) => {
            tracing::debug!(%error, "a camera's connection broke");
            Err(SourceError::Ended("the connection broke".into()))
        }
        None => Err(SourceError::Ended("end of stream".into())),
    }
}

/// The stream that is received.
struct Followed {
    payload_type: u8,
    clock_rate: u32,
    report: Option<SenderReport>,
}

impl Followed {
    fn take(&mut self, item: PacketItem, outlet: &Outlet) -> Result<(), SourceError> {
        match item {
            PacketItem::Rtp(packet) if packet.header().payload_type() == self.payload_type => {
                let rtp_time = packet.header().timestamp();
                let camera_ntp_us = self.report.map(|report| report.utc_us_of(rtp_time, self.clock_rate));
                outlet.packet(packet.raw(), camera_ntp_us);
            }
            PacketItem::Rtcp(packet) => {
                let told = rtcp::read(packet.raw());
                self.report = told.sender.or(self.report);
                if told.goodbye {
                    return Err(SourceError::Ended("end of stream".into()));
                }
            }
            _ => {}
        }
        Ok(())
    }
}
