//! Bytes of the connection become packets and messages. Pure.

use super::answer::{Answer, Head};
use bytes::{Buf, Bytes, BytesMut};

/// Of a message's first part, and of a description.
const MAX_HEAD: usize = 16 << 10;
const MAX_BODY: usize = 256 << 10;
/// Between two packets some cameras send what is neither; more than this, and it is no RTSP.
const MAX_NOISE: usize = 256 << 10;
/// Before a packet: `$`, channel, length in 2 bytes (RFC 2326 section 10.12).
const PREFIX: usize = 4;

/// What came next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Piece {
    Packet {
        channel: u8,
        bytes: Bytes,
    },
    Answer {
        number: Option<u32>,
        answer: Answer,
    },
    /// The camera asks something.
    Question {
        number: Option<u32>,
    },
}

/// What comes is not RTSP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Noise;

/// Takes bytes as they come.
#[derive(Debug, Default)]
pub(super) struct Wire {
    pub bytes: BytesMut,
    noise: usize,
}

impl Wire {
    /// The next whole piece; none before more bytes came.
    pub fn next(&mut self) -> Result<Option<Piece>, Noise> {
        loop {
            match *self.bytes {
                [] => return Ok(None),
                [b'$', ..] => return Ok(self.packet()),
                [b'A'..=b'Z', ..] => match self.message() {
                    Some(piece) => return Ok(piece),
                    None => self.skip()?,
                },
                _ => self.skip()?,
            }
        }
    }

    fn packet(&mut self) -> Option<Piece> {
        let (&[_, channel, high, low], rest) = self.bytes.split_first_chunk::<PREFIX>()?;
        let length = usize::from(u16::from_be_bytes([high, low]));
        if rest.len() < length {
            return None;
        }
        self.bytes.advance(PREFIX);
        self.noise = 0;
        Some(Piece::Packet { channel, bytes: self.bytes.split_to(length).freeze() })
    }

    /// `Some(None)`: it is not whole yet. `None`: it is no message.
    fn message(&mut self) -> Option<Option<Piece>> {
        let within = &self.bytes[..self.bytes.len().min(MAX_HEAD)];
        let Some((end, behind)) = end_of_head(within) else { return (within.len() < MAX_HEAD).then_some(None) };
        let head = Head::parse(&within[..end])?;
        let length = head.body_bytes();
        if length > MAX_BODY {
            return None;
        }
        if self.bytes.len() < behind + length {
            return Some(None);
        }
        self.bytes.advance(behind);
        let body = self.bytes.split_to(length).freeze();
        self.noise = 0;
        let number = head.number();
        Some(Some(match head.answer(body) {
            Some(answer) => Piece::Answer { number, answer },
            None => Piece::Question { number },
        }))
    }

    /// Up to what may be a packet or a message.
    fn skip(&mut self) -> Result<(), Noise> {
        let behind = self.bytes.iter().skip(1);
        let count = 1 + behind.take_while(|byte| !(**byte == b'$' || **byte == b'R')).count();
        self.bytes.advance(count);
        self.noise += count;
        if self.noise > MAX_NOISE { Err(Noise) } else { Ok(()) }
    }
}

/// Where a head ends, and where what follows begins.
fn end_of_head(bytes: &[u8]) -> Option<(usize, usize)> {
    let mut lines = bytes.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at);
    let mut last = lines.next()?;
    for at in lines {
        if matches!(bytes[last + 1..at], [] | [b'\r']) {
            return Some((last, at + 1));
        }
        last = at;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn all(wire: &mut Wire) -> Vec<Piece> {
        std::iter::from_fn(|| wire.next().unwrap()).collect()
    }

    const STREAM: &[u8] = b"RTSP/1.0 200 OK\r\nCSeq: 4\r\nContent-Length: 3\r\n\r\nv=0$\x00\x00\x02ab\
        $\x01\x00\x01cOPTIONS * RTSP/1.0\r\nCSeq: 1\r\n\r\n$\x00\x00\x00";

    fn of_stream() -> Vec<Piece> {
        let packet = |channel, bytes: &'static [u8]| Piece::Packet { channel, bytes: Bytes::from_static(bytes) };
        let head = Head::parse(b"RTSP/1.0 200 OK\r\nCSeq: 4\r\nContent-Length: 3").unwrap();
        let answer = head.answer(Bytes::from_static(b"v=0")).unwrap();
        vec![
            Piece::Answer { number: Some(4), answer },
            packet(0, b"ab"),
            packet(1, b"c"),
            Piece::Question { number: Some(1) },
            packet(0, b""),
        ]
    }

    #[test]
    fn packets_and_messages_are_told_apart_wherever_the_network_cuts() {
        for cut in 0..STREAM.len() {
            let mut wire = Wire::default();
            wire.bytes.extend_from_slice(&STREAM[..cut]);
            let mut pieces = all(&mut wire);
            wire.bytes.extend_from_slice(&STREAM[cut..]);
            pieces.extend(all(&mut wire));
            assert_eq!(pieces, of_stream(), "cut at {cut}");
        }
    }

    #[test]
    fn a_camera_that_sends_noise_between_packets_is_followed_and_one_that_sends_nothing_else_is_not() {
        let mut wire = Wire::default();
        wire.bytes.extend_from_slice(b"\r\n\0\0junk$\x00\x00\x01a\xff\xffSome rubbish\r\n\r\n$\x00\x00\x01b");
        let seen: Vec<_> = all(&mut wire);
        assert_eq!(seen.len(), 2, "{seen:?}");
        wire.bytes.extend_from_slice(&vec![0xff; MAX_NOISE + 2]);
        assert_eq!(wire.next(), Err(Noise));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic_and_what_waits_is_bounded(
            parts in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..400), 0..40),
            texts in proptest::collection::vec(0usize..6, 40)
        ) {
            const TEXTS: [&[u8]; 6] =
                [b"", b"$\0", b"RTSP/1.0 200 OK\r\n", b"\r\n\r\n", b"Content-Length: 99999999\r\n\r\n", b"CSeq:"];
            let mut wire = Wire::default();
            for (part, text) in parts.iter().zip(texts) {
                wire.bytes.extend_from_slice(TEXTS[text]);
                wire.bytes.extend_from_slice(part);
                while let Ok(Some(_)) = wire.next() {}
                prop_assert!(wire.bytes.len() <= MAX_HEAD + MAX_BODY + PREFIX + usize::from(u16::MAX));
            }
        }
    }
}
