//! Who takes part, in which role, and what a node says of itself.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::storage::Damage;
use crate::types::{NodeId, Tenure};

use super::room::Room;

/// A node of the cluster: who it is, and where it is found. An id is never used again for
/// another disk; addresses may be moved by removing the node and adding it under a new id.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    pub id: NodeId,
    /// `host:port` for other members: consensus and relays.
    pub peer_addr: String,
    /// `host:port` for suppliers and consumers.
    pub client_addr: String,
    /// `host:port` for administration.
    pub admin_addr: String,
}

impl fmt::Display for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "node {} at {}", self.id, self.peer_addr)
    }
}

/// What a node is in the consensus.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Receives the log, has no vote.
    Learner,
    Follower,
    Candidate,
    Leader,
    /// Has stopped: shut down, or its storage failed.
    Stopped,
}

/// A member as the cluster's configuration knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberInfo {
    pub member: Member,
    /// Counts for the majority; otherwise it is a learner.
    pub voter: bool,
    /// Last log index known to be on its disk; known to the leader only.
    pub matched: Option<u64>,
}

/// Who leads, seen from here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leadership {
    pub me: NodeId,
    /// The leader, if one is known.
    pub leader: Option<Member>,
    pub term: u64,
    /// Set only while this node leads and has applied its own `BeginTenure`: serve.
    pub tenure: Option<Tenure>,
    /// The cluster's committed configuration no longer has this node: it must stop.
    pub removed: bool,
}

/// Snapshots that a node has sent to others and received, since its process began.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SnapshotCounts {
    pub sent: u64,
    /// Bytes of pieces that were stored at their receiver, of transfers that ended early, too.
    pub sent_bytes: u64,
    pub received: u64,
    pub received_bytes: u64,
    /// How much is here of the snapshot that is on its way in, in percent of its events.
    pub receiving: Option<u8>,
}

/// What a node knows of its own consensus.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplicaStatus {
    pub role: Role,
    pub term: u64,
    pub leader: Option<NodeId>,
    pub tenure: Option<Tenure>,
    /// Last log index applied to the machine here.
    pub applied: u64,
    /// Last log index known to be on a majority's disks.
    pub committed: u64,
    /// Last log index in the log here.
    pub last_log: u64,
    /// Last log index that was purged here.
    pub purged: u64,
    /// Last log index in the newest snapshot here.
    pub snapshot_index: u64,
    /// Bytes of log kept here.
    pub log_bytes: u64,
    /// Bytes of snapshots and segments here.
    pub store_bytes: u64,
    /// Bytes that the scrub has read since the start.
    pub scrubbed_bytes: u64,
    /// Damage found in the event store here.
    pub damage: Damage,
    /// Room on the disk here.
    pub room: Room,
    /// Snapshots sent and received.
    pub snapshots: SnapshotCounts,
    /// Why the node stopped taking part, if it did.
    pub failure: Option<String>,
}
