//! Events whose bytes are gone for good.
//!
//! The one change to a machine that no entry of the log brings: made while nobody else has this
//! machine, when a new incarnation of a cluster is made of what is left of the old one.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{Machine, Settle, SettlePart};
use crate::types::{ChannelId, Name, Outcome, PayloadKey, ProxyId, Seq, SeqRanges};

/// What a channel lost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loss {
    pub channel: ChannelId,
    pub name: Name,
    /// The events.
    pub sequences: SeqRanges,
    /// Durable proxies that waited for some of them, and for how many.
    pub waited: Vec<(Name, u64)>,
}

impl Machine {
    /// Gives up the events whose payloads are `lost`: for the durable proxies that wait for them
    /// they end as `discarded`, so every ledger still adds up, and the history of their channel
    /// begins after the last of them.
    pub fn give_up(&mut self, lost: &BTreeSet<PayloadKey>) -> Vec<Loss> {
        let channels: Vec<ChannelId> = self.channels.keys().copied().collect();
        channels.into_iter().filter_map(|channel| self.give_up_in(channel, lost)).collect()
    }

    fn give_up_in(&mut self, id: ChannelId, lost: &BTreeSet<PayloadKey>) -> Option<Loss> {
        let channel = self.channel(id)?;
        let gone = channel.slots.iter_from(0).filter(|(_, slot)| lost.contains(&slot.key()));
        let sequences: SeqRanges = gone.map(|(seq, _)| seq).collect();
        let last = sequences.iter().last()?.last;
        let name = channel.name().clone();
        let proxies: Vec<(Name, ProxyId)> =
            channel.proxies().map(|(name, id)| (name.clone(), id)).collect();
        let mut waited = Vec::new();
        for (proxy, id) in proxies {
            let pending = self.discard(id, &sequences);
            waited.extend((pending > 0).then_some((proxy, pending)));
        }
        match self.channel(id)?.is_dead_letters() {
            true => self.lose_letters(id, &sequences),
            false => self.begin_history_after(id, last),
        }
        Some(Loss { channel: id, name, sequences, waited })
    }

    /// Settles what the proxy waits for among `sequences`; how many that were.
    fn discard(&mut self, id: ProxyId, sequences: &SeqRanges) -> u64 {
        let Some(proxy) = self.proxy(id) else { return 0 };
        let before = proxy.counts().get(Outcome::Discarded);
        let part = SettlePart {
            outcome: Outcome::Discarded,
            sequences: sequences.clone(),
            reason: String::new(),
        };
        let settle =
            Settle { proxy: id, revision: proxy.revision(), fencing: 0, parts: vec![part] };
        // The proxy and its revision are those of this moment: there is nothing to refuse.
        let _ = self.settle(&settle);
        self.proxy(id).map_or(0, |proxy| proxy.counts().get(Outcome::Discarded) - before)
    }

    fn lose_letters(&mut self, id: ChannelId, sequences: &SeqRanges) {
        let Some(channel) = self.channels.get_mut(&id) else { return };
        let channel = Arc::make_mut(channel);
        channel.remove_letters(sequences);
        channel.letters.counts.lost += sequences.count();
    }

    fn begin_history_after(&mut self, id: ChannelId, last: Seq) {
        let Some(channel) = self.channels.get_mut(&id) else { return };
        let channel = Arc::make_mut(channel);
        channel.slots.begin_history_after(last);
    }
}
