//! Which event goes next, and to whom: the order of one durable proxy.
//!
//! [`Queue::next`] is the only place that chooses; pacing and suspension go before it, in
//! [`Queue::serve`].

use super::catalog::{Catalog, Rank};
use super::consumers::Consumers;
use super::pacing::Pacing;
use super::progress::Scope;
use super::queue::Queue;
use super::window::{Slot, State};
use super::{Action, ConsumerKey, Delivery, Facts, SlotFacts};
use crate::planted::{Bug, planted};
use crate::types::{Outcome, Seq, SeqRange, Stamp, limits};

/// An event whose turn it is, before it is judged.
struct Next {
    seq: Seq,
    rank: Rank,
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

/// What serving looks at: the facts, the channel's catalog, and the time.
#[derive(Debug)]
pub(super) struct Sight<'a, F> {
    pub facts: &'a F,
    pub catalog: &'a Catalog,
    pub now: Stamp,
}

impl Queue {
    /// Delivers up to `events_max` events; how many went. Fewer mean that nothing more can go now.
    pub fn serve<F: Facts>(
        &mut self,
        sight: &Sight<F>,
        events_max: usize,
        consumers: &mut Consumers,
        out: &mut Vec<Action>,
    ) -> usize {
        let mut given = 0;
        let rests = self.facts.rests && !planted(Bug::SuspensionIgnored);
        while !rests && given < events_max {
            let paced = self.allowance(sight, consumers);
            let allowed = paced.min(self.rate.allows(self.facts.service.rate, sight.now));
            let batch = (events_max - given).min(usize::try_from(allowed).unwrap_or(usize::MAX));
            let gone = self.deliver(sight, batch, consumers, out);
            self.rate.spend(gone as u64);
            given += gone;
            if gone == 0 || gone < batch || paced == u64::MAX {
                break;
            }
            self.end_round(consumers, out);
        }
        if given < events_max {
            self.end_round(consumers, out);
        }
        given
    }

    fn end_round(&mut self, consumers: &mut Consumers, out: &mut Vec<Action>) {
        self.round.drain(..).for_each(|consumer| consumers.end_round(consumer, out));
    }

    /// How many events may go now. Who pulls decides about that alone.
    fn allowance<F: Facts>(&mut self, sight: &Sight<F>, consumers: &Consumers) -> u64 {
        let service = self.facts.service;
        if service.pacing_ms == 0 || self.receivers().any(|consumer| consumers.pulls(consumer)) {
            self.pacing = Pacing::default();
            return u64::MAX;
        }
        let out = self.window.len() - self.ready.len();
        let elsewhere = out as u64 + self.settling.count();
        let waiting = sight.facts.pending(self.id).saturating_sub(elsewhere);
        self.pacing.allows(&service, waiting, sight.now)
    }

    fn deliver<F: Facts>(
        &mut self,
        sight: &Sight<F>,
        events_max: usize,
        consumers: &mut Consumers,
        out: &mut Vec<Action>,
    ) -> usize {
        let batch_max = self.facts.service.batch_max as usize;
        let mut given = 0;
        while given < events_max {
            let Some(consumer) = self.turns.front() else { break };
            if !consumers.wants(consumer) || !self.is_active(consumer) {
                self.turns.pop();
                continue;
            }
            let Some(candidate) = self.candidate(sight) else { break };
            let delivery = self.lease(candidate, consumer, sight.now);
            if consumers.give(consumer, delivery, batch_max, out) {
                self.round.push(consumer);
            }
            given += 1;
            self.turns.rotate();
        }
        given
    }

    /// The first event in order that may go. What turns out to be settled, ended or exhausted on
    /// the way is dealt with.
    fn candidate<F: Facts>(&mut self, sight: &Sight<F>) -> Option<Candidate> {
        loop {
            let next = self.next(sight)?;
            if let Some(candidate) = self.judge(sight, next) {
                return Some(candidate);
            }
        }
    }

    /// Takes the next event in order: of those that go again and those that are new the first.
    fn next<F: Facts>(&mut self, sight: &Sight<F>) -> Option<Next> {
        let grows = self.may_grow();
        let service = self.facts.service;
        let Sight { facts, catalog, now } = *sight;
        let (proxy, channel) = (self.id, self.facts.channel);
        let scope = Scope { proxy, channel, service: &service, catalog, now };
        let ready = self.ready.first().copied();
        let behind = grows.then(|| self.behind.first(facts, scope)).flatten();
        let again = ready.into_iter().chain(behind).min();
        let fresh = match again {
            Some((_, seq)) if self.progress.is_past(seq) => None,
            _ => grows.then(|| self.next_new(facts, scope)).flatten(),
        };
        let (rank, seq) = again.into_iter().chain(fresh).min()?;
        if ready == Some((rank, seq)) {
            self.ready.remove(&(rank, seq));
            let slot = self.window.get_mut(seq)?;
            return Some(Next { seq, rank, delivered: slot.delivery, failed: slot.failed });
        }
        let delivered = u32::from(self.behind.was_delivered(seq));
        match behind == Some((rank, seq)) {
            true => self.behind.remove(SeqRange::one(seq)),
            false => self.progress.pass(rank, seq),
        }
        Some(Next { seq, rank, delivered, failed: 0 })
    }

    /// The next event not delivered in this tenure. Its settlement may be on the way already, when
    /// a consumer repeats acks after a failover.
    fn next_new(&mut self, facts: &impl Facts, scope: Scope) -> Option<(Rank, Seq)> {
        let (settling, window, behind) = (&self.settling, &self.window, &self.behind);
        let tenure = self.tenure.0;
        let skip = |seq: Seq| {
            let range = settling.overlap(SeqRange { first: seq, last: Seq::MAX }).next();
            if let Some(range) = range.filter(|range| range.first == seq) {
                return Some(range.last + 1);
            }
            let lost = || facts.slot(scope.channel, seq).is_some_and(|s| s.key.index < tenure);
            let skipped = planted(Bug::InFlightSkipped) && lost();
            (skipped || window.holds(seq) || behind.contains(seq)).then_some(seq + 1)
        };
        self.progress.next(facts, scope, skip)
    }

    /// Whether the window has room for one more event.
    fn may_grow(&self) -> bool {
        self.window.len() < self.facts.service.max_in_flight as usize
            && self.settling.range_count() < limits::SETTLING_RANGES_MAX
    }

    /// Completes what is known of an event, unless it may not be delivered (any more).
    fn judge<F: Facts>(&mut self, sight: &Sight<F>, mut next: Next) -> Option<Candidate> {
        let (seq, facts) = (next.seq, sight.facts);
        let gone = next.delivered > 0 && !facts.is_pending(self.id, seq);
        let slot = facts.slot(self.facts.channel, seq).filter(|_| !gone);
        let Some(slot) = slot else {
            self.forget(SeqRange::one(seq));
            return None;
        };
        if !self.wants(sight.catalog, &slot) {
            self.refuse(seq);
            return None;
        }
        // The catalog releases it when its time has come. What was delivered once goes again.
        let early = self.facts.service.start_time_supported && slot.start > sight.now;
        if early && !self.window.holds(seq) {
            return None;
        }
        if self.has_ended(&slot, sight.now) {
            self.judge_ended(SeqRange::one(seq), Outcome::Expired);
            return None;
        }
        let max = self.facts.service.max_deliveries;
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
        let Candidate { next: Next { seq, rank, delivered, failed }, facts } = candidate;
        let earlier_tenure = facts.key.index < self.tenure.0;
        let counted = delivered == 0 && earlier_tenure && self.count_head(seq);
        let delivery = delivered.max(failed).saturating_add(1);
        let due = self.lease_from(now);
        let state = State::InFlight { consumer, due, counted };
        self.window.put(Slot { seq, delivery, failed, rank, state });
        let earlier_tenure = earlier_tenure && !planted(Bug::RedeliveryUnmarked);
        let maybe_redelivered = earlier_tenure || facts.again || delivery > 1;
        let (key, size, fencing) = (facts.key, facts.size, self.facts.fencing);
        Delivery { seq, key, size, delivery, maybe_redelivered, fencing }
    }

    /// After a failover the first window is put on record as attempted, before anything fails: an
    /// event that kills leaders leaves no other trace.
    fn count_head(&mut self, seq: Seq) -> bool {
        if self.facts.service.max_deliveries == 0 || self.heads_to_count == 0 {
            return false;
        }
        self.heads_to_count -= 1;
        self.verdicts.count(seq);
        true
    }
}
