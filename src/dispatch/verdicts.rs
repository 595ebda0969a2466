//! What a proxy has to propose to the log, collected between two rounds.

use std::collections::BTreeMap;

use super::Settlement;
use crate::types::{Outcome, Seq, SeqRange, SeqRanges};

/// Settlements and attempts that wait to be proposed.
#[derive(Debug, Default)]
pub(super) struct Verdicts {
    acked: SeqRanges,
    /// By the definition of the proxy: filtered, expired or discarded.
    judged: BTreeMap<Outcome, SeqRanges>,
    /// By the earliest of its revisions, if there are such.
    judged_under: Option<u64>,
    /// By reason.
    dead: BTreeMap<String, SeqRanges>,
    /// One set for each command, since a command counts an event once. There is more than one only
    /// if an event failed again while nothing could be proposed.
    attempts: Vec<SeqRanges>,
}

impl Verdicts {
    pub fn ack(&mut self, range: SeqRange) {
        self.acked.insert_range(range);
    }

    /// This revision of the definition of the proxy says that these have ended so.
    pub fn judge(&mut self, range: SeqRange, outcome: Outcome, revision: u64) {
        self.judged_under = Some(self.judged_under.map_or(revision, |first| first.min(revision)));
        self.judged.entry(outcome).or_default().insert_range(range);
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
        match self.attempts.iter_mut().find(|set| !set.contains(seq)) {
            Some(set) => set.insert(seq),
            None => self.attempts.push(SeqRanges::from_iter([seq])),
        }
    }

    /// What waits to be settled, ranges of one kind after those of another.
    pub fn ranges(&self) -> impl Iterator<Item = SeqRange> + '_ {
        let others = self.judged.values().chain(self.dead.values());
        self.acked.iter().chain(others.flat_map(SeqRanges::iter))
    }

    /// How many ranges wait to be settled.
    pub fn range_count(&self) -> usize {
        let others = self.judged.values().chain(self.dead.values());
        self.acked.range_count() + others.map(SeqRanges::range_count).sum::<usize>()
    }

    pub fn is_empty(&self) -> bool {
        self.acked.is_empty()
            && self.judged.is_empty()
            && self.dead.is_empty()
            && self.attempts.is_empty()
    }

    /// How many ranges wait that the proxy does not want.
    pub fn filtered_ranges(&self) -> usize {
        self.judged.get(&Outcome::Filtered).map_or(0, SeqRanges::range_count)
    }

    /// Takes what the proxy does not want.
    pub fn take_filtered(&mut self) -> SeqRanges {
        let filtered = self.judged.remove(&Outcome::Filtered).unwrap_or_default();
        self.judged_under = self.judged_under.filter(|_| !self.judged.is_empty());
        filtered
    }

    /// Whether nothing waits to be settled but what the proxy does not want.
    pub fn only_filters(&self) -> bool {
        self.acked.is_empty()
            && self.dead.is_empty()
            && self.judged.keys().all(|outcome| *outcome == Outcome::Filtered)
    }

    /// Takes what is to be settled, and under which revision it was judged. Acks come first: they
    /// win over dead letters.
    pub fn take_settlements(&mut self) -> (Option<u64>, Vec<Settlement>) {
        let mut parts = Vec::new();
        let revision = self.judged_under.take();
        if !self.acked.is_empty() {
            let sequences = std::mem::take(&mut self.acked);
            parts.push(Settlement { outcome: Outcome::Acked, sequences, reason: String::new() });
        }
        for (outcome, sequences) in std::mem::take(&mut self.judged) {
            parts.push(Settlement { outcome, sequences, reason: String::new() });
        }
        for (reason, sequences) in std::mem::take(&mut self.dead) {
            parts.push(Settlement { outcome: Outcome::DeadLettered, sequences, reason });
        }
        (revision, parts)
    }

    /// Takes the attempts, a set for each command.
    pub fn take_attempts(&mut self) -> Vec<SeqRanges> {
        std::mem::take(&mut self.attempts)
    }

    /// Settlements taken before, judged under this revision, wait again.
    pub fn settle_again(&mut self, parts: &[Settlement], revision: u64) {
        for part in parts {
            for range in part.sequences.iter() {
                match part.outcome {
                    Outcome::Acked => self.ack(range),
                    Outcome::DeadLettered => self.bury(range, &part.reason),
                    judged => self.judge(range, judged, revision),
                }
            }
        }
    }

    /// Attempts taken before wait again.
    pub fn count_again(&mut self, sequences: &SeqRanges) {
        sequences.iter().flat_map(|range| range.first..=range.last).for_each(|seq| self.count(seq));
    }
}
