//! Housekeeping by the leader: lanes that nobody uses expire, by a replicated fact.

use crate::machine::{Command, Machine};
use crate::types::{LaneId, Stamp, limits};

/// The command that gives up lanes idle at `now`, if there are any. Bounded by
/// [`limits::LANE_SWEEP_MAX`].
pub(super) fn expire_lanes(machine: &Machine, now: Stamp) -> Option<Command> {
    let idle = machine.lanes().filter(|lane| lane.is_idle(now));
    let lanes: Vec<LaneId> = idle.take(limits::LANE_SWEEP_MAX).map(|lane| lane.id()).collect();
    (!lanes.is_empty()).then_some(Command::ExpireLanes { lanes })
}
