//! What happened in a run, on one clock: the only thing invariants see.
//!
//! Every invocation is one record and its outcome another; an outcome that never came is unknown,
//! and so is one that says so. As JSONL a history is one [`Record`] per line.

pub mod body;
mod file;
mod quality;

use serde::{Deserialize, Serialize};

pub use file::{Writer, is_torn, read};
pub use quality::{Asks, Cut, Definition, Judgement, Wish};

/// Names an event across the whole run; the first eight bytes of its body, little endian.
pub type EventId = u64;

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Microseconds since the run began, on the one clock of the recorder.
    pub at: u64,
    /// Who did or saw it: `supplier-1`, `worker/2`, `node-3`, `observer`, `nemesis`.
    pub by: String,
    #[serde(flatten)]
    pub what: What,
}

/// What happened. Numbers of nodes are their ids; durable consumers go by their proxy's name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "snake_case")]
pub enum What {
    /// The run entered a phase.
    Phase {
        phase: Phase,
    },

    /// A supplier is about to publish an event: number `number` of `lane`. An event published again
    /// on the same lane with the same number is the same event.
    Publish {
        event: EventId,
        channel: String,
        lane: String,
        number: u64,
        digest: u64,
        bytes: u32,
        #[serde(default, skip_serializing_if = "Asks::is_none")]
        asks: Asks,
    },
    /// How that ended.
    Published {
        event: EventId,
        outcome: Outcome<Place>,
    },

    /// A durable consumer exists from here on and is offered every event with a larger sequence.
    Subscribed {
        consumer: String,
        channel: String,
        after: u64,
        max_deliveries: Option<u32>,
        /// The lease of a delivery: not settled by then, it goes again.
        ack_wait_ms: u64,
        /// Most deliveries without a verdict at a time; 0: not known.
        #[serde(default)]
        max_in_flight: u32,
        /// What is set for its proxy.
        #[serde(default, skip_serializing_if = "Wish::is_empty")]
        qos: Wish,
    },
    /// An operator is about to define the consumer's proxy anew.
    Redefine {
        ask: u64,
        consumer: String,
        to: Definition,
    },
    /// How that ended.
    Redefined {
        ask: u64,
        outcome: Outcome<Cut>,
    },
    /// A client of the consumer came or went: `by` says which.
    Attached {
        consumer: String,
    },
    Detached {
        consumer: String,
        why: String,
    },
    /// An event reached a client of the consumer.
    Delivered {
        consumer: String,
        channel: String,
        seq: u64,
        /// Lane and number as the delivery names them.
        lane: u64,
        number: u64,
        /// As read from the body; `None` if the body is not one of ours.
        event: Option<EventId>,
        digest: u64,
        /// The how many-eth delivery it claims to be, from 1.
        delivery: u32,
        /// Whether it is marked as perhaps delivered before.
        marked: bool,
        /// The tenure it was delivered in; 0: not known.
        #[serde(default)]
        tenure: u64,
        /// When it was accepted, by the time of the cluster, in microseconds; 0: not known.
        #[serde(default)]
        accepted_us: u64,
    },
    /// A client is about to give a verdict on events it got.
    Settle {
        consumer: String,
        seqs: Vec<u64>,
        verdict: Verdict,
    },
    /// How that ended; `Ok` means committed.
    Settled {
        consumer: String,
        seqs: Vec<u64>,
        verdict: Verdict,
        outcome: Outcome<()>,
    },

    /// A dead letter: the consumer's event at this place, found in the dead-letter channel of the
    /// event's channel when everything was settled.
    DeadLetter {
        consumer: String,
        channel: String,
        seq: u64,
    },

    /// An observer is about to ask for a linearizable status.
    AskStatus {
        ask: u64,
        via: u64,
    },
    /// The answer.
    Status {
        ask: u64,
        outcome: Outcome<ClusterView>,
    },
    /// An observer is about to ask who the members are.
    AskMembers {
        ask: u64,
        via: u64,
    },
    /// The answer.
    Members {
        ask: u64,
        outcome: Outcome<MembersView>,
    },
    /// What one node says, or shows, of itself.
    Node {
        node: u64,
        view: NodeView,
    },
    /// A node that cannot be reached, or whose process is not there.
    NodeDown {
        node: u64,
    },
    /// A node's state after applying exactly the entries up to `index`.
    StateHash {
        node: u64,
        index: u64,
        hash: u64,
        ledger_ok: bool,
    },
    /// A node holds this entry, and knows it is committed.
    Committed {
        node: u64,
        index: u64,
        term: u64,
        digest: u64,
    },
    /// A leader's judgement on events of a consumer, as it is in the log: what `judgement` says
    /// ended them. Whether it counted the log does not say: somebody may have been first.
    Judged {
        index: u64,
        tenure: u64,
        /// Of the entry, by the time of the cluster, in microseconds.
        stamp_us: u64,
        consumer: String,
        judgement: Judgement,
        seqs: Vec<u64>,
    },
    /// What a node reads of an event that it retains; `problem`: why it cannot.
    Stored {
        node: u64,
        channel: String,
        seq: u64,
        event: Option<EventId>,
        digest: u64,
        problem: Option<String>,
    },
    /// What a node's process uses.
    Usage {
        node: u64,
        rss_bytes: u64,
        descriptors: u64,
        disk_bytes: u64,
    },

    /// A fault begins, changes or ends.
    Fault {
        fault: String,
        targets: Vec<u64>,
        stage: Stage,
        detail: String,
    },
    /// Acknowledged data on this node's disk was damaged while the node was down: from its next
    /// start on it must not vote, lead or serve until it was wiped.
    Damaged {
        node: u64,
        file: String,
        how: String,
    },
    /// Bytes on this node's disk were changed while it was down. It may notice or not; if it is
    /// `harmless` the node must go on as if nothing had been.
    Touched {
        node: u64,
        file: String,
        how: String,
        harmless: bool,
    },
    /// A node's process ended by itself, and not because the cluster took the node out.
    Exited {
        node: u64,
        how: String,
    },
    /// The damaged node's disk was wiped; it may join again under another id.
    Wiped {
        node: u64,
    },
    /// A damaged node says that its cluster has let it go and that it has given its data up: what
    /// its process is from here on is another node.
    Cleared {
        node: u64,
    },
    /// Something the run says for a reader, or counts for coverage.
    Note {
        key: String,
        count: u64,
        text: String,
    },
}

/// The parts of a run, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Cluster and clients come up.
    Setup,
    /// Load, and faults.
    Faults,
    /// All faults are over; load goes on.
    Heal,
    /// No more publishing; consumers settle everything.
    Drain,
    /// Final observations.
    End,
}

/// Where a fault stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    Begin,
    End,
}

/// How an invocation ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome<T> {
    Ok(T),
    /// It certainly did not happen; the code of the refusal.
    Fail(String),
    /// It may have happened, or may yet; why nobody knows.
    Unknown(String),
}

/// Where an accepted event is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// Sequence in the channel; 0: accepted, but the place is not known any more.
    pub seq: u64,
    /// It had been accepted by an earlier attempt.
    pub duplicate: bool,
}

/// What a consumer says of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    Ack,
    Nack,
    Terminate,
}

/// A node's own view.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeView {
    /// Counts the lives of this node's process, as far as the recorder knows.
    pub life: u64,
    /// `leader`, `follower`, `candidate`, `learner`, `quarantined`, `stopped`.
    pub role: String,
    pub term: u64,
    pub leader: Option<u64>,
    /// The tenure it serves, if it does.
    pub tenure: Option<u64>,
    pub applied: u64,
    pub committed: u64,
    pub snapshot_index: u64,
}

/// A cluster's status as an administrator sees it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterView {
    pub answered_by: u64,
    pub linearizable: bool,
    pub leader: Option<u64>,
    pub term: u64,
    pub channels: Vec<ChannelView>,
}

/// Who belongs to a cluster, as its leader has it: perhaps not committed yet.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MembersView {
    pub answered_by: u64,
    pub linearizable: bool,
    pub voters: Vec<u64>,
    pub learners: Vec<u64>,
}

/// A channel's ledger.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChannelView {
    pub name: String,
    pub accepted: u64,
    pub last_seq: u64,
    pub retained: u64,
    pub proxies: Vec<ProxyView>,
}

/// A durable consumer's ledger: `offered` must be the sum of the others but `in_flight`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProxyView {
    pub name: String,
    pub offered: u64,
    pub acked: u64,
    pub filtered: u64,
    pub expired: u64,
    pub discarded: u64,
    pub dead_lettered: u64,
    pub skipped: u64,
    pub pending: u64,
    pub in_flight: u64,
}

/// Takes what happened and stamps it with the time of the run's one clock. Records of one caller
/// keep their order.
pub trait Recorder: Send + Sync + 'static {
    fn record(&self, by: &str, what: What);
}
