//! All scenarios.

mod consumers;
mod crashes;
mod damage;
mod links;
mod members;
mod power;
mod quality;

use super::{BedNeeds, Plan, Scenario};
use crate::bed::{DiskKind, NetworkKind};
use crate::workloads::{Load, Span};

/// All scenarios, in the order in which they are listed.
pub fn all() -> impl Iterator<Item = &'static Scenario> {
    let tables = [
        crashes::ALL,
        power::ALL,
        damage::ALL,
        links::ALL,
        members::ALL,
        consumers::ALL,
        quality::ALL,
    ];
    tables.into_iter().flatten()
}

/// The scenario of this name.
pub fn find(name: &str) -> Option<&'static Scenario> {
    all().find(|scenario| scenario.name == name)
}

/// A bed of plain directories and proxies, with default settings.
const PLAIN: BedNeeds = BedNeeds {
    network: NetworkKind::Proxies,
    disks: DiskKind::Plain,
    disk_bytes: 2 << 30,
    shim: false,
    rejoins: false,
    config: "",
};

/// The same with a log so short that snapshots and segments come all the time.
const BUSY_SNAPSHOTS: BedNeeds = BedNeeds { config: SHORT_LOG, ..PLAIN };

/// Makes snapshots frequent.
const SHORT_LOG: &str = "snapshot_log_bytes = \"1MiB\"\nfree_space_floor = \"16MiB\"\n";

/// What scenarios have in common.
const DEFAULT: Scenario = Scenario {
    name: "",
    guards: "",
    nodes: 3,
    nodes_min: 3,
    seconds: 60,
    smoke: false,
    bed: PLAIN,
    load: mixed,
    plan: nothing,
    rules: |_| {},
    required: &[],
};

/// Crashing suppliers, push and pull consumers that do everything consumers do, a listener.
fn mixed(_: &mut fastrand::Rng) -> Load {
    Load::default()
}

/// No faults.
fn nothing(_: &mut fastrand::Rng) -> Plan {
    Plan::of(Span::ms(0, 0), [])
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn scenarios_are_named_explained_and_drawn_from_their_seed() {
        let names: BTreeSet<&str> = all().map(|scenario| scenario.name).collect();
        assert_eq!(names.len(), all().count());
        for scenario in all() {
            let Scenario { name, guards, .. } = scenario;
            assert!(name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-'));
            assert!(guards.len() > 20, "{name}");
            assert!(scenario.nodes >= scenario.nodes_min, "{name}");
            assert_eq!(find(name).unwrap().name, *name);
            let drawn = |seed| {
                let mut rng = fastrand::Rng::with_seed(seed);
                ((scenario.load)(&mut rng), (scenario.plan)(&mut rng))
            };
            assert_eq!(drawn(7), drawn(7), "{name}");
            let (load, plan) = drawn(7);
            assert!(!load.suppliers.is_empty() && !load.consumers.is_empty(), "{name}");
            let idle = plan.rounds.is_empty();
            assert!(!idle || !scenario.required.is_empty(), "{name} does nothing and asks nothing");
        }
        assert!(all().any(|scenario| scenario.smoke));
    }
}
