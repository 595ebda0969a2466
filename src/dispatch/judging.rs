//! Which events of a proxy come to an end without a consumer: because it does not want them (`sieve`),
//! by their stop time, by a timeout, or because there are too many.

use super::catalog::{Catalog, rank};
use super::dispatcher::Owner;
use super::progress::Progress;
use super::queue::Queue;
use super::victims::{self, Shelf};
use super::window::State;
use super::{Facts, SlotFacts};
use crate::planted::{Bug, planted};
use crate::types::{Order, Outcome, ProxyId, Seq, SeqRange, SeqRanges, Stamp, limits};

impl Queue {
    /// Judges what can be judged without a consumer. True: there is more to do at once.
    pub fn judge_all(&mut self, facts: &impl Facts, catalog: &Catalog, now: Stamp) -> bool {
        if !self.progress.fits(&self.facts.service) {
            self.reorder(facts);
        }
        let unsifted = self.sift(facts, catalog);
        self.end_given_back(facts, catalog, now);
        let timeouts = self.expire_old(facts, now);
        let excess = self.discard_excess(facts, catalog);
        unsifted || timeouts || excess
    }

    /// Takes up the order that the definition asks for now. What was delivered stays where it is;
    /// all else is considered again.
    fn reorder(&mut self, facts: &impl Facts) {
        let service = self.facts.service;
        self.progress = Progress::new(&service, self.facts.start_seq);
        self.behind.forget_ranks();
        self.window.fit(service.order == Order::Fifo);
        if planted(Bug::OrderDropsWindow) {
            self.forget(SeqRange { first: 0, last: Seq::MAX });
        }
        for slot in self.window.iter_mut() {
            if let Some(known) = facts.slot(self.facts.channel, slot.seq) {
                slot.rank = rank(&service, &known);
            }
        }
        let ready = self.window.iter().filter(|slot| slot.state == State::Ready);
        self.ready = ready.map(|slot| (slot.rank, slot.seq)).collect();
    }

    /// Whether an event has ended for this proxy by its stop time or a timeout.
    pub fn has_ended(&self, slot: &SlotFacts, now: Stamp) -> bool {
        let service = &self.facts.service;
        let stopped = service.stop_time_supported && slot.stop > Stamp(0) && slot.stop <= now;
        let old = service.timeout_ms > 0 && slot.accepted.plus_millis(service.timeout_ms) <= now;
        (stopped || old) && !planted(Bug::ExpiredDelivered)
    }

    /// The stop time of these events has come: those not at a consumer end.
    pub fn stopped(&mut self, facts: &impl Facts, events: &SeqRanges) {
        if self.facts.service.stop_time_supported {
            events.iter().for_each(|range| self.end_pending(facts, range, Outcome::Expired));
        }
    }

    /// The start time of these events has come: those that were passed over go now.
    pub fn started(&mut self, events: &SeqRanges) {
        for range in events.iter() {
            let passed = self.progress.passed(range);
            let idle = (passed.first..=passed.last)
                .filter(|seq| !self.window.holds(*seq) && !self.settling.contains(*seq));
            let idle: SeqRanges = idle.collect();
            idle.iter().for_each(|range| self.behind.release(range));
        }
    }

    /// Whether the proxy wants the event, by its type.
    pub fn wants(&self, catalog: &Catalog, slot: &SlotFacts) -> bool {
        !self.facts.picks || catalog.interests.wants(Owner::Proxy(self.id), slot.kind)
    }

    /// What ended while it was at a consumer or on its way to another end, or is wanted no more, ends
    /// when it is given back.
    fn end_given_back(&mut self, facts: &impl Facts, catalog: &Catalog, now: Stamp) {
        for range in std::mem::take(&mut self.given_back).iter() {
            let (mut ended, mut from) = (SeqRanges::new(), Some(range.first));
            while let Some(seq) = from.and_then(|from| facts.next_unsettled(self.id, from))
                && seq <= range.last
            {
                from = seq.checked_add(1);
                let place = self.window.get(seq).map(|slot| slot.state);
                if place.is_some_and(|state| state != State::Ready) || self.settling.contains(seq) {
                    continue;
                }
                let Some(slot) = facts.slot(self.facts.channel, seq) else { continue };
                match self.wants(catalog, &slot) {
                    false if place.is_some() => self.refuse(seq),
                    false => {}
                    true if self.has_ended(&slot, now) => ended.insert(seq),
                    true => {}
                }
            }
            ended.iter().for_each(|range| self.judge_ended(range, Outcome::Expired));
        }
    }

    /// Ends those of a range that the proxy waits for and no consumer has.
    pub fn end_pending(&mut self, facts: &impl Facts, range: SeqRange, outcome: Outcome) {
        let mut from = Some(range.first);
        while let Some(run) = from.and_then(|from| facts.unsettled_from(self.id, from))
            && run.first <= range.last
        {
            let run = SeqRange { last: run.last.min(range.last), ..run };
            let mut ended = SeqRanges::from_iter([run]);
            let kept = self.window.range(run).filter(|s| matches!(s.state, State::InFlight { .. }));
            kept.for_each(|slot| ended.remove_range(SeqRange::one(slot.seq)));
            self.settling.overlap(run).for_each(|settling| ended.remove_range(settling));
            ended.iter().for_each(|range| self.judge_ended(range, outcome));
            from = run.last.checked_add(1);
        }
    }

    /// Ends what waits longer than the timeout of the proxy. Events are accepted in the order of
    /// their sequences, so the first that may wait on ends the search.
    fn expire_old(&mut self, facts: &impl Facts, now: Stamp) -> bool {
        let timeout_ms = self.facts.service.timeout_ms;
        self.timeout_due = None;
        if timeout_ms == 0 {
            self.timed_out = self.facts.start_seq;
            return false;
        }
        for _ in 0..limits::DISPATCH_EVENTS_MAX {
            let Some(seq) = facts.next_unsettled(self.id, self.timed_out) else { return false };
            let Some(slot) = facts.slot(self.facts.channel, seq) else { return false };
            let due = slot.accepted.plus_millis(timeout_ms);
            if due > now {
                self.timeout_due = Some(due);
                return false;
            }
            self.end_pending(facts, SeqRange::one(seq), Outcome::Expired);
            self.timed_out = seq + 1;
        }
        true
    }

    /// Ends what exceeds the number of events that the proxy may have.
    fn discard_excess(&mut self, facts: &impl Facts, catalog: &Catalog) -> bool {
        let service = self.facts.service;
        if service.max_events == 0 {
            return false;
        }
        let pending = facts.pending(self.id).saturating_sub(self.settling.count());
        let excess = pending.saturating_sub(service.max_events);
        if excess == 0 {
            return false;
        }
        let shelf = OfProxy { facts, queue: self };
        let chosen = victims::choose(&shelf, catalog, service.discard, excess);
        chosen.iter().for_each(|range| self.judge_ended(range, Outcome::Discarded));
        !chosen.is_empty() && chosen.count() < excess
    }
}

/// What one proxy waits for.
struct OfProxy<'a, F> {
    facts: &'a F,
    queue: &'a Queue,
}

impl<F: Facts> Shelf for OfProxy<'_, F> {
    fn first_from(&self, seq: Seq) -> Option<Seq> {
        self.facts.next_unsettled(self.queue.id, seq)
    }

    fn last_upto(&self, seq: Seq) -> Option<Seq> {
        self.facts.last_unsettled(self.queue.id, seq)
    }

    fn slot(&self, seq: Seq) -> Option<SlotFacts> {
        self.facts.slot(self.queue.facts.channel, seq)
    }

    fn may_go(&self, seq: Seq) -> bool {
        let out = self.queue.window.is_out(seq) && !planted(Bug::DiscardsInFlight);
        !out && !self.queue.settling.contains(seq)
    }
}

/// What any proxy of a channel waits for.
pub(super) struct OfChannel<'a, F> {
    pub facts: &'a F,
    /// With their soft state, if there is any.
    pub proxies: Vec<(ProxyId, Option<&'a Queue>)>,
    pub channel: crate::types::ChannelId,
    pub given_up: &'a SeqRanges,
}

impl<F: Facts> Shelf for OfChannel<'_, F> {
    fn first_from(&self, seq: Seq) -> Option<Seq> {
        self.proxies.iter().filter_map(|(id, _)| self.facts.next_unsettled(*id, seq)).min()
    }

    fn last_upto(&self, seq: Seq) -> Option<Seq> {
        self.proxies.iter().filter_map(|(id, _)| self.facts.last_unsettled(*id, seq)).max()
    }

    fn slot(&self, seq: Seq) -> Option<SlotFacts> {
        self.facts.slot(self.channel, seq)
    }

    fn may_go(&self, seq: Seq) -> bool {
        let out = |queue: &Queue| queue.window.is_out(seq);
        !self.given_up.contains(seq)
            && !self.proxies.iter().any(|(_, queue)| queue.is_some_and(out))
    }
}
