//! What the cluster tests share: a cluster of real processes and the program as a user runs it.

use std::path::Path;
use std::process::{Output, Stdio};
use std::time::{Duration, Instant};

use aqueduct::cli::local::LocalCluster;
use serde_json::Value;
use tokio::process::Command;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::task::JoinHandle;

/// Clusters that may run at a time: they share two cores with the build machine's other work.
static SLOTS: Semaphore = Semaphore::const_new(2);

/// How long a condition may take to come true. Generous: a deadline, not an expectation.
pub const SOON: Duration = Duration::from_secs(60);

/// The program under test.
pub fn binary() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_aqueduct"))
}

/// A program running in the background; killed when dropped.
pub struct Running(JoinHandle<Output>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A cluster in a directory of its own.
pub struct Cluster {
    pub local: LocalCluster,
    _dir: tempfile::TempDir,
    _slot: SemaphorePermit<'static>,
}

/// Starts `nodes` nodes, each with the `extra` flags.
pub async fn cluster(nodes: usize, extra: &[&str]) -> Cluster {
    let cluster = unasked_cluster(nodes, extra).await;
    cluster.until("all nodes vote", |s| voters(s) == nodes).await;
    cluster
}

fn voters(status: &Value) -> usize {
    let roles = status["nodes"].as_array().into_iter().flatten().map(|n| n["role"].as_str());
    roles.filter(|role| matches!(role, Some("leader" | "follower"))).count()
}

impl Cluster {
    /// All client addresses, joined as `--servers` wants them.
    pub fn servers(&self) -> String {
        self.local.servers().join(",")
    }

    /// The program with these words, talking to any node.
    pub fn command(&self, words: &[&str]) -> Command {
        command(&self.servers(), words)
    }

    /// Runs the program to its end.
    pub async fn run(&self, words: &[&str]) -> Output {
        self.command(words).output().await.expect("run the program")
    }

    /// Runs the program, which must succeed, and reads its JSON lines.
    pub async fn lines(&self, words: &[&str]) -> Vec<Value> {
        let mut words = words.to_vec();
        words.extend(["--output", "jsonl"]);
        let output = self.run(&words).await;
        assert!(output.status.success(), "{words:?} failed:\n{}", both(&output));
        json_lines(&output)
    }

    /// Starts the program in the background; [`finish`] waits for it.
    pub fn spawn(&self, words: &[&str]) -> Running {
        let mut words = words.to_vec();
        words.extend(["--output", "jsonl"]);
        let mut command = self.command(&words);
        command.kill_on_drop(true);
        // In a task, so that its output is read while it runs: a full pipe would stop it.
        Running(tokio::spawn(async move { command.output().await.expect("run the program") }))
    }

    /// The answer of `status`, asked of any node; `None` while there is none.
    pub async fn status(&self) -> Option<Value> {
        let output = self.run(&["status", "--output", "jsonl", "--timeout", "2"]).await;
        output.status.success().then(|| json_lines(&output).remove(0))
    }

    /// Waits until `status` satisfies `wanted`, and returns it.
    pub async fn until(&self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + SOON;
        let mut last = Value::Null;
        while Instant::now() < deadline {
            if let Some(status) = self.status().await {
                if wanted(&status) {
                    return status;
                }
                last = status;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("not within {SOON:?}: {what}; the last status was {last:#}")
    }

    /// The id of the node that leads.
    pub async fn leader(&self) -> u64 {
        let status = self.until("there is a leader", |s| s["leader"].is_u64()).await;
        status["leader"].as_u64().expect("checked above")
    }

    /// Kills the leader with SIGKILL and returns its id.
    pub async fn kill_leader(&mut self) -> u64 {
        let id = self.leader().await;
        self.local.node(id).expect("the leader is ours").kill().await.expect("kill the leader");
        id
    }

    /// Starts a stopped node again.
    pub async fn restart(&mut self, id: u64) {
        self.local.node(id).expect("a node of ours").restart().await.expect("restart the node");
    }

    /// Waits until all nodes answer and agree; then the ledgers add up everywhere.
    pub async fn audit(&self) {
        let deadline = Instant::now() + SOON;
        loop {
            let output = self.run(&["audit", "--output", "jsonl", "--timeout", "5"]).await;
            if output.status.success() {
                return;
            }
            assert!(Instant::now() < deadline, "the nodes do not agree:\n{}", both(&output));
        }
    }

    /// Publishes `count` events in the background, on a named lane.
    pub fn publisher(&self, channel: &str, lane: &str, count: u64) -> Running {
        let count = count.to_string();
        self.spawn(&["pub", channel, "--count", &count, "--lane", lane, "--size", "64"])
    }

    /// Creates a durable consumer that is offered everything published from now on.
    pub async fn consumer(&self, channel: &str, name: &str) {
        self.lines(&["pull", channel, "--name", name, "--batch", "1", "--wait", "0"]).await;
    }

    /// Receives everything of a durable consumer until nothing comes for `idle` seconds.
    pub async fn drain(&self, channel: &str, name: &str, idle: &str) -> Vec<Value> {
        self.lines(&["sub", channel, "--name", name, "--from", "all", "--idle-exit", idle]).await
    }
}

/// The program with these words, talking to `servers`.
pub fn command(servers: &str, words: &[&str]) -> Command {
    let mut command = Command::new(binary());
    command.args(words).arg("--servers").arg(servers).stdin(Stdio::null());
    command
}

/// Waits for a program started with [`Cluster::spawn`]; it must succeed.
pub async fn finish(mut running: Running) -> Vec<Value> {
    let output = tokio::time::timeout(SOON * 2, &mut running.0)
        .await
        .expect("the program ends in time")
        .expect("the program's task does not panic");
    assert!(output.status.success(), "the program failed:\n{}", both(&output));
    json_lines(&output)
}

/// The JSON documents on stdout, a line each.
pub fn json_lines(output: &Output) -> Vec<Value> {
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines().map(|line| serde_json::from_str(line).expect("a JSON line")).collect()
}

/// All that a program said, for messages.
pub fn both(output: &Output) -> String {
    let (out, err) = (&output.stdout, &output.stderr);
    format!("{}{}", String::from_utf8_lossy(out), String::from_utf8_lossy(err))
}

/// The channel sequences of acknowledgement or delivery lines.
pub fn seqs(lines: &[Value]) -> std::collections::BTreeSet<u64> {
    lines.iter().filter_map(|line| line["seq"].as_u64()).collect()
}

/// Asserts that every acknowledged event was delivered, and that nothing came from nowhere.
pub fn nothing_lost(acks: &[Value], deliveries: &[Value]) {
    let (acked, delivered) = (seqs(acks), seqs(deliveries));
    let lost: Vec<_> = acked.difference(&delivered).collect();
    assert!(lost.is_empty(), "{} acknowledged, never delivered: {lost:?}", lost.len());
    assert!(!acked.is_empty(), "nothing was acknowledged: the test exercised nothing");
}

/// A cluster that is not asked for its status, because that needs a token.
pub async fn unasked_cluster(nodes: usize, extra: &[&str]) -> Cluster {
    let slot = SLOTS.acquire().await.expect("the semaphore is never closed");
    let dir = tempfile::tempdir().expect("make a temporary directory");
    let local = LocalCluster::start(binary(), &dir.path().join("cluster"), nodes, extra)
        .await
        .expect("start the cluster");
    Cluster { local, _dir: dir, _slot: slot }
}
