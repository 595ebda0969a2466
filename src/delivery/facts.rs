//! The machine, or the two of them, as dispatch sees them.

use std::sync::Arc;

use crate::dispatch::{Facts, ProxyFacts, SlotFacts};
use crate::machine::{Channel, Machine, Proxy, Slot};
use crate::planted::{Bug, planted};
use crate::types::{
    ChannelId, Discard, EventType, Interest, LaneId, ProxyId, Scheduling, Seq, SeqRange, Stamp,
    TypeId,
};

/// What is replicated, and what this leader alone has, neither of which changes meanwhile.
#[derive(Debug, Clone, Copy)]
pub struct World<'a> {
    pub facts: &'a Machine,
    /// Best-effort channels with their events; the facts have no more than their definitions.
    pub transient: Option<&'a Machine>,
}

impl<'a> World<'a> {
    /// Nothing but facts.
    pub fn of_facts(facts: &'a Machine) -> World<'a> {
        World { facts, transient: None }
    }

    /// Which machine has the events of this channel.
    pub fn of(&self, channel: ChannelId) -> &'a Machine {
        self.transient.filter(|machine| machine.channel(channel).is_some()).unwrap_or(self.facts)
    }

    /// All channels, with their events, by id.
    pub fn all_channels(&self) -> impl Iterator<Item = &'a Channel> {
        self.facts.channels().filter_map(|channel| self.channel(channel.id()))
    }

    fn channel(&self, channel: ChannelId) -> Option<&'a Channel> {
        self.of(channel).channel(channel)
    }

    /// Which machine has what was published on this lane.
    pub fn of_lane(&self, lane: LaneId) -> &'a Machine {
        self.transient.filter(|machine| machine.lane(lane).is_some()).unwrap_or(self.facts)
    }

    fn of_proxy(&self, proxy: ProxyId) -> &'a Machine {
        self.transient.filter(|machine| machine.proxy(proxy).is_some()).unwrap_or(self.facts)
    }
}

fn slot_facts(slot: Slot) -> SlotFacts {
    SlotFacts {
        key: slot.key(),
        size: slot.size,
        accepted: slot.accepted,
        priority: slot.mark.priority,
        start: slot.mark.start,
        stop: slot.mark.stop,
        kind: slot.kind,
        waiting: slot.waiting,
        again: slot.mark.again,
    }
}

impl Facts for World<'_> {
    fn next_unsettled(&self, proxy: ProxyId, from: Seq) -> Option<Seq> {
        self.of_proxy(proxy).next_unsettled(proxy, from)
    }

    fn last_unsettled(&self, proxy: ProxyId, upto: Seq) -> Option<Seq> {
        self.of_proxy(proxy).last_unsettled(proxy, upto)
    }

    fn unsettled_from(&self, proxy: ProxyId, from: Seq) -> Option<SeqRange> {
        self.of_proxy(proxy).unsettled_from(proxy, from)
    }

    fn is_pending(&self, proxy: ProxyId, seq: Seq) -> bool {
        self.of_proxy(proxy).is_pending(proxy, seq)
    }

    fn pending(&self, proxy: ProxyId) -> u64 {
        let machine = self.of_proxy(proxy);
        machine.proxy(proxy).map_or(0, |proxy| machine.pending(proxy))
    }

    fn slot(&self, channel: ChannelId, seq: Seq) -> Option<SlotFacts> {
        let mut slot = self.channel(channel)?.slot(seq).map(slot_facts)?;
        if planted(Bug::StartForgotten) && slot.key.index < self.facts.tenure().0 {
            slot.start = Stamp(0);
        }
        Some(slot)
    }

    fn next_retained(&self, channel: ChannelId, from: Seq) -> Option<(Seq, SlotFacts)> {
        let seq = self.channel(channel)?.next_retained(from)?;
        Some((seq, self.slot(channel, seq)?))
    }

    fn marked(&self, channel: ChannelId, from: Seq) -> impl Iterator<Item = (Seq, SlotFacts)> {
        let marked = self.channel(channel).map(|channel| channel.marked_from(from));
        marked.into_iter().flatten().map(|(seq, slot)| (seq, slot_facts(slot)))
    }

    fn first_seq(&self, channel: ChannelId) -> Option<Seq> {
        self.channel(channel).map(|channel| channel.first_seq())
    }

    fn channels(&self) -> Vec<ChannelId> {
        self.facts.channels().map(|channel| channel.id()).collect()
    }

    fn definitions(&self, channel: ChannelId) -> u64 {
        self.channel(channel).map_or(0, |channel| channel.definitions())
    }

    fn proxies(&self, channel: ChannelId) -> Vec<ProxyId> {
        let channel = self.channel(channel);
        channel.map(|channel| channel.proxies().map(|(_, id)| id).collect()).unwrap_or_default()
    }

    fn scheduling(&self, channel: ChannelId) -> Scheduling {
        let channel = self.channel(channel);
        channel.map(|channel| channel.admission().scheduling).unwrap_or_default()
    }

    fn overflow(&self, channel: ChannelId) -> Option<(u64, Discard)> {
        let channel = self.channel(channel)?;
        let rules = channel.admission();
        let limited = rules.max_queue_length > 0 && !rules.reject_new_events;
        let excess = channel.pending().events.saturating_sub(rules.max_queue_length);
        limited.then_some((excess, rules.discard))
    }

    fn types(&self, channel: ChannelId) -> impl Iterator<Item = (TypeId, &Arc<EventType>)> {
        let offered = self.channel(channel).map(|channel| channel.offered_types());
        offered.into_iter().flatten().map(|(id, name, _)| (id, name))
    }

    fn event_type(&self, channel: ChannelId, id: TypeId) -> Option<&Arc<EventType>> {
        self.channel(channel)?.event_type(id)
    }

    fn types_in(
        &self,
        channel: ChannelId,
        range: SeqRange,
    ) -> impl Iterator<Item = (SeqRange, TypeId)> {
        self.channel(channel).map(|channel| channel.types_in(range)).into_iter().flatten()
    }

    fn interest(&self, proxy: ProxyId) -> Interest {
        let machine = self.of_proxy(proxy);
        machine.proxy(proxy).map(|proxy| machine.interest(proxy)).unwrap_or_default()
    }

    fn is_scarce(&self, channel: ChannelId) -> bool {
        self.channel(channel).is_some_and(|channel| {
            let rules = channel.admission();
            rules.max_queue_length > 0 || channel.pending().bytes > rules.max_queue_bytes / 2
        })
    }

    fn next_seq(&self, channel: ChannelId) -> Option<Seq> {
        self.channel(channel).map(|channel| channel.next_seq())
    }

    fn proxy(&self, proxy: ProxyId) -> Option<ProxyFacts> {
        let proxy = self.of_proxy(proxy).proxy(proxy)?;
        let held = Some(proxy).filter(|proxy| proxy.service().exclusive);
        Some(ProxyFacts {
            channel: proxy.channel(),
            revision: proxy.revision(),
            service: *proxy.service(),
            rests: proxy.rests(),
            picks: proxy.picks(),
            holder: held.and_then(Proxy::holder),
            fencing: held.map_or(0, Proxy::fencing),
            start_seq: proxy.start_seq(),
        })
    }

    fn attempts(&self, proxy: ProxyId, seq: Seq) -> u32 {
        self.of_proxy(proxy).proxy(proxy).map_or(0, |proxy| proxy.attempts(seq))
    }
}
