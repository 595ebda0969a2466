//! Best-effort channels: the log hears of their definitions and of nothing else.

use super::super::sweep::Sweep;
use super::super::testing::{FakeCluster, block};
use super::super::{BestEffort, Changes, Cluster};
use crate::dispatch::Facts;
use crate::machine::{
    Command, LaneTarget, Publish, Reply, SEQUENCE_BLOCK, Settle, SettlePart, Target,
};
use crate::types::{
    ChannelId, Code, LaneId, Member, Name, Opener, Outcome, Property, ProxyId, Qos, Rejection,
    SeqRange, SeqRanges, Start, limits,
};

struct Rig {
    facts: FakeCluster,
    cluster: BestEffort<FakeCluster>,
    channel: ChannelId,
}

impl Rig {
    fn new() -> Rig {
        let facts = FakeCluster::new();
        let name = Name::new("ticks").unwrap();
        let mut qos = Qos::default();
        qos.set(Property::EventReliability, Some(1));
        let created = facts.apply(Command::CreateChannel { name, qos });
        let Reply::ChannelCreated { channel } = created else { panic!("{created:?}") };
        Rig { cluster: BestEffort::new(facts.clone()), facts, channel }
    }

    fn submit(&self, command: Command) -> Result<Reply, Rejection> {
        let (answer, answered) = std::sync::mpsc::channel();
        self.cluster.submit(7, command, Box::new(move |end| answer.send(end).unwrap()));
        answered.try_recv().expect("answered at once")
    }

    fn proxy(&self) -> ProxyId {
        let command = Command::CreateProxy {
            channel: self.channel,
            name: Name::new("screen").unwrap(),
            start: Start::New,
            admin: None,
            qos: Qos::default(),
            types: Default::default(),
        };
        match self.submit(command) {
            Ok(Reply::ProxyReady { proxy, .. }) => proxy,
            other => panic!("{other:?}"),
        }
    }

    /// Opens a lane: its id, epoch, and how far it is.
    fn open(&self, target: LaneTarget) -> (LaneId, u32, u64) {
        let attempt = self.facts.read(|facts| facts.applied());
        let opener = Opener { client: 1, attempt };
        match self.submit(Command::OpenLane { channel: self.channel, target, opener, admin: None })
        {
            Ok(Reply::LaneOpened { lane, epoch, last_sequence, .. }) => {
                (lane, epoch, last_sequence)
            }
            other => panic!("{other:?}"),
        }
    }

    /// Publishes, and returns the sequence in the channel of the first.
    fn publish(&self, (lane, epoch): (LaneId, u32), first_sequence: u64, bodies: &[&str]) -> u64 {
        let (channel, count) = (self.channel, bodies.len() as u32);
        let events = block(bodies);
        let publish = Publish { channel, lane, epoch, first_sequence, count, events };
        match self.submit(Command::Publish(publish)) {
            Ok(Reply::Published(answer)) if answer.refused.is_none() => answer.runs[0].first_seq,
            other => panic!("{other:?}"),
        }
    }

    fn pending(&self, proxy: ProxyId) -> u64 {
        self.cluster.see(|world| world.pending(proxy))
    }
}

#[test]
fn events_stay_out_of_the_log_and_keep_the_ledger() {
    let rig = Rig::new();
    let proxy = rig.proxy();
    let (lane, epoch, _) = rig.open(LaneTarget::Fresh);
    let applied = rig.facts.read(|facts| facts.applied());
    let first = rig.publish((lane, epoch), 1, &["a", "b", "c"]);
    assert_eq!(rig.publish((lane, epoch), 2, &["b"]), first + 1, "a repeat is told its place");
    assert_eq!(rig.pending(proxy), 3);
    let slot = rig.cluster.see(|world| world.slot(rig.channel, first + 1)).unwrap();
    let payload = rig.cluster.cached_payload(slot.key).unwrap();
    assert_eq!(payload.event.body(), "b");

    let sequences = SeqRanges::from_iter([SeqRange { first, last: first + 1 }]);
    let part = SettlePart { outcome: Outcome::Acked, sequences, reason: String::new() };
    let settle = Settle { proxy, revision: 1, fencing: 0, parts: vec![part] };
    let settled = rig.submit(Command::Settle(settle));
    assert!(matches!(settled, Ok(Reply::Settled(s)) if s.settled == 2));
    assert_eq!(rig.pending(proxy), 1);
    let sound = |world: crate::delivery::World| world.transient.unwrap().check_ledger();
    assert_eq!(rig.cluster.see(sound), Ok(()));
    assert_eq!(rig.facts.read(|facts| facts.applied()), applied);
    assert_eq!(rig.facts.read(|facts| facts.channel(rig.channel).unwrap().accepted()), 0);
}

#[test]
fn what_gives_up_an_event_for_good_discards_it() {
    let rig = Rig::new();
    let proxy = rig.proxy();
    let (lane, epoch, _) = rig.open(LaneTarget::Fresh);
    let first = rig.publish((lane, epoch), 1, &["a"]);
    let sequences = SeqRanges::from_iter([SeqRange::one(first)]);
    let part = SettlePart { outcome: Outcome::DeadLettered, sequences, reason: "no".into() };
    let settle = Settle { proxy, revision: 1, fencing: 0, parts: vec![part] };
    assert!(rig.submit(Command::Settle(settle)).is_ok());
    let discarded = |world: crate::delivery::World| {
        let machine = world.transient.unwrap();
        (machine.proxy(proxy).unwrap().counts().get(Outcome::Discarded), machine.channels().count())
    };
    assert_eq!(rig.cluster.see(discarded), (1, 1), "and there is no channel of dead letters");
}

#[test]
fn the_next_tenure_begins_anew_above_the_last() {
    let rig = Rig::new();
    let proxy = rig.proxy();
    let (lane, epoch, _) = rig.open(LaneTarget::Fresh);
    let first = rig.publish((lane, epoch), 1, &["a", "b"]);
    rig.facts.time().advance(1_000);
    rig.facts.begin_tenure();
    assert_eq!(rig.pending(proxy), 0, "it went with the memory it was in");
    let (lane, epoch, last) = rig.open(LaneTarget::Existing(lane));
    assert_eq!(last, 0, "nobody remembers");
    let next = rig.publish((lane, epoch), 3, &["c"]);
    assert!(next > first + 1, "{next} after {first}");
    assert_eq!(rig.pending(proxy), 1);
    rig.facts.end_tenure();
    let publish = Publish {
        channel: rig.channel,
        lane,
        epoch,
        first_sequence: 4,
        count: 1,
        events: block(&["d"]),
    };
    let refused = rig.submit(Command::Publish(publish));
    let refused = matches!(refused, Ok(Reply::Rejected(r)) if r.code == Code::NotAllowed);
    assert!(refused, "nobody leads, and the log takes no such event");
}

#[test]
fn memory_is_given_back() {
    let rig = Rig::new();
    let (lane, epoch, _) = rig.open(LaneTarget::Fresh);
    let body = "x".repeat(100_000);
    let mut first = 0;
    for sequence in 1..=400 {
        let seq = rig.publish((lane, epoch), sequence, &[&body]);
        first = if first == 0 { seq } else { first };
    }
    let old = rig.cluster.see(|world| world.next_retained(rig.channel, first)).unwrap();
    assert!(old.0 > first, "the history of 16 MiB has gone on");
    let (kept, bytes) = rig.cluster.transient().payload_count();
    assert!(bytes < 40 << 20, "{kept} payloads of {bytes} bytes");
}

#[test]
fn whoever_holds_a_proxy_is_known_at_once() {
    let rig = Rig::new();
    let proxy = rig.proxy();
    let changes = vec![(Property::ExclusiveConsumer, Some(1))];
    rig.facts.apply(Command::SetQos { target: Target::Proxy(proxy), changes });
    assert_eq!(rig.cluster.see(|world| world.proxy(proxy)).unwrap().holder, None);
    let holder = Some(Member { client: 5, consumer: 6 });
    let held = rig.submit(Command::Hold { proxy, holder });
    let Ok(Reply::Held { fencing }) = held else { panic!("{held:?}") };
    let known = rig.cluster.see(|world| world.proxy(proxy)).unwrap();
    assert_eq!((known.holder, known.fencing), (holder, fencing));
    let (lane, epoch, _) = rig.open(LaneTarget::Fresh);
    let first = rig.publish((lane, epoch), 1, &["a"]);
    let settle = |fencing| {
        let sequences = SeqRanges::from_iter([SeqRange::one(first)]);
        let part = SettlePart { outcome: Outcome::Acked, sequences, reason: String::new() };
        rig.submit(Command::Settle(Settle { proxy, revision: 2, fencing, parts: vec![part] }))
    };
    let stale = settle(fencing - 1);
    assert!(matches!(stale, Ok(Reply::Rejected(_))), "an earlier token: {stale:?}");
    assert!(matches!(settle(fencing), Ok(Reply::Settled(settled)) if settled.settled == 1));
}

#[test]
fn sequences_never_go_back_however_many_there_are() {
    let rig = Rig::new();
    let (lane, epoch, _) = rig.open(LaneTarget::Fresh);
    let mut last = 0;
    for sequence in 1..=5_000 {
        let seq = rig.publish((lane, epoch), sequence, &["a"]);
        assert!(seq > last, "{seq} after {last}");
        last = seq;
    }
    let blocks = 5_000 / SEQUENCE_BLOCK;
    let entries = rig.facts.read(|facts| facts.applied());
    assert!(entries < 10 + 2 * blocks, "{entries} entries for {blocks} blocks");
    rig.facts.begin_tenure();
    let (lane, epoch, _) = rig.open(LaneTarget::Existing(lane));
    assert!(rig.publish((lane, epoch), 5_001, &["a"]) > last, "although no time has passed");
}

#[test]
fn sequences_are_asked_for_again_after_the_log_refused() {
    let rig = Rig::new();
    let (lane, epoch, _) = rig.open(LaneTarget::Fresh);
    rig.facts.refuse(Some(Rejection::new(Code::Overloaded, "the log is busy")));
    let publish = |sequence| {
        let (channel, events) = (rig.channel, block(&["a"]));
        let publish = Publish { channel, lane, epoch, first_sequence: sequence, count: 1, events };
        matches!(rig.submit(Command::Publish(publish)), Ok(Reply::Published(_)))
    };
    let used = (1..).take_while(|sequence| publish(*sequence)).count() as u64;
    assert!(used >= SEQUENCE_BLOCK, "{used}");
    rig.facts.refuse(None);
    assert!(!publish(used + 1), "this one asks, the next is taken");
    assert!(publish(used + 1) && publish(used + 2));
}

#[test]
fn a_late_publish_of_a_fenced_supplier_begins_nothing() {
    let rig = Rig::new();
    let (lane, _, _) = rig.open(LaneTarget::Fresh);
    rig.facts.begin_tenure();
    let (_, stale, _) = rig.open(LaneTarget::Existing(lane));
    let (_, epoch, last) = rig.open(LaneTarget::Existing(lane));
    let (channel, events) = (rig.channel, block(&["a"]));
    let late = Publish { channel, lane, epoch: stale, first_sequence: 1001, count: 1, events };
    let fenced = rig.submit(Command::Publish(late));
    assert!(matches!(fenced, Ok(Reply::Rejected(r)) if r.code == Code::LaneFenced));
    assert_eq!(last, 0);
    rig.publish((lane, epoch), 1, &["b"]);
}

#[test]
fn pending_events_and_their_payloads_are_bounded() {
    let rig = Rig::new();
    rig.proxy();
    let (lane, epoch, _) = rig.open(LaneTarget::Fresh);
    let bodies = vec!["x"; 4096];
    let mut sequence = 1;
    let refusal = loop {
        let (channel, events) = (rig.channel, block(&bodies));
        let publish =
            Publish { channel, lane, epoch, first_sequence: sequence, count: 4096, events };
        match rig.submit(Command::Publish(publish)) {
            Ok(Reply::Published(answer)) if answer.refused.is_some() => break answer.refused,
            Ok(Reply::Published(_)) => sequence += 4096,
            Ok(Reply::Rejected(r)) if r.code == Code::Overloaded => {}
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(refusal.map(|r| r.code), Some(Code::ChannelFull));
    assert!(sequence <= limits::BEST_EFFORT_EVENTS_MAX + 1);
}

#[test]
fn a_lane_in_use_does_not_expire() {
    let rig = Rig::new();
    let (lane, epoch, _) = rig.open(LaneTarget::Fresh);
    let expired = || {
        let mut sweep = Sweep::new(crate::types::Stamp(0));
        rig.cluster.see(|world| sweep.commands(&world, Default::default, rig.cluster.now()))
    };
    rig.facts.time().advance(limits::LANE_IDLE_MS);
    rig.publish((lane, epoch), 1, &["a"]);
    let changes = vec![(Property::MaxSuppliers, Some(9))];
    rig.facts.apply(Command::SetQos { target: Target::Channel(rig.channel), changes });
    rig.facts.time().advance(limits::LANE_IDLE_MS - 1);
    assert_eq!(expired(), [], "the facts know of its opening alone, memory knows more");
    rig.facts.time().advance(1);
    assert_eq!(expired(), [Command::ExpireLanes { lanes: vec![lane] }]);
}

#[test]
fn reliability_is_chosen_while_the_channel_is_new() {
    let rig = Rig::new();
    let set = |value| {
        let changes = vec![(Property::EventReliability, value)];
        rig.facts.apply(Command::SetQos { target: Target::Channel(rig.channel), changes })
    };
    assert!(matches!(set(Some(0)), Reply::Changed { .. }));
    assert!(matches!(set(Some(1)), Reply::Changed { .. }));
    rig.proxy();
    assert!(matches!(set(Some(1)), Reply::Changed { .. }), "it is so already");
    for value in [Some(0), None] {
        assert!(matches!(set(value), Reply::Rejected(r) if r.code == Code::NotAllowed));
    }
}

#[tokio::test]
async fn what_is_published_is_heard_of() {
    let rig = Rig::new();
    let mut changes = rig.cluster.changes();
    let (lane, epoch, _) = rig.open(LaneTarget::Fresh);
    rig.publish((lane, epoch), 1, &["a"]);
    while !changes.next().await.unwrap().contains(&rig.channel) {}
}
