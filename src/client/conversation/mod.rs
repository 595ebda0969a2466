//! Retry and resume as a pure state machine: no I/O, no clock, no runtime.
//!
//! ```text
//! user ─► open_lane, publish, subscribe, settle, fetch ─┐
//! socket ─► connected, message, disconnected ───────────┤ Conversation ├─► step: dial whom, when
//! clock ─► tick ────────────────────────────────────────┘              ├─► transmit: what to send
//!                                                                      └─► news: who has something
//! ```
//!
//! Whoever owns the sockets asks [`Conversation::step`] what to do about the connection, sends what
//! [`Conversation::transmit`] says until it says nothing, and calls again at
//! [`Conversation::wake_at`]. Messages are made when they can leave, so what gathers while the
//! socket is busy goes together in the next frame: no timer.
//!
//! Invariants:
//! - Every event gets exactly one answer, in lane order: accepted, refused, or unknown; unknown
//!   only when the user gave up (deadline or close) or lost the lane to somebody else.
//! - A lane is asked for on each new connection before anything is sent on it; what was not
//!   answered is sent again in order, and the server tells duplicates.
//! - Each asking is numbered, so that one that was left behind on an old connection does nothing.
//! - A lane has one user, also within a conversation: the handle that opened it last.
//! - A verdict on a delivery is sent over every new connection until it is confirmed.
//! - Everything held is bounded: events by the lane's limits, deliveries by credit, verdicts by the
//!   consumer's limit. Whoever calls asks for room first.
//! - A connection that does not last is tried again after a pause that grows and is bounded.
//!
//! Left out: sockets, encoding, waiting (the shell in [`crate::client`] has them), and filters.

mod consumer;
mod fetch;
mod lane;
mod lane_flow;
mod link;
mod settling;
mod talk;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

pub use consumer::{Consumer, Mode};
pub use lane::{Lane, LaneIdentity, PollToAnswer};
pub use link::Step;
pub use settling::{Settlements, Settling, Verdict};

use super::{ConnectionEvent, Options, PublishOptions, SubscribeOptions, Token};
use crate::types::{Code, Name, Opener, Rejection, Seq};
use crate::wire::{ClientMessage, Welcome};
use link::Link;

/// One of the things a user holds: a lane, a consumer, or a settlement by token. Numbers are never
/// reused within a conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(pub u32);

/// What a request was for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked {
    Lane(Key),
    Skip(Key),
    /// Answered only when the lane ends.
    Serve(Key),
    Attach(Key),
    Pull(Key),
}

/// The state of one client's conversation with a cluster. See the module.
#[derive(Debug)]
pub struct Conversation {
    link: Link,
    lanes: BTreeMap<Key, Lane>,
    /// As whom a lane was asked for last.
    opener: Opener,
    /// Lanes to be asked for on the present connection, and not before when.
    lanes_to_ask: BTreeMap<Key, Duration>,
    lane_refusals: BTreeMap<Key, u32>,
    /// Keys that no server knows yet, and when the user gives up.
    openings: BTreeMap<Key, Duration>,
    /// When the user gives up a first connection.
    connect_by: Option<Duration>,
    /// Lanes that the user dropped: kept until what was queued is answered.
    lanes_left: BTreeSet<Key>,
    consumers: BTreeMap<Key, Consumer>,
    tokens: BTreeMap<Key, Settling>,
    asked: BTreeMap<u32, Asked>,
    /// Messages ready to leave.
    ready: VecDeque<ClientMessage>,
    /// Consumers whose leaving the server has not confirmed.
    leaving: BTreeSet<Key>,
    /// Keys with something new for their holders.
    news: BTreeSet<Key>,
    events: VecDeque<ConnectionEvent>,
    last_key: u32,
    last_request: u32,
    last_batch: u64,
    last_nonce: u64,
    /// The lane that published last: the others come first.
    last_lane: Key,
    /// Why the present connection should be dropped.
    leave: Option<String>,
    /// Why the connection before was lost.
    last_loss: String,
}

/// Events about the connection kept for an observer that does not look; older ones go.
const EVENTS_MAX: usize = 256;

impl Conversation {
    /// A conversation that has not begun. `seed` makes the jitter, and tells the openings of lanes
    /// from those of other clients: draw it at random.
    pub fn new(options: Options, seed: u64, now: Duration) -> Conversation {
        let connect_by = Some(now + options.connect_timeout);
        Conversation {
            connect_by,
            openings: BTreeMap::new(),
            link: Link::new(options, seed, now),
            lanes: BTreeMap::new(),
            opener: Opener { client: seed, attempt: 0 },
            lanes_to_ask: BTreeMap::new(),
            lane_refusals: BTreeMap::new(),
            lanes_left: BTreeSet::new(),
            consumers: BTreeMap::new(),
            tokens: BTreeMap::new(),
            asked: BTreeMap::new(),
            ready: VecDeque::new(),
            leaving: BTreeSet::new(),
            news: BTreeSet::new(),
            events: VecDeque::new(),
            last_key: 0,
            last_request: 0,
            last_batch: 0,
            last_nonce: 0,
            last_lane: Key(0),
            leave: None,
            last_loss: String::new(),
        }
    }

    fn key(&mut self) -> Key {
        self.last_key += 1;
        Key(self.last_key)
    }

    /// Opens a lane. Publishing begins when [`Lane::identity`] is known.
    pub fn open_lane(&mut self, channel: Name, options: PublishOptions, now: Duration) -> Key {
        let key = self.key();
        self.openings.insert(key, now + options.deadline);
        let mut lane = Lane::new(channel, options);
        if let Some(rejection) = self.link.ended() {
            lane.fail(rejection.clone());
        }
        self.lanes.insert(key, lane);
        self.lanes_to_ask.insert(key, Duration::ZERO);
        key
    }

    /// The lane of a key; `None` once it was left and is done.
    pub fn lane(&mut self, key: Key) -> Option<&mut Lane> {
        self.lanes.get_mut(&key)
    }

    /// The user is done with a lane; what is queued is still published.
    pub fn leave_lane(&mut self, key: Key) {
        self.lanes_left.insert(key);
        self.sweep();
    }

    /// Attaches a consumer.
    pub fn subscribe(
        &mut self,
        channel: Name,
        options: SubscribeOptions,
        mode: Mode,
        now: Duration,
    ) -> Key {
        let key = self.key();
        self.openings.insert(key, now + options.deadline);
        let mut consumer = Consumer::new(channel, options, mode);
        if let Some(rejection) = self.link.ended() {
            consumer.fail(rejection.clone());
        }
        self.consumers.insert(key, consumer);
        key
    }

    /// The consumer of a key; `None` once it was left and is done.
    pub fn consumer(&mut self, key: Key) -> Option<&mut Consumer> {
        self.consumers.get_mut(&key)
    }

    /// The user gives a verdict on deliveries of a consumer. The caller asked for room.
    pub fn settle(&mut self, key: Key, seqs: &[Seq], verdict: Verdict) {
        if let Some(consumer) = self.consumers.get_mut(&key) {
            consumer.settling.settle(seqs, verdict, &mut self.last_batch);
        }
    }

    /// The user is done with a consumer; verdicts given are still sent until confirmed.
    pub fn leave_consumer(&mut self, key: Key) {
        let up = self.link.welcome().is_some();
        if let Some(consumer) = self.consumers.get_mut(&key)
            && consumer.leave()
            && up
        {
            self.ready.push_back(crate::wire::Detach { consumer: key.0 }.into());
            self.leaving.insert(key);
        }
        self.sweep();
    }

    /// Whether the server need not be told any more that this consumer has left.
    pub fn has_left(&self, key: Key) -> bool {
        !self.leaving.contains(&key) || self.link.welcome().is_none()
    }

    /// Settles deliveries of a durable proxy that this client need not be attached to.
    pub fn settle_elsewhere(&mut self, token: Token, verdict: Verdict) -> Key {
        let key = self.key();
        let mut settling = Settling::default();
        settling.attach(Some(token.proxy), &mut self.last_batch);
        settling.delivered(token.seq, token.fencing);
        settling.settle(&[token.seq], verdict, &mut self.last_batch);
        self.tokens.insert(key, settling);
        key
    }

    /// What became of a settlement by token.
    pub fn settled_elsewhere(&mut self, key: Key) -> Option<&Settling> {
        self.tokens.get(&key)
    }

    /// The user is done with a settlement by token.
    pub fn leave_settlement(&mut self, key: Key) {
        self.tokens.remove(&key);
    }

    /// What to do about the connection.
    pub fn step(&mut self, now: Duration) -> Step {
        self.link.step(now)
    }

    /// A connection is up: everything is asked for again.
    pub fn connected(&mut self, server: &str, welcome: Welcome, now: Duration) {
        self.link.up(welcome, now);
        self.leave = None;
        self.connect_by = None;
        self.lanes_to_ask = self.lanes.keys().map(|&key| (key, Duration::ZERO)).collect();
        self.event(ConnectionEvent::Connected {
            server: server.to_string(),
            node: welcome.node,
            cluster: welcome.cluster,
        });
    }

    /// The handshake was refused.
    pub fn refused(&mut self, rejection: Rejection, now: Duration) {
        self.disconnected(rejection.to_string(), now);
        if Link::is_final(&rejection) {
            self.end(rejection);
        }
    }

    /// The connection is gone, or could not be made.
    pub fn disconnected(&mut self, reason: String, now: Duration) {
        self.asked.clear();
        self.ready.clear();
        self.lanes_to_ask.clear();
        self.leave = None;
        self.lanes.values_mut().for_each(Lane::disconnected);
        self.consumers.values_mut().for_each(Consumer::disconnected);
        self.tokens.values_mut().for_each(Settling::disconnected);
        self.news.extend(self.lanes.keys().chain(self.consumers.keys()));
        self.news.append(&mut self.leaving);
        if let Some(retry_in) = self.link.lost(now) {
            self.last_loss.clone_from(&reason);
            self.event(ConnectionEvent::Reconnecting { reason, retry_in });
        }
        self.sweep();
    }

    /// The conversation is over: everything gets its answer.
    pub fn end(&mut self, rejection: Rejection) {
        for lane in self.lanes.values_mut().filter(|lane| lane.failed().is_none()) {
            lane.fail(rejection.clone());
        }
        for consumer in self.consumers.values_mut().filter(|consumer| consumer.failed().is_none()) {
            consumer.fail(rejection.clone());
        }
        self.news.extend(self.lanes.keys().chain(self.consumers.keys()).chain(self.tokens.keys()));
        self.event(ConnectionEvent::Closed { reason: rejection.to_string() });
        self.link.end(rejection);
    }

    /// Why the conversation is over.
    pub fn ended(&self) -> Option<&Rejection> {
        self.link.ended()
    }

    /// The server connected now.
    pub fn welcome(&self) -> Option<&Welcome> {
        self.link.welcome()
    }

    /// Time passes: deadlines, silence.
    pub fn tick(&mut self, now: Duration) {
        self.give_up_openings(now);
        for (key, consumer) in &mut self.consumers {
            if consumer.tick(now) {
                self.news.insert(*key);
            }
        }
        for (key, lane) in &mut self.lanes {
            lane.tick(now);
            if lane.has_reports() {
                self.news.insert(*key);
            }
        }
        let owing = self.owing();
        if self.link.ping(now) {
            self.last_nonce += 1;
            self.ready.push_back(crate::wire::Ping { nonce: self.last_nonce }.into());
        }
        if let Some(reason) = self.link.stuck(owing, now) {
            self.leave.get_or_insert_with(|| reason.to_string());
        }
        self.sweep();
    }

    /// What no server has known within its time is refused; without any server, everything.
    fn give_up_openings(&mut self, now: Duration) {
        let no_answer = |what: &str, loss: &str| {
            let mut message = format!("no server answered in time, {what}");
            if !loss.is_empty() {
                message = format!("{message}; the last problem was: {loss}");
            }
            Rejection::new(Code::NoLeader, message)
                .hint("check the addresses, and the cluster's status")
        };
        if self.connect_by.is_some_and(|by| by <= now) {
            self.connect_by = None;
            self.end(no_answer("there is no connection", &self.last_loss));
        }
        let due: Vec<Key> =
            self.openings.iter().filter(|(_, by)| **by <= now).map(|(&key, _)| key).collect();
        for key in due {
            self.opened(key);
            let refusal = || no_answer("so the lane or consumer was not opened", &self.last_loss);
            if let Some(lane) = self.lanes.get_mut(&key) {
                lane.fail(refusal());
            }
            if let Some(consumer) = self.consumers.get_mut(&key) {
                consumer.fail(refusal());
            }
        }
    }

    /// A server knows this key, or refused it.
    fn opened(&mut self, key: Key) {
        self.openings.remove(&key);
        self.news.insert(key);
    }

    /// Why the present connection should be dropped, if it should.
    pub fn should_leave(&self) -> Option<&str> {
        self.leave.as_deref()
    }

    /// When to call [`Self::tick`] and [`Self::transmit`] again if nothing else happens.
    pub fn wake_at(&self) -> Option<Duration> {
        let lanes = self.lanes.values().filter_map(Lane::wake_at);
        let up = self.link.welcome().is_some();
        let consumers = self.consumers.values().filter_map(Consumer::wake_at);
        let tokens = self.tokens.values().filter_map(Settling::wake_at);
        let asks = self.lanes_to_ask.values().copied();
        let talk = consumers.chain(tokens).chain(asks).filter(|_| up);
        let givings_up = self.openings.values().copied().chain(self.connect_by);
        let fetches = self.consumers.values().filter_map(Consumer::patience_ends);
        let always = lanes.chain(givings_up).chain(fetches);
        always.chain(talk).chain(self.link.wake_at(self.owing())).min()
    }

    /// Whether the server owes any answer.
    fn owing(&self) -> bool {
        !self.asked.values().all(|asked| matches!(asked, Asked::Pull(_) | Asked::Serve(_)))
            || self.lanes.values().any(Lane::awaits)
            || self.consumers.values().any(Consumer::awaits)
            || self.tokens.values().any(Settling::awaits)
    }

    /// Whether every event is answered and every verdict confirmed.
    pub fn is_idle(&self) -> bool {
        self.lanes.values().all(|lane| lane.unanswered() == 0)
            && self.consumers.values().all(|consumer| consumer.settling.is_idle())
            && self.tokens.values().all(Settling::is_idle)
    }

    /// Keys with something new for their holders since the last call.
    pub fn news(&mut self) -> BTreeSet<Key> {
        std::mem::take(&mut self.news)
    }

    /// The next event about the connection, for observers.
    pub fn poll_event(&mut self) -> Option<ConnectionEvent> {
        self.events.pop_front()
    }

    fn event(&mut self, event: ConnectionEvent) {
        if self.events.len() >= EVENTS_MAX {
            self.events.pop_front();
        }
        self.events.push_back(event);
    }

    /// Forgets what the user is done with and nothing is left to do for.
    fn sweep(&mut self) {
        let lanes = &mut self.lanes;
        self.lanes_left.retain(|key| {
            let busy =
                lanes.get(key).is_some_and(|lane| lane.unanswered() > 0 || lane.has_reports());
            if !busy {
                lanes.remove(key);
            }
            busy
        });
        self.consumers.retain(|_, consumer| !consumer.is_over());
        let (lanes, consumers) = (&self.lanes, &self.consumers);
        self.openings.retain(|key, _| lanes.contains_key(key) || consumers.contains_key(key));
    }
}
