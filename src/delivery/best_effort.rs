//! The replicated core with best-effort channels beside it: what concerns their events stays in
//! this node's memory, everything else goes through.

use std::collections::BTreeSet;
use std::future::Future;

use super::cluster::{Changes, Cluster, Done};
use super::facts::World;
use super::transient::Transient;
use crate::machine::{Command, Machine, Reply};
use crate::types::{ChannelId, LaneId, Payload, PayloadKey, ProxyId, Rejection, Stamp, Tenure};

/// What memory asks of the log goes there in this name: that of no session and no proxy.
const SOURCE: u64 = u64::MAX - 1;

/// A cluster whose leader keeps the events of best-effort channels in its memory.
#[derive(Clone)]
pub struct BestEffort<C> {
    cluster: C,
    transient: Transient,
}

impl<C: Cluster> BestEffort<C> {
    /// Nothing in memory yet.
    pub fn new(cluster: C) -> BestEffort<C> {
        BestEffort { cluster, transient: Transient::default() }
    }

    /// What is in memory.
    pub fn transient(&self) -> Transient {
        self.transient.clone()
    }

    fn mirror<T>(&self, facts: &Machine, look: impl FnOnce(Option<&mut Machine>) -> T) -> T {
        self.transient.mirror(facts, || self.moment(), look)
    }

    /// The tenure served, if any, and the time.
    fn moment(&self) -> (Option<Tenure>, Stamp) {
        (self.cluster.tenure(), self.cluster.now())
    }

    /// Has the log get an entry that changes nothing.
    fn lift_ceiling(&self) {
        let own = self.clone();
        let nothing = Command::TrimHistory { channels: Vec::new() };
        self.cluster.submit(SOURCE, nothing, Box::new(move |_| own.see(|_| ())));
    }

    /// Memory knows who holds the proxy before anybody else does.
    fn held(&self, id: ProxyId) {
        self.cluster.read(|facts| {
            self.mirror(facts, |machine| machine.map(|machine| machine.mirror_proxy(facts, id)));
        });
    }

    /// Memory knows the lane before its supplier does; how far it is, memory tells.
    fn lane_opened(&self, id: LaneId, last_sequence: &mut u64) {
        self.cluster.read(|facts| {
            self.mirror(facts, |machine| {
                let Some(machine) = machine else { return };
                let of = |channel| machine.channel(channel).is_some();
                if facts.lane(id).is_some_and(|lane| of(lane.channel())) {
                    machine.mirror_lane(facts, id);
                    *last_sequence = machine.lane(id).map_or(0, |lane| lane.next_sequence() - 1);
                }
            });
        });
    }
}

impl<C: Cluster> Cluster for BestEffort<C> {
    type Changes = AllChanges<C::Changes>;

    fn submit(&self, source: u64, command: Command, done: Done) {
        let command = match self.transient.apply(command, || self.moment()) {
            Ok((reply, short)) => {
                if short {
                    self.lift_ceiling();
                }
                return done(Ok(reply));
            }
            Err(command) => command,
        };
        let held = match &command {
            Command::OpenLane { .. } | Command::CreateProxy { .. } => None,
            Command::Hold { proxy, .. } => Some(*proxy),
            _ => return self.cluster.submit(source, command, done),
        };
        let own = self.clone();
        let done = move |mut outcome: Result<Reply, Rejection>| {
            match &mut outcome {
                Ok(Reply::LaneOpened { lane, last_sequence, .. }) => {
                    own.lane_opened(*lane, last_sequence);
                }
                Ok(Reply::ProxyReady { .. }) => own.see(|_| ()),
                _ => held.into_iter().for_each(|proxy| own.held(proxy)),
            }
            done(outcome);
        };
        self.cluster.submit(source, command, Box::new(done));
    }

    fn is_congested(&self) -> bool {
        self.cluster.is_congested()
    }

    fn read<T>(&self, look: impl FnOnce(&Machine) -> T) -> T {
        self.cluster.read(look)
    }

    fn see<T>(&self, look: impl FnOnce(World<'_>) -> T) -> T {
        self.cluster.read(|facts| self.transient.see(facts, || self.moment(), look))
    }

    fn now(&self) -> Stamp {
        self.cluster.now()
    }

    fn tenure(&self) -> Option<Tenure> {
        self.cluster.tenure()
    }

    fn tenure_after(&self, seen: Option<Tenure>) -> impl Future<Output = Option<Tenure>> + Send {
        self.cluster.tenure_after(seen)
    }

    async fn confirm(&self) -> Result<(), Rejection> {
        self.cluster.confirm().await
    }

    fn not_serving(&self) -> Rejection {
        self.cluster.not_serving()
    }

    fn changes(&self) -> Self::Changes {
        AllChanges { facts: self.cluster.changes(), transient: self.transient.clone() }
    }

    fn cached_payload(&self, key: PayloadKey) -> Option<Payload> {
        match Transient::holds(key) {
            true => self.transient.payload(key),
            false => self.cluster.cached_payload(key),
        }
    }

    async fn payloads(&self, keys: Vec<PayloadKey>) -> Vec<Result<Payload, String>> {
        if keys.iter().any(|key| Transient::holds(*key)) {
            // Those of one delivery are of one channel; what memory had was found before.
            let gone =
                || "it is in memory no more: it was settled or expired meanwhile".to_string();
            return keys.iter().map(|key| self.cached_payload(*key).ok_or_else(gone)).collect();
        }
        self.cluster.payloads(keys).await
    }
}

/// Changes of facts and of what is in memory.
pub struct AllChanges<C> {
    facts: C,
    transient: Transient,
}

impl<C: Changes> Changes for AllChanges<C> {
    async fn next(&mut self) -> Option<BTreeSet<ChannelId>> {
        tokio::select! { biased;
            facts = self.facts.next() => facts,
            changed = self.transient.changed() => Some(changed),
        }
    }
}
