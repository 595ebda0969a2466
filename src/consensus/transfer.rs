//! Sending a snapshot to a follower, and receiving one.
//!
//! ```text
//! Offer  ─► Wanted         what is sent, and which files of it are wanted: the snapshot's own
//! Piece… ─► Stored         that file
//! Events ─► Missing        which events it needs and the receiver does not have …
//! Events ─► Missing …      … until there are none
//! Install ─► Installed
//! ```
//!
//! The sender pins its newest snapshot, and answers what it is asked. The receiver knows what it
//! has, from wherever, so any other sender goes on where one has ended. One piece is on the way at
//! a time, on a connection of its own, and paced, so that entries and heartbeats are not held up.
//! To a member that speaks an older protocol whole segment files are sent, which are pieces, too.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{Mutex, MutexGuard};

use crate::storage::{FileInfo, Pinned, Staging, StorageError};
use crate::types::limits;

use super::config::{RaftRuntime, RaftVote, SnapshotMeta};
use super::facts::Facts;
use super::link::Link;
use super::member::SnapshotCounts;
use super::replica::Replica;
use super::rpc::{Request, Response, Wanted};
use super::snapshot::{Arrived, RaftSnapshot, SnapshotData};

/// Members that speak this are sent events instead of segment files.
const EVENTS_SINCE: u16 = 3;
/// What follows a snapshot stays in the log so long after it was sent, or was not: the follower
/// goes on from there, or the next attempt begins.
const LOG_KEPT_FOR: Duration = Duration::from_secs(10);

/// What sends this node's snapshots. Cheap to clone.
#[derive(Clone)]
pub(super) struct Sender {
    /// Does not keep the storage of a node that has stopped.
    pub facts: Weak<Facts>,
    /// At most.
    pub bytes_per_s: u64,
}

impl Sender {
    /// Whether a follower that has confirmed `last` is to be sent a snapshot and no entries.
    pub fn has_left_behind(&self, last: u64) -> bool {
        self.facts.upgrade().is_some_and(|facts| facts.is_left_behind(last))
    }

    /// Sends `snapshot`; the vote in the answer is the receiver's. Each step may take `ttl`.
    pub async fn send<E: RaftRuntime>(
        &self,
        link: &Link<E>,
        env: &E,
        vote: RaftVote,
        snapshot: RaftSnapshot,
        ttl: Duration,
    ) -> Result<RaftVote, String> {
        let SnapshotData::Held(pinned) = snapshot.snapshot else {
            return Err("only a snapshot on this disk can be sent".to_string());
        };
        let facts = self.facts.upgrade().ok_or("the node is stopping")?;
        let kept = facts.keep_log_after(pinned.snapshot.last.index);
        let bytes_per_s = self.bytes_per_s;
        let sending = Sending { facts: &facts, bytes_per_s, link, env, pinned: &pinned, ttl };
        let sent = sending.run(vote, snapshot.meta).await;
        let ending = env.clone();
        env.spawn(async move {
            ending.sleep(LOG_KEPT_FOR).await;
            drop(kept);
        });
        sent
    }
}

struct Sending<'a, E> {
    facts: &'a Facts,
    bytes_per_s: u64,
    link: &'a Link<E>,
    env: &'a E,
    pinned: &'a Arc<Pinned>,
    ttl: Duration,
}

impl<E: RaftRuntime> Sending<'_, E> {
    async fn run(&self, vote: RaftVote, meta: SnapshotMeta) -> Result<RaftVote, String> {
        let files = self.pinned.files().to_vec();
        let wanted = match self.ask(&Request::Offer { vote, meta, files }, Vec::new()).await? {
            Response::Wanted { files } => files,
            // It follows somebody else.
            Response::Installed { vote } => return Ok(vote),
            other => return Err(unexpected(&other)),
        };
        for Wanted { name, arrived } in wanted {
            self.file(name, arrived).await?;
        }
        if self.link.version() >= EVENTS_SINCE {
            self.events().await?;
        }
        match self.ask(&Request::Install, Vec::new()).await {
            Ok(Response::Installed { vote }) => {
                self.facts.transfers.sent.fetch_add(1, Ordering::Relaxed);
                Ok(vote)
            }
            Ok(other) => Err(unexpected(&other)),
            Err(reason) => {
                // It may be this disk's fault: what is whole is cleared at once.
                self.suspect_files();
                Err(reason)
            }
        }
    }

    /// Sends a file, from what has arrived of it.
    async fn file(&self, file: String, mut offset: u64) -> Result<(), String> {
        loop {
            let name = file.clone();
            let read = move |pinned: &Pinned| {
                pinned.read_chunk(&name, offset, limits::SNAPSHOT_PIECE_BYTES)
            };
            let piece = self.read(read).await?;
            if piece.is_empty() {
                return Ok(());
            }
            let (len, crc) = (piece.len() as u64, crc32fast::hash(&piece));
            let request = Request::Piece { file: file.clone(), offset, crc };
            match self.ask(&request, vec![piece.into()]).await {
                Ok(Response::Stored) => {}
                Ok(other) => return Err(unexpected(&other)),
                Err(reason) => {
                    self.suspect_files();
                    return Err(reason);
                }
            }
            offset += len;
            self.was_sent(len).await;
        }
    }

    /// Sends the events that the receiver asks for, until it has all.
    async fn events(&self) -> Result<(), String> {
        let mut records = Bytes::new();
        loop {
            let bytes = records.len() as u64;
            let keys = match self.ask(&Request::Events, vec![records]).await? {
                Response::Missing { keys } if keys.is_empty() => return Ok(()),
                Response::Missing { keys } => keys,
                other => return Err(unexpected(&other)),
            };
            self.was_sent(bytes).await;
            let read = move |pinned: &Pinned| pinned.records(&keys, limits::SNAPSHOT_PIECE_BYTES);
            records = self.read(read).await?.into();
        }
    }

    async fn read(
        &self,
        read: impl FnOnce(&Pinned) -> Result<Vec<u8>, StorageError> + Send + 'static,
    ) -> Result<Vec<u8>, String> {
        let pinned = self.pinned.clone();
        let read = self.env.blocking(move || read(&pinned)).await;
        read.ok_or("reading the snapshot was aborted")?.map_err(|e| e.to_string())
    }

    async fn ask(&self, request: &Request, bulk: Vec<Bytes>) -> Result<Response, String> {
        match self.link.call(request, bulk, self.ttl).await {
            Ok((Response::Failed(reason), _)) => Err(reason),
            Ok((response, _)) => Ok(response),
            Err(error) => Err(error.to_string()),
        }
    }

    async fn was_sent(&self, bytes: u64) {
        self.facts.transfers.sent_bytes.fetch_add(bytes, Ordering::Relaxed);
        let millis = bytes.saturating_mul(1000) / self.bytes_per_s;
        self.env.sleep(Duration::from_millis(millis)).await;
    }

    /// Has the files that were sent as they are examined.
    fn suspect_files(&self) {
        let files = match self.link.version() >= EVENTS_SINCE {
            true => &self.pinned.files()[..1],
            false => self.pinned.files(),
        };
        files.iter().for_each(|file| self.pinned.suspect(&file.name));
    }
}

fn unexpected(response: &Response) -> String {
    format!("the peer gave an answer that does not fit: {response:?}")
}

/// Counts of snapshots sent and received since this process began.
#[derive(Default)]
pub(super) struct Transfers {
    pub sent: AtomicU64,
    pub sent_bytes: AtomicU64,
    pub received: AtomicU64,
    pub received_bytes: AtomicU64,
    /// One more than the percentage that is here of the snapshot on its way in; 0: none is.
    receiving: AtomicU64,
}

impl Transfers {
    /// What has been so far.
    pub fn counts(&self) -> SnapshotCounts {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        SnapshotCounts {
            sent: count(&self.sent),
            sent_bytes: count(&self.sent_bytes),
            received: count(&self.received),
            received_bytes: count(&self.received_bytes),
            receiving: count(&self.receiving).checked_sub(1).map(|percent| percent.min(100) as u8),
        }
    }

    fn progress(&self, staging: &Staging) {
        let (needed, missing) = staging.events();
        let here = needed.saturating_sub(missing);
        let percent = here.saturating_mul(100).checked_div(needed).unwrap_or(0);
        self.receiving.store(percent + 1, Ordering::Relaxed);
    }
}

/// The snapshot on its way in: one at a time, the one that was offered last.
#[derive(Default)]
pub(super) struct Inbox {
    current: Mutex<Option<Reception>>,
    offers: AtomicU64,
}

struct Reception {
    /// The number of the offer: what comes on the connection of an earlier one is refused.
    offer: u64,
    vote: RaftVote,
    meta: SnapshotMeta,
    staging: Staging,
}

/// What a peer's connection does with the inbox.
pub(super) struct Receiver<'a, E: RaftRuntime> {
    replica: &'a Replica<E>,
    /// The protocol version that the sender speaks.
    version: u16,
    offer: Option<u64>,
}

impl<'a, E: RaftRuntime> Receiver<'a, E> {
    pub fn new(replica: &'a Replica<E>, version: u16) -> Receiver<'a, E> {
        Receiver { replica, version, offer: None }
    }

    /// Starts receiving; says which files are wanted.
    pub async fn offered(
        &mut self,
        vote: RaftVote,
        meta: SnapshotMeta,
        files: Vec<FileInfo>,
    ) -> Result<Response, String> {
        let mine = self.replica.raft().with_raft_state(|state| *state.vote_ref());
        let mine = mine.await.map_err(|e| e.to_string())?;
        if vote < mine {
            return Ok(Response::Installed { vote: mine });
        }
        let inbox = self.replica.inbox();
        let mut current = inbox.current.lock().await;
        self.put_aside(current.take()).await;
        let (store, by_key) = (self.store(), self.version >= EVENTS_SINCE);
        let (staging, files) = self
            .blocking(move || {
                let staging = store.stage(files)?;
                let image = staging.image().name.clone();
                let wanted = staging.missing().into_iter().filter(|f| !by_key || f.name == image);
                let wanted =
                    wanted.map(|f| Wanted { arrived: staging.arrived(&f.name), name: f.name });
                let wanted: Vec<_> = wanted.collect();
                Ok((staging, wanted))
            })
            .await?;
        tracing::info!(snapshot = staging.image().name, "receiving a snapshot");
        let offer = inbox.offers.fetch_add(1, Ordering::Relaxed);
        self.offer = Some(offer);
        self.transfers().progress(&staging);
        *current = Some(Reception { offer, vote, meta, staging });
        Ok(Response::Wanted { files })
    }

    /// Stores a piece of a file.
    pub async fn piece(
        &self,
        file: String,
        offset: u64,
        crc: u32,
        piece: Bytes,
    ) -> Result<Response, String> {
        if crc32fast::hash(&piece) != crc {
            return Err(format!("the piece of {file} at {offset} was damaged on the way"));
        }
        let bytes = piece.len() as u64;
        self.work(move |staging| staging.write_chunk(&file, offset, &piece)).await?;
        self.transfers().received_bytes.fetch_add(bytes, Ordering::Relaxed);
        Ok(Response::Stored)
    }

    /// Stores events; says which are missing.
    pub async fn events(&self, records: Bytes) -> Result<Response, String> {
        let bytes = records.len() as u64;
        let work = move |staging: &mut Staging| {
            if !records.is_empty() {
                staging.put(records)?;
            }
            Ok(staging.wanted().cloned().unwrap_or_default())
        };
        let keys = self.work(work).await?;
        self.transfers().received_bytes.fetch_add(bytes, Ordering::Relaxed);
        Ok(Response::Missing { keys })
    }

    /// Installs what was received; the vote is this node's. Whatever is wrong with it is found
    /// before: openraft would end this node for it.
    pub async fn install(&self) -> Result<Response, String> {
        let Reception { vote, meta, staging, .. } = self.mine().await?.take().ok_or(NOTHING)?;
        let (store, announced) = (self.store(), meta.last_log_id);
        let arrived = self.blocking(move || {
            let received = staging.complete()?;
            let name = received.info().name.clone();
            let unsound = |e: std::io::Error| {
                StorageError::corrupt(format!("snapshot {name}"), e.to_string())
            };
            let arrived = Arrived::decode(received, store).map_err(unsound)?;
            arrived.check(announced).map_err(unsound)?;
            Ok(arrived)
        });
        let arrived = arrived.await;
        self.transfers().receiving.store(0, Ordering::Relaxed);
        let snapshot = SnapshotData::Received(Box::new(arrived?));
        let snapshot = RaftSnapshot { meta, snapshot };
        let installed = self.replica.raft().install_full_snapshot(vote, snapshot).await;
        let vote = installed.map_err(|e| e.to_string())?.vote;
        self.transfers().received.fetch_add(1, Ordering::Relaxed);
        Ok(Response::Installed { vote })
    }

    /// The connection is over: what has arrived stays for the next sender.
    pub async fn over(self) {
        if self.offer.is_some()
            && let Ok(mut mine) = self.mine().await
        {
            self.put_aside(mine.take()).await;
        }
    }

    /// Makes durable what was gathered.
    async fn put_aside(&self, reception: Option<Reception>) {
        let Some(Reception { mut staging, .. }) = reception else { return };
        self.transfers().receiving.store(0, Ordering::Relaxed);
        if let Err(error) = self.blocking(move || staging.keep()).await {
            tracing::warn!(error, "a part of a snapshot was not kept: it has to come again");
        }
    }

    /// The inbox, if it holds what was offered on this connection.
    async fn mine(&self) -> Result<MutexGuard<'_, Option<Reception>>, String> {
        let current = self.replica.inbox().current.lock().await;
        let mine = current.as_ref().is_some_and(|reception| Some(reception.offer) == self.offer);
        if mine { Ok(current) } else { Err(NOTHING.to_string()) }
    }

    /// Works on what was received; if that fails it is given up, and what was whole is kept.
    async fn work<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Staging) -> Result<T, StorageError> + Send + 'static,
    ) -> Result<T, String> {
        let mut current = self.mine().await?;
        let Some(Reception { offer, vote, meta, mut staging }) = current.take() else {
            return Err(NOTHING.to_string());
        };
        let done = self.blocking(move || {
            let done = work(&mut staging);
            Ok((staging, done))
        });
        let (staging, done) = done.await?;
        let reception = Reception { offer, vote, meta, staging };
        match done {
            Ok(done) => {
                self.transfers().progress(&reception.staging);
                *current = Some(reception);
                Ok(done)
            }
            Err(error) => {
                self.put_aside(Some(reception)).await;
                Err(error.to_string())
            }
        }
    }

    fn store(&self) -> crate::storage::EventStore {
        self.replica.facts().payloads.store.clone()
    }

    fn transfers(&self) -> &Transfers {
        &self.replica.facts().transfers
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, StorageError> + Send + 'static,
    ) -> Result<T, String> {
        let done = self.replica.env().blocking(work).await;
        done.unwrap_or(Err(StorageError::Closed)).map_err(|e| e.to_string())
    }
}

const NOTHING: &str = "no snapshot is being received on this connection";
