//! No node gives its data up before its removal is committed, and never while it would be needed.
//!
//! Two things show that one did, and each is proof:
//!
//! - a member, asked after the node had said that it gave its data up, names it in a linearizable
//!   answer. Ids are never given out twice and a leader that makes sure of its majority knows all
//!   that was committed, so the removal was not: the node was still counted on;
//! - of the voters last named there was no majority that could have committed its removal: the
//!   others were damaged, too, or had given their data up, and nobody has named another
//!   configuration since.
//!
//! What it cannot judge: whether the removal was committed at the very moment, or a little later (a
//! leader that keeps its place commits what it has begun). Only a leader that is deposed in between
//! makes a difference that can be seen: its successor names the node again. A node that gave its
//! data up and of which nobody was asked afterwards is counted (`cleared_unjudged`), and no more. A
//! configuration may be named before it is committed: one that was, never came to be, and was not
//! followed by another answer would mislead the second proof. That takes a voter that is damaged
//! while it joins.

use std::collections::{BTreeMap, BTreeSet};

use super::Invariant;
use crate::history::{MembersView, Outcome, Record, What};

#[derive(Default)]
pub(super) struct ClearedAfterRemoval {
    /// When questions were asked that have no answer yet, in records.
    asked: BTreeMap<u64, u64>,
    /// Records so far.
    now: u64,
    /// When a node had given its data up, and whether it was found gone since.
    cleared: BTreeMap<u64, (u64, bool)>,
    damaged: BTreeSet<u64>,
    /// Of the latest question that has an answer.
    voters: BTreeSet<u64>,
    latest: u64,
    told: BTreeSet<u64>,
}

impl Invariant for ClearedAfterRemoval {
    fn name(&self) -> &'static str {
        "cleared-after-removal"
    }

    fn judges(&self, what: &What) -> bool {
        matches!(what, What::Cleared { .. })
    }

    fn observe(&mut self, record: &Record) -> Result<(), String> {
        self.now += 1;
        match &record.what {
            What::Damaged { node, .. } => {
                self.damaged.insert(*node);
            }
            What::Wiped { node } => {
                self.damaged.remove(node);
            }
            What::Cleared { node } => return self.clears(*node),
            What::AskMembers { ask, .. } => {
                self.asked.insert(*ask, self.now);
            }
            What::Members { ask, outcome } => {
                let asked = self.asked.remove(ask);
                if let (Some(asked), Outcome::Ok(view)) = (asked, outcome)
                    && view.linearizable
                {
                    return self.named(asked, view);
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn figures(&self) -> Vec<(&'static str, u64)> {
        let unjudged = self.cleared.values().filter(|(_, found)| !found).count() as u64;
        vec![("cleared", self.cleared.len() as u64), ("cleared_unjudged", unjudged)]
    }
}

impl ClearedAfterRemoval {
    /// A node gave its data up.
    fn clears(&mut self, node: u64) -> Result<(), String> {
        let now = self.now;
        self.cleared.entry(node).or_insert((now, false));
        let could = |id: &&u64| !self.damaged.contains(id) && !self.cleared.contains_key(id);
        let able: Vec<u64> = self.voters.iter().filter(could).copied().collect();
        if self.voters.contains(&node) && able.len() <= self.voters.len() / 2 {
            self.told.insert(node);
            let voters = &self.voters;
            return Err(format!(
                "node {node} gave its data up, although of the voters {voters:?} only {able:?} \
                 could have let it go"
            ));
        }
        Ok(())
    }

    /// Somebody named the members, asked at `asked`.
    fn named(&mut self, asked: u64, view: &MembersView) -> Result<(), String> {
        if asked > self.latest {
            self.latest = asked;
            self.voters = view.voters.iter().copied().collect();
        }
        let members: BTreeSet<u64> = view.voters.iter().chain(&view.learners).copied().collect();
        let mut kept = Vec::new();
        for (node, (_, found)) in self.cleared.iter_mut().filter(|(_, (at, _))| *at < asked) {
            *found = true;
            if members.contains(node) && self.told.insert(*node) {
                kept.push(*node);
            }
        }
        if kept.is_empty() {
            return Ok(());
        }
        let leader = view.answered_by;
        Err(format!("nodes {kept:?} gave their data up, and node {leader} counts them as members"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::invariants::testing::*;

    fn one() -> ClearedAfterRemoval {
        ClearedAfterRemoval::default()
    }

    fn names(story: Story, ask: u64, voters: &[u64], learners: &[u64]) -> Story {
        let (voters, learners) = (voters.to_vec(), learners.to_vec());
        let view = MembersView { answered_by: 1, linearizable: true, voters, learners };
        story.then(What::Members { ask, outcome: Outcome::Ok(view) })
    }

    fn asks(story: Story, ask: u64) -> Story {
        story.then(What::AskMembers { ask, via: 1 })
    }

    fn damaged(story: Story, node: u64) -> Story {
        story.then(What::Damaged { node, file: "log".into(), how: "bit flip".into() })
    }

    fn cleared(story: Story, node: u64) -> Story {
        story.then(What::Cleared { node })
    }

    /// Three voters, one of them damaged.
    fn begun() -> Story {
        damaged(names(asks(story(), 1), 1, &[1, 2, 3], &[]), 3)
    }

    #[test]
    fn holds_for_one_that_was_let_go() {
        let let_go = cleared(names(asks(begun(), 2), 2, &[1, 2], &[]), 3);
        let learns = names(asks(let_go, 3), 3, &[1, 2], &[4]);
        let mut judged = one();
        let whole = names(asks(learns, 4), 4, &[1, 2, 4], &[]);
        whole.records.iter().for_each(|record| judged.observe(record).unwrap());
        assert_eq!(judged.figures(), [("cleared", 1), ("cleared_unjudged", 0)]);
        holds(one(), whole);
    }

    #[test]
    fn holds_where_an_answer_may_be_older_or_not_the_leaders() {
        holds(one(), names(cleared(asks(begun(), 2), 3), 2, &[1, 2, 3], &[]));
        let view = MembersView { voters: vec![1, 2, 3], ..MembersView::default() };
        let stale = What::Members { ask: 2, outcome: Outcome::Ok(view) };
        holds(one(), asks(cleared(begun(), 3), 2).then(stale));
        // Of five two may go, seen or not.
        let five = damaged(damaged(names(asks(story(), 1), 1, &[1, 2, 3, 4, 5], &[]), 4), 5);
        let mut judged = one();
        let both = cleared(cleared(five, 4), 5);
        both.records.iter().for_each(|record| judged.observe(record).unwrap());
        assert_eq!(judged.figures(), [("cleared", 2), ("cleared_unjudged", 2)]);
    }

    #[test]
    fn catches_one_that_is_still_counted_on() {
        let counted = names(asks(cleared(begun(), 3), 2), 2, &[1, 2, 3], &[4]);
        catches(one(), names(asks(counted, 3), 3, &[1, 2, 3, 4], &[]), "[3] gave their data up");
        let learner = names(asks(cleared(begun(), 3), 2), 2, &[1, 2], &[3]);
        catches(one(), learner, "node 1 counts them as members");
    }

    #[test]
    fn catches_one_that_nobody_could_let_go() {
        let both = damaged(begun(), 2);
        catches(one(), cleared(both.clone(), 3), "only [1] could");
        // Whoever was replaced by hand can.
        holds(one(), cleared(both.then(What::Wiped { node: 2 }), 3));
        // The second of three, after the first was not found gone.
        catches(one(), cleared(cleared(damaged(begun(), 2), 9), 2), "node 2 gave its data up");
    }
}
