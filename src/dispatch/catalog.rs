//! A channel's events by what they ask for: shared by all its proxies, derived from the facts.
//!
//! Nearly all events ask for nothing and are in no class: those are found by their sequence. So a
//! channel without priorities and times costs nothing here.

use std::collections::BTreeMap;

use super::interests::Interests;
use super::{Facts, SlotFacts};
use crate::types::{ChannelId, Order, Seq, SeqRange, SeqRanges, Service, Stamp};

/// Events entered beyond twice what was there at the last clearing before the next.
const SLACK: usize = 65_536;

/// A place in the order of a proxy; the lowest goes first, and of one rank the lowest sequence.
pub(super) type Rank = i64;

/// The rank of an event for a proxy with this service.
pub(super) fn rank(service: &Service, slot: &SlotFacts) -> Rank {
    match service.order {
        Order::Fifo => 0,
        Order::Priority => -Rank::from(slot.priority),
        Order::Deadline if service.stop_time_supported && slot.stop > Stamp(0) => {
            slot.stop.0.min(Rank::MAX as u64 - 1) as Rank
        }
        Order::Deadline => Rank::MAX,
    }
}

/// The rank of events that ask for nothing.
pub(super) fn ordinary(order: Order) -> Rank {
    match order {
        Order::Fifo | Order::Priority => 0,
        Order::Deadline => Rank::MAX,
    }
}

/// The marked events of a channel. Those that nobody waits for any more may be among them.
#[derive(Debug, Default)]
pub(super) struct Catalog {
    /// Events before this one are in.
    known: Seq,
    /// The number of definitions that proxies were looked through at.
    pub definitions: Option<u64>,
    /// Who wants what.
    pub interests: Interests,
    /// Those who pick were told of events before this one.
    told: Seq,
    /// When what proxies do not want is settled.
    sift_due: Option<Stamp>,
    /// By rank in the order of priority, but for the ordinary.
    priorities: BTreeMap<Rank, SeqRanges>,
    /// By stop time, until it has passed.
    stops: BTreeMap<Stamp, SeqRanges>,
    /// By start time, until it has passed.
    starts: BTreeMap<Stamp, SeqRanges>,
    /// Given up for all proxies, as long as somebody waits for them.
    pub given_up: SeqRanges,
    /// Events entered since the last clearing, and how many were there then.
    entered: usize,
    kept: usize,
}

impl Catalog {
    /// Enters what was accepted since the last time.
    pub fn extend(&mut self, facts: &impl Facts, channel: ChannelId) {
        let Some(next) = facts.next_seq(channel) else { return };
        if self.entered > 2 * self.kept + SLACK {
            self.clear();
        }
        let fresh = self.known == 0;
        for (seq, slot) in facts.marked(channel, self.known) {
            self.enter(seq, &slot);
        }
        self.known = next;
        if fresh {
            (self.kept, self.entered) = (self.entered, 0);
        }
    }

    /// Those who pick were told of events before this one.
    pub fn told(&self) -> Seq {
        self.told
    }

    /// The events that those who pick are to be told of, now. Of what was there when it was looked
    /// for the first time nobody is told.
    pub fn untold(&mut self, next: Seq) -> Option<SeqRange> {
        let told = std::mem::replace(&mut self.told, next);
        (0 < told && told < next && !self.interests.is_empty())
            .then(|| SeqRange { first: told, last: next - 1 })
    }

    /// What proxies do not want is settled then, at the latest.
    pub fn sift_at(&mut self, due: Stamp) {
        self.sift_due = Some(self.sift_due.map_or(due, |set| set.min(due)));
    }

    /// Whether the time has come to settle what proxies do not want.
    pub fn is_sift_due(&mut self, now: Stamp) -> bool {
        self.sift_due.take_if(|due| *due <= now).is_some()
    }

    /// Whether it knows all there is.
    pub fn is_current(&self, facts: &impl Facts, channel: ChannelId) -> bool {
        facts.next_seq(channel) == Some(self.told)
            && self.definitions == Some(facts.definitions(channel))
    }

    /// Forgets everything, to enter anew what is still there.
    fn clear(&mut self) {
        (self.known, self.entered) = (0, 0);
        self.priorities.clear();
        self.stops.clear();
        self.starts.clear();
    }

    fn enter(&mut self, seq: Seq, slot: &SlotFacts) {
        self.entered += 1;
        if slot.priority != 0 {
            self.priorities.entry(-Rank::from(slot.priority)).or_default().insert(seq);
        }
        if slot.stop > Stamp(0) {
            self.stops.entry(slot.stop).or_default().insert(seq);
        }
        if slot.start > Stamp(0) {
            self.starts.entry(slot.start).or_default().insert(seq);
        }
    }

    /// Takes the events whose start time has come.
    pub fn started(&mut self, now: Stamp) -> SeqRanges {
        take_due(&mut self.starts, now)
    }

    /// Takes the events whose stop time has come.
    pub fn stopped(&mut self, now: Stamp) -> SeqRanges {
        take_due(&mut self.stops, now)
    }

    /// When time alone next changes something.
    pub fn next_due(&self) -> Option<Stamp> {
        let first = |times: &BTreeMap<Stamp, SeqRanges>| times.keys().next().copied();
        [first(&self.starts), first(&self.stops), self.sift_due].into_iter().flatten().min()
    }

    /// Whether some event is not to be delivered yet.
    pub fn has_starts(&self) -> bool {
        !self.starts.is_empty()
    }

    /// The first rank from `from` on that events of the channel have, the ordinary one included.
    pub fn next_rank(&self, order: Order, from: Rank) -> Option<Rank> {
        let ordinary = Some(ordinary(order)).filter(|rank| *rank >= from);
        let marked = match order {
            Order::Fifo => None,
            Order::Priority => self.priorities.range(from..).next().map(|(rank, _)| *rank),
            Order::Deadline => {
                let from = Stamp(from.max(0).unsigned_abs());
                self.stops.range(from..).next().map(|(stop, _)| stop.0 as Rank)
            }
        };
        marked.into_iter().chain(ordinary).min()
    }

    /// The last rank up to `upto`, likewise.
    pub fn last_rank(&self, order: Order, upto: Rank) -> Option<Rank> {
        let ordinary = Some(ordinary(order)).filter(|rank| *rank <= upto);
        let marked = match order {
            Order::Priority => self.priorities.range(..=upto).next_back().map(|(rank, _)| *rank),
            Order::Fifo | Order::Deadline => None,
        };
        marked.into_iter().chain(ordinary).max()
    }

    /// The events of a rank; `None` for the ordinary one, whose events are in no class.
    pub fn class(&self, order: Order, rank: Rank) -> Option<&SeqRanges> {
        match order {
            Order::Fifo => None,
            Order::Priority => self.priorities.get(&rank),
            Order::Deadline => self.stops.get(&Stamp(rank.max(0).unsigned_abs())),
        }
    }
}

fn take_due(times: &mut BTreeMap<Stamp, SeqRanges>, now: Stamp) -> SeqRanges {
    let mut due = SeqRanges::new();
    while let Some(entry) = times.first_entry().filter(|entry| *entry.key() <= now) {
        entry.remove().iter().for_each(|range: SeqRange| due.insert_range(range));
    }
    due
}
