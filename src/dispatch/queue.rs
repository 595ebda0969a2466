//! One durable proxy: which of its events are where.

use std::collections::{BTreeMap, BTreeSet};

use super::catalog::Rank;
use super::hold::Holding;
use super::pacing::Pacing;
use super::progress::{Behind, Progress};
use super::proposals::Proposals;
use super::rate::Rate;
use super::sieve::Sieve;
use super::verdicts::Verdicts;
use super::window::{State, Window};
use super::{Action, ConsumerKey, Departure, ProxyFacts};
use crate::planted::{Bug, planted};
use crate::schedule::{Claim, RoundRobin};
use crate::types::{
    Member, Order, Outcome, ProxyId, Seq, SeqRange, SeqRanges, Stamp, Tenure, limits,
};

/// Leases are looked through at most this often, as a part of the lease…
const LEASE_GRAINS: u64 = 64;
/// …and within these bounds, in milliseconds.
const LEASE_GRAIN_MS: (u64, u64) = (1, 1000);

/// The soft state of a durable proxy.
///
/// An unsettled event is in exactly one of these places:
/// - ahead of `progress`: not delivered in this tenure;
/// - in `window`: delivered, and in flight, ready again, or delayed;
/// - in `settling`: its settlement waits to be proposed, or is on the way to the log;
/// - `behind`: that settlement failed, so it is ready again; or its start time came late, or it is
///   wanted now;
/// - passed over because its start time is yet to come: the channel's catalog has it.
#[derive(Debug)]
pub(super) struct Queue {
    pub(super) id: ProxyId,
    pub(super) facts: ProxyFacts,
    pub(super) tenure: Tenure,
    pub(super) progress: Progress,
    pub(super) window: Window,
    /// The slots of the window in state `Ready`, in order.
    pub(super) ready: BTreeSet<(Rank, Seq)>,
    /// The slots of the window in state `Delayed`.
    delayed: BTreeSet<(Stamp, Seq)>,
    pub(super) behind: Behind,
    pub(super) sieve: Sieve,
    pub(super) settling: SeqRanges,
    /// Those of `settling` that had all their deliveries: they do not go again in this tenure.
    pub(super) exhausted: SeqRanges,
    pub(super) verdicts: Verdicts,
    pub(super) proposals: Proposals,
    pub(super) pacing: Pacing,
    pub(super) rate: Rate,
    /// Events before this one have passed the timeout of the proxy, or are gone.
    pub(super) timed_out: Seq,
    /// When the next passes it.
    pub(super) timeout_due: Option<Stamp>,
    /// Given back by consumers since it was last looked whether these have ended meanwhile.
    pub(super) given_back: SeqRanges,
    /// No lease ends before this.
    lease_check: Option<Stamp>,
    /// Events of earlier tenures whose first delivery in this one is still to be put on record as
    /// an attempt.
    pub(super) heads_to_count: u32,
    pub(super) members: BTreeMap<ConsumerKey, Member>,
    pub(super) holding: Holding,
    /// The members that may want an event.
    pub(super) turns: RoundRobin<ConsumerKey>,
    /// The members that got something in a round not yet ended.
    pub(super) round: Vec<ConsumerKey>,
}

impl Queue {
    pub fn new(id: ProxyId, facts: ProxyFacts, tenure: Tenure) -> Queue {
        let sieve = Sieve::new(facts.start_seq, facts.start_seq);
        let mut window = Window::default();
        window.fit(facts.service.order == Order::Fifo);
        Queue {
            id,
            tenure,
            progress: Progress::new(&facts.service, facts.start_seq),
            timed_out: facts.start_seq,
            timeout_due: None,
            pacing: Pacing::default(),
            rate: Rate::default(),
            heads_to_count: facts.service.max_in_flight,
            facts,
            window,
            ready: BTreeSet::new(),
            delayed: BTreeSet::new(),
            behind: Behind::default(),
            sieve,
            settling: SeqRanges::new(),
            exhausted: SeqRanges::new(),
            verdicts: Verdicts::default(),
            proposals: Proposals::default(),
            given_back: SeqRanges::new(),
            lease_check: None,
            members: BTreeMap::new(),
            holding: Holding::default(),
            turns: RoundRobin::default(),
            round: Vec::new(),
        }
    }

    /// What it brings before the scheduler of its channel.
    pub fn claim(&self) -> Claim {
        let service = &self.facts.service;
        let deadline = self.progress.next_end();
        Claim { weight: service.weight, priority: service.urgency, deadline }
    }

    pub fn join(&mut self, consumer: ConsumerKey, member: Member) {
        self.members.insert(consumer, member);
        self.turns.insert(consumer);
        self.find_active();
    }

    /// The consumer got new credit or a new pull.
    pub fn wake(&mut self, consumer: ConsumerKey) {
        self.turns.insert(consumer);
    }

    pub fn members(&self) -> impl Iterator<Item = ConsumerKey> + '_ {
        self.members.keys().copied()
    }

    /// Nothing is known here that the facts do not say.
    pub fn is_idle(&self) -> bool {
        self.members.is_empty()
            && self.window.is_empty()
            && self.settling.is_empty()
            && self.behind.is_empty()
            && self.holding.is_idle()
            && !self.facts.acts_alone()
            && self.verdicts.is_empty()
            && self.proposals.is_empty()
    }

    /// So much waits for a pause to end that no more may join it. What is in flight always may.
    pub fn is_crowded(&self) -> bool {
        let most = limits::SETTLING_RANGES_MAX + self.facts.service.max_in_flight as usize;
        self.proposals.pause.until().is_some() && self.verdicts.range_count() >= most
    }

    /// Takes a consumer out; what it had in flight is ready again at once, unless it leaves its
    /// leases behind.
    pub fn leave(&mut self, consumer: ConsumerKey, departure: Departure) {
        self.members.remove(&consumer);
        self.turns.remove(consumer);
        self.find_active();
        if departure == Departure::LeavesLeases {
            return;
        }
        let held: Vec<Seq> =
            self.window.iter().filter(|s| s.state.is_at(consumer)).map(|s| s.seq).collect();
        for seq in held {
            if departure == Departure::Lost {
                self.fail(seq, None);
            } else {
                self.requeue(seq, None);
            }
        }
    }

    /// The consumer confirmed these. Ranges of events never delivered are taken too: they may have
    /// been, in an earlier tenure.
    pub fn ack(&mut self, range: SeqRange) {
        self.verdicts.ack(range);
        self.start_settling(range);
    }

    /// Gives these up.
    pub fn bury(&mut self, range: SeqRange, reason: &str) {
        self.verdicts.bury(range, reason);
        self.start_settling(range);
    }

    /// The definition of the proxy says that these have ended.
    pub fn judge_ended(&mut self, range: SeqRange, outcome: Outcome) {
        self.verdicts.judge(range, outcome);
        self.start_settling(range);
    }

    fn start_settling(&mut self, range: SeqRange) {
        let known = self.forget(range);
        // Acks of events we did not deliver are only remembered within bounds: forgetting one
        // costs a duplicate at worst.
        if known > 0 || self.settling.range_count() < limits::SETTLING_RANGES_MAX {
            self.behind.remove(range);
            self.settling.insert_range(range);
        }
    }

    /// The facts say that these are settled.
    pub fn settled(&mut self, events: &SeqRanges) {
        for range in events.iter() {
            self.forget(range);
            self.behind.remove(range);
        }
        self.settling.remove_all(events);
        self.exhausted.remove_all(events);
    }

    /// No verdict on these is left: those still pending go again.
    pub fn go_again(&mut self, range: SeqRange) {
        let failed: Vec<SeqRange> = self.settling.overlap(range).collect();
        for part in failed {
            self.sieve.look_again(part.first);
            self.settling.remove_range(part);
            self.behind.put_back(self.progress.passed(part));
        }
    }

    /// Takes a range out of the window; how many events of it were there.
    pub fn forget(&mut self, range: SeqRange) -> usize {
        let (ready, delayed) = (&mut self.ready, &mut self.delayed);
        let before = self.window.len();
        self.window.vacate(range, |slot| match slot.state {
            State::Ready => {
                ready.remove(&(slot.rank, slot.seq));
            }
            State::Delayed { until } => {
                delayed.remove(&(until, slot.seq));
            }
            State::InFlight { .. } | State::Vacant => {}
        });
        before - self.window.len()
    }

    /// A consumer failed on these. Events in flight at somebody else are left alone; events that
    /// wait already wait at least until `until`.
    pub fn nack(
        &mut self,
        range: SeqRange,
        from: Option<ConsumerKey>,
        until: Option<Stamp>,
        now: Stamp,
    ) {
        let slots: Vec<(Seq, State)> =
            self.window.range(range).map(|slot| (slot.seq, slot.state)).collect();
        for (seq, state) in slots {
            match state {
                State::InFlight { .. } if planted(Bug::NackLosesEvent) => {
                    self.forget(SeqRange::one(seq));
                }
                State::InFlight { .. } if from.is_none_or(|c| state.is_at(c)) => {
                    self.fail(seq, until.or_else(|| self.pause_after(seq, now)));
                }
                State::Ready if until.is_some() => self.requeue(seq, until),
                State::Delayed { until: now } if until.is_some_and(|t| t > now) => {
                    self.requeue(seq, until);
                }
                _ => {}
            }
        }
    }

    /// Those of these in flight go again, not before `until`; no attempt failed.
    pub fn postpone(&mut self, range: SeqRange, until: Stamp) {
        let in_flight = |slot: &&super::window::Slot| matches!(slot.state, State::InFlight { .. });
        let seqs: Vec<Seq> = self.window.range(range).filter(in_flight).map(|s| s.seq).collect();
        seqs.into_iter().for_each(|seq| self.requeue(seq, Some(until)));
    }

    /// Starts the lease of these anew.
    pub fn touch(&mut self, range: SeqRange, from: Option<ConsumerKey>, now: Stamp) {
        let due_now = self.lease_from(now);
        let theirs: Vec<Seq> = self.window.range(range).map(|slot| slot.seq).collect();
        for seq in theirs {
            let Some(slot) = self.window.get_mut(seq) else { continue };
            if let State::InFlight { consumer, due, .. } = &mut slot.state
                && from.is_none_or(|c| c == *consumer)
            {
                *due = due_now;
            }
        }
    }

    /// When a lease given now ends; remembers to look then.
    pub fn lease_from(&mut self, now: Stamp) -> Stamp {
        let due = now.plus_millis(self.facts.service.ack_wait_ms);
        self.lease_check = Some(self.lease_check.map_or(due, |check| check.min(due)));
        due
    }

    /// Until when an event waits that fails now.
    fn pause_after(&self, seq: Seq, now: Stamp) -> Option<Stamp> {
        let failures = self.window.get(seq)?.failed.saturating_add(1);
        let pause = self.facts.service.redelivery_delay(failures);
        (pause > 0).then(|| now.plus_millis(pause))
    }

    /// An attempt failed: the event goes again, or to the dead letters if this was the last.
    fn fail(&mut self, seq: Seq, until: Option<Stamp>) {
        let max = self.facts.service.max_deliveries;
        let Some(slot) = self.window.get_mut(seq) else { return };
        slot.failed = slot.failed.saturating_add(1);
        let counted = matches!(slot.state, State::InFlight { counted: true, .. });
        let spent = max > 0 && slot.failed >= max;
        // The last one, too: it may be long until the event is buried.
        if max > 0 && !counted {
            self.verdicts.count(seq);
        }
        match spent {
            true => self.exhaust(SeqRange::one(seq)),
            false => self.requeue(seq, until),
        }
    }

    /// These events had all the deliveries they may have.
    pub fn exhaust(&mut self, range: SeqRange) {
        let max = self.facts.service.max_deliveries;
        self.exhausted.insert_range(range);
        self.bury(range, &format!("max deliveries ({max}) reached"));
    }

    pub(super) fn requeue(&mut self, seq: Seq, until: Option<Stamp>) {
        let Some(slot) = self.window.get_mut(seq) else { return };
        if let State::Delayed { until } = slot.state {
            self.delayed.remove(&(until, seq));
        }
        match until {
            Some(until) => {
                slot.state = State::Delayed { until };
                self.ready.remove(&(slot.rank, seq));
                self.delayed.insert((until, seq));
            }
            None => {
                slot.state = State::Ready;
                if planted(Bug::PriorityLost) {
                    slot.rank = Rank::MAX;
                }
                self.ready.insert((slot.rank, seq));
                self.given_back.insert(seq);
            }
        }
    }

    /// When time alone next changes something.
    pub fn next_due(&self) -> Option<Stamp> {
        let delay = self.delayed.first().map(|(until, _)| *until);
        let pause = self.proposals.pause.until().filter(|_| !self.verdicts.is_empty());
        let own = [self.lease_check, delay, pause, self.timeout_due, self.holding.next_due()];
        // Nothing comes of these while it is suspended; serving it anew sets them anew.
        let limits = [self.pacing.next_due(), self.rate.next_due()];
        let limits = limits.into_iter().filter(|_| !self.facts.rests);
        own.into_iter().chain(limits).flatten().min()
    }

    /// Lets delays and leases end.
    pub fn pass_time(&mut self, now: Stamp) {
        while let Some(&(until, seq)) = self.delayed.first() {
            if until > now {
                break;
            }
            self.requeue(seq, None);
        }
        if self.lease_check.is_some_and(|check| check <= now) {
            self.expire_leases(now);
        }
    }

    /// Looks through all leases: rare enough (see `LEASE_GRAINS`) to be cheaper than an order kept
    /// at every delivery and touch.
    fn expire_leases(&mut self, now: Stamp) {
        let mut expired = Vec::new();
        let mut earliest: Option<Stamp> = None;
        for slot in self.window.iter() {
            match slot.state {
                State::InFlight { due, .. } if due <= now => expired.push(slot.seq),
                State::InFlight { due, .. } => {
                    earliest = Some(earliest.map_or(due, |e| e.min(due)));
                }
                _ => {}
            }
        }
        let (least, most) = LEASE_GRAIN_MS;
        let grain = (self.facts.service.ack_wait_ms / LEASE_GRAINS).clamp(least, most);
        self.lease_check = earliest.map(|due| due.max(now.plus_millis(grain)));
        if planted(Bug::LeasesNeverEnd) {
            return;
        }
        for seq in expired {
            self.fail(seq, self.pause_after(seq, now));
        }
    }

    /// Hands the settlements and attempts collected so far to the driver, unless they are to wait.
    pub fn flush(&mut self, now: Stamp, out: &mut Vec<Action>) {
        out.extend(self.holding.take_parting());
        if self.proposals.pause.lasts(now) {
            return;
        }
        match self.verdicts.only_filters() && !self.sieve.is_due(&self.verdicts) {
            true => self.proposals.make_attempts(&mut self.verdicts, self.id, out),
            false => self.flush_all(out),
        }
    }

    /// The same at once.
    pub fn flush_all(&mut self, out: &mut Vec<Action>) {
        out.extend(self.holding.take_parting());
        let said = (self.facts.revision, self.facts.fencing);
        self.proposals.make(&mut self.verdicts, self.id, said, out);
    }
}
