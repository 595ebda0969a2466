//! The values of the admin service. Field names are a contract with scripts: add, never rename.

use serde::{Deserialize, Serialize};

use super::{AdminReport, LetterLedger};
use crate::types::{
    ChannelId, ClusterId, Name, NodeId, ProxyId, Qos, Seq, Side, Subscription, Tenure,
};

/// An answer, and how far to trust it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Answer<T> {
    pub answered_by: NodeId,
    /// What the answering node was when it answered.
    pub role: Role,
    /// The tenure the answering node knows of; 0: none yet.
    pub tenure: Tenure,
    /// The log index up to which the answering node had applied the log.
    pub applied: u64,
    /// True: at least as new as everything acknowledged before the question was asked.
    pub linearizable: bool,
    /// Milliseconds since the answering node last heard of a leader; 0 if linearizable.
    pub stale_ms: u64,
    #[serde(flatten)]
    pub value: T,
}

/// A backup under way on the node that answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupBegun {
    /// Names it on that node until it ends, or is left alone for a minute.
    pub backup: u64,
    /// It holds everything up to this log index at least.
    pub index: u64,
}

/// What a backup consists of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupPlan {
    pub cluster_id: ClusterId,
    /// The node that it is taken from.
    pub node_id: NodeId,
    /// The last log entry it covers.
    pub last_index: u64,
    pub last_term: u64,
    /// The snapshot first, then the segments it needs.
    pub files: Vec<BackupFile>,
}

/// A file of a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupFile {
    pub name: String,
    /// Bytes.
    pub len: u64,
    /// crc32 of the whole file.
    pub crc: u32,
}

/// Bytes of a file of a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupPiece {
    /// At most [`limits::BACKUP_PIECE_BYTES`](crate::types::limits::BACKUP_PIECE_BYTES); none beyond
    /// the end of the file.
    pub base64: String,
}

/// The part a node plays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    Leader,
    Follower,
    Candidate,
    /// Receives the log, has no vote yet.
    Learner,
    /// Not running: stopped, quarantined or unreachable; `state` says which.
    Down,
}

impl Role {
    /// The stable name used in JSON and tables.
    pub fn as_str(self) -> &'static str {
        match self {
            Role::Leader => "leader",
            Role::Follower => "follower",
            Role::Candidate => "candidate",
            Role::Learner => "learner",
            Role::Down => "down",
        }
    }
}

impl std::fmt::Display for Role {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

/// Everything `status` shows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ClusterStatus {
    pub cluster_id: ClusterId,
    pub leader: Option<NodeId>,
    /// Raft term.
    pub term: u64,
    pub nodes: Vec<NodeReport>,
    pub channels: Vec<ChannelReport>,
}

/// One node, as it describes itself (or as the leader describes one that does not answer).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NodeReport {
    pub id: NodeId,
    /// Its client address.
    pub addr: String,
    pub role: Role,
    /// `healthy`, `unreachable`, `catching up`, `catching up: why`, `quarantined: why`, `stopping`,
    /// `disk short` (it takes part, and has too little room), `disk full: why` (it takes no part until
    /// there is some).
    pub state: String,
    /// Raft term; 0 if it takes no part.
    #[serde(default)]
    pub term: u64,
    /// Who leads, as far as it knows.
    #[serde(default)]
    pub leader: Option<NodeId>,
    /// The tenure that it serves itself, if it does.
    #[serde(default)]
    pub tenure: Option<Tenure>,
    pub applied: u64,
    pub committed: u64,
    /// Last log index covered by its snapshot; 0: none.
    pub snapshot_index: u64,
    pub log_bytes: u64,
    pub store_bytes: u64,
    pub rss_bytes: u64,
    /// Bytes free on its disk; 0 if it does not say.
    #[serde(default)]
    pub free_bytes: u64,
    /// The release that it runs; empty if it does not say.
    #[serde(default)]
    pub release: String,
    /// The newest protocol version that it speaks; 0 if it does not say.
    #[serde(default)]
    pub protocol: u16,
    /// Snapshots sent and received.
    #[serde(default)]
    pub snapshots: SnapshotReport,
}

/// Snapshots that a node has sent to others and received, since its process began.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SnapshotReport {
    pub sent: u64,
    /// Of transfers that ended early, too.
    pub sent_bytes: u64,
    pub received: u64,
    pub received_bytes: u64,
    /// How much is here of a snapshot that is on its way in, in percent of its events.
    pub receiving: Option<u8>,
}

/// A channel with its ledger.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ChannelReport {
    pub id: ChannelId,
    pub name: Name,
    /// Events ever accepted.
    pub accepted: u64,
    /// Events that can still be read.
    pub retained: u64,
    pub retained_bytes: u64,
    /// Bytes of events that some durable proxy has not settled.
    pub pending_bytes: u64,
    /// Events accepted while no durable proxy existed.
    pub no_interest: u64,
    /// Proxies deleted because they had no client for as long as theirs may be.
    #[serde(default)]
    pub expired_proxies: u64,
    /// Sequence of the newest event; 0: none.
    pub last_seq: Seq,
    /// Earliest sequence retained.
    pub first_retained: Seq,
    /// Bytes pending at which publishes are refused.
    pub max_queue_bytes: u64,
    /// Newest events kept whoever has settled them: as many as all three limits allow.
    pub history_events: u64,
    pub history_bytes: u64,
    /// In milliseconds; 0: no limit.
    pub history_age_ms: u64,
    /// What is set for it.
    #[serde(default)]
    pub qos: Qos,
    /// Its admins, of both sides.
    #[serde(default)]
    pub admins: Vec<AdminReport>,
    /// Plain subscribers, which share the volatile default proxy; soft state of the leader, 0
    /// elsewhere.
    #[serde(default)]
    pub subscribers: u64,
    /// What its consumers gave up, and what became of it; `None`: nothing yet.
    #[serde(default)]
    pub dead_letters: Option<LetterLedger>,
    pub proxies: Vec<ProxyReport>,
    /// Its events are in the leader's memory alone; the numbers are those of this tenure.
    #[serde(default)]
    pub best_effort: bool,
    /// Its suppliers' side; nothing where many channels are told of at once.
    #[serde(default)]
    pub suppliers: Suppliers,
}

impl ChannelReport {
    /// The admin of this side and name.
    pub fn admin(&self, side: Side, name: &Name) -> Option<&AdminReport> {
        self.admins.iter().find(|admin| admin.side == side && admin.name == *name)
    }
}

/// What suppliers of a channel are connected to.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Suppliers {
    /// Lanes without a name, a setting or an admin of their own: together the default proxy.
    pub shared_lanes: u64,
    /// How many of these are connected now; soft state of the leader, 0 elsewhere.
    pub clients: u64,
    /// Turns to go into the log that all of these had; soft state, too.
    pub turns: u64,
    /// The longest that one of them waits for its next turn, in milliseconds.
    pub waiting_ms: u64,
    /// The longest that one of them waited.
    pub longest_wait_ms: u64,
    /// All other lanes.
    pub lanes: Vec<LaneReport>,
}

/// A lane, what the channel keeps of a supplier.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LaneReport {
    /// Its id, as in `5.0`.
    pub lane: String,
    pub name: Option<Name>,
    /// The supplier admin it is of.
    pub admin: Name,
    /// What is set for it alone.
    pub qos: Qos,
    /// It takes nothing. That of its admin counts as well, and is told with the admin.
    pub suspended: bool,
    /// How often it was opened.
    pub epoch: u32,
    /// The last lane sequence accepted or stepped over; 0: none.
    pub last_sequence: u64,
    /// Its supplier is there now; soft state of the leader, as what follows.
    #[serde(default)]
    pub connected: bool,
    /// Its supplier serves a source, which is polled.
    #[serde(default)]
    pub pulled: bool,
    /// How often it was, on this connection.
    #[serde(default)]
    pub polls: u64,
    /// Turns to go into the log that it had.
    #[serde(default)]
    pub turns: u64,
    /// How long it waits for its next turn, in milliseconds; 0: it has sent nothing that waits.
    #[serde(default)]
    pub waiting_ms: u64,
    /// The longest that it waited for one.
    #[serde(default)]
    pub longest_wait_ms: u64,
    /// How long ago it was used, in milliseconds.
    pub idle_ms: u64,
}

/// A durable proxy with its ledger: `offered` is the sum of all outcomes and `pending`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProxyReport {
    pub id: ProxyId,
    pub name: Name,
    pub offered: u64,
    pub acked: u64,
    pub filtered: u64,
    pub expired: u64,
    pub discarded: u64,
    pub dead_lettered: u64,
    pub skipped: u64,
    pub pending: u64,
    /// Delivered and neither settled nor given back; soft state of the leader, 0 elsewhere.
    pub in_flight: u64,
    /// Clients attached now; soft state of the leader, 0 elsewhere.
    pub clients: u64,
    /// Lease of a delivery, own or inherited, as the next two.
    pub ack_wait_ms: u64,
    /// Failed deliveries after which an event is a dead letter; 0: no limit.
    pub max_deliveries: u32,
    /// Events that may be out or wait to go again.
    pub max_in_flight: u32,
    /// Without a client for so long it is deleted; 0: never.
    #[serde(default)]
    pub inactivity_expiry_ms: u64,
    /// When it last had one, as far as is on record, in microseconds since the Unix epoch.
    #[serde(default)]
    pub last_active_us: u64,
    /// One of its clients gets all events; the next three are about that.
    #[serde(default)]
    pub exclusive: bool,
    /// The client that does, by its number and its handle of the consumer; `None`: nobody.
    #[serde(default)]
    pub holder: Option<String>,
    /// The token of the latest holder; `None`: there was none.
    #[serde(default)]
    pub fencing_token: Option<u64>,
    /// The clients that stand by, first come first; soft state of the leader, none elsewhere.
    #[serde(default)]
    pub standby: Vec<String>,
    /// The consumer admin it is of.
    #[serde(default = "Name::default_admin")]
    pub admin: Name,
    /// What is set for it alone.
    #[serde(default)]
    pub qos: Qos,
    /// It delivers nothing. That of its admin counts as well, and is told with the admin.
    #[serde(default)]
    pub suspended: bool,
    /// The types of events that it wants itself; none named: all. Those of its admin count as well.
    #[serde(default)]
    pub types: Subscription,
    /// Turns to be served that it had; soft state of the leader, 0 elsewhere.
    #[serde(default)]
    pub turns: u64,
    /// How long it waits for its next turn, in milliseconds; 0: nothing is to be done for it.
    #[serde(default)]
    pub waiting_ms: u64,
    /// The longest that it waited for one.
    #[serde(default)]
    pub longest_wait_ms: u64,
}

/// One line of `channel ls`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ChannelEntry {
    pub id: ChannelId,
    pub name: Name,
    pub last_seq: Seq,
    pub retained: u64,
    pub proxies: u64,
    /// Its events are in the leader's memory alone.
    #[serde(default)]
    pub best_effort: bool,
}

/// Answer of `channel ls`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ChannelList {
    pub channels: Vec<ChannelEntry>,
}

/// Answer of `audit`: whether all nodes have the same state at one log index.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Audit {
    pub index: u64,
    /// Every member answered, all hashes are equal and all ledgers are in order.
    pub equal: bool,
    pub nodes: Vec<NodeAudit>,
}

/// One node's part of an audit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NodeAudit {
    pub id: NodeId,
    /// State hash, 16 hex digits; `None`: the node did not answer or has not applied the index.
    pub hash: Option<String>,
    /// Every proxy's and channel's ledger adds up.
    pub ledger_ok: bool,
}

/// A node and where it is reached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    pub id: NodeId,
    pub peer_addr: String,
    pub client_addr: String,
    pub admin_addr: String,
}

/// One line of `cluster`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MemberEntry {
    pub id: NodeId,
    /// Its client address.
    pub addr: String,
    pub peer_addr: String,
    pub admin_addr: String,
    pub role: Role,
    /// Last log index known to be on it; `None` where only the leader knows.
    pub matched: Option<u64>,
}

/// Answer of `cluster`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Members {
    pub members: Vec<MemberEntry>,
}

/// What a node that wants to join, or a client, must know of a cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterInfo {
    pub cluster_id: ClusterId,
    pub leader: Option<Member>,
    pub members: Vec<Member>,
}

/// Answer to a join: the identity to start with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Joined {
    pub cluster_id: ClusterId,
    /// Never used before.
    pub node_id: NodeId,
    pub members: Vec<Member>,
}

/// Answer to a transfer of leadership.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transferred {
    pub leader: NodeId,
    pub term: u64,
}
