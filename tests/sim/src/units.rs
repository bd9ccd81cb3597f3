//! Access units and their fingerprints.
//!
//! Belongs here: what one access unit *is* (its NAL units), the one definition of its SHA-256,
//! and reading those fingerprints out of a recorded file.
//! Does not belong here: comparing recordings with logs (`audit`), sending (`server`).
//! Invariant: the same access unit has the same fingerprint in Annex B and length-prefixed form,
//! whatever parsers did with its parameter sets and delimiters.

use std::path::Path;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::demux::{self, DemuxError};

/// Video coding of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Codec {
    /// ITU-T H.264.
    H264,
    /// ITU-T H.265.
    H265,
}

impl Codec {
    /// Media type in GStreamer caps.
    pub fn media_type(self) -> &'static str {
        match self {
            Codec::H264 => "video/x-h264",
            Codec::H265 => "video/x-h265",
        }
    }

    /// The NAL unit type in the first header byte (H.264 7.3.1, H.265 7.3.1.2).
    fn nal_type(self, first_byte: u8) -> u8 {
        match self {
            Codec::H264 => first_byte & 0x1f,
            Codec::H265 => (first_byte >> 1) & 0x3f,
        }
    }

    /// Parameter sets travel in sample entries or SDP as legitimately as in band, and parsers
    /// insert and drop delimiters, so neither identifies an access unit.
    fn leaves_out(self, nal_type: u8) -> bool {
        match self {
            Codec::H264 => matches!(nal_type, 7 | 8 | 9 | 13 | 15),
            Codec::H265 => matches!(nal_type, 32..=35),
        }
    }
}

/// Fingerprint of an access unit given as its NAL units in order.
///
/// SHA-256 over the concatenation of `length || bytes` for each NAL unit (length: 4 bytes, big
/// endian), leaving out H.264 types 7, 8, 13, 15 and H.265 types 32, 33, 34 (parameter sets) and
/// H.264 type 9 and H.265 type 35 (access unit delimiters). SEI and everything else is kept.
/// Zero bytes at a NAL unit's end are no part of it (H.264 7.4.1, H.265 7.4.2: the last byte is
/// not 0) and are left out of length and bytes: ffmpeg 5.1 writes one after each H.265 unit that
/// it copies from RTSP. Empty NAL units are skipped. The result is lower-case hexadecimal.
pub fn hash_nals<'a>(nals: impl Iterator<Item = &'a [u8]>, codec: Codec) -> String {
    let mut digest = Sha256::new();
    for nal in nals {
        let kept = nal.iter().rposition(|&byte| byte != 0).map_or(0, |i| i + 1);
        let nal = &nal[..kept];
        let Some(&first) = nal.first() else {
            continue;
        };
        if codec.leaves_out(codec.nal_type(first)) {
            continue;
        }
        digest.update((nal.len() as u32).to_be_bytes());
        digest.update(nal);
    }
    hex::encode(digest.finalize())
}

/// Fingerprint ([`hash_nals`]) of an access unit in byte-stream form (H.264/H.265 Annex B).
pub fn hash_annexb(access_unit: &[u8], codec: Codec) -> String {
    hash_nals(annexb_nals(access_unit).into_iter(), codec)
}

/// Fingerprint ([`hash_nals`]) of an access unit whose NAL units are preceded by their length in
/// `length_size` bytes (ISO/IEC 14496-15). A truncated last NAL unit is hashed as far as it goes.
pub fn hash_length_prefixed(access_unit: &[u8], length_size: usize, codec: Codec) -> String {
    let mut nals = Vec::new();
    let mut rest = access_unit;
    while rest.len() >= length_size && length_size > 0 {
        let (prefix, tail) = rest.split_at(length_size);
        let length = prefix.iter().fold(0usize, |sum, &byte| (sum << 8) | usize::from(byte));
        let (nal, tail) = tail.split_at(length.min(tail.len()));
        nals.push(nal);
        rest = tail;
    }
    hash_nals(nals.into_iter(), codec)
}

/// What lies between start codes; zero bytes before a start code are left to [`hash_nals`].
fn annexb_nals(bytes: &[u8]) -> Vec<&[u8]> {
    let mut starts = Vec::new();
    let mut at = 0;
    while at + 3 <= bytes.len() {
        if bytes[at..at + 3] == [0, 0, 1] {
            starts.push(at);
            at += 3;
        } else {
            at += 1;
        }
    }
    let mut nals = Vec::with_capacity(starts.len());
    for (index, &start) in starts.iter().enumerate() {
        let end = starts.get(index + 1).copied().unwrap_or(bytes.len());
        let nal = &bytes[start + 3..end];
        nals.push(nal);
    }
    nals
}

/// One access unit of a recorded file, in decoding order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileUnit {
    /// Fingerprint as in [`hash_nals`].
    pub sha256: String,
    /// Presentation time in 90 kHz ticks, as the container states it.
    pub pts_90k: u64,
    /// Whether the container marks it as a sync sample.
    pub key: bool,
}

/// The access units of the first video track of an MP4 or fragmented MP4, in decoding order.
///
/// Read with `qtdemux` and no parser after it, so the NAL units are the file's own.
pub fn read_mp4(path: &Path) -> Result<Vec<FileUnit>, DemuxError> {
    let clip = demux::read(path)?;
    Ok(clip
        .units
        .iter()
        .map(|unit| FileUnit { sha256: unit.sha256.clone(), pts_90k: unit.pts_90k, key: unit.key })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn annexb(nals: &[Vec<u8>]) -> Vec<u8> {
        let mut out = Vec::new();
        for (index, nal) in nals.iter().enumerate() {
            out.extend_from_slice(if index % 2 == 0 { &[0, 0, 0, 1] } else { &[0, 0, 1] });
            out.extend_from_slice(nal);
        }
        out
    }

    fn prefixed(nals: &[Vec<u8>], size: usize) -> Vec<u8> {
        let mut out = Vec::new();
        for nal in nals {
            out.extend_from_slice(&(nal.len() as u32).to_be_bytes()[4 - size..]);
            out.extend_from_slice(nal);
        }
        out
    }

    #[test]
    fn parameter_sets_and_delimiters_change_nothing() {
        let bare = annexb(&[vec![0x06, 5, 1], vec![0x65, 1, 2, 3]]);
        let dressed =
            annexb(&[vec![0x09, 0xf0], vec![0x67, 1, 2], vec![0x68, 1], vec![0x06, 5, 1], vec![0x65, 1, 2, 3]]);
        assert_eq!(hash_annexb(&bare, Codec::H264), hash_annexb(&dressed, Codec::H264));
        let without_sei = annexb(&[vec![0x65, 1, 2, 3]]);
        assert_ne!(hash_annexb(&bare, Codec::H264), hash_annexb(&without_sei, Codec::H264));
        let h265 = annexb(&[vec![0x26, 1, 9]]);
        let h265_dressed = annexb(&[vec![0x46, 1], vec![0x40, 1], vec![0x42, 1], vec![0x26, 1, 9]]);
        assert_eq!(hash_annexb(&h265, Codec::H265), hash_annexb(&h265_dressed, Codec::H265));
    }

    #[test]
    fn a_trailing_zero_byte_belongs_to_no_unit() {
        let (bare, padded) = ([0, 0, 0, 2, 0x26, 1], [0, 0, 0, 3, 0x26, 1, 0]);
        let hash = |unit: &[u8]| hash_length_prefixed(unit, 4, Codec::H265);
        assert_eq!(hash(&bare), hash(&padded));
    }

    proptest! {
        // NAL bytes of 2 and more: emulation prevention keeps 00 00 01 out of real ones.
        #[test]
        fn both_forms_hash_alike(
            nals in proptest::collection::vec(proptest::collection::vec(2u8..=255, 1..60), 1..6),
            size in prop_oneof![Just(2usize), Just(4usize)],
        ) {
            for codec in [Codec::H264, Codec::H265] {
                prop_assert_eq!(
                    hash_annexb(&annexb(&nals), codec),
                    hash_length_prefixed(&prefixed(&nals, size), size, codec)
                );
            }
        }
    }
}
