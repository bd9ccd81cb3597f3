//! The scoring rule. Pure: labels and a track in, figures out.

use super::labels::{Label, Labels};
use super::track::Track;
use serde::Serialize;

/// The state is sampled so often.
pub const SAMPLE_S: f64 = 0.1;
/// The first seconds of a clip are a detector's own.
pub const WARM_UP_S: f64 = 2.0;
/// People are no more exact than this about when something begins.
pub const UNSURE_S: f64 = 0.5;
/// Spells of the state closer than this are one event, and a longer one than that is several, as at the box.
const ONE_EVENT_S: f64 = 3.0;
const LONGEST_EVENT_S: f64 = 120.0;
/// A clip with less empty time than this is not judged alone on it.
pub const LEAST_EMPTY_S: f64 = 10.0;

pub const LEAST_RECALL: f64 = 0.98;
pub const LEAST_RECALL_OF_EACH: f64 = 0.95;
pub const MOST_ON_WHILE_EMPTY: f64 = 0.03;
pub const MOST_ON_WHILE_EMPTY_OF_EACH: f64 = 0.05;
pub const MOST_ONSET_P95_S: f64 = 0.8;
pub const MOST_FALSE_EVENTS_PER_HOUR: f64 = 1.0;

/// Said under every table.
pub const FOOT: &str = "Each clip is decoded once by the box's decoder; every contender sees those pictures once, cold \
    and in order. The on/off state, before any pre-roll or post-roll, is sampled every 0.1 s. Left out: the first 2 s, \
    instants labelled ignore, 0.5 s on each side of a change of label. Recall: share of the samples labelled motion \
    with the state on. On while empty: share of the samples labelled empty with the state on. Onset: from a change of \
    label to motion, after the first 2 s, until the state is on, 0 where it is on already; where it never comes, the \
    interval's length; p95 by nearest rank. A mask of a peer is on when a contour in it is larger than 10 pixels of a \
    picture 100 high, as Frigate asks. False events: spells of the state in scenes in which nothing moves, spells less \
    than 3 s apart counted once and longer ones once every 120 s, as the box makes events of them. Worse than MOG2 on a clip: its missed and its falsely on share together are larger.";

/// Samples of one clip, or of several together.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Counts {
    pub motion: u32,
    pub motion_on: u32,
    pub empty: u32,
    pub empty_on: u32,
    /// Seconds, of each change to motion.
    pub onsets_s: Vec<f64>,
}

impl Counts {
    pub fn add(&mut self, other: &Self) {
        self.motion += other.motion;
        self.motion_on += other.motion_on;
        self.empty += other.empty;
        self.empty_on += other.empty_on;
        self.onsets_s.extend(&other.onsets_s);
    }

    pub fn recall(&self) -> Option<f64> {
        (self.motion > 0).then(|| f64::from(self.motion_on) / f64::from(self.motion))
    }

    pub fn on_while_empty(&self) -> Option<f64> {
        (self.empty > 0).then(|| f64::from(self.empty_on) / f64::from(self.empty))
    }

    pub fn empty_s(&self) -> f64 {
        f64::from(self.empty) * SAMPLE_S
    }

    pub fn onset_p95_s(&self) -> Option<f64> {
        let mut sorted = self.onsets_s.clone();
        sorted.sort_by(f64::total_cmp);
        let rank = (sorted.len() as f64 * 0.95).ceil() as usize;
        sorted.get(rank.saturating_sub(1)).copied()
    }

    /// Missed and falsely on together, 0 to 2.
    pub fn wrong(&self) -> f64 {
        self.recall().map_or(0.0, |recall| 1.0 - recall) + self.on_while_empty().unwrap_or(0.0)
    }
}

/// Judges a track over the whole clip.
pub fn judge(labels: &Labels, track: &Track) -> Counts {
    let mut counts = Counts::default();
    let changes: Vec<f64> = labels.changes().collect();
    let samples = (labels.end_s() / SAMPLE_S).floor() as u32;
    for sample in 0..=samples {
        let t = f64::from(sample) * SAMPLE_S;
        if t < WARM_UP_S || changes.iter().any(|change| (t - change).abs() < UNSURE_S) {
            continue;
        }
        let on = u32::from(track.at(t));
        match labels.at(t) {
            Label::Motion => (counts.motion, counts.motion_on) = (counts.motion + 1, counts.motion_on + on),
            Label::Empty => (counts.empty, counts.empty_on) = (counts.empty + 1, counts.empty_on + on),
            Label::Ignored => {}
        }
    }
    let begins = labels.spans().iter().skip(1).filter(|span| span.label == Label::Motion && span.from_s >= WARM_UP_S);
    counts.onsets_s = begins
        .map(|span| {
            track.first_on(span.from_s).map_or(f64::INFINITY, |on| on - span.from_s).min(span.to_s - span.from_s)
        })
        .collect();
    counts
}

/// Events where nothing moves, the first seconds left out.
pub fn false_events(track: &Track, end_s: f64) -> usize {
    let spells = track.spells(ONE_EVENT_S, end_s).into_iter().filter(|&(_, to)| to >= WARM_UP_S);
    spells.map(|(from, to)| 1 + ((to - from) / LONGEST_EVENT_S) as usize).sum()
}

/// Targets that were missed, in words; a contender without quiet scenes is not judged on them.
pub fn misses(clips: &[(String, Counts)], false_events_per_hour: Option<f64>) -> Vec<String> {
    let mut all = Counts::default();
    clips.iter().for_each(|(_, counts)| all.add(counts));
    let mut misses = Vec::new();
    let mut check = |name: &str, figure: Option<f64>, wrong: &dyn Fn(f64) -> bool| {
        if let Some(figure) = figure.filter(|figure| wrong(*figure)) {
            misses.push(format!("{name} {figure:.3}"));
        }
    };
    check("recall", all.recall(), &|recall| recall < LEAST_RECALL);
    check("on while empty", all.on_while_empty(), &|share| share > MOST_ON_WHILE_EMPTY);
    check("onset p95", all.onset_p95_s(), &|onset| onset > MOST_ONSET_P95_S);
    for (name, counts) in clips {
        check(&format!("recall on {name}"), counts.recall(), &|recall| recall < LEAST_RECALL_OF_EACH);
        let share = counts.on_while_empty().filter(|_| counts.empty_s() >= LEAST_EMPTY_S);
        check(&format!("on while empty on {name}"), share, &|share| share > MOST_ON_WHILE_EMPTY_OF_EACH);
    }
    check("false events an hour", false_events_per_hour, &|events| events > MOST_FALSE_EVENTS_PER_HOUR);
    misses
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::score::labels::Span;
    use proptest::prelude::*;

    fn labels() -> Labels {
        let span = |from_s, to_s, label| Span { from_s, to_s, label };
        Labels::of(vec![
            span(0.0, 20.0, Label::Empty),
            span(20.0, 30.0, Label::Motion),
            span(30.0, 31.0, Label::Ignored),
            span(31.0, 60.0, Label::Empty),
        ])
    }

    /// On exactly while something moves.
    fn perfect() -> Track {
        let mut track = Track::default();
        [(0.0, false), (20.0, true), (30.0, false)].into_iter().for_each(|(t, on)| track.set(t, on));
        track
    }

    #[test]
    fn who_is_always_right_meets_every_target_and_the_controls_do_not() {
        let clip = |track: &Track| vec![("clip".to_owned(), judge(&labels(), track))];
        assert_eq!(misses(&clip(&perfect()), Some(0.0)), Vec::<String>::new());
        for wrong in [Track::always(true), Track::always(false), perfect().later(2.0)] {
            assert!(!misses(&clip(&wrong), None).is_empty(), "{wrong:?}");
        }
        assert_eq!(misses(&clip(&perfect()), Some(1.5)), ["false events an hour 1.500"]);
    }

    #[test]
    fn the_first_seconds_ignored_ones_and_the_edges_are_left_out() {
        let counts = judge(&labels(), &Track::always(true));
        // 2.0 to 19.5, 20.5 to 29.5, 31.5 to 60 s.
        assert_eq!((counts.empty, counts.motion), (176 + 286 - 1, 91));
        assert_eq!((counts.recall(), counts.on_while_empty()), (Some(1.0), Some(1.0)));
    }

    #[test]
    fn an_onset_that_never_comes_counts_as_the_whole_interval() {
        assert_eq!(judge(&labels(), &Track::always(false)).onsets_s, [10.0]);
        let late = judge(&labels(), &perfect().later(0.7)).onsets_s;
        assert!((late[0] - 0.7).abs() < 1e-9);
    }

    #[test]
    fn a_state_that_never_goes_off_is_an_event_every_two_minutes() {
        assert_eq!(false_events(&Track::always(true), 600.0), 6);
        assert_eq!(false_events(&Track::always(false), 600.0), 0);
    }

    proptest! {
        #[test]
        fn shares_are_shares(changes in proptest::collection::vec((0.0f64..70.0, any::<bool>()), 0..40)) {
            let mut track = Track::default();
            let mut changes = changes;
            changes.sort_by(|a, b| a.0.total_cmp(&b.0));
            changes.iter().for_each(|&(t, on)| track.set(t, on));
            let counts = judge(&labels(), &track);
            prop_assert!(counts.motion_on <= counts.motion && counts.empty_on <= counts.empty);
            prop_assert!(counts.onsets_s.iter().all(|&onset| (0.0..=10.0).contains(&onset)));
        }
    }
}
