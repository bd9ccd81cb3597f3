//! What was on a box's disk, and whether all of it still is.

use super::journals::{Journals, nearest};
use crate::segments::{self, Piece, Whole};
use anyhow::{Context, Result};
use campanile_sim::audit::{AuditReport, audit};
use campanile_sim::journal::LogLine;
use campanile_sim::units::FileUnit;
use rusqlite::{Connection, OpenFlags};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// A camera that sent nothing for so long before a kill had ended by itself.
const SENDS_US: i64 = 700_000;

/// Between the sending of a unit and its arrival, on a busy machine; less than half a scene's loop.
const BEGINS_WITHIN_US: u64 = 6_000_000;

/// One life of the process, UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Life {
    pub began_us: i64,
    /// Killed, or told to stop.
    pub ended_us: i64,
}

/// What a look at the disk found.
#[derive(Debug, Default)]
pub struct Found {
    /// Behind the last readable picture of each stream, until the life ended.
    pub tails_us: Vec<i64>,
    /// Pictures missing in the middle of a run, or segments that are shorter than they were or gone.
    pub holes: Vec<String>,
    /// Seconds of them.
    pub holes_us: i64,
    /// Access units that no camera sent, or that stand where they were not sent.
    pub foreign: usize,
    pub units: usize,
    pub segments: usize,
}

struct Known {
    length: u64,
    modified: SystemTime,
    good_bytes: u64,
    digest: [u8; 32],
    lasts_us: i64,
}

/// Everything of one box that was readable once.
#[derive(Default)]
pub struct Ledger {
    known: BTreeMap<PathBuf, Known>,
    /// Segments of the life that goes on.
    recent: BTreeMap<PathBuf, Whole>,
}

/// What a look needs.
pub struct Sight<'a> {
    pub media: &'a Path,
    pub index: &'a Path,
    /// Present in the clear.
    pub journals: Option<&'a Journals>,
    /// Camera (folder name) that was ended meanwhile: how it ended is not known of a sealed stream.
    pub restarted: Option<&'a str>,
}

impl Ledger {
    /// Looks at every segment; at those of `lives` closely. The present process has walked its folder.
    pub fn look(&mut self, sight: &Sight<'_>, lives: &[Life]) -> Result<Found> {
        let mut found = Found::default();
        let mut present = BTreeSet::new();
        for path in segments::list(sight.media) {
            let Ok(metadata) = std::fs::metadata(&path) else { continue };
            let modified = metadata.modified().context("a file has a time")?;
            present.insert(path.clone());
            found.segments += 1;
            let known = self.known.get(&path);
            if known.is_some_and(|known| known.length == metadata.len() && known.modified == modified) {
                continue;
            }
            let bytes = std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
            let whole = segments::read(&bytes);
            let good = whole.as_ref().map_or(0, |whole| whole.good_bytes as usize);
            if let Some(known) = known
                && (good < known.good_bytes as usize || digest(&bytes[..known.good_bytes as usize]) != known.digest)
            {
                found.holes.push(format!("{} had {} good bytes and has {good}", path.display(), known.good_bytes));
                found.holes_us += known.lasts_us;
            }
            let lasts_us = whole.as_ref().map_or(0, |whole| {
                whole.pieces.last().map_or(0, Piece::over_us) - whole.pieces.first().map_or(0, Piece::began_us)
            });
            let (length, good_bytes, digest) = (bytes.len() as u64, good as u64, digest(&bytes[..good]));
            self.known.insert(path.clone(), Known { length, modified, good_bytes, digest, lasts_us });
            self.recent.extend(whole.map(|whole| (path, whole)));
        }
        self.look_for_gone(sight, &present, &mut found)?;
        for life in lives {
            look_at_life(sight, life, self.recent.values(), &mut found)?;
        }
        let over = lives.last().map_or(i64::MIN, |life| life.ended_us);
        self.recent.retain(|_, whole| opened_us(whole) >= over);
        Ok(found)
    }

    fn look_for_gone(&mut self, sight: &Sight<'_>, present: &BTreeSet<PathBuf>, found: &mut Found) -> Result<()> {
        let gone: Vec<PathBuf> = self.known.keys().filter(|path| !present.contains(*path)).cloned().collect();
        if gone.is_empty() {
            return Ok(());
        }
        let deleted = deleted_by_rule(sight.index)?;
        for path in gone {
            let known = self.known.remove(&path);
            // A file killed before its first record was whole holds nothing; the walk puts it where nobody trips over it.
            let set_aside = path.file_name().is_some_and(|name| sight.media.join("quarantine").join(name).exists());
            if set_aside && known.as_ref().is_some_and(|known| known.good_bytes == 0) {
                continue;
            }
            if !deleted.contains(path.to_string_lossy().as_ref()) {
                found.holes.push(format!("{} is gone and no rule deleted it", path.display()));
                found.holes_us += known.map_or(0, |known| known.lasts_us);
            }
        }
        Ok(())
    }

    /// Reads every byte again: nothing readable once has become unreadable since.
    pub fn read_all(&mut self, sight: &Sight<'_>) -> Result<Found> {
        let still = |known: &mut Known| known.modified = SystemTime::UNIX_EPOCH;
        self.known.values_mut().for_each(still);
        self.look(sight, &[])
    }
}

fn digest(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

/// Paths of the segments that a rule of the box deleted.
fn deleted_by_rule(index: &Path) -> Result<BTreeSet<String>> {
    let connection = Connection::open_with_flags(index, OpenFlags::SQLITE_OPEN_READ_ONLY).context("no index")?;
    connection.busy_timeout(std::time::Duration::from_secs(5))?;
    let mut statement = connection.prepare("SELECT path FROM segment WHERE deleted_by IN ('space', 'age')")?;
    let paths = statement.query_map([], |row| row.get(0))?;
    Ok(paths.collect::<Result<_, _>>()?)
}

/// Segments of a stream by their run.
type Runs<'a> = BTreeMap<Vec<u8>, Vec<&'a Whole>>;

fn opened_us(whole: &Whole) -> i64 {
    whole.header.opened.as_ref().map_or(0, |opened| opened.utc_us)
}

/// Runs of one life, stream by stream.
fn look_at_life<'a>(
    sight: &Sight<'_>,
    life: &Life,
    segments: impl Iterator<Item = &'a Whole>,
    found: &mut Found,
) -> Result<()> {
    let mut streams: BTreeMap<(Vec<u8>, i32), Runs<'_>> = BTreeMap::new();
    let of_life = segments.filter(|whole| (life.began_us..life.ended_us).contains(&opened_us(whole)));
    for whole in of_life.filter(|whole| whole.header.stream != INDEX && !whole.pieces.is_empty()) {
        let stream = (whole.header.camera_id.to_vec(), whole.header.stream);
        streams.entry(stream).or_default().entry(whole.header.run_id.to_vec()).or_default().push(whole);
    }
    for ((camera, stream), mut runs) in streams {
        let camera = uuid::Uuid::from_slice(&camera).context("a camera has an id")?.to_string();
        let stream = if stream == MAIN { "main" } else { "sub" };
        let mut last: Option<(i64, i64)> = None;
        for run in runs.values_mut() {
            run.sort_by_key(|whole| whole.header.first_index);
            let (end, sent) = match sight.journals {
                Some(journals) => look_in_clear(journals.lines(&camera, stream), run, life, found)?,
                None => look_at_sealed(run, life, found),
            };
            last = last.max(Some((end, sent)));
        }
        let is_excused = sight.journals.is_none() && sight.restarted == Some(camera.as_str());
        if let Some((end, sent)) = last.filter(|_| !is_excused) {
            found.tails_us.push((sent - end).max(0));
        }
    }
    Ok(())
}

const MAIN: i32 = campanile_proto::types::v1::Stream::Main as i32;
const INDEX: i32 = campanile_proto::types::v1::Stream::Index as i32;

/// Every picture against the camera's log; gives when the last readable one was sent, and until when there were others.
fn look_in_clear(lines: &[LogLine], run: &[&Whole], life: &Life, found: &mut Found) -> Result<(i64, i64)> {
    let mut units = Vec::new();
    for whole in run {
        units.extend(whole.units()?);
    }
    found.units += units.len();
    let pieces = || run.iter().flat_map(|whole| &whole.pieces);
    let (first_us, last_us) =
        (pieces().next().map_or(0, Piece::began_us), pieces().next_back().map_or(0, Piece::over_us));
    let ends = units.first().zip(units.last()).context("a whole fragment holds a picture")?;
    let Some((sent, report)) = best_client(lines, &units, &ends.0.sha256, first_us) else {
        found.foreign += units.len();
        return Ok((last_us, life.ended_us));
    };
    found.foreign += report.foreign.len() + report.out_of_order;
    if !report.missing.is_empty() {
        let pictures = report.missing.len();
        let whole_us = sent.last().map_or(0, |line| line.wall_us) - sent[0].wall_us;
        found.holes.push(format!("{pictures} pictures of {} in the middle of a run", sent[0].camera));
        found.holes_us += whole_us / (sent.len() as i64).max(1) * pictures as i64;
    }
    let end = nearest(&sent, &ends.1.sha256, last_us).map_or(last_us, |line| line.wall_us);
    let until = sent.iter().rev().map(|line| line.wall_us).find(|at| *at <= life.ended_us).unwrap_or(end);
    Ok((end, if life.ended_us - until > SENDS_US { until } else { life.ended_us }))
}

/// Lines of the client that was sent these units. A camera goes on for a moment with one that was killed: what begins
/// at the same time may be another's.
fn best_client(
    lines: &[LogLine],
    units: &[FileUnit],
    first: &str,
    first_us: i64,
) -> Option<(Vec<LogLine>, AuditReport)> {
    let begins = lines.iter().filter(|line| line.sha256 == first && line.wall_us.abs_diff(first_us) < BEGINS_WITHIN_US);
    let clients: BTreeSet<u64> = begins.map(|line| line.client).collect();
    let audited = clients.into_iter().map(|client| {
        let sent: Vec<LogLine> = lines.iter().filter(|line| line.client == client).cloned().collect();
        let report = audit(&sent, units, None, None);
        (sent, report)
    });
    audited.max_by_key(|(_, report)| (report.found, std::cmp::Reverse(report.missing.len())))
}

/// Without its key: numbers without a gap, in a chain.
fn look_at_sealed(run: &[&Whole], life: &Life, found: &mut Found) -> (i64, i64) {
    let pieces: Vec<&Piece> = run.iter().flat_map(|whole| &whole.pieces).collect();
    for pair in pieces.windows(2) {
        let missing = pair[1].header.index.saturating_sub(pair[0].header.index).saturating_sub(1);
        if missing > 0 {
            found.holes.push(format!("{missing} fragments in the middle of a run"));
            found.holes_us += pair[1].began_us() - pair[0].over_us();
        }
    }
    (pieces.last().map_or(0, |piece| piece.over_us()), life.ended_us)
}
