//! A channel: its definition, its retained events, and what dead letters say of themselves.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::dead_letters::{DeadLetter, DeadLetters};
use super::fact::{self, Kind};
use super::slots::{Slot, Slots, Tally};
use crate::types::{ChannelId, ChannelSettings, LaneId, Name, PayloadKey, ProxyId, Seq, limits};

/// An event channel.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Channel {
    id: ChannelId,
    name: Name,
    settings: ChannelSettings,
    accepted: u64,
    no_interest: u64,
    pub(super) slots: Slots,
    pub(super) letters: DeadLetters,
    /// Its proxies; follows from the proxies themselves.
    #[serde(skip)]
    pub(super) proxies: BTreeMap<Name, ProxyId>,
    /// Its named lanes; follows from the lanes themselves.
    #[serde(skip)]
    pub(super) lanes: BTreeMap<Name, LaneId>,
}

impl Channel {
    pub(super) fn new(id: ChannelId, name: Name, settings: ChannelSettings) -> Channel {
        Channel {
            id,
            name,
            settings,
            accepted: 0,
            no_interest: 0,
            slots: Slots::new(id),
            letters: DeadLetters::new(id),
            proxies: BTreeMap::new(),
            lanes: BTreeMap::new(),
        }
    }

    pub fn id(&self) -> ChannelId {
        self.id
    }

    pub fn name(&self) -> &Name {
        &self.name
    }

    pub fn settings(&self) -> &ChannelSettings {
        &self.settings
    }

    /// Whether it holds another channel's dead letters. Only the machine makes such names.
    pub fn is_dead_letters(&self) -> bool {
        self.name.as_str().ends_with(limits::DEAD_LETTER_SUFFIX)
    }

    /// Events accepted, dead letters included. Counted, not derived from `next_seq`.
    pub fn accepted(&self) -> u64 {
        self.accepted
    }

    /// Events accepted while no durable proxy existed.
    pub fn no_interest(&self) -> u64 {
        self.no_interest
    }

    /// The sequence of the next event accepted.
    pub fn next_seq(&self) -> Seq {
        self.slots.next_seq()
    }

    /// The earliest retained sequence, or the next one. Later events may be gone all the same: see
    /// [`Channel::slot`].
    pub fn first_retained(&self) -> Seq {
        self.slots.first_retained()
    }

    /// From this sequence on everything is retained.
    pub fn history_start(&self) -> Seq {
        self.slots.history_start()
    }

    /// Events in history or waited for.
    pub fn retained(&self) -> Tally {
        self.slots.retained()
    }

    /// Events that some durable proxy waits for.
    pub fn pending(&self) -> Tally {
        self.slots.pending()
    }

    /// The slot of an event while it is retained.
    pub fn slot(&self, seq: Seq) -> Option<Slot> {
        self.slots.get(seq)
    }

    /// The first event retained at or after `from`.
    pub fn next_retained(&self, from: Seq) -> Option<Seq> {
        self.slots.iter_from(from).next().map(|(seq, _)| seq)
    }

    /// What is known of a retained dead letter.
    pub fn dead_letter(&self, seq: Seq) -> Option<&DeadLetter> {
        self.slots.get(seq).and_then(|_| self.letters.get(seq))
    }

    /// Its durable proxies, by name.
    pub fn proxies(&self) -> impl Iterator<Item = (&Name, ProxyId)> {
        self.proxies.iter().map(|(name, id)| (name, *id))
    }

    /// The durable proxy of this name.
    pub fn proxy(&self, name: &Name) -> Option<ProxyId> {
        self.proxies.get(name).copied()
    }

    /// Accepts events with consecutive payload positions from `key` on until one would lift the
    /// pending bytes beyond the channel's cap; returns how many.
    pub(super) fn append(&mut self, key: PayloadKey, sizes: impl Iterator<Item = u32>) -> u64 {
        let waiting = self.proxies.len() as u32;
        let count = self.slots.append(key, waiting, self.settings.pending_bytes_max, sizes);
        self.accepted += count;
        if waiting == 0 {
            self.no_interest += count;
        }
        self.trim();
        count
    }

    /// Accepts a dead letter, whatever the cap; the caller trims.
    pub(super) fn append_letter(&mut self, slot: &Slot, letter: DeadLetter) {
        let waiting = self.proxies.len() as u32;
        self.letters.insert(self.next_seq(), letter);
        self.slots.append(slot.key(), waiting, u64::MAX, std::iter::once(slot.size));
        self.accepted += 1;
        if waiting == 0 {
            self.no_interest += 1;
        }
    }

    /// Forgets what lies before the retained events, after they changed.
    pub(super) fn trim(&mut self) {
        self.slots.trim(&self.settings);
        self.letters.forget_below(self.slots.first_retained());
    }

    /// Whether a decoded channel has a shape that this code can have written.
    pub(super) fn is_sound(&self) -> bool {
        self.slots.is_sound(self.id) && self.letters.channel() == self.id
    }

    /// Hash of all facts, from the kept sums.
    pub(super) fn hash(&self) -> u64 {
        let definition = (self.id, &self.name, &self.settings);
        let counters = [
            self.id.0,
            self.slots.next_seq(),
            self.slots.history_start(),
            self.accepted,
            self.no_interest,
        ];
        fact::of_value(Kind::ChannelDefinition, &definition)
            .wrapping_add(fact::of_words(Kind::ChannelCounters, counters))
            .wrapping_add(self.slots.hash())
            .wrapping_add(self.letters.hash())
    }
}
