//! Dead letters: what is kept, and what becomes of it. Field names are a contract with scripts.

use serde::{Deserialize, Serialize};

use crate::types::{Name, Rejection, Seq, SeqRange};

/// What became of the dead letters of a channel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LetterLedger {
    /// The channel they lie in.
    pub dead_channel: Name,
    /// Dead letters that are there, and …
    pub kept: u64,
    /// … bytes of their events.
    pub kept_bytes: u64,
    pub replayed: u64,
    pub dropped: u64,
    /// Were the oldest when there were more than may be kept.
    pub pushed_out: u64,
    /// Their bytes were lost with a majority of the nodes.
    pub lost: u64,
}

/// Answer of `dead ls`: dead letters of a channel, oldest first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LetterList {
    #[serde(flatten)]
    pub ledger: LetterLedger,
    pub letters: Vec<LetterReport>,
}

/// A dead letter: not its event, only what is known of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LetterReport {
    /// Its sequence in the dead-letter channel, by which it is replayed or dropped.
    pub seq: Seq,
    /// The channel that it comes from; `None`: that one was deleted.
    pub channel: Option<Name>,
    /// Its sequence there.
    pub origin_seq: Seq,
    /// The durable consumer that gave it up.
    pub proxy: Name,
    /// That one was deleted.
    pub proxy_gone: bool,
    /// Deliveries on record.
    pub attempts: u32,
    pub reason: String,
    /// Bytes of the event, header and body.
    pub size: u32,
    /// When it was given up, in microseconds since the Unix epoch.
    pub given_up_us: u64,
    /// How long ago that was, in milliseconds.
    pub age_ms: u64,
}

/// Answer of `dead show`: a dead letter with its event.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LetterShown {
    #[serde(flatten)]
    pub letter: LetterReport,
    /// The lane it was published on.
    pub lane: String,
    /// Its sequence on that lane.
    pub sequence: u64,
    /// The whole event as it is stored and sent.
    pub event_base64: String,
}

/// What happened to dead letters that follow each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LetterResult {
    Replayed,
    Dropped,
    /// There are no such letters, or not any more.
    Unknown,
    /// They are letters still; `error` says why.
    Refused,
}

/// What became of some of the dead letters that were named.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LetterOutcome {
    pub result: LetterResult,
    pub letters: SeqRange,
    /// Where they were replayed to; `None` if they were not.
    pub channel: Option<Name>,
    /// The sequence of the first there; the others follow.
    pub first_seq: Option<Seq>,
    pub error: Option<Rejection>,
}

/// Answer of `dead replay` and `dead drop`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LettersDone {
    pub dead_channel: Name,
    pub replayed: u64,
    pub dropped: u64,
    pub unknown: u64,
    pub refused: u64,
    pub outcomes: Vec<LetterOutcome>,
}

impl LettersDone {
    /// Nothing done yet.
    pub fn new(dead_channel: Name) -> LettersDone {
        let outcomes = Vec::new();
        LettersDone { dead_channel, replayed: 0, dropped: 0, unknown: 0, refused: 0, outcomes }
    }

    /// Counts one more outcome.
    pub fn add(&mut self, outcome: LetterOutcome) {
        let count = match outcome.result {
            LetterResult::Replayed => &mut self.replayed,
            LetterResult::Dropped => &mut self.dropped,
            LetterResult::Unknown => &mut self.unknown,
            LetterResult::Refused => &mut self.refused,
        };
        *count = count.saturating_add(outcome.letters.len());
        self.outcomes.push(outcome);
    }
}
