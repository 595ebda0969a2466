//! One leader per term, and one node per tenure.

use std::collections::BTreeMap;

use super::Invariant;
use crate::history::{Record, What};

#[derive(Default)]
pub(super) struct OneLeader {
    by_term: BTreeMap<u64, u64>,
    by_tenure: BTreeMap<u64, u64>,
}

impl Invariant for OneLeader {
    fn name(&self) -> &'static str {
        "one-leader"
    }

    fn observe(&mut self, record: &Record) -> Result<(), String> {
        let What::Node { node, view } = &record.what else { return Ok(()) };
        if view.role == "leader" {
            let known = *self.by_term.entry(view.term).or_insert(*node);
            if known != *node {
                return Err(format!("nodes {known} and {node} both lead in term {}", view.term));
            }
        }
        if let Some(tenure) = view.tenure {
            let known = *self.by_tenure.entry(tenure).or_insert(*node);
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
    use crate::history::NodeView;
    use crate::invariants::testing::*;

    fn serves(node: u64, role: &str, term: u64, tenure: u64) -> Story {
        let (role, tenure) = (role.into(), Some(tenure));
        story().leads(1, 1).node(node, NodeView { role, term, tenure, ..NodeView::default() })
    }

    #[test]
    fn holds_for_one_after_the_other() {
        holds(OneLeader::default(), story().leads(1, 1).leads(2, 2).leads(1, 1).leads(1, 3));
        let follower = NodeView { role: "follower".into(), term: 1, ..NodeView::default() };
        holds(OneLeader::default(), story().leads(1, 1).node(2, follower));
    }

    #[test]
    fn catches_two_of_a_term_and_two_of_a_tenure() {
        catches(OneLeader::default(), serves(2, "leader", 1, 20), "both lead in term 1");
        catches(OneLeader::default(), serves(2, "leader", 2, 10), "both serve tenure 10");
        catches(OneLeader::default(), serves(2, "follower", 2, 10), "both serve tenure 10");
    }
}
