//! Fragmented MP4 (ISO/IEC 14496-12, -15; CMAF): one track, timescale 90,000.

use super::fragment::Fragment;
use crate::media::{Codec, StreamFormat, TICKS_PER_SECOND};
use mp4_atom::{
    Atom, Avc1, Avcc, Dinf, Dref, DrefEntry, Encode, FourCC, Ftyp, Hdlr, Hvc1, Hvcc, Mdat, Mdhd, Mdia, Mfhd, Minf,
    Moof, Moov, Mvex, Mvhd, Stbl, Stco, Stsc, Stsd, Stsz, Stts, Tfdt, Tfhd, Tkhd, Traf, Trak, Trex, Trun, TrunEntry,
    Url, Visual, Vmhd,
};

const TRACK: u32 = 1;
/// Size and type in front of the data of an mdat (clause 4.2).
const MDAT_HEADER: usize = 8;
/// sample_depends_on = 2, does not depend on others (clause 8.8.3.1).
const KEY_FLAGS: u32 = 0x0200_0000;
/// sample_depends_on = 1, sample_is_non_sync_sample.
const DELTA_FLAGS: u32 = 0x0101_0000;

/// Boxes that cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum BoxError {
    #[error("the decoder configuration cannot be read back")]
    Configuration(#[source] mp4_atom::Error),
    #[error("a box cannot be written")]
    Write(#[source] mp4_atom::Error),
    #[error("a picture of {width} x {height} does not fit a sample entry")]
    PictureSize { width: u32, height: u32 },
}

impl BoxError {
    pub fn kind(&self) -> campanile_proto::kind::Kind {
        campanile_proto::kind::Kind::Unsupported
    }
}

/// ftyp and moov.
pub fn init_section(format: &StreamFormat) -> Result<Vec<u8>, BoxError> {
    let size = BoxError::PictureSize { width: format.width, height: format.height };
    let (Ok(width), Ok(height)) = (u16::try_from(format.width), u16::try_from(format.height)) else {
        return Err(size);
    };
    let ftyp = Ftyp {
        major_brand: FourCC::new(b"iso6"),
        minor_version: 0,
        compatible_brands: vec![FourCC::new(b"iso6"), FourCC::new(b"cmfc"), FourCC::new(b"mp41")],
    };
    let moov = Moov {
        mvhd: Mvhd {
            timescale: TICKS_PER_SECOND as u32,
            rate: 1.into(),
            volume: 1.into(),
            next_track_id: TRACK + 1,
            ..Default::default()
        },
        mvex: Some(Mvex {
            mehd: None,
            trex: vec![Trex { track_id: TRACK, default_sample_description_index: 1, ..Default::default() }],
        }),
        trak: vec![track(format, width, height)?],
        ..Default::default()
    };
    let mut bytes = Vec::with_capacity(1024);
    ftyp.encode(&mut bytes).map_err(BoxError::Write)?;
    moov.encode(&mut bytes).map_err(BoxError::Write)?;
    Ok(bytes)
}

fn track(format: &StreamFormat, width: u16, height: u16) -> Result<Trak, BoxError> {
    let visual = Visual { data_reference_index: 1, width, height, ..Default::default() };
    let mut record = format.decoder_configuration.as_ref();
    let codec = match format.codec {
        Codec::H264 => {
            let avcc = Avcc::decode_body(&mut record).map_err(BoxError::Configuration)?;
            Avc1 { visual, avcc, ..Default::default() }.into()
        }
        Codec::H265 => {
            let hvcc = Hvcc::decode_body(&mut record).map_err(BoxError::Configuration)?;
            Hvc1 { visual, hvcc, ..Default::default() }.into()
        }
    };
    Ok(Trak {
        tkhd: Tkhd {
            track_id: TRACK,
            enabled: true,
            in_movie: true,
            width: width.into(),
            height: height.into(),
            ..Default::default()
        },
        mdia: Mdia {
            mdhd: Mdhd { timescale: TICKS_PER_SECOND as u32, language: "und".into(), ..Default::default() },
            hdlr: Hdlr { handler: FourCC::new(b"vide"), name: "Campanile".into() },
            minf: Minf {
                vmhd: Some(Vmhd::default()),
                dinf: Dinf { dref: Dref { entries: vec![DrefEntry::Url(Url::default())] } },
                stbl: Stbl {
                    stsd: Stsd { codecs: vec![codec] },
                    stts: Stts::default(),
                    stsc: Stsc::default(),
                    stsz: Stsz::default(),
                    stco: Some(Stco::default()),
                    ..Default::default()
                },
                ..Default::default()
            },
        },
        ..Default::default()
    })
}

/// moof and mdat; `sequence` counts from 1 within the run.
pub fn media_section(sequence: u32, fragment: &Fragment) -> Result<Vec<u8>, BoxError> {
    let entries: Vec<TrunEntry> = fragment
        .samples
        .iter()
        .map(|sample| TrunEntry {
            duration: Some(sample.duration_90k),
            size: Some(sample.data.len() as u32),
            flags: Some(if sample.key { KEY_FLAGS } else { DELTA_FLAGS }),
            cts: Some(sample.offset_90k.into()),
        })
        .collect();
    let mut moof = Moof {
        mfhd: Mfhd { sequence_number: sequence },
        traf: vec![Traf {
            tfhd: Tfhd { track_id: TRACK, default_base_is_moof: true, ..Default::default() },
            tfdt: Some(Tfdt { base_media_decode_time: fragment.decode_time_90k }),
            trun: vec![Trun { data_offset: Some(0), samples: entries.into() }],
            ..Default::default()
        }],
    };
    let mut bytes = Vec::new();
    moof.encode(&mut bytes).map_err(BoxError::Write)?;
    // The offset has a fixed size: the box keeps its length.
    let offset = i32::try_from(bytes.len() + MDAT_HEADER).unwrap_or(i32::MAX);
    moof.traf[0].trun[0].data_offset = Some(offset);
    bytes.clear();
    moof.encode(&mut bytes).map_err(BoxError::Write)?;
    let mut data = Vec::with_capacity(fragment.samples.iter().map(|sample| sample.data.len()).sum());
    fragment.samples.iter().for_each(|sample| data.extend_from_slice(&sample.data));
    Mdat { data }.encode(&mut bytes).map_err(BoxError::Write)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::parameters::ParameterSets;
    use crate::record::fragment::Sample;
    use mp4_atom::{Any, ReadFrom};

    fn fragment() -> Fragment {
        let sample = |data: &'static [u8], key, offset_90k| Sample {
            data: bytes::Bytes::from_static(data),
            duration_90k: 3_600,
            offset_90k,
            key,
        };
        Fragment {
            decode_time_90k: 1 << 33,
            duration_90k: 7_200,
            samples: vec![sample(b"first", true, 3_600), sample(b"second", false, -3_600)],
            arrival: Default::default(),
            last_arrival: Default::default(),
            rtp_time: 0,
            camera_ntp_us: 0,
        }
    }

    #[test]
    fn a_fragment_reads_back_as_written() {
        let bytes = media_section(7, &fragment()).unwrap();
        let mut rest = bytes.as_slice();
        let Any::Moof(moof) = Any::read_from(&mut rest).unwrap() else { panic!() };
        let traf = &moof.traf[0];
        assert_eq!((moof.mfhd.sequence_number, traf.tfdt.as_ref().unwrap().base_media_decode_time), (7, 1 << 33));
        let offset = traf.trun[0].data_offset.unwrap() as usize;
        assert_eq!(&bytes[offset..], b"firstsecond");
        let offsets: Vec<_> = traf.trun[0].samples.iter().map(|e| (e.size, e.cts)).collect();
        assert_eq!(offsets, [(Some(5), Some(3_600)), (Some(6), Some(-3_600))]);
    }

    #[test]
    fn an_init_section_carries_the_parameter_sets_unchanged() {
        let mut sets = ParameterSets::new(Codec::H264);
        let (sps, pps) = ("674d401ed900c037a6a0c0c0c80000030008000003019078b17240", "68ebc1b2c8");
        [sps, pps].iter().for_each(|set| assert!(sets.offer(&hex::decode(set).unwrap())));
        let bytes = init_section(&sets.format().unwrap()).unwrap();
        let mut rest = bytes.as_slice();
        assert!(matches!(Any::read_from(&mut rest).unwrap(), Any::Ftyp(_)));
        let Any::Moov(moov) = Any::read_from(&mut rest).unwrap() else { panic!() };
        let mp4_atom::Codec::Avc1(entry) = &moov.trak[0].mdia.minf.stbl.stsd.codecs[0] else { panic!() };
        assert_eq!(entry.avcc.sequence_parameter_sets, [hex::decode(sps).unwrap()]);
        assert_eq!((entry.visual.width, entry.visual.height), (768, 432));
    }
}
