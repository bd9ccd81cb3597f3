//! A trace as changes of files and names, and since when each of them is on the disk.
//!
//! A change of a file is on the disk when a sync of that file that began after it has ended; a change of a name when
//! one of its folder has (POSIX asks no more of a file system). File systems with a journal do more: a sync that
//! writes the journal brings every earlier change of a name with it, in order.

use crate::trace::{CREATED, Kind, Record, TRUNCATED};
use anyhow::{Context, Result, ensure};
use std::collections::{HashMap, HashSet};
use std::ops::Range;

/// A file, whatever it is called at the time.
pub type File = usize;

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Deed {
    /// `bytes` are a range of the trace.
    Write {
        file: File,
        offset: u64,
        bytes: Range<usize>,
    },
    Truncate {
        file: File,
        length: u64,
    },
    Create {
        file: File,
        path: String,
    },
    Rename {
        file: File,
        from: String,
        to: String,
    },
    Unlink {
        path: String,
    },
    Mkdir {
        path: String,
    },
    Rmdir {
        path: String,
    },
}

impl Deed {
    pub fn is_of_names(&self) -> bool {
        !matches!(self, Self::Write { .. } | Self::Truncate { .. })
    }

    fn file(&self) -> Option<File> {
        match self {
            Self::Write { file, .. } | Self::Truncate { file, .. } => Some(*file),
            _ => None,
        }
    }

    fn folder(&self) -> Option<&str> {
        match self {
            Self::Create { path, .. } | Self::Unlink { path } | Self::Mkdir { path } | Self::Rmdir { path } => {
                Some(parent(path))
            }
            Self::Rename { to, .. } => Some(parent(to)),
            _ => None,
        }
    }
}

/// A change, at its place among the records of the trace.
#[derive(Debug, Clone)]
pub struct Change {
    pub at: usize,
    pub utc_us: i64,
    pub deed: Deed,
    /// Place of the end of the sync from which on a power cut leaves it; none: never.
    pub synced: Option<usize>,
    /// The same with a journal.
    pub journalled: Option<usize>,
}

/// A whole trace.
pub struct History {
    bytes: Vec<u8>,
    pub changes: Vec<Change>,
    /// Records, whose places are the possible cuts.
    pub records: usize,
    /// UTC of each record.
    pub times: Vec<i64>,
    /// Places at which a process began: what was open before is open no more.
    pub lives: Vec<usize>,
    /// Where each sync ended.
    pub syncs: Vec<usize>,
    /// Where each file was closed by who made it.
    pub closings: HashMap<File, usize>,
}

pub fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(folder, _)| folder)
}

#[derive(Clone)]
enum Target {
    File(File),
    Folder(String),
}

#[derive(Default)]
struct Reading {
    changes: Vec<Change>,
    names: HashMap<String, File>,
    handles: HashMap<u32, Target>,
    /// Where each sync that has not ended began, and of what.
    beginning: HashMap<(u32, u64), (usize, Target)>,
    lengths: HashMap<File, u64>,
    /// Files whose length or name is not in the journal yet.
    grown: HashSet<File>,
    /// Changes that are not on the disk.
    loose: Vec<usize>,
    files: usize,
    makers: HashMap<u32, File>,
    closings: HashMap<File, usize>,
}

impl History {
    pub fn read(bytes: Vec<u8>) -> Result<Self> {
        let (mut reading, mut at, mut place) = (Reading::default(), 0, 0);
        let (mut times, mut lives, mut syncs) = (Vec::new(), Vec::new(), Vec::new());
        while at < bytes.len() {
            // The last record of a process that was killed may be cut, and another follows only in a new file.
            let Some((record, length)) = Record::decode(&bytes[at..]) else { break };
            let data = at + length - record.bytes.len()..at + length;
            match record.kind {
                Kind::Life => {
                    lives.push(place);
                    reading.handles.clear();
                    reading.makers.clear();
                    reading.beginning.clear();
                }
                Kind::SyncEnds => syncs.push(place),
                _ => {}
            }
            reading.take(place, &record, data)?;
            times.push(record.utc_us);
            (at, place) = (at + length, place + 1);
        }
        ensure!(place > 0, "the trace is empty");
        let Reading { changes, closings, .. } = reading;
        Ok(Self { bytes, changes, records: place, times, lives, syncs, closings })
    }

    pub fn bytes(&self, range: &Range<usize>) -> &[u8] {
        &self.bytes[range.clone()]
    }

    /// Changes before a cut.
    pub fn until(&self, cut: usize) -> &[Change] {
        &self.changes[..self.changes.partition_point(|change| change.at < cut)]
    }
}

impl Reading {
    fn take(&mut self, place: usize, record: &Record<'_>, data: Range<usize>) -> Result<()> {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).context("a path is text");
        let (name, utc_us) = (text(record.text)?, record.utc_us);
        match record.kind {
            Kind::Life => {}
            Kind::Open => self.open(place, utc_us, record.handle, name, record.number),
            Kind::Close => {
                self.handles.remove(&record.handle);
                if let Some(file) = self.makers.remove(&record.handle) {
                    self.closings.insert(file, place);
                }
            }
            Kind::Write => {
                let Some(Target::File(file)) = self.handles.get(&record.handle).cloned() else { return Ok(()) };
                let end = record.number + data.len() as u64;
                let length = self.lengths.entry(file).or_default();
                if end > *length {
                    *length = end;
                    self.grown.insert(file);
                }
                self.push(place, utc_us, Deed::Write { file, offset: record.number, bytes: data });
            }
            Kind::Truncate => {
                let Some(Target::File(file)) = self.handles.get(&record.handle).cloned() else { return Ok(()) };
                self.lengths.insert(file, record.number);
                self.grown.insert(file);
                self.push(place, utc_us, Deed::Truncate { file, length: record.number });
            }
            Kind::SyncBegins => {
                if let Some(target) = self.handles.get(&record.handle) {
                    self.beginning.insert((record.handle, record.number), (place, target.clone()));
                }
            }
            Kind::SyncEnds => {
                if let Some((began, target)) = self.beginning.remove(&(record.handle, record.number)) {
                    self.synced(began, place, &target);
                }
            }
            Kind::Rename => {
                let to = text(record.other)?;
                let Some(file) = self.names.remove(&name) else { return Ok(()) };
                self.names.insert(to.clone(), file);
                self.grown.insert(file);
                self.push(place, utc_us, Deed::Rename { file, from: name, to });
            }
            Kind::Unlink => {
                self.names.remove(&name);
                self.push(place, utc_us, Deed::Unlink { path: name });
            }
            Kind::Mkdir => self.push(place, utc_us, Deed::Mkdir { path: name }),
            Kind::Rmdir => self.push(place, utc_us, Deed::Rmdir { path: name }),
        }
        Ok(())
    }

    fn open(&mut self, place: usize, utc_us: i64, handle: u32, path: String, number: u64) {
        if number & CREATED != 0 {
            let file = self.files;
            self.files += 1;
            self.names.insert(path.clone(), file);
            self.grown.insert(file);
            self.makers.insert(handle, file);
            self.push(place, utc_us, Deed::Create { file, path: path.clone() });
        }
        match self.names.get(&path).copied() {
            Some(file) => {
                if number & TRUNCATED != 0 {
                    self.lengths.insert(file, 0);
                    self.push(place, utc_us, Deed::Truncate { file, length: 0 });
                }
                self.handles.insert(handle, Target::File(file));
            }
            None => {
                self.handles.insert(handle, Target::Folder(path));
            }
        }
    }

    fn push(&mut self, at: usize, utc_us: i64, deed: Deed) {
        self.loose.push(self.changes.len());
        self.changes.push(Change { at, utc_us, deed, synced: None, journalled: None });
    }

    fn synced(&mut self, began: usize, ended: usize, target: &Target) {
        let writes_journal = match target {
            Target::File(file) => self.grown.remove(file),
            Target::Folder(_) => true,
        };
        let changes = &mut self.changes;
        self.loose.retain(|&index| {
            let change = &mut changes[index];
            if change.at > began {
                return true;
            }
            let is_its = match target {
                Target::File(file) => change.deed.file() == Some(*file),
                Target::Folder(folder) => change.deed.folder() == Some(folder.as_str()),
            };
            let is_name = change.deed.is_of_names();
            if is_its && change.synced.is_none() {
                change.synced = Some(ended);
            }
            if (is_its || is_name && writes_journal) && change.journalled.is_none() {
                change.journalled = Some(ended);
            }
            change.synced.is_none() || change.journalled.is_none()
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trace(records: &[Record<'_>]) -> History {
        History::read(records.iter().flat_map(Record::encode).collect()).unwrap()
    }

    fn record<'a>(kind: Kind, handle: u32, number: u64, text: &'a str) -> Record<'a> {
        Record::new(kind, handle, number, 0).named(text.as_bytes())
    }

    #[test]
    fn a_write_is_on_the_disk_once_a_sync_that_began_after_it_has_ended() {
        let bytes = |handle, at| Record { bytes: b"abc", ..record(Kind::Write, handle, at, "") };
        let history = trace(&[
            record(Kind::Open, 1, CREATED, "/m/a"),
            bytes(1, 0),
            record(Kind::SyncBegins, 1, 1, ""),
            bytes(1, 3),
            record(Kind::SyncEnds, 1, 1, ""),
            record(Kind::Open, 2, 0, "/m"),
            record(Kind::SyncBegins, 2, 2, ""),
            record(Kind::SyncEnds, 2, 2, ""),
        ]);
        let told: Vec<_> = history.changes.iter().map(|change| (change.synced, change.journalled)).collect();
        assert_eq!(told, [(Some(7), Some(4)), (Some(4), Some(4)), (None, None)], "name, first write, second write");
    }

    #[test]
    fn a_sync_that_did_not_end_proves_nothing() {
        let history = trace(&[
            record(Kind::Life, 0, 1, ""),
            record(Kind::Open, 1, CREATED, "/m/a"),
            record(Kind::SyncBegins, 1, 1, ""),
            record(Kind::Life, 0, 2, ""),
            record(Kind::SyncEnds, 1, 1, ""),
        ]);
        assert_eq!((history.changes[0].synced, history.changes[0].journalled), (None, None));
    }
}
