//! The service trait and its transport.

use std::io;

use serde::{Deserialize, Serialize};
use tarpc::{ClientMessage, Response, Transport};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_serde::formats::Json;
use tokio_util::codec::LengthDelimitedCodec;

use super::letters::{LetterList, LetterShown, LettersDone};
use super::quality::{
    AdminChanged, AdminList, OfferedTypes, ProxyCreated, ProxyWish, QosReport, QosSet,
    QosValidation, QosWish, Subscribed, Suspension, Target,
};
use super::values::{
    Answer, Audit, BackupBegun, BackupPiece, BackupPlan, ChannelList, ChannelReport, ClusterInfo,
    ClusterStatus, Joined, Member, Members, NodeAudit, NodeReport, Transferred,
};
use crate::types::{
    Name, NodeId, Rejection, Seq, SeqRanges, Side, Subscription, TypePattern, limits,
};

/// What can be asked of any node. Unless said otherwise a node that does not lead passes the
/// question on, or refuses with `no_leader`, retryable.
#[tarpc::service]
pub trait AdminService {
    /// The cluster: nodes, channels, ledgers. `stale`: from this node's own state, whoever leads.
    async fn status(stale: bool) -> Result<Answer<ClusterStatus>, Rejection>;

    /// This node alone, as the leader asks for it. Never passed on.
    async fn node_status() -> Result<NodeReport, Rejection>;

    /// Commits a checkpoint, then compares the state of all nodes at it.
    async fn audit() -> Result<Answer<Audit>, Rejection>;

    /// Commits a checkpoint and answers its log index.
    async fn checkpoint() -> Result<u64, Rejection>;

    /// This node's part of an audit at the checkpoint of this log index, once applied. Never
    /// passed on.
    async fn node_audit(index: u64) -> Result<NodeAudit, Rejection>;

    /// The members and their parts.
    async fn cluster() -> Result<Answer<Members>, Rejection>;

    /// Identity and members, from this node's own state. Never passed on.
    async fn cluster_info() -> Result<ClusterInfo, Rejection>;

    /// Takes a node in, as a learner at first. The `id` in `member` counts only if the node was
    /// promised it by an earlier join that it did not hear the end of; otherwise it is 0 and the
    /// answer has a new one. Only on connections that proved the cluster token.
    async fn join(member: Member) -> Result<Joined, Rejection>;

    /// Makes a learner that has caught up a voter. Only on connections that proved the cluster
    /// token.
    async fn promote(node: NodeId) -> Result<Answer<Members>, Rejection>;

    /// Takes a member out for good; its id is never used again.
    async fn remove(node: NodeId) -> Result<Answer<Members>, Rejection>;

    /// Asks this node to leave the cluster and stop. Never passed on.
    async fn leave() -> Result<Answer<Members>, Rejection>;

    /// Hands leadership to this voter, or to the one best suited.
    async fn transfer(to: Option<NodeId>) -> Result<Answer<Transferred>, Rejection>;

    /// All channels, by name.
    async fn channels() -> Result<Answer<ChannelList>, Rejection>;

    /// One channel with its ledger and proxies.
    async fn channel(name: Name) -> Result<Answer<ChannelReport>, Rejection>;

    /// Creates a channel, and sets this for it.
    async fn create_channel(name: Name, qos: QosWish) -> Result<Answer<ChannelReport>, Rejection>;

    /// Removes a channel with all its events and proxies; answers what it was.
    async fn remove_channel(name: Name) -> Result<Answer<ChannelReport>, Rejection>;

    /// Removes a durable proxy; what it has not settled is no longer kept for it.
    async fn remove_proxy(channel: Name, proxy: Name) -> Result<Answer<ChannelReport>, Rejection>;

    /// The quality of service of a channel, an admin, a proxy or a lane: what is set, what is
    /// inherited.
    async fn qos(target: Target) -> Result<Answer<QosReport>, Rejection>;

    /// Sets properties, or inherits them again; all of it, or nothing if a part of it cannot be.
    async fn set_qos(target: Target, wish: QosWish) -> Result<Answer<QosSet>, Rejection>;

    /// Whether [`set_qos`](AdminService::set_qos) would be accepted. Changes nothing.
    async fn validate_qos(
        target: Target,
        wish: QosWish,
    ) -> Result<Answer<QosValidation>, Rejection>;

    /// The admins of a channel, of both sides.
    async fn admins(channel: Name) -> Result<Answer<AdminList>, Rejection>;

    /// Creates an admin.
    async fn create_admin(
        channel: Name,
        side: Side,
        name: Name,
        qos: QosWish,
        types: Subscription,
    ) -> Result<Answer<AdminChanged>, Rejection>;

    /// Removes an admin with its proxies or lanes; answers what it was.
    async fn remove_admin(
        channel: Name,
        side: Side,
        name: Name,
    ) -> Result<Answer<AdminChanged>, Rejection>;

    /// Creates a durable proxy; one that exists as asked for is answered as it is.
    async fn create_proxy(
        channel: Name,
        wish: ProxyWish,
    ) -> Result<Answer<ProxyCreated>, Rejection>;

    /// Suspends an admin, a proxy or a lane, or ends that: what is suspended delivers nothing, or
    /// takes nothing.
    async fn suspend(target: Target, suspended: bool) -> Result<Answer<Suspension>, Rejection>;

    /// Changes which types of events an admin or a proxy wants (OMG `subscription_change`).
    async fn subscribe(
        target: Target,
        add: Vec<TypePattern>,
        remove: Vec<TypePattern>,
    ) -> Result<Answer<Subscribed>, Rejection>;

    /// The types of a channel's retained events (OMG `obtain_offered_types`).
    async fn offered_types(channel: Name) -> Result<Answer<OfferedTypes>, Rejection>;

    /// Begins a backup of everything acknowledged before the question was asked. The node that
    /// answers takes it, leading or not, after it has asked the leader how far that is; what follows
    /// is asked of this node.
    async fn backup_begin() -> Result<Answer<BackupBegun>, Rejection>;

    /// What the backup consists of; none, after a while, if its snapshot is still being built.
    async fn backup_plan(backup: u64) -> Result<Option<BackupPlan>, Rejection>;

    /// A piece of one of its files, from this offset on.
    async fn backup_piece(backup: u64, file: String, offset: u64)
    -> Result<BackupPiece, Rejection>;

    /// Lets go of it.
    async fn backup_end(backup: u64) -> Result<(), Rejection>;

    /// Dead letters from sequence `from` on, oldest first, at most `limit` and
    /// [`limits::LETTERS_PER_COMMAND_MAX`]. Here and below `channel` is the one that they come from or
    /// the dead-letter channel itself.
    async fn dead_letters(
        channel: Name,
        from: Seq,
        limit: u32,
    ) -> Result<Answer<LetterList>, Rejection>;

    /// A dead letter with its event.
    async fn dead_letter(channel: Name, seq: Seq) -> Result<Answer<LetterShown>, Rejection>;

    /// Makes dead letters events of the channel they come from again, for the proxy that gave them
    /// up or for all. Harmless to repeat.
    async fn replay_letters(
        channel: Name,
        sequences: SeqRanges,
        to_all: bool,
    ) -> Result<Answer<LettersDone>, Rejection>;

    /// Gives dead letters up. Harmless to repeat.
    async fn drop_letters(
        channel: Name,
        sequences: SeqRanges,
    ) -> Result<Answer<LettersDone>, Rejection>;
}

/// The asking end, over a stream whose handshake is done.
pub fn client_transport<S>(
    stream: S,
) -> impl Transport<
    ClientMessage<AdminServiceRequest>,
    Response<AdminServiceResponse>,
    TransportError = io::Error,
> + Send
+ 'static
where
    S: AsyncRead + AsyncWrite + Send + 'static,
{
    json_transport(stream)
}

/// The answering end, over a stream whose handshake is done.
pub fn server_transport<S>(
    stream: S,
) -> impl Transport<
    Response<AdminServiceResponse>,
    ClientMessage<AdminServiceRequest>,
    TransportError = io::Error,
> + Send
+ 'static
where
    S: AsyncRead + AsyncWrite + Send + 'static,
{
    json_transport(stream)
}

fn json_transport<S, In, Out>(
    stream: S,
) -> tarpc::serde_transport::Transport<S, In, Out, Json<In, Out>>
where
    S: AsyncRead + AsyncWrite,
    In: for<'de> Deserialize<'de>,
    Out: Serialize,
{
    let frames = LengthDelimitedCodec::builder()
        .max_frame_length(limits::ADMIN_BYTES_MAX)
        .new_framed(stream);
    tarpc::serde_transport::new(frames, Json::default())
}
