//! The desk of a node that takes no part: it describes itself and refuses everything else.

use tarpc::context::Context;

use crate::types::{Name, NodeId, Rejection, Seq, SeqRanges, Side, Subscription, TypePattern};
use crate::wire::admin::{
    AdminChanged, AdminList, AdminService, Answer, Audit, BackupBegun, BackupPiece, BackupPlan,
    ChannelList, ChannelReport, ClusterInfo, ClusterStatus, Joined, LetterList, LetterShown,
    LettersDone, Member, Members, NodeAudit, NodeReport, OfferedTypes, ProxyCreated, ProxyWish,
    QosReport, QosSet, QosValidation, QosWish, Subscribed, Suspension, Target, Transferred,
};

/// What a node says while it takes no part.
#[derive(Debug, Clone)]
pub struct Closed {
    pub report: NodeReport,
    /// The answer to everything but "who are you".
    pub reason: Rejection,
}

impl AdminService for Closed {
    async fn node_status(self, _: Context) -> Result<NodeReport, Rejection> {
        Ok(self.report)
    }

    async fn status(self, _: Context, _: bool) -> Result<Answer<ClusterStatus>, Rejection> {
        Err(self.reason)
    }

    async fn audit(self, _: Context) -> Result<Answer<Audit>, Rejection> {
        Err(self.reason)
    }

    async fn checkpoint(self, _: Context) -> Result<u64, Rejection> {
        Err(self.reason)
    }

    async fn node_audit(self, _: Context, _: u64) -> Result<NodeAudit, Rejection> {
        Err(self.reason)
    }

    async fn cluster(self, _: Context) -> Result<Answer<Members>, Rejection> {
        Err(self.reason)
    }

    async fn cluster_info(self, _: Context) -> Result<ClusterInfo, Rejection> {
        Err(self.reason)
    }

    async fn join(self, _: Context, _: Member) -> Result<Joined, Rejection> {
        Err(self.reason)
    }

    async fn promote(self, _: Context, _: NodeId) -> Result<Answer<Members>, Rejection> {
        Err(self.reason)
    }

    async fn remove(self, _: Context, _: NodeId) -> Result<Answer<Members>, Rejection> {
        Err(self.reason)
    }

    async fn leave(self, _: Context) -> Result<Answer<Members>, Rejection> {
        Err(self.reason)
    }

    async fn transfer(
        self,
        _: Context,
        _: Option<NodeId>,
    ) -> Result<Answer<Transferred>, Rejection> {
        Err(self.reason)
    }

    async fn channels(self, _: Context) -> Result<Answer<ChannelList>, Rejection> {
        Err(self.reason)
    }

    async fn channel(self, _: Context, _: Name) -> Result<Answer<ChannelReport>, Rejection> {
        Err(self.reason)
    }

    async fn create_channel(
        self,
        _: Context,
        _: Name,
        _: QosWish,
    ) -> Result<Answer<ChannelReport>, Rejection> {
        Err(self.reason)
    }

    async fn remove_channel(self, _: Context, _: Name) -> Result<Answer<ChannelReport>, Rejection> {
        Err(self.reason)
    }

    async fn remove_proxy(
        self,
        _: Context,
        _: Name,
        _: Name,
    ) -> Result<Answer<ChannelReport>, Rejection> {
        Err(self.reason)
    }

    async fn qos(self, _: Context, _: Target) -> Result<Answer<QosReport>, Rejection> {
        Err(self.reason)
    }

    async fn set_qos(self, _: Context, _: Target, _: QosWish) -> Result<Answer<QosSet>, Rejection> {
        Err(self.reason)
    }

    async fn validate_qos(
        self,
        _: Context,
        _: Target,
        _: QosWish,
    ) -> Result<Answer<QosValidation>, Rejection> {
        Err(self.reason)
    }

    async fn admins(self, _: Context, _: Name) -> Result<Answer<AdminList>, Rejection> {
        Err(self.reason)
    }

    async fn create_admin(
        self,
        _: Context,
        _: Name,
        _: Side,
        _: Name,
        _: QosWish,
        _: Subscription,
    ) -> Result<Answer<AdminChanged>, Rejection> {
        Err(self.reason)
    }

    async fn remove_admin(
        self,
        _: Context,
        _: Name,
        _: Side,
        _: Name,
    ) -> Result<Answer<AdminChanged>, Rejection> {
        Err(self.reason)
    }

    async fn create_proxy(
        self,
        _: Context,
        _: Name,
        _: ProxyWish,
    ) -> Result<Answer<ProxyCreated>, Rejection> {
        Err(self.reason)
    }

    async fn suspend(
        self,
        _: Context,
        _: Target,
        _: bool,
    ) -> Result<Answer<Suspension>, Rejection> {
        Err(self.reason)
    }

    async fn subscribe(
        self,
        _: Context,
        _: Target,
        _: Vec<TypePattern>,
        _: Vec<TypePattern>,
    ) -> Result<Answer<Subscribed>, Rejection> {
        Err(self.reason)
    }

    async fn offered_types(self, _: Context, _: Name) -> Result<Answer<OfferedTypes>, Rejection> {
        Err(self.reason)
    }

    async fn backup_begin(self, _: Context) -> Result<Answer<BackupBegun>, Rejection> {
        Err(self.reason)
    }

    async fn backup_plan(self, _: Context, _: u64) -> Result<Option<BackupPlan>, Rejection> {
        Err(self.reason)
    }

    async fn backup_piece(
        self,
        _: Context,
        _: u64,
        _: String,
        _: u64,
    ) -> Result<BackupPiece, Rejection> {
        Err(self.reason)
    }

    async fn backup_end(self, _: Context, _: u64) -> Result<(), Rejection> {
        Err(self.reason)
    }

    async fn dead_letters(
        self,
        _: Context,
        _: Name,
        _: Seq,
        _: u32,
    ) -> Result<Answer<LetterList>, Rejection> {
        Err(self.reason)
    }

    async fn dead_letter(
        self,
        _: Context,
        _: Name,
        _: Seq,
    ) -> Result<Answer<LetterShown>, Rejection> {
        Err(self.reason)
    }

    async fn replay_letters(
        self,
        _: Context,
        _: Name,
        _: SeqRanges,
        _: bool,
    ) -> Result<Answer<LettersDone>, Rejection> {
        Err(self.reason)
    }

    async fn drop_letters(
        self,
        _: Context,
        _: Name,
        _: SeqRanges,
    ) -> Result<Answer<LettersDone>, Rejection> {
        Err(self.reason)
    }
}
