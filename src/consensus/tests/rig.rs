//! A cluster in one process: members over any net, on any disk, with a way to kill them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};

use crate::env::TokioRuntime;
use crate::env::disk::{Keep, MemDisk};
use crate::machine::{Command, LaneTarget, Publish, Published, Reply};
use crate::storage::{self, Drive, Identity, Opened, Owner, Storage};
use crate::transport::{ByteStream, Listener, MemNet, Net, split};
use crate::types::{
    ChannelId, ClusterId, Event, LaneId, Name, NodeId, Opener, Payload, PayloadKey, limits,
};
use crate::wire::{Greeting, Hello, PROTOCOL_VERSION, Service, Welcome};

use super::super::{
    Member, Options, Pace, PayloadError, ProposeError, Replica, Timing, serve_peer, start,
};

pub type Node = Replica<TokioRuntime>;

pub const CLUSTER: ClusterId = ClusterId(0xc1);
/// Longest time anything may take.
pub const DEADLINE: Duration = Duration::from_secs(20);

/// Waits until `look` finds something; panics with `what` when the deadline passes.
pub async fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let started = std::time::Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(started.elapsed() < DEADLINE, "waited in vain: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// A cluster over memory.
pub struct Rig {
    pub cluster: ClusterId,
    pub net: MemNet,
    pub disks: BTreeMap<u64, MemDisk>,
    pub nodes: BTreeMap<u64, Node>,
    pub snapshot_log_bytes: u64,
    pub payload_cache_bytes: usize,
    pub scrub_pause: Duration,
    pub timing: Timing,
}

pub fn host(id: u64) -> String {
    format!("n{id}")
}

pub fn member(id: u64) -> Member {
    let at = |port| format!("{}:{port}", host(id));
    Member { id: NodeId(id), peer_addr: at(1), client_addr: at(2), admin_addr: at(3) }
}

impl Rig {
    /// A running cluster of voters `1..=size`.
    pub async fn new(size: u64, snapshot_log_bytes: u64) -> Rig {
        let timing = Timing { heartbeat_ms: 50, election_min_ms: 200, election_max_ms: 400 };
        Rig::with_timing(size, snapshot_log_bytes, timing).await
    }

    /// The same, with another timing.
    pub async fn with_timing(size: u64, snapshot_log_bytes: u64, timing: Timing) -> Rig {
        let (net, disks, nodes) = (MemNet::new("rig"), BTreeMap::new(), BTreeMap::new());
        let cluster = CLUSTER;
        let payload_cache_bytes = 64 << 20;
        let scrub_pause = Duration::from_secs(3600);
        let mut rig = Rig {
            cluster,
            net,
            disks,
            nodes,
            snapshot_log_bytes,
            payload_cache_bytes,
            scrub_pause,
            timing,
        };
        rig.start(1).await.bootstrap().await.unwrap();
        for id in 2..=size {
            rig.join(id).await;
        }
        rig
    }

    /// Adds a node with an empty disk, and makes it a voter.
    pub async fn join(&mut self, id: u64) {
        let leader = self.leader().await;
        let given = leader.admit(member(id)).await.unwrap();
        assert_eq!(given, NodeId(id), "ids count up");
        self.start(id).await;
        leader.promote(given).await.unwrap();
    }

    /// Starts a node on its disk.
    pub async fn start(&mut self, id: u64) -> Node {
        let storage = self.open(id).healthy().unwrap();
        let net = self.net.host(host(id));
        let (timing, snapshot_log_bytes) = (self.timing, self.snapshot_log_bytes);
        let payload_cache_bytes = self.payload_cache_bytes;
        let defaults = Options::new(member(id));
        let scrub = Pace { bytes_per_s: 64 << 20, pause: self.scrub_pause };
        // Slow enough that a test can do something meanwhile.
        let snapshot_bytes_per_s = 4 << 20;
        let options = Options {
            timing,
            snapshot_log_bytes,
            payload_cache_bytes,
            scrub,
            snapshot_bytes_per_s,
            ..defaults
        };
        let node = launch(options, storage, net).await;
        self.nodes.insert(id, node.clone());
        node
    }

    /// Opens a node's disk.
    pub fn open(&mut self, id: u64) -> Opened {
        let disk = self.disks.entry(id).or_default().clone();
        let owner = Owner { cluster: self.cluster, node: NodeId(id) };
        let sizes = storage::Options::default();
        storage::open_on(Arc::new(disk), Some(owner), sizes, Drive::Thread).unwrap()
    }

    /// Cuts a stopped node's log off after entry `index`, as if nothing more had ever been there.
    pub fn forget_end_of_log(&mut self, id: u64, index: u64) {
        let log = self.open(id).healthy().unwrap().log;
        log.truncate_after(Some(index), Box::new(|done| done.unwrap()));
        log.close();
    }

    /// Cuts a node's power: the network resets, and what was not synced is gone.
    pub async fn kill(&mut self, id: u64) {
        self.net.crash(&host(id));
        let node = self.nodes.remove(&id).unwrap();
        let disk = self.disks[&id].crash(Keep::Nothing, id);
        self.disks.insert(id, disk);
        node.shutdown().await;
    }

    /// The node that serves.
    pub async fn leader(&self) -> Node {
        until("a leader", || {
            let serves = |node: &&Node| node.leadership().get().tenure.is_some();
            self.nodes.values().find(serves).cloned()
        })
        .await
    }

    /// Applied index, state hash and ledger of every node at one checkpoint: all must agree.
    pub async fn agree(&self) -> u64 {
        let leader = self.leader().await;
        let Reply::Checkpoint { index, hash } =
            leader.propose(0, Command::Checkpoint).await.unwrap()
        else {
            panic!("a checkpoint answers with one")
        };
        for (id, node) in &self.nodes {
            let audit = until(&format!("node {id} at {index}"), || node.audit_local(index)).await;
            assert_eq!(audit.hash, hash, "node {id} differs at {index}");
            assert!(audit.ledger_ok, "node {id}: the ledger is wrong at {index}");
        }
        index
    }

    pub async fn stop(self) {
        for node in self.nodes.into_values() {
            node.shutdown().await;
        }
    }
}

/// Starts a replica and its listener.
async fn launch<N: Net>(options: Options, storage: Storage, net: N) -> Node {
    let mut listener = net.listen(&options.member.peer_addr).await.unwrap();
    let identity = storage.identity;
    let node = start(options, storage, net, TokioRuntime::new()).await.unwrap();
    let serving = node.clone();
    tokio::spawn(async move {
        let stopped = serving.clone();
        let accept = async {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(answer(serving.clone(), identity, stream));
            }
        };
        tokio::select! { biased;
            () = stopped.stopped() => {}
            () = accept => {}
        }
    });
    node
}

async fn answer<S: ByteStream>(node: Node, identity: Identity, stream: S) {
    let (mut reader, mut writer) = split(stream, limits::HANDSHAKE_BYTES_MAX);
    let Ok(Some(frame)) = reader.read().await else { return };
    let hello = Hello::decode(frame.kind, frame.body).unwrap();
    assert_eq!(hello.service, Service::Peer);
    let welcome = Greeting::Welcome(Welcome {
        version: PROTOCOL_VERSION,
        cluster: identity.cluster,
        node: node.me(),
        incarnation: identity.incarnation,
        leader: false,
        event_bytes_max: 0,
        lane_in_flight_max: 0,
        newest: 1,
    });
    if writer.write([welcome.encode().into()]).await.is_ok() {
        let _ = serve_peer(node, hello.incarnation, reader, writer).await;
    }
}

/// A supplier that resends what was not acknowledged, to whoever leads.
pub struct Supplier {
    pub channel: ChannelId,
    pub lane: LaneId,
    epoch: u32,
    /// Times it asked for the lane.
    attempt: u64,
    /// Events acknowledged; also the last lane sequence that was.
    pub acked: u64,
}

impl Supplier {
    /// Opens a fresh lane on the default channel.
    pub async fn open(node: &Node) -> Supplier {
        let name = Name::default_channel();
        let channel = node.read(|machine| machine.channel_by_name(&name).unwrap().id());
        let opener = Opener { client: 1, attempt: 1 };
        let command = Command::OpenLane { channel, target: LaneTarget::Fresh, opener, admin: None };
        match node.propose(1, command).await.unwrap() {
            Reply::LaneOpened { lane, epoch, last_sequence: 0, .. } => {
                Supplier { channel, lane, epoch, attempt: 1, acked: 0 }
            }
            other => panic!("{other:?}"),
        }
    }

    /// Takes the lane up again through another leader; whatever it holds is acknowledged.
    pub async fn resume(&mut self, node: &Node) {
        let target = LaneTarget::Existing(self.lane);
        self.attempt += 1;
        let opener = Opener { client: 1, attempt: self.attempt };
        let command = Command::OpenLane { channel: self.channel, target, opener, admin: None };
        match node.propose(1, command).await.unwrap() {
            Reply::LaneOpened { epoch, last_sequence, .. } => {
                assert!(last_sequence >= self.acked, "acknowledged events are lost");
                (self.epoch, self.acked) = (epoch, last_sequence);
            }
            other => panic!("{other:?}"),
        }
    }

    /// The command that publishes the next `count` events.
    pub fn publish(&self, count: u32, bytes: usize) -> Command {
        Command::Publish(Publish {
            channel: self.channel,
            lane: self.lane,
            epoch: self.epoch,
            first_sequence: self.acked + 1,
            count,
            events: block(self.acked + 1, count, bytes),
        })
    }

    /// Publishes the next `count` events of `bytes` each.
    pub async fn send(
        &mut self,
        node: &Node,
        count: u32,
        bytes: usize,
    ) -> Result<(), ProposeError> {
        match node.propose(1, self.publish(count, bytes)).await? {
            Reply::Published(Published { refused: None, .. }) => {
                self.acked += u64::from(count);
                Ok(())
            }
            other => panic!("{other:?}"),
        }
    }
}

/// Events whose bodies begin with their lane sequence.
pub fn block(first: u64, count: u32, bytes: usize) -> Bytes {
    let mut block = BytesMut::new();
    for sequence in first..first + u64::from(count) {
        let mut body = sequence.to_le_bytes().to_vec();
        body.resize(bytes.max(8), 7);
        let event = Event::of_body(body).encode().unwrap();
        block.put_u32_le(event.len() as u32);
        block.put_slice(event.as_bytes());
    }
    block.freeze()
}

/// Reads every event the node retains of a channel, as far as that is possible.
pub async fn read_all(
    node: &Node,
    channel: ChannelId,
) -> Vec<(PayloadKey, Result<Payload, PayloadError>)> {
    let keys: Vec<_> = node.read(|machine| {
        let channel = machine.channel(channel).unwrap();
        (channel.first_retained()..channel.next_seq())
            .filter_map(|seq| channel.slot(seq).map(|slot| slot.key()))
            .collect()
    });
    keys.iter().copied().zip(node.payloads(keys.clone()).await).collect()
}

/// The same, and checks that each is the one accepted.
pub async fn check_payloads(node: &Node, channel: ChannelId) -> u64 {
    let found = read_all(node, channel).await;
    let count = found.len() as u64;
    for (key, payload) in found {
        let payload = payload.unwrap_or_else(|error| panic!("{key}: {error}"));
        assert_eq!(payload.event.body()[..8], payload.sequence.to_le_bytes());
    }
    count
}
