//! Facts as a test wants them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::dispatch::{Action, Facts, ProxyFacts, Settlement, SlotFacts};
use crate::types::{
    ChannelId, Discard, EventType, Interest, Member, Outcome, PayloadKey, ProxyId, Scheduling, Seq,
    SeqRange, SeqRanges, Service, Stamp, TypeId,
};

/// Whether the definition of the proxy says so, and not its consumer.
pub fn is_judged(outcome: Outcome) -> bool {
    matches!(outcome, Outcome::Expired | Outcome::Discarded | Outcome::Filtered)
}

/// The one channel of the fake.
pub const CHANNEL: ChannelId = ChannelId(1);

/// A channel with proxies; every event is retained until `first_retained` moves beyond it.
#[derive(Debug)]
pub struct FakeFacts {
    pub exists: bool,
    /// Event 1 is the first. What the slots do not know is found when they are asked for.
    pub events: Vec<SlotFacts>,
    pub definitions: u64,
    pub scheduling: Scheduling,
    /// Events that proxies may wait for, and which are to go beyond; 0: all they want.
    pub max_queue_length: (u64, Discard),
    pub first_retained: Seq,
    /// The types of events by number, from 1.
    pub types: Vec<Arc<EventType>>,
    pub is_scarce: bool,
    pub proxies: BTreeMap<ProxyId, FakeProxy>,
}

#[derive(Debug)]
pub struct FakeProxy {
    pub facts: ProxyFacts,
    pub interest: Interest,
    pub settled: BTreeMap<Seq, Outcome>,
    pub attempts: BTreeMap<Seq, u32>,
}

impl Default for FakeFacts {
    fn default() -> FakeFacts {
        let proxies = BTreeMap::new();
        let (events, max_queue_length) = (Vec::new(), (0, Discard::Fifo));
        FakeFacts {
            exists: true,
            events,
            definitions: 0,
            scheduling: Scheduling::RoundRobin,
            max_queue_length,
            first_retained: 1,
            types: Vec::new(),
            is_scarce: false,
            proxies,
        }
    }
}

impl FakeFacts {
    /// Accepts an event of this size, of the entry at `index`, which asks for nothing.
    pub fn plain(index: u64, size: u32) -> SlotFacts {
        let key = PayloadKey { index, position: 0 };
        let (accepted, start, stop) = (Stamp(0), Stamp(0), Stamp(0));
        let kind = TypeId::default();
        SlotFacts { key, size, accepted, priority: 0, start, stop, kind, waiting: 0, again: false }
    }

    /// The number of a type `domain::type`.
    pub fn number(&mut self, name: &str) -> TypeId {
        let (domain, kind) = name.split_once("::").unwrap_or(("", name));
        let name = Arc::new(EventType { domain: domain.into(), kind: kind.into() });
        let known = self.types.iter().position(|known| *known == name);
        let place = known.unwrap_or_else(|| {
            self.types.push(name);
            self.types.len() - 1
        });
        TypeId(place as u32 + 1)
    }

    /// Whether a proxy wants an event.
    pub fn wants(&self, id: ProxyId, seq: Seq) -> bool {
        self.proxies[&id].interest.wants(self.name(self.events[seq as usize - 1].kind).borrow())
    }

    pub fn name(&self, id: TypeId) -> Arc<EventType> {
        self.event_type(CHANNEL, id).cloned().unwrap_or_default()
    }

    /// From now on a proxy wants this.
    pub fn subscribe(&mut self, id: ProxyId, interest: Interest) {
        let Some(proxy) = self.proxies.get_mut(&id) else { return };
        proxy.facts.revision += 1;
        proxy.facts.picks = !interest.is_whole();
        proxy.interest = interest;
        self.definitions += 1;
    }

    pub fn end(&self) -> Seq {
        self.events.len() as Seq + 1
    }

    pub fn add_proxy(&mut self, id: ProxyId, service: Service) {
        let facts = ProxyFacts {
            channel: CHANNEL,
            revision: 1,
            service,
            rests: false,
            picks: false,
            holder: None,
            fencing: 0,
            start_seq: 1,
        };
        self.definitions += 1;
        let (settled, attempts) = (BTreeMap::new(), BTreeMap::new());
        let proxy = FakeProxy { facts, interest: Interest::default(), settled, attempts };
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

    /// Applies a proposal. True: judgements of it did not count, since the definition changed.
    pub fn apply(&mut self, proposal: &Action) -> bool {
        match proposal {
            Action::Settle { proxy, revision, fencing, parts, .. } => {
                assert!(!self.is_fenced(*proxy, *fencing), "the machine would refuse it");
                let current = self.proxies.get(proxy).map(|proxy| proxy.facts.revision);
                let stale = current.is_some_and(|current| current != *revision);
                let counts = |part: &&Settlement| !stale || !is_judged(part.outcome);
                let parts: Vec<Settlement> = parts.iter().filter(counts).cloned().collect();
                self.settle(*proxy, &parts);
                stale
            }
            Action::Hold { proxy, holder } => {
                self.hold(*proxy, *holder);
                false
            }
            Action::CountAttempts { proxy, sequences, .. } => {
                self.count_attempts(*proxy, sequences);
                false
            }
            _ => false,
        }
    }

    /// Whether the machine refuses what is said under this token.
    pub fn is_fenced(&self, id: ProxyId, fencing: u64) -> bool {
        self.proxies
            .get(&id)
            .is_some_and(|proxy| proxy.facts.service.exclusive && proxy.facts.fencing != fencing)
    }

    /// Applies a change of the holder.
    pub fn hold(&mut self, id: ProxyId, holder: Option<Member>) {
        let Some(proxy) = self.proxies.get_mut(&id) else { return };
        proxy.facts.holder = holder;
        proxy.facts.fencing += u64::from(holder.is_some());
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

    fn last_unsettled(&self, proxy: ProxyId, upto: Seq) -> Option<Seq> {
        let settled = &self.proxies.get(&proxy)?.settled;
        (1..self.end().min(upto.saturating_add(1))).rev().find(|seq| !settled.contains_key(seq))
    }

    fn unsettled_from(&self, proxy: ProxyId, from: Seq) -> Option<SeqRange> {
        let first = self.next_unsettled(proxy, from)?;
        let goes_on = |seq: &Seq| self.is_pending(proxy, *seq);
        let last = (first..self.end()).take_while(goes_on).last()?;
        Some(SeqRange { first, last })
    }

    fn pending(&self, proxy: ProxyId) -> u64 {
        FakeFacts::pending(self, proxy).len() as u64
    }

    fn marked(&self, channel: ChannelId, from: Seq) -> impl Iterator<Item = (Seq, SlotFacts)> {
        let slots =
            (from.max(1)..self.end()).filter_map(move |s| Some((s, self.slot(channel, s)?)));
        let none = Stamp(0);
        slots.filter(move |(_, s)| (s.priority, s.start, s.stop) != (0, none, none))
    }

    fn channels(&self) -> Vec<ChannelId> {
        vec![CHANNEL]
    }

    fn definitions(&self, _: ChannelId) -> u64 {
        self.definitions
    }

    fn proxies(&self, _: ChannelId) -> Vec<ProxyId> {
        self.proxies.keys().copied().collect()
    }

    fn scheduling(&self, _: ChannelId) -> Scheduling {
        self.scheduling
    }

    fn overflow(&self, channel: ChannelId) -> Option<(u64, Discard)> {
        let (max, policy) = self.max_queue_length;
        let slots = (1..self.end()).filter_map(|seq| self.slot(channel, seq));
        let waited = slots.filter(|slot| slot.waiting > 0).count() as u64;
        (max > 0).then_some((waited.saturating_sub(max), policy))
    }

    fn is_pending(&self, proxy: ProxyId, seq: Seq) -> bool {
        self.proxies.get(&proxy).is_some_and(|p| !p.settled.contains_key(&seq)) && seq < self.end()
    }

    fn slot(&self, channel: ChannelId, seq: Seq) -> Option<SlotFacts> {
        assert_eq!(channel, CHANNEL);
        let event = *self.events.get(seq.checked_sub(1)? as usize)?;
        let key = PayloadKey { position: seq as u32, ..event.key };
        let waits = |proxy: &&FakeProxy| !proxy.settled.contains_key(&seq);
        let waiting = self.proxies.values().filter(waits).count() as u32;
        Some(SlotFacts { key, waiting, ..event })
    }

    fn next_retained(&self, channel: ChannelId, from: Seq) -> Option<(Seq, SlotFacts)> {
        let seq = from.max(self.first_retained);
        Some((seq, self.slot(channel, seq)?))
    }

    fn types(&self, _: ChannelId) -> impl Iterator<Item = (TypeId, &Arc<EventType>)> {
        (1..).map(TypeId).zip(&self.types)
    }

    fn event_type(&self, _: ChannelId, id: TypeId) -> Option<&Arc<EventType>> {
        self.types.get((id.0 as usize).checked_sub(1)?)
    }

    fn types_in(&self, _: ChannelId, range: SeqRange) -> impl Iterator<Item = (SeqRange, TypeId)> {
        let last = range.last.min(self.end() - 1);
        let kind = |seq: Seq| self.events[seq as usize - 1].kind;
        (range.first.max(1)..=last).map(move |seq| (SeqRange::one(seq), kind(seq)))
    }

    fn interest(&self, proxy: ProxyId) -> Interest {
        self.proxies[&proxy].interest.clone()
    }

    fn is_scarce(&self, _: ChannelId) -> bool {
        self.is_scarce
    }

    fn first_seq(&self, channel: ChannelId) -> Option<Seq> {
        (self.exists && channel == CHANNEL).then_some(1)
    }

    fn next_seq(&self, channel: ChannelId) -> Option<Seq> {
        (self.exists && channel == CHANNEL).then(|| self.end())
    }

    fn proxy(&self, proxy: ProxyId) -> Option<ProxyFacts> {
        let mut known = self.proxies.get(&proxy)?.facts.clone();
        if !known.service.exclusive {
            (known.holder, known.fencing) = (None, 0);
        }
        Some(known)
    }

    fn attempts(&self, proxy: ProxyId, seq: Seq) -> u32 {
        self.proxies[&proxy].attempts.get(&seq).copied().unwrap_or(0)
    }
}
