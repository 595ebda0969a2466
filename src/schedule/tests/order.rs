//! Random calls, policies changing live: the order is that of the naive model after each of them.

use proptest::prelude::*;

use super::at;
use super::model::Model;
use crate::schedule::{Claim, Policy, Scheduler};

const KEYS: u8 = 8;
const TURN: usize = 64;

#[derive(Debug, Clone, Copy)]
enum Op {
    Insert(u8, Claim),
    /// Ends a turn of the front, or now and then of another.
    Served {
        other: Option<u8>,
        cost: u64,
        still: bool,
    },
    Remove(u8),
    SetPolicy(Policy),
    Pass(u64),
}

fn policy() -> impl Strategy<Value = Policy> {
    prop_oneof![
        Just(Policy::RoundRobin),
        Just(Policy::Weighted),
        (0u64..300).prop_map(|aging_ms| Policy::Priority { aging_ms }),
        Just(Policy::Priority { aging_ms: 0 }),
        Just(Policy::EarliestDeadline),
    ]
}

fn claim() -> impl Strategy<Value = Claim> {
    let weight = prop_oneof![0u32..8, 0u32..2_000];
    let deadline = prop::option::of((0u64..8_000).prop_map(at));
    (weight, -3i16..4, deadline).prop_map(|(weight, priority, deadline)| Claim {
        weight,
        priority,
        deadline,
    })
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let served = (prop::option::weighted(0.1, 0..KEYS), 0u64..100, any::<bool>())
        .prop_map(|(other, cost, still)| Op::Served { other, cost, still });
    let op = prop_oneof![
        5 => (0..KEYS, claim()).prop_map(|(key, claim)| Op::Insert(key, claim)),
        6 => served,
        1 => (0..KEYS).prop_map(Op::Remove),
        1 => policy().prop_map(Op::SetPolicy),
        3 => (0u64..700).prop_map(Op::Pass),
    ];
    prop::collection::vec(op, 1..150)
}

proptest! {
    #[test]
    fn the_order_is_that_of_the_naive_model(policy in policy(), ops in ops()) {
        let mut scheduler = Scheduler::with_turn(policy, TURN);
        let mut model = Model::new(policy, TURN);
        let mut ms = 0;
        for op in ops {
            match op {
                Op::Insert(key, claim) => {
                    scheduler.insert(key, claim, at(ms));
                    model.insert(key, claim, at(ms));
                }
                Op::Served { other, cost, still } => {
                    if let Some(key) = other.or(scheduler.front()) {
                        scheduler.served(key, cost, still, at(ms));
                        model.served(key, cost, still, at(ms));
                    }
                }
                Op::Remove(key) => {
                    scheduler.remove(key);
                    model.remove(key);
                }
                Op::SetPolicy(policy) => {
                    scheduler.set_policy(policy);
                    model.set_policy(policy);
                    prop_assert_eq!(scheduler.policy(), policy);
                }
                Op::Pass(by) => ms += by,
            }
            // Nobody lost, nobody doubled, each since when it should be, and in the right order.
            let expected = model.in_order(at(ms));
            prop_assert_eq!(scheduler.front(), expected.first().map(|(key, _)| *key));
            prop_assert_eq!(scheduler.len(), expected.len());
            prop_assert_eq!(scheduler.is_empty(), expected.is_empty());
            for key in 0..KEYS {
                let there = expected.iter().any(|(k, _)| *k == key);
                prop_assert_eq!(scheduler.contains(key), there);
            }
            prop_assert_eq!(scheduler.waiting().collect::<Vec<_>>(), expected);
        }
    }
}
