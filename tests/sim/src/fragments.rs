//! Access units of a fragmented MP4 (ISO/IEC 14496-12, clause 8.8), every one of them.
//!
//! Belongs here: walking boxes, finding the samples of the one video track.
//! Does not belong here: MP4 with a sample table (`demux`).
//! Invariant: nothing is clipped. `qtdemux` leaves out pictures that are shown before the first key frame, which
//! an audit must not.

use crate::units::{self, Codec, FileUnit};
use mp4_atom::{Atom, Codec as Entry, Decode, Header, Mdat, Moof, Moov, Traf};

/// sample_is_non_sync_sample of ISO/IEC 14496-12, 8.8.3.1.
const NON_SYNC: u32 = 0x0001_0000;

/// Why a fragmented file could not be read.
#[derive(Debug, thiserror::Error)]
pub enum FragmentError {
    /// A box is cut or not what it says.
    #[error("box {kind} at byte {at} is damaged")]
    Damaged {
        /// Its four characters.
        kind: String,
        /// Offset in the file.
        at: usize,
    },
    /// A fragment stands before any header.
    #[error("the fragment at byte {at} has no header with H.264 or H.265 before it")]
    NoHeader {
        /// Offset in the file.
        at: usize,
    },
}

/// The video track a header describes.
struct Track {
    id: u32,
    codec: Codec,
    length_size: usize,
    timescale: u32,
    /// From `trex`.
    duration: u32,
    size: u32,
    flags: u32,
}

/// Whether a file has fragments.
pub fn is_fragmented(bytes: &[u8]) -> bool {
    boxes(bytes).any(|found| found.is_ok_and(|(kind, _, _)| kind == *b"moof"))
}

/// The units of the first video track, in decoding order; a header in the middle begins another run.
pub fn read(bytes: &[u8]) -> Result<Vec<FileUnit>, FragmentError> {
    let (mut track, mut found) = (None, Vec::new());
    for next in boxes(bytes) {
        let (kind, at, size) = next?;
        let damaged = || FragmentError::Damaged { kind: String::from_utf8_lossy(&kind).into_owned(), at };
        let mut whole = &bytes[at..at + size];
        match &kind {
            b"moov" => track = track_of(&Moov::decode(&mut whole).map_err(|_| damaged())?),
            b"moof" => {
                let moof = Moof::decode(&mut whole).map_err(|_| damaged())?;
                let track = track.as_ref().ok_or(FragmentError::NoHeader { at })?;
                for traf in moof.traf.iter().filter(|traf| traf.tfhd.track_id == track.id) {
                    track.samples(traf, bytes, at, &mut found).ok_or_else(damaged)?;
                }
            }
            _ => {}
        }
    }
    Ok(found)
}

/// Kind, offset and size of each box of the top level.
fn boxes(bytes: &[u8]) -> impl Iterator<Item = Result<([u8; 4], usize, usize), FragmentError>> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let mut rest = bytes.get(at..).filter(|rest| !rest.is_empty())?;
        let before = rest.len();
        let header = Header::decode(&mut rest);
        let start = at;
        let kind = bytes.get(start + 4..start + 8).and_then(|kind| kind.try_into().ok()).unwrap_or(*b"????");
        // No size: the box reaches to the end (only mdat does).
        let size = header.ok().map(|header| before - rest.len() + header.size.unwrap_or(rest.len()));
        at = bytes.len();
        let damaged = || FragmentError::Damaged { kind: String::from_utf8_lossy(&kind).into_owned(), at: start };
        match size.filter(|size| *size <= before) {
            None if kind == Mdat::KIND.to_string().as_bytes() => None,
            None => Some(Err(damaged())),
            Some(size) => {
                at = start + size;
                Some(Ok((kind, start, size)))
            }
        }
    })
}

fn track_of(moov: &Moov) -> Option<Track> {
    let (trak, codec, length_size) =
        moov.trak.iter().find_map(|trak| match trak.mdia.minf.stbl.stsd.codecs.first()? {
            Entry::Avc1(entry) => Some((trak, Codec::H264, usize::from(entry.avcc.length_size))),
            Entry::Avc3(entry) => Some((trak, Codec::H264, usize::from(entry.avcc.length_size))),
            Entry::Hvc1(entry) => Some((trak, Codec::H265, usize::from(entry.hvcc.length_size_minus_one) + 1)),
            Entry::Hev1(entry) => Some((trak, Codec::H265, usize::from(entry.hvcc.length_size_minus_one) + 1)),
            _ => None,
        })?;
    let (id, timescale) = (trak.tkhd.track_id, trak.mdia.mdhd.timescale.max(1));
    let usual = moov.mvex.as_ref().and_then(|mvex| mvex.trex.iter().find(|trex| trex.track_id == id));
    let (duration, size, flags) = usual
        .map_or((0, 0, 0), |trex| (trex.default_sample_duration, trex.default_sample_size, trex.default_sample_flags));
    Some(Track { id, codec, length_size, timescale, duration, size, flags })
}

impl Track {
    fn ticks(&self, time: u64) -> u64 {
        (u128::from(time) * 90_000 / u128::from(self.timescale)) as u64
    }

    /// Adds the samples of one track fragment whose `moof` begins at `moof`; `None` where they lie outside.
    fn samples(&self, traf: &Traf, bytes: &[u8], moof: usize, found: &mut Vec<FileUnit>) -> Option<()> {
        let usual = &traf.tfhd;
        let base = match usual.base_data_offset {
            Some(base) => usize::try_from(base).ok()?,
            None => moof,
        };
        let mut time = traf.tfdt.as_ref().map_or(0, |tfdt| tfdt.base_media_decode_time);
        let mut at = base;
        for trun in &traf.trun {
            if let Some(offset) = trun.data_offset {
                at = base.checked_add_signed(isize::try_from(offset).ok()?)?;
            }
            for sample in trun.samples.iter() {
                let size = sample.size.or(usual.default_sample_size).unwrap_or(self.size);
                let flags = sample.flags.or(usual.default_sample_flags).unwrap_or(self.flags);
                let end = at.checked_add(usize::try_from(size).ok()?)?;
                let data = bytes.get(at..end)?;
                found.push(FileUnit {
                    sha256: units::hash_length_prefixed(data, self.length_size, self.codec),
                    pts_90k: self.ticks(time.saturating_add_signed(sample.cts.unwrap_or(0))),
                    key: flags & NON_SYNC == 0,
                });
                at = end;
                time += u64::from(sample.duration.or(usual.default_sample_duration).unwrap_or(self.duration));
            }
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mp4_atom::{Avc1, Avcc, Encode, Mfhd, Stsd, Tfdt, Tfhd, Trak, Trun, TrunEntry, TrunSamples, Visual};

    /// A key picture shown after the two that follow it, as an open group of pictures begins.
    fn open_group() -> Vec<u8> {
        let mut trak = Trak::default();
        trak.tkhd.track_id = 1;
        trak.mdia.mdhd.timescale = 90_000;
        let avcc = Avcc { configuration_version: 1, length_size: 4, ..Default::default() };
        let visual = Visual { width: 64, height: 64, ..Default::default() };
        trak.mdia.minf.stbl.stsd = Stsd { codecs: vec![Entry::Avc1(Avc1 { visual, avcc, ..Default::default() })] };
        let moov = Moov { trak: vec![trak], ..Default::default() };
        let sample = |flags, cts| TrunEntry { duration: Some(100), size: Some(6), flags: Some(flags), cts: Some(cts) };
        let samples = TrunSamples::Explicit(vec![sample(0, 200), sample(NON_SYNC, 0), sample(NON_SYNC, -100)]);
        let mut moof = Moof {
            mfhd: Mfhd { sequence_number: 1 },
            traf: vec![Traf {
                tfhd: Tfhd { track_id: 1, default_base_is_moof: true, ..Default::default() },
                tfdt: Some(Tfdt { base_media_decode_time: 1_000 }),
                trun: vec![Trun { data_offset: Some(0), samples }],
                ..Default::default()
            }],
        };
        let mut length = Vec::new();
        moof.encode(&mut length).unwrap();
        moof.traf[0].trun[0].data_offset = Some(length.len() as i32 + 8);
        let mut file = Vec::new();
        moov.encode(&mut file).unwrap();
        moof.encode(&mut file).unwrap();
        let data = [[0, 0, 0, 2, 0x65, 1], [0, 0, 0, 2, 0x01, 2], [0, 0, 0, 2, 0x01, 3]].concat();
        Mdat { data }.encode(&mut file).unwrap();
        file
    }

    #[test]
    fn pictures_shown_before_the_first_key_picture_are_read() {
        let file = open_group();
        assert!(is_fragmented(&file));
        let units = read(&file).unwrap();
        let told: Vec<_> = units.iter().map(|unit| (unit.pts_90k, unit.key)).collect();
        assert_eq!(told, [(1_200, true), (1_100, false), (1_100, false)]);
        assert_eq!(units[1].sha256, units::hash_length_prefixed(&[0, 0, 0, 2, 0x01, 2], 4, Codec::H264));
    }

    #[test]
    fn a_cut_file_is_an_error() {
        let file = open_group();
        assert!(matches!(read(&file[..file.len() - 1]), Err(FragmentError::Damaged { .. })));
        let header = file.windows(4).position(|four| four == b"moof").unwrap() - 4;
        assert!(matches!(read(&file[header..]), Err(FragmentError::NoHeader { at: 0 })));
    }
}
