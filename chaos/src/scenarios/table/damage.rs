//! Data that rots, is cut off, or is old.

use super::crashes::kill;
use super::{BUSY_SNAPSHOTS, DEFAULT};
use crate::faults::Fault;
use crate::faults::damage::{Copies, Part};
use crate::faults::flip::Flip;
use crate::faults::lost_quorum::LostQuorum;
use crate::faults::rollback::{Old, Rollback};
use crate::faults::truncate::Truncate;
use crate::faults::vanish::Vanish;
use crate::faults::whom::Whom;
use crate::scenarios::{BedNeeds, Plan, Round, Scenario};
use crate::workloads::{Load, Span, SupplierSpec};

/// Snapshots and segments must have been made before they can be damaged.
const SOON: Span = Span::ms(3_000, 5_000);
/// A damaged node is watched for so long before it is replaced.
const WATCHED: Span = Span::ms(1_500, 3_000);

pub const ALL: &[Scenario] = &[
    Scenario {
        name: "single-bit-errors",
        guards: "one flipped bit in the log, the vote, a snapshot, a segment or the manifest of a \
                 minority: NATS 2.12.1 lost up to 49.7 % of what it had acknowledged \
                 (Jepsen, 2025-12)",
        smoke: true,
        bed: BUSY_SNAPSHOTS,
        load: snapshots_soon,
        plan: |_| {
            let both = [Copies::One, Copies::All];
            let votes = both.map(|copies| (Part::Vote, copies));
            let snapshots = both.map(|copies| (Part::Snapshot, copies));
            let others = [Part::Log, Part::Segment, Part::Manifest, Part::Log];
            let all = others.map(|part| (part, Copies::One)).into_iter();
            let flips = all.chain(votes).chain(snapshots).map(|(part, copies)| {
                (Fault::Flip(Flip { whom: Whom::Minority, part, copies }), WATCHED)
            });
            Plan::of(SOON, flips)
        },
        required: &[("damaged", 1), ("quarantined", 1)],
        ..DEFAULT
    },
    Scenario {
        name: "snapshot-corruption",
        guards: "snapshots and their segments are damaged on a minority: the node falls back to \
                 what is whole or stays out, and damage does not travel to the others \
                 (Jepsen: NATS 2.12.1, Redpanda 21.10)",
        bed: BUSY_SNAPSHOTS,
        load: snapshots_soon,
        plan: |_| {
            let parts = [
                (Part::Snapshot, Copies::One),
                (Part::Snapshot, Copies::All),
                (Part::Segment, Copies::One),
                (Part::Manifest, Copies::One),
            ];
            let flip = |(part, copies)| Fault::Flip(Flip { whom: Whom::Follower, part, copies });
            let cut = |(part, copies)| Fault::Truncate(Truncate { whom: Whom::One, part, copies });
            let faults = parts.into_iter().flat_map(|part| [flip(part), cut(part)]);
            Plan::of(SOON, faults.map(|fault| (fault, WATCHED))).shuffled()
        },
        required: &[("damaged", 1), ("quarantined", 1)],
        ..DEFAULT
    },
    Scenario {
        name: "truncated-files",
        guards: "files that have lost their ends: an acknowledged end must be missed, a torn tail \
                 must not",
        bed: BUSY_SNAPSHOTS,
        load: snapshots_soon,
        plan: |_| {
            let parts = [
                (Part::Log, Copies::One),
                (Part::Vote, Copies::One),
                (Part::Vote, Copies::All),
                (Part::Manifest, Copies::One),
                (Part::Snapshot, Copies::One),
                (Part::Segment, Copies::One),
            ];
            let cut = |(part, copies)| {
                let fault = Truncate { whom: Whom::Minority, part, copies };
                (Fault::Truncate(fault), WATCHED)
            };
            Plan::of(SOON, parts.map(cut))
        },
        required: &[("damaged", 1), ("quarantined", 1)],
        ..DEFAULT
    },
    Scenario {
        name: "old-copies-restored",
        guards: "a file is replaced by an old copy of itself, as a careless restore does: lost \
                 acknowledgements and forgotten votes must be noticed where they can be",
        bed: BUSY_SNAPSHOTS,
        load: snapshots_soon,
        plan: |_| {
            let old = |(what, copies)| {
                let fault = Rollback { whom: Whom::Minority, what, copies, age_ms: 3_000 };
                (Fault::Rollback(fault), WATCHED)
            };
            let parts =
                [(Old::Log, Copies::All), (Old::Vote, Copies::One), (Old::Manifest, Copies::All)];
            Plan::of(SOON, parts.map(old))
        },
        required: &[("damaged", 1), ("quarantined", 1)],
        ..DEFAULT
    },
    Scenario {
        name: "rejoin-after-damage",
        guards: "a node whose log or vote is damaged is let go, gives its data up only then, and is \
                 whole again within a minute, by itself: as a learner, then as a voter",
        bed: BedNeeds { rejoins: true, ..BUSY_SNAPSHOTS },
        load: snapshots_soon,
        plan: |_| losses(),
        required: &[("quarantined", 4), ("cleared", 4), ("rejoined", 4)],
        ..DEFAULT
    },
    Scenario {
        name: "lost-quorum",
        guards: "a majority is gone for good, at once or damaged first: damaged nodes that no majority \
                 lets go keep what they have, and a new incarnation out of the farthest log has \
                 everything that was acknowledged",
        bed: BedNeeds { rejoins: true, ..BUSY_SNAPSHOTS },
        load: snapshots_soon,
        plan: |_| {
            let lost = |damaged_first| Fault::LostQuorum(LostQuorum { damaged_first });
            // Longer than damaged nodes take to be let go where somebody can.
            Plan::of(SOON, [(lost(false), Span::ms(0, 500)), (lost(true), Span::ms(5_000, 7_000))])
        },
        required: &[("recovered_after_ms", 1), ("majority_kept_its_data", 1)],
        ..DEFAULT
    },
];

/// Everything that has a node quarantined, by itself and while the leader is dead for a moment.
fn losses() -> Plan {
    let whom = Whom::Minority;
    let losses = [
        Fault::Flip(Flip { whom: whom.clone(), part: Part::Log, copies: Copies::One }),
        Fault::Flip(Flip { whom: whom.clone(), part: Part::Vote, copies: Copies::All }),
        Fault::Truncate(Truncate { whom: whom.clone(), part: Part::Log, copies: Copies::One }),
        Fault::Vanish(Vanish { whom }),
    ];
    let rounds = losses.into_iter().flat_map(|loss| {
        let alone = Round::one(loss.clone(), Span::ms(0, 500));
        // The wait for the damaged node comes last: it may need the leader that was killed.
        let kill = (Span::ms(0, 900), kill(Whom::Leader), Span::ms(300, 1_500));
        [alone, Round::one(loss, Span::ms(2_600, 3_000)).and(kill.0, kill.1, kill.2)]
    });
    Plan { rounds: rounds.collect(), pause: SOON, drawn: true, rounds_max: 0 }
}

/// Enough for a snapshot every other second.
fn snapshots_soon(_: &mut fastrand::Rng) -> Load {
    let mut load = Load::default();
    for supplier in &mut load.suppliers {
        *supplier = SupplierSpec { bytes: Span::bytes(200, 2_500), ..supplier.clone() };
    }
    load
}
