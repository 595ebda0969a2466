//! Admission: many sources offer work, log entries are formed from it, fairly and within bounds.
//!
//! While one entry is on its way the next one fills here (natural batching); no timer is involved.
//!
//! Invariants:
//! - Items of one source leave in the order they were offered.
//! - Turns are taken by *deficit round robin*: each turn a source may send
//!   [`limits::INTAKE_QUANTUM_BYTES`] plus what it saved up. An item of charge `c` at the head of
//!   its source therefore waits for at most `ceil(c / quantum) * quantum + largest item` bytes of
//!   each other source, however much they have queued.
//! - What is held never exceeds the bound, save for a single item larger than it.
//! - A source may hold at most as much as is still free, so one that floods stops at half of the
//!   bound, `n` of them at `n / (n + 1)`: there is always room for the next one, and as room gets
//!   scarce those who hold most are refused first.
//! - Nothing accepted is ever dropped.
//!
//! Left out: priorities between sources, and any idea of what an item is.
#![deny(clippy::disallowed_types, clippy::disallowed_methods)]

use std::collections::{BTreeMap, VecDeque};

use thiserror::Error;

use crate::schedule::RoundRobin;
use crate::types::limits;

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

/// A bounded queue of `T`, fair between its sources.
#[derive(Debug)]
pub struct Intake<T> {
    bytes_max: usize,
    bytes: usize,
    items: usize,
    /// Sources with items, and no others.
    sources: BTreeMap<u64, Source<T>>,
    turns: RoundRobin<u64>,
}

#[derive(Debug)]
struct Source<T> {
    items: VecDeque<(usize, T)>,
    bytes: usize,
    /// What it may still send in this turn; carried over while it has items.
    deficit: usize,
    /// Its turn has begun (the quantum was added) and was cut short by the end of a batch.
    mid_turn: bool,
}

impl<T> Source<T> {
    fn new() -> Source<T> {
        Source { items: VecDeque::new(), bytes: 0, deficit: 0, mid_turn: false }
    }

    fn pop(&mut self) -> Option<(usize, T)> {
        let (charge, item) = self.items.pop_front()?;
        self.bytes -= charge;
        self.deficit -= charge;
        Some((charge, item))
    }
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
            sources: BTreeMap::new(),
            turns: RoundRobin::default(),
        }
    }

    /// Queues an item of `cost_bytes`, or gives it back. Each item is charged
    /// [`limits::INTAKE_ITEM_BYTES`] on top, so that empty items are bounded too.
    pub fn offer(&mut self, source: u64, cost_bytes: usize, item: T) -> Result<(), (Full, T)> {
        let charge = cost_bytes.saturating_add(limits::INTAKE_ITEM_BYTES);
        let queued = self.sources.get(&source).map_or(0, |s| s.bytes);
        if !self.admits(queued, charge) {
            let full = Full {
                source_id: source,
                source_bytes: queued,
                held_bytes: self.bytes,
                item_bytes: charge,
            };
            return Err((full, item));
        }
        let entry = self.sources.entry(source).or_insert_with(Source::new);
        entry.items.push_back((charge, item));
        entry.bytes += charge;
        self.bytes += charge;
        self.items += 1;
        self.turns.insert(source);
        Ok(())
    }

    fn admits(&self, queued: usize, charge: usize) -> bool {
        let free = self.bytes_max.saturating_sub(self.bytes);
        let fair = queued == 0 || queued.saturating_add(charge) <= free;
        self.bytes == 0 || (charge <= free && fair)
    }

    /// Takes the next items: at most `count_max`, and as many as fit into `bytes_target` charged
    /// bytes. An item larger than the target goes alone.
    pub fn take(&mut self, bytes_target: usize, count_max: usize) -> Vec<T> {
        let mut taken = Vec::new();
        let mut room = bytes_target;
        while let (true, Some(id)) = (taken.len() < count_max, self.turns.front()) {
            let Some(source) = self.sources.get_mut(&id) else {
                self.turns.pop();
                continue;
            };
            if !source.mid_turn {
                source.deficit += limits::INTAKE_QUANTUM_BYTES;
                source.mid_turn = true;
            }
            let head = source.items.front().map_or(0, |(charge, _)| *charge);
            if head > source.deficit {
                source.mid_turn = false;
                self.turns.rotate();
                continue;
            }
            if head > room && !taken.is_empty() {
                break;
            }
            if let Some((charge, item)) = source.pop() {
                room = room.saturating_sub(charge);
                self.bytes -= charge;
                self.items -= 1;
                taken.push(item);
            }
            if source.items.is_empty() {
                self.sources.remove(&id);
                self.turns.pop();
            }
        }
        taken
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
