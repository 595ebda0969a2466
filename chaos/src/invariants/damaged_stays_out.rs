//! A damaged node stays out: from its next start until it was wiped it does not lead, vote or
//! serve.
//!
//! It may be quarantined, stopped or unreachable. Until it has found the damage, `damage_grace`
//! after its first sign of life, it may look like a follower, but never like a candidate or leader.

use std::collections::BTreeMap;

use super::rules::micros;
use super::{Invariant, Rules};
use crate::history::{NodeView, Record, What};

pub(super) struct DamagedStaysOut {
    grace: u64,
    /// Latest life seen of each node.
    lives: BTreeMap<u64, u64>,
    damaged: BTreeMap<u64, Damage>,
}

struct Damage {
    file: String,
    /// The node's last life without damage, if it was seen.
    before: Option<u64>,
    /// The life seen since, and since when.
    life: Option<(u64, u64)>,
}

impl DamagedStaysOut {
    pub fn new(rules: &Rules) -> DamagedStaysOut {
        let grace = micros(rules.damage_grace);
        DamagedStaysOut { grace, lives: BTreeMap::new(), damaged: BTreeMap::new() }
    }

    fn check(&mut self, at: u64, node: u64, view: &NodeView) -> Result<(), String> {
        let Some(damage) = self.damaged.get_mut(&node) else { return Ok(()) };
        // An answer of before that was recorded late.
        if damage.before.is_some_and(|before| view.life <= before) {
            return Ok(());
        }
        let since = match damage.life {
            Some((life, since)) if life == view.life => since,
            _ => damage.life.insert((view.life, at)).1,
        };
        let passed = at - since;
        let harmless = match view.role.as_str() {
            "quarantined" | "stopped" => true,
            "follower" | "learner" => passed <= self.grace,
            _ => false,
        };
        if harmless && view.tenure.is_none() {
            return Ok(());
        }
        Err(format!(
            "node {node}, whose {} is damaged, is a {} of term {} {} ms after it came up",
            damage.file,
            view.role,
            view.term,
            passed / 1000
        ))
    }
}

impl Invariant for DamagedStaysOut {
    fn name(&self) -> &'static str {
        "damaged-stays-out"
    }

    fn judges(&self, what: &What) -> bool {
        matches!(what, What::Damaged { .. })
    }

    fn observe(&mut self, record: &Record) -> Result<(), String> {
        match &record.what {
            What::Damaged { node, file, .. } => {
                let before = self.lives.get(node).copied();
                let damage = Damage { file: file.clone(), before, life: None };
                self.damaged.entry(*node).or_insert(damage);
            }
            What::Wiped { node } => drop(self.damaged.remove(node)),
            What::Node { node, view } => {
                self.lives.insert(*node, view.life);
                return self.check(record.at, *node, view);
            }
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::invariants::testing::*;

    fn one() -> DamagedStaysOut {
        DamagedStaysOut::new(&Rules::default())
    }

    fn is(story: Story, life: u64, role: &str) -> Story {
        story.node(2, NodeView { life, role: role.into(), ..NodeView::default() })
    }

    fn damaged() -> Story {
        let damaged = What::Damaged { node: 2, file: "log".into(), how: "bit flip".into() };
        is(story(), 1, "leader").then(damaged)
    }

    #[test]
    fn holds_for_one_that_finds_out() {
        let late = is(damaged(), 1, "leader").then(What::NodeDown { node: 2 });
        let found = is(is(late, 2, "follower").wait(900), 2, "quarantined").wait(5000);
        let again = is(is(found, 2, "quarantined"), 3, "follower").wait(500);
        let wiped = is(again, 3, "stopped").then(What::Wiped { node: 2 });
        holds(one(), is(is(wiped, 4, "learner").wait(5000), 4, "leader"));
    }

    #[test]
    fn catches_a_leader_and_a_candidate_at_once() {
        catches(one(), is(damaged(), 2, "candidate"), "node 2, whose log is damaged");
        catches(one(), is(damaged(), 2, "leader"), "is a leader");
    }

    #[test]
    fn catches_a_follower_that_stays() {
        for role in ["follower", "learner"] {
            catches(one(), is(is(damaged(), 2, role).wait(1001), 2, role), role);
        }
    }

    #[test]
    fn catches_one_that_serves() {
        let (role, tenure) = ("quarantined".into(), Some(3));
        let view = NodeView { life: 2, role, tenure, ..NodeView::default() };
        catches(one(), damaged().node(2, view), "0 ms after it came up");
    }
}
