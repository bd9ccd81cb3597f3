//! Between unsealing and packaging: footage as recorded. Only `tfdt` and the sequence number change.

use bytes::Bytes;
use campanile_proto::kind::Kind;
use mp4_atom::{Atom, Decode, Encode, Header, Mdat, Moof};

/// Why a fragment is not shown.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RenditionError {
    #[error("the fragment is not a moof and an mdat")]
    Damaged,
    #[error("the fragment has {0} tracks, one belongs there")]
    Tracks(usize),
}

impl RenditionError {
    pub fn kind(&self) -> Kind {
        Kind::Internal
    }
}

/// The fragment with `tfdt` at `decode_90k` and the given sequence number; samples are not touched.
pub fn rewrite(fragment: &Bytes, decode_90k: u64, sequence: u32) -> Result<Bytes, RenditionError> {
    let mut rest = fragment.as_ref();
    let header = Header::decode(&mut rest).map_err(|_| RenditionError::Damaged)?;
    let size = header.size.filter(|size| header.kind == Moof::KIND && *size <= rest.len());
    let size = size.ok_or(RenditionError::Damaged)?;
    let before = fragment.len() - rest.len() + size;
    let mut moof = Moof::decode(&mut fragment.as_ref()).map_err(|_| RenditionError::Damaged)?;
    let tail = fragment.get(before..).ok_or(RenditionError::Damaged)?;
    let mdat = Header::decode(&mut &*tail).map_err(|_| RenditionError::Damaged)?;
    if mdat.kind != Mdat::KIND {
        return Err(RenditionError::Damaged);
    }
    moof.mfhd.sequence_number = sequence;
    let tracks = moof.traf.len();
    let [traf] = moof.traf.as_mut_slice() else { return Err(RenditionError::Tracks(tracks)) };
    traf.tfdt = Some(mp4_atom::Tfdt { base_media_decode_time: decode_90k });
    let encode = |moof: &Moof| {
        let mut out = Vec::with_capacity(fragment.len() + 16);
        moof.encode(&mut out).map_err(|_| RenditionError::Damaged)?;
        Ok(out)
    };
    // Samples are found from the start of the moof: if it grew, so did the way.
    let grown = encode(&moof)?.len() as i64 - before as i64;
    for trun in moof.traf.iter_mut().flat_map(|traf| &mut traf.trun) {
        if let Some(offset) = &mut trun.data_offset {
            *offset = i32::try_from(i64::from(*offset) + grown).map_err(|_| RenditionError::Damaged)?;
        }
    }
    let mut out = encode(&moof)?;
    out.extend_from_slice(tail);
    Ok(out.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use mp4_atom::{Mfhd, Tfdt, Tfhd, Traf, Trun, TrunEntry};

    pub fn fragment(decode_90k: u64, samples: &[&[u8]]) -> Bytes {
        let entries: Vec<TrunEntry> = samples
            .iter()
            .map(|s| TrunEntry { size: Some(s.len() as u32), duration: Some(3_600), ..TrunEntry::default() })
            .collect();
        let mut moof = Moof {
            mfhd: Mfhd { sequence_number: 1 },
            traf: vec![Traf {
                tfhd: Tfhd { track_id: 1, ..Tfhd::default() },
                tfdt: Some(Tfdt { base_media_decode_time: decode_90k }),
                trun: vec![Trun { data_offset: Some(0), samples: entries.into() }],
                ..Traf::default()
            }],
        };
        let mut out = Vec::new();
        moof.encode(&mut out).unwrap();
        moof.traf[0].trun[0].data_offset = Some(out.len() as i32 + 8);
        out.clear();
        moof.encode(&mut out).unwrap();
        Mdat { data: samples.concat() }.encode(&mut out).unwrap();
        out.into()
    }

    /// What a player reads.
    fn samples(fragment: &Bytes) -> (u64, u32, Vec<Vec<u8>>) {
        let moof = Moof::decode(&mut fragment.as_ref()).unwrap();
        let traf = &moof.traf[0];
        let mut at = traf.trun[0].data_offset.unwrap() as usize;
        let mut found = Vec::new();
        for entry in traf.trun[0].samples.iter() {
            let end = at + entry.size.unwrap() as usize;
            found.push(fragment[at..end].to_vec());
            at = end;
        }
        (traf.tfdt.as_ref().unwrap().base_media_decode_time, moof.mfhd.sequence_number, found)
    }

    #[test]
    fn only_the_time_and_the_number_change() {
        let stored = fragment(90_000, &[b"key frame", b"difference"]);
        let shown = rewrite(&stored, u64::from(u32::MAX) * 7, 44).unwrap();
        let expected = vec![b"key frame".to_vec(), b"difference".to_vec()];
        assert_eq!(samples(&shown), (u64::from(u32::MAX) * 7, 44, expected));
        assert_eq!(rewrite(&shown, 90_000, 1).unwrap(), stored);
    }

    #[test]
    fn a_short_time_field_grows_and_samples_are_still_found() {
        let stored = fragment(5, &[b"one", b"three"]);
        // The same fragment with a version 0 tfdt (32 bits), as another writer would make it.
        let at = stored.windows(4).position(|w| w == b"tfdt").unwrap();
        let mut short = stored.to_vec();
        short[at + 4] = 0;
        short.drain(at + 8..at + 12);
        let shrink = |bytes: &mut [u8], at: usize| bytes[at + 3] -= 4;
        shrink(&mut short, at - 4);
        let traf = stored.windows(4).position(|w| w == b"traf").unwrap();
        shrink(&mut short, traf - 4);
        shrink(&mut short, 0);
        let trun = short.windows(4).position(|w| w == b"trun").unwrap();
        short[trun + 15] -= 4;
        let short = Bytes::from(short);
        assert_eq!(samples(&short).2, [b"one".to_vec(), b"three".to_vec()]);
        assert_eq!(samples(&rewrite(&short, 6, 2).unwrap()), (6, 2, vec![b"one".to_vec(), b"three".to_vec()]));
    }

    #[test]
    fn what_is_no_fragment_is_refused() {
        for bad in [&b""[..], b"\0\0\0\x08moof", b"\0\0\0\x10mdat12345678", b"\xff\xff\xff\xffmoof"] {
            assert!(rewrite(&Bytes::copy_from_slice(bad), 1, 1).is_err(), "{bad:?}");
        }
        let torn = fragment(1, &[b"x"]);
        for cut in 0..torn.len() - 9 {
            assert!(rewrite(&torn.slice(..cut), 1, 1).is_err(), "{cut}");
        }
    }
}
