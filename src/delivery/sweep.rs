//! Housekeeping by the leader: what ends because time passes, where nothing else happens, ends by a
//! replicated fact. The machine judges each once more by the stamp of the batch.

use std::collections::BTreeSet;

use super::facts::World;
use crate::machine::{Command, Lane, Machine, Proxy};
use crate::types::{ChannelId, LaneId, ProxyId, Stamp, limits};

/// When to look for what.
#[derive(Debug)]
pub(super) struct Sweep {
    lanes_due: Stamp,
    channels_due: Stamp,
    /// When the tenure began: until then anybody may have been there.
    began: Stamp,
    /// Those that somebody consumed from when it was last looked.
    active: BTreeSet<ProxyId>,
}

impl Sweep {
    /// A tenure begins now.
    pub fn new(now: Stamp) -> Sweep {
        Sweep {
            lanes_due: now.plus_millis(limits::LANE_SWEEP_MS),
            channels_due: now.plus_millis(limits::CHANNEL_SWEEP_MS),
            began: now,
            active: BTreeSet::new(),
        }
    }

    /// When to look next.
    pub fn due(&self) -> Stamp {
        self.lanes_due.min(self.channels_due)
    }

    /// What is to be proposed now. `active`: tells which proxies somebody consumed from since it was
    /// last asked. What is refused comes again with the next sweep.
    pub fn commands(
        &mut self,
        world: &World,
        active: impl FnOnce() -> BTreeSet<ProxyId>,
        now: Stamp,
    ) -> Vec<Command> {
        let mut commands = Vec::new();
        if self.lanes_due <= now {
            self.lanes_due = now.plus_millis(limits::LANE_SWEEP_MS);
            commands.extend(expire_lanes(world, now));
        }
        if self.channels_due <= now {
            self.channels_due = now.plus_millis(limits::CHANNEL_SWEEP_MS);
            commands.extend(trim_history(world.facts, now));
            let active = active();
            commands.extend(self.mark_active(world.facts, &active, now));
            commands.extend(self.expire_proxies(world.facts, &active, now));
            self.active = active;
        }
        commands
    }

    /// Proxies that may expire, where the record is old, or somebody has just gone.
    fn mark_active(
        &self,
        facts: &Machine,
        active: &BTreeSet<ProxyId>,
        now: Stamp,
    ) -> Option<Command> {
        let is_old = |proxy: &&Proxy| {
            let patience = proxy.service().inactivity_ms;
            let old = proxy.last_active().plus_millis(patience / 4) <= now;
            patience > 0 && (old || !active.contains(&proxy.id()))
        };
        let known = self.active.union(active).filter_map(|id| facts.proxy(*id));
        let proxies: Vec<ProxyId> =
            known.filter(is_old).take(limits::PROXY_SWEEP_MAX).map(Proxy::id).collect();
        (!proxies.is_empty()).then_some(Command::MarkActive { proxies })
    }

    /// Proxies that nobody consumed from for as long as they may be, the whole of it seen by this
    /// leader or on record.
    fn expire_proxies(
        &self,
        facts: &Machine,
        active: &BTreeSet<ProxyId>,
        now: Stamp,
    ) -> Option<Command> {
        let unseen = |proxy: &&Proxy| {
            let end = self.began.plus_millis(proxy.service().inactivity_ms);
            end <= now && !active.contains(&proxy.id()) && !self.active.contains(&proxy.id())
        };
        let inactive = facts.all_proxies().filter(|proxy| proxy.is_inactive(now));
        let proxies: Vec<ProxyId> =
            inactive.filter(unseen).take(limits::PROXY_SWEEP_MAX).map(Proxy::id).collect();
        (!proxies.is_empty()).then_some(Command::ExpireProxies { proxies })
    }
}

/// Lanes that nobody uses. What is published on those of best-effort channels is no fact.
fn expire_lanes(world: &World, now: Stamp) -> Option<Command> {
    let in_memory = |lane: &Lane| world.transient.and_then(|machine| machine.lane(lane.id()));
    let used = |lane: &Lane| in_memory(lane).is_some_and(|lane| !lane.is_idle(now));
    let idle = world.facts.lanes().filter(|lane| lane.is_idle(now) && !used(lane));
    let lanes: Vec<LaneId> = idle.take(limits::LANE_SWEEP_MAX).map(|lane| lane.id()).collect();
    (!lanes.is_empty()).then_some(Command::ExpireLanes { lanes })
}

/// Channels with history that is too old: publishes trim it, and here nobody publishes.
fn trim_history(machine: &Machine, now: Stamp) -> Option<Command> {
    let old = machine.channels().filter(|channel| channel.has_old_history(now));
    let channels: Vec<ChannelId> =
        old.take(limits::CHANNEL_SWEEP_MAX).map(|channel| channel.id()).collect();
    (!channels.is_empty()).then_some(Command::TrimHistory { channels })
}
