//! When time alone changes something in a channel, and what follows from it: start and stop times,
//! and queues that are too long.

use std::collections::BTreeSet;

use super::Facts;
use super::dispatcher::{Dispatcher, Owner};
use super::judging::OfChannel;
use super::victims;
use crate::types::{ChannelId, Outcome, ProxyId, SeqRange, SeqRanges, Stamp};

/// The next time of each channel that has one.
#[derive(Debug, Default)]
pub(super) struct Calendar(BTreeSet<(Stamp, ChannelId)>);

impl Calendar {
    /// When the first is due.
    pub fn next(&self) -> Option<Stamp> {
        self.0.first().map(|(due, _)| *due)
    }

    fn set(&mut self, channel: ChannelId, old: Option<Stamp>, new: Option<Stamp>) {
        if old == new {
            return;
        }
        if let Some(old) = old {
            self.0.remove(&(old, channel));
        }
        if let Some(new) = new {
            self.0.insert((new, channel));
        }
    }

    fn pop(&mut self, now: Stamp) -> Option<ChannelId> {
        let due = *self.0.first().filter(|(due, _)| *due <= now)?;
        self.0.remove(&due);
        Some(due.1)
    }
}

impl Dispatcher {
    /// Takes in what changed in the facts, and lets start and stop times come.
    pub(super) fn survey(&mut self, facts: &impl Facts, now: Stamp) {
        if !std::mem::replace(&mut self.surveyed, true) {
            self.stale.extend(facts.channels());
        }
        for channel in std::mem::take(&mut self.stale) {
            self.look_at(facts, channel);
        }
        while let Some(channel) = self.calendar.pop(now) {
            self.times_came(facts, channel, now);
        }
    }

    fn look_at(&mut self, facts: &impl Facts, channel: ChannelId) {
        if facts.next_seq(channel).is_none() {
            if let Some(catalog) = self.catalogs.remove(&channel) {
                self.calendar.set(channel, catalog.next_due(), None);
            }
            self.turns.forget_channel(channel);
            return;
        }
        let catalog = self.catalogs.entry(channel).or_default();
        let due = catalog.next_due();
        catalog.extend(facts, channel);
        self.calendar.set(channel, due, catalog.next_due());
        let definitions = Some(facts.definitions(channel));
        if std::mem::replace(&mut catalog.definitions, definitions) != definitions {
            self.turns.set_policy(channel, facts.scheduling(channel));
            self.look_for_those_that_act_alone(facts, channel);
        }
        self.relieve(facts, channel);
    }

    /// Takes in what the facts say of a channel, if its catalog does not have all its events.
    pub(super) fn catch_up(&mut self, facts: &impl Facts, channel: ChannelId, now: Stamp) {
        let next = facts.next_seq(channel);
        if self.catalogs.get(&channel).is_none_or(|catalog| next > Some(catalog.known())) {
            self.stale.insert(channel);
            self.survey(facts, now);
        }
    }

    /// A judgement on events of this proxy came to nothing: its channel may choose anew what it
    /// gives up.
    pub(super) fn choose_anew(&mut self, proxy: ProxyId) {
        let Some(queue) = self.queues.get(&proxy) else { return };
        let channel = queue.facts.channel;
        if let Some(catalog) = self.catalogs.get_mut(&channel) {
            catalog.given_up = SeqRanges::new();
            self.stale.insert(channel);
        }
    }

    /// Proxies for which something is to be done although no consumer is there get their soft
    /// state.
    fn look_for_those_that_act_alone(&mut self, facts: &impl Facts, channel: ChannelId) {
        for id in facts.proxies(channel) {
            let acts = facts.proxy(id).is_some_and(|proxy| proxy.service.acts_alone());
            if acts && self.queue(facts, id).is_ok() {
                self.turns.wake(Owner::Proxy(id));
            }
        }
    }

    fn times_came(&mut self, facts: &impl Facts, channel: ChannelId, now: Stamp) {
        let Some(catalog) = self.catalogs.get_mut(&channel) else { return };
        let (started, stopped) = (catalog.started(now), catalog.stopped(now));
        self.calendar.set(channel, None, catalog.next_due());
        for id in facts.proxies(channel) {
            if !stopped.is_empty()
                && self.waits_for_any(facts, id, &stopped)
                && let Ok(queue) = self.queue(facts, id)
            {
                queue.stopped(facts, &stopped);
                self.turns.wake(Owner::Proxy(id));
            }
            if let Some(queue) = self.queues.get_mut(&id).filter(|_| !started.is_empty()) {
                queue.started(&started);
                self.turns.wake(Owner::Proxy(id));
            }
        }
    }

    fn waits_for_any(&self, facts: &impl Facts, id: ProxyId, events: &SeqRanges) -> bool {
        let any = |range: SeqRange| {
            facts.next_unsettled(id, range.first).is_some_and(|seq| seq <= range.last)
        };
        events.iter().any(any)
    }

    /// Gives events up when proxies of the channel wait for too many, and it does not refuse new
    /// ones instead.
    fn relieve(&mut self, facts: &impl Facts, channel: ChannelId) {
        let Some(catalog) = self.catalogs.get_mut(&channel) else { return };
        let Some((excess, policy)) = facts.overflow(channel).filter(|(excess, _)| *excess > 0)
        else {
            catalog.given_up = SeqRanges::new();
            return;
        };
        let seqs = catalog.given_up.iter().flat_map(|range| range.first..=range.last);
        let waited = |seq: &u64| facts.slot(channel, *seq).is_some_and(|slot| slot.waiting > 0);
        catalog.given_up = seqs.filter(waited).collect();
        let count = excess.saturating_sub(catalog.given_up.count());
        let proxies = facts.proxies(channel);
        let catalog = &self.catalogs[&channel];
        let shelf = OfChannel {
            facts,
            proxies: proxies.iter().map(|id| (*id, self.queues.get(id))).collect(),
            channel,
            given_up: &catalog.given_up,
        };
        let chosen = victims::choose(&shelf, catalog, policy, count);
        for id in proxies {
            let Ok(queue) = self.queue(facts, id) else { continue };
            chosen.iter().for_each(|range| queue.end_pending(facts, range, Outcome::Discarded));
            self.turns.wake(Owner::Proxy(id));
        }
        if let Some(catalog) = self.catalogs.get_mut(&channel) {
            chosen.iter().for_each(|range| catalog.given_up.insert_range(range));
        }
    }
}
