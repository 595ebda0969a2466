//! Refusals: part of the contract, not accidents.

use std::fmt;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::ProxyId;

/// What a refusal is about. The name is stable: scripts and clients decide by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Code {
    /// The text or bytes given are not what they should be.
    BadRequest,
    /// The peer speaks another version of the protocol.
    VersionMismatch,
    /// No or a wrong token, or a token of another kind.
    Unauthorized,
    /// The peer belongs to another cluster or is another node than it was.
    WrongCluster,
    UnknownChannel,
    UnknownProxy,
    UnknownLane,
    ChannelExists,
    ProxyExists,
    TooManyChannels,
    TooManyProxies,
    TooManyLanes,
    /// The channel's pending events or bytes are at their cap.
    ChannelFull,
    /// A publish does not continue the lane: see [`Rejection::expected`].
    OutOfSequence,
    /// A newer epoch of the lane was opened elsewhere.
    LaneFenced,
    /// The event is larger than allowed.
    EventTooLarge,
    /// The event was settled before: the message names the winning outcome.
    AlreadySettled,
    /// A queue is full; try again.
    Overloaded,
    /// This node does not lead and knows no leader that answers; try again.
    NoLeader,
    /// The leader changed while the request was on its way; whether it took effect is unknown.
    TenureLost,
    /// The node is stopping.
    ShuttingDown,
    /// The node's disk is damaged and it serves nobody.
    Quarantined,
    /// The disk has no room, or failed.
    StorageFailed,
    /// A membership change is refused as things stand.
    MembershipRefused,
    /// The thing asked for is not allowed here.
    NotAllowed,
    UnknownAdmin,
    AdminExists,
    TooManyAdmins,
    /// A property of the quality of service cannot be set so.
    InvalidQos,
    /// The lane, or its supplier admin, is suspended.
    Suspended,
    /// There is a lane of this name, of another supplier admin.
    LaneExists,
    /// Another consumer holds the exclusive proxy since: nothing said under an earlier token counts.
    Fenced,
    /// The channel's retained events have as many types as they may.
    TooManyTypes,
}

impl Code {
    /// The stable name used in JSON and messages.
    pub fn as_str(self) -> &'static str {
        match self {
            Code::BadRequest => "bad_request",
            Code::VersionMismatch => "version_mismatch",
            Code::Unauthorized => "unauthorized",
            Code::WrongCluster => "wrong_cluster",
            Code::UnknownChannel => "unknown_channel",
            Code::UnknownProxy => "unknown_proxy",
            Code::UnknownAdmin => "unknown_admin",
            Code::UnknownLane => "unknown_lane",
            Code::ChannelExists => "channel_exists",
            Code::ProxyExists => "proxy_exists",
            Code::AdminExists => "admin_exists",
            Code::TooManyChannels => "too_many_channels",
            Code::TooManyProxies => "too_many_proxies",
            Code::TooManyAdmins => "too_many_admins",
            Code::TooManyLanes => "too_many_lanes",
            Code::InvalidQos => "invalid_qos",
            Code::Fenced => "fenced",
            Code::TooManyTypes => "too_many_types",
            Code::ChannelFull => "channel_full",
            Code::OutOfSequence => "out_of_sequence",
            Code::LaneFenced => "lane_fenced",
            Code::EventTooLarge => "event_too_large",
            Code::AlreadySettled => "already_settled",
            Code::Overloaded => "overloaded",
            Code::NoLeader => "no_leader",
            Code::TenureLost => "tenure_lost",
            Code::ShuttingDown => "shutting_down",
            Code::Quarantined => "quarantined",
            Code::StorageFailed => "storage_failed",
            Code::MembershipRefused => "membership_refused",
            Code::NotAllowed => "not_allowed",
            Code::Suspended => "suspended",
            Code::LaneExists => "lane_exists",
        }
    }

    /// Whether the same request can succeed later, unchanged.
    pub fn retryable(self) -> bool {
        matches!(
            self,
            Code::ChannelFull
                | Code::TooManyTypes
                | Code::OutOfSequence
                | Code::Overloaded
                | Code::NoLeader
                | Code::TenureLost
                | Code::ShuttingDown
                | Code::StorageFailed
                | Code::Quarantined
                | Code::Suspended
        )
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A refusal: what was refused, on what, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Error)]
#[error("{message} ({code})")]
pub struct Rejection {
    pub code: Code,
    /// What was refused, and on what.
    pub message: String,
    /// What would be allowed, or what to do; may be empty.
    pub hint: String,
    /// For [`Code::OutOfSequence`]: the lane sequence that would be accepted.
    pub expected: Option<u64>,
}

impl Rejection {
    /// A refusal without a hint.
    pub fn new(code: Code, message: impl Into<String>) -> Rejection {
        Rejection { code, message: message.into(), hint: String::new(), expected: None }
    }

    /// The same with advice.
    pub fn hint(mut self, hint: impl Into<String>) -> Rejection {
        self.hint = hint.into();
        self
    }

    /// A settlement under another token than the current one of an exclusive proxy.
    pub fn fenced(proxy: ProxyId, named: u64, current: u64) -> Rejection {
        let message =
            format!("proxy {proxy} is exclusive: token {named} is not the current one, {current}");
        Rejection::new(Code::Fenced, message)
            .hint("another holds it since; what was not settled is delivered to that one")
    }

    /// A publish that does not continue its lane.
    pub fn out_of_sequence(sequence: u64, expected: u64) -> Rejection {
        Rejection {
            code: Code::OutOfSequence,
            message: format!("sequence {sequence} does not continue the lane"),
            hint: format!(
                "publish from sequence {expected} on, or give no number: the client continues the lane"
            ),
            expected: Some(expected),
        }
    }
}
