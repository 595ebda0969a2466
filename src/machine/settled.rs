//! Which of a proxy's events have come to an end, and how.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::fact::{self, Kind, Sum};
use super::sequences::SeqSet;
use crate::planted::{Bug, planted};
use crate::types::{Counts, Outcome, ProxyId, Seq, SeqRange};

/// An end of a run of events that ended alike.
#[derive(Debug, Clone, Copy)]
enum Border {
    First = 0,
    Last = 1,
}

/// The settled events of one proxy.
///
/// - Everything below `floor` is settled; above it, exactly the members of `above`. `floor` itself
///   never is.
/// - The winner of a settled event is known while it lies above the floor: `acked` unless a set in
///   `others` has it. Below the floor only the counters remember.
/// - Above the floor the facts are the borders of runs of one outcome: a run costs as much as one
///   event.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Settled {
    proxy: ProxyId,
    floor: Seq,
    counts: Counts,
    above: SeqSet,
    others: BTreeMap<Outcome, SeqSet>,
    #[serde(skip)]
    sum: Sum,
}

impl Settled {
    pub fn new(proxy: ProxyId, floor: Seq) -> Settled {
        Settled {
            proxy,
            floor,
            counts: Counts::default(),
            above: SeqSet::default(),
            others: BTreeMap::new(),
            sum: Sum::default(),
        }
    }

    /// The first unsettled sequence, or the next one to come.
    pub fn floor(&self) -> Seq {
        self.floor
    }

    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// How many events above the floor are settled.
    pub fn above_count(&self) -> u64 {
        self.above.len()
    }

    pub fn is_settled(&self, seq: Seq) -> bool {
        seq < self.floor || self.above.contains(seq)
    }

    /// The first unsettled range that ends at or after `from`, cut to `from..=last`.
    pub fn unsettled_from(&self, from: Seq, last: Seq) -> Option<SeqRange> {
        let mut first = from.max(self.floor);
        if self.above.contains(first) {
            first = self.above.run_from(first)?.last.checked_add(1)?;
        }
        if first >= last {
            return (first == last).then_some(SeqRange::one(first));
        }
        let last = self.above.run_from(first).map_or(last, |settled| last.min(settled.first - 1));
        Some(SeqRange { first, last })
    }

    /// The last unsettled sequence at or before `upto`.
    pub fn last_unsettled(&self, upto: Seq) -> Option<Seq> {
        let mut seq = upto;
        while self.above.contains(seq) {
            seq -= 1;
        }
        (seq >= self.floor).then_some(seq)
    }

    /// The unsettled ranges in `first..=last`, ascending.
    pub fn unsettled(&self, first: Seq, last: Seq) -> impl Iterator<Item = SeqRange> + '_ {
        let mut from = Some(first);
        std::iter::from_fn(move || {
            let range = self.unsettled_from(from?, last)?;
            from = range.last.checked_add(1);
            Some(range)
        })
    }

    /// How the settled range `first..=last` ended, piece by piece.
    pub fn winners(&self, range: SeqRange) -> Vec<(SeqRange, Option<Outcome>)> {
        let mut pieces = Vec::new();
        let mut first = range.first;
        if first < self.floor {
            let last = range.last.min(self.floor - 1);
            pieces.push((SeqRange { first, last }, None));
            first = self.floor;
        }
        while first <= range.last {
            let (outcome, last) = self.winner_run(first, range.last);
            pieces.push((SeqRange { first, last }, Some(outcome)));
            let Some(next) = last.checked_add(1) else { break };
            first = next;
        }
        pieces
    }

    /// How `first`, above the floor, ended, and the last sequence up to `last` that ended so too.
    fn winner_run(&self, first: Seq, last: Seq) -> (Outcome, Seq) {
        let mut end = last;
        for (outcome, set) in &self.others {
            match set.run_from(first) {
                Some(run) if run.first == first => return (*outcome, run.last.min(last)),
                Some(run) => end = end.min(run.first - 1),
                None => {}
            }
        }
        (Outcome::Acked, end)
    }

    /// Settles a range that is wholly unsettled.
    pub fn settle(&mut self, range: SeqRange, outcome: Outcome) {
        self.counts.add(outcome, range.len());
        if range.first == self.floor {
            self.floor = range.last + 1;
            self.absorb();
            return;
        }
        self.add_borders(range, outcome);
        self.above.insert(range);
        if outcome == Outcome::Expired && planted(Bug::ExpiredTwice) {
            self.counts.add(outcome, range.len());
        }
        if outcome != Outcome::Acked {
            self.others.entry(outcome).or_default().insert(range);
        }
    }

    /// Counts the borders in of a run that is about to be settled: where it meets runs that ended
    /// alike, theirs go.
    fn add_borders(&mut self, range: SeqRange, outcome: Outcome) {
        let SeqRange { first, last } = range;
        match first.checked_sub(1).filter(|before| self.ended_as(*before, outcome)) {
            Some(before) => self.sum.remove(self.border(before, outcome, Border::Last)),
            None => self.sum.add(self.border(first, outcome, Border::First)),
        }
        match last.checked_add(1).filter(|after| self.ended_as(*after, outcome)) {
            Some(after) => self.sum.remove(self.border(after, outcome, Border::First)),
            None => self.sum.add(self.border(last, outcome, Border::Last)),
        }
    }

    /// Whether it lies above the floor and ended so.
    fn ended_as(&self, seq: Seq, outcome: Outcome) -> bool {
        self.above.contains(seq) && self.winner_run(seq, seq).0 == outcome
    }

    /// Moves the floor over what is settled right above it.
    fn absorb(&mut self) {
        if !self.above.contains(self.floor) {
            return;
        }
        let Some(run) = self.above.run_from(self.floor) else { return };
        let mut first = run.first;
        while first <= run.last {
            let (outcome, last) = self.winner_run(first, run.last);
            self.sum.remove(self.border(first, outcome, Border::First));
            self.sum.remove(self.border(last, outcome, Border::Last));
            if planted(Bug::SettledTwice) {
                self.counts.add(outcome, last - first + 1);
            }
            first = last + 1;
        }
        self.above.remove(run);
        self.others.retain(|_, set| {
            set.remove(run);
            !set.is_empty()
        });
        self.floor = run.last + 1;
    }

    fn border(&self, seq: Seq, outcome: Outcome, border: Border) -> u64 {
        fact::of_words(Kind::Settled, [self.proxy.0, seq, outcome as u64, border as u64])
    }

    /// Hash of the floor and the counters.
    fn progress_fact(&self) -> u64 {
        let [a, b, c, d, e, f] = Outcome::ALL.map(|outcome| self.counts.get(outcome));
        fact::of_words(Kind::ProxyProgress, [self.proxy.0, self.floor, a, b, c, d, e, f])
    }

    /// Hash of all facts, from the kept sum.
    pub fn hash(&self) -> u64 {
        self.progress_fact().wrapping_add(self.sum.value())
    }

    /// Whether decoded sets are of a shape that this code can have written.
    pub fn is_sound(&self, proxy: ProxyId) -> bool {
        let apart = self.others.iter().all(|(outcome, set)| {
            let mut later = self.others.range(outcome..).skip(1);
            later.all(|(_, other)| set.is_disjoint(other))
        });
        let above_floor = self.above.run_from(0).is_none_or(|run| self.floor < run.first);
        let within = self.others.values().all(|set| set.is_subset(&self.above));
        self.proxy == proxy && self.floor > 0 && above_floor && within && apart
    }

    /// Computes the kept sum anew, as after decoding.
    pub fn resum(&mut self) {
        let mut sum = Sum::default();
        let mut from = Some(0);
        while let Some(run) = from.and_then(|from| self.above.run_from(from)) {
            let (outcome, last) = self.winner_run(run.first, run.last);
            sum.add(self.border(run.first, outcome, Border::First));
            sum.add(self.border(last, outcome, Border::Last));
            from = last.checked_add(1);
        }
        self.sum = sum;
    }
}
