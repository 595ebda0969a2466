//! A stretch of slots, packed: consecutive positions of one log entry are one run, and a column of
//! equal values is one value. So a million pending events of one size cost little more than the
//! entries that brought them.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::fact::Sum;
use super::slot::{Mark, Slot};
use crate::types::{Stamp, TypeId};

/// Slots in consecutive order. How many it may hold is the business of [`super::slots`].
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Chunk {
    len: u32,
    runs: Vec<Run>,
    sizes: Column<u32>,
    marks: Column<Mark>,
    /// Of those that are retained.
    kinds: Column<TypeId>,
    /// Durable proxies that have not settled each. Follows from the proxies' facts.
    #[serde(skip)]
    waiting: Column<u32>,
    /// Slots somebody waits for.
    #[serde(skip)]
    awaited: u32,
    /// Sum of the facts of all slots.
    #[serde(skip)]
    pub sum: Sum,
}

/// Slots from place `first` on, as far as the next run, whose events follow each other in one
/// entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Run {
    first: u32,
    index: u64,
    position: u32,
    accepted: Stamp,
}

impl Chunk {
    pub fn len(&self) -> usize {
        self.len as usize
    }

    /// Whether anybody waits for any of the slots.
    pub fn is_awaited(&self) -> bool {
        self.awaited > 0
    }

    pub fn get(&self, place: usize) -> Option<Slot> {
        (place < self.len()).then(|| self.slot(self.run_of(place), place))
    }

    /// The slots from `from` on, with their places.
    pub fn iter(&self, from: usize) -> impl Iterator<Item = (usize, Slot)> + '_ {
        let mut run = self.run_of(from);
        (from..self.len()).map(move |place| {
            while self.runs.get(run + 1).is_some_and(|next| next.first as usize <= place) {
                run += 1;
            }
            (place, self.slot(run, place))
        })
    }

    pub fn push(&mut self, slot: Slot) {
        let place = self.len;
        let goes_on = self.runs.last().is_some_and(|run| {
            (run.index, run.accepted) == (slot.index, slot.accepted)
                && u64::from(run.position) + u64::from(place - run.first)
                    == u64::from(slot.position)
        });
        if !goes_on {
            let Slot { index, position, accepted, .. } = slot;
            self.runs.push(Run { first: place, index, position, accepted });
        }
        self.sizes.push(self.len(), slot.size);
        self.marks.push(self.len(), slot.mark);
        self.kinds.push(self.len(), slot.kind);
        self.waiting.push(self.len(), slot.waiting);
        self.awaited += u32::from(slot.waiting > 0);
        self.len += 1;
    }

    /// When the last of them was accepted, if there is one.
    pub fn last_accepted(&self) -> Option<Stamp> {
        self.runs.last().map(|run| run.accepted)
    }

    /// Whether some slot asks for something.
    pub fn has_marks(&self) -> bool {
        !self.marks.each.is_empty() || self.marks.same != Mark::default()
    }

    /// The types of these slots, in stretches of one type.
    pub fn kinds(&self, places: Range<usize>) -> impl Iterator<Item = (Range<usize>, TypeId)> + '_ {
        let (mut from, end) = (places.start, places.end.min(self.len()));
        std::iter::from_fn(move || {
            let (first, kind) = (from, self.kinds.get(from));
            from = match self.kinds.each.get(first..end) {
                None if self.kinds.each.is_empty() => end.max(first),
                None => first,
                Some(rest) => first + rest.iter().take_while(|other| **other == kind).count(),
            };
            (first < from).then_some((first..from, kind))
        })
    }

    /// A slot has no type any more.
    pub fn forget_kind(&mut self, place: usize) {
        if place < self.len() {
            self.kinds.change(place..place + 1, self.len(), |_| TypeId::default());
        }
    }

    /// One more waits for each of these slots.
    pub fn wait(&mut self, places: Range<usize>) {
        let places = places.start..places.end.min(self.len());
        self.awaited += self.waiting.places_of(places.clone(), 0).len() as u32;
        self.waiting.change(places, self.len(), |waiting| waiting.saturating_add(1));
    }

    /// One fewer waits for each of these slots. The places of those that nobody waits for any more.
    pub fn release(&mut self, places: Range<usize>) -> Vec<usize> {
        let places = places.start..places.end.min(self.len());
        let last = self.waiting.places_of(places.clone(), 1);
        self.awaited = self.awaited.saturating_sub(last.len() as u32);
        self.waiting.change(places, self.len(), |waiting| waiting.saturating_sub(1));
        last
    }

    /// Nobody waits for anything here, as far as is known.
    pub fn forget_waiting(&mut self) {
        (self.waiting, self.awaited) = (Column::default(), 0);
    }

    /// Whether a decoded chunk is of a shape that this code can have written.
    pub fn is_sound(&self) -> bool {
        let ascending = self.runs.windows(2).all(|pair| pair[0].first < pair[1].first);
        let within = self.runs.last().is_none_or(|run| run.first < self.len);
        let from_zero = self.runs.first().map_or(self.len == 0, |run| run.first == 0);
        ascending
            && within
            && from_zero
            && self.sizes.fits(self.len())
            && self.marks.fits(self.len())
            && self.kinds.fits(self.len())
    }

    fn run_of(&self, place: usize) -> usize {
        self.runs.partition_point(|run| run.first as usize <= place).saturating_sub(1)
    }

    fn slot(&self, run: usize, place: usize) -> Slot {
        let run = self.runs[run];
        Slot {
            index: run.index,
            position: run.position.saturating_add(place as u32 - run.first),
            size: self.sizes.get(place),
            accepted: run.accepted,
            mark: self.marks.get(place),
            kind: self.kinds.get(place),
            waiting: self.waiting.get(place),
        }
    }
}

/// One value for each slot.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Column<T> {
    /// The value of all, or the default if they differ.
    same: T,
    /// Empty while all are the same.
    each: Vec<T>,
}

impl<T: Copy + Default + PartialEq> Column<T> {
    fn get(&self, place: usize) -> T {
        self.each.get(place).copied().unwrap_or(self.same)
    }

    /// Appends a value after `len` others.
    fn push(&mut self, len: usize, value: T) {
        if len == 0 {
            self.same = value;
        } else if !self.each.is_empty() || self.same != value {
            self.spread(len).push(value);
        }
    }

    /// The places among these that have this value. Where a thousand proxies take turns to settle a
    /// stretch, nearly always none.
    fn places_of(&self, places: Range<usize>, value: T) -> Vec<usize> {
        let start = places.start;
        match self.each.get(places.clone()) {
            Some(values) if !values.contains(&value) => Vec::new(),
            Some(values) => {
                (start..).zip(values).filter(|(_, v)| **v == value).map(|(p, _)| p).collect()
            }
            None if self.each.is_empty() && self.same == value => places.collect(),
            None => Vec::new(),
        }
    }

    fn spread(&mut self, len: usize) -> &mut Vec<T> {
        if self.each.is_empty() {
            self.each = vec![std::mem::take(&mut self.same); len];
        }
        &mut self.each
    }

    /// Changes the values at `places` of a column of `len`.
    fn change(&mut self, places: Range<usize>, len: usize, to: impl Fn(T) -> T) {
        if self.each.is_empty() && places == (0..len) {
            self.same = to(self.same);
            return;
        }
        let ends = places.end == len;
        let values = self.spread(len).get_mut(places).unwrap_or_default();
        values.iter_mut().for_each(|value| *value = to(*value));
        // Whoever goes through a column in order ends here, and may leave it even.
        if ends
            && let Some(first) = self.each.first()
            && self.each.iter().all(|value| value == first)
        {
            *self = Column { same: *first, each: Vec::new() };
        }
    }

    fn fits(&self, len: usize) -> bool {
        self.each.is_empty() || (self.each.len() == len && self.same == T::default())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn behaves_like_a_list_of_slots(
            pushes in prop::collection::vec((0u64..3, 0u32..3, 0u32..3, 0u32..2, 0i16..4), 0..40),
            changes in prop::collection::vec((any::<bool>(), 0usize..45, 0usize..45), 0..12),
        ) {
            let (mut chunk, mut model) = (Chunk::default(), Vec::<Slot>::new());
            for (index, skip, size, waiting, other) in pushes {
                let next = model.last().filter(|slot| slot.index == index);
                let position = next.map_or(0, |slot| slot.position + 1) + skip / 2;
                let accepted = Stamp(u64::from(skip > 1));
                let mark = Mark { priority: other / 2, ..Mark::default() };
                let kind = TypeId(other as u32 % 2);
                let slot = Slot { index, position, size, accepted, mark, kind, waiting };
                chunk.push(slot);
                model.push(slot);
            }
            for (wait, a, b) in changes {
                let range = a.min(b)..a.max(b).min(model.len()).max(a.min(b));
                let part = model.get_mut(range.clone()).unwrap_or_default();
                if wait {
                    chunk.wait(range);
                    part.iter_mut().for_each(|slot| slot.waiting += 1);
                } else {
                    let last = (range.start..).zip(&*part).filter(|(_, slot)| slot.waiting == 1);
                    let last: Vec<usize> = last.map(|(place, _)| place).collect();
                    prop_assert_eq!(chunk.release(range), last);
                    part.iter_mut().for_each(|slot| slot.waiting = slot.waiting.saturating_sub(1));
                }
            }
            prop_assert!(chunk.is_sound());
            prop_assert_eq!(chunk.len(), model.len());
            prop_assert_eq!(chunk.is_awaited(), model.iter().any(|slot| slot.waiting > 0));
            for from in 0..=model.len() {
                let rest: Vec<Slot> = chunk.iter(from).map(|(_, slot)| slot).collect();
                prop_assert_eq!(&rest[..], &model[from..]);
                prop_assert_eq!(chunk.get(from), model.get(from).copied());
                let kinds: Vec<_> = chunk.kinds(from..from + 9).collect();
                let each = kinds.iter().flat_map(|(places, kind)| places.clone().map(|_| *kind));
                let expected = model[from..].iter().take(9).map(|slot| slot.kind);
                prop_assert!(each.eq(expected));
                prop_assert!(kinds.windows(2).all(|pair| pair[0].1 != pair[1].1));
            }
            let bytes = postcard::to_stdvec(&chunk).unwrap();
            let mut decoded: Chunk = postcard::from_bytes(&bytes).unwrap();
            prop_assert!(decoded.is_sound());
            decoded.sum = chunk.sum;
            chunk.forget_waiting();
            prop_assert_eq!(decoded, chunk);
        }
    }

    #[test]
    fn a_thousand_alike_cost_as_much_as_one() {
        let mut chunk = Chunk::default();
        for position in 0..1024 {
            let (accepted, mark, kind) = (Stamp(5), Mark::default(), TypeId(3));
            chunk.push(Slot { index: 7, position, size: 270, accepted, mark, kind, waiting: 2 });
        }
        assert!(postcard::to_stdvec(&chunk).unwrap().len() < 20);
        chunk.release(0..500);
        chunk.release(500..1024);
        assert_eq!(chunk.waiting, Column { same: 1, each: Vec::new() });
    }
}
