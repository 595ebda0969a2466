//! Nothing is delivered that was not published or was refused, and bytes arrive unchanged.
//!
//! A publish is recorded before it is sent, so whatever arrives was published before. A dead letter
//! comes on the dead-letter channel of the channel it was published on. A refusal says that the event
//! was certainly not accepted; it counts if no other attempt may have been.

use std::collections::{BTreeMap, HashMap};

use aqueduct::types::limits;

use super::Invariant;
use crate::history::{EventId, Outcome, Record, What};

#[derive(Default)]
pub(super) struct NothingInvented {
    channels: BTreeMap<String, u32>,
    published: HashMap<EventId, Published>,
}

#[derive(Clone, Copy)]
struct Published {
    /// The upper half of the digest; that a change hides in the other half is one in four billion.
    digest: u32,
    channel: u32,
    /// Attempts that were not refused, or not yet.
    hopes: u16,
    delivered: bool,
}

impl Published {
    fn is_same_event(&self, other: &Published) -> bool {
        (self.digest, self.channel) == (other.digest, other.channel)
    }

    fn was_refused(&self) -> bool {
        self.delivered && self.hopes == 0
    }
}

/// The channel whose events a channel carries: its own, or another's dead letters.
pub(super) fn origin(channel: &str) -> &str {
    channel.strip_suffix(limits::DEAD_LETTER_SUFFIX).unwrap_or(channel)
}

impl NothingInvented {
    fn publish(&mut self, event: EventId, channel: &str, digest: u64) -> Result<(), String> {
        let channel = match self.channels.get(channel) {
            Some(number) => *number,
            None => {
                let number = self.channels.len() as u32;
                self.channels.insert(channel.into(), number);
                number
            }
        };
        let digest = (digest >> 32) as u32;
        let fresh = Published { digest, channel, hopes: 0, delivered: false };
        let published = self.published.entry(event).or_insert(fresh);
        published.hopes = published.hopes.saturating_add(1);
        if !published.is_same_event(&fresh) {
            return Err(format!("the run published two events under the id {event}"));
        }
        Ok(())
    }

    fn refused(&mut self, event: EventId) -> Result<(), String> {
        let Some(published) = self.published.get_mut(&event) else { return Ok(()) };
        published.hopes = published.hopes.saturating_sub(1);
        if published.was_refused() {
            return Err(format!("event {event} was refused, and had been delivered"));
        }
        Ok(())
    }
}

impl Invariant for NothingInvented {
    fn name(&self) -> &'static str {
        "nothing-invented"
    }

    fn judges(&self, what: &What) -> bool {
        matches!(what, What::Delivered { .. })
    }

    fn observe(&mut self, record: &Record) -> Result<(), String> {
        match &record.what {
            What::Publish { event, channel, digest, .. } => self.publish(*event, channel, *digest),
            What::Published { event, outcome: Outcome::Fail(_) } => self.refused(*event),
            What::Delivered { consumer, channel, seq, event, digest, .. } => {
                let what = || format!("{consumer} got seq {seq} of {channel}");
                let Some(event) = event else {
                    return Err(format!("{}, whose body names no event", what()));
                };
                let Some(published) = self.published.get_mut(event) else {
                    return Err(format!("{}, event {event}, which nobody published", what()));
                };
                if published.digest != (digest >> 32) as u32 {
                    return Err(format!("{}, event {event}, with other bytes", what()));
                }
                published.delivered = true;
                if published.was_refused() {
                    return Err(format!("{}, event {event}, which was refused", what()));
                }
                if self.channels.get(origin(channel)) != Some(&published.channel) {
                    return Err(format!("{}, event {event} of another channel", what()));
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::Asks;
    use crate::invariants::testing::*;

    fn one() -> NothingInvented {
        NothingInvented::default()
    }

    /// An event whose digest is large enough to differ in its upper half.
    const EVENT: EventId = 1 << 50;

    fn with(change: impl Fn(&mut What)) -> Story {
        let mut what = delivery(EVENT, 1);
        change(&mut what);
        story().publish(EVENT).then(what)
    }

    #[test]
    fn holds_for_what_was_published() {
        holds(one(), with(|_| {}));
        holds(
            one(),
            with(|what| {
                let What::Delivered { channel, .. } = what else { unreachable!() };
                *channel = "c.dead".into();
            }),
        );
        holds(one(), story().publish(1).publish_unknown(1).publish(1).delivered(1, 1));
    }

    #[test]
    fn catches_what_was_refused() {
        catches(
            one(),
            story().publish(1).publish_fails(1, "overloaded").delivered(1, 1),
            "which was refused",
        );
        catches(
            one(),
            story().publish(1).delivered(1, 1).publish_fails(1, "overloaded"),
            "had been delivered",
        );
        holds(
            one(),
            story()
                .publish(1)
                .publish_unknown(1)
                .publish(1)
                .publish_fails(1, "overloaded")
                .delivered(1, 1),
        );
    }

    #[test]
    fn catches_the_unknown_the_changed_and_the_stray() {
        catches(one(), story().delivered(1, 1).publish(1), "nobody published");
        let anonymous = with(|what| {
            let What::Delivered { event, .. } = what else { unreachable!() };
            *event = None;
        });
        catches(one(), anonymous, "names no event");
        let changed = with(|what| {
            let What::Delivered { digest, .. } = what else { unreachable!() };
            *digest ^= 1 << 40;
        });
        catches(one(), changed, "other bytes");
        let stray = with(|what| {
            let What::Delivered { channel, .. } = what else { unreachable!() };
            *channel = "d".into();
        });
        catches(one(), stray, "another channel");
        let other = What::Publish {
            event: EVENT,
            channel: "c".into(),
            lane: "l".into(),
            number: 2,
            digest: 0,
            bytes: 8,
            asks: Asks::default(),
        };
        catches(one(), story().publish(EVENT).then(other), "two events under the id");
    }
}
