//! One example of every message at least: the rows of the protocol's document.

use bytes::Bytes;

use crate::types::{
    ClusterId, Code, Event, EventBytes, LaneId, Name, NodeId, Opener, Outcome, Property, ProxyId,
    Qos, Rejection, SeqRange, Stamp, Start, Subscription, Tenure,
};
use crate::wire::*;

pub fn event(body: &'static str) -> EventBytes {
    Event::of_body(body).encode().unwrap()
}

fn block() -> EventsBlock {
    let mut builder = EventsBlockBuilder::new();
    builder.push(&event("a"));
    builder.push(&event("bc"));
    builder.finish()
}

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

const LANE: LaneId = LaneId { index: 300, position: 2 };

pub fn handshake() -> Vec<(&'static str, Encoded)> {
    let client = Hello { token: "s3cret".into(), ..Hello::new(Service::Data, "cli") };
    let peer = Hello {
        cluster: Some(ClusterId(0xab)),
        node: Some(NodeId(2)),
        incarnation: 7,
        ..Hello::new(Service::Peer, "")
    };
    let welcome = Welcome {
        version: 7,
        cluster: ClusterId(0xab),
        node: NodeId(1),
        incarnation: 3,
        leader: true,
        event_bytes_max: 1 << 20,
        lane_in_flight_max: 8192,
        newest: 7,
    };
    let refused = Rejection::new(Code::Unauthorized, "wrong token").hint("see --token");
    vec![
        ("hello of a client", client.encode()),
        ("hello of a peer", peer.encode()),
        ("welcome", Greeting::Welcome(welcome).encode()),
        ("refused", Greeting::Refused(refused).encode()),
    ]
}

pub fn client() -> Vec<(&'static str, ClientMessage)> {
    let opener = Opener { client: 400, attempt: 2 };
    let lane = |target| OpenLane { request: 1, channel: name("c"), target, opener, admin: None };
    let attach = |target, mode| Attach {
        request: 2,
        consumer: 9,
        channel: name("c"),
        target,
        mode,
        client: 400,
    };
    let types = ["telecom::*".parse().unwrap(), "order".parse().unwrap()].into_iter().collect();
    let volatile = AttachTarget::Volatile { start: Start::All, resume_after: Some(41), types };
    let durable = AttachTarget::Durable {
        name: name("d"),
        start: Start::Seq(5),
        admin: None,
        qos: Qos::from([(Property::AckWait, 30_000), (Property::MaxDeliveries, 5)]),
        types: Subscription::default(),
    };
    let settle = Settle {
        batch: 6,
        proxy: ProxyId(77),
        fencing: 300,
        acks: [1, 2, 3, 10].into_iter().collect(),
        nacks: vec![Nack { sequences: [5].into_iter().collect(), delay_ms: 1000 }],
        terms: vec![Terminate { sequences: [6].into_iter().collect(), reason: "bad".into() }],
        touches: [8].into_iter().collect(),
    };
    vec![
        ("open lane, fresh", lane(LaneTarget::Fresh).into()),
        (
            "open lane, named, of an admin",
            OpenLane { admin: Some(name("a")), ..lane(LaneTarget::Named(name("l"))) }.into(),
        ),
        ("open lane, existing", lane(LaneTarget::Existing(LANE)).into()),
        ("publish", Publish::new(LANE, 1, 1000, block()).into()),
        ("skip", Skip { request: 3, lane: LANE, epoch: 1, through: 12 }.into()),
        ("serve", Serve { request: 4, lane: LANE, epoch: 1 }.into()),
        ("polled", Polled { lane: LANE, epoch: 1, poll: 2, count: 300 }.into()),
        ("attach, volatile, pull", attach(volatile, FlowMode::Pull).into()),
        (
            "attach, durable, push",
            attach(durable, FlowMode::Push { credit_events: 256, credit_bytes: 65536 }).into(),
        ),
        ("credit", Credit { consumer: 9, events: 100, bytes: 1000 }.into()),
        (
            "pull",
            Pull { request: 4, consumer: 9, events_max: 64, bytes_max: 4096, wait_ms: 500 }.into(),
        ),
        ("settle", settle.into()),
        ("detach", Detach { consumer: 9 }.into()),
        ("ping", Ping { nonce: 7 }.into()),
    ]
}

pub fn delivery(body: &'static str) -> Delivery {
    Delivery {
        seq: 10,
        tenure: Tenure(20),
        lane: LANE,
        sequence: 1000,
        delivery: 1,
        maybe_redelivered: false,
        fencing: 0,
        accepted: Stamp(1_700_000_000_000_000),
        dead_letter: None,
        event: event(body),
    }
}

pub fn server() -> Vec<(&'static str, ServerMessage)> {
    let opened = LaneOpened {
        request: 1,
        lane: LANE,
        epoch: 2,
        held_since: 1,
        last_sequence: 12,
        channel_interest: true,
        best_effort: false,
    };
    let run = AckRun { first_sequence: 1000, count: 2, first_seq: 10, duplicate: false };
    let refused =
        Some(Rejection { expected: Some(13), ..Rejection::new(Code::OutOfSequence, "15") });
    let busy = Rejection::new(Code::Overloaded, "full");
    let letter = DeadLetter {
        channel: name("c"),
        proxy: name("d"),
        seq: 4,
        attempts: 5,
        reason: "bad".into(),
    };
    let dead = Delivery {
        delivery: 3,
        maybe_redelivered: true,
        dead_letter: Some(Box::new(letter)),
        ..delivery("bc")
    };
    let deliver = Deliver { consumer: 9, tenure: Tenure(20), events: vec![delivery("a"), dead] };
    let already = vec![
        (SeqRange { first: 1, last: 2 }, Some(Outcome::DeadLettered)),
        (SeqRange::one(5), None),
    ];
    let confirmed =
        SettleConfirmed { batch: 6, proxy: ProxyId(77), settled: 3, already, refused: None };
    let attached = Attached {
        request: 2,
        consumer: 9,
        proxy: Some(ProxyId(77)),
        revision: 1,
        next_seq: 11,
        tenure: Tenure(20),
        best_effort: true,
    };
    vec![
        ("lane opened", opened.into()),
        ("publish ack", PublishAck { lane: LANE, epoch: 1, runs: vec![run], refused }.into()),
        ("done", Done { request: 3 }.into()),
        ("poll", Poll { lane: LANE, epoch: 1, poll: 2, most: 300 }.into()),
        ("failed", Failed { request: 4, rejection: busy.clone() }.into()),
        ("attached", attached.into()),
        ("deliver", deliver.into()),
        ("pull done", PullDone { request: 4, consumer: 9, delivered: 64 }.into()),
        ("settle confirmed", confirmed.into()),
        ("closed", Closed { consumer: 9, reason: None }.into()),
        ("gap", Gap { consumer: 9, missed: SeqRange { first: 3, last: 8 } }.into()),
        ("goodbye", Goodbye { reason: busy }.into()),
        ("pong", Pong { nonce: 7 }.into()),
    ]
}

/// All of them as kind and whole body.
pub fn all() -> Vec<(&'static str, u8, Bytes)> {
    let client = client().into_iter().map(|(name, message)| (name, message.encode()));
    let server = server().into_iter().map(|(name, message)| (name, message.encode()));
    handshake()
        .into_iter()
        .chain(client)
        .chain(server)
        .map(|(name, (kind, parts))| (name, kind, Bytes::from(parts.concat())))
        .collect()
}
