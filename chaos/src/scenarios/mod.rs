//! Runs on real processes, each named after what it guards.
//!
//! ```text
//! Scenario (data) ─► run ─► bed + load + plan of faults ─► tape ─► history.jsonl
//!                                                           └─► judge ─► verdict.json, report
//! ```
//!
//! A run has phases: setup, faults (under load), heal (load goes on), drain (consumers settle
//! everything), end (state hashes). A scenario that cannot do its thing on this machine says what
//! it left out and is unknown, never passed.

mod doomed;
mod eyes;
mod hands;
mod judgement;
mod machine;
mod members;
mod nemesis;
mod plan;
mod quorum;
mod report;
mod run;
mod table;
mod tape;

use crate::bed::{DiskKind, NetworkKind};
use crate::invariants::Rules;
use crate::workloads::Load;

pub use plan::{Act, Plan, Round};
pub use report::judge_again;
pub use run::{Interruption, Options, Refusal, run};
pub use table::{all, find};

/// What a run is for, and what it consists of.
pub struct Scenario {
    /// Short, lower case, with dashes.
    pub name: &'static str,
    /// What it guards; of others, the failure that was published.
    pub guards: &'static str,
    pub nodes: usize,
    /// With fewer its faults have nothing to hit.
    pub nodes_min: usize,
    /// How long the faults go on unless said otherwise.
    pub seconds: u64,
    /// Whether it belongs to the quick check of everything.
    pub smoke: bool,
    pub bed: BedNeeds,
    pub load: fn(&mut fastrand::Rng) -> Load,
    pub plan: fn(&mut fastrand::Rng) -> Plan,
    /// Changes to the thresholds by which it is judged.
    pub rules: fn(&mut Rules),
    /// What it must have done at least to pass, beside [`REQUIRED`].
    pub required: &'static [(&'static str, u64)],
}

/// What a scenario needs of its bed.
#[derive(Debug, Clone)]
pub struct BedNeeds {
    pub network: NetworkKind,
    pub disks: DiskKind,
    /// Size of a disk image or tmpfs.
    pub disk_bytes: u64,
    pub shim: bool,
    /// Damaged nodes become whole again by themselves.
    pub rejoins: bool,
    /// Further lines of the nodes' configuration. Empty: default settings.
    pub config: &'static str,
}

impl BedNeeds {
    /// What in the machine it cannot do without, for people.
    pub fn describe(&self) -> String {
        let parts = [
            (self.network == NetworkKind::Namespaces, "network namespaces (root)"),
            (self.network == NetworkKind::Auto, "network namespaces (root) for some of it"),
            (self.disks == DiskKind::Auto, "ext4 images (root)"),
            (self.shim, "a C compiler"),
        ];
        let named = parts.iter().filter(|(needed, _)| *needed).map(|(_, what)| *what);
        named.collect::<Vec<_>>().join(", ")
    }
}

/// What every run must have done to pass.
pub const REQUIRED: &[(&str, u64)] = &[
    ("acked", 100),
    ("deliveries", 100),
    ("settled", 10),
    ("statuses", 3),
    ("healed", 1),
    ("drained", 1),
    ("hashes", 2),
];
