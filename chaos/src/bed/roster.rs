//! Which nodes there are, and how they are: shared by whoever acts on them and whoever watches.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tokio::sync::watch;

use super::network::Host;

/// A node's process, as the bed sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// Started, and has said nothing yet.
    Starting,
    /// It said that it is ready.
    Ready,
    /// It said that its disk is full, and waits for room.
    Full(String),
    /// It said that its data is damaged, and why.
    Quarantined(String),
    /// It said that the cluster has let it go; it joins as another node.
    Cleared,
    /// It said that the cluster has taken it out.
    Removed,
    /// It has ended: by itself with a code, or by a signal.
    Exited { code: Option<i32>, signal: Option<i32> },
}

/// What it has done, for people.
impl std::fmt::Display for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            State::Starting => f.write_str("is starting"),
            State::Ready => f.write_str("is ready"),
            State::Full(why) => write!(f, "waits for room ({why})"),
            State::Quarantined(why) => write!(f, "is quarantined ({why})"),
            State::Cleared => f.write_str("has given its data up"),
            State::Removed => f.write_str("was taken out"),
            State::Exited { signal: Some(signal), .. } => write!(f, "ended by signal {signal}"),
            State::Exited { code: Some(code), .. } => write!(f, "ended with code {code}"),
            State::Exited { .. } => f.write_str("has no process"),
        }
    }
}

impl State {
    /// Whether there is a process.
    pub fn is_running(&self) -> bool {
        !matches!(self, State::Exited { .. })
    }
}

/// No process waits for room more often.
const LIVES_PER_PROCESS: u64 = 10_000;

/// One node.
#[derive(Debug, Clone)]
pub struct NodeInfo {
    /// Where it is in the network. Stays the same when the node's data is wiped.
    pub host: Host,
    /// Its id in the cluster; 0 while it has none.
    pub id: u64,
    /// Ids under which it was here before, and whose data it has given up by itself.
    pub cleared: Vec<u64>,
    pub data_dir: PathBuf,
    /// What it writes to stderr.
    pub log: PathBuf,
    /// Addresses as clients and administrators reach them.
    pub client_addr: String,
    pub peer_addr: String,
    pub admin_addr: String,
    pub http_addr: String,
    /// While there is a process.
    pub pid: Option<u32>,
    /// How many times it was started.
    pub life: u64,
    /// How many times its processes have waited for room on the disk.
    pub waits: u64,
    pub state: State,
    /// When it last said that it is ready.
    pub ready_at: Option<Instant>,
    /// Whether the cluster counts on it: from its first ready line until it has left.
    pub member: bool,
    /// Stopped by SIGSTOP.
    pub paused: bool,
    /// Told to end.
    pub told: bool,
    /// Processes that ended though nobody wanted it: which node that was, and how.
    pub exits: Vec<(u64, String)>,
}

impl NodeInfo {
    /// Which of its lives it is: a process that waited for room on its disk begins another one.
    pub fn lives(&self) -> u64 {
        self.life * LIVES_PER_PROCESS + self.waits
    }

    /// Whether its process is there and not paused.
    pub fn is_live(&self) -> bool {
        self.state.is_running() && !self.paused
    }
}

/// All nodes. Clones show the same.
#[derive(Debug, Clone)]
pub struct Roster(watch::Sender<Vec<NodeInfo>>);

impl Default for Roster {
    fn default() -> Roster {
        Roster(watch::Sender::new(Vec::new()))
    }
}

impl Roster {
    /// The nodes as they are now, by host.
    pub fn nodes(&self) -> Vec<NodeInfo> {
        self.0.borrow().clone()
    }

    /// The node of this id.
    pub fn node(&self, id: u64) -> Result<NodeInfo> {
        let nodes = self.0.borrow();
        let found = nodes.iter().find(|node| node.id == id).cloned();
        found.with_context(|| format!("there is no node {id}"))
    }

    /// The node that has this id, or had it before it gave its data up.
    pub fn heir(&self, id: u64) -> Result<NodeInfo> {
        let nodes = self.0.borrow();
        let found = nodes.iter().find(|node| node.id == id || node.cleared.contains(&id)).cloned();
        found.with_context(|| format!("there is no node {id}, and there was none"))
    }

    /// Waits until the nodes satisfy `wanted`, and shows them as they were then.
    pub async fn until(
        &self,
        what: &str,
        within: Duration,
        wanted: impl Fn(&[NodeInfo]) -> bool,
    ) -> Result<Vec<NodeInfo>> {
        let mut watching = self.0.subscribe();
        let waiting = watching.wait_for(|nodes| wanted(nodes));
        match tokio::time::timeout(within, waiting).await {
            Ok(Ok(nodes)) => Ok(nodes.clone()),
            _ => {
                let nodes = self.nodes();
                let states = nodes.iter().map(|node| format!("node {} {}", node.id, node.state));
                let states: Vec<_> = states.collect();
                bail!("not within {within:?}: {what}; {}", states.join(", "))
            }
        }
    }

    pub(super) fn add(&self, node: NodeInfo) {
        self.0.send_modify(|nodes| nodes.push(node));
    }

    /// Changes a node, unless another life has begun since.
    pub(super) fn change(&self, host: Host, life: u64, change: impl FnOnce(&mut NodeInfo)) {
        self.0.send_modify(|nodes| {
            if let Some(node) = nodes.iter_mut().find(|n| n.host == host && n.life == life) {
                change(node);
            }
        });
    }
}
