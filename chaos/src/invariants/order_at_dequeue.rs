//! A client gets first deliveries in the order of its proxy: of two events that may go, the one of
//! lower rank does not go first. The rank is by sequence, by priority, or by end, then by sequence.
//!
//! Event `a` waited behind `b` if one client of the consumer got both as first deliveries of one
//! tenure, `a` after `b` (what a client reads comes in the order in which the leader chose it), and
//! when `b` was chosen
//! - `a` was known to the leader: up to `b` the client had got an event of this tenure that is `a` or
//!   later in the log;
//! - `a` had started: up to `b` the client had got an event that was accepted at its start or later,
//!   so the leader's time had come so far;
//! - `a` was free: an event that goes for the first time in a tenure was neither in flight in it nor
//!   on its way to an end, and did not end before it went;
//! - the order is certain (see `definitions`).
//!
//! Nothing is concluded from what goes again: a full window lets it go while what is new must wait,
//! and it has delays of its own. Nor from deliveries to different clients, who read at different
//! speeds, or from different tenures: the next leader begins with what was in flight. Events ask for
//! their priority themselves; runs set none on channels.
//!
//! Who has no proxy of its own (a listener) gets everything in the order of sequences, and does not
//! heed start times.

use std::collections::BTreeMap;

use super::Invariant;
use super::definitions::{Definitions, Moment, Order};
use super::publishes::{Publish, Publishes};
use crate::history::{Asks, EventId, Record, What};
use crate::table::entry;

/// Place in an order: the lowest goes first.
type Rank = (i64, u64);

#[derive(Default)]
pub(super) struct OrderAtDequeue {
    definitions: Definitions,
    publishes: Publishes,
    /// By consumer, then client.
    consumers: BTreeMap<String, BTreeMap<String, Client>>,
    judged: u64,
}

/// What one client got in the latest tenure.
#[derive(Default)]
struct Client {
    tenure: u64,
    /// Everything it reads now was sent after this.
    sent_after: u64,
    reached: Reached,
    order: Option<Order>,
    /// First deliveries under this order, but for those that a later one of a higher rank makes
    /// superfluous: so ranks descend, while what the leader had reached ascends.
    steps: Vec<(Reached, Rank)>,
}

/// How far the leader had certainly come when it chose an event.
#[derive(Clone, Copy, Default)]
struct Reached {
    seq: u64,
    /// By the time of the cluster, in microseconds.
    time: u64,
}

/// A first delivery.
struct First {
    seq: u64,
    accepted: u64,
    asks: Asks,
    /// 0: at once.
    start: u64,
}

impl First {
    fn rank(&self, order: Order) -> Rank {
        let rank = match order {
            Order::Fifo => 0,
            Order::Priority => -i64::from(self.asks.priority),
            Order::Deadline => {
                self.asks.end_us(self.accepted).map_or(i64::MAX, |end| end.min(1 << 62) as i64)
            }
        };
        (rank, self.seq)
    }
}

impl Client {
    /// A delivery of this tenure. False: it is of an older one than what came before.
    fn advance(&mut self, tenure: u64, seq: u64, accepted: u64) -> bool {
        if tenure > self.tenure {
            *self = Client { tenure, sent_after: self.sent_after, ..Client::default() };
        }
        self.reached.seq = self.reached.seq.max(seq);
        self.reached.time = self.reached.time.max(accepted);
        tenure == self.tenure
    }

    /// What went before this event although this one could have gone.
    fn overtaken_by(&self, first: &First) -> Option<u64> {
        let rank = first.rank(self.order?);
        let waited = |(reached, _): &(Reached, Rank)| {
            reached.seq >= first.seq && reached.time >= first.start
        };
        let since = self.steps.partition_point(|step| !waited(step));
        self.steps.get(since).filter(|(_, other)| *other > rank).map(|(_, other)| other.1)
    }

    fn add(&mut self, order: Option<Order>, first: &First) {
        if order != self.order {
            self.order = order;
            self.steps.clear();
        }
        let Some(order) = order else { return };
        let rank = first.rank(order);
        while self.steps.last().is_some_and(|(_, other)| *other <= rank) {
            self.steps.pop();
        }
        self.steps.push((self.reached, rank));
    }
}

impl OrderAtDequeue {
    fn delivered(&mut self, record: &Record, event: Option<EventId>) -> Result<(), String> {
        let What::Delivered { consumer, seq, delivery, tenure, accepted_us, .. } = &record.what
        else {
            return Ok(());
        };
        let Some(publish) = self.publishes.get(event) else { return Ok(()) };
        let client = entry(entry(&mut self.consumers, consumer), &record.by);
        client.sent_after = client.sent_after.max(publish.at);
        if *tenure == 0 || !client.advance(*tenure, *seq, *accepted_us) || *delivery != 1 {
            return Ok(());
        }
        let moment = Moment { tenure: *tenure, after: client.sent_after, before: record.at };
        let durable = self.definitions.knows(consumer);
        let order = match durable {
            true => self.definitions.order(consumer, moment),
            false => Some(Order::Fifo),
        };
        let start = if durable { publish.asks.start_us() } else { 0 };
        let first = First { seq: *seq, accepted: *accepted_us, asks: publish.asks, start };
        let (by, under) = (client.overtaken_by(&first), client.order);
        client.add(order, &first);
        self.judged += 1;
        match by {
            None => Ok(()),
            Some(other) => Err(format!(
                "{} got seq {seq} of {consumer} after {other} in tenure {tenure}, although it had \
                 waited then and goes before it by {}",
                record.by,
                under.map_or_else(String::new, |order| format!("{order:?}").to_lowercase())
            )),
        }
    }
}

impl Invariant for OrderAtDequeue {
    fn name(&self) -> &'static str {
        "order-at-dequeue"
    }

    fn judges(&self, what: &What) -> bool {
        matches!(what, What::Delivered { tenure: 1.., .. })
    }

    fn observe(&mut self, record: &Record) -> Result<(), String> {
        self.definitions.observe(record.at, &record.what);
        match &record.what {
            What::Publish { event, asks, .. } => {
                self.publishes.add(*event, Publish { at: record.at, asks: *asks });
                Ok(())
            }
            What::Delivered { event, .. } => self.delivered(record, *event),
            _ => Ok(()),
        }
    }

    fn figures(&self) -> Vec<(&'static str, u64)> {
        vec![("orders_judged", self.judged)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::Definition;
    use crate::invariants::testing::*;

    fn one() -> OrderAtDequeue {
        OrderAtDequeue::default()
    }

    /// Event 1 has priority 0, event 2 priority 5, event 3 starts at 900 ms, event 4 ends at 2000 ms
    /// and event 5 at 1000 ms.
    fn events(order: &str) -> Story {
        let story = story().subscribed_as(0, &[("order_policy", order)]).publish(1);
        let story = story.asking(2, Asks { priority: 5, ..Asks::default() });
        let story = story.asking(3, Asks { start_ms: 900, ..Asks::default() });
        let story = story.asking(4, Asks { stop_ms: 2_000, ..Asks::default() });
        story.asking(5, Asks { timeout_ms: 500, ..Asks::default() })
    }

    #[test]
    fn fifo_goes_by_sequence() {
        let story = events("fifo").delivered_in(7, 1, 1, 100).delivered_in(7, 4, 4, 400);
        holds(one(), story.clone().delivered_in(7, 5, 5, 500));
        catches(one(), story.clone().delivered_in(7, 2, 2, 200), "seq 2 of w after 4 in tenure 7");
        holds(one(), story.clone().by("w/2").delivered_in(7, 2, 2, 200));
        holds(one(), story.clone().delivered_in(8, 2, 2, 200));
        holds(one(), story.delivered_in(6, 2, 2, 200));
    }

    #[test]
    fn a_start_to_come_lets_others_pass() {
        let story = events("fifo").delivered_in(7, 4, 4, 400);
        holds(one(), story.clone().delivered_in(7, 3, 3, 300));
        let started = story.delivered_in(7, 5, 5, 900).delivered_in(7, 3, 3, 300);
        catches(one(), started, "seq 3 of w after 5");
    }

    #[test]
    fn priorities_go_first_once_they_are_known() {
        let story = events("priority").delivered_in(7, 1, 1, 100);
        holds(one(), story.clone().delivered_in(7, 2, 2, 200).delivered_in(7, 4, 4, 400));
        let story = story.delivered_in(7, 4, 4, 400);
        catches(one(), story.delivered_in(7, 2, 2, 200), "after 4 in tenure 7, although it had");
    }

    #[test]
    fn what_ends_first_goes_first() {
        let story = events("deadline").delivered_in(7, 5, 5, 500).delivered_in(7, 4, 4, 400);
        holds(one(), story.delivered_in(7, 1, 1, 100).delivered_in(7, 2, 2, 200));
        let story = events("deadline").delivered_in(7, 5, 5, 500).delivered_in(7, 1, 1, 100);
        catches(one(), story.delivered_in(7, 4, 4, 400), "seq 4 of w after 1");
    }

    #[test]
    fn what_goes_again_says_nothing() {
        let story = events("priority").delivered_in(7, 4, 4, 400);
        let mut again = in_tenure(delivery(2, 2), 7, 200);
        if let What::Delivered { delivery, .. } = &mut again {
            *delivery = 2;
        }
        holds(one(), story.then(again));
    }

    #[test]
    fn under_a_doubtful_order_nothing_is_judged() {
        let story =
            events("priority").redefine(1, Definition::Qos(wish(&[("order_policy", "fifo")])));
        let after = |story: Story| story.delivered_in(7, 4, 4, 400).delivered_in(7, 2, 2, 200);
        holds(one(), after(story.clone()));
        holds(one(), after(story.clone().redefined(1, 9, 7)));
        let known = story.redefined(1, 9, 7).publish(6).delivered_in(7, 6, 3, 350);
        catches(one(), known.delivered_in(7, 2, 2, 200), "by fifo");
    }

    #[test]
    fn a_listener_gets_everything_by_sequence() {
        let story = story().asking(1, Asks { start_ms: 900, ..Asks::default() }).publish(2);
        let story = story.delivered_in(7, 2, 2, 200).delivered_in(7, 1, 1, 100);
        catches(one(), story, "seq 1 of w after 2");
    }
}
