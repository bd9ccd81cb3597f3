//! Sets of sequence numbers as ranges: what is acknowledged.

use campanile_proto::edge::v1::SequenceRange;
use std::collections::BTreeMap;

/// Disjoint ranges that do not touch, first to last, inclusive.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Ranges(BTreeMap<u64, u64>);

impl Ranges {
    /// Answers what changed: starts of ranges that were joined, and the range they became.
    pub fn insert(&mut self, first: u64, last: u64) -> (Vec<u64>, (u64, u64)) {
        let (mut first, mut last) = (first, last.max(first));
        let touching: Vec<u64> = self
            .0
            .range(..=last.saturating_add(1))
            .rev()
            .take_while(|&(_, &end)| end.saturating_add(1) >= first)
            .map(|(&start, _)| start)
            .collect();
        for start in &touching {
            if let Some(end) = self.0.remove(start) {
                first = first.min(*start);
                last = last.max(end);
            }
        }
        self.0.insert(first, last);
        (touching, (first, last))
    }

    pub fn contains(&self, sequence: u64) -> bool {
        self.0.range(..=sequence).next_back().is_some_and(|(_, &last)| sequence <= last)
    }

    pub fn highest(&self) -> Option<u64> {
        self.0.last_key_value().map(|(_, &last)| last)
    }

    pub fn iter(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.0.iter().map(|(&first, &last)| (first, last))
    }

    pub fn wire(&self) -> Vec<SequenceRange> {
        self.iter().map(|(first, last)| SequenceRange { first, last }).collect()
    }

    /// The last `count` ranges.
    pub fn newest(&self, count: usize) -> Vec<SequenceRange> {
        let range = |(&first, &last): (&u64, &u64)| SequenceRange { first, last };
        let mut newest: Vec<_> = self.0.iter().rev().take(count).map(range).collect();
        newest.reverse();
        newest
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromIterator<u64> for Ranges {
    fn from_iter<I: IntoIterator<Item = u64>>(sequences: I) -> Self {
        let mut ranges = Self::default();
        sequences.into_iter().for_each(|sequence| drop(ranges.insert(sequence, sequence)));
        ranges
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn holds_exactly_what_was_put_in(spans in proptest::collection::vec((0u64..200, 0u64..9), 0..40)) {
            let (mut ranges, mut model) = (Ranges::default(), BTreeSet::new());
            for (first, length) in spans {
                ranges.insert(first, first + length);
                model.extend(first..=first + length);
            }
            for sequence in 0..220 {
                prop_assert_eq!(ranges.contains(sequence), model.contains(&sequence));
            }
            let listed: Vec<_> = ranges.iter().collect();
            prop_assert!(listed.windows(2).all(|pair| pair[0].1 + 1 < pair[1].0));
            prop_assert_eq!(ranges.highest(), model.last().copied());
        }
    }
}
