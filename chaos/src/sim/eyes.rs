//! Looks at the cluster as an administrator would, without the admin service.

use std::collections::BTreeMap;
use std::time::Duration;

use aqueduct::machine::{Channel, Machine, Proxy};
use aqueduct::types::{Outcome as Ending, ProxyId, Rejection};
use openraft_rt::AsyncRuntime;
use openraft_rt_sim::SimRuntime;

use super::world::World;
use crate::history::{ChannelView, ClusterView, Outcome, ProxyView, What};
use crate::workloads::Eyes;

/// How long an answer may take.
const ANSWER_MAX: Duration = Duration::from_secs(3);

impl Eyes for World {
    fn nodes(&self) -> Vec<u64> {
        self.slots()
    }

    /// As the leader answers it, whoever is asked: passing on is the business of administration.
    async fn status(&self, _via: u64) -> Outcome<ClusterView> {
        let serving = self.leader().and_then(|leader| Some((leader, self.replica(leader)?)));
        let Some((leader, replica)) = serving else { return Outcome::Fail("no_leader".into()) };
        let read = tokio::select! { biased;
            read = replica.linearize() => read,
            () = SimRuntime::sleep(ANSWER_MAX) => return Outcome::Unknown("no answer".into()),
        };
        if let Err(error) = read {
            return Outcome::Fail(Rejection::from(error).code.to_string());
        }
        let status = replica.status();
        let (mut channels, ids) = replica.read(|machine| (channels(machine), proxies(machine)));
        let stats = self.deliveries(leader, ids.values().copied().collect()).await;
        for channel in &mut channels {
            for proxy in &mut channel.proxies {
                let id = ids.get(&(channel.name.clone(), proxy.name.clone()));
                proxy.in_flight =
                    id.and_then(|id| stats.get(id)).map_or(0, |stats| stats.in_flight);
            }
        }
        Outcome::Ok(ClusterView {
            answered_by: replica.me().0,
            linearizable: true,
            leader: status.leader.map(|leader| leader.0),
            term: status.term,
            channels,
        })
    }

    /// The world looks at nodes itself, and more closely.
    async fn look(&self, _node: u64) -> Vec<What> {
        Vec::new()
    }
}

fn proxies(machine: &Machine) -> BTreeMap<(String, String), ProxyId> {
    let of = |channel: &Channel| {
        let name = channel.name().to_string();
        let named = |proxy: &Proxy| ((name.clone(), proxy.name().to_string()), proxy.id());
        machine.proxies(channel.id()).map(named).collect::<Vec<_>>()
    };
    machine.channels().flat_map(of).collect()
}

fn channels(machine: &Machine) -> Vec<ChannelView> {
    machine.channels().map(|channel| view(machine, channel)).collect()
}

fn view(machine: &Machine, channel: &Channel) -> ChannelView {
    ChannelView {
        name: channel.name().to_string(),
        accepted: channel.accepted(),
        last_seq: channel.next_seq().saturating_sub(1),
        retained: channel.retained().events,
        proxies: machine.proxies(channel.id()).map(|proxy| ledger(machine, proxy)).collect(),
    }
}

fn ledger(machine: &Machine, proxy: &Proxy) -> ProxyView {
    let ended = |ending| proxy.counts().get(ending);
    ProxyView {
        name: proxy.name().to_string(),
        offered: machine.offered(proxy),
        acked: ended(Ending::Acked),
        filtered: ended(Ending::Filtered),
        expired: ended(Ending::Expired),
        discarded: ended(Ending::Discarded),
        dead_lettered: ended(Ending::DeadLettered),
        skipped: ended(Ending::Skipped),
        pending: machine.pending(proxy),
        in_flight: 0,
    }
}
