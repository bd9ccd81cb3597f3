//! What moved in each second, and what was looked at. Pure.

use super::detect::Seen;
use bytes::Bytes;
use campanile_proto::grid::{CELLS, CellSet};
use campanile_proto::time::MICROS_PER_SECOND;
use campanile_proto::types::v1::{Instant, MotionSecond};

/// Seconds of one record.
pub const BATCH: usize = 5;

/// Consecutive seconds, the first at `start`.
#[derive(Debug, Clone, PartialEq)]
pub struct Batch {
    pub start: Instant,
    pub seconds: Vec<MotionSecond>,
}

/// Collects pictures into seconds that begin at whole seconds of UTC as first believed.
#[derive(Debug, Default)]
pub struct Seconds {
    /// Start of the first second of the batch.
    start: Option<Instant>,
    done: Vec<MotionSecond>,
    moved: CellSet,
    looked: bool,
    /// What "looked" says of a second that was looked at; empty: every cell.
    looked_cells: Bytes,
}

impl Seconds {
    /// Seconds in which some cells are never looked at.
    pub fn looking_beside(ignored: &CellSet) -> Self {
        let mut looked = CellSet::EMPTY;
        (0..CELLS).filter(|&cell| !ignored.contains(cell)).for_each(|cell| looked.insert(cell));
        let looked_cells = if ignored.is_empty() { Bytes::new() } else { Bytes::copy_from_slice(&looked.to_bytes()) };
        Self { looked_cells, ..Self::default() }
    }

    /// Takes one picture; gives what is complete. A time without pictures was not looked at; a long one is left
    /// out altogether.
    pub fn picture(&mut self, at: &Instant, seen: &Seen) -> Option<Batch> {
        let mut complete = None;
        let start = self.start.get_or_insert_with(|| whole_second(at));
        let number = (at.mono_us - start.mono_us).div_euclid(MICROS_PER_SECOND);
        if !(0..=2 * BATCH as i64).contains(&number) {
            complete = self.finish();
            self.start = Some(whole_second(at));
        } else {
            while (self.done.len() as i64) < number && complete.is_none() {
                self.end_second();
                if self.done.len() == BATCH {
                    complete = self.batch();
                    return self.picture(at, seen).or(complete);
                }
            }
        }
        self.looked |= seen.looked;
        self.moved.union(&seen.moved);
        complete
    }

    /// What there is, the present second included.
    pub fn finish(&mut self) -> Option<Batch> {
        self.start.as_ref()?;
        self.end_second();
        let batch = self.batch();
        self.start = None;
        batch
    }

    fn end_second(&mut self) {
        let moved = std::mem::take(&mut self.moved);
        let blind = !std::mem::take(&mut self.looked);
        let moved = if moved.is_empty() { Bytes::new() } else { Bytes::copy_from_slice(&moved.to_bytes()) };
        let looked = if blind { Bytes::new() } else { self.looked_cells.clone() };
        self.done.push(MotionSecond { moved, looked, blind });
    }

    fn batch(&mut self) -> Option<Batch> {
        let seconds = std::mem::take(&mut self.done);
        let start = self.start.clone().filter(|_| !seconds.is_empty())?;
        let mut next = start.clone();
        let length = seconds.len() as i64 * MICROS_PER_SECOND;
        next.mono_us += length;
        next.utc_us += length;
        self.start = Some(next);
        Some(Batch { start, seconds })
    }
}

fn whole_second(at: &Instant) -> Instant {
    let into = at.utc_us.rem_euclid(MICROS_PER_SECOND);
    Instant { mono_us: at.mono_us - into, utc_us: at.utc_us - into, ..at.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(ms: i64) -> Instant {
        Instant { mono_us: 77_000_000 + ms * 1_000, utc_us: 1_000_000_300_000 + ms * 1_000, ..Default::default() }
    }

    fn seen(moves: bool) -> Seen {
        let mut moved = CellSet::EMPTY;
        if moves {
            moved.insert(3);
        }
        Seen { moved, looked: true }
    }

    #[test]
    fn seconds_begin_at_whole_seconds_and_say_what_moved() {
        let mut seconds = Seconds::default();
        let batches: Vec<Batch> =
            (0..60).filter_map(|n| seconds.picture(&at(n * 100), &seen((10..12).contains(&n)))).collect();
        assert_eq!(batches.len(), 1);
        assert_eq!(batches[0].start.utc_us, 1_000_000_000_000);
        let moved: Vec<bool> = batches[0].seconds.iter().map(|s| !s.moved.is_empty()).collect();
        assert_eq!(moved, [false, true, false, false, false]);
    }

    #[test]
    fn cells_that_are_ignored_were_not_looked_at() {
        let ignored = CellSet::touched_by(&[(0.0, 0.9), (0.4, 0.9), (0.4, 1.0), (0.0, 1.0)]);
        let mut seconds = Seconds::looking_beside(&ignored);
        seconds.picture(&at(0), &seen(false));
        let looked = CellSet::from_bytes(&seconds.finish().unwrap().seconds[0].looked).unwrap();
        assert_eq!(looked.len() + ignored.len(), CELLS);
        assert!(!looked.intersects(&ignored));
    }

    #[test]
    fn a_second_without_pictures_was_not_looked_at() {
        let mut seconds = Seconds::default();
        seconds.picture(&at(0), &seen(false));
        seconds.picture(&at(3_000), &seen(false));
        let batch = seconds.finish().unwrap();
        assert_eq!(batch.seconds.iter().map(|s| s.blind).collect::<Vec<_>>(), [false, true, true, false]);
    }

    proptest! {
        #[test]
        fn every_second_is_told_once_at_most_and_in_order(
            steps in proptest::collection::vec(1i64..30_000, 1..200)
        ) {
            let (mut seconds, mut now, mut batches) = (Seconds::default(), 0, Vec::new());
            for step in steps {
                now += step;
                batches.extend(seconds.picture(&at(now), &seen(true)));
            }
            batches.extend(seconds.finish());
            let mut end = i64::MIN;
            for batch in &batches {
                prop_assert!(batch.start.utc_us >= end);
                prop_assert!((1..=BATCH).contains(&batch.seconds.len()));
                end = batch.start.utc_us + batch.seconds.len() as i64 * MICROS_PER_SECOND;
            }
            prop_assert!(end > at(now).utc_us);
        }
    }
}
