//! What dead letters say of themselves, beside the slots of their channel.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::fact::{self, Kind, Sum};
use crate::types::{ChannelId, Name, ProxyId, Seq};

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

/// The dead letters of one channel.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct DeadLetters {
    channel: ChannelId,
    letters: BTreeMap<Seq, DeadLetter>,
    #[serde(skip)]
    sum: Sum,
}

impl DeadLetters {
    pub fn new(channel: ChannelId) -> DeadLetters {
        DeadLetters { channel, letters: BTreeMap::new(), sum: Sum::default() }
    }

    /// The channel they lie in.
    pub fn channel(&self) -> ChannelId {
        self.channel
    }

    pub fn get(&self, seq: Seq) -> Option<&DeadLetter> {
        self.letters.get(&seq)
    }

    pub fn insert(&mut self, seq: Seq, letter: DeadLetter) {
        self.sum.add(self.fact(seq, &letter));
        self.letters.insert(seq, letter);
    }

    /// Forgets the letters before `first`.
    pub fn forget_below(&mut self, first: Seq) {
        while let Some((seq, letter)) = self.letters.first_key_value()
            && *seq < first
        {
            self.sum.remove(self.fact(*seq, letter));
            self.letters.pop_first();
        }
    }

    fn fact(&self, seq: Seq, letter: &DeadLetter) -> u64 {
        fact::of_value(Kind::DeadLetter, &(self.channel, seq, letter))
    }

    /// Hash of all facts, from the kept sum.
    pub fn hash(&self) -> u64 {
        self.sum.value()
    }

    /// Computes the kept sum anew, as after decoding.
    pub fn resum(&mut self) {
        self.sum = self.letters.iter().map(|(seq, letter)| self.fact(*seq, letter)).collect();
    }
}
