//! What consumers and the client as a whole do, case by case.

use super::*;
use crate::types::limits;

#[test]
fn an_ephemeral_consumer_resumes_and_hears_of_gaps() {
    let mut world = World::new(1);
    let publisher = world.lane(PublishOptions::default());
    let consumer = world.conversation.subscribe(
        Name::default_channel(),
        SubscribeOptions::default(),
        Mode::Push,
        world.now,
    );
    world.run_for(MS);
    (0..3).for_each(|i| world.publish(publisher, i));
    world.run_for(MS);
    world.inject(Fault::LoseRequests);
    world.run_for(Duration::from_secs(1));
    (3..6).for_each(|i| world.publish(publisher, i));
    world.run_for(MS);
    assert_eq!(world.taken[&consumer], [1, 2, 3, 4, 5, 6]);

    world.lose("lost");
    world.down_until = world.now + Duration::from_secs(1);
    for i in 0..4 {
        world.cluster.log.push((LaneId::default(), i, event(i)));
    }
    world.cluster.first_retained = 9;
    world.run_for(Duration::from_secs(3));
    assert_eq!(world.taken[&consumer][6..], [9, 10]);
    let gaps = world.conversation.consumer(consumer).unwrap().take_gaps();
    assert_eq!(gaps, [SeqRange { first: 7, last: 8 }]);
}

#[test]
fn refusals_for_good_end_a_consumer_and_a_client() {
    let mut world = World::new(1);
    world.cluster.open_refusals.push_back(Code::UnknownChannel);
    let worker = world.worker(Mode::Push);
    world.run_for(Duration::from_secs(1));
    let failed = world.conversation.consumer(worker).unwrap().failed().unwrap();
    assert_eq!(failed.code, Code::UnknownChannel);

    let mut world = World::new(1);
    let key = world.lane(PublishOptions::default());
    assert!(matches!(world.conversation.step(world.now), Step::Dial(..)));
    world.conversation.refused(Rejection::new(Code::Unauthorized, "wrong token"), world.now);
    assert_eq!(world.conversation.step(world.now), Step::End);
    assert_eq!(world.conversation.lane(key).unwrap().failed().unwrap().code, Code::Unauthorized);
}

#[test]
fn what_no_server_answers_is_given_up_in_time() {
    let mut world = World::new(1);
    world.down_until = Duration::MAX;
    let key = world.lane(PublishOptions::default());
    world.run_for(options().connect_timeout - MS);
    assert!(world.conversation.ended().is_none());
    world.run_for(MS);
    assert_eq!(world.conversation.ended().unwrap().code, Code::NoLeader);
    assert!(world.conversation.lane(key).unwrap().failed().is_some());

    let mut world = World::new(1);
    world.run_for(MS);
    world.inject(Fault::LoseRequests);
    world.down_until = Duration::MAX;
    let options = PublishOptions { deadline: MS * 300, ..PublishOptions::default() };
    let key = world.lane(options);
    world.run_for(MS * 300);
    assert_eq!(world.conversation.lane(key).unwrap().failed().unwrap().code, Code::NoLeader);
    assert!(world.conversation.ended().is_none());
}

#[test]
fn credit_comes_back_in_large_pieces_and_never_runs_out() {
    let mut world = World::new(1);
    let publisher = world.lane(PublishOptions::default());
    let worker = world.worker(Mode::Push);
    world.run_for(MS);
    for i in 0..500 {
        world.publish(publisher, i);
    }
    world.run_for(Duration::from_secs(1));
    assert_eq!(world.taken[&worker].len(), 500);
    world.check_settled(worker);
}

#[test]
fn copies_of_what_is_held_are_dropped() {
    let mut world = World::new(1);
    let publisher = world.lane(PublishOptions::default());
    world.run_for(MS);
    (0..6).for_each(|i| world.publish(publisher, i));
    world.run_for(MS);
    let worker = world.worker(Mode::Push);
    // Nobody takes anything: two connections deliver the same events.
    for _ in 0..2 {
        while world.moved < 10_000 && !world.conversation.consumer(worker).unwrap().has_received() {
            world.conversation.tick(world.now);
            if !(world.advance_link() || world.move_message()) {
                world.now += MS;
            }
        }
        while world.move_message() {}
        world.lose("lost");
        world.now += Duration::from_secs(1);
    }
    while world.advance_link() || world.move_message() {}
    let held = world.conversation.consumer(worker).unwrap().take(usize::MAX);
    assert_eq!(held.iter().map(|d| d.seq).collect::<Vec<_>>(), [1, 2, 3, 4, 5, 6]);
}

fn delivery(seq: Seq, n: u32) -> crate::wire::Delivery {
    crate::wire::Delivery {
        seq,
        tenure: crate::types::Tenure(1),
        lane: LaneId { index: 1, position: 0 },
        sequence: seq,
        delivery: n,
        maybe_redelivered: n > 1,
        fencing: 0,
        accepted: crate::types::Stamp(0),
        dead_letter: None,
        event: event("x"),
    }
}

fn attached() -> crate::wire::Attached {
    crate::wire::Attached {
        request: 1,
        consumer: 1,
        proxy: Some(crate::types::ProxyId(1)),
        revision: 0,
        next_seq: 1,
        tenure: crate::types::Tenure(1),
        best_effort: false,
    }
}

/// The last event of a window may overdraw it; more than the limit is refused by servers.
#[test]
fn no_more_credit_is_given_back_at_once_than_is_allowed() {
    let options = SubscribeOptions {
        credit_bytes: limits::CREDIT_BYTES_MAX,
        ..SubscribeOptions::durable(name("w"))
    };
    let mut c = Consumer::new(Name::default_channel(), options, Mode::Push);
    c.attach(Duration::ZERO).unwrap();
    c.attached(&attached(), &mut 0);
    let event = crate::types::Event::of_body(vec![7; 1 << 20]).encode().unwrap();
    let (len, count) = (event.len() as u64, limits::CREDIT_BYTES_MAX / (1 << 20) + 1);
    let deliver = |seq| crate::wire::Delivery { event: event.clone(), ..delivery(seq, 1) };
    c.deliver((1..=count).map(deliver).collect()).unwrap();
    c.take(usize::MAX);
    assert_eq!(c.credit(1, 1 << 20).unwrap().bytes, limits::CREDIT_BYTES_MAX);
    // The rest goes with the next piece.
    c.deliver((count + 1..=count + 40).map(deliver).collect()).unwrap();
    c.take(usize::MAX);
    let rest = len * (count + 40) - limits::CREDIT_BYTES_MAX;
    assert_eq!(c.credit(1, 1 << 20).unwrap().bytes, rest);
}

#[test]
fn a_copy_is_dropped_once_and_a_true_redelivery_is_not() {
    use crate::types::Start;
    let options = SubscribeOptions { credit_events: 8, ..SubscribeOptions::durable(name("w")) };
    let mut c = Consumer::new(Name::default_channel(), options.from(Start::All), Mode::Push);
    let (mut batch, attached) = (0, attached());
    c.attach(Duration::ZERO).unwrap();
    c.attached(&attached, &mut batch);
    c.deliver(vec![delivery(1, 1), delivery(2, 1)]).unwrap();
    c.disconnected();
    c.attach(Duration::ZERO).unwrap();
    c.attached(&attached, &mut batch);
    // The new leader sends both again: copies of what is held.
    c.deliver(vec![delivery(1, 1), delivery(2, 1)]).unwrap();
    assert_eq!(c.take(1)[0].seq, 1);
    c.settling.settle(&[1], Verdict::Nack { delay_ms: 0 }, &mut batch);
    c.deliver(vec![delivery(1, 2), delivery(3, 1)]).unwrap();
    let seqs: Vec<Seq> = c.take(9).iter().map(|d| d.seq).collect();
    assert!(seqs.contains(&1), "the redelivery of the nacked event was dropped: {seqs:?}");
}
