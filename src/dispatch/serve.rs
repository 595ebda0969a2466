//! Which event goes next, and to whom: the order of one durable proxy.
//!
//! Today the order is that of sequences. Another policy replaces [`Queue::next`], which is the only
//! place that chooses; pacing and rate limits go before it, in [`Queue::serve`].

use super::consumers::Consumers;
use super::queue::Queue;
use super::window::{Slot, State};
use super::{Action, ConsumerKey, Delivery, Facts, SlotFacts};
use crate::planted::{Bug, planted};
use crate::types::{Seq, SeqRange, Stamp, limits};

/// An event whose turn it is, before it is judged.
struct Next {
    seq: Seq,
    /// Number of its latest delivery in this tenure; 0 if there was none.
    delivered: u32,
    /// Attempts that failed in this tenure.
    failed: u32,
}

/// An event that may go.
struct Candidate {
    next: Next,
    facts: SlotFacts,
}

impl Queue {
    /// Delivers up to `events_max` events; how many went. Fewer mean that nothing more can go now.
    pub fn serve(
        &mut self,
        facts: &impl Facts,
        now: Stamp,
        events_max: usize,
        consumers: &mut Consumers,
        out: &mut Vec<Action>,
    ) -> usize {
        let mut given = 0;
        while given < events_max {
            let Some(consumer) = self.turns.front() else { break };
            if !consumers.wants(consumer) {
                self.turns.pop();
                continue;
            }
            let Some(candidate) = self.candidate(facts) else { break };
            let delivery = self.lease(candidate, consumer, now);
            if consumers.give(consumer, delivery, out) {
                self.round.push(consumer);
            }
            given += 1;
            self.turns.rotate();
        }
        if given < events_max {
            self.round.drain(..).for_each(|consumer| consumers.end_round(consumer, out));
        }
        given
    }

    /// The first event in order that may go. What turns out to be settled or exhausted on the way
    /// is dealt with.
    fn candidate(&mut self, facts: &impl Facts) -> Option<Candidate> {
        loop {
            let next = self.next(facts)?;
            if let Some(candidate) = self.judge(facts, next) {
                return Some(candidate);
            }
        }
    }

    /// Takes the next event in order: the lowest that waits to go again, else the next new one.
    fn next(&mut self, facts: &impl Facts) -> Option<Next> {
        let ready = self.ready.first().copied();
        match self.first_returned(facts) {
            Some(seq) if ready.is_none_or(|ready| seq < ready) => {
                self.returned.remove_range(SeqRange::one(seq));
                Some(Next { seq, delivered: 1, failed: 0 })
            }
            _ => match ready {
                Some(seq) => {
                    self.ready.remove(&seq);
                    let slot = self.window.get_mut(seq)?;
                    Some(Next { seq, delivered: slot.delivery, failed: slot.failed })
                }
                None => self.next_new(facts),
            },
        }
    }

    /// The lowest event whose settlement failed, if the window has room for it. Those settled all
    /// the same are dropped in runs.
    fn first_returned(&mut self, facts: &impl Facts) -> Option<Seq> {
        while let Some(first) = self.returned.first()
            && self.may_grow()
        {
            let seq = facts.next_unsettled(self.id, first).unwrap_or(Seq::MAX);
            if seq == first {
                return Some(seq);
            }
            self.returned.remove_range(SeqRange { first, last: seq - 1 });
        }
        None
    }

    /// The next event not delivered in this tenure. Its settlement may be on the way already, when
    /// a consumer repeats acks after a failover.
    fn next_new(&mut self, facts: &impl Facts) -> Option<Next> {
        while self.may_grow() {
            let seq = facts.next_unsettled(self.id, self.cursor)?;
            let slot = || facts.slot(self.facts.channel, seq);
            if planted(Bug::InFlightSkipped) && slot()?.key.index < self.tenure.0 {
                self.cursor = seq + 1;
                continue;
            }
            let settling = self.settling.overlap(SeqRange { first: seq, last: Seq::MAX }).next();
            match settling.filter(|range| range.first == seq) {
                Some(range) => self.cursor = range.last + 1,
                None => {
                    self.cursor = seq + 1;
                    return Some(Next { seq, delivered: 0, failed: 0 });
                }
            }
        }
        None
    }

    /// Whether the window has room for one more event.
    fn may_grow(&self) -> bool {
        self.window.len() < self.facts.settings.max_in_flight as usize
            && self.settling.range_count() < limits::SETTLING_RANGES_MAX
    }

    /// Completes what is known of an event, unless it may not be delivered (any more).
    fn judge(&mut self, facts: &impl Facts, mut next: Next) -> Option<Candidate> {
        let seq = next.seq;
        let gone = next.delivered > 0 && !facts.is_pending(self.id, seq);
        let slot = facts.slot(self.facts.channel, seq).filter(|_| !gone);
        let Some(slot) = slot else {
            self.forget(SeqRange::one(seq));
            return None;
        };
        let max = self.facts.settings.max_deliveries;
        if max > 0 {
            next.failed = next.failed.max(facts.attempts(self.id, seq));
            if next.failed >= max {
                self.exhaust(SeqRange::one(seq));
                return None;
            }
        }
        Some(Candidate { next, facts: slot })
    }

    /// Puts the event in flight.
    fn lease(&mut self, candidate: Candidate, consumer: ConsumerKey, now: Stamp) -> Delivery {
        let Candidate { next: Next { seq, delivered, failed }, facts } = candidate;
        let earlier_tenure = facts.key.index < self.tenure.0;
        let counted = delivered == 0 && earlier_tenure && self.count_head(seq);
        let delivery = delivered.max(failed).saturating_add(1);
        let due = self.lease_from(now);
        let state = State::InFlight { consumer, due, counted };
        self.window.put(Slot { seq, delivery, failed, state });
        let earlier_tenure = earlier_tenure && !planted(Bug::RedeliveryUnmarked);
        let maybe_redelivered = earlier_tenure || delivery > 1;
        Delivery { seq, key: facts.key, size: facts.size, delivery, maybe_redelivered }
    }

    /// After a failover the first window is put on record as attempted, before anything fails: an
    /// event that kills leaders leaves no other trace.
    fn count_head(&mut self, seq: Seq) -> bool {
        if self.facts.settings.max_deliveries == 0 || self.heads_to_count == 0 {
            return false;
        }
        self.heads_to_count -= 1;
        self.verdicts.count(seq);
        true
    }
}
