//! A lane that is polled: what it was asked for, and the end of an answer.

use super::{Lane, LaneIdentity, Say};

/// A poll of the server. It counts on the connection over which it came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PollToAnswer {
    connection: u32,
    poll: u32,
    /// At most so many events are wanted.
    pub most: u32,
}

/// Where polling stands on the present connection.
#[derive(Debug, Default)]
pub(super) struct Polls {
    connection: u32,
    /// The server was told that there is a source.
    told: bool,
    asked: Option<PollToAnswer>,
    /// The number of a poll, and how many events were given for it.
    answer: Option<(u32, u32)>,
}

impl Polls {
    /// The connection is gone, and with it what was asked over it.
    pub fn close(&mut self) {
        *self = Polls { connection: self.connection.wrapping_add(1), ..Polls::default() };
    }
}

impl Lane {
    /// Tells the server once per connection that there is a source.
    pub fn tell_of_source(&mut self) -> Option<LaneIdentity> {
        let tell = self.options.polled && !self.polls.told && self.flow.is_open();
        self.polls.told |= tell;
        self.identity.filter(|_| tell)
    }

    /// The server asks for events.
    pub fn asked(&mut self, poll: u32, most: u32) {
        let connection = self.polls.connection;
        self.polls.asked = Some(PollToAnswer { connection, poll, most });
    }

    /// What the server asked for, once.
    pub fn take_poll(&mut self) -> Option<PollToAnswer> {
        self.polls.asked.take()
    }

    /// `count` events were queued for this poll, and no more will be. Said once they have left.
    pub fn answer_poll(&mut self, poll: PollToAnswer, count: u32) {
        if poll.connection == self.polls.connection {
            self.polls.answer = Some((poll.poll, count));
        }
    }

    /// Says that all events for a poll have left, when they have.
    pub(super) fn say_polled(&mut self) -> Option<Say> {
        let identity = self.identity?;
        if !self.flow.has_sent(self.base, self.next_sequence()) {
            return None;
        }
        let (poll, count) = self.polls.answer.take()?;
        Some(Say::Polled { identity, poll, count })
    }
}
