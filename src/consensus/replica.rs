//! The handle to this node's part in the cluster. Cheap to clone.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use openraft::async_runtime::WatchReceiver;
use openraft::errors::{Fatal, LinearizableReadError, RaftError};
use openraft::{LogIdOptionExt, ReadPolicy, ServerState};
use tokio::sync::{Mutex, MutexGuard, oneshot};

use crate::env::{Publisher, Watch, watch};
use crate::intake::LaneTurns;
use crate::machine::{Command, Machine, Reply};
use crate::planted::{Bug, planted};
use crate::storage::{Identity, LogStore, Storage, StorageError};
use crate::transport::Net;
use crate::types::{ChannelId, LaneId, NodeId, Payload, PayloadKey, Stamp, limits};

use super::addresses::Addresses;
use super::changes::Changes;
use super::clock::SoftClock;
use super::compaction::Compaction;
use super::config::{RaftRuntime, Timing};
use super::dial::{Dialer, PeerIdentity};
use super::error::{ProposeError, StartError};
use super::evidence::{Evidence, Inquest};
use super::facts::{Audit, Facts};
use super::leadership::Office;
use super::log_store::RaftLog;
use super::member::{Leadership, Member, ReplicaStatus, Role};
use super::network::Peers;
use super::payloads::{PayloadCache, PayloadError, Payloads};
use super::proposer::{Done, Proposer};
use super::raft::{Raft, RaftWriter};
use super::reception::Inbox;
use super::repair::Repairer;
use super::room::Room;
use super::scrub::{Pace, Scrubber};
use super::state_machine::StateMachine;
use super::steward::{SpaceOptions, Steward};
use super::transfer::Sender;

/// What a replica needs to know.
#[derive(Debug, Clone)]
pub struct Options {
    /// This node, as the cluster knows it; the id is that of its disk.
    pub member: Member,
    /// The token that members show each other; empty if the cluster has none.
    pub token: String,
    pub timing: Timing,
    /// Bytes of entries applied after which the next snapshot is built.
    pub snapshot_log_bytes: u64,
    /// Bytes of newest events found in memory.
    pub payload_cache_bytes: usize,
    /// How fast and how often everything on the disk is read again.
    pub scrub: Pace,
    /// What is to stay free on the disk.
    pub space: SpaceOptions,
    /// Bytes of a snapshot that are sent in a second, at most.
    pub snapshot_bytes_per_s: u64,
}

impl Options {
    /// Defaults for everything that has one.
    pub fn new(member: Member) -> Options {
        Options {
            member,
            token: String::new(),
            timing: Timing::default(),
            snapshot_log_bytes: 64 << 20,
            payload_cache_bytes: 64 << 20,
            scrub: Pace {
                bytes_per_s: limits::SCRUB_BYTES_PER_S,
                pause: Duration::from_millis(limits::SCRUB_PAUSE_MS),
            },
            space: SpaceOptions { floor: 0, ballast: 0, reserve: limits::ROOM_TO_OPEN_BYTES },
            snapshot_bytes_per_s: limits::SNAPSHOT_BYTES_PER_S,
        }
    }
}

/// This node's part in the cluster: proposes, reads, watches, administrates.
///
/// Dropping handles stops nothing; [`Replica::shutdown`] does.
pub struct Replica<E: RaftRuntime>(Arc<Inner<E>>);

struct Inner<E: RaftRuntime> {
    member: Member,
    raft: Raft<E>,
    facts: Arc<Facts>,
    addresses: Addresses,
    evidence: Evidence,
    proposer: Proposer,
    clock: SoftClock<E>,
    leadership: Watch<Leadership>,
    room: Watch<Room>,
    /// Why publishes are refused here for want of room, if they are.
    gate: Watch<Option<String>>,
    stop: Publisher<bool>,
    stopped: Watch<bool>,
    /// Held during a change of the membership.
    changing: Mutex<()>,
    inbox: Inbox,
    /// After so long without a sign of life a majority counts as gone.
    patience: Duration,
    /// Keeps the directory locked until the end.
    storage: std::sync::Mutex<Option<Storage>>,
    env: E,
}

impl<E: RaftRuntime> Clone for Replica<E> {
    fn clone(&self) -> Self {
        Replica(self.0.clone())
    }
}

/// Starts this node's consensus over what is on its disk. A disk without a configuration waits to
/// be told of one: by [`Replica::bootstrap`], or by a leader that adds this node.
pub async fn start<N: Net, E: RaftRuntime>(
    options: Options,
    storage: Storage,
    net: N,
    env: E,
) -> Result<Replica<E>, StartError> {
    let Options { member, token, timing, .. } = options;
    let Identity { cluster, node, incarnation } = storage.identity;
    if member.id != node {
        return Err(StartError::Config(format!("the disk is that of node {node}, not {member}")));
    }
    let (log, store) = (storage.log.clone(), storage.events.clone());
    let config = timing.raft_config().map_err(|e| StartError::Config(e.to_string()))?;
    let bytes_per_s = options.snapshot_bytes_per_s.max(1);
    let cache = Arc::new(PayloadCache::new(options.payload_cache_bytes));
    let payloads = Payloads { cache, log: log.clone(), store };
    let facts = Arc::new(Facts::new(payloads, options.snapshot_log_bytes));
    let clock = SoftClock::new(env.clone());
    let identity = PeerIdentity { node, cluster, token, incarnation };
    let addresses = Addresses::default();
    let dialer = Dialer { identity, addresses: addresses.clone(), net };
    let (evidence, alarms) = Evidence::new();
    let raft = Raft::new(
        member.id.0,
        config,
        Peers::new(
            dialer.clone(),
            env.clone(),
            Sender { facts: Arc::downgrade(&facts), bytes_per_s },
        ),
        RaftLog::new(log, env.clone()),
        StateMachine::new(facts.clone(), clock.clone(), env.clone()),
    );
    let (registers, pace) = (storage.registers(), options.scrub);
    let scrubber = Scrubber { facts: facts.clone(), registers, pace, env: env.clone() };
    let raft = raft.await.map_err(|e| match facts.failure().filter(StorageError::is_full) {
        Some(full) => StartError::Full(full),
        None => StartError::Storage(e.to_string()),
    })?;
    let proposer =
        Proposer::start(RaftWriter(raft.clone()), facts.clone(), clock.clone(), env.clone());
    let (publisher, leadership) =
        watch(Leadership { me: member.id, leader: None, term: 0, tenure: None, removed: false });
    let (stop, stopped) = watch(false);
    let ((room, room_seen), (gate, gate_seen)) = (watch(Room::default()), watch(None));
    let disk = storage.disk.clone();
    let replica = Replica(Arc::new(Inner {
        member,
        raft: raft.clone(),
        facts: facts.clone(),
        addresses: addresses.clone(),
        evidence: evidence.clone(),
        proposer: proposer.clone(),
        clock: clock.clone(),
        leadership,
        room: room_seen,
        gate: gate_seen,
        stop,
        stopped,
        changing: Mutex::new(()),
        inbox: Inbox::default(),
        patience: timing.patience(),
        storage: std::sync::Mutex::new(Some(storage)),
        env: env.clone(),
    }));
    let me = replica.me();
    let inquest = Inquest::new(raft.clone(), evidence.clone(), dialer.clone(), env.clone());
    let repairer = Repairer {
        raft: raft.clone(),
        facts: facts.clone(),
        dialer: dialer.clone(),
        env: env.clone(),
    };
    let steward = Steward {
        raft: raft.clone(),
        facts: facts.clone(),
        dialer,
        disk,
        options: options.space,
        room,
        gate,
        env: env.clone(),
    };
    let compaction = Compaction {
        raft: raft.clone(),
        facts,
        waste_max: options.snapshot_log_bytes,
        env: env.clone(),
    };
    let office = Office { me, raft, proposer, clock, publisher, addresses, evidence, timing, env };
    replica.run_until_stopped(inquest.run(alarms));
    replica.run_until_stopped(compaction.run());
    replica.run_until_stopped(repairer.run());
    replica.run_until_stopped(steward.run());
    replica.run_until_stopped(scrubber.run());
    let (ending, mut failed) = (replica.clone(), replica.log().has_failed());
    replica.run_until_stopped(async move {
        failed.wait_for(|failed| *failed).await;
        ending.stop_now();
    });
    let ending = replica.clone();
    replica.env().spawn(async move {
        office.run().await;
        ending.stop_now();
    });
    Ok(replica)
}

impl<E: RaftRuntime> Replica<E> {
    /// Makes this node the first and only member of a new cluster; its disk must be empty.
    pub async fn bootstrap(&self) -> Result<(), StartError> {
        let members = BTreeMap::from([(self.me().0, self.0.member.clone())]);
        let done = self.0.raft.initialize(members).await;
        done.map_err(|e| match self.failure().filter(StorageError::is_full) {
            Some(full) => StartError::Full(full),
            None => StartError::Bootstrap(e.to_string()),
        })
    }

    /// Whether the disk knows a configuration: bootstrapped, or joined.
    pub async fn is_initialized(&self) -> bool {
        self.0.raft.is_initialized().await.unwrap_or(false)
    }

    /// This node's id.
    pub fn me(&self) -> NodeId {
        self.0.member.id
    }

    /// This node, as it was started.
    pub fn member(&self) -> &Member {
        &self.0.member
    }

    /// Proposes a command on behalf of `source` (fairness is between sources) and waits for its
    /// reply. Dropping the future does not take the command back.
    pub async fn propose(&self, source: u64, command: Command) -> Result<Reply, ProposeError> {
        let (tell, told) = oneshot::channel();
        let done = move |result| {
            let _ = tell.send(result);
        };
        self.submit(source, command, Box::new(done));
        told.await.unwrap_or(Err(ProposeError::TenureLost))
    }

    /// The same with a callback, which must be quick and may be called before this returns.
    pub fn submit(&self, source: u64, command: Command, done: Done) {
        if matches!(command, Command::Publish(_))
            && let Some(lack) = self.0.gate.peek()
        {
            return done(Err(ProposeError::NoRoom(lack)));
        }
        self.0.proposer.submit(source, command, done);
    }

    /// How these lanes fared in waiting to go into the log.
    pub fn lane_turns(&self, lanes: &[(ChannelId, LaneId)]) -> Vec<LaneTurns> {
        self.0.proposer.fared(lanes)
    }

    /// Bytes of commands that wait for a log entry.
    pub fn waiting_bytes(&self) -> usize {
        self.0.proposer.waiting_bytes()
    }

    /// Who leads, and whether this node may serve.
    pub fn leadership(&self) -> Watch<Leadership> {
        self.0.leadership.clone()
    }

    /// Looks at the machine. Keep it short: entries are not applied meanwhile.
    pub fn read<T>(&self, look: impl FnOnce(&Machine) -> T) -> T {
        look(&self.0.facts.read())
    }

    /// Which channels have new facts, from now on.
    pub fn changes(&self) -> Changes {
        self.0.facts.changes.subscribe()
    }

    /// The payload, if it is among the newest in memory. Never blocks.
    pub fn cached_payload(&self, key: PayloadKey) -> Option<Payload> {
        self.0.facts.payloads.cache.get(key)
    }

    /// Payloads from wherever they are, in the order of the keys; ascending keys are cheapest.
    pub async fn payloads(&self, keys: Vec<PayloadKey>) -> Vec<Result<Payload, PayloadError>> {
        let payloads = self.0.facts.payloads.clone();
        let stopping = |key: &PayloadKey| {
            Err(PayloadError::Unreadable { key: *key, reason: "the node is stopping".into() })
        };
        let asked = keys.clone();
        match self.0.env.blocking(move || payloads.read(&keys)).await {
            Some(found) => found,
            None => asked.iter().map(stopping).collect(),
        }
    }

    /// Waits until this node has applied everything acknowledged anywhere before the call (it
    /// must lead, and asks a majority). Returns the index that was reached.
    pub async fn linearize(&self) -> Result<u64, ProposeError> {
        if planted(Bug::StatusWithoutReadIndex) {
            return Ok(self.read(Machine::applied));
        }
        match self.0.raft.ensure_linearizable(ReadPolicy::ReadIndex).await {
            Ok(read) => Ok(read.index()),
            Err(RaftError::APIError(LinearizableReadError::ForwardToLeader(forward))) => {
                Err(ProposeError::NotLeader { leader: forward.leader_node })
            }
            Err(RaftError::APIError(LinearizableReadError::QuorumNotEnough(_))) => {
                Err(ProposeError::NotLeader { leader: None })
            }
            Err(RaftError::Fatal(Fatal::StorageError(error))) => {
                Err(ProposeError::Storage(error.to_string()))
            }
            Err(RaftError::Fatal(_)) => Err(ProposeError::ShuttingDown),
        }
    }

    /// Soft time: the clock that stamps entries while this node leads.
    pub fn now(&self) -> Stamp {
        self.0.clock.now()
    }

    /// What this node found at the checkpoint at `index`, once it has; the last few are kept.
    pub fn audit_local(&self, index: u64) -> Option<Audit> {
        self.0.facts.audit_at(index)
    }

    /// What this node knows of its own consensus.
    pub fn status(&self) -> ReplicaStatus {
        let metrics = self.0.raft.metrics();
        let metrics = metrics.borrow_watched();
        let role = match metrics.state {
            _ if metrics.running_state.is_err() => Role::Stopped,
            ServerState::Learner => Role::Learner,
            ServerState::Follower => Role::Follower,
            ServerState::Candidate => Role::Candidate,
            ServerState::Leader => Role::Leader,
            ServerState::Shutdown => Role::Stopped,
        };
        let payloads = &self.0.facts.payloads;
        let failure = self.0.facts.failure();
        let stopped = metrics.running_state.as_ref().err().map(|error| error.to_string());
        ReplicaStatus {
            role,
            term: metrics.current_term,
            leader: metrics.current_leader.map(NodeId),
            tenure: self.0.leadership.peek().tenure,
            applied: self.0.facts.read().applied(),
            committed: metrics.local_committed.index().unwrap_or(0),
            last_log: metrics.last_log_index.unwrap_or(0),
            purged: metrics.purged.index().unwrap_or(0),
            snapshot_index: metrics.snapshot.index().unwrap_or(0),
            log_bytes: payloads.log.bytes(),
            store_bytes: payloads.store.bytes(),
            damage: payloads.store.damage().peek(),
            snapshots: self.0.facts.transfers.counts(),
            scrubbed_bytes: self.0.facts.scrubbed.load(Ordering::Relaxed),
            room: self.room(),
            failure: failure.map(|error| error.to_string()).or(stopped),
        }
    }

    /// Room on this node's disk, as it was seen last.
    pub fn room(&self) -> Room {
        self.0.room.peek()
    }

    /// Why publishes are refused here for want of room, if they are.
    pub fn lacks_room(&self) -> Option<String> {
        self.0.gate.peek()
    }

    /// Why storage failed under this replica, if it did.
    pub fn failure(&self) -> Option<StorageError> {
        self.0.facts.failure()
    }

    /// Completes when this replica has stopped: shut down, or its storage failed.
    pub async fn stopped(&self) {
        self.0.stopped.clone().wait_for(|stopped| *stopped).await;
    }

    /// Stops: answers whoever waits, ends openraft, closes the log. Idempotent.
    pub async fn shutdown(&self) {
        self.stop_now();
        if let Err(error) = self.0.raft.shutdown().await {
            tracing::error!(%error, "openraft did not end cleanly");
        }
        let storage = self.0.storage.lock().unwrap_or_else(PoisonError::into_inner).take();
        let closed = self.0.env.blocking(move || storage.map(|storage| storage.log.close()));
        closed.await;
    }

    pub(super) fn stop_now(&self) {
        self.0.proposer.stop();
        self.0.facts.changes.close();
        self.0.stop.set(true);
    }

    fn run_until_stopped(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut stopped = self.0.stopped.clone();
        self.0.env.spawn(async move {
            tokio::select! { biased;
                _ = stopped.wait_for(|stopped| *stopped) => {}
                () = task => {}
            }
        });
    }

    pub(super) fn raft(&self) -> &Raft<E> {
        &self.0.raft
    }

    pub(super) fn patience(&self) -> Duration {
        self.0.patience
    }

    pub(super) fn inbox(&self) -> &Inbox {
        &self.0.inbox
    }

    pub(super) fn evidence(&self) -> &Evidence {
        &self.0.evidence
    }

    pub(super) fn addresses(&self) -> &Addresses {
        &self.0.addresses
    }

    pub(super) fn facts(&self) -> &Facts {
        &self.0.facts
    }

    pub(super) fn log(&self) -> &LogStore {
        &self.0.facts.payloads.log
    }

    pub(super) fn env(&self) -> &E {
        &self.0.env
    }

    pub(super) fn last_node(&self) -> u64 {
        self.0.facts.last_node()
    }

    pub(super) async fn membership_lock(&self) -> MutexGuard<'_, ()> {
        self.0.changing.lock().await
    }
}
