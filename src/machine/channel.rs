//! A channel: its definition, its retained events, and what dead letters say of themselves.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::admin::Admins;
use super::dead_letters::{DeadLetter, DeadLetters, LetterCounts};
use super::dedup::Dedup;
use super::fact::{self, Kind};
use super::slot::{Arrival, Lack, Mark, Room, Slot, Tally};
use super::slots::Slots;
use crate::types::{
    Admission, ChannelId, DedupKey, EventQos, EventType, LaneId, Name, PayloadKey, ProxyId, Qos,
    Seq, SeqRange, SeqRanges, Stamp, Supply, TypeId, TypeRef, limits,
};

/// An event channel.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Channel {
    id: ChannelId,
    name: Name,
    pub(super) qos: Qos,
    pub(super) admins: Admins,
    /// Raised whenever it, an admin, a proxy or a lane of it is defined anew.
    pub(super) definitions: u64,
    /// What its settings come to.
    #[serde(skip)]
    pub(super) admission: Admission,
    pub(super) accepted: u64,
    pub(super) no_interest: u64,
    /// Proxies deleted because nobody consumed from them.
    pub(super) expired_proxies: u64,
    /// The sequence that its first event got or gets; 0 stands for 1.
    #[serde(skip)]
    pub(super) origin: Seq,
    pub(super) slots: Slots,
    pub(super) letters: DeadLetters,
    pub(super) dedup: Dedup,
    /// Its proxies; follows from the proxies themselves.
    #[serde(skip)]
    pub(super) proxies: BTreeMap<Name, ProxyId>,
    /// Its lanes; follows from the lanes themselves.
    #[serde(skip)]
    pub(super) lanes: BTreeSet<LaneId>,
    /// Those that have a name.
    #[serde(skip)]
    pub(super) lane_names: BTreeMap<Name, LaneId>,
}

impl Channel {
    pub(super) fn new(id: ChannelId, name: Name, qos: Qos) -> Channel {
        Channel {
            id,
            name,
            admission: Admission::new(&qos),
            qos,
            admins: Admins::default(),
            definitions: 0,
            accepted: 0,
            no_interest: 0,
            expired_proxies: 0,
            origin: 0,
            slots: Slots::new(id),
            letters: DeadLetters::new(id),
            dedup: Dedup::default(),
            proxies: BTreeMap::new(),
            lanes: BTreeSet::new(),
            lane_names: BTreeMap::new(),
        }
    }

    pub fn id(&self) -> ChannelId {
        self.id
    }

    pub fn name(&self) -> &Name {
        &self.name
    }

    /// What is set for it.
    pub fn qos(&self) -> &Qos {
        &self.qos
    }

    /// What that comes to for its events.
    pub fn admission(&self) -> &Admission {
        &self.admission
    }

    /// Rises whenever the channel, an admin, a proxy or a lane of it is defined anew.
    pub fn definitions(&self) -> u64 {
        self.definitions
    }

    /// Its admins, of both sides.
    pub fn admins(&self) -> &Admins {
        &self.admins
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

    /// The sequence of the first event that it had or will have.
    pub fn first_seq(&self) -> Seq {
        self.origin.max(1)
    }

    /// Proxies deleted because nobody consumed from them for so long.
    pub fn expired_proxies(&self) -> u64 {
        self.expired_proxies
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

    /// From this sequence on everything is retained. Dead letters have no history: those that are
    /// left are retained.
    pub fn history_start(&self) -> Seq {
        self.slots.history_start()
    }

    /// Events in history or waited for, or dead letters that are kept.
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

    /// What is known of a dead letter that is kept.
    pub fn dead_letter(&self, seq: Seq) -> Option<&DeadLetter> {
        self.letters.get(seq).map(|letter| &**letter)
    }

    /// The dead letters from `from` on, ascending.
    pub fn dead_letters_from(&self, from: Seq) -> impl Iterator<Item = (Seq, &DeadLetter)> {
        self.letters.iter_from(from)
    }

    /// How many dead letters are kept.
    pub fn dead_letter_count(&self) -> u64 {
        self.letters.len()
    }

    /// What became of the dead letters that are not kept any more.
    pub fn letter_counts(&self) -> &LetterCounts {
        &self.letters.counts
    }

    /// The retained events at or after `from` that ask for something of their delivery.
    pub fn marked_from(&self, from: Seq) -> impl Iterator<Item = (Seq, Slot)> {
        self.slots.marked_from(from)
    }

    /// The retained events at or after `from`.
    pub fn slots_from(&self, from: Seq) -> impl Iterator<Item = (Seq, Slot)> {
        self.slots.iter_from(from)
    }

    /// The first event retained that was accepted then or later.
    pub fn retained_since(&self, accepted: Stamp) -> Option<Seq> {
        self.slots.first_since(accepted)
    }

    /// Its durable proxies, by name.
    pub fn proxies(&self) -> impl Iterator<Item = (&Name, ProxyId)> {
        self.proxies.iter().map(|(name, id)| (name, *id))
    }

    /// The durable proxy of this name.
    pub fn proxy(&self, name: &Name) -> Option<ProxyId> {
        self.proxies.get(name).copied()
    }

    /// Takes note of a lane of its own.
    pub(super) fn add_lane(&mut self, lane: LaneId, name: Option<&Name>) {
        self.lanes.insert(lane);
        if let Some(name) = name {
            self.lane_names.insert(name.clone(), lane);
        }
    }

    /// A lane of its own is no more.
    pub(super) fn remove_lane(&mut self, lane: LaneId, name: Option<&Name>) {
        self.lanes.remove(&lane);
        if let Some(name) = name {
            self.lane_names.remove(name);
        }
    }

    /// The lane of this name.
    pub fn lane(&self, name: &Name) -> Option<LaneId> {
        self.lane_names.get(name).copied()
    }

    /// The types of its retained events that have one (OMG `obtain_offered_types`), each with how
    /// many are of it.
    pub fn offered_types(&self) -> impl Iterator<Item = (TypeId, &Arc<EventType>, u64)> {
        self.slots.offered.iter()
    }

    /// A type that retained events have, by its number.
    pub fn event_type(&self, id: TypeId) -> Option<&Arc<EventType>> {
        self.slots.offered.name(id)
    }

    /// The types of the retained events in a range, in stretches of one type.
    pub fn types_in(&self, range: SeqRange) -> impl Iterator<Item = (SeqRange, TypeId)> {
        self.slots.kinds(range)
    }

    /// Accepts events with consecutive payload positions from `key` on, each given as its size and
    /// its bytes, until one lacks something; returns how many, and what that is. What they do not
    /// ask for themselves the supply says.
    pub(super) fn append<'a>(
        &mut self,
        (key, now): (PayloadKey, Stamp),
        supply: &Supply,
        events: impl Iterator<Item = (u32, &'a [u8])>,
    ) -> (u64, Option<Lack>) {
        let waiting = self.proxies.len() as u32;
        let arrivals = events.map(|(size, bytes)| Arrival {
            size,
            mark: Mark::new(EventQos::read(bytes), supply, now),
            kind: TypeRef::read(bytes),
        });
        let (count, lack) = self.slots.append((key, now), waiting, self.room(), arrivals);
        self.accepted += count;
        if waiting == 0 {
            self.no_interest += count;
        }
        if count > 0 {
            self.trim(now);
        }
        (count, lack)
    }

    /// The event of this key, if it was accepted within the window.
    pub(super) fn seen(&self, key: DedupKey, now: Stamp) -> Option<Seq> {
        self.dedup.find(key, self.admission.dedup_ms, now)
    }

    /// An event with this key was accepted.
    pub(super) fn remember(&mut self, key: DedupKey, seq: Seq, now: Stamp) {
        self.dedup.remember(self.id, key, seq, (self.admission.dedup_ms, now));
    }

    /// Whether not even an empty event finds room.
    pub fn is_full(&self) -> bool {
        !self.proxies.is_empty() && self.room().is_full(self.pending(), 0)
    }

    fn room(&self) -> Room {
        let events = match self.admission.reject_new_events {
            true => self.admission.max_queue_length,
            // The leader makes room.
            false => 0,
        };
        let events = match (self.admission.best_effort, events) {
            (false, events) => events,
            (true, 0) => limits::BEST_EFFORT_EVENTS_MAX,
            (true, events) => events.min(limits::BEST_EFFORT_EVENTS_MAX),
        };
        Room { bytes: self.admission.max_queue_bytes, events, types: false }
    }

    /// Accepts a dead letter, whatever the caps; the caller trims. It keeps its priority, and has
    /// no times any more.
    pub(super) fn append_letter(
        &mut self,
        (slot, kind): (&Slot, TypeRef),
        letter: DeadLetter,
        now: Stamp,
    ) {
        let waiting = self.proxies.len() as u32;
        let seq = self.next_seq();
        self.letters.insert(seq, letter);
        let mark = Mark { priority: slot.mark.priority, ..Mark::default() };
        let arrival = std::iter::once(Arrival { size: slot.size, mark, kind });
        let room = Room { bytes: u64::MAX, events: 0, types: true };
        self.slots.append((slot.key(), now), waiting, room, arrival);
        self.slots.keep(seq);
        self.accepted += 1;
        if waiting == 0 {
            self.no_interest += 1;
        }
    }

    /// Accepts what lies in `slot` of the dead-letter channel as a new event, if there is room; the
    /// caller trims. It keeps its priority, and has no times of its own.
    pub(super) fn append_replayed(
        &mut self,
        (slot, kind): (&Slot, TypeRef),
        now: Stamp,
    ) -> Result<Seq, Lack> {
        let (waiting, seq) = (self.proxies.len() as u32, self.next_seq());
        let mark = Mark { priority: slot.mark.priority, again: true, ..Mark::default() };
        let arrival = std::iter::once(Arrival { size: slot.size, mark, kind });
        let (count, lack) = self.slots.append((slot.key(), now), waiting, self.room(), arrival);
        self.accepted += count;
        lack.map_or(Ok(seq), Err)
    }

    /// The type of a retained event.
    pub(super) fn type_of(&self, slot: &Slot) -> Arc<EventType> {
        self.event_type(slot.kind).cloned().unwrap_or_default()
    }

    /// The oldest dead letters, as far as there are more than may be kept.
    pub(super) fn excess_letters(&self) -> SeqRanges {
        let sizes = self.slots.iter_from(0).map(|(_, slot)| slot.size);
        let excess = self.letters.excess(self.retained(), sizes);
        self.letters.iter_from(0).take(excess).map(|(seq, _)| seq).collect()
    }

    /// Dead letters that nobody waits for (any more) are gone.
    pub(super) fn remove_letters(&mut self, sequences: &SeqRanges) {
        for seq in sequences.iter().flat_map(|range| range.first..=range.last) {
            self.letters.remove(seq);
            self.slots.let_go(seq);
        }
    }

    /// Forgets history beyond its limits, after something changed.
    pub(super) fn trim(&mut self, now: Stamp) {
        self.slots.trim(&self.admission.history, now);
    }

    /// Whether some of its history is too old.
    pub fn has_old_history(&self, now: Stamp) -> bool {
        self.slots.has_old(&self.admission.history, now)
    }

    /// Computes all kept sums anew.
    pub(super) fn resum(&mut self) {
        self.dedup.resum(self.id);
        self.letters.resum();
        self.slots.resum(self.letters.iter_from(0).map(|(seq, _)| seq));
    }

    /// Whether a decoded channel has a shape that this code can have written.
    pub(super) fn is_sound(&self) -> bool {
        self.slots.is_sound(self.id)
            && self.letters.is_sound(self.id, self.next_seq())
            && self.dedup.is_sound(self.next_seq())
    }

    /// Hash of all facts, from the kept sums.
    pub(super) fn hash(&self) -> u64 {
        let definition = (self.id, &self.name);
        let counters = [
            self.id.0,
            self.slots.next_seq(),
            self.slots.history_start(),
            self.accepted,
            self.no_interest,
            self.expired_proxies,
        ];
        let qos = (self.id, &self.qos, self.definitions);
        let admins = self.admins.all_written().map(|(s, name, admin)| (self.id, s, name, admin));
        let admins = admins.map(|admin| fact::of_value(Kind::Admin, &admin));
        fact::of_value(Kind::ChannelDefinition, &definition)
            .wrapping_add(fact::of_value(Kind::ChannelQos, &qos))
            .wrapping_add(admins.fold(0, u64::wrapping_add))
            .wrapping_add(fact::of_words(Kind::ChannelCounters, counters))
            .wrapping_add(self.slots.hash())
            .wrapping_add(self.letters.hash())
            .wrapping_add(self.dedup.hash())
    }
}
