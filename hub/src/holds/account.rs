//! What became of every second of a hold, per camera and stream: pure.

use campanile_proto::time::{MICROS_PER_SECOND, WallTime};
use std::collections::BTreeSet;

/// Between two runs, or two fragments of a camera whose packets jitter, nothing was recorded and nothing is missing.
const SEAM_US: i64 = 2 * MICROS_PER_SECOND;
/// A gap is over when a camera sends again; recording begins with its next key frame.
const FIRST_KEY_US: i64 = 15 * MICROS_PER_SECOND;
/// Boxes report what they record within this.
const REPORTED_WITHIN_US: i64 = 20 * MICROS_PER_SECOND;

/// Half-open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    pub from: WallTime,
    pub to: WallTime,
}

impl Span {
    pub fn new(from: WallTime, to: WallTime) -> Self {
        Self { from, to }
    }

    fn has(&self, from: WallTime, to: WallTime) -> bool {
        self.from <= from && to <= self.to
    }
}

/// What is known of one camera and stream.
#[derive(Debug, Clone, Default)]
pub struct Known {
    /// Copied to the hub.
    pub held: Vec<Span>,
    /// Recorded by the box, not copied yet; why not, if that is known.
    pub waiting: Vec<(Span, String)>,
    /// Recorded once, and gone before it could be copied.
    pub lost: Vec<(Span, String)>,
    /// Never recorded.
    pub gaps: Vec<(Span, String)>,
}

/// What a span is, in the order that counts where they overlap.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Sort {
    Held,
    Waiting,
    Lost,
    NeverRecorded,
    /// Not recorded, or not reported, yet.
    Ahead,
    /// Nobody has said anything of it.
    Unreported,
}

impl Sort {
    pub fn name(self) -> &'static str {
        match self {
            Self::Held => "held",
            Self::Waiting => "waiting",
            Self::Lost => "lost",
            Self::NeverRecorded => "never-recorded",
            Self::Ahead => "ahead",
            Self::Unreported => "unreported",
        }
    }

    /// What [`Sort::name`] named; anything else was not heard of.
    pub fn named(name: &str) -> Self {
        let all = [Self::Held, Self::Waiting, Self::Lost, Self::NeverRecorded, Self::Ahead];
        all.into_iter().find(|sort| sort.name() == name).unwrap_or(Self::Unreported)
    }

    /// Whether it may still come.
    pub fn is_open(self) -> bool {
        matches!(self, Self::Waiting | Self::Ahead | Self::Unreported)
    }
}

/// A stretch of one sort and cause.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    pub span: Span,
    pub sort: Sort,
    pub cause: String,
}

/// `from`..`to` without holes, in order.
pub fn account(from: WallTime, to: WallTime, now: WallTime, known: &Known) -> Vec<Part> {
    let spans = || {
        let named = [&known.waiting, &known.lost, &known.gaps].into_iter().flatten().map(|(span, _)| span);
        known.held.iter().chain(named)
    };
    let reported = now.plus_micros(-REPORTED_WITHIN_US);
    let edges = spans().flat_map(|span| [span.from, span.to]).chain([reported]);
    let edges: BTreeSet<WallTime> = edges.filter(|at| (from..to).contains(at)).chain([from, to]).collect();
    let mut parts: Vec<Part> = Vec::new();
    for (from, to) in edges.iter().zip(edges.iter().skip(1)) {
        let (sort, cause) = sort(*from, *to, reported, known);
        match parts.last_mut() {
            Some(last) if (last.sort, last.cause.as_str()) == (sort, cause) => last.span.to = *to,
            _ => parts.push(Part { span: Span::new(*from, *to), sort, cause: cause.to_owned() }),
        }
    }
    without_seams(parts)
}

fn sort(from: WallTime, to: WallTime, reported: WallTime, known: &Known) -> (Sort, &str) {
    let of = |spans: &'_ [(Span, String)]| spans.iter().position(|(span, _)| span.has(from, to));
    if known.held.iter().any(|span| span.has(from, to)) {
        return (Sort::Held, "");
    }
    for (sort, spans) in
        [(Sort::Waiting, &known.waiting), (Sort::Lost, &known.lost), (Sort::NeverRecorded, &known.gaps)]
    {
        if let Some((_, cause)) = of(spans).and_then(|at| spans.get(at)) {
            return (sort, cause);
        }
    }
    if from >= reported { (Sort::Ahead, "") } else { (Sort::Unreported, "") }
}

/// A short stretch of nothing beside what is held belongs to it; one that a gap ends with, before the first key frame,
/// to the gap.
fn without_seams(parts: Vec<Part>) -> Vec<Part> {
    let mut joined: Vec<Part> = Vec::new();
    for (at, part) in parts.iter().enumerate() {
        let before = at.checked_sub(1).and_then(|at| parts.get(at));
        let is_held = |part: Option<&Part>| part.is_some_and(|part| part.sort == Sort::Held);
        let (held_before, held_after) = (is_held(before), is_held(parts.get(at + 1)));
        let length_us = part.span.to - part.span.from;
        let short = length_us < SEAM_US;
        let gap = before.filter(|before| before.sort == Sort::NeverRecorded && held_after && length_us < FIRST_KEY_US);
        let (sort, cause) = match (part.sort, gap) {
            (Sort::Unreported | Sort::Ahead, Some(gap)) => (Sort::NeverRecorded, gap.cause.as_str()),
            (Sort::Unreported, _) if short && (held_before || held_after) => (Sort::Held, ""),
            (Sort::Ahead, _) if short && held_before && held_after => (Sort::Held, ""),
            (sort, _) => (sort, part.cause.as_str()),
        };
        match joined.last_mut() {
            Some(last) if (last.sort, last.cause.as_str()) == (sort, cause) => last.span.to = part.span.to,
            _ => joined.push(Part { span: part.span.clone(), sort, cause: cause.to_owned() }),
        }
    }
    joined
}

/// From where on something may still come.
pub fn open_from(parts: &[Part]) -> Option<WallTime> {
    parts.iter().find(|part| part.sort.is_open()).map(|part| part.span.from)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const S: i64 = MICROS_PER_SECOND;

    fn span(from: i64, to: i64) -> Span {
        Span::new(WallTime(from * S), WallTime(to * S))
    }

    fn named(from: i64, to: i64, cause: &str) -> (Span, String) {
        (span(from, to), cause.to_owned())
    }

    fn told(known: &Known, to: i64, now: i64) -> Vec<(i64, i64, &'static str, String)> {
        let parts = account(WallTime(0), WallTime(to * S), WallTime(now * S), known);
        parts.into_iter().map(|p| (p.span.from.0 / S, p.span.to.0 / S, p.sort.name(), p.cause)).collect()
    }

    #[test]
    fn every_second_has_its_fate_and_cause() {
        let known = Known {
            held: vec![span(-5, 10), span(11, 20)],
            waiting: vec![named(18, 30, "box palo 7 is not connected")],
            lost: vec![named(30, 40, "space")],
            gaps: vec![named(40, 50, "unreachable")],
        };
        let none = String::new;
        let expected = vec![
            (0, 20, "held", none()),
            (20, 30, "waiting", "box palo 7 is not connected".into()),
            (30, 40, "lost", "space".into()),
            (40, 50, "never-recorded", "unreachable".into()),
            (50, 60, "unreported", none()),
            (60, 90, "ahead", none()),
        ];
        assert_eq!(told(&known, 90, 80), expected);
        assert_eq!(told(&known, 20, 21), [(0, 20, "held", none())], "held is held, however fresh");
    }

    #[test]
    fn the_wait_for_a_first_key_frame_belongs_to_its_gap_and_a_longer_silence_does_not() {
        let gaps = vec![named(5, 8, "edge-off")];
        let from = |start| Known { held: vec![span(0, 5), span(start, 40)], gaps: gaps.clone(), ..Known::default() };
        let edge_off = String::from("edge-off");
        assert_eq!(told(&from(11), 40, 100)[1], (5, 11, "never-recorded", edge_off.clone()));
        assert_eq!(
            told(&from(24), 40, 100)[1..3],
            [(5, 8, "never-recorded", edge_off), (8, 24, "unreported", "".into())]
        );
    }

    #[test]
    fn nothing_reported_is_no_seam() {
        let known = Known { held: vec![span(0, 10), span(13, 20)], ..Known::default() };
        assert_eq!(told(&known, 20, 100)[1], (10, 13, "unreported", String::new()));
        let parts = account(WallTime(0), WallTime(20 * S), WallTime(100 * S), &known);
        assert_eq!(open_from(&parts), Some(WallTime(10 * S)));
    }

    proptest! {
        #[test]
        fn an_account_has_no_hole_and_says_held_of_nothing_else(
            held in proptest::collection::vec((0i64..100, 1i64..20), 0..8),
            lost in proptest::collection::vec((0i64..100, 1i64..20), 0..4),
            now in 0i64..200,
        ) {
            let known = Known {
                held: held.iter().map(|(at, long)| span(*at, at + long)).collect(),
                lost: lost.iter().map(|(at, long)| named(*at, at + long, "age")).collect(),
                ..Known::default()
            };
            let parts = account(WallTime(0), WallTime(100 * S), WallTime(now * S), &known);
            prop_assert_eq!(parts.first().unwrap().span.from, WallTime(0));
            prop_assert_eq!(parts.last().unwrap().span.to, WallTime(100 * S));
            prop_assert!(parts.windows(2).all(|w| w[0].span.to == w[1].span.from && w[0].sort != w[1].sort));
            let open = parts.iter().any(|part| part.sort.is_open());
            prop_assert_eq!(open, open_from(&parts).is_some());
            for part in parts.iter().filter(|part| part.sort == Sort::Held) {
                let middle = (part.span.from.0 + part.span.to.0) / 2;
                let near = |held: &Span| middle - held.from.0 >= -SEAM_US && held.to.0 - middle >= -SEAM_US;
                let any = known.held.iter().any(near);
                prop_assert!(any);
            }
        }
    }
}
