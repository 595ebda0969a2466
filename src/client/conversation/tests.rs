//! The conversation against a cluster of plain maps, with virtual time and connections that are
//! lost at every point.
//!
//! | property | how |
//! |---|---|
//! | each event has one answer, in order, and it is true | `World::check_lane` |
//! | accepted exactly once, order kept | `World::check_lane` |
//! | verdicts are confirmed in the end | `World::check_settled` |
//! | pauses are bounded, nothing spins | `World::run` counts |

use std::collections::VecDeque;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::client::fake::{FakeCluster, FakeSession, SPOILT, welcome};
use crate::client::{AckRange, Fate, LaneChoice};
use crate::types::{Event, EventBytes, LaneId, Outcome, SeqRange};
use crate::wire::{Goodbye, ServerMessage};

const MS: Duration = Duration::from_millis(1);

/// A fault, at a point counted in messages moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// The connection is lost with everything on its way to the server.
    LoseRequests,
    /// The server acts on what is on its way; its answers are lost.
    LoseAnswers,
    /// The server says goodbye.
    Goodbye,
    /// The server falls silent without closing.
    Silence,
}

struct World {
    cluster: FakeCluster,
    conversation: Conversation,
    session: Option<FakeSession>,
    to_server: VecDeque<ClientMessage>,
    to_client: VecDeque<ServerMessage>,
    now: Duration,
    moved: usize,
    silent: bool,
    /// Servers do not answer dials before this.
    down_until: Duration,
    dials: Vec<Duration>,
    reports: BTreeMap<Key, Vec<AckRange>>,
    taken: BTreeMap<Key, Vec<Seq>>,
    rounds: usize,
}

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

fn event(text: impl ToString) -> EventBytes {
    Event::of_body(text.to_string()).encode().unwrap()
}

fn options() -> Options {
    Options::new(["a:1", "b:1", "c:1"])
}

impl World {
    fn new(seed: u64) -> World {
        World {
            cluster: FakeCluster { tenure: 1, ..FakeCluster::default() },
            conversation: Conversation::new(options(), seed, Duration::ZERO),
            session: None,
            to_server: VecDeque::new(),
            to_client: VecDeque::new(),
            now: Duration::ZERO,
            moved: 0,
            silent: false,
            down_until: Duration::ZERO,
            dials: Vec::new(),
            reports: BTreeMap::new(),
            taken: BTreeMap::new(),
            rounds: 0,
        }
    }

    fn lane(&mut self, options: PublishOptions) -> Key {
        self.conversation.open_lane(Name::default_channel(), options, self.now)
    }

    fn publish(&mut self, key: Key, text: impl ToString) {
        let now = self.now;
        let lane = self.conversation.lane(key).unwrap();
        assert!(lane.has_room());
        lane.push(event(text), now);
    }

    fn worker(&mut self, mode: Mode) -> Key {
        let options =
            SubscribeOptions { credit_events: 8, ..SubscribeOptions::durable(name("worker")) };
        let options = options.from(crate::types::Start::All);
        self.conversation.subscribe(Name::default_channel(), options, mode, self.now)
    }

    /// One thing happens: a message moves one way or the other, or time passes. False: nothing
    /// is left to happen before `until`.
    fn round(&mut self, until: Duration) -> bool {
        self.rounds += 1;
        self.conversation.tick(self.now);
        self.collect();
        if let Some(reason) = self.conversation.should_leave().map(str::to_string) {
            self.lose(&reason);
        }
        if self.advance_link() || self.move_message() {
            return true;
        }
        let step = match self.conversation.step(self.now) {
            Step::WaitUntil(at) => Some(at),
            _ => None,
        };
        let wake_at = self.conversation.wake_at().into_iter().chain(step).min();
        assert!(wake_at.is_none_or(|at| at > self.now), "it wants to be woken at {wake_at:?}, now");
        let heard = self.session.as_ref().filter(|_| !self.silent).and_then(FakeSession::wake_at);
        match wake_at.into_iter().chain(heard).min().filter(|at| *at <= until) {
            Some(at) => {
                self.now = at;
                true
            }
            None => false,
        }
    }

    fn advance_link(&mut self) -> bool {
        if let Step::Dial(_) = self.conversation.step(self.now) {
            self.dials.push(self.now);
            if self.now < self.down_until {
                self.conversation.disconnected("refused".into(), self.now);
            } else {
                self.session = Some(FakeSession::default());
                self.silent = false;
                self.conversation.connected("a:1", welcome(), self.now);
            }
            return true;
        }
        false
    }

    fn move_message(&mut self) -> bool {
        if let Some(message) = self.to_client.pop_front() {
            self.moved += 1;
            self.conversation.message(message, self.now);
            return true;
        }
        while let Some(message) = self.conversation.transmit(self.now) {
            self.to_server.push_back(message);
        }
        if self.silent {
            self.to_server.clear();
            return false;
        }
        let Some(session) = &mut self.session else { return false };
        let message = self.to_server.pop_front();
        let moved = message.is_some();
        if let Some(message) = message {
            self.moved += 1;
            self.to_client.extend(session.hear(&mut self.cluster, message, self.now));
        }
        self.to_client.extend(session.deliveries(&self.cluster, self.now));
        moved || !self.to_client.is_empty()
    }

    fn lose(&mut self, reason: &str) {
        self.session = None;
        self.to_server.clear();
        self.to_client.clear();
        self.conversation.disconnected(reason.into(), self.now);
    }

    fn inject(&mut self, fault: Fault) {
        if self.session.is_none() {
            return;
        }
        match fault {
            Fault::LoseRequests => self.lose("lost"),
            Fault::LoseAnswers => {
                while let Some(message) = self.conversation.transmit(self.now) {
                    self.to_server.push_back(message);
                }
                let mut session = self.session.take().unwrap();
                for message in std::mem::take(&mut self.to_server) {
                    session.hear(&mut self.cluster, message, self.now);
                }
                self.lose("lost");
            }
            Fault::Goodbye => {
                let reason = Rejection::new(Code::NoLeader, "stepping down");
                self.conversation.message(Goodbye { reason }.into(), self.now);
            }
            Fault::Silence => self.silent = true,
        }
        self.cluster.tenure += 1;
    }

    /// Takes what the conversation has for its users.
    fn collect(&mut self) {
        for key in self.conversation.news() {
            while let Some(report) = self.conversation.lane(key).and_then(Lane::report) {
                self.reports.entry(key).or_default().push(report);
            }
            let Some(consumer) = self.conversation.consumer(key) else { continue };
            let seqs: Vec<Seq> = consumer.take().iter().map(|delivery| delivery.seq).collect();
            if !seqs.is_empty() {
                self.conversation.settle(key, &seqs, Verdict::Ack);
                self.taken.entry(key).or_default().extend(seqs);
            }
        }
    }

    /// Lets things happen until nothing does before `until`.
    fn run(&mut self, until: Duration) {
        let started = self.rounds;
        while self.round(until) {
            assert!(self.rounds - started < 100_000, "it never comes to rest");
        }
        self.now = self.now.max(until);
    }

    fn run_for(&mut self, time: Duration) {
        self.run(self.now + time);
    }

    /// Every event given to the lane was answered once, in order, and the answers are true.
    fn check_lane(&self, key: Key, lane: LaneId, first: u64, given: u64) {
        let mut next = first;
        for report in self.reports.get(&key).into_iter().flatten() {
            assert_eq!(report.first_sequence, next, "answers have a hole or an overlap");
            for place in 0..u64::from(report.count) {
                let sequence = next + place;
                let copies: Vec<usize> = (0..self.cluster.log.len())
                    .filter(|&at| {
                        (self.cluster.log[at].0, self.cluster.log[at].1) == (lane, sequence)
                    })
                    .collect();
                match &report.fate {
                    Fate::Accepted { first_seq, .. } => {
                        assert_eq!(copies.len(), 1, "sequence {sequence}");
                        let seq = copies[0] as u64 + 1;
                        assert!(*first_seq == 0 || first_seq + place == seq);
                    }
                    Fate::Refused(_) => assert_eq!(copies.len(), 0, "sequence {sequence}"),
                    Fate::Unknown(_) => assert!(copies.len() <= 1, "sequence {sequence}"),
                }
            }
            next = report.end();
        }
        assert_eq!(next, first + given, "events without an answer");
        let order: Vec<u64> =
            self.cluster.log.iter().filter(|(id, ..)| *id == lane).map(|(_, s, _)| *s).collect();
        assert!(order.is_sorted_by(|a, b| a < b), "order is not kept: {order:?}");
    }

    fn all_accepted(&self, key: Key) -> bool {
        let reports = self.reports.get(&key).into_iter().flatten();
        reports.into_iter().all(|report| matches!(report.fate, Fate::Accepted { .. }))
    }

    /// Everything in the log is settled, by an acknowledgement that was confirmed.
    fn check_settled(&mut self, worker: Key) {
        let consumer = self.conversation.consumer(worker).unwrap();
        let proxy = consumer.proxy().unwrap();
        assert!(consumer.settling.is_idle());
        let totals = consumer.settling.totals();
        assert_eq!((totals.unconfirmed(), totals.refused), (0, 0));
        let acked = self.cluster.proxies[&proxy].settled.values();
        assert_eq!(acked.filter(|o| **o == Outcome::Acked).count(), self.cluster.log.len());
        let mut seen = self.taken[&worker].clone();
        let first_deliveries = {
            let mut once = BTreeSet::new();
            seen.retain(|seq| once.insert(*seq));
            seen
        };
        assert!(first_deliveries.is_sorted(), "first deliveries are out of order");
    }
}

/// Publishes in bursts while a fault strikes after each possible number of messages.
fn strike_everywhere(fault: Fault) {
    let mut at = 0;
    loop {
        let mut world = World::new(at as u64);
        let key = world.lane(PublishOptions::default());
        let worker = world.worker(Mode::Push);
        world.run_for(MS);
        let mut struck = false;
        for burst in 0..4u64 {
            (0..3).for_each(|i| world.publish(key, burst * 3 + i));
            while world.round(world.now) {
                if world.moved >= at && !struck {
                    struck = true;
                    world.inject(fault);
                }
            }
        }
        world.run_for(Duration::from_secs(20));
        let lane = world.conversation.lane(key).unwrap().identity().unwrap().lane;
        world.check_lane(key, lane, 1, 12);
        assert!(world.all_accepted(key), "{fault:?} at {at}: {:?}", world.reports);
        assert_eq!(world.cluster.log.len(), 12);
        world.check_settled(worker);
        if !struck {
            assert!(at > 10, "the run moved only {at} messages");
            return;
        }
        at += 1;
    }
}

#[test]
fn a_loss_at_any_point_publishes_once_and_settles() {
    let faults = [Fault::LoseRequests, Fault::LoseAnswers, Fault::Goodbye, Fault::Silence];
    faults.into_iter().for_each(strike_everywhere);
}

#[derive(Debug, Clone, Copy)]
enum Act {
    Publish(u8),
    Rounds(u8),
    Pass(u16),
    Strike(Fault),
    Down(u16),
    Refuse(u8, Code),
    RefuseSettle(Code),
    RefuseOpen(Code),
}

fn act() -> impl Strategy<Value = Act> {
    let fault = prop::sample::select(vec![
        Fault::LoseRequests,
        Fault::LoseAnswers,
        Fault::Goodbye,
        Fault::Silence,
    ]);
    let passing = || {
        prop::sample::select(vec![
            Code::Overloaded,
            Code::ChannelFull,
            Code::TenureLost,
            Code::NoLeader,
            Code::StorageFailed,
        ])
    };
    prop_oneof![
        4 => (1u8..6).prop_map(Act::Publish),
        6 => (1u8..20).prop_map(Act::Rounds),
        1 => (1u16..800).prop_map(Act::Pass),
        2 => fault.prop_map(Act::Strike),
        1 => (1u16..3000).prop_map(Act::Down),
        2 => (0u8..4, passing()).prop_map(|(after, code)| Act::Refuse(after, code)),
        1 => passing().prop_map(Act::RefuseSettle),
        1 => passing().prop_map(Act::RefuseOpen),
    ]
}

/// Plays acts on two lanes and two consumers, then heals and waits. Returns the world, the lanes
/// with how many events each was given, and the durable consumer.
fn play(seed: u64, acts: &[Act], mode: Mode, deadline: Duration) -> (World, Vec<(Key, u64)>, Key) {
    let mut world = World::new(seed);
    let named = PublishOptions {
        lane: LaneChoice::Named(name("named")),
        deadline,
        ..PublishOptions::default()
    };
    let mut lanes = vec![
        (world.lane(PublishOptions { deadline, ..PublishOptions::default() }), 0),
        (world.lane(named), 0),
    ];
    let worker = world.worker(mode);
    world.run_for(MS);
    for (turn, act) in acts.iter().enumerate() {
        match *act {
            Act::Publish(count) => {
                let (key, given) = &mut lanes[turn % 2];
                (0..count).for_each(|_| world.publish(*key, *given));
                *given += u64::from(count);
            }
            Act::Rounds(count) => {
                for _ in 0..count {
                    world.round(world.now);
                }
            }
            Act::Pass(ms) => world.run_for(MS * u32::from(ms)),
            Act::Strike(fault) => world.inject(fault),
            Act::Down(ms) => {
                world.inject(Fault::LoseAnswers);
                world.down_until = world.now + MS * u32::from(ms);
            }
            Act::Refuse(after, code) => world.cluster.refusals.push_back((after.into(), code)),
            Act::RefuseSettle(code) => world.cluster.settle_refusals.push_back(code),
            Act::RefuseOpen(code) => world.cluster.open_refusals.push_back(code),
        }
        if mode == Mode::Pull {
            fetch(&mut world, worker);
        }
    }
    world.cluster.refusals.clear();
    for _ in 0..60 {
        world.run_for(Duration::from_secs(1));
        if mode == Mode::Pull {
            fetch(&mut world, worker);
        }
    }
    (world, lanes, worker)
}

fn fetch(world: &mut World, worker: Key) {
    let until = world.now + MS * 50;
    let consumer = world.conversation.consumer(worker).unwrap();
    let over = consumer.fetched();
    assert!(!matches!(over, Some(Err(_))), "a fetch was given up");
    if !consumer.is_fetching() {
        consumer.fetch(100, 1 << 20, until);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, ..ProptestConfig::default() })]

    /// A patient user gets everything accepted, exactly once, in order, and settled.
    #[test]
    fn patience_is_rewarded(
        seed: u64,
        acts in prop::collection::vec(act(), 1..60),
        pull: bool,
    ) {
        let mode = if pull { Mode::Pull } else { Mode::Push };
        let (mut world, lanes, worker) = play(seed, &acts, mode, Duration::from_secs(3600));
        let mut sum = 0;
        for (key, given) in lanes {
            let lane = world.conversation.lane(key).unwrap().identity().unwrap().lane;
            world.check_lane(key, lane, 1, given);
            prop_assert!(world.all_accepted(key));
            sum += given as usize;
        }
        prop_assert_eq!(world.cluster.log.len(), sum);
        if sum > 0 {
            world.check_settled(worker);
        }
    }

    /// An impatient user gets an answer to everything, and none of them is false; afterwards the
    /// lane goes on.
    #[test]
    fn impatience_is_told_the_truth(
        seed: u64,
        acts in prop::collection::vec(act(), 1..60),
        deadline in 1u32..2000,
    ) {
        let (mut world, lanes, _) = play(seed, &acts, Mode::Push, MS * deadline);
        for (key, given) in lanes {
            // A lane that no server knew in time is refused for good.
            let Some(identity) = world.conversation.lane(key).unwrap().identity() else { continue };
            world.check_lane(key, identity.lane, 1, given);
            if world.conversation.lane(key).unwrap().failed().is_some() {
                continue;
            }
            world.publish(key, "after");
            world.run_for(MS * deadline.min(1) + Duration::from_secs(1));
            world.check_lane(key, identity.lane, 1, given + 1);
            let last = world.reports[&key].last().unwrap();
            prop_assert!(matches!(last.fate, Fate::Accepted { duplicate: false, .. }), "{:?}", last);
        }
    }
}

#[test]
fn a_cluster_that_is_away_is_tried_at_a_bounded_rate() {
    let mut world = World::new(7);
    let key = world.lane(PublishOptions::default());
    world.run_for(MS);
    world.inject(Fault::LoseRequests);
    let away = Duration::from_secs(30);
    world.down_until = world.now + away;
    world.publish(key, 1);
    world.dials.clear();
    world.run_for(away - MS);
    let dials = world.dials.clone();
    let pauses: Vec<Duration> = dials.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(pauses.iter().all(|pause| *pause <= options().backoff.max), "{pauses:?}");
    assert!(pauses[..3].iter().all(|pause| *pause <= MS * 25), "the first are quick: {pauses:?}");
    let late = &pauses[pauses.len() - 10..];
    assert!(late.iter().all(|pause| *pause >= options().backoff.max / 2), "{late:?}");
    assert!(world.rounds < 1000, "{} rounds while nothing could be done", world.rounds);
}

#[test]
fn a_server_that_welcomes_and_hangs_up_is_no_reason_to_hurry() {
    let mut world = World::new(3);
    world.lane(PublishOptions::default());
    for _ in 0..50 {
        while world.session.is_none() {
            assert!(world.round(world.now + Duration::from_secs(1)));
        }
        world.lose("hung up");
    }
    let pause = world.dials[49] - world.dials[48];
    assert!(pause >= options().backoff.max / 2, "{pause:?}");
}

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
    world.cluster.lanes.get_mut(&lane).unwrap().epoch += 1;
    world.publish(key, "fenced");
    world.run_for(MS);
    let last = world.reports[&key].last().unwrap();
    assert!(matches!(&last.fate, Fate::Refused(r) if r.code == Code::LaneFenced), "{last:?}");
    assert_eq!(world.conversation.lane(key).unwrap().failed().unwrap().code, Code::LaneFenced);

    // While away: the epoch says so, and what was sent stays unknown.
    let mut world = World::new(1);
    let key = world.lane(options());
    world.run_for(MS);
    world.publish(key, "ours");
    world.inject(Fault::LoseAnswers);
    world.cluster.lanes.get_mut(&lane).unwrap().epoch += 1;
    world.run_for(Duration::from_secs(1));
    let last = world.reports[&key].last().unwrap();
    assert!(matches!(&last.fate, Fate::Unknown(r) if r.code == Code::LaneFenced), "{last:?}");
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
    assert!(matches!(world.conversation.step(world.now), Step::Dial(_)));
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
    let held = world.conversation.consumer(worker).unwrap().take();
    assert_eq!(held.iter().map(|d| d.seq).collect::<Vec<_>>(), [1, 2, 3, 4, 5, 6]);
}
