//! Looks after the room on this node's disk; as the leader, after that of all voters.
//!
//! Every node looks at its own disk, judges it ([`super::room`]), makes its ballast when there is
//! plenty, and tells who asks. A leader asks the voters. If too few have room it closes the gate for
//! publishes; if only its own disk is short, it has somebody else lead.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use openraft::LogIdOptionExt;
use openraft::async_runtime::WatchReceiver;

use crate::env::Publisher;
use crate::env::disk::Disk;
use crate::planted::{Bug, planted};
use crate::storage::{Ballast, StorageError};
use crate::transport::Net;

use super::config::RaftRuntime;
use super::dial::Dialer;
use super::facts::Facts;
use super::link::{CallError, Link};
use super::member::Member;
use super::raft::Raft;
use super::room::{Census, Known, Leaving, Needs, Room, lack, successor};
use super::rpc::{Request, Response};

/// How often the disk is looked at, and a leader asks the others.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Longest wait for a voter's answer.
const ASK_MAX: Duration = Duration::from_millis(400);
/// What a voter has said counts for so long.
const NEWS_MAX: Duration = Duration::from_secs(3);
/// A voter that lacks more entries takes too long to take over.
const LAG_MAX: u64 = 256;

/// What the disk of a node is to keep.
#[derive(Debug, Clone, Copy)]
pub struct SpaceOptions {
    /// Bytes that are to be free whatever is in the log.
    pub floor: u64,
    /// Bytes of the ballast; 0: none.
    pub ballast: u64,
    /// Bytes kept for the log itself.
    pub reserve: u64,
}

/// The task.
pub(super) struct Steward<N, E: RaftRuntime> {
    pub raft: Raft<E>,
    pub facts: Arc<Facts>,
    pub dialer: Dialer<N>,
    pub disk: Arc<dyn Disk>,
    pub options: SpaceOptions,
    pub room: Publisher<Room>,
    /// Why publishes are refused here, if they are.
    pub gate: Publisher<Option<String>>,
    pub env: E,
}

/// Voters as a leader sees them.
type Links<E> = BTreeMap<u64, (Member, Link<E>)>;

/// What the task remembers.
struct Memory<E> {
    links: Links<E>,
    /// What voters said, and when.
    news: BTreeMap<u64, (Known, Duration)>,
    leaving: Leaving,
    /// Said once, until it can be made.
    ballast_failed: bool,
}

impl<N: Net, E: RaftRuntime> Steward<N, E> {
    /// Runs until dropped.
    pub async fn run(self) {
        let mut memory = Memory {
            links: BTreeMap::new(),
            news: BTreeMap::new(),
            leaving: Leaving::default(),
            ballast_failed: false,
        };
        loop {
            self.look(&mut memory).await;
            match self.leads() {
                true => self.preside(&mut memory).await,
                false => {
                    memory.links.clear();
                    memory.news.clear();
                    self.gate.set(None);
                }
            }
            self.env.sleep(LOOK_EVERY).await;
        }
    }

    fn leads(&self) -> bool {
        let server = self.raft.server_metrics();
        server.borrow_watched().current_leader == Some(self.me())
    }

    fn me(&self) -> u64 {
        self.dialer.identity.node.0
    }

    /// Looks at this node's own disk.
    async fn look(&self, memory: &mut Memory<E>) {
        let (disk, facts, options) = (self.disk.clone(), self.facts.clone(), self.options);
        let ballast = Ballast::new(disk.clone(), options.ballast);
        let looked = self.env.blocking(move || {
            let free = disk.free_bytes().map_err(StorageError::io("asking for free space"))?;
            let lacks = ballast.lacks()?;
            let needs = Needs {
                setting: options.floor,
                unrelocated: facts.unrelocated_bytes(),
                machine: facts.payloads.store.current().map_or(0, |s| s.machine_bytes),
                reserve: options.reserve,
                ballast: lacks,
            };
            Ok((free, needs.floor(), lacks))
        });
        let (free, floor, lacks) = match looked.await.unwrap_or(Err(StorageError::Closed)) {
            Ok(looked) => looked,
            Err(error) => return tracing::debug!(%error, "free space is not known"),
        };
        let before = self.room.get();
        let room = match planted(Bug::FloorIgnored) {
            true => Room { free, floor, short: false },
            false => before.seen(free, floor),
        };
        self.room.set(room);
        if room.short != before.short {
            match room.short {
                true => tracing::warn!(free, floor, "the disk is nearly full"),
                false => tracing::info!(free, floor, "the disk has room again"),
            }
            self.facts.set_pressed(room.short);
        }
        if lacks > 0 && room.is_plenty() {
            self.make_ballast(memory).await;
        }
    }

    async fn make_ballast(&self, memory: &mut Memory<E>) {
        let ballast = Ballast::new(self.disk.clone(), self.options.ballast);
        let made = self.env.blocking(move || ballast.make()).await;
        match made.unwrap_or(Err(StorageError::Closed)) {
            Err(error) if !memory.ballast_failed => {
                memory.ballast_failed = true;
                tracing::warn!(%error, "there is no ballast to be given up on a full disk");
            }
            Err(_) => {}
            Ok(()) => {
                memory.ballast_failed = false;
                tracing::debug!(bytes = self.options.ballast, "ballast was put aside");
            }
        }
    }

    /// What a leader does.
    async fn preside(&self, memory: &mut Memory<E>) {
        self.ask_around(memory).await;
        let (now, mine) = (self.env.monotonic(), self.room.get());
        let fresh = memory.news.iter().filter(|(_, (_, at))| now < *at + NEWS_MAX);
        let mut census: Census = fresh.map(|(id, (known, _))| (*id, *known)).collect();
        census.insert(self.me(), Known::Said(mine));
        let server = self.raft.server_metrics().borrow_watched().clone();
        let voters = server.membership_config.membership().get_joint_config().clone();
        let mut lack = lack(&voters, &census);
        if mine.short && lack.is_none() {
            // Its own disk is to be spared, although there is a majority without it.
            if let Some(to) = successor(self.me(), &census, &self.lags())
                && memory.leaving.begins(now)
            {
                tracing::info!(to, "the disk is short: another voter is to lead");
                let _ends_with_openraft = self.raft.trigger().transfer_leader(to).await;
            }
            if !memory.leaving.goes_on(now) {
                let alone = [[self.me()].into()];
                lack = super::room::lack(&alone, &census);
            }
        }
        if let (Some(lack), None) = (&lack, self.gate.get()) {
            tracing::warn!(lack, "publishes are refused for want of disk space");
        }
        self.gate.set(lack);
    }

    /// How many entries each other voter lacks that is near enough to take over.
    fn lags(&self) -> BTreeMap<u64, u64> {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        let last = metrics.last_log_index.unwrap_or(0);
        let voters = metrics.membership_config.membership().voter_ids();
        let matched = |id: u64| metrics.replication.as_ref()?.get(&id)?.index();
        let lag = |id: u64| Some((id, last.saturating_sub(matched(id)?)));
        voters.filter_map(lag).filter(|(_, lag)| *lag <= LAG_MAX).collect()
    }

    /// Asks the other voters, all at once.
    async fn ask_around(&self, memory: &mut Memory<E>) {
        let server = self.raft.server_metrics().borrow_watched().clone();
        let membership = server.membership_config.membership();
        let others = membership.voter_ids().filter(|id| *id != self.me());
        let others: BTreeMap<u64, Member> =
            others.filter_map(|id| Some((id, membership.get_node(&id)?.clone()))).collect();
        memory.links.retain(|id, (known, _)| others.get(id) == Some(known));
        memory.news.retain(|id, _| others.contains_key(id));
        for (id, member) in others {
            let link = || Link::new(member.clone(), self.dialer.clone(), self.env.clone());
            memory.links.entry(id).or_insert_with(|| (member.clone(), link()));
        }
        let ask = async |(id, (_, link)): (&u64, &(Member, Link<E>))| match link
            .call(&Request::Room, Vec::new(), ASK_MAX)
            .await
        {
            Ok((Response::Room(room), _)) => Some((*id, Known::Said(room))),
            Err(CallError::Unspoken) => Some((*id, Known::Mute)),
            _ => None,
        };
        let answers = join_all(memory.links.iter().map(ask)).await;
        let now = self.env.monotonic();
        let news = answers.into_iter().flatten().map(|(id, known)| (id, (known, now)));
        memory.news.extend(news);
    }
}
