//! Admission: many sources offer work, log entries are formed from it, fairly and within bounds.
//!
//! While one entry is on its way the next one fills here (natural batching); no timer is involved.
//!
//! Two things are kept apart: the *source* of an item, which is charged for the room it takes, and
//! the *party* that waits with it for a turn: a lane, or for what is no publish the source itself.
//!
//! Invariants:
//! - Items of one party leave in the order they were offered.
//! - Channels take turns, and so does the rest. A turn is that of one party: it ends with the item
//!   that reaches [`limits::INTAKE_QUANTUM_BYTES`]. Which lane of a channel is next is up to the
//!   channel's [`Policy`], which says how long it waits at most.
//! - Under `round_robin`, as everywhere but in channels that say otherwise, a party saves up what it
//!   cannot use, and takes no more than that. An item of charge `c` at its head therefore waits for at most
//!   `ceil(c / quantum) * quantum + largest item` bytes of each other party, however much they have
//!   queued.
//! - What is held never exceeds the bound, save for a single item larger than it.
//! - A source may hold at most as much as is still free, so one that floods stops at half of the
//!   bound, `n` of them at `n / (n + 1)`: there is always room for the next one, and as room gets
//!   scarce those who hold most are refused first.
//! - Nothing accepted is ever dropped.
//!
//! Left out: where policies come from, and any idea of what an item is.
#![deny(clippy::disallowed_types, clippy::disallowed_methods)]

use std::collections::{BTreeMap, VecDeque};

use thiserror::Error;

use crate::schedule::{Claim, Policy, RoundRobin, Scheduler};
use crate::types::{ChannelId, LaneId, Stamp, limits};

#[cfg(test)]
mod tests;

/// The queue has no room for this item now; offer it again later, or refuse it upstream as
/// `overloaded`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error(
    "source {source_id} holds {source_bytes} of {held_bytes} queued bytes and may not add \
     {item_bytes}: wait for answers, then send again"
)]
pub struct Full {
    pub source_id: u64,
    /// Bytes that this source has queued.
    pub source_bytes: usize,
    /// Bytes that all sources have queued.
    pub held_bytes: usize,
    /// Charge of the refused item.
    pub item_bytes: usize,
}

/// Who waits for a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Party {
    /// A lane, against the others of its channel.
    Lane(ChannelId, LaneId),
    /// Whoever has something else to say, against all that have.
    Source(u64),
}

impl Party {
    /// The channel whose policy it is under; `None`: of those that are under none.
    fn group(self) -> Option<ChannelId> {
        match self {
            Party::Lane(channel, _) => Some(channel),
            Party::Source(_) => None,
        }
    }
}

/// How a lane fared, since the queue was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LaneTurns {
    pub turns: u64,
    /// How long it waits for its next turn, in milliseconds; 0: it has nothing to send.
    pub waiting_ms: u64,
    /// The longest that it waited for one.
    pub longest_wait_ms: u64,
}

/// A bounded queue of `T`, fair between those who wait.
#[derive(Debug)]
pub struct Intake<T> {
    bytes_max: usize,
    bytes: usize,
    items: usize,
    /// Bytes of each source that has items.
    held: BTreeMap<u64, usize>,
    /// Parties with items, and no others.
    queues: BTreeMap<Party, Queue<T>>,
    /// Groups with such parties, and no others.
    lines: BTreeMap<Option<ChannelId>, Line>,
    turns: RoundRobin<Option<ChannelId>>,
    /// Of the latest lanes.
    fared: BTreeMap<LaneId, LaneTurns>,
}

/// Those who wait under one policy.
#[derive(Debug)]
struct Line {
    order: Scheduler<Party>,
    /// Whose turn was cut short by the end of a batch.
    current: Option<Party>,
}

#[derive(Debug)]
struct Queue<T> {
    /// With source and charge.
    items: VecDeque<(u64, usize, T)>,
    /// What it may still send in this turn; under round robin carried over while it has items.
    deficit: usize,
    /// What it has sent in this turn.
    used: usize,
}

impl<T> Default for Intake<T> {
    fn default() -> Intake<T> {
        Intake::new(limits::INTAKE_BYTES_MAX)
    }
}

impl<T> Intake<T> {
    /// An empty queue that holds up to `bytes_max` bytes.
    pub fn new(bytes_max: usize) -> Intake<T> {
        Intake {
            bytes_max,
            bytes: 0,
            items: 0,
            held: BTreeMap::new(),
            queues: BTreeMap::new(),
            lines: BTreeMap::new(),
            turns: RoundRobin::default(),
            fared: BTreeMap::new(),
        }
    }

    /// Queues an item of a source for a party, or gives it back. Each item is charged
    /// [`limits::INTAKE_ITEM_BYTES`] on top, so that empty items are bounded too.
    pub fn offer(
        &mut self,
        (source, party): (u64, Party),
        cost_bytes: usize,
        item: T,
        now: Stamp,
    ) -> Result<(), (Full, T)> {
        let charge = cost_bytes.saturating_add(limits::INTAKE_ITEM_BYTES);
        let queued = self.held.get(&source).copied().unwrap_or(0);
        if !self.admits(queued, charge) {
            let full = Full {
                source_id: source,
                source_bytes: queued,
                held_bytes: self.bytes,
                item_bytes: charge,
            };
            return Err((full, item));
        }
        let new = || Queue { items: VecDeque::new(), deficit: 0, used: 0 };
        self.queues.entry(party).or_insert_with(new).items.push_back((source, charge, item));
        *self.held.entry(source).or_default() += charge;
        self.bytes += charge;
        self.items += 1;
        let line = || Line {
            order: Scheduler::with_turn(Policy::default(), limits::INTAKE_QUANTUM_BYTES),
            current: None,
        };
        let line = self.lines.entry(party.group()).or_insert_with(line);
        if !line.order.contains(party) {
            line.order.insert(party, Claim::default(), now);
        }
        self.turns.insert(party.group());
        Ok(())
    }

    fn admits(&self, queued: usize, charge: usize) -> bool {
        let free = self.bytes_max.saturating_sub(self.bytes);
        let fair = queued == 0 || queued.saturating_add(charge) <= free;
        self.bytes == 0 || (charge <= free && fair)
    }

    /// Channels of which more than one lane waits: it matters who is next.
    pub fn contended(&self) -> Vec<ChannelId> {
        let lines = self.lines.iter().filter(|(_, line)| line.order.len() > 1);
        lines.filter_map(|(channel, _)| *channel).collect()
    }

    /// The lanes of a channel that wait, since when, and what they wait with.
    pub fn waiting(&self, channel: ChannelId) -> Vec<(LaneId, Stamp, &T)> {
        let line = self.lines.get(&Some(channel)).into_iter();
        let parties = line.flat_map(|line| line.order.waiting());
        let head = |(party, since)| match party {
            Party::Lane(_, lane) => {
                self.queues.get(&party)?.items.front().map(|(.., item)| (lane, since, item))
            }
            Party::Source(_) => None,
        };
        parties.filter_map(head).collect()
    }

    /// From now on the lanes of a channel that wait go by this policy, and with these claims.
    pub fn set_order(
        &mut self,
        channel: ChannelId,
        policy: Policy,
        claims: impl IntoIterator<Item = (LaneId, Claim)>,
        now: Stamp,
    ) {
        let Some(line) = self.lines.get_mut(&Some(channel)) else { return };
        line.order.set_policy(policy);
        for (lane, claim) in claims {
            let party = Party::Lane(channel, lane);
            if line.order.contains(party) {
                line.order.insert(party, claim, now);
            }
        }
    }

    /// Takes the next items: at most `count_max`, and as many as fit into `bytes_target` charged
    /// bytes. An item larger than the target goes alone.
    pub fn take(&mut self, bytes_target: usize, count_max: usize, now: Stamp) -> Vec<T> {
        let mut taken = Vec::new();
        let mut room = bytes_target;
        while let (true, Some(group)) = (taken.len() < count_max, self.turns.front()) {
            let Some(party) = self.whose_turn(group, now) else {
                self.lines.remove(&group);
                self.turns.pop();
                continue;
            };
            let saves_up = self.saves_up(group);
            let Some(queue) = self.queues.get_mut(&party) else { break };
            let head = queue.items.front().map_or(0, |(_, charge, _)| *charge);
            let over = match saves_up {
                true => head > queue.deficit,
                false => queue.used >= limits::INTAKE_QUANTUM_BYTES,
            };
            if over {
                self.end_turn(group, party, now);
                continue;
            }
            if head > room && !taken.is_empty() {
                break;
            }
            if let Some(item) = self.pop(party) {
                room = room.saturating_sub(head);
                taken.push(item);
            }
            if self.queues.get(&party).is_some_and(|queue| queue.items.is_empty()) {
                self.end_turn(group, party, now);
            }
        }
        taken
    }

    /// Who has the turn of a group; it begins, unless it was only cut short.
    fn whose_turn(&mut self, group: Option<ChannelId>, now: Stamp) -> Option<Party> {
        let line = self.lines.get_mut(&group)?;
        if let Some(party) = line.current {
            return Some(party);
        }
        let party = line.order.front()?;
        line.current = Some(party);
        let since = line.order.since(party).unwrap_or(now);
        if let Party::Lane(_, lane) = party {
            let fared = self.fared.entry(lane).or_default();
            fared.turns += 1;
            fared.longest_wait_ms = fared.longest_wait_ms.max(millis(since, now));
            if self.fared.len() > limits::INTAKE_LANES_TOLD_MAX {
                self.fared.pop_first();
            }
        }
        let queue = self.queues.get_mut(&party)?;
        queue.deficit += limits::INTAKE_QUANTUM_BYTES;
        queue.used = 0;
        Some(party)
    }

    fn saves_up(&self, group: Option<ChannelId>) -> bool {
        self.lines.get(&group).is_some_and(|line| line.order.policy() == Policy::RoundRobin)
    }

    fn end_turn(&mut self, group: Option<ChannelId>, party: Party, now: Stamp) {
        let saves_up = self.saves_up(group);
        let Some(queue) = self.queues.get_mut(&party) else { return };
        let (still, used) = (!queue.items.is_empty(), queue.used as u64);
        if !saves_up {
            queue.deficit = 0;
        }
        if !still {
            self.queues.remove(&party);
        }
        if let Some(line) = self.lines.get_mut(&group) {
            line.current = None;
            line.order.served(party, used, still, now);
            if line.order.is_empty() {
                self.lines.remove(&group);
                self.turns.pop();
                return;
            }
        }
        self.turns.rotate();
    }

    fn pop(&mut self, party: Party) -> Option<T> {
        let queue = self.queues.get_mut(&party)?;
        let (source, charge, item) = queue.items.pop_front()?;
        queue.deficit = queue.deficit.saturating_sub(charge);
        queue.used += charge;
        self.bytes -= charge;
        self.items -= 1;
        if let Some(held) = self.held.get_mut(&source) {
            *held -= charge;
            if *held == 0 {
                self.held.remove(&source);
            }
        }
        Some(item)
    }

    /// How a lane of a channel fared.
    pub fn fared(&self, channel: ChannelId, lane: LaneId, now: Stamp) -> LaneTurns {
        let line = self.lines.get(&Some(channel));
        let since = line.and_then(|line| line.order.since(Party::Lane(channel, lane)));
        let fared = self.fared.get(&lane).copied().unwrap_or_default();
        LaneTurns { waiting_ms: since.map_or(0, |since| millis(since, now)), ..fared }
    }

    /// Charged bytes waiting.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Items waiting.
    pub fn len(&self) -> usize {
        self.items
    }

    pub fn is_empty(&self) -> bool {
        self.items == 0
    }
}

fn millis(since: Stamp, now: Stamp) -> u64 {
    now.0.saturating_sub(since.0) / 1000
}
