//! What an operator does when a majority is gone for good.

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use tokio::process::Command;

use super::bed::Bed;

/// What `aqueduct recover` says of a log. What else is in it is of no interest here.
#[derive(Deserialize)]
struct Recovery {
    known: Known,
}

#[derive(Deserialize)]
struct Known {
    last_term: u64,
    last_index: u64,
}

impl Bed {
    /// Term and index with which the log of a stopped node ends, as `recover --dry-run` finds them.
    pub async fn log_end(&self, id: u64) -> Result<(u64, u64)> {
        let Known { last_term, last_index } = self.run_recover(id, "--dry-run").await?.known;
        Ok((last_term, last_index))
    }

    /// Makes the directory of a stopped node the first member of a new incarnation. The node has
    /// another id when it is started.
    pub async fn recover(&self, id: u64) -> Result<()> {
        self.run_recover(id, "--yes-data-may-be-lost").await.map(drop)
    }

    /// Removes all data of a stopped node for good.
    pub async fn wipe(&self, id: u64) -> Result<()> {
        let node = self.node(id)?;
        if node.state.is_running() {
            bail!("node {id} is still running");
        }
        let disk = self.disk(id)?.clone();
        tokio::task::spawn_blocking(move || disk.wipe()).await.context("wipe a disk")?
    }

    async fn run_recover(&self, id: u64, how: &str) -> Result<Recovery> {
        let dir = self.node(id)?.data_dir;
        let mut command = Command::new(&self.options().binary);
        command.args(["--output", "json", "recover"]).arg(&dir).arg(how).kill_on_drop(true);
        let output = command.output().await.context("run aqueduct recover")?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            bail!("aqueduct recover {} failed: {}", dir.display(), said.trim());
        }
        serde_json::from_slice(&output.stdout).context("understand what recover says")
    }
}
