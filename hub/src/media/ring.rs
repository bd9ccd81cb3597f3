//! The key ring's file: private keys of hours, reserves and holds under a ring key that changes with every writing.
//!
//! `ring-N.key` holds an X25519 private key, `ring-N.sealed` the ring sealed to it. Writing makes N + 1,
//! then overwrites and removes N: what a backup or an undeleted block still holds of an older ring opens
//! with no key that exists.

use campanile_proto::ids::{EdgeId, HoldId, OrganisationId};
use campanile_proto::segment::{PrivateKey, PublicKey, SealError, SegmentKey, key_pair};
use campanile_proto::time::WallTime;
use campanile_proto::types::v1::{SegmentHeader, Suite};
use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

const HOUR_BYTES: usize = 8 + 1 + 32 + 32;
const RESERVE_BYTES: usize = 16 + 4 + 8 + 32 + 32;
/// In a ring of the first format, with one reserve key a box.
const RESERVE_1_BYTES: usize = 16 + 32 + 32;
const HOLD_BYTES: usize = 16 + 8 + 32 + 32;
const HEAD_BYTES: usize = 4 + 4 + 4 + 4;
/// In rings of the first two formats, without holds.
const HEAD_2_BYTES: usize = 4 + 4 + 4;
/// Authenticated with the ring: what it is.
const LABEL: &[u8] = b"campanile.keyring.v3";
const LABEL_2: &[u8] = b"campanile.keyring.v2";
const LABEL_1: &[u8] = b"campanile.keyring.v1";

/// An hour (since 1970) and a retention class in days: one private key.
pub(super) type HourClass = (i64, u8);

/// What the ring holds while in memory; private keys are wiped when dropped.
#[derive(Default)]
pub(super) struct Ring {
    pub generation: u32,
    pub hours: BTreeMap<HourClass, (PrivateKey, PublicKey)>,
    /// Of each box, oldest first.
    pub reserves: BTreeMap<EdgeId, Vec<Reserve>>,
    pub holds: BTreeMap<HoldId, HoldKey>,
}

/// The key of a hold.
pub(super) struct HoldKey {
    /// The hold's end: destroyed then, whatever the store of holds says.
    pub until: WallTime,
    pub private: PrivateKey,
    pub public: PublicKey,
}

/// A reserve key of a box.
pub(super) struct Reserve {
    /// Generation of the keys it was first delivered with.
    pub made: u32,
    /// Since when the box seals to a newer one.
    pub retired: Option<WallTime>,
    pub private: PrivateKey,
    pub public: PublicKey,
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
    /// 0: there is no ring yet.
    pub number: u64,
}

impl RingFolder {
    /// Opens the newest ring that can be opened; anything else in its place is wiped. An empty folder is
    /// an empty ring.
    pub fn open(path: &Path, organisation: OrganisationId) -> Result<(Self, Ring), RingError> {
        fs::create_dir_all(path).map_err(|source| file("make", path, source))?;
        restrict(path)?;
        let mut folder = Self { path: path.to_owned(), organisation, number: 0 };
        let numbers = folder.numbers()?;
        for number in numbers.iter().rev().copied() {
            if let Some(ring) = folder.read(number) {
                folder.number = number;
                folder.wipe_others()?;
                return Ok((folder, ring));
            }
        }
        // The very first writing was cut short: nobody was given a key of it.
        if numbers == [1] && !folder.file(1, "sealed").exists() {
            folder.wipe(1)?;
            return Ok((folder, Ring::default()));
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
        // The key stands alone until the whole ring does.
        let (unfinished, sealed) = (self.file(next, "new"), self.file(next, "sealed"));
        write_new(&unfinished, &framed)?;
        fs::rename(&unfinished, &sealed).map_err(|source| file("put in place", &sealed, source))?;
        self.sync_folder()?;
        self.number = next;
        self.wipe_others()
    }

    /// In order.
    fn numbers(&self) -> Result<Vec<u64>, RingError> {
        let mut numbers = Vec::new();
        for entry in fs::read_dir(&self.path).map_err(|source| file("read", &self.path, source))? {
            let name = entry.map_err(|source| file("read", &self.path, source))?.file_name();
            let number = name.to_str().and_then(|n| n.strip_prefix("ring-")).and_then(|n| n.split_once('.'));
            numbers.extend(number.and_then(|(number, _)| number.parse::<u64>().ok()));
        }
        numbers.sort_unstable();
        numbers.dedup();
        Ok(numbers)
    }

    /// Every number but the newest: one that a failure left behind as well. Each is tried; the first failure counts.
    fn wipe_others(&self) -> Result<(), RingError> {
        let others = self.numbers()?.into_iter().filter(|other| *other != self.number);
        others.map(|other| self.wipe(other)).fold(Ok(()), Result::and)
    }

    fn read(&self, number: u64) -> Option<Ring> {
        let private = PrivateKey::from_bytes(&Zeroizing::new(fs::read(self.file(number, "key")).ok()?)).ok()?;
        let framed = fs::read(self.file(number, "sealed")).ok()?;
        let (length, rest) = framed.split_first_chunk::<4>()?;
        let (wrapped, sealed) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
        let header = self.header();
        let open = |label| {
            let key = SegmentKey::unwrap(&header, label, wrapped, &private).ok()?;
            key.open(header.suite, 0, label, sealed).ok().map(Zeroizing::new)
        };
        if let Some(bytes) = open(LABEL) {
            return decode(&bytes, HEAD_BYTES, read_reserve);
        }
        match open(LABEL_2) {
            Some(bytes) => decode(&bytes, HEAD_2_BYTES, read_reserve),
            None => decode(&open(LABEL_1)?, HEAD_2_BYTES, read_reserve_1),
        }
    }

    /// Overwrites and removes both files of one number.
    fn wipe(&self, number: u64) -> Result<(), RingError> {
        for extension in ["key", "new", "sealed"] {
            let path = self.file(number, extension);
            let length = match fs::metadata(&path) {
                Ok(metadata) => metadata.len(),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                Err(error) => return Err(file("look at", &path, error)),
            };
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
    let reserves = ring.reserves.values().map(Vec::len).sum::<usize>();
    let size = HEAD_BYTES + ring.hours.len() * HOUR_BYTES + reserves * RESERVE_BYTES + ring.holds.len() * HOLD_BYTES;
    // Room for all of it at once, so that no half-grown buffer with keys is left behind.
    let mut out = Zeroizing::new(Vec::with_capacity(size));
    for number in [ring.generation, ring.hours.len() as u32, reserves as u32, ring.holds.len() as u32] {
        out.extend_from_slice(&number.to_le_bytes());
    }
    for ((hour, days), (private, public)) in &ring.hours {
        out.extend_from_slice(&hour.to_le_bytes());
        out.push(*days);
        out.extend_from_slice(private.expose());
        out.extend_from_slice(&public.0);
    }
    for (edge, reserve) in ring.reserves.iter().flat_map(|(edge, reserves)| reserves.iter().map(move |r| (edge, r))) {
        out.extend_from_slice(edge.as_bytes());
        out.extend_from_slice(&reserve.made.to_le_bytes());
        out.extend_from_slice(&reserve.retired.map_or(0, |at| at.0).to_le_bytes());
        out.extend_from_slice(reserve.private.expose());
        out.extend_from_slice(&reserve.public.0);
    }
    for (hold, key) in &ring.holds {
        out.extend_from_slice(hold.as_bytes());
        out.extend_from_slice(&key.until.0.to_le_bytes());
        out.extend_from_slice(key.private.expose());
        out.extend_from_slice(&key.public.0);
    }
    out
}

/// Reads one reserve key and what follows it.
type ReadReserve = fn(&[u8]) -> Option<((EdgeId, Reserve), &[u8])>;

fn decode(bytes: &[u8], head_bytes: usize, read_reserve: ReadReserve) -> Option<Ring> {
    let (head, mut rest) = bytes.split_at_checked(head_bytes)?;
    let number = |at: usize| Some(u32::from_le_bytes(head.get(at..at + 4)?.try_into().ok()?));
    let mut ring = Ring { generation: number(0)?, ..Ring::default() };
    for _ in 0..number(4)? {
        let (entry, after) = rest.split_at_checked(HOUR_BYTES)?;
        rest = after;
        let hour = i64::from_le_bytes(entry.get(..8)?.try_into().ok()?);
        ring.hours.insert((hour, *entry.get(8)?), pair(entry.get(9..)?)?);
    }
    for _ in 0..number(8)? {
        let ((edge, reserve), after) = read_reserve(rest)?;
        rest = after;
        ring.reserves.entry(edge).or_default().push(reserve);
    }
    for _ in 0..number(12).unwrap_or(0) {
        let (entry, after) = rest.split_at_checked(HOLD_BYTES)?;
        rest = after;
        let until = WallTime(i64::from_le_bytes(entry.get(16..24)?.try_into().ok()?));
        let (private, public) = pair(entry.get(24..)?)?;
        ring.holds.insert(HoldId::try_from(entry.get(..16)?).ok()?, HoldKey { until, private, public });
    }
    Some(ring)
}

fn pair(bytes: &[u8]) -> Option<(PrivateKey, PublicKey)> {
    Some((PrivateKey::from_bytes(bytes.get(..32)?).ok()?, PublicKey::from_bytes(bytes.get(32..64)?).ok()?))
}

fn read_reserve(bytes: &[u8]) -> Option<((EdgeId, Reserve), &[u8])> {
    let (entry, after) = bytes.split_at_checked(RESERVE_BYTES)?;
    let edge = EdgeId::try_from(entry.get(..16)?).ok()?;
    let made = u32::from_le_bytes(entry.get(16..20)?.try_into().ok()?);
    let retired = i64::from_le_bytes(entry.get(20..28)?.try_into().ok()?);
    let (private, public) = pair(entry.get(28..)?)?;
    let retired = (retired != 0).then_some(WallTime(retired));
    Some(((edge, Reserve { made, retired, private, public }), after))
}

/// It was delivered with every generation there was.
fn read_reserve_1(bytes: &[u8]) -> Option<((EdgeId, Reserve), &[u8])> {
    let (entry, after) = bytes.split_at_checked(RESERVE_1_BYTES)?;
    let edge = EdgeId::try_from(entry.get(..16)?).ok()?;
    let (private, public) = pair(entry.get(16..)?)?;
    Some(((edge, Reserve { made: 0, retired: None, private, public }), after))
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
    fn a_crash_within_the_very_first_writing_does_not_lock_the_hub_out() {
        let dir = tempfile::tempdir().unwrap();
        let organisation = OrganisationId::from_u128(1);
        let (folder, _) = RingFolder::open(dir.path(), organisation).unwrap();
        fs::write(folder.file(1, "key"), [1; 32]).unwrap();
        fs::write(folder.file(1, "new"), [1; 9]).unwrap();
        let (mut folder, ring) = RingFolder::open(dir.path(), organisation).unwrap();
        assert_eq!((folder.number, ring.hours.len(), folder.numbers().unwrap()), (0, 0, Vec::new()));
        folder.write(&ring).unwrap();
        // A whole ring that does not open is not taken for one that never was.
        fs::write(folder.file(1, "sealed"), [1; 9]).unwrap();
        assert!(matches!(RingFolder::open(dir.path(), organisation), Err(RingError::Damaged(_))));
    }

    #[test]
    fn a_ring_that_could_not_be_wiped_is_wiped_by_the_next_writing() {
        let dir = tempfile::tempdir().unwrap();
        let (mut folder, ring) = RingFolder::open(dir.path(), OrganisationId::from_u128(1)).unwrap();
        folder.write(&ring).unwrap();
        // What cannot be overwritten stands in the place of one file.
        fs::remove_file(folder.file(1, "sealed")).unwrap();
        fs::create_dir(folder.file(1, "sealed")).unwrap();
        for _ in 0..2 {
            assert!(matches!(folder.write(&ring), Err(RingError::File { .. })));
        }
        fs::remove_dir(folder.file(1, "sealed")).unwrap();
        fs::write(folder.file(1, "sealed"), [1]).unwrap();
        folder.write(&ring).unwrap();
        assert_eq!(folder.numbers().unwrap(), [4]);
    }

    #[test]
    fn a_crash_between_the_two_files_leaves_the_older_ring() {
        let dir = tempfile::tempdir().unwrap();
        let organisation = OrganisationId::from_u128(1);
        let (mut folder, mut ring) = RingFolder::open(dir.path(), organisation).unwrap();
        let (private, public) = key_pair();
        let reserve = Reserve { made: 1, retired: Some(WallTime(5)), private, public };
        ring.reserves.insert(EdgeId::from_u128(3), vec![reserve]);
        folder.write(&ring).unwrap();
        fs::write(folder.file(2, "key"), [1; 32]).unwrap();
        let (folder, ring) = RingFolder::open(dir.path(), organisation).unwrap();
        let reserve = &ring.reserves[&EdgeId::from_u128(3)][0];
        assert_eq!((folder.number, reserve.made, reserve.retired), (1, 1, Some(WallTime(5))));
        assert!(!folder.file(2, "key").exists());
    }

    #[test]
    fn rings_of_the_first_two_formats_are_read_and_written_anew() {
        let (organisation, edge) = (OrganisationId::from_u128(1), EdgeId::from_u128(3));
        for (label, made) in [(LABEL_1, 0_u32), (LABEL_2, 4)] {
            let dir = tempfile::tempdir().unwrap();
            let (mut folder, _) = RingFolder::open(dir.path(), organisation).unwrap();
            let (hour, reserve) = (key_pair(), key_pair());
            let mut plain = [9_u32, 1, 1].map(u32::to_le_bytes).concat();
            plain.extend_from_slice(&[&5_i64.to_le_bytes()[..], &[7], hour.0.expose(), &hour.1.0].concat());
            plain.extend_from_slice(edge.as_bytes());
            if label == LABEL_2 {
                plain.extend_from_slice(&[&made.to_le_bytes()[..], &0_i64.to_le_bytes()].concat());
            }
            plain.extend_from_slice(&[&reserve.0.expose()[..], &reserve.1.0].concat());
            let (private, public) = key_pair();
            let (header, key) = (folder.header(), SegmentKey::random().unwrap());
            let wrapped = key.wrap(&header, label, &public).unwrap();
            let sealed = key.seal(header.suite, 0, label, &plain).unwrap();
            fs::write(folder.file(1, "key"), private.expose()).unwrap();
            let framed = [&(wrapped.len() as u32).to_le_bytes()[..], &wrapped, &sealed].concat();
            fs::write(folder.file(1, "sealed"), framed).unwrap();

            let check = |ring: &Ring| {
                let [kept] = ring.reserves[&edge].as_slice() else { panic!("one reserve key") };
                assert_eq!((ring.generation, ring.hours[&(5, 7)].1.0), (9, hour.1.0));
                assert_eq!((kept.made, kept.retired, kept.public.0), (made, None, reserve.1.0));
            };
            let (opened, mut ring) = RingFolder::open(dir.path(), organisation).unwrap();
            (folder, _) = (opened, check(&ring));
            let (private, public) = key_pair();
            ring.holds.insert(HoldId::from_u128(6), HoldKey { until: WallTime(77), private, public });
            folder.write(&ring).unwrap();
            let written = RingFolder::open(dir.path(), organisation).unwrap().1;
            check(&written);
            let held = &written.holds[&HoldId::from_u128(6)];
            assert_eq!((held.until, held.public.0), (WallTime(77), public.0));
        }
    }
}
