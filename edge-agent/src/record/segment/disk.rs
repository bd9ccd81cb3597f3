//! The seam to the file system: a test's disk fails on purpose.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Where segments are made.
pub trait Disk: Send + Sync {
    /// A new file, 0600; an error when it is there already.
    fn create(&self, path: &Path) -> std::io::Result<Box<dyn SegmentFile>>;
}

/// A file that grows at its end.
pub trait SegmentFile: Send {
    /// After an error the file ends in a part of `bytes`, or nowhere near.
    fn append(&mut self, bytes: &[u8]) -> std::io::Result<()>;

    /// fdatasync(2). After an error it is never asked again: the kernel tells a failed write back once, and may have
    /// dropped what it could not write.
    fn sync(&self) -> std::io::Result<()>;
}

/// The file system of this machine.
#[derive(Debug, Clone, Copy)]
pub struct OwnDisk;

impl Disk for OwnDisk {
    fn create(&self, path: &Path) -> std::io::Result<Box<dyn SegmentFile>> {
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        Ok(Box::new(file))
    }
}

impl SegmentFile for File {
    fn append(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.write_all(bytes)
    }

    fn sync(&self) -> std::io::Result<()> {
        self.sync_data()
    }
}
