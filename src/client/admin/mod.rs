//! Asking and changing a cluster: status, audit, membership, channels.
//!
//! [`AdminClient`] talks to any member. What only the leader can do is passed on by the member; what
//! fails for a moment (a dead member, an election) is tried again elsewhere until the client's
//! patience ends. A *change* whose answer got lost is not repeated: the error says that its outcome
//! is unknown.
//!
//! ```no_run
//! # async fn example() -> Result<(), aqueduct::client::AdminError> {
//! use aqueduct::client::{AdminClient, AdminOptions};
//!
//! let admin = AdminClient::new(AdminOptions::new(["127.0.0.1:7402"]));
//! let status = admin.status(false).await?;
//! println!("node {:?} leads", status.value.leader);
//! # Ok(())
//! # }
//! ```

mod dial;
mod letters;
mod quality;

use std::future::Future;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tarpc::client::RpcError;
use tarpc::context::Context;
use thiserror::Error;

pub use dial::{DialError, dial_admin};

use crate::transport::{Net, TcpNet};
use crate::types::{Code, Name, NodeId, Rejection};
use crate::wire::admin::{
    AdminServiceClient, Answer, Audit, BackupBegun, BackupPiece, BackupPlan, ChannelList,
    ChannelReport, ClusterInfo, ClusterStatus, Joined, Member, Members, NodeAudit, NodeReport,
    Transferred,
};
use crate::wire::{Hello, Service};

/// Longest time for one attempt to reach one server.
const DIAL_MAX: Duration = Duration::from_secs(3);
/// Pauses between rounds of attempts; the actual one is random between half and all of it.
const PAUSE_MIN: Duration = Duration::from_millis(40);
const PAUSE_MAX: Duration = Duration::from_millis(500);

/// How to reach a cluster, and how patient to be.
#[derive(Debug, Clone)]
pub struct AdminOptions {
    /// Client or admin addresses of members, any of them, tried in turn.
    pub servers: Vec<String>,
    /// The client token of the cluster; empty if it asks for none.
    pub token: String,
    /// What the servers' logs call this client.
    pub name: String,
    /// A request is tried again for so long.
    pub patience: Duration,
}

impl AdminOptions {
    /// The defaults, for a cluster reached by any of `servers`.
    pub fn new<S: Into<String>>(servers: impl IntoIterator<Item = S>) -> AdminOptions {
        AdminOptions {
            servers: servers.into_iter().map(Into::into).collect(),
            token: String::new(),
            name: "admin".into(),
            patience: Duration::from_secs(15),
        }
    }
}

/// Why there is no answer.
#[derive(Debug, Error)]
pub enum AdminError {
    /// The cluster understood, and said no.
    #[error(transparent)]
    Refused(Rejection),
    /// No server answered in time; nothing was changed.
    #[error("no server answered within {patience:?}; last: {last}")]
    Unreachable { patience: Duration, last: String },
    /// The change was sent and its answer got lost.
    #[error("whether the change took effect is unknown: {reason}; look before trying again")]
    Unknown { reason: String },
}

/// Whether a request may be made again when its answer got lost.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Question,
    Change,
}

/// An asker of a cluster. One connection, made when needed; share it by reference.
#[derive(Debug)]
pub struct AdminClient<N: Net = TcpNet> {
    options: AdminOptions,
    net: N,
    link: Mutex<Link>,
}

#[derive(Debug, Default)]
struct Link {
    service: Option<AdminServiceClient>,
    /// Which server comes next.
    turn: usize,
}

impl AdminClient {
    /// A client over TCP. Connects with the first request.
    pub fn new(options: AdminOptions) -> AdminClient {
        AdminClient::over(TcpNet, options)
    }
}

/// What can be asked; [`crate::wire::admin::AdminService`] says what each answer means.
impl<N: Net> AdminClient<N> {
    /// A client over any network.
    pub fn over(net: N, options: AdminOptions) -> AdminClient<N> {
        AdminClient { options, net, link: Mutex::default() }
    }

    /// The cluster: nodes, channels, ledgers. `stale`: as the answering node knows it.
    pub async fn status(&self, stale: bool) -> Result<Answer<ClusterStatus>, AdminError> {
        self.call(Kind::Question, |s, c| async move { s.status(c, stale).await }).await
    }

    /// The answering node alone.
    pub async fn node_status(&self) -> Result<NodeReport, AdminError> {
        self.call(Kind::Question, |s, c| async move { s.node_status(c).await }).await
    }

    /// Whether all nodes have the same state at one place of the log.
    pub async fn audit(&self) -> Result<Answer<Audit>, AdminError> {
        self.call(Kind::Question, |s, c| async move { s.audit(c).await }).await
    }

    /// Commits a checkpoint; its log index.
    pub async fn checkpoint(&self) -> Result<u64, AdminError> {
        self.call(Kind::Question, |s, c| async move { s.checkpoint(c).await }).await
    }

    /// The answering node's part of an audit at a checkpoint.
    pub async fn node_audit(&self, index: u64) -> Result<NodeAudit, AdminError> {
        self.call(Kind::Question, |s, c| async move { s.node_audit(c, index).await }).await
    }

    /// The members and their parts.
    pub async fn cluster(&self) -> Result<Answer<Members>, AdminError> {
        self.call(Kind::Question, |s, c| async move { s.cluster(c).await }).await
    }

    /// Identity and members, as the answering node knows them.
    pub async fn cluster_info(&self) -> Result<ClusterInfo, AdminError> {
        self.call(Kind::Question, |s, c| async move { s.cluster_info(c).await }).await
    }

    /// Asks for an id (`member.id` 0), or to be taken in under a promised one. Repeating either is
    /// harmless, so it counts as a question. Needs the cluster token and peer addresses.
    pub async fn join(&self, member: Member) -> Result<Joined, AdminError> {
        let ask = |s: AdminServiceClient, c| {
            let member = member.clone();
            async move { s.join(c, member).await }
        };
        self.call(Kind::Question, ask).await
    }

    /// Makes a learner that has caught up a voter; harmless to repeat. Needs the cluster token and
    /// peer addresses.
    pub async fn promote(&self, node: NodeId) -> Result<Answer<Members>, AdminError> {
        self.call(Kind::Question, |s, c| async move { s.promote(c, node).await }).await
    }

    /// Takes a member out for good.
    pub async fn remove(&self, node: NodeId) -> Result<Answer<Members>, AdminError> {
        self.call(Kind::Change, |s, c| async move { s.remove(c, node).await }).await
    }

    /// Asks the answering node to leave the cluster and stop.
    pub async fn leave(&self) -> Result<Answer<Members>, AdminError> {
        self.call(Kind::Change, |s, c| async move { s.leave(c).await }).await
    }

    /// Hands leadership to `to`, or to the voter best suited.
    pub async fn transfer(&self, to: Option<NodeId>) -> Result<Answer<Transferred>, AdminError> {
        self.call(Kind::Change, |s, c| async move { s.transfer(c, to).await }).await
    }

    /// All channels, by name.
    pub async fn channels(&self) -> Result<Answer<ChannelList>, AdminError> {
        self.call(Kind::Question, |s, c| async move { s.channels(c).await }).await
    }

    /// One channel with its ledger and proxies.
    pub async fn channel(&self, name: &Name) -> Result<Answer<ChannelReport>, AdminError> {
        let ask = |s: AdminServiceClient, c| {
            let name = name.clone();
            async move { s.channel(c, name).await }
        };
        self.call(Kind::Question, ask).await
    }

    /// Removes a channel with all its events and proxies; what it was.
    pub async fn remove_channel(&self, name: &Name) -> Result<Answer<ChannelReport>, AdminError> {
        let ask = |s: AdminServiceClient, c| {
            let name = name.clone();
            async move { s.remove_channel(c, name).await }
        };
        self.call(Kind::Change, ask).await
    }

    /// Removes a durable proxy of a channel.
    pub async fn remove_proxy(
        &self,
        channel: &Name,
        proxy: &Name,
    ) -> Result<Answer<ChannelReport>, AdminError> {
        let ask = |s: AdminServiceClient, c| {
            let (channel, proxy) = (channel.clone(), proxy.clone());
            async move { s.remove_proxy(c, channel, proxy).await }
        };
        self.call(Kind::Change, ask).await
    }

    /// Begins a backup on the node that answers; it goes on over the same connection.
    pub async fn backup_begin(&self) -> Result<Answer<BackupBegun>, AdminError> {
        self.call(Kind::Question, |s, c| async move { s.backup_begin(c).await }).await
    }

    /// What the backup consists of; `None`: ask again.
    pub async fn backup_plan(&self, backup: u64) -> Result<Option<BackupPlan>, AdminError> {
        self.call(Kind::Question, |s, c| async move { s.backup_plan(c, backup).await }).await
    }

    /// A piece of a file of the backup.
    pub async fn backup_piece(
        &self,
        backup: u64,
        file: &str,
        offset: u64,
    ) -> Result<BackupPiece, AdminError> {
        let ask = |s: AdminServiceClient, c| {
            let file = file.to_string();
            async move { s.backup_piece(c, backup, file, offset).await }
        };
        self.call(Kind::Question, ask).await
    }

    /// Lets go of the backup.
    pub async fn backup_end(&self, backup: u64) -> Result<(), AdminError> {
        self.call(Kind::Question, |s, c| async move { s.backup_end(c, backup).await }).await
    }

    /// Makes one request, at other servers or again where that is safe and promises anything.
    async fn call<T, F, Asked>(&self, kind: Kind, ask: F) -> Result<T, AdminError>
    where
        F: Fn(AdminServiceClient, Context) -> Asked,
        Asked: Future<Output = Result<Result<T, Rejection>, RpcError>>,
    {
        let deadline = Instant::now() + self.options.patience;
        let mut pause = PAUSE_MIN;
        loop {
            let failed = match self.service(deadline).await {
                Ok(service) => {
                    let mut context = Context::current();
                    context.deadline = deadline;
                    match ask(service, context).await {
                        Ok(Ok(answer)) => return Ok(answer),
                        Ok(Err(rejection)) => self.refused(kind, rejection)?,
                        Err(error) => self.broken(kind, error)?,
                    }
                }
                // It is the same token everywhere.
                Err(AdminError::Refused(rejection)) if rejection.code == Code::Unauthorized => {
                    return Err(AdminError::Refused(rejection));
                }
                Err(error) => error,
            };
            let now = Instant::now();
            if now + pause >= deadline {
                return Err(failed);
            }
            tokio::time::sleep(pause.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    /// The present connection, or a new one to the next server that answers.
    async fn service(&self, deadline: Instant) -> Result<AdminServiceClient, AdminError> {
        if let Some(service) = self.lock().service.clone() {
            return Ok(service);
        }
        let servers = &self.options.servers;
        let hello = Hello {
            token: self.options.token.clone(),
            ..Hello::new(Service::Admin, &self.options.name)
        };
        let mut last = "no server was given".to_string();
        for _ in servers {
            let turn = {
                let mut link = self.lock();
                link.turn = link.turn.wrapping_add(1);
                link.turn.wrapping_sub(1)
            };
            let addr = &servers[turn % servers.len()];
            let patience = deadline.saturating_duration_since(Instant::now()).min(DIAL_MAX);
            match dial_admin(&self.net, addr, &hello, patience).await {
                Ok((service, _)) => {
                    self.lock().service = Some(service.clone());
                    return Ok(service);
                }
                Err(DialError::Refused { rejection, .. }) if !rejection.code.retryable() => {
                    return Err(AdminError::Refused(rejection));
                }
                Err(error) => last = error.to_string(),
            }
        }
        Err(AdminError::Unreachable { patience: self.options.patience, last })
    }

    /// After a refusal: `Ok` if the same request may be made again.
    fn refused(&self, kind: Kind, rejection: Rejection) -> Result<AdminError, AdminError> {
        match rejection.code {
            Code::TenureLost if kind == Kind::Change => {
                Err(AdminError::Unknown { reason: rejection.to_string() })
            }
            Code::NoLeader | Code::ShuttingDown | Code::Overloaded | Code::TenureLost => {
                // Another server may know better.
                self.lock().service = None;
                Ok(AdminError::Refused(rejection))
            }
            // It waits for room on its disk; others may have some.
            Code::StorageFailed if self.options.servers.len() > 1 => {
                self.lock().service = None;
                Ok(AdminError::Refused(rejection))
            }
            _ => Err(AdminError::Refused(rejection)),
        }
    }

    /// After a broken connection: `Ok` if the same request may be made again.
    fn broken(&self, kind: Kind, error: RpcError) -> Result<AdminError, AdminError> {
        self.lock().service = None;
        let reason = chain(&error);
        match (kind, error) {
            // It was never sent.
            (_, RpcError::Send(_) | RpcError::Shutdown) | (Kind::Question, _) => {
                Ok(AdminError::Unreachable { patience: self.options.patience, last: reason })
            }
            (Kind::Change, _) => Err(AdminError::Unknown { reason }),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Link> {
        self.link.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An error with its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
