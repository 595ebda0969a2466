//! A volatile consumer: a cursor over what the channel retains.

use super::consumers::Consumers;
use super::{Action, ConsumerKey, Delivery, Facts};
use crate::types::{ChannelId, Seq, SeqRange, Tenure, limits};

/// The position of one volatile consumer. It holds nothing back: what leaves the channel before
/// the consumer asks for it is reported as a gap.
#[derive(Debug)]
pub(super) struct Cursor {
    consumer: ConsumerKey,
    pub(super) channel: ChannelId,
    tenure: Tenure,
    /// The next sequence it has neither got nor been told it missed.
    next: Seq,
}

impl Cursor {
    pub fn new(consumer: ConsumerKey, channel: ChannelId, tenure: Tenure, next: Seq) -> Cursor {
        Cursor { consumer, channel, tenure, next }
    }

    /// Delivers up to `events_max` events; how many went. Fewer mean that nothing more can go now.
    pub fn serve(
        &mut self,
        facts: &impl Facts,
        events_max: usize,
        consumers: &mut Consumers,
        out: &mut Vec<Action>,
    ) -> usize {
        let mut given = 0;
        while given < events_max && consumers.wants(self.consumer) {
            let Some((seq, slot)) = facts.next_retained(self.channel, self.next) else {
                let end = facts.next_seq(self.channel).unwrap_or(self.next);
                self.skip_to(end, consumers, out);
                break;
            };
            self.skip_to(seq, consumers, out);
            self.next = seq + 1;
            let delivery = Delivery {
                seq,
                key: slot.key,
                size: slot.size,
                delivery: 1,
                maybe_redelivered: slot.again || slot.key.index < self.tenure.0,
                fencing: 0,
            };
            consumers.give(self.consumer, delivery, limits::FRAME_EVENTS_MAX, out);
            given += 1;
        }
        if given < events_max {
            consumers.end_round(self.consumer, out);
        }
        given
    }

    /// Reports everything before `seq` as missed, after what was delivered.
    fn skip_to(&mut self, seq: Seq, consumers: &mut Consumers, out: &mut Vec<Action>) {
        if self.next < seq {
            consumers.flush(self.consumer, out);
            let missed = SeqRange { first: self.next, last: seq - 1 };
            out.push(Action::Gap { consumer: self.consumer, missed });
            self.next = seq;
        }
    }
}
