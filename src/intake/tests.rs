use proptest::prelude::*;

use super::*;
use crate::types::limits::{INTAKE_ITEM_BYTES, INTAKE_QUANTUM_BYTES};

/// (source, number within the source, charge)
type Item = (u64, u64, usize);

fn offer(intake: &mut Intake<Item>, source: u64, number: u64, cost: usize) -> Result<(), Full> {
    let party = (source, Party::Source(source));
    intake.offer(party, cost, (source, number, cost + INTAKE_ITEM_BYTES), Stamp(0)).map_err(
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
        std::iter::from_fn(|| Some(intake.take(1000, 100, Stamp(0)).len()).filter(|n| *n > 0))
            .collect();
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
    intake.take(60_000, usize::MAX, Stamp(0));
    let full = (0..).find_map(|n| offer(&mut intake, 4, n, 36).err()).unwrap();
    assert!(full.source_bytes >= intake.bytes_max / 5, "a newcomer gets a fair share: {full}");
}

#[test]
fn an_item_larger_than_the_bound_is_taken_by_an_empty_queue_only() {
    let mut intake = Intake::new(1000);
    offer(&mut intake, 1, 0, 5000).unwrap();
    offer(&mut intake, 2, 0, 10).unwrap_err();
    assert_eq!(intake.take(10, 10, Stamp(0)).len(), 1);
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
                    let taken = intake.take(bytes, count, Stamp(0));
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
        intake.take(head_start, usize::MAX, Stamp(0));
        offer(&mut intake, 99, 0, cost).unwrap();
        let turns = (cost + INTAKE_ITEM_BYTES).div_ceil(INTAKE_QUANTUM_BYTES);
        let each = turns * INTAKE_QUANTUM_BYTES + largest;
        let mut before: BTreeMap<u64, usize> = BTreeMap::new();
        'taking: loop {
            for (source, _, charge) in intake.take(target, usize::MAX, Stamp(0)) {
                if source == 99 {
                    break 'taking;
                }
                *before.entry(source).or_default() += charge;
            }
        }
        prop_assert!(before.values().all(|bytes| *bytes <= each), "{before:?} > {each}");
    }
}

const MS: u64 = 1000;

fn lane(position: u32) -> LaneId {
    LaneId { index: 1, position }
}

/// Lanes of one channel that never run dry; who had each turn, under a policy.
struct Floods {
    intake: Intake<(LaneId, usize)>,
    claims: BTreeMap<LaneId, Claim>,
    now: Stamp,
}

const CHANNEL: ChannelId = ChannelId(7);

impl Floods {
    fn new(policy: Policy, claims: impl IntoIterator<Item = Claim>) -> Floods {
        let claims: BTreeMap<_, _> = (1..).map(lane).zip(claims).collect();
        let mut floods = Floods { intake: Intake::default(), claims, now: Stamp(1) };
        floods.fill();
        let claims = floods.claims.clone();
        floods.intake.set_order(CHANNEL, policy, claims, floods.now);
        floods
    }

    fn fill(&mut self) {
        for lane in self.claims.keys() {
            let party = Party::Lane(CHANNEL, *lane);
            let (source, cost) = (u64::from(lane.position), INTAKE_QUANTUM_BYTES / 2);
            while self.intake.queues.get(&party).is_none_or(|queue| queue.items.len() < 4) {
                self.intake.offer((source, party), cost, (*lane, cost), self.now).unwrap();
            }
        }
    }

    /// A millisecond goes by, in which one publish is taken.
    fn step(&mut self) -> LaneId {
        self.now = Stamp(self.now.0 + MS);
        let (lane, _) = self.intake.take(1, 1, self.now)[0];
        self.fill();
        lane
    }
}

/// The longest that a lane goes without a publish taken, in steps of a millisecond.
fn longest_gap(floods: &mut Floods, of: LaneId, steps: usize) -> usize {
    let (mut gap, mut longest) = (0, 0);
    for _ in 0..steps {
        gap = if floods.step() == of { 0 } else { gap + 1 };
        longest = longest.max(gap);
    }
    longest
}

/// A turn is two publishes here: of half a quantum each, and what they are charged beyond that.
const TURN: usize = 2;

/// The bounds stated at [`Policy`], for lanes.
#[test]
fn no_lane_starves_under_any_policy() {
    let others = 4;
    let even = || std::iter::repeat_n(Claim::default(), others + 1);
    let mut floods = Floods::new(Policy::RoundRobin, even());
    assert!(longest_gap(&mut floods, lane(1), 500) <= (others + 1) * TURN);

    // Weight 1 against four of 10: while it waits each of them takes turn * 10 + turn.
    let heavy = Claim { weight: 10, ..Claim::default() };
    let claims = std::iter::once(Claim::default()).chain(std::iter::repeat_n(heavy, others));
    let mut floods = Floods::new(Policy::Weighted, claims);
    assert!(longest_gap(&mut floods, lane(1), 1000) <= others * 11 * TURN);

    // Priority 0 against 20, which it reaches in 20 * 5 ms; then a turn of each.
    let urgent = Claim { priority: 20, ..Claim::default() };
    let claims = || std::iter::once(Claim::default()).chain(std::iter::repeat_n(urgent, others));
    let mut floods = Floods::new(Policy::Priority { aging_ms: 5 }, claims());
    let gap = longest_gap(&mut floods, lane(1), 1000);
    assert!(gap <= 20 * 5 + (others + 1) * TURN, "{gap}");
    // Without aging there is no bound: it is never its turn.
    let mut floods = Floods::new(Policy::Priority { aging_ms: 0 }, claims());
    assert_eq!(longest_gap(&mut floods, lane(1), 500), 500);
    // The policy changes while all wait; nobody loses its place.
    floods.intake.set_order(CHANNEL, Policy::RoundRobin, [], floods.now);
    assert!(longest_gap(&mut floods, lane(1), 100) <= (others + 1) * TURN);
    assert!(floods.intake.fared(CHANNEL, lane(1), floods.now).longest_wait_ms >= 490);

    // Due in 50 ms against those who are due at once again and again.
    let hurry = Claim { deadline: Some(Stamp(1)), ..Claim::default() };
    let mut claims: Vec<Claim> = std::iter::repeat_n(hurry, others + 1).collect();
    claims[0].deadline = Some(Stamp(50 * MS));
    let mut floods = Floods::new(Policy::EarliestDeadline, claims);
    let bound = 50 + crate::schedule::DEADLINE_OVERDUE_MS_MAX as usize + (others + 1) * TURN;
    assert!(longest_gap(&mut floods, lane(1), 3 * bound) <= bound);
}

/// Weights are shares, whatever the sizes; and channels take turns whatever their lanes weigh.
#[test]
fn weights_are_shares_within_a_channel_only() {
    let weigh = |weight| Claim { weight, ..Claim::default() };
    let mut floods = Floods::new(Policy::Weighted, [weigh(1), weigh(3)]);
    let (mut light, mut other) = (0, 0);
    for n in 0..800 {
        let lane = floods.step();
        light += usize::from(lane.position == 1);
        other += usize::from(lane.position == 99);
        // Another channel floods, too.
        if n == 400 {
            assert!((95..=105).contains(&light), "{light}");
            for _ in 0..1000 {
                let party = Party::Lane(ChannelId(8), self::lane(99));
                let cost = INTAKE_QUANTUM_BYTES / 2;
                let item = (self::lane(99), cost);
                floods.intake.offer((99, party), cost, item, floods.now).unwrap();
            }
        }
    }
    assert!((190..=210).contains(&other), "{other}");
}
