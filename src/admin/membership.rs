//! Joining, leaving, removing, transferring.

use super::office::Office;
use super::report;
use crate::transport::Net;
use crate::types::{Code, NodeId, Rejection};
use crate::wire::admin::{ClusterInfo, Joined, Member, Members, Transferred};

impl<N: Net> Office<N> {
    /// The members as this node knows them.
    pub fn members(&self) -> Members {
        let leader = self.leadership().leader;
        let members = self.replica().members();
        Members {
            members: members.iter().map(|m| report::member_entry(m, leader.as_ref())).collect(),
        }
    }

    /// Identity and members as this node knows them.
    pub fn cluster_info(&self) -> ClusterInfo {
        ClusterInfo {
            cluster_id: self.cluster(),
            leader: self.leadership().leader.as_ref().map(report::member),
            members: self.replica().members().iter().map(|m| report::member(&m.member)).collect(),
        }
    }

    /// Takes a node in as a learner, under a new id if it has none. A member that comes back from
    /// elsewhere is recorded at its new addresses.
    pub async fn join(&self, member: Member) -> Result<Joined, Rejection> {
        check_addresses(&member)?;
        let member = report::to_consensus(member);
        let node_id = match member.id {
            NodeId(0) => self.replica().admit(member).await?,
            id => {
                self.know(id).await?;
                self.replica().relocate(member).await?;
                id
            }
        };
        let ClusterInfo { cluster_id, members, .. } = self.cluster_info();
        Ok(Joined { cluster_id, node_id, members })
    }

    /// Refuses a node that was removed, for good: it must not take our word if we are deposed.
    async fn know(&self, id: NodeId) -> Result<(), Rejection> {
        self.linearize().await?;
        if self.replica().members().iter().any(|info| info.member.id == id) {
            return Ok(());
        }
        let message = format!("node {id} is no member of cluster {}", self.cluster());
        Err(Rejection::new(Code::NotAllowed, message)
            .hint("it was removed; join anew with an empty data directory"))
    }

    /// Makes a learner a voter.
    pub async fn promote(&self, node: NodeId) -> Result<Members, Rejection> {
        self.replica().promote(node).await?;
        Ok(self.members())
    }

    /// Takes a member out.
    pub async fn remove(&self, node: NodeId) -> Result<Members, Rejection> {
        if !self.replica().members().iter().any(|info| info.member.id == node) {
            let message = format!("node {node} is not a member of the cluster");
            return Err(Rejection::new(Code::MembershipRefused, message)
                .hint("list the members with `aqueduct cluster`"));
        }
        self.replica().remove(node).await?;
        let Members { mut members } = self.members();
        // This node hears of its own removal last.
        members.retain(|member| member.id != node);
        Ok(Members { members })
    }

    /// Hands leadership over.
    pub async fn transfer(&self, to: Option<NodeId>) -> Result<Transferred, Rejection> {
        let leader = self.replica().transfer(to).await?;
        Ok(Transferred { leader, term: self.leadership().term })
    }
}

/// Addresses end up in the configuration of every member: they must at least look like some.
fn check_addresses(member: &Member) -> Result<(), Rejection> {
    for addr in [&member.peer_addr, &member.client_addr, &member.admin_addr] {
        let port = addr.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok());
        if addr.len() > 300 || port.is_none_or(|port| port == 0) {
            let message = format!("'{addr}' is not an address others can call");
            return Err(Rejection::new(Code::BadRequest, message).hint("advertise HOST:PORT"));
        }
    }
    Ok(())
}
