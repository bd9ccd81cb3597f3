//! The key ring's file: private hour and reserve keys under a ring key that changes with every writing.
//!
//! `ring-N.key` holds an X25519 private key, `ring-N.sealed` the ring sealed to it. Writing makes N + 1,
//! then overwrites and removes N: what a backup or an undeleted block still holds of an older ring opens
//! with no key that exists.

use campanile_proto::ids::{EdgeId, OrganisationId};
use campanile_proto::segment::{PrivateKey, PublicKey, SealError, SegmentKey, key_pair};
use campanile_proto::types::v1::{SegmentHeader, Suite};
use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

const HOUR_BYTES: usize = 8 + 1 + 32 + 32;
const RESERVE_BYTES: usize = 16 + 32 + 32;
const HEAD_BYTES: usize = 4 + 4 + 4;
/// Authenticated with the ring: what it is.
const LABEL: &[u8] = b"campanile.keyring.v1";

/// An hour (since 1970) and a retention class in days: one private key.
pub(super) type HourClass = (i64, u8);

/// What the ring holds while in memory; private keys are wiped when dropped.
#[derive(Default)]
pub(super) struct Ring {
    pub generation: u32,
    pub hours: BTreeMap<HourClass, (PrivateKey, PublicKey)>,
    pub reserves: BTreeMap<EdgeId, (PrivateKey, PublicKey)>,
}

/// Why the ring cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum RingError {
    #[error("cannot {attempt} {path}")]
    File { attempt: &'static str, path: PathBuf, source: std::io::Error },
    #[error("cannot seal the key ring")]
    Seal(#[source] SealError),
    #[error("the key ring in {0} is damaged, and no older one opens")]
    Damaged(PathBuf),
}

/// The folder of the ring and the number of its newest files.
pub(super) struct RingFolder {
    path: PathBuf,
    organisation: OrganisationId,
    number: u64,
}

impl RingFolder {
    /// Opens the newest ring that can be opened; anything else in its place is wiped. An empty folder is
    /// an empty ring.
    pub fn open(path: &Path, organisation: OrganisationId) -> Result<(Self, Ring), RingError> {
        fs::create_dir_all(path).map_err(|source| file("make", path, source))?;
        restrict(path)?;
        let mut numbers = Vec::new();
        for entry in fs::read_dir(path).map_err(|source| file("read", path, source))? {
            let name = entry.map_err(|source| file("read", path, source))?.file_name();
            let number = name.to_str().and_then(|n| n.strip_prefix("ring-")).and_then(|n| n.split_once('.'));
            numbers.extend(number.and_then(|(number, _)| number.parse::<u64>().ok()));
        }
        numbers.sort_unstable();
        numbers.dedup();
        let mut folder = Self { path: path.to_owned(), organisation, number: 0 };
        for number in numbers.iter().rev().copied() {
            if let Some(ring) = folder.read(number) {
                folder.number = number;
                for other in numbers.iter().copied().filter(|other| *other != number) {
                    folder.wipe(other)?;
                }
                return Ok((folder, ring));
            }
        }
        if numbers.is_empty() { Ok((folder, Ring::default())) } else { Err(RingError::Damaged(path.to_owned())) }
    }

    /// Writes the ring under a fresh key, then wipes the one before.
    pub fn write(&mut self, ring: &Ring) -> Result<(), RingError> {
        let (private, public) = key_pair();
        let key = SegmentKey::random().map_err(RingError::Seal)?;
        let header = self.header();
        let wrapped = key.wrap(&header, LABEL, &public).map_err(RingError::Seal)?;
        let sealed = key.seal(header.suite, 0, LABEL, &encode(ring)).map_err(RingError::Seal)?;
        let next = self.number + 1;
        let framed = [&(wrapped.len() as u32).to_le_bytes()[..], &wrapped, &sealed].concat();
        write_new(&self.file(next, "key"), private.expose())?;
        write_new(&self.file(next, "sealed"), &framed)?;
        self.sync_folder()?;
        let before = std::mem::replace(&mut self.number, next);
        self.wipe(before)
    }

    fn read(&self, number: u64) -> Option<Ring> {
        let private = PrivateKey::from_bytes(&Zeroizing::new(fs::read(self.file(number, "key")).ok()?)).ok()?;
        let framed = fs::read(self.file(number, "sealed")).ok()?;
        let (length, rest) = framed.split_first_chunk::<4>()?;
        let (wrapped, sealed) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
        let header = self.header();
        let key = SegmentKey::unwrap(&header, LABEL, wrapped, &private).ok()?;
        decode(&Zeroizing::new(key.open(header.suite, 0, LABEL, sealed).ok()?))
    }

    /// Overwrites and removes both files of one number.
    fn wipe(&self, number: u64) -> Result<(), RingError> {
        for extension in ["key", "sealed"] {
            let path = self.file(number, extension);
            let Ok(length) = fs::metadata(&path).map(|m| m.len()) else { continue };
            let mut noise = vec![0; usize::try_from(length).unwrap_or(0)];
            getrandom::fill(&mut noise).map_err(|_| RingError::Seal(SealError::NoRandom))?;
            let mut open = OpenOptions::new().write(true).open(&path).map_err(|e| file("overwrite", &path, e))?;
            open.write_all(&noise).and_then(|()| open.sync_all()).map_err(|e| file("overwrite", &path, e))?;
            fs::remove_file(&path).map_err(|e| file("remove", &path, e))?;
        }
        self.sync_folder()
    }

    fn sync_folder(&self) -> Result<(), RingError> {
        File::open(&self.path).and_then(|folder| folder.sync_all()).map_err(|e| file("make durable", &self.path, e))
    }

    fn file(&self, number: u64, extension: &str) -> PathBuf {
        self.path.join(format!("ring-{number}.{extension}"))
    }

    fn header(&self) -> SegmentHeader {
        SegmentHeader {
            organisation_id: self.organisation.into(),
            suite: Suite::Chacha20Poly1305.into(),
            ..SegmentHeader::default()
        }
    }
}

fn file(attempt: &'static str, path: &Path, source: std::io::Error) -> RingError {
    RingError::File { attempt, path: path.to_owned(), source }
}

fn restrict(path: &Path) -> Result<(), RingError> {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(0o700)).map_err(|e| file("restrict", path, e))
}

fn write_new(path: &Path, bytes: &[u8]) -> Result<(), RingError> {
    let mut open = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .map_err(|e| file("write", path, e))?;
    open.write_all(bytes).and_then(|()| open.sync_all()).map_err(|e| file("write", path, e))
}

fn encode(ring: &Ring) -> Zeroizing<Vec<u8>> {
    let size = HEAD_BYTES + ring.hours.len() * HOUR_BYTES + ring.reserves.len() * RESERVE_BYTES;
    // Room for all of it at once, so that no half-grown buffer with keys is left behind.
    let mut out = Zeroizing::new(Vec::with_capacity(size));
    for number in [ring.generation, ring.hours.len() as u32, ring.reserves.len() as u32] {
        out.extend_from_slice(&number.to_le_bytes());
    }
    for ((hour, days), (private, public)) in &ring.hours {
        out.extend_from_slice(&hour.to_le_bytes());
        out.push(*days);
        out.extend_from_slice(private.expose());
        out.extend_from_slice(&public.0);
    }
    for (edge, (private, public)) in &ring.reserves {
        out.extend_from_slice(edge.as_bytes());
        out.extend_from_slice(private.expose());
        out.extend_from_slice(&public.0);
    }
    out
}

fn decode(bytes: &[u8]) -> Option<Ring> {
    let (head, mut rest) = bytes.split_at_checked(HEAD_BYTES)?;
    let number = |at: usize| Some(u32::from_le_bytes(head.get(at..at + 4)?.try_into().ok()?));
    let mut ring = Ring { generation: number(0)?, ..Ring::default() };
    let pair = |bytes: &[u8]| {
        Some((PrivateKey::from_bytes(bytes.get(..32)?).ok()?, PublicKey::from_bytes(bytes.get(32..64)?).ok()?))
    };
    for _ in 0..number(4)? {
        let (entry, after) = rest.split_at_checked(HOUR_BYTES)?;
        rest = after;
        let hour = i64::from_le_bytes(entry.get(..8)?.try_into().ok()?);
        ring.hours.insert((hour, *entry.get(8)?), pair(entry.get(9..)?)?);
    }
    for _ in 0..number(8)? {
        let (entry, after) = rest.split_at_checked(RESERVE_BYTES)?;
        rest = after;
        ring.reserves.insert(EdgeId::try_from(entry.get(..16)?).ok()?, pair(entry.get(16..)?)?);
    }
    Some(ring)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_older_ring_opens_with_no_key_that_exists() {
        let dir = tempfile::tempdir().unwrap();
        let organisation = OrganisationId::from_u128(1);
        let (mut folder, mut ring) = RingFolder::open(dir.path(), organisation).unwrap();
        ring.hours.insert((5, 7), key_pair());
        folder.write(&ring).unwrap();
        let old = fs::read(folder.file(1, "sealed")).unwrap();
        assert_eq!(RingFolder::open(dir.path(), organisation).unwrap().1.hours.len(), 1);

        ring.hours.clear();
        folder.write(&ring).unwrap();
        assert!(!folder.file(1, "key").exists() && !folder.file(1, "sealed").exists());
        // Somebody brings the old ring back from a backup.
        fs::write(folder.file(1, "sealed"), &old).unwrap();
        assert!(folder.read(1).is_none());
        fs::copy(folder.file(2, "key"), folder.file(1, "key")).unwrap();
        assert!(folder.read(1).is_none());
        assert!(RingFolder::open(dir.path(), organisation).unwrap().1.hours.is_empty());
    }

    #[test]
    fn a_crash_between_the_two_files_leaves_the_older_ring() {
        let dir = tempfile::tempdir().unwrap();
        let organisation = OrganisationId::from_u128(1);
        let (mut folder, mut ring) = RingFolder::open(dir.path(), organisation).unwrap();
        ring.reserves.insert(EdgeId::from_u128(3), key_pair());
        folder.write(&ring).unwrap();
        fs::write(folder.file(2, "key"), [1; 32]).unwrap();
        let (folder, ring) = RingFolder::open(dir.path(), organisation).unwrap();
        assert_eq!((folder.number, ring.reserves.len()), (1, 1));
        assert!(!folder.file(2, "key").exists());
    }
}
