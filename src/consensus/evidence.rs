//! Elections by evidence: a leader that died is replaced at once, not after a timeout.
//!
//! ```text
//! a connection from the leader ends ─► dial it back ─► alive: a false alarm, nothing happens
//!                                          │
//!                            nobody there, or another life of it: evidence
//!                                          │
//!            ask the other voters ─► a majority has evidence, too ─► elect, past the lease
//! ```
//!
//! An election past the leader's lease deposes a live leader, so it takes a majority of nodes each
//! of which has found out by itself that the leader's process is gone. Of those the one with the
//! longest log goes first, so that they do not stand in each other's way. A host that vanishes
//! without a word, a paused process, a cut link: these leave no evidence, and are noticed by
//! timeouts. So is an election that fails: this is tried once for each leader.
//!
//! The address of a member must be its own: something that refuses connections in the place of a
//! node that lives is taken for its death.

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

/// Connections that ended and wait to be looked into. Only those of leaders count, so a full queue
/// is full of the same news.
const ALARMS_MAX: usize = 64;
/// A process that takes longer to answer may live.
const DIAL_MAX: Duration = Duration::from_millis(500);
/// A connection that is cut proves nothing: a dying listener does so, and a crowded one. It is made
/// again after this pause.
const REDIAL_PAUSE: Duration = Duration::from_millis(5);
/// Longest wait for a voter's word.
const ASK_MAX: Duration = Duration::from_millis(50);
/// Pause before voters are asked again: they may still be finding out.
const ASK_PAUSE: Duration = Duration::from_millis(5);
/// After so long timeouts have taken over.
const CAMPAIGN_MAX: Duration = Duration::from_millis(600);

/// A leader's connection has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Lost {
    /// Under which it led.
    pub vote: RaftVote,
    /// The life of its process. Another one does not lead under this vote.
    pub incarnation: u64,
}

/// Against whom this node has evidence. Cheap to clone; clones share it.
#[derive(Clone)]
pub(super) struct Evidence {
    /// The vote of the leader whose process is gone.
    against: Arc<Publisher<Option<RaftVote>>>,
    seen: Watch<Option<RaftVote>>,
    alarms: mpsc::Sender<Lost>,
}

impl Evidence {
    /// None so far; what the other end receives is for [`Inquest::run`].
    pub fn new() -> (Evidence, mpsc::Receiver<Lost>) {
        let (against, seen) = watch(None);
        let (alarms, heard) = mpsc::channel(ALARMS_MAX);
        (Evidence { against: Arc::new(against), seen, alarms }, heard)
    }

    /// A connection by which a leader spoke has ended, whyever.
    pub fn lost(&self, leader: Lost) {
        let _ = self.alarms.try_send(leader);
    }

    /// No longer holds anything against the leader of this vote: it was heard, or replacing it has
    /// taken too long.
    pub fn withdraw(&self, vote: &RaftVote) {
        if self.is_against(vote) {
            self.against.modify(|against| *against = against.filter(|against| against != vote));
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
    /// Between equals the greater id goes first: its vote would win over the other's.
    node: u64,
}

impl Standing {
    pub fn new(node: NodeId, last: Option<RaftLogId>) -> Standing {
        Standing { last, node: node.0 }
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
enum Verdict {
    /// Too few have evidence.
    Short,
    /// Enough have; one of them is to go first.
    Outranked,
    Elect,
}

/// Counts voices: a majority is needed of each set of voters, of which there are two while the
/// membership changes. Who outranks has evidence, too. Who is no voter cannot be elected.
fn count(voters: &[BTreeSet<u64>], me: u64, findings: &BTreeMap<u64, Finding>) -> Verdict {
    let aware = |id: &u64| match findings.get(id) {
        Some(finding) => *finding != Finding::Unaware,
        None => *id == me,
    };
    let majority = |set: &BTreeSet<u64>| set.iter().filter(|id| aware(id)).count() > set.len() / 2;
    let eligible = voters.iter().any(|set| set.contains(&me));
    match findings.values().any(|finding| *finding == Finding::Outranks) {
        _ if !eligible || !voters.iter().all(majority) => Verdict::Short,
        true => Verdict::Outranked,
        false => Verdict::Elect,
    }
}

/// The task that looks into alarms, one after the other.
pub(super) struct Inquest<N, E: RaftRuntime> {
    me: NodeId,
    raft: Raft<E>,
    evidence: Evidence,
    dialer: Dialer<N>,
    env: E,
}

impl<N: Net, E: RaftRuntime> Inquest<N, E> {
    pub fn new(raft: Raft<E>, evidence: Evidence, dialer: Dialer<N>, env: E) -> Inquest<N, E> {
        Inquest { me: dialer.identity.node, raft, evidence, dialer, env }
    }

    /// Runs until openraft stops, or nobody can raise an alarm any more.
    pub async fn run(self, mut alarms: mpsc::Receiver<Lost>) {
        while let Some(lost) = alarms.recv().await {
            if self.look_into(lost).await.is_none() {
                return;
            }
        }
    }

    /// `None`: openraft has stopped.
    async fn look_into(&self, lost: Lost) -> Option<()> {
        let (following, _) = self.stand().await?;
        if following != lost.vote || self.evidence.is_against(&lost.vote) {
            return Some(());
        }
        let Some(leader) = self.leader_of(&lost.vote) else { return Some(()) };
        if !self.is_gone(&leader, lost.incarnation).await {
            tracing::debug!(%leader, "a connection of the leader ended, but it may live");
            return Some(());
        }
        tracing::info!(%leader, "the leader's process is gone");
        self.evidence.against.set(Some(lost.vote));
        self.replace(lost.vote).await?;
        // From here on timeouts decide.
        self.evidence.withdraw(&lost.vote);
        Some(())
    }

    /// Dials the leader: whether nobody is there, or another life of it.
    async fn is_gone(&self, leader: &Member, incarnation: u64) -> bool {
        let until = self.env.monotonic() + DIAL_MAX;
        loop {
            let rest = until.saturating_sub(self.env.monotonic());
            match self.dialer.dial(leader, &self.env, rest).await {
                Ok((welcome, ..)) => return welcome.incarnation != incarnation,
                Err(error) if error.is_refused() => return true,
                Err(error) if error.is_cut() && self.env.monotonic() < until => {
                    self.env.sleep(REDIAL_PAUSE).await;
                }
                Err(_) => return false,
            }
        }
    }

    /// Asks around until there is another leader, this node may be it and calls an election, or
    /// timeouts have taken over.
    async fn replace(&self, vote: RaftVote) -> Option<()> {
        let until = self.env.monotonic() + CAMPAIGN_MAX;
        let mut links = self.links_to_voters(&vote);
        while self.env.monotonic() < until {
            let (following, standing) = self.stand().await?;
            if following != vote || !self.evidence.is_against(&vote) {
                break;
            }
            let verdict = self.ask_around(&mut links, vote, standing).await;
            // It may have been heard meanwhile.
            if verdict == Verdict::Elect && self.evidence.is_against(&vote) {
                tracing::info!(%vote, "a majority found the leader gone: calling an election");
                let request = TransferLeaderRequest::new(vote, self.me.0, None);
                if let Ok(Err(refused)) = self.raft.handle_transfer_leader(request).await {
                    tracing::info!(%refused, "no election can be called now");
                }
            }
            self.pause(vote).await?;
        }
        Some(())
    }

    /// Waits a little, but not after another vote was cast.
    async fn pause(&self, vote: RaftVote) -> Option<()> {
        let mut metrics = self.raft.server_metrics();
        if metrics.borrow_and_update().vote == vote {
            tokio::select! { biased;
                changed = metrics.changed() => changed.ok()?,
                () = self.env.sleep(ASK_PAUSE) => {}
            }
        }
        Some(())
    }

    /// Asks the other voters for their findings. One that gives no answer is not asked again.
    async fn ask_around(
        &self,
        links: &mut BTreeMap<u64, Link<E>>,
        vote: RaftVote,
        standing: Standing,
    ) -> Verdict {
        let request = Request::Inquiry { vote, standing };
        let ask = async |(id, link): (&u64, &Link<E>)| match link
            .call(&request, Vec::new(), ASK_MAX)
            .await
        {
            Ok((Response::Found(finding), _)) => Some((*id, finding)),
            _ => None,
        };
        let answers = join_all(links.iter().map(ask)).await;
        let findings: BTreeMap<_, _> = answers.into_iter().flatten().collect();
        links.retain(|id, _| findings.contains_key(id));
        let server = self.raft.server_metrics().borrow_watched().clone();
        count(server.membership_config.membership().get_joint_config(), self.me.0, &findings)
    }

    /// Fresh connections: an idle one may have died without a word.
    fn links_to_voters(&self, vote: &RaftVote) -> BTreeMap<u64, Link<E>> {
        let server = self.raft.server_metrics().borrow_watched().clone();
        let membership = server.membership_config.membership();
        let others =
            membership.voter_ids().filter(|id| *id != self.me.0 && *id != vote.leader_id.node_id);
        let link =
            |member: &Member| Link::new(member.clone(), self.dialer.clone(), self.env.clone());
        others.filter_map(|id| Some((id, link(membership.get_node(&id)?)))).collect()
    }

    fn leader_of(&self, vote: &RaftVote) -> Option<Member> {
        let server = self.raft.server_metrics();
        let server = server.borrow_watched();
        server.membership_config.membership().get_node(&vote.leader_id.node_id).cloned()
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
        assert_eq!(say(&first, &first, standing(3, Some(5))), Finding::Agrees);
        assert_eq!(say(&first, &first, standing(1, Some(5))), Finding::Outranks);
        assert_eq!(say(&first, &first, standing(3, None)), Finding::Outranks);
        assert_eq!(say(&second, &first, standing(3, Some(9))), Finding::Unaware);
        assert_eq!(say(&second, &second, standing(3, Some(9))), Finding::Unaware);
        evidence.withdraw(&second);
        assert!(evidence.is_against(&first));
        evidence.withdraw(&first);
        assert_eq!(say(&first, &first, standing(3, Some(9))), Finding::Unaware);
    }

    #[test]
    fn an_election_takes_a_majority_of_every_set_of_voters() {
        use Finding::{Agrees, Outranks, Unaware};
        let set = |ids: &[u64]| ids.iter().copied().collect::<BTreeSet<_>>();
        let said = |all: &[(u64, Finding)]| all.iter().copied().collect::<BTreeMap<_, _>>();
        let three = [set(&[1, 2, 3])];
        assert_eq!(count(&three, 2, &said(&[])), Verdict::Short);
        assert_eq!(count(&three, 2, &said(&[(3, Unaware)])), Verdict::Short);
        assert_eq!(count(&three, 2, &said(&[(3, Agrees)])), Verdict::Elect);
        assert_eq!(count(&three, 2, &said(&[(3, Outranks)])), Verdict::Outranked);
        // Who is no voter has no voice, and is not elected.
        assert_eq!(count(&three, 2, &said(&[(9, Agrees)])), Verdict::Short);
        assert_eq!(count(&three, 9, &said(&[(2, Agrees), (3, Agrees)])), Verdict::Short);
        let joint = [set(&[1, 2, 3]), set(&[3, 4, 5])];
        assert_eq!(count(&joint, 2, &said(&[(3, Agrees)])), Verdict::Short);
        assert_eq!(count(&joint, 2, &said(&[(3, Agrees), (4, Agrees)])), Verdict::Elect);
        let two = [set(&[1, 2])];
        assert_eq!(count(&two, 2, &said(&[])), Verdict::Short);
    }
}
