//! What each policy promises to those who wait, however the others come, go and take.
//!
//! A crowd of contenders is served for some hundred turns. After each turn random steps let some
//! leave and others come; claims stay as they are. No formula of the scheduler is used here.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::at;
use crate::schedule::policy::{DEADLINE_IMPLIED_MS, DEADLINE_OVERDUE_MS_MAX};
use crate::schedule::{Claim, Policy, Scheduler};

const TURN: usize = 20;
const TURN_MS_MAX: u64 = 40;

/// One turn, and who comes or goes at its end.
#[derive(Debug, Clone, Copy)]
struct Step {
    /// How long the turn lasts in milliseconds, at least 1.
    ms: u64,
    /// What it costs, up to [`TURN`].
    cost: u64,
    /// In 1 of 4 cases the one served leaves.
    leave: u8,
    /// Whose presence changes, if there is such a key.
    toggled: usize,
    /// Whose deadline is so many milliseconds from now (shifted by 3000), when it comes.
    due: u64,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let cost = prop_oneof![Just(TURN as u64), 0..=TURN as u64];
    let step = (1..=TURN_MS_MAX, cost, 0u8..4, 0usize..40, 0u64..6_000);
    let step =
        step.prop_map(|(ms, cost, leave, toggled, due)| Step { ms, cost, leave, toggled, due });
    prop::collection::vec(step, 200..400)
}

/// A turn as it was seen from outside.
struct Turn {
    key: usize,
    /// What it cost; one that took nothing counts in full.
    cost: u64,
    ended_ms: u64,
    claim: Claim,
    still: bool,
}

/// What somebody who waits has seen.
#[derive(Debug, Default, Clone)]
struct Wait {
    since_ms: u64,
    claim: Claim,
    /// Turns of each other since then, and what they cost.
    turns: BTreeMap<usize, (u64, u64)>,
}

/// Who waits, kept apart from the scheduler.
#[derive(Default)]
struct Hall {
    waits: BTreeMap<usize, Wait>,
}

impl Hall {
    fn enter(&mut self, key: usize, claim: Claim, now_ms: u64) {
        let wait = Wait { since_ms: now_ms, claim, turns: BTreeMap::new() };
        self.waits.entry(key).or_insert(wait);
    }

    fn turn(&mut self, turn: &Turn) {
        self.waits.remove(&turn.key);
        for wait in self.waits.values_mut() {
            let (count, cost) = wait.turns.entry(turn.key).or_default();
            *count += 1;
            *cost += turn.cost;
        }
        if turn.still {
            self.enter(turn.key, turn.claim, turn.ended_ms);
        }
    }
}

/// Serves a crowd and shows each turn, and those who wait at its end, to `check`. The first
/// contender never leaves. `claim` says what a contender brings.
fn serve(
    policy: Policy,
    crowd: usize,
    steps: &[Step],
    claim: impl Fn(usize, &Step, u64) -> Claim,
    mut check: impl FnMut(&Turn, &BTreeMap<usize, Wait>) -> Result<(), TestCaseError>,
) -> Result<(), TestCaseError> {
    let mut scheduler = Scheduler::with_turn(policy, TURN);
    let mut hall = Hall::default();
    let mut now = 0;
    for key in 0..crowd {
        let claim = claim(key, &steps[0], now);
        scheduler.insert(key, claim, at(now));
        hall.enter(key, claim, now);
    }
    for step in steps {
        if let Some(key) = scheduler.front() {
            now += step.ms;
            let still = key == 0 || step.leave > 0;
            scheduler.served(key, step.cost, still, at(now));
            let cost = if step.cost == 0 { TURN as u64 } else { step.cost };
            let claim = hall.waits[&key].claim;
            let turn = Turn { key, cost, ended_ms: now, claim, still };
            hall.turn(&turn);
            check(&turn, &hall.waits)?;
        }
        let key = step.toggled;
        if !(1..crowd).contains(&key) {
            continue;
        }
        if hall.waits.remove(&key).is_some() {
            scheduler.remove(key);
        } else {
            let claim = claim(key, step, now);
            scheduler.insert(key, claim, at(now));
            hall.enter(key, claim, now);
        }
    }
    Ok(())
}

/// Nobody has waited longer than `allowed_ms` says, and a turn of each other.
fn nobody_waits_longer(
    waits: &BTreeMap<usize, Wait>,
    now_ms: u64,
    crowd: usize,
    allowed_ms: impl Fn(&Wait) -> u64,
) -> Result<(), TestCaseError> {
    let turns_ms = (crowd as u64 - 1) * TURN_MS_MAX;
    for (key, wait) in waits {
        let waited = now_ms - wait.since_ms;
        let most = allowed_ms(wait) + turns_ms;
        prop_assert!(waited <= most, "{key} waits {waited} ms, allowed are {most}: {wait:?}");
    }
    Ok(())
}

proptest! {
    #[test]
    fn round_robin_lets_each_other_go_once(crowd in 2usize..12, steps in steps()) {
        let claim = |_, _: &Step, _| Claim::default();
        serve(Policy::RoundRobin, crowd, &steps, claim, |_, waits| {
            for (key, wait) in waits {
                prop_assert!(wait.turns.values().all(|(count, _)| *count <= 1), "{key}: {wait:?}");
            }
            Ok(())
        })?;
    }

    #[test]
    fn weights_bound_what_each_other_takes(
        weights in prop::collection::vec(prop_oneof![1u32..6, 1u32..=1_000], 2..12),
        steps in steps(),
    ) {
        let claim = |key: usize, _: &Step, _| Claim { weight: weights[key], ..Claim::default() };
        serve(Policy::Weighted, weights.len(), &steps, claim, |_, waits| {
            for (key, wait) in waits {
                let own = u64::from(weights[*key]);
                for (other, (_, cost)) in &wait.turns {
                    let most = TURN as u64 * (u64::from(weights[*other]) + own);
                    prop_assert!(cost * own <= most, "{other} before {key}: {wait:?}");
                }
            }
            Ok(())
        })?;
    }

    #[test]
    fn shares_differ_from_weights_by_a_turn_of_each(
        weights in prop::collection::vec(prop_oneof![1u32..6, 1u32..60], 2..6),
        flappers in 0usize..4,
        steps in steps(),
    ) {
        // The flappers come and go between those who stay; these are compared in pairs, from each
        // moment to each later one.
        let (staying, crowd) = (weights.len(), weights.len() + flappers);
        let weight = |key: usize| weights.get(key).copied().unwrap_or(1 + key as u32);
        let mut scheduler = Scheduler::with_turn(Policy::Weighted, TURN);
        let join = |scheduler: &mut Scheduler<usize>, key| {
            scheduler.insert(key, Claim { weight: weight(key), ..Claim::default() }, at(0));
        };
        (0..crowd).for_each(|key| join(&mut scheduler, key));
        let mut taken = vec![0i64; staying];
        let mut extremes = BTreeMap::new();
        for step in &steps {
            let Some(key) = scheduler.front() else { break };
            let cost = step.cost.max(1);
            scheduler.served(key, cost, key < staying || step.leave > 0, at(0));
            if (staying..crowd).contains(&step.toggled) {
                join(&mut scheduler, step.toggled);
            }
            if key < staying {
                taken[key] += cost as i64;
            }
            for a in 0..staying {
                for b in 0..a {
                    let (w, v) = (i64::from(weights[a]), i64::from(weights[b]));
                    let ahead = taken[a] * v - taken[b] * w;
                    let (low, high) = extremes.entry((a, b)).or_insert((0, 0));
                    (*low, *high) = (ahead.min(*low), ahead.max(*high));
                    prop_assert!(*high - *low <= TURN as i64 * (w + v), "{a} and {b}: {taken:?}");
                }
            }
        }
    }

    #[test]
    fn aging_bounds_the_wait_for_any_priority(
        priorities in prop::collection::vec(-3i16..5, 2..10),
        aging_ms in 1u64..60,
        steps in steps(),
    ) {
        let highest = priorities.iter().copied().max().unwrap_or_default();
        let claim =
            |key: usize, _: &Step, _| Claim { priority: priorities[key], ..Claim::default() };
        serve(Policy::Priority { aging_ms }, priorities.len(), &steps, claim, |turn, waits| {
            let allowed = |wait: &Wait| (highest - wait.claim.priority) as u64 * aging_ms;
            nobody_waits_longer(waits, turn.ended_ms, priorities.len(), allowed)
        })?;
    }

    #[test]
    fn being_due_bounds_the_wait_with_and_without_deadlines(
        with_deadline in prop::collection::vec(prop::bool::weighted(0.6), 2..10),
        hopeless in 0u64..3_000,
        steps in steps(),
    ) {
        // Deadlines lie some seconds before or after the moment of joining, and they stay: whoever
        // remains will be hopelessly late after a while. Times are shifted to allow for it.
        let claim = |key: usize, step: &Step, now: u64| {
            let due = (now + step.due + hopeless).saturating_sub(3_000);
            Claim { deadline: with_deadline[key].then_some(at(due)), ..Claim::default() }
        };
        serve(Policy::EarliestDeadline, with_deadline.len(), &steps, claim, |turn, waits| {
            let allowed = |wait: &Wait| {
                let since = at(wait.since_ms);
                let implied = since.plus_millis(DEADLINE_IMPLIED_MS);
                let due = wait.claim.deadline.unwrap_or(implied);
                due.plus_millis(DEADLINE_OVERDUE_MS_MAX).millis_since(since)
            };
            nobody_waits_longer(waits, turn.ended_ms, with_deadline.len(), allowed)
        })?;
    }
}
