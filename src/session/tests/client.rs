//! A node of one machine with its delivery task, and clients over pipes.

use std::time::Duration;

use bytes::Bytes;
use tokio::io::{DuplexStream, duplex};
use tokio::task::JoinHandle;

use crate::delivery::testing::{FakeCluster, block};
use crate::delivery::{self, Cluster, Handle};
use crate::env::testing::TestTime;
use crate::env::{Publisher, Runtime, Watch, watch};
use crate::session::{End, Options, serve};
use crate::transport::{Reader, Writer, split};
use crate::types::{LaneId, Name, Opener, ProxyId, Qos, SeqRanges, Start, limits};
use crate::wire::{
    Attach, AttachTarget, Attached, ClientMessage, Deliver, FlowMode, LaneTarget, OpenLane,
    Publish, PublishAck, ServerMessage, Settle,
};

/// Long enough that only a test that fails waits so long.
const PATIENCE: Duration = Duration::from_secs(10);

pub struct Node {
    pub cluster: FakeCluster,
    pub time: TestTime,
    pub delivery: Handle,
    pub shutdown: Publisher<bool>,
    stopping: Watch<bool>,
}

pub struct Client {
    reader: Reader<DuplexStream>,
    writer: Writer<DuplexStream>,
    pub server: JoinHandle<End>,
}

impl Node {
    pub fn new() -> Node {
        let cluster = FakeCluster::new();
        let time = cluster.time();
        let delivery = delivery::start(cluster.clone(), time.clone());
        let (shutdown, stopping) = watch(false);
        Node { cluster, time, delivery, shutdown, stopping }
    }

    pub fn client(&self) -> Client {
        self.client_with_pipe(1 << 20)
    }

    /// A client that holds up to `bytes` unread.
    pub fn client_with_pipe(&self, bytes: usize) -> Client {
        let options = Options {
            cluster: self.cluster.clone(),
            delivery: self.delivery.clone(),
            suppliers: crate::session::Suppliers::default(),
            env: self.time.clone(),
            event_bytes_max: limits::EVENT_BYTES_MAX,
            shutdown: self.stopping.clone(),
        };
        Client::connect(options, bytes)
    }

    /// Moves time, and hears what comes of it.
    pub async fn pass_time_until_heard(&self, client: &mut Client, millis: u64) -> ServerMessage {
        self.time.advance(millis);
        client.hear().await
    }
}

impl Client {
    /// A client of a session of its own, over a pipe of so many bytes.
    pub fn connect<C: Cluster, E: Runtime>(options: Options<C, E>, bytes: usize) -> Client {
        let (near, far) = duplex(bytes);
        let (reader, writer) = split(far, limits::FRAME_BYTES_MAX);
        let server = tokio::spawn(serve(reader, writer, options));
        let (reader, writer) = split(near, limits::FRAME_BYTES_MAX);
        Client { reader, writer, server }
    }

    pub async fn say(&mut self, message: impl Into<ClientMessage>) {
        let frame = message.into().encode().into();
        self.writer.write([frame]).await.unwrap();
    }

    pub async fn say_raw(&mut self, kind: u8, body: Bytes) {
        self.writer.write([(kind, vec![body]).into()]).await.unwrap();
    }

    pub async fn hear(&mut self) -> ServerMessage {
        let read = tokio::time::timeout(PATIENCE, self.reader.read());
        let frame =
            read.await.expect("the server says nothing").unwrap().expect("the server is gone");
        ServerMessage::decode(frame.kind, frame.body).unwrap()
    }

    /// How the server's side ended.
    pub async fn ended(self) -> End {
        drop((self.reader, self.writer));
        tokio::time::timeout(PATIENCE, self.server).await.expect("the session goes on").unwrap()
    }

    /// How the server's side ended, by itself.
    pub async fn ended_by_server(self) -> End {
        tokio::time::timeout(PATIENCE, self.server).await.expect("the session goes on").unwrap()
    }

    pub async fn open_lane(&mut self) -> (LaneId, u32) {
        self.open(LaneTarget::Fresh, Opener::default()).await
    }

    pub async fn open(&mut self, target: LaneTarget, opener: Opener) -> (LaneId, u32) {
        let channel = Name::default_channel();
        self.say(OpenLane { request: 1, channel, target, opener, admin: None }).await;
        match self.hear().await {
            ServerMessage::LaneOpened(opened) => (opened.lane, opened.epoch),
            other => panic!("{other:?}"),
        }
    }

    pub async fn send(&mut self, lane: (LaneId, u32), first_sequence: u64, bodies: &[&str]) {
        let (count, events, (lane, epoch)) = (bodies.len() as u32, block(bodies), lane);
        self.say(Publish { lane, epoch, first_sequence, count, events }).await;
    }

    pub async fn publish(
        &mut self,
        lane: (LaneId, u32),
        first_sequence: u64,
        bodies: &[&str],
    ) -> PublishAck {
        self.send(lane, first_sequence, bodies).await;
        match self.hear().await {
            ServerMessage::PublishAck(ack) => ack,
            other => panic!("{other:?}"),
        }
    }

    /// Attaches consumer 7 to the durable proxy `p` of the default channel.
    pub async fn attach(&mut self, qos: Qos, mode: FlowMode) -> ProxyId {
        let name = Name::new("p").unwrap();
        let (start, types) = (Start::All, Default::default());
        let target = AttachTarget::Durable { name, start, admin: None, qos, types };
        self.attach_to(Name::default_channel(), target, mode).await.proxy.unwrap()
    }

    pub async fn subscribe(&mut self, start: Start, mode: FlowMode) -> Attached {
        let target =
            AttachTarget::Volatile { start, resume_after: None, types: Default::default() };
        self.attach_to(Name::default_channel(), target, mode).await
    }

    pub async fn attach_to(
        &mut self,
        channel: Name,
        target: AttachTarget,
        mode: FlowMode,
    ) -> Attached {
        self.say(Attach { request: 2, consumer: 7, channel, target, mode, client: 1 }).await;
        match self.hear().await {
            ServerMessage::Attached(attached) => attached,
            other => panic!("{other:?}"),
        }
    }

    pub async fn deliver(&mut self) -> Deliver {
        match self.hear().await {
            ServerMessage::Deliver(deliver) => deliver,
            other => panic!("{other:?}"),
        }
    }

    /// The next `count` deliveries as (sequence, delivery, body).
    pub async fn deliveries(&mut self, count: usize) -> Vec<(u64, u32, String)> {
        let mut found = Vec::new();
        while found.len() < count {
            found.extend(self.deliver().await.events.into_iter().map(|event| {
                let body = String::from_utf8(event.event.body().to_vec()).unwrap();
                (event.seq, event.delivery, body)
            }));
        }
        assert_eq!(found.len(), count, "{found:?}");
        found
    }

    /// Acks, and waits for the confirmation.
    pub async fn ack(&mut self, proxy: ProxyId, seqs: &[u64]) -> u64 {
        self.say(acks(proxy, seqs)).await;
        match self.hear().await {
            ServerMessage::SettleConfirmed(confirmed) if confirmed.refused.is_none() => {
                confirmed.settled
            }
            other => panic!("{other:?}"),
        }
    }
}

pub fn acks(proxy: ProxyId, seqs: &[u64]) -> Settle {
    Settle {
        batch: 1,
        proxy,
        fencing: 0,
        acks: seqs.iter().copied().collect(),
        nacks: Vec::new(),
        terms: Vec::new(),
        touches: SeqRanges::new(),
    }
}

pub fn push(credit_events: u32) -> FlowMode {
    FlowMode::Push { credit_events, credit_bytes: 1 << 20 }
}
