//! Parameter sets: collected from the session description and from the stream, turned into the decoder
//! configuration record (ISO/IEC 14496-15 clauses 5.3.3 and 8.3.3).

use super::bits::Bits;
use super::{Codec, StreamFormat, nal_units};
use bytes::Bytes;
use mp4_atom::{Atom, Avcc, AvccExt, HvcCArray, Hvcc};
use std::collections::BTreeMap;

/// ISO/IEC 14496-10 allows 32 and 256; cameras send one of each, rarely a few.
const MAX_SETS: usize = 48;
const MAX_SET_BYTES: usize = 4096;
/// Largest picture either standard's highest level allows.
const MAX_SIDE: u32 = 16_384;

/// VPS, SPS and PPS of a stream by type and id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParameterSets {
    codec: Codec,
    sets: BTreeMap<(u8, u32), Bytes>,
}

/// What a sequence parameter set says.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Sequence {
    width: u32,
    height: u32,
    chroma_format: u8,
    bit_depth_luma: u8,
    bit_depth_chroma: u8,
}

impl ParameterSets {
    pub fn new(codec: Codec) -> Self {
        Self { codec, sets: BTreeMap::new() }
    }

    /// Takes the parameter sets among a unit's NAL units; true when one is new or differs. A key picture that brings
    /// sets of a type brings all of that type: those it does not repeat were another stream's.
    pub fn collect(&mut self, data: &[u8], key: bool) -> bool {
        let before = key.then(|| self.sets.clone());
        let mut brought = Vec::new();
        let mut changed = false;
        for nal in nal_units(data) {
            changed |= self.offer(nal);
            brought.extend(identify(self.codec, nal));
        }
        if let Some(before) = before.filter(|_| changed) {
            let of_brought_type = |kind: u8| brought.iter().any(|(k, _)| *k == kind);
            self.sets.retain(|set, _| !of_brought_type(set.0) || brought.contains(set));
            changed = self.sets != before;
        }
        changed
    }

    /// Takes one NAL unit; true when it is a parameter set that is new or differs.
    pub fn offer(&mut self, nal: &[u8]) -> bool {
        let Some(key) = identify(self.codec, nal) else { return false };
        let known = self.sets.get(&key);
        if nal.len() > MAX_SET_BYTES || known.is_none() && self.sets.len() >= MAX_SETS {
            return false;
        }
        if known.is_some_and(|set| set == nal) {
            return false;
        }
        self.sets.insert(key, Bytes::copy_from_slice(nal));
        true
    }

    /// The format, once a sequence and a picture parameter set are there and make sense.
    pub fn format(&self) -> Option<StreamFormat> {
        let (sequence, configuration) = match self.codec {
            Codec::H264 => self.avc()?,
            Codec::H265 => self.hevc()?,
        };
        Some(StreamFormat {
            codec: self.codec,
            width: sequence.width,
            height: sequence.height,
            decoder_configuration: configuration.into(),
        })
    }

    fn of_type(&self, kind: u8) -> Vec<Vec<u8>> {
        self.sets.iter().filter(|((k, _), _)| *k == kind).map(|(_, set)| set.to_vec()).collect()
    }

    fn avc(&self) -> Option<(Sequence, Vec<u8>)> {
        let (sps, pps) = (self.of_type(7), self.of_type(8));
        let first = sps.first()?;
        let sequence = h264_sequence(first)?;
        let mut record = Avcc::new(first, pps.first()?).ok()?;
        // Profiles with the extended fields (clause 5.3.3.1.2).
        if matches!(record.avc_profile_indication, 100 | 110 | 122 | 144) {
            record.ext = Some(AvccExt {
                chroma_format: sequence.chroma_format,
                bit_depth_luma: sequence.bit_depth_luma,
                bit_depth_chroma: sequence.bit_depth_chroma,
                sequence_parameter_sets_ext: Vec::new(),
            });
        }
        record.sequence_parameter_sets = sps;
        record.picture_parameter_sets = pps;
        let mut bytes = Vec::new();
        record.encode_body(&mut bytes).ok()?;
        Some((sequence, bytes))
    }

    fn hevc(&self) -> Option<(Sequence, Vec<u8>)> {
        let (vps, sps, pps) = (self.of_type(32), self.of_type(33), self.of_type(34));
        let first = sps.first()?;
        if vps.is_empty() || pps.is_empty() {
            return None;
        }
        let (sequence, mut record) = h265_sequence(first)?;
        let array = |kind, nalus| HvcCArray { completeness: false, nal_unit_type: kind, nalus };
        record.arrays = vec![array(32, vps), array(33, sps), array(34, pps)];
        let mut bytes = Vec::new();
        record.encode_body(&mut bytes).ok()?;
        Some((sequence, bytes))
    }
}

/// Type and id, for a parameter set.
fn identify(codec: Codec, nal: &[u8]) -> Option<(u8, u32)> {
    let first = *nal.first()?;
    match codec {
        Codec::H264 => match first & 0x1f {
            kind @ 7 => {
                let mut bits = Bits::of_payload(nal.get(4..)?);
                Some((kind, bits.unsigned()?))
            }
            kind @ 8 => Some((kind, Bits::of_payload(&nal[1..]).unsigned()?)),
            _ => None,
        },
        Codec::H265 => {
            let kind = first >> 1 & 0x3f;
            let mut bits = Bits::of_payload(nal.get(2..)?);
            match kind {
                32 => Some((kind, bits.bits(4)?)),
                33 => {
                    bits.skip(4)?;
                    let sub_layers = bits.bits(3)?;
                    bits.skip(1)?;
                    skip_profile_tier_level(&mut bits, sub_layers)?;
                    Some((kind, bits.unsigned()?))
                }
                34 => Some((kind, bits.unsigned()?)),
                _ => None,
            }
        }
    }
}

/// ISO/IEC 14496-10 clause 7.3.2.1.1.
fn h264_sequence(nal: &[u8]) -> Option<Sequence> {
    let profile = *nal.get(1)?;
    let mut bits = Bits::of_payload(nal.get(4..)?);
    bits.unsigned()?;
    let (mut chroma, mut luma_depth, mut chroma_depth) = (1, 8, 8);
    if matches!(profile, 100 | 110 | 122 | 244 | 44 | 83 | 86 | 118 | 128 | 138 | 139 | 134 | 135) {
        chroma = bits.unsigned()?.min(3);
        if chroma == 3 {
            bits.skip(1)?;
        }
        luma_depth = 8 + bits.unsigned()?.min(6);
        chroma_depth = 8 + bits.unsigned()?.min(6);
        bits.skip(1)?;
        if bits.bit()? {
            skip_scaling_lists(&mut bits, if chroma == 3 { 12 } else { 8 })?;
        }
    }
    bits.unsigned()?;
    skip_picture_order(&mut bits)?;
    bits.unsigned()?;
    bits.skip(1)?;
    let width_blocks = bits.unsigned()?.checked_add(1)?;
    let height_blocks = bits.unsigned()?.checked_add(1)?;
    let frames_only = bits.bit()?;
    if !frames_only {
        bits.skip(1)?;
    }
    bits.skip(1)?;
    let rows = if frames_only { 1 } else { 2 };
    let (unit_x, unit_y) = (if matches!(chroma, 1 | 2) { 2 } else { 1 }, if chroma == 1 { 2 * rows } else { rows });
    let (width, height) = (width_blocks.checked_mul(16)?, height_blocks.checked_mul(16)?.checked_mul(rows)?);
    let (width, height) = crop(&mut bits, (width, height), (unit_x, unit_y))?;
    Some(Sequence {
        width,
        height,
        chroma_format: chroma as u8,
        bit_depth_luma: luma_depth as u8,
        bit_depth_chroma: chroma_depth as u8,
    })
}

fn skip_picture_order(bits: &mut Bits) -> Option<()> {
    match bits.unsigned()? {
        0 => {
            bits.unsigned()?;
        }
        1 => {
            bits.skip(1)?;
            bits.signed()?;
            bits.signed()?;
            for _ in 0..bits.unsigned()?.min(256) {
                bits.signed()?;
            }
        }
        _ => {}
    }
    Some(())
}

/// Clause 7.3.2.1.1.1.
fn skip_scaling_lists(bits: &mut Bits, count: usize) -> Option<()> {
    for list in 0..count {
        if !bits.bit()? {
            continue;
        }
        let (mut last, mut next) = (8i32, 8i32);
        for _ in 0..if list < 6 { 16 } else { 64 } {
            if next != 0 {
                next = (last + bits.signed()?.clamp(-128, 127) + 256) % 256;
            }
            last = if next == 0 { last } else { next };
        }
    }
    Some(())
}

/// The cropping or conformance window: left, right, top, bottom in chroma units.
fn crop(bits: &mut Bits, size: (u32, u32), unit: (u32, u32)) -> Option<(u32, u32)> {
    let (mut width, mut height) = size;
    if bits.bit()? {
        let (left, right, top, bottom) = (bits.unsigned()?, bits.unsigned()?, bits.unsigned()?, bits.unsigned()?);
        width = width.checked_sub(left.checked_add(right)?.checked_mul(unit.0)?)?;
        height = height.checked_sub(top.checked_add(bottom)?.checked_mul(unit.1)?)?;
    }
    ((1..=MAX_SIDE).contains(&width) && (1..=MAX_SIDE).contains(&height)).then_some((width, height))
}

/// ISO/IEC 23008-2 clauses 7.3.2.2.1 and 7.3.3.
fn h265_sequence(nal: &[u8]) -> Option<(Sequence, Hvcc)> {
    let mut bits = Bits::of_payload(nal.get(2..)?);
    bits.skip(4)?;
    let sub_layers = bits.bits(3)?;
    let nested = bits.bit()?;
    let mut record = Hvcc::new();
    record.general_profile_space = bits.bits(2)? as u8;
    record.general_tier_flag = bits.bit()?;
    record.general_profile_idc = bits.bits(5)? as u8;
    record.general_profile_compatibility_flags = bits.bits(32)?.to_be_bytes();
    for flags in &mut record.general_constraint_indicator_flags {
        *flags = bits.bits(8)? as u8;
    }
    record.general_level_idc = bits.bits(8)? as u8;
    skip_sub_layers(&mut bits, sub_layers)?;
    bits.unsigned()?;
    let chroma = bits.unsigned()?.min(3);
    if chroma == 3 {
        bits.skip(1)?;
    }
    let size = (bits.unsigned()?, bits.unsigned()?);
    let unit = (if matches!(chroma, 1 | 2) { 2 } else { 1 }, if chroma == 1 { 2 } else { 1 });
    let (width, height) = crop(&mut bits, size, unit)?;
    let (luma, chroma_depth) = (bits.unsigned()?.min(8) as u8, bits.unsigned()?.min(8) as u8);
    record.chroma_format_idc = chroma as u8;
    record.bit_depth_luma_minus8 = luma;
    record.bit_depth_chroma_minus8 = chroma_depth;
    record.num_temporal_layers = sub_layers as u8 + 1;
    record.temporal_id_nested = nested;
    record.length_size_minus_one = 3;
    let sequence = Sequence {
        width,
        height,
        chroma_format: chroma as u8,
        bit_depth_luma: 8 + luma,
        bit_depth_chroma: 8 + chroma_depth,
    };
    Some((sequence, record))
}

fn skip_profile_tier_level(bits: &mut Bits, sub_layers: u32) -> Option<()> {
    bits.skip(96)?;
    skip_sub_layers(bits, sub_layers)
}

fn skip_sub_layers(bits: &mut Bits, sub_layers: u32) -> Option<()> {
    if sub_layers == 0 {
        return Some(());
    }
    let mut flags = Vec::with_capacity(8);
    for _ in 0..8 {
        flags.push((bits.bit()?, bits.bit()?));
    }
    for &(profile, level) in flags.iter().take(sub_layers as usize) {
        bits.skip(if profile { 88 } else { 0 } + if level { 8 } else { 0 })?;
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// x264, Main profile, 768x432.
    const H264: [&str; 2] = ["674d401ed900c037a6a0c0c0c80000030008000003019078b17240", "68ebc1b2c8"];
    /// x265, Main profile, 768x432.
    const H265: [&str; 3] = [
        "40010c01ffff01600000030090000003000003005a928090",
        "42010101600000030090000003000003005aa0060201b16592a4932b9a8303037080000003008000000c84",
        "4401c172b46240",
    ];

    fn bytes(text: &str) -> Vec<u8> {
        hex::decode(text).unwrap()
    }

    #[test]
    fn nothing_is_told_before_both_sets_are_there() {
        let mut sets = ParameterSets::new(Codec::H264);
        assert!(sets.offer(&bytes(H264[0])));
        assert_eq!(sets.format(), None);
        assert!(sets.offer(&bytes(H264[1])));
        let format = sets.format().unwrap();
        assert_eq!((format.width, format.height), (768, 432));
        assert!(!sets.offer(&bytes(H264[1])), "the same set again is no change");
        let record = Avcc::decode_body(&mut format.decoder_configuration.as_ref()).unwrap();
        assert_eq!(record.sequence_parameter_sets, [bytes(H264[0])]);
        assert_eq!((record.length_size, record.ext), (4, None));
    }

    #[test]
    fn an_h265_stream_is_described_by_its_three_sets() {
        let mut sets = ParameterSets::new(Codec::H265);
        assert!(H265.iter().all(|set| sets.offer(&bytes(set))));
        let format = sets.format().unwrap();
        assert_eq!((format.width, format.height), (768, 432));
        let record = Hvcc::decode_body(&mut format.decoder_configuration.as_ref()).unwrap();
        assert_eq!((record.general_profile_idc, record.general_level_idc), (1, 90));
        assert_eq!((record.chroma_format_idc, record.bit_depth_luma_minus8), (1, 0));
        let arrays: Vec<_> = record.arrays.iter().map(|a| (a.nal_unit_type, a.nalus.len())).collect();
        assert_eq!(arrays, [(32, 1), (33, 1), (34, 1)]);
    }

    #[test]
    fn sets_of_another_resolution_take_the_place_of_the_old_ones_whatever_their_ids() {
        let unit = |sets: &[Vec<u8>]| -> Vec<u8> {
            sets.iter().flat_map(|set| [&(set.len() as u32).to_be_bytes()[..], set].concat()).collect()
        };
        // x264's sets of 640x360; ids 1 in place of 0.
        let with_id_1 = |text: &str, at: usize| {
            let mut set = bytes(text);
            // ue(v) of 0 is the bit 1; of 1 it is 010: shifts the rest by two bits.
            let tail = &set[at..];
            let bits: String = tail.iter().map(|byte| format!("{byte:08b}")).collect();
            let shifted = format!("010{}", &bits[1..]);
            let padded = format!("{shifted:0<width$}", width = shifted.len().div_ceil(8) * 8);
            let tail: Vec<u8> = padded
                .as_bytes()
                .chunks(8)
                .map(|b| u8::from_str_radix(std::str::from_utf8(b).unwrap(), 2).unwrap())
                .collect();
            set.truncate(at);
            set.extend(tail);
            set
        };
        let (other_sps, other_pps) = (with_id_1(H264[0], 4), with_id_1(H264[1], 1));
        let mut sets = ParameterSets::new(Codec::H264);
        assert!(sets.collect(&unit(&[bytes(H264[0]), bytes(H264[1])]), true));
        assert!(sets.collect(&unit(&[other_sps.clone(), other_pps.clone()]), true));
        let format = sets.format().unwrap();
        let record = Avcc::decode_body(&mut format.decoder_configuration.as_ref()).unwrap();
        assert_eq!((record.sequence_parameter_sets, record.picture_parameter_sets), (vec![other_sps], vec![other_pps]));
        assert!(!sets.collect(&unit(&[]), true), "a key picture without sets changes nothing");
        assert!(
            sets.collect(&unit(&[bytes(H264[1])]), false) && sets.of_type(8).len() == 2,
            "between key pictures they add up"
        );
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(
            nals in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..60), 0..8),
            kinds in proptest::collection::vec(0usize..5, 8), h265 in any::<bool>()
        ) {
            let codec = if h265 { Codec::H265 } else { Codec::H264 };
            let mut sets = ParameterSets::new(codec);
            for (mut nal, kind) in nals.into_iter().zip(kinds) {
                if let Some(first) = nal.first_mut() {
                    *first = [0x67, 0x68, 0x40, 0x42, 0x44][kind];
                }
                sets.offer(&nal);
                let _ = sets.format();
            }
        }
    }
}
