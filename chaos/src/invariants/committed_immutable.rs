//! Committed entries are immutable: at an index every node, in each of its lives, holds the same
//! entry. What a node knows to be committed does not shrink while it lives, and it applies nothing
//! else.
//!
//! A node's view is not taken at one instant: it may show an entry applied before it shows it
//! committed. So that is judged by a view at least `observe_lag` later.

use std::collections::BTreeMap;

use super::rules::micros;
use super::{Invariant, Rules};
use crate::history::{NodeView, Record, What};
use crate::table::Table;

pub(super) struct CommittedImmutable {
    observe_lag: u64,
    entries: Table<Option<Entry>>,
    nodes: BTreeMap<u64, Node>,
}

#[derive(Clone, Copy, PartialEq)]
struct Entry {
    term: u64,
    digest: u64,
    node: u64,
}

#[derive(Default)]
struct Node {
    life: u64,
    committed: u64,
    /// Applied, and not yet seen to be committed: the index, and since when.
    ahead: Option<(u64, u64)>,
}

impl CommittedImmutable {
    pub fn new(rules: &Rules) -> CommittedImmutable {
        CommittedImmutable {
            observe_lag: micros(rules.observe_lag),
            entries: Table::default(),
            nodes: BTreeMap::new(),
        }
    }

    fn committed(&mut self, index: u64, entry: Entry) -> Result<(), String> {
        let known = *self.entries.slot(index).get_or_insert(entry);
        if (known.term, known.digest) == (entry.term, entry.digest) {
            return Ok(());
        }
        Err(format!(
            "entry {index} is {:016x} of term {} on node {}, and {:016x} of term {} on node {}",
            known.digest, known.term, known.node, entry.digest, entry.term, entry.node
        ))
    }

    fn node(&mut self, at: u64, id: u64, view: &NodeView) -> Result<(), String> {
        let node = self.nodes.entry(id).or_default();
        if node.life != view.life {
            *node = Node { life: view.life, ..Node::default() };
        }
        let before = std::mem::replace(&mut node.committed, view.committed);
        if view.committed < before {
            let now = view.committed;
            return Err(format!("node {id} knew {before} to be committed, and then only {now}"));
        }
        if let Some((applied, since)) = node.ahead {
            if view.committed >= applied {
                node.ahead = None;
            } else if at >= since + self.observe_lag {
                node.ahead = Some((applied, u64::MAX - self.observe_lag));
                let committed = view.committed;
                return Err(format!("node {id} applied {applied}, but only {committed} committed"));
            }
        }
        if view.applied > view.committed {
            node.ahead.get_or_insert((view.applied, at));
        }
        Ok(())
    }
}

impl Invariant for CommittedImmutable {
    fn name(&self) -> &'static str {
        "committed-immutable"
    }

    fn judges(&self, what: &What) -> bool {
        matches!(what, What::Committed { .. })
    }

    fn observe(&mut self, record: &Record) -> Result<(), String> {
        match record.what {
            What::Committed { node, index, term, digest } => {
                self.committed(index, Entry { term, digest, node })
            }
            What::Node { node, ref view } => self.node(record.at, node, view),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::invariants::testing::*;

    fn one() -> CommittedImmutable {
        CommittedImmutable::new(&Rules::default())
    }

    fn entries(all: &[(u64, u64, u64, u64)]) -> Story {
        all.iter().fold(story(), |story, &(node, index, term, digest)| {
            story.then(What::Committed { node, index, term, digest })
        })
    }

    fn shows(story: Story, life: u64, applied: u64, committed: u64) -> Story {
        story.node(1, NodeView { life, applied, committed, ..NodeView::default() })
    }

    #[test]
    fn holds_for_equal_entries_and_growing_indexes() {
        holds(one(), entries(&[(1, 5, 1, 7), (2, 5, 1, 7), (1, 6, 2, 8), (1, 5, 1, 7)]));
        let story = shows(shows(story(), 1, 5, 4), 1, 6, 5);
        holds(one(), shows(shows(story.wait(3000), 1, 6, 6), 2, 1, 1));
    }

    #[test]
    fn catches_an_entry_that_changed() {
        catches(one(), entries(&[(1, 5, 1, 7), (2, 5, 1, 8)]), "entry 5 is");
        catches(one(), entries(&[(1, 5, 1, 7), (1, 5, 2, 7)]), "of term 2 on node 1");
    }

    #[test]
    fn catches_a_commitment_taken_back() {
        catches(one(), shows(shows(story(), 1, 4, 5), 1, 4, 4), "knew 5 to be committed");
    }

    #[test]
    fn catches_what_was_applied_and_never_committed() {
        let story = shows(shows(story(), 1, 5, 4).wait(2000), 1, 5, 4);
        catches(one(), shows(story.wait(2000), 1, 5, 4), "applied 5, but only 4 committed");
    }
}
