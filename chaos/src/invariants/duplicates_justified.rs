//! Duplicates are marked, and bounded by what justifies them.
//!
//! *Marked*: of all deliveries of an event to a consumer at most one is unmarked (it claims to be
//! the first, and not to be perhaps delivered before). Which of them a client reads first says
//! nothing: an unmarked one may have waited in a buffer while its lease ended.
//!
//! *Justified*: each further delivery needs a cause: a nack of the event, the end of a lease, a
//! settlement that was refused or whose outcome is unknown, a client that came or went, a change of
//! leadership; and while a fault is under way anything may break, any number of times. Causes count
//! from `delivery_lag` before the first delivery was recorded (the client may have been slow to
//! read) to `observe_lag` after the duplicate (an observer may be slow to notice), so a duplicate
//! without a cause is judged only then.
//!
//! *Limited*: where `max_deliveries` is set, it limits failed attempts: nacks, leases that ended,
//! broken connections. What came back otherwise (its client detached, its settlement failed, it
//! could not be read where a disk was damaged) may lift the number of a delivery beyond it.

use std::collections::{BTreeMap, HashMap, VecDeque};

use aqueduct::types::limits;

use super::rules::micros;
use super::{Invariant, Rules};
use crate::history::{NodeView, Outcome, Record, Stage, Verdict, What};
use crate::table::{Table, entry};

/// Duplicates that may wait for their cause; beyond it the oldest is judged early.
const WAITING: usize = 65_536;

pub(super) struct DuplicatesJustified {
    delivery_lag: u64,
    observe_lag: u64,
    repeats: u64,
    consumers: BTreeMap<String, Consumer>,
    cluster: Cluster,
    waiting: VecDeque<Duplicate>,
    figures: BTreeMap<&'static str, u64>,
}

/// Times of something, ascending.
#[derive(Default)]
struct Times(Vec<u64>);

impl Times {
    fn within(&self, from: u64, to: u64) -> u64 {
        let before = |limit| self.0.partition_point(|at| *at < limit) as u64;
        before(to.saturating_add(1)).saturating_sub(before(from))
    }
}

#[derive(Default)]
struct Consumer {
    max_deliveries: u64,
    ack_wait: u64,
    events: Table<Event>,
    nacks: HashMap<u64, u64>,
    /// A client came or went.
    moves: Times,
    /// A settlement did not certainly succeed.
    unsettled: Times,
}

/// What is known of an event at a consumer.
#[derive(Clone, Copy, Default, PartialEq)]
struct Event {
    /// When it was first delivered: milliseconds since the run began, plus 1.
    first: u32,
    deliveries: u16,
    unmarked: bool,
}

/// A delivery of an event delivered before.
struct Duplicate {
    consumer: String,
    seq: u64,
    at: u64,
    first: u64,
    repeats: u64,
}

/// What happens to all consumers.
#[derive(Default)]
struct Cluster {
    leadership: Times,
    term: u64,
    tenures: u64,
    lives: BTreeMap<u64, u64>,
    /// When faults were under way: from when to when.
    faults: Vec<(u64, u64)>,
    /// How many are.
    faulty: u64,
    damaged: bool,
}

impl Cluster {
    fn saw(&mut self, at: u64, node: u64, view: &NodeView) {
        let life = self.lives.insert(node, view.life).unwrap_or(view.life);
        let tenure = view.tenure.unwrap_or(0);
        if view.term > self.term || tenure > self.tenures || life != view.life {
            // A term may have come and gone between two looks.
            let terms = view.term.saturating_sub(self.term).clamp(1, 100);
            self.leadership.0.extend((0..terms).map(|_| at));
        }
        self.term = self.term.max(view.term);
        self.tenures = self.tenures.max(tenure);
    }

    fn fault(&mut self, at: u64, stage: Stage) {
        match stage {
            Stage::Begin if self.faulty == 0 => self.faults.push((at, u64::MAX)),
            Stage::End if self.faulty <= 1 => {
                if let Some((_, to)) = self.faults.last_mut() {
                    *to = at;
                }
            }
            _ => {}
        }
        self.faulty = match stage {
            Stage::Begin => self.faulty + 1,
            Stage::End => self.faulty.saturating_sub(1),
        };
    }

    fn was_faulty(&self, from: u64, to: u64) -> bool {
        let ended = self.faults.partition_point(|(_, end)| *end < from);
        self.faults.get(ended).is_some_and(|(begin, _)| *begin <= to)
    }
}

impl DuplicatesJustified {
    pub fn new(rules: &Rules) -> DuplicatesJustified {
        DuplicatesJustified {
            delivery_lag: micros(rules.delivery_lag),
            observe_lag: micros(rules.observe_lag),
            repeats: rules.repeats_per_cause,
            consumers: BTreeMap::new(),
            cluster: Cluster::default(),
            waiting: VecDeque::new(),
            figures: BTreeMap::new(),
        }
    }

    fn count(&mut self, figure: &'static str) {
        *self.figures.entry(figure).or_default() += 1;
    }

    fn delivered(
        &mut self,
        at: u64,
        name: &str,
        seq: u64,
        delivery: u32,
        unmarked: bool,
    ) -> Result<(), String> {
        let consumer = entry(&mut self.consumers, name);
        let slot = consumer.events.slot(seq);
        let before = *slot;
        if before.first == 0 {
            slot.first = u32::try_from(at / 1000 + 1).unwrap_or(u32::MAX);
        }
        slot.deliveries = before.deliveries.saturating_add(1);
        slot.unmarked |= unmarked;
        let (first, repeats) = (u64::from(slot.first - 1) * 1000, u64::from(before.deliveries));
        if repeats > 0 {
            self.count("duplicates");
            let duplicate = Duplicate { consumer: name.into(), seq, at, first, repeats };
            match self.cause(&duplicate) {
                Some(cause) => self.count(cause),
                None => self.waiting.push_back(duplicate),
            }
        }
        if before.unmarked && unmarked {
            self.count("duplicates_unmarked");
            return Err(format!("{name} got seq {seq} twice, and neither is marked"));
        }
        self.check_limit(at, name, seq, delivery, first)
    }

    fn check_limit(
        &self,
        at: u64,
        name: &str,
        seq: u64,
        delivery: u32,
        first: u64,
    ) -> Result<(), String> {
        let Some(consumer) = self.consumers.get(name) else { return Ok(()) };
        if consumer.max_deliveries == 0 || u64::from(delivery) <= consumer.max_deliveries {
            return Ok(());
        }
        let from = first.saturating_sub(self.delivery_lag);
        let returned = consumer.moves.within(from, at) + consumer.unsettled.within(from, at);
        let unread = (at - from) / (limits::UNREADABLE_RETRY_MS * 1000);
        let allowed =
            consumer.max_deliveries + returned + if self.cluster.damaged { unread } else { 0 };
        if u64::from(delivery) <= allowed {
            return Ok(());
        }
        Err(format!(
            "{name} got seq {seq} as delivery {delivery}, with at most {} and {returned} returns",
            consumer.max_deliveries
        ))
    }

    /// What justifies a duplicate, if enough does so far.
    fn cause(&self, duplicate: &Duplicate) -> Option<&'static str> {
        let consumer = self.consumers.get(&duplicate.consumer)?;
        let from = duplicate.first.saturating_sub(self.delivery_lag);
        let to = duplicate.at.saturating_add(self.observe_lag);
        let leases = (duplicate.at - from).checked_div(consumer.ack_wait).unwrap_or(0);
        let causes = [
            ("duplicates_nacked", consumer.nacks.get(&duplicate.seq).copied().unwrap_or(0)),
            ("duplicates_unsettled", consumer.unsettled.within(from, to)),
            ("duplicates_leadership", self.cluster.leadership.within(from, to)),
            ("duplicates_clients", consumer.moves.within(from, to)),
            ("duplicates_leases", leases),
        ];
        let enough = causes.iter().map(|(_, times)| times).sum::<u64>() * self.repeats;
        if duplicate.repeats <= enough {
            return causes.iter().find(|(_, times)| *times > 0).map(|(name, _)| *name);
        }
        self.cluster.was_faulty(from, to).then_some("duplicates_faults")
    }

    /// Judges the duplicates whose cause should have been seen by now; says what is wrong with the
    /// first.
    fn judge(&mut self, now: u64) -> Option<String> {
        while let Some(oldest) = self.waiting.front() {
            let due = oldest.at.saturating_add(self.observe_lag) < now;
            if !due && self.waiting.len() <= WAITING {
                break;
            }
            let oldest = self.waiting.pop_front()?;
            match self.cause(&oldest) {
                Some(cause) => self.count(cause),
                None => {
                    self.count("duplicates_unjustified");
                    let Duplicate { consumer, seq, at, first, repeats } = oldest;
                    let (at, first) = (at / 1000, first / 1000);
                    return Some(format!(
                        "{consumer} got seq {seq} again at {at} ms (repeat {repeats}; first at \
                         {first} ms), and nothing justifies it"
                    ));
                }
            }
        }
        None
    }
}

impl Invariant for DuplicatesJustified {
    fn name(&self) -> &'static str {
        "duplicates-justified"
    }

    fn judges(&self, what: &What) -> bool {
        matches!(what, What::Delivered { .. })
    }

    fn observe(&mut self, record: &Record) -> Result<(), String> {
        let at = record.at;
        match &record.what {
            What::Subscribed { consumer, max_deliveries, ack_wait_ms, .. } => {
                let consumer = entry(&mut self.consumers, consumer);
                consumer.max_deliveries = u64::from(max_deliveries.unwrap_or(0));
                consumer.ack_wait = ack_wait_ms * 1000;
            }
            What::Attached { consumer } | What::Detached { consumer, .. } => {
                entry(&mut self.consumers, consumer).moves.0.push(at);
            }
            What::Settle { consumer, seqs, verdict: Verdict::Nack } => {
                let nacks = &mut entry(&mut self.consumers, consumer).nacks;
                seqs.iter().for_each(|seq| *nacks.entry(*seq).or_default() += 1);
            }
            // What was judged under the definition before goes again, as one more delivery.
            What::Redefine { consumer, .. }
            | What::Settled { consumer, outcome: Outcome::Fail(_) | Outcome::Unknown(_), .. } => {
                entry(&mut self.consumers, consumer).unsettled.0.push(at);
            }
            What::Node { node, view } => self.cluster.saw(at, *node, view),
            What::Fault { stage, .. } => self.cluster.fault(at, *stage),
            What::Damaged { .. } => self.cluster.damaged = true,
            What::Delivered { consumer, seq, delivery, marked, .. } => {
                let unmarked = *delivery <= 1 && !marked;
                self.delivered(at, consumer, *seq, *delivery, unmarked)?;
            }
            _ => {}
        }
        self.judge(at).map_or(Ok(()), Err)
    }

    fn finish(&mut self, _drained: bool) -> Vec<String> {
        std::iter::from_fn(|| self.judge(u64::MAX)).collect()
    }

    fn figures(&self) -> Vec<(&'static str, u64)> {
        let mut figures = BTreeMap::from([("duplicates", 0), ("duplicates_unmarked", 0)]);
        figures.extend(&self.figures);
        figures.into_iter().collect()
    }
}

#[cfg(test)]
mod tests;
