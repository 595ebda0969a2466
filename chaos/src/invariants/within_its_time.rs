//! Nothing is delivered before its start or after its end, by the time of the cluster.
//!
//! That time is told by the stamps of events, and by nothing else, so clocks may jump as they like:
//!
//! - A leader's time never runs backwards. An event that is published after a delivery was seen, and
//!   accepted in the same tenure, is stamped later than that delivery was decided. So if its stamp is
//!   before the start of what had been delivered, that went too early. (Deliveries that are not
//!   marked are of events that were accepted in the tenure they are delivered in.)
//! - Before a leader sends an event, it has accepted it; and what one client reads comes in the order
//!   in which it was decided. So if a client gets an event whose end is not after the stamp of
//!   another that it had got in the same tenure, or its own, that went too late, whether for the
//!   first time or again. Where a proxy has a timeout that is certain (see `definitions`) the
//!   event's end is counted from it as well.
//!
//! There is no tolerance. What goes too early or too late by less than the time between two events
//! is not found. Listeners have no proxy of their own and do not heed times.

use std::collections::BTreeMap;

use super::Invariant;
use super::definitions::{Definitions, Moment};
use super::publishes::{Publish, Publishes};
use crate::history::{Record, What};
use crate::table::entry;

/// Tenures of which starts are remembered: there is one leader, and perhaps one that was deposed.
const TENURES: usize = 4;

#[derive(Default)]
pub(super) struct WithinItsTime {
    definitions: Definitions,
    publishes: Publishes,
    /// By tenure: when something that had a start was delivered, and the latest start so far.
    started: BTreeMap<u64, Vec<(u64, u64)>>,
    /// By consumer, then client.
    consumers: BTreeMap<String, BTreeMap<String, Client>>,
    starts_judged: u64,
    ends_judged: u64,
}

#[derive(Default)]
struct Client {
    tenure: u64,
    /// The leader's time was that at least when it decided what the client reads now.
    time: u64,
    sent_after: u64,
}

impl WithinItsTime {
    fn delivered(&mut self, record: &Record) -> Result<(), String> {
        let What::Delivered { consumer, seq, event, delivery, marked, tenure, accepted_us, .. } =
            &record.what
        else {
            return Ok(());
        };
        let Some(publish) = self.publishes.get(*event).filter(|_| *tenure > 0) else {
            return Ok(());
        };
        if *delivery == 1 && !marked {
            self.check_starts(*tenure, publish.at, *accepted_us)?;
        }
        if !self.definitions.knows(consumer) {
            return Ok(());
        }
        self.note_start(*tenure, record.at, publish.asks.start_us());
        let client = entry(entry(&mut self.consumers, consumer), &record.by);
        client.sent_after = client.sent_after.max(publish.at);
        if *tenure > client.tenure {
            *client = Client { tenure: *tenure, time: 0, sent_after: client.sent_after };
        }
        if *tenure < client.tenure {
            return Ok(());
        }
        client.time = client.time.max(*accepted_us);
        let moment = Moment { tenure: *tenure, after: client.sent_after, before: record.at };
        let timeout = self.definitions.timeout(consumer, moment).filter(|ms| *ms > 0);
        let timeout = timeout.map(|ms| accepted_us + ms * 1000);
        let Some(end) = publish.asks.end_us(*accepted_us).into_iter().chain(timeout).min() else {
            return Ok(());
        };
        self.ends_judged += 1;
        if end <= client.time {
            return Err(format!(
                "{} got seq {seq} of {consumer} {} us or more after its end",
                record.by,
                client.time - end
            ));
        }
        Ok(())
    }

    /// Something with this start was delivered, or something without.
    fn note_start(&mut self, tenure: u64, at: u64, start: u64) {
        if start == 0 {
            return;
        }
        self.starts_judged += 1;
        let starts = self.started.entry(tenure).or_default();
        if starts.last().is_none_or(|(_, latest)| *latest < start) {
            starts.push((at, start));
        }
        while self.started.len() > TENURES {
            self.started.pop_first();
        }
    }

    /// An event of this tenure was published at that time, and accepted at this.
    fn check_starts(&self, tenure: u64, published: u64, accepted: u64) -> Result<(), String> {
        let Some(starts) = self.started.get(&tenure) else { return Ok(()) };
        let before = starts.partition_point(|(at, _)| *at < published);
        let Some((at, start)) = before.checked_sub(1).and_then(|last| starts.get(last)) else {
            return Ok(());
        };
        if *start > accepted {
            return Err(format!(
                "what was delivered in tenure {tenure} before {} ms went {} us or more before its \
                 start",
                at / 1000,
                start - accepted
            ));
        }
        Ok(())
    }
}

impl Invariant for WithinItsTime {
    fn name(&self) -> &'static str {
        "within-its-time"
    }

    fn judges(&self, what: &What) -> bool {
        matches!(what, What::Publish { asks, .. } if asks.ends() || asks.start_ms > 0)
    }

    fn observe(&mut self, record: &Record) -> Result<(), String> {
        self.definitions.observe(record.at, &record.what);
        match &record.what {
            What::Publish { event, asks, .. } => {
                self.publishes.add(*event, Publish { at: record.at, asks: *asks });
                Ok(())
            }
            What::Delivered { .. } => self.delivered(record),
            _ => Ok(()),
        }
    }

    fn figures(&self) -> Vec<(&'static str, u64)> {
        vec![("starts_judged", self.starts_judged), ("ends_judged", self.ends_judged)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::Asks;
    use crate::invariants::testing::*;

    fn one() -> WithinItsTime {
        WithinItsTime::default()
    }

    fn starts_at(ms: u64) -> Story {
        story().subscribed(0).asking(1, Asks { start_ms: ms, ..Asks::default() })
    }

    #[test]
    fn a_later_stamp_shows_what_went_too_early() {
        let story = starts_at(900).delivered_in(7, 1, 1, 100).publish(2);
        holds(one(), story.clone().delivered_in(7, 2, 2, 900));
        catches(
            one(),
            story.clone().delivered_in(7, 2, 2, 899),
            "1000 us or more before its start",
        );
        // Accepted in another tenure, or perhaps before.
        holds(one(), story.clone().delivered_in(8, 2, 2, 500));
        let mut older = in_tenure(delivery(2, 2), 7, 500);
        if let What::Delivered { marked, .. } = &mut older {
            *marked = true;
        }
        holds(one(), story.then(older));
        let before = starts_at(900).publish(2).delivered_in(7, 1, 1, 100);
        holds(one(), before.delivered_in(7, 2, 2, 500));
        let listener = crate::invariants::testing::story()
            .asking(1, Asks { start_ms: 900, ..Asks::default() });
        holds(one(), listener.delivered_in(7, 1, 1, 100).publish(2).delivered_in(7, 2, 2, 200));
    }

    fn ends(asks: Asks, qos: &[(&str, &str)]) -> Story {
        story().subscribed_as(0, qos).asking(1, asks).publish(2).delivered_in(7, 2, 2, 900)
    }

    #[test]
    fn an_earlier_stamp_shows_what_went_too_late() {
        let stops = Asks { stop_ms: 800, ..Asks::default() };
        let too_late = |story: Story| story.delivered_in(7, 1, 1, 100);
        catches(one(), too_late(ends(stops, &[])), "100000 us or more after its end");
        holds(one(), too_late(ends(Asks { stop_ms: 901, ..stops }, &[])));
        catches(one(), too_late(ends(Asks { timeout_ms: 800, ..Asks::default() }, &[])), "seq 1");
        catches(one(), too_late(ends(Asks::default(), &[("timeout", "700")])), "seq 1 of w");
        holds(one(), too_late(ends(stops, &[]).by("w/2")));
        holds(one(), ends(stops, &[]).delivered_in(8, 1, 1, 100));
    }
}
