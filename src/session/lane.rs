//! A lane open on a session: its publishes in flight, and their answers in order.

use std::collections::VecDeque;

use crate::machine::{PublishRun, Published};
use crate::types::{ChannelId, LaneId, Rejection, limits};

/// One open lane.
#[derive(Debug)]
pub struct Lane {
    pub id: LaneId,
    pub channel: ChannelId,
    pub epoch: u32,
    /// Events of publishes that wait for their answer.
    in_flight: usize,
    /// Publishes in the order they came; the head is answered first.
    waiting: VecDeque<Waiting>,
    /// Ticket of the head of `waiting`.
    head: u64,
}

#[derive(Debug)]
struct Waiting {
    events: usize,
    answer: Option<Published>,
}

impl Lane {
    /// A lane just opened, with nothing in flight.
    pub fn new(id: LaneId, channel: ChannelId, epoch: u32) -> Lane {
        Lane { id, channel, epoch, in_flight: 0, waiting: VecDeque::new(), head: 0 }
    }

    /// Whether `events` more may be on their way.
    pub fn has_room(&self, events: usize) -> bool {
        self.in_flight + events <= limits::LANE_IN_FLIGHT_MAX
    }

    /// Whether the client keeps sending although it was not answered: more refusals wait than
    /// any client has reason to cause.
    pub fn is_flooded(&self) -> bool {
        self.waiting.len() > 2 * limits::LANE_IN_FLIGHT_MAX
    }

    /// Takes a place in the order of answers for a publish of `events`; hands back its ticket.
    pub fn admit(&mut self, events: usize) -> u64 {
        self.in_flight += events;
        self.waiting.push_back(Waiting { events, answer: None });
        self.head + self.waiting.len() as u64 - 1
    }

    /// A refusal that was decided here; it waits for the answers before it.
    pub fn refuse(&mut self, rejection: Rejection) {
        let answer = Published { runs: Vec::new(), refused: Some(rejection) };
        self.waiting.push_back(Waiting { events: 0, answer: Some(answer) });
    }

    /// The answer to the publish with this ticket. An unknown ticket is ignored.
    pub fn answer(&mut self, ticket: u64, answer: Published) {
        let place = ticket.checked_sub(self.head).and_then(|p| usize::try_from(p).ok());
        if let Some(waiting) = place.and_then(|p| self.waiting.get_mut(p)) {
            waiting.answer = Some(answer);
        }
    }

    /// The answers that may leave now, as one: runs that continue each other are joined, and a
    /// refusal ends it. Call until `None`.
    pub fn take_answer(&mut self) -> Option<Published> {
        let mut joined: Option<Published> = None;
        while let Some(answer) = self.waiting.front_mut().and_then(|w| w.answer.take()) {
            self.pop_front();
            let joined = joined.get_or_insert_default();
            answer.runs.into_iter().for_each(|run| append(&mut joined.runs, run));
            joined.refused = answer.refused;
            if joined.refused.is_some() || joined.runs.len() >= limits::FRAME_EVENTS_MAX {
                break;
            }
        }
        joined
    }

    fn pop_front(&mut self) {
        if let Some(done) = self.waiting.pop_front() {
            self.head += 1;
            self.in_flight -= done.events;
        }
    }
}

/// Adds a run, joined with the last one if it continues it.
fn append(runs: &mut Vec<PublishRun>, run: PublishRun) {
    if let Some(last) = runs.last_mut() {
        let count = u64::from(last.count);
        let known = last.first_seq != 0 && run.first_seq == last.first_seq + count;
        let forgotten = last.first_seq == 0 && run.first_seq == 0;
        if run.duplicate == last.duplicate
            && run.first_sequence == last.first_sequence + count
            && (known || forgotten)
        {
            last.count = last.count.saturating_add(run.count);
            return;
        }
    }
    runs.push(run);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Code;

    fn run(first_sequence: u64, count: u32, first_seq: u64) -> PublishRun {
        PublishRun { first_sequence, count, first_seq, duplicate: false }
    }

    fn accepted(first_sequence: u64, count: u32, first_seq: u64) -> Published {
        Published { runs: vec![run(first_sequence, count, first_seq)], refused: None }
    }

    fn lane() -> Lane {
        Lane::new(LaneId { index: 1, position: 0 }, ChannelId(1), 1)
    }

    #[test]
    fn answers_leave_in_order_and_joined() {
        let mut lane = lane();
        let (a, b, c) = (lane.admit(2), lane.admit(3), lane.admit(1));
        lane.answer(b, accepted(3, 3, 12));
        assert_eq!(lane.take_answer(), None, "the head is still on its way");
        lane.answer(a, accepted(1, 2, 10));
        assert_eq!(lane.take_answer(), Some(accepted(1, 5, 10)));
        lane.answer(c, accepted(6, 1, 40));
        assert_eq!(lane.take_answer(), Some(accepted(6, 1, 40)));
        assert_eq!(lane.take_answer(), None);
    }

    #[test]
    fn a_refusal_keeps_its_place_and_ends_a_message() {
        let mut lane = lane();
        let a = lane.admit(1);
        lane.refuse(Rejection::new(Code::Overloaded, "full"));
        let c = lane.admit(1);
        lane.answer(c, accepted(2, 1, 2));
        lane.answer(a, accepted(1, 1, 1));
        let first = lane.take_answer().unwrap();
        assert_eq!(
            (first.runs, first.refused.map(|r| r.code)),
            (vec![run(1, 1, 1)], Some(Code::Overloaded))
        );
        assert_eq!(lane.take_answer(), Some(accepted(2, 1, 2)));
    }

    #[test]
    fn room_is_bounded_and_comes_back() {
        let mut lane = lane();
        let ticket = lane.admit(limits::LANE_IN_FLIGHT_MAX);
        assert!(!lane.has_room(1));
        lane.answer(ticket, accepted(1, limits::LANE_IN_FLIGHT_MAX as u32, 1));
        assert!(!lane.has_room(1), "answered but not handed out");
        lane.take_answer().unwrap();
        assert!(lane.has_room(limits::LANE_IN_FLIGHT_MAX));
        lane.answer(ticket, accepted(1, 1, 1));
        assert_eq!(lane.take_answer(), None, "a late answer of an old ticket");
    }

    #[test]
    fn runs_join_only_where_they_continue() {
        let mut runs = vec![run(1, 2, 5)];
        append(&mut runs, run(3, 1, 7));
        append(&mut runs, run(4, 1, 9));
        append(&mut runs, PublishRun { duplicate: true, ..run(5, 1, 10) });
        append(&mut runs, run(6, 1, 0));
        append(&mut runs, run(7, 1, 0));
        let expected = [
            run(1, 3, 5),
            run(4, 1, 9),
            PublishRun { duplicate: true, ..run(5, 1, 10) },
            run(6, 2, 0),
        ];
        assert_eq!(runs, expected);
    }
}
