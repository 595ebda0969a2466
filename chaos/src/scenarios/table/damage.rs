//! Data that rots, is cut off, or is old.

use super::{BUSY_SNAPSHOTS, DEFAULT};
use crate::faults::Fault;
use crate::faults::damage::{Copies, Part};
use crate::faults::flip::Flip;
use crate::faults::rollback::{Old, Rollback};
use crate::faults::truncate::Truncate;
use crate::faults::whom::Whom;
use crate::scenarios::{Plan, Scenario};
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
];

/// Enough for a snapshot every other second.
fn snapshots_soon(_: &mut fastrand::Rng) -> Load {
    let mut load = Load::default();
    for supplier in &mut load.suppliers {
        *supplier = SupplierSpec { bytes: Span::bytes(200, 2_500), ..supplier.clone() };
    }
    load
}
