//! Quality of service in histories: what events ask for, and what is set for consumers.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What an event asks of its delivery; all 0: nothing. Moments are milliseconds since the Unix
/// epoch, by the time of the cluster.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Asks {
    pub priority: i16,
    /// After it was accepted, in milliseconds.
    pub timeout_ms: u32,
    pub start_ms: u64,
    pub stop_ms: u64,
}

impl Asks {
    /// Whether it asks for nothing.
    pub fn is_none(&self) -> bool {
        *self == Asks::default()
    }

    /// Whether it ends by itself, for every consumer.
    pub fn ends(&self) -> bool {
        self.timeout_ms > 0 || self.stop_ms > 0
    }

    /// When it may be delivered, in microseconds; 0: at once.
    pub fn start_us(&self) -> u64 {
        self.start_ms * 1000
    }

    /// When it ends, accepted at this moment, in microseconds; `None`: never.
    pub fn end_us(&self, accepted_us: u64) -> Option<u64> {
        let timeout = Some(self.timeout_ms).filter(|ms| *ms > 0);
        let timeout = timeout.map(|ms| accepted_us + u64::from(ms) * 1000);
        let stop = Some(self.stop_ms * 1000).filter(|us| *us > 0);
        timeout.into_iter().chain(stop).min()
    }
}

/// Properties of the quality of service and their values, as `aqueduct qos set` takes them.
pub type Wish = BTreeMap<String, String>;

/// What an operator changes about a consumer's proxy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Definition {
    Qos(Wish),
    Suspended(bool),
}

/// From where on a change holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cut {
    /// Place in the log.
    pub index: u64,
    /// The tenure that place belongs to; 0: not known.
    pub tenure: u64,
}

/// How a leader says that an event ended without a consumer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Judgement {
    Expired,
    Discarded,
}
