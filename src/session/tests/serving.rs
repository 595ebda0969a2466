//! Whole conversations: frames in, frames out, with the delivery task between them.

use bytes::Bytes;

use super::client::{Node, acks, push};
use crate::session::End;
use crate::types::{
    Code, Name, Opener, Property, Qos, Rejection, SeqRange, SeqRanges, Start, limits,
};
use crate::wire::{
    AttachTarget, Credit, Detach, FlowMode, LaneTarget, Nack, OpenLane, Ping, Pong, Pull,
    ServerMessage, Settle,
};

fn bodies(found: &[(u64, u32, String)]) -> Vec<&str> {
    found.iter().map(|(_, _, body)| body.as_str()).collect()
}

#[tokio::test]
async fn published_events_are_pushed_and_acked() {
    let node = Node::new();
    let (mut supplier, mut consumer) = (node.client(), node.client());
    let proxy = consumer.attach(Qos::default(), push(100)).await;
    let lane = supplier.open_lane().await;
    let ack = supplier.publish(lane, 1, &["a", "b"]).await;
    assert_eq!((ack.runs[0].first_seq, ack.runs[0].count), (1, 2));
    let found = consumer.deliveries(2).await;
    assert_eq!(found, [(1, 1, "a".into()), (2, 1, "b".into())]);
    assert_eq!(node.delivery.stats(vec![proxy]).await.proxies[&proxy].in_flight, 2);
    assert_eq!(consumer.ack(proxy, &[1, 2]).await, 2);
    assert_eq!(node.delivery.stats(vec![proxy]).await.proxies[&proxy].in_flight, 0);
    assert!(matches!(consumer.ended().await, End::PeerGone));
    assert!(matches!(supplier.ended().await, End::PeerGone));
}

#[tokio::test]
async fn pulls_give_what_is_there_or_wait_for_it() {
    let node = Node::new();
    let (mut supplier, mut consumer) = (node.client(), node.client());
    consumer.attach(Qos::default(), FlowMode::Pull).await;
    let lane = supplier.open_lane().await;
    supplier.publish(lane, 1, &["a", "b", "c"]).await;
    let pull = Pull { request: 9, consumer: 7, events_max: 2, bytes_max: 1 << 20, wait_ms: 1000 };
    for (request, count) in [(1, 2), (2, 1)] {
        consumer.say(Pull { request, ..pull }).await;
        assert_eq!(consumer.deliveries(count).await.len(), count);
        let ServerMessage::PullDone(done) = consumer.hear().await else { panic!() };
        assert_eq!((done.request, done.delivered as usize), (request, count));
    }
    consumer.say(pull).await;
    supplier.publish(lane, 4, &["d"]).await;
    assert_eq!(bodies(&consumer.deliveries(1).await), ["d"]);
    assert!(matches!(consumer.hear().await, ServerMessage::PullDone(_)));
    // In order behind the pull: once it is answered, the pull waits.
    consumer.say(pull).await;
    consumer.say(Pull { request: 10, events_max: 0, ..pull }).await;
    assert!(matches!(consumer.hear().await, ServerMessage::Failed(_)));
    node.delivery.stats(Vec::new()).await;
    let ServerMessage::PullDone(done) = node.pass_time_until_heard(&mut consumer, 1000).await
    else {
        panic!()
    };
    assert_eq!((done.request, done.delivered), (9, 0));
}

#[tokio::test]
async fn nacked_and_expired_deliveries_come_again_and_end_as_dead_letters() {
    let node = Node::new();
    let (mut supplier, mut consumer) = (node.client(), node.client());
    let qos = Qos::from([(Property::AckWait, 1000), (Property::MaxDeliveries, 3)]);
    let proxy = consumer.attach(qos, push(100)).await;
    let lane = supplier.open_lane().await;
    supplier.publish(lane, 1, &["poison"]).await;
    assert_eq!(consumer.deliveries(1).await[0].1, 1);

    let nack = Nack { sequences: SeqRanges::from_iter([1]), delay_ms: 0 };
    consumer.say(Settle { nacks: vec![nack], ..acks(proxy, &[]) }).await;
    let mut seen = [consumer.hear().await, consumer.hear().await];
    seen.sort_by_key(|m| matches!(m, ServerMessage::Deliver(_)));
    let [ServerMessage::SettleConfirmed(_), ServerMessage::Deliver(second)] = &seen else {
        panic!("{seen:?}")
    };
    assert_eq!((second.events[0].delivery, second.events[0].maybe_redelivered), (2, true));

    node.time.advance(1500);
    assert_eq!(consumer.deliveries(1).await, [(1, 3, "poison".into())], "its lease ended");
    let mut undertaker = node.client();
    node.time.advance(1500);
    let dead = Name::default_channel().dead_letter();
    let target =
        AttachTarget::Volatile { start: Start::All, resume_after: None, types: Default::default() };
    // The third attempt is over once the dead letter lies in its channel.
    while node.delivery.stats(vec![proxy]).await.proxies[&proxy].in_flight > 0 {
        tokio::task::yield_now().await;
    }
    undertaker.attach_to(dead, target, push(10)).await;
    let deliver = undertaker.deliver().await;
    let letter = deliver.events[0].dead_letter.as_ref().unwrap();
    assert_eq!((letter.channel.clone(), letter.seq), (Name::default_channel(), 1));
    assert!(letter.reason.contains("max deliveries"), "{}", letter.reason);
    assert_eq!(&deliver.events[0].event.body()[..], b"poison");
}

#[tokio::test]
async fn subscribers_all_get_everything_and_are_told_of_gaps() {
    let node = Node::new();
    let (mut one, mut two, mut supplier) = (node.client(), node.client(), node.client());
    one.subscribe(Start::New, push(100)).await;
    two.subscribe(Start::New, push(1)).await;
    let lane = supplier.open_lane().await;
    supplier.publish(lane, 1, &["a", "b"]).await;
    assert_eq!(bodies(&one.deliveries(2).await), ["a", "b"]);
    assert_eq!(bodies(&two.deliveries(1).await), ["a"]);

    // The second has no credit while the history moves on without it.
    let frames = limits::HISTORY_EVENTS as usize / 1000 + 1;
    let thousand = vec!["x"; 1000];
    for i in 0..frames {
        supplier.publish(lane, (i * 1000) as u64 + 3, &thousand).await;
    }
    two.say(Credit { consumer: 7, events: 1, bytes: 1000 }).await;
    let ServerMessage::Gap(gap) = two.hear().await else { panic!() };
    let first_kept = (frames * 1000) as u64 + 3 - limits::HISTORY_EVENTS;
    assert_eq!(gap.missed, SeqRange { first: 2, last: first_kept - 1 });
    assert_eq!(two.deliveries(1).await[0].0, first_kept);
}

#[tokio::test]
async fn interest_is_told_when_a_lane_is_opened() {
    let node = Node::new();
    let mut client = node.client();
    let channel = Name::default_channel();
    for expected in [false, true, false] {
        let (target, opener) = (LaneTarget::Fresh, Opener::default());
        let open = OpenLane { request: 1, channel: channel.clone(), target, opener, admin: None };
        client.say(open).await;
        let ServerMessage::LaneOpened(opened) = client.hear().await else { panic!() };
        assert_eq!(opened.channel_interest, expected);
        if expected {
            client.say(Detach { consumer: 7 }).await;
            assert!(matches!(client.hear().await, ServerMessage::Closed(_)));
        } else {
            client.subscribe(Start::New, push(1)).await;
            node.delivery.stats(Vec::new()).await;
        }
    }
}

#[tokio::test]
async fn an_opening_over_an_old_connection_that_comes_late_fences_nobody() {
    let node = Node::new();
    let (mut old, mut new) = (node.client(), node.client());
    let named = || LaneTarget::Named(Name::new("ours").unwrap());
    let attempt = |attempt| Opener { client: 7, attempt };
    let lane = new.open(named(), attempt(2)).await;
    let (request, channel) = (1, Name::default_channel());
    old.say(OpenLane { request, channel, target: named(), opener: attempt(1), admin: None }).await;
    let ServerMessage::Failed(failed) = old.hear().await else { panic!() };
    assert_eq!(failed.rejection.code, Code::LaneFenced);
    let ack = new.publish(lane, 1, &["a"]).await;
    assert_eq!((ack.refused, ack.epoch, ack.runs[0].first_seq), (None, lane.1, 1));
}

#[tokio::test]
async fn a_client_that_does_not_read_holds_up_nobody() {
    let node = Node::new();
    let mut stuck = node.client_with_pipe(512);
    let (mut supplier, mut consumer) = (node.client(), node.client());
    stuck.subscribe(Start::New, push(60_000)).await;
    let proxy = consumer.attach(Qos::default(), push(60_000)).await;
    let lane = supplier.open_lane().await;
    let hundred = vec!["some body"; 100];
    for i in 0..50 {
        supplier.publish(lane, i * 100 + 1, &hundred).await;
        let seqs: Vec<u64> = consumer.deliveries(100).await.iter().map(|d| d.0).collect();
        assert_eq!(consumer.ack(proxy, &seqs).await, 100);
    }
    assert_eq!(stuck.deliveries(5000).await.len(), 5000, "it was all kept for when it reads");
}

#[tokio::test]
async fn a_client_that_never_reads_is_given_up() {
    let node = Node::new();
    let mut stuck = node.client_with_pipe(64);
    // More answers than the pipe holds; further requests are not read any more.
    for nonce in 0..20 {
        stuck.say(Ping { nonce }).await;
    }
    let mut server = stuck.server;
    let ended = loop {
        node.time.advance(limits::SESSION_STALL_MS);
        tokio::select! { biased;
            ended = &mut server => break ended.unwrap(),
            () = tokio::task::yield_now() => {}
        }
    };
    assert!(matches!(ended, End::Stalled), "{ended:?}");
}

#[tokio::test]
async fn an_unreadable_payload_is_told_or_tried_again_and_the_rest_goes_on() {
    let node = Node::new();
    let (mut supplier, mut durable, mut volatile) = (node.client(), node.client(), node.client());
    let lane = supplier.open_lane().await;
    supplier.publish(lane, 1, &["a", "b", "c"]).await;
    node.cluster.damage(2, true);
    volatile.subscribe(Start::All, push(10)).await;
    assert_eq!(bodies(&volatile.deliveries(2).await), ["a", "c"]);
    let ServerMessage::Gap(gap) = volatile.hear().await else { panic!() };
    assert_eq!(gap.missed, SeqRange::one(2));

    let proxy = durable.attach(Qos::default(), push(10)).await;
    assert_eq!(bodies(&durable.deliveries(2).await), ["a", "c"]);
    // The session passes the failure on before it reads on: the answer to a ping comes later.
    durable.say(Ping { nonce: 1 }).await;
    assert!(matches!(durable.hear().await, ServerMessage::Pong(Pong { nonce: 1 })));
    assert_eq!(node.delivery.stats(vec![proxy]).await.proxies[&proxy].in_flight, 3);
    node.cluster.damage(2, false);
    let ServerMessage::Deliver(again) =
        node.pass_time_until_heard(&mut durable, limits::UNREADABLE_RETRY_MS).await
    else {
        panic!()
    };
    assert_eq!(again.events[0].seq, 2);
    assert_eq!(durable.ack(proxy, &[1, 2, 3]).await, 3);
}

#[tokio::test]
async fn the_end_of_a_tenure_sends_clients_elsewhere_and_a_new_one_redelivers() {
    let node = Node::new();
    let (mut supplier, mut consumer) = (node.client(), node.client());
    let proxy = consumer.attach(Qos::default(), push(10)).await;
    let lane = supplier.open_lane().await;
    supplier.publish(lane, 1, &["a"]).await;
    consumer.deliveries(1).await;
    node.cluster.end_tenure();
    for mut client in [supplier, consumer] {
        let ServerMessage::Goodbye(goodbye) = client.hear().await else { panic!() };
        assert_eq!(goodbye.reason.code, Code::NoLeader);
        assert!(matches!(client.ended().await, End::Closed(_)));
    }
    let mut early = node.client();
    assert!(matches!(early.hear().await, ServerMessage::Goodbye(_)), "nobody serves");

    node.cluster.begin_tenure();
    let mut consumer = node.client();
    assert_eq!(consumer.attach(Qos::default(), push(10)).await, proxy);
    let again = consumer.deliver().await;
    assert!(again.events[0].maybe_redelivered);
    assert_eq!(consumer.ack(proxy, &[1]).await, 1);
}

#[tokio::test]
async fn shutdown_and_bad_frames_end_with_a_reason() {
    let node = Node::new();
    let mut client = node.client();
    client.say_raw(0x77, Bytes::new()).await;
    let ServerMessage::Goodbye(goodbye) = client.hear().await else { panic!() };
    assert_eq!(goodbye.reason.code, Code::BadRequest);

    let mut client = node.client();
    client.say(Ping { nonce: 3 }).await;
    assert!(matches!(client.hear().await, ServerMessage::Pong(_)));
    node.shutdown.set(true);
    let ServerMessage::Goodbye(goodbye) = client.hear().await else { panic!() };
    assert_eq!(goodbye.reason.code, Code::ShuttingDown);
    assert!(matches!(client.ended().await, End::Closed(_)));
}

#[tokio::test]
async fn waiting_publishes_hold_up_nothing_else() {
    let node = Node::new();
    let mut client = node.client();
    let lane = client.open_lane().await;
    node.cluster.hold();
    for sequence in 1..=100 {
        client.send(lane, sequence, &["event"]).await;
    }
    client.say(Ping { nonce: 1 }).await;
    assert!(matches!(client.hear().await, ServerMessage::Pong(_)), "still listening");
    assert_eq!(node.cluster.held(), 100);
    node.cluster.release();
    let mut answered = 0;
    while answered < 100 {
        let ServerMessage::PublishAck(ack) = client.hear().await else { panic!() };
        answered += ack.runs.iter().map(|run| run.count).sum::<u32>();
    }
}

#[tokio::test]
async fn too_many_bytes_in_flight_are_not_read() {
    let node = Node::new();
    let mut client = node.client_with_pipe(1 << 16);
    let lane = client.open_lane().await;
    node.cluster.hold();
    let large = "x".repeat(limits::EVENT_BYTES_MAX - 64);
    let fit = limits::SESSION_PUBLISH_BYTES_MAX / large.len() + 1;
    let send = async {
        for sequence in 1..=fit as u64 + 3 {
            client.send(lane, sequence, &[&large]).await;
        }
    };
    let watch = async {
        while node.cluster.held() < fit {
            tokio::task::yield_now().await;
        }
        for _ in 0..1000 {
            tokio::task::yield_now().await;
        }
        assert_eq!(node.cluster.held(), fit, "no more is taken before an answer");
        node.cluster.release();
    };
    tokio::join!(send, watch);
    let mut answered = 0;
    while answered < fit + 3 {
        let ServerMessage::PublishAck(ack) = client.hear().await else { panic!() };
        answered += ack.runs.iter().map(|run| run.count as usize).sum::<usize>();
    }
}

#[tokio::test]
async fn a_full_log_queue_refuses_and_the_client_goes_on() {
    let node = Node::new();
    let mut client = node.client();
    let lane = client.open_lane().await;
    node.cluster.refuse(Some(Rejection::new(Code::Overloaded, "the queue is full")));
    let ack = client.publish(lane, 1, &["a"]).await;
    assert_eq!(ack.refused.map(|r| r.code), Some(Code::Overloaded));
    node.cluster.refuse(None);
    assert_eq!(client.publish(lane, 1, &["a"]).await.refused, None);
}

#[tokio::test]
async fn an_ack_that_finds_the_log_full_is_confirmed_when_there_is_room() {
    let node = Node::new();
    let (mut supplier, mut consumer) = (node.client(), node.client());
    let proxy = consumer.attach(Qos::default(), push(10)).await;
    let lane = supplier.open_lane().await;
    supplier.publish(lane, 1, &["a"]).await;
    consumer.deliveries(1).await;
    node.cluster.refuse(Some(Rejection::new(Code::Overloaded, "the queue is full")));
    consumer.say(acks(proxy, &[1])).await;
    consumer.say(Ping { nonce: 1 }).await;
    assert!(matches!(consumer.hear().await, ServerMessage::Pong(_)));
    node.delivery.stats(Vec::new()).await;
    node.cluster.refuse(None);
    // The next thing it hears is neither a refusal nor the event.
    let ServerMessage::SettleConfirmed(confirmed) =
        node.pass_time_until_heard(&mut consumer, limits::VERDICT_PAUSE_MS).await
    else {
        panic!()
    };
    assert_eq!((confirmed.settled, confirmed.refused), (1, None));
}

#[tokio::test]
async fn a_leader_that_a_majority_does_not_confirm_serves_nobody() {
    let node = Node::new();
    let (mut supplier, mut consumer) = (node.client(), node.client());
    consumer.attach(Qos::default(), push(100)).await;
    let lane = supplier.open_lane().await;
    supplier.publish(lane, 1, &["acked elsewhere by now"]).await;
    // It was replaced, and has not heard of it.
    node.cluster.refuse(Some(Rejection::new(Code::NoLeader, "another node leads")));
    let newcomer = node.client();
    match newcomer.ended_by_server().await {
        End::Closed(reason) => assert_eq!(reason.code, Code::NoLeader),
        other => panic!("{other:?}"),
    }
}
