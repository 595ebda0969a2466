//! How an event ends for one consumer. Exactly one outcome each: the backbone of the ledger.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The ways in which an event is settled for a proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum Outcome {
    /// The consumer confirmed it.
    Acked = 0,
    /// A filter of the proxy did not want it.
    Filtered = 1,
    /// Its time passed before it was delivered.
    Expired = 2,
    /// A discard policy gave it up.
    Discarded = 3,
    /// It went to the dead-letter channel, in the same replicated step.
    DeadLettered = 4,
    /// An administrator or the consumer stepped over it.
    Skipped = 5,
}

impl Outcome {
    /// All outcomes, in the order of their numbers.
    pub const ALL: [Outcome; 6] = [
        Outcome::Acked,
        Outcome::Filtered,
        Outcome::Expired,
        Outcome::Discarded,
        Outcome::DeadLettered,
        Outcome::Skipped,
    ];

    /// The stable name used in JSON, metrics and messages.
    pub fn as_str(self) -> &'static str {
        match self {
            Outcome::Acked => "acked",
            Outcome::Filtered => "filtered",
            Outcome::Expired => "expired",
            Outcome::Discarded => "discarded",
            Outcome::DeadLettered => "dead_lettered",
            Outcome::Skipped => "skipped",
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// One counter per [`Outcome`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts([u64; 6]);

impl Counts {
    /// Adds `n` events that ended as `outcome`.
    pub fn add(&mut self, outcome: Outcome, n: u64) {
        self.0[outcome as usize] += n;
    }

    /// Events that ended as `outcome`.
    pub fn get(&self, outcome: Outcome) -> u64 {
        self.0[outcome as usize]
    }

    /// Events that ended at all.
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }
}
