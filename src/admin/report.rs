//! The machine's facts in the words of the admin service.

use std::collections::BTreeMap;

use super::letters;
use crate::consensus;
use crate::delivery::{ProxyStats, World};
use crate::intake::LaneTurns;
use crate::machine::{Admin, Channel, Lane, Machine, Proxy};
use crate::session;
use crate::types::{ChannelId, LaneId, Name, Outcome, ProxyId, Seq, Side};
use crate::wire::admin::{
    AdminReport, ChannelEntry, ChannelReport, LaneReport, LetterLedger, Member, MemberEntry,
    ProxyReport, Role, SnapshotReport, Suppliers,
};

/// All channels, by name.
pub fn channels(world: &World) -> Vec<ChannelReport> {
    let ids = world.all_channels().map(|channel| channel.id());
    let mut reports: Vec<_> = ids.filter_map(|id| channel(world, id)).collect();
    reports.sort_by(|a, b| a.name.cmp(&b.name));
    reports
}

/// One channel with its proxies; nothing in flight, and nothing of its suppliers.
pub fn channel(world: &World, id: ChannelId) -> Option<ChannelReport> {
    let (machine, defined) = (world.of(id), world.facts.channel(id)?);
    let channel = machine.channel(id)?;
    let history = channel.admission().history;
    Some(ChannelReport {
        id: channel.id(),
        name: channel.name().clone(),
        accepted: channel.accepted(),
        retained: channel.retained().events,
        retained_bytes: channel.retained().bytes,
        pending_bytes: channel.pending().bytes,
        no_interest: channel.no_interest(),
        expired_proxies: channel.expired_proxies(),
        last_seq: last_seq(channel),
        first_retained: channel.first_retained(),
        max_queue_bytes: channel.admission().max_queue_bytes,
        history_events: history.events,
        history_bytes: history.bytes,
        history_age_ms: history.age_ms,
        qos: channel.qos().clone(),
        admins: admins(world.facts, defined),
        subscribers: 0,
        dead_letters: dead_letters(machine, channel),
        proxies: machine.proxies(channel.id()).map(|p| proxy(machine, p)).collect(),
        suppliers: Suppliers::default(),
        best_effort: channel.admission().best_effort,
    })
}

/// The sequence of its newest event; 0: none yet.
fn last_seq(channel: &Channel) -> Seq {
    if channel.accepted() == 0 { 0 } else { channel.next_seq() - 1 }
}

/// What became of the dead letters of a channel, or of those in it.
fn dead_letters(machine: &Machine, channel: &Channel) -> Option<LetterLedger> {
    match channel.is_dead_letters() {
        true => Some(letters::ledger(channel)),
        false => machine.channel_by_name(&channel.name().dead_letter()).map(letters::ledger),
    }
}

/// The admins of a channel, of both sides, by name.
pub fn admins(machine: &Machine, channel: &Channel) -> Vec<AdminReport> {
    let report = |side: Side, (name, admin): (Name, Admin)| {
        let members = match side {
            Side::Consumer => {
                machine.proxies(channel.id()).filter(|proxy| *proxy.admin() == name).count()
            }
            Side::Supplier => {
                machine.lanes_of(channel.id()).filter(|lane| *lane.admin() == name).count()
            }
        };
        let Admin { qos, suspended, types } = admin;
        AdminReport { name, side, qos, suspended, types, proxies: members as u64 }
    };
    let of = |side: Side| channel.admins().iter(side).map(move |admin| report(side, admin));
    of(Side::Consumer).chain(of(Side::Supplier)).collect()
}

/// What the suppliers of a channel are connected to, and which of it is in use on this node.
pub fn suppliers(
    machine: &Machine,
    channel: &Channel,
    connected: &session::Suppliers,
    fared: impl Fn(&[(ChannelId, LaneId)]) -> Vec<LaneTurns>,
) -> Suppliers {
    let ids: Vec<_> =
        machine.lanes_of(channel.id()).map(|lane| (channel.id(), lane.id())).collect();
    let fared: BTreeMap<_, _> = ids.iter().map(|(_, lane)| *lane).zip(fared(&ids)).collect();
    let turns = |lane: &Lane| fared.get(&lane.id()).copied().unwrap_or_default();
    let connected = connected.of(machine.lanes_of(channel.id()).map(Lane::id));
    let now = |lane: &Lane| connected.get(&lane.id());
    let shares = |lane: &&Lane| {
        lane.name().is_none()
            && *lane.admin() == Name::default_admin()
            && lane.qos().is_empty()
            && !lane.is_suspended()
            && !now(lane).is_some_and(|connected| connected.pulled)
    };
    let report = |lane: &Lane| LaneReport {
        lane: lane.id().to_string(),
        name: lane.name().cloned(),
        admin: lane.admin().clone(),
        qos: lane.qos().clone(),
        suspended: lane.is_suspended(),
        epoch: lane.epoch(),
        last_sequence: lane.next_sequence() - 1,
        connected: now(lane).is_some(),
        pulled: now(lane).is_some_and(|connected| connected.pulled),
        polls: now(lane).map_or(0, |connected| connected.polls),
        turns: turns(lane).turns,
        waiting_ms: turns(lane).waiting_ms,
        longest_wait_ms: turns(lane).longest_wait_ms,
        idle_ms: machine.stamp().0.saturating_sub(lane.last_used().0) / 1000,
    };
    let (shared, own): (Vec<_>, Vec<_>) = machine.lanes_of(channel.id()).partition(shares);
    let clients = shared.iter().filter(|lane| now(lane).is_some()).count() as u64;
    let shared: Vec<LaneTurns> = shared.into_iter().map(turns).collect();
    Suppliers {
        shared_lanes: shared.len() as u64,
        clients,
        turns: shared.iter().map(|lane| lane.turns).sum(),
        waiting_ms: shared.iter().map(|lane| lane.waiting_ms).max().unwrap_or(0),
        longest_wait_ms: shared.iter().map(|lane| lane.longest_wait_ms).max().unwrap_or(0),
        lanes: own.into_iter().map(report).collect(),
    }
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
        inactivity_expiry_ms: service.inactivity_ms,
        last_active_us: proxy.last_active().0,
        exclusive: service.exclusive,
        holder: proxy.holder().filter(|_| service.exclusive).map(|member| member.to_string()),
        fencing_token: Some(proxy.fencing()).filter(|token| service.exclusive && *token > 0),
        standby: Vec::new(),
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
        let stats = stats.get(&proxy.id).cloned().unwrap_or_default();
        (proxy.in_flight, proxy.clients) = (stats.in_flight, stats.clients);
        (proxy.turns, proxy.waiting_ms) = (stats.turns, stats.waiting_ms);
        proxy.longest_wait_ms = stats.longest_wait_ms;
        if proxy.exclusive {
            proxy.standby = stats.standby.iter().map(ToString::to_string).collect();
        }
    }
}

/// One line for each channel, by name.
pub fn entries(world: &World) -> Vec<ChannelEntry> {
    let entry = |channel: &Channel| ChannelEntry {
        id: channel.id(),
        name: channel.name().clone(),
        last_seq: last_seq(channel),
        retained: channel.retained().events,
        proxies: channel.proxies().count() as u64,
        best_effort: channel.admission().best_effort,
    };
    let mut entries: Vec<_> = world.all_channels().map(entry).collect();
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
