//! Fragments into groups, groups onto the time line: pure.

use super::timeline::{Point, Timeline};
use campanile_proto::federation::v1::GroupListing;
use campanile_proto::ids::RunId;
use campanile_proto::time::WallTime;
use std::collections::HashMap;

/// Media time between two groups of a run that no player shall be asked to bridge.
const HOLE_90K: u64 = 45_000;
/// A group without an end; a camera with one key frame a minute makes it as long.
const LONGEST_90K: u64 = 120 * 90_000;

/// What a record header says of a fragment, and when it arrived by present UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fragment {
    pub run: RunId,
    pub index: u64,
    pub starts_with_key: bool,
    pub decode_90k: u64,
    pub duration_90k: u64,
    pub arrival: WallTime,
    pub plain_size: u32,
}

/// From one key frame to the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Group {
    pub run: RunId,
    pub first: u64,
    pub last: u64,
    pub start_90k: u64,
    pub end_90k: u64,
    pub size_bytes: u64,
}

/// Groups of fragments in the order a box delivers them. A fragment that follows nothing and starts
/// without a key frame belongs to no group: nothing can decode it.
pub fn group(fragments: &[Fragment]) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    for fragment in fragments {
        let end_90k = fragment.decode_90k.saturating_add(fragment.duration_90k);
        let size_bytes = u64::from(fragment.plain_size);
        if fragment.starts_with_key {
            groups.push(Group {
                run: fragment.run,
                first: fragment.index,
                last: fragment.index,
                start_90k: fragment.decode_90k,
                end_90k,
                size_bytes,
            });
            continue;
        }
        if let Some(group) = groups.last_mut().filter(|g| g.run == fragment.run && g.last + 1 == fragment.index) {
            group.last = fragment.index;
            group.end_90k = end_90k.max(group.end_90k);
            group.size_bytes += size_bytes;
        }
    }
    groups.retain(|group| group.end_90k > group.start_90k && group.end_90k - group.start_90k <= LONGEST_90K);
    groups
}

/// One time line a run.
pub fn timelines(fragments: &[Fragment]) -> HashMap<RunId, Timeline> {
    let mut points: HashMap<RunId, Vec<Point>> = HashMap::new();
    for fragment in fragments {
        let point = Point { decode_90k: fragment.decode_90k, arrival: fragment.arrival };
        points.entry(fragment.run).or_default().push(point);
    }
    points.into_iter().filter_map(|(run, points)| Some((run, Timeline::fit(&points)?))).collect()
}

/// Groups that have a part in `from`..`to`, as they are listed: contiguous in media time within a run.
pub fn list(
    groups: &[Group],
    timelines: &HashMap<RunId, Timeline>,
    from: WallTime,
    to: WallTime,
) -> Vec<(Group, GroupListing)> {
    let mut listed: Vec<(Group, GroupListing)> = Vec::new();
    for (at, group) in groups.iter().enumerate() {
        let Some(line) = timelines.get(&group.run) else { continue };
        let follows = |next: &&Group| next.run == group.run && next.first == group.last + 1;
        // A rounding of the camera's clock between two groups belongs to the first.
        let next = groups.get(at + 1).filter(follows).map(|next| next.start_90k);
        let end_90k = next.filter(|n| *n > group.start_90k && n.abs_diff(group.end_90k) < HOLE_90K);
        let end_90k = end_90k.unwrap_or(group.end_90k);
        let start = line.at(group.start_90k);
        // By the time line, as decode times are: a day of a camera that is 100 ppm slow is 8.6 s of difference.
        let end = line.at(end_90k);
        let duration_us = (end - start).max(1) as u64;
        if start >= to || end <= from {
            continue;
        }
        let discontinuity = listed.last().is_some_and(|(before, _)| {
            let hole = group.start_90k.abs_diff(before.end_90k) >= HOLE_90K;
            before.run != group.run || before.last + 1 != group.first || hole
        });
        listed.push((
            *group,
            GroupListing {
                run_id: group.run.into(),
                first: group.first,
                last: group.last,
                start_us: start.0,
                duration_us,
                discontinuity,
            },
        ));
    }
    listed
}

/// Bits a second of the busiest group: what a uplink must carry (RFC 8216 section 4.3.4.2).
pub fn bandwidth_bps(listed: &[(Group, GroupListing)]) -> u64 {
    let bps = |(group, listing): &(Group, GroupListing)| {
        group.size_bytes.saturating_mul(8_000_000) / listing.duration_us.max(100_000)
    };
    listed.iter().map(bps).max().unwrap_or(0).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 90_000;

    fn fragments(run: u128, indexes: std::ops::Range<u64>, offset_us: i64) -> Vec<Fragment> {
        indexes
            .map(|index| Fragment {
                run: RunId::from_u128(run),
                index,
                starts_with_key: index % 2 == 0,
                decode_90k: index * SECOND,
                duration_90k: SECOND - 3,
                arrival: WallTime(offset_us + index as i64 * 1_000_000),
                plain_size: 1_000,
            })
            .collect()
    }

    fn all(fragments: &[Fragment]) -> Vec<GroupListing> {
        let listed = list(&group(fragments), &timelines(fragments), WallTime(i64::MIN), WallTime(i64::MAX));
        listed.into_iter().map(|(_, listing)| listing).collect()
    }

    #[test]
    fn groups_join_without_a_seam() {
        let listed = all(&fragments(1, 0..6, 0));
        assert_eq!(listed.iter().map(|g| (g.first, g.last)).collect::<Vec<_>>(), [(0, 1), (2, 3), (4, 5)]);
        assert!(listed.windows(2).all(|w| w[0].start_us + w[0].duration_us as i64 == w[1].start_us));
        assert!(listed.iter().all(|g| !g.discontinuity));
    }

    #[test]
    fn a_loss_and_a_run_are_discontinuities_and_orphans_are_left_out() {
        let mut lossy = fragments(1, 0..4, 0);
        lossy.extend(fragments(1, 5..8, 0));
        lossy.extend(fragments(2, 0..2, 20_000_000));
        let listed = all(&lossy);
        let seen: Vec<_> = listed.iter().map(|g| (g.first, g.last, g.discontinuity)).collect();
        assert_eq!(seen, [(0, 1, false), (2, 3, false), (6, 7, true), (0, 1, true)]);
    }

    #[test]
    fn an_interval_takes_whole_groups_and_is_half_open() {
        let fragments = fragments(1, 0..10, 0);
        let (groups, lines) = (group(&fragments), timelines(&fragments));
        let of = |from, to| {
            let listed = list(&groups, &lines, WallTime(from), WallTime(to));
            listed.iter().map(|(g, _)| g.first).collect::<Vec<_>>()
        };
        assert_eq!(of(3_000_000, 6_000_000), [2, 4]);
        assert_eq!(of(4_000_000, 6_000_001), [4, 6]);
    }
}
