//! Sets of sequences as sorted, disjoint, non-adjacent ranges.

use serde::{Deserialize, Serialize};

use super::Seq;

/// `first..=last`, never empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SeqRange {
    pub first: Seq,
    pub last: Seq,
}

impl SeqRange {
    /// The range holding `seq` alone.
    pub fn one(seq: Seq) -> SeqRange {
        SeqRange { first: seq, last: seq }
    }

    /// How many sequences it holds; saturates at `u64::MAX`. An inverted range (untrusted input)
    /// counts as empty.
    pub fn len(&self) -> u64 {
        if self.is_empty() { 0 } else { (self.last - self.first).saturating_add(1) }
    }

    /// True for an inverted range, which only untrusted input can hold.
    pub fn is_empty(&self) -> bool {
        self.last < self.first
    }
}

/// A set of sequences, built in any order, cheapest when built ascending.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeqRanges(Vec<SeqRange>);

impl SeqRanges {
    /// The empty set.
    pub fn new() -> SeqRanges {
        SeqRanges::default()
    }

    /// Adds one sequence.
    pub fn insert(&mut self, seq: Seq) {
        self.insert_range(SeqRange::one(seq));
    }

    /// Adds every sequence of `range`, merging with neighbours. Empty ranges are ignored.
    pub fn insert_range(&mut self, range: SeqRange) {
        if range.is_empty() {
            return;
        }
        // Ranges that touch or overlap the new one are those in `start..end`.
        let start = self.0.partition_point(|r| r.last.saturating_add(1) < range.first);
        let end = self.0.partition_point(|r| r.first <= range.last.saturating_add(1));
        let merged = self.0[start..end]
            .iter()
            .fold(range, |m, r| SeqRange { first: m.first.min(r.first), last: m.last.max(r.last) });
        self.0.splice(start..end, [merged]);
    }

    /// The ranges, ascending.
    pub fn iter(&self) -> impl Iterator<Item = SeqRange> + '_ {
        self.0.iter().copied()
    }

    /// Whether `seq` is in the set.
    pub fn contains(&self, seq: Seq) -> bool {
        let i = self.0.partition_point(|r| r.last < seq);
        self.0.get(i).is_some_and(|r| r.first <= seq)
    }

    /// Number of sequences in the set.
    pub fn count(&self) -> u64 {
        self.0.iter().fold(0, |n, r| n.saturating_add(r.len()))
    }

    /// Number of ranges.
    pub fn range_count(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromIterator<Seq> for SeqRanges {
    fn from_iter<I: IntoIterator<Item = Seq>>(seqs: I) -> SeqRanges {
        let mut ranges = SeqRanges::new();
        seqs.into_iter().for_each(|seq| ranges.insert(seq));
        ranges
    }
}

impl FromIterator<SeqRange> for SeqRanges {
    fn from_iter<I: IntoIterator<Item = SeqRange>>(items: I) -> SeqRanges {
        let mut ranges = SeqRanges::new();
        items.into_iter().for_each(|range| ranges.insert_range(range));
        ranges
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    use super::*;

    proptest! {
        #[test]
        fn behaves_like_a_set(items in prop::collection::vec((0u64..200, 0u64..8), 0..60)) {
            let mut ranges = SeqRanges::new();
            let mut model = BTreeSet::new();
            for (first, len) in items {
                ranges.insert_range(SeqRange { first, last: first + len });
                model.extend(first..=first + len);
            }
            prop_assert_eq!(ranges.count(), model.len() as u64);
            prop_assert!((0..220).all(|s| ranges.contains(s) == model.contains(&s)));
            let flat: Vec<_> = ranges.iter().collect();
            prop_assert!(flat.windows(2).all(|w| w[0].last + 1 < w[1].first));
        }
    }
}
