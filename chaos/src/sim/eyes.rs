//! Looks at the cluster as an administrator would, without the admin service.

use std::time::Duration;

use aqueduct::machine::{Channel, Machine, Proxy};
use aqueduct::types::{Outcome as Ending, Rejection};
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
        let Some(replica) = self.leader().and_then(|leader| self.replica(leader)) else {
            return Outcome::Fail("no_leader".into());
        };
        let read = tokio::select! { biased;
            read = replica.linearize() => read,
            () = SimRuntime::sleep(ANSWER_MAX) => return Outcome::Unknown("no answer".into()),
        };
        if let Err(error) = read {
            return Outcome::Fail(Rejection::from(error).code.to_string());
        }
        let status = replica.status();
        Outcome::Ok(ClusterView {
            answered_by: replica.me().0,
            linearizable: true,
            leader: status.leader.map(|leader| leader.0),
            term: status.term,
            channels: replica.read(channels),
        })
    }

    /// The world looks at nodes itself, and more closely.
    async fn look(&self, _node: u64) -> Vec<What> {
        Vec::new()
    }
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
