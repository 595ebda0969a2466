//! The scheduler by example; `order` compares it with a naive model, `bounds` holds it to what each
//! policy promises.

mod bounds;
mod model;
mod order;

use super::policy::{DEADLINE_IMPLIED_MS, DEADLINE_OVERDUE_MS_MAX};
use super::{Claim, Policy, Scheduler};
use crate::types::{Stamp, limits};

fn at(ms: u64) -> Stamp {
    Stamp(0).plus_millis(10_000_000 + ms)
}

fn weight(weight: u32) -> Claim {
    Claim { weight, ..Claim::default() }
}

fn priority(priority: i16) -> Claim {
    Claim { priority, ..Claim::default() }
}

fn due(ms: u64) -> Claim {
    Claim { deadline: Some(at(ms)), ..Claim::default() }
}

/// Who is served in so many full turns, during which no time passes and nobody leaves.
fn turns(scheduler: &mut Scheduler<char>, count: usize, now: Stamp) -> String {
    let mut seen = String::new();
    for _ in 0..count {
        let Some(key) = scheduler.front() else { break };
        seen.push(key);
        scheduler.served(key, scheduler.turn_max() as u64, true, now);
    }
    seen
}

fn keys(scheduler: &Scheduler<char>) -> String {
    scheduler.waiting().map(|(key, _)| key).collect()
}

#[test]
fn round_robin_takes_turns_in_the_order_of_joining() {
    let mut scheduler = Scheduler::default();
    for key in ['c', 'a', 'b', 'a'] {
        scheduler.insert(key, Claim::default(), at(0));
    }
    assert_eq!(scheduler.turn_max(), limits::DISPATCH_TURN_EVENTS);
    assert_eq!((scheduler.len(), scheduler.is_empty()), (3, false));
    assert_eq!(turns(&mut scheduler, 7, at(0)), "cabcabc");
    scheduler.served('a', 5, false, at(1));
    assert!(!scheduler.contains('a'));
    scheduler.remove('b');
    scheduler.remove('b');
    scheduler.insert('a', Claim::default(), at(2));
    assert_eq!(turns(&mut scheduler, 3, at(2)), "cac");
    // What left during its turn does not come back by the end of the turn.
    scheduler.remove('a');
    scheduler.served('a', 5, true, at(3));
    assert_eq!(keys(&scheduler), "c");
    scheduler.remove('c');
    assert_eq!((scheduler.front(), scheduler.is_empty()), (None, true));
}

#[test]
fn waits_are_counted_from_joining_or_from_the_last_turn() {
    let mut scheduler = Scheduler::new(Policy::Priority { aging_ms: 10 });
    scheduler.insert('a', priority(1), at(0));
    scheduler.insert('b', priority(0), at(5));
    scheduler.insert('a', priority(-7), at(20));
    let waits = |scheduler: &Scheduler<char>| scheduler.waiting().collect::<Vec<_>>();
    assert_eq!(waits(&scheduler), [('b', at(5)), ('a', at(0))]);
    scheduler.served('b', 1, true, at(30));
    assert_eq!(waits(&scheduler), [('b', at(30)), ('a', at(0))]);
    scheduler.set_policy(Policy::RoundRobin);
    assert_eq!(waits(&scheduler), [('a', at(0)), ('b', at(30))]);
}

#[test]
fn weights_share_out_turns_and_not_their_length() {
    let mut scheduler = Scheduler::with_turn(Policy::Weighted, 100);
    scheduler.insert('a', weight(1), at(0));
    scheduler.insert('b', weight(3), at(0));
    let seen = turns(&mut scheduler, 400, at(0));
    assert_eq!(seen.matches('b').count(), 300);
    assert!(!seen.contains("bbbb"), "a heavy one goes at most three times in a row: {seen}");
    assert!(!seen.contains("aa"));
}

#[test]
fn a_turn_is_charged_for_what_it_took() {
    let mut scheduler = Scheduler::with_turn(Policy::Weighted, 100);
    scheduler.insert('a', weight(1), at(0));
    scheduler.insert('b', weight(1), at(0));
    // A turn cut short is continued before the others go again …
    scheduler.served('a', 100, true, at(0));
    scheduler.served('b', 40, true, at(0));
    assert_eq!(scheduler.front(), Some('b'));
    scheduler.served('b', 60, true, at(0));
    // … one that cost five turns has to wait for five …
    assert_eq!(scheduler.front(), Some('a'));
    scheduler.served('a', 500, true, at(0));
    assert_eq!(turns(&mut scheduler, 6, at(0)), "bbbbba");
    // … and one that took nothing does not go again at once.
    assert_eq!(scheduler.front(), Some('b'));
    scheduler.served('b', 0, true, at(0));
    assert_eq!(scheduler.front(), Some('a'));
}

#[test]
fn leaving_and_coming_back_does_not_pay_under_weights() {
    let mut scheduler = Scheduler::with_turn(Policy::Weighted, 100);
    scheduler.insert('a', weight(1), at(0));
    scheduler.insert('b', weight(1), at(0));
    let mut seen = String::new();
    for _ in 0..6 {
        let key = scheduler.front().unwrap();
        seen.push(key);
        let cost = if key == 'a' { 100 } else { 1 };
        scheduler.served(key, cost, key == 'a', at(0));
        scheduler.insert('b', weight(1), at(0));
    }
    assert_eq!(seen, "ababab");
}

#[test]
fn a_new_weight_counts_at_once() {
    let mut scheduler = Scheduler::with_turn(Policy::Weighted, 100);
    scheduler.insert('a', weight(1), at(0));
    scheduler.insert('b', weight(1), at(0));
    assert_eq!(turns(&mut scheduler, 3, at(0)), "aba");
    scheduler.insert('a', weight(4), at(0));
    // `a` is a turn ahead, which is now one of four that it has for one of `b`.
    assert_eq!(turns(&mut scheduler, 10, at(0)), "baaabaaaab");
    // Weights out of range count as the nearest in range.
    for (key, claim) in [('a', weight(0)), ('b', weight(u32::MAX))] {
        scheduler.insert(key, claim, at(0));
    }
    let seen = turns(&mut scheduler, 2_002, at(0));
    assert_eq!(seen.matches('a').count(), 2);
}

#[test]
fn priority_is_strict_without_aging() {
    let mut scheduler = Scheduler::new(Policy::Priority { aging_ms: 0 });
    scheduler.insert('a', priority(-1), at(0));
    scheduler.insert('b', priority(2), at(5));
    scheduler.insert('c', priority(2), at(6));
    assert_eq!(turns(&mut scheduler, 4, at(1_000_000)), "bcbc");
    scheduler.remove('b');
    scheduler.remove('c');
    assert_eq!(scheduler.front(), Some('a'));
}

#[test]
fn who_waits_rises_by_one_each_aging_period() {
    let mut scheduler = Scheduler::new(Policy::Priority { aging_ms: 100 });
    scheduler.insert('a', priority(0), at(0));
    for ms in [0, 100, 200, 299] {
        scheduler.insert('b', priority(3), at(ms));
        assert_eq!(scheduler.front(), Some('b'), "{ms}");
        scheduler.served('b', 1, false, at(ms));
    }
    // Now `a` has risen by 3 and has waited longer.
    scheduler.insert('b', priority(3), at(300));
    assert_eq!(keys(&scheduler), "ab");
}

#[test]
fn the_earliest_deadline_goes_first_and_ties_by_waiting() {
    let mut scheduler = Scheduler::new(Policy::EarliestDeadline);
    scheduler.insert('a', due(DEADLINE_IMPLIED_MS), at(0));
    scheduler.insert('b', Claim::default(), at(0));
    scheduler.insert('c', due(DEADLINE_IMPLIED_MS - 1), at(3));
    scheduler.insert('d', due(DEADLINE_IMPLIED_MS + 1), at(0));
    assert_eq!(keys(&scheduler), "cabd");
    // A new deadline counts at once.
    scheduler.insert('d', due(1), at(4));
    assert_eq!(scheduler.front(), Some('d'));
}

#[test]
fn what_is_hopelessly_late_goes_in_the_order_of_waiting() {
    let mut scheduler = Scheduler::new(Policy::EarliestDeadline);
    let late = DEADLINE_OVERDUE_MS_MAX + 50;
    scheduler.insert('a', due(30), at(late));
    scheduler.insert('b', due(10), at(late));
    scheduler.insert('c', due(60), at(late));
    scheduler.insert('d', due(55), at(late));
    assert_eq!(keys(&scheduler), "abdc");
}

#[test]
fn extreme_claims_do_no_harm() {
    let aging_ms = u64::MAX;
    for policy in [Policy::Weighted, Policy::Priority { aging_ms }, Policy::EarliestDeadline] {
        let mut scheduler = Scheduler::with_turn(policy, usize::MAX);
        let deadline = Some(Stamp(0));
        scheduler.insert('a', Claim { weight: 0, priority: i16::MIN, deadline }, Stamp(u64::MAX));
        scheduler.insert('b', Claim { weight: 1, priority: i16::MAX, deadline: None }, Stamp(0));
        let first = scheduler.front().unwrap();
        scheduler.served(first, u64::MAX, true, Stamp(u64::MAX));
        scheduler.served('a', 0, true, Stamp(u64::MAX));
        assert_eq!(scheduler.waiting().count(), 2, "{policy}");
    }
}
