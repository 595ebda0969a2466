//! What the user hears: answers to publishes, and events about the connection.

use std::time::Duration;

use thiserror::Error;

use crate::types::{ClusterId, LaneId, Name, NodeId, Rejection, Seq, SeqRange};

/// What became of consecutive events of a lane. Ranges come in lane order, without holes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AckRange {
    /// Lane sequence of the first.
    pub first_sequence: u64,
    pub count: u32,
    pub fate: Fate,
}

/// How a publish ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    /// On the disks of a majority, and at consecutive places in the channel.
    Accepted {
        /// Channel sequence of the first; 0: accepted, but its place is not known any more.
        first_seq: Seq,
        /// It had been accepted by an earlier attempt; this is its original place.
        duplicate: bool,
    },
    /// Certainly not accepted.
    Refused(Rejection),
    /// Sent, and given up before an answer came: accepted or not, nobody knows here.
    Unknown(Rejection),
}

impl AckRange {
    /// The lane sequence after the last.
    pub fn end(&self) -> u64 {
        self.first_sequence + u64::from(self.count)
    }

    /// Joins `next` to this range if it continues it with the same fate.
    pub fn join(&mut self, next: &AckRange) -> bool {
        let Fate::Accepted { first_seq, duplicate } = &self.fate else { return false };
        let count = u64::from(self.count);
        let follows = if *first_seq == 0 { 0 } else { *first_seq + count };
        let fate = Fate::Accepted { first_seq: follows, duplicate: *duplicate };
        let joins = next.first_sequence == self.end() && next.fate == fate;
        match self.count.checked_add(next.count) {
            Some(sum) if joins => self.count = sum,
            _ => return false,
        }
        true
    }
}

/// An accepted event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ack {
    pub lane: LaneId,
    /// Its sequence on the lane.
    pub sequence: u64,
    /// Its sequence in the channel; 0: accepted, but its place is not known any more.
    pub seq: Seq,
    /// It had been accepted by an earlier attempt; this is its original place.
    pub duplicate: bool,
}

/// Why an event is not acknowledged.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PublishError {
    /// Certainly not accepted.
    #[error("refused: {0}")]
    Refused(Rejection),
    /// Sent, and given up before an answer came. Publishing it again may publish it twice, unless
    /// it is repeated on the same lane with the same sequence.
    #[error("outcome unknown: {0}")]
    Unknown(Rejection),
}

impl PublishError {
    /// The reason.
    pub fn rejection(&self) -> &Rejection {
        match self {
            PublishError::Refused(rejection) | PublishError::Unknown(rejection) => rejection,
        }
    }
}

/// What happens to the connection, for people who watch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConnectionEvent {
    /// Connected, and about to resume everything.
    Connected {
        server: String,
        /// The node that serves: behind a relay, the leader.
        node: NodeId,
        cluster: ClusterId,
    },
    /// The connection is gone or could not be made; the next attempt comes after the pause.
    Reconnecting { reason: String, retry_in: Duration },
    /// An ephemeral consumer missed events that are not retained any more.
    Gap { channel: Name, missed: SeqRange },
    /// No connection any more.
    Closed { reason: String },
}
