//! A sound node stays in: no node is quarantined, and none ends by itself, whose own disk gave it no
//! reason. Losing power, or a process, is no damage, however it happens; and what is wrong with one
//! node must not stop another.
//!
//! Damage excuses a node until it was wiped, or gave its data up, if something changed that counts. A
//! disk that fails excuses the end of its process while it does, and a moment longer. One that is full
//! does not: a node waits for room.

use std::collections::{BTreeMap, BTreeSet};

use super::Invariant;
use crate::history::{Record, Stage, What};

/// How the names of faults begin that make syncs fail.
const FAILING: [&str; 3] = ["failing", "power_cut", "power-cut"];
/// How long after such a fault a process may end of it, in microseconds.
const AFTERMATH: u64 = 10_000_000;

#[derive(Default)]
pub(super) struct SoundStaysIn {
    /// Nodes whose bytes were changed so that they may notice.
    damaged: BTreeSet<u64>,
    /// Those of them that gave their data up: what their processes have now is sound.
    cleared: BTreeSet<u64>,
    /// Until when a node's disk excuses the end of its process.
    failing: BTreeMap<u64, u64>,
    told: BTreeSet<u64>,
}

impl SoundStaysIn {
    fn object(&mut self, node: u64, what: String) -> Result<(), String> {
        if self.damaged.contains(&node) || !self.told.insert(node) {
            return Ok(());
        }
        Err(what)
    }
}

impl Invariant for SoundStaysIn {
    fn name(&self) -> &'static str {
        "sound-stays-in"
    }

    fn judges(&self, what: &What) -> bool {
        matches!(what, What::Node { .. } | What::Exited { .. })
    }

    fn observe(&mut self, record: &Record) -> Result<(), String> {
        match &record.what {
            What::Damaged { node, .. } | What::Touched { node, harmless: false, .. } => {
                self.damaged.insert(*node);
            }
            What::Wiped { node } => {
                self.damaged.remove(node);
            }
            What::Cleared { node } => {
                self.cleared.insert(*node);
            }
            What::Exited { node, how } if self.cleared.contains(node) => {
                return Err(format!("node {node} ended by itself while it joined anew: {how}"));
            }
            What::Fault { fault, targets, stage, .. }
                if FAILING.iter().any(|name| fault.starts_with(name)) =>
            {
                let until = match stage {
                    Stage::Begin => u64::MAX,
                    Stage::End => record.at + AFTERMATH,
                };
                self.failing.extend(targets.iter().map(|node| (*node, until)));
            }
            What::Node { node, view } if view.role == "quarantined" => {
                let what = format!("node {node} is quarantined, and nobody damaged its disk");
                return self.object(*node, what);
            }
            What::Exited { node, how }
                if self.failing.get(node).is_none_or(|until| *until < record.at) =>
            {
                return self.object(*node, format!("node {node} ended by itself: {how}"));
            }
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::NodeView;
    use crate::invariants::testing::*;

    fn quarantined(story: Story) -> Story {
        story.node(2, NodeView { role: "quarantined".into(), ..NodeView::default() })
    }

    fn exits(story: Story) -> Story {
        story.then(What::Exited { node: 2, how: "code 1".into() })
    }

    fn touched(node: u64, harmless: bool) -> What {
        What::Touched { node, file: "log".into(), how: "bit flip".into(), harmless }
    }

    fn fault(story: Story, stage: Stage) -> Story {
        let (fault, targets, detail) = ("failing-sync".into(), vec![2], String::new());
        story.then(What::Fault { fault, targets, stage, detail })
    }

    #[test]
    fn holds_for_nodes_that_were_damaged() {
        let damaged = What::Damaged { node: 2, file: "log".into(), how: "bit flip".into() };
        for what in [damaged, touched(2, false)] {
            holds(SoundStaysIn::default(), exits(quarantined(story().then(what))));
        }
    }

    #[test]
    fn holds_for_a_process_whose_disk_fails() {
        holds(SoundStaysIn::default(), exits(fault(story(), Stage::Begin).wait(60_000)));
        let over = fault(fault(story(), Stage::Begin), Stage::End);
        holds(SoundStaysIn::default(), exits(over.wait(9_000)));
        let over = fault(fault(story(), Stage::Begin), Stage::End);
        catches(SoundStaysIn::default(), exits(over.wait(11_000)), "ended by itself");
    }

    #[test]
    fn catches_a_process_that_ends_of_a_full_disk() {
        let full = What::Fault {
            fault: "disk_full(all)".into(),
            targets: vec![2],
            stage: Stage::Begin,
            detail: String::new(),
        };
        catches(SoundStaysIn::default(), exits(story().then(full)), "ended by itself");
    }

    #[test]
    fn catches_one_that_ends_after_it_gave_its_data_up() {
        let cleared = || story().then(touched(2, false)).then(What::Cleared { node: 2 });
        holds(SoundStaysIn::default(), quarantined(cleared()));
        catches(SoundStaysIn::default(), exits(cleared()), "while it joined anew: code 1");
    }

    #[test]
    fn catches_one_without_a_reason() {
        let others = || story().then(touched(3, false)).then(touched(2, true));
        catches(SoundStaysIn::default(), quarantined(others()), "node 2 is quarantined");
        catches(SoundStaysIn::default(), exits(others()), "node 2 ended by itself: code 1");
        let wiped = story().then(touched(2, false)).then(What::Wiped { node: 2 });
        catches(SoundStaysIn::default(), exits(wiped), "ended by itself");
        catches(SoundStaysIn::default(), quarantined(fault(story(), Stage::Begin)), "quarantined");
    }
}
