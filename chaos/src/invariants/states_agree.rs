//! Nodes that applied the same entries are in the same state: hashes are equal at equal index, and
//! each node's own ledger adds up.

use super::Invariant;
use crate::history::{Record, What};
use crate::table::Table;

/// Hashes by log index.
#[derive(Default)]
pub(super) struct StatesAgree(Table<Option<(u64, u64)>>);

impl Invariant for StatesAgree {
    fn name(&self) -> &'static str {
        "states-agree"
    }

    fn judges(&self, what: &What) -> bool {
        matches!(what, What::StateHash { .. })
    }

    fn observe(&mut self, record: &Record) -> Result<(), String> {
        let What::StateHash { node, index, hash, ledger_ok } = &record.what else { return Ok(()) };
        if !ledger_ok {
            return Err(format!("the ledger of node {node} does not add up at index {index}"));
        }
        let (known, by) = *self.0.slot(*index).get_or_insert((*hash, *node));
        if known != *hash {
            return Err(format!(
                "at index {index} the state of node {by} is {known:016x}, that of node {node} \
                 {hash:016x}"
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::invariants::testing::*;

    fn hashes(all: &[(u64, u64, u64, bool)]) -> Story {
        all.iter().fold(story(), |story, &(node, index, hash, ledger_ok)| {
            story.then(What::StateHash { node, index, hash, ledger_ok })
        })
    }

    #[test]
    fn holds_when_equal_at_equal_index() {
        let story = hashes(&[(1, 5, 7, true), (2, 5, 7, true), (1, 6, 8, true), (3, 5, 7, true)]);
        holds(StatesAgree::default(), story);
    }

    #[test]
    fn catches_states_that_differ_and_ledgers_that_are_off() {
        let differ = hashes(&[(1, 5, 7, true), (2, 5, 8, true)]);
        catches(StatesAgree::default(), differ, "at index 5 the state of node 1");
        let off = hashes(&[(2, 5, 7, false)]);
        catches(StatesAgree::default(), off, "the ledger of node 2 does not add up at index 5");
    }
}
