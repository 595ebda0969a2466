//! Housekeeping by the leader: what ends because time passes, where nothing else happens, ends by a
//! replicated fact. The machine judges each once more by the stamp of the batch.

use super::facts::World;
use crate::machine::{Command, Lane, Machine};
use crate::types::{ChannelId, LaneId, Stamp, limits};

/// When to look for what.
#[derive(Debug)]
pub(super) struct Sweep {
    lanes_due: Stamp,
    channels_due: Stamp,
}

impl Sweep {
    /// A tenure begins now.
    pub fn new(now: Stamp) -> Sweep {
        Sweep {
            lanes_due: now.plus_millis(limits::LANE_SWEEP_MS),
            channels_due: now.plus_millis(limits::CHANNEL_SWEEP_MS),
        }
    }

    /// When to look next.
    pub fn due(&self) -> Stamp {
        self.lanes_due.min(self.channels_due)
    }

    /// What is to be proposed now. What is refused comes again with the next sweep.
    pub fn commands(&mut self, world: &World, now: Stamp) -> Vec<Command> {
        let mut commands = Vec::new();
        if self.lanes_due <= now {
            self.lanes_due = now.plus_millis(limits::LANE_SWEEP_MS);
            commands.extend(expire_lanes(world, now));
        }
        if self.channels_due <= now {
            self.channels_due = now.plus_millis(limits::CHANNEL_SWEEP_MS);
            commands.extend(trim_history(world.facts, now));
        }
        commands
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
