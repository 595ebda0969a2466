//! Sending a snapshot to a follower, and receiving one.
//!
//! The sender pins its newest snapshot and announces its files; the receiver asks for those it
//! does not hold, checks every piece, and installs when all are there and whole. One piece is on
//! the way at a time, on a connection of its own, so entries and heartbeats are not held up.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::env::Runtime;
use crate::storage::{FileInfo, Pinned, Staging, StorageError};

use super::config::{RaftRuntime, RaftVote, SnapshotMeta};
use super::link::Link;
use super::replica::Replica;
use super::rpc::{Request, Response, Wanted};
use super::snapshot::{RaftSnapshot, SnapshotData};

/// Bytes of a file sent at once.
const PIECE_BYTES: usize = 1 << 20;

/// Sends `snapshot`; the vote in the answer is the receiver's. Each step may take `ttl`.
pub(super) async fn send<E: RaftRuntime>(
    link: &Link<E>,
    env: &E,
    vote: RaftVote,
    snapshot: RaftSnapshot,
    ttl: Duration,
) -> Result<RaftVote, String> {
    let SnapshotData::Held(pinned) = snapshot.snapshot else {
        return Err("only a snapshot on this disk can be sent".to_string());
    };
    let files = pinned.files.clone();
    let offer = Request::Offer { vote, meta: snapshot.meta, files };
    let wanted = match ask(link, offer, Vec::new(), ttl).await? {
        Response::Wanted { files } => files,
        other => return Err(unexpected(&other)),
    };
    for Wanted { name, arrived } in wanted {
        send_file(link, env, &pinned, (name, arrived), ttl).await?;
    }
    match link.call(&Request::Install, Vec::new(), ttl).await {
        Ok((Response::Installed { vote }, _)) => Ok(vote),
        Ok((Response::Failed(reason), _)) => {
            // It may be this disk's fault: whatever is whole is cleared at once.
            pinned.files.iter().for_each(|file| pinned.suspect(&file.name));
            Err(reason)
        }
        Ok((other, _)) => Err(unexpected(&other)),
        Err(error) => Err(error.to_string()),
    }
}

async fn send_file<E: RaftRuntime>(
    link: &Link<E>,
    env: &E,
    pinned: &Arc<Pinned>,
    (file, mut offset): (String, u64),
    ttl: Duration,
) -> Result<(), String> {
    loop {
        let (pinned, name) = (pinned.clone(), file.clone());
        let read = env.blocking(move || pinned.read_chunk(&name, offset, PIECE_BYTES)).await;
        let piece = read.ok_or("reading the snapshot was aborted")?.map_err(|e| e.to_string())?;
        if piece.is_empty() {
            return Ok(());
        }
        let request = Request::Piece { file: file.clone(), offset, crc: crc32fast::hash(&piece) };
        offset += piece.len() as u64;
        match ask(link, request, vec![Bytes::from(piece)], ttl).await? {
            Response::Stored => {}
            other => return Err(unexpected(&other)),
        }
    }
}

async fn ask<E: Runtime>(
    link: &Link<E>,
    request: Request,
    bulk: Vec<Bytes>,
    ttl: Duration,
) -> Result<Response, String> {
    match link.call(&request, bulk, ttl).await {
        Ok((Response::Failed(reason), _)) => Err(reason),
        Ok((response, _)) => Ok(response),
        Err(error) => Err(error.to_string()),
    }
}

fn unexpected(response: &Response) -> String {
    format!("the peer gave an answer that does not fit: {response:?}")
}

/// A snapshot on its way in.
pub(super) struct Reception {
    vote: RaftVote,
    meta: SnapshotMeta,
    staging: Option<Staging>,
}

impl Reception {
    /// Starts receiving; also says which files are wanted.
    pub async fn begin<E: RaftRuntime>(
        replica: &Replica<E>,
        vote: RaftVote,
        meta: SnapshotMeta,
        files: Vec<FileInfo>,
    ) -> Result<(Reception, Vec<Wanted>), String> {
        let store = replica.facts().payloads.store.clone();
        let staged = replica.env().blocking(move || {
            let staging = store.stage(files)?;
            let wanted = staging
                .missing()
                .into_iter()
                .map(|file| Wanted { arrived: staging.arrived(&file.name), name: file.name });
            let wanted = wanted.collect();
            Ok::<_, StorageError>((staging, wanted))
        });
        let staged = staged.await.ok_or("staging was aborted")?;
        let (staging, files) = staged.map_err(|e| e.to_string())?;
        Ok((Reception { vote, meta, staging: Some(staging) }, files))
    }

    /// Stores a piece.
    pub async fn take<E: RaftRuntime>(
        &mut self,
        replica: &Replica<E>,
        file: String,
        offset: u64,
        crc: u32,
        piece: Bytes,
    ) -> Result<(), String> {
        if crc32fast::hash(&piece) != crc {
            return Err(format!("the piece of {file} at {offset} was damaged on the way"));
        }
        let mut staging = self.staging.take().ok_or("an earlier piece was not stored")?;
        let stored = replica.env().blocking(move || {
            let stored = staging.write_chunk(&file, offset, &piece);
            (staging, stored)
        });
        let (staging, stored) = stored.await.ok_or("storing was aborted")?;
        stored.map_err(|e| e.to_string())?;
        self.staging = Some(staging);
        Ok(())
    }

    /// Installs what was received; the vote is this node's. Damage on the sender's disk is its
    /// own affair: it must not reach openraft, which would end this node for it.
    pub async fn install<E: RaftRuntime>(self, replica: &Replica<E>) -> Result<RaftVote, String> {
        let staging = self.staging.ok_or("a piece was not stored")?;
        let checked = replica.env().blocking(move || staging.check().map(|()| staging)).await;
        let staging = checked.ok_or("checking was aborted")?.map_err(|e| e.to_string())?;
        let snapshot = RaftSnapshot { meta: self.meta, snapshot: SnapshotData::Received(staging) };
        let installed = replica.raft().install_full_snapshot(self.vote, snapshot).await;
        installed.map(|response| response.vote).map_err(|e| e.to_string())
    }
}
