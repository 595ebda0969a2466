//! The command line.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use clap::builder::PossibleValuesParser;
use clap::{Args, Parser, Subcommand, ValueEnum};
use serde::Serialize;

use crate::interrupt::{Interrupt, Told};
use crate::scenarios::{self, Options, Refusal, Scenario};
use crate::sim::{SimArgs, Usage, simulate};
use crate::verdict::{Verdict, Word};

/// Finds bugs in aqueduct before its users do: simulates whole clusters by seed, and breaks real
/// ones.
///
/// What comes out is on stdout, how it goes on stderr. Exit codes: 0 everything held, 1 something
/// did not, 2 unknown (the run did not do what it is for, or a fault went wrong), 64 usage, 130 and
/// 143 interrupted.
#[derive(Debug, Parser)]
#[command(name = "aqueduct-chaos", version)]
pub struct Cli {
    /// How results are printed
    #[arg(long, value_enum, default_value_t = Output::Table, global = true)]
    output: Output,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    Table,
    Json,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Simulate clusters in virtual time, by seed
    Sim(SimArgs),
    /// Run one scenario on real processes
    Run(RunArgs),
    /// Run all scenarios, one after the other
    All(AllArgs),
    /// List the scenarios: what each guards, and what it needs
    List,
    /// Judge a recorded run again and rewrite its verdict and report
    Report {
        /// The directory of the run
        dir: PathBuf,
    },
}

#[derive(Debug, Args)]
struct Common {
    /// Nodes; default: as the scenario has it
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=9))]
    nodes: Option<u8>,
    /// How long faults go on at least: each round of a scenario is played once, however long that
    /// takes; setup, healing and draining come on top
    #[arg(long, value_name = "S")]
    seconds: Option<u64>,
    /// Decides about targets and times; default: another one each time
    #[arg(long, value_name = "SEED")]
    seed: Option<u64>,
    /// The program under test
    #[arg(long, value_name = "FILE", env = "AQUEDUCT_BINARY")]
    binary: Option<PathBuf>,
    /// Keep the nodes' data also when the run passes
    #[arg(long)]
    keep: bool,
}

#[derive(Debug, Args)]
struct RunArgs {
    /// Its name; `list` says more
    #[arg(value_parser = PossibleValuesParser::new(scenarios::all().map(|scenario| scenario.name)), hide_possible_values = true)]
    scenario: String,
    #[command(flatten)]
    common: Common,
    /// Directory of the run [default: chaos-runs/SCENARIO-SEED]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct AllArgs {
    /// Only the short selection, 10 s each unless said otherwise
    #[arg(long)]
    smoke: bool,
    #[command(flatten)]
    common: Common,
    /// Directory of the runs, one directory each
    #[arg(long, value_name = "DIR", default_value = "chaos-runs")]
    out: PathBuf,
}

/// Seconds of faults in each run of the short selection.
const SMOKE_SECONDS: u64 = 10;
/// The exit code of a call that makes no sense.
const USAGE: u8 = 64;

/// Does what the command line says.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let code = if error.use_stderr() { USAGE } else { 0 };
            let _ = error.print();
            return ExitCode::from(code);
        }
    };
    cli.log();
    match cli.run() {
        Ok(word) => ExitCode::from(word),
        Err(error) => {
            eprintln!("aqueduct-chaos: {error:#}");
            ExitCode::from(exit_code(&error))
        }
    }
}

/// Whether it was asked for something that makes no sense, or something went wrong.
fn exit_code(error: &anyhow::Error) -> u8 {
    match error.is::<Refusal>() || error.is::<Misused>() || error.is::<Usage>() {
        true => USAGE,
        false => Word::Unknown.exit_code(),
    }
}

/// A file that was named is not there.
#[derive(Debug, thiserror::Error)]
#[error("{file} is not there; {hint}")]
struct Misused {
    file: String,
    hint: &'static str,
}

fn must_exist(path: &Path, hint: &'static str) -> Result<(), Misused> {
    let file = path.display().to_string();
    if path.exists() { Ok(()) } else { Err(Misused { file, hint }) }
}

impl Cli {
    /// Logs go to stderr. A simulation breaks its nodes all the time, and is quiet about it unless
    /// `RUST_LOG` asks.
    fn log(&self) {
        let usual = match self.command {
            Command::Sim(_) => "off",
            _ => "warn,tarpc=off,aqueduct_chaos=info",
        };
        let filter = tracing_subscriber::EnvFilter::try_from_default_env();
        tracing_subscriber::fmt()
            .with_env_filter(filter.unwrap_or_else(|_| usual.into()))
            .with_writer(std::io::stderr)
            .with_target(false)
            .with_ansi(std::io::stderr().is_terminal())
            .init();
    }

    fn run(self) -> Result<u8> {
        match self.command {
            Command::Sim(args) => sim(&args, self.output),
            Command::Run(args) => run(&args, self.output),
            Command::All(args) => all(&args, self.output),
            Command::List => list(self.output),
            Command::Report { dir } => {
                let hint = "name the directory of a run, see 'run --out'";
                must_exist(&dir.join("history.jsonl"), hint)?;
                let verdict = scenarios::judge_again(&dir)?;
                print(&verdict, &dir, self.output)?;
                Ok(verdict.verdict.exit_code())
            }
        }
    }
}

fn sim(args: &SimArgs, output: Output) -> Result<u8> {
    if let Some(plan) = crate::sim::shown(args)? {
        println!("{}", serde_json::to_string_pretty(&plan)?);
        return Ok(0);
    }
    if let Some(plan) = &args.plan {
        must_exist(plan, "'sim --seed S --show' prints a plan")?;
    }
    let summary = simulate(args)?;
    match output {
        Output::Json => println!("{}", serde_json::to_string(&summary)?),
        Output::Table => summary.lines().iter().for_each(|line| println!("{line}")),
    }
    Ok(summary.word().exit_code())
}

fn run(args: &RunArgs, output: Output) -> Result<u8> {
    let scenario = scenarios::find(&args.scenario).context("there is no such scenario")?;
    let seed = args.common.seed.unwrap_or_else(any_seed);
    let place = || Path::new("chaos-runs").join(format!("{}-{seed}", scenario.name));
    let out = args.out.clone().unwrap_or_else(place);
    let (verdict, told) = one(scenario, &args.common, args.common.seconds, seed, &out)?;
    print(&verdict, &out, output)?;
    Ok(told.exit_code().unwrap_or(verdict.verdict.exit_code()))
}

fn one(
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

fn all(args: &AllArgs, output: Output) -> Result<u8> {
    let mut interrupted = None;
    let mut summary = Summary { runs: Vec::new(), left_out: Vec::new() };
    let seed = args.common.seed.unwrap_or_else(any_seed);
    let seconds = args.common.seconds.or(args.smoke.then_some(SMOKE_SECONDS));
    for scenario in scenarios::all().filter(|scenario| scenario.smoke || !args.smoke) {
        if let Some(why) = scenario.later {
            summary.left_out.push(format!("{}: {why}", scenario.name));
            continue;
        }
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

fn print(verdict: &Verdict, dir: &Path, output: Output) -> Result<()> {
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

/// One scenario, as listed.
#[derive(Debug, Serialize)]
struct Listed {
    name: &'static str,
    guards: &'static str,
    nodes: usize,
    seconds: u64,
    smoke: bool,
    needs: String,
    later: Option<&'static str>,
}

fn list(output: Output) -> Result<u8> {
    let listed: Vec<Listed> = scenarios::all()
        .map(|scenario| Listed {
            name: scenario.name,
            guards: scenario.guards,
            nodes: scenario.nodes,
            seconds: scenario.seconds,
            smoke: scenario.smoke,
            needs: scenario.bed.describe(),
            later: scenario.later,
        })
        .collect();
    if output == Output::Json {
        println!("{}", serde_json::to_string(&listed)?);
        return Ok(0);
    }
    for one in listed {
        let mark = if one.smoke { ", smoke" } else { "" };
        println!("{}  ({} nodes, {} s{mark})", one.name, one.nodes, one.seconds);
        println!("    {}", one.guards);
        if !one.needs.is_empty() {
            println!("    needs: {}", one.needs);
        }
        one.later.iter().for_each(|why| println!("    left out: {why}"));
    }
    Ok(0)
}

fn any_seed() -> u64 {
    // Short enough to be typed again.
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    now.as_millis() as u64 % 1_000_000
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
        let run =
            ["aqueduct-chaos", "run", "kills", "--nodes", "5", "--seconds", "3", "--seed", "9"];
        let Command::Run(args) = Cli::try_parse_from(run).unwrap().command else { panic!() };
        assert_eq!((args.scenario.as_str(), args.common.seed), ("kills", Some(9)));
        assert!(Cli::try_parse_from(["aqueduct-chaos", "run", "kills", "--nodes", "0"]).is_err());
        let sim = |words: &str| {
            Cli::try_parse_from(["aqueduct-chaos", "sim"].into_iter().chain(words.split(' ')))
        };
        assert!(sim("--seeds 3").is_ok());
        assert!(sim("--seed 3 --trace f").is_ok() && sim("--plan f --show").is_ok());
        for senseless in
            ["--seeds 0", "--jobs 0", "--seeds 1 --trace f", "--show", "--seed 1 --plan f"]
        {
            assert!(sim(senseless).is_err(), "{senseless}");
        }
    }

    #[test]
    fn a_wrong_name_brings_the_right_one_to_mind() {
        let said =
            |name| Cli::try_parse_from(["aqueduct-chaos", "run", name]).unwrap_err().to_string();
        for (wrong, right) in [("leader-kill", "leader-kills"), ("partitons", "partitions")] {
            assert!(said(wrong).contains(&format!("'{right}'")), "{}", said(wrong));
        }
    }

    #[test]
    fn what_makes_no_sense_is_told_from_what_went_wrong() {
        let common = || {
            let cli = ["aqueduct-chaos", "run", "partitions", "--nodes", "1"];
            let Command::Run(args) = Cli::try_parse_from(cli).unwrap().command else { panic!() };
            args.common
        };
        let dir = tempfile::tempdir().unwrap();
        let scenario = scenarios::find("partitions").unwrap();
        let refused = one(scenario, &common(), None, 1, dir.path()).unwrap_err();
        assert_eq!(exit_code(&refused), USAGE);
        assert!(format!("{refused:#}").contains("at least 3 nodes"), "{refused:#}");
        assert_eq!(exit_code(&anyhow::anyhow!("the disk is full")), Word::Unknown.exit_code());
    }
}
