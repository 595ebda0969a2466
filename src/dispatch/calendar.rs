//! When time alone changes something in a channel, and what follows from it: start and stop times,
//! and queues that are too long.

use std::collections::BTreeSet;

use super::Facts;
use super::catalog::Catalog;
use super::dispatcher::{Dispatcher, Owner};
use super::judging::OfChannel;
use super::victims;
use crate::types::{ChannelId, Outcome, ProxyId, Seq, SeqRange, SeqRanges, Stamp, limits};

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
            self.look_at(facts, channel, now);
        }
        while let Some(channel) = self.calendar.pop(now) {
            self.times_came(facts, channel, now);
        }
    }

    /// Takes in what nobody has told of yet. Whoever is served goes by what the facts are now.
    pub(super) fn keep_up(&mut self, facts: &impl Facts, channel: ChannelId, now: Stamp) {
        let known = self.catalogs.get(&channel);
        if known.is_none_or(|catalog| !catalog.is_current(facts, channel)) {
            self.stale.insert(channel);
            self.survey(facts, now);
        }
    }

    fn look_at(&mut self, facts: &impl Facts, channel: ChannelId, now: Stamp) {
        let Some(next) = facts.next_seq(channel) else {
            self.wake_all(channel);
            if let Some(catalog) = self.catalogs.remove(&channel) {
                self.calendar.set(channel, catalog.next_due(), None);
            }
            self.turns.forget_channel(channel);
            return;
        };
        let catalog = self.catalogs.entry(channel).or_default();
        let due = catalog.next_due();
        catalog.extend(facts, channel);
        let definitions = Some(facts.definitions(channel));
        if std::mem::replace(&mut catalog.definitions, definitions) != definitions {
            let (changed, told) = (catalog.interests.define(facts, channel), catalog.told());
            self.turns.set_policy(channel, facts.scheduling(channel));
            self.look_for_those_that_act_alone(facts, channel);
            for id in changed {
                if let Some(queue) = self.queues.get_mut(&id) {
                    queue.sift_anew(if told == 0 { next } else { told });
                }
            }
            self.wake_all(channel);
        }
        self.tell(facts, channel, next, now);
        let due_now = self.catalogs.get(&channel).and_then(Catalog::next_due);
        self.calendar.set(channel, due, due_now);
        self.relieve(facts, channel);
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

    /// Tells proxies that pick of what they want among the new events, and sees to it that the rest
    /// is settled.
    fn tell(&mut self, facts: &impl Facts, channel: ChannelId, next: Seq, now: Stamp) {
        let Some(catalog) = self.catalogs.get_mut(&channel) else { return };
        let Some(untold) = catalog.untold(next) else { return };
        for (stretch, kind) in catalog.interests.learn(facts, channel, untold) {
            for owner in catalog.interests.wanted_by(kind) {
                if let Owner::Proxy(id) = owner
                    && let Some(queue) = self.queues.get_mut(&id)
                {
                    queue.want(stretch);
                    self.turns.wake(owner);
                }
            }
        }
        match facts.is_scarce(channel) {
            true => self.press(channel),
            false => catalog.sift_at(now.plus_millis(limits::FILTER_PAUSE_MS)),
        }
    }

    /// What proxies of the channel do not want is settled now.
    fn press(&mut self, channel: ChannelId) {
        let Some(catalog) = self.catalogs.get(&channel) else { return };
        for id in catalog.interests.proxies() {
            if let Some(queue) = self.queues.get_mut(&id) {
                queue.sieve.press();
                self.turns.wake(Owner::Proxy(id));
            }
        }
    }

    /// Proxies for which something is to be done although no consumer is there get their soft
    /// state.
    fn look_for_those_that_act_alone(&mut self, facts: &impl Facts, channel: ChannelId) {
        for id in facts.proxies(channel) {
            let acts = facts.proxy(id).is_some_and(|proxy| proxy.acts_alone());
            if acts && self.queue(facts, id).is_ok() {
                self.turns.wake(Owner::Proxy(id));
            }
        }
    }

    fn times_came(&mut self, facts: &impl Facts, channel: ChannelId, now: Stamp) {
        let Some(catalog) = self.catalogs.get_mut(&channel) else { return };
        let (started, stopped) = (catalog.started(now), catalog.stopped(now));
        let sift_due = catalog.is_sift_due(now);
        self.calendar.set(channel, None, catalog.next_due());
        if sift_due {
            self.press(channel);
        }
        if !stopped.is_empty() {
            self.sift_all(facts, channel);
        }
        if started.is_empty() && stopped.is_empty() {
            return;
        }
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

    /// What is not wanted neither expires nor is discarded: it is filtered.
    fn sift_all(&mut self, facts: &impl Facts, channel: ChannelId) {
        let Some(catalog) = self.catalogs.get(&channel) else { return };
        for id in catalog.interests.proxies() {
            if let Some(queue) = self.queues.get_mut(&id) {
                queue.sift(facts, catalog);
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
        let picked = !catalog.interests.is_empty();
        let seqs = catalog.given_up.iter().flat_map(|range| range.first..=range.last);
        let waited = |seq: &u64| facts.slot(channel, *seq).is_some_and(|slot| slot.waiting > 0);
        catalog.given_up = seqs.filter(waited).collect();
        let mut going = catalog.given_up.count();
        let proxies = facts.proxies(channel);
        if picked {
            self.sift_all(facts, channel);
            going = self.going(facts, &proxies);
        }
        let count = excess.saturating_sub(going);
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

    /// How many events proxies wait for only until what is settled is in the log.
    fn going(&self, facts: &impl Facts, proxies: &[ProxyId]) -> u64 {
        let (mut waited, mut stays) = (SeqRanges::new(), SeqRanges::new());
        for id in proxies {
            let mut own = SeqRanges::new();
            let mut run = facts.unsettled_from(*id, 0);
            while let Some(range) = run {
                own.insert_range(range);
                run = range.last.checked_add(1).and_then(|from| facts.unsettled_from(*id, from));
            }
            own.iter().for_each(|range| waited.insert_range(range));
            if let Some(queue) = self.queues.get(id) {
                own.remove_all(&queue.settling);
            }
            own.iter().for_each(|range| stays.insert_range(range));
        }
        waited.count() - stays.count()
    }
}
