//! The inbound half of the peer protocol.
//!
//! Requests of one connection are answered one after the other, in order: a peer keeps large and
//! small ones apart by using several connections.

use bytes::Bytes;
use openraft::raft::{AppendEntriesRequest, AppendEntriesResponse};
use openraft::raft::{TransferLeaderRequest, VoteRequest};
use thiserror::Error;

use crate::transport::{ByteStream, FrameError, FrameOut, Reader, Writer};
use crate::types::limits;

use super::config::{RaftEntry, RaftRuntime, RaftVote};
use super::entry::unpack;
use super::evidence::{Lost, finding, stand};
use super::link::{REQUEST, RESPONSE};
use super::reception::Receiver;
use super::repair;
use super::replica::Replica;
use super::rpc::{self, AppendHead, Appended, Request, Response, RpcError};

/// Why a peer's connection was given up.
#[derive(Debug, Error)]
pub enum PeerError {
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error("{0}")]
    Message(String),
    #[error("a frame of kind {0:#04x} is no peer request")]
    Kind(u8),
}

impl From<RpcError> for PeerError {
    fn from(error: RpcError) -> PeerError {
        PeerError::Message(error.to_string())
    }
}

/// Answers a peer until it leaves or the replica stops. The handshake is over: the peer is a
/// member's node, in this life of its process, that knows the cluster token.
pub async fn serve_peer<E: RaftRuntime, S: ByteStream>(
    replica: Replica<E>,
    incarnation: u64,
    mut reader: Reader<S>,
    mut writer: Writer<S>,
) -> Result<(), PeerError> {
    let mut led = None;
    let mut receiver = Receiver::new(&replica);
    let done = converse(&replica, &mut reader, &mut writer, (&mut led, &mut receiver)).await;
    receiver.over().await;
    if let Some(vote) = led {
        replica.evidence().lost(Lost { vote, incarnation });
    }
    done
}

async fn converse<E: RaftRuntime, S: ByteStream>(
    replica: &Replica<E>,
    reader: &mut Reader<S>,
    writer: &mut Writer<S>,
    (led, receiver): (&mut Option<RaftVote>, &mut Receiver<'_, E>),
) -> Result<(), PeerError> {
    reader.set_frame_bytes_max(limits::PEER_FRAME_BYTES_MAX);
    writer.set_frame_bytes_max(limits::PEER_FRAME_BYTES_MAX);
    loop {
        let frame = tokio::select! { biased;
            () = replica.stopped() => return Ok(()),
            frame = reader.read() => frame?,
        };
        let Some(frame) = frame else { return Ok(()) };
        if frame.kind != REQUEST {
            return Err(PeerError::Kind(frame.kind));
        }
        let (id, request, bulk) = rpc::decode(frame.body)?;
        if let Request::Append(head) = &request
            && Some(head.vote) > *led
        {
            *led = Some(head.vote);
        }
        let (response, bulk) = tokio::select! { biased;
            () = replica.stopped() => return Ok(()),
            response = answer(replica, request, bulk, receiver) => response?,
        };
        let head = rpc::encode(id, &response)?;
        writer.write([FrameOut::new(RESPONSE, vec![head, bulk])]).await?;
    }
}

async fn answer<E: RaftRuntime>(
    replica: &Replica<E>,
    request: Request,
    bulk: Bytes,
    receiver: &mut Receiver<'_, E>,
) -> Result<(Response, Bytes), PeerError> {
    let raft = replica.raft();
    let failed = |error: String| Response::Failed(error);
    let response = match request {
        Request::Fetch { keys } => return Ok(repair::answer(replica, keys).await),
        Request::Append(head) => {
            let AppendHead { vote, prev, commit, held, entries } = head;
            replica.evidence().withdraw(&vote);
            if let Err(reason) = replica.check_held(&vote, held) {
                return Ok((failed(reason), Bytes::new()));
            }
            let rpc = AppendEntriesRequest {
                vote,
                prev_log_id: prev,
                entries: bodies(&entries, bulk)?,
                leader_commit: commit,
            };
            match raft.append_entries(rpc).await {
                Ok(response) => Response::Appended(appended::<E>(response)),
                Err(error) => failed(error.to_string()),
            }
        }
        Request::Vote { pre, vote, last, leadership_transfer } => {
            let rpc = VoteRequest { leadership_transfer, ..VoteRequest::new(vote, last) };
            let voted = if pre { raft.pre_vote(rpc).await } else { raft.vote(rpc).await };
            match voted {
                Ok(response) => Response::Voted {
                    vote: response.vote,
                    last: response.last_log_id,
                    granted: response.vote_granted,
                },
                Err(error) => failed(error.to_string()),
            }
        }
        Request::Transfer { from, to, last } => {
            let request = TransferLeaderRequest::new(from, to, last);
            match raft.handle_transfer_leader(request).await {
                Ok(taken) => Response::Transferred(taken.map_err(|error| error.to_string())),
                Err(error) => failed(error.to_string()),
            }
        }
        Request::Inquiry { vote, standing } => match stand(raft, replica.me()).await {
            Some((following, mine)) => {
                let (ours, theirs) = ((&following, &mine), (&vote, &standing));
                Response::Found(finding(replica.evidence(), ours, theirs))
            }
            None => failed("consensus has stopped".to_string()),
        },
        Request::Room => Response::Room(replica.room()),
        Request::Offer { vote, meta, files } => {
            receiver.offered(vote, meta, files).await.unwrap_or_else(failed)
        }
        Request::Piece { file, offset, crc } => {
            receiver.piece(file, offset, crc, bulk).await.unwrap_or_else(failed)
        }
        Request::Events => receiver.events(bulk).await.unwrap_or_else(failed),
        Request::Install => receiver.install().await.unwrap_or_else(failed),
    };
    Ok((response, Bytes::new()))
}

fn bodies(heads: &[rpc::EntryHead], bulk: Bytes) -> Result<Vec<RaftEntry>, PeerError> {
    let entries = rpc::entries(heads, bulk)?.into_iter().map(unpack);
    entries.collect::<Result<_, _>>().map_err(|error| PeerError::Message(error.to_string()))
}

fn appended<E: RaftRuntime>(response: AppendEntriesResponse<super::config::Types<E>>) -> Appended {
    match response {
        AppendEntriesResponse::Success => Appended::Success,
        AppendEntriesResponse::PartialSuccess(upto) => Appended::Partial(upto),
        AppendEntriesResponse::Conflict => Appended::Conflict,
        AppendEntriesResponse::HigherVote(vote) => Appended::HigherVote(vote),
    }
}
