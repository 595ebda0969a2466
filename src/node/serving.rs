//! A node that takes part: what it is made of, how it lives, and how it stops.
//!
//! ```text
//! doors open ─► attend (addresses, vote) ─► ready … doors close to newcomers
//!     ─► leadership handed over ─► sessions say goodbye ─► consensus and log closed
//! ```

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use tracing::{info, warn};

use super::door;
use super::entry::{FOUNDER, attend};
use super::error::NodeError;
use super::ready::Announcement;
use super::reception::{FrontDesk, Services, Visits};
use super::run::{Entrances, Frame, NET};
use super::vitals::Health;
use crate::admin::{self, Office};
use crate::consensus::{self, Member, Replica, SpaceOptions};
use crate::delivery::{self, BestEffort};
use crate::env::{Publisher, Runtime, TokioRuntime, watch};
use crate::relay::Relay;
use crate::session;
use crate::storage::{Storage, StorageError};
use crate::transport::TcpNet;
use crate::types::limits;

/// Handing leadership over takes milliseconds; a cluster in trouble is not waited for longer.
const TRANSFER_MAX: Duration = Duration::from_secs(2);
/// A node without a leader for so long asks whether it still belongs to the cluster.
const ORPHAN_AFTER: Duration = Duration::from_secs(3);
/// Administrators' answers under way when the node stops.
const ADMIN_GRACE: Duration = Duration::from_millis(300);

/// The parts of a node, running.
pub struct Serving {
    services: Arc<Services<TcpNet>>,
    replica: Replica<TokioRuntime>,
    member: Member,
    /// Peer addresses to ask besides those in the configuration.
    helpers: Vec<String>,
    health: Health<TcpNet>,
    /// Sends sessions and relays home.
    goodbye: Publisher<bool>,
    /// Whether the directory is new: then the node is not ready before it has a vote.
    fresh: bool,
}

/// Why a node stops.
enum Reason {
    Told,
    /// It was taken out of the cluster, as it asked.
    Left,
    /// It was taken out by others.
    Removed,
    Failed,
}

/// The listeners, open; closed when dropped.
struct Doors {
    client: JoinHandle<()>,
    admin: JoinHandle<()>,
    /// Open to the end: consensus needs it.
    peer: JoinHandle<()>,
    closing: Publisher<bool>,
    _peer_closing: Publisher<bool>,
}

impl Drop for Doors {
    fn drop(&mut self) {
        [&self.client, &self.admin, &self.peer].into_iter().for_each(JoinHandle::abort);
    }
}

impl Serving {
    /// Starts consensus, delivery and administration over an open directory.
    pub async fn start(
        frame: &Frame,
        storage: Storage,
        member: Member,
        mut helpers: Vec<String>,
        health: Health<TcpNet>,
    ) -> Result<Serving, NodeError> {
        let (config, env) = (&frame.config, &frame.env);
        let (identity, token) = (storage.identity, frame.cluster_token.text().to_string());
        let options = consensus::Options {
            token: token.clone(),
            snapshot_log_bytes: config.snapshot_log_bytes.0,
            payload_cache_bytes: config.log_tail_bytes.0 as usize,
            space: SpaceOptions {
                floor: config.free_space_floor.0,
                ballast: config.ballast.0,
                reserve: limits::ROOM_TO_OPEN_BYTES,
            },
            ..consensus::Options::new(member.clone())
        };
        let replica = consensus::start(options, storage, NET, env.clone()).await?;
        let fresh = !replica.is_initialized().await;
        if fresh
            && config.bootstrap
            && identity.node == FOUNDER
            && let Err(error) = replica.bootstrap().await
        {
            replica.shutdown().await;
            return Err(error.into());
        }
        let cluster = BestEffort::new(replica.clone());
        let delivery = delivery::start(cluster.clone(), env.clone());
        let (goodbye, leaving) = watch(false);
        let relay = Relay {
            net: NET,
            node: identity.node,
            cluster: identity.cluster,
            token: token.clone(),
            incarnation: identity.incarnation,
        };
        let suppliers = session::Suppliers::default();
        let office = Office::new(admin::Options {
            replica: replica.clone(),
            delivery: delivery.clone(),
            transient: cluster.transient(),
            net: NET,
            env: env.clone(),
            cluster: identity.cluster,
            token,
            incarnation: identity.incarnation,
            local: Arc::new(health.clone()),
            suppliers: suppliers.clone(),
        });
        let sessions = session::Options {
            cluster,
            delivery,
            suppliers,
            env: env.clone(),
            event_bytes_max: config.event_bytes_max.0 as usize,
            shutdown: leaving,
        };
        let services = Arc::new(Services {
            identity,
            replica: replica.clone(),
            sessions,
            relay,
            office,
            env: env.clone(),
            visits: Visits::default(),
        });
        helpers.extend_from_slice(&config.join);
        Ok(Serving { services, replica, member, helpers, health, goodbye, fresh })
    }

    /// The node's part in the cluster.
    pub fn replica(&self) -> Replica<TokioRuntime> {
        self.replica.clone()
    }

    /// Lives until told to stop, removed, or failed; then stops in order.
    pub async fn run(
        self,
        frame: &Frame,
        entrances: Entrances,
        http_addr: String,
        announce: impl Fn(Announcement),
    ) -> Result<(), NodeError> {
        let doors = self.open_doors(frame, entrances);
        self.health.serving(self.services.clone());
        let reason = self.live(frame, http_addr, &announce).await;
        let (failure, full) = (self.replica.status().failure, self.replica.failure());
        self.stop(frame, doors).await;
        match reason {
            Reason::Told => Ok(()),
            Reason::Left => {
                info!("this node has left its cluster");
                announce(Announcement::Removed { node_id: self.member.id });
                Ok(())
            }
            Reason::Removed => {
                announce(Announcement::Removed { node_id: self.member.id });
                Err(NodeError::Removed(self.member.id))
            }
            Reason::Failed => {
                if let Some(full) = full.filter(StorageError::is_full) {
                    return Err(NodeError::Full(full));
                }
                let why = failure.unwrap_or_else(|| "its consensus has stopped".into());
                Err(NodeError::Failed(why))
            }
        }
    }

    fn open_doors(&self, frame: &Frame, entrances: Entrances) -> Doors {
        let (closing, closed) = watch(false);
        let desk = FrontDesk(self.services.clone());
        let Entrances { client, peer, admin } = entrances;
        let public = |listener, door| {
            tokio::spawn(door::open(listener, frame.public(door), desk.clone(), closed.clone()))
        };
        let (client, admin) = (public(client, door::CLIENT), public(admin, door::ADMIN));
        // Open until it is dropped, so its switch is never thrown.
        let (peer_closing, peer_closed) = watch(false);
        let peer = tokio::spawn(door::open(peer, frame.private(), desk.clone(), peer_closed));
        Doors { client, admin, peer, closing, _peer_closing: peer_closing }
    }

    /// Announces itself and waits for a reason to stop.
    async fn live(
        &self,
        frame: &Frame,
        http_addr: String,
        announce: &impl Fn(Announcement),
    ) -> Reason {
        let (noticed, mut known) = watch(false);
        let mut attending = std::pin::pin!(self.attendance(frame, noticed));
        let mut announced = !self.fresh;
        if announced {
            self.announce_ready(&http_addr, announce);
        }
        let mut leadership = self.replica.leadership();
        let mut stopping = frame.stopping.clone();
        let mut left = self.health.left();
        loop {
            tokio::select! { biased;
                _ = stopping.wait_for(|stop| *stop) => return Reason::Told,
                _ = left.wait_for(|left| *left) => return Reason::Left,
                now = leadership.wait_for(|now| now.removed) => return match now {
                    Some(_) => Reason::Removed,
                    None => Reason::Failed,
                },
                () = self.replica.stopped() => return Reason::Failed,
                _ = known.wait_for(|known| *known), if !announced => {
                    announced = true;
                    self.announce_ready(&http_addr, announce);
                }
                reason = &mut attending => return reason,
            }
        }
    }

    /// Sees to it that the cluster knows this node. Ends only if it does not want to.
    async fn attendance(&self, frame: &Frame, noticed: Publisher<bool>) -> Reason {
        let office = &self.services.office;
        let token = &frame.cluster_token;
        if attend(office, &self.member, &self.helpers, token).await.is_err() {
            return Reason::Removed;
        }
        noticed.set(true);
        loop {
            // A node that was removed hears of no leader any more, and nobody tells it why.
            self.orphaned(&frame.env).await;
            if attend(office, &self.member, &self.helpers, token).await.is_err() {
                return Reason::Removed;
            }
        }
    }

    /// Completes when no leader was known for a while.
    async fn orphaned(&self, env: &TokioRuntime) {
        let mut leadership = self.replica.leadership();
        loop {
            if leadership.wait_for(|now| now.leader.is_none()).await.is_none() {
                return std::future::pending().await;
            }
            tokio::select! { biased;
                _ = leadership.wait_for(|now| now.leader.is_some()) => {}
                () = env.sleep(ORPHAN_AFTER) => return,
            }
        }
    }

    fn announce_ready(&self, http_addr: &str, announce: &impl Fn(Announcement)) {
        let Member { id, client_addr, peer_addr, admin_addr } = self.member.clone();
        let cluster_id = self.services.identity.cluster;
        info!(node = %id, cluster = %cluster_id, client_addr, peer_addr, admin_addr, "ready");
        announce(Announcement::Ready {
            node_id: id,
            cluster_id,
            client_addr,
            peer_addr,
            admin_addr,
            http_addr: http_addr.to_string(),
            pid: std::process::id(),
        });
    }

    /// Each step is bounded: whoever told the node to stop waits for it.
    async fn stop(&self, frame: &Frame, mut doors: Doors) {
        self.health.stopping();
        doors.closing.set(true);
        self.hand_over(&frame.env).await;
        self.goodbye.set(true);
        let grace = Duration::from_millis(frame.config.shutdown_grace_ms);
        if tokio::time::timeout(grace, &mut doors.client).await.is_err() {
            warn!("clients are cut off: the grace of {grace:?} is over");
        }
        // Administrators may keep a connection open for as long as they like.
        let _ = tokio::time::timeout(ADMIN_GRACE, &mut doors.admin).await;
        drop(doors);
        self.replica.shutdown().await;
        self.health.closed("stopped");
        info!("stopped");
    }

    /// Lets another node lead, if this one does and there is another.
    async fn hand_over(&self, env: &TokioRuntime) {
        let voters = self.replica.members().iter().filter(|info| info.voter).count();
        if self.replica.leadership().peek().tenure.is_none() || voters < 2 {
            return;
        }
        tokio::select! { biased;
            done = self.replica.transfer(None) => match done {
                Ok(leader) => info!(%leader, "leadership handed over"),
                Err(error) => warn!(%error, "leadership could not be handed over"),
            },
            () = env.sleep(TRANSFER_MAX) => warn!("leadership was not taken over in time"),
        }
    }
}
