//! One node of a simulated cluster: the product's own parts, put together as its process does.
//!
//! Only the front is ours: a listener that sends callers to sessions, the relay or consensus.
//! Administration speaks tarpc, which cannot run on virtual time; the world looks at nodes directly.

use std::sync::Arc;
use std::time::Duration;

use aqueduct::consensus::{
    self, LEADER_WAIT, Member, Pace, RaftRuntime, Replica, Route, SpaceOptions, StartError, route,
    serve_peer,
};
use aqueduct::delivery::{self, BestEffort};
use aqueduct::env::disk::MemDisk;
use aqueduct::env::{Publisher, Runtime, watch};
use aqueduct::relay::{RELAYED_WAIT, Relay};
use aqueduct::session;
use aqueduct::storage::{self, Drive, Identity, LogStore, Opened, Owner};
use aqueduct::transport::{Listener, Net, Reader, Writer, split};
use aqueduct::types::{ClusterId, Code, NodeId, Rejection, limits};
use aqueduct::wire::{Greeting, Hello, Service, Welcome};

use super::env::SimEnv;
use super::net::SimNet;
use super::stream::SimStream;

/// How long a caller may take to say hello.
const HELLO_MAX: Duration = Duration::from_secs(5);
/// Pause between rounds of the scrub: everything is read several times in a run.
const SCRUB_PAUSE: Duration = Duration::from_secs(3);
/// What a node's disk is to keep.
pub const SPACE: SpaceOptions =
    SpaceOptions { floor: 32 << 10, ballast: 64 << 10, reserve: 48 << 10 };
/// Room without which it does not open its disk.
pub const ROOM_TO_OPEN: u64 = 32 << 10;
/// The cluster of every simulation.
pub const CLUSTER: ClusterId = ClusterId(0x5eed);

/// Sizes, small enough that everything rotates, snapshots and purges within seconds.
#[derive(Debug, Clone, Copy)]
pub struct Sizes {
    pub tail_bytes: usize,
    pub database_bytes: u64,
    pub snapshot_log_bytes: u64,
    pub payload_cache_bytes: usize,
}

/// What a node is made of, while its process lives.
pub struct Process {
    pub env: SimEnv,
    pub replica: Replica<SimEnv>,
    pub log: LogStore,
    pub delivery: delivery::Handle,
    /// Sends sessions home.
    pub goodbye: Publisher<bool>,
}

/// How a start went.
pub enum Started {
    Up(Process),
    Quarantined(String),
    /// Its disk is full: why it did not start.
    Full(String),
    /// It could not start at all, and said why.
    Failed(String),
}

/// The name of a host on the network.
pub fn host(slot: u64) -> String {
    format!("n{slot}")
}

/// The one address of the node on a host, for everybody.
pub fn addr(slot: u64) -> String {
    format!("n{slot}:1")
}

/// The member that lives, or is to live, on a host.
pub fn member(slot: u64, id: u64) -> Member {
    let addr = addr(slot);
    Member { id: NodeId(id), peer_addr: addr.clone(), client_addr: addr.clone(), admin_addr: addr }
}

/// Which node lives where.
#[derive(Debug, Clone, Copy)]
pub struct Place {
    /// The number of its host.
    pub slot: u64,
    pub id: u64,
    /// Makes an empty disk its own.
    pub founding: bool,
}

/// Starts a node's process over its disk.
pub async fn start(
    place: Place,
    disk: &MemDisk,
    sizes: Sizes,
    pump_every: Duration,
    net: SimNet,
    env: SimEnv,
) -> Started {
    let Place { slot, id, founding } = place;
    let owner = founding.then_some(Owner { cluster: CLUSTER, node: NodeId(id) });
    let options =
        storage::Options { tail_bytes: sizes.tail_bytes, database_bytes: sizes.database_bytes };
    let opened = storage::open_on(Arc::new(disk.clone()), owner, options, Drive::Pump);
    let storage = match opened {
        Ok(Opened::Healthy(storage)) => storage,
        Ok(Opened::Quarantined { reason, .. }) => return Started::Quarantined(reason),
        Err(error) if error.is_full() => return Started::Full(error.to_string()),
        Err(error) => return Started::Failed(error.to_string()),
    };
    let (identity, log) = (storage.identity, storage.log.clone());
    env.spawn(pump(log.clone(), env.clone(), pump_every));
    let options = consensus::Options {
        snapshot_log_bytes: sizes.snapshot_log_bytes,
        payload_cache_bytes: sizes.payload_cache_bytes,
        space: SPACE,
        scrub: Pace { bytes_per_s: limits::SCRUB_BYTES_PER_S, pause: SCRUB_PAUSE },
        ..consensus::Options::new(member(slot, id))
    };
    let replica = match consensus::start(options, storage, net.clone(), env.clone()).await {
        Ok(replica) => replica,
        Err(StartError::Full(error)) => return Started::Full(error.to_string()),
        Err(error) => return Started::Failed(error.to_string()),
    };
    let cluster = BestEffort::new(replica.clone());
    let delivery = delivery::start(cluster.clone(), env.clone());
    let (goodbye, leaving) = watch(false);
    let desk = Desk(Arc::new(Services {
        identity,
        replica: replica.clone(),
        relay: Relay {
            net: net.clone(),
            node: identity.node,
            cluster: identity.cluster,
            token: String::new(),
            incarnation: identity.incarnation,
        },
        sessions: session::Options {
            cluster,
            delivery: delivery.clone(),
            suppliers: session::Suppliers::default(),
            env: env.clone(),
            event_bytes_max: limits::EVENT_BYTES_MAX,
            shutdown: leaving,
        },
    }));
    let listener = match net.listen(&addr(slot)).await {
        Ok(listener) => listener,
        Err(error) => return Started::Failed(error.to_string()),
    };
    env.spawn(desk.open(listener, env.clone()));
    Started::Up(Process { env, replica, log, delivery, goodbye })
}

/// Does the log's writing, a round at a time: what a disk takes is what passes between rounds.
async fn pump(log: LogStore, env: SimEnv, every: Duration) {
    loop {
        env.sleep(every).await;
        if env
            .blocking({
                let log = log.clone();
                move || log.pump()
            })
            .await
            .is_none()
        {
            return;
        }
    }
}

struct Services<E: RaftRuntime> {
    identity: Identity,
    replica: Replica<E>,
    relay: Relay<SimNet>,
    sessions: session::Options<BestEffort<Replica<E>>, E>,
}

#[derive(Clone)]
struct Desk(Arc<Services<SimEnv>>);

/// A caller that said hello and was not answered yet.
struct Visitor {
    hello: Hello,
    reader: Reader<SimStream>,
    writer: Writer<SimStream>,
}

impl Visitor {
    async fn refuse(mut self, rejection: Rejection) {
        let _ = self.writer.write([Greeting::Refused(rejection).encode().into()]).await;
        let _ = self.writer.close().await;
    }
}

impl Desk {
    async fn open(self, mut listener: impl Listener<Stream = SimStream>, env: SimEnv) {
        while let Ok((stream, _)) = listener.accept().await {
            let (desk, clock) = (self.clone(), env.clone());
            env.spawn(async move { desk.answer(stream, clock).await });
        }
    }

    async fn answer(&self, stream: SimStream, env: SimEnv) {
        let (mut reader, writer) = split(stream, limits::HANDSHAKE_BYTES_MAX);
        let said = tokio::select! { biased;
            said = reader.read() => said,
            () = env.sleep(HELLO_MAX) => return,
        };
        let Ok(Some(frame)) = said else { return };
        let Ok(hello) = Hello::decode(frame.kind, frame.body) else { return };
        let visitor = Visitor { hello, reader, writer };
        match visitor.hello.service {
            Service::Data => self.client(visitor, &env).await,
            Service::RelayData => match route(&env, &self.0.replica.leadership(), RELAYED_WAIT)
                .await
            {
                Ok(Route::Here) => self.session(visitor).await,
                Ok(Route::Elsewhere(_)) => {
                    visitor.refuse(Rejection::new(Code::NoLeader, "this node does not lead")).await;
                }
                Err(rejection) => visitor.refuse(rejection).await,
            },
            Service::Peer => self.peer(visitor).await,
            Service::Admin | Service::RelayAdmin => {
                visitor.refuse(Rejection::new(Code::NotAllowed, "nobody administrates here")).await;
            }
        }
    }

    async fn client(&self, visitor: Visitor, env: &SimEnv) {
        let leadership = self.0.replica.leadership();
        match route(env, &leadership, LEADER_WAIT).await {
            Ok(Route::Here) => self.session(visitor).await,
            Ok(Route::Elsewhere(leader)) => {
                let client = (visitor.hello, visitor.reader, visitor.writer);
                let mut leaving = self.0.sessions.shutdown.clone();
                tokio::select! { biased;
                    _ = leaving.wait_for(|leaving| *leaving) => {}
                    () = self.0.relay.carry(env, &leadership, &leader, client) => {}
                }
            }
            Err(rejection) => visitor.refuse(rejection).await,
        }
    }

    async fn session(&self, visitor: Visitor) {
        let Some(Visitor { mut reader, mut writer, .. }) = self.welcome(visitor).await else {
            return;
        };
        reader.set_frame_bytes_max(limits::FRAME_BYTES_MAX);
        writer.set_frame_bytes_max(limits::FRAME_BYTES_MAX);
        let _end = session::serve(reader, writer, self.0.sessions.clone()).await;
    }

    async fn peer(&self, visitor: Visitor) {
        let incarnation = visitor.hello.incarnation;
        let Some(Visitor { reader, writer, .. }) = self.welcome(visitor).await else { return };
        let _ended = serve_peer(self.0.replica.clone(), incarnation, reader, writer).await;
    }

    async fn welcome(&self, mut visitor: Visitor) -> Option<Visitor> {
        let identity = self.0.identity;
        let welcome = Welcome {
            version: visitor.hello.version(),
            cluster: identity.cluster,
            node: identity.node,
            incarnation: identity.incarnation,
            leader: self.0.replica.leadership().peek().tenure.is_some(),
            event_bytes_max: self.0.sessions.event_bytes_max as u32,
            lane_in_flight_max: limits::LANE_IN_FLIGHT_MAX as u32,
            newest: 1,
        };
        visitor.writer.write([Greeting::Welcome(welcome).encode().into()]).await.ok()?;
        Some(visitor)
    }
}
