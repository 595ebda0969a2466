//! Compact maps and sets of dense numbers: sequences, log indexes, numbers of a lane.

use std::collections::BTreeMap;

/// Entries of a page.
const PAGE: usize = 512;

/// A map from numbers to small values, in pages: little more than the values themselves where
/// numbers are dense, and never more than a page for a wild one. The default value means absence.
#[derive(Debug)]
pub struct Table<T>(BTreeMap<u64, Box<[T; PAGE]>>);

impl<T> Default for Table<T> {
    fn default() -> Table<T> {
        Table(BTreeMap::new())
    }
}

impl<T: Copy + Default + PartialEq> Table<T> {
    /// The value of a number; the default if there is none.
    pub fn get(&self, number: u64) -> T {
        let (page, at) = split(number);
        self.0.get(&page).map_or_else(T::default, |page| page[at])
    }

    /// The place of a number's value.
    pub fn slot(&mut self, number: u64) -> &mut T {
        let (page, at) = split(number);
        &mut self.0.entry(page).or_insert_with(|| Box::new([T::default(); PAGE]))[at]
    }

    /// What is there, ascending.
    pub fn iter(&self) -> impl Iterator<Item = (u64, T)> + '_ {
        let all = self.0.iter().flat_map(|(page, values)| entries(*page, values));
        all.filter(|(_, value)| *value != T::default())
    }
}

fn entries<T: Copy>(page: u64, values: &[T; PAGE]) -> impl Iterator<Item = (u64, T)> + '_ {
    values.iter().enumerate().map(move |(at, value)| (page * PAGE as u64 + at as u64, *value))
}

fn split(number: u64) -> (u64, usize) {
    (number / PAGE as u64, (number % PAGE as u64) as usize)
}

/// A set of numbers, a bit each where they are dense.
#[derive(Debug, Default)]
pub struct Set {
    words: Table<u64>,
    len: u64,
}

impl Set {
    /// Adds a number; whether it is new.
    pub fn insert(&mut self, number: u64) -> bool {
        let (word, bit) = (self.words.slot(number / 64), 1 << (number % 64));
        let new = *word & bit == 0;
        *word |= bit;
        self.len += u64::from(new);
        new
    }

    pub fn extend(&mut self, numbers: &[u64]) {
        for number in numbers {
            self.insert(*number);
        }
    }

    pub fn contains(&self, number: u64) -> bool {
        self.words.get(number / 64) & (1 << (number % 64)) != 0
    }

    /// How many there are.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// All of them, ascending.
    pub fn iter(&self) -> impl Iterator<Item = u64> + '_ {
        let bits = |(at, word): (u64, u64)| {
            (0..64).filter(move |bit| word & (1 << bit) != 0).map(move |bit| at * 64 + bit)
        };
        self.words.iter().flat_map(bits)
    }
}

/// The value of a name, made if there is none; allocates only then.
pub fn entry<'a, V: Default>(map: &'a mut BTreeMap<String, V>, name: &str) -> &'a mut V {
    if !map.contains_key(name) {
        map.insert(name.to_owned(), V::default());
    }
    map.get_mut(name).expect("it was just made")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_set_is_a_set_of_dense_and_wild_numbers() {
        let (mut set, mut model) = (Set::default(), BTreeSet::new());
        let mut random = fastrand::Rng::with_seed(7);
        let wild = [0, 63, 64, u64::MAX, u64::MAX - 1, 1 << 40];
        for number in (0..5000).map(|_| random.u64(0..4000)).chain(wild) {
            assert_eq!(set.insert(number), model.insert(number));
        }
        assert!(set.iter().eq(model.iter().copied()));
        assert_eq!(set.len(), model.len() as u64);
        assert!((0..4100).all(|number| set.contains(number) == model.contains(&number)));
    }

    #[test]
    fn a_table_keeps_values_in_order() {
        let mut table = Table::<u32>::default();
        *table.slot(u64::MAX) = 3;
        *table.slot(5) = 1;
        *table.slot(600) += 2;
        assert_eq!((table.get(5), table.get(6), table.get(1 << 50)), (1, 0, 0));
        assert!(table.iter().eq([(5, 1), (600, 2), (u64::MAX, 3)]));
    }
}
