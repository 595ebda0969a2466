//! A refusal is explicit: whatever is refused is refused with one of the documented codes, and
//! whatever was asked is answered, or said to be unknown, by the end of a drained run. A supplier
//! that crashed hears no more answers.

use std::collections::{BTreeMap, HashMap};

use super::Invariant;
use crate::history::{EventId, Outcome, Record, What};
use crate::table::entry;

/// The codes of `docs/PROTOCOL.md`, §4; a test compares them.
const CODES: [&str; 33] = [
    "bad_request",
    "version_mismatch",
    "unauthorized",
    "wrong_cluster",
    "unknown_channel",
    "unknown_proxy",
    "unknown_lane",
    "channel_exists",
    "proxy_exists",
    "too_many_channels",
    "too_many_proxies",
    "too_many_lanes",
    "channel_full",
    "out_of_sequence",
    "lane_fenced",
    "event_too_large",
    "already_settled",
    "overloaded",
    "no_leader",
    "tenure_lost",
    "shutting_down",
    "quarantined",
    "storage_failed",
    "membership_refused",
    "not_allowed",
    "unknown_admin",
    "admin_exists",
    "too_many_admins",
    "invalid_qos",
    "suspended",
    "lane_exists",
    "fenced",
    "too_many_types",
];

/// The note of a supplier that crashes.
const CRASHES: &str = "supplier_crashes";

#[derive(Default)]
pub(super) struct ExplicitOutcome {
    /// Attempts without an outcome, by supplier.
    open: BTreeMap<String, HashMap<EventId, u32>>,
}

fn check_code<T>(what: &str, outcome: &Outcome<T>) -> Result<(), String> {
    match outcome {
        Outcome::Fail(code) if !CODES.contains(&code.as_str()) => {
            Err(format!("{what} was refused with '{code}', which is no documented code"))
        }
        _ => Ok(()),
    }
}

impl Invariant for ExplicitOutcome {
    fn name(&self) -> &'static str {
        "explicit-outcome"
    }

    fn judges(&self, what: &What) -> bool {
        matches!(what, What::Publish { .. })
    }

    fn observe(&mut self, record: &Record) -> Result<(), String> {
        match &record.what {
            What::Publish { event, .. } => {
                *entry(&mut self.open, &record.by).entry(*event).or_default() += 1;
                Ok(())
            }
            What::Published { event, outcome } => {
                let open = entry(&mut self.open, &record.by);
                match open.get_mut(event) {
                    Some(1) => drop(open.remove(event)),
                    Some(attempts) => *attempts -= 1,
                    None => return Err(format!("event {event} has an outcome without an attempt")),
                }
                check_code("a publish", outcome)
            }
            What::Note { key, .. } if key == CRASHES => {
                self.open.remove(&record.by);
                Ok(())
            }
            What::Settled { outcome, .. } => check_code("a settlement", outcome),
            What::Status { outcome, .. } => check_code("a status", outcome),
            _ => Ok(()),
        }
    }

    fn finish(&mut self, drained: bool) -> Vec<String> {
        let open = || self.open.values().flat_map(|open| open.keys());
        match open().min() {
            Some(first) if drained => {
                let count = open().count();
                vec![format!("{count} publishes never came to an end, such as that of {first}")]
            }
            _ => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::Verdict;
    use crate::invariants::testing::*;

    fn one() -> ExplicitOutcome {
        ExplicitOutcome::default()
    }

    #[test]
    fn holds_when_each_attempt_ends() {
        let story = story().event(1, 1).publish(2).publish(2).publish_unknown(2);
        let story = story.publish_fails(2, "overloaded");
        holds(one(), story.settled(&[1], Verdict::Ack, Outcome::Ok(())));
        assert!(judge(one(), unanswered(), false).is_empty());
    }

    fn unanswered() -> Story {
        story().publish(1).publish(3).publish(3).publish_unknown(3)
    }

    #[test]
    fn catches_a_publish_without_an_end_or_a_beginning() {
        catches(one(), unanswered(), "2 publishes never came to an end, such as that of 1");
        catches(one(), story().event(1, 1).published(1, 1), "without an attempt");
    }

    #[test]
    fn a_supplier_that_crashed_hears_no_more() {
        let crash = What::Note { key: CRASHES.into(), count: 1, text: String::new() };
        let story = story().by("supplier-1").publish(1).publish(2).then(crash.clone());
        holds(one(), story.clone().event(1, 1));
        let other = story.by("supplier-2").publish(3).by("supplier-1").then(crash);
        catches(one(), other, "1 publishes never came to an end, such as that of 3");
    }

    #[test]
    fn catches_a_refusal_that_says_nothing() {
        catches(one(), story().publish(1).publish_fails(1, "oops"), "a publish was refused with");
        let settled = story().settled(&[1], Verdict::Ack, Outcome::Fail("".into()));
        catches(one(), settled, "a settlement was refused with");
        let status = What::Status { ask: 1, outcome: Outcome::Fail("?".into()) };
        catches(one(), story().then(status), "a status was refused with");
    }

    #[test]
    fn the_codes_are_those_of_the_protocol() {
        let protocol = include_str!("../../../docs/PROTOCOL.md");
        let line = protocol.lines().find(|line| line.starts_with("- **codes**")).unwrap();
        let named: Vec<&str> = line.split('`').skip(1).step_by(2).collect();
        assert_eq!(named, CODES);
    }
}
