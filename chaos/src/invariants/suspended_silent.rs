//! A consumer that is suspended gets nothing from the cut of its suspension until somebody asks to
//! resume it.
//!
//! What had been sent before may be read later. A delivery was certainly sent after the suspension
//! was confirmed if its client has read, by then, an event that was published after that, or if its
//! tenure began after the cut.

use std::collections::BTreeMap;

use super::Invariant;
use super::definitions::{Definitions, Moment};
use super::publishes::{Publish, Publishes};
use crate::history::{Definition, Record, What};
use crate::table::entry;

#[derive(Default)]
pub(super) struct SuspendedSilent {
    definitions: Definitions,
    publishes: Publishes,
    /// By consumer, then client: everything it reads now was sent after this.
    sent_after: BTreeMap<String, BTreeMap<String, u64>>,
}

impl Invariant for SuspendedSilent {
    fn name(&self) -> &'static str {
        "suspended-silent"
    }

    fn judges(&self, what: &What) -> bool {
        matches!(what, What::Redefine { to: Definition::Suspended(true), .. })
    }

    fn observe(&mut self, record: &Record) -> Result<(), String> {
        self.definitions.observe(record.at, &record.what);
        match &record.what {
            What::Publish { event, asks, .. } => {
                self.publishes.add(*event, Publish { at: record.at, asks: *asks });
            }
            What::Delivered { consumer, seq, event, tenure, .. } => {
                let sent_after = entry(entry(&mut self.sent_after, consumer), &record.by);
                let published = self.publishes.get(*event).map_or(0, |publish| publish.at);
                *sent_after = published.max(*sent_after);
                let (after, before) = (*sent_after, record.at);
                let moment = Moment { tenure: *tenure, after, before };
                if *tenure > 0 && self.definitions.is_suspended(consumer, moment) == Some(true) {
                    return Err(format!(
                        "{} got seq {seq} of {consumer}, which was suspended",
                        record.by
                    ));
                }
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

    fn one() -> SuspendedSilent {
        SuspendedSilent::default()
    }

    fn suspended() -> Story {
        let story = story().subscribed(0).publish(1).redefine(1, Definition::Suspended(true));
        story.wait(5).redefined(1, 25, 20).wait(5)
    }

    #[test]
    fn what_was_sent_before_may_come() {
        holds(one(), suspended().delivered_in(20, 1, 1, 100));
        let asked = story().subscribed(0).redefine(1, Definition::Suspended(true));
        holds(one(), asked.publish(1).delivered_in(20, 1, 1, 100));
    }

    #[test]
    fn catches_what_is_sent_after() {
        let story = suspended().publish(2).delivered_in(20, 2, 2, 100);
        catches(one(), story, "w/1 got seq 2 of w, which was suspended");
        catches(one(), suspended().delivered_in(26, 1, 1, 100), "seq 1 of w");
    }

    #[test]
    fn who_is_resumed_gets_what_waits() {
        let story = suspended().publish(2).redefine(2, Definition::Suspended(false));
        holds(one(), story.clone().delivered_in(20, 2, 2, 100));
        holds(one(), story.redefined(2, 30, 20).publish(3).delivered_in(20, 3, 3, 200));
    }
}
