//! The whole client against servers in memory whose connections can be cut.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::Notify;

use super::fake::{FakeCluster, FakeSession, welcome};
use super::*;
use crate::env::{Runtime, TokioRuntime};
use crate::transport::{FrameOut, Listener, MemNet, MemStream, Net, Reader, Writer, split};
use crate::types::{Code, Event, EventBytes, Name, Outcome, Rejection, Start, limits};
use crate::wire::{ClientMessage, Greeting, Hello};

/// What the servers of one test share.
#[derive(Clone)]
struct Servers {
    net: MemNet,
    cluster: Arc<Mutex<FakeCluster>>,
    changed: Arc<Notify>,
    env: TokioRuntime,
}

impl Servers {
    /// Servers `s0`, `s1`, ... that agree on one cluster.
    async fn start(count: usize) -> Servers {
        let cluster = FakeCluster { tenure: 1, ..FakeCluster::default() };
        let servers = Servers {
            net: MemNet::new("client"),
            cluster: Arc::new(Mutex::new(cluster)),
            changed: Arc::default(),
            env: TokioRuntime::new(),
        };
        for i in 0..count {
            servers.listen(i).await;
        }
        servers
    }

    async fn listen(&self, i: usize) {
        let host = format!("s{i}");
        let mut listener = self.net.host(&host).listen(&format!("{host}:1")).await.unwrap();
        let servers = self.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(servers.clone().serve(stream));
            }
        });
    }

    async fn serve(self, stream: MemStream) {
        let (mut reader, mut writer) = split(stream, limits::FRAME_BYTES_MAX);
        let Ok(Some(frame)) = reader.read().await else { return };
        let hello = Hello::decode(frame.kind, frame.body).unwrap();
        let greeting = match hello.token.as_str() {
            "secret" => Greeting::Welcome(welcome()),
            _ => Greeting::Refused(Rejection::new(Code::Unauthorized, "wrong token")),
        };
        let _ = writer.write([FrameOut::from(greeting.encode())]).await;
        let mut session = FakeSession::default();
        while self.turn(&mut session, &mut reader, &mut writer).await {}
    }

    /// Reads and answers once; false when the connection is gone.
    async fn turn(
        &self,
        session: &mut FakeSession,
        reader: &mut Reader<MemStream>,
        writer: &mut Writer<MemStream>,
    ) -> bool {
        let changed = self.changed.notified();
        let mut said = {
            let cluster = self.cluster.lock().unwrap();
            session.deliveries(&cluster, self.env.monotonic())
        };
        if said.is_empty() {
            let pause = session.wake_at().map(|at| at.saturating_sub(self.env.monotonic()));
            tokio::select! {
                biased;
                read = reader.read() => {
                    let Ok(Some(frame)) = read else { return false };
                    let message = ClientMessage::decode(frame.kind, frame.body).unwrap();
                    let mut cluster = self.cluster.lock().unwrap();
                    said = session.hear(&mut cluster, message, self.env.monotonic());
                    self.changed.notify_waiters();
                }
                _ = changed => {}
                _ = self.env.sleep(pause.unwrap_or(Duration::MAX)) => {}
            }
        }
        writer.write(said.iter().map(|message| FrameOut::from(message.encode()))).await.is_ok()
    }

    fn options(&self) -> Options {
        Options::new(["s0:1", "s1:1", "s2:1"]).token("secret")
    }

    async fn client(&self) -> Client {
        Client::connect_with(self.net.clone(), self.env.clone(), self.options()).await.unwrap()
    }

    /// What a failover looks like from outside.
    async fn fail_over(&self) {
        self.cluster.lock().unwrap().tenure += 1;
        for i in 0..3 {
            self.net.crash(&format!("s{i}"));
        }
        for i in 0..3 {
            self.listen(i).await;
        }
    }
}

fn event(i: usize) -> EventBytes {
    Event::of_body(i.to_string()).encode().unwrap()
}

fn worker(from: Start) -> SubscribeOptions {
    SubscribeOptions::durable(Name::new("worker").unwrap()).from(from)
}

fn channel() -> Name {
    Name::default_channel()
}

#[tokio::test]
async fn an_event_goes_in_and_comes_out() {
    let servers = Servers::start(3).await;
    let client = servers.client().await;
    let mut subscriber = client.subscribe(channel(), worker(Start::New)).await.unwrap();
    let publisher = client.publisher(channel(), LaneChoice::Fresh).await.unwrap();
    let ack = publisher.publish(&Event::of_body("hello")).await.unwrap();
    assert_eq!((ack.lane, ack.sequence, ack.seq, ack.duplicate), (publisher.lane(), 1, 1, false));

    let delivery = subscriber.next().await.unwrap();
    assert_eq!((delivery.seq, &delivery.event.body()[..]), (1, &b"hello"[..]));
    subscriber.ack(&[delivery.seq]).await.unwrap();
    let settlements = subscriber.flush().await.unwrap();
    assert_eq!((settlements.confirmed, settlements.settled), (1, 1));
    let proxy = subscriber.proxy().unwrap();
    assert_eq!(servers.cluster.lock().unwrap().proxies[&proxy].settled[&1], Outcome::Acked);
}

#[tokio::test]
async fn failovers_are_pauses() {
    const EVENTS: usize = 2000;
    let servers = Servers::start(3).await;
    let client = servers.client().await;
    // Small windows, so that a failover strikes in the middle of everything.
    let options = SubscribeOptions { credit_events: 64, ..worker(Start::All) };
    let mut subscriber = client.subscribe(channel(), options).await.unwrap();
    let options = PublishOptions { in_flight_events: 100, ..PublishOptions::default() };
    let publisher = Arc::new(client.publisher(channel(), options).await.unwrap());

    let publishing = publisher.clone();
    let supplier = tokio::spawn(async move {
        for chunk in 0..EVENTS / 20 {
            let events = (chunk * 20..chunk * 20 + 20).map(event);
            publishing.publish_many(events).await.unwrap();
            tokio::task::yield_now().await;
        }
    });
    let acking = publisher.clone();
    let acks = tokio::spawn(async move {
        let mut next = 1;
        while next <= EVENTS as u64 {
            for range in acking.acks().await.unwrap() {
                assert_eq!(range.first_sequence, next);
                assert!(matches!(range.fate, Fate::Accepted { .. }), "{range:?}");
                next = range.end();
            }
        }
    });
    let mut seen = std::collections::BTreeSet::new();
    let mut failovers = 0;
    while seen.len() < EVENTS {
        let batch = subscriber.next_batch().await.unwrap();
        let seqs: Vec<_> = batch.iter().map(|delivery| delivery.seq).collect();
        subscriber.ack(&seqs).await.unwrap();
        seen.extend(seqs);
        if seen.len() > failovers * EVENTS / 4 {
            failovers += 1;
            servers.fail_over().await;
        }
    }
    supplier.await.unwrap();
    acks.await.unwrap();
    subscriber.flush().await.unwrap();
    assert!(failovers >= 3, "only {failovers} failovers: the run proves little");
    let cluster = servers.cluster.lock().unwrap();
    let bodies: Vec<_> = cluster.log.iter().map(|(_, _, event)| event.clone()).collect();
    assert_eq!(bodies, (0..EVENTS).map(event).collect::<Vec<_>>());
    assert_eq!(cluster.proxies[&subscriber.proxy().unwrap()].settled.len(), EVENTS);
}

/// A source of numbered events that remembers what was accepted.
#[derive(Default)]
struct Numbers {
    given: usize,
    accepted: u64,
}

impl Source for &mut Numbers {
    async fn take(&mut self, most: usize) -> Option<Vec<EventBytes>> {
        assert_eq!(most, fake::POLLED as usize);
        // Now a full batch, now less, now nothing, and then the end.
        let count = [most, 7, 0][self.given % 3].min(1000 - self.given);
        let first = self.given;
        self.given += count.max(usize::from(first < 1000 && count == 0));
        let events = (first..self.given).map(event).collect();
        (first < 1000).then_some(events)
    }

    fn answered(&mut self, answers: &[AckRange]) {
        assert!(answers.iter().all(|range| matches!(range.fate, Fate::Accepted { .. })));
        self.accepted += answers.iter().map(|range| u64::from(range.count)).sum::<u64>();
    }
}

#[tokio::test]
async fn a_polled_source_is_accepted_once_whatever_happens_to_connections() {
    let servers = Servers::start(3).await;
    let client = servers.client().await;
    let supplier = client.pull_supplier(channel(), LaneChoice::Fresh).await.unwrap();
    let breaking = servers.clone();
    let failovers = tokio::spawn(async move {
        for i in 1..=4 {
            while breaking.cluster.lock().unwrap().log.len() < i * 200 {
                breaking.changed.notified().await;
            }
            breaking.fail_over().await;
        }
    });
    let mut numbers = Numbers::default();
    supplier.serve(&mut numbers).await.unwrap();
    assert_eq!((numbers.given, numbers.accepted), (1000, 1000));
    failovers.await.unwrap();
    let cluster = servers.cluster.lock().unwrap();
    let bodies: Vec<_> = cluster.log.iter().map(|(_, _, event)| event.clone()).collect();
    assert_eq!(bodies, (0..1000).map(event).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_closure_is_a_source_and_a_lane_lost_to_another_ends_it() {
    let servers = Servers::start(3).await;
    let client = servers.client().await;
    let mut left = 3;
    let closure = move |_most| {
        left -= 1;
        let events = (left >= 0).then(|| vec![event(left as usize)]);
        async move { events }
    };
    let named = || LaneChoice::Named(Name::new("ours").unwrap());
    let supplier = client.pull_supplier(channel(), named()).await.unwrap();
    supplier.serve(closure).await.unwrap();
    assert_eq!(servers.cluster.lock().unwrap().log.len(), 3);
    let other = client.pull_supplier(channel(), named()).await.unwrap();
    let lost = supplier.serve(|_most| async { Some(Vec::new()) }).await.unwrap_err();
    assert_eq!(lost.rejection().code, Code::LaneFenced);
    drop(other);
}

#[tokio::test]
async fn sequences_are_published_and_answered_together() {
    let servers = Servers::start(1).await;
    let publisher = servers.client().await.publisher(channel(), LaneChoice::Fresh).await.unwrap();
    let events: Vec<Event> = (0..5).map(|i: u8| Event::of_body(vec![i])).collect();
    let acks = publisher.publish_all(&events).await.unwrap();
    assert_eq!(acks.iter().map(|ack| ack.seq).collect::<Vec<_>>(), [1, 2, 3, 4, 5]);

    let client = servers.client().await;
    let mut subscriber = client.subscribe(channel(), worker(Start::All)).await.unwrap();
    let mut batches = Vec::new();
    let work = |batch: &[Delivery]| {
        batches.push(batch.iter().map(|delivery| delivery.seq).collect::<Vec<_>>());
        batches.concat().len() < 5
    };
    subscriber.for_each_batch(2, work).await.unwrap();
    assert_eq!(batches.concat(), [1, 2, 3, 4, 5]);
    assert!(batches.iter().all(|batch| batch.len() <= 2));
    // The last was not done.
    assert_eq!(
        subscriber.flush().await.unwrap().confirmed,
        5 - batches[batches.len() - 1].len() as u64
    );
}

#[tokio::test]
async fn many_tasks_share_a_publisher() {
    let servers = Servers::start(3).await;
    let client = servers.client().await;
    let options = PublishOptions { in_flight_events: 8, ..PublishOptions::default() };
    let publisher = Arc::new(client.publisher(channel(), options).await.unwrap());
    let tasks: Vec<_> = (0..64)
        .map(|i| {
            let publisher = publisher.clone();
            tokio::spawn(async move {
                let mut sequences = Vec::new();
                for _ in 0..10 {
                    sequences.push(publisher.publish_encoded(event(i)).await.unwrap().sequence);
                }
                sequences
            })
        })
        .collect();
    servers.fail_over().await;
    let mut all = Vec::new();
    for task in tasks {
        let sequences = task.await.unwrap();
        assert!(sequences.is_sorted());
        all.extend(sequences);
    }
    all.sort_unstable();
    assert_eq!(all, (1..=640).collect::<Vec<u64>>());
}

#[tokio::test]
async fn the_later_of_two_publishers_of_one_lane_has_it_and_the_connection_stays() {
    let servers = Servers::start(3).await;
    let client = servers.client().await;
    let mut events = client.observe();
    let shared = || LaneChoice::Named(Name::new("shared").unwrap());
    let first = client.publisher(channel(), shared()).await.unwrap();
    assert_eq!(first.publish_encoded(event(1)).await.unwrap().sequence, 1);
    let second = client.publisher(channel(), shared()).await.unwrap();
    assert_eq!(first.lane(), second.lane());
    for i in 2..10 {
        assert_eq!(second.publish_encoded(event(i)).await.unwrap().sequence, i as u64);
        let fenced = first.publish_encoded(event(i)).await.unwrap_err();
        assert_eq!(fenced.rejection().code, Code::LaneFenced);
    }
    assert!(events.try_recv().is_err(), "something happened to the connection");
}

#[tokio::test]
async fn pulled_events_are_settled_by_token_from_elsewhere() {
    let servers = Servers::start(3).await;
    let client = servers.client().await;
    let mut puller = client.puller(channel(), worker(Start::All)).await.unwrap();
    assert!(puller.fetch(10, Duration::ZERO).await.unwrap().is_empty());

    let publisher = client.publisher(channel(), LaneChoice::Fresh).await.unwrap();
    publisher.publish_many((0..3).map(event)).await.unwrap();
    publisher.flush().await;
    let batch = puller.fetch(2, Duration::from_secs(5)).await.unwrap();
    assert_eq!(batch.iter().map(|d| d.seq).collect::<Vec<_>>(), [1, 2]);

    let elsewhere = servers.client().await;
    let token: Token = puller.token(&batch[0]).unwrap().to_string().parse().unwrap();
    let settled = elsewhere.settle_token(token, Verdict::Ack).await.unwrap();
    assert_eq!((settled.settled, settled.already), (1, 0));
    let again = elsewhere.settle_token(token, Verdict::Ack).await.unwrap();
    assert_eq!((again.settled, again.already), (0, 1));
    assert_eq!(again.last_already.unwrap().1, Some(Outcome::Acked));
    let unknown = Token { proxy: crate::types::ProxyId(99), seq: 1, fencing: 0 };
    let refused = elsewhere.settle_token(unknown, Verdict::Ack).await.unwrap_err();
    assert_eq!(refused.code, Code::UnknownProxy);

    servers.fail_over().await;
    let batch = puller.fetch(10, Duration::from_secs(5)).await.unwrap();
    assert_eq!(batch.iter().map(|d| d.seq).collect::<Vec<_>>(), [2, 3]);
    assert!(batch.iter().all(|delivery| delivery.maybe_redelivered));
}

#[tokio::test]
async fn connecting_says_why_it_fails() {
    let servers = Servers::start(3).await;
    let connect = |options| Client::connect_with(servers.net.clone(), servers.env.clone(), options);
    let code = async |options| connect(options).await.err().map(|rejection| rejection.code);
    assert_eq!(code(servers.options().token("wrong")).await, Some(Code::Unauthorized));
    assert_eq!(code(Options::new::<String>([])).await, Some(Code::BadRequest));
    let mut nobody = Options::new(["nobody:1"]);
    nobody.connect_timeout = Duration::from_millis(50);
    let refused = connect(nobody).await.err().unwrap();
    assert_eq!(refused.code, Code::NoLeader);
    assert!(refused.message.contains("nobody:1"), "{refused}");
}

#[tokio::test]
async fn closing_answers_everything_and_ends_the_task() {
    let servers = Servers::start(3).await;
    let client = servers.client().await;
    let mut events = client.observe();
    let publisher = client.publisher(channel(), LaneChoice::Fresh).await.unwrap();
    let mut subscriber = client.subscribe(channel(), SubscribeOptions::default()).await.unwrap();
    servers.net.hold("client", "s0");
    servers.net.hold("client", "s1");
    servers.net.hold("client", "s2");
    let receipt = publisher.send(event(1)).await.unwrap();
    client.close();
    let error = receipt.await.unwrap_err();
    assert_eq!(error.rejection().code, Code::ShuttingDown);
    assert_eq!(subscriber.next().await.unwrap_err().code, Code::ShuttingDown);
    let refused = publisher.send(event(2)).await.err().unwrap();
    assert!(matches!(refused, PublishError::Refused(_)));
    drop((client, publisher, subscriber));
    // The task drops its half of the observer's channel when it ends.
    while let Some(event) = events.recv().await {
        assert!(matches!(event, ConnectionEvent::Closed { .. }), "{event:?}");
    }
}

#[tokio::test]
async fn what_happens_to_the_connection_can_be_watched() {
    let servers = Servers::start(3).await;
    let client = servers.client().await;
    let mut events = client.observe();
    servers.fail_over().await;
    assert!(matches!(events.recv().await, Some(ConnectionEvent::Reconnecting { .. })));
    while !matches!(events.recv().await, Some(ConnectionEvent::Connected { .. })) {}
    assert!(client.server().is_some());
    client.idle().await;
}

#[tokio::test]
async fn an_event_too_large_is_refused_before_it_is_sent() {
    let servers = Servers::start(3).await;
    let client = servers.client().await;
    let publisher = client.publisher(channel(), LaneChoice::Fresh).await.unwrap();
    let large = Event::of_body(vec![0; (1 << 20) + 1]);
    let error = publisher.publish(&large).await.unwrap_err();
    assert_eq!(error.rejection().code, Code::EventTooLarge);
    assert_eq!(publisher.publish(&Event::of_body("small")).await.unwrap().sequence, 1);
}

#[tokio::test]
async fn verdicts_wait_for_room_and_are_confirmed() {
    let servers = Servers::start(3).await;
    let client = servers.client().await;
    let options = SubscribeOptions { unconfirmed_max: 4, ..worker(Start::All) };
    let mut subscriber = client.subscribe(channel(), options).await.unwrap();
    let publisher = client.publisher(channel(), LaneChoice::Fresh).await.unwrap();
    publisher.publish_many((0..50).map(event)).await.unwrap();
    for i in 0..50u64 {
        let delivery = subscriber.next().await.unwrap();
        match i {
            10 => subscriber.terminate(&[delivery.seq], "spoilt").await.unwrap(),
            _ => subscriber.ack(&[delivery.seq]).await.unwrap(),
        }
        assert!(subscriber.settlements().unconfirmed() <= 4);
    }
    assert_eq!(subscriber.confirmed_beyond(49).await.unwrap(), 50);
    subscriber.nack(&[7], Duration::from_millis(5)).await.unwrap();
    subscriber.touch(&[8]).await.unwrap();
    assert_eq!(subscriber.flush().await.unwrap().settled, 50);
    let cluster = servers.cluster.lock().unwrap();
    let proxy = &cluster.proxies[&subscriber.proxy().unwrap()];
    assert_eq!(proxy.settled[&11], Outcome::DeadLettered);
    assert_eq!(proxy.nacks.len(), 1);
}
