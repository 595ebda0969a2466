//! Power cuts and disks that fail, are slow, or are full.

use super::crashes::kill;
use super::{DEFAULT, PLAIN, SHORT_LOG};
use crate::bed::DiskKind;
use crate::faults::Fault;
use crate::faults::disk_full::DiskFull;
use crate::faults::failing_sync::FailingSync;
use crate::faults::power_cut::PowerCut;
use crate::faults::slow_disk::SlowDisk;
use crate::faults::whom::Whom;
use crate::scenarios::{BedNeeds, Plan, Scenario};
use crate::workloads::{Behaviour, ConsumerSpec, LaneKind, Load, Mode, Span, SupplierSpec};

/// Disks with a power of their own; nodes with default settings.
const IMAGES: BedNeeds = BedNeeds { disks: DiskKind::Auto, ..PLAIN };
/// Disks that can be full, and nodes that see it coming.
const SMALL: BedNeeds = BedNeeds {
    disks: DiskKind::Auto,
    disk_bytes: 512 << 20,
    config: "free_space_floor = \"48MiB\"\nsnapshot_log_bytes = \"8MiB\"\n",
    ..PLAIN
};
/// The same without a ballast: nodes have nothing to give up, and wait.
const NO_BALLAST: &str =
    "free_space_floor = \"48MiB\"\nsnapshot_log_bytes = \"8MiB\"\nballast = \"0MiB\"\n";
const SHIMMED: BedNeeds = BedNeeds { shim: true, config: SHORT_LOG, ..PLAIN };

/// Snapshots every few seconds of the load.
const FREQUENT_SNAPSHOTS: &str = "snapshot_log_bytes = \"4MiB\"\nfree_space_floor = \"16MiB\"\n";

pub const ALL: &[Scenario] = &[
    Scenario {
        name: "coordinated-power-failure",
        guards: "all nodes lose power at one moment, with default settings: NATS 2.12.1 lost 14 % \
                 of what it had acknowledged (Jepsen, 2025-12)",
        smoke: true,
        bed: IMAGES,
        load: heavy,
        plan: |_| Plan::of(Span::ms(2_000, 5_000), [(cut(Whom::All), Span::ms(0, 500))]),
        required: &[("fault:power_cut(all)", 1), ("acked", 2_000)],
        ..DEFAULT
    },
    Scenario {
        name: "power-failures",
        guards: "power cuts of one node, a majority and all, while snapshots are taken all the \
                 time",
        nodes: 5,
        bed: BedNeeds { config: FREQUENT_SNAPSHOTS, ..IMAGES },
        load: steady,
        plan: |_| {
            let whom = [Whom::One, Whom::Leader, Whom::Majority, Whom::All];
            let cuts = whom.map(|whom| (cut(whom), Span::ms(0, 1_500)));
            Plan::of(Span::ms(1_000, 3_000), cuts).shuffled()
        },
        required: &[("fault:power_cut(majority)", 1), ("fault:power_cut(all)", 1)],
        ..DEFAULT
    },
    Scenario {
        name: "failing-syncs",
        guards: "fsync that fails: what was written then may be gone, and no retry brings it back, \
                 so the node must not acknowledge anything after it",
        smoke: true,
        bed: SHIMMED,
        plan: |_| {
            let faults = [(Whom::Leader, 1), (Whom::Follower, 1), (Whom::One, 0)]
                .map(|(whom, count)| Fault::FailingSync(FailingSync { whom, count }));
            Plan::of(Span::ms(1_000, 2_500), faults.map(|fault| (fault, Span::ms(500, 2_500))))
        },
        required: &[("fault:failing_sync(leader, 1 times)", 1)],
        ..DEFAULT
    },
    Scenario {
        name: "slow-disks",
        guards: "a disk that takes its time: a slow follower holds nobody up, a slow leader is \
                 slow and not wrong",
        bed: SHIMMED,
        plan: |_| {
            let faults = [(Whom::Follower, 200), (Whom::Leader, 60), (Whom::All, 30)]
                .map(|(whom, sync_ms)| Fault::SlowDisk(SlowDisk { whom, sync_ms }));
            Plan::of(Span::ms(1_000, 2_000), faults.map(|fault| (fault, Span::ms(3_000, 6_000))))
        },
        required: &[("acked", 300)],
        ..DEFAULT
    },
    Scenario {
        name: "full-disks",
        guards: "a disk that fills up: publishes are refused with a reason before anything breaks, \
                 and nothing acknowledged is lost",
        bed: SMALL,
        load: heavy,
        plan: |_| {
            let full = |whom, leave| Fault::DiskFull(DiskFull { whom, leave });
            let (soon, lasts) = (Span::ms(1_500, 3_000), Span::ms(3_000, 6_000));
            let some = 32 << 20;
            Plan::of(
                soon,
                [
                    // Longer than a supplier tries on.
                    (full(Whom::All, some), Span::ms(7_000, 10_000)),
                    (full(Whom::Follower, 0), lasts),
                    (full(Whom::Leader, some), lasts),
                    (kill(Whom::Leader), Span::ms(0, 500)),
                ],
            )
        },
        required: &[("refused_for_room", 1)],
        ..DEFAULT
    },
    Scenario {
        name: "recovery-from-a-full-disk",
        guards: "a node whose disk was full to the last byte takes part again once there is room, \
                 without a restart by hand",
        bed: BedNeeds { config: NO_BALLAST, ..SMALL },
        load: bulky,
        plan: |_| {
            let full = |whom, leave| Fault::DiskFull(DiskFull { whom, leave });
            let (soon, lasts) = (Span::ms(1_500, 3_000), Span::ms(3_000, 6_000));
            Plan::of(
                soon,
                [
                    (full(Whom::Follower, 0), lasts),
                    (full(Whom::Leader, 0), lasts),
                    (full(Whom::All, 0), lasts),
                    (full(Whom::All, 40 << 20), Span::ms(6_000, 9_000)),
                ],
            )
        },
        required: &[("waited_for_room", 1), ("refused_for_room", 1)],
        ..DEFAULT
    },
];

fn cut(whom: Whom) -> Fault {
    Fault::PowerCut(PowerCut { whom })
}

/// As much as a few connections publish, with consumers that keep up.
fn heavy(_: &mut fastrand::Rng) -> Load {
    let fast = SupplierSpec { rate: 0, in_flight: 512, ..SupplierSpec::default() };
    let named = SupplierSpec {
        lane: LaneKind::Named("orders".into()),
        crash_every: Some(Span::ms(2_000, 6_000)),
        ..fast.clone()
    };
    let fleeting = Behaviour { vanish_every: Some(Span::ms(3_000, 9_000)), ..Behaviour::good() };
    let pulling = ConsumerSpec { mode: Mode::Pull, ..ConsumerSpec::new("audit") };
    Load {
        suppliers: vec![fast.clone(), fast, named],
        consumers: vec![
            ConsumerSpec { behaviour: Behaviour::good(), ..ConsumerSpec::new("worker") },
            ConsumerSpec { behaviour: fleeting, ..pulling },
        ],
        ..Load::default()
    }
}

/// The same with events so large that they need more than what log databases have reserved.
fn bulky(rng: &mut fastrand::Rng) -> Load {
    let mut load = heavy(rng);
    load.suppliers.iter_mut().for_each(|supplier| supplier.bytes = Span::bytes(4_000, 12_000));
    load
}

/// The same as [`heavy`] at a pace that leaves room for elections: five nodes share the machine's one disk.
fn steady(rng: &mut fastrand::Rng) -> Load {
    let mut load = heavy(rng);
    load.suppliers.iter_mut().for_each(|supplier| supplier.rate = 1_000);
    load
}
