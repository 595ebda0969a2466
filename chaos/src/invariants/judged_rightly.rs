//! Events end without a consumer only as they may: they expire when their time is over, are discarded
//! where there is a limit, and not while they are with a client; and the ledger counts each once.
//!
//! What a leader judged is in the log, which only the simulation reads, with a stamp that is not
//! before the judgement (one that came too late to count is as right or wrong as any other):
//!
//! - *Expired*: its end was not after that stamp. When it was accepted is known from a delivery, or
//!   else it was not before any stamp that was seen when it was published. A timeout of the proxy
//!   counts as the least it may have had.
//! - *Discarded*: the proxy may have had a limit.
//! - *With a client*: one got it in the tenure of the judgement and has said nothing of it since, and
//!   its lease cannot have ended by the stamp. It may have lost it without a trace if it went, or if a
//!   fault was under way, or an operator changed anything, since `attach_lag` before the event was
//!   published: nothing is concluded then.
//! - *Counted once*: in the end a ledger counts no more of a kind than there are events that were
//!   judged so, if every entry of the log was seen.
//!
//! On real processes what is left of it: a ledger counts no more expired than can have ended, and
//! nothing as discarded where there was never a limit.

use std::collections::{BTreeMap, HashMap};

use super::definitions::Definitions;
use super::rules::micros;
use super::{Invariant, Rules};
use crate::history::{Asks, EventId, Judgement, Outcome, Place, ProxyView, Record, Stage, What};
use crate::table::{Set, Table, entry};

pub(super) struct JudgedRightly {
    /// Connections break no later than this after a fault.
    lag: u64,
    definitions: Definitions,
    published: HashMap<EventId, Published>,
    channels: Vec<Channel>,
    /// Their places, by name.
    names: BTreeMap<String, usize>,
    consumers: BTreeMap<String, Consumer>,
    /// The latest stamp seen: what is accepted from now on has none before it.
    stamp: u64,
    /// When faults were last under way, and how many are.
    faulty: (u64, u64),
    /// When an operator last changed anything.
    redefined: u64,
    log: Set,
    judged: u64,
}

#[derive(Clone, Copy)]
struct Published {
    at: u64,
    channel: usize,
    asks: Asks,
    /// It was not accepted before this stamp.
    floor: u64,
}

#[derive(Default)]
struct Channel {
    /// The event at each place, where that is known.
    events: Table<u64>,
    /// When it was accepted, likewise.
    accepted: Table<u64>,
    /// Events published that can end by themselves.
    can_end: u64,
}

#[derive(Default)]
struct Consumer {
    channel: usize,
    ack_wait: u64,
    out: HashMap<u64, Out>,
    expired: Set,
    discarded: Set,
    /// Judgements on events that nobody has named yet.
    open: Vec<(u64, u64)>,
    ledger: ProxyView,
}

/// An event that a client got and has said nothing of.
struct Out {
    by: String,
    published: u64,
    tenure: u64,
    /// The leader's time was that at least when it was sent.
    time: u64,
}

impl JudgedRightly {
    pub fn new(rules: &Rules) -> JudgedRightly {
        JudgedRightly {
            lag: micros(rules.attach_lag),
            definitions: Definitions::default(),
            published: HashMap::new(),
            channels: Vec::new(),
            names: BTreeMap::new(),
            consumers: BTreeMap::new(),
            stamp: 0,
            faulty: (0, 0),
            redefined: 0,
            log: Set::default(),
            judged: 0,
        }
    }

    fn publish(&mut self, at: u64, event: EventId, channel: &str, asks: Asks) {
        if !self.published.contains_key(&event) {
            let channel = self.place(channel);
            self.published.insert(event, Published { at, channel, asks, floor: self.stamp });
            self.channels[channel].can_end += u64::from(asks.ends());
        }
    }

    /// The place of a channel, made if there is none yet.
    fn place(&mut self, channel: &str) -> usize {
        if let Some(place) = self.names.get(channel) {
            return *place;
        }
        self.channels.push(Channel::default());
        self.names.insert(channel.into(), self.channels.len() - 1);
        self.channels.len() - 1
    }

    /// Whether the end of an event for a consumer had come; `None`: the event is not known.
    fn had_ended(&self, name: &str, consumer: &Consumer, seq: u64, stamp: u64) -> Option<bool> {
        let channel = self.channels.get(consumer.channel)?;
        let published = self.published.get(&channel.events.get(seq))?;
        let accepted = channel.accepted.get(seq).max(published.floor);
        let timeout = self.definitions.least(name, "timeout");
        let timeout = timeout.map(|ms| accepted + ms * 1000);
        let end = published.asks.end_us(accepted).into_iter().chain(timeout).min();
        Some(end.is_some_and(|end| end <= stamp))
    }

    fn judged(
        &mut self,
        at: u64,
        name: &str,
        judgement: Judgement,
        (tenure, stamp): (u64, u64),
        seqs: &[u64],
    ) -> Result<(), String> {
        if !self.definitions.knows(name) {
            return Ok(());
        }
        self.judged += seqs.len() as u64;
        let calm_since = if self.faulty.1 > 0 { at } else { self.faulty.0 };
        let quiet_since = calm_since.max(self.redefined);
        let lag = self.lag;
        let limited = self.definitions.least(name, "max_events_per_consumer").is_some();
        let consumer = entry(&mut self.consumers, name);
        let held = seqs.iter().find(|seq| {
            consumer.out.get(seq).is_some_and(|out| {
                let lease = out.time + consumer.ack_wait;
                let quiet = quiet_since + lag < out.published;
                out.tenure == tenure && stamp < lease && quiet
            })
        });
        if let Some(seq) = held {
            return Err(format!("seq {seq} of {name} was {judgement:?} while a client had it"));
        }
        match judgement {
            Judgement::Expired => consumer.expired.extend(seqs),
            Judgement::Discarded => consumer.discarded.extend(seqs),
        }
        if judgement == Judgement::Discarded {
            return match limited {
                true => Ok(()),
                false => Err(format!("{seqs:?} of {name} were discarded, which has no limit")),
            };
        }
        self.check_ends(name, seqs.iter().map(|seq| (*seq, stamp)).collect())
    }

    /// Judges expiries, those of events not named yet when they are.
    fn check_ends(&mut self, name: &str, expired: Vec<(u64, u64)>) -> Result<(), String> {
        let Some(consumer) = self.consumers.get(name) else { return Ok(()) };
        let (mut open, mut early) = (Vec::new(), None);
        for (seq, stamp) in expired {
            match self.had_ended(name, consumer, seq, stamp) {
                Some(true) => {}
                Some(false) => early = Some(seq),
                None => open.push((seq, stamp)),
            }
        }
        if let Some(consumer) = self.consumers.get_mut(name) {
            consumer.open.extend(open);
        }
        match early {
            Some(seq) => Err(format!("seq {seq} of {name} expired before its end")),
            None => Ok(()),
        }
    }

    fn delivered(&mut self, record: &Record) {
        let What::Delivered { consumer, channel, seq, event, tenure, accepted_us, .. } =
            &record.what
        else {
            return;
        };
        self.stamp = self.stamp.max(*accepted_us);
        let place = self.place(channel);
        let known = &mut self.channels[place];
        *known.events.slot(*seq) = event.unwrap_or(0);
        *known.accepted.slot(*seq) = *accepted_us;
        let published = event.and_then(|event| self.published.get(&event));
        if let Some(consumer) = self.consumers.get_mut(consumer)
            && let Some(Published { at, .. }) = published
        {
            let (by, published) = (record.by.clone(), *at);
            let out = Out { by, published, tenure: *tenure, time: *accepted_us };
            consumer.out.insert(*seq, out);
        }
    }

    /// What a ledger may count at most although the log is not known.
    fn check_counts(&self, name: &str, view: &ProxyView) -> Result<(), String> {
        let Some(consumer) = self.consumers.get(name) else { return Ok(()) };
        let least = |property| self.definitions.least(name, property);
        if view.discarded > 0 && least("max_events_per_consumer").is_none() {
            return Err(format!("{name} has {} discarded, and no limit", view.discarded));
        }
        let can_end = self.channels.get(consumer.channel).map_or(0, |channel| channel.can_end);
        if view.expired > can_end && least("timeout").is_none() {
            let expired = view.expired;
            return Err(format!("{name} has {expired} expired, of {can_end} that can end"));
        }
        Ok(())
    }
}

impl Invariant for JudgedRightly {
    fn name(&self) -> &'static str {
        "judged-rightly"
    }

    fn judges(&self, what: &What) -> bool {
        matches!(what, What::Judged { .. })
    }

    fn observe(&mut self, record: &Record) -> Result<(), String> {
        let at = record.at;
        self.definitions.observe(at, &record.what);
        match &record.what {
            What::Publish { event, channel, asks, .. } => self.publish(at, *event, channel, *asks),
            What::Published { event, outcome: Outcome::Ok(Place { seq: seq @ 1.., .. }) } => {
                if let Some(published) = self.published.get(event) {
                    *self.channels[published.channel].events.slot(*seq) = *event;
                }
            }
            What::Subscribed { consumer, channel, ack_wait_ms, .. } => {
                let place = self.place(channel);
                let consumer = entry(&mut self.consumers, consumer);
                (consumer.channel, consumer.ack_wait) = (place, ack_wait_ms * 1000);
            }
            What::Detached { consumer, .. } => {
                entry(&mut self.consumers, consumer).out.retain(|_, out| out.by != record.by);
            }
            What::Settle { consumer, seqs, .. } => {
                let out = &mut entry(&mut self.consumers, consumer).out;
                for seq in seqs {
                    out.remove(seq);
                }
            }
            What::Delivered { .. } => self.delivered(record),
            // What was judged before it does not count and is given back: a client may get it.
            What::Redefine { .. } => self.redefined = at,
            What::Fault { stage: Stage::Begin, .. } => self.faulty = (at, self.faulty.1 + 1),
            What::Fault { stage: Stage::End, .. } => {
                self.faulty = (at, self.faulty.1.saturating_sub(1));
            }
            What::Committed { index, .. } => drop(self.log.insert(*index)),
            What::Judged { tenure, stamp_us, consumer, judgement, seqs, .. } => {
                let when = (*tenure, *stamp_us);
                let judged = self.judged(at, consumer, *judgement, when, seqs);
                self.stamp = self.stamp.max(*stamp_us);
                return judged;
            }
            What::Status { outcome: Outcome::Ok(view), .. } if view.linearizable => {
                for proxy in view.channels.iter().flat_map(|channel| &channel.proxies) {
                    self.check_counts(&proxy.name, proxy)?;
                    if let Some(consumer) = self.consumers.get_mut(&proxy.name) {
                        consumer.ledger.clone_from(proxy);
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn finish(&mut self, drained: bool) -> Vec<String> {
        let names: Vec<String> = self.consumers.keys().cloned().collect();
        let mut found = Vec::new();
        for name in &names {
            let open = self.consumers.get_mut(name).map(|c| std::mem::take(&mut c.open));
            found.extend(self.check_ends(name, open.unwrap_or_default()).err());
        }
        let last = self.log.iter().last().unwrap_or(0);
        if !drained || last == 0 || self.log.len() < last {
            return found;
        }
        for (name, consumer) in &self.consumers {
            let counts = [
                ("expired", consumer.ledger.expired, consumer.expired.len()),
                ("discarded", consumer.ledger.discarded, consumer.discarded.len()),
            ];
            let wrong = counts.iter().filter(|(_, counted, judged)| counted > judged);
            found.extend(wrong.map(|(what, counted, judged)| {
                format!("{name} counts {counted} {what}, but {judged} events were judged so")
            }));
        }
        found
    }

    fn figures(&self) -> Vec<(&'static str, u64)> {
        vec![("judgements", self.judged)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::{Asks, Verdict};
    use crate::invariants::testing::*;

    fn one() -> JudgedRightly {
        JudgedRightly::new(&Rules::default())
    }

    fn judge_as(story: Story, judgement: Judgement, stamp_ms: u64, seqs: &[u64]) -> Story {
        let (index, tenure, seqs) = (9, 7, seqs.to_vec());
        let (consumer, stamp_us) = ("w".into(), stamp_ms * 1000);
        story.then(What::Judged { index, tenure, stamp_us, consumer, judgement, seqs })
    }

    fn expires(story: Story, stamp_ms: u64, seqs: &[u64]) -> Story {
        judge_as(story, Judgement::Expired, stamp_ms, seqs)
    }

    fn stops_at(ms: u64) -> Asks {
        Asks { stop_ms: ms, ..Asks::default() }
    }

    #[test]
    fn what_expires_has_ended() {
        let story = story().subscribed(0).asking(1, stops_at(800)).published(1, 1);
        holds(one(), expires(story.clone(), 800, &[1]));
        catches(one(), expires(story.clone(), 799, &[1]), "seq 1 of w expired before its end");
        catches(one(), expires(story.event(2, 2), 9_999, &[2]), "seq 2 of w expired before");
        let unnamed = crate::invariants::testing::story().subscribed(0).asking(1, stops_at(800));
        catches(one(), expires(unnamed, 799, &[1]).published(1, 1), "seq 1 of w expired");
    }

    #[test]
    fn a_timeout_runs_from_a_stamp_seen_before_or_from_a_delivery() {
        let timeout = Asks { timeout_ms: 500, ..Asks::default() };
        let story = story().subscribed(0).event(1, 1).delivered_in(7, 1, 1, 1_000);
        let story = story.settle(&[1], Verdict::Ack).asking(2, timeout).published(2, 2);
        catches(one(), expires(story.clone(), 1_499, &[2]), "before its end");
        holds(one(), expires(story.clone(), 1_500, &[2]));
        let seen = story.by("tail").delivered_in(7, 2, 2, 1_200);
        catches(one(), expires(seen, 1_699, &[2]), "before its end");
        let proxy = crate::invariants::testing::story().subscribed_as(0, &[("timeout", "300")]);
        holds(one(), expires(proxy.event(1, 1), 300, &[1]));
    }

    #[test]
    fn without_a_limit_nothing_is_discarded() {
        let limit = [("max_events_per_consumer", "5")];
        let discarded = |story: Story| judge_as(story.event(1, 1), Judgement::Discarded, 1, &[1]);
        holds(one(), discarded(story().subscribed_as(0, &limit)));
        catches(one(), discarded(story().subscribed(0)), "which has no limit");
        let counted = view(1, &[ProxyView { discarded: 1, ..proxy(0, 0) }]);
        catches(one(), story().subscribed(0).status(counted), "w has 1 discarded, and no limit");
    }

    #[test]
    fn what_a_client_has_is_left_to_it() {
        let limit = [("max_events_per_consumer", "5")];
        let got = story().subscribed_as(0, &limit).wait(60_000).event(1, 1);
        let got = got.delivered_in(7, 1, 1, 1_000);
        let discarded = |story| judge_as(story, Judgement::Discarded, 30_999, &[1]);
        catches(one(), discarded(got.clone()), "seq 1 of w was Discarded while a client had it");
        holds(one(), discarded(got.clone().settle(&[1], Verdict::Nack)));
        holds(one(), discarded(got.clone().detached()));
        holds(one(), discarded(got.clone().fault(Stage::Begin)));
        holds(one(), judge_as(got, Judgement::Discarded, 31_000, &[1]));
    }

    #[test]
    fn each_is_counted_once() {
        let story = story().subscribed(0).asking(1, stops_at(800)).published(1, 1);
        let story = expires(story.asking(2, stops_at(900)).published(2, 2), 850, &[1]);
        let entry = |index| What::Committed { node: 1, index, term: 1, digest: 0 };
        let counts = |expired| view(2, &[ProxyView { expired, ..proxy(0, 0) }]);
        holds(one(), story.clone().then(entry(1)).status(counts(1)));
        let twice = story.clone().then(entry(1)).status(counts(2));
        catches(one(), twice.clone(), "w counts 2 expired, but 1 events were judged so");
        holds(one(), twice.then(entry(3)));
        catches(one(), story.status(counts(3)), "3 expired, of 2 that can end");
    }
}
