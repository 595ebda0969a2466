//! A set of payload keys, as runs: small where whole entries are held.

use serde::{Deserialize, Serialize};

use crate::types::PayloadKey;

/// Positions `first..first + len` of one log entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Run {
    index: u64,
    first: u32,
    len: u32,
}

/// A sorted set of payload keys.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Keys(Vec<Run>);

impl Keys {
    /// Adds a key greater than all others.
    pub fn push(&mut self, key: PayloadKey) {
        match self.0.last_mut() {
            Some(run) if run.index == key.index && run.first + run.len == key.position => {
                run.len += 1;
            }
            _ => self.0.push(Run { index: key.index, first: key.position, len: 1 }),
        }
    }

    /// Whether the key is in the set.
    pub fn contains(&self, key: PayloadKey) -> bool {
        let after =
            self.0.partition_point(|run| (run.index, run.first) <= (key.index, key.position));
        after.checked_sub(1).and_then(|place| self.0.get(place)).is_some_and(|run| {
            run.index == key.index && u64::from(key.position - run.first) < u64::from(run.len)
        })
    }

    /// All keys in order.
    pub fn iter(&self) -> impl Iterator<Item = PayloadKey> + '_ {
        self.0.iter().flat_map(|run| {
            let positions = (0..run.len).map(|place| run.first.saturating_add(place));
            positions.map(|position| PayloadKey { index: run.index, position })
        })
    }

    /// Number of keys.
    pub fn count(&self) -> u64 {
        self.0.iter().map(|run| u64::from(run.len)).sum()
    }
}

impl FromIterator<PayloadKey> for Keys {
    /// Takes keys in any order, repeated perhaps.
    fn from_iter<I: IntoIterator<Item = PayloadKey>>(keys: I) -> Keys {
        let mut sorted: Vec<PayloadKey> = keys.into_iter().collect();
        sorted.sort_unstable();
        sorted.dedup();
        let mut set = Keys::default();
        sorted.into_iter().for_each(|key| set.push(key));
        set
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn behaves_like_a_set(pairs in prop::collection::vec((0u64..6, 0u32..12), 0..60)) {
            let key = |(index, position)| PayloadKey { index, position };
            let model: BTreeSet<PayloadKey> = pairs.iter().copied().map(key).collect();
            let keys: Keys = pairs.iter().copied().map(key).collect();
            prop_assert!(keys.iter().eq(model.iter().copied()));
            prop_assert_eq!(keys.count(), model.len() as u64);
            for pair in (0..7).flat_map(|i| (0..13).map(move |p| (i, p))) {
                prop_assert_eq!(keys.contains(key(pair)), model.contains(&key(pair)));
            }
        }
    }
}
