//! Sending a snapshot to a follower; [`super::reception`] is the other end.
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

use crate::storage::{Pinned, Staging, StorageError};
use crate::types::limits;

use super::config::{RaftRuntime, RaftVote, SnapshotMeta};
use super::facts::Facts;
use super::link::Link;
use super::member::SnapshotCounts;
use super::rpc::{Request, Response, Wanted};
use super::snapshot::{RaftSnapshot, SnapshotData};

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
        self.events().await?;
        match self.ask(&Request::Install, Vec::new()).await {
            Ok(Response::Installed { vote }) => {
                self.facts.transfers.sent.fetch_add(1, Ordering::Relaxed);
                Ok(vote)
            }
            Ok(other) => Err(unexpected(&other)),
            Err(reason) => {
                // It may be this disk's fault: what is whole is cleared at once.
                self.suspect_image();
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
                    self.suspect_image();
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

    /// Has the image, which is sent as it is, examined.
    fn suspect_image(&self) {
        self.pinned.files().first().into_iter().for_each(|file| self.pinned.suspect(&file.name));
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

    /// Takes note of how much is here of the snapshot that is on its way in.
    pub fn progress(&self, staging: &Staging) {
        let (needed, missing) = staging.events();
        let here = needed.saturating_sub(missing);
        let percent = here.saturating_mul(100).checked_div(needed).unwrap_or(0);
        self.receiving.store(percent + 1, Ordering::Relaxed);
    }

    /// None is on its way in any more.
    pub fn none_receiving(&self) {
        self.receiving.store(0, Ordering::Relaxed);
    }
}
