//! From RTP payloads to access units: RFC 6184 (H.264) and RFC 7798 (H.265), non-interleaved modes.
//! Every NAL unit that arrived whole is kept, in its order; one with a hole is left out.

use super::Codec;
use super::rtp::Packet;
use bytes::{BufMut, Bytes, BytesMut};

/// A 4K key frame at 200 Mbit/s stays below.
const MAX_UNIT_BYTES: usize = 8 << 20;
/// One picture in slices of a macroblock row, with everything around it.
const MAX_UNIT_NALS: usize = 4096;

/// An access unit without its times.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawUnit<T> {
    /// Length-prefixed NAL units.
    pub data: Bytes,
    pub timestamp: u32,
    pub key: bool,
    /// What the caller knew of its first packet.
    pub tag: T,
}

/// Collects packets of one stream.
pub struct Depayloader<T> {
    codec: Codec,
    unit: Option<Open<T>>,
    /// NAL units of a time stamp of their own, without a picture: parameter sets, messages, delimiters. They belong
    /// to the picture that follows.
    carried: Option<Carried<T>>,
    fragment: Option<BytesMut>,
    last_sequence: Option<u16>,
    last_finished: Option<u32>,
    /// The camera sets markers within a picture: only a new timestamp ends one.
    markers_lie: bool,
    /// Packets that were missing, and NAL units left out.
    pub lost: u64,
}

struct Carried<T> {
    data: BytesMut,
    nals: usize,
    tag: T,
}

struct Open<T> {
    data: BytesMut,
    timestamp: u32,
    nals: usize,
    key: bool,
    picture: bool,
    tag: T,
}

impl<T> Depayloader<T> {
    pub fn new(codec: Codec) -> Self {
        Self {
            codec,
            unit: None,
            carried: None,
            fragment: None,
            last_sequence: None,
            last_finished: None,
            markers_lie: false,
            lost: 0,
        }
    }

    /// Takes one packet; `tag` is called for the first of a unit. Gives the units it completes, in order.
    pub fn push(&mut self, packet: &Packet, tag: impl FnOnce() -> T, out: &mut Vec<RawUnit<T>>) {
        let expected = self.last_sequence.map(|last| last.wrapping_add(1));
        if let Some(missing) = expected.map(|expected| packet.sequence.wrapping_sub(expected)).filter(|n| *n != 0) {
            // Numbers that go back were reordered or begun anew: how many are missing is not known.
            self.lost += if missing < 1 << 15 { u64::from(missing) } else { 1 };
            self.fragment = None;
        }
        self.last_sequence = Some(packet.sequence);
        if self.unit.as_ref().is_some_and(|unit| unit.timestamp != packet.timestamp) {
            self.finish(out);
        }
        if self.last_finished == Some(packet.timestamp) && self.unit.is_none() {
            self.markers_lie = true;
        }
        if self.unit.is_none() {
            let Carried { data, nals, tag } =
                self.carried.take().unwrap_or_else(|| Carried { data: BytesMut::new(), nals: 0, tag: tag() });
            let timestamp = packet.timestamp;
            self.unit = Some(Open { data, timestamp, nals, key: false, picture: false, tag });
        }
        match self.codec {
            Codec::H264 => self.h264(packet.payload),
            Codec::H265 => self.h265(packet.payload),
        }
        if packet.marker && !self.markers_lie {
            self.finish(out);
        }
    }

    fn finish(&mut self, out: &mut Vec<RawUnit<T>>) {
        self.fragment = None;
        let Some(unit) = self.unit.take() else { return };
        self.last_finished = Some(unit.timestamp);
        let Open { data, timestamp, nals, key, picture, tag } = unit;
        if picture {
            out.push(RawUnit { data: data.freeze(), timestamp, key, tag });
        } else if nals > 0 {
            self.carried = Some(Carried { data, nals, tag });
        }
    }

    fn h264(&mut self, payload: &[u8]) {
        let Some((&indicator, rest)) = payload.split_first() else { return };
        match indicator & 0x1f {
            1..=23 => self.nal(payload),
            // STAP-A.
            24 => self.aggregate(rest),
            // FU-A.
            28 => {
                let Some((&header, rest)) = rest.split_first() else { return };
                self.fragment(header, &[indicator & 0xe0 | header & 0x1f], rest);
            }
            _ => self.lost += 1,
        }
    }

    fn h265(&mut self, payload: &[u8]) {
        let Some((&[first, second], rest)) = payload.split_first_chunk::<2>() else { return };
        match first >> 1 & 0x3f {
            48 => self.aggregate(rest),
            49 => {
                let Some((&header, rest)) = rest.split_first() else { return };
                self.fragment(header, &[first & 0x81 | (header & 0x3f) << 1, second], rest);
            }
            0..=47 => self.nal(payload),
            _ => self.lost += 1,
        }
    }

    /// Several NAL units, each behind its length in 2 bytes.
    fn aggregate(&mut self, mut rest: &[u8]) {
        while let Some((size, after)) = rest.split_first_chunk::<2>() {
            let Some((nal, after)) = after.split_at_checked(usize::from(u16::from_be_bytes(*size))) else {
                self.lost += 1;
                return;
            };
            self.nal(nal);
            rest = after;
        }
    }

    /// A part of a NAL unit. Start and end are the two upper bits of the header in both formats.
    fn fragment(&mut self, header: u8, nal_header: &[u8], part: &[u8]) {
        if header & 0x80 != 0 {
            self.fragment = Some(BytesMut::from(nal_header));
        }
        let Some(fragment) = &mut self.fragment else {
            self.lost += 1;
            return;
        };
        fragment.put_slice(part);
        if fragment.len() > MAX_UNIT_BYTES {
            self.fragment = None;
            self.lost += 1;
        } else if header & 0x40 != 0
            && let Some(whole) = self.fragment.take()
        {
            self.nal(&whole);
        }
    }

    fn nal(&mut self, nal: &[u8]) {
        let (Some(unit), Some(&first)) = (&mut self.unit, nal.first()) else { return };
        if unit.nals >= MAX_UNIT_NALS || unit.data.len() + nal.len() + 4 > MAX_UNIT_BYTES {
            self.lost += 1;
            return;
        }
        let kind = nal_kind(self.codec, first);
        unit.picture |= kind != NalKind::Other;
        unit.key |= kind == NalKind::KeyPicture;
        unit.nals += 1;
        unit.data.put_u32(nal.len() as u32);
        unit.data.put_slice(nal);
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum NalKind {
    KeyPicture,
    Picture,
    Other,
}

/// ISO/IEC 14496-10 table 7-1; ISO/IEC 23008-2 table 7-1 (IRAP: 16 to 23).
fn nal_kind(codec: Codec, first: u8) -> NalKind {
    match (codec, first & 0x1f, first >> 1 & 0x3f) {
        (Codec::H264, 5, _) | (Codec::H265, _, 16..=23) => NalKind::KeyPicture,
        (Codec::H264, 1..=4, _) | (Codec::H265, _, 0..=15) => NalKind::Picture,
        _ => NalKind::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::nal_units;
    use proptest::prelude::*;

    fn packet(sequence: u16, timestamp: u32, marker: bool, payload: &[u8]) -> Packet<'_> {
        Packet { marker, sequence, timestamp, payload }
    }

    fn run(codec: Codec, packets: &[Packet]) -> Vec<RawUnit<u16>> {
        let (mut depay, mut out) = (Depayloader::new(codec), Vec::new());
        for packet in packets {
            depay.push(packet, || packet.sequence, &mut out);
        }
        out
    }

    #[test]
    fn keeps_every_nal_unit_in_its_order() {
        let units = run(
            Codec::H264,
            &[
                packet(1, 10, false, &[24, 0, 2, 0x67, 1, 0, 2, 0x68, 2]),
                packet(2, 10, false, &[0x06, 5, 5]),
                packet(3, 10, false, &[0x7c, 0x85, 1, 2]),
                packet(4, 10, true, &[0x7c, 0x45, 3]),
                packet(5, 20, true, &[0x41, 9]),
            ],
        );
        let nals: Vec<Vec<&[u8]>> = units.iter().map(|u| nal_units(&u.data).collect()).collect();
        assert_eq!(nals, [vec![&[0x67, 1][..], &[0x68, 2], &[0x06, 5, 5], &[0x65, 1, 2, 3]], vec![&[0x41, 9]]]);
        assert_eq!((units[0].key, units[1].key, units[0].tag, units[1].tag), (true, false, 1, 5));
    }

    #[test]
    fn parameter_sets_and_messages_with_a_time_of_their_own_go_before_the_next_picture() {
        let units = run(
            Codec::H264,
            &[
                packet(1, 10, true, &[0x67, 1]),
                packet(2, 11, true, &[0x68, 2]),
                packet(3, 20, false, &[0x06, 3]),
                packet(4, 20, true, &[0x65, 4]),
                packet(5, 30, true, &[0x41, 5]),
            ],
        );
        let nals: Vec<Vec<&[u8]>> = units.iter().map(|u| nal_units(&u.data).collect()).collect();
        assert_eq!(nals, [vec![&[0x67, 1][..], &[0x68, 2], &[0x06, 3], &[0x65, 4]], vec![&[0x41, 5]]]);
        assert_eq!((units[0].timestamp, units[0].key, units[0].tag), (20, true, 1), "timed by its picture");
    }

    #[test]
    fn a_nal_unit_with_a_hole_is_left_out() {
        let units = run(
            Codec::H264,
            &[
                packet(1, 10, false, &[0x7c, 0x85, 1]),
                packet(3, 10, true, &[0x7c, 0x45, 3]),
                packet(4, 20, true, &[0x41, 9]),
            ],
        );
        assert_eq!(units.len(), 1);
        assert_eq!(units[0].timestamp, 20);
    }

    #[test]
    fn h265_fragments_and_aggregates_become_units() {
        // Types: 33 SPS, 19 IDR, 1 trailing.
        let units = run(
            Codec::H265,
            &[
                packet(1, 10, false, &[96, 1, 0, 3, 66, 1, 7]),
                packet(2, 10, false, &[98, 1, 0x80 | 19, 1]),
                packet(3, 10, true, &[98, 1, 0x40 | 19, 2]),
                packet(4, 20, true, &[2, 1, 8]),
            ],
        );
        let nals: Vec<&[u8]> = nal_units(&units[0].data).collect();
        assert_eq!(nals, [&[66, 1, 7][..], &[38, 1, 1, 2]]);
        assert_eq!((units[0].key, units[1].key), (true, false));
    }

    #[test]
    fn a_camera_that_marks_every_packet_splits_one_picture_at_most() {
        let packets: Vec<Packet> = (0..12).map(|n| packet(n, u32::from(n / 3), true, &[0x41, 1])).collect();
        let units = run(Codec::H264, &packets);
        assert_eq!(units.iter().filter(|u| u.timestamp == 0).count(), 2);
        assert!((1..3).all(|t| units.iter().filter(|u| u.timestamp == t).count() == 1));
    }

    proptest! {
        #[test]
        fn any_packets_give_whole_units(
            payloads in proptest::collection::vec((proptest::collection::vec(any::<u8>(), 0..40), any::<bool>(), 0u32..4), 0..60),
            h265 in any::<bool>()
        ) {
            let codec = if h265 { Codec::H265 } else { Codec::H264 };
            let packets: Vec<Packet> = payloads.iter().enumerate()
                .map(|(n, (payload, marker, timestamp))| packet(n as u16, *timestamp, *marker, payload)).collect();
            for unit in run(codec, &packets) {
                let size: usize = nal_units(&unit.data).map(|nal| nal.len() + 4).sum();
                prop_assert_eq!(size, unit.data.len());
            }
        }
    }
}
