//! The seam to the cameras.
//!
//! Belongs here: how streams are opened, packets become access units, and units become pictures.
//! Does not belong here: what is done with them (`record`, `analyse`), when to try again (`camera`).
//! Invariant: only `gst` names GStreamer; what leaves this folder are plain owned values.

pub mod bits;
pub mod budget;
pub mod depay;
pub mod gst;
pub mod outlet;
pub mod parameters;
pub mod rtcp;
pub mod rtp;
pub mod rtsp;
pub mod stamp;

use self::budget::Budget;
use crate::config::{CameraConfig, Secret, Transport};
use bytes::Bytes;
use campanile_proto::edge::v1::CameraCondition;
use campanile_proto::kind::Kind;
use campanile_proto::types::v1::{self, Instant};
use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

/// RTP video clock and stored timescale (RFC 6184 section 8.2.1, RFC 7798 section 7.1).
pub const TICKS_PER_SECOND: i64 = 90_000;

/// Units waiting for the recorder: 5 s of 25 pictures a second.
const QUEUE_UNITS: usize = 128;
/// Of them in bytes: 8 s of 32 Mbit/s.
pub const MAX_WAITING_BYTES: usize = 32 << 20;
/// A camera that is there answers a TEARDOWN at once.
const CLOSING: Duration = Duration::from_secs(1);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Codec {
    H264,
    H265,
}

impl From<Codec> for v1::Codec {
    fn from(codec: Codec) -> Self {
        match codec {
            Codec::H264 => Self::H264,
            Codec::H265 => Self::H265,
        }
    }
}

/// What a decoder must know before the first unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamFormat {
    pub codec: Codec,
    pub width: u32,
    pub height: u32,
    /// avcC or hvcC (ISO/IEC 14496-15), without the box header.
    pub decoder_configuration: Bytes,
}

/// One coded picture with all that was sent with it.
#[derive(Debug, Clone, PartialEq)]
pub struct AccessUnit {
    /// Complete NAL units in the order sent, each behind its length in 4 bytes, big-endian.
    pub data: Bytes,
    /// Presentation time since the connection's first unit; grows steadily but for reordered pictures.
    pub pts_90k: i64,
    /// As it stood on the wire.
    pub rtp_time: u32,
    /// The camera's own time by its sender reports, UTC; 0 when none was seen.
    pub camera_ntp_us: i64,
    /// Decoding can start here.
    pub key: bool,
    /// Of its first packet.
    pub arrival: Instant,
}

/// What a source gives, in order.
#[derive(Debug, Clone, PartialEq)]
pub enum Item {
    /// Holds for the units that follow; always before the first.
    Format(Arc<StreamFormat>),
    Unit(AccessUnit),
    /// Pictures of this time arrived and found no place; always before a key frame.
    Lost {
        from: Instant,
        to: Instant,
    },
}

/// What a connection lost so far.
#[derive(Debug, Default)]
pub struct Losses {
    /// RTP packets that never came, and NAL units left out for it.
    pub packets: AtomicU64,
    /// Units that arrived and found no place.
    pub pictures: AtomicU64,
}

/// Why a source ended. `Display` is a sentence for the installer and holds no secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SourceError {
    #[error("the camera does not answer at its address: {0}")]
    Unreachable(String),
    #[error("the camera refuses the user name or password")]
    AuthenticationRefused,
    #[error("the camera sends {0}, and only H.264 and H.265 are recorded")]
    UnsupportedCodec(String),
    #[error("the camera ended the stream: {0}")]
    Ended(String),
    #[error("no picture has arrived for {0} s")]
    NoBytes(u64),
    #[error("this machine cannot open streams: {0}")]
    Machine(String),
}

impl SourceError {
    pub fn condition(&self) -> CameraCondition {
        match self {
            Self::Unreachable(_) | Self::Ended(_) | Self::Machine(_) => CameraCondition::Unreachable,
            Self::AuthenticationRefused => CameraCondition::AuthenticationRefused,
            Self::UnsupportedCodec(_) => CameraCondition::UnsupportedCodec,
            Self::NoBytes(_) => CameraCondition::NoBytes,
        }
    }

    pub fn kind(&self) -> Kind {
        match self {
            Self::Unreachable(_) | Self::Ended(_) | Self::NoBytes(_) => Kind::Unavailable,
            Self::AuthenticationRefused => Kind::Unauthenticated,
            Self::UnsupportedCodec(_) => Kind::Unsupported,
            Self::Machine(_) => Kind::Internal,
        }
    }
}

/// Where and how to sign in. `Debug` shows no password.
#[derive(Debug, Clone)]
pub struct Address {
    pub url: String,
    pub username: Option<String>,
    pub password: Option<Secret>,
    pub transport: Transport,
}

impl Address {
    /// Of one of a camera's streams.
    pub fn of(camera: &CameraConfig, url: &str) -> Self {
        Self {
            url: url.to_owned(),
            username: camera.username.clone(),
            password: camera.password.clone(),
            transport: camera.transport,
        }
    }
}

/// An open stream; dropping it closes it.
pub struct Source {
    pub items: mpsc::Receiver<Result<Item, SourceError>>,
    pub losses: Arc<Losses>,
    /// Of the bytes in `items`: given back by whoever takes them.
    pub waiting: Arc<Budget>,
    open: Box<dyn Any + Send>,
    closed: Option<oneshot::Receiver<()>>,
}

impl Source {
    /// `open` keeps the stream open until it is dropped.
    pub fn new(items: mpsc::Receiver<Result<Item, SourceError>>, open: impl Any + Send) -> Self {
        let waiting = Arc::new(Budget::new(MAX_WAITING_BYTES));
        Self { items, losses: Arc::default(), waiting, open: Box::new(open), closed: None }
    }

    /// As `new`, with what it counts, and told when it is closed: the other end of `closed` is dropped then.
    pub fn watched(self, losses: Arc<Losses>, waiting: Arc<Budget>, closed: oneshot::Receiver<()>) -> Self {
        Self { losses, waiting, closed: Some(closed), ..self }
    }

    /// Closes the stream and waits for that, a while: a camera that serves one client at a time refuses the next
    /// connection before it has heard the end of this one.
    pub async fn close(self) {
        drop((self.open, self.items));
        if let Some(closed) = self.closed {
            let _ = tokio::time::timeout(CLOSING, closed).await;
        }
    }
}

/// Opens streams: GStreamer, or a test. Called off the runtime's threads.
pub trait Opener: Send + Sync {
    fn open(&self, address: &Address) -> Result<Source, SourceError>;
}

/// NAL units of length-prefixed data; stops at the first length that does not fit.
pub fn nal_units(data: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = data;
    std::iter::from_fn(move || {
        let (length, after) = rest.split_first_chunk::<4>()?;
        let (unit, after) = after.split_at_checked(u32::from_be_bytes(*length) as usize)?;
        rest = after;
        Some(unit)
    })
}
