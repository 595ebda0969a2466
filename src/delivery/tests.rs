//! The driver against a machine: every request, and every way it can end.

use std::collections::BTreeSet;

use super::sweep::Sweep;
use super::testing::{FakeCluster, block, default_channel};
use super::{Cluster, ConsumerId, Driver, Output, Request, SessionId, World};
use crate::dispatch::{Attachment, Departure, Mode};
use crate::machine::{Command, LaneTarget, Publish, Reply, Target};
use crate::types::{
    Code, Member, Name, Opener, Outcome, Property, ProxyId, Qos, Rejection, Seq, SeqRange,
    SeqRanges, Start, limits,
};
use crate::wire::{Nack, ServerMessage, Settle, SettleConfirmed, Terminate};

mod best_effort;
mod refused;

const SESSION: SessionId = SessionId(1);
const PUSH: Mode = Mode::Push { events: 100, bytes: 1 << 20 };

/// Why a command is refused, if it is.
type Refuse = fn(&Command) -> Option<Code>;

struct Rig {
    cluster: FakeCluster,
    driver: Driver,
    sequence: u64,
    lane: Option<(crate::types::LaneId, u32)>,
    refusing: Option<Refuse>,
    /// How many commands were proposed.
    proposals: usize,
}

impl Rig {
    fn new() -> Rig {
        let cluster = FakeCluster::new();
        let driver = Driver::new(cluster.tenure().unwrap(), 1);
        Rig { cluster, driver, sequence: 0, lane: None, refusing: None, proposals: 0 }
    }

    fn proxy(&mut self, qos: Qos) -> ProxyId {
        let channel = self.cluster.read(default_channel);
        let name = Name::new("p").unwrap();
        let (start, types) = (Start::New, Default::default());
        let command = Command::CreateProxy { channel, name, start, admin: None, qos, types };
        match self.cluster.apply(command) {
            Reply::ProxyReady { proxy, .. } => proxy,
            other => panic!("{other:?}"),
        }
    }

    fn publish(&mut self, bodies: &[&str]) {
        let channel = self.cluster.read(default_channel);
        if self.lane.is_none() {
            let opener = Opener::default();
            let open =
                Command::OpenLane { channel, target: LaneTarget::Fresh, opener, admin: None };
            let Reply::LaneOpened { lane, epoch, .. } = self.cluster.apply(open) else { panic!() };
            self.lane = Some((lane, epoch));
        }
        let (lane, epoch) = self.lane.unwrap();
        let (first_sequence, count) = (self.sequence + 1, bodies.len() as u32);
        self.sequence += u64::from(count);
        let events = block(bodies);
        let publish = Publish { channel, lane, epoch, first_sequence, count, events };
        self.cluster.apply(Command::Publish(publish));
        self.driver.changed(&[channel].into());
    }

    fn ask(&mut self, request: Request) {
        let (driver, now) = (&mut self.driver, self.cluster.now());
        self.cluster.read(|machine| driver.request(&World::of_facts(machine), request, now));
    }

    fn attach(&mut self, session: u64, attachment: Attachment, mode: Mode) {
        let consumer = ConsumerId { session: SessionId(session), handle: 7 };
        let member = Member { client: session, consumer: 7 };
        self.ask(Request::Attach { consumer, attachment, mode, member, dead_letters: false });
    }

    fn poll(&mut self) -> Vec<Output> {
        let (driver, now) = (&mut self.driver, self.cluster.now());
        self.cluster.read(|machine| driver.poll(&World::of_facts(machine), now))
    }

    /// Polls and carries out until nothing comes any more: (session, seq, delivery) of deliveries,
    /// and messages.
    fn run(&mut self) -> (Vec<(u64, Seq, u32)>, Vec<ServerMessage>) {
        let (mut delivered, mut messages) = (Vec::new(), Vec::new());
        loop {
            let outputs = self.poll();
            if outputs.is_empty() {
                return (delivered, messages);
            }
            for output in outputs {
                match output {
                    Output::Send { message, .. } => messages.push(message),
                    Output::Deliver { session, heads } => delivered
                        .extend(heads.events.iter().map(|d| (session.0, d.seq, d.delivery))),
                    Output::Propose { command, token, .. } => {
                        let outcome = self.propose(command);
                        self.end(token, outcome);
                    }
                }
            }
        }
    }

    fn propose(&mut self, command: Command) -> Result<Reply, Rejection> {
        self.proposals += 1;
        assert!(self.proposals < 10_000, "it spins");
        match self.refusing.and_then(|refuse| refuse(&command)) {
            Some(code) => Err(Rejection::new(code, "as told")),
            None => Ok(self.cluster.apply(command)),
        }
    }

    fn end(&mut self, token: u64, outcome: Result<Reply, Rejection>) {
        self.driver.completed(token, outcome, self.cluster.now());
    }

    /// The one proposal that the next poll makes.
    fn proposal(&mut self) -> (Command, u64) {
        let mut outputs = self.poll();
        let (1, Some(Output::Propose { command, token, .. })) = (outputs.len(), outputs.pop())
        else {
            panic!("one proposal and nothing else")
        };
        (command, token)
    }

    fn settle(&mut self, settle: Settle) {
        self.ask(Request::Settle { session: SESSION, settle });
    }
}

fn seqs(items: &[Seq]) -> SeqRanges {
    items.iter().copied().collect()
}

fn settle(batch: u64, proxy: ProxyId, acks: &[Seq]) -> Settle {
    let (nacks, terms, touches) = (Vec::new(), Vec::new(), SeqRanges::new());
    Settle { batch, proxy, fencing: 0, acks: seqs(acks), nacks, terms, touches }
}

fn confirmed(batch: u64, proxy: ProxyId, settled: u64) -> SettleConfirmed {
    SettleConfirmed { batch, proxy, settled, already: Vec::new(), refused: None }
}

#[test]
fn acks_of_a_round_share_a_command_and_are_confirmed_with_it() {
    let mut rig = Rig::new();
    let proxy = rig.proxy(Qos::default());
    rig.publish(&["a", "b", "c"]);
    rig.attach(1, Attachment::Durable(proxy), PUSH);
    let (delivered, _) = rig.run();
    assert_eq!(delivered, [(1, 1, 1), (1, 2, 1), (1, 3, 1)]);

    rig.settle(settle(10, proxy, &[1, 2]));
    rig.settle(settle(11, proxy, &[3]));
    let (command, token) = rig.proposal();
    assert_eq!(rig.poll(), [], "nothing is confirmed before the commit");
    let reply = rig.cluster.apply(command);
    rig.end(token, Ok(reply));
    let (delivered, messages) = rig.run();
    assert!(delivered.is_empty());
    assert_eq!(messages, [confirmed(10, proxy, 2).into(), confirmed(11, proxy, 1).into()]);

    rig.settle(settle(12, proxy, &[2, 3]));
    let (_, messages) = rig.run();
    let again = SettleConfirmed {
        already: vec![(SeqRange { first: 2, last: 3 }, Some(Outcome::Acked))],
        ..confirmed(12, proxy, 0)
    };
    let [ServerMessage::SettleConfirmed(found)] = messages.as_slice() else { panic!() };
    let ranges: Vec<_> = found.already.iter().map(|(range, _)| *range).collect();
    assert_eq!((found.settled, found.batch), (again.settled, again.batch));
    assert_eq!(ranges.iter().map(SeqRange::len).sum::<u64>(), 2, "{found:?}");
}

#[test]
fn a_failed_settlement_is_refused_and_its_events_go_again() {
    let mut rig = Rig::new();
    let proxy = rig.proxy(Qos::default());
    rig.publish(&["a"]);
    rig.attach(1, Attachment::Durable(proxy), PUSH);
    rig.run();
    rig.settle(settle(1, proxy, &[1]));
    let (_, token) = rig.proposal();
    rig.end(token, Err(Rejection::new(Code::TenureLost, "nobody knows")));
    let (delivered, messages) = rig.run();
    assert_eq!(delivered, [(1, 1, 2)], "the event goes again");
    let [ServerMessage::SettleConfirmed(refused)] = messages.as_slice() else { panic!() };
    assert_eq!(refused.refused.as_ref().map(|r| r.code), Some(Code::TenureLost));
    rig.end(token, Err(Rejection::new(Code::TenureLost, "twice")));
    assert_eq!(rig.poll(), [], "a reply of an unknown token means nothing");
}

#[test]
fn settlements_without_effect_are_answered_at_once() {
    let mut rig = Rig::new();
    let proxy = rig.proxy(Qos::default());
    rig.publish(&["a"]);
    let unknown = ProxyId(99);
    let nack = Settle {
        nacks: vec![Nack { sequences: seqs(&[1]), delay_ms: 0 }],
        ..settle(2, proxy, &[])
    };
    let touch = Settle { touches: seqs(&[1]), ..settle(3, proxy, &[]) };
    rig.settle(settle(1, proxy, &[500]));
    rig.settle(nack);
    rig.settle(touch);
    rig.settle(settle(4, unknown, &[1]));
    let (_, messages) = rig.run();
    let [
        ServerMessage::SettleConfirmed(one),
        ServerMessage::SettleConfirmed(two),
        ServerMessage::SettleConfirmed(four),
    ] = messages.as_slice()
    else {
        panic!("{messages:?}")
    };
    assert_eq!(*one, confirmed(1, proxy, 0), "never offered");
    assert_eq!(*two, confirmed(2, proxy, 0));
    assert_eq!(four.refused.as_ref().map(|r| r.code), Some(Code::UnknownProxy));
}

#[test]
fn nacks_speak_for_the_sessions_own_deliveries_only() {
    let mut rig = Rig::new();
    let proxy = rig.proxy(Qos::default());
    rig.publish(&["a", "b"]);
    rig.attach(1, Attachment::Durable(proxy), Mode::Push { events: 1, bytes: 1000 });
    rig.attach(2, Attachment::Durable(proxy), Mode::Push { events: 2, bytes: 1000 });
    let (mut delivered, _) = rig.run();
    delivered.sort();
    let of_two = delivered.iter().find(|d| d.0 == 2).unwrap().1;
    let nack = Nack { sequences: seqs(&[of_two]), delay_ms: 0 };
    rig.settle(Settle { nacks: vec![nack], ..settle(1, proxy, &[]) });
    assert_eq!(rig.run().0, [], "session 1 does not have it");
}

#[test]
fn terminated_events_are_dead_lettered_and_confirmed() {
    let mut rig = Rig::new();
    let proxy = rig.proxy(Qos::default());
    rig.publish(&["a"]);
    rig.attach(1, Attachment::Durable(proxy), PUSH);
    rig.run();
    let term = Terminate { sequences: seqs(&[1]), reason: "poison".into() };
    rig.settle(Settle { terms: vec![term], ..settle(5, proxy, &[]) });
    assert_eq!(rig.run().1, [confirmed(5, proxy, 1).into()]);
    let dead = Name::default_channel().dead_letter();
    let reason = rig.cluster.read(|m| {
        m.channel_by_name(&dead).and_then(|c| c.dead_letter(1)).map(|letter| letter.reason.clone())
    });
    assert!(reason.unwrap().contains("poison"));
}

#[test]
fn a_lost_session_gives_its_deliveries_to_others() {
    let mut rig = Rig::new();
    let proxy = rig.proxy(Qos::default());
    rig.publish(&["a", "b"]);
    rig.attach(1, Attachment::Durable(proxy), PUSH);
    assert_eq!(rig.run().0.len(), 2);
    rig.attach(2, Attachment::Durable(proxy), PUSH);
    assert_eq!(rig.run().0, []);
    rig.driver.disconnect(SESSION, Departure::Lost);
    assert_eq!(rig.run().0, [(2, 1, 2), (2, 2, 2)]);
    let stats = &rig.driver.stats(&[proxy], rig.cluster.now())[&proxy];
    assert_eq!((stats.in_flight, stats.clients), (2, 1));
    assert!(stats.turns > 0 && stats.waiting_ms == 0, "{stats:?}");
}

#[test]
fn what_was_pulled_stays_leased_when_the_puller_goes_and_counts_when_it_fails() {
    let mut rig = Rig::new();
    let proxy = rig.proxy(Qos::from([(Property::AckWait, 1000), (Property::MaxDeliveries, 2)]));
    rig.publish(&["a"]);
    let consumer = ConsumerId { session: SESSION, handle: 7 };
    for delivery in [1, 2] {
        rig.attach(1, Attachment::Durable(proxy), Mode::Pull);
        let pull = |request| Request::Pull {
            consumer,
            request,
            events_max: 1,
            bytes_max: 1000,
            wait_ms: 0,
        };
        rig.ask(pull(1));
        assert_eq!(rig.run().0, [(1, 1, delivery)]);
        rig.ask(Request::Detach { consumer });
        rig.attach(1, Attachment::Durable(proxy), Mode::Pull);
        rig.ask(pull(2));
        assert_eq!(rig.run().0, [], "its lease has not ended");
        rig.ask(Request::Detach { consumer });
        rig.cluster.time().advance(1000);
        rig.run();
    }
    let counts = rig.cluster.read(|machine| *machine.proxy(proxy).unwrap().counts());
    assert_eq!(counts.get(Outcome::DeadLettered), 1);
}

#[test]
fn an_unreadable_event_costs_neither_credit_nor_an_attempt() {
    let mut rig = Rig::new();
    let proxy = rig.proxy(Qos::from([(Property::MaxDeliveries, 1)]));
    rig.publish(&["a", "b"]);
    rig.attach(1, Attachment::Durable(proxy), Mode::Push { events: 1, bytes: 1 << 20 });
    let consumer = ConsumerId { session: SESSION, handle: 7 };
    assert_eq!(rig.run().0, [(1, 1, 1)]);
    let sequences = vec![1];
    rig.ask(Request::Unreadable { consumer, proxy: Some(proxy), sequences, bytes: 13 });
    assert_eq!(rig.run().0, [(1, 2, 1)], "the credit it took goes to the next");
    rig.ask(Request::Credit { consumer, events: 1, bytes: 100 });
    assert_eq!(rig.run().0, [], "not before it is time");
    rig.cluster.time().advance(limits::UNREADABLE_RETRY_MS);
    assert_eq!(rig.run().0, [(1, 1, 2)], "it is no dead letter");
}

#[test]
fn pulls_end_full_or_at_their_deadline_and_bad_ones_fail() {
    let mut rig = Rig::new();
    let proxy = rig.proxy(Qos::default());
    rig.publish(&["a", "b", "c"]);
    rig.attach(1, Attachment::Durable(proxy), Mode::Pull);
    let consumer = ConsumerId { session: SESSION, handle: 7 };
    let pull = |request, wait_ms| Request::Pull {
        consumer,
        request,
        events_max: 2,
        bytes_max: 1000,
        wait_ms,
    };
    rig.ask(pull(1, 0));
    rig.ask(pull(2, 0));
    rig.ask(pull(3, 50));
    let (delivered, messages) = rig.run();
    assert_eq!(delivered.len(), 3);
    assert_eq!(messages.len(), 2, "{messages:?}");
    rig.cluster.time().advance(50);
    let (_, messages) = rig.run();
    let [ServerMessage::PullDone(done)] = messages.as_slice() else { panic!("{messages:?}") };
    assert_eq!((done.request, done.delivered), (3, 0));

    rig.ask(Request::Detach { consumer });
    rig.ask(pull(4, 0));
    let (_, messages) = rig.run();
    assert!(matches!(
        messages.as_slice(),
        [ServerMessage::Closed(closed), ServerMessage::PullDone(_)] if closed.reason.is_none()
    ));
}

#[test]
fn consumers_of_what_is_gone_are_closed_with_the_reason() {
    let mut rig = Rig::new();
    let proxy = rig.proxy(Qos::default());
    rig.attach(1, Attachment::Durable(proxy), PUSH);
    rig.attach(2, Attachment::Durable(ProxyId(99)), PUSH);
    rig.cluster.apply(Command::DeleteProxy { proxy });
    let channel = rig.cluster.read(default_channel);
    rig.driver.changed(&[channel].into());
    let (_, messages) = rig.run();
    assert_eq!(messages.len(), 2);
    for message in messages {
        let ServerMessage::Closed(closed) = message else { panic!() };
        assert_eq!(closed.reason.unwrap().code, Code::UnknownProxy);
    }
    assert_eq!(rig.driver.consumers(), 0);
}

#[test]
fn subscribers_are_counted_by_channel() {
    let mut rig = Rig::new();
    let channel = rig.cluster.read(default_channel);
    rig.attach(1, Attachment::Volatile { channel, next_seq: 1, types: Default::default() }, PUSH);
    rig.attach(2, Attachment::Volatile { channel, next_seq: 1, types: Default::default() }, PUSH);
    assert_eq!(rig.driver.subscribers().get(&channel), Some(&2));
    rig.publish(&["a"]);
    assert_eq!(rig.run().0, [(1, 1, 1), (2, 1, 1)]);
    rig.driver.disconnect(SESSION, Departure::Lost);
    assert_eq!(rig.driver.subscribers().get(&channel), Some(&1));
}

#[test]
fn what_time_ends_is_swept() {
    let mut rig = Rig::new();
    rig.publish(&["a"]);
    let start = rig.cluster.now();
    let mut sweep = Sweep::new(start);
    let mut at = |ms| {
        let now = start.plus_millis(ms);
        rig.cluster.read(|machine| sweep.commands(&World::of_facts(machine), BTreeSet::new, now))
    };
    assert_eq!(at(limits::LANE_SWEEP_MS), []);
    let lanes = vec![rig.lane.unwrap().0];
    assert_eq!(at(limits::LANE_IDLE_MS + 1), [Command::ExpireLanes { lanes }]);
    assert_eq!(at(limits::LANE_IDLE_MS + 2), [], "not so soon again");
    let channel = rig.cluster.read(default_channel);
    let changes = vec![(Property::HistoryAge, Some(10 * limits::LANE_IDLE_MS as i64))];
    rig.cluster.apply(Command::SetQos { target: Target::Channel(channel), changes });
    let kept = at(9 * limits::LANE_IDLE_MS);
    assert!(!kept.iter().any(|command| matches!(command, Command::TrimHistory { .. })), "{kept:?}");
    let old = at(10 * limits::LANE_IDLE_MS + 1);
    assert!(old.contains(&Command::TrimHistory { channels: vec![channel] }), "{old:?}");
}

#[test]
fn a_proxy_expires_only_after_the_leader_itself_saw_nobody_for_so_long() {
    let mut rig = Rig::new();
    let proxy = rig.proxy(Qos::from([(Property::InactivityExpiry, 60_000)]));
    let start = rig.cluster.now();
    let sweep = |sweep: &mut Sweep, ms, active: &[ProxyId]| {
        let (now, active) = (start.plus_millis(ms), active.iter().copied().collect());
        let world = |machine: &_| sweep.commands(&World::of_facts(machine), || active, now);
        rig.cluster.read(world)
    };
    // The record is old when this leader begins, but somebody may have been there until then.
    let mut new = Sweep::new(start.plus_millis(100_000));
    assert_eq!(sweep(&mut new, 150_000, &[]), []);
    let marked = [Command::MarkActive { proxies: vec![proxy] }];
    assert_eq!(sweep(&mut new, 158_000, &[proxy]), marked, "the record is old");
    rig.cluster.time().advance(158_000);
    rig.cluster.apply(marked[0].clone());
    assert_eq!(sweep(&mut new, 164_000, &[proxy]), [], "it is new enough");
    assert_eq!(sweep(&mut new, 170_000, &[]), marked, "it has just gone");
    rig.cluster.time().advance(12_000);
    rig.cluster.apply(marked[0].clone());
    assert_eq!(sweep(&mut new, 229_000, &[]), []);
    let expired = [Command::ExpireProxies { proxies: vec![proxy] }];
    assert_eq!(sweep(&mut new, 235_000, &[]), expired);
}
