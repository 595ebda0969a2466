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

/// Ranges that are handled one by one.
const FEW: usize = 4;

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
        // Most sets are built ascending.
        match self.0.last_mut() {
            Some(last) if range.first > last.last.saturating_add(1) => return self.0.push(range),
            Some(last) if range.first > last.last => {
                last.last = range.last;
                return;
            }
            None => return self.0.push(range),
            Some(_) => {}
        }
        // Ranges that touch or overlap the new one are those in `start..end`.
        let start = self.0.partition_point(|r| r.last.saturating_add(1) < range.first);
        let end = self.0.partition_point(|r| r.first <= range.last.saturating_add(1));
        let merged = self.0[start..end]
            .iter()
            .fold(range, |m, r| SeqRange { first: m.first.min(r.first), last: m.last.max(r.last) });
        self.0.splice(start..end, [merged]);
    }

    /// Takes every sequence of `range` out.
    pub fn remove_range(&mut self, range: SeqRange) {
        if range.is_empty() {
            return;
        }
        let start = self.0.partition_point(|r| r.last < range.first);
        let end = self.0.partition_point(|r| r.first <= range.last);
        if start >= end {
            return;
        }
        let (head, tail) = (self.0[start].first, self.0[end - 1].last);
        let before = SeqRange { first: head, last: range.first.saturating_sub(1) };
        let after = SeqRange { first: range.last.saturating_add(1), last: tail };
        let keep_before = (head < range.first).then_some(before);
        let keep_after = (tail > range.last).then_some(after);
        self.0.splice(start..end, keep_before.into_iter().chain(keep_after));
    }

    /// Takes every sequence of `others` out, in one go through both.
    pub fn remove_all(&mut self, others: &SeqRanges) {
        // A few are taken out in place; many would move the rest about each time.
        if self.0.len().min(others.0.len()) <= FEW {
            others.iter().for_each(|range| self.remove_range(range));
            return;
        }
        let mut kept = Vec::with_capacity(self.0.len());
        let mut holes = others.0.iter().peekable();
        for range in &self.0 {
            let mut first = Some(range.first);
            while holes.next_if(|hole| hole.last < range.first).is_some() {}
            while let (Some(from), Some(hole)) = (first, holes.peek()) {
                if hole.first > range.last {
                    break;
                }
                if from < hole.first {
                    kept.push(SeqRange { first: from, last: hole.first - 1 });
                }
                first = hole.last.checked_add(1).filter(|next| *next <= range.last);
                if first.is_some() {
                    holes.next();
                }
            }
            kept.extend(first.map(|first| SeqRange { first, ..*range }));
        }
        self.0 = kept;
    }

    /// What the set has in common with `range`, ascending.
    pub fn overlap(&self, range: SeqRange) -> impl Iterator<Item = SeqRange> + '_ {
        let start = self.0.partition_point(|r| r.last < range.first);
        self.0[start..].iter().take_while(move |r| r.first <= range.last).map(move |r| SeqRange {
            first: r.first.max(range.first),
            last: r.last.min(range.last),
        })
    }

    /// The lowest sequence.
    pub fn first(&self) -> Option<Seq> {
        self.0.first().map(|r| r.first)
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
        fn many_are_removed_like_one_by_one(
            has in prop::collection::vec((0u64..300, 0u64..6), 0..60),
            goes in prop::collection::vec((0u64..300, 0u64..9), 0..60),
        ) {
            let range = |(first, len): (u64, u64)| SeqRange { first, last: first + len };
            let (mut set, goes): (SeqRanges, SeqRanges) =
                (has.into_iter().map(range).collect(), goes.into_iter().map(range).collect());
            let mut expected = set.clone();
            goes.iter().for_each(|range| expected.remove_range(range));
            set.remove_all(&goes);
            prop_assert_eq!(set, expected);
        }

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

        #[test]
        fn removes_and_overlaps_like_a_set(
            items in prop::collection::vec((0u64..200, 0u64..8, any::<bool>()), 0..60),
            window in (0u64..200, 0u64..50),
        ) {
            let mut ranges = SeqRanges::new();
            let mut model = BTreeSet::new();
            for (first, len, add) in items {
                let range = SeqRange { first, last: first + len };
                if add {
                    ranges.insert_range(range);
                    model.extend(first..=range.last);
                } else {
                    ranges.remove_range(range);
                    model.retain(|s| !(first..=range.last).contains(s));
                }
            }
            prop_assert!((0..220).all(|s| ranges.contains(s) == model.contains(&s)));
            prop_assert_eq!(ranges.first(), model.first().copied());
            let window = SeqRange { first: window.0, last: window.0 + window.1 };
            let common: Vec<_> = ranges.overlap(window).flat_map(|r| r.first..=r.last).collect();
            let expected: Vec<_> = model.range(window.first..=window.last).copied().collect();
            prop_assert_eq!(common, expected);
        }
    }
}
