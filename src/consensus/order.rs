//! Which lane goes into the log next, as the channels' definitions have it.

use crate::machine::{Command, Machine, events};
use crate::schedule::{Claim, Policy};
use crate::types::{ChannelId, EventQos, LaneId, Stamp};

use super::facts::Facts;

/// A lane that waits: since when, and what its first event asks for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Waiting {
    pub lane: LaneId,
    pub since: Stamp,
    pub first: EventQos,
}

impl Waiting {
    /// A lane that waits with this command.
    pub fn new(lane: LaneId, since: Stamp, command: &Command) -> Waiting {
        let first = match command {
            Command::Publish(publish) => events(publish).next().map(|event| EventQos::read(&event)),
            _ => None,
        };
        Waiting { lane, since, first: first.unwrap_or_default() }
    }
}

/// What the definitions say of those who wait. They may change at any time.
pub(super) trait Rules: Send + Sync + 'static {
    /// The policy of each of these channels.
    fn policies(&self, channels: &[ChannelId]) -> Vec<Policy>;

    /// What lanes bring before it.
    fn claims(&self, waiting: &[Waiting]) -> Vec<(LaneId, Claim)>;
}

impl Rules for std::sync::Arc<Facts> {
    fn policies(&self, channels: &[ChannelId]) -> Vec<Policy> {
        let machine = self.read();
        let policy = |id: &ChannelId| {
            let channel = machine.channel(*id)?;
            Some(Policy::from(channel.admission().supplier_scheduling))
        };
        channels.iter().map(|id| policy(id).unwrap_or_default()).collect()
    }

    fn claims(&self, waiting: &[Waiting]) -> Vec<(LaneId, Claim)> {
        let machine = self.read();
        waiting.iter().map(|one| (one.lane, claim(&machine, one))).collect()
    }
}

/// Its first event should be accepted before it ends.
fn claim(machine: &Machine, waiting: &Waiting) -> Claim {
    // One that is suspended, full or gone will be refused, whenever that is.
    let Ok(supply) = machine.supply(waiting.lane) else { return Claim::default() };
    let timeout = match waiting.first.timeout_ms {
        0 => supply.timeout_ms,
        own => own.into(),
    };
    let ends = (timeout > 0).then(|| waiting.since.plus_millis(timeout));
    let stop = waiting.first.stop_ms;
    let stops = (stop > 0).then(|| Stamp(0).plus_millis(stop));
    let deadline = ends.into_iter().chain(stops).min();
    Claim { weight: supply.weight, priority: supply.urgency, deadline }
}
