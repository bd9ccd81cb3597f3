//! Comparing a recording with the log of what was sent.
//!
//! Belongs here: aligning two sequences of fingerprints and counting what does not fit.
//! Does not belong here: reading files or logs (`units`, `journal`).
//! Invariant: pure; every access unit of the file is counted exactly once, as found, foreign or
//! out of order.
//!
//! Loops send the same content again, so a fingerprint alone does not say which line it was. The
//! file is therefore aligned as a sequence: each place in the log where the file's beginning
//! occurs is tried; from there both are walked together, and where they differ the cheapest way
//! to meet again (units skipped in the file plus lines skipped in the log, followed by
//! [`RUN`] matching units) is taken. The place with the fewest differences wins, lines missing
//! from the asked interval included; among equals the one nearest to the interval's start.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use crate::journal::LogLine;
use crate::units::FileUnit;

/// Matching units that prove a meeting point: one equal fingerprint may be a later loop's.
const RUN: usize = 4;
/// Starting places tried; a longer log repeats itself by then.
const MOST_PLACES: usize = 512;
/// Units of the file skipped while looking for a starting place or a meeting point.
const LOOK_AHEAD: usize = 2_000;

/// What an audit found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditReport {
    /// Log lines that the file should hold.
    pub expected: usize,
    /// Of those, held by the file in order.
    pub found: usize,
    /// Of those, not in the file.
    pub missing: Vec<LogLine>,
    /// Units of the file (index in decoding order) that this log does not hold.
    pub foreign: Vec<usize>,
    /// Units of the file that were sent, but not here: duplicates and misplaced ones.
    pub out_of_order: usize,
}

impl AuditReport {
    /// Every expected unit is there, in order, and nothing else.
    pub fn is_exact(&self) -> bool {
        self.expected > 0 && self.found == self.expected && self.foreign.is_empty() && self.out_of_order == 0
    }
}

/// Compares a file with one client's lines.
///
/// Expected are the lines between the file's first and last matched line, and all lines whose
/// wall time lies in `[from_wall_us, to_wall_us]` where bounds are given (both are needed).
pub fn audit(
    log: &[LogLine],
    file_units: &[FileUnit],
    from_wall_us: Option<i64>,
    to_wall_us: Option<i64>,
) -> AuditReport {
    let interval = from_wall_us.zip(to_wall_us);
    let aligner = Aligner::new(log, file_units);
    let mut best: Option<((usize, u64), Alignment)> = None;
    for (unit, line) in aligner.starts(interval.map(|(from, _)| from)) {
        let alignment = aligner.walk(unit, line);
        let away = interval.map_or(0, |(from, _)| log[line].wall_us.abs_diff(from));
        let cost = (alignment.differences(log, interval), away);
        if best.as_ref().is_none_or(|(least, _)| cost < *least) {
            best = Some((cost, alignment));
        }
    }
    let alignment = best
        .map(|(_, alignment)| alignment)
        .unwrap_or_else(|| Alignment { matched: Vec::new(), extra: (0..file_units.len()).collect() });
    alignment.report(log, file_units, interval)
}

/// Pairs of equal (unit, line), both rising, and units of the file that fit nowhere.
struct Alignment {
    matched: Vec<(usize, usize)>,
    extra: Vec<usize>,
}

impl Alignment {
    fn expected(&self, log: &[LogLine], interval: Option<(i64, i64)>) -> Vec<usize> {
        let span = self.matched.first().zip(self.matched.last());
        let inside = |index: usize| span.is_some_and(|(a, b)| (a.1..=b.1).contains(&index));
        let asked = |line: &LogLine| interval.is_some_and(|(from, to)| (from..=to).contains(&line.wall_us));
        (0..log.len()).filter(|&index| inside(index) || asked(&log[index])).collect()
    }

    fn differences(&self, log: &[LogLine], interval: Option<(i64, i64)>) -> usize {
        self.expected(log, interval).len() - self.matched.len() + self.extra.len()
    }

    fn report(&self, log: &[LogLine], units: &[FileUnit], interval: Option<(i64, i64)>) -> AuditReport {
        let mut matched = self.matched.iter().map(|pair| pair.1).peekable();
        let expected = self.expected(log, interval);
        let mut missing = Vec::new();
        for &index in &expected {
            if matched.next_if_eq(&index).is_none() {
                missing.push(log[index].clone());
            }
        }
        let sent: std::collections::HashSet<&str> = log.iter().map(|line| line.sha256.as_str()).collect();
        let (misplaced, foreign): (Vec<usize>, Vec<usize>) =
            self.extra.iter().partition(|&&unit| sent.contains(units[unit].sha256.as_str()));
        AuditReport {
            expected: expected.len(),
            found: self.matched.len(),
            missing,
            foreign,
            out_of_order: misplaced.len(),
        }
    }
}

struct Aligner<'a> {
    log: &'a [LogLine],
    units: &'a [FileUnit],
    /// Lines of each fingerprint, rising.
    places: HashMap<&'a str, Vec<usize>>,
}

impl<'a> Aligner<'a> {
    fn new(log: &'a [LogLine], units: &'a [FileUnit]) -> Self {
        let mut places: HashMap<&str, Vec<usize>> = HashMap::new();
        for (index, line) in log.iter().enumerate() {
            places.entry(&line.sha256).or_default().push(index);
        }
        Aligner { log, units, places }
    }

    fn places_of(&self, unit: usize) -> &[usize] {
        self.places.get(self.units[unit].sha256.as_str()).map_or(&[], Vec::as_slice)
    }

    fn runs(&self, unit: usize, line: usize) -> bool {
        let length = RUN.min(self.units.len() - unit).min(self.log.len() - line);
        (0..length).all(|step| self.units[unit + step].sha256 == self.log[line + step].sha256)
    }

    /// Where the file may begin: all places of its first unit that starts a run, nearest first.
    fn starts(&self, from: Option<i64>) -> Vec<(usize, usize)> {
        for unit in 0..self.units.len().min(LOOK_AHEAD) {
            let mut lines: Vec<usize> = self.places_of(unit).to_vec();
            lines.retain(|&line| self.runs(unit, line));
            if lines.is_empty() {
                continue;
            }
            if let Some(from) = from {
                lines.sort_by_key(|&line| self.log[line].wall_us.abs_diff(from));
            }
            lines.truncate(MOST_PLACES);
            return lines.into_iter().map(|line| (unit, line)).collect();
        }
        Vec::new()
    }

    fn walk(&self, unit: usize, line: usize) -> Alignment {
        let mut extra: Vec<usize> = (0..unit).collect();
        let mut matched = Vec::with_capacity(self.units.len());
        let (mut unit, mut line) = (unit, line);
        while unit < self.units.len() {
            if line < self.log.len() && self.units[unit].sha256 == self.log[line].sha256 {
                matched.push((unit, line));
                unit += 1;
                line += 1;
            } else if let Some((next_unit, next_line)) = self.meet(unit, line) {
                extra.extend(unit..next_unit);
                (unit, line) = (next_unit, next_line);
            } else {
                extra.extend(unit..self.units.len());
                break;
            }
        }
        Alignment { matched, extra }
    }

    fn meet(&self, unit: usize, line: usize) -> Option<(usize, usize)> {
        let mut best: Option<(usize, (usize, usize))> = None;
        for skipped in 0..(self.units.len() - unit).min(LOOK_AHEAD) {
            if best.is_some_and(|(cost, _)| cost <= skipped) {
                break;
            }
            let places = self.places_of(unit + skipped);
            let from = places.partition_point(|&place| place < line);
            if let Some(&place) = places[from..].iter().find(|&&p| self.runs(unit + skipped, p)) {
                let cost = skipped + (place - line);
                if best.is_none_or(|(least, _)| cost < least) {
                    best = Some((cost, (unit + skipped, place)));
                }
            }
        }
        best.map(|(_, place)| place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn log(camera: &str, loops: usize, length: usize) -> Vec<LogLine> {
        (0..loops * length)
            .map(|index| LogLine {
                seq: index as u64,
                camera: camera.into(),
                stream: "main".into(),
                client: 0,
                sha256: format!("{camera}{}", index % length),
                rtp_time: index as u32 * 6_000,
                pts_90k: index as u64 * 6_000,
                wall_us: index as i64 * 66_667,
                key: index % 10 == 0,
                frame: (index % length) as u64,
                size: 100,
            })
            .collect()
    }

    fn file(lines: &[LogLine]) -> Vec<FileUnit> {
        lines
            .iter()
            .map(|line| FileUnit { sha256: line.sha256.clone(), pts_90k: line.pts_90k, key: line.key })
            .collect()
    }

    #[test]
    fn a_removed_unit_is_missing() {
        let log = log("a", 3, 50);
        let mut file = file(&log[20..120]);
        assert!(audit(&log, &file, None, None).is_exact());
        file.remove(30);
        let report = audit(&log, &file, None, None);
        assert_eq!((report.expected, report.found, report.missing.len()), (100, 99, 1));
        assert_eq!(report.missing[0].frame, log[50].frame);
        assert!(report.foreign.is_empty());
    }

    #[test]
    fn another_cameras_unit_is_foreign() {
        let (ours, theirs) = (log("a", 2, 50), log("b", 2, 50));
        let report = audit(&ours, &file(&theirs[..40]), None, None);
        assert_eq!((report.found, report.foreign.len()), (0, 40));
        let mut mixed = file(&ours[10..60]);
        mixed.insert(25, file(&theirs[3..4]).remove(0));
        let report = audit(&ours, &mixed, None, None);
        assert_eq!(report.foreign, vec![25]);
        assert!(report.missing.is_empty());
    }

    #[test]
    fn a_doubled_or_swapped_unit_is_out_of_order() {
        let log = log("a", 2, 50);
        let mut doubled = file(&log[5..45]);
        doubled.insert(11, doubled[10].clone());
        let report = audit(&log, &doubled, None, None);
        assert_eq!((report.out_of_order, report.missing.len()), (1, 0));
        let mut swapped = file(&log[5..45]);
        swapped.swap(20, 21);
        assert!(!audit(&log, &swapped, None, None).is_exact());
    }

    #[test]
    fn the_wall_interval_picks_the_loop_and_counts_its_edges() {
        let log = log("a", 5, 50);
        let file = file(&log[110..140]);
        let (from, to) = (log[108].wall_us, log[141].wall_us);
        let report = audit(&log, &file, Some(from), Some(to));
        assert_eq!((report.expected, report.found), (34, 30));
        let seqs: Vec<u64> = report.missing.iter().map(|line| line.seq).collect();
        assert_eq!(seqs, vec![108, 109, 140, 141]);
    }

    #[test]
    fn an_empty_file_is_never_exact() {
        assert!(!audit(&log("a", 1, 10), &[], None, None).is_exact());
    }

    proptest! {
        #[test]
        fn dropped_units_are_counted_exactly(
            drops in proptest::collection::btree_set(6usize..94, 0..8), start in 0usize..100,
        ) {
            let log = log("a", 3, 100);
            let mut units = file(&log[start..start + 100]);
            for &drop in drops.iter().rev() {
                units.remove(drop);
            }
            // Isolated survivors between drops cannot start a run; they count as out of order.
            let report = audit(&log, &units, None, None);
            prop_assert_eq!(report.expected, 100);
            prop_assert_eq!(report.found + report.out_of_order, units.len());
            prop_assert_eq!(report.found + report.missing.len(), 100);
        }
    }
}
