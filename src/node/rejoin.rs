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

async fn attempt(
    asker: &AdminClient,
    identity: Identity,
) -> Result<Option<Vec<String>>, AdminError> {
    // Somebody else's cluster would gladly say that it does not know this node.
    let ClusterInfo { cluster_id, members, .. } = asker.cluster_info().await?;
    if cluster_id != identity.cluster {
        warn!(found = %cluster_id, mine = %identity.cluster, "another cluster answers");
        return Ok(None);
    }
    let before = asker.cluster().await?;
    if has(&before, identity.node) {
        asker.remove(identity.node).await?;
    }
    let before = asker.cluster().await?;
    // What the leader had in its log before this is committed with it.
    asker.checkpoint().await?;
    let after = asker.cluster().await?;
    if !is_committed(&before, &after, identity.node) {
        return Ok(None);
    }
    let left = members.into_iter().filter(|member| member.id != identity.node);
    Ok(Some(left.map(|member| member.peer_addr).collect()))
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
    use super::*;
    use crate::types::Tenure;
    use crate::wire::admin::{MemberEntry, Role};

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
