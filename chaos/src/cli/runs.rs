//! Running scenarios: one, or one after the other.

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use clap::Args;
use clap::builder::PossibleValuesParser;
use serde::Serialize;

use super::Output;
use crate::interrupt::{Interrupt, Told};
use crate::scenarios::{self, Options, Scenario};
use crate::verdict::{Verdict, Word};

/// What all runs have in common.
#[derive(Debug, Args)]
pub struct Common {
    /// Nodes; default: as the scenario has it
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=9))]
    pub nodes: Option<u8>,
    /// How long faults go on at least: each round of a scenario is played once, however long that
    /// takes; setup, healing and draining come on top
    #[arg(long, value_name = "S")]
    pub seconds: Option<u64>,
    /// Decides about targets and times; default: another one each time
    #[arg(long, value_name = "SEED")]
    pub seed: Option<u64>,
    /// The program under test
    #[arg(long, value_name = "FILE", env = "AQUEDUCT_BINARY")]
    pub binary: Option<PathBuf>,
    /// Keep the nodes' data also when the run passes
    #[arg(long)]
    pub keep: bool,
}

#[derive(Debug, Args)]
pub struct RunArgs {
    /// Its name; `list` says more
    #[arg(value_parser = PossibleValuesParser::new(scenarios::all().map(|scenario| scenario.name)), hide_possible_values = true)]
    pub scenario: String,
    #[command(flatten)]
    pub common: Common,
    /// Directory of the run [default: chaos-runs/SCENARIO-SEED]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct AllArgs {
    /// Only the short selection, 10 s each unless said otherwise
    #[arg(long)]
    pub smoke: bool,
    #[command(flatten)]
    pub common: Common,
    /// Directory of the runs, one directory each
    #[arg(long, value_name = "DIR", default_value = "chaos-runs")]
    pub out: PathBuf,
}

/// Seconds of faults in each run of the short selection.
const SMOKE_SECONDS: u64 = 10;

/// Runs one scenario.
pub fn run(args: &RunArgs, output: Output) -> Result<u8> {
    let scenario = scenarios::find(&args.scenario).context("there is no such scenario")?;
    let seed = args.common.seed.unwrap_or_else(any_seed);
    let place = || Path::new("chaos-runs").join(format!("{}-{seed}", scenario.name));
    let out = args.out.clone().unwrap_or_else(place);
    let (verdict, told) = one(scenario, &args.common, args.common.seconds, seed, &out)?;
    print(&verdict, &out, output)?;
    Ok(told.exit_code().unwrap_or(verdict.verdict.exit_code()))
}

/// Runs a scenario; its verdict, and whether it was told to end.
pub fn one(
    scenario: &Scenario,
    common: &Common,
    seconds: Option<u64>,
    seed: u64,
    out: &Path,
) -> Result<(Verdict, Told)> {
    let options = Options {
        nodes: common.nodes.map(usize::from),
        seconds,
        binary: common.binary.clone(),
        keep: common.keep,
        ..Options::new(seed, out)
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let (verdict, told) = runtime.block_on(async {
        let interrupt = Interrupt::listen()?;
        let told = interrupt.told();
        anyhow::Ok((scenarios::run(scenario, &options, interrupt.wait()).await, told))
    })?;
    runtime.shutdown_timeout(std::time::Duration::from_secs(5));
    Ok((verdict?, told))
}

/// One line of the summary of many runs.
#[derive(Debug, Serialize)]
struct Line {
    scenario: &'static str,
    verdict: Word,
    acked: u64,
    violations: usize,
    doubts: Vec<String>,
    reproduce: String,
}

/// What many runs came to.
#[derive(Debug, Serialize)]
struct Summary {
    runs: Vec<Line>,
    left_out: Vec<String>,
}

/// Runs many, one after the other.
pub fn all(args: &AllArgs, output: Output) -> Result<u8> {
    let mut interrupted = None;
    let mut summary = Summary { runs: Vec::new(), left_out: Vec::new() };
    let seed = args.common.seed.unwrap_or_else(any_seed);
    let seconds = args.common.seconds.or(args.smoke.then_some(SMOKE_SECONDS));
    for scenario in scenarios::all().filter(|scenario| scenario.smoke || !args.smoke) {
        let out = args.out.join(scenario.name);
        let (verdict, told) = one(scenario, &args.common, seconds, seed, &out)?;
        interrupted = told.exit_code();
        if output == Output::Table {
            print(&verdict, &out, output)?;
        }
        let named = verdict.left_out.iter().map(|what| format!("{}: {what}", scenario.name));
        summary.left_out.extend(named);
        summary.runs.push(Line {
            scenario: scenario.name,
            verdict: verdict.verdict,
            acked: verdict.acked,
            violations: verdict.violations.len(),
            doubts: verdict.doubts(),
            reproduce: verdict.reproduce,
        });
        if interrupted.is_some() {
            break;
        }
    }
    match output {
        Output::Json => println!("{}", serde_json::to_string(&summary)?),
        Output::Table => summary.left_out.iter().for_each(|what| println!("left out: {what}")),
    }
    if let Some(code) = interrupted {
        return Ok(code);
    }
    let word = |wanted| summary.runs.iter().any(|line| line.verdict == wanted);
    Ok(match () {
        () if word(Word::Fail) => Word::Fail,
        () if word(Word::Unknown) || summary.runs.is_empty() => Word::Unknown,
        () => Word::Pass,
    }
    .exit_code())
}

/// Prints the verdict on the run in `dir`.
pub fn print(verdict: &Verdict, dir: &Path, output: Output) -> Result<()> {
    if output == Output::Json {
        println!("{}", serde_json::to_string(verdict)?);
        return Ok(());
    }
    let Verdict { scenario, seed, acked, lost, unknown, .. } = verdict;
    println!(
        "{:<8}{scenario} (seed {seed}): {acked} acked, {lost} lost, {unknown} unknown; {}",
        verdict.verdict,
        dir.display()
    );
    for violation in &verdict.violations {
        let at = violation.at as f64 / 1e6;
        println!("    {:.3} s  {}: {}", at, violation.invariant, violation.detail);
    }
    verdict.doubts().iter().for_each(|why| println!("    in doubt: {why}"));
    verdict.left_out.iter().for_each(|what| println!("    left out: {what}"));
    if !verdict.nothing_to_judge.is_empty() {
        println!("    nothing to judge: {}", verdict.nothing_to_judge.join(", "));
    }
    if verdict.verdict != Word::Pass {
        println!("    again: {}", verdict.reproduce);
    }
    Ok(())
}

fn any_seed() -> u64 {
    // Short enough to be typed again.
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    now.as_millis() as u64 % 1_000_000
}
