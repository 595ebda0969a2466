//! What a supplier remembers of its lane, across its own crashes: as a careful program would keep
//! it on its disk.

use std::collections::{BTreeMap, BTreeSet};

use crate::history::{Asks, EventId};

/// Numbers remembered: what has an answer and lies further back is forgotten.
const REMEMBERED: usize = 4_096;

/// What is known of a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Known {
    /// Given to a client, and no answer heard.
    Open,
    Accepted,
    Refused,
    /// The client gave up, not knowing.
    Unknown,
}

/// One number of the lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    pub event: EventId,
    pub bytes: usize,
    pub asks: Asks,
    pub known: Known,
}

/// Where to begin on a lane that is taken up again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resume {
    /// At the first number that had no answer.
    Open,
    /// At the first number that is not known to be accepted.
    Doubt,
    /// So many numbers before the first without an answer: accepted ones are repeated.
    Overlap(u64),
}

/// The numbers of one lane. A number stands for one event as long as it is remembered.
#[derive(Debug, Default)]
pub struct Notebook {
    entries: BTreeMap<u64, Entry>,
    /// Numbers given to the present client that have no answer.
    awaited: BTreeSet<u64>,
}

impl Notebook {
    pub fn get(&self, number: u64) -> Option<Entry> {
        self.entries.get(&number).copied()
    }

    /// The number is given to a client.
    pub fn give(&mut self, number: u64, event: EventId, bytes: usize, asks: Asks) {
        self.entries.insert(number, Entry { event, bytes, asks, known: Known::Open });
        self.awaited.insert(number);
        while self.entries.len() > REMEMBERED
            && self.entries.first_key_value().is_some_and(|(_, e)| e.known != Known::Open)
        {
            self.entries.pop_first();
        }
    }

    /// An answer, or the lack of one.
    pub fn note(&mut self, number: u64, known: Known) {
        if let Some(entry) = self.entries.get_mut(&number) {
            entry.known = known;
        }
        self.awaited.remove(&number);
    }

    /// The client is gone: the events that it never answered.
    pub fn abandon(&mut self) -> Vec<EventId> {
        let awaited = std::mem::take(&mut self.awaited);
        awaited.iter().filter_map(|number| self.get(*number)).map(|entry| entry.event).collect()
    }

    /// Whether a number has no answer.
    pub fn has_open(&self) -> bool {
        self.entries.values().any(|entry| entry.known == Known::Open)
    }

    /// The first number to publish; `None`: the one after the last accepted.
    pub fn first(&self, resume: Resume) -> Option<u64> {
        let find = |wanted: &dyn Fn(Known) -> bool| {
            self.entries.iter().find(|(_, entry)| wanted(entry.known)).map(|(number, _)| *number)
        };
        match resume {
            Resume::Open => find(&|known| known == Known::Open),
            Resume::Doubt => find(&|known| known != Known::Accepted),
            Resume::Overlap(back) => {
                let open = find(&|known| known == Known::Open)
                    .or_else(|| self.entries.last_key_value().map(|(number, _)| number + 1))?;
                let least = *self.entries.first_key_value()?.0;
                Some(open.saturating_sub(back).max(least))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lane_is_taken_up_where_it_is_asked_to_be() {
        let mut notebook = Notebook::default();
        assert_eq!(notebook.first(Resume::Overlap(3)), None);
        for number in 1..=6 {
            notebook.give(number, 100 + number, 8, Asks::default());
        }
        let known = [Known::Accepted, Known::Unknown, Known::Accepted, Known::Accepted];
        for (number, known) in (1..).zip(known) {
            notebook.note(number, known);
        }
        assert_eq!(notebook.first(Resume::Open), Some(5));
        assert_eq!(notebook.first(Resume::Doubt), Some(2));
        assert_eq!(notebook.first(Resume::Overlap(2)), Some(3));
        assert_eq!(notebook.first(Resume::Overlap(9)), Some(1));
        notebook.note(5, Known::Accepted);
        notebook.note(6, Known::Accepted);
        assert_eq!(notebook.first(Resume::Open), None);
        assert_eq!(notebook.first(Resume::Overlap(1)), Some(6));
        assert!(!notebook.has_open());
        notebook.give(3, 103, 8, Asks::default());
        assert_eq!((notebook.abandon(), notebook.abandon()), (vec![103], vec![]));
        assert!(notebook.has_open());
    }

    #[test]
    fn memory_is_bounded_but_for_what_is_open() {
        let mut notebook = Notebook::default();
        for number in 1..=2 * REMEMBERED as u64 {
            notebook.give(number, number, 8, Asks::default());
            if number != 1 {
                notebook.note(number, Known::Accepted);
            }
        }
        assert_eq!(notebook.first(Resume::Open), Some(1));
        notebook.note(1, Known::Accepted);
        notebook.give(9_999, 1, 8, Asks::default());
        assert_eq!(notebook.entries.len(), REMEMBERED);
    }
}
