//! What sessions and delivery need of the replicated core: `consensus::Replica` in the product, a
//! machine without a cluster around it in tests.

use std::collections::BTreeSet;
use std::future::Future;

use super::facts::World;
use crate::machine::{Command, Machine, Reply};
use crate::types::{ChannelId, Payload, PayloadKey, Rejection, Stamp, Tenure};

/// Told how a command ended: applied, or why it was not or may not have been. Must be quick.
pub type Done = Box<dyn FnOnce(Result<Reply, Rejection>) + Send>;

/// The replicated core as seen from one node.
pub trait Cluster: Clone + Send + Sync + 'static {
    type Changes: Changes;

    /// Queues a command; `done` may be told before this returns. Commands of one source keep their
    /// order, and sources get fair shares.
    fn submit(&self, source: u64, command: Command, done: Done);

    /// Whether so much is queued that nobody should be asked for more.
    fn is_congested(&self) -> bool;

    /// Looks at the machine. Must be short: it holds up apply.
    fn read<T>(&self, look: impl FnOnce(&Machine) -> T) -> T;

    /// Looks at the machine, and at what this leader keeps beside it. As short.
    fn see<T>(&self, look: impl FnOnce(World<'_>) -> T) -> T {
        self.read(|facts| look(World::of_facts(facts)))
    }

    /// Replicated time, as the leader would stamp it now.
    fn now(&self) -> Stamp;

    /// The tenure this node serves, if it does.
    fn tenure(&self) -> Option<Tenure>;

    /// Waits until the tenure served is another than `seen`, and returns it. `None` also when the
    /// node stops.
    fn tenure_after(&self, seen: Option<Tenure>) -> impl Future<Output = Option<Tenure>> + Send;

    /// Makes sure, by asking a majority, that this node leads and knows everything that was
    /// acknowledged anywhere before the call. A leader that was replaced without hearing of it
    /// still believes for a moment that it serves; this tells it.
    fn confirm(&self) -> impl Future<Output = Result<(), Rejection>> + Send;

    /// Why this node does not serve, and who might.
    fn not_serving(&self) -> Rejection;

    /// Channels whose facts change from now on.
    fn changes(&self) -> Self::Changes;

    /// A payload that is in memory.
    fn cached_payload(&self, key: PayloadKey) -> Option<Payload>;

    /// Payloads from wherever they lie, in the order of the keys; an error says why one cannot be
    /// read.
    fn payloads(
        &self,
        keys: Vec<PayloadKey>,
    ) -> impl Future<Output = Vec<Result<Payload, String>>> + Send;
}

/// A coalesced stream of changed channels.
pub trait Changes: Send + 'static {
    /// The channels changed since the last call; waits for some. `None`: no more will come.
    /// Cancel-safe.
    fn next(&mut self) -> impl Future<Output = Option<BTreeSet<ChannelId>>> + Send;
}
