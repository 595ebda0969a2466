//! A sound node stays in: none is quarantined whose disk nobody damaged. Losing power, or a process,
//! is no damage, however it happens.

use std::collections::BTreeSet;

use super::Invariant;
use crate::history::{Record, What};

/// How the names of faults begin that change bytes on a disk, noticeably or not.
const DAMAGING: [&str; 3] = ["flip", "truncate", "rollback"];

#[derive(Default)]
pub(super) struct SoundStaysIn {
    /// Nodes whose disk was touched.
    damaged: BTreeSet<u64>,
    told: BTreeSet<u64>,
}

impl Invariant for SoundStaysIn {
    fn name(&self) -> &'static str {
        "sound-stays-in"
    }

    fn observe(&mut self, record: &Record) -> Result<(), String> {
        match &record.what {
            What::Damaged { node, .. } => {
                self.damaged.insert(*node);
            }
            What::Fault { fault, targets, .. }
                if DAMAGING.iter().any(|name| fault.starts_with(name)) =>
            {
                self.damaged.extend(targets);
            }
            What::Node { node, view } if view.role == "quarantined" => {
                if !self.damaged.contains(node) && self.told.insert(*node) {
                    return Err(format!("node {node} is quarantined, and nobody damaged its disk"));
                }
            }
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::{NodeView, Stage};
    use crate::invariants::testing::*;

    fn is(story: Story, role: &str) -> Story {
        story.node(2, NodeView { role: role.into(), ..NodeView::default() })
    }

    #[test]
    fn holds_for_nodes_that_were_damaged() {
        let damaged = What::Damaged { node: 2, file: "log".into(), how: "bit flip".into() };
        holds(SoundStaysIn::default(), is(is(story(), "leader").then(damaged), "quarantined"));
        for name in ["flip-bit", "truncate(follower, one of log)", "rollback(leader, log)"] {
            let (fault, detail) = (name.into(), String::new());
            let fault = What::Fault { fault, targets: vec![2], stage: Stage::Begin, detail };
            holds(SoundStaysIn::default(), is(story().then(fault), "quarantined"));
        }
    }

    #[test]
    fn catches_one_that_lost_its_power_only() {
        let other = What::Damaged { node: 3, file: "log".into(), how: "bit flip".into() };
        let down = story().then(other).then(What::NodeDown { node: 2 });
        catches(SoundStaysIn::default(), is(down, "quarantined"), "node 2 is quarantined");
    }
}
