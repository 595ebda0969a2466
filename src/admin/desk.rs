//! Where one administrator is answered: who asks, and who has to answer.

use std::future::Future;

use tarpc::client::RpcError;
use tarpc::context::Context;

use super::office::Office;
use super::quality::unknown_proxy;
use super::report;
use crate::consensus::Route;
use crate::machine::Command;
use crate::transport::Net;
use crate::types::{
    Code, Name, NodeId, Rejection, Seq, SeqRanges, Side, Subscription, TypePattern,
};
use crate::wire::admin::{
    AdminChanged, AdminList, AdminService, AdminServiceClient, Answer, Audit, BackupBegun,
    BackupPiece, BackupPlan, ChannelList, ChannelReport, ClusterInfo, ClusterStatus, Joined,
    LetterList, LetterShown, LettersDone, Member, Members, NodeAudit, NodeReport, OfferedTypes,
    ProxyCreated, ProxyWish, QosReport, QosSet, QosValidation, QosWish, Subscribed, Suspension,
    Target, Transferred,
};

/// Who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Caller {
    /// An administrator with the client token.
    Client,
    /// A node with the cluster token, which wants to join.
    Node,
    /// A member that passes a question on; it must be answered here or refused.
    Member,
}

/// One connection's answers.
pub struct Desk<N> {
    office: Office<N>,
    caller: Caller,
}

impl<N> Clone for Desk<N> {
    fn clone(&self) -> Self {
        Desk { office: self.office.clone(), caller: self.caller }
    }
}

type Answered<T> = Result<Answer<T>, Rejection>;

impl<N: Net> Desk<N> {
    /// A desk for one caller.
    pub fn new(office: Office<N>, caller: Caller) -> Desk<N> {
        Desk { office, caller }
    }

    /// Answers here if this node leads, else asks the leader.
    async fn at_leader<T, Asked>(
        &self,
        context: Context,
        here: impl Future<Output = Result<T, Rejection>>,
        ask: impl FnOnce(AdminServiceClient, Context) -> Asked,
    ) -> Result<T, Rejection>
    where
        Asked: Future<Output = Result<Result<T, Rejection>, RpcError>>,
    {
        match self.office.route().await? {
            Route::Here => here.await,
            Route::Elsewhere(leader) if self.caller == Caller::Member => Err(Rejection::new(
                Code::NoLeader,
                format!("this node does not lead, {leader} does"),
            )
            .hint("try again")),
            Route::Elsewhere(leader) => self.office.ask(&leader, context.deadline, ask).await,
        }
    }

    /// A linearizable read of this node, which leads.
    async fn read<T>(&self, look: impl Future<Output = Result<T, Rejection>>) -> Answered<T> {
        let reached = self.office.linearize().await?;
        Ok(self.office.answer(Some(reached), look.await?))
    }

    /// A change made by this node, which leads: as fresh as can be.
    async fn change<T>(&self, made: impl Future<Output = Result<T, Rejection>>) -> Answered<T> {
        let value = made.await?;
        let applied = self.office.replica().status().applied;
        Ok(self.office.answer(Some(applied), value))
    }

    /// Removes a member. A leader is not removed by itself: it hands over first, so that whoever
    /// confirms the removal is there to say so.
    async fn take_out(&self, context: Context, node: NodeId) -> Answered<Members> {
        if node == self.office.me() && self.office.leadership().tenure.is_some() {
            self.office.transfer(None).await?;
        }
        let here = self.change(self.office.remove(node));
        self.at_leader(context, here, |s, c| async move { s.remove(c, node).await }).await
    }

    fn needs_cluster_token(&self) -> Result<(), Rejection> {
        match self.caller {
            Caller::Node | Caller::Member => Ok(()),
            Caller::Client => Err(Rejection::new(Code::Unauthorized, "only nodes may do this")
                .hint("use the peer port, with the cluster token")),
        }
    }

    async fn delete(&self, name: Name) -> Result<ChannelReport, Rejection> {
        let report = self.office.channel(&name).await?;
        self.office.propose(Command::DeleteChannel { channel: report.id }).await?;
        Ok(report)
    }

    async fn delete_proxy(&self, channel: Name, proxy: Name) -> Result<ChannelReport, Rejection> {
        let report = self.office.channel(&channel).await?;
        let Some(found) = report.proxies.iter().find(|known| known.name == proxy) else {
            return Err(unknown_proxy(&channel, &proxy));
        };
        self.office.propose(Command::DeleteProxy { proxy: found.id }).await?;
        self.office.channel(&channel).await
    }
}

impl<N: Net> AdminService for Desk<N> {
    async fn status(self, c: Context, stale: bool) -> Answered<ClusterStatus> {
        let office = &self.office;
        let look = async { Ok(office.cluster_status().await) };
        if stale {
            return Ok(office.answer(None, look.await?));
        }
        self.at_leader(c, self.read(look), |s, c| async move { s.status(c, false).await }).await
    }

    async fn node_status(self, _: Context) -> Result<NodeReport, Rejection> {
        Ok(self.office.node_report())
    }

    async fn audit(self, c: Context) -> Answered<Audit> {
        let here = self.change(self.office.audit());
        self.at_leader(c, here, |s, c| async move { s.audit(c).await }).await
    }

    async fn checkpoint(self, c: Context) -> Result<u64, Rejection> {
        let here = self.office.checkpoint();
        self.at_leader(c, here, |s, c| async move { s.checkpoint(c).await }).await
    }

    async fn node_audit(self, _: Context, index: u64) -> Result<NodeAudit, Rejection> {
        self.office.node_audit(index).await
    }

    async fn cluster(self, c: Context) -> Answered<Members> {
        let here = self.read(async { Ok(self.office.members()) });
        self.at_leader(c, here, |s, c| async move { s.cluster(c).await }).await
    }

    async fn cluster_info(self, _: Context) -> Result<ClusterInfo, Rejection> {
        Ok(self.office.cluster_info())
    }

    async fn join(self, c: Context, member: Member) -> Result<Joined, Rejection> {
        self.needs_cluster_token()?;
        self.office.hear(&member);
        let here = self.office.join(member.clone());
        self.at_leader(c, here, |s, c| async move { s.join(c, member).await }).await
    }

    async fn promote(self, c: Context, node: NodeId) -> Answered<Members> {
        self.needs_cluster_token()?;
        let here = self.change(self.office.promote(node));
        self.at_leader(c, here, |s, c| async move { s.promote(c, node).await }).await
    }

    async fn remove(self, c: Context, node: NodeId) -> Answered<Members> {
        self.take_out(c, node).await
    }

    async fn leave(self, c: Context) -> Answered<Members> {
        let answer = self.take_out(c, self.office.me()).await?;
        self.office.has_left();
        Ok(answer)
    }

    async fn transfer(self, c: Context, to: Option<NodeId>) -> Answered<Transferred> {
        let here = self.change(self.office.transfer(to));
        self.at_leader(c, here, |s, c| async move { s.transfer(c, to).await }).await
    }

    async fn channels(self, c: Context) -> Answered<ChannelList> {
        let look = async {
            Ok(ChannelList { channels: self.office.look(|world| report::entries(&world)) })
        };
        self.at_leader(c, self.read(look), |s, c| async move { s.channels(c).await }).await
    }

    async fn channel(self, c: Context, name: Name) -> Answered<ChannelReport> {
        let here = self.read(self.office.channel(&name));
        let asked = name.clone();
        self.at_leader(c, here, |s, c| async move { s.channel(c, asked).await }).await
    }

    async fn create_channel(self, c: Context, name: Name, qos: QosWish) -> Answered<ChannelReport> {
        let here = self.change(self.office.create_channel(&name, &qos));
        let asked = (name.clone(), qos.clone());
        let ask =
            |s: AdminServiceClient, c| async move { s.create_channel(c, asked.0, asked.1).await };
        self.at_leader(c, here, ask).await
    }

    async fn remove_channel(self, c: Context, name: Name) -> Answered<ChannelReport> {
        let here = self.change(self.delete(name.clone()));
        self.at_leader(c, here, |s, c| async move { s.remove_channel(c, name).await }).await
    }

    async fn remove_proxy(self, c: Context, channel: Name, proxy: Name) -> Answered<ChannelReport> {
        let here = self.change(self.delete_proxy(channel.clone(), proxy.clone()));
        let ask = |s: AdminServiceClient, c| async move { s.remove_proxy(c, channel, proxy).await };
        self.at_leader(c, here, ask).await
    }

    async fn qos(self, c: Context, target: Target) -> Answered<QosReport> {
        let here = self.read(self.office.qos(&target));
        let asked = target.clone();
        self.at_leader(c, here, |s, c| async move { s.qos(c, asked).await }).await
    }

    async fn set_qos(self, c: Context, target: Target, wish: QosWish) -> Answered<QosSet> {
        let here = self.change(self.office.set_qos(&target, &wish));
        let asked = (target.clone(), wish.clone());
        let ask = |s: AdminServiceClient, c| async move { s.set_qos(c, asked.0, asked.1).await };
        self.at_leader(c, here, ask).await
    }

    async fn validate_qos(
        self,
        c: Context,
        target: Target,
        wish: QosWish,
    ) -> Answered<QosValidation> {
        let here = self.read(async {
            self.office.locate(&target).await?;
            Ok(QosValidation::new(target.level(), &wish))
        });
        let asked = (target.clone(), wish.clone());
        let ask =
            |s: AdminServiceClient, c| async move { s.validate_qos(c, asked.0, asked.1).await };
        self.at_leader(c, here, ask).await
    }

    async fn admins(self, c: Context, channel: Name) -> Answered<AdminList> {
        let here = self.read(self.office.admins(&channel));
        let asked = channel.clone();
        self.at_leader(c, here, |s, c| async move { s.admins(c, asked).await }).await
    }

    async fn create_admin(
        self,
        c: Context,
        channel: Name,
        side: Side,
        name: Name,
        qos: QosWish,
        types: Subscription,
    ) -> Answered<AdminChanged> {
        let types = types.clone();
        let here =
            self.change(self.office.create_admin(&channel, side, &name, &qos, types.clone()));
        let asked = (channel.clone(), name.clone(), qos.clone());
        let ask = |s: AdminServiceClient, c| async move {
            s.create_admin(c, asked.0, side, asked.1, asked.2, types).await
        };
        self.at_leader(c, here, ask).await
    }

    async fn remove_admin(
        self,
        c: Context,
        channel: Name,
        side: Side,
        name: Name,
    ) -> Answered<AdminChanged> {
        let here = self.change(self.office.remove_admin(&channel, side, &name));
        let asked = (channel.clone(), name.clone());
        let ask = |s: AdminServiceClient, c| async move {
            s.remove_admin(c, asked.0, side, asked.1).await
        };
        self.at_leader(c, here, ask).await
    }

    async fn create_proxy(
        self,
        c: Context,
        channel: Name,
        wish: ProxyWish,
    ) -> Answered<ProxyCreated> {
        let here = self.change(self.office.create_proxy(&channel, wish.clone()));
        let asked = (channel.clone(), wish.clone());
        let ask =
            |s: AdminServiceClient, c| async move { s.create_proxy(c, asked.0, asked.1).await };
        self.at_leader(c, here, ask).await
    }

    async fn suspend(self, c: Context, target: Target, suspended: bool) -> Answered<Suspension> {
        let here = self.change(self.office.suspend(&target, suspended));
        let asked = target.clone();
        let ask = |s: AdminServiceClient, c| async move { s.suspend(c, asked, suspended).await };
        self.at_leader(c, here, ask).await
    }

    async fn subscribe(
        self,
        c: Context,
        target: Target,
        add: Vec<TypePattern>,
        remove: Vec<TypePattern>,
    ) -> Answered<Subscribed> {
        let here = self.change(self.office.subscribe(&target, add.clone(), remove.clone()));
        let asked = (target.clone(), add.clone(), remove.clone());
        let ask = |s: AdminServiceClient, c| async move {
            s.subscribe(c, asked.0, asked.1, asked.2).await
        };
        self.at_leader(c, here, ask).await
    }

    async fn offered_types(self, c: Context, channel: Name) -> Answered<OfferedTypes> {
        let here = self.read(self.office.offered_types(&channel));
        let asked = channel.clone();
        let ask = |s: AdminServiceClient, c| async move { s.offered_types(c, asked).await };
        self.at_leader(c, here, ask).await
    }

    async fn backup_begin(self, c: Context) -> Answered<BackupBegun> {
        // How far the leader is, once it has made sure that it still leads.
        let index = self.clone().cluster(c).await?.applied;
        let backup = self.office.backup_begin(index)?;
        Ok(self.office.answer(Some(index), BackupBegun { backup, index }))
    }

    async fn backup_plan(self, _: Context, backup: u64) -> Result<Option<BackupPlan>, Rejection> {
        self.office.backup_plan(backup).await
    }

    async fn backup_piece(
        self,
        _: Context,
        backup: u64,
        file: String,
        offset: u64,
    ) -> Result<BackupPiece, Rejection> {
        self.office.backup_piece(backup, file, offset).await
    }

    async fn backup_end(self, _: Context, backup: u64) -> Result<(), Rejection> {
        self.office.backup_end(backup)
    }

    async fn dead_letters(
        self,
        c: Context,
        channel: Name,
        from: Seq,
        limit: u32,
    ) -> Answered<LetterList> {
        let here = self.read(self.office.letters(&channel, from, limit));
        let asked = channel.clone();
        let ask =
            |s: AdminServiceClient, c| async move { s.dead_letters(c, asked, from, limit).await };
        self.at_leader(c, here, ask).await
    }

    async fn dead_letter(self, c: Context, channel: Name, seq: Seq) -> Answered<LetterShown> {
        let here = self.read(self.office.letter(&channel, seq));
        let asked = channel.clone();
        self.at_leader(c, here, |s, c| async move { s.dead_letter(c, asked, seq).await }).await
    }

    async fn replay_letters(
        self,
        c: Context,
        channel: Name,
        sequences: SeqRanges,
        to_all: bool,
    ) -> Answered<LettersDone> {
        let here = self.change(self.office.replay_letters(&channel, sequences.clone(), to_all));
        let asked = (channel.clone(), sequences.clone());
        let ask = |s: AdminServiceClient, c| async move {
            s.replay_letters(c, asked.0, asked.1, to_all).await
        };
        self.at_leader(c, here, ask).await
    }

    async fn drop_letters(
        self,
        c: Context,
        channel: Name,
        sequences: SeqRanges,
    ) -> Answered<LettersDone> {
        let here = self.change(self.office.drop_letters(&channel, sequences.clone()));
        let asked = (channel.clone(), sequences.clone());
        let ask =
            |s: AdminServiceClient, c| async move { s.drop_letters(c, asked.0, asked.1).await };
        self.at_leader(c, here, ask).await
    }
}
