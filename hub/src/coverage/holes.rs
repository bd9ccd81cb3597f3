//! Holes between what was recorded, each with its cause.

use super::Cause;
use crate::catalog::{GapRow, SegmentRow};
use campanile_proto::edge::v1::CameraCondition;
use campanile_proto::time::{MICROS_PER_SECOND, WallTime};
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Between the last byte of one segment and the first of the next lies less than a fragment; two of them, so that
/// a picture every second leaves no hole.
const BRIDGED_US: i64 = 2 * MICROS_PER_SECOND;
/// An open segment is reported every 10 s, over a line that may be slow.
const REPORTED_LATE_US: i64 = 30 * MICROS_PER_SECOND;
/// A box with nothing else to say tells its health every 30 s.
const SILENT_US: i64 = 60 * MICROS_PER_SECOND;

/// Half-open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    pub from: WallTime,
    pub to: WallTime,
}

impl Span {
    pub fn micros(&self) -> i64 {
        (self.to - self.from).max(0)
    }

    pub(super) fn within(&self, other: Span) -> Option<Span> {
        let both = Span { from: self.from.max(other.from), to: self.to.min(other.to) };
        (both.from < both.to).then_some(both)
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hole {
    pub span: Span,
    pub cause: Cause,
}

/// What the reports about one stream say.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Reported {
    /// In order, none touching the next.
    pub kept: Vec<Span>,
    /// With the rule.
    deleted: Vec<(Span, String)>,
    /// The one that began last comes first: it is what the box said last.
    over: Vec<(Span, CameraCondition)>,
    going_on: Vec<(Span, CameraCondition)>,
    unnamed: bool,
}

/// Segments and gaps as reported; `heard` is when the box last said anything, `now` what time it is.
pub fn reported(segments: &[SegmentRow], gaps: &[GapRow], heard: WallTime, now: WallTime) -> Reported {
    let (mut kept, mut deleted) = (Vec::new(), Vec::new());
    for segment in segments {
        let goes_on = !segment.closed && now - segment.end <= REPORTED_LATE_US;
        let to = if goes_on { segment.end.max(now) } else { segment.end };
        let span = Span { from: segment.start, to };
        match segment.deleted_by.as_str() {
            "" => kept.push(span),
            rule => deleted.push((span, rule.to_owned())),
        }
    }
    let gap = |gap: &GapRow| {
        let to = if gap.ongoing { gap.end.min(heard.plus_micros(SILENT_US)) } else { gap.end };
        (Span { from: gap.start, to }, gap.cause)
    };
    let mut gaps: Vec<&GapRow> = gaps.iter().collect();
    gaps.sort_by_key(|gap| Reverse(gap.start));
    let (going_on, over): (Vec<&GapRow>, Vec<&GapRow>) = gaps.into_iter().partition(|gap| gap.ongoing);
    let over: Vec<_> = over.into_iter().map(gap).filter(|(span, _)| span.micros() > 0).collect();
    let kept = without(&joined(kept, BRIDGED_US), &joined(over.iter().map(|(span, _)| *span).collect(), 0));
    Reported { kept, deleted, over, going_on: going_on.into_iter().map(gap).collect(), unnamed: false }
}

impl Reported {
    /// The same of what is played, whatever else is kept.
    pub fn playing(self, played: Vec<Span>) -> Self {
        Self { kept: joined(played, BRIDGED_US), ..self }
    }

    /// What another organisation's listing says: it names no causes.
    pub fn unnamed(played: Vec<Span>) -> Self {
        Self { unnamed: true, ..Self::default().playing(played) }
    }

    /// What of `within` was not recorded, or is not kept; in order.
    pub fn holes(&self, within: Span) -> Vec<Hole> {
        without(&[within], &self.kept).into_iter().flat_map(|hole| self.explained(hole)).collect()
    }

    /// One hole, cut where its cause changes. The first that holds an instant explains it: a time without bytes,
    /// then what was there once, then what may be over unreported.
    fn explained(&self, hole: Span) -> Vec<Hole> {
        let conditions = |gaps: &[(Span, CameraCondition)]| {
            let of = |(span, cause): &(Span, CameraCondition)| Some((span.within(hole)?, Cause::Reported(*cause)));
            gaps.iter().filter_map(of).collect::<Vec<_>>()
        };
        let deleted = |(span, rule): &(Span, String)| Some((span.within(hole)?, Cause::Deleted(rule.clone())));
        let mut known = conditions(&self.over);
        known.extend(self.deleted.iter().filter_map(deleted));
        known.extend(conditions(&self.going_on));
        let mut cuts: Vec<WallTime> = known.iter().flat_map(|(span, _)| [span.from, span.to]).collect();
        cuts.extend([hole.from, hole.to]);
        cuts.sort();
        cuts.dedup();
        let mut by_start: Vec<usize> = (0..known.len()).collect();
        by_start.sort_by_key(|at| known[*at].0.from);
        let (mut starting, mut holding) = (by_start.into_iter().peekable(), BinaryHeap::new());
        let mut holes: Vec<Hole> = Vec::new();
        for pair in cuts.windows(2) {
            let span = Span { from: pair[0], to: pair[1] };
            while let Some(at) = starting.next_if(|at| known[*at].0.from <= span.from) {
                holding.push(Reverse(at));
            }
            while holding.peek().is_some_and(|Reverse(at)| known[*at].0.to <= span.from) {
                holding.pop();
            }
            let nobodys = if self.unnamed { Cause::NotNamed } else { Cause::NotReported };
            let cause = holding.peek().map_or(nobodys, |Reverse(at)| known[*at].1.clone());
            holes.push(Hole { span, cause });
        }
        bridged(holes)
    }
}

/// Where reports do not quite touch, nothing new begins.
fn bridged(pieces: Vec<Hole>) -> Vec<Hole> {
    let mut holes: Vec<Hole> = Vec::new();
    let is_seam = |hole: &Hole| hole.cause == Cause::NotReported && hole.span.micros() <= BRIDGED_US;
    for mut next in pieces {
        if let Some(seam) = holes.pop_if(|last| is_seam(last)) {
            match holes.last_mut() {
                Some(before) => before.span.to = seam.span.to,
                None => next.span.from = seam.span.from,
            }
        }
        match holes.last_mut() {
            Some(last) if last.cause == next.cause => last.span.to = next.span.to,
            _ => holes.push(next),
        }
    }
    if holes.len() > 1
        && let Some(seam) = holes.pop_if(|last| is_seam(last))
        && let Some(before) = holes.last_mut()
    {
        before.span.to = seam.span.to;
    }
    holes
}

/// In order; spans that lie at most so far apart are one.
fn joined(mut spans: Vec<Span>, apart_us: i64) -> Vec<Span> {
    spans.sort_by_key(|span| span.from);
    let mut joined: Vec<Span> = Vec::new();
    for span in spans {
        match joined.last_mut() {
            Some(last) if span.from - last.to <= apart_us => last.to = last.to.max(span.to),
            _ => joined.push(span),
        }
    }
    joined
}

/// `spans` without what lies in `others`; both in order, none touching the next.
fn without(spans: &[Span], others: &[Span]) -> Vec<Span> {
    let mut left = Vec::new();
    let mut nearest = 0;
    for span in spans {
        nearest += others[nearest..].iter().take_while(|other| other.to <= span.from).count();
        let mut from = span.from;
        for other in others[nearest..].iter().take_while(|other| other.from < span.to) {
            if from < other.from {
                left.push(Span { from, to: other.from });
            }
            from = from.max(other.to);
        }
        if from < span.to {
            left.push(Span { from, to: span.to });
        }
    }
    left
}

#[cfg(test)]
mod tests {
    use super::*;
    use campanile_proto::ids::{CameraId, RunId, SegmentId};
    use campanile_proto::types::v1::Stream;
    use proptest::prelude::*;

    const CAMERA: CameraId = CameraId::from_u128(1);

    fn span(from: i64, to: i64) -> Span {
        Span { from: WallTime(from * MICROS_PER_SECOND), to: WallTime(to * MICROS_PER_SECOND) }
    }

    fn segment(from: i64, to: i64, deleted_by: &str) -> SegmentRow {
        let Span { from, to } = span(from, to);
        SegmentRow {
            id: SegmentId::from_u128(1),
            camera: CAMERA,
            stream: Stream::Main,
            run: RunId::from_u128(1),
            start: from,
            end: to,
            fragment_count: 1,
            size_bytes: 1,
            closed: true,
            deleted_by: deleted_by.to_owned(),
            header: Default::default(),
            wrapped_key: Default::default(),
            newest_link: Default::default(),
        }
    }

    fn gap(from: i64, to: i64, cause: CameraCondition) -> GapRow {
        let Span { from, to } = span(from, to);
        GapRow { camera: CAMERA, stream: Stream::Main, start: from, end: to, ongoing: false, cause }
    }

    fn said(holes: &[Hole]) -> Vec<(i64, i64, String)> {
        let second = |at: WallTime| at.0 / MICROS_PER_SECOND;
        holes.iter().map(|hole| (second(hole.span.from), second(hole.span.to), hole.cause.code())).collect()
    }

    const EVER: WallTime = WallTime(i64::MAX);

    fn holes(segments: &[SegmentRow], gaps: &[GapRow], within: Span) -> Vec<Hole> {
        reported(segments, gaps, EVER, EVER).holes(within)
    }

    fn causes<const N: usize>(expected: [(i64, i64, &str); N]) -> Vec<(i64, i64, String)> {
        expected.map(|(from, to, cause)| (from, to, cause.to_owned())).to_vec()
    }

    #[test]
    fn every_hole_has_its_cause() {
        let segments = [segment(0, 100, "age"), segment(101, 200, ""), segment(300, 400, ""), segment(401, 500, "")];
        let gaps = [gap(200, 250, CameraCondition::Unreachable), gap(251, 290, CameraCondition::EdgeOff)];
        let expected = [
            (-50, 0, "not_reported"),
            (0, 101, "deleted"),
            (200, 251, "unreachable"),
            (251, 290, "edge_off"),
            (290, 300, "not_reported"),
            (500, 600, "not_reported"),
        ];
        assert_eq!(said(&holes(&segments, &gaps, span(-50, 600))), causes(expected));
    }

    #[test]
    fn pictures_that_found_no_place_on_the_disk_are_a_hole_within_their_segment() {
        let segments = [segment(0, 100, ""), segment(100, 200, "age")];
        let gaps = [gap(40, 45, CameraCondition::DiskError), gap(150, 160, CameraCondition::DiskFull)];
        let expected = [(40, 45, "disk_error"), (100, 150, "deleted"), (150, 160, "disk_full"), (160, 200, "deleted")];
        assert_eq!(said(&holes(&segments, &gaps, span(0, 200))), causes(expected));
    }

    #[test]
    fn a_gap_that_goes_on_is_believed_while_its_box_is_heard_and_yields_to_footage() {
        let going_on = GapRow { ongoing: true, ..gap(100, 900, CameraCondition::Unreachable) };
        let until = |heard: i64| {
            let heard = WallTime(heard * MICROS_PER_SECOND);
            said(&reported(&[segment(0, 100, "")], std::slice::from_ref(&going_on), heard, EVER).holes(span(0, 900)))
        };
        assert_eq!(until(890), causes([(100, 900, "unreachable")]));
        assert_eq!(until(300), causes([(100, 360, "unreachable"), (360, 900, "not_reported")]));
        let back = [segment(0, 100, ""), segment(400, 900, "")];
        assert_eq!(said(&holes(&back, &[going_on], span(0, 900))), causes([(100, 400, "unreachable")]));
    }

    #[test]
    fn a_segment_that_is_being_written_reaches_to_now() {
        let mut open = segment(0, 90, "");
        open.closed = false;
        let until = |now: i64| {
            let within = span(0, now);
            said(&reported(std::slice::from_ref(&open), &[], within.to, within.to).holes(within))
        };
        assert_eq!(until(110), []);
        assert_eq!(until(130), [(90, 130, "not_reported".to_owned())]);
    }

    proptest! {
        #[test]
        fn every_instant_is_recorded_or_in_one_hole(
            segments in proptest::collection::vec((0i64..900, 0i64..200, any::<bool>()), 0..20),
            gaps in proptest::collection::vec((0i64..900, 0i64..300, 0i32..11, any::<bool>()), 0..20),
            heard in 0i64..1_000,
        ) {
            let segments: Vec<_> = segments.iter()
                .map(|(from, length, gone)| segment(*from, from + length, if *gone { "age" } else { "" })).collect();
            let gaps: Vec<_> = gaps.iter().map(|(from, length, cause, ongoing)| {
                let cause = CameraCondition::try_from(*cause).unwrap();
                GapRow { ongoing: *ongoing, ..gap(*from, from + length, cause) }
            }).collect();
            let reported = reported(&segments, &gaps, WallTime(heard * MICROS_PER_SECOND), EVER);
            let found = reported.holes(span(100, 800));
            for second in 100..800 {
                let at = span(second, second + 1);
                let kept = reported.kept.iter().filter(|span| span.within(at).is_some()).count();
                let missing: Vec<_> = found.iter().filter(|hole| hole.span.within(at).is_some()).collect();
                prop_assert_eq!(kept + missing.len(), 1, "{}", second);
                let deleted = segments.iter().any(|row| {
                    !row.deleted_by.is_empty() && Span { from: row.start, to: row.end }.within(at).is_some()
                });
                let over = gaps.iter().any(|gap| !gap.ongoing && Span { from: gap.start, to: gap.end }.within(at).is_some());
                if let [hole] = missing[..] && hole.cause == Cause::NotReported {
                    prop_assert!(!deleted && !over, "{}", second);
                }
            }
            prop_assert!(found.windows(2).all(|pair| pair[0].span.to <= pair[1].span.from));
        }
    }
}
