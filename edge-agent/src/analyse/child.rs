//! `campanile-edge analyse`: the child. Its standard input is a socket to the agent.

use super::frame::{BadFrame, Frame, HEAD_BYTES};
use super::look::Look;
use super::patience::SIGN;
use super::sandbox::{self, SandboxError};
use crate::media::SourceError;
use crate::media::gst::{Decoder, Picture};
use bytes::{Bytes, BytesMut};
use campanile_proto::types::v1::Instant;
use nix::time::{ClockId, clock_gettime};
use std::collections::VecDeque;
use std::io::{BufReader, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant as Moment};

/// Read at once: a unit of a sub-stream is smaller.
const READ_BYTES: usize = 32 << 10;
/// Units whose pictures are still in the decoder: reordering and queues hold far fewer.
const MAX_INSIDE: usize = 256;

/// Why the child ends before it was told to.
#[derive(Debug, thiserror::Error)]
pub enum ChildError {
    #[error("standard input is not a socket of the agent")]
    NoSocket(#[source] std::io::Error),
    #[error("the agent cannot be heard or answered")]
    Talk(#[source] std::io::Error),
    #[error("the agent says what this child does not understand")]
    Frame(#[from] BadFrame),
    #[error("the agent did not begin with a format")]
    NoFormat,
    #[error("no decoder")]
    Decoder(#[source] SourceError),
    #[error("this child is not shut in and looks at nothing")]
    NotShutIn(#[from] SandboxError),
    #[error("the decoder gave up")]
    DecoderFailed,
}

/// Runs until the agent closes the socket.
pub fn run() -> Result<(), ChildError> {
    let descriptor = std::io::stdin().as_fd().try_clone_to_owned().map_err(ChildError::NoSocket)?;
    let mut socket = BufReader::with_capacity(READ_BYTES, UnixStream::from(descriptor));
    let Some(Frame::Begin { camera, ignore, format }) = read(&mut socket)? else { return Err(ChildError::NoFormat) };
    let mut held = sandbox::limit();
    let idle = Decoder::load(&format).map_err(ChildError::Decoder)?;
    held.insert(0, sandbox::enter()?);
    let decoder = idle.begin(&format).map_err(ChildError::Decoder)?;
    send(&mut socket, &[Frame::Ready { sandbox: held.join("; ") }])?;

    let (mut look, mut inside, mut found) = (Look::new(camera, ignore), VecDeque::new(), Vec::new());
    let (mut spent, mut said_at) = (Spent::default(), Moment::now());
    while let Some(frame) = read(&mut socket)? {
        let Frame::Unit { pts_90k, arrival, data } = frame else { continue };
        inside.push_back((pts_90k, arrival));
        if inside.len() > MAX_INSIDE {
            inside.pop_front();
        }
        let whole = spent.on_decoding(|| decoder.push(data, pts_90k));
        if !whole {
            return Err(ChildError::DecoderFailed);
        }
        while let Some(picture) = decoder.next() {
            spent.on_looking(|| see(&mut look, &picture, &mut inside, &mut found));
        }
        if said_at.elapsed() >= SIGN {
            said_at = Moment::now();
            found.push(spent.said());
        }
        send(&mut socket, &found)?;
        found.clear();
    }
    for picture in decoder.finish() {
        see(&mut look, &picture, &mut inside, &mut found);
    }
    look.finish(&mut found);
    send(&mut socket, &found)
}

/// Processor time of this thread.
#[derive(Debug, Default)]
struct Spent {
    decoding: Duration,
    looking: Duration,
}

impl Spent {
    fn on_decoding<T>(&mut self, work: impl FnOnce() -> T) -> T {
        let (done, took) = timed(work);
        self.decoding += took;
        done
    }

    fn on_looking<T>(&mut self, work: impl FnOnce() -> T) -> T {
        let (done, took) = timed(work);
        self.looking += took;
        done
    }

    fn said(&self) -> Frame {
        let us = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        Frame::Alive { decode_us: us(self.decoding), look_us: us(self.looking) }
    }
}

fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let now = || clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map_or(Duration::ZERO, Duration::from);
    let before = now();
    let done = work();
    (done, now().saturating_sub(before))
}

/// Finds when the unit of this picture arrived.
fn see(look: &mut Look, picture: &Picture, inside: &mut VecDeque<(i64, Instant)>, found: &mut Vec<Frame>) {
    // The way through GStreamer's nanoseconds rounds.
    let Some(at) = inside.iter().position(|(pts, _)| (pts - picture.pts_90k).abs() <= 2) else { return };
    let arrival = inside[at].1.clone();
    look.picture(picture, &arrival, found);
}

/// The next frame; `None` when the agent closed the socket.
fn read(socket: &mut BufReader<UnixStream>) -> Result<Option<Frame>, ChildError> {
    let mut head = [0; HEAD_BYTES];
    match socket.read_exact(&mut head) {
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(None),
        other => other.map_err(ChildError::Talk)?,
    }
    let mut body = BytesMut::zeroed(Frame::body_bytes(&head)?);
    socket.read_exact(&mut body).map_err(ChildError::Talk)?;
    Ok(Some(Frame::decode(head[0], Bytes::from(body))?))
}

fn send(socket: &mut BufReader<UnixStream>, frames: &[Frame]) -> Result<(), ChildError> {
    let socket = socket.get_mut();
    frames.iter().try_for_each(|frame| socket.write_all(&frame.encode())).map_err(ChildError::Talk)
}
