//! What a process did to its disk, in order. The campaign reads what the shim writes: one source file for both,
//! because the shim must not be linked.
//!
//! ```text
//! file   = record*
//! record = kind u8 | handle u32 | number u64 | UTC microseconds i64
//!          | text length u32 | other length u32 | bytes length u32 | text | other | bytes   (little-endian)
//! ```
//!
//! Records stand in the order of their effects, over all threads: everything but a sync is done and noted in one
//! step. A sync is two records, because others write meanwhile: what stands before its first is on the disk when its
//! second stands there. What failed is left out.

/// What a record tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// A process begins; handles count anew. `number`: its id.
    Life = 1,
    /// `text` was opened as `handle`; `number`: [`CREATED`], [`TRUNCATED`].
    Open = 2,
    Close = 3,
    /// `bytes` at offset `number`.
    Write = 4,
    /// To length `number`.
    Truncate = 5,
    SyncBegins = 6,
    /// `number`: place of its `SyncBegins` among the syncs of this process.
    SyncEnds = 7,
    /// `text` became `other`.
    Rename = 8,
    Unlink = 9,
    Mkdir = 10,
    Rmdir = 11,
}

/// The open made the file.
pub const CREATED: u64 = 1;
/// The open emptied it.
pub const TRUNCATED: u64 = 2;

const HEAD_BYTES: usize = 1 + 4 + 8 + 8 + 4 + 4 + 4;

/// One record; `bytes` of a write are by far the most.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record<'a> {
    pub kind: Kind,
    pub handle: u32,
    pub number: u64,
    pub utc_us: i64,
    pub text: &'a [u8],
    pub other: &'a [u8],
    pub bytes: &'a [u8],
}

impl<'a> Record<'a> {
    pub fn new(kind: Kind, handle: u32, number: u64, utc_us: i64) -> Self {
        Self { kind, handle, number, utc_us, text: &[], other: &[], bytes: &[] }
    }

    pub fn named(self, text: &'a [u8]) -> Self {
        Self { text, ..self }
    }

    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(HEAD_BYTES + self.text.len() + self.other.len() + self.bytes.len());
        out.push(self.kind as u8);
        out.extend_from_slice(&self.handle.to_le_bytes());
        out.extend_from_slice(&self.number.to_le_bytes());
        out.extend_from_slice(&self.utc_us.to_le_bytes());
        for part in [self.text, self.other, self.bytes] {
            out.extend_from_slice(&(part.len() as u32).to_le_bytes());
        }
        [self.text, self.other, self.bytes].iter().for_each(|part| out.extend_from_slice(part));
        out
    }

    /// The first record of `bytes`, and its length; none where they end in the middle of one.
    pub fn decode(bytes: &'a [u8]) -> Option<(Self, usize)> {
        let head = bytes.get(..HEAD_BYTES)?;
        let four = |at: usize| head[at..at + 4].try_into().map(u32::from_le_bytes).ok();
        let kind = Kind::of(head[0])?;
        let eight = |at: usize| head[at..at + 8].try_into().map(u64::from_le_bytes).ok();
        let (handle, number, utc_us) = (four(1)?, eight(5)?, eight(13)? as i64);
        let mut at = HEAD_BYTES;
        let mut part = |length: u32| {
            let found = bytes.get(at..at.checked_add(length as usize)?)?;
            at += length as usize;
            Some(found)
        };
        let (text, other, bytes) = (part(four(21)?)?, part(four(25)?)?, part(four(29)?)?);
        Some((Self { kind, handle, number, utc_us, text, other, bytes }, at))
    }
}

impl Kind {
    fn of(number: u8) -> Option<Self> {
        let all = [
            Self::Life,
            Self::Open,
            Self::Close,
            Self::Write,
            Self::Truncate,
            Self::SyncBegins,
            Self::SyncEnds,
            Self::Rename,
            Self::Unlink,
            Self::Mkdir,
            Self::Rmdir,
        ];
        all.into_iter().find(|kind| *kind as u8 == number)
    }
}
