//! Observers: what the cluster says of itself, and what each node does.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use aqueduct::env::Runtime;
use aqueduct::transport::Net;

use super::actor::{Actor, Course};
use crate::history::{ClusterView, Outcome, Recorder, What};

/// How nodes are looked at: over the admin service on real nodes, directly in the simulation.
/// Every answer comes in bounded time.
pub trait Eyes: Send + Sync + 'static {
    /// The nodes to look at now: those that are there, and those that should be.
    fn nodes(&self) -> Vec<u64>;

    /// A linearizable status, asked through this node.
    fn status(&self, via: u64) -> impl Future<Output = Outcome<ClusterView>> + Send;

    /// What the node shows of itself: [`What::Node`] or [`What::NodeDown`], and [`What::Usage`] if
    /// that is known.
    fn look(&self, node: u64) -> impl Future<Output = Vec<What>> + Send;
}

/// Asks for a linearizable status through a node, on the record.
pub async fn ask(
    eyes: &impl Eyes,
    recorder: &dyn Recorder,
    by: &str,
    asks: &AtomicU64,
    via: u64,
) -> Option<ClusterView> {
    let ask = asks.fetch_add(1, Ordering::Relaxed) + 1;
    recorder.record(by, What::AskStatus { ask, via });
    let outcome = eyes.status(via).await;
    let view = match &outcome {
        Outcome::Ok(view) => Some(view.clone()),
        _ => None,
    };
    recorder.record(by, What::Status { ask, outcome });
    view
}

/// Asks for linearizable statuses, through one node after the other.
pub struct Asker<N, E, Y> {
    pub actor: Actor<N, E>,
    pub eyes: Arc<Y>,
    pub asks: Arc<AtomicU64>,
    pub every: Duration,
}

impl<N: Net, E: Runtime, Y: Eyes> Asker<N, E, Y> {
    /// Asks until the load stops.
    pub async fn run(self) {
        let recorder = self.actor.world.recorder.clone();
        for turn in 0.. {
            if !self.actor.pause(self.every, Course::Stop).await {
                return;
            }
            let nodes = self.eyes.nodes();
            let Some(&via) = nodes.get(turn % nodes.len().max(1)) else { continue };
            ask(&*self.eyes, &*recorder, &self.actor.by, &self.asks, via).await;
        }
    }
}

/// Looks at one node.
pub struct Looker<N, E, Y> {
    pub actor: Actor<N, E>,
    pub eyes: Arc<Y>,
    pub every: Duration,
    pub node: u64,
}

impl<N: Net, E: Runtime, Y: Eyes> Looker<N, E, Y> {
    /// Looks until the load stops.
    pub async fn run(self) {
        while self.actor.pause(self.every, Course::Stop).await {
            if !self.eyes.nodes().contains(&self.node) {
                continue;
            }
            for what in self.eyes.look(self.node).await {
                self.actor.record(what);
            }
        }
    }
}
