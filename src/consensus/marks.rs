//! How far the log had got when so many bytes fewer had been applied.

use std::collections::VecDeque;

/// Places of the log and the bytes of entries up to each, some way apart: not more of them than
/// `2 * window / spacing + 2`.
#[derive(Debug)]
pub(super) struct Marks {
    /// Indexes, and bytes applied up to each. The first is the newest of those a window ago.
    marks: VecDeque<(u64, u64)>,
    spacing: u64,
    window: u64,
}

impl Marks {
    /// None yet. Marks closer than `spacing` bytes are left out.
    pub fn new(spacing: u64, window: u64) -> Marks {
        Marks { marks: VecDeque::new(), spacing, window }
    }

    /// By the entry at `index` so many bytes had been applied.
    pub fn note(&mut self, index: u64, bytes: u64) {
        let near = |(_, last): &(u64, u64)| bytes < last.saturating_add(self.spacing);
        if self.marks.back().is_some_and(near) {
            return;
        }
        self.marks.push_back((index, bytes));
        while self.marks.get(1).is_some_and(|(_, before)| self.is_long_ago(*before, bytes)) {
            self.marks.pop_front();
        }
    }

    /// An index that was passed at least a window of bytes ago, now that there are so many.
    pub fn long_ago(&self, bytes: u64) -> Option<u64> {
        let (index, before) = self.marks.front()?;
        self.is_long_ago(*before, bytes).then_some(*index)
    }

    fn is_long_ago(&self, before: u64, now: u64) -> bool {
        before.saturating_add(self.window) <= now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_a_window_back_is_known_and_little_else() {
        let mut marks = Marks::new(10, 100);
        assert_eq!(marks.long_ago(1000), None);
        for index in 1..=1000 {
            // Three bytes an entry.
            marks.note(index, index * 3);
            let found = marks.long_ago(index * 3);
            let exact = index.checked_sub(34).filter(|exact| *exact > 0);
            assert!(found <= exact, "at {index}: {found:?} is less than a window ago");
            assert!(found.map(|found| found + 8) >= exact, "at {index}: {found:?} is too far back");
            assert!(marks.marks.len() <= 22);
        }
        // Long after the last of them.
        assert_eq!(marks.long_ago(10_000), marks.marks.front().map(|(index, _)| *index));
    }
}
