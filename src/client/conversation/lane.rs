//! One lane: events in order, from the user's hand to an answer for each.
//!
//! What is known of sequences, in lane order:
//!
//! ```text
//! answered │ accepted, place unknown │ outcome unknown │ certainly not accepted │ not given yet
//!          base                accepted_through  maybe_through             base + queue.len()
//! ```
//!
//! Opening the lane fences everything sent before, so its answer moves `maybe_through` down to what
//! was accepted: from there on nothing that was lost on the way can surface.
//!
//! When another handle of this client opens the lane, this one has lost it, and the answer to that
//! opening settles what was sent here, too.
//!
//! A run that repeats what an earlier one published knows less: up to `earlier_through` the server
//! has accepted a sequence, or it was stepped over. Only the server's answer to the repeat tells.

mod opening;
mod polls;

use std::collections::VecDeque;
use std::time::Duration;

pub use polls::PollToAnswer;
use polls::Polls;

use super::lane_flow::{Flow, Sent};
use crate::client::{AckRange, Fate, PublishOptions};
use crate::types::{Code, EventBytes, LaneId, Name, Rejection, limits};
use crate::wire::{AckRun, EventsBlock, EventsBlockBuilder};

/// An event that waits for its answer.
#[derive(Debug)]
struct Pending {
    event: EventBytes,
    /// When the user gives up.
    deadline: Duration,
}

/// Who a lane is on the server, in its present epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LaneIdentity {
    pub lane: LaneId,
    pub epoch: u32,
}

/// What a lane wants to say next.
#[derive(Debug, PartialEq, Eq)]
pub enum Say {
    Publish { identity: LaneIdentity, first_sequence: u64, events: EventsBlock },
    Skip { identity: LaneIdentity, through: u64 },
    Polled { identity: LaneIdentity, poll: u32, count: u32 },
}

/// The supplier's side of a lane. See the module.
#[derive(Debug)]
pub struct Lane {
    channel: Name,
    options: PublishOptions,
    /// Known since the lane was first opened.
    identity: Option<LaneIdentity>,
    /// Whether anybody was interested in the channel when the lane was last opened.
    interest: bool,
    /// Whether the channel's events are in the leader's memory alone.
    best_effort: bool,
    queue: VecDeque<Pending>,
    queue_bytes: usize,
    /// Sequence of the queue's front.
    base: u64,
    /// Highest sequence answered as accepted.
    accepted_high: u64,
    accepted_through: u64,
    maybe_through: u64,
    /// Where the lane ended when this run first opened it.
    earlier_through: u64,
    /// What is on its way over the present connection.
    flow: Flow,
    /// What the server asked for over it.
    polls: Polls,
    /// Why the lane is of no more use.
    failed: Option<Rejection>,
    /// Answers for the user, in lane order.
    reports: VecDeque<AckRange>,
}

impl Lane {
    /// A lane not opened yet.
    pub fn new(channel: Name, mut options: PublishOptions) -> Lane {
        options.in_flight_events = options.in_flight_events.clamp(1, limits::LANE_IN_FLIGHT_MAX);
        Lane {
            channel,
            options,
            identity: None,
            interest: true,
            best_effort: false,
            queue: VecDeque::new(),
            queue_bytes: 0,
            base: 1,
            accepted_high: 0,
            accepted_through: 0,
            maybe_through: 0,
            earlier_through: 0,
            flow: Flow::default(),
            polls: Polls::default(),
            failed: None,
            reports: VecDeque::new(),
        }
    }

    pub fn channel(&self) -> &Name {
        &self.channel
    }

    pub fn identity(&self) -> Option<LaneIdentity> {
        self.identity
    }

    /// Whether anybody was interested in the channel when the lane was last opened.
    pub fn interest(&self) -> bool {
        self.interest
    }

    /// Whether the channel's events are in the leader's memory alone.
    pub fn best_effort(&self) -> bool {
        self.best_effort
    }

    pub fn failed(&self) -> Option<&Rejection> {
        self.failed.as_ref()
    }

    /// The sequence that the next queued event gets.
    pub fn next_sequence(&self) -> u64 {
        self.base + self.queue.len() as u64
    }

    /// Events without an answer.
    pub fn unanswered(&self) -> usize {
        self.queue.len()
    }

    /// Whether another event may be queued now. A single event may exceed the byte limit.
    pub fn has_room(&self) -> bool {
        self.queue.len() < self.options.in_flight_events
            && self.queue_bytes < self.options.in_flight_bytes
    }

    /// Queues an event and returns its sequence. The caller asked [`Self::has_room`], and the lane
    /// has been opened once and has not failed.
    pub fn push(&mut self, event: EventBytes, now: Duration) -> u64 {
        let sequence = self.next_sequence();
        self.queue_bytes += event.len();
        let deadline = match self.options.polled {
            true => Duration::MAX,
            false => now.saturating_add(self.options.deadline),
        };
        self.queue.push_back(Pending { event, deadline });
        sequence
    }

    /// The next answer for the user.
    pub fn report(&mut self) -> Option<AckRange> {
        self.reports.pop_front()
    }

    /// Whether there are answers for the user.
    pub fn has_reports(&self) -> bool {
        !self.reports.is_empty()
    }

    /// The connection is gone: what was sent on it stays unknown until the lane is open again.
    pub fn disconnected(&mut self) {
        self.polls.close();
        let fatal = self.flow.close();
        if let Some(rejection) = fatal {
            self.fail(rejection);
        }
    }

    /// What to say next on the present connection.
    pub fn say(&mut self, now: Duration) -> Option<Say> {
        let identity = self.identity?;
        if let Some(said) = self.say_polled() {
            return Some(said);
        }
        let end = self.next_sequence();
        if self.failed.is_some() || !self.flow.may_send(now) || end == self.base {
            return None;
        }
        if let Some(through) = self.flow.skip_before(self.base) {
            self.maybe_through = self.maybe_through.max(through);
            return Some(Say::Skip { identity, through });
        }
        let first_sequence = self.flow.cursor(self.base);
        let events = self.take_frame(first_sequence);
        if events.count() == 0 {
            return None;
        }
        self.flow.sent(first_sequence, events.count());
        self.maybe_through = self.maybe_through.max(first_sequence + u64::from(events.count()) - 1);
        Some(Say::Publish { identity, first_sequence, events })
    }

    /// As many events as a frame holds, from `first` on.
    fn take_frame(&self, first: u64) -> EventsBlock {
        let start = first.saturating_sub(self.base) as usize;
        let mut block = EventsBlockBuilder::new();
        for pending in self.queue.range(start.min(self.queue.len())..) {
            if !block.has_room(&pending.event) {
                break;
            }
            block.push(&pending.event);
            if self.flow.is_suspect(first) {
                break;
            }
        }
        block.finish()
    }

    /// The server answered publishes: accepted runs in lane order, then possibly a refusal of what
    /// is left of one. `Err`: the answer makes no sense; the connection should go.
    pub fn answered(
        &mut self,
        runs: &[AckRun],
        refused: Option<Rejection>,
        now: Duration,
        pause: impl FnMut(u32) -> Duration,
    ) -> Result<(), &'static str> {
        for run in runs {
            self.flow.accepted(run)?;
            self.accepted(run);
        }
        if let Some(rejection) = refused {
            let rest = self.flow.refused_rest()?;
            self.refused(rest, rejection, now, pause);
        }
        self.settle_refusal();
        Ok(())
    }

    /// Answers events of the queue's front; those given up before are passed over.
    fn accepted(&mut self, run: &AckRun) {
        let end = run.first_sequence + u64::from(run.count);
        self.accepted_high = self.accepted_high.max(end - 1);
        // Repeats behind one that was refused are answered, too; they are sent again after it.
        if end <= self.base || run.first_sequence > self.base {
            return;
        }
        let first = self.base.max(run.first_sequence);
        let offset = first - run.first_sequence;
        let first_seq = if run.first_seq == 0 { 0 } else { run.first_seq + offset };
        let fate = Fate::Accepted { first_seq, duplicate: run.duplicate };
        self.finish((end - first) as usize, fate);
    }

    /// Takes `count` events off the front with their fate.
    fn finish(&mut self, count: usize, fate: Fate) {
        let count = count.min(self.queue.len());
        if count == 0 {
            return;
        }
        let gone = self.queue.drain(..count).map(|pending| pending.event.len()).sum::<usize>();
        self.queue_bytes -= gone;
        let report = AckRange { first_sequence: self.base, count: count as u32, fate };
        self.base += count as u64;
        self.reports.push_back(report);
    }

    /// What is left of a publish was refused.
    fn refused(
        &mut self,
        rest: Sent,
        rejection: Rejection,
        now: Duration,
        mut pause: impl FnMut(u32) -> Duration,
    ) {
        if rejection.code == Code::OutOfSequence {
            let expected = rejection.expected.unwrap_or(rest.first_sequence);
            if expected <= self.accepted_high {
                let message = format!(
                    "the server expects lane sequence {expected} although {} was acknowledged",
                    self.accepted_high
                );
                return self.flow.fatal(Rejection::new(Code::StorageFailed, message));
            }
            if expected > rest.first_sequence {
                let message = format!("sequence {} was stepped over before", rest.first_sequence);
                let rejection = Rejection { message, ..rejection };
                return self.flow.refused_for_good(Sent { count: 1, ..rest }, rejection);
            }
            return self.flow.out_of_sequence(expected, now, &mut pause);
        }
        match rejection.code {
            code if code.retryable() => {
                self.flow.refused(rest.first_sequence, rejection, now, &mut pause);
            }
            Code::EventTooLarge | Code::BadRequest => self.flow.refused_for_good(rest, rejection),
            _ => self.flow.fatal(rejection),
        }
    }

    /// Once every publish on its way has been answered, a refusal takes effect.
    fn settle_refusal(&mut self) {
        let Some(drained) = self.flow.drained() else { return };
        if drained.certain {
            // Everything sent has been answered, and what was not accepted was refused.
            self.maybe_through = self.maybe_through.min(self.base - 1);
        }
        if let Some(rejection) = drained.fatal {
            return self.fail(rejection);
        }
        if let Some((sequence, rejection)) = drained.refused_event
            && sequence == self.base
        {
            self.finish(1, Fate::Refused(rejection));
        }
    }

    /// The server refused the lane, or it cannot go on: every event gets its answer, and those on
    /// their way are not waited for.
    pub fn fail(&mut self, rejection: Rejection) {
        self.flow.close();
        self.give_up(self.queue.len(), &rejection);
        self.failed = Some(rejection);
    }

    /// The user's patience ends: events whose deadline has passed get their answer.
    pub fn tick(&mut self, now: Duration) {
        let due = self.queue.iter().take_while(|pending| pending.deadline <= now).count();
        if due > 0 {
            let reason = self.flow.last_refusal().cloned().unwrap_or_else(|| {
                let message = format!("no answer within {:?}", self.options.deadline);
                Rejection::new(Code::NoLeader, message)
                    .hint("look at the cluster's status, or wait longer")
            });
            self.give_up(due, &reason);
        }
    }

    /// Answers the first `count` events with what is known: accepted, unknown, or refused for
    /// `reason`.
    pub fn give_up(&mut self, count: usize, reason: &Rejection) {
        let last = self.base + count as u64 - 1;
        let unknown = || Fate::Unknown(reason.clone());
        let accepted = Fate::Accepted { first_seq: 0, duplicate: true };
        self.finish_through(self.earlier_through.min(last), unknown());
        self.finish_through(self.accepted_through.min(last), accepted);
        self.finish_through(self.maybe_through.min(last), unknown());
        self.finish_through(last, Fate::Refused(reason.clone()));
    }

    fn finish_through(&mut self, last: u64, fate: Fate) {
        self.finish((last + 1).saturating_sub(self.base) as usize, fate);
    }

    /// When [`Self::tick`] or [`Self::say`] may have something to do again.
    pub fn wake_at(&self) -> Option<Duration> {
        let deadline = Some(self.queue.front()?.deadline).filter(|at| *at < Duration::MAX);
        deadline.into_iter().chain(self.flow.resume_at()).min()
    }

    /// Whether the server owes an answer.
    pub fn awaits(&self) -> bool {
        self.flow.awaits()
    }
}
