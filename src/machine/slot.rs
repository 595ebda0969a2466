//! What is known of one event, and the tallies over many.

use serde::{Deserialize, Serialize};

use crate::types::{EventQos, PayloadKey, Stamp, Supply, TypeId, TypeRef};

/// What the machine knows of one retained event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slot {
    pub(super) index: u64,
    pub(super) position: u32,
    /// Size of the event in bytes, header and body.
    pub size: u32,
    /// When it was accepted.
    pub accepted: Stamp,
    pub mark: Mark,
    /// The number of its type in its channel.
    pub kind: TypeId,
    /// Durable proxies that have not settled it.
    pub waiting: u32,
}

/// What an event asks of its delivery, once what its supplier's side says is counted in. Fixed when it is
/// accepted; all 0 for nearly all events.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// Greater is more urgent.
    pub priority: i16,
    /// Not to be delivered before; 0: at once.
    pub start: Stamp,
    /// It expires then, of stop time and timeout the earlier; 0: never.
    pub stop: Stamp,
    /// A dead letter that was replayed: somebody may have had it before, and its payload is older
    /// than what lies before it in the channel.
    pub again: bool,
}

impl Mark {
    /// What an event asks for, accepted `now`; what it does not say its supply does.
    pub(super) fn new(asks: EventQos, supply: &Supply, now: Stamp) -> Mark {
        let timeout_ms = match asks.timeout_ms {
            0 => supply.timeout_ms,
            own => own.into(),
        };
        let timeout = (timeout_ms > 0).then(|| now.plus_millis(timeout_ms));
        let moment = |ms: u64| (ms > 0).then(|| Stamp(0).plus_millis(ms));
        Mark {
            priority: if asks.priority == 0 { supply.priority } else { asks.priority },
            start: moment(asks.start_ms).unwrap_or_default(),
            stop: moment(asks.stop_ms).into_iter().chain(timeout).min().unwrap_or_default(),
            again: false,
        }
    }
}

/// An event on its way into a channel.
#[derive(Debug, Clone, Copy)]
pub(super) struct Arrival<'a> {
    /// Bytes, header and body.
    pub size: u32,
    pub mark: Mark,
    pub kind: TypeRef<'a>,
}

/// What must not be exceeded while somebody waits; 0 events: no limit.
#[derive(Debug, Clone, Copy)]
pub(super) struct Room {
    pub bytes: u64,
    pub events: u64,
    /// Whether there may be more types than a channel may have.
    pub types: bool,
}

/// What an event did not find in its channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lack {
    Room,
    /// A number for its type.
    Types,
}

impl Room {
    pub(super) fn is_full(self, pending: Tally, size: u32) -> bool {
        pending.bytes.saturating_add(u64::from(size)) > self.bytes
            || (self.events > 0 && pending.events >= self.events)
    }
}

impl Slot {
    /// Where the event's bytes are found.
    pub fn key(&self) -> PayloadKey {
        PayloadKey { index: self.index, position: self.position }
    }
}

/// A number of events and their bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    pub events: u64,
    pub bytes: u64,
}

impl Tally {
    pub(super) fn add(&mut self, size: u32) {
        self.events += 1;
        self.bytes += u64::from(size);
    }

    pub(super) fn remove(&mut self, size: u32) {
        self.events = self.events.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(u64::from(size));
    }
}
