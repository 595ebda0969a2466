//! The sans-I/O core of delivery.

use std::collections::{BTreeMap, BTreeSet};

use super::confirmations::{Confirmations, Flight, Waiter};
use super::handle::ProxyStats;
use super::outbox::Heads;
use super::request::{ConsumerId, Request, SessionId, has_verdict};
use crate::dispatch::{
    Action, Attachment, ConsumerKey, Departure, Dispatcher, Facts, Mode, Pull, Settlement,
    TurnStats,
};
use crate::machine::{Command, Reply, Settle, SettlePart, Settled};
use crate::planted::{Bug, planted};
use crate::types::{ChannelId, Code, Member, ProxyId, Rejection, SeqRanges, Stamp, Tenure, limits};
use crate::wire::{self, Closed, Failed, Gap, PullDone, ServerMessage, SettleConfirmed};

/// What the task is to do, in this order.
#[derive(Debug, PartialEq)]
pub enum Output {
    /// Put a message into the session's outbox.
    Send { session: SessionId, message: ServerMessage },
    /// Put deliveries into the session's outbox.
    Deliver { session: SessionId, heads: Heads },
    /// Propose the command in the proxy's name; hand the outcome to [`Driver::completed`] with the
    /// token.
    Propose { proxy: ProxyId, command: Command, token: u64 },
}

/// Delivery in one tenure. See the module.
#[derive(Debug)]
pub struct Driver {
    tenure: Tenure,
    dispatcher: Dispatcher,
    bound: BTreeMap<ConsumerId, ConsumerKey>,
    consumers: BTreeMap<ConsumerKey, Bound>,
    next_key: u64,
    confirmations: Confirmations,
    /// Holders proposed, by token.
    holds: BTreeMap<u64, ProxyId>,
    /// Proxies that somebody attached to since it was last asked.
    visited: BTreeSet<ProxyId>,
    next_token: u64,
    outputs: Vec<Output>,
}

/// An attached consumer.
#[derive(Debug)]
struct Bound {
    id: ConsumerId,
    attachment: Attachment,
    pulls: bool,
    dead_letters: bool,
}

impl Driver {
    /// Nobody attached, nothing known. `first_token`: proposals are numbered from here; numbers
    /// of earlier tenures must lie below, so that their late replies mean nothing.
    pub fn new(tenure: Tenure, first_token: u64) -> Driver {
        Driver {
            tenure,
            dispatcher: Dispatcher::new(tenure),
            bound: BTreeMap::new(),
            consumers: BTreeMap::new(),
            next_key: 1,
            confirmations: Confirmations::default(),
            holds: BTreeMap::new(),
            visited: BTreeSet::new(),
            next_token: first_token,
            outputs: Vec::new(),
        }
    }

    /// The tenure it works in.
    pub fn tenure(&self) -> Tenure {
        self.tenure
    }

    /// The number the next proposal gets.
    pub fn next_token(&self) -> u64 {
        self.next_token
    }

    /// A session asks for something.
    pub fn request(&mut self, facts: &impl Facts, request: Request, now: Stamp) {
        match request {
            Request::Attach { consumer, attachment, mode, member, dead_letters } => {
                self.attach(facts, (consumer, member), attachment, mode, dead_letters);
            }
            Request::Credit { consumer, events, bytes } => {
                if let Some(key) = self.bound.get(&consumer) {
                    // Refused only for consumers that pull, and sessions see to that.
                    let _ = self.dispatcher.credit(*key, events, bytes);
                }
            }
            Request::Pull { consumer, request, events_max, bytes_max, wait_ms } => {
                let deadline = now.plus_millis(wait_ms);
                let pull = Pull { request: request.into(), events_max, bytes_max, deadline };
                self.pull(consumer, request, pull);
            }
            Request::Settle { session, settle } => self.settle(facts, session, &settle, now),
            Request::Unreadable { consumer, proxy, sequences, bytes } => {
                let events = sequences.len() as u32;
                if let Some(proxy) = proxy {
                    let sequences = sequences.into_iter().collect();
                    let until = now.plus_millis(limits::UNREADABLE_RETRY_MS);
                    self.dispatcher.postpone(proxy, &sequences, until);
                }
                if let Some(key) = self.bound.get(&consumer) {
                    // Refused for consumers that pull: they have no credit.
                    let _ = self.dispatcher.credit(*key, events, bytes);
                }
            }
            Request::Detach { consumer } => {
                self.detach(consumer, Departure::Returned);
                self.send(consumer.session, Closed { consumer: consumer.handle, reason: None });
            }
        }
    }

    fn attach(
        &mut self,
        facts: &impl Facts,
        (id, member): (ConsumerId, Member),
        attachment: Attachment,
        mode: Mode,
        dead_letters: bool,
    ) {
        let key = ConsumerKey(self.next_key);
        self.next_key += 1;
        if let Err(rejection) =
            self.dispatcher.attach(facts, (key, member), attachment.clone(), mode)
        {
            let reason = Some(rejection);
            return self.send(id.session, Closed { consumer: id.handle, reason });
        }
        if let Attachment::Durable(proxy) = attachment {
            self.visited.insert(proxy);
        }
        self.bound.insert(id, key);
        let pulls = matches!(mode, Mode::Pull);
        self.consumers.insert(key, Bound { id, attachment, pulls, dead_letters });
    }

    fn pull(&mut self, consumer: ConsumerId, request: u32, pull: Pull) {
        let Some(key) = self.bound.get(&consumer) else {
            // Closed while the pull was on its way.
            let done = PullDone { request, consumer: consumer.handle, delivered: 0 };
            return self.send(consumer.session, done);
        };
        if let Err(rejection) = self.dispatcher.pull(*key, pull) {
            self.send(consumer.session, Failed { request, rejection });
        }
    }

    /// Acks and terminations are confirmed with their commit, a settlement without them at once.
    fn settle(
        &mut self,
        facts: &impl Facts,
        session: SessionId,
        settle: &wire::Settle,
        now: Stamp,
    ) {
        let proxy = settle.proxy;
        let batch = settle.batch;
        let confirm =
            |refused| SettleConfirmed { batch, proxy, settled: 0, already: Vec::new(), refused };
        if let Err(fenced) = self.dispatcher.check_fencing(facts, proxy, settle.fencing) {
            if has_verdict(settle) {
                self.send(session, confirm(Some(fenced)));
            }
            return;
        }
        for from in self.holders(session, proxy) {
            self.dispatcher.touch(proxy, from, &settle.touches, now);
            for nack in &settle.nacks {
                self.dispatcher.nack(proxy, from, &nack.sequences, nack.delay_ms, now);
            }
        }
        match self.conclude(facts, settle) {
            Ok((0, _)) if has_verdict(settle) => self.send(session, confirm(None)),
            Ok((0, _)) => {}
            Ok((offered, sequences)) => {
                let waiter = Waiter { session, batch, sequences, offered };
                self.confirmations.wait(proxy, waiter);
            }
            Err(rejection) => self.send(session, confirm(Some(rejection))),
        }
    }

    /// Whose deliveries a session may return or hold: those of its own consumers, so that a late
    /// nack does not take an event from whoever has it now. Without any (it resumed, or settles
    /// for somebody else) it may speak for all.
    fn holders(&self, session: SessionId, proxy: ProxyId) -> Vec<Option<ConsumerKey>> {
        let attached = |key: &ConsumerKey| {
            let bound = self.consumers.get(key);
            bound.is_some_and(|bound| bound.attachment == Attachment::Durable(proxy))
        };
        let own = self.of_session(session).map(|(_, key)| key).filter(|key| attached(key));
        let own: Vec<_> = own.map(Some).collect();
        if own.is_empty() { vec![None] } else { own }
    }

    fn of_session(&self, session: SessionId) -> impl Iterator<Item = (ConsumerId, ConsumerKey)> {
        let first = ConsumerId { session, handle: 0 };
        let last = ConsumerId { session, handle: u32::MAX };
        self.bound.range(first..=last).map(|(id, key)| (*id, *key))
    }

    /// Passes acks and terminations on. How many events they name that the proxy was offered, and
    /// which.
    fn conclude(
        &mut self,
        facts: &impl Facts,
        settle: &wire::Settle,
    ) -> Result<(u64, SeqRanges), Rejection> {
        let mut sequences = settle.acks.clone();
        let mut offered = self.dispatcher.ack(facts, settle.proxy, &settle.acks)?;
        for term in &settle.terms {
            let (which, why) = (&term.sequences, &term.reason);
            offered += self.dispatcher.term(facts, settle.proxy, which, why)?;
            which.iter().for_each(|range| sequences.insert_range(range));
        }
        Ok((offered, sequences))
    }

    fn detach(&mut self, consumer: ConsumerId, departure: Departure) {
        let Some(key) = self.bound.remove(&consumer) else { return };
        let bound = self.consumers.remove(&key);
        // What was pulled may be settled by token, from another process.
        let departure = match bound {
            Some(Bound { pulls: true, .. }) => Departure::LeavesLeases,
            _ => departure,
        };
        self.dispatcher.detach(key, departure);
    }

    /// A session is gone, with all its consumers. Settlements it passed on go through; nobody is
    /// told.
    pub fn disconnect(&mut self, session: SessionId, departure: Departure) {
        let gone: Vec<ConsumerId> = self.of_session(session).map(|(id, _)| id).collect();
        gone.into_iter().for_each(|consumer| self.detach(consumer, departure));
        self.confirmations.forget(session);
    }

    /// The facts of these channels changed.
    pub fn changed(&mut self, channels: &BTreeSet<ChannelId>) {
        channels.iter().for_each(|channel| self.dispatcher.channel_touched(*channel));
    }

    /// A proposal ended. Nobody is told of a refusal that is only for now: dispatch proposes the
    /// same again, and what becomes of that is the answer.
    pub fn completed(&mut self, token: u64, outcome: Result<Reply, Rejection>, now: Stamp) {
        if let Some(proxy) = self.holds.remove(&token) {
            return self.dispatcher.held(proxy, matches!(outcome, Ok(Reply::Held { .. })), now);
        }
        let Some(flight) = self.confirmations.land(token) else { return };
        let outcome: Result<Settled, Rejection> = match outcome {
            Ok(Reply::Settled(settled)) => Ok(settled),
            Ok(Reply::Rejected(rejection)) | Err(rejection) => Err(rejection),
            // Not a settlement's reply; the facts tell what is still pending.
            Ok(_) => Ok(Settled::default()),
        };
        let (proxy, proposal) = (flight.proxy, flight.proposal);
        match &outcome {
            Ok(settled) => self.dispatcher.applied(proxy, proposal, settled.stale > 0, now),
            Err(rejection) if is_for_now(rejection) => {
                if self.dispatcher.refused(proxy, proposal, now) {
                    return self.confirmations.wait_again(flight);
                }
            }
            Err(_) => self.dispatcher.failed(proxy, proposal, now),
        }
        for (session, confirmed) in flight.confirm(&outcome) {
            self.send(session, confirmed);
        }
    }

    /// Delivers whatever can go now. Returns everything to be done since the last call.
    pub fn poll(&mut self, facts: &impl Facts, now: Stamp) -> Vec<Output> {
        for action in self.dispatcher.poll(facts, now) {
            self.act(action);
        }
        std::mem::take(&mut self.outputs)
    }

    /// When to poll next although nothing happens; long past: at once.
    pub fn next_wakeup(&self) -> Option<Stamp> {
        self.dispatcher.next_wakeup()
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Deliver { consumer, proxy, channel, events } => {
                let Some(Bound { id, dead_letters, .. }) = self.consumers.get(&consumer) else {
                    return;
                };
                let (tenure, dead_letters) = (self.tenure, *dead_letters);
                let ConsumerId { session, handle: consumer } = *id;
                let heads = Heads { consumer, tenure, proxy, channel, dead_letters, events };
                self.outputs.push(Output::Deliver { session, heads });
            }
            Action::Settle { proxy, proposal, revision, fencing, parts } => {
                let waiters = self.confirmations.take(proxy);
                let command = self.settlement(proxy, (revision, fencing), parts);
                self.propose(Flight { proxy, proposal, waiters }, command);
            }
            Action::CountAttempts { proxy, proposal, sequences } => {
                let command = Command::CountAttempts { proxy, sequences };
                self.propose(Flight { proxy, proposal, waiters: Vec::new() }, command);
            }
            Action::Hold { proxy, holder } => {
                let token = self.token();
                self.holds.insert(token, proxy);
                let command = Command::Hold { proxy, holder };
                self.outputs.push(Output::Propose { proxy, command, token });
            }
            Action::Gap { consumer, missed } => {
                self.tell(consumer, |consumer| Gap { consumer, missed }.into());
            }
            Action::PullDone { consumer, request, delivered } => {
                // Requests are 32 bits wide where they come from.
                let request = request as u32;
                self.tell(consumer, |consumer| PullDone { request, consumer, delivered }.into());
            }
            Action::Close { consumer, rejection } => {
                let reason = Some(rejection);
                self.tell(consumer, |consumer| Closed { consumer, reason }.into());
                if let Some(gone) = self.consumers.remove(&consumer) {
                    self.bound.remove(&gone.id);
                }
            }
        }
    }

    fn settlement(
        &self,
        proxy: ProxyId,
        (revision, fencing): (u64, u64),
        parts: Vec<Settlement>,
    ) -> Command {
        let part =
            |Settlement { outcome, sequences, reason }| SettlePart { outcome, sequences, reason };
        let parts = parts.into_iter().map(part).collect();
        let mut of = proxy;
        if planted(Bug::SettlesWrongProxy)
            && let Some(Bound { attachment: Attachment::Durable(first), .. }) =
                self.consumers.values().next()
        {
            of = *first;
        }
        Command::Settle(Settle { proxy: of, revision, fencing, parts })
    }

    fn token(&mut self) -> u64 {
        self.next_token += 1;
        self.next_token - 1
    }

    fn propose(&mut self, flight: Flight, command: Command) {
        let (token, proxy) = (self.token(), flight.proxy);
        self.confirmations.fly(token, flight);
        self.outputs.push(Output::Propose { proxy, command, token });
    }

    fn tell(&mut self, consumer: ConsumerKey, message: impl FnOnce(u32) -> ServerMessage) {
        if let Some(Bound { id, .. }) = self.consumers.get(&consumer) {
            let ConsumerId { session, handle } = *id;
            self.send(session, message(handle));
        }
    }

    fn send(&mut self, session: SessionId, message: impl Into<ServerMessage>) {
        self.outputs.push(Output::Send { session, message: message.into() });
    }

    /// What goes on at these durable proxies.
    pub fn stats(&self, proxies: &[ProxyId], now: Stamp) -> BTreeMap<ProxyId, ProxyStats> {
        let of = |id: &ProxyId| {
            let TurnStats { turns, longest_wait_ms, waiting_since } =
                self.dispatcher.turn_stats(*id);
            let waiting_ms = waiting_since.map_or(0, |since| now.millis_since(since));
            let in_flight = self.dispatcher.in_flight(*id);
            let standby = self.dispatcher.standby(*id);
            let stats =
                ProxyStats { in_flight, turns, waiting_ms, longest_wait_ms, standby, clients: 0 };
            (*id, stats)
        };
        let mut stats: BTreeMap<_, _> = proxies.iter().map(of).collect();
        for bound in self.consumers.values() {
            if let Attachment::Durable(proxy) = bound.attachment
                && let Some(stats) = stats.get_mut(&proxy)
            {
                stats.clients += 1;
            }
        }
        stats
    }

    /// The durable proxies that have clients, or had since the last call.
    pub fn take_active(&mut self) -> BTreeSet<ProxyId> {
        let durable = |bound: &Bound| match bound.attachment {
            Attachment::Durable(proxy) => Some(proxy),
            Attachment::Volatile { .. } => None,
        };
        let here = self.consumers.values().filter_map(durable);
        std::mem::take(&mut self.visited).into_iter().chain(here).collect()
    }

    /// Number of volatile consumers, by channel.
    pub fn subscribers(&self) -> BTreeMap<ChannelId, usize> {
        let mut subscribers = BTreeMap::new();
        for bound in self.consumers.values() {
            if let Attachment::Volatile { channel, .. } = bound.attachment {
                *subscribers.entry(channel).or_insert(0) += 1;
            }
        }
        subscribers
    }

    /// Number of consumers attached.
    pub fn consumers(&self) -> usize {
        self.consumers.len()
    }
}

/// Whether a refused command is in no log, and may get into one while this tenure lasts. If it does
/// not last, nothing of it is left here to be proposed.
fn is_for_now(rejection: &Rejection) -> bool {
    matches!(rejection.code, Code::Overloaded | Code::NoLeader)
}
