use proptest::prelude::*;

use super::*;
use crate::types::limits::{INTAKE_ITEM_BYTES, INTAKE_QUANTUM_BYTES};

/// (source, number within the source, charge)
type Item = (u64, u64, usize);

fn offer(intake: &mut Intake<Item>, source: u64, number: u64, cost: usize) -> Result<(), Full> {
    intake.offer(source, cost, (source, number, cost + INTAKE_ITEM_BYTES)).map_err(
        |(full, item)| {
            assert_eq!(item, (source, number, cost + INTAKE_ITEM_BYTES), "gives the item back");
            full
        },
    )
}

#[test]
fn an_item_larger_than_the_target_goes_alone() {
    let mut intake = Intake::default();
    offer(&mut intake, 1, 0, 10).unwrap();
    offer(&mut intake, 1, 1, 5_000_000).unwrap();
    offer(&mut intake, 1, 2, 10).unwrap();
    let sizes: Vec<usize> =
        std::iter::from_fn(|| Some(intake.take(1000, 100).len()).filter(|n| *n > 0)).collect();
    assert_eq!(sizes, [1, 1, 1]);
    assert_eq!((intake.len(), intake.bytes()), (0, 0));
}

#[test]
fn one_source_stops_at_half_and_leaves_room_for_others() {
    let mut intake = Intake::new(100_000);
    let mut fill =
        |source: u64| (0..).take_while(|n| offer(&mut intake, source, *n, 36).is_ok()).count();
    let held: Vec<usize> = (1..=3).map(&mut fill).collect();
    assert_eq!(held, [500, 250, 125], "each may hold what is still free");
    // Once the first drains it may not refill before the others had their share.
    intake.take(60_000, usize::MAX);
    let full = (0..).find_map(|n| offer(&mut intake, 4, n, 36).err()).unwrap();
    assert!(full.source_bytes >= intake.bytes_max / 5, "a newcomer gets a fair share: {full}");
}

#[test]
fn an_item_larger_than_the_bound_is_taken_by_an_empty_queue_only() {
    let mut intake = Intake::new(1000);
    offer(&mut intake, 1, 0, 5000).unwrap();
    offer(&mut intake, 2, 0, 10).unwrap_err();
    assert_eq!(intake.take(10, 10).len(), 1);
    offer(&mut intake, 2, 0, 10).unwrap();
    offer(&mut intake, 1, 1, 5000).unwrap_err();
}

#[derive(Debug, Clone)]
enum Op {
    Offer { source: u64, cost: usize },
    Take { bytes: usize, count: usize },
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let cost = prop_oneof![8 => 0usize..500, 2 => 500usize..40_000, 1 => 40_000usize..200_000];
    let offer = (0u64..6, cost).prop_map(|(source, cost)| Op::Offer { source, cost });
    let take = (1usize..100_000, 1usize..40).prop_map(|(bytes, count)| Op::Take { bytes, count });
    prop::collection::vec(prop_oneof![6 => offer, 1 => take], 0..300)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn keeps_order_and_bounds_and_loses_nothing(ops in ops()) {
        let bound = 400_000;
        let mut intake = Intake::new(bound);
        let mut accepted: BTreeMap<u64, VecDeque<Item>> = BTreeMap::new();
        let mut number = 0;
        let drain = Op::Take { bytes: usize::MAX, count: usize::MAX };
        for op in ops.into_iter().chain([drain]) {
            match op {
                Op::Offer { source, cost } => {
                    number += 1;
                    if offer(&mut intake, source, number, cost).is_ok() {
                        let item = (source, number, cost + INTAKE_ITEM_BYTES);
                        accepted.entry(source).or_default().push_back(item);
                    }
                }
                Op::Take { bytes, count } => {
                    let was_empty = intake.is_empty();
                    let taken = intake.take(bytes, count);
                    prop_assert!(taken.len() <= count);
                    prop_assert_eq!(taken.is_empty(), was_empty);
                    let charged: usize = taken.iter().map(|(_, _, charge)| charge).sum();
                    prop_assert!(charged <= bytes || taken.len() == 1);
                    for item in taken {
                        let expected = accepted.get_mut(&item.0).and_then(VecDeque::pop_front);
                        prop_assert_eq!(expected, Some(item));
                    }
                }
            }
            let held: usize = accepted.values().flatten().map(|(_, _, charge)| charge).sum();
            prop_assert_eq!(intake.bytes(), held);
            prop_assert_eq!(intake.len(), accepted.values().map(VecDeque::len).sum::<usize>());
            prop_assert!(held <= bound);
        }
        prop_assert!(intake.is_empty());
    }

    /// The bound stated at the head of the module.
    #[test]
    fn floods_do_not_starve_a_quiet_source(
        floods in prop::collection::vec(prop::collection::vec(0usize..60_000, 20..60), 1..5),
        cost in 0usize..100_000,
        head_start in 0usize..200_000,
        target in 1usize..300_000,
    ) {
        let mut intake = Intake::default();
        let mut largest = 0;
        for (flood, costs) in floods.iter().enumerate() {
            for (n, cost) in costs.iter().enumerate() {
                offer(&mut intake, flood as u64, n as u64, *cost).unwrap();
                largest = largest.max(cost + INTAKE_ITEM_BYTES);
            }
        }
        intake.take(head_start, usize::MAX);
        offer(&mut intake, 99, 0, cost).unwrap();
        let turns = (cost + INTAKE_ITEM_BYTES).div_ceil(INTAKE_QUANTUM_BYTES);
        let each = turns * INTAKE_QUANTUM_BYTES + largest;
        let mut before: BTreeMap<u64, usize> = BTreeMap::new();
        'taking: loop {
            for (source, _, charge) in intake.take(target, usize::MAX) {
                if source == 99 {
                    break 'taking;
                }
                *before.entry(source).or_default() += charge;
            }
        }
        prop_assert!(before.values().all(|bytes| *bytes <= each), "{before:?} > {each}");
    }
}
