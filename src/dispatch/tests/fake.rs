//! Facts as a test wants them.

use std::collections::{BTreeMap, BTreeSet};

use crate::dispatch::{Facts, ProxyFacts, Settlement, SlotFacts};
use crate::types::{ChannelId, Outcome, PayloadKey, ProxyId, ProxySettings, Seq, SeqRanges};

/// The one channel of the fake.
pub const CHANNEL: ChannelId = ChannelId(1);

/// A channel with proxies; every event is retained until `first_retained` moves beyond it.
#[derive(Debug)]
pub struct FakeFacts {
    pub exists: bool,
    /// Key index and size of each event; event 1 is the first.
    pub events: Vec<(u64, u32)>,
    pub first_retained: Seq,
    pub proxies: BTreeMap<ProxyId, FakeProxy>,
}

#[derive(Debug)]
pub struct FakeProxy {
    pub facts: ProxyFacts,
    pub settled: BTreeMap<Seq, Outcome>,
    pub attempts: BTreeMap<Seq, u32>,
}

impl Default for FakeFacts {
    fn default() -> FakeFacts {
        let proxies = BTreeMap::new();
        FakeFacts { exists: true, events: Vec::new(), first_retained: 1, proxies }
    }
}

impl FakeFacts {
    pub fn end(&self) -> Seq {
        self.events.len() as Seq + 1
    }

    pub fn add_proxy(&mut self, id: ProxyId, settings: ProxySettings) {
        let facts = ProxyFacts { channel: CHANNEL, revision: 1, settings, start_seq: 1 };
        let proxy = FakeProxy { facts, settled: BTreeMap::new(), attempts: BTreeMap::new() };
        self.proxies.insert(id, proxy);
    }

    /// Applies a settlement.
    pub fn settle(&mut self, id: ProxyId, parts: &[Settlement]) {
        let Some(proxy) = self.proxies.get_mut(&id) else { return };
        for part in parts {
            for seq in part.sequences.iter().flat_map(|range| range.first..=range.last) {
                proxy.settled.entry(seq).or_insert(part.outcome);
            }
        }
    }

    pub fn count_attempts(&mut self, id: ProxyId, sequences: &SeqRanges) {
        if let Some(proxy) = self.proxies.get_mut(&id) {
            for seq in sequences.iter().flat_map(|r| r.first..=r.last) {
                *proxy.attempts.entry(seq).or_default() += 1;
            }
        }
    }

    pub fn pending(&self, id: ProxyId) -> BTreeSet<Seq> {
        let settled = |seq: &Seq| self.proxies[&id].settled.contains_key(seq);
        (1..self.end()).filter(|seq| !settled(seq)).collect()
    }
}

impl Facts for FakeFacts {
    fn next_unsettled(&self, proxy: ProxyId, from: Seq) -> Option<Seq> {
        let settled = &self.proxies.get(&proxy)?.settled;
        (from.max(1)..self.end()).find(|seq| !settled.contains_key(seq))
    }

    fn is_pending(&self, proxy: ProxyId, seq: Seq) -> bool {
        self.proxies.get(&proxy).is_some_and(|p| !p.settled.contains_key(&seq)) && seq < self.end()
    }

    fn slot(&self, channel: ChannelId, seq: Seq) -> Option<SlotFacts> {
        assert_eq!(channel, CHANNEL);
        let (index, size) = *self.events.get(seq.checked_sub(1)? as usize)?;
        Some(SlotFacts { key: PayloadKey { index, position: seq as u32 }, size })
    }

    fn next_retained(&self, channel: ChannelId, from: Seq) -> Option<(Seq, SlotFacts)> {
        let seq = from.max(self.first_retained);
        Some((seq, self.slot(channel, seq)?))
    }

    fn next_seq(&self, channel: ChannelId) -> Option<Seq> {
        (self.exists && channel == CHANNEL).then(|| self.end())
    }

    fn proxy(&self, proxy: ProxyId) -> Option<ProxyFacts> {
        self.proxies.get(&proxy).map(|p| p.facts.clone())
    }

    fn attempts(&self, proxy: ProxyId, seq: Seq) -> u32 {
        self.proxies[&proxy].attempts.get(&seq).copied().unwrap_or(0)
    }
}
