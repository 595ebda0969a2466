//! From records to a verdict: the same while a run goes on and when its history is read again.

use std::collections::BTreeMap;

use super::{REQUIRED, Scenario};
use crate::history::{EventId, Outcome, Record, Stage, What};
use crate::invariants::{Judge, Rules};
use crate::verdict::{Coverage, Verdict, Violation, Word, cover, word};
use crate::workloads::Load;

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
    pub const HEALED: &str = "healed";
    pub const DRAINED: &str = "drained";
}

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
    own: Vec<Violation>,
    figures: BTreeMap<String, u64>,
    failovers: Failovers,
}

impl Judgement {
    /// Judges a run of `scenario` with this load.
    pub fn new(scenario: &Scenario, load: &Load) -> Judgement {
        let mut rules = Rules::default();
        let waits = load.consumers.iter().map(|consumer| consumer.ack_wait_ms);
        if let Some(longest) = waits.max() {
            rules.ack_wait = std::time::Duration::from_millis(longest);
        }
        (scenario.rules)(&mut rules);
        let required = REQUIRED.iter().chain(scenario.required);
        Judgement {
            judge: Judge::new(rules),
            name: scenario.name,
            coverage: Coverage::new(),
            required: required.map(|(key, least)| (key.to_string(), *least)).collect(),
            left_out: Vec::new(),
            error: None,
            own: Vec::new(),
            figures: BTreeMap::new(),
            failovers: Failovers::default(),
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
                note::ERROR => self.error = Some(text.clone()),
                note::UNRECOVERED => {
                    let violation = Violation {
                        invariant: "recovers".into(),
                        at: record.at,
                        detail: text.clone(),
                    };
                    self.own.push(violation.clone());
                    return Some(violation);
                }
                _ => cover(&mut self.coverage, record),
            },
            _ => cover(&mut self.coverage, record),
        }
        self.judge.observe(record)
    }

    /// Ends the run.
    pub fn conclude(mut self) -> Verdict {
        let drained = self.coverage.contains_key(note::DRAINED);
        let conclusion = self.judge.conclude(drained);
        let mut violations = self.own;
        violations.extend(conclusion.violations);
        let figure = |key: &str| conclusion.figures.get(key).copied().unwrap_or_default();
        let (acked, lost, unknown) = (figure("acked"), figure("lost"), figure("unknown"));
        for (key, count) in conclusion.figures {
            self.coverage.entry(key).or_insert(count);
        }
        let word = match word(&violations, &self.coverage, &self.required) {
            Word::Pass if self.error.is_some() => Word::Unknown,
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
            coverage: self.coverage,
            required: self.required,
            left_out: self.left_out,
            failover_ms: self.failovers.times_ms,
            error: self.error,
            reproduce: format!(
                "aqueduct-chaos run {name} --nodes {nodes} --seconds {seconds} --seed {seed}"
            ),
        }
    }
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
