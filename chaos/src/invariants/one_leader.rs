//! A node leads a term in one of its lives only, and a tenure is served by one node.
//!
//! Terms are shared: votes are ordered by term and node, so that of two candidates in one term the
//! later may replace the earlier (openraft's advanced leader ids). A leader is told by both, and
//! must not come back as the same one after a restart: its log may have been cut meanwhile.

use std::collections::BTreeMap;

use super::Invariant;
use crate::history::{NodeView, Record, What};

#[derive(Default)]
pub(super) struct OneLeader {
    /// Which life of the node led the term.
    lives: BTreeMap<(u64, u64), u64>,
    tenures: BTreeMap<u64, u64>,
}

impl Invariant for OneLeader {
    fn name(&self) -> &'static str {
        "one-leader"
    }

    fn judges(&self, what: &What) -> bool {
        matches!(what, What::Node { .. })
    }

    fn observe(&mut self, record: &Record) -> Result<(), String> {
        let What::Node { node, view } = &record.what else { return Ok(()) };
        let NodeView { role, term, life, tenure, .. } = view;
        if role == "leader" {
            let known = *self.lives.entry((*term, *node)).or_insert(*life);
            if known != *life {
                return Err(format!(
                    "lives {known} and {life} of node {node} both lead term {term}"
                ));
            }
        }
        if let Some(tenure) = tenure {
            let known = *self.tenures.entry(*tenure).or_insert(*node);
            if known != *node {
                return Err(format!("nodes {known} and {node} both serve tenure {tenure}"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::invariants::testing::*;

    fn leads(life: u64, term: u64, tenure: u64) -> NodeView {
        NodeView { role: "leader".into(), life, term, tenure: Some(tenure), ..NodeView::default() }
    }

    #[test]
    fn holds_for_one_after_the_other() {
        let shared = story().node(1, leads(1, 1, 10)).node(2, leads(1, 1, 20));
        holds(OneLeader::default(), shared.node(1, leads(2, 2, 30)));
        let follower = NodeView { role: "follower".into(), term: 1, ..NodeView::default() };
        holds(OneLeader::default(), story().node(1, leads(1, 1, 10)).node(1, follower));
    }

    #[test]
    fn catches_a_leader_that_comes_back_and_two_of_a_tenure() {
        let again = story().node(1, leads(1, 1, 10)).node(1, leads(2, 1, 20));
        catches(OneLeader::default(), again, "both lead term 1");
        let two = story().node(1, leads(1, 1, 10)).node(2, leads(1, 2, 10));
        catches(OneLeader::default(), two, "both serve tenure 10");
    }
}
