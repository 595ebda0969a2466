//! The first state of a new incarnation, written to a fresh directory.

use std::collections::BTreeMap;

use crate::machine::Machine;
use crate::storage::{Fresh, Identity, Owner, SnapshotWriter};
use crate::types::{ClusterId, EntryId, NodeId};

use super::super::config::{RaftLeaderId, RaftMembership, RaftVote};
use super::super::entry::log_id;
use super::super::member::Member;
use super::super::snapshot::{Image, live_keys};
use super::OfflineError;

/// The only member of a cluster to be.
#[derive(Debug, Clone)]
pub(super) struct Founder {
    pub cluster: ClusterId,
    /// The successor of every id that was ever given out, as far as is known.
    pub node: NodeId,
    /// Past every term that was found.
    term: u64,
    /// Where it was last; it says itself where it is when it starts.
    addresses: Member,
}

impl Founder {
    /// The founder that follows on a state, and on the greatest term known beside it.
    pub fn after(image: &Image, term: u64, cluster: ClusterId, addresses: Member) -> Founder {
        let last = image.last.map_or(0, |id| id.leader_id.term);
        let node = NodeId(image.last_node.saturating_add(1));
        Founder { cluster, node, term: term.max(last).saturating_add(1), addresses }
    }

    /// Enters its configuration after everything else, and writes all of it: the directory is that
    /// of a node on return. Every payload that the machine needs is in `fresh` or in `writer`.
    pub fn found(
        &self,
        fresh: Fresh,
        writer: SnapshotWriter,
        mut machine: Machine,
        mut image: Image,
    ) -> Result<Identity, OfflineError> {
        let last = self.enter(&mut machine, &mut image);
        let live = live_keys(&machine);
        if let Some(key) = live.iter().find(|key| !writer.holds(*key)) {
            return Err(OfflineError::Unsound(format!("the payload of event {key} is missing")));
        }
        // What the next start would refuse must not be written.
        let encoded = machine.encode();
        Machine::decode(&encoded).map_err(|error| OfflineError::Unsound(error.to_string()))?;
        writer.finish(image.encode()?.into(), last, encoded.into(), &live)?;
        let vote = postcard::to_stdvec(&self.vote());
        let vote = vote.map_err(|error| OfflineError::Unsound(error.to_string()))?;
        Ok(fresh.finish(Owner { cluster: self.cluster, node: self.node }, &vote)?)
    }

    fn enter(&self, machine: &mut Machine, image: &mut Image) -> EntryId {
        let index = image.last.map_or(0, |id| id.index.saturating_add(1));
        let id = EntryId { term: self.term, node: self.node, index };
        let member = Member { id: self.node, ..self.addresses.clone() };
        let members = BTreeMap::from([(self.node.0, member)]);
        image.enter(log_id(id), RaftMembership::from(members));
        image.last = Some(log_id(id));
        machine.pass(index);
        id
    }

    /// The vote of a leader that was stopped.
    fn vote(&self) -> RaftVote {
        let leader_id = RaftLeaderId { term: self.term, node_id: self.node.0 };
        RaftVote { leader_id, committed: true }
    }
}
