//! The state hash: a sum of one hash per fact, so that it does not depend on order and can be kept
//! up to date fact by fact.

use serde::Serialize;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// What a fact is about. The numbers are part of the state hash: never change or reuse one.
#[derive(Debug, Clone, Copy)]
#[repr(u64)]
pub(super) enum Kind {
    Machine = 1,
    ChannelDefinition = 2,
    ChannelCounters = 3,
    Slot = 4,
    DeadLetter = 5,
    ProxyDefinition = 6,
    ProxyProgress = 7,
    Settled = 8,
    Attempts = 9,
    LaneDefinition = 10,
    LaneProgress = 11,
    LaneRun = 12,
    Mark = 13,
    ChannelQos = 14,
    Admin = 15,
    ProxyQos = 16,
    LetterCounts = 17,
    Hold = 18,
    EventType = 19,
    SlotType = 20,
    Seen = 21,
    Activity = 22,
}

/// Most words that a fact of numbers can have.
const WORDS_MAX: usize = 12;

/// Hash of a fact that consists of numbers.
#[inline]
pub(super) fn of_words<const N: usize>(kind: Kind, words: [u64; N]) -> u64 {
    const { assert!(N <= WORDS_MAX) };
    let mut bytes = [0u8; WORDS_MAX * 8];
    for (to, word) in bytes.chunks_exact_mut(8).zip(words) {
        to.copy_from_slice(&word.to_le_bytes());
    }
    xxh3_64_with_seed(&bytes[..N * 8], kind as u64)
}

/// Hash of a fact that has text or nested values in it.
pub(super) fn of_value<T: Serialize>(kind: Kind, value: &T) -> u64 {
    // Values of ours always serialize; a failure would be the same on every replica.
    let bytes = postcard::to_stdvec(value).unwrap_or_default();
    xxh3_64_with_seed(&bytes, kind as u64)
}

/// A sum of facts, kept while facts come and go.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Sum(u64);

impl Sum {
    pub fn add(&mut self, fact: u64) {
        self.0 = self.0.wrapping_add(fact);
    }

    pub fn remove(&mut self, fact: u64) {
        self.0 = self.0.wrapping_sub(fact);
    }

    pub fn value(self) -> u64 {
        self.0
    }
}

impl FromIterator<u64> for Sum {
    fn from_iter<I: IntoIterator<Item = u64>>(facts: I) -> Sum {
        let mut sum = Sum::default();
        facts.into_iter().for_each(|fact| sum.add(fact));
        sum
    }
}
