//! Consumers that are slow, stuck, crash, or settle nothing.

use super::crashes::kill;
use super::{BUSY_SNAPSHOTS, DEFAULT};
use crate::faults::whom::Whom;
use crate::scenarios::{Plan, Scenario};
use crate::workloads::{
    Behaviour, ConsumerSpec, LaneKind, ListenerSpec, Load, Mode, Span, SupplierSpec,
};

pub const ALL: &[Scenario] = &[
    Scenario {
        name: "consumers-after-a-leader-change",
        guards: "a consumer that must not be stuck after a leader change (nats-server #7664, \
                 rabbitmq-server #17317): many consumers, many kills, each goes on in time",
        smoke: true,
        load: many_consumers,
        plan: |_| Plan::of(Span::ms(1_500, 3_000), [(kill(Whom::Leader), Span::ms(300, 1_500))]),
        required: &[("fault:kill(leader)", 2), ("duplicates", 1)],
        ..DEFAULT
    },
    Scenario {
        name: "slow-stuck-and-crashing-consumers",
        guards: "consumers that are slow, stall for seconds, hold events and vanish: each event \
                 comes again until it is settled, and the others are not held up",
        load: misfits,
        plan: |_| Plan::of(Span::ms(4_000, 9_000), [(kill(Whom::One), Span::ms(500, 2_000))]),
        required: &[("consumers_vanished", 3), ("consumers_stalled", 3), ("duplicates", 10)],
        ..DEFAULT
    },
    Scenario {
        name: "unacked-events-do-not-fill-the-disk",
        guards: "events that one consumer never settles must not keep everybody's log \
                 (nats-server #15473): disk use follows what is pending, not what was published",
        bed: BUSY_SNAPSHOTS,
        load: one_never_acks,
        plan: |_| Plan::of(Span::ms(10_000, 15_000), [(kill(Whom::Leader), Span::ms(0, 500))]),
        seconds: 90,
        // Held is a hundredth of what is published. A node's own needs are two databases of the log
        // (64 MiB each), the history and two snapshots.
        rules: |rules| rules.disk_bytes_max = 256 << 20,
        required: &[("acked", 300_000)],
        ..DEFAULT
    },
    Scenario {
        name: "backlog-beyond-memory",
        guards: "a backlog that a sleeping consumer leaves, many times what nodes keep of the log                  in memory: it costs disk and not memory, also while nodes die and come back with                  it, and is delivered in order afterwards",
        load: one_sleeps,
        plan: |_| {
            let kills = [Whom::Leader, Whom::Follower].map(|whom| (kill(whom), Span::ms(0, 2_000)));
            Plan::of(Span::ms(8_000, 12_000), kills)
        },
        rules: |rules| rules.rss_bytes_max = 400 << 20,
        required: &[("acked", 300_000), ("fault:kill(leader)", 1)],
        ..DEFAULT
    },
];

fn many_consumers(_: &mut fastrand::Rng) -> Load {
    let consumer = |number: u32| ConsumerSpec {
        mode: if number.is_multiple_of(2) { Mode::Push } else { Mode::Pull },
        clients: 1 + number % 3,
        behaviour: if number < 4 { Behaviour::good() } else { Behaviour::default() },
        ..ConsumerSpec::new(&format!("worker-{number}"))
    };
    let named = SupplierSpec { lane: LaneKind::Named("orders".into()), ..SupplierSpec::default() };
    Load {
        suppliers: vec![SupplierSpec { rate: 100, ..SupplierSpec::default() }, named],
        consumers: (0..8).map(consumer).collect(),
        ..Load::default()
    }
}

fn misfits(_: &mut fastrand::Rng) -> Load {
    let consumer = |name: &str, behaviour| ConsumerSpec {
        behaviour,
        clients: 3,
        max_in_flight: 2_000,
        ..ConsumerSpec::new(name)
    };
    let slow = Behaviour { work: Span::ms(20, 120), ..Behaviour::good() };
    let stuck =
        Behaviour { stall: 0.05, stall_time: Span::ms(1_000, 6_000), ..Behaviour::default() };
    let crashing = Behaviour { vanish_every: Some(Span::ms(300, 1_500)), ..Behaviour::default() };
    let holding = Behaviour { hold: 0.2, nack: 0.1, ..Behaviour::default() };
    Load {
        consumers: vec![
            consumer("slow", slow),
            consumer("stuck", stuck),
            ConsumerSpec { mode: Mode::Pull, ..consumer("crashing", crashing) },
            consumer("holding", holding),
            consumer("good", Behaviour::good()),
        ],
        ..Load::default()
    }
}

fn one_sleeps(_: &mut fastrand::Rng) -> Load {
    let sleeping = ConsumerSpec {
        behaviour: Behaviour { hold: 1.0, ..Behaviour::good() },
        ack_wait_ms: 600_000,
        clients: 1,
        max_in_flight: 1_000,
        ..ConsumerSpec::new("sleeping")
    };
    let supplier =
        SupplierSpec { rate: 5_000, bytes: Span::bytes(250, 260), ..SupplierSpec::default() };
    Load {
        suppliers: vec![supplier.clone(), supplier],
        consumers: vec![sleeping],
        listeners: Vec::new(),
        ..Load::default()
    }
}

fn one_never_acks(_: &mut fastrand::Rng) -> Load {
    let forgetful = ConsumerSpec {
        behaviour: Behaviour { hold: 0.01, ..Behaviour::good() },
        ack_wait_ms: 600_000,
        clients: 1,
        max_in_flight: 60_000,
        ..ConsumerSpec::new("forgetful")
    };
    let good = ConsumerSpec { behaviour: Behaviour::good(), ..ConsumerSpec::new("worker") };
    let supplier =
        SupplierSpec { rate: 3_000, bytes: Span::bytes(900, 1_100), ..SupplierSpec::default() };
    Load {
        suppliers: vec![supplier.clone(), supplier],
        consumers: vec![forgetful, good],
        listeners: vec![ListenerSpec::new("tail")],
        ..Load::default()
    }
}
