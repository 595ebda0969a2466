//! How a node comes to belong to a cluster: it founds one, joins one, or belongs to one already.
//!
//! Joining: the leader admits the node as a learner and gives it an id; the node writes the id down,
//! starts, receives the log, and asks to be made a voter. A node that crashes on the way asks again;
//! a learner nobody heard of since is dropped when the same address joins anew.

use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tracing::{info, warn};

use super::config::Config;
use super::error::NodeError;
use super::token::Token;
use crate::admin::Office;
use crate::client::{AdminClient, AdminError, AdminOptions};
use crate::consensus::Member;
use crate::env::{Runtime, TokioRuntime};
use crate::storage::Owner;
use crate::transport::{Net, TcpNet};
use crate::types::{ClusterId, Code, NodeId, Rejection};
use crate::wire::admin::{self, Joined};

/// The first member of a cluster.
pub const FOUNDER: NodeId = NodeId(1);
/// One round of attempts to join; the next begins with a line in the log.
const JOIN_ROUND: Duration = Duration::from_secs(5);
/// A learner is given this long to catch up before it asks again.
const PROMOTE_ROUND: Duration = Duration::from_secs(150);
/// Pause between attempts to be taken note of.
const ATTEND_PAUSE: Duration = Duration::from_millis(100);
/// How long a returning node asks which cluster it was told to join.
const SAME_CLUSTER_MAX: Duration = Duration::from_millis(500);
/// Pause between rounds.
const PAUSE: Duration = Duration::from_millis(500);

/// Whose an empty directory becomes.
pub struct Entered {
    pub owner: Owner,
    /// Peer addresses of the members it joined.
    pub helpers: Vec<String>,
}

/// Founds a cluster or asks to be admitted to one, as the settings say.
pub async fn enter(
    config: &Config,
    token: &Token,
    member: &Member,
    env: &TokioRuntime,
) -> Result<Entered, NodeError> {
    if config.bootstrap {
        // Zero would look like "no cluster" to people.
        let cluster = ClusterId(env.random().max(1));
        info!(%cluster, "founding a new cluster");
        return Ok(Entered { owner: Owner { cluster, node: FOUNDER }, helpers: Vec::new() });
    }
    if config.join.is_empty() {
        return Err(NodeError::Nowhere { dir: config.data_dir.display().to_string() });
    }
    let Joined { cluster_id, node_id, members } = join(config, token, member, env).await?;
    info!(cluster = %cluster_id, node = %node_id, "admitted as a learner");
    let helpers = members.into_iter().map(|member| member.peer_addr).collect();
    Ok(Entered { owner: Owner { cluster: cluster_id, node: node_id }, helpers })
}

/// Checks that a directory and the `join` setting speak of the same cluster. Members that do not
/// answer are not waited for: a node that comes back needs nobody's leave.
pub async fn same_cluster(
    config: &Config,
    token: &Token,
    mine: ClusterId,
) -> Result<(), NodeError> {
    if config.join.is_empty() {
        return Ok(());
    }
    let asker = asker(config.join.clone(), token, "a returning node", SAME_CLUSTER_MAX);
    match asker.cluster_info().await {
        Ok(info) if info.cluster_id != mine => Err(NodeError::OtherCluster {
            dir: config.data_dir.display().to_string(),
            mine,
            through: config.join.join(", "),
            other: info.cluster_id,
        }),
        _ => Ok(()),
    }
}

/// Asks until somebody answers.
async fn join(
    config: &Config,
    token: &Token,
    member: &Member,
    env: &TokioRuntime,
) -> Result<Joined, NodeError> {
    let asker = asker(config.join.clone(), token, "a joining node", JOIN_ROUND);
    loop {
        let error = match asker.join(on_wire(member)).await {
            Ok(joined) => return Ok(joined),
            Err(error) => error,
        };
        if is_final(&error) {
            return Err(NodeError::Join { through: config.join.join(", "), error });
        }
        warn!(through = config.join.join(","), %error, "cannot join yet; trying on");
        env.sleep(PAUSE).await;
    }
}

/// Whether asking again is no use.
fn is_final(error: &AdminError) -> bool {
    let AdminError::Refused(rejection) = error else { return false };
    !rejection.code.retryable() && rejection.code != Code::MembershipRefused
}

/// Makes the cluster know this node as it is now: a member at these addresses, with a vote. Goes
/// on until that is so; for a member that comes back unchanged it is one question.
///
/// # Errors
/// [`NodeError::Removed`] if the cluster says that this node is no member.
pub async fn attend<N: Net>(
    office: &Office<N>,
    member: &Member,
    helpers: &[String],
    token: &Token,
) -> Result<(), NodeError> {
    loop {
        let error = match attempt(office, member, helpers, token).await {
            Ok(()) => return Ok(()),
            Err(AdminError::Refused(rejection)) if rejection.code == Code::NotAllowed => {
                return Err(NodeError::Removed(member.id));
            }
            Err(error) => error,
        };
        info!(%error, "the cluster has not taken note of this node yet; trying on");
        office.env().sleep(ATTEND_PAUSE).await;
    }
}

async fn attempt<N: Net>(
    office: &Office<N>,
    member: &Member,
    helpers: &[String],
    token: &Token,
) -> Result<(), AdminError> {
    if office.leadership().tenure.is_some() {
        office.join(on_wire(member)).await.map_err(AdminError::Refused)?;
        office.promote(member.id).await.map_err(AdminError::Refused)?;
        return Ok(());
    }
    let known = office.replica().members().into_iter().filter(|info| info.member.id != member.id);
    let mut servers: Vec<_> = known.map(|info| info.member.peer_addr).collect();
    servers.extend_from_slice(helpers);
    servers.retain(|addr| *addr != member.peer_addr);
    servers.dedup();
    if servers.is_empty() {
        // Alone: it will lead, and then be asked again.
        return Err(AdminError::Refused(Rejection::new(Code::NoLeader, "no leader yet")));
    }
    let name = format!("node {}", member.id);
    // Each is told by itself: recording a new address may need a member that has to hear it first.
    let told = servers.iter().map(|server| {
        let asker = asker(vec![server.clone()], token, &name, JOIN_ROUND);
        async move { asker.join(on_wire(member)).await }
    });
    first_taken(told.collect()).await?;
    asker(servers, token, &name, PROMOTE_ROUND).promote(member.id).await?;
    Ok(())
}

/// Waits until one member has taken note, or one says that this node is no member.
async fn first_taken(
    mut told: FuturesUnordered<impl Future<Output = Result<Joined, AdminError>>>,
) -> Result<(), AdminError> {
    let mut failed = AdminError::Unreachable { patience: JOIN_ROUND, last: "nobody to ask".into() };
    while let Some(answer) = told.next().await {
        match answer {
            Ok(_) => return Ok(()),
            Err(AdminError::Refused(rejection)) if rejection.code == Code::NotAllowed => {
                return Err(AdminError::Refused(rejection));
            }
            Err(error) => failed = error,
        }
    }
    Err(failed)
}

/// Asks members at their peer addresses in a node's name.
pub fn asker(servers: Vec<String>, token: &Token, name: &str, patience: Duration) -> AdminClient {
    let options = AdminOptions {
        token: token.text().to_string(),
        name: name.to_string(),
        patience,
        ..AdminOptions::new(servers)
    };
    AdminClient::over(TcpNet, options)
}

fn on_wire(member: &Member) -> admin::Member {
    let Member { id, peer_addr, client_addr, admin_addr } = member.clone();
    admin::Member { id, peer_addr, client_addr, admin_addr }
}
