//! Asking the cluster as an administrator does.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use aqueduct::client::{AdminClient, AdminError, AdminOptions};
use aqueduct::types::NodeId;
use aqueduct::wire::admin::ClusterStatus;

use super::bed::Bed;
use super::roster::{NodeInfo, State};

/// How long a question may be tried again.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long a cluster may take to have a leader, or to be whole.
pub const SOON: Duration = Duration::from_secs(60);
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(50);

impl Bed {
    /// Client addresses of all nodes, running or not.
    pub fn servers(&self) -> Vec<String> {
        self.nodes().into_iter().map(|node| node.client_addr).collect()
    }

    /// An administrator who asks any node that is ready.
    pub fn admin(&self) -> AdminClient {
        let ready = |node: &NodeInfo| node.state == State::Ready && !node.paused;
        let nodes = self.nodes().into_iter().filter(ready);
        admin_of(nodes.map(|node| node.admin_addr).collect())
    }

    /// An administrator who asks this node only.
    pub fn admin_at(&self, id: u64) -> Result<AdminClient> {
        Ok(admin_of(vec![self.node(id)?.admin_addr]))
    }

    /// The node that leads, as a linearizable status says; waits for one.
    pub async fn leader(&self) -> Result<u64> {
        let status = self.until("there is a leader", |status| status.leader.is_some()).await?;
        status.leader.map(|leader| leader.0).context("a status without a leader")
    }

    /// Waits until `count` nodes vote and answer.
    pub async fn voters(&self, count: usize) -> Result<ClusterStatus> {
        let votes = |status: &ClusterStatus| {
            let roles = status.nodes.iter().map(|node| node.role.as_str());
            roles.filter(|role| matches!(*role, "leader" | "follower")).count() == count
        };
        self.until(&format!("{count} nodes vote"), votes).await
    }

    /// Waits until the status satisfies `wanted`.
    pub async fn until(
        &self,
        what: &str,
        wanted: impl Fn(&ClusterStatus) -> bool,
    ) -> Result<ClusterStatus> {
        let deadline = Instant::now() + SOON;
        let mut last = String::from("nobody was asked");
        while Instant::now() < deadline {
            match self.admin().status(false).await {
                Ok(answer) if wanted(&answer.value) => return Ok(answer.value),
                Ok(answer) => last = format!("the status is {:?}", answer.value.nodes),
                Err(error) => last = error.to_string(),
            }
            tokio::time::sleep(PAUSE).await;
        }
        bail!("not within {SOON:?}: {what}; {last}")
    }

    /// Hands leadership to a node, or to the one best suited; who leads then.
    pub async fn transfer(&self, to: Option<u64>) -> Result<u64> {
        let answer = self.admin().transfer(to.map(NodeId)).await?;
        Ok(answer.value.leader.0)
    }

    /// Takes a node out of the cluster; its process, if there is one, ends by itself.
    pub async fn remove(&self, id: u64) -> Result<()> {
        self.until_out(id, || async { self.admin().remove(NodeId(id)).await.map(drop) }).await
    }

    /// Asks a node to leave; its process ends by itself.
    pub async fn leave(&self, id: u64) -> Result<()> {
        let admin = self.admin_at(id)?;
        self.until_out(id, || async { admin.leave().await.map(drop) }).await
    }

    /// Asks until the node is no member. The answer to one attempt may get lost, or be that an
    /// earlier one has done it.
    async fn until_out<Asked>(&self, id: u64, ask: impl Fn() -> Asked) -> Result<()>
    where
        Asked: Future<Output = Result<(), AdminError>>,
    {
        let deadline = Instant::now() + SOON;
        loop {
            let Err(error) = ask().await else { return self.dismiss(id) };
            let members = self.admin().cluster().await.map(|answer| answer.value.members);
            if members.is_ok_and(|members| members.iter().all(|member| member.id.0 != id)) {
                return self.dismiss(id);
            }
            if Instant::now() > deadline {
                return Err(error).with_context(|| format!("take node {id} out"));
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}

fn admin_of(servers: Vec<String>) -> AdminClient {
    AdminClient::new(AdminOptions {
        name: "bed".into(),
        patience: PATIENCE,
        ..AdminOptions::new(servers)
    })
}
