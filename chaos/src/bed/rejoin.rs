//! Following a node that gives its damaged data up and comes back as another one.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use super::bed::Bed;
use super::network::Host;
use super::roster::{NodeInfo, State};

/// Nobody waits longer for a node to be whole again; what is too long is for others to judge.
const REJOINED_WITHIN: Duration = Duration::from_secs(120);

impl Bed {
    /// Kills the process that was `node` once, whatever it is now, and starts it again. Says no if
    /// there was none.
    pub async fn start_over(&mut self, node: u64) -> Result<bool> {
        let host = self.roster().heir(node)?.host;
        self.start_over_at(host).await
    }

    /// Waits until what was `node` is a voter under another id; that id, and when it said that it is
    /// ready, which it does as soon as it votes.
    pub async fn rejoined(&mut self, node: u64) -> Result<(u64, Instant)> {
        let host = self.roster().heir(node)?.host;
        let settled = |at: &NodeInfo| {
            let another = at.state == State::Ready && at.id != node;
            another || !at.state.is_running()
        };
        let new = self.settled(host, settled).await?;
        if new.state != State::Ready {
            bail!("what was node {node} {} instead of joining anew", new.state);
        }
        let votes = |id: u64, role: &str| id == new.id && matches!(role, "leader" | "follower");
        let what = format!("node {}, which was node {node}, votes", new.id);
        self.until(&what, |status| {
            status.nodes.iter().any(|node| votes(node.id.0, node.role.as_str()))
        })
        .await?;
        Ok((new.id, new.ready_at.unwrap_or_else(Instant::now)))
    }

    /// Starts what was damaged and has no process, and waits until everything is ready: with
    /// `rejoin = "auto"` nobody has to do more.
    pub async fn all_ready(&mut self) -> Result<()> {
        for node in self.nodes().iter().filter(|node| !node.state.is_running()) {
            self.launch_at(node.host)?;
        }
        for node in self.nodes() {
            self.settled(node.host, |at| at.state == State::Ready).await?;
        }
        Ok(())
    }

    async fn settled(&self, host: Host, settled: impl Fn(&NodeInfo) -> bool) -> Result<NodeInfo> {
        let at = |nodes: &[NodeInfo]| nodes.iter().find(|node| node.host == host).cloned();
        let is_settled = |nodes: &[NodeInfo]| at(nodes).is_some_and(|node| settled(&node));
        let what = format!("the node at host {} is whole again", host.0);
        let nodes = self.roster().until(&what, REJOINED_WITHIN, is_settled).await?;
        match at(&nodes) {
            Some(node) => Ok(node),
            None => bail!("there is no host {}", host.0),
        }
    }
}
