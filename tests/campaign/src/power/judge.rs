//! The product's own start over one image, and whether anything is gone that was on the disk.

use super::history::{Deed, History};
use super::image::{Cut, Image, truth};
use crate::segments::{self, ENDING, Whole};
use anyhow::{Context, Result, ensure};
use campanile_proto::ids::BootId;
use campanile_proto::time::MonoTime;
use edge_agent::identity::{CameraNames, IdentityFolder};
use edge_agent::index::rescan::{Summary, ThisRun, rescan};
use edge_agent::index::{Index, SegmentRow};
use edge_agent::record::home::{Found, Home};
use edge_agent::record::retain::Rule;
use rusqlite::{Connection, OpenFlags};
use serde::{Deserialize, Serialize};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use tokio::runtime::Runtime;

/// Where the traced box had its folders.
#[derive(Debug, Clone)]
pub struct Places {
    pub state: PathBuf,
    pub media: PathBuf,
}

/// What one image showed.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Verdict {
    /// What must not be; empty when all is well.
    pub problems: Vec<String>,
    /// Footage behind the newest that is readable, of each stream that was being recorded: at most this.
    pub lost_us: i64,
    /// Of fragments that were on the disk before the cut.
    pub older_lost_us: i64,
    pub segments: usize,
    pub truncated: usize,
    pub set_aside: usize,
    /// Segments that end in a record which is not torn but whole and wrong: left as they are.
    pub left_damaged: usize,
    /// The database was damaged and made anew.
    pub index_made_anew: bool,
}

/// A segment that must be there.
struct Kept {
    path: String,
    /// Its bytes at the cut, whole records only.
    bytes: Vec<u8>,
    /// Pieces that were on the disk.
    pieces: usize,
    /// From the beginning to the end of each of them.
    lasts_us: Vec<i64>,
}

pub struct Judge<'a> {
    pub history: &'a History,
    pub places: Places,
    pub runtime: &'a Runtime,
    /// Names of the cameras in `edge.toml`.
    pub cameras: Vec<String>,
    /// Files that were logs of the database.
    logs: BTreeSet<usize>,
    /// What was counted, by the last synced write to a log.
    counted: RefCell<BTreeMap<usize, Option<Counted>>>,
}

impl<'a> Judge<'a> {
    pub fn new(history: &'a History, places: Places, runtime: &'a Runtime, cameras: Vec<String>) -> Self {
        let logs = history.changes.iter().filter_map(|change| match &change.deed {
            Deed::Create { file, path } if path.ends_with("index.sqlite-wal") => Some(*file),
            _ => None,
        });
        Self { history, places, runtime, cameras, logs: logs.collect(), counted: RefCell::default() }
    }

    /// `state`: a fresh folder for this image's state; the media lie where they were, because the index says so.
    pub fn judge(&self, cut: &Cut, image: &Image, state: &Path) -> Result<Verdict> {
        self.lay_out(image, state)?;
        let mut verdict = Verdict::default();
        let truth = truth(self.history, cut.at);
        let kept = self.kept(cut, &truth);
        self.look_at_identity(&kept, state, &mut verdict);
        let index_path = state.join("index.sqlite");
        let counted = self.counted(cut)?;
        let Some((rows, summary)) = self.start(&index_path, &mut verdict)? else { return Ok(verdict) };
        (verdict.truncated, verdict.set_aside) = (summary.truncated, summary.set_aside);
        verdict.index_made_anew = state.join("index.damaged").exists();
        self.look_at_footage(&kept, &rows, &mut verdict);
        self.look_at_tails(&mut verdict);
        if let (Some(counted), Some(now)) = (counted, count(&index_path)?) {
            self.look_at_counts(&counted, &now, &mut verdict);
        }
        let again = self.walked_anew(&state.join("again.sqlite"), &mut verdict)?;
        compare(&rows, &again, &mut verdict);
        verdict.lost_us = self.lost_us(cut, &truth);
        Ok(verdict)
    }

    fn lay_out(&self, image: &Image, state: &Path) -> Result<()> {
        if self.places.media.exists() {
            std::fs::remove_dir_all(&self.places.media).context("cannot clear the last image")?;
        }
        for folder in [&self.places.media, &state.to_owned()] {
            std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        }
        for folder in &image.folders {
            let folder = self.placed(folder, state);
            std::fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        }
        for (path, content) in &image.files {
            // Shared memory of the processes that are gone: SQLite makes it anew from the log.
            if !path.ends_with("-shm") {
                let path = self.placed(path, state);
                std::fs::write(&path, content).with_context(|| format!("cannot write {}", path.display()))?;
            }
        }
        Ok(())
    }

    fn placed(&self, path: &str, state: &Path) -> PathBuf {
        match Path::new(path).strip_prefix(&self.places.state) {
            Ok(rest) => state.join(rest),
            Err(_) => PathBuf::from(path),
        }
    }

    /// Segments whose name and at least one piece were on the disk, and which nobody deleted.
    fn kept(&self, cut: &Cut, truth: &BTreeMap<String, (usize, Vec<u8>)>) -> Vec<Kept> {
        let (mut lengths, mut named): (BTreeMap<usize, u64>, BTreeSet<usize>) = Default::default();
        for change in self.history.until(cut.at).iter().filter(|change| change.synced.is_some_and(|end| end < cut.at)) {
            match &change.deed {
                Deed::Write { file, offset, bytes } => {
                    let length = lengths.entry(*file).or_default();
                    if *offset <= *length {
                        *length = (*length).max(offset + bytes.len() as u64);
                    }
                }
                Deed::Create { file, .. } => {
                    named.insert(*file);
                }
                _ => {}
            }
        }
        let media = self.places.media.to_string_lossy();
        let segments = truth.iter().filter(|(path, _)| {
            path.starts_with(media.as_ref()) && path.ends_with(ENDING) && !segments::is_aside(Path::new(path))
        });
        let kept = segments.filter_map(|(path, (file, content))| {
            let length = lengths.get(file).filter(|_| named.contains(file))?;
            let whole = segments::read(content)?;
            let pieces = whole.pieces.iter().filter(|piece| piece.end <= *length).count();
            let bytes = content[..whole.good_bytes as usize].to_vec();
            let lasts = |piece: &segments::Piece| piece.over_us() - piece.began_us();
            let lasts_us = whole.pieces[..pieces].iter().map(lasts).collect();
            (pieces > 0).then(|| Kept { path: path.clone(), bytes, pieces, lasts_us })
        });
        kept.collect()
    }

    /// The disk is known again, and every camera whose footage is there is the same one.
    fn look_at_identity(&self, kept: &[Kept], state: &Path, verdict: &mut Verdict) {
        match Home::new(state, &self.places.media).look() {
            Ok(Found::Same | Found::First) => {}
            other => verdict.problems.push(format!("the disk is not known again: {other:?}")),
        }
        let names = IdentityFolder::open(state)
            .and_then(|folder| CameraNames::load(&folder, self.cameras.iter().map(String::as_str)));
        let names = match names {
            Ok(names) => names,
            Err(error) => return verdict.problems.push(format!("the cameras' names: {error}")),
        };
        let known: BTreeSet<String> =
            self.cameras.iter().filter_map(|name| names.id(name)).map(|id| id.to_string()).collect();
        for kept in kept {
            if let Some((camera, _)) = segments::stream_of(Path::new(&kept.path))
                && !known.contains(&camera)
            {
                verdict.problems.push(format!("camera {camera} has footage and another id now"));
                return;
            }
        }
    }

    /// Opens the index and walks, as every start does; none after a panic.
    fn start(&self, path: &Path, verdict: &mut Verdict) -> Result<Option<(Vec<SegmentRow>, Summary)>> {
        let (path, media) = (path.to_owned(), self.places.media.clone());
        let begun = self.runtime.block_on(self.runtime.spawn(async move {
            let index = Index::open(&path)?;
            // A power cut: another boot.
            let run = ThisRun { boot: BootId::random(), started: MonoTime(0) };
            let summary = rescan(&index, &media, run).await?;
            let rows = index.all_segments().await?;
            index.flush().await?;
            Ok::<_, edge_agent::index::IndexError>((rows, summary))
        }));
        match begun {
            Ok(Ok(found)) => Ok(Some(found)),
            Ok(Err(error)) => {
                verdict.problems.push(format!("the start fails: {}", campanile_proto::kind::Chain(&error)));
                Ok(None)
            }
            Err(error) => {
                verdict.problems.push(format!("the start panics: {error}"));
                Ok(None)
            }
        }
    }

    fn walked_anew(&self, path: &Path, verdict: &mut Verdict) -> Result<Vec<SegmentRow>> {
        Ok(self.start(path, verdict)?.map(|(rows, _)| rows).unwrap_or_default())
    }

    fn look_at_footage(&self, kept: &[Kept], rows: &[SegmentRow], verdict: &mut Verdict) {
        for kept in kept {
            let row = rows.iter().find(|row| row.path == Path::new(&kept.path));
            if row.and_then(|row| row.deleted_by.as_deref()).is_some_and(Rule::is_own) {
                // Noted before its file goes: the start finishes it.
                continue;
            }
            let found = std::fs::read(&kept.path).ok();
            let Some(whole) = found.as_deref().and_then(segments::read) else {
                verdict.problems.push(format!("{} was on the disk and cannot be read", kept.path));
                verdict.older_lost_us += kept.lasts_us.iter().sum::<i64>();
                continue;
            };
            let good = whole.good_bytes as usize;
            let same = found.as_deref().is_some_and(|found| kept.bytes.starts_with(&found[..good]));
            if whole.pieces.len() < kept.pieces || !same {
                let (have, want) = (whole.pieces.len(), kept.pieces);
                verdict.older_lost_us += kept.lasts_us.iter().skip(have).sum::<i64>();
                verdict.problems.push(format!("{}: {have} of {want} fragments that were on the disk", kept.path));
            }
            if row.is_none_or(|row| row.deleted_by.is_some()) {
                verdict.problems.push(format!("{} is there, and not in the index: {row:?}", kept.path));
            }
        }
    }

    /// Nothing stands behind the last whole record, unless it was whole once.
    fn look_at_tails(&self, verdict: &mut Verdict) {
        for path in segments::list(&self.places.media) {
            let Ok(bytes) = std::fs::read(&path) else { continue };
            verdict.segments += 1;
            match segments::read(&bytes) {
                None => {}
                Some(Whole { good_bytes, .. }) if good_bytes == bytes.len() as u64 => {}
                Some(_) => verdict.left_damaged += 1,
            }
        }
    }

    /// What the database had counted at its last sync before the cut.
    fn counted(&self, cut: &Cut) -> Result<Option<Counted>> {
        let last = self.history.until(cut.at).iter().rev().find(|change| {
            matches!(&change.deed, Deed::Write { file, .. } if self.logs.contains(file))
                && change.synced.is_some_and(|end| end < cut.at)
        });
        let Some(last) = last else { return Ok(None) };
        if let Some(known) = self.counted.borrow().get(&last.at) {
            return Ok(known.clone());
        }
        let truth = truth(self.history, last.at + 1);
        let folder = tempfile::tempdir().context("cannot make a folder")?;
        for (path, (_, content)) in &truth {
            let name = Path::new(path).file_name().unwrap_or_default();
            if path.starts_with(self.places.state.to_string_lossy().as_ref())
                && (name == "index.sqlite" || name == "index.sqlite-wal")
            {
                std::fs::write(folder.path().join(name), content).context("cannot write a database")?;
            }
        }
        let counted = count(&folder.path().join("index.sqlite"))?;
        self.counted.borrow_mut().insert(last.at, counted.clone());
        Ok(counted)
    }

    fn look_at_counts(&self, counted: &Counted, now: &Counted, verdict: &mut Verdict) {
        if verdict.index_made_anew {
            return;
        }
        if now.epoch != counted.epoch {
            verdict.problems.push("the index is another one and was not damaged".to_owned());
        }
        if now.sequence < counted.sequence {
            let (was, is) = (counted.sequence, now.sequence);
            verdict.problems.push(format!("sequence {is} after {was} was on the disk: one is used twice"));
        }
        if let Some(gone) = counted.objects.difference(&now.objects).next() {
            verdict.problems.push(format!("object {gone} was on the disk and is not in the index"));
        }
    }

    /// From the end of what is readable to the cut, of the stream that lost most.
    fn lost_us(&self, cut: &Cut, truth: &BTreeMap<String, (usize, Vec<u8>)>) -> i64 {
        let began = self.history.lives.iter().rev().find(|life| **life < cut.at).copied().unwrap_or(0);
        let now = self.history.times[cut.at - 1];
        let opened: BTreeSet<usize> = self
            .history
            .until(cut.at)
            .iter()
            .filter(|change| change.at >= began)
            .filter_map(|change| match &change.deed {
                Deed::Create { file, .. } => Some(*file),
                _ => None,
            })
            .collect();
        let mut readable: BTreeMap<(String, String), i64> = BTreeMap::new();
        for path in segments::list(&self.places.media) {
            let whole = std::fs::read(&path).ok().and_then(|bytes| segments::read(&bytes));
            if let (Some(stream), Some(last)) =
                (segments::stream_of(&path), whole.as_ref().and_then(|w| w.pieces.last()))
            {
                let end = readable.entry(stream).or_default();
                *end = last.over_us().max(*end);
            }
        }
        let recorded = truth.iter().filter(|(path, (file, _))| path.ends_with(ENDING) && opened.contains(file));
        let lost = recorded.filter_map(|(path, (file, content))| {
            let stream = segments::stream_of(Path::new(path)).filter(|(_, stream)| stream != "index")?;
            let whole = segments::read(content)?;
            let last = whole.pieces.last()?;
            let first = whole.pieces.first()?;
            // A stream none of whose segments survived begins with this one.
            let end = readable.get(&stream).copied().unwrap_or(0).max(first.began_us());
            // What was closed, in order or because its disk failed, is not being recorded.
            let is_closed = self.history.closings.get(file).is_some_and(|place| *place < cut.at);
            Some(if is_closed { last.over_us() - end } else { now - end })
        });
        lost.max().unwrap_or(0).max(0)
    }
}

/// What a database has counted.
#[derive(Debug, Clone)]
struct Counted {
    epoch: Vec<u8>,
    sequence: i64,
    objects: BTreeSet<String>,
}

/// None: there is no database yet.
fn count(path: &Path) -> Result<Option<Counted>> {
    if !path.exists() {
        return Ok(None);
    }
    let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE).context("cannot open")?;
    let tables: i64 =
        connection.query_row("SELECT count(*) FROM sqlite_master WHERE name = 'outbox'", [], |row| row.get(0))?;
    if tables == 0 {
        return Ok(None);
    }
    let epoch = connection.query_row("SELECT epoch FROM epoch", [], |row| row.get(0))?;
    let sequence = connection
        .query_row("SELECT max(seq) FROM sqlite_sequence WHERE name = 'outbox'", [], |row| {
            row.get::<_, Option<i64>>(0)
        })?
        .unwrap_or(0);
    let mut statement = connection.prepare("SELECT lower(hex(object_id)) FROM object")?;
    let objects = statement.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
    Ok(Some(Counted { epoch, sequence, objects }))
}

/// The index after the start says what a walk over an empty one says.
fn compare(rows: &[SegmentRow], again: &[SegmentRow], verdict: &mut Verdict) {
    let there: BTreeMap<_, _> =
        rows.iter().filter(|row| row.deleted_by.is_none()).map(|row| (row.id, facts(row))).collect();
    let walked: BTreeMap<_, _> = again.iter().map(|row| (row.id, facts(row))).collect();
    for (id, facts) in &there {
        if walked.get(id) != Some(facts) {
            verdict.problems.push(format!("segment {id}: the index says {facts:?}, a walk {:?}", walked.get(id)));
        }
    }
    if let Some((id, _)) = walked.iter().find(|(id, _)| !there.contains_key(*id)) {
        verdict.problems.push(format!("segment {id} is there, and not in the index"));
    }
}

fn facts(row: &SegmentRow) -> String {
    let (start, end) = (row.start.mono_us, row.end.mono_us);
    format!(
        "{} {} {} fragments, {} bytes, {start} to {end}, closed {}, link {}, signed {}",
        row.path.display(),
        row.stream as i32,
        row.fragments,
        row.size_bytes,
        row.closed,
        hex::encode(&row.link),
        row.signed.is_some()
    )
}

/// A folder that is there and empty.
pub fn fresh(folder: &Path) -> Result<PathBuf> {
    if folder.exists() {
        std::fs::remove_dir_all(folder).with_context(|| format!("cannot clear {}", folder.display()))?;
    }
    std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    ensure!(folder.is_dir(), "{} is no folder", folder.display());
    Ok(folder.to_owned())
}
