//! The simulation as a gate: some seeds, every plan that ever found something, and the promise that
//! a seed is one run and no other.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use aqueduct_chaos::sim::plan::{self, Plan};
use aqueduct_chaos::sim::{run, watch_panics};
use aqueduct_chaos::verdict::Coverage;

/// Seeds run here; scripts/nightly runs others, and many more.
const SEEDS: u64 = 100;

/// What this many seeds must have met with, or the gate guards nothing.
const MUST_HAPPEN: &[&str] = &[
    "accepted_answers",
    "deliveries",
    "deliveries_marked",
    "settled",
    "statuses",
    "duplicate_answers",
    "lanes_resumed",
    "consumers_vanished",
    "fault:kill",
    "fault:power-cut",
    "fault:power-cut-midway",
    "fault:restart",
    "fault:partition",
    "fault:one-way-partition",
    "fault:partial-partition",
    "fault:bridge-partition",
    "fault:ring-partition",
    "fault:clients-cut-off",
    "fault:storm",
    "fault:bad-link",
    "fault:slow-disk",
    "fault:failing-sync",
    "fault:full-disk",
    "fault:clock-jump",
    "bits_flipped",
    "quarantined",
    "replaced",
    "transferred",
    "joined",
    "removed",
];

/// Runs all plans, several at a time; returns what was covered, and what failed.
fn run_all(plans: &[Plan]) -> (Coverage, Vec<String>) {
    watch_panics();
    let (next, found) = (AtomicUsize::new(0), Mutex::new((Coverage::new(), Vec::new())));
    let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get());
    std::thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(|| {
                while let Some(plan) = plans.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let findings = run(plan, None).findings;
                    let mut found = found.lock().unwrap();
                    for (key, count) in findings.coverage {
                        *found.0.entry(key).or_default() += count;
                    }
                    let first = findings.violations.first();
                    found.1.extend(
                        first.map(|violation| format!("seed {}: {violation:?}", plan.seed)),
                    );
                }
            });
        }
    });
    found.into_inner().unwrap()
}

#[test]
fn seeds_hold() {
    let plans: Vec<Plan> = (0..SEEDS).map(plan::draw).collect();
    let (coverage, failed) = run_all(&plans);
    assert!(failed.is_empty(), "again with `aqueduct-chaos sim --seed S`:\n{}", failed.join("\n"));
    let did: BTreeSet<&str> = coverage.keys().map(String::as_str).collect();
    let missed: Vec<_> = MUST_HAPPEN.iter().filter(|key| !did.contains(**key)).collect();
    assert!(missed.is_empty(), "{SEEDS} seeds never met with {missed:?}");
}

#[test]
fn plans_that_found_something_hold() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("regressions");
    let mut plans = Vec::new();
    for entry in std::fs::read_dir(&dir).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "json") {
            let text = std::fs::read_to_string(&path).unwrap();
            plans.push(serde_json::from_str(&text).unwrap_or_else(|e| panic!("{path:?}: {e}")));
        }
    }
    assert!(!plans.is_empty());
    let (_, failed) = run_all(&plans);
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

/// The trace hash of a seed, run by a process of its own.
fn trace_hash(seed: u64) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_aqueduct-chaos"))
        .args(["sim", "--output", "json", "--seed", &seed.to_string()])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let answer: serde_json::Value = serde_json::from_str(&text).unwrap_or_else(|e| {
        panic!("{e}: {text} {}", String::from_utf8_lossy(&output.stderr));
    });
    answer["trace_hash"].as_str().unwrap().to_owned()
}

#[test]
fn a_seed_is_the_same_run_in_another_process() {
    // Faults of many kinds are in these.
    for seed in [3, 11] {
        assert_eq!(trace_hash(seed), trace_hash(seed), "seed {seed}");
    }
    assert_ne!(trace_hash(3), trace_hash(11));
}
