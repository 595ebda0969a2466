//! The events of a proxy that were delivered in this tenure and are not settled.

use std::collections::{BTreeMap, VecDeque};

use super::ConsumerKey;
use super::catalog::Rank;
use crate::types::{Seq, SeqRange, Stamp};

/// Vacant slots tolerated beyond the number of occupied ones before the window is packed.
const SLACK: usize = 64;

/// One delivered, unsettled event.
#[derive(Debug, Clone, Copy)]
pub(super) struct Slot {
    pub seq: Seq,
    /// Number of its latest delivery.
    pub delivery: u32,
    /// Failed attempts known before that delivery, or after it if it failed.
    pub failed: u32,
    /// Its place in the order of the proxy.
    pub rank: Rank,
    pub state: State,
}

/// Where such an event is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// At a consumer, until `due`. `counted`: this attempt is on record already.
    InFlight { consumer: ConsumerKey, due: Stamp, counted: bool },
    /// Waiting for a consumer, at its own place in the order.
    Ready,
    /// Not to be delivered before `until`.
    Delayed { until: Stamp },
    /// Nowhere: settled, its slot not yet packed away.
    Vacant,
}

impl State {
    /// In flight at this consumer.
    pub fn is_at(self, whose: ConsumerKey) -> bool {
        matches!(self, State::InFlight { consumer, .. } if consumer == whose)
    }
}

/// Slots in order of sequence, in a structure that fits the order of the proxy.
///
/// In the order of sequences nearly everything happens at the ends or in runs: a sorted ring costs
/// a few nanoseconds where a tree costs tens. In any other order a ring would be moved about with
/// every delivery, and a tree is used. Only one of them has anything in it.
#[derive(Debug, Default)]
pub(super) struct Window {
    ring: VecDeque<Slot>,
    /// Occupied slots of the ring.
    occupied: usize,
    tree: BTreeMap<Seq, Slot>,
    is_tree: bool,
}

impl Window {
    /// Number of occupied slots.
    pub fn len(&self) -> usize {
        self.occupied + self.tree.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes up the structure for an order: that of sequences, or another.
    pub fn fit(&mut self, by_sequence: bool) {
        if self.is_tree != by_sequence {
            return;
        }
        let slots: Vec<Slot> = self.iter().copied().collect();
        *self = Window { is_tree: !by_sequence, ..Window::default() };
        slots.into_iter().for_each(|slot| self.put(slot));
    }

    fn position(&self, seq: Seq) -> usize {
        self.ring.partition_point(|s| s.seq < seq)
    }

    /// The occupied slots, ascending.
    pub fn iter(&self) -> impl Iterator<Item = &Slot> {
        self.ring.iter().filter(|s| s.state != State::Vacant).chain(self.tree.values())
    }

    /// All slots, to be changed but for their sequences and whether they are vacant.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Slot> {
        let ring = self.ring.iter_mut().filter(|s| s.state != State::Vacant);
        ring.chain(self.tree.values_mut())
    }

    /// Whether the event is in the window.
    pub fn holds(&self, seq: Seq) -> bool {
        let beyond = !self.is_tree && self.ring.back().is_none_or(|last| seq > last.seq);
        !beyond && self.get(seq).is_some()
    }

    /// Whether the event is at a consumer.
    pub fn is_out(&self, seq: Seq) -> bool {
        self.get(seq).is_some_and(|slot| matches!(slot.state, State::InFlight { .. }))
    }

    /// The slot of this event.
    pub fn get(&self, seq: Seq) -> Option<&Slot> {
        if self.is_tree {
            return self.tree.get(&seq);
        }
        let slot = self.ring.get(self.position(seq));
        slot.filter(|slot| slot.seq == seq && slot.state != State::Vacant)
    }

    /// The slot of this event, to be changed.
    pub fn get_mut(&mut self, seq: Seq) -> Option<&mut Slot> {
        if self.is_tree {
            return self.tree.get_mut(&seq);
        }
        let at = self.position(seq);
        self.ring.get_mut(at).filter(|s| s.seq == seq && s.state != State::Vacant)
    }

    /// The occupied slots of a range, ascending.
    pub fn range(&self, range: SeqRange) -> impl Iterator<Item = &Slot> {
        let start = self.position(range.first);
        let ring = self.ring.range(start..).take_while(move |s| s.seq <= range.last);
        let tree = (!range.is_empty()).then(|| self.tree.range(range.first..=range.last));
        let tree = tree.into_iter().flatten().map(|(_, slot)| slot);
        ring.filter(|s| s.state != State::Vacant).chain(tree)
    }

    /// Adds an event or replaces its slot. Constant time above all others, in a ring.
    pub fn put(&mut self, slot: Slot) {
        if self.is_tree {
            self.tree.insert(slot.seq, slot);
            return;
        }
        if self.ring.back().is_none_or(|last| last.seq < slot.seq) {
            self.ring.push_back(slot);
            self.occupied += 1;
            return;
        }
        let at = self.position(slot.seq);
        match self.ring.get_mut(at) {
            Some(old) if old.seq == slot.seq => {
                self.occupied += usize::from(old.state == State::Vacant);
                *old = slot;
            }
            _ => {
                self.ring.insert(at, slot);
                self.occupied += 1;
            }
        }
    }

    /// Vacates the slots of a range, showing each as it was.
    pub fn vacate(&mut self, range: SeqRange, mut see: impl FnMut(Slot)) {
        if self.is_tree {
            while !range.is_empty()
                && let Some((&seq, _)) = self.tree.range(range.first..=range.last).next()
            {
                self.tree.remove(&seq).into_iter().for_each(&mut see);
            }
            return;
        }
        let start = self.position(range.first);
        for slot in self.ring.range_mut(start..).take_while(|s| s.seq <= range.last) {
            if slot.state != State::Vacant {
                see(*slot);
                slot.state = State::Vacant;
                self.occupied -= 1;
            }
        }
        self.pack();
    }

    /// Drops vacant slots at the ends, and all of them when they prevail; constant time amortized.
    fn pack(&mut self) {
        let vacant = |slot: Option<&Slot>| slot.is_some_and(|s| s.state == State::Vacant);
        while vacant(self.ring.front()) {
            self.ring.pop_front();
        }
        while vacant(self.ring.back()) {
            self.ring.pop_back();
        }
        if self.ring.len() > 2 * self.occupied + SLACK {
            self.ring.retain(|slot| slot.state != State::Vacant);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn slot(seq: Seq) -> Slot {
        Slot { seq, delivery: 1, failed: 0, rank: 0, state: State::Ready }
    }

    proptest! {
        #[test]
        fn behaves_like_a_sorted_set(
            ops in prop::collection::vec((0u64..300, 0u64..40, any::<bool>(), 0u8..20), 0..200),
        ) {
            let mut window = Window::default();
            let mut model = BTreeSet::new();
            for (first, len, add, fit) in ops {
                if fit < 2 {
                    window.fit(fit == 0);
                }
                if add {
                    for seq in first..first + len {
                        model.insert(seq);
                        window.put(slot(seq));
                    }
                } else {
                    let range = SeqRange { first, last: first + len };
                    let mut seen = Vec::new();
                    window.vacate(range, |slot| seen.push(slot.seq));
                    let expected: Vec<Seq> = model.range(first..=range.last).copied().collect();
                    prop_assert_eq!(seen, expected);
                    model.retain(|seq| !(first..=range.last).contains(seq));
                }
                prop_assert_eq!(window.len(), model.len());
                prop_assert!(window.ring.len() <= 2 * model.len() + SLACK);
                prop_assert!(window.iter().map(|s| s.seq).eq(model.iter().copied()));
            }
            let range = SeqRange { first: 50, last: 99 };
            prop_assert!(window.range(range).map(|s| s.seq).eq(model.range(50..=99).copied()));
            prop_assert!((0..350).all(|seq| window.get_mut(seq).is_some() == model.contains(&seq)));
        }
    }
}
