//! The retained events of one channel: not their bytes, only where those are and who waits.
//!
//! An event is *retained* while it is in the history (the newest events up to the channel's
//! limits), or *kept* (a dead letter that nobody has replayed or dropped), or a durable proxy still
//! waits for it. Once it is not, it never is again, so whoever keeps payloads may forget it
//! (docs/ARCHITECTURE.md, "Where events lie"). Slots lie in chunks; a chunk goes when none of its
//! events is retained. Chunks are shared between clones and copied when written.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::chunk::Chunk;
use super::fact::{self, Kind, Sum};
use super::offered::Offered;
use super::sequences::SeqSet;
use super::shared;
use super::slot::{Arrival, Lack, Mark, Room, Slot, Tally};
use crate::types::{ChannelId, History, PayloadKey, Seq, SeqRange, Stamp, TypeId};

/// Slots per chunk. What a chunk holds is part of the state hash, so this is part of the format.
#[cfg(not(test))]
const CHUNK_SLOTS: u64 = 1024;
/// Small, so that tests cross many borders.
#[cfg(test)]
const CHUNK_SLOTS: u64 = 8;

/// The slots of a channel. Sequence `s` lies in chunk `(s - 1) / CHUNK_SLOTS`; every chunk but the last
/// is full.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Slots {
    channel: ChannelId,
    next_seq: Seq,
    history_start: Seq,
    #[serde(with = "shared")]
    chunks: BTreeMap<u64, Arc<Chunk>>,
    /// The types of what is retained.
    pub offered: Offered,
    // What follows is derived from the above, the dead letters and the proxies: see `resum` and `wait`.
    /// Retained until they are let go.
    #[serde(skip)]
    kept: SeqSet,
    #[serde(skip)]
    first_retained: Seq,
    #[serde(skip)]
    history_bytes: u64,
    #[serde(skip)]
    pending: Tally,
    #[serde(skip)]
    retained: Tally,
    #[serde(skip)]
    sum: Sum,
}

fn place(seq: Seq) -> (u64, usize) {
    let zero_based = seq.saturating_sub(1);
    (zero_based / CHUNK_SLOTS, (zero_based % CHUNK_SLOTS) as usize)
}

fn first_of(chunk: u64) -> Seq {
    chunk.saturating_mul(CHUNK_SLOTS).saturating_add(1)
}

fn last_of(chunk: u64) -> Seq {
    first_of(chunk).saturating_add(CHUNK_SLOTS - 1)
}

/// What an event's type adds to its fact while it is retained.
fn type_fact(channel: ChannelId, seq: Seq, hash: Option<u64>) -> u64 {
    hash.map_or(0, |hash| fact::of_words(Kind::SlotType, [channel.0, seq, hash]))
}

fn slot_fact(channel: ChannelId, seq: Seq, slot: &Slot) -> u64 {
    let place = u64::from(slot.position) << 32 | u64::from(slot.size);
    let slot_fact =
        fact::of_words(Kind::Slot, [channel.0, seq, slot.index, place, slot.accepted.0]);
    if slot.mark == Mark::default() {
        return slot_fact;
    }
    let Mark { priority, start, stop, again } = slot.mark;
    let words = [channel.0, seq, priority as u64, start.0, stop.0, u64::from(again)];
    slot_fact.wrapping_add(fact::of_words(Kind::Mark, words))
}

impl Slots {
    pub fn new(channel: ChannelId) -> Slots {
        Slots {
            channel,
            next_seq: 1,
            history_start: 1,
            chunks: BTreeMap::new(),
            offered: Offered::default(),
            kept: SeqSet::default(),
            first_retained: 1,
            history_bytes: 0,
            pending: Tally::default(),
            retained: Tally::default(),
            sum: Sum::default(),
        }
    }

    /// No events yet; the first gets `origin`, or what follows it next where a chunk begins.
    pub fn begun_at(channel: ChannelId, origin: Seq) -> Slots {
        let next_seq = first_of(origin.saturating_sub(1).div_ceil(CHUNK_SLOTS));
        let first = next_seq.min(u64::MAX / 2);
        Slots {
            next_seq: first,
            history_start: first,
            first_retained: first,
            ..Slots::new(channel)
        }
    }

    /// The sequence of the next event accepted.
    pub fn next_seq(&self) -> Seq {
        self.next_seq
    }

    /// The earliest retained sequence, or the next one.
    pub fn first_retained(&self) -> Seq {
        self.first_retained
    }

    /// The earliest sequence kept whether or not anybody waits for it.
    pub fn history_start(&self) -> Seq {
        self.history_start
    }

    /// Events somebody waits for.
    pub fn pending(&self) -> Tally {
        self.pending
    }

    /// Events retained.
    pub fn retained(&self) -> Tally {
        self.retained
    }

    /// Sum of the facts of all slots.
    pub fn hash(&self) -> u64 {
        self.sum.value()
    }

    /// The slot of a retained event.
    pub fn get(&self, seq: Seq) -> Option<Slot> {
        let (chunk, offset) = place(seq);
        let slot = self.chunks.get(&chunk)?.get(offset)?;
        (seq > 0 && (slot.waiting > 0 || self.stays(seq))).then_some(slot)
    }

    /// Whether it is retained whoever waits for it.
    fn stays(&self, seq: Seq) -> bool {
        seq >= self.history_start || self.kept.contains(seq)
    }

    /// The retained events at or after `from`, ascending.
    pub fn iter_from(&self, from: Seq) -> impl Iterator<Item = (Seq, Slot)> {
        let (start, offset) = place(from);
        self.chunks.range(start..).flat_map(move |(number, chunk)| {
            let first = first_of(*number);
            chunk
                .iter(if *number == start { offset } else { 0 })
                .map(move |(place, slot)| (first + place as u64, slot))
                .filter(|(seq, slot)| slot.waiting > 0 || self.stays(*seq))
        })
    }

    /// The first retained event accepted then or later. Events are accepted in the order of time.
    pub fn first_since(&self, accepted: Stamp) -> Option<Seq> {
        let late = |chunk: &Chunk| chunk.last_accepted().is_some_and(|last| last >= accepted);
        let (number, _) = self.chunks.iter().find(|(_, chunk)| late(chunk))?;
        let mut slots = self.iter_from(first_of(*number));
        slots.find(|(_, slot)| slot.accepted >= accepted).map(|(seq, _)| seq)
    }

    /// The retained events at or after `from` that ask for something, ascending. Costs nothing for
    /// chunks without such.
    pub fn marked_from(&self, from: Seq) -> impl Iterator<Item = (Seq, Slot)> {
        let (start, offset) = place(from);
        let chunks = self.chunks.range(start..).filter(|(_, chunk)| chunk.has_marks());
        chunks.flat_map(move |(number, chunk)| {
            let first = first_of(*number);
            chunk
                .iter(if *number == start { offset } else { 0 })
                .map(move |(place, slot)| (first + place as u64, slot))
                .filter(|(_, slot)| slot.mark != Mark::default())
                .filter(|(seq, slot)| slot.waiting > 0 || self.stays(*seq))
        })
    }

    /// The types of the retained events of a range, in stretches of one type.
    pub fn kinds(&self, range: SeqRange) -> impl Iterator<Item = (SeqRange, TypeId)> + '_ {
        let (start, offset) = place(range.first);
        self.chunks.range(start..=place(range.last).0.max(start)).flat_map(
            move |(number, chunk)| {
                let first = first_of(*number);
                let from = if *number == start { offset } else { 0 };
                let end =
                    range.last.saturating_add(1).saturating_sub(first).min(CHUNK_SLOTS) as usize;
                chunk.kinds(from..end.max(from)).map(move |(places, kind)| {
                    let stretch = SeqRange {
                        first: first + places.start as u64,
                        last: first + places.end as u64 - 1,
                    };
                    (stretch, kind)
                })
            },
        )
    }

    /// Appends events accepted `now` with consecutive payload positions from `key` on, for each of
    /// which `waiting` proxies wait, until `arrivals` ends or one finds no room. Returns how many
    /// were appended, and what the next lacked. History gives way to a new type; else the caller trims.
    pub fn append<'a>(
        &mut self,
        (mut key, now): (PayloadKey, Stamp),
        waiting: u32,
        room: Room,
        arrivals: impl Iterator<Item = Arrival<'a>>,
    ) -> (u64, Option<Lack>) {
        let start = self.next_seq;
        let mut arrivals = arrivals.peekable();
        let mut lack = None;
        while lack.is_none() && arrivals.peek().is_some() {
            let chunk = Arc::make_mut(self.chunks.entry(place(self.next_seq).0).or_default());
            while (chunk.len() as u64) < CHUNK_SLOTS
                && let Some(&Arrival { size, mark, kind }) = arrivals.peek()
            {
                if waiting > 0 && room.is_full(self.pending, size) {
                    lack = Some(Lack::Room);
                    break;
                }
                let Some(kind) = self.offered.number(kind, room.types) else {
                    lack = Some(Lack::Types);
                    break;
                };
                let PayloadKey { index, position } = key;
                let slot = Slot { index, position, size, accepted: now, mark, kind, waiting };
                let of_type = type_fact(self.channel, self.next_seq, self.offered.retain(kind));
                let fact = slot_fact(self.channel, self.next_seq, &slot).wrapping_add(of_type);
                chunk.sum.add(fact);
                self.sum.add(fact);
                chunk.push(slot);
                self.next_seq += 1;
                self.history_bytes += u64::from(size);
                self.retained.add(size);
                if waiting > 0 {
                    self.pending.add(size);
                }
                key.position = key.position.saturating_add(1);
                arrivals.next();
            }
            if lack == Some(Lack::Types) && self.free_a_type() {
                lack = None;
            }
        }
        (self.next_seq - start, lack)
    }

    /// Moves the start of the history forward until it is within the channel's limits.
    pub fn trim(&mut self, history: &History, now: Stamp) {
        let (next, young) = (self.next_seq, self.first_young(history, now));
        self.trim_while(|start, bytes| {
            next - start > history.events || bytes > history.bytes || start < young
        });
    }

    /// Whether a part of the history is too old.
    pub fn has_old(&self, history: &History, now: Stamp) -> bool {
        history.age_ms > 0 && self.first_young(history, now) > self.history_start
    }

    /// The first event of the history that is not too old. Events are accepted in the order of time.
    fn first_young(&self, history: &History, now: Stamp) -> Seq {
        if history.age_ms == 0 {
            return self.history_start;
        }
        let young = |accepted: Stamp| accepted.plus_millis(history.age_ms) > now;
        let (number, offset) = place(self.history_start);
        let late = |chunk: &Chunk| chunk.last_accepted().is_some_and(young);
        let mut chunks = self.chunks.range(number..);
        let Some((found, chunk)) = chunks.find(|(_, chunk)| late(chunk)) else {
            return self.next_seq;
        };
        let from = if *found == number { offset } else { 0 };
        let first = chunk.iter(from).find(|(_, slot)| young(slot.accepted));
        first.map_or(self.next_seq, |(place, _)| first_of(*found) + place as u64)
    }

    /// Moves the start of the history forward until a type less is retained. False: that does not
    /// help, and nothing was moved.
    pub fn free_a_type(&mut self) -> bool {
        let Some(last) = self.last_to_free_a_type() else { return false };
        self.begin_history_after(last);
        true
    }

    /// The event of the history with which the first type would go.
    fn last_to_free_a_type(&self) -> Option<Seq> {
        let mut going = BTreeMap::<TypeId, u64>::new();
        self.iter_from(self.history_start).find_map(|(seq, slot)| {
            if slot.waiting > 0 || self.kept.contains(seq) {
                return None;
            }
            let count = going.entry(slot.kind).or_default();
            *count += 1;
            (Some(*count) == self.offered.retained(slot.kind)).then_some(seq)
        })
    }

    /// Moves the start of the history forward over `last`.
    pub fn begin_history_after(&mut self, last: Seq) {
        self.trim_while(|start, _| start <= last);
    }

    /// Moves the start of the history forward while its place and its bytes say so.
    fn trim_while(&mut self, more: impl Fn(Seq, u64) -> bool) {
        while more(self.history_start, self.history_bytes) {
            let (number, offset) = place(self.history_start);
            let Some(chunk) = self.chunks.get(&number) else { break };
            let mut gone = Vec::new();
            for (place, slot) in chunk.iter(offset) {
                if !more(self.history_start, self.history_bytes) {
                    break;
                }
                self.history_start += 1;
                self.history_bytes -= u64::from(slot.size);
                if slot.waiting == 0 && !self.kept.contains(self.history_start - 1) {
                    self.retained.remove(slot.size);
                    gone.extend((slot.kind != TypeId::default()).then_some(place));
                }
            }
            self.forget_kinds(number, &gone);
            self.drop_if_dead(number);
        }
        self.advance_first();
    }

    /// The event, just appended, is retained until it is let go.
    pub fn keep(&mut self, seq: Seq) {
        self.kept.insert(SeqRange::one(seq));
    }

    /// A kept event is retained no longer than any other.
    pub fn let_go(&mut self, seq: Seq) {
        let (number, offset) = place(seq);
        self.kept.remove(SeqRange::one(seq));
        let slot = self.chunks.get(&number).and_then(|chunk| chunk.get(offset));
        if let Some(slot) = slot.filter(|slot| slot.waiting == 0 && seq < self.history_start) {
            self.retained.remove(slot.size);
            self.forget_kinds(number, &[offset]);
        }
        self.drop_if_dead(number);
        self.advance_first();
    }

    /// One proxy no longer waits for these events (it did for each of them).
    pub fn release(&mut self, range: SeqRange) {
        let mut first = range.first;
        while first <= range.last {
            let (number, offset) = place(first);
            let last = range.last.min(last_of(number));
            self.release_in(number, offset, (last - first) as usize + 1);
            self.drop_if_dead(number);
            first = last + 1;
        }
        self.advance_first();
    }

    fn release_in(&mut self, number: u64, offset: usize, count: usize) {
        let Some(chunk) = self.chunks.get_mut(&number) else { return };
        let chunk = Arc::make_mut(chunk);
        let first = first_of(number);
        let mut gone = Vec::new();
        for place in chunk.release(offset..offset + count) {
            let Some(slot) = chunk.get(place) else { continue };
            self.pending.remove(slot.size);
            let seq = first + place as u64;
            if seq < self.history_start && !self.kept.contains(seq) {
                self.retained.remove(slot.size);
                gone.extend((slot.kind != TypeId::default()).then_some(place));
            }
        }
        self.forget_kinds(number, &gone);
    }

    /// What is retained no more has no type any more.
    fn forget_kinds(&mut self, number: u64, gone: &[usize]) {
        let Some(chunk) = self.chunks.get_mut(&number).filter(|_| !gone.is_empty()) else { return };
        let chunk = Arc::make_mut(chunk);
        for place in gone {
            let Some(slot) = chunk.get(*place) else { continue };
            let hash = self.offered.release(slot.kind);
            let fact = type_fact(self.channel, first_of(number) + *place as u64, hash);
            chunk.sum.remove(fact);
            self.sum.remove(fact);
            chunk.forget_kind(*place);
        }
    }

    /// One more proxy waits for these events; all of them are in present chunks.
    pub fn wait(&mut self, range: SeqRange) {
        let mut first = range.first;
        while first <= range.last {
            let (number, offset) = place(first);
            let last = range.last.min(last_of(number));
            self.wait_in(number, offset, (last - first) as usize + 1);
            first = last + 1;
        }
    }

    fn wait_in(&mut self, number: u64, offset: usize, count: usize) {
        let Some(chunk) = self.chunks.get_mut(&number) else { return };
        let first = first_of(number);
        for (place, slot) in chunk.iter(offset).take(count).filter(|(_, slot)| slot.waiting == 0) {
            self.pending.add(slot.size);
            let seq = first + place as u64;
            if seq < self.history_start && !self.kept.contains(seq) {
                self.retained.add(slot.size);
                self.offered.retain(slot.kind);
            }
        }
        Arc::make_mut(chunk).wait(offset..offset + count);
    }

    /// The events accepted at or after `from` that are no longer retained.
    pub fn holes(&self, from: Seq) -> Vec<SeqRange> {
        let mut holes = Vec::new();
        let mut expected = from;
        for (seq, _) in self.iter_from(from) {
            if seq > expected {
                holes.push(SeqRange { first: expected, last: seq - 1 });
            }
            expected = seq + 1;
        }
        if expected < self.next_seq {
            holes.push(SeqRange { first: expected, last: self.next_seq - 1 });
        }
        holes
    }

    fn drop_if_dead(&mut self, number: u64) {
        let Some(chunk) = self.chunks.get(&number) else { return };
        let sum = chunk.sum.value();
        if !chunk.is_awaited() && last_of(number) < self.history_start && !self.keeps_in(number) {
            self.sum.remove(sum);
            self.chunks.remove(&number);
        }
    }

    /// Whether something in this chunk is kept.
    fn keeps_in(&self, number: u64) -> bool {
        let range = SeqRange { first: first_of(number), last: last_of(number) };
        self.kept.intersects(range)
    }

    /// Moves the cursor of the earliest retained event forward over those that are not.
    fn advance_first(&mut self) {
        while self.first_retained < self.history_start && self.get(self.first_retained).is_none() {
            let (number, _) = place(self.first_retained);
            self.first_retained = match self.chunks.get(&number) {
                Some(chunk) if chunk.is_awaited() || self.keeps_in(number) => {
                    self.first_retained + 1
                }
                Some(_) => self.history_start.min(first_of(number + 1)),
                None => match self.chunks.range(number..).next() {
                    Some((next, _)) => first_of(*next).min(self.history_start),
                    None => self.history_start,
                },
            };
        }
    }

    /// Whether decoded slots are those of `channel` and of a shape that this code can have written.
    pub fn is_sound(&self, channel: ChannelId) -> bool {
        let chunk_fits = |(number, chunk): (&u64, &Arc<Chunk>)| {
            let slots = chunk.len() as u64;
            chunk.is_sound()
                && slots <= CHUNK_SLOTS
                && number.checked_mul(CHUNK_SLOTS).is_some_and(|zero| {
                    zero < self.next_seq && slots.min(self.next_seq - 1 - zero) == slots
                })
        };
        let numbered = 0 < self.history_start
            && self.history_start <= self.next_seq
            && self.next_seq < u64::MAX - CHUNK_SLOTS;
        self.channel == channel && numbered && self.chunks.iter().all(chunk_fits)
    }

    /// Computes what is kept beside the chunks anew, as after decoding; nobody waits until `wait`.
    /// `letters` are retained until they are let go.
    pub fn resum(&mut self, letters: impl Iterator<Item = Seq>) {
        self.kept = SeqSet::default();
        letters.for_each(|seq| self.kept.insert(SeqRange::one(seq)));
        (self.sum, self.history_bytes) = (Sum::default(), 0);
        (self.pending, self.retained) = (Tally::default(), Tally::default());
        self.offered.forget_counts();
        let (channel, history_start) = (self.channel, self.history_start);
        for (number, chunk) in &mut self.chunks {
            let chunk = Arc::make_mut(chunk);
            chunk.forget_waiting();
            let mut sum = Sum::default();
            for (seq, (_, slot)) in (first_of(*number)..).zip(chunk.iter(0)) {
                sum.add(slot_fact(channel, seq, &slot));
                sum.add(type_fact(channel, seq, self.offered.hash(slot.kind)));
                if seq >= history_start {
                    self.history_bytes = self.history_bytes.saturating_add(u64::from(slot.size));
                }
                if seq >= history_start || self.kept.contains(seq) {
                    self.retained.add(slot.size);
                    self.offered.retain(slot.kind);
                }
            }
            chunk.sum = sum;
            self.sum.add(sum.value());
        }
    }

    /// Finds the earliest retained event once all waits are known, as after decoding.
    pub fn refind_first(&mut self) {
        let first = self.iter_from(0).next().map(|(seq, _)| seq);
        self.first_retained = first.unwrap_or(self.next_seq);
    }
}
