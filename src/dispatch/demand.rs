//! How much a consumer wants.

use std::collections::VecDeque;

use super::{Mode, Pull};
use crate::types::limits;

/// Bytes wanted or given, as a signed balance: the last event may overdraw it.
fn bytes(amount: u64) -> i64 {
    amount.min(limits::CREDIT_BYTES_MAX) as i64
}

/// Push credit, or pull requests in order.
#[derive(Debug)]
pub(super) enum Demand {
    Push { events: u32, bytes: i64 },
    Pull(VecDeque<OpenPull>),
}

/// A pull request under way.
#[derive(Debug, Clone, Copy)]
pub(super) struct OpenPull {
    pub pull: Pull,
    pub delivered: u32,
    bytes_left: i64,
}

impl OpenPull {
    fn is_full(&self) -> bool {
        self.delivered >= self.pull.events_max || self.bytes_left <= 0
    }
}

impl Demand {
    pub fn new(mode: Mode) -> Demand {
        let mut demand = match mode {
            Mode::Push { .. } => Demand::Push { events: 0, bytes: 0 },
            Mode::Pull => Demand::Pull(VecDeque::new()),
        };
        if let Mode::Push { events, bytes } = mode {
            demand.grant(events, bytes);
        }
        demand
    }

    /// Adds push credit, up to the limits. False if the consumer pulls.
    pub fn grant(&mut self, more_events: u32, more_bytes: u64) -> bool {
        let Demand::Push { events, bytes: left } = self else { return false };
        *events = events.saturating_add(more_events).min(limits::CREDIT_EVENTS_MAX);
        *left = left.saturating_add(bytes(more_bytes)).min(limits::CREDIT_BYTES_MAX as i64);
        true
    }

    /// Queues a pull request. A request for nothing counts as one for the least possible.
    pub fn request(&mut self, pull: Pull) -> Result<(), RequestError> {
        let Demand::Pull(open) = self else { return Err(RequestError::Pushed) };
        if open.len() >= limits::PULLS_PER_CONSUMER_MAX {
            return Err(RequestError::TooMany);
        }
        if open.iter().any(|other| other.pull.request == pull.request) {
            return Err(RequestError::Duplicate);
        }
        let pull = Pull { events_max: pull.events_max.clamp(1, limits::CREDIT_EVENTS_MAX), ..pull };
        open.push_back(OpenPull { pull, delivered: 0, bytes_left: bytes(pull.bytes_max).max(1) });
        Ok(())
    }

    /// Whether an event may go now.
    pub fn wants(&self) -> bool {
        match self {
            Demand::Push { events, bytes } => *events > 0 && *bytes > 0,
            Demand::Pull(open) => !open.is_empty(),
        }
    }

    /// Accounts for an event that goes; the pull it completes, if it does.
    pub fn spend(&mut self, size: u32) -> Option<OpenPull> {
        match self {
            Demand::Push { events, bytes } => {
                *events = events.saturating_sub(1);
                *bytes -= i64::from(size);
                None
            }
            Demand::Pull(open) => {
                let front = open.front_mut()?;
                front.delivered += 1;
                front.bytes_left -= i64::from(size);
                if front.is_full() { open.pop_front() } else { None }
            }
        }
    }

    /// The pull that got something and is not full, if any: it ends with its round.
    pub fn end_round(&mut self) -> Option<OpenPull> {
        let Demand::Pull(open) = self else { return None };
        open.front().is_some_and(|front| front.delivered > 0).then(|| open.pop_front()).flatten()
    }

    /// Ends the pull of this number.
    pub fn cancel(&mut self, request: u64) -> Option<OpenPull> {
        let Demand::Pull(open) = self else { return None };
        let at = open.iter().position(|p| p.pull.request == request)?;
        open.remove(at)
    }

    /// The pulls waiting.
    pub fn pulls(&self) -> impl Iterator<Item = &OpenPull> {
        let open = if let Demand::Pull(open) = self { Some(open) } else { None };
        open.into_iter().flatten()
    }
}

/// Why a pull request is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RequestError {
    /// The consumer is pushed to.
    Pushed,
    /// It has too many requests waiting.
    TooMany,
    /// It has a request of that number waiting.
    Duplicate,
}
