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

impl Run {
    fn start(&self) -> PayloadKey {
        PayloadKey { index: self.index, position: self.first }
    }

    /// One more than its last position.
    fn end(&self) -> u32 {
        self.first.saturating_add(self.len)
    }

    /// The first key behind it.
    fn beyond(&self) -> PayloadKey {
        PayloadKey { index: self.index, position: self.end() }
    }

    /// Whether the key lies behind it.
    fn is_before(&self, key: PayloadKey) -> bool {
        self.beyond() <= key
    }
}

/// A sorted set of payload keys.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Keys(Vec<Run>);

impl Keys {
    /// Adds a key greater than all others.
    pub fn push(&mut self, key: PayloadKey) {
        self.push_run(Run { index: key.index, first: key.position, len: 1 });
    }

    /// Adds a run that begins behind all others.
    fn push_run(&mut self, run: Run) {
        match self.0.last_mut() {
            Some(last) if last.index == run.index && last.end() == run.first => last.len += run.len,
            _ => self.0.push(run),
        }
    }

    /// Whether the key is in the set.
    pub fn contains(&self, key: PayloadKey) -> bool {
        // Most sets that are asked hold nothing near it.
        let beyond = |run: &Run| run.is_before(key);
        if self.0.last().is_none_or(beyond) || self.0.first().is_none_or(|run| run.start() > key) {
            return false;
        }
        self.0.get(self.0.partition_point(beyond)).is_some_and(|run| run.start() <= key)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The least key.
    pub fn first(&self) -> Option<PayloadKey> {
        self.0.first().map(Run::start)
    }

    /// The greatest key.
    pub fn last(&self) -> Option<PayloadKey> {
        let run = self.0.last()?;
        Some(PayloadKey { index: run.index, position: run.end().checked_sub(1)? })
    }

    /// All keys in order.
    pub fn iter(&self) -> impl Iterator<Item = PayloadKey> + '_ {
        self.0.iter().flat_map(|run| {
            let positions = run.first..run.end();
            positions.map(|position| PayloadKey { index: run.index, position })
        })
    }

    /// Number of keys.
    pub fn count(&self) -> u64 {
        self.0.iter().map(|run| u64::from(run.len)).sum()
    }

    /// The keys in order, in sets of `most`, the last one with what is left.
    pub fn portions(&self, most: u32) -> Vec<Keys> {
        let (mut portions, mut portion, mut room) = (Vec::new(), Keys::default(), most);
        for run in &self.0 {
            let mut first = run.first;
            while first < run.end() {
                let end = run.end().min(first.saturating_add(room.max(1)));
                portion.push_part(run, first, end);
                room = room.saturating_sub(end - first);
                first = end;
                if room == 0 {
                    portions.push(std::mem::take(&mut portion));
                    room = most;
                }
            }
        }
        portions.extend(Some(portion).filter(|portion| !portion.is_empty()));
        portions
    }

    /// The keys that are in any of the sets.
    pub fn union<'a>(sets: impl IntoIterator<Item = &'a Keys>) -> Keys {
        let mut runs: Vec<Run> = sets.into_iter().flat_map(|set| set.0.iter().copied()).collect();
        runs.sort_unstable_by_key(Run::start);
        let mut union = Keys::default();
        for run in runs {
            let known = union.0.last().filter(|last| last.index == run.index).map(Run::end);
            let first = known.map_or(run.first, |end| run.first.max(end));
            union.push_part(&run, first, run.end());
        }
        union
    }

    /// The keys that are in both sets.
    pub fn both(&self, other: &Keys) -> Keys {
        let mut both = Keys::default();
        let mut theirs = other.from(self.first());
        for run in &self.0 {
            while let Some(their) = theirs.first() {
                if their.is_before(run.start()) {
                    theirs = &theirs[1..];
                    continue;
                }
                if their.start() >= run.beyond() {
                    break;
                }
                both.push_part(run, run.first.max(their.first), run.end().min(their.end()));
                if their.beyond() > run.beyond() {
                    break;
                }
                theirs = &theirs[1..];
            }
            if theirs.is_empty() {
                break;
            }
        }
        both
    }

    /// The keys that are not in the other set.
    pub fn minus(&self, other: &Keys) -> Keys {
        let mut rest = Keys::default();
        let mut theirs = other.from(self.first());
        for run in &self.0 {
            let mut from = run.first;
            while let Some(their) = theirs.first().filter(|their| their.start() < run.beyond()) {
                if !their.is_before(run.start()) {
                    rest.push_part(run, from, their.first);
                    from = their.end();
                }
                if their.beyond() > run.beyond() {
                    break;
                }
                theirs = &theirs[1..];
            }
            rest.push_part(run, from, run.end());
        }
        rest
    }

    /// The runs that do not end before a key.
    fn from(&self, key: Option<PayloadKey>) -> &[Run] {
        let before = |run: &Run| key.is_some_and(|key| run.is_before(key));
        &self.0[self.0.partition_point(before)..]
    }

    /// Adds `first..end` of a run, if that is anything.
    fn push_part(&mut self, run: &Run, first: u32, end: u32) {
        if first < end {
            self.push_run(Run { index: run.index, first, len: end - first });
        }
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

    fn key((index, position): (u64, u32)) -> PayloadKey {
        PayloadKey { index, position }
    }

    fn set() -> impl Strategy<Value = BTreeSet<PayloadKey>> {
        prop::collection::btree_set((0u64..6, 0u32..12).prop_map(key), 0..60)
    }

    proptest! {
        #[test]
        fn behaves_like_a_set(model in set(), other in set()) {
            let keys = |model: &BTreeSet<PayloadKey>| model.iter().copied().collect::<Keys>();
            let (mine, theirs) = (keys(&model), keys(&other));
            prop_assert!(mine.iter().eq(model.iter().copied()));
            prop_assert_eq!(mine.count(), model.len() as u64);
            prop_assert_eq!(mine.last(), model.last().copied());
            for most in 1..9 {
                let portions = mine.portions(most);
                prop_assert!(portions.iter().rev().skip(1).all(|p| p.count() == u64::from(most)));
                prop_assert!(portions.iter().all(|p| (1..=most.into()).contains(&p.count())));
                prop_assert!(portions.iter().flat_map(Keys::iter).eq(mine.iter()));
            }
            for key in (0..7).flat_map(|i| (0..13).map(move |p| key((i, p)))) {
                prop_assert_eq!(mine.contains(key), model.contains(&key));
            }
            prop_assert_eq!(Keys::union([&mine, &theirs]), keys(&(&model | &other)));
            prop_assert_eq!(mine.both(&theirs), keys(&(&model & &other)));
            prop_assert_eq!(mine.minus(&theirs), keys(&(&model - &other)));
        }
    }
}
