//! The words of the commands about what is on disk: dumps, backup, restore, recover.

use std::path::PathBuf;

use clap::{Args, Subcommand};

#[derive(Debug, Subcommand)]
pub enum Log {
    /// Show entries and their commands; changes nothing. Exits with 1 if something is damaged
    Dump(LogDump),
}

#[derive(Debug, Args)]
pub struct LogDump {
    /// Data directory of the stopped node.
    pub dir: PathBuf,
    /// First log index to show.
    #[arg(long, value_name = "INDEX", default_value_t = 0, hide_default_value = true)]
    pub from: u64,
    /// Last log index to show.
    #[arg(long, value_name = "INDEX", default_value_t = u64::MAX, hide_default_value = true)]
    pub to: u64,
    /// Show the bodies of events, too (base64).
    #[arg(long)]
    pub bodies: bool,
}

#[derive(Debug, Subcommand)]
pub enum Snapshot {
    /// Show snapshots, the state in them and segments; changes nothing. Exits with 1 if something
    /// is damaged
    Dump(SnapshotDump),
}

#[derive(Debug, Args)]
pub struct SnapshotDump {
    /// Data directory of the stopped node.
    pub dir: PathBuf,
}

#[derive(Debug, Args)]
pub struct Backup {
    /// File to write; in a directory a name is made up.
    pub file: PathBuf,
}

#[derive(Debug, Args)]
pub struct Restore {
    /// What `aqueduct backup` wrote.
    pub file: PathBuf,
    /// Data directory to make, for `aqueduct node --data-dir`; it must not exist yet.
    #[arg(long, value_name = "DIR")]
    pub data_dir: PathBuf,
}

#[derive(Debug, Args)]
pub struct Recover {
    /// Data directory of the stopped node. It is not changed, but kept beside the new one.
    pub dir: PathBuf,
    /// Write the new data directory here instead of in the place of the old one.
    #[arg(long, value_name = "NEW")]
    pub into: Option<PathBuf>,
    /// Only say what would be kept and what is lost.
    #[arg(long)]
    pub dry_run: bool,
    /// Go ahead. What only the lost members had is given up for good.
    #[arg(long)]
    pub yes_data_may_be_lost: bool,
}
