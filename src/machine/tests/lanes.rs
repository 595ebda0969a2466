//! What a lane remembers, against a list of every result.

use std::collections::BTreeMap;

use proptest::prelude::*;

use crate::machine::{Lane, Published};
use crate::types::{ChannelId, LaneId, Name, Opener, Stamp, limits};

const REMEMBERED: u64 = limits::LANE_IN_FLIGHT_MAX as u64;

fn new_lane() -> Lane {
    let of = (ChannelId(1), Name::default_admin());
    Lane::new(LaneId::default(), of, None, Opener::default(), Stamp(0))
}

/// What the lane says of sequences `first..first + count`, one by one, up to a refusal.
fn answers(lane: &Lane, first: u64, count: u32) -> (BTreeMap<u64, u64>, Option<u64>) {
    let mut answer = Published::default();
    lane.repeat(first, count, &mut answer);
    let mut singly = BTreeMap::new();
    for run in &answer.runs {
        assert!(run.duplicate && run.count > 0);
        for i in 0..u64::from(run.count) {
            let seq = if run.first_seq == 0 { 0 } else { run.first_seq + i };
            assert_eq!(singly.insert(run.first_sequence + i, seq), None, "answered twice");
        }
    }
    (singly, answer.refused.and_then(|refused| refused.expected))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..Default::default() })]

    #[test]
    fn recent_results_are_exact_and_old_ones_accepted(
        // How many events, how far the channel moved meanwhile, and whether they were skipped.
        steps in prop::collection::vec((1u64..2000, 0u64..2, prop::bool::weighted(0.1)), 1..40),
        from in 0u64..20_000,
    ) {
        let mut lane = new_lane();
        let mut all = BTreeMap::new();
        let mut seq = 1;
        for (count, others, skipped) in steps {
            let first = lane.next_sequence();
            seq += others;
            if skipped {
                lane.skip(first + count - 1);
                all.extend((first..first + count).map(|s| (s, None)));
            } else {
                lane.accepted(count, seq);
                all.extend((first..first + count).zip((seq..).map(Some)));
                seq += count;
            }
        }
        let kept = lane.hash();
        lane.resum();
        prop_assert_eq!(lane.hash(), kept);

        let next = lane.next_sequence();
        let first = from % next + 1;
        let count = (next - first).min(4096) as u32;
        let (answered, refused) = answers(&lane, first, count);
        for sequence in first..first + u64::from(count) {
            let recent = next - sequence <= REMEMBERED;
            match (answered.get(&sequence), all[&sequence]) {
                (Some(0), _) => prop_assert!(!recent, "{sequence} of {next} is forgotten"),
                (Some(seq), was) => prop_assert_eq!(Some(*seq), was),
                (None, _) => {
                    prop_assert_eq!(refused, Some(next));
                    prop_assert_eq!(all[&sequence], None);
                    break;
                }
            }
        }
    }
}

#[test]
fn memory_is_bounded() {
    let mut lane = new_lane();
    for i in 0..3 * REMEMBERED {
        lane.accepted(1, 1 + 2 * i);
    }
    assert_eq!(answers(&lane, 1, 2).0, BTreeMap::from([(1, 0), (2, 0)]));
    let last = 3 * REMEMBERED;
    let oldest = last - REMEMBERED + 1;
    let expected = BTreeMap::from([(oldest - 1, 0), (oldest, 2 * oldest - 1)]);
    assert_eq!(answers(&lane, oldest - 1, 2).0, expected);
    assert_eq!(answers(&lane, last, 1).0, BTreeMap::from([(last, 2 * last - 1)]));
}
