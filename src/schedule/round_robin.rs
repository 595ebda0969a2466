//! Taking turns.

use std::collections::{BTreeSet, VecDeque};

/// A ring of distinct keys. The front has the turn; newcomers join at the back.
#[derive(Debug, Clone)]
pub struct RoundRobin<K> {
    ring: VecDeque<K>,
    present: BTreeSet<K>,
}

impl<K> Default for RoundRobin<K> {
    fn default() -> RoundRobin<K> {
        RoundRobin { ring: VecDeque::new(), present: BTreeSet::new() }
    }
}

impl<K: Copy + Ord> RoundRobin<K> {
    /// Joins at the back; a key that is present keeps its place.
    pub fn insert(&mut self, key: K) {
        if self.present.insert(key) {
            self.ring.push_back(key);
        }
    }

    /// Who has the turn.
    pub fn front(&self) -> Option<K> {
        self.ring.front().copied()
    }

    /// Ends the turn of the front, which goes to the back.
    pub fn rotate(&mut self) {
        if self.ring.len() > 1 {
            self.ring.rotate_left(1);
        }
    }

    /// Ends the turn of the front, which leaves the ring.
    pub fn pop(&mut self) -> Option<K> {
        let key = self.ring.pop_front()?;
        self.present.remove(&key);
        Some(key)
    }

    /// Takes a key out wherever it is; linear in the size of the ring.
    pub fn remove(&mut self, key: K) {
        if self.present.remove(&key) {
            self.ring.retain(|k| *k != key);
        }
    }

    pub fn len(&self) -> usize {
        self.ring.len()
    }

    pub fn is_empty(&self) -> bool {
        self.ring.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_take_turns_in_the_order_they_joined() {
        let mut ring = RoundRobin::default();
        [3, 1, 2, 1].into_iter().for_each(|k| ring.insert(k));
        let mut seen = Vec::new();
        for _ in 0..6 {
            seen.extend(ring.front());
            ring.rotate();
        }
        assert_eq!(seen, [3, 1, 2, 3, 1, 2]);
        ring.remove(1);
        assert_eq!((ring.pop(), ring.pop(), ring.pop()), (Some(3), Some(2), None));
        ring.insert(3);
        assert_eq!(ring.len(), 1);
    }
}
