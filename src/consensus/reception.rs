//! Receiving a snapshot: what the connections of peers do with it. [`super::transfer`] has the
//! exchange, and the other end.

use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use tokio::sync::{Mutex, MutexGuard};

use crate::storage::{EventStore, FileInfo, Staging, StorageError};

use super::config::{RaftRuntime, RaftVote, SnapshotMeta};
use super::replica::Replica;
use super::rpc::{Response, Wanted};
use super::snapshot::{Arrived, RaftSnapshot, SnapshotData};
use super::transfer::Transfers;

const NOTHING: &str = "no snapshot is being received on this connection";

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
    offer: Option<u64>,
}

impl<'a, E: RaftRuntime> Receiver<'a, E> {
    pub fn new(replica: &'a Replica<E>) -> Receiver<'a, E> {
        Receiver { replica, offer: None }
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
        let store = self.store();
        let (staging, files) = self
            .blocking(move || {
                let staging = store.stage(files)?;
                let image = staging.image().name.clone();
                let wanted = staging.missing().into_iter().filter(|file| file.name == image);
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
        self.transfers().none_receiving();
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
        self.transfers().none_receiving();
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

    fn store(&self) -> EventStore {
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
