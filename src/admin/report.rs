//! The machine's facts in the words of the admin service.

use std::collections::BTreeMap;

use super::letters;
use crate::consensus;
use crate::delivery::ProxyStats;
use crate::machine::{Admin, Channel, Machine, Proxy};
use crate::types::{Name, Outcome, ProxyId};
use crate::wire::admin::{
    AdminReport, ChannelEntry, ChannelReport, LetterLedger, Member, MemberEntry, ProxyReport, Role,
    SnapshotReport,
};

/// All channels, by name.
pub fn channels(machine: &Machine) -> Vec<ChannelReport> {
    let mut reports: Vec<_> = machine.channels().map(|c| channel(machine, c)).collect();
    reports.sort_by(|a, b| a.name.cmp(&b.name));
    reports
}

/// One channel with its proxies; nothing in flight.
pub fn channel(machine: &Machine, channel: &Channel) -> ChannelReport {
    let history = channel.admission().history;
    ChannelReport {
        id: channel.id(),
        name: channel.name().clone(),
        accepted: channel.accepted(),
        retained: channel.retained().events,
        retained_bytes: channel.retained().bytes,
        pending_bytes: channel.pending().bytes,
        no_interest: channel.no_interest(),
        last_seq: channel.next_seq().saturating_sub(1),
        first_retained: channel.first_retained(),
        max_queue_bytes: channel.admission().max_queue_bytes,
        history_events: history.events,
        history_bytes: history.bytes,
        history_age_ms: history.age_ms,
        qos: channel.qos().clone(),
        admins: admins(machine, channel),
        subscribers: 0,
        dead_letters: dead_letters(machine, channel),
        proxies: machine.proxies(channel.id()).map(|p| proxy(machine, p)).collect(),
    }
}

/// What became of the dead letters of a channel, or of those in it.
fn dead_letters(machine: &Machine, channel: &Channel) -> Option<LetterLedger> {
    match channel.is_dead_letters() {
        true => Some(letters::ledger(channel)),
        false => machine.channel_by_name(&channel.name().dead_letter()).map(letters::ledger),
    }
}

/// The consumer admins of a channel, by name.
pub fn admins(machine: &Machine, channel: &Channel) -> Vec<AdminReport> {
    let report = |(name, admin): (Name, Admin)| {
        let members = machine.proxies(channel.id()).filter(|proxy| *proxy.admin() == name);
        let proxies = members.count() as u64;
        let Admin { qos, suspended, types } = admin;
        AdminReport { name, qos, suspended, types, proxies }
    };
    channel.admins().map(report).collect()
}

/// One durable proxy; nothing in flight.
pub fn proxy(machine: &Machine, proxy: &Proxy) -> ProxyReport {
    let ended = |outcome| proxy.counts().get(outcome);
    let service = proxy.service();
    ProxyReport {
        id: proxy.id(),
        name: proxy.name().clone(),
        offered: machine.offered(proxy),
        acked: ended(Outcome::Acked),
        filtered: ended(Outcome::Filtered),
        expired: ended(Outcome::Expired),
        discarded: ended(Outcome::Discarded),
        dead_lettered: ended(Outcome::DeadLettered),
        skipped: ended(Outcome::Skipped),
        pending: machine.pending(proxy),
        in_flight: 0,
        clients: 0,
        ack_wait_ms: service.ack_wait_ms,
        max_deliveries: service.max_deliveries,
        max_in_flight: service.max_in_flight,
        admin: proxy.admin().clone(),
        qos: proxy.qos().clone(),
        suspended: proxy.is_suspended(),
        types: proxy.types().clone(),
        turns: 0,
        waiting_ms: 0,
        longest_wait_ms: 0,
    }
}

/// Adds the leader's soft state.
pub fn add_soft_state(channels: &mut [ChannelReport], stats: &BTreeMap<ProxyId, ProxyStats>) {
    for proxy in channels.iter_mut().flat_map(|channel| &mut channel.proxies) {
        let stats = stats.get(&proxy.id).copied().unwrap_or_default();
        (proxy.in_flight, proxy.clients) = (stats.in_flight, stats.clients);
        (proxy.turns, proxy.waiting_ms) = (stats.turns, stats.waiting_ms);
        proxy.longest_wait_ms = stats.longest_wait_ms;
    }
}

/// One line for each channel, by name.
pub fn entries(machine: &Machine) -> Vec<ChannelEntry> {
    let entry = |channel: &Channel| ChannelEntry {
        id: channel.id(),
        name: channel.name().clone(),
        last_seq: channel.next_seq().saturating_sub(1),
        retained: channel.retained().events,
        proxies: channel.proxies().count() as u64,
    };
    let mut entries: Vec<_> = machine.channels().map(entry).collect();
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    entries
}

/// Snapshots sent and received by this node.
pub fn snapshots(counts: consensus::SnapshotCounts) -> SnapshotReport {
    let consensus::SnapshotCounts { sent, sent_bytes, received, received_bytes, receiving } =
        counts;
    SnapshotReport { sent, sent_bytes, received, received_bytes, receiving }
}

/// The role of this node.
pub fn role(role: consensus::Role) -> Role {
    match role {
        consensus::Role::Leader => Role::Leader,
        consensus::Role::Follower => Role::Follower,
        consensus::Role::Candidate => Role::Candidate,
        consensus::Role::Learner => Role::Learner,
        consensus::Role::Stopped => Role::Down,
    }
}

/// A member as the configuration has it; whether it is up nobody asked.
pub fn member_entry(
    info: &consensus::MemberInfo,
    leader: Option<&consensus::Member>,
) -> MemberEntry {
    let member = &info.member;
    let role = match info.voter {
        _ if leader.is_some_and(|leader| leader.id == member.id) => Role::Leader,
        true => Role::Follower,
        false => Role::Learner,
    };
    MemberEntry {
        id: member.id,
        addr: member.client_addr.clone(),
        peer_addr: member.peer_addr.clone(),
        admin_addr: member.admin_addr.clone(),
        role,
        matched: info.matched,
    }
}

/// The same member in the words of the wire.
pub fn member(member: &consensus::Member) -> Member {
    Member {
        id: member.id,
        peer_addr: member.peer_addr.clone(),
        client_addr: member.client_addr.clone(),
        admin_addr: member.admin_addr.clone(),
    }
}

/// The same member in the words of consensus.
pub fn to_consensus(member: Member) -> consensus::Member {
    let Member { id, peer_addr, client_addr, admin_addr } = member;
    consensus::Member { id, peer_addr, client_addr, admin_addr }
}
