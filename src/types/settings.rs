//! What a channel and a proxy are told when they are created.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Seq, limits};

/// Settings of a channel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ChannelSettings {
    /// Cap on pending bytes (accepted, not settled by every durable proxy). At the cap publishes
    /// are refused with `channel_full`, retryable; nothing accepted is ever dropped.
    pub pending_bytes_max: u64,
    /// Events kept for resume although all durable proxies have settled them.
    pub history_events: u64,
    /// The same in bytes; whichever limit is reached first counts.
    pub history_bytes: u64,
}

impl Default for ChannelSettings {
    fn default() -> ChannelSettings {
        ChannelSettings {
            pending_bytes_max: limits::CHANNEL_BYTES_MAX,
            history_events: limits::HISTORY_EVENTS,
            history_bytes: limits::HISTORY_BYTES,
        }
    }
}

impl ChannelSettings {
    /// Those of every dead-letter channel: letters need no history, they are kept until they are
    /// replayed or dropped.
    pub fn of_dead_letters() -> ChannelSettings {
        ChannelSettings { history_events: 0, history_bytes: 0, ..ChannelSettings::default() }
    }
}

/// Settings of a durable consumer proxy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ProxySettings {
    /// Lease of a delivery in milliseconds: not settled by then, it is delivered again.
    pub ack_wait_ms: u64,
    /// Deliveries of one event before it goes to the dead-letter channel; 0: without limit.
    pub max_deliveries: u32,
    /// Unsettled deliveries at a time, over all clients of the proxy.
    pub max_in_flight: u32,
}

impl Default for ProxySettings {
    fn default() -> ProxySettings {
        ProxySettings {
            ack_wait_ms: limits::ACK_WAIT_MS,
            max_deliveries: 0,
            max_in_flight: limits::PROXY_IN_FLIGHT,
        }
    }
}

impl fmt::Display for ProxySettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ProxySettings { ack_wait_ms, max_deliveries, max_in_flight } = self;
        write!(f, "ack wait {ack_wait_ms} ms, {max_in_flight} in flight, ")?;
        match max_deliveries {
            0 => f.write_str("deliveries without limit"),
            most => write!(f, "{most} deliveries"),
        }
    }
}

/// Where a new consumer begins.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Start {
    /// With the next event accepted.
    #[default]
    New,
    /// With the earliest event retained.
    All,
    /// With this sequence, or the earliest retained after it.
    Seq(Seq),
    /// With the earliest retained that was accepted at this time or later, in milliseconds since
    /// the Unix epoch.
    Time(u64),
}
