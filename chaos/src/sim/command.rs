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

use super::coverage;
use super::plan::{self, Plan};
use super::plan_file::{self, Usage};
use super::run::{Ran, run, watch_panics};
use super::shrink::shorten;
use crate::verdict::{Coverage, Violation, Word};

/// Runs that shortening a schedule may take.
const SHORTEN_RUNS: usize = 80;

/// What to simulate.
#[derive(Debug, Clone, Args)]
pub struct SimArgs {
    /// How many seeds to run
    #[arg(long, default_value_t = 100, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub seeds: u64,
    /// The first of them
    #[arg(long, default_value_t = 0, value_name = "S")]
    pub from: u64,
    /// Run just this seed
    #[arg(long, value_name = "S", group = "one", conflicts_with_all = ["seeds", "from"])]
    pub seed: Option<u64>,
    /// Run this plan (JSON, as --show prints it) instead of a seed's own
    #[arg(long, value_name = "FILE", group = "one", conflicts_with_all = ["seeds", "from"])]
    pub plan: Option<PathBuf>,
    /// Write every record of the run to this file; with --seed or --plan
    #[arg(long, value_name = "FILE", requires = "one")]
    pub trace: Option<PathBuf>,
    /// Print the plan and do not run it; with --seed or --plan
    #[arg(long, requires = "one", conflicts_with = "trace")]
    pub show: bool,
    /// Stop at the first seed that fails
    #[arg(long)]
    pub stop_at_first: bool,
    /// Do not shorten the schedules of failing seeds
    #[arg(long)]
    pub no_shorten: bool,
    /// Seeds that run at a time; default: one per core
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub jobs: Option<u16>,
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
    /// Why nothing is known although nothing failed: what should have happened and did not.
    pub missed: Vec<String>,
    /// Of all runs, in the order of their seeds; equal for equal seeds of equal builds.
    pub trace_hash: String,
}

/// A seed that failed.
#[derive(Debug, Serialize)]
pub struct Failure {
    #[serde(serialize_with = "super::exact::serialize")]
    pub seed: u64,
    /// Virtual time of the first violation, in microseconds since the run began.
    pub at: u64,
    pub invariant: String,
    pub detail: String,
    /// All violations, the first one included.
    pub violations: Vec<Violation>,
    /// The command that does it again.
    pub reproduce: String,
    /// The same with the steps that are enough for it, for `--plan`; none if it was not shortened.
    pub shortened: Option<Plan>,
}

/// The plan, if it is all that is asked for.
pub fn shown(args: &SimArgs) -> Result<Option<Plan>> {
    Ok(if args.show { chosen(args)? } else { None })
}

/// Runs what the arguments ask for; progress goes to stderr.
pub fn simulate(args: &SimArgs) -> Result<Summary> {
    watch_panics();
    let Some(plan) = chosen(args)? else { return many(args) };
    let how = match &args.plan {
        Some(path) => format!("--plan {}", path.display()),
        None => format!("--seed {}", plan.seed),
    };
    one(args, &plan, how)
}

/// The one plan that is asked for, if it is one.
fn chosen(args: &SimArgs) -> Result<Option<Plan>> {
    Ok(match (&args.plan, args.seed) {
        (Some(path), _) => Some(plan_file::read(path)?),
        (None, seed) => seed.map(plan::draw),
    })
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
    summary.judge_coverage();
    if plan.steps.is_empty() {
        summary.missed.push("any fault (the plan has no steps)".into());
    }
    Ok(summary)
}

fn many(args: &SimArgs) -> Result<Summary> {
    let started = Instant::now();
    // The workers count a little beyond the end.
    let end =
        args.from.checked_add(args.seeds).filter(|end| *end <= u64::MAX - u64::from(u16::MAX));
    let Some(end) = end else {
        let (from, seeds) = (args.from, args.seeds);
        return Err(
            Usage(format!("--from {from} --seeds {seeds} goes beyond the last seed")).into()
        );
    };
    let next = AtomicU64::new(args.from);
    let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get());
    let jobs = args.jobs.map_or(cores, usize::from);
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
                    let failed = !found.failed.is_empty();
                    let mut total = total.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
                    total.0.join(found);
                    total.1.insert(seed, hash);
                    progress(&total.0, args.seeds, started, failed.then_some(seed));
                }
            });
        }
    });
    let (mut summary, hashes) = total.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner());
    let bytes: Vec<u8> = hashes.values().flat_map(|hash: &u64| hash.to_le_bytes()).collect();
    summary.trace_hash = format!("{:016x}", xxhash_rust::xxh3::xxh3_64(&bytes));
    summary.seconds = started.elapsed().as_secs_f64();
    summary.failed.sort_by_key(|failure| failure.seed);
    summary.judge_coverage();
    Ok(summary)
}

fn progress(summary: &Summary, seeds: u64, started: Instant, failed: Option<u64>) {
    if let Some(seed) = failed {
        eprintln!("sim: seed {seed} failed");
    }
    if failed.is_some() || summary.seeds.is_multiple_of(50) || summary.seeds == seeds {
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
    /// The one word for it.
    pub fn word(&self) -> Word {
        match (&self.failed[..], &self.missed[..]) {
            ([_, ..], _) => Word::Fail,
            ([], [_, ..]) => Word::Unknown,
            ([], []) => Word::Pass,
        }
    }

    /// For people, a line each.
    pub fn lines(&self) -> Vec<String> {
        let Summary { passed, seeds, simulated_seconds, seconds, trace_hash, .. } = self;
        let mut lines = vec![
            format!(
                "{passed} of {seeds} seeds passed, {simulated_seconds:.0} s simulated in \
                 {seconds:.0} s, trace hash {trace_hash}"
            ),
            format!("coverage: {}", coverage::described(&self.coverage)),
        ];
        if !self.missed.is_empty() {
            lines.push(format!("unknown: never happened: {}", self.missed.join(", ")));
        }
        lines.extend(self.failed.iter().flat_map(Failure::lines));
        lines
    }

    fn judge_coverage(&mut self) {
        let missed = coverage::missed(&self.coverage, self.seeds);
        self.missed = missed.into_iter().map(String::from).collect();
    }

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
        let program = std::env::args().next().unwrap_or_else(|| "aqueduct-chaos".into());
        let reproduce = format!("{program} sim {how}");
        let same = |candidate: &Plan| {
            let again = run(candidate, None).findings.violations;
            again.iter().any(|violation| violation.invariant == first.invariant)
        };
        let shortened = shortening.then(|| shorten(plan, SHORTEN_RUNS, same));
        self.failed.push(Failure {
            seed: plan.seed,
            at: first.at,
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

impl Failure {
    fn lines(&self) -> Vec<String> {
        let Failure { seed, invariant, detail, reproduce, .. } = self;
        let (at, count) = (self.at as f64 / 1e6, self.violations.len());
        let mut lines = vec![
            format!("seed {seed}: {at:.3} s: {invariant}: {detail}"),
            format!("  the first of {count} violations; every record of it: --trace FILE"),
            format!("  {reproduce}"),
        ];
        if let Some(plan) = &self.shortened {
            lines.push("  these steps are enough (the plan is in `--output json`):".into());
            let step = |step| serde_json::to_string(step).unwrap_or_default();
            lines.extend(plan.steps.iter().map(|timed| format!("    {}", step(timed))));
        }
        lines
    }
}
