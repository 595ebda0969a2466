//! Who takes part, and how that changes: learner first, then voter; one change at a time.
//!
//! A node id is given out by the leader ([`Replica::admit`]): the successor of the greatest id
//! that any configuration in the log ever held. That is a replicated fact, kept by the state
//! machine and in its snapshots, so an id is never given to a second disk.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use openraft::async_runtime::WatchReceiver;
use openraft::errors::{ChangeMembershipError, ClientWriteError, RaftError};
use openraft::{ChangeMembers, Instant, LogIdOptionExt};

use crate::types::NodeId;

use super::config::{RaftMembership, RaftRuntime, Types};
use super::error::MembershipError;
use super::member::{Member, MemberInfo};
use super::replica::Replica;

/// A learner may become a voter when it lacks at most this many entries.
const CAUGHT_UP_ENTRIES: u64 = 256;
/// How long a promotion waits for its learner.
const CATCH_UP_MAX: Duration = Duration::from_secs(120);
/// A transfer of leadership is given this long.
const TRANSFER_MAX: Duration = Duration::from_secs(5);

impl<E: RaftRuntime> Replica<E> {
    /// The members of the effective configuration, by id.
    pub fn members(&self) -> Vec<MemberInfo> {
        let metrics = self.raft().metrics();
        let metrics = metrics.borrow_watched();
        let membership = metrics.membership_config.membership();
        let voters: BTreeSet<u64> = membership.voter_ids().collect();
        let matched = |id: &u64| match &metrics.replication {
            Some(_) if *id == self.me().0 => metrics.last_log_index,
            Some(replication) => replication.get(id).and_then(|matched| matched.index()),
            None => None,
        };
        let info = |(id, member): (&u64, &Member)| MemberInfo {
            member: member.clone(),
            voter: voters.contains(id),
            matched: matched(id),
        };
        membership.nodes().map(info).collect()
    }

    /// Takes a new node in as a learner and gives it an id; the one in `member` does not matter.
    /// A learner left behind by an earlier attempt from the same address is dropped.
    pub async fn admit(&self, member: Member) -> Result<NodeId, MembershipError> {
        let _one_at_a_time = self.membership_lock().await;
        self.lead()?;
        let stale = self
            .members()
            .into_iter()
            .find(|known| !known.voter && known.member.peer_addr == member.peer_addr);
        if let Some(stale) = stale {
            let ids = BTreeSet::from([stale.member.id.0]);
            self.change(ChangeMembers::RemoveNodes(ids)).await?;
        }
        // One that was given out a moment ago may not be applied yet.
        let given_out = self.membership().nodes().map(|(id, _)| *id).max().unwrap_or(0);
        let id = NodeId(self.last_node().max(given_out) + 1);
        self.add_nodes(Member { id, ..member }).await?;
        Ok(id)
    }

    /// Adds a learner under the id it names, which must be new. Idempotent.
    pub async fn add_learner(&self, member: Member) -> Result<(), MembershipError> {
        let _one_at_a_time = self.membership_lock().await;
        self.lead()?;
        match self.membership().get_node(&member.id.0) {
            Some(known) if *known == member => Ok(()),
            Some(_) => Err(MembershipError::Exists(member.id)),
            None => self.add_nodes(member).await,
        }
    }

    /// Dials a member where it says that it is, until the configuration changes.
    pub fn hear(&self, member: &Member) {
        self.addresses().hear(member);
    }

    /// Records where a member is now. Idempotent. Its id, which the peer handshake checks, says
    /// that it is the same node.
    pub async fn relocate(&self, member: Member) -> Result<(), MembershipError> {
        let _one_at_a_time = self.membership_lock().await;
        self.lead()?;
        match self.membership().get_node(&member.id.0) {
            Some(known) if *known == member => Ok(()),
            Some(_) => {
                let nodes = BTreeMap::from([(member.id.0, member)]);
                self.change(ChangeMembers::SetNodes(nodes)).await
            }
            None => Err(MembershipError::Unknown(member.id)),
        }
    }

    async fn add_nodes(&self, member: Member) -> Result<(), MembershipError> {
        let nodes = BTreeMap::from([(member.id.0, member)]);
        self.change(ChangeMembers::AddNodes(nodes)).await
    }

    /// Makes a learner a voter once it has caught up. Idempotent.
    pub async fn promote(&self, node: NodeId) -> Result<(), MembershipError> {
        self.lead()?;
        let membership = self.membership();
        if membership.get_node(&node.0).is_none() {
            return Err(MembershipError::Unknown(node));
        }
        if membership.voter_ids().any(|voter| voter == node.0) {
            return Ok(());
        }
        self.wait_caught_up(node).await?;
        let _one_at_a_time = self.membership_lock().await;
        self.change(ChangeMembers::AddVoterIds(BTreeSet::from([node.0]))).await
    }

    /// Removes a node, voter or learner. If it is this one, it hands leadership over first.
    /// Idempotent.
    pub async fn remove(&self, node: NodeId) -> Result<(), MembershipError> {
        let _one_at_a_time = self.membership_lock().await;
        self.lead()?;
        let membership = self.membership();
        if membership.get_node(&node.0).is_none() {
            return Ok(());
        }
        let voters: BTreeSet<u64> = membership.voter_ids().collect();
        if !voters.contains(&node.0) {
            return self.change(ChangeMembers::RemoveNodes(BTreeSet::from([node.0]))).await;
        }
        if voters.len() == 1 {
            return Err(MembershipError::LastVoter(node));
        }
        self.wait_majority(voters.iter().copied().filter(|id| *id != node.0).collect()).await?;
        self.change(ChangeMembers::RemoveVoters(BTreeSet::from([node.0]))).await
    }

    /// Hands leadership to `to`, or to the follower that has most of the log. Returns who leads
    /// once it is another node: in a crowded moment it may be neither; ends with `Behind` if that
    /// takes too long.
    pub async fn transfer(&self, to: Option<NodeId>) -> Result<NodeId, MembershipError> {
        self.lead()?;
        let me = self.me();
        let voters = self.members().into_iter().filter(|info| info.voter && info.member.id != me);
        let target = match to {
            Some(node) if node == me => return Ok(me),
            Some(node) => voters.map(|info| info.member.id).find(|id| *id == node),
            None => voters.max_by_key(|info| info.matched).map(|info| info.member.id),
        };
        let Some(target) = target else {
            return Err(match to {
                Some(node) => MembershipError::Unknown(node),
                None => MembershipError::LastVoter(me),
            });
        };
        let started = self.raft().trigger().transfer_leader(target.0).await;
        started.map_err(|error| MembershipError::Failed(error.to_string()))?;
        let mut leadership = self.leadership();
        let gone =
            leadership.wait_for(|seen| seen.leader.as_ref().is_some_and(|leader| leader.id != me));
        tokio::select! { biased;
            seen = gone => {
                Ok(seen.and_then(|seen| seen.leader).map_or(target, |leader| leader.id))
            }
            () = self.env().sleep(TRANSFER_MAX) => {
                Err(MembershipError::Behind { node: target, seconds: TRANSFER_MAX.as_secs() })
            }
        }
    }

    async fn wait_caught_up(&self, node: NodeId) -> Result<(), MembershipError> {
        let mut metrics = self.raft().metrics();
        let caught_up = async {
            loop {
                {
                    let now = metrics.borrow_and_update();
                    let Some(replication) = &now.replication else {
                        return Err(MembershipError::TenureLost);
                    };
                    let matched = replication.get(&node.0).and_then(|matched| matched.index());
                    let last = now.last_log_index.unwrap_or(0);
                    if matched.is_some_and(|index| index + CAUGHT_UP_ENTRIES >= last) {
                        return Ok(());
                    }
                }
                if metrics.changed().await.is_err() {
                    return Err(MembershipError::TenureLost);
                }
            }
        };
        tokio::select! { biased;
            done = caught_up => done,
            () = self.env().sleep(CATCH_UP_MAX) => {
                Err(MembershipError::Behind { node, seconds: CATCH_UP_MAX.as_secs() })
            }
        }
    }

    /// Waits until a majority of these voters has answered to this leader from now on. A
    /// configuration without one would never be committed, and would keep everything after it from
    /// being: it counts from when it is proposed.
    async fn wait_majority(&self, voters: BTreeSet<u64>) -> Result<(), MembershipError> {
        let mut metrics = self.raft().metrics();
        let began = self.env().monotonic();
        let mut answering = 0;
        let majority = async {
            loop {
                {
                    let now = metrics.borrow_and_update();
                    let Some(heard) = &now.heartbeat else {
                        return Err(MembershipError::TenureLost);
                    };
                    let since = self.env().monotonic().saturating_sub(began);
                    let lately = |id: &u64| {
                        heard.get(id).is_some_and(|at| at.is_some_and(|at| at.elapsed() < since))
                    };
                    let answers = |id: &&u64| **id == self.me().0 || lately(id);
                    answering = voters.iter().filter(answers).count();
                    if answering > voters.len() / 2 {
                        return Ok(());
                    }
                }
                if metrics.changed().await.is_err() {
                    return Err(MembershipError::TenureLost);
                }
            }
        };
        let in_time = tokio::select! { biased;
            done = majority => Some(done),
            () = self.env().sleep(self.patience()) => None,
        };
        let left = voters.len();
        in_time.unwrap_or(Err(MembershipError::NoMajority { left, answering }))
    }

    fn membership(&self) -> RaftMembership {
        self.raft().metrics().borrow_watched().membership_config.membership().clone()
    }

    fn lead(&self) -> Result<(), MembershipError> {
        let seen = self.leadership().get();
        match seen.tenure {
            Some(_) => Ok(()),
            None => {
                let leader = seen.leader.filter(|leader| leader.id != self.me());
                Err(MembershipError::NotLeader { leader })
            }
        }
    }

    async fn change(&self, change: ChangeMembers<u64, Member>) -> Result<(), MembershipError> {
        let changed = self.raft().change_membership(change, false).await.map_err(explain)?;
        // Whoever looks at the members next sees the change.
        let mut metrics = self.raft().metrics();
        let at = Some(changed.log_id);
        while *metrics.borrow_and_update().membership_config.log_id() < at {
            if metrics.changed().await.is_err() {
                break;
            }
        }
        Ok(())
    }
}

fn explain<E: RaftRuntime>(
    error: RaftError<Types<E>, ClientWriteError<Types<E>>>,
) -> MembershipError {
    match error {
        RaftError::APIError(ClientWriteError::ForwardToLeader(forward)) => {
            MembershipError::NotLeader { leader: forward.leader_node }
        }
        RaftError::APIError(ClientWriteError::LogEntryDiscarded(_)) => MembershipError::TenureLost,
        RaftError::APIError(ClientWriteError::ChangeMembershipError(
            ChangeMembershipError::InProgress(_),
        )) => MembershipError::InProgress,
        other => MembershipError::Failed(other.to_string()),
    }
}
