//! What a proxy has to propose to the log, collected between two rounds.

use std::collections::BTreeMap;

use super::{Action, ProxyFacts, Settlement};
use crate::types::{Outcome, ProxyId, Seq, SeqRange, SeqRanges};

/// Settlements and attempts not yet handed to the driver.
#[derive(Debug, Default)]
pub(super) struct Verdicts {
    acked: SeqRanges,
    /// By reason.
    dead: BTreeMap<String, SeqRanges>,
    attempts: SeqRanges,
}

impl Verdicts {
    pub fn ack(&mut self, range: SeqRange) {
        self.acked.insert_range(range);
    }

    pub fn bury(&mut self, range: SeqRange, reason: &str) {
        match self.dead.get_mut(reason) {
            Some(ranges) => ranges.insert_range(range),
            None => {
                self.dead.insert(reason.to_owned(), SeqRanges::from_iter([range]));
            }
        }
    }

    /// Puts one failed attempt on record.
    pub fn count(&mut self, seq: Seq) {
        self.attempts.insert(seq);
    }

    /// What of `range` waits to be settled.
    pub fn overlap(&self, range: SeqRange) -> impl Iterator<Item = SeqRange> + '_ {
        let dead = self.dead.values().flat_map(move |set| set.overlap(range));
        self.acked.overlap(range).chain(dead)
    }

    pub fn is_empty(&self) -> bool {
        self.acked.is_empty() && self.dead.is_empty() && self.attempts.is_empty()
    }

    /// Hands everything to the driver. Acks come first: they win over dead letters.
    pub fn flush(&mut self, proxy: ProxyId, facts: &ProxyFacts, out: &mut Vec<Action>) {
        let mut parts = Vec::new();
        if !self.acked.is_empty() {
            let sequences = std::mem::take(&mut self.acked);
            parts.push(Settlement { outcome: Outcome::Acked, sequences, reason: String::new() });
        }
        for (reason, sequences) in std::mem::take(&mut self.dead) {
            parts.push(Settlement { outcome: Outcome::DeadLettered, sequences, reason });
        }
        if !parts.is_empty() {
            out.push(Action::Settle { proxy, revision: facts.revision, parts });
        }
        if !self.attempts.is_empty() {
            let sequences = std::mem::take(&mut self.attempts);
            out.push(Action::CountAttempts { proxy, sequences });
        }
    }
}
