//! Ciphertext of holds on the hub's disk: `<data>/holds/<hold>/<segment>.seg`, a segment file (docs/segment-format.md)
//! of which only the covered records are there, verbatim. Blocks on the disk.

use bytes::Bytes;
use campanile_proto::ids::{HoldId, SegmentId};
use campanile_proto::segment::{DamagedRecord, MAGIC, PREFIX_BYTES, Record, RecordPrefix};
use std::fs::{self, File, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    #[error("cannot {attempt} {path}")]
    File { attempt: &'static str, path: PathBuf, source: std::io::Error },
    #[error("the copy in {path} is damaged")]
    Damaged { path: PathBuf, source: DamagedRecord },
    #[error("the copy in {0} is shorter than what was written to it")]
    Short(PathBuf),
}

#[derive(Debug, Clone)]
pub struct Vault(PathBuf);

/// Where appended records are, and how long the file is now.
#[derive(Debug, PartialEq, Eq)]
pub struct Appended {
    pub places: Vec<u64>,
    pub file_bytes: u64,
}

impl Vault {
    pub fn new(folder: PathBuf) -> Self {
        Self(folder)
    }

    fn folder(&self, hold: HoldId) -> PathBuf {
        self.0.join(hold.to_string())
    }

    fn file(&self, hold: HoldId, segment: SegmentId) -> PathBuf {
        self.folder(hold).join(format!("{segment}.seg"))
    }

    /// Appends behind `file_bytes`, what is noted as durable; anything that stands there was cut short. Durable when
    /// it returns.
    pub fn append(
        &self,
        hold: HoldId,
        segment: SegmentId,
        file_bytes: u64,
        records: &[Record],
    ) -> Result<Appended, VaultError> {
        let (folder, path) = (self.folder(hold), self.file(hold, segment));
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder).map_err(|e| file("make", &folder, e))?;
        let mut options = OpenOptions::new();
        let opened = options.read(true).write(true).create(true).truncate(false).mode(0o600).open(&path);
        let mut open = opened.map_err(|e| file("open", &path, e))?;
        let length = open.metadata().map_err(|e| file("look at", &path, e))?.len();
        if length < file_bytes {
            return Err(VaultError::Short(path));
        }
        let mut buffer = if file_bytes == 0 { MAGIC.to_vec() } else { Vec::new() };
        let mut places = Vec::with_capacity(records.len());
        for record in records {
            places.push(file_bytes + buffer.len() as u64);
            buffer.extend_from_slice(&record.encode());
        }
        let written = open
            .set_len(file_bytes)
            .and_then(|()| open.seek(SeekFrom::Start(file_bytes)))
            .and_then(|_| open.write_all(&buffer))
            .and_then(|()| open.sync_all());
        written.map_err(|e| file("write", &path, e))?;
        if file_bytes == 0 {
            for folder in [&folder, &self.0] {
                let synced = File::open(folder).and_then(|folder| folder.sync_all());
                synced.map_err(|e| file("make durable", folder, e))?;
            }
        }
        Ok(Appended { places, file_bytes: file_bytes + buffer.len() as u64 })
    }

    /// One record, its CRC checked.
    pub fn record(&self, hold: HoldId, segment: SegmentId, at: u64) -> Result<Record, VaultError> {
        let path = self.file(hold, segment);
        let open = File::open(&path).map_err(|e| file("open", &path, e))?;
        let mut prefix = [0; PREFIX_BYTES];
        open.read_exact_at(&mut prefix, at).map_err(|e| file("read", &path, e))?;
        let damaged = |source| VaultError::Damaged { path: path.clone(), source };
        let mut bytes = vec![0; RecordPrefix::parse(&prefix).map_err(damaged)?.record_bytes()];
        open.read_exact_at(&mut bytes, at).map_err(|e| file("read", &path, e))?;
        Record::decode(&Bytes::from(bytes)).map_err(damaged)
    }

    /// What a hold kept goes; its keys went before.
    pub fn remove(&self, hold: HoldId) -> Result<(), VaultError> {
        let folder = self.folder(hold);
        match fs::remove_dir_all(&folder) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(file("remove", &folder, error)),
        }
    }
}

fn file(attempt: &'static str, path: &Path, source: std::io::Error) -> VaultError {
    VaultError::File { attempt, path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use campanile_proto::types::v1::RecordKind;

    fn record(n: u8) -> Record {
        Record::following(&[n; 32], RecordKind::Fragment, Bytes::from(vec![n; 9]), Bytes::from(vec![n; 500]))
    }

    #[test]
    fn what_was_noted_is_there_after_a_kill_in_the_middle_of_a_write() {
        let folder = tempfile::tempdir().unwrap();
        let vault = Vault::new(folder.path().join("holds"));
        let (hold, segment) = (HoldId::from_u128(1), SegmentId::from_u128(2));
        let first = vault.append(hold, segment, 0, &[record(1), record(2)]).unwrap();
        // Written, and not noted before the process died: a torn tail in any length.
        let second = vault.append(hold, segment, first.file_bytes, &[record(3)]).unwrap();
        let whole = fs::metadata(vault.file(hold, segment)).unwrap().len();
        assert_eq!(second.file_bytes, whole);
        OpenOptions::new().write(true).open(vault.file(hold, segment)).unwrap().set_len(whole - 7).unwrap();
        assert!(vault.record(hold, segment, second.places[0]).is_err());
        let again = vault.append(hold, segment, first.file_bytes, &[record(4)]).unwrap();
        let read = |at| vault.record(hold, segment, at).unwrap();
        assert_eq!((read(first.places[0]), read(first.places[1])), (record(1), record(2)));
        assert_eq!(read(again.places[0]), record(4));

        assert!(matches!(vault.append(hold, segment, whole + 99, &[record(5)]), Err(VaultError::Short(_))));
        vault.remove(hold).unwrap();
        vault.remove(hold).unwrap();
        assert!(vault.record(hold, segment, first.places[0]).is_err());
    }
}
