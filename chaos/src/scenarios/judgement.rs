//! From records to a verdict: the same while a run goes on and when its history is read again.

use std::collections::BTreeMap;

use super::{REQUIRED, Scenario};
use crate::faults::damage::{REFUSED, REJOINED};
use crate::history::{EventId, Outcome, Record, Stage, What};
use crate::invariants::{Judge, Rules};
use crate::verdict::{Coverage, Verdict, Violation, Word, cover, word};

/// Notes by which a run tells about itself, so that its history is enough to judge it.
pub mod note {
    /// Count: the seed.
    pub const SEED: &str = "seed";
    pub const NODES: &str = "nodes";
    pub const SECONDS: &str = "seconds";
    /// Text: something the run could not do.
    pub const LEFT_OUT: &str = "left_out";
    /// Text: why the run itself failed.
    pub const ERROR: &str = "run_failed";
    /// Text: what the cluster did not manage to do.
    pub const UNRECOVERED: &str = "unrecovered";
    /// Count: milliseconds for which the machine stood still just now.
    pub const STALLS: &str = "machine_stalled_ms";
    pub const HEALED: &str = "healed";
    pub const DRAINED: &str = "drained";
    /// Text: a fault that went wrong, and how.
    pub const FAULT_FAILED: &str = "fault_failed";
    /// Text: the scenario's name.
    pub const SCENARIO: &str = "scenario";
}

/// What is about being in time, and means nothing if the machine stood still before.
const ABOUT_TIME: [&str; 5] = ["not-stuck", "no-client-starves", RECOVERS, REFUSES, REJOINS];
/// Standing still for so long, within so many microseconds before, excuses a cluster that is late.
const STALLED_MS: u64 = 3_000;
const STALLED_WITHIN: u64 = 90_000_000;

/// The invariant that the runner itself watches.
const RECOVERS: &str = "recovers";
/// Another: a damaged node says so at once.
const REFUSES: &str = "refuses-in-time";
const REFUSED_WITHIN_MS: u64 = 1_000;
/// The longest that any damaged node took, among what a run did.
const REFUSED_MAX: &str = "refused_ms_max";

/// Another: a damaged node that may do so by itself is whole again in time.
const REJOINS: &str = "rejoins-in-time";
const REJOINED_WITHIN_MS: u64 = 60_000;
/// How many did.
const DID_REJOIN: &str = "rejoined";

/// The fault whose end is timed.
const LEADER_KILL: &str = "kill(leader)";

/// Judges a run.
pub struct Judgement {
    judge: Judge,
    name: &'static str,
    coverage: Coverage,
    required: Coverage,
    left_out: Vec<String>,
    error: Option<String>,
    faults_failed: Vec<String>,
    own: Vec<Violation>,
    figures: BTreeMap<String, u64>,
    failovers: Failovers,
    rejoin_ms: Vec<u64>,
    /// Until when the machine stood still, and for how many milliseconds.
    stalls: Vec<(u64, u64)>,
}

impl Judgement {
    /// Judges a run of `scenario`.
    pub fn new(scenario: &Scenario) -> Judgement {
        let mut rules = Rules::default();
        (scenario.rules)(&mut rules);
        let required = REQUIRED.iter().chain(scenario.required);
        Judgement {
            judge: Judge::new(rules),
            name: scenario.name,
            coverage: Coverage::new(),
            required: required.map(|(key, least)| (key.to_string(), *least)).collect(),
            left_out: Vec::new(),
            error: None,
            faults_failed: Vec::new(),
            own: Vec::new(),
            figures: BTreeMap::new(),
            failovers: Failovers::default(),
            rejoin_ms: Vec::new(),
            stalls: Vec::new(),
        }
    }

    /// Looks at the next record; returns what is wrong with it.
    pub fn observe(&mut self, record: &Record) -> Option<Violation> {
        self.failovers.observe(record);
        match &record.what {
            What::Note { key, count, text } => match key.as_str() {
                note::SEED | note::NODES | note::SECONDS => {
                    self.figures.insert(key.clone(), *count);
                }
                note::LEFT_OUT => self.left_out.push(text.clone()),
                note::STALLS => {
                    self.stalls.push((record.at, *count));
                    cover(&mut self.coverage, record);
                }
                note::ERROR => self.error = Some(text.clone()),
                note::FAULT_FAILED => self.faults_failed.push(text.clone()),
                note::SCENARIO => {}
                note::UNRECOVERED => {
                    return Some(self.object(record.at, RECOVERS, text.clone()));
                }
                REFUSED => {
                    let longest = self.coverage.entry(REFUSED_MAX.into()).or_default();
                    *longest = (*longest).max(*count);
                    if *count > REFUSED_WITHIN_MS {
                        let detail = format!("{text} took {count} ms to refuse");
                        return Some(self.object(record.at, REFUSES, detail));
                    }
                }
                REJOINED => {
                    *self.coverage.entry(DID_REJOIN.into()).or_default() += 1;
                    self.rejoin_ms.push(*count);
                    if *count > REJOINED_WITHIN_MS {
                        let detail = format!("{text}, and took {count} ms");
                        return Some(self.object(record.at, REJOINS, detail));
                    }
                }
                _ => cover(&mut self.coverage, record),
            },
            _ => cover(&mut self.coverage, record),
        }
        self.judge.observe(record)
    }

    fn object(&mut self, at: u64, invariant: &str, detail: String) -> Violation {
        let violation = Violation { invariant: invariant.into(), at, detail };
        self.own.push(violation.clone());
        violation
    }

    /// Ends the run.
    pub fn conclude(mut self) -> Verdict {
        let drained = self.coverage.contains_key(note::DRAINED);
        let conclusion = self.judge.conclude(drained);
        let found = self.own.into_iter().chain(conclusion.violations);
        let (excused, violations): (Vec<_>, Vec<_>) =
            found.partition(|violation| is_excused(violation, &self.stalls));
        if let Some(first) = excused.first() {
            let Violation { invariant, detail, .. } = first;
            let text =
                format!("the machine stood still, so nothing follows from {invariant}: {detail}");
            self.error.get_or_insert(text);
        }
        let figure = |key: &str| conclusion.figures.get(key).copied().unwrap_or_default();
        let (acked, lost, unknown) = (figure("acked"), figure("lost"), figure("unknown"));
        for (key, count) in conclusion.figures {
            self.coverage.insert(key, count);
        }
        let is_sound = self.error.is_none() && self.faults_failed.is_empty();
        let word = match word(&violations, &self.coverage, &self.required) {
            Word::Pass if !is_sound => Word::Unknown,
            word => word,
        };
        let own = |key: &str| self.figures.get(key).copied().unwrap_or_default();
        let (seed, nodes, seconds) = (own(note::SEED), own(note::NODES), own(note::SECONDS));
        let name = self.name;
        Verdict {
            scenario: name.into(),
            seed,
            nodes: nodes as usize,
            seconds,
            verdict: word,
            acked,
            lost,
            unknown,
            violations,
            nothing_to_judge: conclusion.nothing_to_judge,
            coverage: self.coverage,
            required: self.required,
            left_out: self.left_out,
            faults_failed: self.faults_failed,
            failover_ms: self.failovers.times_ms,
            rejoin_ms: self.rejoin_ms,
            error: self.error,
            reproduce: format!(
                "aqueduct-chaos run {name} --nodes {nodes} --seconds {seconds} --seed {seed}"
            ),
        }
    }
}

/// Whether a violation may be the machine's doing.
fn is_excused(violation: &Violation, stalls: &[(u64, u64)]) -> bool {
    let since = violation.at.saturating_sub(STALLED_WITHIN);
    let before = stalls.iter().filter(|(at, _)| (since..=violation.at).contains(at));
    let stalled_ms: u64 = before.map(|(_, ms)| ms).sum();
    ABOUT_TIME.contains(&&*violation.invariant) && stalled_ms >= STALLED_MS
}

/// Times kills of the leader.
#[derive(Default)]
struct Failovers {
    /// When events without an answer were published.
    open: BTreeMap<EventId, u64>,
    /// The latest kill, if nothing published since is acknowledged.
    killed: Option<u64>,
    times_ms: Vec<u64>,
}

impl Failovers {
    fn observe(&mut self, record: &Record) {
        match &record.what {
            What::Fault { fault, stage: Stage::Begin, .. } if fault == LEADER_KILL => {
                self.killed = Some(record.at);
            }
            What::Publish { event, .. } => drop(self.open.insert(*event, record.at)),
            What::Published { event, outcome } => {
                let published = self.open.remove(event);
                if let (Some(killed), Some(published), Outcome::Ok(_)) =
                    (self.killed, published, outcome)
                    && published > killed
                {
                    self.times_ms.push((record.at - killed) / 1000);
                    self.killed = None;
                }
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenarios::find;

    fn judged(notes: &[(u64, &str, u64)]) -> Verdict {
        let scenario = find("leader-kills").unwrap();
        let mut judgement = Judgement::new(scenario);
        for (second, key, count) in notes {
            let what = What::Note { key: key.to_string(), count: *count, text: "x".into() };
            judgement.observe(&Record { at: second * 1_000_000, by: "run".into(), what });
        }
        judgement.conclude()
    }

    #[test]
    fn a_fault_that_went_wrong_leaves_the_run_unknown() {
        let done: Vec<(String, u64)> = judged(&[]).required.into_iter().collect();
        let mut notes: Vec<(u64, &str, u64)> =
            done.iter().filter(|(key, _)| key != "acked").map(|(key, n)| (1, &**key, *n)).collect();
        // Figures are counted by invariants, and not by notes.
        let word = |notes: &[(u64, &str, u64)]| {
            let verdict = judged(notes);
            let doubts = verdict.doubts();
            (verdict.verdict, doubts.into_iter().filter(|why| !why.contains("acked")).collect())
        };
        assert_eq!(word(&notes), (Word::Unknown, Vec::<String>::new()));
        notes.push((5, note::FAULT_FAILED, 1));
        let (unknown, doubts) = word(&notes);
        assert_eq!(unknown, Word::Unknown);
        assert_eq!(doubts, ["a fault went wrong: x"]);
        notes.push((9, note::UNRECOVERED, 1));
        assert_eq!(word(&notes).0, Word::Fail, "a violation is one all the same");
    }

    #[test]
    fn a_damaged_node_that_takes_its_time_fails() {
        let verdict = judged(&[(10, REFUSED, 900), (20, REFUSED, 200)]);
        assert_eq!(verdict.coverage[REFUSED_MAX], 900);
        assert!(verdict.violations.is_empty());
        let verdict = judged(&[(10, REFUSED, 1_001)]);
        assert_eq!(verdict.violations[0].invariant, REFUSES);
    }

    #[test]
    fn a_damaged_node_that_is_not_whole_in_time_fails() {
        let verdict = judged(&[(10, REJOINED, 900), (20, REJOINED, 60_000)]);
        assert_eq!((verdict.coverage[DID_REJOIN], verdict.rejoin_ms), (2, vec![900, 60_000]));
        assert!(verdict.violations.is_empty());
        let verdict = judged(&[(80, REJOINED, 60_001)]);
        assert_eq!(verdict.violations[0].invariant, REJOINS);
    }

    #[test]
    fn a_cluster_that_is_late_fails_unless_the_machine_stood_still() {
        let late = (200, note::UNRECOVERED, 1);
        let stall = |second: u64, ms: u64| (second, note::STALLS, ms);
        assert_eq!(judged(&[late]).verdict, Word::Fail);
        assert_eq!(judged(&[stall(100, 60_000), late]).verdict, Word::Fail);
        assert_eq!(judged(&[stall(150, 900), stall(190, 2_000), late]).verdict, Word::Fail);
        let excused = judged(&[stall(150, 1_000), stall(190, 2_000), late]);
        assert_eq!((excused.verdict, excused.violations.len()), (Word::Unknown, 0));
        assert!(excused.error.is_some());
    }

    #[test]
    fn a_failover_is_timed_by_what_was_published_after_the_kill() {
        let mut failovers = Failovers::default();
        let mut see = |at_ms: u64, what| {
            failovers.observe(&Record { at: at_ms * 1000, by: String::new(), what });
        };
        let publish = |event| What::Publish {
            event,
            channel: String::new(),
            lane: String::new(),
            number: event,
            digest: 0,
            bytes: 8,
            asks: crate::history::Asks::default(),
        };
        let place = crate::history::Place { seq: 1, duplicate: false };
        let acked = |event| What::Published { event, outcome: Outcome::Ok(place) };
        let unknown = What::Published { event: 2, outcome: Outcome::Unknown(String::new()) };
        see(1, publish(1));
        see(
            10,
            What::Fault {
                fault: LEADER_KILL.into(),
                targets: vec![1],
                stage: Stage::Begin,
                detail: String::new(),
            },
        );
        [publish(2), publish(3)].into_iter().for_each(|what| see(11, what));
        see(12, acked(1));
        see(500, unknown);
        see(900, acked(3));
        see(901, publish(4));
        see(902, acked(4));
        assert_eq!(failovers.times_ms, [890]);
    }
}
