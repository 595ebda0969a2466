//! How far a proxy has come in its order: what it has considered for a first delivery, and what
//! comes next.
//!
//! FIFO is a cursor. Other orders have one for each rank, and begin again where something of a
//! lower rank arrived. What the cursors have passed is not always delivered: it can be delivered
//! and unsettled (the window), being settled, or behind (below).

use std::collections::{BTreeMap, BTreeSet};

use super::Facts;
use super::catalog::{Catalog, Rank, ordinary, rank};
use crate::planted::{Bug, planted};
use crate::types::{ChannelId, Order, ProxyId, Seq, SeqRange, SeqRanges, Service, Stamp};

/// Cursors of ranks that are gone are kept up to this many.
const CURSORS_MAX: usize = 4096;

/// The cursors of one proxy.
#[derive(Debug)]
pub(super) struct Progress {
    /// What it was made for: another service passes other events.
    order: Order,
    starts: bool,
    stops: bool,
    start: Seq,
    /// Every rank before it is exhausted, as far as is known.
    position: Rank,
    /// Arrivals before this one are counted in.
    seen: Seq,
    /// The first event of each rank that was not considered.
    cursors: BTreeMap<Rank, Seq>,
}

/// What is asked about: one proxy, its channel, and the time.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scope<'a> {
    pub proxy: ProxyId,
    pub channel: ChannelId,
    pub service: &'a Service,
    pub catalog: &'a Catalog,
    pub now: Stamp,
}

impl Progress {
    pub fn new(service: &Service, start: Seq) -> Progress {
        Progress {
            order: service.order,
            starts: service.start_time_supported,
            stops: service.stop_time_supported,
            start,
            position: Rank::MIN,
            seen: start,
            cursors: BTreeMap::new(),
        }
    }

    /// Whether it follows what the service asks for.
    pub fn fits(&self, service: &Service) -> bool {
        let asked = (service.order, service.start_time_supported, service.stop_time_supported);
        (self.order, self.starts, self.stops) == asked
    }

    /// The part of a range that FIFO has passed; another order cannot tell, and says all.
    pub fn passed(&self, range: SeqRange) -> SeqRange {
        match self.order {
            Order::Fifo => {
                SeqRange { last: range.last.min(self.cursor(0).saturating_sub(1)), ..range }
            }
            _ => range,
        }
    }

    /// When the next event ends, in the order of ends.
    pub fn next_end(&self) -> Option<Stamp> {
        let by_end = self.order == Order::Deadline && self.position > 0;
        (by_end && self.position < Rank::MAX).then_some(Stamp(self.position.unsigned_abs()))
    }

    /// Whether nothing that is new can go before this one: it is behind in the order of sequences.
    pub fn is_past(&self, seq: Seq) -> bool {
        self.order == Order::Fifo && seq < self.cursor(0)
    }

    fn cursor(&self, rank: Rank) -> Seq {
        self.cursors.get(&rank).copied().unwrap_or(self.start)
    }

    /// The next event, and its rank. `skip` says of an event that is not to be taken where to go on.
    /// The event stays the next until it is passed.
    pub fn next(
        &mut self,
        facts: &impl Facts,
        scope: Scope,
        skip: impl Fn(Seq) -> Option<Seq>,
    ) -> Option<(Rank, Seq)> {
        self.count_arrivals(facts, scope);
        while let Some(rank) = scope.catalog.next_rank(self.order, self.position) {
            self.position = rank;
            if let Some(seq) = self.next_of_rank(facts, scope, rank, &skip) {
                return Some((rank, seq));
            }
            if rank == Rank::MAX || self.order == Order::Fifo {
                return None;
            }
            self.position = rank + 1;
        }
        None
    }

    /// The event is considered.
    pub fn pass(&mut self, rank: Rank, seq: Seq) {
        self.cursors.insert(rank, seq + 1);
    }

    /// Goes back to the lowest rank that something arrived of.
    fn count_arrivals(&mut self, facts: &impl Facts, scope: Scope) {
        if self.order == Order::Fifo {
            return;
        }
        let Some(next) = facts.next_seq(scope.channel).filter(|next| *next > self.seen) else {
            return;
        };
        let marked = facts.marked(scope.channel, self.seen);
        let ranks = marked.map(|(_, slot)| rank(scope.service, &slot));
        // Unmarked ones may be among them.
        let lowest = ranks.chain([ordinary(self.order)]).min();
        let lowest = lowest.filter(|_| !planted(Bug::UrgentMissed));
        self.position = lowest.map_or(self.position, |rank| rank.min(self.position));
        self.seen = next;
        if self.cursors.len() > CURSORS_MAX {
            let gone = |rank: &Rank| scope.catalog.class(self.order, *rank).is_none();
            let ordinary = ordinary(self.order);
            self.cursors.retain(|rank, _| *rank == ordinary || !gone(rank));
        }
    }

    /// The first event of a rank that is to be taken. The cursor moves over what is not.
    fn next_of_rank(
        &mut self,
        facts: &impl Facts,
        scope: Scope,
        wanted: Rank,
        skip: &impl Fn(Seq) -> Option<Seq>,
    ) -> Option<Seq> {
        let class = scope.catalog.class(self.order, wanted);
        let looks = self.order != Order::Fifo
            || (scope.service.start_time_supported && scope.catalog.has_starts());
        let mut seq = self.cursor(wanted);
        let found = loop {
            if let Some(class) = class {
                let Some(range) = class.overlap(SeqRange { first: seq, last: Seq::MAX }).next()
                else {
                    break None;
                };
                seq = seq.max(range.first);
            }
            match facts.next_unsettled(scope.proxy, seq) {
                None => break None,
                Some(later) if class.is_some() && later > seq => {
                    seq = later;
                    continue;
                }
                Some(later) => seq = later,
            }
            if let Some(after) = skip(seq) {
                seq = after;
                continue;
            }
            if looks {
                let Some(slot) = facts.slot(scope.channel, seq) else {
                    seq += 1;
                    continue;
                };
                let early = scope.service.start_time_supported && slot.start > scope.now;
                if early || rank(scope.service, &slot) != wanted {
                    seq += 1;
                    continue;
                }
            }
            break Some(seq);
        };
        self.cursors.insert(wanted, seq);
        found
    }
}

/// Events that the cursors have passed and that are nowhere else: they go (again).
#[derive(Debug, Default)]
pub(super) struct Behind {
    /// Their settlement failed.
    returned: SeqRanges,
    /// Their start time came.
    released: SeqRanges,
    /// All of them in the order of their ranks; only for orders that have ranks.
    ranked: BTreeSet<(Rank, Seq)>,
    /// There are more of them than are in `ranked`.
    unranked: bool,
}

impl Behind {
    pub fn is_empty(&self) -> bool {
        self.returned.is_empty() && self.released.is_empty()
    }

    pub fn contains(&self, seq: Seq) -> bool {
        self.returned.contains(seq) || self.released.contains(seq)
    }

    /// Whether it may have been delivered.
    pub fn was_delivered(&self, seq: Seq) -> bool {
        self.returned.contains(seq)
    }

    pub fn put_back(&mut self, range: SeqRange) {
        self.returned.insert_range(range);
        self.unranked = true;
    }

    pub fn release(&mut self, range: SeqRange) {
        self.released.insert_range(range);
        self.unranked = true;
    }

    pub fn remove(&mut self, range: SeqRange) {
        self.returned.remove_range(range);
        self.released.remove_range(range);
    }

    /// The order changed.
    pub fn forget_ranks(&mut self) {
        self.ranked.clear();
        self.unranked = true;
    }

    /// The first of them that is not settled. Those that are settled all the same are dropped.
    pub fn first(&mut self, facts: &impl Facts, scope: Scope) -> Option<(Rank, Seq)> {
        match scope.service.order {
            Order::Fifo => self.first_in_sequence(facts, scope.proxy).map(|seq| (0, seq)),
            _ => self.first_in_rank(facts, scope),
        }
    }

    fn first_in_sequence(&mut self, facts: &impl Facts, proxy: ProxyId) -> Option<Seq> {
        let lowest =
            |set: &Behind| set.returned.first().into_iter().chain(set.released.first()).min();
        while let Some(first) = lowest(self) {
            let seq = facts.next_unsettled(proxy, first).unwrap_or(Seq::MAX);
            if seq == first {
                return Some(seq);
            }
            self.remove(SeqRange { first, last: seq - 1 });
        }
        None
    }

    fn first_in_rank(&mut self, facts: &impl Facts, scope: Scope) -> Option<(Rank, Seq)> {
        if std::mem::take(&mut self.unranked) {
            // Runs of those that are settled all the same would be long to go through.
            self.first_in_sequence(facts, scope.proxy);
            let all = self.returned.iter().chain(self.released.iter());
            let all = all.flat_map(|range| range.first..=range.last);
            let slots = all.filter_map(|seq| Some((seq, facts.slot(scope.channel, seq)?)));
            self.ranked.extend(slots.map(|(seq, slot)| (rank(scope.service, &slot), seq)));
        }
        while let Some(&(rank, seq)) = self.ranked.first() {
            if self.contains(seq) && facts.is_pending(scope.proxy, seq) {
                return Some((rank, seq));
            }
            self.ranked.pop_first();
            self.remove(SeqRange::one(seq));
        }
        None
    }
}
