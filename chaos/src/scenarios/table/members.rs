//! Members that come, go and are restarted, strangers, and clocks.

use super::crashes::kill;
use super::{BUSY_SNAPSHOTS, DEFAULT, PLAIN};
use crate::faults::Fault;
use crate::faults::clock::Clock;
use crate::faults::flood::Flood;
use crate::faults::frames::Frames;
use crate::faults::membership::{Change, Membership};
use crate::faults::partition::{Cut, Partition};
use crate::faults::rolling_restart::RollingRestart;
use crate::faults::whom::Whom;
use crate::scenarios::{BedNeeds, Plan, Round, Scenario};
use crate::workloads::Span;

const NOW: Span = Span::ms(0, 0);

pub const ALL: &[Scenario] = &[
    Scenario {
        name: "membership-with-partition-and-kill",
        guards: "members join, leave and are removed while others are cut off or die: the classic \
                 place where majorities stop to overlap (Jepsen: Redpanda 21.10)",
        // So many that a majority is left when one is taken out and another dies.
        nodes: 5,
        bed: BUSY_SNAPSHOTS,
        plan: |_| reconfigurations(),
        required: &[
            ("fault:membership(grow)", 1),
            ("fault:membership(remove one)", 1),
            ("fault:kill(leader, meanwhile)", 1),
        ],
        ..DEFAULT
    },
    Scenario {
        name: "rolling-restart",
        guards: "an upgrade under load: each node is stopped and started in turn, and nobody \
                 notices more than a pause",
        bed: BUSY_SNAPSHOTS,
        plan: |_| {
            Plan::of(Span::ms(1_000, 2_000), [(Fault::RollingRestart(RollingRestart {}), NOW)])
        },
        required: &[("fault:rolling_restart", 1)],
        ..DEFAULT
    },
    Scenario {
        name: "transfers",
        guards: "leadership is handed over under load, with and without a death on the way",
        plan: |_| {
            let transfer = change(Change::Transfer);
            let after_a_kill = Round::one(kill(Whom::Follower), Span::ms(300, 1_500)).and(
                Span::ms(50, 250),
                transfer.clone(),
                NOW,
            );
            let rounds = vec![Round::one(transfer, NOW), after_a_kill];
            Plan { rounds, pause: Span::ms(300, 1_200), drawn: false, rounds_max: 0 }
        },
        required: &[("fault:membership(transfer)", 3)],
        ..DEFAULT
    },
    Scenario {
        name: "clock-jumps",
        guards: "wall clocks that jump by seconds and hours, forward and back: no event is lost, \
                 no lease ends too early, states stay equal",
        bed: BedNeeds { shim: true, ..PLAIN },
        plan: |_| {
            let jumps = [
                (Whom::Leader, 30_000),
                (Whom::Leader, -30_000),
                (Whom::One, 86_400_000),
                (Whom::All, -3_600_000),
                (Whom::Minority, 700),
            ];
            let clocks = jumps.map(|(whom, jump_ms)| Fault::Clock(Clock { whom, jump_ms }));
            let rounds = clocks.into_iter().map(|clock| {
                let lasts = Span::ms(2_000, 4_000);
                Round::one(clock, lasts).and(
                    Span::ms(500, 1_500),
                    kill(Whom::Leader),
                    Span::ms(0, 800),
                )
            });
            Plan { rounds: rounds.collect(), pause: Span::ms(300, 900), drawn: true, rounds_max: 0 }
        },
        required: &[("fault:clock(leader, +30000 ms)", 1)],
        ..DEFAULT
    },
    Scenario {
        name: "connection-flood",
        guards: "thousands of connections that say nothing: the cluster goes on among its own, \
                 in bounded memory and descriptors",
        plan: |_| {
            let flood = |whom, connections| Fault::Flood(Flood { whom, connections });
            let faults = [flood(Whom::All, 300), flood(Whom::Leader, 3_000)];
            Plan::of(Span::ms(1_000, 2_000), faults.map(|fault| (fault, Span::ms(3_000, 6_000))))
        },
        required: &[("fault:flood(all, 300 connections)", 1)],
        ..DEFAULT
    },
    Scenario {
        name: "malformed-frames",
        guards: "malformed, huge and unfinished frames on every port: no crash, no memory to \
                 speak of, no harm to anybody else",
        smoke: true,
        plan: |_| {
            let frames = Fault::Frames(Frames { whom: Whom::All });
            Plan::of(Span::ms(500, 1_000), [(frames, Span::ms(4_000, 8_000))])
        },
        required: &[("fault:frames(all)", 1)],
        ..DEFAULT
    },
];

fn change(change: Change) -> Fault {
    Fault::Membership(Membership { change })
}

fn reconfigurations() -> Plan {
    let cut = |cut| Fault::Partition(Partition { cut });
    let (soon, short, long) = (Span::ms(0, 900), Span::ms(200, 800), Span::ms(1_000, 3_000));
    let during = |first: Fault, change| Round::one(first, long).and(short, change, short);
    let rounds = vec![
        Round::one(change(Change::Grow), short).and(short, kill(Whom::Leader), long),
        Round::one(change(Change::Grow), short).while_the_leader_dies(soon),
        Round::one(change(Change::Remove(Whom::Follower)), short).while_the_leader_dies(soon),
        during(kill(Whom::Leader), change(Change::Grow)),
        during(cut(Cut::IsolateLeader), change(Change::Transfer)),
        Round::one(change(Change::Remove(Whom::One)), short),
        Round::one(change(Change::Grow), long).and(short, cut(Cut::Split), short),
        Round::one(change(Change::Leave(Whom::Follower)), short),
        Round::one(change(Change::Leave(Whom::Leader)), short),
    ];
    Plan { rounds, pause: Span::ms(500, 1_500), drawn: true, rounds_max: 0 }
}
