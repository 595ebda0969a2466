//! A confirmed ack stays settled: what was confirmed as settled is not delivered again.
//!
//! The difficulty is a delivery that was sent before the ack was committed and is read after: with
//! several clients, or after a lease ended, that is nobody's fault, and a client may leave things
//! unread for long. So a delivery counts as sent after the confirmation only where that is certain:
//!
//! - the client attached after the confirmation (give or take `attach_lag`: the cluster attaches a
//!   client, and sends to it, before the client can say so); or
//! - the client has read an event that was published after the confirmation: what it reads comes in
//!   the order it was sent, so everything it reads from then on was sent after, too; or
//! - `settled_grace` has passed, longer than a client may leave its connection unread.
//!
//! The same holds for events that were confirmed as terminated.

use std::collections::BTreeMap;

use super::publishes::{Publish, Publishes};
use super::rules::micros;
use super::{Invariant, Rules};
use crate::history::{EventId, Outcome, Record, Verdict, What};
use crate::table::{Table, entry};

pub(super) struct AckSettled {
    attach_lag: u64,
    grace: u64,
    publishes: Publishes,
    consumers: BTreeMap<String, Consumer>,
}

#[derive(Default)]
struct Consumer {
    /// When a sequence was first confirmed: milliseconds since the run began, plus 1.
    settled: Table<u32>,
    /// By client: everything it reads now was sent after this.
    sent_after: BTreeMap<String, u64>,
}

impl AckSettled {
    pub fn new(rules: &Rules) -> AckSettled {
        AckSettled {
            attach_lag: micros(rules.attach_lag),
            grace: micros(rules.settled_grace),
            publishes: Publishes::default(),
            consumers: BTreeMap::new(),
        }
    }

    fn delivered(
        &mut self,
        record: &Record,
        consumer: &str,
        seq: u64,
        event: Option<EventId>,
    ) -> Result<(), String> {
        let state = entry(&mut self.consumers, consumer);
        let sent_after = entry(&mut state.sent_after, &record.by);
        let settled = u64::from(state.settled.get(seq)) * 1000;
        let passed = record.at.saturating_sub(settled);
        if settled > 0 && (*sent_after > settled || passed > self.grace) {
            return Err(format!(
                "{} got seq {seq} of {consumer} {} ms after it was confirmed as settled",
                record.by,
                passed / 1000
            ));
        }
        if let Some(publish) = self.publishes.get(event) {
            *sent_after = (*sent_after).max(publish.at);
        }
        Ok(())
    }
}

impl Invariant for AckSettled {
    fn name(&self) -> &'static str {
        "ack-stays-settled"
    }

    fn judges(&self, what: &What) -> bool {
        matches!(what, What::Settled { outcome: Outcome::Ok(()), .. })
    }

    fn observe(&mut self, record: &Record) -> Result<(), String> {
        match &record.what {
            What::Publish { event, asks, .. } => {
                self.publishes.add(*event, Publish { at: record.at, asks: *asks });
            }
            What::Attached { consumer } => {
                let after = record.at.saturating_sub(self.attach_lag);
                let consumer = entry(&mut self.consumers, consumer);
                let known = entry(&mut consumer.sent_after, &record.by);
                *known = after.max(*known);
            }
            What::Settled { consumer, seqs, verdict, outcome: Outcome::Ok(()) } => {
                if *verdict == Verdict::Nack {
                    return Ok(());
                }
                // Rounded up: a little later claims a little less.
                let now = u32::try_from(record.at / 1000 + 1).unwrap_or(u32::MAX);
                let consumer = entry(&mut self.consumers, consumer);
                for seq in seqs {
                    let at = consumer.settled.slot(*seq);
                    *at = if *at == 0 { now } else { *at };
                }
            }
            What::Delivered { consumer, seq, event, .. } => {
                return self.delivered(record, consumer, *seq, *event);
            }
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::invariants::testing::*;

    fn one() -> AckSettled {
        AckSettled::new(&Rules::default())
    }

    /// Two clients have it, one of them acks it.
    fn acked() -> Story {
        let story = story().attached().by("w/2").attached().publish(1).publish(2);
        story.delivered(1, 1).acks(&[1])
    }

    #[test]
    fn holds_for_what_was_on_its_way() {
        holds(one(), acked().wait(5000).by("w/1").redelivered(1, 1, 2));
        holds(one(), acked().wait(100).by("w/3").attached().redelivered(1, 1, 2));
        // Published before the ack: proves nothing.
        holds(one(), acked().by("w/1").delivered(2, 2).redelivered(1, 1, 2));
    }

    #[test]
    fn holds_while_nothing_is_confirmed() {
        let story = story().attached().publish(1).delivered(1, 1).settle(&[1], Verdict::Ack);
        let unknown = Outcome::Unknown("connection".into());
        let story = story.settled(&[1], Verdict::Ack, unknown);
        let story = story.settled(&[1], Verdict::Nack, Outcome::Ok(()));
        holds(one(), story.wait(90_000).publish(3).delivered(3, 3).redelivered(1, 1, 2));
    }

    #[test]
    fn catches_a_delivery_to_one_who_came_later() {
        let story = acked().wait(2100).by("w/3").attached();
        catches(one(), story.redelivered(1, 1, 2), "w/3 got seq 1 of w");
    }

    #[test]
    fn catches_a_delivery_behind_a_later_event() {
        for client in ["w/1", "w/2"] {
            let story = acked().wait(5).publish(3).by(client).delivered(3, 3);
            catches(one(), story.redelivered(1, 1, 2), "after it was confirmed");
        }
    }

    #[test]
    fn catches_a_delivery_long_after() {
        catches(one(), acked().by("w/1").wait(61_000).redelivered(1, 1, 2), "60999 ms after");
    }

    #[test]
    fn what_was_terminated_stays_so() {
        let story = story().attached().publish(1).delivered(1, 1);
        let story = story.settled(&[1], Verdict::Terminate, Outcome::Ok(()));
        let story = story.wait(5).publish(2).delivered(2, 2);
        catches(one(), story.redelivered(1, 1, 2), "after it was confirmed");
    }
}
