//! A durable consumer proxy: its definition, and which events are settled for it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::fact::{self, Kind, Sum};
use super::settled::Settled;
use crate::types::{
    ChannelId, Counts, Member, Name, ProxyId, Qos, Seq, SeqRange, Service, Stamp, Subscription,
};

/// A durable proxy of a channel.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Proxy {
    id: ProxyId,
    channel: ChannelId,
    name: Name,
    /// The consumer admin it is of.
    pub(super) admin: Name,
    /// What is set for it alone.
    pub(super) qos: Qos,
    pub(super) suspended: bool,
    /// The types of events that it wants itself; its admin may want fewer.
    pub(super) types: Subscription,
    /// What its own settings, its admin's and its channel's come to.
    #[serde(skip)]
    pub(super) service: Service,
    /// Whether it delivers nothing, by its own definition or its admin's.
    #[serde(skip)]
    pub(super) rests: bool,
    /// Whether it does not want every event, by its own subscription or its admin's.
    #[serde(skip)]
    pub(super) picks: bool,
    /// Of an exclusive proxy: whose turn it is, if anybody's.
    pub(super) holder: Option<Member>,
    /// The token of the latest holder; 0: there was none.
    fencing: u64,
    /// When somebody last consumed, as far as is on record.
    pub(super) last_active: Stamp,
    /// Raised whenever the definition changes; settlements name the one they were judged under.
    pub(super) revision: u64,
    pub(super) start_seq: Seq,
    pub(super) settled: Settled,
    /// Counted deliveries of unsettled events, so that a poison event stays bounded.
    pub(super) attempts: BTreeMap<Seq, u32>,
    #[serde(skip)]
    pub(super) attempts_sum: Sum,
}

impl Proxy {
    pub(super) fn new(
        id: ProxyId,
        (channel, admin): (ChannelId, Name),
        name: Name,
        start_seq: Seq,
    ) -> Proxy {
        Proxy {
            id,
            channel,
            name,
            admin,
            qos: Qos::default(),
            suspended: false,
            types: Subscription::default(),
            service: Service::default(),
            rests: false,
            picks: false,
            holder: None,
            fencing: 0,
            last_active: Stamp::default(),
            revision: 1,
            start_seq,
            settled: Settled::new(id, start_seq),
            attempts: BTreeMap::new(),
            attempts_sum: Sum::default(),
        }
    }

    pub fn id(&self) -> ProxyId {
        self.id
    }

    pub fn channel(&self) -> ChannelId {
        self.channel
    }

    pub fn name(&self) -> &Name {
        &self.name
    }

    /// The consumer admin it is of.
    pub fn admin(&self) -> &Name {
        &self.admin
    }

    /// What is set for it alone.
    pub fn qos(&self) -> &Qos {
        &self.qos
    }

    /// What holds for it, inherited or its own.
    pub fn service(&self) -> &Service {
        &self.service
    }

    /// Whether it is suspended itself.
    pub fn is_suspended(&self) -> bool {
        self.suspended
    }

    /// Whether it delivers nothing: it is suspended, or its admin is.
    pub fn rests(&self) -> bool {
        self.rests
    }

    /// The types of events that it wants itself. Its admin must want them, too.
    pub fn types(&self) -> &Subscription {
        &self.types
    }

    /// Whether it does not want every event, by its own subscription or its admin's.
    pub fn picks(&self) -> bool {
        self.picks
    }

    /// Of an exclusive proxy: whose turn it is, if anybody's.
    pub fn holder(&self) -> Option<Member> {
        self.holder
    }

    /// The fencing token of its latest holder, which only rises; 0: there was none.
    pub fn fencing(&self) -> u64 {
        self.fencing
    }

    /// From now on, the entry at this index, no earlier token counts.
    pub(super) fn fence(&mut self, index: u64) {
        self.fencing = index.max(self.fencing + 1);
    }

    /// When somebody last consumed from it, as far as is on record; at first, when it was created.
    pub fn last_active(&self) -> Stamp {
        self.last_active
    }

    /// Whether it had no consumer for as long as it may be without, as far as is on record.
    pub fn is_inactive(&self, now: Stamp) -> bool {
        let patience = self.service.inactivity_ms;
        patience > 0 && self.last_active.plus_millis(patience) <= now
    }

    /// Revision of the definition, from 1.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// The first sequence offered to it.
    pub fn start_seq(&self) -> Seq {
        self.start_seq
    }

    /// Everything offered below this sequence is settled.
    pub fn floor(&self) -> Seq {
        self.settled.floor()
    }

    /// How many events ended, by outcome.
    pub fn counts(&self) -> &Counts {
        self.settled.counts()
    }

    /// Deliveries of `seq` counted as facts.
    pub fn attempts(&self, seq: Seq) -> u32 {
        self.attempts.get(&seq).copied().unwrap_or(0)
    }

    /// Counts one delivery of an unsettled event.
    pub(super) fn count_attempt(&mut self, seq: Seq) {
        let count = self.attempts.entry(seq).or_insert(0);
        if *count > 0 {
            self.attempts_sum.remove(attempts_fact(self.id, seq, *count));
        }
        *count = count.saturating_add(1);
        self.attempts_sum.add(attempts_fact(self.id, seq, *count));
    }

    /// Forgets the attempts of events that were just settled.
    pub(super) fn drop_attempts(&mut self, range: SeqRange) {
        while let Some((&seq, &count)) = self.attempts.range(range.first..=range.last).next() {
            self.attempts_sum.remove(attempts_fact(self.id, seq, count));
            self.attempts.remove(&seq);
        }
    }

    /// Whether a decoded proxy is of a shape that this code can have written.
    pub(super) fn is_sound(&self) -> bool {
        self.start_seq > 0 && self.settled.is_sound(self.id)
    }

    /// Hash of all facts, from the kept sums.
    pub(super) fn hash(&self) -> u64 {
        let definition = (self.id, self.channel, &self.name, self.revision, self.start_seq);
        let qos = (self.id, &self.admin, &self.qos, self.suspended, &self.types);
        let activity = fact::of_words(Kind::Activity, [self.id.0, self.last_active.0]);
        let hold = (self.id, self.holder, self.fencing);
        let hold = if self.fencing > 0 { fact::of_value(Kind::Hold, &hold) } else { 0 };
        fact::of_value(Kind::ProxyDefinition, &definition)
            .wrapping_add(hold)
            .wrapping_add(activity)
            .wrapping_add(fact::of_value(Kind::ProxyQos, &qos))
            .wrapping_add(self.settled.hash())
            .wrapping_add(self.attempts_sum.value())
    }

    /// Computes the kept sums anew, as after decoding.
    pub(super) fn resum(&mut self) {
        self.settled.resum();
        let facts = self.attempts.iter().map(|(seq, n)| attempts_fact(self.id, *seq, *n));
        self.attempts_sum = facts.collect();
    }
}

fn attempts_fact(proxy: ProxyId, seq: Seq, count: u32) -> u64 {
    fact::of_words(Kind::Attempts, [proxy.0, seq, u64::from(count)])
}
