//! A lane: one supplier's numbered stream of publishes, and what became of the latest of them.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::fact::{self, Kind, Sum};
use super::{PublishRun, Published};
use crate::types::{ChannelId, LaneId, Name, Opener, Qos, Rejection, Seq, Stamp, limits};

/// Consecutive lane sequences with a common fate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Run {
    first_sequence: u64,
    count: u64,
    /// Channel sequence of the first; `None`: they were skipped.
    first_seq: Option<Seq>,
}

impl Run {
    fn next_sequence(&self) -> u64 {
        self.first_sequence.saturating_add(self.count)
    }

    /// Results it stands for. A skip is one result, however long.
    fn weight(&self) -> u64 {
        if self.first_seq.is_some() { self.count } else { 1 }
    }

    /// Whether `other` continues this run, in the lane and in the channel.
    fn continues_in(&self, other: &Run) -> bool {
        let seq = match (self.first_seq, other.first_seq) {
            (Some(seq), Some(next)) => seq.checked_add(self.count) == Some(next),
            (None, None) => true,
            _ => false,
        };
        seq && self.next_sequence() == other.first_sequence
    }
}

/// A lane of a channel.
///
/// - It has one user at a time: whoever opened it last, under the epoch that this began.
/// - Sequences below `next_sequence` were accepted or skipped; that one and later ones were not.
/// - At least the last [`limits::LANE_IN_FLIGHT_MAX`] results are remembered, as runs, adjacent
///   and ascending up to `next_sequence`. What lies before them was accepted, its place forgotten.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Lane {
    id: LaneId,
    channel: ChannelId,
    name: Option<Name>,
    admin: Name,
    pub(super) qos: Qos,
    pub(super) suspended: bool,
    epoch: u32,
    /// Who opened it last.
    opener: Opener,
    /// The epoch since which only that client has opened it.
    held_since: u32,
    pub(super) last_used: Stamp,
    pub(super) next_sequence: u64,
    pub(super) runs: VecDeque<Run>,
    #[serde(skip)]
    pub(super) remembered: u64,
    #[serde(skip)]
    pub(super) sum: Sum,
}

impl Lane {
    /// A lane that `opener` opens first.
    pub(super) fn new(
        id: LaneId,
        (channel, admin): (ChannelId, Name),
        name: Option<Name>,
        opener: Opener,
        now: Stamp,
    ) -> Lane {
        Lane {
            id,
            channel,
            name,
            admin,
            qos: Qos::default(),
            suspended: false,
            epoch: 1,
            opener,
            held_since: 1,
            last_used: now,
            next_sequence: 1,
            runs: VecDeque::new(),
            remembered: 0,
            sum: Sum::default(),
        }
    }

    pub fn id(&self) -> LaneId {
        self.id
    }

    pub fn channel(&self) -> ChannelId {
        self.channel
    }

    pub fn name(&self) -> Option<&Name> {
        self.name.as_ref()
    }

    /// The supplier admin it is of, as long as it lives.
    pub fn admin(&self) -> &Name {
        &self.admin
    }

    /// What is set for it alone.
    pub fn qos(&self) -> &Qos {
        &self.qos
    }

    /// Whether it is suspended itself; its admin may be, too.
    pub fn is_suspended(&self) -> bool {
        self.suspended
    }

    /// Only publishes of this epoch are taken.
    pub fn epoch(&self) -> u32 {
        self.epoch
    }

    /// Who opened it last.
    pub fn opener(&self) -> Opener {
        self.opener
    }

    /// The epoch since which only that client has opened it.
    pub fn held_since(&self) -> u32 {
        self.held_since
    }

    /// The lane sequence expected next.
    pub fn next_sequence(&self) -> u64 {
        self.next_sequence
    }

    /// When it was opened or published on last.
    pub fn last_used(&self) -> Stamp {
        self.last_used
    }

    /// Whether it has been idle for [`limits::LANE_IDLE_MS`] at `now`.
    pub fn is_idle(&self, now: Stamp) -> bool {
        self.last_used.plus_millis(limits::LANE_IDLE_MS) <= now
    }

    /// `opener` opens it again under `epoch`, a later one: everybody else is fenced.
    pub(super) fn reopen(&mut self, epoch: u32, opener: Opener, now: Stamp) {
        if opener.client != self.opener.client {
            self.held_since = epoch;
        }
        self.epoch = epoch;
        self.opener = opener;
        self.last_used = now;
    }

    /// Takes note that the next `count` sequences were accepted from `first_seq` on.
    pub(super) fn accepted(&mut self, count: u64, first_seq: Seq) {
        self.push(Run { first_sequence: self.next_sequence, count, first_seq: Some(first_seq) });
    }

    /// Continues after `through`, which lies below `u64::MAX`; does nothing if it is already past.
    pub(super) fn skip(&mut self, through: u64) {
        if through >= self.next_sequence {
            let count = through - self.next_sequence + 1;
            self.push(Run { first_sequence: self.next_sequence, count, first_seq: None });
        }
    }

    fn push(&mut self, run: Run) {
        if run.count == 0 {
            return;
        }
        self.next_sequence = run.next_sequence();
        match self.runs.back_mut() {
            Some(last) if last.continues_in(&run) => {
                self.sum.remove(run_fact(self.id, last));
                self.remembered -= last.weight();
                last.count = last.count.saturating_add(run.count);
            }
            _ => self.runs.push_back(run),
        }
        if let Some(last) = self.runs.back() {
            self.sum.add(run_fact(self.id, last));
            self.remembered += last.weight();
        }
        while let Some(oldest) = self.runs.front()
            && self.remembered - oldest.weight() >= limits::LANE_IN_FLIGHT_MAX as u64
        {
            self.sum.remove(run_fact(self.id, oldest));
            self.remembered -= oldest.weight();
            self.runs.pop_front();
        }
    }

    /// Unlearns what became of the last sequence.
    pub(super) fn forget_last(&mut self) {
        if let Some(last) = self.runs.back_mut() {
            last.count -= 1;
            self.next_sequence -= 1;
            self.runs.retain(|run| run.count > 0);
            self.resum();
        }
    }

    /// Answers repeated sequences `first..first + count`, all below the expected one. Repeats of
    /// skipped sequences are refused: they never were accepted.
    pub(super) fn repeat(&self, first: u64, count: u32, answer: &mut Published) {
        let end = first.saturating_add(u64::from(count));
        let mut sequence = first;
        let mut at = self.runs.partition_point(|run| run.next_sequence() <= first);
        while sequence < end {
            let run = self.runs.get(at).copied().unwrap_or(Run {
                first_sequence: end,
                count: 0,
                first_seq: None,
            });
            if sequence < run.first_sequence {
                let until = end.min(run.first_sequence);
                answer.runs.push(duplicate(sequence, until, 0));
                sequence = until;
                continue;
            }
            let Some(first_seq) = run.first_seq else {
                answer.refused = Some(Rejection::out_of_sequence(sequence, self.next_sequence));
                return;
            };
            let until = end.min(run.next_sequence());
            let seq = first_seq + (sequence - run.first_sequence);
            answer.runs.push(duplicate(sequence, until, seq));
            sequence = until;
            at += 1;
        }
    }

    /// Hash of all facts, from the kept sum.
    pub(super) fn hash(&self) -> u64 {
        let definition =
            (self.id, self.channel, &self.name, &self.admin, &self.qos, self.suspended);
        let progress = [
            self.id.index,
            u64::from(self.id.position),
            u64::from(self.epoch),
            self.opener.client,
            self.opener.attempt,
            u64::from(self.held_since),
            self.last_used.0,
            self.next_sequence,
        ];
        self.sum
            .value()
            .wrapping_add(fact::of_value(Kind::LaneDefinition, &definition))
            .wrapping_add(fact::of_words(Kind::LaneProgress, progress))
    }

    /// Computes what is kept beside the runs anew, as after decoding.
    pub(super) fn resum(&mut self) {
        self.remembered = self.runs.iter().fold(0, |n, run| n.saturating_add(run.weight()));
        self.sum = self.runs.iter().map(|run| run_fact(self.id, run)).collect();
    }
}

fn duplicate(first: u64, until: u64, first_seq: Seq) -> PublishRun {
    PublishRun { first_sequence: first, count: (until - first) as u32, first_seq, duplicate: true }
}

fn run_fact(lane: LaneId, run: &Run) -> u64 {
    // Channel sequences begin at 1, so 0 is free to mean skipped.
    let seq = run.first_seq.unwrap_or(0);
    let position = u64::from(lane.position);
    fact::of_words(Kind::LaneRun, [lane.index, position, run.first_sequence, run.count, seq])
}
