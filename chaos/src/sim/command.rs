//! The `sim` command: many seeds on all cores, or one seed closely.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use anyhow::{Context, Result};
use clap::Args;
use serde::Serialize;

use super::plan::{self, Plan};
use super::run::{Ran, run, watch_panics};
use super::shrink::shorten;
use crate::verdict::{Coverage, Violation};

/// Runs that shortening a schedule may take.
const SHORTEN_RUNS: usize = 80;

/// What to simulate.
#[derive(Debug, Clone, Args)]
pub struct SimArgs {
    /// How many seeds to run
    #[arg(long, default_value_t = 100, value_name = "N")]
    pub seeds: u64,
    /// The first of them
    #[arg(long, default_value_t = 0, value_name = "S")]
    pub from: u64,
    /// Run just this seed
    #[arg(long, value_name = "S", conflicts_with_all = ["seeds", "from"])]
    pub seed: Option<u64>,
    /// Run this plan (JSON, as --show prints it) instead of a seed's own
    #[arg(long, value_name = "FILE", conflicts_with_all = ["seeds", "from", "seed"])]
    pub plan: Option<PathBuf>,
    /// Write every record of the run to this file; with --seed or --plan
    #[arg(long, value_name = "FILE")]
    pub trace: Option<PathBuf>,
    /// Print the seed's plan and do not run it
    #[arg(long, requires = "seed")]
    pub show: bool,
    /// Stop at the first seed that fails
    #[arg(long)]
    pub stop_at_first: bool,
    /// Do not shorten the schedules of failing seeds
    #[arg(long)]
    pub no_shorten: bool,
    /// Seeds that run at a time; default: one per core
    #[arg(long, value_name = "N")]
    pub jobs: Option<usize>,
}

/// What many seeds came to.
#[derive(Debug, Default, Serialize)]
pub struct Summary {
    pub seeds: u64,
    pub passed: u64,
    pub failed: Vec<Failure>,
    /// Real time, in seconds.
    pub seconds: f64,
    /// Virtual time of all runs, in seconds.
    pub simulated_seconds: f64,
    pub coverage: Coverage,
    /// Of all runs, in the order of their seeds; equal for equal seeds of equal builds.
    pub trace_hash: String,
}

/// A seed that failed.
#[derive(Debug, Serialize)]
pub struct Failure {
    pub seed: u64,
    pub invariant: String,
    pub detail: String,
    /// All violations, the first one included.
    pub violations: Vec<Violation>,
    /// The command that does it again.
    pub reproduce: String,
    /// The same with the steps that are enough for it, for `--plan`; none if it was not shortened.
    pub shortened: Option<Plan>,
}

/// The plan of a seed, if that is all that is asked for.
pub fn shown(args: &SimArgs) -> Option<Plan> {
    args.seed.filter(|_| args.show).map(plan::draw)
}

/// Runs what the arguments ask for; progress goes to stderr.
pub fn simulate(args: &SimArgs) -> Result<Summary> {
    watch_panics();
    if let Some(path) = &args.plan {
        let text =
            std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
        let plan = serde_json::from_str(&text).with_context(|| {
            format!("{} is not a plan; `sim --seed S --show` prints one", path.display())
        })?;
        return one(args, &plan, format!("--plan {}", path.display()));
    }
    match args.seed {
        Some(seed) => one(args, &plan::draw(seed), format!("--seed {seed}")),
        None => Ok(many(args)),
    }
}

fn one(args: &SimArgs, plan: &Plan, how: String) -> Result<Summary> {
    let trace = match &args.trace {
        Some(path) => {
            Some(File::create(path).with_context(|| format!("create {}", path.display()))?)
        }
        None => None,
    };
    let started = Instant::now();
    let ran = run(plan, trace);
    let mut summary = Summary::default();
    let hash = ran.findings.trace_hash;
    summary.add(plan, ran, &how, !args.no_shorten);
    summary.seconds = started.elapsed().as_secs_f64();
    summary.trace_hash = format!("{hash:016x}");
    Ok(summary)
}

fn many(args: &SimArgs) -> Summary {
    let started = Instant::now();
    let (next, end) = (AtomicU64::new(args.from), args.from + args.seeds);
    let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get());
    let jobs = args.jobs.unwrap_or(cores).max(1);
    let total = Mutex::new((Summary::default(), BTreeMap::new()));
    std::thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= end {
                        return;
                    }
                    let plan = plan::draw(seed);
                    let ran = run(&plan, None);
                    let mut found = Summary::default();
                    let hash = ran.findings.trace_hash;
                    found.add(&plan, ran, &format!("--seed {seed}"), !args.no_shorten);
                    if args.stop_at_first && !found.failed.is_empty() {
                        next.store(end, Ordering::Relaxed);
                    }
                    let mut total = total.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
                    total.0.join(found);
                    total.1.insert(seed, hash);
                    progress(&total.0, args.seeds, started);
                }
            });
        }
    });
    let (mut summary, hashes) = total.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner());
    let bytes: Vec<u8> = hashes.values().flat_map(|hash: &u64| hash.to_le_bytes()).collect();
    summary.trace_hash = format!("{:016x}", xxhash_rust::xxh3::xxh3_64(&bytes));
    summary.seconds = started.elapsed().as_secs_f64();
    summary.failed.sort_by_key(|failure| failure.seed);
    summary
}

fn progress(summary: &Summary, seeds: u64, started: Instant) {
    if summary.seeds.is_multiple_of(50) || summary.seeds == seeds {
        eprintln!(
            "sim: {} of {seeds} seeds, {} failed, {:.0} s simulated in {:.0} s",
            summary.seeds,
            summary.failed.len(),
            summary.simulated_seconds,
            started.elapsed().as_secs_f64(),
        );
    }
}

impl Summary {
    fn add(&mut self, plan: &Plan, ran: Ran, how: &str, shortening: bool) {
        self.seeds += 1;
        self.simulated_seconds += ran.lasted.as_secs_f64();
        for (key, count) in &ran.findings.coverage {
            *self.coverage.entry(key.clone()).or_default() += count;
        }
        let Some(first) = ran.findings.violations.first().cloned() else {
            self.passed += 1;
            return;
        };
        let reproduce = format!("aqueduct-chaos sim {how}");
        eprintln!(
            "sim: seed {}: {}: {}\n     {reproduce}",
            plan.seed, first.invariant, first.detail
        );
        let same = |candidate: &Plan| {
            let again = run(candidate, None).findings.violations;
            again.iter().any(|violation| violation.invariant == first.invariant)
        };
        let shortened = shortening.then(|| shorten(plan, SHORTEN_RUNS, same));
        self.failed.push(Failure {
            seed: plan.seed,
            invariant: first.invariant,
            detail: first.detail,
            violations: ran.findings.violations,
            reproduce,
            shortened,
        });
    }

    fn join(&mut self, other: Summary) {
        self.seeds += other.seeds;
        self.passed += other.passed;
        self.failed.extend(other.failed);
        self.simulated_seconds += other.simulated_seconds;
        for (key, count) in other.coverage {
            *self.coverage.entry(key).or_default() += count;
        }
    }
}
