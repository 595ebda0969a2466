//! The machine as dispatch sees it.

use crate::dispatch::{Facts, ProxyFacts, SlotFacts};
use crate::machine::Machine;
use crate::types::{ChannelId, ProxyId, Seq};

/// The facts of a machine that does not change meanwhile.
#[derive(Debug, Clone, Copy)]
pub struct MachineFacts<'a>(pub &'a Machine);

impl Facts for MachineFacts<'_> {
    fn next_unsettled(&self, proxy: ProxyId, from: Seq) -> Option<Seq> {
        self.0.next_unsettled(proxy, from)
    }

    fn is_pending(&self, proxy: ProxyId, seq: Seq) -> bool {
        self.0.is_pending(proxy, seq)
    }

    fn slot(&self, channel: ChannelId, seq: Seq) -> Option<SlotFacts> {
        let slot = self.0.channel(channel)?.slot(seq)?;
        Some(SlotFacts { key: slot.key(), size: slot.size })
    }

    fn next_retained(&self, channel: ChannelId, from: Seq) -> Option<(Seq, SlotFacts)> {
        let seq = self.0.channel(channel)?.next_retained(from)?;
        Some((seq, self.slot(channel, seq)?))
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
            start_seq: proxy.start_seq(),
        })
    }

    fn attempts(&self, proxy: ProxyId, seq: Seq) -> u32 {
        self.0.proxy(proxy).map_or(0, |proxy| proxy.attempts(seq))
    }
}
