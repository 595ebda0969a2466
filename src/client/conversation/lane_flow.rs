//! What of a lane is on its way over one connection, and how refusals turn the flow back.
//!
//! A refusal does not consume: the server expects the refused sequence again, and everything sent
//! after it is answered out of sequence. So after the first refusal the flow waits until all
//! publishes on their way are answered, pauses, and begins again at the refused sequence.

use std::collections::VecDeque;
use std::time::Duration;

use crate::types::{Code, Rejection};
use crate::wire::AckRun;

/// What is not answered of a publish.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sent {
    pub first_sequence: u64,
    pub count: u32,
}

/// What is left of a refusal when everything on its way has been answered.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Drained {
    /// Nothing that was sent can still be accepted.
    pub certain: bool,
    /// The lane is of no more use.
    pub fatal: Option<Rejection>,
    /// This event can never be accepted.
    pub refused_event: Option<(u64, Rejection)>,
}

/// The state of a lane on the present connection.
#[derive(Debug, Default)]
pub struct Flow {
    open: bool,
    in_flight: VecDeque<Sent>,
    /// Next sequence to send.
    cursor: u64,
    /// What the server expects next, as far as answers have told.
    expected: u64,
    /// Set by the first refusal, until everything on its way is answered.
    draining: Option<Drained>,
    /// Pauses after a refusal until then.
    paused_until: Option<Duration>,
    /// Events up to this sequence are sent alone: one of them was refused for good.
    one_by_one_through: u64,
    /// Refusals in a row without an accepted event between them.
    refusals: u32,
    last_refusal: Option<Rejection>,
}

impl Flow {
    /// The lane was opened: sending begins at `base`, and the server expects `expected`.
    pub fn open(&mut self, base: u64, expected: u64) {
        self.open = true;
        self.cursor = base;
        self.expected = expected;
    }

    /// The connection is gone. Returns the refusal that was about to end the lane, if any.
    pub fn close(&mut self) -> Option<Rejection> {
        self.open = false;
        self.in_flight.clear();
        self.paused_until = None;
        self.draining.take().and_then(|drained| drained.fatal)
    }

    /// Whether the lane is open on the present connection.
    pub fn is_open(&self) -> bool {
        self.open
    }

    /// Whether everything from `base` to before `end` has been sent, and none of it was refused.
    pub fn has_sent(&self, base: u64, end: u64) -> bool {
        self.open && self.draining.is_none() && self.cursor.max(base) >= end
    }

    /// Whether anything may be sent now.
    pub fn may_send(&self, now: Duration) -> bool {
        self.open && self.draining.is_none() && self.paused_until.is_none_or(|until| until <= now)
    }

    /// The place to send from, given that everything before `base` is answered.
    pub fn cursor(&mut self, base: u64) -> u64 {
        self.paused_until = None;
        self.cursor = self.cursor.max(base);
        self.cursor
    }

    /// If the server still expects events that were given up, and none of them is on its way: the
    /// sequence to skip through.
    pub fn skip_before(&mut self, base: u64) -> Option<u64> {
        if !self.in_flight.is_empty() || self.expected >= base {
            return None;
        }
        self.expected = base;
        Some(base - 1)
    }

    /// A publish leaves.
    pub fn sent(&mut self, first_sequence: u64, count: u32) {
        self.in_flight.push_back(Sent { first_sequence, count });
        self.cursor = first_sequence + u64::from(count);
    }

    /// A run of events was accepted: publishes are answered in the order they were sent.
    pub fn accepted(&mut self, run: &AckRun) -> Result<(), &'static str> {
        let mut next = run.first_sequence;
        let mut left = run.count;
        while left > 0 {
            let sent = self.in_flight.front_mut().ok_or("a publish was answered twice")?;
            if sent.first_sequence != next {
                return Err("a publish was answered out of order");
            }
            let taken = left.min(sent.count);
            sent.first_sequence += u64::from(taken);
            sent.count -= taken;
            (next, left) = (next + u64::from(taken), left - taken);
            if sent.count == 0 {
                self.in_flight.pop_front();
            }
        }
        if next > self.expected {
            self.expected = next;
            self.refusals = 0;
            self.last_refusal = None;
        }
        Ok(())
    }

    /// The rest of the oldest publish was refused: what that is.
    pub fn refused_rest(&mut self) -> Result<Sent, &'static str> {
        self.in_flight.pop_front().ok_or("a publish was refused that was never sent")
    }

    /// The server expects another sequence than the one sent.
    pub fn out_of_sequence(
        &mut self,
        expected: u64,
        now: Duration,
        pause: &mut impl FnMut(u32) -> Duration,
    ) {
        if self.draining.is_none() {
            self.expected = expected;
            self.pause(expected, now, pause);
            self.draining = Some(Drained { certain: true, ..Drained::default() });
        }
    }

    /// A refusal that may pass.
    pub fn refused(
        &mut self,
        sequence: u64,
        rejection: Rejection,
        now: Duration,
        pause: &mut impl FnMut(u32) -> Duration,
    ) {
        let certain = rejection.code != Code::TenureLost;
        match &mut self.draining {
            Some(drained) => drained.certain &= certain,
            None => {
                self.pause(sequence, now, pause);
                self.draining = Some(Drained { certain, ..Drained::default() });
            }
        }
        self.last_refusal = Some(rejection);
    }

    fn pause(&mut self, from: u64, now: Duration, pause: &mut impl FnMut(u32) -> Duration) {
        self.cursor = from;
        self.paused_until = Some(now + pause(self.refusals));
        self.refusals = self.refusals.saturating_add(1);
    }

    /// A refusal of an event that will not pass. If it was one of several, they are sent again
    /// one by one, to find out which.
    pub fn refused_for_good(&mut self, rest: Sent, rejection: Rejection) {
        if self.draining.is_some() {
            return;
        }
        self.cursor = rest.first_sequence;
        let alone = rest.count == 1;
        if !alone {
            self.one_by_one_through = rest.first_sequence + u64::from(rest.count) - 1;
        }
        let refused_event = alone.then_some((rest.first_sequence, rejection));
        self.draining = Some(Drained { certain: true, refused_event, fatal: None });
    }

    /// Whether the event of this sequence must travel alone.
    pub fn is_suspect(&self, sequence: u64) -> bool {
        sequence <= self.one_by_one_through
    }

    /// A refusal that ends the lane.
    pub fn fatal(&mut self, rejection: Rejection) {
        let drained = self.draining.get_or_insert(Drained { certain: true, ..Drained::default() });
        drained.fatal.get_or_insert(rejection);
    }

    /// What a refusal left behind, once all publishes on their way are answered.
    pub fn drained(&mut self) -> Option<Drained> {
        if self.in_flight.is_empty() { self.draining.take() } else { None }
    }

    /// Why the server did not accept what was sent last.
    pub fn last_refusal(&self) -> Option<&Rejection> {
        self.last_refusal.as_ref()
    }

    /// When a pause ends.
    pub fn resume_at(&self) -> Option<Duration> {
        if self.open && self.draining.is_none() { self.paused_until } else { None }
    }

    /// Whether the server owes an answer.
    pub fn awaits(&self) -> bool {
        !self.in_flight.is_empty()
    }
}
