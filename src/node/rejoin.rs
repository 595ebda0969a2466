//! A node whose data is damaged asks its cluster to let it go, and only then gives its data up.
//!
//! ```text
//! quarantined ─► ask for removal ─► committed? ─► data moved aside ─► join under a new id
//!                      ▲               │ not yet, or nobody leads
//!                      └───────────────┘
//! ```
//!
//! The removal takes a leader and the majority behind it without this node, so no cluster loses its
//! majority by it: one that has none commits nothing, and this node stays as it is. Whether it is
//! committed is not taken from one look at the members: a leader shows a configuration before it is
//! committed, and may be deposed with it.

use std::time::Duration;

use tracing::{info, warn};

use super::entry::asker;
use super::token::Token;
use crate::client::{AdminClient, AdminError};
use crate::env::{Runtime, TokioRuntime};
use crate::planted::{Bug, planted};
use crate::storage::Identity;
use crate::types::NodeId;
use crate::wire::admin::{Answer, ClusterInfo, Members};

/// Longest wait for one member's answer.
const ASK_MAX: Duration = Duration::from_secs(5);
/// Pause before the members are asked again.
const PAUSE: Duration = Duration::from_secs(1);

/// Asks the members at `servers` (peer addresses) until the removal of this node is committed.
/// Returns the peer addresses of the members that are left.
pub async fn depart(
    servers: &[String],
    identity: Identity,
    token: &Token,
    env: &TokioRuntime,
) -> Vec<String> {
    loop {
        for server in servers {
            let asker = asker(vec![server.clone()], token, "a damaged node", ASK_MAX);
            match attempt(&asker, identity).await {
                Ok(Some(left)) => {
                    info!(node = %identity.node, through = server, "the cluster has let this node go");
                    return left;
                }
                Ok(None) => info!(through = server, "the removal is not committed yet"),
                Err(error) => warn!(through = server, %error, "this node is not let go yet"),
            }
        }
        env.sleep(PAUSE).await;
    }
}

/// What is asked of a cluster through one of its members.
trait Asks {
    async fn info(&self) -> Result<ClusterInfo, AdminError>;
    async fn look(&self) -> Result<Answer<Members>, AdminError>;
    async fn remove(&self, node: NodeId) -> Result<(), AdminError>;
    /// Has an entry committed.
    async fn commit(&self) -> Result<(), AdminError>;
}

impl Asks for AdminClient {
    async fn info(&self) -> Result<ClusterInfo, AdminError> {
        self.cluster_info().await
    }

    async fn look(&self) -> Result<Answer<Members>, AdminError> {
        self.cluster().await
    }

    async fn remove(&self, node: NodeId) -> Result<(), AdminError> {
        AdminClient::remove(self, node).await.map(drop)
    }

    async fn commit(&self) -> Result<(), AdminError> {
        self.checkpoint().await.map(drop)
    }
}

async fn attempt(
    cluster: &impl Asks,
    identity: Identity,
) -> Result<Option<Vec<String>>, AdminError> {
    // Somebody else's cluster would gladly say that it does not know this node.
    let ClusterInfo { cluster_id, members, .. } = cluster.info().await?;
    let left = members.into_iter().filter(|member| member.id != identity.node);
    let left = left.map(|member| member.peer_addr).collect();
    if cluster_id != identity.cluster {
        warn!(found = %cluster_id, mine = %identity.cluster, "another cluster answers");
        return Ok(None);
    }
    if planted(Bug::RejoinUnasked) {
        return Ok(Some(left));
    }
    let before = cluster.look().await?;
    if has(&before, identity.node) {
        cluster.remove(identity.node).await?;
    }
    let before = cluster.look().await?;
    if planted(Bug::RejoinOneLook) && !has(&before, identity.node) {
        return Ok(Some(left));
    }
    // What the leader had in its log before this is committed with it.
    cluster.commit().await?;
    let after = cluster.look().await?;
    Ok(is_committed(&before, &after, identity.node).then_some(left))
}

fn has(members: &Answer<Members>, node: NodeId) -> bool {
    members.value.members.iter().any(|member| member.id == node)
}

/// Whether two looks, with a committed entry between them, show that a removal is committed: the
/// same leader must have answered both, or it is not known whose log the entry came after.
fn is_committed(before: &Answer<Members>, after: &Answer<Members>, node: NodeId) -> bool {
    before.linearizable
        && after.linearizable
        && before.tenure == after.tenure
        && before.answered_by == after.answered_by
        && !has(before, node)
        && !has(after, node)
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::sync::Mutex;

    use super::*;
    use crate::types::{ClusterId, Tenure};
    use crate::wire::admin::{Member, MemberEntry, Role};

    /// A cluster of nodes 1 to 3 that answers what it is told to.
    struct Scripted {
        looks: Mutex<VecDeque<Answer<Members>>>,
        commits: bool,
    }

    impl Scripted {
        fn new(commits: bool, looks: &[Answer<Members>]) -> Scripted {
            Scripted { looks: Mutex::new(looks.iter().cloned().collect()), commits }
        }
    }

    impl Asks for Scripted {
        async fn info(&self) -> Result<ClusterInfo, AdminError> {
            let member = |id: u64| Member {
                id: NodeId(id),
                peer_addr: format!("p:{id}"),
                client_addr: String::new(),
                admin_addr: String::new(),
            };
            let members = (1..=3).map(member).collect();
            Ok(ClusterInfo { cluster_id: ClusterId(7), leader: None, members })
        }

        async fn look(&self) -> Result<Answer<Members>, AdminError> {
            Ok(self.looks.lock().unwrap().pop_front().expect("so many looks"))
        }

        async fn remove(&self, _: NodeId) -> Result<(), AdminError> {
            Err(AdminError::Unknown { reason: "the answer got lost".into() })
        }

        async fn commit(&self) -> Result<(), AdminError> {
            let reason = || "the leader was deposed".into();
            self.commits.then_some(()).ok_or_else(|| AdminError::Unknown { reason: reason() })
        }
    }

    /// A leader has a removal in its log and shows it. It is deposed before anybody else has it, and
    /// the next one counts on the node.
    #[tokio::test]
    async fn one_look_is_not_enough() {
        let mine = Identity { cluster: ClusterId(7), node: NodeId(3), incarnation: 1 };
        let (with, without) = (|tenure| look(tenure, &[1, 2, 3]), |tenure| look(tenure, &[1, 2]));
        let asked = Scripted::new(false, &[with(5)]);
        assert!(attempt(&asked, mine).await.is_err(), "the removal may or may not come to be");
        let deposed = Scripted::new(false, &[without(5), without(5)]);
        assert!(attempt(&deposed, mine).await.is_err());
        let back = Scripted::new(true, &[without(5), without(5), with(6)]);
        assert_eq!(attempt(&back, mine).await.unwrap(), None);
        let another = Scripted::new(true, &[without(5), without(5), without(6)]);
        assert_eq!(attempt(&another, mine).await.unwrap(), None, "whose log was it that grew?");
        let gone = Scripted::new(true, &[without(6), without(6), without(6)]);
        assert_eq!(attempt(&gone, mine).await.unwrap(), Some(vec!["p:1".into(), "p:2".into()]));
    }

    #[tokio::test]
    async fn a_strangers_word_counts_for_nothing() {
        let mine = Identity { cluster: ClusterId(8), node: NodeId(3), incarnation: 1 };
        let other = Scripted::new(true, &[]);
        assert_eq!(attempt(&other, mine).await.unwrap(), None);
    }

    fn look(tenure: u64, ids: &[u64]) -> Answer<Members> {
        let member = |id: &u64| MemberEntry {
            id: NodeId(*id),
            addr: String::new(),
            peer_addr: String::new(),
            admin_addr: String::new(),
            role: Role::Follower,
            matched: None,
        };
        Answer {
            answered_by: NodeId(1),
            role: Role::Leader,
            tenure: Tenure(tenure),
            applied: 9,
            linearizable: true,
            stale_ms: 0,
            value: Members { members: ids.iter().map(member).collect() },
        }
    }

    #[test]
    fn a_removal_counts_when_one_leader_has_committed_it() {
        let gone = NodeId(3);
        assert!(is_committed(&look(5, &[1, 2]), &look(5, &[1, 2]), gone));
        for (before, after) in [
            (look(5, &[1, 2, 3]), look(5, &[1, 2])),
            (look(5, &[1, 2]), look(5, &[1, 2, 3])),
            (look(5, &[1, 2]), look(6, &[1, 2])),
            (Answer { linearizable: false, ..look(5, &[1, 2]) }, look(5, &[1, 2])),
            (look(5, &[1, 2]), Answer { linearizable: false, ..look(5, &[1, 2]) }),
            (look(5, &[1, 2]), Answer { answered_by: NodeId(2), ..look(5, &[1, 2]) }),
        ] {
            assert!(!is_committed(&before, &after, gone));
        }
    }
}
