//! What the demo counts: which events were acknowledged, and which reached whom how often.

use std::collections::BTreeMap;

use roaring::RoaringTreemap;
use serde::Serialize;

use super::alerts::AlertReport;
use crate::types::Seq;

/// One consumer's view of the run.
#[derive(Debug, Default)]
pub struct Received {
    seen: RoaringTreemap,
    duplicates: u64,
    unmarked_duplicates: u64,
}

impl Received {
    /// Notes a delivery. `marked`: the delivery itself said that it may not be the first.
    pub fn note(&mut self, seq: Seq, marked: bool) {
        if self.seen.insert(seq) {
            return;
        }
        self.duplicates += 1;
        self.unmarked_duplicates += u64::from(!marked);
    }

    /// Different events received.
    pub fn distinct(&self) -> u64 {
        self.seen.len()
    }
}

/// Everything the run knows, for all its participants.
#[derive(Debug, Default)]
pub struct Tally {
    acked: RoaringTreemap,
    pub unknown: u64,
    pub refused: u64,
    pub received: BTreeMap<String, Received>,
    pub kills: u64,
    pub failover_ms: Vec<u64>,
}

/// The closing report; its JSON is part of the contract.
#[derive(Debug, Serialize)]
pub struct Report {
    pub acked: u64,
    pub unknown: u64,
    pub refused: u64,
    /// Different events that each consumer received.
    pub delivered: BTreeMap<String, u64>,
    /// Acknowledged but not delivered, summed over consumers.
    pub lost: u64,
    pub duplicates: u64,
    pub unmarked_duplicates: u64,
    pub kills: u64,
    /// From each SIGKILL to the next acknowledged publish.
    pub failover_ms: Vec<u64>,
    /// Whether all nodes have equal state and their ledgers add up.
    pub audit_equal: bool,
    pub alerts: AlertReport,
    pub servers: Vec<String>,
}

impl Tally {
    /// Notes an acknowledged event.
    pub fn ack(&mut self, seq: Seq) {
        self.acked.insert(seq);
    }

    pub fn acked(&self) -> u64 {
        self.acked.len()
    }

    /// Acknowledged events that have not reached a consumer yet, summed over consumers.
    pub fn missing(&self) -> u64 {
        self.received.values().map(|r| (&self.acked - &r.seen).len()).sum()
    }

    /// The report on what happened so far.
    pub fn report(&self, audit_equal: bool, alerts: AlertReport, servers: Vec<String>) -> Report {
        Report {
            acked: self.acked(),
            unknown: self.unknown,
            refused: self.refused,
            delivered: self.received.iter().map(|(n, r)| (n.clone(), r.distinct())).collect(),
            lost: self.missing(),
            duplicates: self.received.values().map(|r| r.duplicates).sum(),
            unmarked_duplicates: self.received.values().map(|r| r.unmarked_duplicates).sum(),
            kills: self.kills,
            failover_ms: self.failover_ms.clone(),
            audit_equal,
            alerts,
            servers,
        }
    }
}

impl Report {
    /// Whether the run kept the promises: nothing lost, every asked kill done, nodes equal.
    pub fn passed(&self, kills_asked: u64) -> bool {
        self.lost == 0
            && self.acked > 0
            && self.kills >= kills_asked
            && self.unmarked_duplicates == 0
            && self.audit_equal
            && self.alerts.passed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alerts() -> AlertReport {
        let (dead_letter, priorities) = (Some("poison".into()), vec![4, 3]);
        AlertReport { priorities, in_order: true, processed: 19, dead_letter }
    }

    #[test]
    fn alerts_out_of_order_or_without_a_dead_letter_are_seen() {
        assert!(alerts().passed());
        assert!(!AlertReport { in_order: false, ..alerts() }.passed());
        assert!(!AlertReport { dead_letter: None, ..alerts() }.passed());
        assert!(!AlertReport { processed: 18, ..alerts() }.passed());
    }

    fn tally() -> Tally {
        let mut tally = Tally::default();
        tally.received.insert("a".into(), Received::default());
        tally.received.insert("b".into(), Received::default());
        tally
    }

    #[test]
    fn a_lost_event_is_seen() {
        let mut tally = tally();
        (1..=3).for_each(|seq| tally.ack(seq));
        (1..=3).for_each(|seq| tally.received.get_mut("a").unwrap().note(seq, false));
        (2..=9).for_each(|seq| tally.received.get_mut("b").unwrap().note(seq, false));
        assert_eq!(tally.missing(), 1);
        assert!(!tally.report(true, alerts(), vec![]).passed(0));
        tally.received.get_mut("b").unwrap().note(1, false);
        assert!(tally.report(true, alerts(), vec![]).passed(0));
        assert!(!tally.report(true, alerts(), vec![]).passed(1), "a kill that did not happen");
    }

    #[test]
    fn duplicates_must_be_marked() {
        let mut tally = tally();
        let a = tally.received.get_mut("a").unwrap();
        [(1, false), (1, true), (1, false)].into_iter().for_each(|(s, m)| a.note(s, m));
        let report = tally.report(true, alerts(), vec![]);
        assert_eq!((report.duplicates, report.unmarked_duplicates), (2, 1));
    }
}
