//! Whose turn it is, under a policy that may change at any time.

use std::collections::BTreeMap;

use crate::types::{Stamp, limits};

use super::policy::{Claim, Policy};
use super::rank;
use super::shares::Shares;

/// Contenders that wait for their turn. What each policy promises them is stated at [`Policy`].
///
/// Its user asks for the [`front`](Scheduler::front), serves it, and says so with
/// [`served`](Scheduler::served). Times given must not run backwards.
///
/// Invariants:
/// - `order` holds each contender exactly once, at the place that its `Waiter` names.
/// - A rank changes only with its contender's turns and claim, and with the policy; so each call is
///   O(log n) for n contenders, but for [`set_policy`](Scheduler::set_policy).
#[derive(Debug, Clone)]
pub struct Scheduler<K> {
    policy: Policy,
    turn_max: usize,
    shares: Shares,
    waiters: BTreeMap<K, Waiter>,
    order: BTreeMap<Place, K>,
    /// Waits begun so far.
    waits: u64,
}

#[derive(Debug, Clone, Copy)]
struct Waiter {
    claim: Claim,
    since: Stamp,
    place: Place,
}

/// The lowest is the front.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    /// What the policy makes of claim and waiting time.
    rank: i128,
    /// Which wait this is: among equals the longest goes first.
    wait: u64,
}

impl<K: Copy + Ord> Default for Scheduler<K> {
    fn default() -> Scheduler<K> {
        Scheduler::new(Policy::default())
    }
}

impl<K: Copy + Ord> Scheduler<K> {
    /// Nobody waits. Costs are events, up to [`limits::DISPATCH_TURN_EVENTS`] in a turn.
    pub fn new(policy: Policy) -> Scheduler<K> {
        Scheduler::with_turn(policy, limits::DISPATCH_TURN_EVENTS)
    }

    /// Nobody waits. Costs are what the user counts (events, bytes), up to `turn_max` in a turn, at
    /// least 1.
    pub fn with_turn(policy: Policy, turn_max: usize) -> Scheduler<K> {
        let turn_max = turn_max.max(1);
        Scheduler {
            policy,
            turn_max,
            shares: Shares::new(u64::try_from(turn_max).unwrap_or(u64::MAX)),
            waiters: BTreeMap::new(),
            order: BTreeMap::new(),
            waits: 0,
        }
    }

    /// The policy in force.
    pub fn policy(&self) -> Policy {
        self.policy
    }

    /// From now on this policy is in force. Everybody stays, with the time waited so far; shares
    /// are counted anew. O(n log n) for n contenders.
    pub fn set_policy(&mut self, policy: Policy) {
        if policy == self.policy {
            return;
        }
        self.policy = policy;
        self.order.clear();
        let mut waiters = std::mem::take(&mut self.waiters);
        for (key, waiter) in &mut waiters {
            waiter.place.rank = self.first_rank(waiter.claim, waiter.since);
            self.order.insert(waiter.place, *key);
        }
        self.waiters = waiters;
    }

    /// Joins, and waits from `now` on. One that is present goes on waiting as before, with this
    /// claim from now on.
    pub fn insert(&mut self, key: K, claim: Claim, now: Stamp) {
        let waiter = match self.take(key) {
            None => self.begin(claim, now, self.first_rank(claim, now)),
            Some(old) => {
                let rank = match self.policy {
                    Policy::Weighted => {
                        let (from, to) = (old.claim.weight, claim.weight);
                        self.shares.reweighed(old.place.rank, from, to)
                    }
                    _ => self.first_rank(claim, old.since),
                };
                Waiter { claim, place: Place { rank, ..old.place }, ..old }
            }
        };
        self.put(key, waiter);
    }

    /// Who has the turn.
    pub fn front(&self) -> Option<K> {
        self.order.first_key_value().map(|(_, key)| *key)
    }

    /// The most that one turn may cost. The user may end a turn sooner; what a turn costs beyond
    /// this is charged all the same, but the bounds on waiting grow with it.
    pub fn turn_max(&self) -> usize {
        self.turn_max
    }

    /// A turn of the front ended, in which it took `cost`. If it is `still` there it waits again
    /// from `now` on, else it leaves. Ignored if the contender left during its turn.
    pub fn served(&mut self, key: K, cost: u64, still: bool, now: Stamp) {
        if let (Policy::Weighted, Some((lowest, _))) = (self.policy, self.order.first_key_value()) {
            self.shares.advance(lowest.rank);
        }
        let Some(old) = self.take(key).filter(|_| still) else { return };
        let rank = match self.policy {
            Policy::Weighted => self.shares.charged(old.place.rank, old.claim.weight, cost),
            _ => self.first_rank(old.claim, now),
        };
        let waiter = self.begin(old.claim, now, rank);
        self.put(key, waiter);
    }

    /// Leaves without a turn, if it is there.
    pub fn remove(&mut self, key: K) {
        self.take(key);
    }

    /// Contenders that wait, and since when, in the order in which they would go now.
    pub fn waiting(&self) -> impl Iterator<Item = (K, Stamp)> + '_ {
        let since = |key| self.waiters.get(key).map(|waiter| (*key, waiter.since));
        self.order.values().filter_map(since)
    }

    /// Since when it waits, if it does.
    pub fn since(&self, key: K) -> Option<Stamp> {
        self.waiters.get(&key).map(|waiter| waiter.since)
    }

    /// Whether it waits.
    pub fn contains(&self, key: K) -> bool {
        self.waiters.contains_key(&key)
    }

    /// Contenders that wait.
    pub fn len(&self) -> usize {
        self.waiters.len()
    }

    pub fn is_empty(&self) -> bool {
        self.waiters.is_empty()
    }

    /// The rank of one that has no history with this policy.
    fn first_rank(&self, claim: Claim, since: Stamp) -> i128 {
        match self.policy {
            Policy::RoundRobin => 0,
            Policy::Weighted => self.shares.newcomer(claim.weight),
            Policy::Priority { aging_ms } => rank::of_priority(claim.priority, aging_ms, since),
            Policy::EarliestDeadline => rank::of_deadline(claim.deadline, since),
        }
    }

    fn begin(&mut self, claim: Claim, since: Stamp, rank: i128) -> Waiter {
        self.waits += 1;
        Waiter { claim, since, place: Place { rank, wait: self.waits } }
    }

    fn put(&mut self, key: K, waiter: Waiter) {
        self.order.insert(waiter.place, key);
        self.waiters.insert(key, waiter);
    }

    fn take(&mut self, key: K) -> Option<Waiter> {
        let waiter = self.waiters.remove(&key)?;
        self.order.remove(&waiter.place);
        Some(waiter)
    }
}
