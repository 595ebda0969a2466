//! Where a consumer starts.

use serde::{Deserialize, Serialize};

use super::Seq;

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
