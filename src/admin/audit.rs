//! Whether all nodes have the same state: each hashes its machine at one checkpoint of the log.

use std::time::Duration;

use super::office::Office;
use crate::env::Runtime;
use crate::machine::{Command, Reply};
use crate::transport::Net;
use crate::types::{Code, Rejection};
use crate::wire::admin::{AdminServiceClient, Audit, NodeAudit};

/// How long a member may take to reach the checkpoint and walk its ledger.
const AUDIT_WAIT: Duration = Duration::from_secs(8);
/// How often a node looks whether it has reached the checkpoint.
const LOOK_EVERY: Duration = Duration::from_millis(5);

impl<N: Net> Office<N> {
    /// Commits a checkpoint; its log index.
    pub async fn checkpoint(&self) -> Result<u64, Rejection> {
        match self.propose(Command::Checkpoint).await? {
            Reply::Checkpoint { index, .. } => Ok(index),
            other => Err(unfit(&other)),
        }
    }

    /// What this node found at the checkpoint, once it has.
    pub async fn node_audit(&self, index: u64) -> Result<NodeAudit, Rejection> {
        let found = async {
            loop {
                if let Some(found) = self.replica().audit_local(index) {
                    return found;
                }
                self.env().sleep(LOOK_EVERY).await;
            }
        };
        tokio::select! { biased;
            found = found => Ok(NodeAudit {
                id: self.me(),
                hash: Some(format!("{:016x}", found.hash)),
                ledger_ok: found.ledger_ok,
            }),
            () = self.env().sleep(AUDIT_WAIT) => {
                let applied = self.replica().status().applied;
                let message = format!("no result for checkpoint {index}; applied is {applied}");
                Err(Rejection::new(Code::Overloaded, message).hint("audit again"))
            }
        }
    }

    /// Commits a checkpoint and compares what all members found at it.
    pub async fn audit(&self) -> Result<Audit, Rejection> {
        let index = self.checkpoint().await?;
        let ask = |s: AdminServiceClient, c| async move { s.node_audit(c, index).await };
        let answers = self.ask_all(AUDIT_WAIT, self.node_audit(index), ask).await;
        let nodes: Vec<_> = answers
            .into_iter()
            .map(|(info, answer)| {
                answer.unwrap_or(NodeAudit { id: info.member.id, hash: None, ledger_ok: false })
            })
            .collect();
        Ok(Audit { index, equal: equal(&nodes), nodes })
    }
}

/// Every member answered, all hashes are equal and all ledgers are in order.
fn equal(nodes: &[NodeAudit]) -> bool {
    let first = nodes.first().and_then(|node| node.hash.as_ref());
    first.is_some() && nodes.iter().all(|node| node.ledger_ok && node.hash.as_ref() == first)
}

/// A reply that does not belong to its command.
pub(super) fn unfit(reply: &Reply) -> Rejection {
    Rejection::new(Code::BadRequest, format!("the reply does not fit the command: {reply:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::NodeId;

    #[test]
    fn only_complete_agreement_is_equal() {
        let node = |id, hash: Option<&str>, ledger_ok| NodeAudit {
            id: NodeId(id),
            hash: hash.map(str::to_string),
            ledger_ok,
        };
        for (nodes, wanted) in [
            (vec![node(1, Some("a"), true), node(2, Some("a"), true)], true),
            (vec![node(1, Some("a"), true), node(2, Some("b"), true)], false),
            (vec![node(1, Some("a"), true), node(2, Some("a"), false)], false),
            (vec![node(1, Some("a"), true), node(2, None, true)], false),
            (vec![node(1, None, true), node(2, None, true)], false),
            (vec![], false),
        ] {
            assert_eq!(equal(&nodes), wanted, "{nodes:?}");
        }
    }
}
