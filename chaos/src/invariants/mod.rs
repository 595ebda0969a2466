//! What must hold in every history, one file each.
//!
//! An invariant sees records in order and says at once what is wrong; what can only be judged at
//! the end it judges there. It keeps no more than it needs: histories have millions of records.
//!
//! Records lag behind what they tell: a client records a delivery when it reads it, an observer a
//! change of leadership when it asks next. Invocations are recorded before they are made, outcomes
//! after they are known; each invariant concludes only what follows from that, and says how.

mod ack_settled;
mod acknowledged_kept;
mod cleared_after_removal;
mod committed_immutable;
mod damaged_stays_out;
mod definitions;
mod duplicates_justified;
mod explicit_outcome;
mod judged_rightly;
mod lane_once;
mod ledger_exact;
mod no_client_starves;
mod not_stuck;
mod nothing_invented;
mod one_leader;
mod one_sequence;
mod order_at_dequeue;
mod publishes;
mod resources_bounded;
mod rules;
mod sound_stays_in;
mod states_agree;
mod status_linearizable;
mod stored_whole;
mod suspended_silent;
mod within_its_time;

#[cfg(test)]
mod testing;

pub use rules::Rules;

use crate::history::{Record, What};
use crate::verdict::{Coverage, Violation};

/// Violations kept of one invariant; the rest is counted.
const KEPT_EACH: u64 = 10;
/// Violations kept in all.
const KEPT: usize = 100;

/// One thing that must hold.
pub trait Invariant: Send {
    /// Its name in verdicts: short, lower case, with dashes.
    fn name(&self) -> &'static str;

    /// Whether this is what it is about: a history without any is none it can say something of.
    fn judges(&self, what: &What) -> bool;

    /// Looks at the next record; `Err` says what is wrong with it.
    fn observe(&mut self, record: &Record) -> Result<(), String>;

    /// Judges what can only be judged at the end. `drained`: the run ended healed and with every
    /// consumer given the time to settle everything.
    fn finish(&mut self, drained: bool) -> Vec<String> {
        let _ = drained;
        Vec::new()
    }

    /// What it counted, for the report. Asked after [`Invariant::finish`].
    fn figures(&self) -> Vec<(&'static str, u64)> {
        Vec::new()
    }
}

/// All invariants.
pub fn all(rules: &Rules) -> Vec<Box<dyn Invariant>> {
    vec![
        Box::new(acknowledged_kept::AcknowledgedKept::default()),
        Box::new(nothing_invented::NothingInvented::default()),
        Box::new(ack_settled::AckSettled::new(rules)),
        Box::new(duplicates_justified::DuplicatesJustified::new(rules)),
        Box::new(order_at_dequeue::OrderAtDequeue::default()),
        Box::new(within_its_time::WithinItsTime::default()),
        Box::new(suspended_silent::SuspendedSilent::default()),
        Box::new(judged_rightly::JudgedRightly::new(rules)),
        Box::new(one_sequence::OneSequence::default()),
        Box::new(lane_once::LaneOnce::default()),
        Box::new(ledger_exact::LedgerExact::default()),
        Box::new(states_agree::StatesAgree::default()),
        Box::new(one_leader::OneLeader::default()),
        Box::new(committed_immutable::CommittedImmutable::new(rules)),
        Box::new(status_linearizable::StatusLinearizable::default()),
        Box::new(stored_whole::StoredWhole::default()),
        Box::new(damaged_stays_out::DamagedStaysOut::new(rules)),
        Box::new(cleared_after_removal::ClearedAfterRemoval::default()),
        Box::new(sound_stays_in::SoundStaysIn::default()),
        Box::new(not_stuck::NotStuck::new(rules)),
        Box::new(no_client_starves::NoClientStarves::new(rules)),
        Box::new(explicit_outcome::ExplicitOutcome::default()),
        Box::new(resources_bounded::ResourcesBounded::new(rules)),
    ]
}

/// The names of all invariants.
pub fn names() -> Vec<&'static str> {
    all(&Rules::default()).iter().map(|one| one.name()).collect()
}

/// Judges a history as it happens, or as it is read.
pub struct Judge {
    invariants: Vec<Judged>,
    violations: Vec<Violation>,
    at: u64,
}

/// One invariant, and what it met with.
struct Judged {
    one: Box<dyn Invariant>,
    /// How often it was broken.
    broken: u64,
    /// Whether it had anything to look at.
    saw: bool,
}

/// What a judge came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conclusion {
    /// The first of each invariant; see [`Judge::finish`].
    pub violations: Vec<Violation>,
    /// What the invariants counted: `acked`, `lost`, `unknown`, `duplicates` …
    pub figures: Coverage,
    /// Names of the invariants that had nothing to look at.
    pub nothing_to_judge: Vec<String>,
}

impl Judge {
    pub fn new(rules: Rules) -> Judge {
        let invariants =
            all(&rules).into_iter().map(|one| Judged { one, broken: 0, saw: false }).collect();
        Judge { invariants, violations: Vec::new(), at: 0 }
    }

    /// Looks at the next record; returns the first thing wrong with it.
    pub fn observe(&mut self, record: &Record) -> Option<Violation> {
        self.at = record.at;
        let mut first = None;
        for Judged { one, broken, saw } in &mut self.invariants {
            *saw = *saw || one.judges(&record.what);
            let Err(detail) = one.observe(record) else { continue };
            let violation = Violation { invariant: one.name().into(), at: record.at, detail };
            keep(&mut self.violations, broken, &violation);
            first.get_or_insert(violation);
        }
        first
    }

    /// Ends the history; what was found in it, in the order it was found. Of each invariant the
    /// first few are kept; that there were more is one more violation.
    pub fn finish(self, drained: bool) -> Vec<Violation> {
        self.conclude(drained).violations
    }

    /// As [`Judge::finish`], with the figures.
    pub fn conclude(mut self, drained: bool) -> Conclusion {
        let mut figures = Coverage::new();
        for Judged { one, broken, .. } in &mut self.invariants {
            for detail in one.finish(drained) {
                let violation = Violation { invariant: one.name().into(), at: self.at, detail };
                keep(&mut self.violations, broken, &violation);
            }
            for (name, count) in one.figures() {
                *figures.entry(name.to_string()).or_default() += count;
            }
        }
        for Judged { one, broken, .. } in self.invariants.iter().filter(|j| j.broken > KEPT_EACH) {
            let detail = format!("{} more like these", broken - KEPT_EACH);
            self.violations.push(Violation { invariant: one.name().into(), at: self.at, detail });
        }
        let idle = self.invariants.iter().filter(|judged| !judged.saw);
        let nothing_to_judge = idle.map(|judged| judged.one.name().into()).collect();
        Conclusion { violations: self.violations, figures, nothing_to_judge }
    }
}

fn keep(violations: &mut Vec<Violation>, broken: &mut u64, violation: &Violation) {
    *broken += 1;
    if *broken <= KEPT_EACH && violations.len() < KEPT {
        violations.push(violation.clone());
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::testing::{broken, proxy, story, view};
    use super::*;
    use crate::history::{Phase, Stage};

    /// Two events, one failover, one justified duplicate.
    fn a_good_run() -> super::testing::Story {
        let story = story().phase(Phase::Setup).leads(1, 1).subscribed(0).attached();
        let story = story.phase(Phase::Faults).event(1, 1).delivered(1, 1);
        let story = story.fault(Stage::Begin).fault(Stage::End).leads(2, 2).redelivered(1, 1, 1);
        let story = story.phase(Phase::Heal).event(2, 2).delivered(2, 2).acks(&[1, 2]);
        story.phase(Phase::Drain).status(view(2, &[proxy(2, 0)])).phase(Phase::End)
    }

    #[test]
    fn a_good_run_breaks_nothing() {
        assert_eq!(broken(&a_good_run(), Rules::default()), Vec::<String>::new());
    }

    #[test]
    fn every_invariant_has_a_name_of_its_own() {
        let names = names();
        assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len());
        assert!(names.iter().all(|n| n.chars().all(|c| c.is_ascii_lowercase() || c == '-')));
    }

    #[test]
    fn a_judge_keeps_the_first_and_counts_the_rest() {
        let mut judge = Judge::new(Rules::default());
        let story = (2..100).fold(story().leads(1, 1), |story, node| story.leads(node, 1));
        let found = story.records.iter().filter(|record| judge.observe(record).is_some()).count();
        assert_eq!(found, 98);
        let violations = judge.finish(false);
        assert_eq!(violations.len(), 11, "{violations:?}");
        assert_eq!(violations[10].detail, "88 more like these");
    }

    #[test]
    fn figures_come_with_the_conclusion() {
        let mut judge = Judge::new(Rules::default());
        a_good_run().records.iter().for_each(|record| drop(judge.observe(record)));
        let Conclusion { figures, nothing_to_judge, .. } = judge.conclude(true);
        let idle = ["states-agree", "committed-immutable", "stored-whole", "damaged-stays-out"];
        assert!(idle.iter().all(|name| nothing_to_judge.iter().any(|idle| idle == name)));
        assert!(!nothing_to_judge.contains(&"acknowledged-kept".to_string()));
        let count = |name: &str| figures.get(name).copied();
        assert_eq!(
            (count("acked"), count("lost"), count("duplicates")),
            (Some(2), Some(0), Some(1))
        );
    }
}
