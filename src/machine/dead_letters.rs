//! What dead letters say of themselves, beside the slots of their channel, and what became of those
//! that are not there any more.
//!
//! A letter is kept until somebody replays or drops it, whoever has read it. Only where there are
//! more than a channel may keep the oldest are pushed out, and counted.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::fact::{self, Kind, Sum};
use super::shared;
use super::slot::Tally;
#[cfg(not(test))]
use crate::types::limits::{DEAD_LETTER_BYTES_MAX, DEAD_LETTERS_MAX};
use crate::types::{ChannelId, Name, Property, ProxyId, Qos, Seq};

/// Few, so that tests get there.
#[cfg(test)]
const DEAD_LETTERS_MAX: u64 = 10;
#[cfg(test)]
const DEAD_LETTER_BYTES_MAX: u64 = 150;

/// Where a dead letter came from, and why. Kept beside its slot in the dead-letter channel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadLetter {
    /// The channel it was published in.
    pub channel: ChannelId,
    /// The proxy that gave it up.
    pub proxy: ProxyId,
    pub proxy_name: Name,
    /// Its sequence in the origin channel.
    pub seq: Seq,
    /// Deliveries counted as facts.
    pub attempts: u32,
    /// In words, at most [`DEAD_LETTER_REASON_BYTES_MAX`](crate::types::limits::DEAD_LETTER_REASON_BYTES_MAX) bytes.
    pub reason: String,
}

impl DeadLetter {
    /// What is set for the channels of dead letters: no history, since they are kept until they are
    /// replayed or dropped.
    pub(super) fn qos() -> Qos {
        Qos::from([(Property::HistoryEvents, 0), (Property::HistoryBytes, 0)])
    }
}

/// What became of letters that are not in their channel any more.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LetterCounts {
    /// Went back to the channel they came from.
    pub replayed: u64,
    /// Somebody gave them up.
    pub dropped: u64,
    /// Were the oldest when there were more than a channel may keep.
    pub pushed_out: u64,
    /// Their bytes were lost with a majority of the nodes.
    pub lost: u64,
}

impl LetterCounts {
    /// All of them.
    pub fn total(&self) -> u64 {
        let LetterCounts { replayed, dropped, pushed_out, lost } = *self;
        replayed.saturating_add(dropped).saturating_add(pushed_out).saturating_add(lost)
    }
}

/// The dead letters of one channel.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct DeadLetters {
    channel: ChannelId,
    #[serde(with = "shared")]
    letters: BTreeMap<Seq, Arc<DeadLetter>>,
    pub counts: LetterCounts,
    #[serde(skip)]
    sum: Sum,
}

impl DeadLetters {
    pub fn new(channel: ChannelId) -> DeadLetters {
        let (letters, counts) = (BTreeMap::new(), LetterCounts::default());
        DeadLetters { channel, letters, counts, sum: Sum::default() }
    }

    pub fn len(&self) -> u64 {
        self.letters.len() as u64
    }

    pub fn get(&self, seq: Seq) -> Option<&Arc<DeadLetter>> {
        self.letters.get(&seq)
    }

    /// The letters from `from` on, ascending.
    pub fn iter_from(&self, from: Seq) -> impl Iterator<Item = (Seq, &DeadLetter)> {
        self.letters.range(from..).map(|(seq, letter)| (*seq, &**letter))
    }

    pub fn insert(&mut self, seq: Seq, letter: DeadLetter) {
        self.sum.add(self.fact(seq, &letter));
        self.letters.insert(seq, Arc::new(letter));
    }

    pub fn remove(&mut self, seq: Seq) {
        if let Some(letter) = self.letters.remove(&seq) {
            self.sum.remove(self.fact(seq, &letter));
        }
    }

    /// How many of the oldest there are too many; `sizes` has those of all, oldest first. The newest
    /// is always kept.
    pub fn excess(&self, mut kept: Tally, sizes: impl Iterator<Item = u32>) -> usize {
        let too_many = |size: &u32| {
            let over = kept.events > DEAD_LETTERS_MAX || kept.bytes > DEAD_LETTER_BYTES_MAX;
            kept.remove(*size);
            over && kept.events > 0
        };
        sizes.take_while(too_many).count()
    }

    fn fact(&self, seq: Seq, letter: &DeadLetter) -> u64 {
        fact::of_value(Kind::DeadLetter, &(self.channel, seq, letter))
    }

    /// Hash of all facts, from the kept sum.
    pub fn hash(&self) -> u64 {
        let LetterCounts { replayed, dropped, pushed_out, lost } = self.counts;
        let counts = [self.channel.0, replayed, dropped, pushed_out, lost];
        self.sum.value().wrapping_add(fact::of_words(Kind::LetterCounts, counts))
    }

    /// Whether decoded letters can be those of a channel whose next event has this sequence.
    pub fn is_sound(&self, channel: ChannelId, next: Seq) -> bool {
        let within = |(seq, _): (&Seq, _)| *seq < next;
        self.channel == channel
            && !self.letters.contains_key(&0)
            && self.letters.last_key_value().is_none_or(within)
    }

    /// Computes the kept sum anew, as after decoding.
    pub fn resum(&mut self) {
        self.sum = self.letters.iter().map(|(seq, letter)| self.fact(*seq, letter)).collect();
    }
}
