//! The latest events that had a dedup key: a repeat of one of them is no new event.

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};

use super::fact::{self, Kind, Sum};
use crate::types::{ChannelId, DedupKey, Seq, Stamp, limits};

/// An event with a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Seen {
    key: DedupKey,
    seq: Seq,
    accepted: Stamp,
}

/// What a channel has seen, oldest first: at most [`limits::DEDUP_KEYS_MAX`], beyond which the oldest
/// are forgotten. Those older than the channel's window count for nothing.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Dedup {
    seen: VecDeque<Seen>,
    #[serde(skip)]
    places: BTreeMap<DedupKey, (Seq, Stamp)>,
    #[serde(skip)]
    sum: Sum,
}

impl Dedup {
    /// The event that had this key within the window.
    pub fn find(&self, key: DedupKey, window_ms: u64, now: Stamp) -> Option<Seq> {
        let (seq, accepted) = *self.places.get(&key)?;
        (accepted.plus_millis(window_ms) > now).then_some(seq)
    }

    /// An event with this key was accepted; older ones are forgotten.
    pub fn remember(
        &mut self,
        channel: ChannelId,
        key: DedupKey,
        seq: Seq,
        (window_ms, now): (u64, Stamp),
    ) {
        let old = |seen: &Seen| seen.accepted.plus_millis(window_ms) <= now;
        while self.seen.len() >= limits::DEDUP_KEYS_MAX || self.seen.front().is_some_and(old) {
            let Some(gone) = self.seen.pop_front() else { break };
            self.sum.remove(seen_fact(channel, &gone));
            // It may have come again since.
            if self.places.get(&gone.key).is_some_and(|(seq, _)| *seq == gone.seq) {
                self.places.remove(&gone.key);
            }
        }
        if window_ms == 0 {
            return;
        }
        let seen = Seen { key, seq, accepted: now };
        self.sum.add(seen_fact(channel, &seen));
        self.places.insert(key, (seq, now));
        self.seen.push_back(seen);
    }

    /// Computes what follows from the facts anew.
    pub fn resum(&mut self, channel: ChannelId) {
        self.places = self.seen.iter().map(|seen| (seen.key, (seen.seq, seen.accepted))).collect();
        self.sum = self.seen.iter().map(|seen| seen_fact(channel, seen)).collect();
    }

    /// Whether decoded keys are ones that this code can have written.
    pub fn is_sound(&self, next_seq: Seq) -> bool {
        let pairs = self.seen.iter().zip(self.seen.iter().skip(1));
        self.seen.len() <= limits::DEDUP_KEYS_MAX
            && self.seen.back().is_none_or(|last| last.seq < next_seq)
            && pairs.into_iter().all(|(one, next)| one.seq < next.seq)
    }

    pub fn hash(&self) -> u64 {
        self.sum.value()
    }
}

fn seen_fact(channel: ChannelId, seen: &Seen) -> u64 {
    let (high, low) = ((seen.key.0 >> 64) as u64, seen.key.0 as u64);
    fact::of_words(Kind::Seen, [channel.0, high, low, seen.seq, seen.accepted.0])
}
