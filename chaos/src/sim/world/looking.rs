//! Looking at a simulated cluster: who is there, who leads, whether they agree.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use aqueduct::consensus::Replica;
use aqueduct::delivery::ProxyStats;
use aqueduct::storage::LogStore;
use aqueduct::types::ProxyId;

use super::{Host, Slot, State, World};
use crate::sim::env::SimEnv;
use crate::sim::plan::Who;

impl World {
    pub fn replica(&self, slot: Slot) -> Option<Replica<SimEnv>> {
        let of = |host: &mut Host| match &host.state {
            State::Up(process) => Some(process.replica.clone()),
            _ => None,
        };
        self.host(slot, of).flatten()
    }

    /// What the leader's delivery knows of a proxy.
    pub async fn deliveries(
        &self,
        slot: Slot,
        proxies: Vec<ProxyId>,
    ) -> BTreeMap<ProxyId, ProxyStats> {
        let of = |host: &mut Host| match &host.state {
            State::Up(process) => Some(process.delivery.clone()),
            _ => None,
        };
        match self.host(slot, of).flatten() {
            Some(delivery) => delivery.stats(proxies).await.proxies,
            None => BTreeMap::new(),
        }
    }

    /// All hosts whose node is, or should be, a member.
    pub fn slots(&self) -> Vec<Slot> {
        let hosts = self.hosts();
        let member =
            |(_, host): &(&Slot, &Host)| host.id > 0 && !matches!(host.state, State::Retired);
        hosts.iter().filter(member).map(|(slot, _)| *slot).collect()
    }

    /// Hosts whose process found its disk damaged.
    pub fn quarantined(&self) -> Vec<Slot> {
        let hosts = self.hosts();
        let damaged = hosts.iter().filter(|(_, host)| matches!(host.state, State::Quarantined));
        damaged.map(|(slot, _)| *slot).collect()
    }

    /// Hosts whose disk is damaged, noticed or not: their operator replaces them.
    pub fn damaged(&self) -> Vec<Slot> {
        let hit = |slot: &Slot| self.host(*slot, |host| host.damaged) == Some(true);
        let mut damaged: Vec<Slot> = self.slots().into_iter().filter(hit).collect();
        damaged.extend(self.quarantined());
        damaged.sort_unstable();
        damaged.dedup();
        damaged
    }

    pub fn is_up(&self, slot: Slot) -> bool {
        self.host(slot, |host| matches!(host.state, State::Up(_))) == Some(true)
    }

    /// Members whose process runs.
    pub fn up(&self) -> usize {
        self.slots().into_iter().filter(|slot| self.is_up(*slot)).count()
    }

    /// Whether all members run and have applied everything any of them has in its log.
    pub fn agrees(&self) -> bool {
        let slots = self.slots();
        let statuses: Vec<_> = (slots.iter())
            .filter_map(|slot| self.replica(*slot))
            .map(|replica| replica.status())
            .collect();
        let last = statuses.iter().map(|status| status.last_log).max();
        statuses.len() == slots.len() && statuses.iter().all(|status| Some(status.applied) == last)
    }

    /// One line about each host, for people.
    pub fn describe(&self) -> String {
        let hosts: Vec<Slot> = self.hosts().keys().copied().collect();
        let line = |slot: Slot| {
            let state = self.host(slot, |host| match &host.state {
                State::Up(_) => "up",
                State::Starting(_) => "starting",
                State::Down => "down",
                State::Quarantined => "quarantined",
                State::Retired => "retired",
            });
            let status = self.replica(slot).map(|replica| {
                let status = replica.status();
                let members = replica.members();
                let voters: Vec<u64> =
                    members.iter().filter(|info| info.voter).map(|info| info.member.id.0).collect();
                format!(
                    " {:?} term {} tenure {:?} leader {:?} log {} committed {} applied {} voters {voters:?} of {}",
                    status.role,
                    status.term,
                    status.tenure,
                    status.leader,
                    status.last_log,
                    status.committed,
                    status.applied,
                    members.len(),
                )
            });
            format!(
                "n{slot}={} {}{}",
                self.id(slot),
                state.unwrap_or("?"),
                status.unwrap_or_default()
            )
        };
        hosts.into_iter().map(line).collect::<Vec<_>>().join("; ")
    }

    pub fn id(&self, slot: Slot) -> u64 {
        self.host(slot, |host| host.id).unwrap_or(0)
    }

    /// The host of the node that serves, if one does.
    pub fn leader(&self) -> Option<Slot> {
        let serves = |slot: &Slot| {
            self.replica(*slot).is_some_and(|replica| replica.leadership().peek().tenure.is_some())
        };
        self.slots().into_iter().find(serves)
    }

    /// Whom a fault hits.
    pub fn find(&self, who: Who) -> Vec<Slot> {
        let slots = self.slots();
        let leader = self.leader().or(slots.first().copied());
        let followers = || slots.iter().copied().filter(|slot| Some(*slot) != leader);
        let many = slots.len() / 2 + 1;
        match who {
            Who::Leader => leader.into_iter().collect(),
            Who::Follower(number) => {
                let followers: Vec<Slot> = followers().collect();
                let at = number as usize % followers.len().max(1);
                followers.get(at).copied().into_iter().collect()
            }
            Who::Majority(true) => leader.into_iter().chain(followers()).take(many).collect(),
            Who::Majority(false) => followers().take(many).collect(),
            Who::All => slots,
        }
    }

    /// Where the last look at a host's committed entries ended, and where its log is.
    pub(in crate::sim) fn seen(&self, slot: Slot) -> Option<(u64, u64, LogStore)> {
        let of = |host: &mut Host| match &host.state {
            State::Up(process) => Some((host.life, host.seen, process.log.clone())),
            _ => None,
        };
        self.host(slot, of).flatten()
    }

    /// Whether no node showed a committed entry of this index before.
    pub(in crate::sim) fn is_news(&self, index: u64) -> bool {
        self.0.looked_at.fetch_max(index, Ordering::Relaxed) < index
    }

    /// Remembers how many snapshots the node of this life has received; returns what it was before.
    pub(in crate::sim) fn set_received(&self, slot: Slot, received: u64) -> u64 {
        let set = |host: &mut Host| std::mem::replace(&mut host.received, received);
        self.host(slot, set).unwrap_or_default()
    }

    /// Remembers where a look ended; returns the index whose state was hashed last.
    pub(in crate::sim) fn set_seen(&self, slot: Slot, seen: u64, hashed: u64) -> Option<u64> {
        self.host(slot, |host| {
            host.seen = seen;
            std::mem::replace(&mut host.hashed, hashed)
        })
    }
}
