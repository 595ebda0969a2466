//! A large set of sequences, compressed.

use roaring::RoaringTreemap;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser};

use crate::types::{Seq, SeqRange};

/// A set of sequences that stays small whatever its shape.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct SeqSet(RoaringTreemap);

impl SeqSet {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many sequences it holds.
    pub fn len(&self) -> u64 {
        self.0.len()
    }

    pub fn contains(&self, seq: Seq) -> bool {
        self.0.contains(seq)
    }

    pub fn insert(&mut self, range: SeqRange) {
        if range.first == range.last {
            self.0.insert(range.first);
        } else {
            self.0.insert_range(range.first..=range.last);
        }
    }

    pub fn remove(&mut self, range: SeqRange) {
        if range.first == range.last {
            self.0.remove(range.first);
        } else {
            self.0.remove_range(range.first..=range.last);
        }
    }

    /// Whether a member is in `range`.
    pub fn intersects(&self, range: SeqRange) -> bool {
        let before = range.first.checked_sub(1).map_or(0, |before| self.0.rank(before));
        self.0.rank(range.last) > before
    }

    /// Whether every member is in `other`.
    pub fn is_subset(&self, other: &SeqSet) -> bool {
        self.0.is_subset(&other.0)
    }

    /// Whether no member is in `other`.
    pub fn is_disjoint(&self, other: &SeqSet) -> bool {
        self.0.is_disjoint(&other.0)
    }

    /// The first run of consecutive members whose last is at or after `from`, cut to begin there.
    pub fn run_from(&self, from: Seq) -> Option<SeqRange> {
        let mut run: Option<SeqRange> = None;
        for (high, bitmap) in self.0.bitmaps() {
            let base = u64::from(high) << 32;
            if base + u64::from(u32::MAX) < from {
                continue;
            }
            let mut members = bitmap.iter();
            members.advance_to(from.saturating_sub(base) as u32);
            let Some(low) = members.next_range() else { continue };
            let part = SeqRange {
                first: base + u64::from(*low.start()),
                last: base + u64::from(*low.end()),
            };
            run = match run {
                Some(run) if run.last + 1 != part.first => return Some(run),
                Some(run) => Some(SeqRange { first: run.first, last: part.last }),
                None => Some(part),
            };
            if *low.end() != u32::MAX {
                return run;
            }
        }
        run
    }
}

impl Serialize for SeqSet {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut bytes = Vec::with_capacity(self.0.serialized_size());
        self.0.serialize_into(&mut bytes).map_err(ser::Error::custom)?;
        serializer.serialize_bytes(&bytes)
    }
}

impl<'de> Deserialize<'de> for SeqSet {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<SeqSet, D::Error> {
        let bytes = bytes::Bytes::deserialize(deserializer)?;
        RoaringTreemap::deserialize_from(&bytes[..]).map(SeqSet).map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_cross_the_32_bit_border() {
        let border = 1u64 << 32;
        let mut set = SeqSet::default();
        set.insert(SeqRange { first: 5, last: 9 });
        set.insert(SeqRange { first: border - 2, last: border + 3 });
        set.insert(SeqRange::one(border + 9));
        for (from, run) in [
            (0, Some((5, 9))),
            (7, Some((7, 9))),
            (10, Some((border - 2, border + 3))),
            (border - 1, Some((border - 1, border + 3))),
            (border + 1, Some((border + 1, border + 3))),
            (border + 4, Some((border + 9, border + 9))),
            (border + 10, None),
        ] {
            let expected = run.map(|(first, last)| SeqRange { first, last });
            assert_eq!(set.run_from(from), expected, "from {from}");
        }
    }
}
