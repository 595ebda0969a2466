//! Identities. Numeric ids are never reused; names are for people and live beside them.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Position of an event in its channel: assigned in apply, from 1, gap-free.
pub type Seq = u64;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(
            Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
        )]
        #[serde(transparent)]
        pub struct $name(pub u64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

id!(
    /// A node of a cluster. A node that lost its disk comes back under a new id.
    NodeId
);
id!(
    /// A channel: the log index and position of its creating command, mixed into one number by
    /// [`crate::machine`]'s id counter.
    ChannelId
);
id!(
    /// A proxy (a consumer's or a supplier's face inside a channel), unique in the cluster.
    ProxyId
);
id!(
    /// The log index of the leader's `BeginTenure` entry: the fencing token of everything the
    /// leader does until it steps down. 0 means "no tenure yet".
    Tenure
);
id!(
    /// Replicated time in microseconds since the Unix epoch, carried by log entries. Never runs
    /// backwards along the log; only loosely tied to wall time.
    Stamp
);

impl Stamp {
    /// This stamp moved forward by `millis` milliseconds.
    pub fn plus_millis(self, millis: u64) -> Stamp {
        Stamp(self.0.saturating_add(millis.saturating_mul(1000)))
    }

    /// Milliseconds from `earlier` to this stamp; 0 if `earlier` lies ahead.
    pub fn millis_since(self, earlier: Stamp) -> u64 {
        self.0.saturating_sub(earlier.0) / 1000
    }
}

/// A cluster, drawn at random when it is bootstrapped; printed as 16 hex digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct ClusterId(pub u64);

impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl From<ClusterId> for String {
    fn from(id: ClusterId) -> String {
        id.to_string()
    }
}

impl TryFrom<String> for ClusterId {
    type Error = String;

    fn try_from(text: String) -> Result<ClusterId, String> {
        u64::from_str_radix(&text, 16)
            .map(ClusterId)
            .map_err(|_| format!("'{text}' is not a cluster id: expected 16 hex digits"))
    }
}

/// The Raft group a key or peer message belongs to. A cluster runs group 0 today.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct GroupId(pub u32);

/// The immutable name of an event's payload: the log entry that carried it, and its place in it.
///
/// Where the bytes lie (log tail, log database, segment) only storage knows.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct PayloadKey {
    /// Raft log index of the entry.
    pub index: u64,
    /// Place among the events of that entry, from 0.
    pub position: u32,
}

impl fmt::Display for PayloadKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.index, self.position)
    }
}

/// A lane: one supplier's numbered stream of publishes. Named by the place of its creation in the
/// log, printed `index.position`.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct LaneId {
    /// Raft log index of the entry that created the lane.
    pub index: u64,
    /// Place of the creating command in that entry, from 0.
    pub position: u32,
}

impl fmt::Display for LaneId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.index, self.position)
    }
}

/// Who asks for a lane, and which of its askings this is. An opening that was overtaken on its way
/// by a later one of the same client is told by it from a takeover.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Opener {
    /// Drawn at random by each client when it starts.
    pub client: u64,
    /// Counts up with each opening the client asks for, over all its lanes and connections.
    pub attempt: u64,
}

impl Opener {
    /// Whether the same client asked with `other` before this, or this is the same asking.
    pub fn overtakes(&self, other: Opener) -> bool {
        self.client == other.client && self.attempt >= other.attempt
    }
}

/// A consumer as it is known from one connection to the next.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Member {
    /// Drawn at random by each client when it starts.
    pub client: u64,
    /// The client's handle of the consumer.
    pub consumer: u32,
}

impl fmt::Display for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{:016x}.{}", self.client, self.consumer))
    }
}

/// The identity of a Raft log entry: where it is, and who proposed it in which term.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct EntryId {
    /// Raft term.
    pub term: u64,
    /// The leader that proposed it (several leaders can share a term).
    pub node: NodeId,
    /// Position in the log.
    pub index: u64,
}

impl fmt::Display for EntryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "T{}-N{}.{}", self.term, self.node, self.index)
    }
}
