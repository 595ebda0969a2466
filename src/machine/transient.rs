//! The machine beside the replicated one: best-effort channels, in the leader's memory.
//!
//! A channel whose `EventReliability` is best effort is defined by facts like any other: it, its
//! admins and proxies, the openings of its lanes. Its *events* are not: the leader of a tenure
//! applies publishes and settlements to a machine of its own, which begins with the tenure and ends
//! with it. So the same rules (order, limits, discards, ledger) hold for both classes.
//!
//! - Sequences of a channel are above all that earlier tenures gave. To each entry of the log belongs
//!   a block of them, so a tenure has those from its own entry on, and the leader gives none beyond
//!   the last entry that is committed ([`Machine::sequence_ceiling`]).
//! - A proxy waits for what is accepted from the moment this machine knows it.
//! - A lane that this machine has not seen yet goes on wherever its supplier is: what came before
//!   was told, or is lost.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::fact::Sum;
use super::settled::Settled;
use super::slots::Slots;
use super::{Channel, Lane, Machine, Proxy, Publish};
use crate::types::{ChannelId, LaneId, ProxyId, Seq, Stamp, Tenure};

/// Sequences that belong to one entry of the log.
#[cfg(not(test))]
pub const SEQUENCE_BLOCK: u64 = 1 << 24;
/// Small, so that tests cross many borders.
#[cfg(test)]
pub const SEQUENCE_BLOCK: u64 = 1 << 10;

impl Machine {
    /// No best-effort sequence from this one on may be given yet, by these facts.
    pub fn sequence_ceiling(&self) -> Seq {
        self.applied.saturating_add(1).saturating_mul(SEQUENCE_BLOCK)
    }

    /// A machine for the best-effort channels of a tenure that began at `now`; it knows none yet.
    pub fn transient(tenure: Tenure, now: Stamp) -> Machine {
        let mut machine = Machine::new();
        machine.channels.clear();
        machine.names.clear();
        machine.touched.clear();
        (machine.tenure, machine.stamp, machine.is_transient) = (tenure, now, true);
        machine
    }

    /// The best-effort channels defined here.
    pub fn best_effort_channels(&self) -> impl Iterator<Item = &Channel> {
        self.best_effort.iter().filter_map(|id| self.channel(*id))
    }

    /// Whether any channel is best effort.
    pub fn has_best_effort(&self) -> bool {
        !self.best_effort.is_empty()
    }

    /// Whether this transient machine knows the best-effort channels as `facts` define them.
    pub fn mirrors(&self, facts: &Machine) -> bool {
        let known = |channel: &Channel| {
            let own = self.channel(channel.id());
            own.is_some_and(|own| own.definitions() == channel.definitions())
        };
        self.channels.len() == facts.best_effort.len() && facts.best_effort_channels().all(known)
    }

    /// Takes over how `facts` define the best-effort channels, their admins and proxies.
    pub fn mirror(&mut self, facts: &Machine) {
        let known: Vec<ChannelId> = self.channels.keys().copied().collect();
        for id in known.into_iter().filter(|id| !facts.best_effort.contains(id)) {
            self.remove_channel(id);
        }
        for channel in facts.best_effort_channels() {
            let own = self.channel(channel.id());
            if own.is_none_or(|own| own.definitions() != channel.definitions()) {
                self.mirror_channel(facts, channel);
            }
        }
    }

    fn mirror_channel(&mut self, facts: &Machine, defined: &Channel) {
        let (id, origin) = (defined.id(), self.tenure.0.saturating_mul(SEQUENCE_BLOCK) + 1);
        let own = self.channels.entry(id).or_insert_with(|| Arc::new(defined.begun_at(origin)));
        let own = Arc::make_mut(own);
        let (next, had) = (own.next_seq(), own.proxies.clone());
        for gone in had.into_values().filter(|proxy| facts.proxy(*proxy).is_none()) {
            // Its channel names it, so it is there.
            let _ = self.delete_proxy(gone);
        }
        for proxy in facts.proxies(id) {
            let own = self.proxies.entry(proxy.id());
            let own = own.or_insert_with(|| Arc::new(proxy.begun_at(next)));
            Arc::make_mut(own).follow(proxy);
        }
        if let Some(own) = self.channels.get_mut(&id) {
            Arc::make_mut(own).follow(defined);
        }
        self.lanes.retain(|lane, _| facts.lanes.contains_key(lane));
        let lanes: Vec<LaneId> = self.lanes.keys().copied().collect();
        lanes.into_iter().for_each(|lane| self.mirror_lane(facts, lane));
        self.names.insert(defined.name().clone(), id);
        self.resolve(id);
        self.touched.insert(id);
    }

    /// Takes over how a proxy of a best-effort channel is defined, and who holds it.
    pub fn mirror_proxy(&mut self, facts: &Machine, id: ProxyId) {
        if let (Some(own), Some(proxy)) = (self.proxies.get_mut(&id), facts.proxy(id)) {
            Arc::make_mut(own).follow(proxy);
            self.touched.insert(proxy.channel());
        }
    }

    /// Takes over who may publish on a lane of a best-effort channel.
    pub fn mirror_lane(&mut self, facts: &Machine, id: LaneId) {
        let Some(lane) = facts.lane(id) else { return };
        if self.lanes.len() > facts.lanes.len() {
            self.lanes.retain(|id, _| facts.lanes.contains_key(id));
        }
        let own = self.lanes.entry(id).or_insert_with(|| Arc::new(lane.clone()));
        Arc::make_mut(own).follow(lane);
    }

    /// A lane of an earlier tenure that nothing was published on yet goes on where whoever has it
    /// now is.
    pub fn begin_lane(&mut self, publish: &Publish) {
        let before = publish.first_sequence.saturating_sub(1);
        let tenure = self.tenure.0;
        let begins = |lane: &&mut Arc<Lane>| {
            lane.id().index < tenure && lane.epoch() == publish.epoch && lane.next_sequence() == 1
        };
        if let Some(lane) = self.lanes.get_mut(&publish.lane).filter(begins)
            && before < u64::MAX - 1
        {
            Arc::make_mut(lane).skip(before);
        }
    }
}

impl Channel {
    /// The same channel without events, whose sequences begin at `origin` or a little above.
    fn begun_at(&self, origin: Seq) -> Channel {
        let mut channel = self.clone();
        channel.slots = Slots::begun_at(self.id(), origin);
        channel.origin = channel.slots.next_seq();
        channel
    }

    /// Is defined as `other` from now on.
    fn follow(&mut self, other: &Channel) {
        let own = std::mem::replace(self, other.clone());
        self.origin = own.origin;
        self.accepted = own.accepted;
        self.no_interest = own.no_interest;
        self.slots = own.slots;
        self.letters = own.letters;
        self.dedup = own.dedup;
    }
}

impl Proxy {
    /// The same proxy, which waits for nothing before `seq`.
    fn begun_at(&self, seq: Seq) -> Proxy {
        let mut proxy = self.clone();
        proxy.start_seq = seq;
        proxy.settled = Settled::new(self.id(), seq);
        (proxy.attempts, proxy.attempts_sum) = (BTreeMap::new(), Sum::default());
        proxy
    }

    /// Is defined as `other` from now on.
    fn follow(&mut self, other: &Proxy) {
        let own = std::mem::replace(self, other.clone());
        self.start_seq = own.start_seq;
        self.settled = own.settled;
        self.attempts = own.attempts;
        self.attempts_sum = own.attempts_sum;
    }
}

impl Lane {
    /// Belongs to whom `other` belongs to from now on.
    fn follow(&mut self, other: &Lane) {
        let own = std::mem::replace(self, other.clone());
        self.last_used = self.last_used.max(own.last_used);
        self.next_sequence = own.next_sequence;
        self.runs = own.runs;
        self.remembered = own.remembered;
        self.sum = own.sum;
    }
}
