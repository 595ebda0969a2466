//! A follower that lost what it confirmed is found out by its leader.
//!
//! The log's high-water mark follows the log with a delay, so a damaged disk can lose the newest
//! entries and look like one that was merely switched off. Its leader knows better: it sends along
//! what the follower has confirmed to it, and a follower whose log ends before that quarantines
//! itself. It must be found out before openraft is asked: a leader's openraft takes for granted
//! that nobody's log goes back.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::config::{RaftLogId, RaftRuntime, RaftVote};
use super::entry::entry_id;
use super::replica::Replica;

/// What peers have confirmed to this node as the leader of one term. Clones share it.
#[derive(Clone, Default)]
pub(super) struct Confirmed(Arc<Mutex<BTreeMap<u64, (RaftVote, RaftLogId)>>>);

impl Confirmed {
    /// The last entry that `peer` has confirmed to the leader of this vote.
    pub fn by(&self, peer: u64, vote: &RaftVote) -> Option<RaftLogId> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(&peer).filter(|(under, _)| under == vote).map(|(_, id)| *id)
    }

    /// Remembers that `peer` has everything up to `id`.
    pub fn note(&self, peer: u64, vote: RaftVote, id: Option<RaftLogId>) {
        let Some(id) = id else { return };
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let last = known.entry(peer).or_insert((vote, id));
        // An answer to the leader of an earlier vote may come late.
        if last.0 < vote || (last.0 == vote && last.1 < id) {
            *last = (vote, id);
        }
    }
}

impl<E: RaftRuntime> Replica<E> {
    /// Checks that this node still has the entry which, as the leader of `vote` says, it has
    /// confirmed. If not this node stops, and is quarantined when it starts again.
    pub(super) fn check_held(
        &self,
        vote: &RaftVote,
        held: Option<RaftLogId>,
    ) -> Result<(), String> {
        let Some(held) = held.map(|id| entry_id(&id)) else { return Ok(()) };
        let log = self.log();
        // In this order: a leader of a later vote may have cut the log, but not before that vote was
        // saved.
        let end = log.state().last.map_or(0, |last| last.index + 1);
        if end > held.index {
            return Ok(());
        }
        let saved = log.vote().and_then(|bytes| postcard::from_bytes::<RaftVote>(&bytes).ok());
        // Without this vote the node would not have confirmed anything under it.
        if saved.as_ref() > Some(vote) {
            return Ok(());
        }
        // Whoever sees this node stop finds the reason in its log.
        let stopping = self.clone();
        log.lose(held.index + 1, Box::new(move |_| stopping.stop_now()));
        Err(format!("this node has lost entries that it confirmed: its log ends before {end}"))
    }
}

#[cfg(test)]
mod tests {
    use crate::types::{EntryId, NodeId};

    use super::super::entry::{log_id, vote};
    use super::*;

    #[test]
    fn what_was_confirmed_counts_under_one_vote_and_never_goes_back() {
        let id = |index| log_id(EntryId { term: 1, node: NodeId(1), index });
        let (first, second) = (vote(1, NodeId(1), true), vote(3, NodeId(1), true));
        let confirmed = Confirmed::default();
        confirmed.note(2, first, None);
        assert_eq!(confirmed.by(2, &first), None);
        confirmed.note(2, first, Some(id(7)));
        confirmed.note(2, first, Some(id(5)));
        assert_eq!((confirmed.by(2, &first), confirmed.by(3, &first)), (Some(id(7)), None));
        assert_eq!(confirmed.by(2, &second), None);
        confirmed.note(2, second, Some(id(5)));
        assert_eq!((confirmed.by(2, &second), confirmed.by(2, &first)), (Some(id(5)), None));
    }
}
