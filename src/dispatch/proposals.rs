//! From a verdict to what became of it: a proxy's proposals.
//!
//! Verdicts wait for the end of a round, or of a pause; then they are proposed, and remembered
//! until the driver reports. What was refused for now goes back to those that wait, so there is one
//! proposal of a kind per pause, however much is refused.

use std::collections::BTreeMap;

use super::pause::Pause;
use super::queue::Queue;
use super::verdicts::Verdicts;
use super::{Action, Settlement};
use crate::types::{Outcome, ProxyId, SeqRange, SeqRanges, Stamp};

/// What was proposed.
#[derive(Debug)]
enum Proposal {
    Settle {
        /// Of the definition that it was judged under.
        revision: u64,
        /// The token of the holder who said it.
        fencing: u64,
        parts: Vec<Settlement>,
    },
    Count(SeqRanges),
}

impl Proposal {
    /// Whether it says that events have ended without their consumer.
    fn judges(&self) -> bool {
        let parts = if let Proposal::Settle { parts, .. } = self { parts.as_slice() } else { &[] };
        parts.iter().any(|part| is_judgement(part.outcome))
    }

    /// What it settles.
    fn ranges(&self) -> impl Iterator<Item = SeqRange> + '_ {
        let parts = if let Proposal::Settle { parts, .. } = self { parts.as_slice() } else { &[] };
        parts.iter().flat_map(|part| part.sequences.iter())
    }
}

/// The proposals of a proxy that nothing was heard of yet, and when it may make more.
#[derive(Debug, Default)]
pub(super) struct Proposals {
    under_way: BTreeMap<u64, Proposal>,
    latest: u64,
    pub pause: Pause,
}

impl Proposals {
    pub fn is_empty(&self) -> bool {
        self.under_way.is_empty()
    }

    /// What they settle.
    pub fn ranges(&self) -> impl Iterator<Item = SeqRange> + '_ {
        self.under_way.values().flat_map(Proposal::ranges)
    }

    /// Hands everything that waits to the driver. Attempts come first: once an event is settled
    /// they would not count. They were judged under this revision, and said under this token.
    pub fn make(
        &mut self,
        verdicts: &mut Verdicts,
        proxy: ProxyId,
        (revision, fencing): (u64, u64),
        out: &mut Vec<Action>,
    ) {
        self.make_attempts(verdicts, proxy, out);
        let parts = verdicts.take_settlements();
        if !parts.is_empty() {
            let said = Proposal::Settle { revision, fencing, parts: parts.clone() };
            let proposal = self.launch(said);
            out.push(Action::Settle { proxy, proposal, revision, fencing, parts });
        }
    }

    /// The same for attempts alone.
    pub fn make_attempts(
        &mut self,
        verdicts: &mut Verdicts,
        proxy: ProxyId,
        out: &mut Vec<Action>,
    ) {
        for sequences in verdicts.take_attempts() {
            let proposal = self.launch(Proposal::Count(sequences.clone()));
            out.push(Action::CountAttempts { proxy, proposal, sequences });
        }
    }

    fn launch(&mut self, proposal: Proposal) -> u64 {
        self.latest += 1;
        self.under_way.insert(self.latest, proposal);
        self.latest
    }

    fn land(&mut self, proposal: u64) -> Option<Proposal> {
        self.under_way.remove(&proposal)
    }
}

/// Whether an outcome is decided by the definition of the proxy, and not by its consumer.
fn is_judgement(outcome: Outcome) -> bool {
    matches!(outcome, Outcome::Expired | Outcome::Discarded | Outcome::Filtered)
}

/// What the driver reports of proposals.
impl Queue {
    /// The facts say what it said, or what had been said before. `stale`: but for judgements made
    /// under an earlier definition, which did not count.
    pub fn applied(&mut self, proposal: u64, stale: bool, now: Stamp) {
        let Some(applied) = self.proposals.land(proposal) else { return };
        self.proposals.pause.shorten();
        let Proposal::Settle { parts, .. } = applied else { return };
        let counts = |part: &Settlement| !stale || !is_judgement(part.outcome);
        let (said, lost): (Vec<_>, Vec<_>) = parts.into_iter().partition(counts);
        said.iter().for_each(|part| self.settled(&part.sequences));
        self.lose(lost, now);
    }

    /// It is in no log: what it said is said again after a pause. False if it is unknown, or was said
    /// under a token that is not the current one any more: then it is over.
    pub fn refused(&mut self, proposal: u64, now: Stamp) -> bool {
        let Some(refused) = self.proposals.land(proposal) else { return false };
        match refused {
            Proposal::Settle { fencing, parts, .. } if fencing != self.facts.fencing => {
                self.lose(parts, now);
                return false;
            }
            Proposal::Settle { revision, parts, .. } => {
                let old = revision != self.facts.revision;
                let unfit = |part: &Settlement| old && part.outcome == Outcome::Filtered;
                let (lost, again): (Vec<_>, Vec<_>) = parts.into_iter().partition(unfit);
                self.verdicts.settle_again(&again);
                self.lose(lost, now);
                self.sieve.press();
            }
            Proposal::Count(sequences) => self.verdicts.count_again(&sequences),
        }
        self.proposals.pause.start(now);
        true
    }

    /// It did not make it, or nobody knows: what of it is still pending goes again, but for what
    /// another verdict of the proxy settles. What was judged is judged again, after a pause. An
    /// exhausted event must not go again: it is buried again.
    pub fn failed(&mut self, proposal: u64, now: Stamp) {
        let Some(failed) = self.proposals.land(proposal) else { return };
        if failed.judges() {
            // It is judged again at once, and would fail again at once.
            self.proposals.pause.start(now);
        }
        if let Proposal::Settle { parts, .. } = failed {
            self.lose(parts, now);
        }
    }

    /// Nothing has come of these settlements. Whether an event is wanted is asked again.
    fn lose(&mut self, parts: Vec<Settlement>, now: Stamp) {
        let filters = |part: &Settlement| part.outcome == Outcome::Filtered;
        let (filtered, others): (Vec<_>, Vec<_>) = parts.into_iter().partition(filters);
        let ranges = |parts: &[Settlement]| -> SeqRanges {
            parts.iter().flat_map(|part| part.sequences.iter()).collect()
        };
        self.give_back(ranges(&others), now);
        self.reconsider(ranges(&filtered));
    }

    /// No settlement of these has come of a proposal.
    fn give_back(&mut self, mut lost: SeqRanges, now: Stamp) {
        self.verdicts.ranges().for_each(|range| lost.remove_range(range));
        self.proposals.ranges().for_each(|range| lost.remove_range(range));
        let spent: Vec<SeqRange> =
            lost.iter().flat_map(|range| self.exhausted.overlap(range)).collect();
        for range in spent {
            lost.remove_range(range);
            self.exhaust(range);
            self.proposals.pause.start(now);
        }
        lost.iter().for_each(|range| self.go_again(range));
        // What had ended has still ended, whether a consumer comes or not.
        lost.iter().for_each(|range| self.given_back.insert_range(range));
    }
}
