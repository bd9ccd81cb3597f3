//! Main and sub on one axis: the same breaks in both, the same stretches left out of both: pure.
//!
//! A playlist has no clock but the sum of its durations and the number of its discontinuities. Both must say the
//! same of the same instant in every variant (RFC 8216 section 6.2.4), else a player that changes variants after
//! a gap shows another time. So: a break of either stream is a break of both; what neither recorded is left out
//! of both; what only one recorded stands in both, in the other as borrowed: a gap (RFC 8216bis section 4.4.4.7), or
//! for players that do not know gaps the picture of the one.

use campanile_proto::federation::v1::{GroupListing, Listing};
use campanile_proto::types::v1::Stream;

/// Groups of main and sub begin at other instants; a difference up to this is theirs, and no gap.
const UNALIGNED_US: i64 = 4_000_000;
/// Roundings of time lines and durations where one group follows on another.
const SEAM_US: i64 = 500_000;
/// Where a stream has no group of its own between two breaks, an entry holds the place. Players divide by durations.
const PLACE_US: i64 = 1_000;
/// A gap is said in entries of at most this: no segment may be longer than the target duration.
const LONGEST_GAP_US: i64 = 10_000_000;
/// A listing covers a day and a group. What a partner lists is its word: no axis is longer.
const MOST_US: i64 = 2 * 86_400_000_000;

/// One entry of a media playlist.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    pub start_us: i64,
    pub duration_us: i64,
    /// A break lies before it.
    pub discontinuity: bool,
    pub what: What,
}

#[derive(Debug, Clone, PartialEq)]
pub enum What {
    /// A group of this stream.
    Own(GroupListing),
    /// This stream was not recorded here, that one was.
    Borrowed(Stream, GroupListing),
    /// Less than a group of another stream.
    Nothing,
}

/// A stretch without a break, of all streams together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Section {
    /// Recorded in it.
    pub streams: Vec<Stream>,
    pub start_us: i64,
    pub end_us: i64,
    /// Its start on the axis of the playlists.
    pub at_us: i64,
}

/// What is played, and what every variant says of it.
pub struct Axis {
    /// In order; between two of them lies a break, and perhaps time that is left out.
    pub sections: Vec<Section>,
    tracks: Vec<(Stream, Vec<Entry>)>,
}

impl Axis {
    pub fn of(listing: &Listing) -> Self {
        let starts = listing.variants.iter().flat_map(|variant| &variant.groups).map(|group| group.start_us);
        let zero_us = starts.min().unwrap_or(0);
        let variants = listing.variants.iter();
        let lanes: Vec<Lane<'_>> = variants
            .map(|variant| Lane { stream: variant.stream(), groups: placed(&variant.groups, zero_us) })
            .collect();
        let recorded = Recorded::of(&lanes);
        let sections = sections(&lanes, &recorded, zero_us);
        let tracks = lanes.iter().map(|lane| (lane.stream, track(lane, &sections, &recorded))).collect();
        Self { tracks, sections: sections.into_iter().map(|section| section.said).collect() }
    }

    /// `None` when the stream is not listed.
    pub fn track(&self, stream: Stream) -> Option<&[Entry]> {
        self.tracks.iter().find(|(of, _)| *of == stream).map(|(_, entries)| entries.as_slice())
    }

    /// One for all variants (RFC 8216 section 6.2.4), in whole seconds.
    pub fn target_duration(&self) -> i64 {
        let durations = self.tracks.iter().flat_map(|(_, entries)| entries).map(|entry| entry.duration_us);
        durations.max().unwrap_or(0).max(1).saturating_add(999_999) / 1_000_000
    }
}

/// One stream.
struct Lane<'a> {
    stream: Stream,
    groups: Vec<Placed<'a>>,
}

/// A group and its place in time, microseconds since the first of all.
#[derive(Debug, Clone)]
struct Placed<'a> {
    group: &'a GroupListing,
    start_us: i64,
    end_us: i64,
}

/// One behind the other. A run that says it lies where another was (a clock was set back between them) comes
/// behind it.
fn placed(groups: &[GroupListing], zero_us: i64) -> Vec<Placed<'_>> {
    let mut placed: Vec<Placed<'_>> = Vec::with_capacity(groups.len());
    for group in groups {
        let mut start_us = group.start_us.saturating_sub(zero_us).clamp(0, MOST_US);
        if let Some(before) = placed.last_mut() {
            if before.end_us - start_us <= SEAM_US {
                start_us = start_us.max(before.start_us + PLACE_US);
                before.end_us = before.end_us.min(start_us);
            } else {
                start_us = before.end_us;
            }
        }
        let duration_us = i64::try_from(group.duration_us).unwrap_or(MOST_US).min(MOST_US);
        let end_us = (start_us + duration_us).min(MOST_US).max(start_us + PLACE_US);
        placed.push(Placed { group, start_us, end_us });
    }
    placed
}

/// The stretches in which any stream was recorded.
struct Recorded(Vec<Stretch>);

struct Stretch {
    start_us: i64,
    end_us: i64,
    /// Of all stretches before it together.
    before_us: i64,
}

impl Recorded {
    fn of(lanes: &[Lane<'_>]) -> Self {
        let groups = lanes.iter().flat_map(|lane| &lane.groups);
        let mut spans: Vec<_> = groups.map(|group| (group.start_us, group.end_us)).collect();
        spans.sort_unstable();
        let mut stretches: Vec<Stretch> = Vec::new();
        for (start_us, end_us) in spans {
            match stretches.last_mut() {
                Some(last) if start_us - last.end_us <= SEAM_US => last.end_us = last.end_us.max(end_us),
                last => {
                    let before_us = last.map_or(0, |last| last.before_us + last.end_us - last.start_us);
                    stretches.push(Stretch { start_us, end_us, before_us });
                }
            }
        }
        Self(stretches)
    }

    fn stretch_of(&self, us: i64) -> Option<&Stretch> {
        self.0.get(self.0.partition_point(|stretch| stretch.start_us <= us).checked_sub(1)?)
    }

    /// Where an instant lies on the axis: what nobody recorded takes no room there.
    fn at(&self, us: i64) -> i64 {
        self.stretch_of(us).map_or(0, |stretch| stretch.before_us + us.min(stretch.end_us) - stretch.start_us)
    }

    /// Until when the stretch of an instant goes on.
    fn until(&self, us: i64) -> i64 {
        self.stretch_of(us).map_or(us, |stretch| stretch.end_us)
    }
}

/// A section by places in time, with the groups of each stream that begin in it.
struct Between<'a> {
    start_us: i64,
    end_us: i64,
    groups: Vec<(Stream, &'a [Placed<'a>])>,
    said: Section,
}

fn sections<'a>(lanes: &'a [Lane<'a>], recorded: &Recorded, zero_us: i64) -> Vec<Between<'a>> {
    let Some(first_us) = lanes.iter().filter_map(|lane| lane.groups.first()).map(|group| group.start_us).min() else {
        return Vec::new();
    };
    let starts = [vec![first_us], cuts(lanes, recorded)].concat();
    let mut rest: Vec<(Stream, &[Placed<'_>])> = lanes.iter().map(|lane| (lane.stream, &*lane.groups)).collect();
    let mut sections = Vec::with_capacity(starts.len());
    for (n, start_us) in starts.iter().copied().enumerate() {
        let next_us = starts.get(n + 1).copied().unwrap_or(i64::MAX);
        let mut groups = Vec::with_capacity(rest.len());
        for (stream, rest) in &mut rest {
            let (here, later) = rest.split_at(rest.partition_point(|group| group.start_us < next_us));
            groups.push((*stream, here));
            *rest = later;
        }
        let end_us = recorded.until(start_us).min(next_us);
        let recorded_in: Vec<_> = groups.iter().filter(|(_, here)| !here.is_empty()).collect();
        // A clock that was set back says another time than its place.
        let first = recorded_in.iter().filter_map(|(_, here)| here.first()).min_by_key(|group| group.start_us);
        let said_us = first.map_or(zero_us.saturating_add(start_us), |first| first.group.start_us);
        let said = Section {
            streams: recorded_in.iter().map(|(stream, _)| *stream).collect(),
            start_us: said_us,
            end_us: said_us.saturating_add(end_us - start_us),
            at_us: recorded.at(start_us),
        };
        sections.push(Between { start_us, end_us, groups, said });
    }
    sections
}

/// Where sections begin, besides the first: each at the start of a group, so that groups stay whole. Time that nobody
/// recorded ends at one. Besides these, the fewest instants such that each break of a stream has one near it, and
/// that where a stream was not recorded for long, it was not for whole sections: both streams of a box that was off
/// for a minute break once.
fn cuts(lanes: &[Lane<'_>], recorded: &Recorded) -> Vec<i64> {
    let resumed: Vec<i64> = recorded.0.iter().skip(1).map(|stretch| stretch.start_us).collect();
    let first_us = recorded.0.first().map_or(0, |stretch| stretch.start_us);
    // Later than one instant, and not later than the other.
    let mut wanted: Vec<(i64, i64)> = Vec::new();
    for (n, lane) in lanes.iter().enumerate() {
        // Where another stream goes on alone between these two, if it does so for long.
        let alone = |from_us: i64, to_us: i64| {
            let others = lanes.iter().enumerate().filter(|(other, _)| *other != n).map(|(_, lane)| &lane.groups);
            let next =
                |groups: &Vec<Placed<'_>>| Some(groups.get(groups.partition_point(|g| g.start_us < from_us))?.start_us);
            let begins_us = others.filter_map(next).min()?;
            (recorded.until(begins_us).min(to_us) - from_us > UNALIGNED_US).then_some((from_us - 1, begins_us))
        };
        let (mut end_us, mut before) = (first_us, None);
        for group in &lane.groups {
            let is_long = group.start_us - end_us > UNALIGNED_US;
            let breaks = |before: &Placed<'_>| group.group.discontinuity || before.group.run_id != group.group.run_id;
            if is_long || before.is_some_and(breaks) {
                let after_us = before.map_or(0, |before| before.start_us).max(group.start_us - UNALIGNED_US);
                wanted.push((after_us, group.start_us));
            }
            if is_long {
                wanted.extend(alone(end_us, group.start_us).filter(|_| before.is_some()));
            }
            (before, end_us) = (Some(group), group.end_us);
        }
        wanted.extend(alone(end_us, i64::MAX).filter(|_| before.is_some()));
    }
    wanted.sort_by_key(|(_, latest)| *latest);
    let mut more: Vec<i64> = Vec::new();
    for (after, latest) in wanted {
        let first = resumed.partition_point(|cut| *cut <= after);
        let is_cut =
            resumed.get(first).is_some_and(|cut| *cut <= latest) || more.last().is_some_and(|cut| *cut > after);
        if !is_cut {
            more.push(latest);
        }
    }
    let mut cuts = [resumed, more].concat();
    cuts.sort_unstable();
    cuts
}

/// The entries of one stream, and where on the axis their durations have come to.
struct Track<'a> {
    recorded: &'a Recorded,
    entries: Vec<Entry>,
    sum_us: i64,
}

fn track(lane: &Lane<'_>, sections: &[Between<'_>], recorded: &Recorded) -> Vec<Entry> {
    let mut track = Track { recorded, entries: Vec::with_capacity(lane.groups.len()), sum_us: 0 };
    for (n, section) in sections.iter().enumerate() {
        let begun = track.entries.len();
        let of = |(stream, _): &&(Stream, &[Placed<'_>])| *stream == lane.stream;
        let own = section.groups.iter().find(of).map_or(&[][..], |(_, here)| *here);
        for placed in own {
            track.reach(section, placed.start_us);
            track.push(placed, i64::MAX, What::Own(placed.group.clone()));
        }
        // Not where a group of the section before lasts into this one.
        if own.is_empty() && track.sum_us <= recorded.at(section.start_us) {
            track.borrow(section);
        }
        track.reach(section, section.end_us);
        if track.entries.len() == begun {
            track.miss(section.said.start_us, PLACE_US);
        }
        if let Some(first) = track.entries.get_mut(begun) {
            first.discontinuity = n > 0;
        }
    }
    track.entries
}

impl Track<'_> {
    fn push(&mut self, placed: &Placed<'_>, until_us: i64, what: What) {
        let duration_us = (placed.end_us.min(until_us) - placed.start_us).max(PLACE_US);
        self.entries.push(Entry { start_us: placed.group.start_us, duration_us, discontinuity: false, what });
        self.sum_us += duration_us;
    }

    /// What another stream recorded in a section, as far as it goes.
    fn borrow(&mut self, section: &Between<'_>) {
        let Some((stream, groups)) = section.groups.iter().find(|(_, here)| !here.is_empty()) else { return };
        for placed in *groups {
            self.push(placed, section.end_us, What::Borrowed(*stream, placed.group.clone()));
        }
    }

    /// Nothing until then, if it is worth saying.
    fn reach(&mut self, section: &Between<'_>, until_us: i64) {
        let missing_us = self.recorded.at(until_us) - self.sum_us;
        if missing_us > UNALIGNED_US {
            // Small differences of sections before may have come together in it.
            let from_us = (until_us - missing_us).max(section.start_us) - section.start_us;
            self.miss(section.said.start_us.saturating_add(from_us), missing_us);
        }
    }

    fn miss(&mut self, start_us: i64, missing_us: i64) {
        let pieces = (missing_us + LONGEST_GAP_US - 1) / LONGEST_GAP_US;
        for piece in 0..pieces {
            let (from, to) = (missing_us * piece / pieces, missing_us * (piece + 1) / pieces);
            let start_us = start_us.saturating_add(from);
            self.entries.push(Entry { start_us, duration_us: to - from, discontinuity: false, what: What::Nothing });
        }
        self.sum_us += missing_us;
    }
}

#[cfg(test)]
mod switching;
#[cfg(test)]
mod tests;
