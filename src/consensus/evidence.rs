//! Elections by evidence: a leader that died is replaced at once, not after a timeout.
//!
//! ```text
//! a connection from the leader ends ─► dial it back ─► alive: a false alarm, nothing happens
//!                                          │
//!                                  refused, or another life answers: evidence
//!                                          │
//!            ask the other voters ─► a majority has evidence, too ─► elect, past the lease
//! ```
//!
//! An election past the leader's lease deposes a live leader, so it takes a majority of nodes each
//! of which has found out by itself that the leader's process is gone. Of those the one with the
//! longest log goes first, so that they do not stand in each other's way. A host that vanishes
//! without a word, a paused process, a cut link: these leave no evidence, and are noticed by
//! timeouts.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use openraft::async_runtime::WatchReceiver;
use openraft::raft::TransferLeaderRequest;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use crate::env::{Publisher, Watch, watch};
use crate::transport::Net;
use crate::types::NodeId;

use super::config::{RaftLogId, RaftRuntime, RaftVote};
use super::dial::Dialer;
use super::link::Link;
use super::member::Member;
use super::raft::Raft;
use super::rpc::{Request, Response};

/// Connections that ended and wait to be looked into; what comes beyond is news no more.
const ALARMS_MAX: usize = 64;
/// A process that takes longer to answer may live.
const DIAL_MAX: Duration = Duration::from_millis(500);
/// Longest wait for a voter's word.
const ASK_MAX: Duration = Duration::from_millis(50);
/// Pause before voters are asked again: they may still be finding out.
const ASK_PAUSE: Duration = Duration::from_millis(5);
/// What a node that would make a better leader is given to become it, and what an election may
/// take before it is called again.
const ELECTION_MAX: Duration = Duration::from_millis(100);
/// After so long timeouts have taken over.
const CAMPAIGN_MAX: Duration = Duration::from_millis(600);

/// One life of a peer's process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Life {
    pub node: NodeId,
    pub incarnation: u64,
}

/// Against whom this node has evidence. Cheap to clone; clones share it.
#[derive(Clone)]
pub(super) struct Evidence {
    /// The vote of the leader whose process is gone.
    against: Arc<Publisher<Option<RaftVote>>>,
    seen: Watch<Option<RaftVote>>,
    alarms: mpsc::Sender<Life>,
}

impl Evidence {
    /// None so far; what the other end receives is for [`Inquest::run`].
    pub fn new() -> (Evidence, mpsc::Receiver<Life>) {
        let (against, seen) = watch(None);
        let (alarms, heard) = mpsc::channel(ALARMS_MAX);
        (Evidence { against: Arc::new(against), seen, alarms }, heard)
    }

    /// A connection that a peer had made has ended, and not by this node's doing.
    pub fn lost(&self, peer: Life) {
        // A full queue is full of the same news.
        let _ = self.alarms.try_send(peer);
    }

    /// The leader of this vote was heard: it lives.
    pub fn heard(&self, vote: &RaftVote) {
        if self.is_against(vote) {
            self.against.set(None);
        }
    }

    /// Whether the leader of this vote is known to be gone.
    pub fn is_against(&self, vote: &RaftVote) -> bool {
        self.seen.peek().as_ref() == Some(vote)
    }

    /// Follows what becomes of it.
    pub fn watch(&self) -> Watch<Option<RaftVote>> {
        self.seen.clone()
    }
}

/// How good a leader a node would make.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct Standing {
    last: Option<RaftLogId>,
    /// Between equals the smaller id goes first.
    node: Reverse<u64>,
}

impl Standing {
    pub fn new(node: NodeId, last: Option<RaftLogId>) -> Standing {
        Standing { last, node: Reverse(node.0) }
    }
}

/// What a voter says to a node that would replace the leader.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Finding {
    /// It has no evidence against that leader.
    Unaware,
    /// It has, and would make no better leader.
    Agrees,
    /// It has, and would make a better one.
    Outranks,
}

/// What this node says: it follows `following`, and would make a leader of standing `mine`.
pub(super) fn finding(
    evidence: &Evidence,
    (following, mine): (&RaftVote, &Standing),
    (vote, theirs): (&RaftVote, &Standing),
) -> Finding {
    match following == vote && evidence.is_against(vote) {
        false => Finding::Unaware,
        true if mine > theirs => Finding::Outranks,
        true => Finding::Agrees,
    }
}

/// What asking around has led to.
#[derive(Debug, PartialEq, Eq)]
enum Result {
    /// Too few have evidence.
    Short,
    /// Enough have; one of them should go first.
    Outranked,
    Elect,
}

/// Counts voices: a majority is needed of each set of voters, of which there are two while the
/// membership changes. Who outranks has evidence, too.
fn count(voters: &[BTreeSet<u64>], me: u64, findings: &BTreeMap<u64, Finding>) -> Result {
    let aware = |id: &u64| match findings.get(id) {
        Some(finding) => *finding != Finding::Unaware,
        None => *id == me,
    };
    let majority = |set: &BTreeSet<u64>| set.iter().filter(|id| aware(id)).count() > set.len() / 2;
    match findings.values().any(|finding| *finding == Finding::Outranks) {
        _ if !voters.iter().all(majority) => Result::Short,
        true => Result::Outranked,
        false => Result::Elect,
    }
}

/// The task that looks into alarms, one after the other.
pub(super) struct Inquest<N, E: RaftRuntime> {
    me: NodeId,
    raft: Raft<E>,
    evidence: Evidence,
    dialer: Dialer<N>,
    env: E,
    links: BTreeMap<u64, (Member, Link<E>)>,
}

impl<N: Net, E: RaftRuntime> Inquest<N, E> {
    pub fn new(raft: Raft<E>, evidence: Evidence, dialer: Dialer<N>, env: E) -> Inquest<N, E> {
        Inquest { me: dialer.identity.node, raft, evidence, dialer, env, links: BTreeMap::new() }
    }

    /// Runs until openraft stops, or nobody can raise an alarm any more.
    pub async fn run(mut self, mut alarms: mpsc::Receiver<Life>) {
        while let Some(lost) = alarms.recv().await {
            if self.look_into(lost).await.is_none() {
                return;
            }
        }
    }

    /// `None`: openraft has stopped.
    async fn look_into(&mut self, lost: Life) -> Option<()> {
        let (vote, _) = self.stand().await?;
        let led = vote.committed && vote.leader_id.node_id == lost.node.0;
        if !led || lost.node == self.me || self.evidence.is_against(&vote) {
            return Some(());
        }
        let Some(leader) = self.member(lost.node) else { return Some(()) };
        if !self.is_gone(&leader, lost.incarnation).await {
            tracing::debug!(%leader, "a connection of the leader ended, but it lives");
            return Some(());
        }
        tracing::info!(%leader, "the leader's process is gone");
        self.evidence.against.set(Some(vote));
        self.replace(vote).await
    }

    /// Dials the leader: whether nobody is there, or another life of it.
    async fn is_gone(&self, leader: &Member, incarnation: u64) -> bool {
        match self.dialer.dial(leader, &self.env, DIAL_MAX).await {
            Ok((welcome, ..)) => welcome.incarnation != incarnation,
            Err(error) => error.says_dead(),
        }
    }

    /// Asks around, and calls an election, until there is another leader or timeouts have taken
    /// over.
    async fn replace(&mut self, vote: RaftVote) -> Option<()> {
        let until = self.env.monotonic() + CAMPAIGN_MAX;
        let mut deferred = false;
        while self.env.monotonic() < until {
            let (following, standing) = self.stand().await?;
            if following != vote || !self.evidence.is_against(&vote) {
                break;
            }
            let pause = match self.ask_around(vote, standing).await {
                Result::Short => ASK_PAUSE,
                Result::Outranked if !deferred => {
                    deferred = true;
                    ELECTION_MAX
                }
                Result::Outranked | Result::Elect => {
                    tracing::info!(%vote, "a majority found the leader gone: calling an election");
                    let request = TransferLeaderRequest::new(vote, self.me.0, None);
                    if let Ok(Err(refused)) = self.raft.handle_transfer_leader(request).await {
                        tracing::debug!(%refused, "there is nothing to elect any more");
                    }
                    ELECTION_MAX
                }
            };
            self.pause(vote, pause).await?;
        }
        Some(())
    }

    /// Waits, but not after another vote was cast.
    async fn pause(&self, vote: RaftVote, pause: Duration) -> Option<()> {
        let until = self.env.monotonic() + pause;
        let mut metrics = self.raft.server_metrics();
        while self.env.monotonic() < until && metrics.borrow_and_update().vote == vote {
            let rest = until.saturating_sub(self.env.monotonic());
            tokio::select! { biased;
                changed = metrics.changed() => changed.ok()?,
                () = self.env.sleep(rest) => {}
            }
        }
        Some(())
    }

    /// Asks the other voters for their findings.
    async fn ask_around(&mut self, vote: RaftVote, standing: Standing) -> Result {
        let membership = self.raft.server_metrics().borrow_watched().membership_config.clone();
        let voters: Vec<_> = membership.membership().get_joint_config().clone();
        let (me, dead) = (self.me.0, vote.leader_id.node_id);
        let others: BTreeSet<u64> = voters.iter().flatten().copied().collect();
        let others = others.into_iter().filter(|id| *id != me && *id != dead);
        let mut asked = Vec::new();
        for id in others {
            let Some(member) = membership.membership().get_node(&id) else { continue };
            let link = self.link(member);
            let request = Request::Inquiry { vote, standing: standing.clone() };
            asked.push(async move {
                match link.call(&request, Vec::new(), ASK_MAX).await {
                    Ok((Response::Found(finding), _)) => Some((id, finding)),
                    _ => None,
                }
            });
        }
        let findings = join_all(asked).await.into_iter().flatten().collect();
        count(&voters, me, &findings)
    }

    fn link(&mut self, member: &Member) -> Link<E> {
        match self.links.get(&member.id.0) {
            Some((known, link)) if known == member => link.clone(),
            _ => {
                let link = Link::new(member.clone(), self.dialer.clone(), self.env.clone());
                self.links.insert(member.id.0, (member.clone(), link.clone()));
                link
            }
        }
    }

    fn member(&self, node: NodeId) -> Option<Member> {
        let server = self.raft.server_metrics();
        let server = server.borrow_watched();
        server.membership_config.membership().get_node(&node.0).cloned()
    }

    async fn stand(&self) -> Option<(RaftVote, Standing)> {
        stand(&self.raft, self.me).await
    }
}

/// Whom a node follows, and how good a leader it would make. `None`: openraft has stopped.
pub(super) async fn stand<E: RaftRuntime>(
    raft: &Raft<E>,
    me: NodeId,
) -> Option<(RaftVote, Standing)> {
    let state = raft.with_raft_state(|state| (*state.vote_ref(), state.log_ids.last().copied()));
    let (vote, last) = state.await.ok()?;
    Some((vote, Standing::new(me, last)))
}

#[cfg(test)]
mod tests {
    use crate::types::EntryId;

    use super::super::entry::{log_id, vote};
    use super::*;

    fn standing(node: u64, last: Option<u64>) -> Standing {
        let id = |index| log_id(EntryId { term: 1, node: NodeId(1), index });
        Standing::new(NodeId(node), last.map(id))
    }

    #[test]
    fn a_word_is_given_only_on_evidence_of_ones_own_and_to_no_worse_a_leader() {
        let (evidence, _alarms) = Evidence::new();
        let (first, second) = (vote(1, NodeId(1), true), vote(2, NodeId(1), true));
        let mine = standing(2, Some(5));
        let say =
            |following, asked, theirs| finding(&evidence, (following, &mine), (asked, &theirs));
        assert_eq!(say(&first, &first, standing(3, Some(9))), Finding::Unaware);
        evidence.against.set(Some(first));
        assert_eq!(say(&first, &first, standing(3, Some(9))), Finding::Agrees);
        assert_eq!(say(&first, &first, standing(3, Some(5))), Finding::Outranks);
        assert_eq!(say(&first, &first, standing(1, Some(5))), Finding::Agrees);
        assert_eq!(say(&first, &first, standing(1, None)), Finding::Outranks);
        assert_eq!(say(&second, &first, standing(3, Some(9))), Finding::Unaware);
        assert_eq!(say(&second, &second, standing(3, Some(9))), Finding::Unaware);
        evidence.heard(&second);
        assert!(evidence.is_against(&first));
        evidence.heard(&first);
        assert_eq!(say(&first, &first, standing(3, Some(9))), Finding::Unaware);
    }

    #[test]
    fn an_election_takes_a_majority_of_every_set_of_voters() {
        use Finding::{Agrees, Outranks, Unaware};
        let set = |ids: &[u64]| ids.iter().copied().collect::<BTreeSet<_>>();
        let said = |all: &[(u64, Finding)]| all.iter().copied().collect::<BTreeMap<_, _>>();
        let three = [set(&[1, 2, 3])];
        assert_eq!(count(&three, 2, &said(&[])), Result::Short);
        assert_eq!(count(&three, 2, &said(&[(3, Unaware)])), Result::Short);
        assert_eq!(count(&three, 2, &said(&[(3, Agrees)])), Result::Elect);
        assert_eq!(count(&three, 2, &said(&[(3, Outranks)])), Result::Outranked);
        // Somebody who is no voter has no voice, and is none.
        assert_eq!(count(&three, 9, &said(&[(3, Agrees)])), Result::Short);
        let joint = [set(&[1, 2, 3]), set(&[3, 4, 5])];
        assert_eq!(count(&joint, 2, &said(&[(3, Agrees)])), Result::Short);
        assert_eq!(count(&joint, 2, &said(&[(3, Agrees), (4, Agrees)])), Result::Elect);
        let two = [set(&[1, 2])];
        assert_eq!(count(&two, 2, &said(&[])), Result::Short);
    }
}
