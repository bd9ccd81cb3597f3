//! Which records a fetch asks for.

use crate::clock::Anchors;
use crate::index::SegmentRow;
use campanile_proto::edge::v1::{FragmentRange, TimeSpan};
use campanile_proto::ids::RunId;
use campanile_proto::segment::{DamagedRecord, Entry, ReadError, SegmentReader};
use campanile_proto::time::WallTime;
use campanile_proto::types::v1::{RecordHeader, RecordKind, SegmentHeader};
use prost::Message;

/// A fragment or an index record, on the one time line.
#[derive(Debug, Clone)]
pub struct Item {
    pub entry: Entry,
    pub index: u64,
    pub starts_with_key: bool,
    pub at: WallTime,
    pub uncertainty_us: u64,
    pub duration_us: i64,
}

/// What a segment's file holds so far.
#[derive(Debug, Default)]
pub struct Contents {
    pub init: Option<Entry>,
    pub items: Vec<Item>,
    /// Where to read on.
    pub next_offset: u64,
    pub footer: bool,
    /// Something stands behind the last record that could be read, and it is no record that is being written.
    pub damaged: bool,
}

/// Reads a file's headers from `offset` on, as far as they are whole.
pub fn read_on(row: &SegmentRow, anchors: &Anchors, offset: u64) -> Result<Contents, ReadError> {
    let reader = SegmentReader::open(&row.path)?;
    let mut contents = Contents { next_offset: offset.max(SegmentReader::first_offset()), ..Contents::default() };
    while !contents.footer {
        let entry = match reader.entry(contents.next_offset) {
            Ok(Some(entry)) => entry,
            Ok(None) => break,
            Err(ReadError::Damaged { source, .. }) => {
                contents.damaged = row.closed || !matches!(source, DamagedRecord::Torn { .. });
                break;
            }
            Err(other) => return Err(other),
        };
        contents.next_offset = entry.next_offset();
        match entry.prefix.kind {
            RecordKind::Init => contents.init = Some(entry),
            RecordKind::Footer => contents.footer = true,
            RecordKind::Fragment | RecordKind::Index => contents.items.extend(item(entry, anchors)),
            _ => {}
        }
    }
    Ok(contents)
}

fn item(entry: Entry, anchors: &Anchors) -> Option<Item> {
    let header = RecordHeader::decode(entry.header.clone()).ok()?;
    let (at, uncertainty_us) = anchors.present(header.arrival.as_ref()?);
    let duration_us = i64::try_from(header.duration_90k.saturating_mul(100) / 9).unwrap_or(i64::MAX);
    let starts_with_key = header.starts_with_key || entry.prefix.kind == RecordKind::Index;
    Some(Item { entry, index: header.index, starts_with_key, at, uncertainty_us, duration_us })
}

/// Segments that can hold fragments of this range of a run, in order: each holds what lies between its first index
/// and the next one's.
pub fn segments_of_range(rows: Vec<SegmentRow>, run: RunId, range: &FragmentRange) -> Vec<SegmentRow> {
    let first_index = |row: &SegmentRow| SegmentHeader::decode(row.header.clone()).map_or(0, |h| h.first_index);
    let mut rows: Vec<(u64, SegmentRow)> =
        rows.into_iter().filter(|row| run_of(row) == Some(run)).map(|row| (first_index(&row), row)).collect();
    rows.sort_by_key(|(first, _)| *first);
    let ends: Vec<u64> = rows.iter().skip(1).map(|(first, _)| *first).chain([u64::MAX]).collect();
    let within = rows.into_iter().zip(ends).filter(|((first, _), end)| *first <= range.last && *end > range.first);
    within.map(|((_, row), _)| row).collect()
}

/// Whether a segment was begun after another one. By the monotonic clock within a boot: the wall clock may have been
/// set back in between.
pub fn follows(newer: &SegmentRow, older: &SegmentRow) -> bool {
    if newer.id == older.id {
        return false;
    }
    if newer.start.boot_id == older.start.boot_id {
        newer.start.mono_us > older.start.mono_us
    } else {
        newer.captured > older.captured
    }
}

/// The run a segment belongs to.
pub fn run_of(row: &SegmentRow) -> Option<RunId> {
    RunId::try_from(&SegmentHeader::decode(row.header.clone()).ok()?.run_id).ok()
}

/// Segments that may hold a part of the span, and the one before: a group may have begun there. In order.
pub fn segments_of_span(rows: Vec<SegmentRow>, span: &TimeSpan, anchors: &Anchors) -> Vec<SegmentRow> {
    let reaches = |row: &SegmentRow| !row.closed || anchors.present(&row.end).0.0 > span.from_us;
    let begins = |row: &SegmentRow| anchors.present(&row.start).0.0;
    let mut rows = rows;
    rows.sort_by_key(begins);
    let first = rows.iter().position(reaches).unwrap_or(rows.len());
    rows.into_iter().skip(first.saturating_sub(1)).take_while(|row| begins(row) < span.to_us).collect()
}

/// Chooses whole groups: from the key frame at or before the start to the key frame at or after the end.
#[derive(Debug)]
pub struct Groups {
    span: TimeSpan,
    /// The group that may cover the start, by segment number.
    held: Vec<(usize, Item)>,
    run: Option<RunId>,
    begun: bool,
    pub over: bool,
}

impl Groups {
    pub fn new(span: TimeSpan) -> Self {
        Self { span, held: Vec::new(), run: None, begun: false, over: false }
    }

    /// Where the span begins.
    pub fn start_us(&self) -> i64 {
        self.span.from_us
    }

    /// Takes the items of the next segment; returns those to deliver, with the number of their segment.
    pub fn take(&mut self, segment: usize, run: Option<RunId>, items: Vec<Item>) -> Vec<(usize, Item)> {
        let mut chosen = Vec::new();
        if self.run != run {
            chosen.append(&mut self.finish());
            self.run = run;
        }
        for item in items {
            if self.over || (item.starts_with_key && item.at.0 >= self.span.to_us) {
                chosen.append(&mut self.finish());
                self.over = true;
                break;
            }
            if self.begun {
                chosen.push((segment, item));
            } else if item.at.0 <= self.span.from_us {
                if item.starts_with_key {
                    self.held.clear();
                }
                if item.starts_with_key || !self.held.is_empty() {
                    self.held.push((segment, item));
                }
            } else if item.starts_with_key || !self.held.is_empty() {
                chosen.append(&mut self.before(&item));
                self.begun = true;
                chosen.push((segment, item));
            }
        }
        chosen
    }

    /// What was held and does cover the start; at the end of a run, or of everything.
    pub fn finish(&mut self) -> Vec<(usize, Item)> {
        let from = self.span.from_us;
        let covers = self.held.last().is_some_and(|(_, item)| item.at.0.saturating_add(item.duration_us) > from);
        let held = std::mem::take(&mut self.held);
        if covers { held } else { Vec::new() }
    }

    /// The held group, when the first item behind the start goes on with it or it reaches the start itself.
    /// Arrival jitters: it is taken as reaching the start when it ends a second before.
    fn before(&mut self, item: &Item) -> Vec<(usize, Item)> {
        let held = std::mem::take(&mut self.held);
        let end = held.last().map_or(i64::MIN, |(_, last)| last.at.0.saturating_add(last.duration_us));
        let reaches = end >= self.span.from_us.saturating_sub(1_000_000);
        if !item.starts_with_key || reaches { held } else { Vec::new() }
    }
}

/// Items of a run by their fragment index, inclusive.
pub fn of_range(items: Vec<Item>, range: &FragmentRange) -> Vec<Item> {
    items.into_iter().filter(|item| (range.first..=range.last).contains(&item.index)).collect()
}

/// From the newest key frame on.
pub fn newest_group(items: Vec<Item>) -> Vec<Item> {
    let from = items.iter().rposition(|item| item.starts_with_key).unwrap_or(items.len());
    items.into_iter().skip(from).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use campanile_proto::segment::RecordPrefix;
    use proptest::prelude::*;

    fn item(index: u64, at: i64, starts_with_key: bool) -> Item {
        let prefix = RecordPrefix { kind: RecordKind::Fragment, header_bytes: 0, payload_bytes: 0 };
        let entry = Entry { offset: 0, prefix, header: Bytes::new(), link: [0; 32] };
        Item { entry, index, starts_with_key, at: WallTime(at), uncertainty_us: 0, duration_us: 1_000_000 }
    }

    /// A run of one fragment a second, a key frame each `gop`.
    fn run(seconds: u64, gop: u64) -> Vec<Item> {
        (0..seconds).map(|n| item(n, n as i64 * 1_000_000, n % gop == 0)).collect()
    }

    fn choose(segments: Vec<Vec<Item>>, from_us: i64, to_us: i64) -> Vec<u64> {
        let mut groups = Groups::new(TimeSpan { from_us, to_us });
        let run = Some(RunId::from_u128(1));
        let mut chosen = Vec::new();
        for (number, items) in segments.into_iter().enumerate() {
            chosen.extend(groups.take(number, run, items));
        }
        chosen.extend(groups.finish());
        chosen.into_iter().map(|(_, item)| item.index).collect()
    }

    #[test]
    fn a_span_begins_at_the_key_frame_before_it_even_in_the_segment_before() {
        let mut items = run(20, 4);
        let later = items.split_off(6);
        assert_eq!(choose(vec![items, later], 6_500_000, 9_000_000), [4, 5, 6, 7, 8, 9, 10, 11]);
    }

    #[test]
    fn a_span_within_the_last_group_is_that_group() {
        assert_eq!(choose(vec![run(10, 4)], 9_200_000, 9_300_000), [8, 9]);
        assert!(choose(vec![run(10, 4)], 15_000_000, 16_000_000).is_empty());
    }

    fn row(first_index: u64) -> SegmentRow {
        let header = SegmentHeader { run_id: RunId::from_u128(1).into(), first_index, ..SegmentHeader::default() };
        SegmentRow {
            id: campanile_proto::ids::SegmentId::random(),
            camera: campanile_proto::ids::CameraId::from_u128(1),
            stream: campanile_proto::types::v1::Stream::Main,
            path: Default::default(),
            header: header.encode_to_vec().into(),
            wrapped_key: Bytes::new(),
            captured: WallTime(0),
            start: Default::default(),
            end: Default::default(),
            fragments: 1,
            size_bytes: 0,
            link: Bytes::new(),
            closed: true,
            deleted_by: None,
            offered: 0,
            settled: false,
            signed: None,
            suspect: None,
        }
    }

    #[test]
    fn a_range_opens_the_files_that_can_hold_it_and_no_others() {
        let chosen = |first, last| -> Vec<u64> {
            let range = FragmentRange { run_id: RunId::from_u128(1).into(), first, last };
            let rows = segments_of_range(vec![row(600), row(0), row(1_200)], RunId::from_u128(1), &range);
            rows.iter().map(|row| SegmentHeader::decode(row.header.clone()).unwrap().first_index).collect()
        };
        assert_eq!(chosen(0, 599), [0]);
        assert_eq!(chosen(599, 600), [0, 600]);
        assert_eq!(chosen(5_000, 5_001), [1_200], "the last one may have grown");
    }

    #[test]
    fn a_segment_begun_after_the_clock_was_set_back_still_follows() {
        let at = |mono_us, utc_us, boot: u8| {
            let start =
                campanile_proto::types::v1::Instant { boot_id: vec![boot; 16].into(), mono_us, ..Default::default() };
            SegmentRow { start, captured: WallTime(utc_us), ..row(0) }
        };
        assert!(follows(&at(20, 100, 1), &at(10, 900, 1)));
        assert!(!follows(&at(10, 900, 1), &at(20, 100, 1)));
        assert!(follows(&at(1, 901, 2), &at(10, 900, 1)) && !follows(&at(90, 899, 2), &at(10, 900, 1)));
    }

    proptest! {
        #[test]
        fn every_wanted_second_is_delivered_and_nothing_but_whole_groups(
            gop in 1u64..8, cut in 0usize..60, from in 0i64..60, length in 1i64..30,
        ) {
            let mut items = run(60, gop);
            let later = items.split_off(cut);
            let (from_us, to_us) = (from * 1_000_000 + 1, (from + length) * 1_000_000);
            let chosen = choose(vec![items, later], from_us, to_us);
            let wanted = (from as u64..60.min((from + length) as u64)).all(|n| chosen.contains(&n));
            prop_assert!(wanted, "{chosen:?}");
            prop_assert_eq!(chosen[0] % gop, 0);
            prop_assert!(chosen[0] + gop > from as u64);
            prop_assert!(chosen.windows(2).all(|w| w[0] + 1 == w[1]));
            let after = chosen[chosen.len() - 1] + 1;
            prop_assert!(after == 60 || after.is_multiple_of(gop));
            prop_assert!(after < (from + length) as u64 + gop);
        }
    }
}
