//! The on/off state and its cells become events. Pure: time comes as a parameter; no pre-roll.

use super::detect::Seen;
use super::state::State;
use campanile_proto::grid::{COLUMNS, CellSet, ROWS};
use campanile_proto::ids::EventId;
use campanile_proto::time::{MICROS_PER_SECOND, WallTime};
use campanile_proto::types::v1::{Box as Region, Instant};

/// An event is over when nothing moved for this long, and for this many pictures.
const QUIET_US: i64 = 3 * MICROS_PER_SECOND;
const QUIET_PICTURES: i64 = 3;
/// A street that never rests gives events of this length.
const LONGEST_US: i64 = 120 * MICROS_PER_SECOND;
/// While it goes on it is told at most this often.
const TELL_US: i64 = MICROS_PER_SECOND;

/// One motion episode as it stands.
#[derive(Debug, Clone, PartialEq)]
pub struct Episode {
    pub id: EventId,
    /// From 1, grows with each telling.
    pub revision: u64,
    pub start: Instant,
    /// Of the last picture that moved.
    pub end: Instant,
    pub ongoing: bool,
    /// Every cell that moved in it.
    pub moved: CellSet,
    /// Most cells in one picture.
    pub peak_cells: u32,
}

/// Follows one camera.
#[derive(Debug, Default)]
pub struct Episodes {
    state: State,
    /// Start of the moving pictures before the state was on, and their cells.
    candidate: Option<(Instant, CellSet, u32)>,
    open: Option<Episode>,
    told_us: i64,
}

impl Episodes {
    /// Takes one picture; gives the event when it is to be told: opened, grown, or over.
    pub fn picture(&mut self, at: &Instant, seen: &Seen) -> Option<Episode> {
        let on = self.state.picture(at.mono_us, seen);
        let quiet_us = QUIET_US.max(QUIET_PICTURES * self.state.interval_us());
        let cells = seen.moved.len();
        let moves = seen.moves();
        if moves {
            let (_, moved, peak) = self.candidate.get_or_insert((at.clone(), CellSet::EMPTY, 0));
            moved.union(&seen.moved);
            *peak = (*peak).max(cells as u32);
        } else if self.state.is_quiet() {
            self.candidate = None;
        }
        match &mut self.open {
            None if on && moves => self.begin(at),
            None => None,
            Some(open) => {
                // It is sealed by its hour, and what is of the next hour outlives that.
                let next_hour = hour(at) != hour(&open.start);
                if moves && !next_hour {
                    open.end = at.clone();
                    open.moved.union(&seen.moved);
                    open.peak_cells = open.peak_cells.max(cells as u32);
                }
                let over = next_hour
                    || at.mono_us - open.end.mono_us >= quiet_us
                    || at.mono_us - open.start.mono_us >= LONGEST_US;
                if over { self.finish() } else { self.tell(at, moves) }
            }
        }
    }

    /// Nothing more is seen: an open event ends where it moved last.
    pub fn finish(&mut self) -> Option<Episode> {
        let mut over = self.open.take()?;
        self.candidate = None;
        over.ongoing = false;
        over.revision += 1;
        Some(over)
    }

    /// The event that goes on, if one does.
    pub fn ongoing(&self) -> Option<&Episode> {
        self.open.as_ref()
    }

    fn begin(&mut self, at: &Instant) -> Option<Episode> {
        let (start, moved, peak_cells) = self.candidate.take()?;
        let start = if hour(&start) == hour(at) { start } else { at.clone() };
        let opened =
            Episode { id: EventId::random(), revision: 1, start, end: at.clone(), ongoing: true, moved, peak_cells };
        self.told_us = at.mono_us;
        self.open = Some(opened.clone());
        Some(opened)
    }

    fn tell(&mut self, at: &Instant, grown: bool) -> Option<Episode> {
        let open = self.open.as_mut().filter(|_| grown && at.mono_us - self.told_us >= TELL_US)?;
        self.told_us = at.mono_us;
        open.revision += 1;
        Some(open.clone())
    }
}

fn hour(at: &Instant) -> i64 {
    WallTime(at.utc_us).hour()
}

/// The smallest rectangle around cells, in fractions of the picture times 10,000.
pub fn region(cells: &CellSet) -> Region {
    let (mut left, mut top, mut right, mut bottom) = (COLUMNS, ROWS, 0, 0);
    for cell in cells.iter() {
        let (row, column) = (cell / COLUMNS, cell % COLUMNS);
        (left, top) = (left.min(column), top.min(row));
        (right, bottom) = (right.max(column + 1), bottom.max(row + 1));
    }
    if right == 0 {
        return Region::default();
    }
    let part = |cells: usize, of: usize| (cells * 10_000 / of) as u32;
    Region { left: part(left, COLUMNS), top: part(top, ROWS), right: part(right, COLUMNS), bottom: part(bottom, ROWS) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(tenths: i64) -> Instant {
        Instant { mono_us: tenths * 100_000, ..Default::default() }
    }

    fn seen(cells: &[usize]) -> Seen {
        let mut moved = CellSet::EMPTY;
        cells.iter().for_each(|&cell| moved.insert(cell));
        Seen { moved, looked: true }
    }

    #[test]
    fn a_walk_is_one_event_opened_at_once_updated_each_second_and_closed() {
        let mut episodes = Episodes::default();
        let told: Vec<Episode> = (0..100)
            .filter_map(|t| episodes.picture(&at(t), &seen(if (10..45).contains(&t) { &[5, 6] } else { &[] })))
            .collect();
        assert_eq!(told.iter().map(|e| e.revision).collect::<Vec<_>>(), [1, 2, 3, 4, 5]);
        assert!(told.iter().all(|e| e.id == told[0].id));
        let last = told.last().unwrap();
        assert_eq!((last.start.mono_us, last.end.mono_us, last.ongoing), (1_000_000, 4_400_000, false));
        assert_eq!((last.peak_cells, last.moved.len()), (2, 2));
    }

    #[test]
    fn one_picture_is_a_flash_and_not_an_event() {
        let mut episodes = Episodes::default();
        let flashes =
            (0..60).filter_map(|t| episodes.picture(&at(t), &seen(if t % 10 == 0 { &[1, 2, 3] } else { &[] })));
        assert_eq!(flashes.count(), 0);
    }

    #[test]
    fn key_frames_alone_show_who_walks_by_in_one_of_them() {
        for seconds_apart in [2, 12] {
            let mut episodes = Episodes::default();
            let moves = |n: i64| if n == 5 || n == 6 { &[1, 2][..] } else { &[] };
            let told: Vec<_> =
                (0..12).filter_map(|n| episodes.picture(&at(n * seconds_apart * 10), &seen(moves(n)))).collect();
            let ids: std::collections::BTreeSet<_> = told.iter().map(|event| event.id.to_string()).collect();
            assert_eq!(ids.len(), 1, "one event of two pictures {seconds_apart} s apart: {told:?}");
            let last = told.last().unwrap();
            assert_eq!((last.ongoing, last.end.mono_us - last.start.mono_us), (false, seconds_apart * 1_000_000));
        }
    }

    #[test]
    fn no_event_crosses_an_hour() {
        let mut episodes = Episodes::default();
        let hour_us = campanile_proto::time::MICROS_PER_HOUR;
        let at = |n: i64| Instant { utc_us: hour_us - 2_000_000 + n * 100_000, ..at(n) };
        let mut told: Vec<_> = (0..40).filter_map(|n| episodes.picture(&at(n), &seen(&[1, 2]))).collect();
        told.extend(episodes.finish());
        assert!(told.iter().all(|event| hour(&event.start) == hour(&event.end)), "{told:#?}");
        assert_eq!(told.iter().filter(|event| !event.ongoing).count(), 2, "one each hour");
    }

    #[test]
    fn a_region_is_the_rectangle_around_its_cells() {
        assert_eq!(region(&seen(&[0]).moved), Region { left: 0, top: 0, right: 312, bottom: 555 });
        assert_eq!(region(&CellSet::FULL), Region { left: 0, top: 0, right: 10_000, bottom: 10_000 });
        assert_eq!(region(&CellSet::EMPTY), Region::default());
    }

    proptest! {
        #[test]
        fn revisions_grow_by_one_and_every_event_ends_once(
            pictures in proptest::collection::vec((1i64..20, any::<bool>(), prop::bool::weighted(0.9)), 1..800)
        ) {
            let (mut episodes, mut now, mut told) = (Episodes::default(), 0, Vec::new());
            for (step, moves, looked) in pictures {
                now += step;
                let cells: &[usize] = if moves && looked { &[7, 8] } else { &[] };
                told.extend(episodes.picture(&at(now), &Seen { looked, ..seen(cells) }));
            }
            told.extend(episodes.finish());
            let mut ids: Vec<_> = told.iter().map(|e| e.id).collect();
            ids.dedup();
            for id in ids {
                let of: Vec<_> = told.iter().filter(|e| e.id == id).collect();
                prop_assert!(of.iter().enumerate().all(|(n, e)| e.revision == n as u64 + 1));
                prop_assert!(of.iter().all(|e| e.end.mono_us >= e.start.mono_us));
                prop_assert!(of.iter().all(|e| e.end.mono_us - e.start.mono_us <= LONGEST_US + 2_000_000));
                prop_assert_eq!(of.iter().filter(|e| !e.ongoing).count(), 1);
                prop_assert!(!of.last().unwrap().ongoing);
            }
        }
    }
}
