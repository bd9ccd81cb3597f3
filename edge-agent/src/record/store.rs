//! Where segments lie: `<media>/<camera id>/<stream>/<yyyymmddThh, UTC as believed>/<segment id>.seg`.

use super::home::Home;
use super::segment::SegmentError;
use campanile_proto::ids::{CameraId, SegmentId};
use campanile_proto::segment::{Entry, Head, Link, SegmentReader};
use campanile_proto::types::v1::{Instant, RecordKind, Stream};
use std::path::{Path, PathBuf};

pub const EXTENSION: &str = "seg";

/// A media folder.
#[derive(Debug, Clone)]
pub struct Store {
    root: PathBuf,
    home: Home,
}

/// The newest segment of a stream: what the next one follows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Newest {
    pub segment: SegmentId,
    pub link: Link,
    /// Of its last record, when it was read from the disk.
    pub end: Option<Instant>,
}

impl Store {
    /// `home` is of the same folder.
    pub fn new(root: PathBuf, home: Home) -> Self {
        Self { root, home }
    }

    pub fn folder(&self, camera: CameraId, stream: Stream) -> PathBuf {
        self.root.join(camera.to_string()).join(stream_name(stream))
    }

    /// Makes the hour's folder and names the file in it; nothing is made on another disk than the one that is known.
    pub fn place(
        &self,
        camera: CameraId,
        stream: Stream,
        hour: i64,
        segment: SegmentId,
    ) -> Result<PathBuf, SegmentError> {
        self.home.enter()?;
        let folder = self.folder(camera, stream).join(hour_name(hour));
        make_durably(&folder).map_err(|source| SegmentError::Create { path: folder.clone(), source })?;
        Ok(folder.join(format!("{segment}.{EXTENSION}")))
    }

    /// The newest segment of a stream that can be read, and its last link; by the names of its hours, then by monotonic time.
    pub fn newest(&self, camera: CameraId, stream: Stream) -> Option<Newest> {
        let mut hours = sorted(&self.folder(camera, stream));
        while let Some(hour) = hours.pop() {
            let files = sorted(&hour).into_iter().filter(|path| path.extension().is_some_and(|e| e == EXTENSION));
            let mut heads: Vec<_> = files.filter_map(|path| head(&path)).collect();
            heads.sort_by_key(|(_, head)| head.header.opened.as_ref().map(|at| (at.utc_us, at.mono_us)));
            while let Some((reader, head)) = heads.pop() {
                let Ok(segment) = SegmentId::try_from(&head.header.segment_id) else { continue };
                if let Some((link, end)) = last_link(&reader, head.body_offset) {
                    return Some(Newest { segment, link, end });
                }
            }
        }
        None
    }
}

fn head(path: &Path) -> Option<(SegmentReader, Head)> {
    let reader = SegmentReader::open(path).ok()?;
    let head = reader.head().ok()?;
    Some((reader, head))
}

/// The link of the last whole record. Links lie apart from payloads: only the last record is read, because recording
/// waits for this and a segment takes up to a gigabyte.
fn last_link(reader: &SegmentReader, body_offset: u64) -> Option<(Link, Option<Instant>)> {
    let records: Vec<Entry> = reader.entries(body_offset).map_while(Result::ok).collect();
    let last = records.iter().rev().take(2).find(|entry| reader.record(entry).is_ok())?;
    let end = records.iter().rev().filter(|entry| entry.prefix.kind != RecordKind::Init).find_map(|entry| {
        let header = entry.record_header()?;
        let lasts_us = i64::try_from(header.duration_90k.saturating_mul(100) / 9).ok()?;
        let at = header.arrival?;
        let (mono_us, utc_us) = (at.mono_us.saturating_add(lasts_us), at.utc_us.saturating_add(lasts_us));
        Some(Instant { mono_us, utc_us, ..at })
    });
    Some((last.link, end))
}

fn sorted(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten();
    let mut paths: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.sort();
    paths
}

/// Makes a folder and those above it, each name of which survives a power cut: one that is not on the disk takes
/// along everything below it.
fn make_durably(folder: &Path) -> std::io::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    let Some(above) = folder.parent() else { return Ok(()) };
    make_durably(above)?;
    match std::fs::create_dir(folder) {
        // Another stream of the camera was first.
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
        other => other?,
    }
    std::fs::File::open(above)?.sync_all()
}

/// Makes the name of a new file in `folder` survive a power cut.
pub fn sync_folder(path: &Path) -> Result<(), SegmentError> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let sync = std::fs::File::open(folder).and_then(|folder| folder.sync_all());
    sync.map_err(|source| SegmentError::Sync { path: folder.into(), source })
}

pub fn stream_name(stream: Stream) -> &'static str {
    match stream {
        Stream::Main => "main",
        Stream::Sub => "sub",
        Stream::Index => "index",
        Stream::Unspecified => "unspecified",
    }
}

/// `yyyymmddThh` of an hour since 1970; civil calendar after Howard Hinnant, "chrono-Compatible Low-Level Date
/// Algorithms", civil_from_days.
pub fn hour_name(hour: i64) -> String {
    let (days, hour_of_day) = (hour.div_euclid(24), hour.rem_euclid(24));
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    format!("{year:04}{month:02}{day:02}T{hour_of_day:02}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hours_are_named_after_the_civil_calendar() {
        for (hour, name) in [
            (0, "19700101T00"),
            (-1, "19691231T23"),
            (498_742, "20261123T22"),
            (24 * 11_016, "20000229T00"),
            (24 * 11_017, "20000301T00"),
        ] {
            assert_eq!(hour_name(hour), name);
        }
    }
}
