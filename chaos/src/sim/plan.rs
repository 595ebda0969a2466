//! What a seed stands for: a cluster, a load, and a schedule of faults. Plain data, so that it can
//! be printed and shortened.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::weather::Weather;
use crate::workloads::{
    Behaviour, ConsumerSpec, LaneKind, ListenerSpec, Load, Mode, OperatorSpec, Span, SupplierSpec,
    Wants, draw_beginning,
};

/// Faults end, and healing begins, this long after the load began.
pub const FAULTS_FOR: Duration = Duration::from_secs(13);
/// Load goes on this long after healing began.
pub const HEAL_FOR: Duration = Duration::from_secs(3);
/// Everything must be settled this long after the load ended.
pub const DRAIN_MAX: Duration = Duration::from_secs(40);

/// A whole run.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    #[serde(with = "super::exact")]
    pub seed: u64,
    pub nodes: u64,
    pub tail_bytes: usize,
    pub database_bytes: u64,
    pub snapshot_log_bytes: u64,
    pub payload_cache_bytes: usize,
    /// Time between rounds of a log's writer.
    pub pump_us: u64,
    pub weather: Weather,
    /// Of each node's clocks, in parts per million.
    pub drift_ppm: Vec<i64>,
    /// Of each node's wall clock, in milliseconds.
    pub ahead_ms: Vec<i64>,
    pub load: Load,
    pub steps: Vec<Timed>,
}

/// A fault and when it begins.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Timed {
    /// After the load began.
    pub at_ms: u64,
    pub step: Step,
}

/// Whom a fault hits, found out when it begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Who {
    Leader,
    /// One that does not lead, by number.
    Follower(u64),
    /// A majority, the leader in it or not.
    Majority(bool),
    All,
}

/// What a crash leaves of that which was not synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Left {
    /// All: the process died, the kernel lives.
    Everything,
    /// Nothing: the power went.
    Nothing,
    /// By chance, torn writes among it.
    Some,
}

/// Which links are blocked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cut {
    /// All links of the one, both ways.
    Around(Who),
    /// What the one sends.
    From(Who),
    /// What is sent to the one.
    To(Who),
    /// The one reaches its peers, and they it; but the followers do not reach each other.
    BetweenFollowers,
    /// Two sides that share one node.
    Bridge,
    /// Each node reaches only its neighbours in a ring, which are a majority with it.
    Ring,
    /// Clients are cut off from the one; nodes are not.
    Clients(Who),
}

/// A fault, with its own end: leaving one out leaves the others what they are.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Step {
    /// Processes die and are started again.
    Crash {
        who: Who,
        left: Left,
        silent: bool,
        for_ms: u64,
    },
    /// The power goes in the middle of what the disk does: after so many more changes.
    CutPowerWithin {
        who: Who,
        changes: u64,
        for_ms: u64,
    },
    /// The power goes so many changes after the disk has removed a file.
    CutPowerAtRemoval {
        who: Who,
        changes: u64,
        for_ms: u64,
    },
    /// A process ends in order and is started again.
    Restart {
        who: Who,
        for_ms: u64,
    },
    Partition {
        cut: Cut,
        for_ms: u64,
    },
    Storm {
        weather: Weather,
        for_ms: u64,
    },
    /// One node's links are bad.
    BadLink {
        who: Who,
        weather: Weather,
        for_ms: u64,
    },
    SlowDisk {
        who: Who,
        longest_ms: u64,
        for_ms: u64,
    },
    FailingSync {
        who: Who,
        for_ms: u64,
    },
    FullDisk {
        who: Who,
        for_ms: u64,
        /// Bytes that stay free.
        #[serde(default)]
        leave: u64,
    },
    /// A process dies, one bit on its disk flips, and it is started again.
    FlipBit {
        who: Who,
        #[serde(with = "super::exact")]
        choice: u64,
    },
    /// A process dies, its whole log vanishes from the disk, and it is started again.
    LoseLog {
        who: Who,
    },
    /// A wall clock jumps.
    Clock {
        who: Who,
        ahead_ms: i64,
    },
    Transfer,
    /// A node joins.
    Grow,
    /// A node is removed, if enough remain.
    Shrink {
        who: Who,
    },
}

impl Step {
    /// Its name in coverage and records.
    pub fn name(&self) -> &'static str {
        match self {
            Step::Crash { left: Left::Everything, .. } => "kill",
            Step::Crash { .. } => "power-cut",
            Step::CutPowerWithin { .. } => "power-cut-midway",
            Step::CutPowerAtRemoval { .. } => "power-cut-at-removal",
            Step::Restart { .. } => "restart",
            Step::Partition { cut, .. } => cut.name(),
            Step::Storm { .. } => "storm",
            Step::BadLink { .. } => "bad-link",
            Step::SlowDisk { .. } => "slow-disk",
            Step::FailingSync { .. } => "failing-sync",
            Step::FullDisk { .. } => "full-disk",
            Step::FlipBit { .. } => "flip-bit",
            Step::LoseLog { .. } => "lost-log",
            Step::Clock { .. } => "clock-jump",
            Step::Transfer => "transfer",
            Step::Grow => "grow",
            Step::Shrink { .. } => "shrink",
        }
    }
}

impl Cut {
    fn name(self) -> &'static str {
        match self {
            Cut::Around(_) => "partition",
            Cut::From(_) | Cut::To(_) => "one-way-partition",
            Cut::BetweenFollowers => "partial-partition",
            Cut::Bridge => "bridge-partition",
            Cut::Ring => "ring-partition",
            Cut::Clients(_) => "clients-cut-off",
        }
    }
}

/// Draws the plan of a seed.
pub fn draw(seed: u64) -> Plan {
    let mut rng = fastrand::Rng::with_seed(seed ^ 0xa9_0e_dc_75);
    let rng = &mut rng;
    let nodes = *pick(rng, &[3, 3, 3, 5]);
    let calm =
        Weather { latency_us: rng.u64(50..1500), jitter_us: rng.u64(0..1500), loss_per_mille: 0 };
    Plan {
        seed,
        nodes,
        tail_bytes: 1 << rng.u32(14..21),
        database_bytes: 1 << rng.u32(15..20),
        snapshot_log_bytes: 1 << rng.u32(16..21),
        payload_cache_bytes: 1 << rng.u32(12..22),
        pump_us: *pick(rng, &[300, 1_000, 3_000]),
        weather: calm,
        drift_ppm: (0..nodes).map(|_| rng.i64(-200..=200)).collect(),
        ahead_ms: (0..nodes).map(|_| *pick(rng, &[0, 0, 40, -300, 5_000])).collect(),
        load: qualified(load(rng), seed),
        steps: steps(rng),
    }
}

fn pick<'a, T>(rng: &mut fastrand::Rng, from: &'a [T]) -> &'a T {
    &from[rng.usize(..from.len())]
}

fn load(rng: &mut fastrand::Rng) -> Load {
    let supplier = |number: u32, rng: &mut fastrand::Rng| SupplierSpec {
        lane: match rng.bool() {
            true => LaneKind::Named(format!("lane-{number}")),
            false => LaneKind::Fresh,
        },
        rate: rng.u64(10..120),
        in_flight: rng.usize(1..200),
        bytes: Span::bytes(8, *pick(rng, &[64, 400, 2_000])),
        deadline_ms: *pick(rng, &[1_000, 5_000, 30_000]),
        crash_every: rng.bool().then(|| Span::ms(1_000, 6_000)),
        ..SupplierSpec::default()
    };
    let consumer = |number: u32, rng: &mut fastrand::Rng| {
        let behaviour = if rng.u8(0..4) == 0 { Behaviour::good() } else { behaviour(rng) };
        ConsumerSpec {
            mode: if rng.u8(0..3) == 0 { Mode::Pull } else { Mode::Push },
            clients: rng.u32(1..4),
            // Time may run a tenth slow, and leases with it: they end well before anybody is called stuck.
            ack_wait_ms: rng.u64(600..2_000),
            max_deliveries: *pick(rng, &[0, 0, 5]),
            max_in_flight: *pick(rng, &[8, 64, 4_096]),
            credit: *pick(rng, &[4, 64, 512]),
            behaviour,
            ..ConsumerSpec::new(&format!("worker-{number}"))
        }
    };
    Load {
        suppliers: (0..rng.u32(1..4)).map(|number| supplier(number, rng)).collect(),
        consumers: (0..rng.u32(1..4)).map(|number| consumer(number, rng)).collect(),
        listeners: (0..rng.u32(0..2)).map(|_| ListenerSpec::new("tail")).collect(),
        ..Load::default()
    }
}

/// Half of the seeds ask for quality of service: events with priorities and times, consumers with
/// orders and limits, and an operator who changes them. Drawn by itself, so that all else of a seed
/// is what it would be without.
fn qualified(mut load: Load, seed: u64) -> Load {
    if (seed >> 1) & 1 == 0 {
        return load;
    }
    let rng = &mut fastrand::Rng::with_seed(seed ^ 0x0a_5c_ed_09);
    for supplier in &mut load.suppliers {
        supplier.asks = if rng.u8(..4) > 0 { Wants::mixed() } else { Wants::default() };
    }
    for consumer in &mut load.consumers {
        consumer.qos = draw_beginning(rng);
    }
    let (every, suspended) = (Span::ms(50, *pick(rng, &[300, 1_500])), Span::ms(50, 1_200));
    load.operator = (rng.u8(..4) > 0).then_some(OperatorSpec { every, suspended });
    load
}

fn behaviour(rng: &mut fastrand::Rng) -> Behaviour {
    Behaviour {
        nack: *pick(rng, &[0.0, 0.02, 0.2]),
        hold: *pick(rng, &[0.0, 0.0, 0.02]),
        terminate: *pick(rng, &[0.0, 0.0, 0.01]),
        stall: *pick(rng, &[0.0, 0.005]),
        vanish_every: rng.bool().then(|| Span::ms(1_000, 5_000)),
        ..Behaviour::default()
    }
}

/// Which kinds of fault are active, each by its own draw, and how often the active ones come.
fn steps(rng: &mut fastrand::Rng) -> Vec<Timed> {
    let mut kinds: Vec<fn(&mut fastrand::Rng) -> Step> = Vec::new();
    for kind in KINDS {
        if rng.u8(0..100) < 35 {
            kinds.push(*kind);
        }
    }
    if kinds.is_empty() {
        kinds.push(crash);
    }
    let count = rng.u64(1..14);
    let mut steps: Vec<Timed> = (0..count)
        .map(|_| Timed {
            at_ms: rng.u64(0..FAULTS_FOR.as_millis() as u64 - 500),
            step: pick(rng, &kinds)(rng),
        })
        .collect();
    steps.sort_by_key(|timed| timed.at_ms);
    steps
}

const KINDS: &[fn(&mut fastrand::Rng) -> Step] = &[
    crash,
    crash,
    midway,
    at_removal,
    restart,
    partition,
    partition,
    storm,
    bad_link,
    slow_disk,
    |rng| Step::FailingSync { who: who(rng), for_ms: rng.u64(100..2_000) },
    |rng| Step::FullDisk {
        who: who(rng),
        for_ms: rng.u64(100..4_000),
        leave: *pick(rng, &[0, 0, 20_000, 60_000]),
    },
    |rng| Step::FlipBit { who: one(rng), choice: rng.u64(..) },
    |rng| Step::LoseLog { who: one(rng) },
    |rng| Step::Clock {
        who: one(rng),
        ahead_ms: *pick(rng, &[-60_000, -500, 300, 10_000, 3_600_000]),
    },
    |_| Step::Transfer,
    |_| Step::Grow,
    |rng| Step::Shrink { who: one(rng) },
];

fn one(rng: &mut fastrand::Rng) -> Who {
    if rng.bool() { Who::Leader } else { Who::Follower(rng.u64(0..8)) }
}

fn who(rng: &mut fastrand::Rng) -> Who {
    match rng.u8(0..10) {
        0 => Who::All,
        1 => Who::Majority(true),
        2 => Who::Majority(false),
        _ => one(rng),
    }
}

fn crash(rng: &mut fastrand::Rng) -> Step {
    Step::Crash {
        who: who(rng),
        left: *pick(rng, &[Left::Everything, Left::Nothing, Left::Some, Left::Some]),
        silent: rng.bool(),
        for_ms: rng.u64(1..3_000),
    }
}

fn midway(rng: &mut fastrand::Rng) -> Step {
    Step::CutPowerWithin { who: who(rng), changes: rng.u64(0..60), for_ms: rng.u64(1..1_500) }
}

fn at_removal(rng: &mut fastrand::Rng) -> Step {
    Step::CutPowerAtRemoval { who: who(rng), changes: rng.u64(0..5), for_ms: rng.u64(1..1_500) }
}

fn restart(rng: &mut fastrand::Rng) -> Step {
    Step::Restart { who: one(rng), for_ms: rng.u64(1..1_000) }
}

fn partition(rng: &mut fastrand::Rng) -> Step {
    let cut = match rng.u8(0..8) {
        0 | 1 => Cut::Around(who(rng)),
        2 => Cut::From(one(rng)),
        3 => Cut::To(one(rng)),
        4 => Cut::BetweenFollowers,
        5 => Cut::Bridge,
        6 => Cut::Ring,
        _ => Cut::Clients(one(rng)),
    };
    Step::Partition { cut, for_ms: rng.u64(100..5_000) }
}

fn storm(rng: &mut fastrand::Rng) -> Step {
    Step::Storm { weather: bad_weather(rng), for_ms: rng.u64(200..4_000) }
}

fn bad_link(rng: &mut fastrand::Rng) -> Step {
    Step::BadLink { who: one(rng), weather: bad_weather(rng), for_ms: rng.u64(200..4_000) }
}

fn bad_weather(rng: &mut fastrand::Rng) -> Weather {
    Weather {
        latency_us: *pick(rng, &[200, 5_000, 60_000]),
        jitter_us: *pick(rng, &[100, 20_000, 150_000]),
        loss_per_mille: *pick(rng, &[0, 10, 100, 300]),
    }
}

fn slow_disk(rng: &mut fastrand::Rng) -> Step {
    Step::SlowDisk {
        who: who(rng),
        longest_ms: *pick(rng, &[10, 80, 400, 1_500]),
        for_ms: rng.u64(200..4_000),
    }
}
