//! The machine's state, and views on it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::fact::{self, Kind};
use super::{Channel, Lane, Proxy, apply};
use crate::types::{
    ChannelId, Interest, LaneId, Name, ProxyId, Qos, Rejection, Seq, SeqRange, Side, Stamp, Supply,
    Tenure,
};

/// The replicated machine. Cheap to clone: see the module.
#[derive(Debug, Clone)]
pub struct Machine {
    pub(super) applied: u64,
    pub(super) stamp: Stamp,
    pub(super) tenure: Tenure,
    /// The last id given to a channel or proxy.
    pub(super) last_id: u64,
    pub(super) channels: BTreeMap<ChannelId, Arc<Channel>>,
    pub(super) proxies: BTreeMap<ProxyId, Arc<Proxy>>,
    pub(super) lanes: BTreeMap<LaneId, Arc<Lane>>,
    /// Follows from the channels.
    pub(super) names: BTreeMap<Name, ChannelId>,
    /// Channels whose events stay in the leader's memory; follows from the channels.
    pub(super) best_effort: BTreeSet<ChannelId>,
    /// No fact: whether this is the machine of those, beside the replicated one.
    pub(super) is_transient: bool,
    /// No fact: what the last apply changed.
    pub(super) touched: BTreeSet<ChannelId>,
}

impl Default for Machine {
    fn default() -> Machine {
        Machine::new()
    }
}

impl Machine {
    /// A machine that has applied nothing: the channel `default`, and no tenure.
    pub fn new() -> Machine {
        let mut machine = Machine {
            applied: 0,
            stamp: Stamp::default(),
            tenure: Tenure::default(),
            last_id: 0,
            channels: BTreeMap::new(),
            proxies: BTreeMap::new(),
            lanes: BTreeMap::new(),
            names: BTreeMap::new(),
            best_effort: BTreeSet::new(),
            is_transient: false,
            touched: BTreeSet::new(),
        };
        machine.add_channel(Name::default_channel(), Qos::default());
        machine
    }

    /// Log index of the last entry applied.
    pub fn applied(&self) -> u64 {
        self.applied
    }

    /// Takes note of an entry that holds no batch (a blank or a membership change).
    pub fn pass(&mut self, index: u64) {
        self.applied = index;
        self.touched.clear();
    }

    /// Replicated time.
    pub fn stamp(&self) -> Stamp {
        self.stamp
    }

    /// The current tenure.
    pub fn tenure(&self) -> Tenure {
        self.tenure
    }

    /// The channel of this id.
    pub fn channel(&self, id: ChannelId) -> Option<&Channel> {
        self.channels.get(&id).map(|channel| &**channel)
    }

    /// The channel of this name.
    pub fn channel_by_name(&self, name: &Name) -> Option<&Channel> {
        self.channel(*self.names.get(name)?)
    }

    /// All channels, by id.
    pub fn channels(&self) -> impl Iterator<Item = &Channel> {
        self.channels.values().map(|channel| &**channel)
    }

    /// The durable proxy of this id.
    pub fn proxy(&self, id: ProxyId) -> Option<&Proxy> {
        self.proxies.get(&id).map(|proxy| &**proxy)
    }

    /// All durable proxies, by id.
    pub fn all_proxies(&self) -> impl Iterator<Item = &Proxy> {
        self.proxies.values().map(|proxy| &**proxy)
    }

    /// The durable proxies of a channel, by name.
    pub fn proxies(&self, channel: ChannelId) -> impl Iterator<Item = &Proxy> {
        let ids = self.channel(channel).into_iter().flat_map(|channel| channel.proxies.values());
        ids.filter_map(|id| self.proxy(*id))
    }

    /// Which types of events a proxy gets.
    pub fn interest(&self, proxy: &Proxy) -> Interest {
        let channel = self.channel(proxy.channel());
        let admin = channel.and_then(|channel| channel.admins.get(Side::Consumer, proxy.admin()));
        Interest { own: proxy.types().clone(), admin: admin.unwrap_or_default().types }
    }

    /// The lane of this id.
    pub fn lane(&self, id: LaneId) -> Option<&Lane> {
        self.lanes.get(&id).map(|lane| &**lane)
    }

    /// The lanes of a channel, by id.
    pub fn lanes_of(&self, channel: ChannelId) -> impl Iterator<Item = &Lane> {
        let ids = self.channel(channel).into_iter().flat_map(|channel| &channel.lanes);
        ids.filter_map(|id| self.lane(*id))
    }

    /// What holds for a lane, its own or inherited. Refused while it takes no events: it or its
    /// supplier admin is suspended, or its channel is full; and if there is no such lane.
    pub fn supply(&self, id: LaneId) -> Result<Supply, Rejection> {
        let lane = self.lane(id).ok_or_else(|| apply::unknown_lane(id))?;
        let channel = self.channel(lane.channel()).ok_or_else(|| apply::unknown_lane(id))?;
        let supply = self.supply_of(channel, lane)?;
        match channel.is_full() {
            true => Err(apply::full(channel)),
            false => Ok(supply),
        }
    }

    /// All lanes, by id.
    pub fn lanes(&self) -> impl Iterator<Item = &Lane> {
        self.lanes.values().map(|lane| &**lane)
    }

    /// The first event at or after `from` that the proxy has not settled.
    pub fn next_unsettled(&self, proxy: ProxyId, from: Seq) -> Option<Seq> {
        self.unsettled_from(proxy, from).map(|range| range.first)
    }

    /// The last event at or before `upto` that the proxy has not settled.
    pub fn last_unsettled(&self, proxy: ProxyId, upto: Seq) -> Option<Seq> {
        let proxy = self.proxy(proxy)?;
        let last = self.channel(proxy.channel())?.next_seq().checked_sub(1)?;
        proxy.settled.last_unsettled(upto.min(last))
    }

    /// The first run of consecutive unsettled events of the proxy, cut to begin at `from`.
    pub fn unsettled_from(&self, proxy: ProxyId, from: Seq) -> Option<SeqRange> {
        let proxy = self.proxy(proxy)?;
        let next = self.channel(proxy.channel())?.next_seq();
        proxy.settled.unsettled_from(from, next.checked_sub(1)?)
    }

    /// Whether `seq` was accepted, offered to the proxy, and not settled by it.
    pub fn is_pending(&self, proxy: ProxyId, seq: Seq) -> bool {
        self.next_unsettled(proxy, seq) == Some(seq)
    }

    /// Events accepted since the proxy began.
    pub fn offered(&self, proxy: &Proxy) -> u64 {
        let next = self.channel(proxy.channel()).map_or(0, Channel::next_seq);
        next.saturating_sub(proxy.start_seq())
    }

    /// Events the proxy has not settled, counted from the set of them.
    pub fn pending(&self, proxy: &Proxy) -> u64 {
        let next = self.channel(proxy.channel()).map_or(0, Channel::next_seq);
        next.saturating_sub(proxy.floor()).saturating_sub(proxy.settled.above_count())
    }

    /// The channels that the last apply changed.
    pub fn touched(&self) -> &BTreeSet<ChannelId> {
        &self.touched
    }

    /// The same, handed over.
    pub fn take_touched(&mut self) -> BTreeSet<ChannelId> {
        std::mem::take(&mut self.touched)
    }

    /// Hash of the whole state, equal on all replicas that applied the same entries. Costs a few
    /// nanoseconds per channel, proxy and lane, none per event.
    pub fn hash(&self) -> u64 {
        let globals = [self.applied, self.stamp.0, self.tenure.0, self.last_id];
        let channels = self.channels().map(Channel::hash);
        let proxies = self.proxies.values().map(|proxy| proxy.hash());
        let lanes = self.lanes().map(Lane::hash);
        channels
            .chain(proxies)
            .chain(lanes)
            .fold(fact::of_words(Kind::Machine, globals), u64::wrapping_add)
    }

    /// The hash computed from every single fact instead of from kept sums.
    pub fn recompute_hash(&self) -> u64 {
        let mut copy = self.clone();
        copy.resum();
        copy.hash()
    }

    /// Computes all kept sums anew.
    pub(super) fn resum(&mut self) {
        self.channels.values_mut().for_each(|channel| Arc::make_mut(channel).resum());
        self.proxies.values_mut().for_each(|proxy| Arc::make_mut(proxy).resum());
        self.lanes.values_mut().for_each(|lane| Arc::make_mut(lane).resum());
    }

    pub(super) fn next_id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }

    pub(super) fn add_channel(&mut self, name: Name, qos: Qos) -> ChannelId {
        let id = ChannelId(self.next_id());
        self.names.insert(name.clone(), id);
        self.channels.insert(id, Arc::new(Channel::new(id, name, qos)));
        self.touched.insert(id);
        self.resolve(id);
        id
    }
}
