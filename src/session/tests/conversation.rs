//! The core, message by message, against a bare machine.

use bytes::Bytes;

use crate::delivery::testing::{FakeCluster, block, default_channel};
use crate::delivery::{Cluster, Request, SessionId};
use crate::dispatch::Attachment;
use crate::machine::{Command, Reply};
use crate::session::{Effect, Pending, Session, Suppliers};
use crate::types::{
    Code, LaneId, Name, Opener, Property, ProxyId, Qos, Rejection, SeqRange, SeqRanges, Start,
    Tenure, limits,
};
use crate::wire::{
    Attach, AttachTarget, ClientMessage, Credit, Detach, FlowMode, LaneTarget, Nack, OpenLane,
    Ping, Publish, PublishAck, Pull, ServerMessage, Settle, Skip,
};

const PUSH: FlowMode = FlowMode::Push { credit_events: 10, credit_bytes: 1000 };

/// A session and its machine; proposals are applied when `reply` is called.
pub(super) struct Rig {
    pub cluster: FakeCluster,
    pub session: Session,
    proposed: Vec<(Command, Pending)>,
}

impl Rig {
    pub fn new() -> Rig {
        let cluster = FakeCluster::new();
        let tenure = cluster.tenure().unwrap();
        Rig {
            cluster,
            session: Session::new(SessionId(1), tenure, 64, Suppliers::default()),
            proposed: Vec::new(),
        }
    }

    /// Says something; hands back what is to be sent, asked or closed.
    pub fn say(&mut self, message: impl Into<ClientMessage>) -> Vec<Effect> {
        let (session, message) = (&mut self.session, message.into());
        self.cluster.read(|machine| session.on_message(message, machine));
        self.effects()
    }

    pub fn effects(&mut self) -> Vec<Effect> {
        let mut rest = Vec::new();
        for effect in self.session.take_effects() {
            match effect {
                Effect::Propose { command, pending } => self.proposed.push((command, pending)),
                other => rest.push(other),
            }
        }
        rest
    }

    /// Applies what was proposed, in order.
    pub fn reply(&mut self) -> Vec<Effect> {
        for (command, pending) in std::mem::take(&mut self.proposed) {
            let reply = self.cluster.apply(command);
            self.answer(pending, Ok(reply));
        }
        self.effects()
    }

    fn answer(&mut self, pending: Pending, outcome: Result<Reply, Rejection>) {
        let session = &mut self.session;
        self.cluster.read(|machine| session.on_reply(pending, outcome, machine));
    }

    pub fn open_lane(&mut self) -> (LaneId, u32) {
        self.say(open(LaneTarget::Fresh));
        match self.reply().as_slice() {
            [Effect::Send(ServerMessage::LaneOpened(opened))] => (opened.lane, opened.epoch),
            other => panic!("{other:?}"),
        }
    }
}

pub(super) fn open(target: LaneTarget) -> OpenLane {
    let opener = Opener { client: 1, attempt: 1 };
    OpenLane { request: 1, channel: Name::default_channel(), target, opener, admin: None }
}

/// The same client opens a lane again.
pub(super) fn reopen(lane: LaneId) -> OpenLane {
    let opener = Opener { client: 1, attempt: 2 };
    OpenLane { opener, ..open(LaneTarget::Existing(lane)) }
}

pub(super) fn publish(
    (lane, epoch): (LaneId, u32),
    first_sequence: u64,
    bodies: &[&str],
) -> Publish {
    Publish { lane, epoch, first_sequence, count: bodies.len() as u32, events: block(bodies) }
}

pub(super) fn durable(qos: Qos) -> Attach {
    let name = Name::new("p").unwrap();
    let (start, types) = (Start::New, Default::default());
    let target = AttachTarget::Durable { name, start, admin: None, qos, types };
    Attach {
        request: 5,
        consumer: 7,
        channel: Name::default_channel(),
        target,
        mode: PUSH,
        client: 1,
    }
}

fn volatile(mode: FlowMode) -> Attach {
    let target =
        AttachTarget::Volatile { start: Start::New, resume_after: None, types: Default::default() };
    Attach { request: 5, consumer: 7, channel: Name::default_channel(), target, mode, client: 1 }
}

pub(super) fn failed(effects: &[Effect]) -> Code {
    match effects {
        [Effect::Send(ServerMessage::Failed(failed))] => failed.rejection.code,
        other => panic!("expected a failure: {other:?}"),
    }
}

fn ack(effects: &[Effect]) -> &PublishAck {
    match effects {
        [Effect::Send(ServerMessage::PublishAck(ack))] => ack,
        other => panic!("expected one ack: {other:?}"),
    }
}

fn refused(effects: &[Effect]) -> Option<Code> {
    ack(effects).refused.as_ref().map(|rejection| rejection.code)
}

fn closed(effects: &[Effect]) -> Code {
    match effects.last() {
        Some(Effect::Close(reason)) => reason.code,
        other => panic!("expected the end: {other:?}"),
    }
}

#[test]
fn publishes_are_answered_in_order_and_joined() {
    let mut rig = Rig::new();
    let lane = rig.open_lane();
    assert_eq!(rig.say(publish(lane, 1, &["a", "b"])), []);
    assert_eq!(rig.say(publish(lane, 3, &["c"])), []);
    assert!(rig.session.publish_bytes() > 0);
    let effects = rig.reply();
    let runs = &ack(&effects).runs;
    assert_eq!(
        (runs.len(), runs[0].first_sequence, runs[0].count, runs[0].first_seq),
        (1, 1, 3, 1)
    );
    assert_eq!(rig.session.publish_bytes(), 0);

    rig.say(publish(lane, 2, &["b"]));
    let effects = rig.reply();
    assert!(ack(&effects).runs[0].duplicate);
    rig.say(publish(lane, 9, &["x"]));
    let effects = rig.reply();
    let refusal = ack(&effects).refused.as_ref().unwrap();
    assert_eq!((refusal.code, refusal.expected), (Code::OutOfSequence, Some(4)));
}

#[test]
fn bad_publishes_are_refused_or_end_the_session() {
    let long = "x".repeat(65);
    let mut rig = Rig::new();
    let lane = rig.open_lane();
    let unknown = LaneId { index: 99, position: 0 };
    type Make<'a> = Box<dyn Fn(Publish) -> Publish + 'a>;
    let refusals: Vec<(Make, Code)> = vec![
        (Box::new(|p| Publish { lane: unknown, ..p }), Code::UnknownLane),
        (Box::new(|p| Publish { epoch: p.epoch + 1, ..p }), Code::LaneFenced),
        (Box::new(|_| publish(lane, 1, &[&long])), Code::EventTooLarge),
        (Box::new(|p| Publish { events: broken(&p.events), ..p }), Code::BadRequest),
    ];
    for (make, code) in refusals {
        let effects = rig.say(make(publish(lane, 1, &["a"])));
        assert_eq!(refused(&effects), Some(code));
    }
    assert!(rig.proposed.is_empty(), "nothing of it was proposed");
    rig.say(publish(lane, 1, &["a"]));
    assert_eq!(refused(&rig.reply()), None, "a refusal does not consume");

    let violations: Vec<Make> = vec![
        Box::new(|p| Publish { count: 2, ..p }),
        Box::new(|p| Publish { count: 0, events: Bytes::new(), ..p }),
        Box::new(|p| Publish { events: p.events.slice(..p.events.len() - 1), ..p }),
        Box::new(|p| Publish { first_sequence: 0, ..p }),
        Box::new(|p| Publish { first_sequence: u64::MAX, ..p }),
    ];
    for make in violations {
        let mut rig = Rig::new();
        let lane = rig.open_lane();
        let effects = rig.say(make(publish(lane, 1, &["a"])));
        assert_eq!(closed(&effects), Code::BadRequest);
        assert_eq!(rig.say(Ping { nonce: 1 }), [], "nothing follows the end");
    }
}

/// The block with its first event of an unknown version.
fn broken(events: &Bytes) -> Bytes {
    let mut bytes = events.to_vec();
    bytes[4] = 9;
    bytes.into()
}

#[test]
fn a_lane_takes_so_much_in_flight_and_refusals_wait_their_turn() {
    let mut rig = Rig::new();
    let lane = rig.open_lane();
    let bodies = vec![""; limits::FRAME_EVENTS_MAX];
    let frames = limits::LANE_IN_FLIGHT_MAX / limits::FRAME_EVENTS_MAX;
    for i in 0..frames {
        rig.say(publish(lane, (i * limits::FRAME_EVENTS_MAX) as u64 + 1, &bodies));
    }
    let next = limits::LANE_IN_FLIGHT_MAX as u64 + 1;
    assert_eq!(rig.say(publish(lane, next, &["late"])), [], "its refusal waits");
    let effects = rig.reply();
    assert_eq!(refused(&effects), Some(Code::Overloaded));
    assert_eq!(ack(&effects).runs[0].count as usize, limits::LANE_IN_FLIGHT_MAX);
    rig.say(publish(lane, next, &["late"]));
    assert_eq!(refused(&rig.reply()), None);
}

#[test]
fn a_client_that_does_not_wait_for_answers_is_cut_off() {
    let mut rig = Rig::new();
    let lane = rig.open_lane();
    let bodies = vec![""; limits::FRAME_EVENTS_MAX];
    for i in 0..limits::LANE_IN_FLIGHT_MAX / limits::FRAME_EVENTS_MAX {
        rig.say(publish(lane, (i * limits::FRAME_EVENTS_MAX) as u64 + 1, &bodies));
    }
    let one = publish(lane, limits::LANE_IN_FLIGHT_MAX as u64 + 1, &["x"]);
    for said in 0.. {
        let effects = rig.say(one.clone());
        if !effects.is_empty() {
            return assert_eq!(closed(&effects), Code::Overloaded);
        }
        assert!(said <= 2 * limits::LANE_IN_FLIGHT_MAX, "it never ends");
    }
}

#[test]
fn lanes_are_opened_skipped_and_reopened() {
    let mut rig = Rig::new();
    let unknown = OpenLane { channel: Name::new("nope").unwrap(), ..open(LaneTarget::Fresh) };
    assert_eq!(failed(&rig.say(unknown)), Code::UnknownChannel);
    rig.say(open(LaneTarget::Existing(LaneId { index: 77, position: 0 })));
    assert_eq!(failed(&rig.reply()), Code::UnknownLane);

    let (lane, epoch) = rig.open_lane();
    let skip = Skip { request: 2, lane, epoch, through: 5 };
    rig.say(skip.clone());
    assert!(
        matches!(rig.reply().as_slice(), [Effect::Send(ServerMessage::Done(done))] if done.request == 2)
    );
    let stranger = Skip { lane: LaneId { index: 99, position: 0 }, ..skip };
    assert_eq!(failed(&rig.say(stranger)), Code::UnknownLane);

    // A publish is on its way while the client opens the lane again: its answer has no addressee.
    rig.say(publish((lane, epoch), 6, &["a"]));
    let (_, old) = rig.proposed.pop().unwrap();
    rig.say(reopen(lane));
    let effects = rig.reply();
    let [Effect::Send(ServerMessage::LaneOpened(opened))] = effects.as_slice() else { panic!() };
    assert_eq!((opened.epoch, opened.held_since, opened.last_sequence), (epoch + 1, epoch, 5));
    assert!(!opened.channel_interest);
    rig.answer(old, Ok(Reply::Published(Default::default())));
    assert_eq!(rig.effects(), []);
    assert_eq!(rig.session.publish_bytes(), 0);
}

/// One client opens a lane twice on one connection: answers go to whom they belong to.
#[test]
fn two_users_of_a_lane_hear_of_their_own_publishes() {
    let mut rig = Rig::new();
    let (lane, first) = rig.open_lane();
    let second = first + 1;
    rig.say(publish((lane, first), 1, &["a"]));
    rig.say(reopen(lane));
    rig.say(publish((lane, first), 2, &["refused by the machine"]));
    let effects = rig.reply();
    let [
        Effect::Send(ServerMessage::PublishAck(ack)),
        Effect::Send(ServerMessage::LaneOpened(opened)),
    ] = effects.as_slice()
    else {
        panic!("what was accepted is said before the lane has another user: {effects:?}")
    };
    assert_eq!((ack.epoch, ack.runs[0].count, ack.refused.as_ref()), (first, 1, None));
    assert_eq!((opened.epoch, opened.last_sequence), (second, 1));

    // The first one is refused at once, not in the order of the second one's answers.
    rig.say(publish((lane, second), 2, &["b"]));
    let effects = rig.say(publish((lane, first), 2, &["x"]));
    let refusal = self::ack(&effects);
    let code = refusal.refused.as_ref().map(|rejection| rejection.code);
    assert_eq!((refusal.epoch, code), (first, Some(Code::LaneFenced)));
    let effects = rig.reply();
    let ack = self::ack(&effects);
    assert_eq!((ack.epoch, ack.runs[0].first_sequence, ack.refused.as_ref()), (second, 2, None));
}

#[test]
fn dead_letter_channels_take_no_lanes() {
    let mut rig = Rig::new();
    let lane = rig.open_lane();
    rig.say(durable(Qos::default()));
    rig.reply();
    rig.say(publish(lane, 1, &["a"]));
    rig.reply();
    let part = crate::machine::SettlePart {
        outcome: crate::types::Outcome::DeadLettered,
        sequences: SeqRanges::from_iter([1]),
        reason: String::new(),
    };
    let proxy = rig
        .cluster
        .read(|m| m.channel(default_channel(m)).unwrap().proxy(&Name::new("p").unwrap()).unwrap());
    let settle = crate::machine::Settle { proxy, revision: 1, fencing: 0, parts: vec![part] };
    rig.cluster.apply(Command::Settle(settle));
    let dead = Name::default_channel().dead_letter();
    let open = OpenLane { channel: dead, ..open(LaneTarget::Fresh) };
    assert_eq!(failed(&rig.say(open)), Code::NotAllowed);
}

#[test]
fn a_durable_consumer_is_made_once_and_answered_before_it_is_served() {
    let mut rig = Rig::new();
    let limited = Qos::from([(Property::MaxDeliveries, 2)]);
    assert_eq!(rig.say(durable(limited.clone())), []);
    let effects = rig.reply();
    let [
        Effect::Send(ServerMessage::Attached(attached)),
        Effect::Ask(Request::Attach { attachment: Attachment::Durable(proxy), .. }),
    ] = effects.as_slice()
    else {
        panic!("{effects:?}")
    };
    assert_eq!((attached.request, attached.consumer, attached.proxy), (5, 7, Some(*proxy)));
    assert_eq!((attached.revision, attached.next_seq), (1, 1));

    for qos in [Qos::default(), limited.clone()] {
        let again = Attach { consumer: 8, ..durable(qos) };
        let effects = rig.say(again);
        assert_eq!(effects.len(), 2, "no command for one that exists");
        rig.say(Detach { consumer: 8 });
    }
    let other = Qos::from([(Property::MaxDeliveries, 3)]);
    rig.say(Attach { consumer: 9, ..durable(other) });
    assert_eq!(failed(&rig.reply()), Code::ProxyExists);
    assert_eq!(
        rig.say(Attach { consumer: 9, ..durable(Qos::default()) }).len(),
        2,
        "the handle is free"
    );
}

#[test]
fn volatile_consumers_start_where_they_ask() {
    let mut rig = Rig::new();
    let lane = rig.open_lane();
    rig.say(publish(lane, 1, &["a", "b", "c"]));
    rig.reply();
    for (start, resume_after, expected) in [
        (Start::New, None, 4),
        (Start::All, None, 1),
        (Start::Seq(2), None, 2),
        (Start::Seq(99), None, 4),
        (Start::New, Some(1), 2),
        (Start::New, Some(3), 4),
        (Start::New, Some(u64::MAX), 4),
    ] {
        let target = AttachTarget::Volatile { start, resume_after, types: Default::default() };
        let effects = rig.say(Attach { target, ..volatile(PUSH) });
        let Some(Effect::Ask(Request::Attach { attachment, .. })) = effects.last() else {
            panic!("{effects:?}")
        };
        let channel = rig.cluster.read(default_channel);
        let types = Default::default();
        assert_eq!(*attachment, Attachment::Volatile { channel, next_seq: expected, types });
        rig.say(Detach { consumer: 7 });
    }
}

#[test]
fn bad_attaches_are_refused() {
    let mut rig = Rig::new();
    let push = |credit_events, credit_bytes| FlowMode::Push { credit_events, credit_bytes };
    let events = push(limits::CREDIT_EVENTS_MAX + 1, 1);
    let bytes = push(1, limits::CREDIT_BYTES_MAX + 1);
    assert_eq!(failed(&rig.say(volatile(events))), Code::BadRequest);
    assert_eq!(failed(&rig.say(volatile(bytes))), Code::BadRequest);
    let nowhere = Attach { channel: Name::new("nope").unwrap(), ..volatile(PUSH) };
    assert_eq!(failed(&rig.say(nowhere)), Code::UnknownChannel);
    assert_eq!(rig.say(volatile(PUSH)).len(), 2);
    assert_eq!(failed(&rig.say(volatile(PUSH))), Code::BadRequest, "the handle is in use");
    for consumer in 100..100 + limits::CONSUMERS_PER_SESSION_MAX as u32 - 1 {
        assert_eq!(rig.say(Attach { consumer, ..volatile(PUSH) }).len(), 2);
    }
    assert_eq!(failed(&rig.say(Attach { consumer: 8, ..volatile(PUSH) })), Code::Overloaded);
    rig.session.on_consumer_closed(7);
    assert_eq!(rig.say(volatile(PUSH)).len(), 2, "delivery closed one");
}

#[test]
fn detaching_while_attaching_wins() {
    let mut rig = Rig::new();
    rig.say(durable(Qos::default()));
    let effects = rig.say(Detach { consumer: 7 });
    assert!(matches!(effects.as_slice(), [Effect::Send(ServerMessage::Closed(_))]));
    assert_eq!(rig.reply(), [], "the late reply attaches nobody");
    assert_eq!(rig.say(Detach { consumer: 7 }), []);
    assert_eq!(rig.session.requests(), 0);
}

#[test]
fn pulls_and_credit_are_checked() {
    let mut rig = Rig::new();
    let pull = Pull { request: 3, consumer: 7, events_max: 1, bytes_max: 1, wait_ms: 1 };
    assert_eq!(failed(&rig.say(pull)), Code::BadRequest, "nobody is attached");
    rig.say(volatile(FlowMode::Pull));
    for bad in [
        Pull { events_max: 0, ..pull },
        Pull { events_max: limits::CREDIT_EVENTS_MAX + 1, ..pull },
        Pull { bytes_max: limits::CREDIT_BYTES_MAX + 1, ..pull },
        Pull { wait_ms: limits::PULL_WAIT_MS_MAX + 1, ..pull },
    ] {
        assert_eq!(failed(&rig.say(bad)), Code::BadRequest);
    }
    assert!(matches!(rig.say(pull).as_slice(), [Effect::Ask(Request::Pull { request: 3, .. })]));
    let credit = Credit { consumer: 7, events: 1, bytes: 1 };
    assert_eq!(rig.say(Credit { consumer: 99, ..credit }), [], "it may have gone just now");
    assert_eq!(closed(&rig.say(credit)), Code::BadRequest, "it pulls");

    let mut rig = Rig::new();
    rig.say(volatile(PUSH));
    assert_eq!(failed(&rig.say(pull)), Code::BadRequest, "it is pushed to");
    assert!(matches!(rig.say(credit).as_slice(), [Effect::Ask(Request::Credit { .. })]));
    let greedy = Credit { events: u32::MAX, ..credit };
    assert_eq!(closed(&rig.say(greedy)), Code::BadRequest);
}

#[test]
fn settlements_are_checked_and_passed_on() {
    let mut rig = Rig::new();
    let good = Settle {
        batch: 1,
        proxy: ProxyId(1),
        fencing: 0,
        acks: SeqRanges::from_iter([1]),
        nacks: Vec::new(),
        terms: Vec::new(),
        touches: SeqRanges::new(),
    };
    assert!(matches!(rig.say(good.clone()).as_slice(), [Effect::Ask(Request::Settle { .. })]));
    let endless = SeqRanges::from_iter([SeqRange { first: 0, last: u64::MAX }]);
    let late = Nack { sequences: SeqRanges::new(), delay_ms: limits::NACK_DELAY_MS_MAX + 1 };
    for bad in [
        Settle { acks: endless.clone(), ..good.clone() },
        Settle { touches: endless.clone(), ..good.clone() },
        Settle { nacks: vec![Nack { sequences: endless, delay_ms: 0 }], ..good.clone() },
        Settle { nacks: vec![late], ..good },
    ] {
        let effects = rig.say(bad);
        let [Effect::Send(ServerMessage::SettleConfirmed(confirmed))] = effects.as_slice() else {
            panic!("{effects:?}")
        };
        assert_eq!(confirmed.refused.as_ref().map(|r| r.code), Some(Code::BadRequest));
    }
}

#[test]
fn what_may_have_happened_ends_the_session_and_what_did_not_is_refused() {
    for (code, ends) in [
        (Code::NoLeader, true),
        (Code::TenureLost, true),
        (Code::ShuttingDown, true),
        (Code::StorageFailed, false),
        (Code::Overloaded, false),
    ] {
        let mut rig = Rig::new();
        let lane = rig.open_lane();
        rig.say(publish(lane, 1, &["a"]));
        rig.say(publish(lane, 2, &["b"]));
        let (command, first) = rig.proposed.remove(0);
        let (_, second) = rig.proposed.remove(0);
        let reply = rig.cluster.apply(command);
        rig.answer(first, Ok(reply));
        rig.answer(second, Err(Rejection::new(code, "so it is")));
        let effects = rig.effects();
        let Some(Effect::Send(ServerMessage::PublishAck(ack))) = effects.first() else { panic!() };
        assert_eq!(ack.runs[0].count, 1, "what is known is said, even before the end");
        match ends {
            true => assert_eq!(closed(&effects), code),
            false => assert_eq!(refused(&effects), Some(code)),
        }
    }
}

#[test]
fn a_batch_of_another_tenure_ends_the_session() {
    let mut rig = Rig::new();
    rig.say(open(LaneTarget::Fresh));
    let (_, pending) = rig.proposed.pop().unwrap();
    let lost = Rejection::new(Code::TenureLost, format!("tenure {}", Tenure(1)));
    rig.answer(pending, Ok(Reply::Rejected(lost)));
    assert_eq!(closed(&rig.effects()), Code::TenureLost);
}
