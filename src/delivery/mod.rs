//! Drives dispatch on the leader: one task per node that turns what sessions ask and what the
//! machine knows into deliveries, settlements and confirmations.
//!
//! ```text
//! sessions ─► Handle ─► requests ─┐                  ┌─► outbox of each session
//! changed channels, tenure, time ─┼─► Driver ─► outputs
//! replies of settlements ─────────┘                  └─► Settle, CountAttempts (replicated)
//! ```
//!
//! [`Driver`] is sans-I/O: inputs in, outputs out, with the machine's facts read through
//! [`World`]. The task around it takes everything that waits, then polls once: while a round
//! is under way the next one fills, so settlements of many acks become one command.
//!
//! Invariants:
//! - It is active only in a tenure this node serves. Everything it knows is dropped with the
//!   tenure; late replies of an earlier one are ignored.
//! - It never waits for a session or a payload: it hands heads to outboxes, which grow within the
//!   consumers' credit.
//! - Each settlement that a session passed on is confirmed once the log said what became of it, or
//!   refused with the reason; unless the session ends first. While the log has no room it waits.
//! - What happens to the events of best-effort channels happens in this node's memory alone
//!   ([`BestEffort`]): the same machine, beside the replicated one, for as long as the tenure lasts.
//! - It decides nothing about order, leases or retries: `dispatch` does.
//!
//! Left out: payloads and frames (`session` loads and writes them).

mod best_effort;
mod cluster;
mod confirmations;
mod driver;
mod facts;
mod handle;
mod outbox;
mod replicated;
mod request;
mod sweep;
mod task;
mod transient;

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

pub use best_effort::BestEffort;
pub use cluster::{Changes, Cluster, Done};
pub use driver::{Driver, Output};
pub use facts::World;
pub use handle::{Connection, Handle, ProxyStats, Stats};
pub use outbox::{Heads, Outbox, Outgoing};
pub use request::{ConsumerId, Request, SessionId};
pub use task::start;
pub use transient::Transient;
