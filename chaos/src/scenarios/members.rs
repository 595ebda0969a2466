//! Asks the cluster again and again who belongs to it, on the record: what `cleared-after-removal`
//! goes by.

use std::sync::Arc;
use std::time::Duration;

use aqueduct::client::{AdminClient, AdminError, AdminOptions};
use aqueduct::wire::admin::{Answer, Members, Role};

use crate::bed::{NodeInfo, Roster, State};
use crate::history::{MembersView, Outcome, Recorder, What};

/// Who asks, in histories.
const BY: &str = "census";
/// Between two questions.
const EVERY: Duration = Duration::from_millis(300);
/// How long an answer may take.
const WITHIN: Duration = Duration::from_secs(3);

/// Asks for ever, through one node after the other.
pub async fn watch(roster: Roster, recorder: Arc<dyn Recorder>) {
    for ask in 0.. {
        let ready = |node: &NodeInfo| node.state == State::Ready && !node.paused;
        let nodes: Vec<NodeInfo> = roster.nodes().into_iter().filter(ready).collect();
        if let Some(via) = nodes.get(ask % nodes.len().max(1)) {
            let ask = ask as u64;
            recorder.record(BY, What::AskMembers { ask, via: via.id });
            let outcome = members(via).await;
            recorder.record(BY, What::Members { ask, outcome });
        }
        tokio::time::sleep(EVERY).await;
    }
}

async fn members(via: &NodeInfo) -> Outcome<MembersView> {
    let admin = AdminClient::new(AdminOptions {
        name: BY.into(),
        patience: WITHIN,
        ..AdminOptions::new([via.admin_addr.clone()])
    });
    match tokio::time::timeout(2 * WITHIN, admin.cluster()).await {
        Ok(Ok(answer)) => Outcome::Ok(view(&answer)),
        Ok(Err(AdminError::Refused(rejection))) => Outcome::Fail(rejection.code.to_string()),
        Ok(Err(error)) => Outcome::Unknown(error.to_string()),
        Err(_) => Outcome::Unknown("no answer in time".into()),
    }
}

fn view(answer: &Answer<Members>) -> MembersView {
    let (learners, voters): (Vec<_>, Vec<_>) =
        answer.value.members.iter().partition(|member| member.role == Role::Learner);
    MembersView {
        answered_by: answer.answered_by.0,
        linearizable: answer.linearizable,
        voters: voters.iter().map(|member| member.id.0).collect(),
        learners: learners.iter().map(|member| member.id.0).collect(),
    }
}
