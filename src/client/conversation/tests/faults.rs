//! Faults at every point, and at any: what holds whatever happens.

use proptest::prelude::*;

use super::*;

const FAULTS: [Fault; 5] =
    [Fault::LoseRequests, Fault::LoseAnswers, Fault::Goodbye, Fault::Silence, Fault::Late];

/// Publishes in bursts while a fault strikes after each possible number of messages; with `again`
/// once more as soon as the connection is back.
fn strike_everywhere(fault: Fault, again: bool) {
    let mut at = 0;
    loop {
        let mut world = World::new(at as u64);
        let key = world.lane(PublishOptions::default());
        let worker = world.worker(Mode::Push);
        world.run_for(MS);
        let mut struck = false;
        for burst in 0..4u64 {
            (0..3).for_each(|i| world.publish(key, burst * 3 + i));
            while world.round(world.now) {
                if world.moved >= at && !struck {
                    struck = true;
                    world.inject(fault);
                    if again {
                        world.reconnect();
                        world.inject(fault);
                    }
                }
            }
        }
        world.run_for(Duration::from_secs(20));
        let lane = world.conversation.lane(key).unwrap().identity().unwrap().lane;
        world.check_lane(key, lane, 1, 12);
        assert!(world.all_accepted(key), "{fault:?} at {at}, {again}: {:?}", world.reports);
        assert_eq!(world.cluster.log.len(), 12);
        world.check_settled(worker);
        if !struck {
            assert!(at > 10, "the run moved only {at} messages");
            return;
        }
        at += 1;
    }
}

#[test]
fn a_loss_at_any_point_publishes_once_and_settles() {
    for fault in FAULTS {
        strike_everywhere(fault, false);
        strike_everywhere(fault, true);
    }
}

#[derive(Debug, Clone, Copy)]
enum Act {
    Publish(u8),
    Rounds(u8),
    Pass(u16),
    Strike(Fault),
    Down(u16),
    Refuse(u8, Code),
    RefuseSettle(Code),
    RefuseOpen(Code),
}

fn act() -> impl Strategy<Value = Act> {
    let fault = prop::sample::select(FAULTS.to_vec());
    let passing = || {
        prop::sample::select(vec![
            Code::Overloaded,
            Code::ChannelFull,
            Code::TenureLost,
            Code::NoLeader,
            Code::StorageFailed,
        ])
    };
    prop_oneof![
        4 => (1u8..6).prop_map(Act::Publish),
        6 => (1u8..20).prop_map(Act::Rounds),
        1 => (1u16..800).prop_map(Act::Pass),
        2 => fault.prop_map(Act::Strike),
        1 => (1u16..3000).prop_map(Act::Down),
        2 => (0u8..4, passing()).prop_map(|(after, code)| Act::Refuse(after, code)),
        1 => passing().prop_map(Act::RefuseSettle),
        1 => passing().prop_map(Act::RefuseOpen),
    ]
}

/// Plays acts on two lanes and two consumers, then heals and waits. Returns the world, the lanes
/// with how many events each was given, and the durable consumer.
fn play(seed: u64, acts: &[Act], mode: Mode, deadline: Duration) -> (World, Vec<(Key, u64)>, Key) {
    let mut world = World::new(seed);
    let named = PublishOptions {
        lane: LaneChoice::Named(name("named")),
        deadline,
        ..PublishOptions::default()
    };
    let mut lanes = vec![
        (world.lane(PublishOptions { deadline, ..PublishOptions::default() }), 0),
        (world.lane(named), 0),
    ];
    let worker = world.worker(mode);
    world.run_for(MS);
    for (turn, act) in acts.iter().enumerate() {
        match *act {
            Act::Publish(count) => {
                let (key, given) = &mut lanes[turn % 2];
                (0..count).for_each(|_| world.publish(*key, *given));
                *given += u64::from(count);
            }
            Act::Rounds(count) => {
                for _ in 0..count {
                    world.round(world.now);
                }
            }
            Act::Pass(ms) => world.run_for(MS * u32::from(ms)),
            Act::Strike(fault) => world.inject(fault),
            Act::Down(ms) => {
                world.inject(Fault::LoseAnswers);
                world.down_until = world.now + MS * u32::from(ms);
            }
            Act::Refuse(after, code) => world.cluster.refusals.push_back((after.into(), code)),
            Act::RefuseSettle(code) => world.cluster.settle_refusals.push_back(code),
            Act::RefuseOpen(code) => world.cluster.open_refusals.push_back(code),
        }
        if mode == Mode::Pull {
            fetch(&mut world, worker);
        }
    }
    world.cluster.refusals.clear();
    for _ in 0..60 {
        world.run_for(Duration::from_secs(1));
        if mode == Mode::Pull {
            fetch(&mut world, worker);
        }
    }
    (world, lanes, worker)
}

fn fetch(world: &mut World, worker: Key) {
    let until = world.now + MS * 50;
    let consumer = world.conversation.consumer(worker).unwrap();
    let over = consumer.fetched();
    assert!(!matches!(over, Some(Err(_))), "a fetch was given up");
    if !consumer.is_fetching() {
        consumer.fetch(100, 1 << 20, until);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, ..ProptestConfig::default() })]

    /// A patient user gets everything accepted, exactly once, in order, and settled.
    #[test]
    fn patience_is_rewarded(
        seed: u64,
        acts in prop::collection::vec(act(), 1..60),
        pull: bool,
    ) {
        let mode = if pull { Mode::Pull } else { Mode::Push };
        let (mut world, lanes, worker) = play(seed, &acts, mode, Duration::from_secs(3600));
        let mut sum = 0;
        for (key, given) in lanes {
            let lane = world.conversation.lane(key).unwrap().identity().unwrap().lane;
            world.check_lane(key, lane, 1, given);
            prop_assert!(world.all_accepted(key));
            sum += given as usize;
        }
        prop_assert_eq!(world.cluster.log.len(), sum);
        if sum > 0 {
            world.check_settled(worker);
        }
    }

    /// An impatient user gets an answer to everything, and none of them is false; afterwards the
    /// lane goes on.
    #[test]
    fn impatience_is_told_the_truth(
        seed: u64,
        acts in prop::collection::vec(act(), 1..60),
        deadline in 1u32..2000,
    ) {
        let (mut world, lanes, _) = play(seed, &acts, Mode::Push, MS * deadline);
        for (key, given) in lanes {
            // A lane that no server knew in time is refused for good.
            let Some(identity) = world.conversation.lane(key).unwrap().identity() else { continue };
            world.check_lane(key, identity.lane, 1, given);
            if world.conversation.lane(key).unwrap().failed().is_some() {
                continue;
            }
            world.publish(key, "after");
            world.run_for(MS * deadline.min(1) + Duration::from_secs(1));
            world.check_lane(key, identity.lane, 1, given + 1);
            let last = world.reports[&key].last().unwrap();
            prop_assert!(matches!(last.fate, Fate::Accepted { duplicate: false, .. }), "{:?}", last);
        }
    }
}

#[test]
fn a_cluster_that_is_away_is_tried_at_a_bounded_rate() {
    let mut world = World::new(7);
    let key = world.lane(PublishOptions::default());
    world.run_for(MS);
    world.inject(Fault::LoseRequests);
    let away = Duration::from_secs(30);
    world.down_until = world.now + away;
    world.publish(key, 1);
    world.dials.clear();
    world.run_for(away - MS);
    let dials = world.dials.clone();
    let pauses: Vec<Duration> = dials.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(pauses.iter().all(|pause| *pause <= options().backoff.max), "{pauses:?}");
    assert!(pauses[..3].iter().all(|pause| *pause <= MS * 25), "the first are quick: {pauses:?}");
    let late = &pauses[pauses.len() - 10..];
    assert!(late.iter().all(|pause| *pause >= options().backoff.max / 2), "{late:?}");
    assert!(world.rounds < 1000, "{} rounds while nothing could be done", world.rounds);
}

#[test]
fn a_server_that_welcomes_and_hangs_up_is_no_reason_to_hurry() {
    let mut world = World::new(3);
    world.lane(PublishOptions::default());
    for _ in 0..50 {
        while world.session.is_none() {
            assert!(world.round(world.now + Duration::from_secs(1)));
        }
        world.lose("hung up");
    }
    let pause = world.dials[49] - world.dials[48];
    assert!(pause >= options().backoff.max / 2, "{pause:?}");
}
