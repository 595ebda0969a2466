//! What the scheduler should do, written as plainly as it can be: a list, looked through each time.

use crate::schedule::policy::{DEADLINE_IMPLIED_MS, DEADLINE_OVERDUE_MS_MAX, WEIGHT_MAX};
use crate::schedule::shares::STEPS;
use crate::schedule::{Claim, Policy};
use crate::types::Stamp;

#[derive(Debug)]
pub struct Model {
    pub policy: Policy,
    turn: i128,
    /// Those who wait, the longest first.
    pub contenders: Vec<Contender>,
    /// The least that anybody was ahead when a turn last ended, in steps.
    level: i128,
}

#[derive(Debug, Clone, Copy)]
pub struct Contender {
    pub key: u8,
    pub claim: Claim,
    pub since: Stamp,
    /// Taken so far per unit of weight, in steps; only for weights.
    taken: i128,
}

fn weight(claim: Claim) -> i128 {
    i128::from(claim.weight.clamp(1, WEIGHT_MAX))
}

fn micros(ms: u64) -> i128 {
    i128::from(ms) * 1000
}

impl Model {
    pub fn new(policy: Policy, turn: usize) -> Model {
        Model { policy, turn: turn as i128, contenders: Vec::new(), level: 0 }
    }

    pub fn set_policy(&mut self, policy: Policy) {
        if policy != self.policy {
            self.policy = policy;
            let (turn, level) = (self.turn, self.level);
            self.contenders
                .iter_mut()
                .for_each(|c| c.taken = level + turn * STEPS / weight(c.claim));
        }
    }

    pub fn insert(&mut self, key: u8, claim: Claim, now: Stamp) {
        let (turn, level) = (self.turn, self.level);
        match self.contenders.iter_mut().find(|c| c.key == key) {
            Some(c) => {
                if weight(c.claim) != weight(claim) {
                    let ahead = (c.taken - level) * weight(c.claim);
                    c.taken = level + ahead / weight(claim);
                }
                c.claim = claim;
            }
            None => {
                let taken = level + turn * STEPS / weight(claim);
                self.contenders.push(Contender { key, claim, since: now, taken });
            }
        }
    }

    pub fn remove(&mut self, key: u8) {
        self.contenders.retain(|c| c.key != key);
    }

    pub fn served(&mut self, key: u8, cost: u64, still: bool, now: Stamp) {
        if self.policy == Policy::Weighted {
            let least = self.contenders.iter().map(|c| c.taken).min();
            self.level = least.unwrap_or(self.level);
        }
        let Some(mut c) = self.contenders.iter().find(|c| c.key == key).copied() else { return };
        self.remove(key);
        if still {
            let cost = if cost == 0 { self.turn } else { i128::from(cost) };
            c.taken += cost * STEPS / weight(c.claim);
            c.since = now;
            self.contenders.push(c);
        }
    }

    /// Everybody, who goes first at the head.
    pub fn in_order(&self, now: Stamp) -> Vec<(u8, Stamp)> {
        let mut sorted = self.contenders.clone();
        // The sort is stable: among equals the longest waiting stays ahead.
        sorted.sort_by_key(|c| self.standing(c, now));
        sorted.iter().map(|c| (c.key, c.since)).collect()
    }

    /// The lower goes first.
    fn standing(&self, c: &Contender, now: Stamp) -> i128 {
        let since = i128::from(c.since.0);
        let waited = i128::from(now.0) - since;
        let priority = i128::from(c.claim.priority);
        match self.policy {
            Policy::RoundRobin => 0,
            Policy::Weighted => c.taken,
            Policy::Priority { aging_ms: 0 } => -priority,
            // The priority it has by now, times the aging so that nothing is lost by division.
            Policy::Priority { aging_ms } => -(priority * micros(aging_ms) + waited),
            Policy::EarliestDeadline => match c.claim.deadline {
                None => since + micros(DEADLINE_IMPLIED_MS),
                Some(at) if i128::from(at.0) < since - micros(DEADLINE_OVERDUE_MS_MAX) => {
                    since - micros(DEADLINE_OVERDUE_MS_MAX)
                }
                Some(at) => i128::from(at.0),
            },
        }
    }
}
