//! A volatile consumer: a cursor over what the channel retains.

use super::consumers::Consumers;
use super::dispatcher::Owner;
use super::interests::Interests;
use super::{Action, ConsumerKey, Delivery, Facts};
use crate::types::{ChannelId, Seq, SeqRange, Tenure, TypeId, limits};

/// The position of one volatile consumer. It holds nothing back: what leaves the channel before
/// the consumer asks for it is reported as a gap.
#[derive(Debug)]
pub(super) struct Cursor {
    consumer: ConsumerKey,
    pub(super) channel: ChannelId,
    tenure: Tenure,
    /// The next sequence it has neither got nor been told it missed, nor passed as unwanted.
    next: Seq,
}

impl Cursor {
    pub fn new(consumer: ConsumerKey, channel: ChannelId, tenure: Tenure, next: Seq) -> Cursor {
        Cursor { consumer, channel, tenure, next }
    }

    /// Delivers or passes up to `events_max` events; how many. Fewer mean that nothing more can go
    /// now.
    pub fn serve(
        &mut self,
        facts: &impl Facts,
        interests: &Interests,
        events_max: usize,
        consumers: &mut Consumers,
        out: &mut Vec<Action>,
    ) -> usize {
        // The channel's reliability was changed while it was new: its sequences are others now.
        let range = facts.first_seq(self.channel).zip(facts.next_seq(self.channel));
        if let Some((first, end)) =
            range.filter(|(first, end)| !(first..=end).contains(&&self.next))
        {
            self.next = if self.next > end { first } else { self.next.max(first) };
        }
        let mut given = 0;
        while given < events_max {
            let retained = facts.next_retained(self.channel, self.next);
            if let Some((seq, slot)) = retained.filter(|(seq, _)| *seq == self.next)
                && !interests.wants(Owner::Volatile(self.consumer), slot.kind)
            {
                self.next = self.after_stretch(facts, seq, slot.kind);
                given += 1;
                continue;
            }
            if !consumers.wants(self.consumer) {
                break;
            }
            let Some((seq, slot)) = retained else {
                let end = facts.next_seq(self.channel).unwrap_or(self.next);
                self.skip_to(end, consumers, out);
                break;
            };
            if self.next < seq {
                self.skip_to(seq, consumers, out);
                continue;
            }
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

    /// Where events of this type that follow each other end. What is not retained has no type.
    fn after_stretch(&self, facts: &impl Facts, seq: Seq, kind: TypeId) -> Seq {
        let rest = SeqRange { first: seq, last: facts.next_seq(self.channel).unwrap_or(seq) };
        let stretch = facts.types_in(self.channel, rest).next();
        let stretch = stretch.filter(|(_, found)| *found == kind && kind != TypeId::default());
        stretch.map_or(seq, |(range, _)| range.last).saturating_add(1)
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
