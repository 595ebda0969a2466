//! The machine as dispatch sees it.

use crate::dispatch::{Facts, ProxyFacts, SlotFacts};
use crate::machine::{Machine, Slot};
use crate::planted::{Bug, planted};
use crate::types::{ChannelId, Discard, ProxyId, Scheduling, Seq, SeqRange, Stamp};

/// The facts of a machine that does not change meanwhile.
#[derive(Debug, Clone, Copy)]
pub struct MachineFacts<'a>(pub &'a Machine);

fn slot_facts(slot: Slot) -> SlotFacts {
    SlotFacts {
        key: slot.key(),
        size: slot.size,
        accepted: slot.accepted,
        priority: slot.mark.priority,
        start: slot.mark.start,
        stop: slot.mark.stop,
        waiting: slot.waiting,
        again: slot.mark.again,
    }
}

impl Facts for MachineFacts<'_> {
    fn next_unsettled(&self, proxy: ProxyId, from: Seq) -> Option<Seq> {
        self.0.next_unsettled(proxy, from)
    }

    fn last_unsettled(&self, proxy: ProxyId, upto: Seq) -> Option<Seq> {
        self.0.last_unsettled(proxy, upto)
    }

    fn unsettled_from(&self, proxy: ProxyId, from: Seq) -> Option<SeqRange> {
        self.0.unsettled_from(proxy, from)
    }

    fn is_pending(&self, proxy: ProxyId, seq: Seq) -> bool {
        self.0.is_pending(proxy, seq)
    }

    fn pending(&self, proxy: ProxyId) -> u64 {
        self.0.proxy(proxy).map_or(0, |proxy| self.0.pending(proxy))
    }

    fn slot(&self, channel: ChannelId, seq: Seq) -> Option<SlotFacts> {
        let mut slot = self.0.channel(channel)?.slot(seq).map(slot_facts)?;
        if planted(Bug::StartForgotten) && slot.key.index < self.0.tenure().0 {
            slot.start = Stamp(0);
        }
        Some(slot)
    }

    fn next_retained(&self, channel: ChannelId, from: Seq) -> Option<(Seq, SlotFacts)> {
        let seq = self.0.channel(channel)?.next_retained(from)?;
        Some((seq, self.slot(channel, seq)?))
    }

    fn marked(&self, channel: ChannelId, from: Seq) -> impl Iterator<Item = (Seq, SlotFacts)> {
        let marked = self.0.channel(channel).map(|channel| channel.marked_from(from));
        marked.into_iter().flatten().map(|(seq, slot)| (seq, slot_facts(slot)))
    }

    fn channels(&self) -> Vec<ChannelId> {
        self.0.channels().map(|channel| channel.id()).collect()
    }

    fn definitions(&self, channel: ChannelId) -> u64 {
        self.0.channel(channel).map_or(0, |channel| channel.definitions())
    }

    fn proxies(&self, channel: ChannelId) -> Vec<ProxyId> {
        let channel = self.0.channel(channel);
        channel.map(|channel| channel.proxies().map(|(_, id)| id).collect()).unwrap_or_default()
    }

    fn scheduling(&self, channel: ChannelId) -> Scheduling {
        let channel = self.0.channel(channel);
        channel.map(|channel| channel.admission().scheduling).unwrap_or_default()
    }

    fn overflow(&self, channel: ChannelId) -> Option<(u64, Discard)> {
        let channel = self.0.channel(channel)?;
        let rules = channel.admission();
        let limited = rules.max_queue_length > 0 && !rules.reject_new_events;
        let excess = channel.pending().events.saturating_sub(rules.max_queue_length);
        limited.then_some((excess, rules.discard))
    }

    fn next_seq(&self, channel: ChannelId) -> Option<Seq> {
        self.0.channel(channel).map(|channel| channel.next_seq())
    }

    fn proxy(&self, proxy: ProxyId) -> Option<ProxyFacts> {
        let proxy = self.0.proxy(proxy)?;
        Some(ProxyFacts {
            channel: proxy.channel(),
            revision: proxy.revision(),
            settings: proxy.settings().clone(),
            service: *proxy.service(),
            rests: proxy.rests(),
            start_seq: proxy.start_seq(),
        })
    }

    fn attempts(&self, proxy: ProxyId, seq: Seq) -> u32 {
        self.0.proxy(proxy).map_or(0, |proxy| proxy.attempts(seq))
    }
}
