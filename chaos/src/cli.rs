//! The command line.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use clap::{Args, Parser, Subcommand, ValueEnum};
use serde::Serialize;

use crate::scenarios::{self, Options, Scenario};
use crate::sim::{SimArgs, Usage, simulate};
use crate::verdict::{Verdict, Word};

/// Finds bugs in aqueduct before its users do: simulates whole clusters by seed, and breaks real
/// ones.
///
/// What comes out is on stdout, how it goes on stderr. Exit codes: 0 everything held, 1 something
/// did not, 2 unknown (the run did not do what it is for), 64 usage.
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
    /// How long faults go on; setup, healing and draining come on top
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
    /// Its name; `list` has them
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
            let usage = error.downcast_ref::<Usage>().is_some();
            ExitCode::from(if usage { USAGE } else { Word::Unknown.exit_code() })
        }
    }
}

impl Cli {
    /// Logs go to stderr. A simulation breaks its nodes all the time, and is quiet about it unless
    /// `RUST_LOG` asks.
    fn log(&self) {
        let usual = match self.command {
            Command::Sim(_) => "off",
            _ => "warn,aqueduct_chaos=info",
        };
        let filter = tracing_subscriber::EnvFilter::try_from_default_env();
        tracing_subscriber::fmt()
            .with_env_filter(filter.unwrap_or_else(|_| usual.into()))
            .with_writer(std::io::stderr)
            .with_target(false)
            .init();
    }

    fn run(self) -> Result<u8> {
        match self.command {
            Command::Sim(args) => sim(&args, self.output),
            Command::Run(args) => run(&args, self.output),
            Command::All(args) => all(&args, self.output),
            Command::List => list(self.output),
            Command::Report { dir } => {
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
    let summary = simulate(args)?;
    match output {
        Output::Json => println!("{}", serde_json::to_string(&summary)?),
        Output::Table => summary.lines().iter().for_each(|line| println!("{line}")),
    }
    Ok(summary.word().exit_code())
}

fn run(args: &RunArgs, output: Output) -> Result<u8> {
    let Some(scenario) = scenarios::find(&args.scenario) else {
        eprintln!("aqueduct-chaos: there is no scenario '{}'{}", args.scenario, similar(args));
        return Ok(USAGE);
    };
    let seed = args.common.seed.unwrap_or_else(any_seed);
    let place = || Path::new("chaos-runs").join(format!("{}-{seed}", scenario.name));
    let out = args.out.clone().unwrap_or_else(place);
    let verdict = one(scenario, &args.common, args.common.seconds, seed, &out)?;
    print(&verdict, &out, output)?;
    Ok(verdict.verdict.exit_code())
}

fn similar(args: &RunArgs) -> String {
    let words: Vec<&str> = args.scenario.split('-').collect();
    let near = |scenario: &&&Scenario| {
        words.iter().any(|word| word.len() > 2 && scenario.name.contains(word))
    };
    let all: Vec<&Scenario> = scenarios::all().collect();
    let names: Vec<&str> = all.iter().filter(near).map(|scenario| scenario.name).collect();
    match names.is_empty() {
        true => "; 'aqueduct-chaos list' has them".into(),
        false => format!("; did you mean {}?", names.join(" or ")),
    }
}

fn one(
    scenario: &Scenario,
    common: &Common,
    seconds: Option<u64>,
    seed: u64,
    out: &Path,
) -> Result<Verdict> {
    let options = Options {
        nodes: common.nodes.map(usize::from),
        seconds,
        binary: common.binary.clone(),
        keep: common.keep,
        ..Options::new(seed, out)
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let verdict = runtime.block_on(scenarios::run(scenario, &options));
    runtime.shutdown_timeout(std::time::Duration::from_secs(5));
    verdict.with_context(|| format!("run '{}'", scenario.name))
}

/// One line of the summary of many runs.
#[derive(Debug, Serialize)]
struct Line {
    scenario: &'static str,
    verdict: Word,
    acked: u64,
    violations: usize,
    reproduce: String,
}

/// What many runs came to.
#[derive(Debug, Serialize)]
struct Summary {
    runs: Vec<Line>,
    left_out: Vec<String>,
}

fn all(args: &AllArgs, output: Output) -> Result<u8> {
    let mut summary = Summary { runs: Vec::new(), left_out: Vec::new() };
    let seed = args.common.seed.unwrap_or_else(any_seed);
    let seconds = args.common.seconds.or(args.smoke.then_some(SMOKE_SECONDS));
    for scenario in scenarios::all().filter(|scenario| scenario.smoke || !args.smoke) {
        if let Some(why) = scenario.later {
            summary.left_out.push(format!("{}: {why}", scenario.name));
            continue;
        }
        let out = args.out.join(scenario.name);
        let verdict = one(scenario, &args.common, seconds, seed, &out)?;
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
            reproduce: verdict.reproduce,
        });
    }
    match output {
        Output::Json => println!("{}", serde_json::to_string(&summary)?),
        Output::Table => summary.left_out.iter().for_each(|what| println!("left out: {what}")),
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
        "{:<8}{scenario} (seed {seed}): {acked} acknowledged, {lost} lost, {unknown} unknown; {}",
        verdict.verdict,
        dir.display()
    );
    for violation in &verdict.violations {
        let at = violation.at as f64 / 1e6;
        println!("    {:.3} s  {}: {}", at, violation.invariant, violation.detail);
    }
    let did = |key: &String| verdict.coverage.get(key).copied().unwrap_or_default();
    for (key, least) in verdict.required.iter().filter(|(key, least)| did(key) < **least) {
        println!("    did not do its thing: {key} is {}, at least {least} is needed", did(key));
    }
    verdict.left_out.iter().for_each(|what| println!("    left out: {what}"));
    verdict.error.iter().for_each(|why| println!("    the run broke off: {why}"));
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
        assert!(Cli::try_parse_from(["aqueduct-chaos", "run", "x", "--nodes", "0"]).is_err());
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
    fn a_wrong_name_brings_the_right_ones_to_mind() {
        let near = |scenario: &str| {
            let cli = Cli::try_parse_from(["aqueduct-chaos", "run", scenario]).unwrap();
            let Command::Run(args) = cli.command else { panic!() };
            similar(&args)
        };
        assert!(near("leader-kill").contains("leader-kills"), "{}", near("leader-kill"));
        assert!(near("zz").contains("list"));
    }
}
