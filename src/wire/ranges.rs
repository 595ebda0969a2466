//! Sets of sequences on the wire: for each range the distance from the one before and its length
//! less one. Small, and sorted and disjoint whatever the bytes are.
//!
//! For use as `#[serde(with = "super::ranges")]`.

use serde::de::{Error, SeqAccess, Visitor};
use serde::ser::SerializeSeq;
use serde::{Deserializer, Serializer};

use crate::types::{SeqRange, SeqRanges};

/// Distance from the end of one range to the start of the next: at least this, or they would be
/// one range.
const STEP: u64 = 2;

pub fn serialize<S: Serializer>(ranges: &SeqRanges, out: S) -> Result<S::Ok, S::Error> {
    let mut seq = out.serialize_seq(Some(ranges.range_count()))?;
    let mut base = 0;
    for range in ranges.iter() {
        seq.serialize_element(&(range.first - base, range.last - range.first))?;
        base = range.last.saturating_add(STEP);
    }
    seq.end()
}

pub fn deserialize<'de, D: Deserializer<'de>>(input: D) -> Result<SeqRanges, D::Error> {
    input.deserialize_seq(Ranges)
}

struct Ranges;

impl<'de> Visitor<'de> for Ranges {
    type Value = SeqRanges;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ranges as distance and length")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<SeqRanges, A::Error> {
        let mut ranges = SeqRanges::new();
        let mut base = Some(0u64);
        while let Some((gap, more)) = seq.next_element::<(u64, u64)>()? {
            let range = base
                .and_then(|base| base.checked_add(gap))
                .and_then(|first| Some(SeqRange { first, last: first.checked_add(more)? }))
                .ok_or_else(|| A::Error::custom("a sequence beyond 2^64"))?;
            ranges.insert_range(range);
            base = range.last.checked_add(STEP);
        }
        Ok(ranges)
    }
}
