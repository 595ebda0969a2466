//! A lane publishes once, across failovers: each of its numbers is one event, at one place, and
//! larger numbers are at larger places.

use std::collections::{BTreeMap, HashMap};

use super::Invariant;
use super::nothing_invented::origin;
use crate::history::{EventId, Outcome, Record, What};
use crate::table::Table;

#[derive(Default)]
pub(super) struct LaneOnce {
    names: BTreeMap<String, u32>,
    lanes: Vec<Lane>,
    events: HashMap<EventId, Numbered>,
}

#[derive(Default)]
struct Lane {
    name: String,
    /// What the product calls it.
    id: Option<u64>,
    /// By number; 0: not known.
    sequences: Table<u64>,
}

/// Where an event is on its lane.
#[derive(Clone, Copy, PartialEq)]
struct Numbered {
    lane: u32,
    number: u64,
}

impl LaneOnce {
    fn publish(&mut self, event: EventId, lane: &str, number: u64) -> Result<(), String> {
        let lane = match self.names.get(lane) {
            Some(lane) => *lane,
            None => {
                self.lanes.push(Lane { name: lane.into(), ..Lane::default() });
                let number = self.lanes.len() as u32 - 1;
                *self.names.entry(lane.into()).or_insert(number)
            }
        };
        let numbered = Numbered { lane, number };
        match self.events.insert(event, numbered) {
            Some(before) if before != numbered => {
                Err(format!("the run published event {event} under two numbers"))
            }
            _ => Ok(()),
        }
    }

    /// The event was seen at this place.
    fn placed(&mut self, event: EventId, seq: u64) -> Result<(), String> {
        let Some(Numbered { lane, number }) = self.events.get(&event) else { return Ok(()) };
        let Some(lane) = self.lanes.get_mut(*lane as usize) else { return Ok(()) };
        let before = std::mem::replace(lane.sequences.slot(*number), seq);
        if before == seq {
            return Ok(());
        }
        let name = &lane.name;
        if before != 0 {
            return Err(format!("number {number} of lane {name} is seq {before}, and seq {seq}"));
        }
        // Neighbours only; all are compared at the end.
        let lower = lane.sequences.get(number.wrapping_sub(1));
        let higher = lane.sequences.get(number.wrapping_add(1));
        if lower >= seq || (higher != 0 && higher <= seq) {
            return Err(format!("number {number} of lane {name} is out of order at seq {seq}"));
        }
        Ok(())
    }

    fn delivered(&mut self, event: EventId, id: u64, number: u64) -> Result<(), String> {
        let Some(known) = self.events.get(&event) else { return Ok(()) };
        let Some(lane) = self.lanes.get_mut(known.lane as usize) else { return Ok(()) };
        if number != known.number {
            let (name, published) = (&lane.name, known.number);
            return Err(format!("number {published} of lane {name} was delivered as {number}"));
        }
        let before = *lane.id.get_or_insert(id);
        if before != id {
            return Err(format!("lane {} was delivered as {before}, and as {id}", lane.name));
        }
        Ok(())
    }
}

impl Invariant for LaneOnce {
    fn name(&self) -> &'static str {
        "lane-once"
    }

    fn judges(&self, what: &What) -> bool {
        matches!(what, What::Published { outcome: Outcome::Ok(_), .. } | What::Delivered { .. })
    }

    fn observe(&mut self, record: &Record) -> Result<(), String> {
        match &record.what {
            What::Publish { event, lane, number, .. } => self.publish(*event, lane, *number),
            What::Published { event, outcome: Outcome::Ok(place) } if place.seq > 0 => {
                self.placed(*event, place.seq)
            }
            What::Delivered { channel, seq, lane, number, event: Some(event), .. } => {
                self.delivered(*event, *lane, *number)?;
                match origin(channel) == channel.as_str() {
                    true => self.placed(*event, *seq),
                    false => Ok(()),
                }
            }
            _ => Ok(()),
        }
    }

    fn finish(&mut self, _drained: bool) -> Vec<String> {
        let mut found = Vec::new();
        for lane in &self.lanes {
            let mut last = (0, 0);
            for (number, seq) in lane.sequences.iter() {
                if seq <= last.1 {
                    found.push(format!(
                        "number {number} of lane {} is seq {seq}, but number {} is seq {}",
                        lane.name, last.0, last.1
                    ));
                    break;
                }
                last = (number, seq);
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::invariants::testing::*;

    fn one() -> LaneOnce {
        LaneOnce::default()
    }

    #[test]
    fn holds_for_lanes_that_share_a_channel() {
        let story = story().publish_on("a", 1, 1).publish_on("a", 3, 2).published(1, 1);
        let story = story.publish_on("b", 1, 9).published(9, 2).published(2, 3);
        holds(one(), story.publish_on("a", 1, 1).published(1, 1));
    }

    #[test]
    fn catches_a_number_published_twice() {
        catches(
            one(),
            story().event(1, 1).delivered(1, 5),
            "number 1 of lane l is seq 1, and seq 5",
        );
        let story = story().publish_on("l", 1, 4).published(4, 1).publish_on("l", 1, 5);
        catches(one(), story.published(5, 2), "number 1 of lane l is seq 1, and seq 2");
    }

    #[test]
    fn catches_numbers_out_of_order() {
        catches_order(story().event(1, 5).event(2, 4));
        catches_order(story().event(2, 4).event(1, 5));
        catches(
            one(),
            story().event(1, 5).event(7, 4),
            "number 7 of lane l is seq 4, but number 1",
        );
    }

    /// Found at once, and again at the end.
    #[track_caller]
    fn catches_order(story: Story) {
        let found = judge(one(), story, false);
        assert!(found[0].contains("out of order"), "{found:?}");
    }

    #[test]
    fn catches_a_delivery_under_another_name() {
        let with = |to: u64, lane_to: u64| {
            let mut what = delivery(2, 2);
            let What::Delivered { lane, number, .. } = &mut what else { unreachable!() };
            (*lane, *number) = (lane_to, to);
            story().event(1, 1).event(2, 2).delivered(1, 1).then(what)
        };
        holds(one(), with(2, 9));
        catches(one(), with(3, 9), "number 2 of lane l was delivered as 3");
        catches(one(), with(2, 8), "lane l was delivered as 9, and as 8");
    }

    #[test]
    fn catches_a_run_that_contradicts_itself() {
        catches(one(), story().publish(1).publish_on("m", 1, 1), "under two numbers");
    }
}
