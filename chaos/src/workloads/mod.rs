//! Suppliers, consumers and observers that record what they do, on any network and runtime.
//!
//! ```text
//! Load (plain data) ─► start ─► Running ─► quiet ─► drain ─► stop
//!                        │
//!                        ├─ Supplier   publishes on a lane, crashes, repeats what had no answer
//!                        ├─ Member     one client of a durable consumer: acks, nacks, holds, vanishes
//!                        ├─ Listener   an ephemeral consumer
//!                        ├─ Observer   asks for status, through Eyes
//!                        ├─ Operator   changes, suspends and resumes consumers, through Hands
//!                        └─ dead letters, read when all is settled
//! ```
//!
//! Used by the simulation and on real processes alike, so there is nothing of tokio's runtime here:
//! tasks, time and randomness come from the product's [`Runtime`], sockets from its [`Net`], and
//! what is drawn is drawn from a seed. Every wait ends when the load is told to stop.
//!
//! What the records promise beyond [`crate::history`]:
//! - `Publish` comes before the client has the event, and each `Publish` has one `Published`, in
//!   lane order. An event repeated on its lane has one pair per attempt, with the same lane and
//!   number; what had no answer when a supplier crashed is unknown.
//! - Numbers of a named lane stand for one event for ever: a refused event's number is only ever
//!   used again for that event. `Fail` is said only if no attempt can have been accepted.
//! - `lane` of `Publish` is the number that `Delivered` has, in decimal; see [`lane_number`].
//! - `Settle` comes before the client has the verdicts; `Settled` is `Ok` only once they are all
//!   confirmed, which includes those that came too late.

mod actor;
mod consumer;
mod dead_letters;
mod listener;
mod load;
mod notebook;
mod observer;
mod operator;
mod pacer;
mod running;
mod supplier;
mod tap;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use aqueduct::client::{Client, Options};
use aqueduct::env::Runtime;
use aqueduct::transport::Net;
use aqueduct::types::{LaneId, Rejection};

pub use load::{
    Behaviour, ConsumerSpec, LaneKind, ListenerSpec, Load, Mode, OperatorSpec, Patience, Span,
    SupplierSpec, Wants,
};
pub use observer::{Eyes, ask};
pub use operator::{Hands, changes, draw_beginning};
pub use running::Running;

use crate::history::Recorder;

/// Where a load runs.
pub struct World<N, E> {
    /// The network as the client of this name sees it.
    pub net: Arc<dyn Fn(&str) -> N + Send + Sync>,
    pub env: E,
    /// Client addresses (`host:port`) of the nodes; a client tries them in turn.
    pub servers: Vec<String>,
    /// The cluster's client token; empty: none.
    pub token: String,
    pub recorder: Arc<dyn Recorder>,
}

impl<N, E: Clone> Clone for World<N, E> {
    fn clone(&self) -> Self {
        World {
            net: self.net.clone(),
            env: self.env.clone(),
            servers: self.servers.clone(),
            token: self.token.clone(),
            recorder: self.recorder.clone(),
        }
    }
}

impl<N: Net, E: Runtime> World<N, E> {
    /// A new client called `by`.
    async fn client(&self, by: &str, patience: &Patience) -> Result<Client, Rejection> {
        let options = Options {
            connect_timeout: Duration::from_millis(patience.connect_ms),
            ping_after: Duration::from_millis(patience.ping_ms),
            silence_timeout: Duration::from_millis(patience.silence_ms),
            ..Options::new(self.servers.clone()).name(by).token(self.token.clone())
        };
        Client::connect_with((self.net)(by), self.env.clone(), options).await
    }
}

/// A lane's id as one number, as histories have it: log index, then the place in the entry.
pub fn lane_number(lane: LaneId) -> u64 {
    // An entry has at most 4096 commands.
    lane.index << 12 | u64::from(lane.position)
}
