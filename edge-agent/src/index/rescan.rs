//! The walk through the media folder: at the start, when facts were dropped, and when the hub asks for a replay.
//!
//! It runs beside recording and never holds it up. It adds what the index does not know, offers what may not have
//! been reported, cuts a torn tail off segments that were open when the last run ended, sets aside what it cannot
//! read, and deletes nothing.

use super::walk::{self, Depth, Walk};
use super::{Index, IndexError, SegmentRow};
use crate::record::retain::Rule;
use campanile_proto::ids::{BootId, SegmentId};
use campanile_proto::kind::{Chain, Kind};
use campanile_proto::segment::{DamagedRecord, PREFIX_BYTES, ReadError, RecordPrefix};
use campanile_proto::time::MonoTime;
use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};
use std::collections::{HashMap, HashSet};
use std::fs::{File, OpenOptions};
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// Folder beside the cameras' for what is no segment.
const QUARANTINE: &str = "quarantine";
const EXTENSION: &str = "seg";
/// Rule under which a segment is reported whose file is gone though nobody here deleted it.
pub(super) const FILE_MISSING: &str = "file missing";

/// Which segments belong to this run of the agent and are its recorder's to write.
#[derive(Debug, Clone, Copy)]
pub struct ThisRun {
    pub boot: BootId,
    pub started: MonoTime,
}

/// What a walk did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Summary {
    pub files: usize,
    pub walked: usize,
    pub truncated: usize,
    pub set_aside: usize,
    pub missing: usize,
    /// Closed segments with bytes behind their footer.
    pub overlong: usize,
}

/// Walks the media folder, newest segments first.
pub async fn rescan(index: &Index, media_dir: &Path, run: ThisRun) -> Result<Summary, IndexError> {
    let rows = index.all_segments().await?;
    let folder = media_dir.to_owned();
    let survey = blocking(move || Survey::of(&folder, rows)).await;
    let mut summary = Summary { files: survey.files, ..Summary::default() };
    for id in survey.back {
        index.revive_segment(id).await?;
    }
    for (path, suspect) in survey.new_or_changed {
        look(index, media_dir, &path, run, suspect, &mut summary).await?;
    }
    for id in survey.missing {
        index.delete_segment(id, FILE_MISSING).await?;
        summary.missing += 1;
    }
    Ok(summary)
}

/// What the folder and the index say of each other.
#[derive(Debug, Default)]
struct Survey {
    files: usize,
    /// And whether the segment is suspect.
    new_or_changed: Vec<(PathBuf, bool)>,
    /// Thought to be missing, and there: a disk that was not mounted.
    back: Vec<SegmentId>,
    missing: Vec<SegmentId>,
}

impl Survey {
    /// Looks at every name; unlinks what a rule of this box deleted before the last run could.
    fn of(media_dir: &Path, rows: Vec<SegmentRow>) -> Self {
        let rows: HashMap<SegmentId, SegmentRow> = rows.into_iter().map(|row| (row.id, row)).collect();
        let files = list(media_dir);
        let mut survey = Self { files: files.len(), ..Self::default() };
        let mut seen = HashSet::new();
        for path in files {
            let known = id_in_name(&path).and_then(|id| rows.get(&id));
            let known = known.filter(|row| walk::is_place_of(&path, row.camera, row.id));
            seen.extend(known.map(|row| row.id));
            match known.map(|row| (row, row.deleted_by.as_deref())) {
                Some((row, None)) if is_settled(row, &path) => {}
                Some((row, Some(FILE_MISSING))) => {
                    survey.back.push(row.id);
                    survey.new_or_changed.push((path, row.suspect.is_some()));
                }
                Some((_, Some(rule))) => {
                    if Rule::is_own(rule) {
                        let _ = std::fs::remove_file(&path);
                    }
                }
                Some((row, None)) => survey.new_or_changed.push((path, row.suspect.is_some())),
                None => survey.new_or_changed.push((path, false)),
            }
        }
        let unseen = rows.values().filter(|row| row.deleted_by.is_none() && !seen.contains(&row.id));
        survey.missing = unseen.filter(|row| is_missing(&row.path)).map(|row| row.id).collect();
        survey
    }
}

/// Its name is not there, and the folder of its stream is: a disk that is away or cannot be read is no proof.
fn is_missing(path: &Path) -> bool {
    let gone =
        |path: &Path| std::fs::symlink_metadata(path).is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound);
    let stream_folder = path.parent().and_then(Path::parent);
    gone(path) && stream_folder.is_some_and(|folder| std::fs::read_dir(folder).is_ok())
}

/// Walks one index segment that was closed: whatever of it no fact told is offered, and its rows are not needed
/// any more. A suspect one is left to the next walk: its disk may take long.
pub async fn settle(index: &Index, id: SegmentId, media_dir: &Path, run: ThisRun) -> Result<(), IndexError> {
    match index.segment(id).await? {
        Some(row)
            if row.stream == campanile_proto::types::v1::Stream::Index && !row.settled && row.suspect.is_none() =>
        {
            look(index, media_dir, &row.path, run, false, &mut Summary::default()).await
        }
        _ => Ok(()),
    }
}

/// Nothing to learn: closed, as long as the index says, and offered.
fn is_settled(row: &SegmentRow, path: &Path) -> bool {
    let read = row.settled || row.suspect.is_none() && row.stream != campanile_proto::types::v1::Stream::Index;
    // What stands in a suspect file behind its last whole record stays there: its size says nothing.
    let whole =
        || row.suspect.is_some() || std::fs::metadata(path).is_ok_and(|metadata| metadata.len() == row.size_bytes);
    row.closed && row.deleted_by.is_none() && row.offered > 0 && read && row.path == path && whole()
}

async fn look(
    index: &Index,
    media_dir: &Path,
    path: &Path,
    run: ThisRun,
    suspect: bool,
    summary: &mut Summary,
) -> Result<(), IndexError> {
    summary.walked += 1;
    let (file, folder) = (path.to_owned(), media_dir.to_owned());
    let inspecting = blocking(move || if suspect { read_back(&file) } else { inspect(&file, &folder, run) });
    match inspecting.await {
        Ok(Some((_, Outcome::Foreign))) => Ok(()),
        Ok(Some((walk, outcome))) => {
            summary.truncated += usize::from(outcome == Outcome::Truncated);
            summary.overlong += usize::from(walk.footer && walk.file_bytes > walk.good_bytes);
            index.found(path.to_owned(), walk, outcome != Outcome::Open).await
        }
        Ok(None) => {
            summary.set_aside += 1;
            Ok(())
        }
        Err(error) => {
            // Gone since it was listed, or unreadable for now: the next walk sees.
            tracing::warn!(path = %path.display(), error = %Chain(&error), "segment not read");
            Ok(())
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    /// The recorder still writes it.
    Open,
    Closed,
    Truncated,
    /// A copy of a segment, in a place that is not its own.
    Foreign,
}

/// Reads one file and repairs its tail; none when it was set aside.
fn inspect(path: &Path, media_dir: &Path, run: ThisRun) -> Result<Option<(Walk, Outcome)>, ReadError> {
    let mut walk = match walk::walk(path, Depth::Skim) {
        Err(error) if error.kind() == Kind::Invalid => return set_aside(path, media_dir, error),
        other => other?,
    };
    if !walk.lies_at(path) {
        tracing::warn!(path = %path.display(), id = %walk.id, "a segment under a name that is not its own: left alone");
        return Ok(Some((walk, Outcome::Foreign)));
    }
    if walk.stream == campanile_proto::types::v1::Stream::Index || !walk.footer {
        walk = walk::walk(path, Depth::Verify)?;
    }
    if walk.footer {
        if walk.file_bytes > walk.good_bytes {
            // Not the box's writing: left where it is, for whoever asks how it came there.
            tracing::warn!(path = %path.display(), bytes = walk.file_bytes - walk.good_bytes,
                "bytes stand behind a segment's footer: they belong to no recording");
        }
        return Ok(Some((walk, Outcome::Closed)));
    }
    if is_of_this_run(&walk, run) {
        return Ok(Some((walk, Outcome::Open)));
    }
    if walk.file_bytes > walk.good_bytes && is_torn(path, &walk) {
        truncate(path, walk.good_bytes)?;
        tracing::info!(path = %path.display(), bytes = walk.file_bytes - walk.good_bytes, "torn tail cut off");
        return Ok(Some((walk, Outcome::Truncated)));
    }
    if let Some(damage) = &walk.damage {
        tracing::warn!(path = %path.display(), offset = walk.good_bytes, error = %damage,
            "segment is readable up to a damaged record");
    }
    bring_to_disk(path)?;
    Ok(Some((walk, Outcome::Closed)))
}

/// Reads a suspect file from the disk and as a whole. A failed flush leaves in memory what the disk does not hold
/// (fsync(2), NOTES): the kernel is told to forget it first. The file is left as it is, whatever is found.
fn read_back(path: &Path) -> Result<Option<(Walk, Outcome)>, ReadError> {
    let read = |source| ReadError::Read { path: path.to_owned(), source };
    let file = File::open(path).map_err(read)?;
    // Pages that still wait to be written are not forgotten; a failure here shows in what is read.
    let _ = file.sync_data();
    posix_fadvise(&file, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED).map_err(|error| read(error.into()))?;
    let walk = walk::as_far_as_readable(path)?;
    let (whole, behind) = (walk.fragments, walk.file_bytes - walk.good_bytes);
    tracing::warn!(path = %path.display(), whole, behind, "suspect segment read back from the disk");
    Ok(Some((walk, Outcome::Closed)))
}

fn is_of_this_run(walk: &Walk, run: ThisRun) -> bool {
    let opened = walk.header.opened.as_ref().map_or(i64::MIN, |instant| instant.mono_us);
    walk.opened_boot == Some(run.boot) && opened >= run.started.0
}

/// Whether what stands behind the last whole record was never written whole. A power cut may leave a file longer
/// than what reached it, the rest zeros. A record that was whole once and is damaged now is not torn, and stays.
fn is_torn(path: &Path, walk: &Walk) -> bool {
    if matches!(walk.damage, Some(DamagedRecord::Torn { .. })) {
        return true;
    }
    let Ok(file) = File::open(path) else { return false };
    let written = written_bytes(&file, walk.good_bytes, walk.file_bytes);
    let mut prefix = [0; PREFIX_BYTES];
    let claimed = match file.read_exact_at(&mut prefix, walk.good_bytes).map(|()| RecordPrefix::parse(&prefix)) {
        Ok(Ok(prefix)) => prefix.record_bytes(),
        _ => PREFIX_BYTES,
    };
    written < walk.good_bytes + claimed as u64
}

/// Length of the file without the zeros at its end, at least `from`.
fn written_bytes(file: &File, from: u64, length: u64) -> u64 {
    let mut buffer = [0; 65_536];
    let mut end = length;
    while end > from {
        let start = end.saturating_sub(buffer.len() as u64).max(from);
        let part = &mut buffer[..(end - start) as usize];
        if file.read_exact_at(part, start).is_err() {
            return end;
        }
        if let Some(last) = part.iter().rposition(|&byte| byte != 0) {
            return start + last as u64 + 1;
        }
        end = start;
    }
    from
}

fn truncate(path: &Path, length: u64) -> Result<(), ReadError> {
    let cut = || {
        let file = OpenOptions::new().write(true).open(path)?;
        file.set_len(length)?;
        file.sync_all()
    };
    cut().map_err(|source| ReadError::Read { path: path.to_owned(), source })
}

/// What a killed process wrote may be in memory only, and the index is to say of it that it is there for good: after a
/// power cut nobody would look again.
fn bring_to_disk(path: &Path) -> Result<(), ReadError> {
    let synced = File::open(path).and_then(|file| file.sync_data());
    synced.map_err(|source| ReadError::Read { path: path.to_owned(), source })
}

/// Moves what is no segment out of the way; a file without a whole first record may be one that is being begun.
fn set_aside(path: &Path, media_dir: &Path, reason: ReadError) -> Result<Option<(Walk, Outcome)>, ReadError> {
    let read = |source| ReadError::Read { path: path.to_owned(), source };
    let age = std::fs::metadata(path).and_then(|metadata| metadata.modified()).map_err(read)?.elapsed();
    if age.is_ok_and(|age| age.as_secs() < 60) && is_beginning(path) {
        return Err(reason);
    }
    let folder = media_dir.join(QUARANTINE);
    let name = path.file_name().unwrap_or_default();
    std::fs::create_dir_all(&folder).and_then(|()| std::fs::rename(path, folder.join(name))).map_err(read)?;
    tracing::warn!(path = %path.display(), reason = %Chain(&reason), "not a segment: set aside in quarantine");
    Ok(None)
}

/// Nothing, or the first bytes of a segment.
fn is_beginning(path: &Path) -> bool {
    let mut start = Vec::new();
    let magic = campanile_proto::segment::MAGIC;
    let read = File::open(path).and_then(|file| file.take(magic.len() as u64).read_to_end(&mut start));
    read.is_ok() && magic.starts_with(&start)
}

/// Segment files below `camera/stream/hour`, newest hour first.
pub(crate) fn list(media_dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for camera in folders(media_dir).into_iter().filter(|folder| !folder.ends_with(QUARANTINE)) {
        for hour in folders(&camera).iter().flat_map(|stream| folders(stream)) {
            files.extend(entries(&hour).into_iter().filter(|path| path.extension().is_some_and(|e| e == EXTENSION)));
        }
    }
    let hour = |path: &PathBuf| path.parent().and_then(Path::file_name).map(std::ffi::OsStr::to_owned);
    files.sort_by_key(|path| std::cmp::Reverse(hour(path)));
    files
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    match std::fs::read_dir(folder) {
        Ok(entries) => entries.filter_map(Result::ok).map(|entry| entry.path()).collect(),
        Err(error) => {
            if error.kind() != std::io::ErrorKind::NotFound {
                tracing::warn!(path = %folder.display(), %error, "folder not read");
            }
            Vec::new()
        }
    }
}

/// Links are not followed: what lies elsewhere is not ours.
fn folders(folder: &Path) -> Vec<PathBuf> {
    let is_folder = |path: &PathBuf| std::fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_dir());
    entries(folder).into_iter().filter(is_folder).collect()
}

fn id_in_name(path: &Path) -> Option<SegmentId> {
    path.file_stem()?.to_str()?.parse().ok()
}

async fn blocking<R: Send + 'static>(work: impl FnOnce() -> R + Send + 'static) -> R {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}
