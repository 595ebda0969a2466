//! The command line.

mod list;
mod runs;

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand, ValueEnum};

use crate::scenarios::{self, Refusal};
use crate::sim::{SimArgs, Usage, simulate};
use crate::verdict::Word;
use runs::{AllArgs, RunArgs};

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
            Command::Run(args) => runs::run(&args, self.output),
            Command::All(args) => runs::all(&args, self.output),
            Command::List => list::list(self.output),
            Command::Report { dir } => {
                let hint = "name the directory of a run, see 'run --out'";
                must_exist(&dir.join("history.jsonl"), hint)?;
                let verdict = scenarios::judge_again(&dir)?;
                runs::print(&verdict, &dir, self.output)?;
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
        let refused = runs::one(scenario, &common(), None, 1, dir.path()).unwrap_err();
        assert_eq!(exit_code(&refused), USAGE);
        assert!(format!("{refused:#}").contains("at least 3 nodes"), "{refused:#}");
        assert_eq!(exit_code(&anyhow::anyhow!("the disk is full")), Word::Unknown.exit_code());
    }
}
