//! People: the command line, its tables and JSON, the demo and the benchmarks.
//!
//! Layer 7. Raw words (`args`) become connections (`connect`) and calls of the client library or
//! the admin client; nothing here has a private door into a node. `local` starts clusters of real
//! processes, for `demo`, `bench --spawn` and the tests.

mod admins;
pub mod args;
mod asked;
mod backup;
mod bench;
mod channel;
mod cluster;
mod connect;
mod dead;
mod demo;
mod dump;
mod exit;
mod interrupt;
pub mod local;
mod node;
mod output;
mod parent;
mod proxies;
mod publish;
mod quality;
mod receive;
mod recover;
mod scheduler;
mod serve;
mod status;

use std::ffi::OsString;
use std::num::NonZero;
use std::process::ExitCode;

use clap::Parser;
use tokio::runtime::Runtime;

use self::args::{Cli, Command, Common, Format};
use self::connect::admin as connect_admin;
use self::exit::{Exit, Failure};
use self::interrupt::unless_interrupted;

/// Runs the program with these words (the first is its name) and says how it ended.
pub fn run(words: impl IntoIterator<Item = OsString>) -> ExitCode {
    let words: Vec<OsString> = words.into_iter().collect();
    let wants_json = wants_json(&words);
    let cli = match Cli::try_parse_from(words) {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version come this way too, and are no errors.
            if !error.use_stderr() {
                let _ = error.print();
                return Exit::Ok.into();
            }
            match wants_json {
                true => Failure::usage(error.to_string().trim_end()).print(Format::Jsonl),
                false => drop(error.print()),
            }
            return Exit::Usage.into();
        }
    };
    let runtime = match runtime() {
        Ok(runtime) => runtime,
        Err(error) => {
            Failure::from(error).print(cli.common.output);
            return Exit::CheckFailed.into();
        }
    };
    let outcome = runtime.block_on(dispatch(&cli.common, &cli.command));
    // Reads of stdin block a thread that nothing can wake: do not wait for it.
    runtime.shutdown_background();
    match outcome {
        Ok(exit) => exit.into(),
        Err(failure) => {
            failure.print(cli.common.output);
            failure.exit.into()
        }
    }
}

/// Half the processors work on tasks: most of what a node does is handing one event from task to
/// task, which costs more the more threads are woken for it, and log, snapshots and the kernel's
/// own work want the other half. `TOKIO_WORKER_THREADS` says otherwise.
fn runtime() -> std::io::Result<Runtime> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    if std::env::var_os("TOKIO_WORKER_THREADS").is_none() {
        let processors = std::thread::available_parallelism().map_or(1, NonZero::get);
        builder.worker_threads(processors.div_ceil(2));
    }
    builder.enable_all().build()
}

/// Whether the words ask for JSON, as far as words that do not parse can tell.
fn wants_json(words: &[OsString]) -> bool {
    let words: Vec<_> = words.iter().filter_map(|word| word.to_str()).collect();
    let json = |word: &str| matches!(word, "json" | "jsonl");
    words.windows(2).any(|pair| matches!(pair[0], "-o" | "--output") && json(pair[1]))
        || words.iter().any(|word| word.strip_prefix("--output=").is_some_and(json))
}

async fn dispatch(common: &Common, command: &Command) -> Result<Exit, Failure> {
    match command {
        Command::Demo(flags) => unless_interrupted(demo::run(common, flags)).await,
        Command::Node(flags) => node::run(common, flags).await,
        Command::Config(flags) => node::config(common, flags),
        Command::Cluster(flags) => {
            cluster::run(common, flags.action.as_ref().unwrap_or(&args::ClusterAction::Ls)).await
        }
        Command::Status(flags) => status::status(common, flags).await,
        Command::Audit => status::audit(common).await,
        Command::Channel(command) => channel::run(common, command).await,
        Command::Qos(command) => quality::run(common, command).await,
        Command::Admin(command) => admins::run(common, command).await,
        Command::Proxy(command) => proxies::run(common, command).await,
        Command::Scheduler(command) => scheduler::run(common, command).await,
        Command::Dead(command) => dead::run(common, command).await,
        Command::Pub(flags) => publish::run(common, flags).await,
        Command::Serve(flags) => serve::run(common, flags).await,
        Command::Sub(flags) => receive::subscribe(common, flags).await,
        Command::Pull(flags) => receive::pull(common, flags).await,
        Command::Ack(flags) => receive::ack(common, flags).await,
        Command::Nack(flags) => receive::nack(common, flags).await,
        Command::Log(args::Log::Dump(flags)) => dump::log(common, flags),
        Command::Snapshot(args::Snapshot::Dump(flags)) => dump::snapshot(common, flags),
        Command::Backup(flags) => unless_interrupted(backup::backup(common, flags)).await,
        Command::Restore(flags) => backup::restore(common, flags),
        Command::Recover(flags) => recover::run(common, flags),
        Command::Bench(command) => unless_interrupted(bench::run(common, command)).await,
    }
}
