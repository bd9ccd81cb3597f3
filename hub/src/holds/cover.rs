//! Which fragments a hold covers: pure.
//!
//! A fragment with a part in the interval is covered; so are those before the first of them back to its key frame,
//! without which no player shows it. Behind the interval's end nothing is.

use crate::media::groups::Fragment;
use campanile_proto::time::WallTime;

/// Whether each of these is covered, of one stream in the order of a box.
pub fn covered(fragments: &[Fragment], from: WallTime, to: WallTime) -> Vec<bool> {
    let mut covered = vec![false; fragments.len()];
    // The first fragment of the present group that is not covered for itself.
    let mut lead: Option<usize> = None;
    for (at, fragment) in fragments.iter().enumerate() {
        let before = at.checked_sub(1).and_then(|before| fragments.get(before));
        let follows = before.is_some_and(|b| b.run == fragment.run && b.index + 1 == fragment.index);
        if fragment.starts_with_key {
            lead = Some(at);
        } else if !follows {
            lead = None;
        }
        if fragment.arrival < to && end(fragment) > from {
            covered[lead.unwrap_or(at)..=at].fill(true);
            lead = None;
        }
    }
    covered
}

/// When its last picture ends.
pub fn end(fragment: &Fragment) -> WallTime {
    let duration_us = i64::try_from(fragment.duration_90k.saturating_mul(100) / 9).unwrap_or(i64::MAX);
    fragment.arrival.plus_micros(duration_us)
}

#[cfg(test)]
mod tests {
    use super::*;
    use campanile_proto::ids::RunId;
    use proptest::prelude::*;

    const SECOND: i64 = 1_000_000;

    fn run(number: u128, seconds: std::ops::Range<i64>, gop: i64) -> Vec<Fragment> {
        let one = |n: i64| Fragment {
            run: RunId::from_u128(number),
            index: n as u64,
            starts_with_key: n % gop == 0,
            decode_90k: n as u64 * 90_000,
            duration_90k: 90_000,
            arrival: WallTime(n * SECOND),
            plain_size: 1,
        };
        seconds.map(one).collect()
    }

    fn indexes(fragments: &[Fragment], from: i64, to: i64) -> Vec<u64> {
        let covered = covered(fragments, WallTime(from), WallTime(to));
        fragments.iter().zip(covered).filter(|(_, c)| *c).map(|(f, _)| f.index).collect()
    }

    #[test]
    fn a_hold_begins_at_the_key_frame_and_ends_with_its_last_second() {
        assert_eq!(indexes(&run(1, 0..20, 4), 6 * SECOND + 1, 10 * SECOND), [4, 5, 6, 7, 8, 9]);
        assert_eq!(indexes(&run(1, 0..20, 4), 8 * SECOND, 9 * SECOND), [8]);
    }

    #[test]
    fn what_follows_nothing_is_covered_for_itself() {
        let mut fragments = run(1, 0..4, 4);
        fragments.extend(run(1, 6..8, 4));
        assert_eq!(indexes(&fragments, 7 * SECOND, 8 * SECOND), [7]);
        let mut fragments = run(1, 0..3, 4);
        fragments.extend(run(2, 3..5, 8));
        assert_eq!(indexes(&fragments, 4 * SECOND, 5 * SECOND), [4]);
    }

    proptest! {
        #[test]
        fn every_second_of_the_interval_is_covered_and_none_behind_it(
            from in 0i64..60_000_000, length in 1i64..30_000_000, gop in 1i64..12,
        ) {
            let (fragments, to) = (run(1, 0..60, gop), from + length);
            let covered = covered(&fragments, WallTime(from), WallTime(to));
            for (fragment, covered) in fragments.iter().zip(covered) {
                let touches = fragment.arrival.0 < to && end(fragment).0 > from;
                prop_assert!(!touches || covered);
                prop_assert!(!covered || fragment.arrival.0 < to);
                // Never more than the group that the interval begins in.
                prop_assert!(!covered || fragment.arrival.0 > from - gop * SECOND);
            }
        }
    }
}
