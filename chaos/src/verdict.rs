//! What a run came to: violations, coverage, and the one word.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::history::{Judgement, Outcome, Record, Stage, What};

/// Something that must hold and did not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Violation {
    pub invariant: String,
    /// When it was seen: microseconds since the run began.
    pub at: u64,
    pub detail: String,
}

/// The one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Word {
    /// Everything held, and the run did what it is for.
    Pass,
    /// Something did not hold.
    Fail,
    /// Nothing is known to be wrong, but the run did not do what it is for, or could not be judged.
    Unknown,
}

impl Word {
    /// The process's exit code.
    pub fn exit_code(self) -> u8 {
        match self {
            Word::Pass => 0,
            Word::Fail => 1,
            Word::Unknown => 2,
        }
    }
}

impl std::fmt::Display for Word {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Word::Pass => "pass",
            Word::Fail => "fail",
            Word::Unknown => "unknown",
        })
    }
}

/// What a run on real processes came to: `verdict.json`, a contract with scripts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    pub scenario: String,
    pub seed: u64,
    pub nodes: usize,
    /// How long the faults were to go on.
    pub seconds: u64,
    pub verdict: Word,
    /// Events acknowledged.
    pub acked: u64,
    /// Acknowledged events that some durable consumer never got.
    pub lost: u64,
    /// Events of which nobody knows whether they were accepted.
    pub unknown: u64,
    pub violations: Vec<Violation>,
    /// Invariants that had nothing to look at: that none of them was broken says nothing.
    #[serde(default)]
    pub nothing_to_judge: Vec<String>,
    pub coverage: Coverage,
    /// What the run was to do at least.
    pub required: Coverage,
    /// What it could not do here, and why.
    pub left_out: Vec<String>,
    /// Faults that went wrong themselves, and how.
    #[serde(default)]
    pub faults_failed: Vec<String>,
    /// From a kill of the leader to the next acknowledgement of an event published after it, each
    /// in milliseconds, in the order of the kills.
    pub failover_ms: Vec<u64>,
    /// From the start of each damaged node until it was a voter again by itself, in milliseconds.
    #[serde(default)]
    pub rejoin_ms: Vec<u64>,
    /// What went wrong with the run itself, if anything.
    pub error: Option<String>,
    /// The command that does it again.
    pub reproduce: String,
}

impl Verdict {
    /// Why nothing follows from the run, if that is so. A run that broke off did not do its thing
    /// either, and that goes without saying.
    pub fn doubts(&self) -> Vec<String> {
        let mut doubts: Vec<String> = self.error.clone().into_iter().collect();
        doubts.extend(self.faults_failed.iter().map(|why| format!("a fault went wrong: {why}")));
        if self.error.is_none() && !self.did_nothing() {
            let missed = self.required.iter().filter(|(key, least)| self.count(key) < **least);
            doubts.extend(missed.map(|(key, least)| {
                format!(
                    "it did not do its thing: {key} is {}, at least {least} is needed",
                    self.count(key)
                )
            }));
        }
        doubts
    }

    /// Something went wrong with the run, so that it cannot pass.
    pub fn doubt(&mut self, why: &str) {
        self.error.get_or_insert_with(|| why.into());
        if self.verdict == Word::Pass {
            self.verdict = Word::Unknown;
        }
    }

    /// How often something was done.
    pub fn count(&self, key: &str) -> u64 {
        self.coverage.get(key).copied().unwrap_or_default()
    }

    /// Whether it was not even tried; what is left out says why.
    fn did_nothing(&self) -> bool {
        self.acked == 0 && !self.left_out.is_empty()
    }
}

/// How often what happened, by name. An event is `acked` once, however many answers and deliveries
/// there are of it; these have names of their own.
pub type Coverage = BTreeMap<String, u64>;

/// Counts what a record shows to have happened.
pub fn cover(coverage: &mut Coverage, record: &Record) {
    let key = match &record.what {
        What::Published { outcome: Outcome::Ok(place), .. } if place.duplicate => {
            "duplicate_answers"
        }
        What::Published { outcome: Outcome::Ok(_), .. } => "accepted_answers",
        What::Published { outcome: Outcome::Fail(code), .. } => {
            if code == "storage_failed" {
                *coverage.entry("refused_for_room".into()).or_default() += 1;
            }
            "refused_answers"
        }
        What::Published { outcome: Outcome::Unknown(_), .. } => "unknown_answers",
        What::Delivered { marked, .. } => {
            if *marked {
                *coverage.entry("deliveries_marked".into()).or_default() += 1;
            }
            "deliveries"
        }
        What::Settled { outcome: Outcome::Ok(()), .. } => "settled",
        What::Settled { .. } => "settlements_unconfirmed",
        What::Detached { .. } => "detached",
        What::Status { outcome: Outcome::Ok(view), .. } if view.linearizable => "statuses",
        What::StateHash { .. } => "hashes",
        What::Judged { judgement, seqs, .. } => {
            let key = match judgement {
                Judgement::Expired => "judged_expired",
                Judgement::Discarded => "judged_discarded",
            };
            *coverage.entry(key.into()).or_default() += seqs.len() as u64;
            return;
        }
        What::Damaged { .. } => "damaged",
        What::Fault { fault, stage: Stage::Begin, .. } => {
            *coverage.entry(format!("fault:{fault}")).or_default() += 1;
            return;
        }
        What::Note { key, count, .. } => {
            *coverage.entry(key.clone()).or_default() += count;
            return;
        }
        _ => return,
    };
    *coverage.entry(key.to_owned()).or_default() += 1;
}

/// Judges a run: any violation fails it; what it was to do and did not makes it unknown.
pub fn word(violations: &[Violation], coverage: &Coverage, required: &Coverage) -> Word {
    let did = |(key, least): (&String, &u64)| coverage.get(key).is_some_and(|count| count >= least);
    match violations {
        [_, ..] => Word::Fail,
        [] if required.iter().all(did) => Word::Pass,
        [] => Word::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_that_did_nothing_does_not_pass() {
        let required = Coverage::from([("leader_kills".into(), 2)]);
        let did = |count| Coverage::from([("leader_kills".to_string(), count)]);
        assert_eq!(word(&[], &did(2), &required), Word::Pass);
        assert_eq!(word(&[], &did(1), &required), Word::Unknown);
        assert_eq!(word(&[], &Coverage::new(), &required), Word::Unknown);
        let violation = Violation { invariant: "x".into(), at: 0, detail: String::new() };
        assert_eq!(word(&[violation], &did(2), &required), Word::Fail);
    }
}
