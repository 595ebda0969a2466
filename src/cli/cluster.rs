//! `cluster`: members, leave, remove, transfer.

use super::args::{ClusterAction, Common};
use super::exit::{Exit, Failure};
use super::{connect_admin, output};
use crate::types::NodeId;
use crate::wire::admin::{Answer, Members};

const INIT: &str = "\
A cluster is founded once, by starting its first node with --bootstrap:
  aqueduct node --data-dir DIR --bootstrap
Starting that node again on the same directory founds nothing new.";

const JOIN: &str = "\
A node joins when it is started with the peer address of any member:
  aqueduct node --data-dir DIR --join HOST:PEER_PORT
It receives the log as a learner and becomes a voter when it has caught up.";

/// Runs a `cluster` command.
pub async fn run(common: &Common, action: &ClusterAction) -> Result<Exit, Failure> {
    match action {
        ClusterAction::Init => explain(common, INIT),
        ClusterAction::Join => explain(common, JOIN),
        ClusterAction::Ls => {
            let answer = connect_admin(common)?.cluster().await?;
            output::result(common.output, &answer, members);
        }
        ClusterAction::Leave => {
            let answer = connect_admin(common)?.leave().await?;
            output::result(common.output, &answer, members);
        }
        ClusterAction::Remove { id } => {
            let answer = connect_admin(common)?.remove(NodeId(*id)).await?;
            output::result(common.output, &answer, members);
        }
        ClusterAction::Transfer { id } => {
            let answer = connect_admin(common)?.transfer(id.map(NodeId)).await?;
            output::result(common.output, &answer, |a| format!("node {} leads", a.value.leader));
        }
    }
    Ok(Exit::Ok)
}

fn explain(common: &Common, text: &str) {
    output::result(common.output, &serde_json::json!({ "how": text }), |_| text.to_string());
}

fn members(answer: &Answer<Members>) -> String {
    let mut table = output::table(&["node", "role", "clients", "peers", "admin"]);
    for member in &answer.value.members {
        table.add_row(vec![
            member.id.to_string(),
            member.role.to_string(),
            member.addr.clone(),
            member.peer_addr.clone(),
            member.admin_addr.clone(),
        ]);
    }
    table.to_string()
}
