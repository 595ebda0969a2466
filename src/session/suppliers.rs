//! Which lanes are connected to this node now: soft state of all its sessions, for whoever asks.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::delivery::SessionId;
use crate::types::LaneId;

/// The lanes in use; cheap to clone, and shared.
#[derive(Debug, Clone, Default)]
pub struct Suppliers(Arc<Mutex<BTreeMap<LaneId, Connected>>>);

/// A lane in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Connected {
    session: SessionId,
    /// It is polled: its supplier serves a source.
    pub pulled: bool,
    /// How often it was polled on this connection.
    pub polls: u64,
}

impl Suppliers {
    /// What is known of these lanes; nothing of those that nobody uses here.
    pub fn of(&self, lanes: impl IntoIterator<Item = LaneId>) -> BTreeMap<LaneId, Connected> {
        let known = self.lock();
        lanes.into_iter().filter_map(|lane| Some((lane, *known.get(&lane)?))).collect()
    }

    /// A session has opened the lane.
    pub(super) fn connected(&self, lane: LaneId, session: SessionId) {
        self.lock().insert(lane, Connected { session, pulled: false, polls: 0 });
    }

    /// Its client serves a source.
    pub(super) fn pulled(&self, lane: LaneId, session: SessionId) {
        self.lock().insert(lane, Connected { session, pulled: true, polls: 0 });
    }

    /// It was asked for events.
    pub(super) fn polled(&self, lane: LaneId) {
        if let Some(connected) = self.lock().get_mut(&lane) {
            connected.polls += 1;
        }
    }

    /// The session has ended; lanes that another has taken over stay.
    pub(super) fn left<'a>(&self, session: SessionId, lanes: impl Iterator<Item = &'a LaneId>) {
        let mut known = self.lock();
        for lane in lanes {
            if known.get(lane).is_some_and(|connected| connected.session == session) {
                known.remove(lane);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<LaneId, Connected>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
