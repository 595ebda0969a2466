//! Opening a lane, and losing it to somebody else.

use super::{Lane, LaneIdentity};
use crate::client::LaneChoice;
use crate::types::{Code, LaneId, Name, Rejection};
use crate::wire::{LaneOpened, LaneTarget};

impl Lane {
    /// Which lane to ask a fresh connection for. `None`: it failed.
    pub fn ask(&self) -> Option<LaneTarget> {
        if self.failed.is_some() {
            return None;
        }
        Some(match self.identity {
            Some(identity) => LaneTarget::Existing(identity.lane),
            None => match &self.options.lane {
                LaneChoice::Fresh => LaneTarget::Fresh,
                LaneChoice::Named(name) => LaneTarget::Named(name.clone()),
                LaneChoice::Existing(lane) => LaneTarget::Existing(*lane),
            },
        })
    }

    /// The supplier admin to ask for.
    pub fn admin(&self) -> Option<Name> {
        self.options.admin.clone()
    }

    /// The server opened the lane: everything sent before is fenced, and it says which sequence it
    /// accepted or stepped over last.
    pub fn opened(&mut self, answer: &LaneOpened) {
        let answer = &self.remembered(answer);
        let last = answer.last_sequence;
        self.interest = answer.channel_interest;
        self.best_effort = answer.best_effort;
        match self.identity.replace(LaneIdentity { lane: answer.lane, epoch: answer.epoch }) {
            None => self.begin(last),
            Some(before) => {
                if let Some(rejection) = self.foreign(before, answer) {
                    return self.fail(rejection);
                }
            }
        }
        if self.failed.is_none() {
            self.accepted_through = last;
            self.maybe_through = last;
            self.flow.open(self.base, last + 1);
        }
    }

    /// A new leader of a best-effort channel knows nothing of what was accepted before: what this
    /// run was told holds, and what it was not told goes again.
    fn remembered(&self, answer: &LaneOpened) -> LaneOpened {
        let mut answer = answer.clone();
        if answer.best_effort {
            let told = match self.identity {
                Some(_) => self.base - 1,
                None => self.options.first_sequence.map_or(0, |first| first.saturating_sub(1)),
            };
            answer.last_sequence = answer.last_sequence.max(told);
        }
        answer
    }

    /// The first opening fixes where the user's sequences begin.
    fn begin(&mut self, last: u64) {
        let first = self.options.first_sequence.unwrap_or(last + 1);
        self.base = first;
        self.earlier_through = last;
        if first == 0 || first > last + 1 {
            self.fail(Rejection::out_of_sequence(first, last + 1));
        }
    }

    /// Whether somebody else used the lane since we last did: then what was accepted in between
    /// cannot be told from our own events.
    fn foreign(&self, before: LaneIdentity, answer: &LaneOpened) -> Option<Rejection> {
        let last = answer.last_sequence;
        if last < self.accepted_high {
            let message = format!(
                "lane {} ends at {last} on the server although {} was acknowledged",
                answer.lane, self.accepted_high
            );
            return Some(
                Rejection::new(Code::StorageFailed, message)
                    .hint("the cluster lost data or was restored from a backup: audit it"),
            );
        }
        let taken_over = answer.held_since > before.epoch;
        let foreign = answer.lane != before.lane || taken_over || last > self.maybe_through;
        foreign.then(|| fenced(before.lane, "somebody else"))
    }

    /// A lane was opened for another handle of this client. If it is this one, it is lost to that
    /// handle: true.
    pub fn overtaken(&mut self, answer: &LaneOpened) -> bool {
        let same = |ours: &LaneIdentity| ours.lane == answer.lane && ours.epoch < answer.epoch;
        let Some(ours) = self.identity.filter(same).filter(|_| self.failed.is_none()) else {
            return false;
        };
        self.maybe_through = self.maybe_through.min(answer.last_sequence);
        if answer.held_since <= ours.epoch {
            // Nobody but this handle can have published what the lane holds by now.
            self.accepted_through = self.maybe_through;
        }
        self.fail(fenced(ours.lane, "another publisher of this client"));
        true
    }
}

fn fenced(lane: LaneId, by: &str) -> Rejection {
    Rejection::new(Code::LaneFenced, format!("lane {lane} was opened by {by}"))
        .hint("let one supplier at a time use a named lane")
}
