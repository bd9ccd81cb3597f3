use super::*;
use crate::media::groups::{self, Fragment};
use campanile_proto::federation::v1::VariantListing;
use campanile_proto::ids::RunId;
use campanile_proto::time::WallTime;
use proptest::prelude::*;

const SECOND: i64 = 1_000_000;

fn group(run: u128, first: u64, start: i64, seconds: i64, discontinuity: bool) -> GroupListing {
    GroupListing {
        run_id: RunId::from_u128(run).into(),
        first,
        last: first,
        start_us: start * SECOND,
        duration_us: (seconds * SECOND) as u64,
        discontinuity,
    }
}

fn listing(main: Vec<GroupListing>, sub: Vec<GroupListing>) -> Listing {
    let variant = |stream: Stream, groups| VariantListing { stream: stream.into(), groups, ..Default::default() };
    Listing { variants: vec![variant(Stream::Main, main), variant(Stream::Sub, sub)], ..Listing::default() }
}

/// Per entry: seconds, whether a break lies before it, and whose it is.
fn said(listing: &Listing, stream: Stream) -> Vec<(i64, bool, Whose)> {
    let whose = |what: &What| match what {
        What::Own(_) => Own,
        What::Borrowed(..) => Borrowed,
        What::Nothing => Nothing,
    };
    let axis = Axis::of(listing);
    let entries = axis.track(stream).unwrap().iter();
    entries.map(|e| (e.duration_us / SECOND, e.discontinuity, whose(&e.what))).collect()
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Whose {
    Own,
    Borrowed,
    Nothing,
}
use Whose::{Borrowed, Nothing, Own};

#[test]
fn a_box_that_was_off_breaks_both_streams_once_and_the_time_is_left_out() {
    let main = vec![group(1, 0, 0, 2, false), group(1, 1, 2, 2, false), group(2, 0, 60, 2, true)];
    let sub = vec![group(3, 0, 0, 3, false), group(4, 0, 61, 3, true)];
    let listing = listing(main, sub);
    assert_eq!(said(&listing, Stream::Main), [(2, false, Own), (2, false, Own), (2, true, Own)]);
    assert_eq!(said(&listing, Stream::Sub), [(3, false, Own), (3, true, Own)]);
    let sections = Axis::of(&listing).sections;
    let sections: Vec<_> = sections.iter().map(|s| [s.start_us, s.end_us, s.at_us].map(|t| t / SECOND)).collect();
    assert_eq!(sections, [[0, 4, 0], [60, 64, 4]]);
}

#[test]
fn what_only_one_stream_recorded_is_borrowed_by_the_other_group_for_group() {
    let main = vec![group(1, 0, 0, 2, false), group(2, 0, 10, 2, true)];
    let sub = (0..7).map(|n| group(3, n, n as i64 * 2, 2, false)).collect();
    let listing = listing(main, sub);
    let borrowed = |broken| (2, broken, Borrowed);
    let middle = [borrowed(true), borrowed(false), borrowed(false), borrowed(false)];
    let main = [vec![(2, false, Own)], middle.to_vec(), vec![(2, true, Own), borrowed(false)]].concat();
    assert_eq!(said(&listing, Stream::Main)[..6], main[..6]);
    let sub = said(&listing, Stream::Sub);
    assert!(sub.iter().all(|(_, _, whose)| *whose == Own));
    let breaks = |of: &[(i64, bool, Whose)]| of.iter().map(|(_, broken, _)| *broken).collect::<Vec<_>>();
    assert_eq!(breaks(&sub)[..6], breaks(&main)[..6]);
    let streams: Vec<_> = Axis::of(&listing).sections.into_iter().map(|section| section.streams).collect();
    assert_eq!(streams, [vec![Stream::Main, Stream::Sub], vec![Stream::Sub], vec![Stream::Main, Stream::Sub]]);
}

#[test]
fn a_stream_that_begins_later_borrows_until_then() {
    let main = (0..10).map(|n| group(1, n, n as i64 * 2, 2, false)).collect();
    let listing = listing(main, vec![group(3, 0, 12, 2, false), group(3, 1, 14, 6, false)]);
    let sub = said(&listing, Stream::Sub);
    assert_eq!(sub[..6], [(2, false, Borrowed); 6]);
    assert_eq!(sub[6..], [(2, true, Own), (6, false, Own)]);
}

#[test]
fn what_neither_recorded_is_left_out_though_each_broke_at_another_time() {
    let main = vec![group(1, 0, 0, 2, false), group(2, 0, 100, 2, true)];
    let sub = vec![group(3, 0, 50, 2, false), group(4, 0, 200, 2, true)];
    let listing = listing(main, sub);
    let sections = Axis::of(&listing).sections;
    let at: Vec<_> = sections.iter().map(|s| [s.start_us, s.at_us].map(|t| t / SECOND)).collect();
    assert_eq!(at, [[0, 0], [50, 2], [100, 4], [200, 6]]);
    let main = [(2, false, Own), (2, true, Borrowed), (2, true, Own), (2, true, Borrowed)];
    assert_eq!(said(&listing, Stream::Main), main);
    let sub = [(2, false, Borrowed), (2, true, Own), (2, true, Borrowed), (2, true, Own)];
    assert_eq!(said(&listing, Stream::Sub), sub);
}

#[test]
fn a_stream_that_never_came_back_borrows_to_the_end_and_a_group_longer_than_it_is_told_in_part() {
    let sub = (0..10).map(|n| group(3, n, n as i64 * 2, 2, false)).collect();
    let main = said(&listing(vec![group(1, 0, 0, 3, false)], sub), Stream::Main);
    assert_eq!(main[..2], [(3, false, Own), (2, true, Borrowed)]);
    assert_eq!(main.len(), 9);
    let long = said(&listing(vec![group(1, 0, 0, 2, false)], vec![group(3, 0, 0, 26, false)]), Stream::Main);
    assert_eq!(long, [(2, false, Own), (8, false, Nothing), (8, false, Nothing), (8, false, Nothing)]);
}

#[test]
fn streams_that_end_a_group_apart_do_not_break_at_the_end() {
    let main = (0..5).map(|n| group(1, n, n as i64 * 2, 2, false)).collect();
    let sub = (0..12).map(|n| group(3, n, n as i64, 1, false)).collect();
    let listing = listing(main, sub);
    assert_eq!(Axis::of(&listing).sections.len(), 1);
    assert_eq!(said(&listing, Stream::Main).len(), 5);
}

#[test]
fn breaks_of_one_stream_shorter_than_a_group_of_the_other_hold_their_place() {
    let main =
        vec![group(1, 0, 0, 1, false), group(2, 0, 1, 1, true), group(3, 0, 2, 1, true), group(3, 1, 3, 3, false)];
    let listing = listing(main, vec![group(4, 0, 0, 6, false)]);
    let count = |stream| said(&listing, stream).iter().filter(|(_, broken, _)| *broken).count();
    assert_eq!((count(Stream::Main), count(Stream::Sub)), (2, 2));
}

#[test]
fn a_clock_set_back_between_two_runs_leaves_no_time_twice_and_says_what_it_believed() {
    let of = |run: u128| {
        let before = (0..10).map(move |n| group(run, n, 100 + n as i64 * 2, 2, false));
        before.chain((0..10).map(move |n| group(run + 1, n, 90 + n as i64 * 2, 2, n == 0))).collect::<Vec<_>>()
    };
    let listing = listing(of(1), of(3));
    let sections = Axis::of(&listing).sections;
    let sections: Vec<_> = sections.iter().map(|s| [s.start_us, s.at_us].map(|t| t / SECOND)).collect();
    assert_eq!(sections, [[100, 0], [90, 20]]);
    assert_eq!(said(&listing, Stream::Main).len(), 20);
}

#[test]
fn a_partner_that_lists_groups_without_end_gets_an_axis_of_two_days() {
    let main = (0..100).map(|n| GroupListing { duration_us: u64::MAX, ..group(1, n, i64::MAX / SECOND, 1, true) });
    let sub = [GroupListing { start_us: i64::MIN, ..group(3, 0, 0, 1, false) }];
    let listing = listing(main.collect(), sub.to_vec());
    let axis = Axis::of(&listing);
    for stream in [Stream::Main, Stream::Sub] {
        let entries = axis.track(stream).unwrap();
        assert!(entries.len() < 40_000 && entries.iter().map(|e| e.duration_us).sum::<i64>() < 2 * MOST_US);
    }
}

/// What may happen to a stream, one fragment after the other.
#[derive(Debug, Clone, Copy)]
enum Next {
    Goes {
        key: bool,
    },
    Lost,
    /// A new run, this long after.
    Anew {
        after_us: i64,
    },
}

fn next() -> impl Strategy<Value = Next> {
    prop_oneof![
        20 => any::<bool>().prop_map(|key| Next::Goes { key }),
        1 => Just(Next::Lost),
        2 => (-20 * SECOND..120 * SECOND).prop_map(|after_us| Next::Anew { after_us }),
    ]
}

fn fragments(stream: u128, steps: &[Next]) -> Vec<Fragment> {
    let (mut run, mut index, mut decode_90k, mut arrival) = (stream << 64, 0, 0, 0);
    let mut all = Vec::new();
    for step in steps {
        let starts_with_key = match *step {
            Next::Goes { key } => key || index == 0,
            Next::Lost => {
                (index, decode_90k, arrival) = (index + 1, decode_90k + 90_000, arrival + SECOND);
                continue;
            }
            Next::Anew { after_us } => {
                (run, index, decode_90k, arrival) = (run + 1, 0, 0, arrival + after_us);
                continue;
            }
        };
        all.push(Fragment {
            run: RunId::from_u128(run),
            index,
            starts_with_key,
            decode_90k,
            duration_90k: 90_000,
            arrival: WallTime(arrival),
            plain_size: 1_000,
        });
        (index, decode_90k, arrival) = (index + 1, decode_90k + 90_000, arrival + SECOND);
    }
    all
}

fn listed(fragments: &[Fragment]) -> Vec<GroupListing> {
    let lines = groups::timelines(fragments);
    let listed = groups::list(&groups::group(fragments), &lines, WallTime(i64::MIN), WallTime(i64::MAX));
    listed.into_iter().map(|(_, group)| group).collect()
}

proptest! {
    #[test]
    fn both_playlists_break_together_and_say_the_same_of_every_instant(
        main in proptest::collection::vec(next(), 1..120),
        sub in proptest::collection::vec(next(), 1..120),
    ) {
        let listing = listing(listed(&fragments(1, &main)), listed(&fragments(2, &sub)));
        let axis = Axis::of(&listing);
        let zero_us = listing.variants.iter().flat_map(|v| &v.groups).map(|g| g.start_us).min().unwrap_or(0);
        let lanes: Vec<_> = listing.variants.iter()
            .map(|variant| Lane { stream: variant.stream(), groups: placed(&variant.groups, zero_us) }).collect();
        let recorded = Recorded::of(&lanes);
        let sections = sections(&lanes, &recorded, zero_us);
        for (variant, lane) in listing.variants.iter().zip(&lanes) {
            let entries = axis.track(variant.stream()).unwrap();
            let breaks = entries.iter().filter(|entry| entry.discontinuity).count();
            prop_assert_eq!(breaks, axis.sections.len().saturating_sub(1));
            let places = PLACE_US * entries.len() as i64;
            let (mut section, mut sum_us, mut placed, mut shown) = (0, 0, lane.groups.iter(), Vec::new());
            let mut before: Option<&What> = None;
            for entry in entries {
                prop_assert!(entry.duration_us > 0);
                section += usize::from(entry.discontinuity);
                // Something of another run, or behind a hole, begins with a break.
                let follows = match (before, &entry.what) {
                    (Some(What::Own(a)), What::Own(b)) => a.run_id == b.run_id && !b.discontinuity,
                    (Some(What::Borrowed(_, a)), What::Borrowed(_, b)) => a.run_id == b.run_id && !b.discontinuity,
                    (_, What::Nothing) | (None | Some(What::Nothing), _) => true,
                    _ => false,
                };
                prop_assert!(follows || entry.discontinuity, "{:?} {:?}", before, entry);
                before = Some(&entry.what);
                if let What::Own(group) = &entry.what {
                    shown.push(group);
                    // The same instant has the same number of breaks before it, and the same sum of durations.
                    let placed = placed.next().unwrap();
                    prop_assert_eq!(section, sections.partition_point(|s| s.start_us <= placed.start_us) - 1);
                    let behind_us = recorded.at(placed.start_us) - sum_us;
                    prop_assert!((-places..=UNALIGNED_US).contains(&behind_us), "{} us behind", behind_us);
                }
                if let What::Borrowed(of, group) = &entry.what {
                    let other = lanes.iter().find(|lane| lane.stream == *of).unwrap();
                    let there = other.groups.iter().find(|there| there.group == group).unwrap();
                    let is_own = |own: &&Placed<'_>| own.start_us < there.end_us && there.start_us < own.end_us;
                    let overlap = |own: &Placed<'_>| own.end_us.min(there.start_us + entry.duration_us) - own.start_us.max(there.start_us);
                    let twice: i64 = lane.groups.iter().filter(is_own).map(overlap).sum();
                    prop_assert!(twice <= UNALIGNED_US, "recorded itself for {} us", twice);
                }
                sum_us += entry.duration_us;
            }
            // Every group once and in order.
            prop_assert_eq!(shown, variant.groups.iter().collect::<Vec<_>>());
            let whole = sections.last().map_or(0, |last| recorded.at(last.end_us));
            prop_assert!((whole - sum_us).abs() <= UNALIGNED_US + places, "{} of {}", sum_us, whole);
        }
    }
}
