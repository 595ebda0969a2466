//! openraft's requests to other members.
//!
//! Each peer has three connections, so that nothing small waits behind something large: one for
//! log entries and votes, one for heartbeats, one for snapshots. They are kept between elections.
//! A transport failure is always reported as `Unreachable`, which makes openraft wait a little
//! before it tries again; it would retry any other failure hot.

use std::collections::BTreeMap;
use std::future::Future;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::Stream;
use openraft::errors::{RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::{RPCOption, RaftNetworkFactory};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, TransferLeaderError,
    TransferLeaderRequest, TransferLeaderResponse, VoteRequest, VoteResponse,
};
use openraft::{OptionalSend, RaftNetworkV2};

use crate::planted::{Bug, planted};
use crate::transport::Net;

use super::appending::{self, Answers};
use super::config::{RaftRuntime, RaftVote, Types};
use super::dial::Dialer;
use super::entry::pack;
use super::held::Confirmed;
use super::life::Life;
use super::link::{CallError, Link};
use super::member::Member;
use super::rpc::{AppendHead, Appended, EntryHead, Request, Response};
use super::snapshot::{RaftSnapshot, SnapshotData};
use super::transfer::Sender;

/// Bytes of entry bodies in one append; a single entry may exceed it.
const APPEND_BYTES_MAX: usize = 4 << 20;
/// A follower whose disk stalls is waited for this long before its entries are sent again.
const APPEND_WAIT_MIN: Duration = Duration::from_secs(1);

/// Which of a peer's connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Lane {
    Log,
    Heartbeat,
    Snapshot,
}

/// Hands out peers, and keeps their connections.
pub(super) struct Peers<N, E> {
    dialer: Dialer<N>,
    env: E,
    links: BTreeMap<(u64, Lane), (Member, Link<E>)>,
    lives: BTreeMap<u64, Life>,
    confirmed: Confirmed,
    sender: Sender,
}

impl<N: Net, E: RaftRuntime> Peers<N, E> {
    pub fn new(dialer: Dialer<N>, env: E, sender: Sender) -> Peers<N, E> {
        let (links, lives, confirmed) = Default::default();
        Peers { dialer, env, links, lives, confirmed, sender }
    }

    fn peer(&mut self, target: u64, member: &Member, lane: Lane) -> Peer<E> {
        let link = match self.links.get(&(target, lane)) {
            Some((known, link)) if known == member => link.clone(),
            _ => {
                let life = self.lives.entry(target).or_insert_with(Life::new).clone();
                let (dialer, env) = (self.dialer.clone(), self.env.clone());
                let link = Link::sharing(life, member.clone(), dialer, env);
                self.links.insert((target, lane), (member.clone(), link.clone()));
                link
            }
        };
        let (env, confirmed) = (self.env.clone(), self.confirmed.clone());
        Peer { target, link, env, lane, confirmed, sender: self.sender.clone() }
    }
}

impl<N: Net, E: RaftRuntime> RaftNetworkFactory<Types<E>> for Peers<N, E> {
    type Network = Peer<E>;

    async fn new_client(&mut self, target: u64, member: &Member) -> Peer<E> {
        self.peer(target, member, Lane::Log)
    }

    async fn new_heartbeat_client(&mut self, target: u64, member: &Member) -> Peer<E> {
        self.peer(target, member, Lane::Heartbeat)
    }

    async fn new_snapshot_client(&mut self, target: u64, member: &Member) -> Peer<E> {
        self.peer(target, member, Lane::Snapshot)
    }
}

/// One connection to one peer, as openraft uses it.
pub(super) struct Peer<E> {
    target: u64,
    link: Link<E>,
    pub(super) env: E,
    lane: Lane,
    confirmed: Confirmed,
    sender: Sender,
}

impl<E: RaftRuntime> Peer<E> {
    async fn ask(
        &self,
        request: Request,
        bulk: Vec<Bytes>,
        ttl: Duration,
    ) -> Result<Response, RPCError<Types<E>>> {
        match self.link.call(&request, bulk, ttl).await {
            Ok((Response::Failed(reason), _)) => Err(unreachable_peer(reason).into()),
            Ok((response, _)) => Ok(response),
            Err(error) => Err(unreachable_peer(error).into()),
        }
    }

    /// Refuses to send entries to a follower that is to get a snapshot. What counts is what it has
    /// confirmed: a leader that does not know yet how far the logs agree asks further back.
    fn check_reach(&self, vote: &RaftVote) -> Result<(), RPCError<Types<E>>> {
        match self.confirmed.by(self.target, vote) {
            Some(last) if self.sender.has_left_behind(last.index) => {
                let reason =
                    format!("node {} lacks all after {last}: it gets a snapshot", self.target);
                Err(unreachable_peer(reason).into())
            }
            _ => Ok(()),
        }
    }

    fn append_ttl(&self, option: &RPCOption) -> Duration {
        match self.lane {
            Lane::Heartbeat => option.soft_ttl(),
            _ => option.hard_ttl().max(APPEND_WAIT_MIN),
        }
    }
}

pub(super) fn unreachable_peer<E: RaftRuntime>(reason: impl ToString) -> Unreachable<Types<E>> {
    Unreachable::from_string(reason)
}

fn unexpected<E: RaftRuntime>(response: &Response) -> RPCError<Types<E>> {
    unreachable_peer(format!("the peer gave an answer that does not fit: {response:?}")).into()
}

impl<E: RaftRuntime> RaftNetworkV2<Types<E>> for Peer<E> {
    type SnapshotData = SnapshotData;

    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<Types<E>>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<Types<E>>, RPCError<Types<E>>> {
        if !rpc.entries.is_empty() {
            self.check_reach(&rpc.vote)?;
        }
        let total = rpc.entries.len();
        let (mut heads, mut bulk, mut bytes) = (Vec::new(), Vec::new(), 0);
        let mut last = None;
        for entry in rpc.entries {
            let log_id = entry.log_id;
            let entry = pack(entry);
            bytes += entry.body.len();
            if bytes > APPEND_BYTES_MAX && !heads.is_empty() {
                break;
            }
            heads.push(EntryHead { id: entry.id, kind: entry.kind, len: entry.body.len() as u32 });
            bulk.push(entry.body);
            last = Some(log_id);
        }
        let partial = heads.len() < total;
        let (vote, prev) = (rpc.vote, rpc.prev_log_id);
        let head = AppendHead {
            vote: rpc.vote,
            prev: rpc.prev_log_id,
            commit: rpc.leader_commit,
            held: self.confirmed.by(self.target, &vote),
            entries: heads,
        };
        let ttl = self.append_ttl(&option);
        let answer = self.ask(Request::Append(head), bulk, ttl).await;
        if planted(Bug::SilenceIsConsent) && answer.is_err() && !partial {
            return Ok(AppendEntriesResponse::Success);
        }
        let confirm = |upto| self.confirmed.note(self.target, vote, upto);
        match answer? {
            Response::Appended(Appended::Success) => {
                confirm(last.or(prev));
                Ok(match partial {
                    true => AppendEntriesResponse::PartialSuccess(last),
                    false => AppendEntriesResponse::Success,
                })
            }
            Response::Appended(Appended::Partial(upto)) => {
                confirm(upto);
                Ok(AppendEntriesResponse::PartialSuccess(upto))
            }
            Response::Appended(Appended::Conflict) => Ok(AppendEntriesResponse::Conflict),
            Response::Appended(Appended::HigherVote(vote)) => {
                Ok(AppendEntriesResponse::HigherVote(vote))
            }
            other => Err(unexpected(&other)),
        }
    }

    fn stream_append<'s, S>(
        &'s mut self,
        input: S,
        option: RPCOption,
    ) -> BoxFuture<'s, Result<Answers<'s, E>, RPCError<Types<E>>>>
    where
        S: Stream<Item = AppendEntriesRequest<Types<E>>> + OptionalSend + Unpin + 'static,
    {
        let answers = appending::answers(self, input, option);
        Box::pin(std::future::ready(Ok(answers)))
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<Types<E>>,
        option: RPCOption,
    ) -> Result<VoteResponse<Types<E>>, RPCError<Types<E>>> {
        self.ask_vote(rpc, false, option).await
    }

    async fn pre_vote(
        &mut self,
        rpc: VoteRequest<Types<E>>,
        option: RPCOption,
    ) -> Result<VoteResponse<Types<E>>, RPCError<Types<E>>> {
        self.ask_vote(rpc, true, option).await
    }

    async fn full_snapshot(
        &mut self,
        vote: RaftVote,
        snapshot: RaftSnapshot,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        option: RPCOption,
    ) -> Result<SnapshotResponse<Types<E>>, StreamingError<Types<E>>> {
        let (link, env, ttl) = (&self.link, &self.env, option.hard_ttl());
        let sent = self.sender.send(link, env, vote, snapshot, ttl);
        let sent = tokio::select! { biased;
            closed = cancel => return Err(closed.into()),
            sent = sent => sent,
        };
        sent.map(SnapshotResponse::new).map_err(|reason| unreachable_peer(reason).into())
    }

    async fn transfer_leader(
        &mut self,
        rpc: TransferLeaderRequest<Types<E>>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<Types<E>>, RPCError<Types<E>>> {
        let (from, last) = (*rpc.from_leader(), rpc.last_log_id().copied());
        let request = Request::Transfer { from, to: *rpc.to_node_id(), last };
        match self.ask(request, Vec::new(), option.soft_ttl()).await? {
            Response::Transferred(Ok(())) => Ok(Ok(())),
            Response::Transferred(Err(reason)) => {
                tracing::info!(reason, "the peer did not take over leadership");
                Ok(Err(TransferLeaderError::LogNotFlushed { expected: last, actual: None }))
            }
            other => Err(unexpected(&other)),
        }
    }
}

impl<E: RaftRuntime> Peer<E> {
    async fn ask_vote(
        &self,
        rpc: VoteRequest<Types<E>>,
        pre: bool,
        option: RPCOption,
    ) -> Result<VoteResponse<Types<E>>, RPCError<Types<E>>> {
        let request = Request::Vote {
            pre,
            vote: rpc.vote,
            last: rpc.last_log_id,
            leadership_transfer: rpc.leadership_transfer,
        };
        match self.ask(request, Vec::new(), option.soft_ttl()).await? {
            Response::Voted { vote, last, granted } => Ok(VoteResponse::new(vote, last, granted)),
            other => Err(unexpected(&other)),
        }
    }
}

impl From<CallError> for String {
    fn from(error: CallError) -> String {
        error.to_string()
    }
}
