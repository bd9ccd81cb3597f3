//! Streams that were encoded here, decoded again.

use super::*;
use bytes::Bytes;
use campanile_sim::encode::{Encoder, Format};
use campanile_sim::{demux, units};

const FPS: u32 = 15;

/// Units of a stream whose n-th picture has luma `luma(n)`, with their times.
fn film(
    codec: units::Codec,
    size: (u32, u32),
    luma: impl Fn(u32) -> u8,
    pictures: u32,
) -> (StreamFormat, Vec<(i64, Bytes)>) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("film.mp4");
    let (width, height) = size;
    let format = Format { codec, width, height, fps: (FPS, 1), kbit_per_s: 500, gop: 10 };
    let mut encoder = Encoder::start(&format, &path).unwrap();
    let pixels = (width * height) as usize;
    for picture in 0..pictures {
        let mut frame = vec![luma(picture); pixels];
        frame.resize(pixels * 3 / 2, 128);
        encoder.push(&frame).unwrap();
    }
    encoder.finish().unwrap();
    let clip = demux::read(&path).unwrap();
    let decoder_configuration = clip.decoder_configuration().unwrap();
    let codec = if codec == units::Codec::H264 { Codec::H264 } else { Codec::H265 };
    let units = clip.units.into_iter().map(|unit| (unit.pts_90k as i64, unit.bytes)).collect();
    (StreamFormat { codec, width, height, decoder_configuration }, units)
}

fn decoder(format: &StreamFormat) -> Decoder {
    Decoder::load(format).unwrap().begin(format).unwrap()
}

fn mean(picture: &Picture) -> u32 {
    let luma = &picture.plane(0).0[..picture.width * picture.height];
    luma.iter().map(|byte| u32::from(*byte)).sum::<u32>() / luma.len() as u32
}

#[test]
fn a_picture_is_there_as_soon_as_its_unit_was_taken() {
    for codec in [units::Codec::H264, units::Codec::H265] {
        let luma = |n: u32| 40 + (n * 3) as u8;
        let (format, units) = film(codec, (640, 360), luma, 30);
        let decoder = decoder(&format);
        let mut seen = Vec::new();
        for (n, (pts_90k, unit)) in units.iter().enumerate() {
            assert!(decoder.push(unit.clone(), *pts_90k));
            for picture in std::iter::from_fn(|| decoder.next()) {
                assert!((picture.pts_90k - pts_90k).abs() <= 2, "unit {n} gave the picture of another");
                assert_eq!((picture.width, picture.height), (320, 180));
                assert!(mean(&picture).abs_diff(u32::from(luma(n as u32))) <= 3, "unit {n}: {}", mean(&picture));
                seen.push(n);
            }
        }
        // Ten of fifteen a second.
        assert!((19..=22).contains(&seen.len()), "{codec:?}: {seen:?}");
    }
}

#[test]
fn damaged_units_cost_pictures_and_not_the_decoder() {
    let (format, units) = film(units::Codec::H264, (320, 180), |n| 40 + n as u8, 40);
    let decoder = decoder(&format);
    let mut whole = 0;
    for (n, (pts_90k, unit)) in units.iter().enumerate() {
        let damaged = (5..20).contains(&n);
        let data = if damaged { unit.iter().map(|byte| byte ^ 0x5a).collect() } else { unit.clone() };
        assert!(decoder.push(data, *pts_90k), "unit {n}");
        whole += std::iter::from_fn(|| decoder.next()).filter(|_| !damaged).count();
    }
    whole += decoder.finish().len();
    assert!(whole >= 12, "{whole} pictures of 25 sound units at 15 a second");
}

/// SplitMix64 (Steele, Lea, Flood 2014): the same numbers everywhere.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ mixed >> 31) % end.max(1) as u64) as usize
    }

    /// Flips, cuts, doubled and lost parts.
    fn mutated(&mut self, unit: &[u8]) -> Bytes {
        let mut bytes = unit.to_vec();
        for _ in 0..1 + self.below(4) {
            let at = self.below(bytes.len());
            let end = (at + 1 + self.below(40)).min(bytes.len());
            match self.below(5) {
                0 | 1 if !bytes.is_empty() => bytes[at] ^= 1 << self.below(8),
                2 => bytes.truncate(at.max(5)),
                3 => drop(bytes.drain(at.min(end)..end)),
                _ => bytes.extend_from_within(at.min(end)..end),
            }
        }
        bytes.into()
    }
}

/// Ten thousand of them, through what reads parameter sets and through the decoder. One that gives up is a child's
/// end: another takes its place, and that is to be rare.
#[test]
fn after_any_mutated_units_a_whole_group_is_seen_again() {
    const MUTATED: usize = 5_000;
    for codec in [units::Codec::H264, units::Codec::H265] {
        let (format, units) = film(codec, (320, 180), |n| 40 + n as u8, 10);
        let (mut at_work, mut numbers, mut given_up) = (decoder(&format), Numbers(7), 0);
        let mut sets = crate::media::parameters::ParameterSets::new(format.codec);
        let mut pts_90k = 0;
        let mut push = |data: Bytes| {
            pts_90k += i64::from(90_000 / FPS);
            if !at_work.push(data, pts_90k) {
                given_up += 1;
                at_work = decoder(&format);
            }
            std::iter::from_fn(|| at_work.next()).collect::<Vec<_>>()
        };
        for n in 0..MUTATED {
            let unit = numbers.mutated(&units[n % units.len()].1);
            sets.collect(&unit, n % units.len() == 0);
            let _ = (sets.format(), push(unit));
        }
        let whole: usize = units.iter().map(|(_, unit)| push(unit.clone()).len()).sum();
        assert!(whole >= 5, "{codec:?}: {whole} pictures of a whole group of ten");
        assert!(given_up <= MUTATED / 100, "{codec:?}: {given_up} decoders gave up");
    }
}
