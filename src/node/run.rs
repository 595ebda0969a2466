//! From settings to a node that takes part, and to its end.
//!
//! ```text
//! check settings ─► lock and open the directory ─► bind ─► found or join ─► serve ─► stop
//! ```

use std::time::Duration;

use tokio::task::JoinSet;
use tracing::{error, info, warn};

use super::config::{Config, Level, Rejoin, check};
use super::door::{self, Rules};
use super::entry::{Entered, enter, same_cluster};
use super::error::NodeError;
use super::http;
use super::listeners::Listeners;
use super::ready::Announcement;
use super::reception::closed_desk;
use super::rejoin::depart;
use super::roster;
use super::serving::Serving;
use super::token::Token;
use super::vitals::Health;
use crate::consensus::Member;
use crate::env::{Runtime, TokioRuntime, Watch, watch};
use crate::storage::{self, Identity, Opened, Owner, StorageError};
use crate::transport::{Listener, TcpNet};
use crate::types::{Code, NodeId, Rejection, limits};
use crate::wire::{Service, speak_at_most};

/// How long a life that ends waits for the last of its tasks to let go of the directory.
const RELEASE_MAX: Duration = Duration::from_secs(10);
/// How long a life may wait for the addresses of the one before in this process …
const REBORN_MAX: Duration = Duration::from_secs(20);
/// … and how often it tries.
const REBORN_PAUSE: Duration = Duration::from_millis(20);

/// Runs a node until SIGTERM or SIGINT, announcing itself on standard output. A second signal ends
/// the process at once.
pub async fn run(config: Config) -> Result<(), NodeError> {
    let (stop, stopping) = watch(false);
    let signals = tokio::spawn(super::signals::relay(stop));
    let ended = run_until(config, stopping, |announcement| announcement.print()).await;
    signals.abort();
    ended
}

/// Runs a node until `stopping` turns true, or until it has left its cluster.
pub async fn run_until(
    config: Config,
    stopping: Watch<bool>,
    announce: impl Fn(Announcement),
) -> Result<(), NodeError> {
    judge(&config)?;
    speak_at_most(config.protocol_version_max);
    let frame = Frame {
        cluster_token: Token::of(config.cluster_token_file.as_deref())?,
        client_token: Token::of(config.client_token_file.as_deref())?,
        env: TokioRuntime::new(),
        config,
        stopping,
        reborn: false,
    };
    frame.run(announce).await
}

/// How a node's life ended.
pub enum Ended {
    Stopped,
    /// Another one begins: of another node if this one was damaged and its directory was cleared.
    Again,
}

/// Refuses settings that cannot work.
fn judge(config: &Config) -> Result<(), NodeError> {
    let (errors, others): (Vec<_>, Vec<_>) =
        check(config).into_iter().partition(|finding| finding.level == Level::Error);
    for warning in others.iter().filter(|finding| finding.level == Level::Warn) {
        warn!("{warning}");
    }
    if errors.is_empty() { Ok(()) } else { Err(NodeError::Config(errors)) }
}

/// What is there before and whatever becomes of the node.
pub struct Frame {
    pub config: Config,
    pub cluster_token: Token,
    pub client_token: Token,
    pub env: TokioRuntime,
    pub stopping: Watch<bool>,
    /// This is not the first life in this process.
    pub reborn: bool,
}

/// The bound listeners of the framed protocol.
pub struct Entrances {
    pub client: tokio::net::TcpListener,
    pub peer: tokio::net::TcpListener,
    pub admin: tokio::net::TcpListener,
}

impl Frame {
    async fn run(mut self, announce: impl Fn(Announcement)) -> Result<(), NodeError> {
        loop {
            let ended = match self.live(&announce).await {
                Err(error) => {
                    let Some(full) = error.full() else { return Err(error) };
                    self.reborn = true;
                    self.wait_for_room(full, &announce).await?
                }
                Ok(ended) => ended,
            };
            match ended {
                Ended::Stopped => return Ok(()),
                Ended::Again => self.reborn = true,
            }
        }
    }

    async fn live(&mut self, announce: &impl Fn(Announcement)) -> Result<Ended, NodeError> {
        let found = self.reopen().await?;
        let listeners = self.bind().await?;
        let nobody = listeners.member(&self.config, NodeId(0));
        let http_addr = Listener::local_addr(&listeners.http);
        let Listeners { client, peer, admin, http } = listeners;
        let entrances = Entrances { client, peer, admin };
        let health = Health::starting();
        // Ends with this call, whichever way.
        let mut background = JoinSet::new();
        background.spawn(http::serve(http, std::sync::Arc::new(health.clone())));

        let (opened, helpers) = match found {
            Some(opened) => (opened, Vec::new()),
            None => {
                health.closed("joining");
                match self.settle(&nobody).await? {
                    Some(settled) => settled,
                    None => return Ok(Ended::Stopped),
                }
            }
        };
        let storage = match opened {
            Opened::Healthy(storage) => storage,
            Opened::Quarantined { reason, identity, lock } => {
                health.closed(format!("quarantined: {reason}"));
                let ended = self.quarantine(&reason, identity, entrances, &http_addr, announce);
                let let_go = ended.await?;
                let ended = match (let_go, identity) {
                    (Some(members), Some(identity)) => {
                        self.clear(identity.node, members, announce).await?;
                        Ended::Again
                    }
                    _ => Ended::Stopped,
                };
                background.shutdown().await;
                drop(lock);
                return Ok(ended);
            }
        };
        let member = Member { id: storage.identity.node, ..nobody };
        let (disk, released) = (storage.disk.clone(), storage.released.clone());
        let ended = match Serving::start(self, storage, member, helpers, health).await {
            Ok(serving) => {
                background.spawn(roster::keep(serving.replica(), disk, self.env.clone()));
                serving.run(self, entrances, http_addr, announce).await
            }
            Err(error) => Err(error),
        };
        background.shutdown().await;
        if tokio::time::timeout(RELEASE_MAX, released.wait()).await.is_err() {
            warn!("what is left of this node still holds its data directory");
        }
        ended.map(|()| Ended::Stopped)
    }

    /// Binds the listeners; in later lives where they were before.
    pub async fn bind(&mut self) -> Result<Listeners, NodeError> {
        let until = self.env.monotonic() + REBORN_MAX;
        loop {
            match Listeners::bind(&self.config).await {
                Err(NodeError::Listen(error, _))
                    if self.reborn
                        && error.kind() == std::io::ErrorKind::AddrInUse
                        && self.env.monotonic() < until =>
                {
                    self.env.sleep(REBORN_PAUSE).await;
                }
                bound => {
                    let bound = bound?;
                    bound.pin(&mut self.config);
                    return Ok(bound);
                }
            }
        }
    }

    /// Opens a directory that belongs to a node already.
    async fn reopen(&self) -> Result<Option<Opened>, NodeError> {
        let dir = self.config.data_dir.clone();
        let looked = self.env.blocking(move || {
            storage::finish_clearing(&dir)?;
            storage::peek(&dir)
        });
        let looked = looked.await;
        match looked.unwrap_or(Err(StorageError::Closed)) {
            Ok(None) => Ok(None),
            Ok(Some(identity)) => {
                let Identity { cluster, node, .. } = identity;
                info!(%cluster, %node, "this directory belongs to a node already");
                same_cluster(&self.config, &self.cluster_token, cluster).await?;
                self.open(None).await.map(Some)
            }
            // Opening says what to make of damage.
            Err(error) if error.is_corruption() => self.open(None).await.map(Some),
            Err(error) => Err(error.into()),
        }
    }

    /// Makes an empty directory that of a new node. `None`: told to stop before anybody answered.
    async fn settle(
        &mut self,
        nobody: &Member,
    ) -> Result<Option<(Opened, Vec<String>)>, NodeError> {
        // Never found a cluster in the place of a member of one.
        let members = roster::read(&self.config.data_dir);
        if !members.is_empty() {
            self.config.bootstrap = false;
            self.config.join.extend(members);
        }
        let entering = enter(&self.config, &self.cluster_token, nobody, &self.env);
        let entered = tokio::select! { biased;
            _ = self.stopping.wait_for(|stop| *stop) => return Ok(None),
            entered = entering => entered?,
        };
        let Entered { owner, helpers } = entered;
        Ok(Some((self.open(Some(owner)).await?, helpers)))
    }

    async fn open(&self, owner: Option<Owner>) -> Result<Opened, NodeError> {
        let options = storage::Options {
            tail_bytes: self.config.log_tail_bytes.0 as usize,
            ..storage::Options::default()
        };
        let dir = self.config.data_dir.clone();
        let opened = self.env.blocking(move || storage::open(&dir, owner, options)).await;
        Ok(opened.unwrap_or(Err(StorageError::Closed))?)
    }

    /// What the client and admin ports ask for.
    pub fn public(&self, door: &'static str) -> Rules {
        Rules {
            door,
            services: &[Service::Data, Service::Admin],
            token: self.client_token.clone(),
            token_setting: "client_token_file",
            connections_max: limits::SESSIONS_MAX,
        }
    }

    /// What the peer port asks for.
    pub fn private(&self) -> Rules {
        Rules {
            door: door::PEER,
            services: &[Service::Peer, Service::Admin, Service::RelayData, Service::RelayAdmin],
            token: self.cluster_token.clone(),
            token_setting: "cluster_token_file",
            connections_max: limits::SESSIONS_MAX,
        }
    }

    /// Moves the data of a node aside that its cluster has let go.
    async fn clear(
        &self,
        node: NodeId,
        members: Vec<String>,
        announce: &impl Fn(Announcement),
    ) -> Result<(), NodeError> {
        let dir = self.config.data_dir.clone();
        let cleared = self.env.blocking(move || {
            roster::write(&dir, &members)?;
            storage::clear(&dir)
        });
        let cleared = cleared.await;
        let kept = cleared.unwrap_or(Err(StorageError::Closed))?.display().to_string();
        warn!(%node, kept, "the damaged data was moved aside; joining as another node");
        announce(Announcement::Cleared { node_id: node, kept });
        Ok(())
    }

    /// Asks to be let go, if that is wanted and possible; otherwise never completes.
    async fn depart(&self, identity: Option<Identity>) -> Vec<String> {
        let mut servers = self.config.join.clone();
        servers.extend(roster::read(&self.config.data_dir));
        servers.sort();
        servers.dedup();
        match identity {
            Some(identity) if self.config.rejoin == Rejoin::Auto && !servers.is_empty() => {
                depart(&servers, identity, &self.cluster_token, &self.env).await
            }
            _ => std::future::pending().await,
        }
    }

    /// Stays up to say what is wrong, on the admin and peer ports, until told to stop, or until the
    /// cluster has let the node go: then it returns the members that are left.
    async fn quarantine(
        &mut self,
        reason: &str,
        identity: Option<Identity>,
        entrances: Entrances,
        http_addr: &str,
        announce: &impl Fn(Announcement),
    ) -> Result<Option<Vec<String>>, NodeError> {
        if self.config.exit_if_quarantined {
            return Err(NodeError::Quarantined(reason.to_string()));
        }
        error!(reason, "quarantined: this node takes no part in its cluster");
        announce(Announcement::Quarantined {
            reason: reason.to_string(),
            admin_addr: Listener::local_addr(&entrances.admin),
            http_addr: http_addr.to_string(),
            pid: std::process::id(),
        });
        let state = format!("quarantined: {reason}");
        let refusal = Rejection::new(Code::Quarantined, &state)
            .hint("use another node; see 'Quarantine' in docs/OPERATING.md");
        let addr = Listener::local_addr(&entrances.client);
        let reception = closed_desk(state, refusal, identity, addr);
        let admin = door::open(
            entrances.admin,
            self.public(door::ADMIN),
            reception.clone(),
            self.stopping.clone(),
        );
        let peer = door::open(entrances.peer, self.private(), reception, self.stopping.clone());
        let mut stopping = self.stopping.clone();
        tokio::select! { biased;
            _ = stopping.wait_for(|stop| *stop) => Ok(None),
            members = self.depart(identity) => Ok(Some(members)),
            _ = async { tokio::join!(admin, peer) } => Ok(None),
        }
    }
}

/// The network of the product.
pub const NET: TcpNet = TcpNet;
