//! First deliveries of a consumer go in the order of sequences.
//!
//! The leader hands out what was not delivered in its tenure in ascending order, in turns to the
//! clients that compete; each client reads what it was sent in the order it was sent. What goes
//! again (nacked, returned, out of its lease) goes as second delivery or later, and out of turn. A
//! new leader begins again with the first event that is not settled: as first deliveries of its
//! tenure, but marked, as the events are older than its tenure. Thus, for each client of a consumer:
//!
//! - deliveries that claim to be the first and are not marked ascend, whatever happens: those of a
//!   later tenure are of later events;
//! - deliveries that claim to be the first, marked or not, ascend within a tenure: they start over
//!   at most as often as leadership changed. A tenure needs a new term or a new life of a node, or
//!   a leader that lost its majority for a while: then it has a new tenure in its old term, which
//!   an observer sees as another tenure.

use std::collections::{BTreeMap, BTreeSet};

use super::Invariant;
use crate::history::{Record, What};
use crate::table::entry;

#[derive(Default)]
pub(super) struct FirstDeliveryOrder {
    /// By consumer, then client.
    consumers: BTreeMap<String, BTreeMap<String, Client>>,
    terms: Option<(u64, u64)>,
    /// Latest life of each node.
    lives: BTreeMap<u64, u64>,
    restarts: u64,
    /// By term: tenures that nodes were seen to serve.
    tenures: BTreeMap<u64, BTreeSet<u64>>,
}

#[derive(Default)]
struct Client {
    unmarked: u64,
    first: u64,
    /// How often first deliveries started over.
    restarts: u64,
    /// When they last did.
    at: u64,
}

impl FirstDeliveryOrder {
    fn saw_term(&mut self, term: u64) {
        let (least, most) = self.terms.unwrap_or((term, term));
        self.terms = Some((least.min(term), most.max(term)));
    }

    fn saw_life(&mut self, node: u64, life: u64) {
        let before = self.lives.insert(node, life);
        self.restarts += u64::from(before.is_some_and(|before| before != life));
    }

    /// How many tenures there can have been beyond the first; one more than was seen, as the last
    /// may have gone unnoticed.
    fn tenures_more(&self) -> u64 {
        let (least, most) = self.terms.unwrap_or_default();
        let again = |seen: &BTreeSet<u64>| seen.len().saturating_sub(1) as u64;
        most - least + self.restarts + self.tenures.values().map(again).sum::<u64>() + 1
    }
}

impl Invariant for FirstDeliveryOrder {
    fn name(&self) -> &'static str {
        "first-delivery-order"
    }

    fn judges(&self, what: &What) -> bool {
        matches!(what, What::Delivered { .. })
    }

    fn observe(&mut self, record: &Record) -> Result<(), String> {
        match &record.what {
            What::Node { node, view } => {
                self.saw_term(view.term);
                if let Some(tenure) = view.tenure {
                    self.tenures.entry(view.term).or_default().insert(tenure);
                }
                self.saw_life(*node, view.life);
            }
            What::Delivered { consumer, seq, delivery: 1, marked, .. } => {
                let clients = entry(&mut self.consumers, consumer);
                let client = entry(clients, &record.by);
                if *seq <= client.first {
                    client.restarts += 1;
                    client.at = record.at;
                }
                client.first = *seq;
                if *marked {
                    return Ok(());
                }
                let before = std::mem::replace(&mut client.unmarked, *seq);
                if *seq <= before {
                    return Err(format!(
                        "{} got seq {seq} of {consumer} as a first delivery after {before}",
                        record.by
                    ));
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn finish(&mut self, _drained: bool) -> Vec<String> {
        let most = self.tenures_more();
        let clients = self.consumers.iter().flat_map(|(consumer, clients)| {
            clients.iter().map(move |(name, client)| (consumer, name, client))
        });
        let too_often = clients.filter(|(_, _, client)| client.restarts > most);
        let said = too_often.map(|(consumer, name, client)| {
            format!(
                "first deliveries of {consumer} to {name} started over {} times, at last at {} ms, \
                 but leadership changed at most {most} times",
                client.restarts,
                client.at / 1000
            )
        });
        said.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::NodeView;
    use crate::invariants::testing::*;

    fn one() -> FirstDeliveryOrder {
        FirstDeliveryOrder::default()
    }

    #[test]
    fn holds_for_competing_clients_and_what_goes_again() {
        let story = story().delivered(1, 1).delivered(4, 4).redelivered(1, 1, 2).delivered(5, 5);
        holds(one(), story.by("w/2").delivered(2, 2).delivered(3, 3));
    }

    #[test]
    fn holds_when_a_new_leader_starts_over() {
        let story = story().leads(1, 1).delivered(1, 1).delivered(2, 2).leads(2, 2);
        let story = story.redelivered(1, 1, 1).redelivered(2, 2, 1).delivered(3, 3);
        holds(one(), story.leads(3, 4).redelivered(1, 1, 1).redelivered(1, 1, 1));
    }

    #[test]
    fn catches_first_deliveries_out_of_order() {
        let story = story().delivered(1, 1).delivered(3, 3).delivered(2, 2);
        catches(one(), story, "seq 2 of w as a first delivery after 3");
    }

    #[test]
    fn catches_an_order_that_starts_over_without_a_reason() {
        let again = |story: Story| story.redelivered(2, 2, 1).redelivered(1, 1, 1);
        let quiet = story().leads(1, 1).redelivered(1, 1, 1);
        holds(one(), again(quiet.clone()));
        catches(one(), again(again(quiet.clone())), "started over 2 times");
        let life = NodeView { life: 2, term: 1, ..NodeView::default() };
        holds(one(), again(again(quiet.clone().node(1, life))));
        let serves = |tenure| NodeView {
            role: "leader".into(),
            term: 1,
            tenure: Some(tenure),
            ..NodeView::default()
        };
        holds(one(), again(again(quiet.node(1, serves(90)).node(1, serves(95)))));
    }
}
