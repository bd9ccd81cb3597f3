//! What parent and child say to each other: frames over a socket pair.
//!
//! ```text
//! frame = kind u8 | length u32 LE | body
//! ```

use crate::media::{Codec, StreamFormat};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use campanile_proto::grid::CellSet;
use campanile_proto::ids::{CameraId, ObjectId};
use campanile_proto::types::v1::Instant;
use prost::Message;

/// An access unit is at most 8 MiB.
const MAX_BODY: usize = 9 << 20;
pub const HEAD_BYTES: usize = 5;

#[derive(Debug, Clone, PartialEq)]
pub enum Frame {
    /// First, to the child.
    Begin { camera: CameraId, ignore: CellSet, format: StreamFormat },
    /// To the child.
    Unit { pts_90k: i64, arrival: Instant, data: Bytes },
    /// First, to the parent: what holds the child.
    Ready { sandbox: String },
    /// To the parent, for units it was given: it works, and what of the processor that took since it began.
    Alive { decode_us: u64, look_us: u64 },
    /// To the parent: an `IndexRecord`.
    Found { object: ObjectId, revision: u64, at: Instant, record: Bytes },
}

/// Bytes that are no frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadFrame {
    #[error("a frame of {0} bytes is too long")]
    TooLong(usize),
    #[error("a frame of kind {0} cannot be read")]
    Unreadable(u8),
}

impl Frame {
    pub fn encode(&self) -> Bytes {
        let mut body = BytesMut::new();
        let kind = match self {
            Self::Begin { camera, ignore, format } => {
                body.put_slice(camera.as_bytes());
                body.put_slice(&ignore.to_bytes());
                body.put_u8(if format.codec == Codec::H264 { 1 } else { 2 });
                body.put_u32_le(format.width);
                body.put_u32_le(format.height);
                body.put_slice(&format.decoder_configuration);
                1
            }
            Self::Unit { pts_90k, arrival, data } => {
                body.reserve(data.len() + 64);
                body.put_i64_le(*pts_90k);
                put_instant(&mut body, arrival);
                body.put_slice(data);
                2
            }
            Self::Ready { sandbox } => {
                body.put_slice(sandbox.as_bytes());
                3
            }
            Self::Found { object, revision, at, record } => {
                body.put_slice(object.as_bytes());
                body.put_u64_le(*revision);
                put_instant(&mut body, at);
                body.put_slice(record);
                4
            }
            Self::Alive { decode_us, look_us } => {
                body.put_u64_le(*decode_us);
                body.put_u64_le(*look_us);
                5
            }
        };
        let mut frame = BytesMut::with_capacity(HEAD_BYTES + body.len());
        frame.put_u8(kind);
        frame.put_u32_le(body.len() as u32);
        frame.put(body);
        frame.freeze()
    }

    /// Length of the body behind these first bytes.
    pub fn body_bytes(head: &[u8; HEAD_BYTES]) -> Result<usize, BadFrame> {
        let length = u32::from_le_bytes([head[1], head[2], head[3], head[4]]) as usize;
        if length > MAX_BODY { Err(BadFrame::TooLong(length)) } else { Ok(length) }
    }

    pub fn decode(kind: u8, body: Bytes) -> Result<Self, BadFrame> {
        parse(kind, body).ok_or(BadFrame::Unreadable(kind))
    }
}

fn parse(kind: u8, mut body: Bytes) -> Option<Frame> {
    Some(match kind {
        1 => {
            let camera = CameraId::try_from(body.get(..16)?).ok()?;
            body.advance(16);
            let ignore = CellSet::from_bytes(body.get(..72)?).ok()?;
            body.advance(72);
            let codec = match body.try_get_u8().ok()? {
                1 => Codec::H264,
                2 => Codec::H265,
                _ => return None,
            };
            let (width, height) = (body.try_get_u32_le().ok()?, body.try_get_u32_le().ok()?);
            Frame::Begin { camera, ignore, format: StreamFormat { codec, width, height, decoder_configuration: body } }
        }
        2 => Frame::Unit { pts_90k: body.try_get_i64_le().ok()?, arrival: take_instant(&mut body)?, data: body },
        3 => Frame::Ready { sandbox: String::from_utf8_lossy(body.get(..body.len().min(500))?).into_owned() },
        4 => {
            let object = ObjectId::try_from(body.get(..16)?).ok()?;
            body.advance(16);
            let revision = body.try_get_u64_le().ok()?;
            Frame::Found { object, revision, at: take_instant(&mut body)?, record: body }
        }
        5 => Frame::Alive { decode_us: body.try_get_u64_le().ok()?, look_us: body.try_get_u64_le().ok()? },
        _ => return None,
    })
}

fn put_instant(body: &mut BytesMut, instant: &Instant) {
    let bytes = instant.encode_to_vec();
    body.put_u8(bytes.len() as u8);
    body.put_slice(&bytes);
}

fn take_instant(body: &mut Bytes) -> Option<Instant> {
    let length = usize::from(body.try_get_u8().ok()?);
    let instant = Instant::decode(body.get(..length)?).ok()?;
    body.advance(length);
    Some(instant)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn frames_survive_the_socket() {
        let at = Instant { boot_id: vec![7; 16].into(), mono_us: 1, utc_us: -2, uncertainty_us: 3 };
        let format = StreamFormat {
            codec: Codec::H265,
            width: 640,
            height: 360,
            decoder_configuration: Bytes::from_static(b"c"),
        };
        for frame in [
            Frame::Begin { camera: CameraId::random(), ignore: CellSet::FULL, format },
            Frame::Unit { pts_90k: -5, arrival: at.clone(), data: Bytes::from_static(b"unit") },
            Frame::Ready { sandbox: "seccomp".into() },
            Frame::Alive { decode_us: 1 << 40, look_us: 3 },
            Frame::Found { object: ObjectId::random(), revision: 9, at, record: Bytes::from_static(b"record") },
        ] {
            let bytes = frame.encode();
            let head: &[u8; HEAD_BYTES] = bytes.first_chunk().unwrap();
            assert_eq!(Frame::body_bytes(head), Ok(bytes.len() - HEAD_BYTES));
            assert_eq!(Frame::decode(head[0], bytes.slice(HEAD_BYTES..)), Ok(frame));
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(kind in 0u8..7, body in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = Frame::decode(kind, body.into());
        }
    }
}
