//! What the bed's own faults have left of the cluster: nothing is asked of it that needs a majority
//! they took away, for that would only be waited for.

use std::collections::BTreeSet;

use crate::bed::NodeInfo;
use crate::faults::Demand;

/// Who belongs to the cluster, and who of them can be counted on now.
#[derive(Debug, Clone, Default)]
pub struct Standing {
    members: BTreeSet<u64>,
    able: BTreeSet<u64>,
}

impl Standing {
    /// As the bed knows it; `out` are those that faults keep from the others.
    pub fn of(nodes: &[NodeInfo], out: &BTreeSet<u64>) -> Standing {
        let members = nodes.iter().filter(|node| node.member);
        let able = members.clone().filter(|node| node.is_live() && !out.contains(&node.id));
        let ids = |id: &NodeInfo| id.id;
        Standing { members: members.map(ids).collect(), able: able.map(ids).collect() }
    }

    /// The same without a node that dies.
    pub fn without(mut self, node: u64) -> Standing {
        self.able.remove(&node);
        self
    }

    /// Whether a majority is there for what is asked, while it is done and when it is done. Whoever
    /// is to leave must be there, too; if it is not known who, somebody able is.
    pub fn meets(&self, demand: &Demand) -> bool {
        let Demand { leavers, leaving } = demand;
        let known = leavers.iter().all(|id| self.able.contains(id) || !self.members.contains(id));
        let gone = leavers.len() + leaving;
        known
            && is_majority(self.able.len(), self.members.len())
            && is_majority(self.able.len().saturating_sub(gone), self.members.len() - gone)
    }
}

fn is_majority(count: usize, of: usize) -> bool {
    count > of / 2
}

#[cfg(test)]
mod tests {
    use super::*;

    fn standing(members: &[u64], able: &[u64]) -> Standing {
        Standing {
            members: members.iter().copied().collect(),
            able: able.iter().copied().collect(),
        }
    }

    #[test]
    fn a_majority_must_be_there_before_and_after() {
        let joins = Demand::default();
        assert!(standing(&[1, 2, 3], &[1, 2]).meets(&joins));
        // One was removed, and of the two that are left the leader was killed.
        assert!(!standing(&[1, 2], &[1]).meets(&joins));
        let removes = Demand { leaving: 1, ..Demand::default() };
        assert!(standing(&[1, 2, 3], &[1, 2, 3]).meets(&removes));
        assert!(!standing(&[1, 2, 3], &[1, 2, 3]).without(3).meets(&removes));
        assert!(standing(&[1, 2, 3, 4, 5], &[1, 2, 3, 4, 5]).without(3).meets(&removes));
    }

    #[test]
    fn whoever_is_to_leave_must_be_there() {
        let leaves = |id| Demand { leavers: vec![id], ..Demand::default() };
        assert!(standing(&[1, 2, 3, 4], &[1, 2, 4]).meets(&leaves(4)));
        assert!(!standing(&[1, 2, 3, 4], &[1, 2, 3]).meets(&leaves(4)));
    }
}
