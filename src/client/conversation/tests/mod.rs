//! The conversation against a cluster of plain maps, with virtual time and connections that are
//! lost at every point.
//!
//! | property | how |
//! |---|---|
//! | each event has one answer, in order, and it is true | `World::check_lane` |
//! | accepted exactly once, order kept | `World::check_lane` |
//! | verdicts are confirmed in the end | `World::check_settled` |
//! | pauses are bounded, nothing spins | `World::run` counts |

mod consumers;
mod faults;
mod lanes;

use std::collections::VecDeque;
use std::time::Duration;

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
    /// The connection is lost; what is on its way to the server is acted on much later.
    Late,
}

/// Messages that move over the next connection before those of a lost one arrive.
const LATE_BY: usize = 4;

struct World {
    cluster: FakeCluster,
    conversation: Conversation,
    session: Option<FakeSession>,
    to_server: VecDeque<ClientMessage>,
    to_client: VecDeque<ServerMessage>,
    /// Still on the way over connections that were lost, and from which move on they arrive.
    late: VecDeque<(usize, ClientMessage)>,
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
            late: VecDeque::new(),
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
        if let Step::Dial(..) = self.conversation.step(self.now) {
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

    /// The server acts on what a lost connection still brings; nobody hears the answers.
    fn arrive_late(&mut self) {
        while self.late.front().is_some_and(|(at, _)| *at <= self.moved) {
            let Some((_, message)) = self.late.pop_front() else { return };
            FakeSession::default().hear(&mut self.cluster, message, self.now);
        }
    }

    fn move_message(&mut self) -> bool {
        self.arrive_late();
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

    /// Lets time pass until a connection is up, and nothing has moved over it.
    fn reconnect(&mut self) {
        while self.session.is_none() {
            assert!(self.round(self.now + Duration::from_secs(1)));
        }
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
            Fault::Late => {
                let at = self.moved + LATE_BY;
                while let Some(message) = self.conversation.transmit(self.now) {
                    self.to_server.push_back(message);
                }
                self.late.extend(self.to_server.drain(..).map(|message| (at, message)));
                self.lose("lost");
            }
        }
        self.cluster.tenure += 1;
    }

    /// Another client opens the lane.
    fn take_over(&mut self, lane: LaneId) {
        let opener = Opener { client: u64::MAX, attempt: 1 };
        self.cluster.lanes.get_mut(&lane).unwrap().open(opener).unwrap();
    }

    /// Takes what the conversation has for its users.
    fn collect(&mut self) {
        for key in self.conversation.news() {
            while let Some(report) = self.conversation.lane(key).and_then(Lane::report) {
                self.reports.entry(key).or_default().push(report);
            }
            let Some(consumer) = self.conversation.consumer(key) else { continue };
            let seqs: Vec<Seq> =
                consumer.take(usize::MAX).iter().map(|delivery| delivery.seq).collect();
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
