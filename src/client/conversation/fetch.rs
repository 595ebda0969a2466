//! A request for events, from the user's call until it is answered in full.

use std::time::Duration;

use crate::types::limits;
use crate::wire::Pull;

/// See the module. One at a time for each consumer that pulls.
#[derive(Debug, Clone, Copy)]
pub struct Fetch {
    events_max: u32,
    bytes_max: u64,
    /// When a first event is not waited for any longer.
    until: Duration,
    /// When it is given up if no server answers.
    give_up_at: Duration,
    /// A refused pull is not asked again before this time.
    not_before: Duration,
    got: usize,
    stage: Stage,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// To be asked of a server.
    Waiting,
    Asked,
    Done,
    /// Given up without an answer.
    Late,
}

impl Fetch {
    /// Up to `events_max` events and `bytes_max` bytes, at least one event, waiting until then for
    /// the first, and `patience` longer for a server.
    pub fn new(events_max: u32, bytes_max: u64, until: Duration, patience: Duration) -> Fetch {
        Fetch {
            events_max: events_max.clamp(1, limits::CREDIT_EVENTS_MAX),
            bytes_max: bytes_max.min(limits::CREDIT_BYTES_MAX),
            until,
            give_up_at: until.saturating_add(patience),
            not_before: Duration::ZERO,
            got: 0,
            stage: Stage::Waiting,
        }
    }

    /// The pull to send now; it counts as sent.
    pub fn ask(&mut self, request: u32, consumer: u32, now: Duration) -> Option<Pull> {
        if self.stage != Stage::Waiting || self.not_before > now {
            return None;
        }
        self.stage = Stage::Asked;
        let wait = self.until.saturating_sub(now).as_millis();
        // The server waits only so long at a time; then it is asked again.
        let wait_ms = wait.min(u128::from(limits::PULL_WAIT_MS_MAX)) as u64;
        let Fetch { events_max, bytes_max, .. } = *self;
        Some(Pull { request, consumer, events_max, bytes_max, wait_ms })
    }

    /// Events arrived that the user did not have yet.
    pub fn got(&mut self, events: usize) {
        self.got += events;
    }

    /// The server answered the pull in full.
    pub fn answered(&mut self, now: Duration) {
        let enough = self.got > 0 || self.until <= now + Duration::from_millis(1);
        self.stage = if enough { Stage::Done } else { Stage::Waiting };
    }

    /// The connection is gone: what arrived must do; if nothing did, it is asked again.
    pub fn disconnected(&mut self) {
        if self.stage == Stage::Asked {
            self.stage = if self.got > 0 { Stage::Done } else { Stage::Waiting };
        }
    }

    /// The server refused the pull for now.
    pub fn refused(&mut self, again_at: Duration) {
        self.disconnected();
        self.not_before = again_at;
    }

    /// Gives up if it is time. Returns whether it did.
    pub fn tick(&mut self, now: Duration) -> bool {
        let due = self.give_up_at().is_some_and(|at| at <= now);
        if due {
            self.stage = if self.got > 0 { Stage::Done } else { Stage::Late };
        }
        due
    }

    /// When it is given up; `None` if it is over.
    pub fn give_up_at(&self) -> Option<Duration> {
        (!self.is_over()).then_some(self.give_up_at)
    }

    /// When it may be asked of a server.
    pub fn ask_at(&self) -> Option<Duration> {
        (self.stage == Stage::Waiting).then_some(self.not_before)
    }

    /// Answered in full, or given up.
    pub fn is_over(&self) -> bool {
        matches!(self.stage, Stage::Done | Stage::Late)
    }

    /// Given up without an answer.
    pub fn is_late(&self) -> bool {
        self.stage == Stage::Late
    }
}
