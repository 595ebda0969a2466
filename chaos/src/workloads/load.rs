//! What a load consists of: plain data, so that a run can be printed and drawn from a seed.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::history::{Asks, Wish};

/// Who publishes and who consumes, and how they behave.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Load {
    pub suppliers: Vec<SupplierSpec>,
    /// Durable consumers; they exist before the first event is published.
    pub consumers: Vec<ConsumerSpec>,
    /// Ephemeral consumers.
    pub listeners: Vec<ListenerSpec>,
    /// Somebody who changes the durable consumers while they work.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operator: Option<OperatorSpec>,
    pub patience: Patience,
}

impl Default for Load {
    /// Three suppliers (one crashes now and then), a push and a pull consumer of two clients each
    /// with mixed behaviour, and a listener.
    fn default() -> Load {
        let crashing = SupplierSpec {
            lane: LaneKind::Named("orders".into()),
            crash_every: Some(Span::ms(1_500, 4_000)),
            ..SupplierSpec::default()
        };
        let audit = ConsumerSpec { mode: Mode::Pull, ..ConsumerSpec::new("audit") };
        Load {
            suppliers: vec![SupplierSpec::default(), SupplierSpec::default(), crashing],
            consumers: vec![ConsumerSpec::new("worker"), audit],
            listeners: vec![ListenerSpec::new("tail")],
            operator: None,
            patience: Patience::default(),
        }
    }
}

/// From how much to how much; what is drawn lies between, both included.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Span {
    pub least: u64,
    pub most: u64,
}

impl Span {
    /// A span of milliseconds.
    pub const fn ms(least: u64, most: u64) -> Span {
        Span { least, most }
    }

    /// A span of bytes.
    pub const fn bytes(least: u64, most: u64) -> Span {
        Span { least, most }
    }

    /// A value from it.
    pub fn draw(&self, rng: &mut fastrand::Rng) -> u64 {
        rng.u64(self.least..=self.most.max(self.least))
    }

    /// A time from it, if it is one of milliseconds.
    pub fn draw_ms(&self, rng: &mut fastrand::Rng) -> Duration {
        Duration::from_millis(self.draw(rng))
    }
}

/// Which lane a supplier publishes on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LaneKind {
    /// A new lane with each life of the supplier.
    Fresh,
    /// The lane of this name, taken up again after a crash; what had no answer is published again
    /// under its number.
    Named(String),
}

/// A supplier.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SupplierSpec {
    pub channel: String,
    pub lane: LaneKind,
    /// Events a second; 0: as fast as the answers come.
    pub rate: u64,
    /// Events that may wait for an answer.
    pub in_flight: usize,
    /// Bytes of a body.
    pub bytes: Span,
    /// An event without an answer is given up after this long.
    pub deadline_ms: u64,
    /// Time between crashes of the supplier; `None`: it does not crash.
    pub crash_every: Option<Span>,
    /// It ends after so many events; 0: without limit.
    pub events_max: u64,
    /// What its events ask for.
    #[serde(skip_serializing_if = "Wants::is_none")]
    pub asks: Wants,
}

impl Default for SupplierSpec {
    fn default() -> SupplierSpec {
        SupplierSpec {
            channel: "default".into(),
            lane: LaneKind::Fresh,
            rate: 200,
            in_flight: 256,
            bytes: Span::bytes(16, 512),
            deadline_ms: 5_000,
            crash_every: None,
            events_max: 0,
            asks: Wants::default(),
        }
    }
}

/// What events ask for, each by its own chance.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Wants {
    /// The share of them that has a priority, from -3 to 3.
    pub priority: f64,
    /// The share that has a timeout, and which, in milliseconds.
    pub timeout: f64,
    pub timeout_ms: Span,
    /// The share that has a start time, and how far from now.
    pub start: f64,
    pub start_in: Span,
    /// The share that has a stop time, and how far from now.
    pub stop: f64,
    pub stop_in: Span,
}

impl Wants {
    /// Something of everything.
    pub fn mixed() -> Wants {
        Wants {
            priority: 0.5,
            timeout: 0.1,
            timeout_ms: Span::ms(50, 3_000),
            start: 0.1,
            start_in: Span::ms(0, 2_000),
            stop: 0.1,
            stop_in: Span::ms(50, 4_000),
        }
    }

    fn is_none(&self) -> bool {
        *self == Wants::default()
    }

    /// What one event asks for, made up at this moment of the wall clock. Nothing is drawn where
    /// nothing is wanted.
    pub fn draw(&self, rng: &mut fastrand::Rng, now: Duration) -> Asks {
        let mut asks = Asks::default();
        if self.is_none() {
            return asks;
        }
        let now = now.as_millis() as u64;
        if rng.f64() < self.priority {
            asks.priority = rng.i16(-3..=3);
        }
        if rng.f64() < self.timeout {
            asks.timeout_ms = self.timeout_ms.draw(rng) as u32;
        }
        if rng.f64() < self.start {
            asks.start_ms = now + self.start_in.draw(rng);
        }
        if rng.f64() < self.stop {
            asks.stop_ms = now + self.stop_in.draw(rng);
        }
        asks
    }
}

/// Somebody who changes what is set for durable consumers, and suspends and resumes them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OperatorSpec {
    /// Time between changes.
    pub every: Span,
    /// How long a consumer is suspended.
    pub suspended: Span,
}

/// How a consumer gets its events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    Push,
    Pull,
}

/// A durable consumer: a proxy, and the clients that share it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConsumerSpec {
    pub name: String,
    pub channel: String,
    pub mode: Mode,
    pub clients: u32,
    /// Lease of a delivery.
    pub ack_wait_ms: u64,
    /// Deliveries of an event before it becomes a dead letter; 0: without limit.
    pub max_deliveries: u32,
    /// Unsettled deliveries at a time, over all clients.
    pub max_in_flight: u32,
    /// Events a client holds that it has not looked at; events of one pull.
    pub credit: u32,
    pub behaviour: Behaviour,
    /// What is set for its proxy from the beginning.
    #[serde(default, skip_serializing_if = "Wish::is_empty")]
    pub qos: Wish,
}

impl ConsumerSpec {
    /// A consumer of two clients that are sent events and behave as a mixed lot.
    pub fn new(name: &str) -> ConsumerSpec {
        ConsumerSpec {
            name: name.into(),
            channel: "default".into(),
            mode: Mode::Push,
            clients: 2,
            ack_wait_ms: 2_000,
            max_deliveries: 0,
            max_in_flight: 4_096,
            credit: 512,
            behaviour: Behaviour::default(),
            qos: Wish::new(),
        }
    }
}

/// What the clients of a consumer do with an event: with these probabilities something odd, else
/// they acknowledge it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Behaviour {
    pub nack: f64,
    pub nack_delay: Span,
    /// No verdict at all, until the drain.
    pub hold: f64,
    pub terminate: f64,
    /// After a batch: nothing is taken or settled for a while.
    pub stall: f64,
    pub stall_time: Span,
    /// Work on a batch before its verdicts.
    pub work: Span,
    /// Time until a client goes without a word; another comes after `away`. `None`: it stays.
    pub vanish_every: Option<Span>,
    pub away: Span,
}

impl Default for Behaviour {
    /// A mixed lot.
    fn default() -> Behaviour {
        Behaviour {
            nack: 0.02,
            nack_delay: Span::ms(0, 300),
            hold: 0.01,
            terminate: 0.0,
            stall: 0.005,
            stall_time: Span::ms(100, 2_500),
            work: Span::ms(0, 3),
            vanish_every: Some(Span::ms(2_000, 8_000)),
            away: Span::ms(0, 800),
        }
    }
}

impl Behaviour {
    /// Acknowledges everything at once and stays.
    pub fn good() -> Behaviour {
        Behaviour {
            nack: 0.0,
            hold: 0.0,
            stall: 0.0,
            work: Span::ms(0, 0),
            vanish_every: None,
            ..Behaviour::default()
        }
    }
}

/// An ephemeral consumer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListenerSpec {
    pub name: String,
    pub channel: String,
}

impl ListenerSpec {
    /// A listener on the default channel.
    pub fn new(name: &str) -> ListenerSpec {
        ListenerSpec { name: name.into(), channel: "default".into() }
    }
}

/// How patient the clients are with a server; see the product's client options.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Patience {
    pub connect_ms: u64,
    pub ping_ms: u64,
    pub silence_ms: u64,
}

impl Default for Patience {
    fn default() -> Patience {
        Patience { connect_ms: 5_000, ping_ms: 500, silence_ms: 1_500 }
    }
}
