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
    let codec_data = clip.caps.structure(0).unwrap().get::<gst::Buffer>("codec_data").unwrap();
    let decoder_configuration = Bytes::copy_from_slice(&codec_data.map_readable().unwrap());
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
