//! The disk that recordings go to, and where it is mounted.

use crate::hardware;
use crate::index::rescan;
use crate::record::home::{Found, Home};
use crate::record::retain;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskSeen {
    /// The folder is there; before the first start it need not be.
    pub exists: bool,
    pub free_bytes: u64,
    pub total_bytes: u64,
    /// What may be kept: recordings that are there, and what is free beyond the reserve.
    pub room_bytes: u64,
    /// None: the kernel does not list it.
    pub mount: Option<Mount>,
    /// It is the disk of `/` too.
    pub of_system: bool,
    /// Recordings belong on another disk; the file that says so.
    pub elsewhere: Option<PathBuf>,
    /// Why this user cannot write there.
    pub unwritable: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    pub at: String,
    pub kind: String,
    pub read_only: bool,
}

/// None: nothing can be asked about it.
pub(super) fn of(state_dir: &Path, media_dir: &Path) -> Option<DiskSeen> {
    let exists = media_dir.is_dir();
    let nearest = nearest(media_dir)?;
    let disk = hardware::disk(&nearest)?;
    let used = rescan::list(media_dir).iter().filter_map(|file| Some(std::fs::metadata(file).ok()?.len())).sum();
    let home = Home::new(state_dir, media_dir);
    let device = |path: &Path| std::fs::metadata(path).ok().map(|metadata| metadata.dev());
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let may_write = nix::unistd::access(&nearest, nix::unistd::AccessFlags::W_OK);
    Some(DiskSeen {
        exists,
        free_bytes: disk.free_bytes,
        total_bytes: disk.total_bytes,
        room_bytes: retain::room_bytes(used, disk),
        mount: mount_of(&mounts, &nearest),
        of_system: device(&nearest) == device(Path::new("/")),
        elsewhere: (home.look().ok() == Some(Found::Other)).then(|| home.known_by().to_owned()),
        unwritable: may_write.err().map(|error| error.desc().to_owned()),
    })
}

/// The folder, or the nearest one above it that is there.
fn nearest(folder: &Path) -> Option<PathBuf> {
    folder.ancestors().find_map(|path| {
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        std::fs::canonicalize(path).ok()
    })
}

/// The mount that holds `path`, of /proc/self/mountinfo (proc_pid_mountinfo(5)): the deepest, and of those the last.
fn mount_of(mounts: &str, path: &Path) -> Option<Mount> {
    let parsed = mounts.lines().filter_map(|line| {
        let (before, after) = line.split_once(" - ")?;
        let mut fields = before.split(' ').skip(4);
        let (at, options) = (unescaped(fields.next()?), fields.next()?);
        let mut fields = after.split(' ');
        let (kind, of_disk) = (fields.next()?, fields.nth(1).unwrap_or(""));
        let read_only = [options, of_disk].iter().any(|options| options.split(',').any(|option| option == "ro"));
        Some(Mount { at, kind: kind.to_owned(), read_only })
    });
    parsed.filter(|mount| path.starts_with(&mount.at)).max_by_key(|mount| Path::new(&mount.at).components().count())
}

/// Spaces and their like are written as three octal digits.
fn unescaped(text: &str) -> String {
    [("\\040", " "), ("\\011", "\t"), ("\\134", "\\")]
        .iter()
        .fold(text.to_owned(), |text, (escape, plain)| text.replace(escape, plain))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw\n\
                          30 22 8:1 / /srv/my\\040disk rw,noatime - ext4 /dev/sda1 rw\n\
                          31 22 8:2 / /srv/old rw,noatime - ext4 /dev/sdb1 ro,errors=remount-ro\n\
                          a line of another shape\n";

    #[test]
    fn a_folder_is_on_the_deepest_mount_above_it() {
        let at = |path| mount_of(MOUNTS, Path::new(path)).map(|mount| (mount.at, mount.read_only));
        assert_eq!(at("/var/lib/campanile"), Some(("/".to_owned(), false)));
        assert_eq!(at("/srv/my disk/media"), Some(("/srv/my disk".to_owned(), false)));
        assert_eq!(at("/srv/my disk2"), Some(("/".to_owned(), false)));
        assert_eq!(at("/srv/old/media"), Some(("/srv/old".to_owned(), true)), "the disk was remounted read-only");
        assert_eq!(mount_of("", Path::new("/")), None);
    }

    #[test]
    fn a_folder_that_is_not_there_yet_is_measured_where_it_will_be() {
        let folder = tempfile::tempdir().unwrap();
        let media = folder.path().join("not/yet");
        let seen = of(folder.path(), &media).unwrap();
        assert!(!seen.exists && !media.exists() && seen.total_bytes > 0 && seen.unwritable.is_none());
        assert!(seen.room_bytes <= seen.free_bytes);
    }
}
