//! Processes that die, or stop for a while.

use super::{BUSY_SNAPSHOTS, DEFAULT, PLAIN};
use crate::faults::Fault;
use crate::faults::absence::Absence;
use crate::faults::kill::Kill;
use crate::faults::pause::Pause;
use crate::faults::whom::Whom;
use crate::scenarios::{BedNeeds, Plan, Round, Scenario};
use crate::workloads::{Load, Span, SupplierSpec};

pub const ALL: &[Scenario] = &[
    Scenario {
        name: "leader-kills",
        guards: "every failover: nothing acknowledged is lost, nothing is published twice, and \
                 the time from a kill of the leader to the next acknowledgement",
        smoke: true,
        plan: |_| Plan::of(Span::ms(600, 1_800), [(kill(Whom::Leader), Span::ms(0, 1_200))]),
        required: &[("fault:kill(leader)", 2), ("events_repeated", 1)],
        ..DEFAULT
    },
    Scenario {
        name: "kills",
        guards: "deaths of anybody at any time: a follower, a minority, a majority, all at once, \
                 with snapshots being taken all the time",
        nodes: 5,
        bed: BUSY_SNAPSHOTS,
        plan: |_| {
            let short = Span::ms(0, 2_500);
            let whom = [Whom::Leader, Whom::Follower, Whom::Minority, Whom::Majority, Whom::All];
            Plan::of(Span::ms(300, 2_000), whom.map(|whom| (kill(whom), short))).shuffled()
        },
        required: &[("fault:kill(majority)", 1), ("fault:kill(all)", 1)],
        ..DEFAULT
    },
    Scenario {
        name: "leader-restarts-in-its-term",
        guards: "a leader that dies and is back before anybody noticed: it must not serve in the \
                 term it had, and its new life is not mistaken for the old one",
        // The others miss no heartbeat for long if nothing else delays it.
        plan: |_| Plan::of(Span::ms(800, 2_000), [(kill(Whom::Leader), Span::ms(0, 0))]),
        required: &[("fault:kill(leader)", 3)],
        ..DEFAULT
    },
    Scenario {
        name: "streamed-catch-up",
        guards: "a node that was away longer than the log reaches gets a snapshot with its events \
                 while the leader serves; the leader dies on the way, and the next one goes on",
        bed: BUSY_SNAPSHOTS,
        load: bulky,
        plan: |_| {
            let absence = Fault::Absence(Absence { sender_dies_at: 90 });
            Plan::of(Span::ms(1_000, 2_000), [(absence, Span::ms(8_000, 12_000))])
        },
        required: &[("fault:absence", 1), ("snapshots_received", 1), ("senders_died", 1)],
        ..DEFAULT
    },
    Scenario {
        name: "pauses-and-kills",
        guards: "the choreography that lost events elsewhere: a paused leader wakes up and goes \
                 on as if nothing had been, while others were killed meanwhile \
                 (Jepsen: NATS 2.12.1, Redpanda 21.10, Bufstream 0.1.0)",
        smoke: true,
        nodes: 5,
        bed: BedNeeds { ..PLAIN },
        plan: |_| choreography(),
        required: &[("fault:pause(leader)", 1), ("fault:kill(leader)", 1)],
        ..DEFAULT
    },
];

pub fn kill(whom: Whom) -> Fault {
    Fault::Kill(Kill { whom })
}

pub fn pause(whom: Whom) -> Fault {
    Fault::Pause(Pause { whom })
}

/// The usual, and one whose events fill the channel's history.
fn bulky(_: &mut fastrand::Rng) -> Load {
    let bulk = SupplierSpec {
        rate: 60,
        in_flight: 16,
        bytes: Span::bytes(30_000, 60_000),
        ..SupplierSpec::default()
    };
    let mut load = Load::default();
    load.suppliers.push(bulk);
    load
}

fn choreography() -> Plan {
    let rounds = vec![
        // The leader sleeps through its deposition; its successor dies; it wakes up.
        Round::one(pause(Whom::Leader), Span::ms(1_500, 4_000)).and(
            Span::ms(1_000, 1_400),
            kill(Whom::Leader),
            Span::ms(0, 3_000),
        ),
        // Shorter than an election takes: it may still believe that it leads.
        Round::one(pause(Whom::Leader), Span::ms(100, 700)),
        // A majority sleeps, and the leader that is alone dies.
        Round::one(pause(Whom::Minority), Span::ms(500, 3_000)).and(
            Span::ms(200, 800),
            kill(Whom::Leader),
            Span::ms(200, 2_000),
        ),
        Round::one(pause(Whom::All), Span::ms(200, 3_000)),
        Round::one(pause(Whom::Follower), Span::ms(200, 4_000)).and(
            Span::ms(100, 500),
            pause(Whom::Follower),
            Span::ms(200, 4_000),
        ),
    ];
    Plan { rounds, pause: Span::ms(300, 1_500), drawn: true, rounds_max: 0 }
}
