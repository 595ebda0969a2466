//! Sends visitors where they belong: sessions, the relay, administration, peers.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tracing::{debug, warn};

use super::door::{Reception, Visitor};
use crate::admin::{self, Caller, Closed, Desk, Office};
use crate::consensus::{LEADER_WAIT, Replica, Route, route, serve_peer};
use crate::delivery::BestEffort;
use crate::env::TokioRuntime;
use crate::relay::{RELAYED_WAIT, Relay};
use crate::session;
use crate::storage::Identity;
use crate::transport::{ByteStream, Net, reunite};
use crate::types::{ClusterId, Code, NodeId, Rejection, limits};
use crate::wire::admin::{AdminService, NodeReport, Role, SnapshotReport};
use crate::wire::{Greeting, Hello, Service, Welcome, newest_version};

/// What a node serves its visitors with.
pub struct Services<N> {
    pub identity: Identity,
    pub replica: Replica<TokioRuntime>,
    pub sessions: session::Options<BestEffort<Replica<TokioRuntime>>, TokioRuntime>,
    pub relay: Relay<N>,
    pub office: Office<N>,
    pub env: TokioRuntime,
    pub visits: Visits,
}

/// Who is here now.
#[derive(Debug, Default)]
pub struct Visits {
    pub sessions: AtomicU64,
    pub relayed: AtomicU64,
    pub admins: AtomicU64,
    pub peers: AtomicU64,
}

/// Counts one visitor until dropped.
struct Visit<'a>(&'a AtomicU64);

impl<'a> Visit<'a> {
    fn of(counter: &'a AtomicU64) -> Visit<'a> {
        counter.fetch_add(1, Ordering::Relaxed);
        Visit(counter)
    }
}

impl Drop for Visit<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The reception of a node that takes part. Cheap to clone.
pub struct FrontDesk<N>(pub Arc<Services<N>>);

impl<N> Clone for FrontDesk<N> {
    fn clone(&self) -> Self {
        FrontDesk(self.0.clone())
    }
}

impl<S: ByteStream + Sync, N: Net> Reception<S> for FrontDesk<N> {
    fn cluster(&self) -> Option<ClusterId> {
        Some(self.0.identity.cluster)
    }

    async fn receive(&self, visitor: Visitor<S>) {
        let services = &*self.0;
        match visitor.hello.service {
            Service::Data => services.client(visitor).await,
            Service::RelayData => services.relayed(visitor).await,
            Service::Admin => {
                // A node that joins presents itself on the peer port; `door` has checked which.
                let node = visitor.door == super::door::PEER;
                let caller = if node { Caller::Node } else { Caller::Client };
                services.administrator(visitor, caller).await;
            }
            Service::RelayAdmin => services.administrator(visitor, Caller::Member).await,
            Service::Peer => services.peer(visitor).await,
        }
    }
}

impl<N: Net> Services<N> {
    async fn client<S: ByteStream + Sync>(&self, visitor: Visitor<S>) {
        let leadership = self.replica.leadership();
        match route(&self.env, &leadership, LEADER_WAIT).await {
            Ok(Route::Here) => self.session(visitor).await,
            Ok(Route::Elsewhere(leader)) => {
                let _visit = Visit::of(&self.visits.relayed);
                let client = (visitor.hello, visitor.reader, visitor.writer);
                let mut leaving = self.sessions.shutdown.clone();
                tokio::select! { biased;
                    _ = leaving.wait_for(|leaving| *leaving) => {}
                    () = self.relay.carry(&self.env, &leadership, &leader, client) => {}
                }
            }
            Err(rejection) => visitor.refuse(rejection).await,
        }
    }

    /// A client that came through another node: it is served here or nowhere. The other node may
    /// know of this one's election before its tenure has begun.
    async fn relayed<S: ByteStream + Sync>(&self, visitor: Visitor<S>) {
        match route(&self.env, &self.replica.leadership(), RELAYED_WAIT).await {
            Ok(Route::Here) => self.session(visitor).await,
            Ok(Route::Elsewhere(leader)) => {
                let message = format!("node {} does not lead, but {leader}", self.identity.node);
                visitor.refuse(Rejection::new(Code::NoLeader, message).hint("try again")).await;
            }
            Err(rejection) => visitor.refuse(rejection).await,
        }
    }

    async fn session<S: ByteStream + Sync>(&self, visitor: Visitor<S>) {
        let _visit = Visit::of(&self.visits.sessions);
        let Some(visitor) = self.welcome(visitor).await else { return };
        let Visitor { hello, mut reader, mut writer, from, .. } = visitor;
        reader.set_frame_bytes_max(limits::FRAME_BYTES_MAX);
        writer.set_frame_bytes_max(limits::FRAME_BYTES_MAX);
        let end = session::serve(reader, writer, self.sessions.clone()).await;
        debug!(from, client = hello.name, ?end, "a session ended");
    }

    async fn administrator<S: ByteStream>(&self, visitor: Visitor<S>, caller: Caller) {
        let _visit = Visit::of(&self.visits.admins);
        let Some(visitor) = self.welcome(visitor).await else { return };
        administrate(visitor, Desk::new(self.office.clone(), caller)).await;
    }

    async fn peer<S: ByteStream>(&self, visitor: Visitor<S>) {
        let caller = visitor.hello.node;
        if caller.is_none() || caller == Some(self.identity.node) {
            let message = match caller {
                Some(node) => format!("node {node} calls itself"),
                None => "a peer must say which node it is".to_string(),
            };
            warn!(from = visitor.from, "{message}");
            return visitor.refuse(Rejection::new(Code::BadRequest, message)).await;
        }
        let _visit = Visit::of(&self.visits.peers);
        let Some(visitor) = self.welcome(visitor).await else { return };
        let Visitor { hello, reader, writer, .. } = visitor;
        let incarnation = hello.incarnation;
        let served = serve_peer(self.replica.clone(), incarnation, reader, writer).await;
        if let Err(error) = served {
            debug!(peer = hello.name, %error, "a peer connection ended badly");
        }
    }

    /// Answers the hello; `None` if the visitor has gone.
    async fn welcome<S: ByteStream>(&self, mut visitor: Visitor<S>) -> Option<Visitor<S>> {
        let leader = self.replica.leadership().peek().tenure.is_some();
        let event_bytes_max = self.sessions.event_bytes_max as u32;
        let welcome = welcome(&visitor.hello, &self.identity, leader, event_bytes_max);
        let frame = Greeting::Welcome(welcome).encode().into();
        visitor.writer.write([frame]).await.ok()?;
        Some(visitor)
    }
}

fn welcome(hello: &Hello, identity: &Identity, leader: bool, event_bytes_max: u32) -> Welcome {
    Welcome {
        version: hello.version(),
        cluster: identity.cluster,
        node: identity.node,
        incarnation: identity.incarnation,
        leader,
        event_bytes_max,
        lane_in_flight_max: limits::LANE_IN_FLIGHT_MAX as u32,
        newest: newest_version(),
    }
}

async fn administrate<S: ByteStream>(visitor: Visitor<S>, desk: impl AdminService + Clone) {
    match reunite(visitor.reader, visitor.writer) {
        Ok(stream) => admin::serve(stream, desk).await,
        Err(error) => debug!(from = visitor.from, %error, "an administrator was lost"),
    }
}

/// The reception of a node that takes no part: administrators may ask how it is.
#[derive(Clone)]
pub struct ClosedDesk {
    /// If it can still be read.
    pub identity: Option<Identity>,
    pub desk: Closed,
}

impl<S: ByteStream> Reception<S> for ClosedDesk {
    fn cluster(&self) -> Option<ClusterId> {
        self.identity.map(|identity| identity.cluster)
    }

    async fn receive(&self, mut visitor: Visitor<S>) {
        let Some(identity) = &self.identity else {
            return visitor.refuse(self.desk.reason.clone()).await;
        };
        if !matches!(visitor.hello.service, Service::Admin | Service::RelayAdmin) {
            return visitor.refuse(self.desk.reason.clone()).await;
        }
        let frame = Greeting::Welcome(welcome(&visitor.hello, identity, false, 0)).encode().into();
        if visitor.writer.write([frame]).await.is_ok() {
            administrate(visitor, self.desk.clone()).await;
        }
    }
}

/// The desk of a node that takes no part: its state, and what it answers to whatever else is asked.
pub fn closed_desk(
    state: String,
    reason: Rejection,
    identity: Option<Identity>,
    addr: String,
) -> ClosedDesk {
    let report = NodeReport {
        id: identity.map_or(NodeId(0), |identity| identity.node),
        addr,
        role: Role::Down,
        state,
        term: 0,
        leader: None,
        tenure: None,
        applied: 0,
        committed: 0,
        snapshot_index: 0,
        log_bytes: 0,
        store_bytes: 0,
        rss_bytes: super::process::usage().rss_bytes,
        free_bytes: 0,
        release: env!("CARGO_PKG_VERSION").into(),
        protocol: newest_version(),
        snapshots: SnapshotReport::default(),
    };
    ClosedDesk { identity, desk: Closed { report, reason } }
}
