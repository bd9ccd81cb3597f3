//! The segment file: what rests on a box's disk, travels to the hub and is shown to a court.
//!
//! Belongs here: the bytes of the container, its chain, and how its payloads are sealed and opened.
//! Does not belong here: when a file is opened or closed, where it lies, what a sample is.
//! Invariant: everything but payloads is readable, and every byte checkable, without any key.
//!
//! ```text
//! file   = MAGIC record*
//! record = kind u8 | 0 0 0 | header length u32 | payload length u32 | header | payload | link 32 | crc u32
//! ```
//! Numbers are little-endian. `crc` is CRC-32C (RFC 3720 appendix B.4) of the record up to it. `link` is
//! SHA-256(previous link || header || SHA-256(payload)); before the first record stands the header's
//! `previous_link`, or 32 zero bytes.

mod inspect;
mod reader;
mod record;
mod seal;

pub use inspect::{Ending, InspectError, Inspected, inspect};
pub use reader::{Entry, Head, ReadError, SegmentReader};
pub use record::{
    DamagedRecord, LINK_BYTES, Link, MAGIC, MAX_HEADER_BYTES, MAX_PAYLOAD_BYTES, PREFIX_BYTES, Record, RecordPrefix,
    TRAILER_BYTES, first_link, next_link,
};
pub use seal::{FragmentKey, PrivateKey, PublicKey, SealError, SegmentKey, key_pair, suite_for_this_machine};

/// Version in `SegmentHeader::format`.
pub const FORMAT: u32 = 1;
/// A segment is at most this long and never crosses a UTC hour.
pub const MAX_SEGMENT_SECONDS: i64 = 600;
/// A fragment closes at a key frame or after this, whichever comes first.
pub const MAX_FRAGMENT_90K: u64 = 90_000;

/// What the box signs in a footer: "campanile.segment.v1" || 0 || segment id || last link.
pub fn footer_signature_input(segment_id: &[u8], last_link: &[u8]) -> Vec<u8> {
    [b"campanile.segment.v1\0".as_slice(), segment_id, last_link].concat()
}
