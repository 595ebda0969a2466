//! A log entry as openraft sees it, and as disk and peers see it: an identity, a kind and bytes.
//! The bytes of a batch pass through untouched.

use bytes::Bytes;
use thiserror::Error;

use crate::storage::Entry;
use crate::types::{EntryId, NodeId};

use super::config::{Proposal, RaftEntry, RaftLeaderId, RaftLogId, RaftMembership, RaftPayload};

const BLANK: u8 = 0;
const BATCH: u8 = 1;
const MEMBERSHIP: u8 = 2;

/// Why bytes are not an entry.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(super) enum EntryError {
    #[error("log entry {id} has kind {kind}: a newer build wrote it; use that build")]
    Kind { id: EntryId, kind: u8 },
    #[error("the configuration in log entry {id} does not parse: {reason}")]
    Membership { id: EntryId, reason: String },
}

/// Takes an entry apart.
pub(super) fn pack(entry: RaftEntry) -> Entry {
    let id = entry_id(&entry.log_id);
    let (kind, body) = match entry.payload {
        RaftPayload::Blank => (BLANK, Bytes::new()),
        RaftPayload::Normal(Proposal(bytes)) => (BATCH, bytes),
        // Plain data into memory: postcard has nothing to refuse here.
        RaftPayload::Membership(membership) => {
            (MEMBERSHIP, postcard::to_stdvec(&membership).unwrap_or_default().into())
        }
    };
    Entry { id, kind, body }
}

/// Puts an entry together again.
pub(super) fn unpack(packed: Entry) -> Result<RaftEntry, EntryError> {
    let Entry { id, kind, body } = packed;
    let payload = match kind {
        BLANK => RaftPayload::Blank,
        BATCH => RaftPayload::Normal(Proposal(body)),
        MEMBERSHIP => RaftPayload::Membership(
            postcard::from_bytes::<RaftMembership>(&body)
                .map_err(|e| EntryError::Membership { id, reason: e.to_string() })?,
        ),
        kind => return Err(EntryError::Kind { id, kind }),
    };
    Ok(RaftEntry { log_id: log_id(id), payload })
}

/// openraft's name of an entry.
pub(super) fn log_id(id: EntryId) -> RaftLogId {
    RaftLogId { leader_id: RaftLeaderId { term: id.term, node_id: id.node.0 }, index: id.index }
}

/// Our name of an entry.
pub(super) fn entry_id(id: &RaftLogId) -> EntryId {
    EntryId { term: id.leader_id.term, node: NodeId(id.leader_id.node_id), index: id.index }
}

/// A vote of its parts.
#[cfg(test)]
pub(super) fn vote(term: u64, node: NodeId, committed: bool) -> super::config::RaftVote {
    super::config::RaftVote { leader_id: RaftLeaderId { term, node_id: node.0 }, committed }
}
