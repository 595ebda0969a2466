//! Taking and leaving office.
//!
//! Several leaders can share a term, and one leader can lose its quorum and find it again without
//! an election. So a leader serves only in a *tenure*: it commits `BeginTenure`, and the index of
//! that entry is the tenure. It is published after the entry is applied here, and withdrawn at
//! once when leadership, or the majority behind it, is lost.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use openraft::async_runtime::WatchReceiver;
use openraft::{Instant, ServerState};
use tokio::sync::oneshot;

use crate::env::Publisher;
use crate::machine::{Batch, Command, Reply};
use crate::planted::{Bug, planted};
use crate::types::{NodeId, Tenure};

use super::addresses::Addresses;
use super::clock::SoftClock;
use super::config::{RaftRuntime, RaftVote, Timing};
use super::evidence::Evidence;
use super::member::{Leadership, Member};
use super::proposer::{Outcome, Proposer, Writer};
use super::raft::{Raft, RaftWriter};

/// Pause before a leader tries again to begin its tenure.
const RETRY_PAUSE: Duration = Duration::from_millis(20);

/// What openraft says of leadership at a moment.
#[derive(Clone, PartialEq)]
struct View {
    /// Set while this node leads with a majority behind it.
    leading: Option<RaftVote>,
    leader: Option<Member>,
    term: u64,
    removed: bool,
    joint: bool,
}

/// The task's state.
pub(super) struct Office<E: RaftRuntime> {
    pub me: NodeId,
    pub raft: Raft<E>,
    pub proposer: Proposer,
    pub clock: SoftClock<E>,
    pub publisher: Publisher<Leadership>,
    pub addresses: Addresses,
    pub evidence: Evidence,
    pub timing: Timing,
    pub env: E,
}

type Beginning = Pin<Box<dyn Future<Output = Tenure> + Send>>;

impl<E: RaftRuntime> Office<E> {
    /// Runs until openraft stops.
    pub async fn run(self) {
        let mut metrics = self.raft.server_metrics();
        let mut held: Option<RaftVote> = None;
        let mut beginning: Option<Beginning> = None;
        let mut member = false;
        let mut evidence = self.evidence.watch();
        loop {
            let heard = self.hears_leader().await;
            let view = self.view(&mut member, heard);
            if view.leading != held {
                if held.is_some() {
                    self.proposer.close(view.leader.clone());
                }
                held = view.leading;
                beginning = held.map(|_| self.begin());
                self.publish(&view, None);
                if planted(Bug::ServesBeforeTenure) && held.is_some() {
                    let tenure = self.next_tenure();
                    self.proposer.open(tenure);
                    self.publish(&view, Some(tenure));
                }
            } else {
                let tenure = self.publisher.get().tenure.filter(|_| held.is_some());
                self.publish(&view, tenure);
                if held.is_none() {
                    self.proposer.close(view.leader.clone());
                }
            }
            let begun = async {
                match &mut beginning {
                    Some(beginning) => beginning.await,
                    None => std::future::pending().await,
                }
            };
            let pause = Duration::from_millis(self.timing.heartbeat_ms);
            tokio::select! { biased;
                changed = metrics.changed() => if changed.is_err() { break },
                tenure = begun => {
                    beginning = None;
                    // The majority may have gone while the entry was applied.
                    if self.view(&mut member, heard).leading == held {
                        self.proposer.open(tenure);
                        self.publish(&view, Some(tenure));
                        self.finish_joint_change(&view);
                    }
                }
                _ = evidence.changed() => {}
                // The loss of a majority is nothing that openraft tells.
                () = self.env.sleep(pause) => {}
            }
        }
        self.proposer.stop();
        self.publisher.modify(|seen| {
            seen.leader = None;
            seen.tenure = None;
        });
    }

    /// What openraft says now; `member` remembers whether this node was ever in a committed
    /// configuration, without which absence means "not yet", not "removed".
    fn view(&self, member: &mut bool, heard: bool) -> View {
        let server = self.raft.server_metrics().borrow_watched().clone();
        let leads = server.state == ServerState::Leader
            && server.vote.committed
            && server.vote.leader_id.node_id == self.me.0;
        let leading = (leads && self.has_majority()).then_some(server.vote);
        let nodes = server.membership_config.membership();
        self.addresses.learn(nodes.nodes().map(|(_, member)| member));
        let known = server.current_leader.filter(|id| match *id == self.me.0 {
            true => leading.is_some(),
            false => heard && !self.evidence.is_against(&server.vote),
        });
        let committed = server.committed_membership_config.membership();
        let here = committed.get_node(&self.me.0).is_some();
        *member |= here;
        View {
            leading,
            leader: known.and_then(|id| nodes.get_node(&id).cloned()),
            term: server.vote.leader_id.term,
            removed: *member && !here,
            joint: nodes.get_joint_config().len() > 1,
        }
    }

    /// Whether the leader that this node follows was heard of lately. openraft goes on naming it
    /// until there is another; asked only of a follower, because a leader's core may be busy.
    async fn hears_leader(&self) -> bool {
        if self.raft.server_metrics().borrow_watched().state == ServerState::Leader {
            return true;
        }
        let heard = self.raft.with_raft_state(|state| state.vote_last_modified());
        tokio::select! { biased;
            heard = heard => match heard {
                Ok(at) => at.is_none_or(|at| at.elapsed() < self.timing.patience()),
                Err(_) => false,
            },
            () = self.env.sleep(self.timing.patience()) => false,
        }
    }

    /// Whether a majority answered lately; a leader just elected is given the benefit of the doubt.
    fn has_majority(&self) -> bool {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        let voters = metrics.membership_config.membership().voter_ids();
        voters.take(2).count() == 1
            || metrics
                .last_quorum_acked
                .is_none_or(|acked| acked.elapsed() < self.timing.patience())
    }

    fn publish(&self, view: &View, tenure: Option<Tenure>) {
        self.publisher.set(Leadership {
            me: self.me,
            leader: view.leader.clone(),
            term: view.term,
            tenure,
            removed: view.removed,
        });
    }

    /// What the tenure will be if nothing else gets into the log first.
    fn next_tenure(&self) -> Tenure {
        let last = self.raft.metrics().borrow_watched().last_log_index;
        Tenure(last.map_or(0, |index| index + 1))
    }

    /// Proposes `BeginTenure` until it is applied. Dropped when office is lost.
    fn begin(&self) -> Beginning {
        let (me, env, clock) = (self.me, self.env.clone(), self.clock.clone());
        let writer = RaftWriter(self.raft.clone());
        Box::pin(async move {
            loop {
                let batch = Batch {
                    tenure: Tenure(0),
                    stamp: clock.now(),
                    commands: vec![Command::BeginTenure { node: me }],
                };
                let (tell, told) = oneshot::channel();
                let answer = move |outcome| {
                    let _ = tell.send(outcome);
                };
                writer.write(batch.encode(), answer).await;
                if let Ok(Outcome::Applied(replies)) = told.await
                    && let Some(Reply::TenureBegun { tenure }) = replies.first()
                {
                    return *tenure;
                }
                env.sleep(RETRY_PAUSE).await;
            }
        })
    }

    /// A change of membership that an earlier leader left half done is completed.
    fn finish_joint_change(&self, view: &View) {
        if !view.joint {
            return;
        }
        let raft = self.raft.clone();
        self.env.spawn(async move {
            let nothing = openraft::ChangeMembers::AddVoterIds(Default::default());
            if let Err(error) = raft.change_membership(nothing, false).await {
                tracing::warn!(%error, "an interrupted membership change could not be finished");
            }
        });
    }
}
