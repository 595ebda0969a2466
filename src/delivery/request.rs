//! What sessions ask of delivery.

use crate::dispatch::{Attachment, Mode};
use crate::types::{Member, ProxyId, Seq};
use crate::wire::Settle;

/// A session of this node; never reused while the node runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub u64);

/// A consumer: its session, and the client's handle for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConsumerId {
    pub session: SessionId,
    pub handle: u32,
}

/// One thing asked. Answers come through the session's outbox.
#[derive(Debug, Clone, PartialEq)]
pub enum Request {
    /// Deliver to this consumer from now on.
    Attach {
        consumer: ConsumerId,
        attachment: Attachment,
        mode: Mode,
        /// As what it is known over all its connections.
        member: Member,
        /// The channel holds dead letters: their origin is to be told with them.
        dead_letters: bool,
    },
    /// It may be sent that much more.
    Credit { consumer: ConsumerId, events: u32, bytes: u64 },
    /// It asks for events. Answered by `PullDone`.
    Pull { consumer: ConsumerId, request: u32, events_max: u32, bytes_max: u64, wait_ms: u64 },
    /// What became of deliveries, of this tenure or an earlier one. Answered by
    /// `SettleConfirmed`, unless it only extends leases.
    Settle { session: SessionId, settle: Settle },
    /// Deliveries whose payloads could not be read. Those of a durable proxy are tried again
    /// later, which is no failed attempt; the credit they took (`bytes` in all) goes back.
    Unreadable { consumer: ConsumerId, proxy: Option<ProxyId>, sequences: Vec<Seq>, bytes: u64 },
    /// The consumer ends, by its own wish. Answered by `Closed`.
    Detach { consumer: ConsumerId },
}

impl Request {
    /// Whether the answer is a `SettleConfirmed`.
    pub fn is_confirmed(&self) -> bool {
        matches!(self, Request::Settle { settle, .. } if has_verdict(settle))
    }
}

/// Whether a settlement says more than that somebody is still at work.
pub(super) fn has_verdict(settle: &Settle) -> bool {
    !(settle.acks.is_empty() && settle.nacks.is_empty() && settle.terms.is_empty())
}
