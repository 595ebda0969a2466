//! What a server says on a data connection.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::codec::{Payload, WireError, messages};
use super::deliver::Deliver;
use crate::types::{LaneId, Outcome, ProxyId, Rejection, Seq, SeqRange, Tenure};

messages! {
    /// A message from server to client.
    ServerMessage {
        0x40 LaneOpened head,
        0x41 PublishAck head,
        0x42 Done head,
        0x43 Failed head,
        0x44 Poll head,
        0x48 Attached head,
        0x49 Deliver tail,
        0x4a PullDone head,
        0x4b SettleConfirmed head,
        0x4c Closed head,
        0x4d Gap head,
        0x4e Goodbye head,
        0x4f Pong head,
    }
}

/// A lane is open; whoever used it before is fenced.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaneOpened {
    pub request: u32,
    pub lane: LaneId,
    pub epoch: u32,
    /// The epoch since which only this client has opened the lane. Later than one that the client
    /// was told before: somebody else had the lane in between.
    pub held_since: u32,
    /// The last lane sequence accepted; 0: none yet. Resend what comes after it, if anything.
    pub last_sequence: u64,
    /// False when the channel has no durable proxy and nobody is subscribed now: events are kept
    /// only as history.
    pub channel_interest: bool,
    /// An acknowledgement of the channel means: in the leader's memory. What was acknowledged by
    /// an earlier leader may be lost, and `last_sequence` does not tell of it.
    pub best_effort: bool,
}

/// Asks the source that is served on a lane for events. The client publishes them on the lane and
/// ends with `Polled`; until then the lane is not polled again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Poll {
    pub lane: LaneId,
    pub epoch: u32,
    /// Counted up for each poll of the lane on this connection.
    pub poll: u32,
    /// At most so many events are wanted.
    pub most: u32,
}

/// What became of one or several publishes of a lane. After a refusal the lane expects the first
/// refused sequence again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublishAck {
    pub lane: LaneId,
    /// The epoch of the publishes: a client can have opened the lane again since.
    pub epoch: u32,
    /// Accepted, in lane order.
    pub runs: Vec<AckRun>,
    /// Why the rest was not.
    pub refused: Option<Rejection>,
}

/// Consecutive lane sequences that lie consecutively in the channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct AckRun {
    pub first_sequence: u64,
    pub count: u32,
    /// Channel sequence of the first; 0: accepted so long ago that its place is forgotten.
    pub first_seq: Seq,
    /// Accepted by an earlier publish; this is its original place.
    pub duplicate: bool,
}

/// A request without an answer of its own succeeded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Done {
    pub request: u32,
}

/// A request was refused; the connection goes on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failed {
    pub request: u32,
    pub rejection: Rejection,
}

/// A consumer is attached; deliveries may follow.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attached {
    pub request: u32,
    pub consumer: u32,
    /// The durable proxy, to be named in `Settle`; `None`: nothing to settle.
    pub proxy: Option<ProxyId>,
    /// Revision of the proxy's definition.
    pub revision: u64,
    /// The sequence the channel will give to its next event.
    pub next_seq: Seq,
    pub tenure: Tenure,
    /// Events come from the leader's memory; what a leader had is lost with it, untold.
    pub best_effort: bool,
}

/// A pull is answered in full.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PullDone {
    pub request: u32,
    pub consumer: u32,
    /// How many events it delivered.
    pub delivered: u32,
}

/// A settlement is committed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SettleConfirmed {
    pub batch: u64,
    pub proxy: ProxyId,
    /// Events it settled.
    pub settled: u64,
    /// Sequences that had been settled otherwise before, with the winner while it is known.
    pub already: Vec<(SeqRange, Option<Outcome>)>,
    /// Why nothing of it was taken.
    pub refused: Option<Rejection>,
}

/// A consumer has ended; no deliveries for it follow.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Closed {
    pub consumer: u32,
    /// `None`: the client detached it.
    pub reason: Option<Rejection>,
}

/// Events that a volatile consumer will not see: no longer retained when it came to them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    pub consumer: u32,
    pub missed: SeqRange,
}

/// The server closes the connection; a retryable reason asks the client to come again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Goodbye {
    pub reason: Rejection,
}

/// The answer to `Ping`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pong {
    pub nonce: u64,
}
