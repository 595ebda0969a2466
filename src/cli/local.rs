//! A cluster of real processes on this machine: for `demo`, `bench --spawn` and the cluster tests.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use serde::Deserialize;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

/// How long a node may take from its start to its ready line.
const READY_WITHIN: Duration = Duration::from_secs(30);

/// The line that a node prints on stdout when it serves.
#[derive(Debug, Clone, Deserialize)]
pub struct Ready {
    pub node_id: u64,
    pub cluster_id: String,
    pub client_addr: String,
    pub peer_addr: String,
    pub admin_addr: String,
    pub http_addr: String,
    pub pid: u32,
}

/// One node of a local cluster. Killed when dropped.
pub struct LocalNode {
    binary: PathBuf,
    pub data_dir: PathBuf,
    /// What the node said when it was last ready.
    pub ready: Ready,
    child: Option<Child>,
    /// Flags that it is started with.
    pub extra: Vec<String>,
}

/// Nodes on loopback with ports of the system's choice.
pub struct LocalCluster {
    pub dir: PathBuf,
    pub nodes: Vec<LocalNode>,
    binary: PathBuf,
    extra: Vec<String>,
    remove: bool,
}

/// Whether nodes may go on when the process that started them is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outlives {
    Yes,
    No,
}

impl LocalCluster {
    /// Starts `count` nodes of `binary` under `dir`: the first bootstraps, the others join.
    /// `extra` flags are given to each node. The directory is removed with the value unless
    /// [`LocalCluster::keep`] is called.
    pub async fn start(
        binary: &Path,
        dir: &Path,
        count: usize,
        extra: &[&str],
    ) -> Result<LocalCluster> {
        let mut cluster = LocalCluster {
            dir: dir.to_path_buf(),
            nodes: Vec::new(),
            binary: binary.to_path_buf(),
            extra: extra.iter().map(|s| s.to_string()).collect(),
            remove: true,
        };
        for _ in 0..count {
            cluster.grow().await?;
        }
        Ok(cluster)
    }

    /// Starts `count` nodes of this very program in a fresh temporary directory.
    pub async fn of_this_binary(count: usize, outlives: Outlives) -> Result<LocalCluster> {
        let binary = std::env::current_exe().context("find this program's own path")?;
        let dir = std::env::temp_dir().join(format!("aqueduct-{:016x}", fastrand::u64(..)));
        let parent = std::process::id().to_string();
        let bound = ["--end-with-parent", parent.as_str()];
        let extra = if outlives == Outlives::Yes { &[][..] } else { &bound[..] };
        LocalCluster::start(&binary, &dir, count, extra).await
    }

    /// Adds a node: bootstrapped if it is the first, joined to the others otherwise.
    pub async fn grow(&mut self) -> Result<&mut LocalNode> {
        // A node that is gone has left its directory behind.
        let mut free =
            (self.nodes.len() + 1..).map(|number| self.dir.join(format!("node{number}")));
        let data_dir = free.find(|dir| !dir.exists()).context("find a name for a directory")?;
        let mut arguments = self.extra.clone();
        if self.nodes.is_empty() {
            arguments.push("--bootstrap".into());
        } else {
            let peers: Vec<_> = self.nodes.iter().map(|n| n.ready.peer_addr.clone()).collect();
            arguments.extend(["--join".into(), peers.join(",")]);
        }
        let addresses = ["127.0.0.1:0"; 4].map(String::from);
        let (child, ready) = launch(&self.binary, &data_dir, &addresses, &arguments).await?;
        let node = LocalNode {
            binary: self.binary.clone(),
            data_dir,
            ready,
            child: Some(child),
            extra: arguments,
        };
        self.nodes.push(node);
        self.nodes.last_mut().context("the node just added")
    }

    /// Client addresses of all nodes, running or not.
    pub fn servers(&self) -> Vec<String> {
        self.nodes.iter().map(|n| n.ready.client_addr.clone()).collect()
    }

    /// The node of this id.
    pub fn node(&mut self, id: u64) -> Option<&mut LocalNode> {
        self.nodes.iter_mut().find(|n| n.ready.node_id == id)
    }

    /// Leaves the processes running and the directory in place.
    pub fn keep(mut self) {
        self.remove = false;
        for node in &mut self.nodes {
            // Forgotten, not dropped: dropping would kill the process.
            if let Some(child) = node.child.take() {
                std::mem::forget(child);
            }
        }
    }
}

impl Drop for LocalCluster {
    fn drop(&mut self) {
        if self.remove {
            self.nodes.clear();
            // A directory that stays behind is a nuisance, not a failure.
            let _ = std::fs::remove_dir_all(&self.dir);
        }
    }
}

impl LocalNode {
    /// Whether its process runs.
    pub fn running(&mut self) -> bool {
        self.child.as_mut().is_some_and(|c| matches!(c.try_wait(), Ok(None)))
    }

    /// Process id while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().and_then(Child::id)
    }

    /// Sends a signal to the node's process.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let pid =
            self.pid().and_then(|p| Pid::from_raw(p as i32)).context("the node is not running")?;
        kill_process(pid, signal).with_context(|| format!("signal process {pid:?}"))
    }

    /// SIGKILL, and waits until the process is gone. Returns when the signal was sent.
    pub async fn kill(&mut self) -> Result<Instant> {
        let at = Instant::now();
        self.signal(Signal::KILL)?;
        self.wait().await?;
        Ok(at)
    }

    /// SIGTERM, and waits for the end; the exit code if there is one.
    pub async fn terminate(&mut self) -> Result<Option<i32>> {
        self.signal(Signal::TERM)?;
        self.wait().await
    }

    async fn wait(&mut self) -> Result<Option<i32>> {
        let Some(mut child) = self.child.take() else { return Ok(None) };
        let status = child.wait().await.context("wait for the node's process")?;
        Ok(status.code())
    }

    /// Starts the stopped node again on the same directory and addresses.
    pub async fn restart(&mut self) -> Result<()> {
        if self.running() {
            bail!("node {} is still running", self.ready.node_id);
        }
        let ready = &self.ready;
        let addresses = [&ready.client_addr, &ready.peer_addr, &ready.admin_addr, &ready.http_addr]
            .map(String::clone);
        let (child, ready) = launch(&self.binary, &self.data_dir, &addresses, &self.extra).await?;
        self.child = Some(child);
        self.ready = ready;
        Ok(())
    }
}

/// Whether a node says with this line that its disk is full, and will say more.
fn waits_for_room(line: &str) -> bool {
    let said: serde_json::Value = serde_json::from_str(line).unwrap_or_default();
    said["event"] == "disk_full"
}

/// Starts a node process and waits for its ready line. Its log goes to `node.log` beside its data.
async fn launch(
    binary: &Path,
    data_dir: &Path,
    addresses: &[String; 4],
    arguments: &[String],
) -> Result<(Child, Ready)> {
    std::fs::create_dir_all(data_dir).with_context(|| format!("create {}", data_dir.display()))?;
    let log_path = data_dir.with_extension("log");
    let log = std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(&log_path)
        .with_context(|| format!("open {}", log_path.display()))?;
    let mut command = Command::new(binary);
    command.arg("node").arg("--data-dir").arg(data_dir);
    for (flag, address) in ["--listen", "--peer", "--admin", "--http"].iter().zip(addresses) {
        command.args([flag, address.as_str()]);
    }
    command
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log)
        .kill_on_drop(true)
        .process_group(0);
    let mut child = command.spawn().with_context(|| format!("start {}", binary.display()))?;
    let stdout = child.stdout.take().context("the node's stdout is not piped")?;
    let mut lines = BufReader::new(stdout).lines();
    let spoken = async {
        loop {
            match lines.next_line().await {
                Ok(Some(line)) if waits_for_room(&line) => {}
                other => return other,
            }
        }
    };
    match tokio::time::timeout(READY_WITHIN, spoken).await {
        Ok(Ok(Some(line))) => {
            let ready = serde_json::from_str(&line)
                .with_context(|| format!("understand the node's ready line {line:?}"))?;
            Ok((child, ready))
        }
        outcome => {
            let log = std::fs::read_to_string(&log_path).unwrap_or_default();
            let tail: Vec<_> = log.lines().rev().take(12).collect();
            let tail: String = tail.into_iter().rev().map(|l| format!("\n  {l}")).collect();
            let what = if outcome.is_err() {
                "was not ready in time"
            } else {
                "ended before it was ready"
            };
            bail!("node in {} {what}; the end of {}:{tail}", data_dir.display(), log_path.display())
        }
    }
}
