//! Verdicts that the log has no room for now.

use super::*;

/// How long the first pauses are.
const PAUSES: [u64; 6] = [10, 20, 40, 80, 160, 320];

/// The log is full.
fn full(_: &Command) -> Option<Code> {
    Some(Code::Overloaded)
}

/// Settlements are refused, and nothing else is.
fn no_settlements(command: &Command) -> Option<Code> {
    matches!(command, Command::Settle(_)).then_some(Code::Overloaded)
}

fn nobody_knows(_: &Command) -> Option<Code> {
    Some(Code::TenureLost)
}

fn nack(proxy: ProxyId, sequences: &[Seq]) -> Settle {
    let nacks = vec![Nack { sequences: seqs(sequences), delay_ms: 0 }];
    Settle { nacks, ..settle(99, proxy, &[]) }
}

impl Rig {
    fn advance(&self, millis: u64) {
        self.cluster.time().advance(millis);
    }

    fn dead_letters(&self, proxy: ProxyId) -> u64 {
        let counts = self.cluster.read(|machine| *machine.proxy(proxy).unwrap().counts());
        counts.get(Outcome::DeadLettered)
    }

    fn begin_tenure(&mut self) {
        self.cluster.begin_tenure();
        let next_token = self.driver.next_token();
        self.driver = Driver::new(self.cluster.tenure().unwrap(), next_token);
    }

    fn deliveries(&mut self) -> Vec<(u64, Seq, u32)> {
        self.run().0
    }

    /// A proxy with this limit, one event and a consumer that fails on it until the last delivery,
    /// which is under way.
    fn at_the_last_delivery(max_deliveries: u32) -> (Rig, ProxyId) {
        let mut rig = Rig::new();
        let proxy = rig.proxy(Qos::from([(Property::MaxDeliveries, max_deliveries.into())]));
        rig.publish(&["poison"]);
        rig.attach(1, Attachment::Durable(proxy), PUSH);
        assert_eq!(rig.deliveries(), [(1, 1, 1)]);
        for delivery in 2..=max_deliveries {
            rig.settle(nack(proxy, &[1]));
            assert_eq!(rig.deliveries(), [(1, 1, delivery)]);
        }
        (rig, proxy)
    }
}

#[test]
fn acks_that_are_refused_for_now_are_proposed_again_and_confirmed_once() {
    let mut rig = Rig::new();
    let proxy = rig.proxy(Qos::default());
    rig.publish(&["a", "b", "c"]);
    rig.attach(1, Attachment::Durable(proxy), PUSH);
    rig.run();
    rig.refusing = Some(full);
    rig.settle(settle(1, proxy, &[1, 2]));
    assert_eq!(rig.run(), (vec![], vec![]), "neither delivered again nor told");
    // Nor given to anybody else.
    rig.attach(2, Attachment::Durable(proxy), PUSH);
    for pause in PAUSES {
        rig.advance(pause - 1);
        let before = rig.proposals;
        assert_eq!((rig.run(), rig.proposals), ((vec![], vec![]), before));
        rig.advance(1);
        assert_eq!((rig.run(), rig.proposals), ((vec![], vec![]), before + 1));
    }
    rig.settle(settle(2, proxy, &[3]));
    rig.refusing = None;
    rig.advance(500);
    let both = vec![confirmed(1, proxy, 2).into(), confirmed(2, proxy, 1).into()];
    assert_eq!(rig.run(), (vec![], both));
    rig.advance(60_000);
    assert_eq!(rig.run(), (vec![], vec![]));
    assert_eq!(rig.driver.next_wakeup(), None, "nothing is left to be done");
}

#[test]
fn a_leader_without_a_lease_refuses_for_now_too() {
    let mut rig = Rig::new();
    let proxy = rig.proxy(Qos::default());
    rig.publish(&["a"]);
    rig.attach(1, Attachment::Durable(proxy), PUSH);
    rig.run();
    rig.refusing = Some(|_| Some(Code::NoLeader));
    rig.settle(settle(1, proxy, &[1]));
    assert_eq!(rig.run(), (vec![], vec![]));
    rig.refusing = None;
    rig.advance(10);
    assert_eq!(rig.run(), (vec![], vec![confirmed(1, proxy, 1).into()]));
}

/// The same ack on its way twice: as tokens 1 and 2, by sessions 1 and 2.
fn acked_twice() -> (Rig, ProxyId, [(Command, u64); 2]) {
    let mut rig = Rig::new();
    let proxy = rig.proxy(Qos::default());
    rig.publish(&["a"]);
    rig.attach(1, Attachment::Durable(proxy), PUSH);
    assert_eq!(rig.deliveries(), [(1, 1, 1)]);
    rig.settle(settle(5, proxy, &[1]));
    let first = rig.proposal();
    rig.driver.disconnect(SESSION, Departure::Lost);
    rig.attach(2, Attachment::Durable(proxy), PUSH);
    rig.ask(Request::Settle { session: SessionId(2), settle: settle(5, proxy, &[1]) });
    let second = rig.proposal();
    (rig, proxy, [first, second])
}

#[test]
fn an_ack_repeated_in_vain_does_not_put_back_what_is_still_on_its_way() {
    let (mut rig, proxy, [(first, one), (_, two)]) = acked_twice();
    rig.end(two, Err(Rejection::new(Code::Overloaded, "full")));
    assert_eq!(rig.run(), (vec![], vec![]));
    let reply = rig.cluster.apply(first);
    rig.end(one, Ok(reply));
    assert_eq!(rig.run(), (vec![], vec![]), "who sent it first has gone");
    rig.advance(10);
    let (delivered, messages) = rig.run();
    let [ServerMessage::SettleConfirmed(again)] = messages.as_slice() else {
        panic!("{messages:?}")
    };
    // By whom is known only while settled events have pending ones before them.
    let already = vec![(SeqRange::one(1), None)];
    assert_eq!(*again, SettleConfirmed { already, ..confirmed(5, proxy, 0) });
    assert_eq!(delivered, []);
}

#[test]
fn an_event_goes_again_when_the_last_of_its_settlements_has_failed() {
    for last_first in [false, true] {
        let (mut rig, _, mut proposals) = acked_twice();
        if last_first {
            proposals.reverse();
        }
        let lost = || Err(Rejection::new(Code::TenureLost, "nobody knows"));
        let [(_, one), (_, other)] = proposals;
        rig.end(one, lost());
        assert_eq!(rig.deliveries(), [], "another is on its way");
        rig.end(other, lost());
        assert_eq!(rig.deliveries(), [(2, 1, 2)]);
    }
}

#[test]
fn an_exhausted_event_is_never_delivered_again_however_its_burial_fails() {
    // And how many attempts its letter tells of: one whose fate nobody knows is not counted again.
    let cases: [(Refuse, u32); 3] = [(full, 3), (no_settlements, 3), (nobody_knows, 2)];
    for (refuse, attempts) in cases {
        let (mut rig, proxy) = Rig::at_the_last_delivery(3);
        rig.refusing = Some(refuse);
        rig.settle(nack(proxy, &[1]));
        assert_eq!(rig.deliveries(), []);
        // Somebody else might want it.
        rig.attach(2, Attachment::Durable(proxy), PUSH);
        for pause in PAUSES {
            rig.advance(pause);
            assert_eq!(rig.deliveries(), []);
            assert_eq!(rig.dead_letters(proxy), 0);
        }
        rig.refusing = None;
        rig.advance(500);
        assert_eq!(rig.deliveries(), []);
        assert_eq!(rig.dead_letters(proxy), 1);
        let before = rig.proposals;
        rig.advance(60_000);
        assert_eq!((rig.deliveries(), rig.proposals), (vec![], before));
        let dead = Name::default_channel().dead_letter();
        let found = rig.cluster.read(|machine| {
            let dead = machine.channel_by_name(&dead).unwrap();
            (dead.next_seq() - 1, dead.dead_letter(1).unwrap().attempts)
        });
        assert_eq!(found, (1, attempts), "one letter");
    }
}

#[test]
fn what_is_refused_is_proposed_once_for_each_pause() {
    for on_record in [false, true] {
        let (mut rig, proxy) = Rig::at_the_last_delivery(2);
        rig.publish(&["b"]);
        assert_eq!(rig.deliveries(), [(1, 2, 1)]);
        if on_record {
            // As by a leader that fell before it could bury the event.
            let sequences = seqs(&[1]);
            rig.cluster.apply(Command::CountAttempts { proxy, sequences });
        }
        rig.refusing = Some(full);
        rig.proposals = 0;
        rig.settle(nack(proxy, &[1]));
        assert_eq!(rig.deliveries(), []);
        for batch in 1..=10_000 {
            // A client that will not wait makes no difference.
            rig.settle(settle(batch, proxy, &[2]));
            assert_eq!(rig.run(), (vec![], vec![]));
            rig.advance(1);
        }
        // Six pauses of up to 320 ms, then one every 500 ms; the count and the settlement.
        assert!((40..=60).contains(&rig.proposals), "{} proposals in 10 s", rig.proposals);
    }
}

#[test]
fn the_last_attempt_is_on_record_for_the_next_leader() {
    let (mut rig, proxy) = Rig::at_the_last_delivery(2);
    rig.refusing = Some(no_settlements);
    rig.settle(nack(proxy, &[1]));
    assert_eq!(rig.deliveries(), []);
    assert_eq!(rig.cluster.read(|machine| machine.proxy(proxy).unwrap().attempts(1)), 2);

    rig.begin_tenure();
    rig.attach(1, Attachment::Durable(proxy), PUSH);
    rig.advance(10);
    assert_eq!(rig.deliveries(), []);
    rig.refusing = None;
    rig.advance(500);
    assert_eq!(rig.deliveries(), []);
    assert_eq!(rig.dead_letters(proxy), 1);
}

#[test]
fn a_change_of_tenure_drops_what_was_to_be_proposed_again() {
    let mut rig = Rig::new();
    let proxy = rig.proxy(Qos::default());
    rig.publish(&["a"]);
    rig.attach(1, Attachment::Durable(proxy), PUSH);
    rig.run();
    rig.refusing = Some(full);
    rig.settle(settle(1, proxy, &[1]));
    assert_eq!(rig.run(), (vec![], vec![]));
    rig.advance(10);
    let (_, late) = rig.proposal();

    rig.begin_tenure();
    rig.refusing = None;
    rig.proposals = 0;
    rig.attach(1, Attachment::Durable(proxy), PUSH);
    assert_eq!(rig.deliveries(), [(1, 1, 1)], "it is pending, so it goes again");
    rig.end(late, Err(Rejection::new(Code::Overloaded, "full")));
    rig.advance(10_000);
    assert_eq!((rig.run(), rig.proposals), ((vec![], vec![]), 0));
}

#[test]
fn what_waits_for_room_is_bounded_and_more_is_refused() {
    let mut rig = Rig::new();
    let proxy = rig.proxy(Qos::from([(Property::MaxInFlight, 10)]));
    let count = 2 * (limits::SETTLING_RANGES_MAX as u64 + 10);
    (0..count).step_by(1000).for_each(|_| rig.publish(&["x"; 1000]));
    rig.refusing = Some(full);
    let every_other: Vec<Seq> = (1..=count).step_by(2).collect();
    rig.settle(settle(1, proxy, &every_other));
    assert_eq!(rig.run(), (vec![], vec![]));
    rig.settle(settle(2, proxy, &[2]));
    let (_, messages) = rig.run();
    let [ServerMessage::SettleConfirmed(refused)] = messages.as_slice() else {
        panic!("{messages:?}")
    };
    assert_eq!(refused.refused.as_ref().map(|r| r.code), Some(Code::Overloaded));
    rig.refusing = None;
    rig.advance(500);
    let settled = every_other.len() as u64;
    assert_eq!(rig.run().1, [confirmed(1, proxy, settled).into()]);
    rig.settle(settle(3, proxy, &[2]));
    assert_eq!(rig.run().1, [confirmed(3, proxy, 1).into()]);
}
