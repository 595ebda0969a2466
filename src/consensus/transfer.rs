//! Sending a snapshot to a follower, and receiving one.
//!
//! The sender pins its newest snapshot and announces its files; the receiver asks for those it
//! does not hold, checks every piece, and installs when all are there and whole. One piece is on
//! the way at a time, on a connection of its own, so entries and heartbeats are not held up.

use std::time::Duration;

use bytes::Bytes;

use crate::env::Runtime;
use crate::storage::{Pin, Staging};

use super::config::{RaftRuntime, RaftVote, SnapshotMeta};
use super::link::Link;
use super::replica::Replica;
use super::rpc::{Request, Response};
use super::snapshot::{RaftSnapshot, SnapshotData};

/// Bytes of a file sent at once.
const PIECE_BYTES: u64 = 1 << 20;

/// Sends `snapshot`; the vote in the answer is the receiver's. Each step may take `ttl`.
pub(super) async fn send<E: RaftRuntime>(
    link: &Link<E>,
    env: &E,
    vote: RaftVote,
    snapshot: RaftSnapshot,
    ttl: Duration,
) -> Result<RaftVote, String> {
    let SnapshotData::Held(pin) = snapshot.snapshot else {
        return Err("only a snapshot on this disk can be sent".to_string());
    };
    let offer = Request::Offer { vote, meta: snapshot.meta, manifest: pin.manifest() };
    let wanted = match ask(link, offer, Vec::new(), ttl).await? {
        Response::Wanted { files } => files,
        other => return Err(unexpected(&other)),
    };
    for file in wanted {
        send_file(link, env, &pin, file, ttl).await?;
    }
    match ask(link, Request::Install, Vec::new(), ttl).await? {
        Response::Installed { vote } => Ok(vote),
        other => Err(unexpected(&other)),
    }
}

async fn send_file<E: RaftRuntime>(
    link: &Link<E>,
    env: &E,
    pin: &Pin,
    file: String,
    ttl: Duration,
) -> Result<(), String> {
    let mut offset = 0;
    loop {
        let (pin, name) = (pin.clone(), file.clone());
        let read = env.blocking(move || pin.read(&name, offset, PIECE_BYTES)).await;
        let piece = read.ok_or("reading the snapshot was aborted")?.map_err(|e| e.to_string())?;
        let len = piece.len() as u64;
        if len > 0 || offset == 0 {
            let crc = crc32fast::hash(&piece);
            let request = Request::Piece { file: file.clone(), offset, crc };
            match ask(link, request, vec![Bytes::from(piece)], ttl).await? {
                Response::Stored => offset += len,
                other => return Err(unexpected(&other)),
            }
        }
        if len < PIECE_BYTES {
            return Ok(());
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
        manifest: Vec<u8>,
    ) -> Result<(Reception, Vec<String>), String> {
        let store = replica.facts().payloads.store.clone();
        let staged = replica.env().blocking(move || store.stage(&manifest)).await;
        let staging = staged.ok_or("staging was aborted")?.map_err(|e| e.to_string())?;
        let files = staging.missing();
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
            let stored = staging.write(&file, offset, &piece);
            (staging, stored)
        });
        let (staging, stored) = stored.await.ok_or("storing was aborted")?;
        stored.map_err(|e| e.to_string())?;
        self.staging = Some(staging);
        Ok(())
    }

    /// Installs what was received; the vote is this node's.
    pub async fn install<E: RaftRuntime>(self, replica: &Replica<E>) -> Result<RaftVote, String> {
        let staging = self.staging.ok_or("a piece was not stored")?;
        let checked = replica.env().blocking(move || {
            let checked = staging.verify();
            (staging, checked)
        });
        let (staging, checked) = checked.await.ok_or("checking was aborted")?;
        checked.map_err(|e| e.to_string())?;
        let snapshot = RaftSnapshot { meta: self.meta, snapshot: SnapshotData::Received(staging) };
        let installed = replica.raft().install_full_snapshot(self.vote, snapshot).await;
        installed.map(|response| response.vote).map_err(|e| e.to_string())
    }
}
