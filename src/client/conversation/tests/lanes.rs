//! What a lane does, case by case.

use super::*;

#[test]
fn a_refusal_is_waited_out_and_order_is_kept() {
    for code in [Code::ChannelFull, Code::Overloaded, Code::TenureLost, Code::StorageFailed] {
        let mut world = World::new(1);
        let key = world.lane(PublishOptions::default());
        world.run_for(MS);
        (0..5).for_each(|_| world.cluster.refusals.push_back((1, code)));
        for i in 0..20 {
            world.publish(key, i);
            world.round(world.now);
        }
        world.run_for(Duration::from_secs(5));
        let lane = world.conversation.lane(key).unwrap().identity().unwrap().lane;
        world.check_lane(key, lane, 1, 20);
        assert!(world.all_accepted(key), "{code}");
    }
}

/// What a user hears who gives up, by what was known at that moment.
#[test]
fn giving_up_says_what_is_known() {
    let deadline = Duration::from_secs(1);
    let patient = || PublishOptions { deadline, ..PublishOptions::default() };
    let end = |mut world: World, key| {
        world.run_for(Duration::from_secs(2));
        world.reports.remove(&key).unwrap().last().unwrap().fate.clone()
    };

    // Never sent: refused.
    let mut world = World::new(1);
    let key = world.lane(patient());
    world.run_for(MS);
    world.inject(Fault::LoseRequests);
    world.down_until = Duration::from_secs(60);
    world.publish(key, 1);
    assert!(matches!(end(world, key), Fate::Refused(r) if r.code == Code::NoLeader));

    // Sent, and then no word: unknown.
    let mut world = World::new(1);
    let key = world.lane(patient());
    world.run_for(MS);
    world.publish(key, 1);
    world.inject(Fault::LoseAnswers);
    world.down_until = Duration::from_secs(60);
    assert!(matches!(end(world, key), Fate::Unknown(_)));

    // Refused as long as it was tried: refused, with the server's reason.
    let mut world = World::new(1);
    let key = world.lane(patient());
    world.run_for(MS);
    world.cluster.refusals = (0..1000).map(|_| (0, Code::ChannelFull)).collect();
    world.publish(key, 1);
    assert!(matches!(end(world, key), Fate::Refused(r) if r.code == Code::ChannelFull));
}

#[test]
fn a_refused_event_is_stepped_over() {
    let mut world = World::new(1);
    let key = world.lane(PublishOptions::default());
    world.run_for(MS);
    for text in ["0", SPOILT, "2", SPOILT, SPOILT, "5", "6"] {
        world.publish(key, text);
    }
    world.run_for(Duration::from_secs(1));
    let accepted = |report: &AckRange| matches!(report.fate, Fate::Accepted { .. });
    let each = |report: &AckRange| vec![accepted(report); report.count as usize];
    let fates: Vec<bool> = world.reports[&key].iter().flat_map(each).collect();
    assert_eq!(fates, [true, false, true, false, false, true, true]);
    let lane = world.conversation.lane(key).unwrap().identity().unwrap().lane;
    world.check_lane(key, lane, 1, 7);
}

#[test]
fn a_lane_opened_elsewhere_is_lost_and_says_so() {
    let options = || PublishOptions::from(LaneChoice::Named(name("shared")));
    let mut world = World::new(1);
    let key = world.lane(options());
    world.run_for(MS);
    world.publish(key, "ours");
    world.run_for(MS);
    let lane = *world.cluster.lanes.keys().next().unwrap();

    // While connected: the server fences us.
    world.take_over(lane);
    world.publish(key, "fenced");
    world.run_for(MS);
    let last = world.reports[&key].last().unwrap();
    assert!(matches!(&last.fate, Fate::Refused(r) if r.code == Code::LaneFenced), "{last:?}");
    assert_eq!(world.conversation.lane(key).unwrap().failed().unwrap().code, Code::LaneFenced);

    // While away: the answer says so, and what was sent stays unknown.
    let mut world = World::new(1);
    let key = world.lane(options());
    world.run_for(MS);
    world.publish(key, "ours");
    world.inject(Fault::LoseAnswers);
    world.take_over(lane);
    world.run_for(Duration::from_secs(1));
    let last = world.reports[&key].last().unwrap();
    assert!(matches!(&last.fate, Fate::Unknown(r) if r.code == Code::LaneFenced), "{last:?}");

    // The same if we had it back before, and did not hear of that.
    let mut world = World::new(1);
    let key = world.lane(options());
    world.run_for(MS);
    world.publish(key, "ours");
    world.inject(Fault::LoseAnswers);
    world.take_over(lane);
    world.reconnect();
    world.inject(Fault::LoseAnswers);
    assert_eq!(world.cluster.lanes[&lane].epoch, 3);
    world.run_for(Duration::from_secs(1));
    let last = world.reports[&key].last().unwrap();
    assert!(matches!(&last.fate, Fate::Unknown(r) if r.code == Code::LaneFenced), "{last:?}");
}

/// An opening that was left behind on a lost connection reaches the log after the one that the
/// client lives by.
#[test]
fn a_late_opening_of_our_own_does_not_fence_us() {
    for choice in [LaneChoice::Fresh, LaneChoice::Named(name("mine"))] {
        let mut world = World::new(1);
        let key = world.lane(choice.clone().into());
        world.run_for(MS);
        world.inject(Fault::LoseRequests);
        world.reconnect();
        world.inject(Fault::Late);
        let openings = world.late.iter();
        assert_eq!(openings.filter(|(_, m)| matches!(m, ClientMessage::OpenLane(_))).count(), 1);
        world.run_for(Duration::from_secs(1));
        let connections = world.dials.len();
        for i in 0..10 {
            world.publish(key, i);
            world.run_for(MS);
        }
        assert!(world.late.is_empty(), "it did not arrive");
        let lane = world.conversation.lane(key).unwrap();
        assert_eq!(lane.failed(), None, "{choice:?}");
        let lane = lane.identity().unwrap().lane;
        world.check_lane(key, lane, 1, 10);
        assert!(world.all_accepted(key), "{choice:?}: {:?}", world.reports);
        assert_eq!(world.dials.len(), connections);
    }
}

/// Two handles of one client open the same lane: the later one has it, the earlier one is told,
/// and the connection stays.
#[test]
fn of_two_handles_of_one_lane_the_later_one_has_it() {
    let shared = || PublishOptions::from(LaneChoice::Named(name("shared")));
    let refusal = |world: &mut World, key| {
        world.conversation.lane(key).unwrap().failed().map(|rejection| rejection.code)
    };
    // The second is opened after this many things have happened to what the first has published,
    // and the answers so far may be lost on their way.
    for (rounds, lose) in (0..24).flat_map(|rounds| [(rounds, false), (rounds, true)]) {
        let mut world = World::new(1);
        let first = world.lane(shared());
        world.run_for(MS);
        let lane = world.conversation.lane(first).unwrap().identity().unwrap().lane;
        for i in 0..6 {
            world.publish(first, i);
            if i % 2 == 1 {
                for _ in 0..rounds / 3 {
                    world.round(world.now);
                }
            }
        }
        if lose {
            world.inject(Fault::LoseAnswers);
        }
        let second = world.lane(shared());
        world.run_for(Duration::from_secs(1));
        let connections = world.dials.len();
        assert_eq!(refusal(&mut world, first), Some(Code::LaneFenced), "after {rounds}");
        assert_eq!(refusal(&mut world, second), None, "after {rounds}");
        world.check_lane(first, lane, 1, 6);

        let next = world.conversation.lane(second).unwrap().next_sequence();
        for i in 0..6 {
            world.publish(second, i);
            world.run_for(MS);
        }
        world.run_for(Duration::from_secs(20));
        assert_eq!(world.conversation.lane(second).unwrap().identity().unwrap().lane, lane);
        world.check_lane(second, lane, next, 6);
        assert!(world.all_accepted(second), "after {rounds}: {:?}", world.reports[&second]);
        assert_eq!(world.dials.len(), connections, "after {rounds}: the connection did not stay");
    }
}

/// What the first of two handles has on its way when it loses the lane: the answer to the second
/// one's opening tells what became of it, unless somebody else had the lane in between.
#[test]
fn a_handle_that_loses_its_lane_says_what_is_known() {
    let shared = || PublishOptions::from(LaneChoice::Named(name("shared")));
    for (elsewhere, known) in [(false, true), (true, false)] {
        let mut world = World::new(1);
        let first = world.lane(shared());
        world.run_for(MS);
        let lane = world.conversation.lane(first).unwrap().identity().unwrap().lane;
        world.publish(first, "accepted, and not heard of");
        while world.cluster.log.is_empty() {
            assert!(world.round(world.now));
        }
        world.to_client.clear();
        if elsewhere {
            world.take_over(lane);
        }
        world.publish(first, "refused");
        world.lane(shared());
        world.run_for(MS);
        let fates: Vec<_> = world.reports[&first].iter().map(|report| &report.fate).collect();
        let [of_the_first, Fate::Refused(_)] = fates.as_slice() else { panic!("{fates:?}") };
        match known {
            true => assert!(matches!(of_the_first, Fate::Accepted { .. }), "{of_the_first:?}"),
            false => assert!(matches!(of_the_first, Fate::Unknown(_)), "{of_the_first:?}"),
        }
        assert_eq!(world.dials.len(), 1);
    }
}

/// A user that gives up and leaves while events are on their way is nobody the answer could go to.
#[test]
fn an_answer_to_a_handle_that_has_left_is_ignored() {
    let deadline = Duration::from_millis(100);
    let mut world = World::new(1);
    let key = world.lane(PublishOptions { deadline, ..PublishOptions::default() });
    world.run_for(MS);
    world.publish(key, 1);
    while world.cluster.log.is_empty() {
        assert!(world.round(world.now));
    }
    let answers = std::mem::take(&mut world.to_client);
    assert!(matches!(answers[0], ServerMessage::PublishAck(_)));
    world.run_for(deadline);
    world.conversation.leave_lane(key);
    assert!(world.conversation.lane(key).is_none());
    world.to_client = answers;
    world.run_for(Duration::from_secs(1));
    assert_eq!((world.conversation.should_leave(), world.dials.len()), (None, 1));
}

#[test]
fn a_lane_goes_on_where_another_run_stopped() {
    let mut world = World::new(1);
    let named = || PublishOptions::from(LaneChoice::Named(name("mine")));
    let key = world.lane(named());
    world.run_for(MS);
    (0..3).for_each(|i| world.publish(key, i));
    world.run_for(MS);
    world.conversation.leave_lane(key);
    assert!(world.conversation.lane(key).is_none());

    // Continues, or repeats what it is told to; a start beyond the end is refused.
    for (first_sequence, expected, duplicate) in [(None, 4, false), (Some(2), 2, true)] {
        let again = world.lane(PublishOptions { first_sequence, ..named() });
        world.run_for(MS);
        assert_eq!(world.conversation.lane(again).unwrap().next_sequence(), expected);
        world.publish(again, "again");
        world.run_for(MS);
        let fate = &world.reports[&again][0].fate;
        let seq = expected;
        assert_eq!(*fate, Fate::Accepted { first_seq: seq, duplicate });
        world.conversation.leave_lane(again);
    }
    let beyond = world.lane(PublishOptions { first_sequence: Some(9), ..named() });
    world.run_for(MS);
    let failed = world.conversation.lane(beyond).unwrap().failed().unwrap();
    assert_eq!((failed.code, failed.expected), (Code::OutOfSequence, Some(5)));
}

/// A run that gave up an event steps over it; who repeats that event later must not hear that it
/// was accepted, and must hear of the others that they were.
#[test]
fn what_an_earlier_run_stepped_over_is_not_accepted_when_it_is_repeated() {
    let deadline = Duration::from_millis(200);
    let named = || PublishOptions { deadline, ..LaneChoice::Named(name("mine")).into() };
    let mut world = World::new(1);
    let key = world.lane(named());
    world.run_for(MS);
    world.publish(key, 1);
    world.run_for(MS);
    world.cluster.refusals = (0..1000).map(|_| (0, Code::ChannelFull)).collect();
    world.publish(key, 2);
    world.run_for(Duration::from_secs(1));
    world.cluster.refusals.clear();
    (3..=5).for_each(|i| world.publish(key, i));
    world.run_for(Duration::from_secs(1));
    world.conversation.leave_lane(key);

    // One by one, and many at a time with more behind the one that was stepped over.
    for burst in [false, true] {
        let again = world.lane(PublishOptions { first_sequence: Some(1), ..named() });
        world.run_for(MS);
        for i in 1..=7 {
            world.publish(again, i);
            if !burst || i == 4 {
                world.run_for(Duration::from_millis(50));
            }
        }
        world.run_for(Duration::from_secs(1));
        let lane = *world.cluster.lanes.keys().next().unwrap();
        world.check_lane(again, lane, 1, 7);
        let accepted = |report: &AckRange| matches!(report.fate, Fate::Accepted { .. });
        let each = |report: &AckRange| vec![accepted(report); report.count as usize];
        let fates: Vec<bool> = world.reports[&again].iter().flat_map(each).collect();
        assert_eq!(fates, [true, false, true, true, true, true, true], "burst: {burst}");
        world.conversation.leave_lane(again);
    }

    // Who gives up before the server answers knows nothing of what an earlier run did.
    let again = world.lane(PublishOptions { first_sequence: Some(2), ..named() });
    world.run_for(MS);
    world.inject(Fault::LoseRequests);
    world.down_until = world.now + Duration::from_secs(60);
    world.publish(again, 2);
    world.run_for(Duration::from_secs(1));
    assert!(matches!(world.reports[&again][0].fate, Fate::Unknown(_)));
}
