//! The newest entries in memory, and the ids of all.

use std::collections::VecDeque;

use super::{Entry, LogState};
use crate::types::EntryId;

/// What is known of the log without reading the disk.
///
/// * `entries` are consecutive and end with the last entry of the log.
/// * Nothing that is not durable is ever evicted.
/// * `runs` holds the first id of each stretch of one leader, so that every id is known.
#[derive(Debug, Default)]
pub struct Tail {
    purged: Option<EntryId>,
    last: Option<EntryId>,
    durable: Option<u64>,
    epoch: u64,
    entries: VecDeque<Entry>,
    bytes: usize,
    budget: usize,
    runs: VecDeque<EntryId>,
}

impl Tail {
    /// The tail of a log of which everything up to `purged` is gone.
    pub fn new(purged: Option<EntryId>, budget: usize) -> Tail {
        Tail { purged, budget, ..Tail::default() }
    }

    /// What is purged, and the last entry.
    pub fn state(&self) -> LogState {
        LogState { purged: self.purged, last: self.last.or(self.purged) }
    }

    /// Index that the next entry must have; `None` when any will do (an empty, unpurged log).
    pub fn expected(&self) -> Option<u64> {
        self.state().last.map(|id| id.index + 1)
    }

    /// Index of the first entry not purged, which need not exist.
    pub fn first(&self) -> u64 {
        self.purged.map_or(0, |id| id.index + 1)
    }

    /// Index of the last entry, if there is one.
    pub fn last_index(&self) -> Option<u64> {
        self.last.map(|id| id.index)
    }

    /// Adds an entry after the last.
    pub fn push(&mut self, entry: Entry) {
        let leader = |id: &EntryId| (id.term, id.node);
        if self.runs.back().map(leader) != Some(leader(&entry.id)) {
            self.runs.push_back(entry.id);
        }
        self.last = Some(entry.id);
        self.bytes += entry.body.len();
        self.entries.push_back(entry);
    }

    /// Notes that the entries pushed up to `index` in `epoch` are durable, and evicts what exceeds
    /// the budget. Late news about entries truncated meanwhile is ignored.
    pub fn set_durable(&mut self, epoch: u64, index: u64) {
        if epoch == self.epoch {
            self.durable = Some(index);
        }
        while self.bytes > self.budget && self.entries.len() > 1 {
            match (self.entries.front(), self.durable) {
                (Some(entry), Some(durable)) if entry.id.index <= durable => self.drop_front(),
                _ => break,
            }
        }
    }

    /// Number of truncations so far.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// The last entry known to be durable.
    pub fn durable(&self) -> Option<u64> {
        self.durable
    }

    /// Index of the first entry in memory; all after it are there too.
    pub fn memory_start(&self) -> Option<u64> {
        self.entries.front().map(|entry| entry.id.index)
    }

    /// The entry at `index`, if it is in memory.
    pub fn get(&self, index: u64) -> Option<&Entry> {
        let first = self.entries.front()?.id.index;
        self.entries.get(usize::try_from(index.checked_sub(first)?).ok()?)
    }

    /// The id of the entry at `index`, if it is in the log; also of the last one purged.
    pub fn id(&self, index: u64) -> Option<EntryId> {
        if self.purged.is_some_and(|id| id.index == index) {
            return self.purged;
        }
        if index < self.first() || self.last.is_none_or(|last| index > last.index) {
            return None;
        }
        let after = self.runs.partition_point(|run| run.index <= index);
        let run = self.runs.get(after.checked_sub(1)?)?;
        Some(EntryId { index, ..*run })
    }

    /// Forgets the entries after `index`; all of them if `None`.
    pub fn truncate_after(&mut self, index: Option<u64>) {
        let keep = |found: u64| index.is_some_and(|index| found <= index);
        if self.last.is_none_or(|last| keep(last.index)) {
            return;
        }
        self.last = index.filter(|i| *i >= self.first()).and_then(|index| self.id(index));
        let keep = |found: u64| self.last.is_some_and(|last| found <= last.index);
        while self.entries.back().is_some_and(|entry| !keep(entry.id.index)) {
            self.bytes -= self.entries.pop_back().map_or(0, |entry| entry.body.len());
        }
        while self.runs.back().is_some_and(|run| !keep(run.index)) {
            self.runs.pop_back();
        }
        self.durable = self.durable.and_then(|durable| Some(durable.min(self.last_index()?)));
        self.epoch += 1;
    }

    /// Forgets the entries up to `upto`, which may lie beyond the last one.
    pub fn purge(&mut self, upto: EntryId) {
        if self.purged.is_some_and(|purged| purged.index >= upto.index) {
            return;
        }
        self.purged = Some(upto);
        while self.entries.front().is_some_and(|entry| entry.id.index <= upto.index) {
            self.drop_front();
        }
        while self.runs.get(1).is_some_and(|second| second.index <= upto.index + 1) {
            self.runs.pop_front();
        }
        if self.last.is_some_and(|last| last.index <= upto.index) {
            self.last = None;
            self.runs.clear();
        }
    }

    fn drop_front(&mut self) {
        self.bytes -= self.entries.pop_front().map_or(0, |entry| entry.body.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::NodeId;

    fn id(term: u64, index: u64) -> EntryId {
        EntryId { term, node: NodeId(1), index }
    }

    fn tail(terms: &[u64], budget: usize) -> Tail {
        let mut tail = Tail::new(None, budget);
        for (index, term) in (0..).zip(terms) {
            tail.push(Entry { id: id(*term, index), kind: 0, body: vec![0; 10].into() });
        }
        tail
    }

    #[test]
    fn ids_are_known_without_the_entries() {
        let terms = [1, 1, 2, 2, 2, 5];
        let mut tail = tail(&terms, 0);
        tail.set_durable(0, 5);
        assert!(tail.get(4).is_none() && tail.get(5).is_some());
        for (index, term) in (0..).zip(terms) {
            assert_eq!(tail.id(index), Some(id(term, index)));
        }
        tail.purge(id(2, 3));
        assert_eq!([tail.id(2), tail.id(3), tail.id(4)], [None, Some(id(2, 3)), Some(id(2, 4))]);
        tail.truncate_after(Some(4));
        assert_eq!(tail.state(), LogState { purged: Some(id(2, 3)), last: Some(id(2, 4)) });
        tail.truncate_after(None);
        assert_eq!(tail.state().last, Some(id(2, 3)));
    }

    #[test]
    fn what_is_not_durable_is_not_evicted() {
        let mut tail = tail(&[1; 6], 25);
        tail.set_durable(0, 1);
        assert!(tail.get(1).is_none() && tail.get(2).is_some());
        tail.set_durable(0, 5);
        assert!(tail.get(3).is_none() && tail.get(4).is_some());
    }

    #[test]
    fn purging_beyond_the_last_entry_empties_the_log() {
        let mut tail = tail(&[1; 3], 100);
        tail.purge(id(4, 9));
        assert_eq!(tail.state(), LogState { purged: Some(id(4, 9)), last: Some(id(4, 9)) });
        assert_eq!((tail.expected(), tail.get(2)), (Some(10), None));
        assert_eq!(tail.id(9), Some(id(4, 9)));
    }
}
