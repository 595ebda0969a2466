//! What all desks of a node share: the replica, the way to the other members, and their answers
//! put together.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::join_all;
use tarpc::client::RpcError;
use tarpc::context::Context;

use super::backups::Backups;
use super::quality::unknown_channel;
use super::report;
use crate::client::admin::{DialError, dial_admin};
use crate::consensus::{
    LEADER_WAIT, Leadership, Member, MemberInfo, Replica, Route, Timing, route,
};
use crate::delivery::{self, World};
use crate::env::{Runtime, TokioRuntime, Watch};
use crate::machine::{Command, Reply};
use crate::session;
use crate::transport::Net;
use crate::types::{ClusterId, Code, Name, NodeId, Rejection};
use crate::wire::admin::{
    AdminServiceClient, Answer, ChannelReport, ClusterStatus, NodeReport, Role, SnapshotReport,
};
use crate::wire::{Hello, Service, newest_version};

/// Fairness of the intake is between sources; all administration is one, told from sessions
/// (highest bit and a number) and from proxies (small numbers).
const SOURCE: u64 = u64::MAX - 1;
/// How long another member may take to describe itself.
const MEMBER_WAIT: Duration = Duration::from_millis(800);
/// How long the connection to another member may take.
const DIAL_WAIT: Duration = Duration::from_millis(800);

/// What the node says of itself.
pub trait Local: Send + Sync + 'static {
    /// `healthy`, `stopping`, `disk short`.
    fn state(&self) -> String;
    /// The cluster has let this node go, at its own request: it may stop.
    fn left(&self);
    /// Resident memory of the process.
    fn rss_bytes(&self) -> u64;
}

/// What administration needs of its node.
pub struct Options<N> {
    pub replica: Replica<TokioRuntime>,
    pub delivery: delivery::Handle,
    /// Which lanes are connected here.
    pub suppliers: session::Suppliers,
    /// Best-effort channels, while this node leads.
    pub transient: delivery::Transient,
    pub net: N,
    pub env: TokioRuntime,
    pub cluster: ClusterId,
    /// The cluster token; empty if the cluster has none.
    pub token: String,
    /// Which life of this process it is.
    pub incarnation: u64,
    pub local: Arc<dyn Local>,
}

/// The shared part; cheap to clone.
pub struct Office<N>(Arc<Inner<N>>);

struct Inner<N> {
    options: Options<N>,
    leadership: Watch<Leadership>,
    /// When a leader was last known, on the runtime's clock.
    led_at: std::sync::Mutex<Duration>,
    backups: Backups,
}

impl<N> Clone for Office<N> {
    fn clone(&self) -> Self {
        Office(self.0.clone())
    }
}

impl<N: Net> Office<N> {
    /// Opens the office of a node.
    pub fn new(options: Options<N>) -> Office<N> {
        let leadership = options.replica.leadership();
        let led_at = std::sync::Mutex::new(options.env.monotonic());
        let office =
            Office(Arc::new(Inner { options, leadership, led_at, backups: Backups::default() }));
        office.clone().watch_leader();
        office
    }

    /// Remembers when the leader was lost; ends with the replica.
    fn watch_leader(self) {
        let env = self.0.options.env.clone();
        let inner = Arc::downgrade(&self.0);
        let mut leadership = self.0.leadership.clone();
        drop(self);
        let clock = env.clone();
        env.spawn(async move {
            let mut known = leadership.get().leader.is_some();
            while let Some(now) = leadership.changed().await {
                let Some(inner) = inner.upgrade() else { return };
                if known || now.leader.is_some() {
                    *inner.led_at.lock().unwrap_or_else(std::sync::PoisonError::into_inner) =
                        clock.monotonic();
                }
                known = now.leader.is_some();
            }
        });
    }

    pub fn replica(&self) -> &Replica<TokioRuntime> {
        &self.0.options.replica
    }

    pub fn cluster(&self) -> ClusterId {
        self.0.options.cluster
    }

    pub fn env(&self) -> &TokioRuntime {
        &self.0.options.env
    }

    pub(super) fn backups(&self) -> &Backups {
        &self.0.backups
    }

    /// Who leads, as far as this node knows.
    pub fn leadership(&self) -> Leadership {
        self.0.leadership.peek()
    }

    /// Who has to answer what needs the leader.
    pub async fn route(&self) -> Result<Route, Rejection> {
        route(self.env(), &self.0.leadership, LEADER_WAIT).await
    }

    /// Wraps what this node knows. `reached`: the index a linearizable read was made at.
    pub fn answer<T>(&self, reached: Option<u64>, value: T) -> Answer<T> {
        let status = self.replica().status();
        let tenure = self.replica().read(|machine| machine.tenure());
        Answer {
            answered_by: self.replica().me(),
            role: report::role(status.role),
            tenure: status.tenure.unwrap_or(tenure),
            applied: status.applied,
            linearizable: reached.is_some(),
            stale_ms: if reached.is_some() { 0 } else { self.stale_ms() },
            value,
        }
    }

    /// How old the news of a leader may be at most.
    fn stale_ms(&self) -> u64 {
        if self.leadership().leader.is_some() {
            return Timing::default().patience().as_millis() as u64;
        }
        let led_at = *self.0.led_at.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        self.env().monotonic().saturating_sub(led_at).as_millis() as u64
    }

    /// Waits until this node, leading, has applied everything acknowledged so far.
    pub async fn linearize(&self) -> Result<u64, Rejection> {
        Ok(self.replica().linearize().await?)
    }

    /// Proposes a command and unwraps its refusal.
    pub async fn propose(&self, command: Command) -> Result<Reply, Rejection> {
        match self.replica().propose(SOURCE, command).await? {
            Reply::Rejected(rejection) => Err(rejection),
            reply => Ok(reply),
        }
    }

    /// Asks another member as this node, on its peer port.
    pub async fn ask<T, Asked>(
        &self,
        member: &Member,
        deadline: Instant,
        ask: impl FnOnce(AdminServiceClient, Context) -> Asked,
    ) -> Result<T, Rejection>
    where
        Asked: Future<Output = Result<Result<T, Rejection>, RpcError>>,
    {
        let options = &self.0.options;
        let hello = Hello {
            cluster: Some(options.cluster),
            node: Some(options.replica.me()),
            incarnation: options.incarnation,
            token: options.token.clone(),
            ..Hello::new(Service::RelayAdmin, format!("node {}", options.replica.me()))
        };
        let dialled = dial_admin(&options.net, &member.peer_addr, &hello, DIAL_WAIT).await;
        let (service, welcome) = dialled.map_err(|error| match error {
            DialError::Refused { rejection, .. } if rejection.code.retryable() => rejection,
            other => unreachable_member(other.to_string()),
        })?;
        if welcome.node != member.id {
            return Err(unreachable_member(format!(
                "node {} answers at {} of node {}",
                welcome.node, member.peer_addr, member.id
            )));
        }
        let mut context = Context::current();
        context.deadline = deadline;
        match ask(service, context).await {
            Ok(answer) => answer,
            // The request may have arrived.
            Err(error) => Err(Rejection::new(
                Code::TenureLost,
                format!("{member} did not answer to the end: {error}"),
            )
            .hint("look at the state before trying again")),
        }
    }

    /// Asks every member in parallel; `here` answers for this node. In the order of ids.
    pub async fn ask_all<T, Here, Asked>(
        &self,
        wait: Duration,
        here: Here,
        ask: impl Fn(AdminServiceClient, Context) -> Asked,
    ) -> Vec<(MemberInfo, Result<T, Rejection>)>
    where
        Here: Future<Output = Result<T, Rejection>>,
        Asked: Future<Output = Result<Result<T, Rejection>, RpcError>>,
    {
        let deadline = Instant::now() + wait;
        let (mine, others): (Vec<_>, Vec<_>) = self
            .replica()
            .members()
            .into_iter()
            .partition(|info| info.member.id == self.replica().me());
        let asked = others.into_iter().map(|info| {
            let ask = &ask;
            async move {
                let answer = tokio::time::timeout(wait, self.ask(&info.member, deadline, ask));
                let late = |_| Err(unreachable_member(format!("no answer within {wait:?}")));
                let answer = answer.await.unwrap_or_else(late);
                (info, answer)
            }
        });
        let (here, mut answers) = futures::join!(here, join_all(asked));
        answers.extend(mine.into_iter().next().map(|info| (info, here)));
        answers.sort_by_key(|(info, _)| info.member.id);
        answers
    }

    /// This node, as it describes itself.
    pub fn node_report(&self) -> NodeReport {
        let status = self.replica().status();
        let role = report::role(status.role);
        let receiving = status.snapshots.receiving;
        let state = match (status.failure, receiving, role) {
            (Some(failure), _, _) => format!("failed: {failure}"),
            (None, Some(percent), _) => format!("catching up: receiving a snapshot, {percent} %"),
            (None, None, Role::Learner) => "catching up".to_string(),
            (None, None, _) => match (self.0.options.local.state(), status.damage.describe()) {
                (state, Some(damage)) if state == "healthy" => format!("damaged: {damage}"),
                (state, _) => state,
            },
        };
        NodeReport {
            id: self.replica().me(),
            addr: self.replica().member().client_addr.clone(),
            role,
            state,
            term: status.term,
            leader: status.leader,
            tenure: status.tenure,
            applied: status.applied,
            committed: status.committed,
            snapshot_index: status.snapshot_index,
            log_bytes: status.log_bytes,
            store_bytes: status.store_bytes,
            rss_bytes: self.0.options.local.rss_bytes(),
            free_bytes: status.room.free,
            release: env!("CARGO_PKG_VERSION").into(),
            protocol: newest_version(),
            snapshots: report::snapshots(status.snapshots),
        }
    }

    /// The whole cluster. The channels are those of this node's machine.
    pub async fn cluster_status(&self) -> ClusterStatus {
        let mut channels = self.look(|world| report::channels(&world));
        self.add_soft_state(&mut channels).await;
        let here = std::future::ready(Ok(self.node_report()));
        let ask = |s: AdminServiceClient, c| async move { s.node_status(c).await };
        let answers = self.ask_all(MEMBER_WAIT, here, ask).await;
        let nodes = answers.into_iter().map(|(info, answer)| match answer {
            Ok(report) => report,
            Err(rejection) => absent(&info, &rejection),
        });
        let leadership = self.leadership();
        ClusterStatus {
            cluster_id: self.cluster(),
            leader: leadership.leader.map(|leader| leader.id),
            term: leadership.term,
            nodes: nodes.collect(),
            channels,
        }
    }

    /// Looks at the facts, and at what this node, leading, has in memory beside them.
    pub fn look<T>(&self, look: impl FnOnce(World<'_>) -> T) -> T {
        let moment = || (self.leadership().tenure, self.replica().now());
        self.replica().read(|facts| self.0.options.transient.see(facts, moment, look))
    }

    /// One channel as this node's machine has it.
    pub async fn channel(&self, name: &Name) -> Result<ChannelReport, Rejection> {
        let found = self.look(|world| {
            let channel = world.facts.channel_by_name(name)?;
            let report = report::channel(&world, channel.id())?;
            let fared = |lanes: &[_]| self.replica().lane_turns(lanes);
            let connected = &self.0.options.suppliers;
            let suppliers = report::suppliers(world.facts, channel, connected, fared);
            Some(ChannelReport { suppliers, ..report })
        });
        let mut reports = [found.ok_or_else(|| unknown_channel(name))?];
        self.add_soft_state(&mut reports).await;
        let [report] = reports;
        Ok(report)
    }

    async fn add_soft_state(&self, channels: &mut [ChannelReport]) {
        let ids = channels.iter().flat_map(|c| &c.proxies).map(|proxy| proxy.id).collect();
        let stats = self.0.options.delivery.stats(ids).await;
        report::add_soft_state(channels, &stats.proxies);
        for channel in channels {
            channel.subscribers = self.0.options.delivery.subscribers_of(channel.id);
        }
    }

    /// Tells the node that it has left.
    pub fn has_left(&self) {
        self.0.options.local.left();
    }

    /// This node's id.
    pub fn me(&self) -> NodeId {
        self.replica().me()
    }
}

fn unreachable_member(why: String) -> Rejection {
    Rejection::new(Code::NoLeader, why).hint("try again in a moment, or through another node")
}

/// A member that did not describe itself.
fn absent(info: &MemberInfo, rejection: &Rejection) -> NodeReport {
    let state = match rejection.code {
        Code::Quarantined | Code::StorageFailed => rejection.message.clone(),
        Code::ShuttingDown => "stopping".to_string(),
        _ => "unreachable".to_string(),
    };
    NodeReport {
        id: info.member.id,
        addr: info.member.client_addr.clone(),
        role: Role::Down,
        state,
        term: 0,
        leader: None,
        tenure: None,
        // What the leader knows to be on its disk.
        applied: 0,
        committed: info.matched.unwrap_or(0),
        snapshot_index: 0,
        log_bytes: 0,
        store_bytes: 0,
        rss_bytes: 0,
        free_bytes: 0,
        release: String::new(),
        protocol: 0,
        snapshots: SnapshotReport::default(),
    }
}
