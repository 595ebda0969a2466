//! One sequence per event, on every node: the place that was acknowledged is the place at which
//! every consumer meets it, and no two events share one.

use std::collections::{BTreeMap, HashMap};

use super::Invariant;
use super::nothing_invented::origin;
use crate::history::{EventId, Outcome, Record, What};
use crate::table::{Table, entry};

#[derive(Default)]
pub(super) struct OneSequence {
    /// Events published and not seen at a place yet, with their channel.
    unplaced: HashMap<EventId, String>,
    sequences: HashMap<EventId, u64>,
    /// By channel and sequence; the event's id plus 1.
    events: BTreeMap<String, Table<u64>>,
}

impl OneSequence {
    /// The event was seen at this place of its channel.
    fn placed(&mut self, event: EventId, channel: &str, seq: u64, who: &str) -> Result<(), String> {
        match self.sequences.insert(event, seq) {
            Some(before) if before != seq => {
                return Err(format!("event {event} is seq {before}, and seq {seq} to {who}"));
            }
            Some(_) => return Ok(()),
            None => drop(self.unplaced.remove(&event)),
        }
        let holder = entry(&mut self.events, channel).slot(seq);
        let before = std::mem::replace(holder, event.wrapping_add(1));
        if before != 0 && before != *holder {
            let before = before.wrapping_sub(1);
            return Err(format!("seq {seq} of {channel} is event {before}, and event {event}"));
        }
        Ok(())
    }
}

impl Invariant for OneSequence {
    fn name(&self) -> &'static str {
        "one-sequence"
    }

    fn judges(&self, what: &What) -> bool {
        matches!(what, What::Delivered { .. })
    }

    fn observe(&mut self, record: &Record) -> Result<(), String> {
        match &record.what {
            What::Publish { event, channel, .. } if !self.sequences.contains_key(event) => {
                self.unplaced.entry(*event).or_insert_with(|| channel.clone());
                Ok(())
            }
            What::Published { event, outcome: Outcome::Ok(place) } if place.seq > 0 => {
                let channel = self.unplaced.get(event).cloned().unwrap_or_default();
                self.placed(*event, &channel, place.seq, &record.by)
            }
            What::Delivered { channel, seq, event: Some(event), .. }
                if origin(channel) == channel.as_str() =>
            {
                self.placed(*event, channel, *seq, &record.by)
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::invariants::testing::*;

    fn one() -> OneSequence {
        OneSequence::default()
    }

    #[test]
    fn holds_when_all_say_the_same() {
        let story = story().publish(0).delivered(0, 1).published(0, 1).published(0, 1);
        holds(one(), story.event(7, 2).delivered(7, 2).redelivered(7, 2, 2).publish(8));
        let mut letter = delivery(7, 1);
        let What::Delivered { channel, .. } = &mut letter else { unreachable!() };
        *channel = "c.dead".into();
        holds(one(), crate::invariants::testing::story().event(7, 2).then(letter));
    }

    #[test]
    fn catches_an_event_at_two_places() {
        catches(one(), story().event(7, 2).delivered(7, 3), "event 7 is seq 2, and seq 3 to w/1");
        catches(one(), story().event(7, 2).published(7, 4), "event 7 is seq 2, and seq 4");
    }

    #[test]
    fn catches_two_events_at_one_place() {
        catches(one(), story().event(7, 2).event(8, 2), "seq 2 of c is event 7, and event 8");
        catches(one(), story().event(7, 2).publish(8).delivered(8, 2), "event 7, and event 8");
    }
}
