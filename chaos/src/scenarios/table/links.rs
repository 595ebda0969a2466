//! Networks that are cut, slow or lossy.

use super::{DEFAULT, PLAIN};
use crate::bed::{NetworkKind, Shape};
use crate::faults::Fault;
use crate::faults::link::Link;
use crate::faults::partition::{Cut, Partition};
use crate::faults::whom::Whom;
use crate::scenarios::{BedNeeds, Plan, Scenario};
use crate::workloads::Span;

const NETWORK: BedNeeds = BedNeeds { network: NetworkKind::Auto, ..PLAIN };

pub const ALL: &[Scenario] = &[
    Scenario {
        name: "partitions",
        guards: "partitions of every form: split, isolated leader, one-way, bridge, majority ring",
        smoke: true,
        nodes: 5,
        bed: NETWORK,
        plan: |_| {
            let cuts = [
                Cut::Split,
                Cut::IsolateLeader,
                Cut::OneWay,
                Cut::Bridge,
                Cut::MajorityRing,
                Cut::DeafLeader,
                Cut::MuteLeader,
                Cut::Partial,
            ];
            Plan::of(Span::ms(800, 2_000), cuts.map(|cut| (part(cut), Span::ms(1_000, 4_000))))
                .shuffled()
        },
        required: &[("fault:partition(bridge)", 1), ("fault:partition(majority_ring)", 1)],
        ..DEFAULT
    },
    Scenario {
        name: "heartbeats-that-reach-some",
        guards: "a partial partition that keeps the old leader's heartbeats alive: those who hear \
                 it have no reason to elect, those who do not must not disturb for ever, and a \
                 leader that hears nobody must not go on serving",
        bed: NETWORK,
        plan: |_| {
            let cuts = [Cut::Partial, Cut::DeafLeader, Cut::MuteLeader];
            let lasts = Span::ms(2_000, 6_000);
            Plan::of(Span::ms(1_000, 2_000), cuts.map(|cut| (part(cut), lasts)))
        },
        required: &[("fault:partition(partial)", 1), ("fault:partition(deaf_leader)", 1)],
        ..DEFAULT
    },
    Scenario {
        name: "bad-links",
        guards: "links that lose, double, reorder and delay packets, or carry few of them: slower, \
                 but nothing lost and nobody stuck",
        bed: NETWORK,
        plan: |_| {
            let shapes = [
                Shape { loss: 0.05, ..Shape::default() },
                Shape { duplicate: 0.3, jitter_ms: 20, ..Shape::default() },
                Shape { delay_ms: 40, jitter_ms: 60, ..Shape::default() },
                Shape { rate: 200_000, ..Shape::default() },
            ];
            let links = shapes.into_iter().flat_map(|shape| {
                [(Whom::Leader, false), (Whom::One, true)]
                    .map(|(whom, clients)| Fault::Link(Link { whom, shape, clients }))
            });
            let lasts = Span::ms(2_000, 6_000);
            Plan::of(Span::ms(500, 1_500), links.map(|link| (link, lasts))).shuffled()
        },
        required: &[("acked", 500)],
        ..DEFAULT
    },
];

fn part(cut: Cut) -> Fault {
    Fault::Partition(Partition { cut })
}
