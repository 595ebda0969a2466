//! Pull suppliers: sources that clients serve, polled here when the time has come.
//!
//! A source is a lane like any other: what it gives is published on it, so nothing is lost or doubled
//! when the client, the leader or the connection between them is. Polling is soft state of the session.

use std::time::Duration;

use super::conversation::Session;
use super::view::View;
use crate::types::{Code, LaneId, limits};
use crate::wire::{self, Poll};

/// A lane whose client serves a source.
#[derive(Debug)]
pub(super) struct Source {
    epoch: u32,
    /// Repeated when it ends.
    request: u32,
    /// Number of the latest poll.
    poll: u32,
    state: State,
}

#[derive(Debug)]
enum State {
    /// To be asked for events then.
    Due(Duration),
    /// Asked for so many at that time, under this interval.
    Asked { most: u32, at: Duration, interval: Duration },
}

impl Session {
    /// The client serves a source on a lane from now on.
    pub(super) fn serve_source(&mut self, serve: wire::Serve) {
        let wire::Serve { request, lane, epoch } = serve;
        if let Err(rejection) = self.user_of(lane, epoch) {
            return self.fail(request, rejection);
        }
        self.suppliers.pulled(lane, self.id);
        let state = State::Due(Duration::ZERO);
        self.sources.insert(lane, Source { epoch, request, poll: 0, state });
    }

    /// The client has published what it had for a poll. An answer to any other is ignored.
    pub(super) fn polled(&mut self, polled: wire::Polled) {
        let Some(source) = self.sources.get_mut(&polled.lane) else { return };
        let State::Asked { most, at, interval } = source.state else { return };
        if (polled.epoch, polled.poll) == (source.epoch, source.poll) {
            let full = polled.count >= most;
            source.state = State::Due(if full { Duration::ZERO } else { at + interval });
        }
    }

    /// Asks the sources whose time has come, as far as there is room for what they may give.
    pub fn poll_sources(&mut self, now: Duration, view: &impl View) {
        let due = self.sources.iter().filter(|(_, source)| source.is_due(now));
        let due: Vec<LaneId> = due.map(|(lane, _)| *lane).collect();
        for lane in due {
            self.poll_source(lane, now, view);
        }
    }

    fn poll_source(&mut self, lane: LaneId, now: Duration, view: &impl View) {
        let supply = view.supply(lane);
        let room = |most: u32| self.lanes.get(&lane).is_some_and(|l| l.has_room(most as usize));
        let (may, gone) = match &supply {
            Ok(supply) => (room(supply.batch_max), None),
            Err(rejection) if rejection.code == Code::UnknownLane => (false, supply.clone().err()),
            Err(_) => (false, None),
        };
        if let (Some(rejection), Some(source)) = (gone, self.sources.get(&lane)) {
            let request = source.request;
            self.sources.remove(&lane);
            return self.fail(request, rejection);
        }
        let Some(source) = self.sources.get_mut(&lane) else { return };
        let (Ok(supply), true) = (supply, may) else {
            source.state = State::Due(now + Duration::from_millis(limits::POLL_RETRY_MS));
            return;
        };
        let (most, interval) = (supply.batch_max, Duration::from_millis(supply.poll_ms));
        source.poll = source.poll.wrapping_add(1);
        source.state = State::Asked { most, at: now, interval };
        let Source { epoch, poll, .. } = *source;
        self.suppliers.polled(lane);
        self.send(Poll { lane, epoch, poll, most });
    }

    /// When a source is to be polled next, unless its answer comes before.
    pub fn next_poll(&self) -> Option<Duration> {
        self.sources.values().filter_map(Source::due).min()
    }
}

impl Source {
    fn due(&self) -> Option<Duration> {
        match self.state {
            State::Due(at) => Some(at),
            State::Asked { .. } => None,
        }
    }

    fn is_due(&self, now: Duration) -> bool {
        self.due().is_some_and(|at| at <= now)
    }
}
