//! What a client is told when it is made.

use std::time::Duration;

use crate::types::{LaneId, Name, Qos, Start, Subscription, TypePattern, limits};

/// How to reach a cluster, and how patient to be.
#[derive(Debug, Clone)]
pub struct Options {
    /// Addresses (`host:port`) of members, any of them, tried in turn.
    pub servers: Vec<String>,
    /// The client token of the cluster; empty if it asks for none.
    pub token: String,
    /// What the servers' logs call this client.
    pub name: String,
    /// Pauses between attempts to connect, and before a refused request is made again.
    pub backoff: Backoff,
    /// Dial and handshake together may take this long. Of several servers each gets less at first,
    /// so that one which hangs does not hold up the client.
    pub handshake_timeout: Duration,
    /// [`super::Client::connect`] gives up after this long without a connection. Later losses of
    /// the connection have no such limit: each request has its own.
    pub connect_timeout: Duration,
    /// A silent server is asked for a sign of life after this long.
    pub ping_after: Duration,
    /// A server that is silent for this long is left for another.
    pub silence_timeout: Duration,
    /// So is one that speaks, and leaves requests unanswered for this long.
    pub answer_timeout: Duration,
}

impl Options {
    /// The defaults, for a cluster reached by any of `servers`.
    pub fn new<S: Into<String>>(servers: impl IntoIterator<Item = S>) -> Options {
        Options {
            servers: servers.into_iter().map(Into::into).collect(),
            token: String::new(),
            name: "client".into(),
            backoff: Backoff::default(),
            handshake_timeout: Duration::from_secs(2),
            connect_timeout: Duration::from_secs(10),
            ping_after: Duration::from_millis(400),
            silence_timeout: Duration::from_millis(1200),
            answer_timeout: Duration::from_secs(4),
        }
    }

    /// The same with a token.
    pub fn token(mut self, token: impl Into<String>) -> Options {
        self.token = token.into();
        self
    }

    /// The same with a name.
    pub fn name(mut self, name: impl Into<String>) -> Options {
        self.name = name.into();
        self
    }
}

/// Exponential pauses with jitter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// The first pause.
    pub initial: Duration,
    /// No pause is longer.
    pub max: Duration,
}

impl Default for Backoff {
    fn default() -> Backoff {
        Backoff { initial: Duration::from_millis(10), max: Duration::from_millis(500) }
    }
}

impl Backoff {
    /// The pause before attempt number `attempt` (from 0): doubles from `initial` up to `max`, and
    /// `random` takes up to half of it away.
    pub fn pause(&self, attempt: u32, random: u64) -> Duration {
        let doubled = self.initial.saturating_mul(1u32 << attempt.min(20));
        let full = doubled.min(self.max).as_micros() as u64;
        let spread = full / 2 + 1;
        Duration::from_micros(full - random % spread)
    }
}

/// Which lane a publisher publishes on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum LaneChoice {
    /// A new lane of its own.
    #[default]
    Fresh,
    /// The lane of this name in the channel, created if there is none: a supplier that starts
    /// again continues where it stopped. Whoever opens it last owns it; the others are fenced,
    /// also publishers of the same client.
    Named(Name),
    /// The lane of this id, from an earlier run.
    Existing(LaneId),
}

/// How a publisher behaves.
#[derive(Debug, Clone)]
pub struct PublishOptions {
    pub lane: LaneChoice,
    /// The supplier admin of a new lane; an existing one must be of it. `None`: the default one, or
    /// whichever an existing one is of.
    pub admin: Option<Name>,
    /// The supplier serves a source, and the lane is polled: see [`super::PullSupplier`]. Its events
    /// have no deadline; they are offered until they are answered.
    pub polled: bool,
    /// Lane sequence of the first event. `None`: the one after the last accepted. A smaller one
    /// repeats: events accepted before are answered as duplicates with their original place.
    pub first_sequence: Option<u64>,
    /// An event not answered after this long is given up: [`super::PublishError`] then says
    /// whether it was refused or its outcome is unknown.
    pub deadline: Duration,
    /// Events that may wait for an answer, at most [`limits::LANE_IN_FLIGHT_MAX`]. Beyond it
    /// publishing waits.
    pub in_flight_events: usize,
    /// The same in bytes.
    pub in_flight_bytes: usize,
}

impl Default for PublishOptions {
    fn default() -> PublishOptions {
        PublishOptions {
            lane: LaneChoice::Fresh,
            admin: None,
            polled: false,
            first_sequence: None,
            deadline: Duration::from_secs(30),
            in_flight_events: limits::LANE_IN_FLIGHT_MAX,
            in_flight_bytes: 16 << 20,
        }
    }
}

impl From<LaneChoice> for PublishOptions {
    fn from(lane: LaneChoice) -> PublishOptions {
        PublishOptions { lane, ..PublishOptions::default() }
    }
}

/// How a consumer behaves.
#[derive(Debug, Clone)]
pub struct SubscribeOptions {
    /// `Some`: a durable consumer, which competes with others of its name. `None`: an ephemeral
    /// one, which sees every event while it is connected and acknowledges nothing.
    pub name: Option<Name>,
    /// Where it begins; for a durable consumer that exists already it is ignored.
    pub from: Start,
    /// The consumer admin of a new durable consumer; an existing one must be of it. `None`: the
    /// default one, or whichever an existing one is of.
    pub admin: Option<Name>,
    /// What is set for a new durable consumer itself; an existing one must have all of it.
    pub qos: Qos,
    /// The types of events it wants; none named: all. An existing durable consumer must want the same,
    /// or is taken as it is if none are named.
    pub types: Subscription,
    /// Events delivered and not taken from the client, at most [`limits::CREDIT_EVENTS_MAX`].
    pub credit_events: u32,
    /// The same in bytes, at most [`limits::CREDIT_BYTES_MAX`].
    pub credit_bytes: u64,
    /// Settled events whose settlement is not confirmed. Beyond it settling waits.
    pub unconfirmed_max: usize,
    /// How long attaching may take, and how long a fetch goes on without a server after its own
    /// wait is over.
    pub deadline: Duration,
}

impl Default for SubscribeOptions {
    fn default() -> SubscribeOptions {
        SubscribeOptions {
            name: None,
            from: Start::New,
            admin: None,
            qos: Qos::default(),
            types: Subscription::default(),
            credit_events: 8192,
            credit_bytes: 8 << 20,
            unconfirmed_max: 65_536,
            deadline: Duration::from_secs(30),
        }
    }
}

impl SubscribeOptions {
    /// A durable consumer of this name.
    pub fn durable(name: Name) -> SubscribeOptions {
        SubscribeOptions { name: Some(name), ..SubscribeOptions::default() }
    }

    /// The same, beginning elsewhere.
    pub fn from(mut self, from: Start) -> SubscribeOptions {
        self.from = from;
        self
    }

    /// The same, wanting events that one of these patterns picks.
    pub fn types(mut self, patterns: impl IntoIterator<Item = TypePattern>) -> SubscribeOptions {
        self.types = patterns.into_iter().collect();
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_stay_bounded() {
        let backoff = Backoff::default();
        for attempt in [0, 1, 2, 5, 6, 40, u32::MAX] {
            for random in [0, 1, 77, u64::MAX] {
                let pause = backoff.pause(attempt, random);
                let full = backoff.initial * (1 << attempt.min(10));
                assert!(pause <= full.min(backoff.max), "{attempt} {random}: {pause:?}");
                assert!(pause >= full.min(backoff.max) / 2, "{attempt} {random}: {pause:?}");
            }
        }
    }
}
