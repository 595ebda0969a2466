//! The entry point: routes inputs to proxies and cursors, and serves those that something happened
//! to.

use std::collections::{BTreeMap, BTreeSet};

use super::calendar::Calendar;
use super::catalog::Catalog;
use super::consumers::{Consumers, Origin};
use super::fanout::Cursor;
use super::queue::Queue;
use super::serve::Sight;
use super::timers::Timers;
use super::turns::{TurnStats, Turns};
use super::{Action, Attachment, ConsumerKey, Departure, Facts, Mode, Pull};
use crate::planted::{Bug, planted};
use crate::schedule::Claim;
use crate::types::{
    ChannelId, Code, Member, ProxyId, Rejection, SeqRange, SeqRanges, Stamp, Tenure, limits,
};

/// Something that delivers: a durable proxy or a volatile consumer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Owner {
    Proxy(ProxyId),
    Volatile(ConsumerKey),
}

/// All soft delivery state of a leader. See the module.
///
/// Inputs about consumers or proxies unknown here are ignored unless said otherwise: they are
/// echoes of what is gone.
#[derive(Debug)]
pub struct Dispatcher {
    tenure: Tenure,
    consumers: Consumers,
    pub(super) queues: BTreeMap<ProxyId, Queue>,
    cursors: BTreeMap<ConsumerKey, Cursor>,
    by_channel: BTreeMap<ChannelId, BTreeSet<Owner>>,
    /// Something happened to these since they were last served.
    pub(super) turns: Turns,
    timers: Timers,
    pub(super) catalogs: BTreeMap<ChannelId, Catalog>,
    pub(super) calendar: Calendar,
    /// Their facts changed since they were last looked at.
    pub(super) stale: BTreeSet<ChannelId>,
    /// Whether all channels were looked at once.
    pub(super) surveyed: bool,
}

impl Dispatcher {
    /// A dispatcher for this tenure, with nobody attached.
    pub fn new(tenure: Tenure) -> Dispatcher {
        Dispatcher {
            tenure,
            consumers: Consumers::default(),
            queues: BTreeMap::new(),
            cursors: BTreeMap::new(),
            by_channel: BTreeMap::new(),
            turns: Turns::default(),
            timers: Timers::default(),
            catalogs: BTreeMap::new(),
            calendar: Calendar::default(),
            stale: BTreeSet::new(),
            surveyed: false,
        }
    }

    /// A new tenure began: drops all soft state, consumers included.
    pub fn begin(&mut self, tenure: Tenure) {
        *self = Dispatcher::new(tenure);
    }

    /// Attaches a consumer, which `member` tells from others over all its connections. Refused if what it asks for does not exist, or its key is in use.
    pub fn attach(
        &mut self,
        facts: &impl Facts,
        (consumer, member): (ConsumerKey, Member),
        to: Attachment,
        mode: Mode,
    ) -> Result<(), Rejection> {
        if self.consumers.origin(consumer).is_some() {
            let message = format!("consumer {} is attached already", consumer.0);
            return Err(Rejection::new(Code::BadRequest, message).hint("detach it first"));
        }
        let (owner, origin) = match to {
            Attachment::Durable(proxy) => {
                let queue = self.queue(facts, proxy)?;
                queue.join(consumer, member);
                let origin = Origin { proxy: Some(proxy), channel: queue.facts.channel };
                (Owner::Proxy(proxy), origin)
            }
            Attachment::Volatile { channel, next_seq, types } => {
                let end = facts.next_seq(channel).ok_or_else(|| unknown_channel(channel))?;
                let next = next_seq.min(end).max(1);
                let cursor = Cursor::new(consumer, channel, self.tenure, next);
                self.cursors.insert(consumer, cursor);
                if !types.is_empty() {
                    let interests = &mut self.catalogs.entry(channel).or_default().interests;
                    interests.join(facts, channel, consumer, types);
                }
                let owner = Owner::Volatile(consumer);
                self.by_channel.entry(channel).or_default().insert(owner);
                (owner, Origin { proxy: None, channel })
            }
        };
        self.consumers.insert(consumer, origin, mode);
        self.turns.wake(owner);
        Ok(())
    }

    /// The soft state of a proxy, made if there is none yet.
    pub(super) fn queue(
        &mut self,
        facts: &impl Facts,
        proxy: ProxyId,
    ) -> Result<&mut Queue, Rejection> {
        let known = facts.proxy(proxy).ok_or_else(|| unknown_proxy(proxy))?;
        self.by_channel.entry(known.channel).or_default().insert(Owner::Proxy(proxy));
        let tenure = self.tenure;
        let make = || Queue::new(proxy, known.clone(), tenure);
        let queue = self.queues.entry(proxy).or_insert_with(make);
        // A change of hands waits until the proxy is served.
        if queue.facts.fencing == known.fencing {
            queue.learn(known);
        }
        Ok(queue)
    }

    /// A consumer is gone. Its waiting pulls are not answered.
    pub fn detach(&mut self, consumer: ConsumerKey, departure: Departure) {
        let Some(origin) = self.consumers.remove(consumer) else { return };
        match origin.proxy {
            Some(proxy) => {
                if let Some(queue) = self.queues.get_mut(&proxy) {
                    queue.leave(consumer, departure);
                }
                self.turns.wake(Owner::Proxy(proxy));
            }
            None => {
                self.cursors.remove(&consumer);
                if let Some(catalog) = self.catalogs.get_mut(&origin.channel) {
                    catalog.interests.leave(consumer);
                }
                self.forget_owner(origin.channel, Owner::Volatile(consumer));
            }
        }
    }

    /// Grants push credit on top of what is left, up to the limits. Refused for a pull consumer.
    pub fn credit(
        &mut self,
        consumer: ConsumerKey,
        events: u32,
        bytes: u64,
    ) -> Result<(), Rejection> {
        self.consumers.grant(consumer, events, bytes)?;
        if planted(Bug::CreditWakesNobody) {
            return Ok(());
        }
        self.wake(consumer);
        Ok(())
    }

    /// Queues a pull request. Refused for a push consumer, or if too many are waiting.
    pub fn pull(&mut self, consumer: ConsumerKey, pull: Pull) -> Result<(), Rejection> {
        self.consumers.request(consumer, pull)?;
        self.wake(consumer);
        Ok(())
    }

    fn wake(&mut self, consumer: ConsumerKey) {
        let Some(origin) = self.consumers.origin(consumer) else { return };
        let owner = match origin.proxy {
            Some(proxy) => {
                if let Some(queue) = self.queues.get_mut(&proxy) {
                    queue.wake(consumer);
                }
                Owner::Proxy(proxy)
            }
            None => Owner::Volatile(consumer),
        };
        self.turns.wake(owner);
    }

    /// Whether what a consumer of the proxy says under this token counts: it must be the current one
    /// of an exclusive proxy.
    pub fn check_fencing(
        &self,
        facts: &impl Facts,
        proxy: ProxyId,
        fencing: u64,
    ) -> Result<(), Rejection> {
        let Some(known) = facts.proxy(proxy).filter(|known| known.service.exclusive) else {
            return Ok(());
        };
        let served = self.queues.get(&proxy).map_or(known.fencing, |queue| queue.facts.fencing);
        match (known.fencing, served) == (fencing, fencing) {
            true => Ok(()),
            false => Err(Rejection::fenced(proxy, fencing, known.fencing)),
        }
    }

    /// A proposal of who holds a proxy came to its end.
    pub fn held(&mut self, proxy: ProxyId, applied: bool, now: Stamp) {
        self.report(proxy, |queue| queue.held(applied, now));
    }

    /// Those who wait for their turn to hold an exclusive proxy, first come first.
    pub fn standby(&self, proxy: ProxyId) -> Vec<Member> {
        self.queues.get(&proxy).map(|queue| queue.standby().collect()).unwrap_or_default()
    }

    /// These are done. They leave the window now; the next poll returns one [`Action::Settle`] for
    /// all acks of the proxy since the last, repeated ones included, so whoever waits for the
    /// confirmation of this ack waits for that settlement. After a refusal it comes with the first
    /// poll after the pause. Sequences outside of what the proxy was offered are ignored. Returns
    /// how many were not: for 0 no settlement will come. Needs no attached consumer; refused if
    /// there is no such proxy, or if too much waits for the pause to end.
    pub fn ack(
        &mut self,
        facts: &impl Facts,
        proxy: ProxyId,
        ranges: &SeqRanges,
    ) -> Result<u64, Rejection> {
        self.conclude(facts, proxy, ranges, |queue, range| queue.ack(range))
    }

    /// These can never be processed, says a consumer: dead-lettered with its reason. Otherwise as
    /// [`Dispatcher::ack`].
    pub fn term(
        &mut self,
        facts: &impl Facts,
        proxy: ProxyId,
        ranges: &SeqRanges,
        why: &str,
    ) -> Result<u64, Rejection> {
        let mut reason = format!("terminated by consumer: {why}");
        while reason.len() > limits::REASON_BYTES_MAX {
            reason.pop();
        }
        self.conclude(facts, proxy, ranges, |queue, range| queue.bury(range, &reason))
    }

    fn conclude(
        &mut self,
        facts: &impl Facts,
        proxy: ProxyId,
        ranges: &SeqRanges,
        end: impl Fn(&mut Queue, SeqRange),
    ) -> Result<u64, Rejection> {
        let queue = self.queue(facts, proxy)?;
        if queue.is_crowded() {
            return Err(crowded(proxy));
        }
        let (channel, start) = (queue.facts.channel, queue.facts.start_seq);
        let end_seq = facts.next_seq(channel).unwrap_or(start);
        let offered = SeqRange { first: start, last: end_seq.saturating_sub(1) };
        let mut count = 0;
        for range in ranges.overlap(offered).filter(|range| !range.is_empty()) {
            end(queue, range);
            count += range.len();
        }
        self.turns.wake(Owner::Proxy(proxy));
        Ok(count)
    }

    /// A consumer failed on these: they go again, `delay_ms` from now at the earliest (capped by
    /// [`limits::NACK_DELAY_MS_MAX`]). With `from`, events in flight at another consumer are left
    /// alone. Events not delivered in this tenure are ignored.
    pub fn nack(
        &mut self,
        proxy: ProxyId,
        from: Option<ConsumerKey>,
        ranges: &SeqRanges,
        delay_ms: u64,
        now: Stamp,
    ) {
        let delay_ms = delay_ms.min(limits::NACK_DELAY_MS_MAX);
        let until = (delay_ms > 0).then(|| now.plus_millis(delay_ms));
        self.change(proxy, ranges, |queue, range| queue.nack(range, from, until, now));
    }

    /// These could not be handed over, through no fault of a consumer: they go again, not before
    /// `until`, and no attempt is counted.
    pub fn postpone(&mut self, proxy: ProxyId, ranges: &SeqRanges, until: Stamp) {
        self.change(proxy, ranges, |queue, range| queue.postpone(range, until));
    }

    /// A consumer still works on these: their leases start anew. `from` as for
    /// [`Dispatcher::nack`].
    pub fn touch(
        &mut self,
        proxy: ProxyId,
        from: Option<ConsumerKey>,
        ranges: &SeqRanges,
        now: Stamp,
    ) {
        self.change(proxy, ranges, |queue, range| queue.touch(range, from, now));
    }

    /// The proposal was applied: what it settles is settled, by it or before it; but for judgements
    /// made under an earlier definition, if there were such (`stale`).
    pub fn applied(&mut self, proxy: ProxyId, proposal: u64, stale: bool, now: Stamp) {
        self.report(proxy, |queue| queue.applied(proposal, stale, now));
        if stale {
            self.choose_anew(proxy);
        }
    }

    /// The proposal was refused for now, and is in no log. What it settles does not go again; a
    /// poll after a pause proposes it anew, together with what came meanwhile. False if nothing
    /// will come because the proxy is gone.
    pub fn refused(&mut self, proxy: ProxyId, proposal: u64, now: Stamp) -> bool {
        self.report(proxy, |queue| queue.refused(proposal, now)).unwrap_or(false)
    }

    /// The proposal was refused for good, or its outcome is unknown: what it settles and the facts
    /// still call pending goes again, unless another verdict settles it, or it was exhausted.
    pub fn failed(&mut self, proxy: ProxyId, proposal: u64, now: Stamp) {
        self.report(proxy, |queue| queue.failed(proposal, now));
        self.choose_anew(proxy);
    }

    fn change(&mut self, proxy: ProxyId, ranges: &SeqRanges, apply: impl Fn(&mut Queue, SeqRange)) {
        self.report(proxy, |queue| ranges.iter().for_each(|range| apply(queue, range)));
    }

    fn report<T>(&mut self, proxy: ProxyId, apply: impl FnOnce(&mut Queue) -> T) -> Option<T> {
        let queue = self.queues.get_mut(&proxy)?;
        self.turns.wake(Owner::Proxy(proxy));
        Some(apply(queue))
    }

    /// The facts of this channel or of its proxies changed. Proxies that do not want everything are
    /// woken when something comes that they want.
    pub fn channel_touched(&mut self, channel: ChannelId) {
        self.stale.insert(channel);
        let interests = self.catalogs.get(&channel).map(|catalog| &catalog.interests);
        for owner in self.by_channel.get(&channel).into_iter().flatten() {
            let picks = interests.is_some_and(|interests| interests.picks(*owner));
            if !picks || matches!(owner, Owner::Volatile(_)) {
                self.turns.wake(*owner);
            }
        }
    }

    /// Something happened to everybody in this channel.
    pub(super) fn wake_all(&mut self, channel: ChannelId) {
        for owner in self.by_channel.get(&channel).into_iter().flatten() {
            self.turns.wake(*owner);
        }
    }

    /// Lets time pass and serves whatever something happened to. Returns what is to be done, in
    /// order. If the work did not fit into one round, [`Dispatcher::next_wakeup`] is due at once.
    pub fn poll(&mut self, facts: &impl Facts, now: Stamp) -> Vec<Action> {
        let mut out = Vec::new();
        self.survey(facts, now);
        while let Some(proxy) = self.timers.pop(now) {
            self.turns.wake(Owner::Proxy(proxy));
        }
        let mut budget = limits::DISPATCH_EVENTS_MAX;
        while budget > 0 {
            self.let_contend(now);
            let Some((channel, owner, most)) = self.turns.front() else { break };
            let turn = budget.min(most);
            let given = match owner {
                Owner::Proxy(proxy) => self.serve_proxy(facts, now, proxy, turn, &mut out),
                Owner::Volatile(consumer) => {
                    self.keep_up(facts, channel, now);
                    self.serve_volatile(facts, consumer, turn, &mut out)
                }
            };
            budget -= given;
            self.turns.ended(channel, owner, given, given == turn, now);
        }
        // Last, so that what is there wins over a deadline that has just come.
        self.consumers.expire(now, &mut out);
        out
    }

    /// Those that something happened to wait for their turn from now on.
    fn let_contend(&mut self, now: Stamp) {
        for owner in self.turns.woken() {
            let (channel, claim) = match owner {
                Owner::Proxy(proxy) => match self.queues.get(&proxy) {
                    Some(queue) => (queue.facts.channel, queue.claim()),
                    None => continue,
                },
                Owner::Volatile(consumer) => match self.cursors.get(&consumer) {
                    Some(cursor) => (cursor.channel, Claim::default()),
                    None => continue,
                },
            };
            self.turns.contend(channel, owner, claim, now);
        }
    }

    /// How a durable proxy fared with the scheduler of its channel.
    pub fn turn_stats(&self, proxy: ProxyId) -> TurnStats {
        let queue = self.queues.get(&proxy);
        let stats = |queue: &Queue| self.turns.stats(queue.facts.channel, Owner::Proxy(proxy));
        queue.map(stats).unwrap_or_default()
    }

    /// When to poll next although no input comes; a time long past means at once.
    pub fn next_wakeup(&self) -> Option<Stamp> {
        if !self.turns.is_empty() || !self.stale.is_empty() || !self.surveyed {
            return Some(Stamp(0));
        }
        let times = [self.timers.next(), self.consumers.next_deadline(), self.calendar.next()];
        times.into_iter().flatten().min()
    }

    /// Events of a durable proxy that were delivered in this tenure and are not settled: in flight,
    /// or to go again.
    pub fn in_flight(&self, proxy: ProxyId) -> u64 {
        self.queues.get(&proxy).map_or(0, |queue| queue.window.len() as u64)
    }

    /// Events whose settlement waits or is on its way.
    #[cfg(test)]
    pub(super) fn settling(&self, proxy: ProxyId) -> SeqRanges {
        self.queues.get(&proxy).map(|queue| queue.settling.clone()).unwrap_or_default()
    }

    fn serve_proxy(
        &mut self,
        facts: &impl Facts,
        now: Stamp,
        proxy: ProxyId,
        turn: usize,
        out: &mut Vec<Action>,
    ) -> usize {
        let Some(known) = facts.proxy(proxy) else {
            self.close_proxy(proxy, out);
            return 0;
        };
        self.keep_up(facts, known.channel, now);
        let Some(queue) = self.queues.get_mut(&proxy) else { return 0 };
        queue.learn(known);
        queue.pass_time(now);
        let catalog = self.catalogs.entry(queue.facts.channel).or_default();
        let more = queue.judge_all(facts, catalog, now);
        let sight = Sight { facts, catalog, now };
        let given = queue.serve(&sight, turn, &mut self.consumers, out);
        queue.flush(now, out);
        queue.let_gather(catalog);
        out.extend(queue.succeed(now));
        self.timers.set(proxy, queue.next_due());
        match queue.is_idle() {
            true => drop(self.forget_queue(proxy)),
            false if more => self.turns.wake(Owner::Proxy(proxy)),
            false => {}
        }
        given
    }

    fn serve_volatile(
        &mut self,
        facts: &impl Facts,
        consumer: ConsumerKey,
        turn: usize,
        out: &mut Vec<Action>,
    ) -> usize {
        let Some(cursor) = self.cursors.get_mut(&consumer) else { return 0 };
        let channel = cursor.channel;
        if facts.next_seq(channel).is_some() {
            let interests = &self.catalogs.entry(channel).or_default().interests;
            return cursor.serve(facts, interests, turn, &mut self.consumers, out);
        }
        self.detach(consumer, Departure::Returned);
        out.push(Action::Close { consumer, rejection: unknown_channel(channel) });
        0
    }

    fn close_proxy(&mut self, proxy: ProxyId, out: &mut Vec<Action>) {
        let Some(mut queue) = self.forget_queue(proxy) else { return };
        // Whoever waits for these settlements learns from their refusal.
        queue.flush_all(out);
        for consumer in queue.members() {
            self.consumers.remove(consumer);
            out.push(Action::Close { consumer, rejection: unknown_proxy(proxy) });
        }
    }

    fn forget_queue(&mut self, proxy: ProxyId) -> Option<Queue> {
        let queue = self.queues.remove(&proxy)?;
        self.timers.set(proxy, None);
        self.forget_owner(queue.facts.channel, Owner::Proxy(proxy));
        Some(queue)
    }

    fn forget_owner(&mut self, channel: ChannelId, owner: Owner) {
        self.turns.forget(channel, owner);
        if let Some(owners) = self.by_channel.get_mut(&channel) {
            owners.remove(&owner);
            if owners.is_empty() {
                self.by_channel.remove(&channel);
            }
        }
    }
}

fn unknown_proxy(proxy: ProxyId) -> Rejection {
    Rejection::new(Code::UnknownProxy, format!("proxy {proxy} does not exist"))
        .hint("it may have been removed: attach by name to make it anew")
}

fn crowded(proxy: ProxyId) -> Rejection {
    let message = format!("proxy {proxy}: too many settlements wait for room in the log");
    Rejection::new(Code::Overloaded, message).hint("wait for answers, then send again")
}

fn unknown_channel(channel: ChannelId) -> Rejection {
    Rejection::new(Code::UnknownChannel, format!("channel {channel} does not exist"))
        .hint("it may have been removed: create it first")
}
