//! No client of a consumer starves: once all faults are over, one that waits for events gets some
//! while its siblings get many.
//!
//! The clients of a consumer take turns, so one that waits gets every so many-eth event. It counts as
//! waiting unless it is giving verdicts or has said that it stalls; what it does between two events
//! otherwise is quick. Starving is to get nothing for `stuck_after` during which its siblings got
//! [`MANY`] events.

use std::collections::BTreeMap;

use super::rules::micros;
use super::{Invariant, Rules};
use crate::history::{Phase, Record, What};
use crate::table::entry;

/// So many events to siblings, and none to one that waits, are no chance.
const MANY: u64 = 200;
/// The note of a client that takes and settles nothing for a while.
const STALLS: &str = "consumers_stalled";

pub(super) struct NoClientStarves {
    longest: u64,
    healed: bool,
    consumers: BTreeMap<String, Consumer>,
}

#[derive(Default)]
struct Consumer {
    /// Deliveries to all its clients.
    deliveries: u64,
    clients: BTreeMap<String, Client>,
}

struct Client {
    waits: bool,
    /// When it was last fed, came, or had done what it did; and its consumer's deliveries then.
    since: u64,
    deliveries: u64,
}

impl NoClientStarves {
    pub fn new(rules: &Rules) -> NoClientStarves {
        let longest = micros(rules.stuck_after);
        NoClientStarves { longest, healed: false, consumers: BTreeMap::new() }
    }

    /// From here on the client waits, or does something else.
    fn set(&mut self, record: &Record, consumer: &str, waits: bool) {
        let consumer = entry(&mut self.consumers, consumer);
        let client = Client { waits, since: record.at, deliveries: consumer.deliveries };
        consumer.clients.insert(record.by.clone(), client);
    }

    fn delivered(&mut self, record: &Record, consumer: &str) -> Result<(), String> {
        let (at, longest, healed) = (record.at, self.longest, self.healed);
        let Some(known) = self.consumers.get_mut(consumer) else { return Ok(()) };
        // One that is no client of a durable consumer.
        let Some(client) = known.clients.get_mut(&record.by) else { return Ok(()) };
        known.deliveries += 1;
        *client = Client { waits: true, since: at, deliveries: known.deliveries };
        let deliveries = known.deliveries;
        let starves = |client: &Client| {
            let others = deliveries - client.deliveries;
            client.waits && others >= MANY && at.saturating_sub(client.since) > longest
        };
        let Some((name, client)) =
            known.clients.iter_mut().find(|(_, client)| healed && starves(client))
        else {
            return Ok(());
        };
        let (ms, others) = ((at - client.since) / 1000, deliveries - client.deliveries);
        (client.since, client.deliveries) = (at, deliveries);
        Err(format!("{name} got nothing for {ms} ms, in which its siblings got {others} events"))
    }
}

impl Invariant for NoClientStarves {
    fn name(&self) -> &'static str {
        "no-client-starves"
    }

    fn judges(&self, what: &What) -> bool {
        matches!(what, What::Delivered { .. })
    }

    fn observe(&mut self, record: &Record) -> Result<(), String> {
        match &record.what {
            What::Phase { phase } => {
                self.healed = *phase >= Phase::Heal;
                for consumer in self.consumers.values_mut() {
                    let deliveries = consumer.deliveries;
                    for client in consumer.clients.values_mut() {
                        (client.since, client.deliveries) = (record.at, deliveries);
                    }
                }
            }
            What::Attached { consumer } | What::Settled { consumer, .. } => {
                self.set(record, consumer, true);
            }
            What::Settle { consumer, .. } => self.set(record, consumer, false),
            What::Note { key, .. } if key == STALLS => {
                let clients = self.consumers.values_mut();
                let client = clients.filter_map(|one| one.clients.get_mut(&record.by)).next();
                client.into_iter().for_each(|client| client.waits = false);
            }
            What::Detached { consumer, .. } => {
                entry(&mut self.consumers, consumer).clients.remove(&record.by);
            }
            What::Delivered { consumer, .. } => return self.delivered(record, consumer),
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::Verdict;
    use crate::invariants::testing::*;

    fn one() -> NoClientStarves {
        NoClientStarves::new(&Rules::default())
    }

    fn two_clients() -> Story {
        let story = story().subscribed(0).by("w/2").attached().by("w/1").attached();
        story.wait(9_000).phase(Phase::Heal)
    }

    /// The first client gets so many events in so many milliseconds.
    fn feast(story: Story, events: u64, ms: u64) -> Story {
        (1..=events).fold(story.by("w/1").wait(ms), |story, event| story.delivered(event, event))
    }

    #[test]
    fn holds_while_everybody_gets_something() {
        holds(one(), feast(two_clients(), MANY + 9, 2_900));
        holds(one(), feast(two_clients(), MANY - 1, 90_000));
        let fed = feast(two_clients(), MANY - 1, 2_000).by("w/2").delivered(9_000, 9_000);
        holds(one(), feast(fed, MANY - 1, 2_000));
        let before = story().by("w/2").attached().by("w/1").attached().wait(9_000);
        holds(one(), feast(before, MANY + 9, 9_000));
    }

    #[test]
    fn holds_for_one_that_does_something_else() {
        let gone = two_clients().by("w/2").detached();
        holds(one(), feast(gone, MANY + 9, 9_000));
        let settles = two_clients().by("w/2").settle(&[1], Verdict::Ack);
        holds(one(), feast(settles, MANY + 9, 9_000));
        let stalls = What::Note { key: STALLS.into(), count: 1, text: String::new() };
        holds(one(), feast(two_clients().by("w/2").then(stalls), MANY + 9, 9_000));
    }

    #[test]
    fn catches_one_that_is_passed_over() {
        catches(one(), feast(two_clients(), MANY, 3_001), "w/2 got nothing for 3001 ms, in which");
        let settled = two_clients().by("w/2").delivered(7_000, 7_000).acks(&[7_000]);
        catches(one(), feast(settled, MANY, 3_001), "its siblings got 200 events");
    }
}
