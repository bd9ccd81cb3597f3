//! Records and the chain through them.

use crate::types::v1::RecordKind;
use bytes::Bytes;
use sha2::{Digest, Sha256};

pub const MAGIC: [u8; 8] = *b"CAMPSEG1";
pub const PREFIX_BYTES: usize = 12;
pub const LINK_BYTES: usize = 32;
/// Link and CRC behind the payload.
pub const TRAILER_BYTES: usize = LINK_BYTES + 4;
/// A footer's table of 600 fragments takes about 20 KiB.
pub const MAX_HEADER_BYTES: usize = 1 << 20;
/// One second of 4K at 200 Mbit/s.
pub const MAX_PAYLOAD_BYTES: usize = 32 << 20;

/// A link of the public chain.
pub type Link = [u8; LINK_BYTES];

/// One record, its payload as it rests on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    pub kind: RecordKind,
    pub header: Bytes,
    pub payload: Bytes,
    pub link: Link,
}

/// The first bytes of a record, enough to know its length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordPrefix {
    pub kind: RecordKind,
    pub header_bytes: usize,
    pub payload_bytes: usize,
}

/// Why bytes are not a record.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DamagedRecord {
    #[error("record ends after {have} of {want} bytes")]
    Torn { have: usize, want: usize },
    #[error("record kind {0} is not known")]
    UnknownKind(u8),
    #[error("record claims {header} bytes of header and {payload} of payload")]
    TooLarge { header: usize, payload: usize },
    #[error("checksum does not match")]
    Checksum,
    #[error("chain link does not follow from the one before")]
    Link,
}

impl RecordPrefix {
    /// Reads the first `PREFIX_BYTES`.
    pub fn parse(bytes: &[u8]) -> Result<Self, DamagedRecord> {
        let torn = DamagedRecord::Torn { have: bytes.len(), want: PREFIX_BYTES };
        let Some(&[kind, 0, 0, 0, h0, h1, h2, h3, p0, p1, p2, p3]) = bytes.first_chunk::<PREFIX_BYTES>() else {
            return Err(if bytes.len() < PREFIX_BYTES { torn } else { DamagedRecord::Checksum });
        };
        let known = RecordKind::try_from(i32::from(kind)).ok().filter(|k| *k != RecordKind::Unspecified);
        let kind = known.ok_or(DamagedRecord::UnknownKind(kind))?;
        let header_bytes = u32::from_le_bytes([h0, h1, h2, h3]) as usize;
        let payload_bytes = u32::from_le_bytes([p0, p1, p2, p3]) as usize;
        if header_bytes > MAX_HEADER_BYTES || payload_bytes > MAX_PAYLOAD_BYTES {
            return Err(DamagedRecord::TooLarge { header: header_bytes, payload: payload_bytes });
        }
        Ok(Self { kind, header_bytes, payload_bytes })
    }

    /// Bytes of the whole record, prefix and trailer included.
    pub fn record_bytes(&self) -> usize {
        PREFIX_BYTES + self.header_bytes + self.payload_bytes + TRAILER_BYTES
    }
}

impl Record {
    /// The record that follows `previous` in the chain.
    pub fn following(previous: &Link, kind: RecordKind, header: Bytes, payload: Bytes) -> Self {
        let link = next_link(previous, &header, &payload);
        Self { kind, header, payload, link }
    }

    /// The bytes on disk.
    pub fn encode(&self) -> Vec<u8> {
        let size = PREFIX_BYTES + self.header.len() + self.payload.len() + TRAILER_BYTES;
        let mut out = Vec::with_capacity(size);
        out.extend_from_slice(&[self.kind as i32 as u8, 0, 0, 0]);
        out.extend_from_slice(&(self.header.len() as u32).to_le_bytes());
        out.extend_from_slice(&(self.payload.len() as u32).to_le_bytes());
        out.extend_from_slice(&self.header);
        out.extend_from_slice(&self.payload);
        out.extend_from_slice(&self.link);
        let crc = crc32c::crc32c(&out);
        out.extend_from_slice(&crc.to_le_bytes());
        out
    }

    /// Reads one whole record at the start of `bytes` and checks its CRC; the chain is the caller's to
    /// check with [`Record::follows`]. The rest of `bytes` is ignored.
    pub fn decode(bytes: &Bytes) -> Result<Self, DamagedRecord> {
        let prefix = RecordPrefix::parse(bytes)?;
        let size = prefix.record_bytes();
        if bytes.len() < size {
            return Err(DamagedRecord::Torn { have: bytes.len(), want: size });
        }
        let (body, crc) = bytes[..size].split_at(size - 4);
        if crc32c::crc32c(body).to_le_bytes() != crc {
            return Err(DamagedRecord::Checksum);
        }
        let payload_at = PREFIX_BYTES + prefix.header_bytes;
        let link_at = payload_at + prefix.payload_bytes;
        let mut link = [0; LINK_BYTES];
        link.copy_from_slice(&bytes[link_at..link_at + LINK_BYTES]);
        Ok(Self {
            kind: prefix.kind,
            header: bytes.slice(PREFIX_BYTES..payload_at),
            payload: bytes.slice(payload_at..link_at),
            link,
        })
    }

    /// Checks that this record follows `previous` in the chain.
    pub fn follows(&self, previous: &Link) -> Result<(), DamagedRecord> {
        if next_link(previous, &self.header, &self.payload) == self.link { Ok(()) } else { Err(DamagedRecord::Link) }
    }
}

/// SHA-256(previous || header || SHA-256(payload)).
pub fn next_link(previous: &Link, header: &[u8], payload: &[u8]) -> Link {
    let mut hash = Sha256::new();
    hash.update(previous);
    hash.update(header);
    hash.update(Sha256::digest(payload));
    hash.finalize().into()
}

/// The link before a segment's first record, from its header's `previous_link`.
pub fn first_link(previous_link: &[u8]) -> Link {
    previous_link.try_into().unwrap_or([0; LINK_BYTES])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn record() -> Record {
        Record::following(&[7; 32], RecordKind::Fragment, Bytes::from_static(b"head"), Bytes::from_static(b"sealed"))
    }

    #[test]
    fn survives_the_disk() {
        let record = record();
        let bytes = Bytes::from(record.encode());
        assert_eq!(Record::decode(&bytes), Ok(record.clone()));
        assert_eq!(record.follows(&[7; 32]), Ok(()));
        assert_eq!(record.follows(&[8; 32]), Err(DamagedRecord::Link));
    }

    #[test]
    fn says_how_much_is_missing() {
        let whole = record().encode();
        for cut in 0..whole.len() {
            let torn = Record::decode(&Bytes::copy_from_slice(&whole[..cut]));
            assert!(matches!(torn, Err(DamagedRecord::Torn { have, .. }) if have == cut), "{cut}: {torn:?}");
        }
    }

    proptest! {
        #[test]
        fn every_flipped_bit_is_noticed(at in 0usize..400, bit in 0u8..8) {
            let mut bytes = record().encode();
            let at = at % bytes.len();
            bytes[at] ^= 1 << bit;
            prop_assert!(Record::decode(&Bytes::from(bytes)).is_err());
        }

        #[test]
        fn any_bytes_are_read_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Record::decode(&Bytes::from(bytes));
        }
    }
}
