//! One machine on many nodes: what is acknowledged is on a majority's disks.
//!
//! The only place that knows openraft.
//!
//! ```text
//! submit ─► Proposer (intake, batches) ─► openraft ─► RaftLog ─► disk
//!                                           │  ▲
//!                              Peers (links)│  │serve_peer
//!                                           ▼  │
//! replies ◄─ StateMachine ◄──────────── committed entries      Office: tenure, leadership
//!             │ machine, payload cache, changes, audits          compaction: snapshot, purge
//! ```
//!
//! Invariants
//! - *Tenure.* A node serves only in a tenure that it began and applied; it is withdrawn at once
//!   when leadership, or the majority behind it, is lost ([`Leadership`]).
//! - *One answer per command*: applied, definitely refused, or unknown ([`ProposeError`]).
//! - *Apply never destroys* and never waits for the disk; the log is purged only up to the older
//!   of two retained snapshots, and every event still needed was relocated before.
//! - *Entries are encoded once*: the same bytes on disk, on the wire and in the payload cache.
//! - *Ids are never reused*: the next one follows from the configurations in the log.
//! - Nothing here uses a runtime, socket or disk directly: [`RaftRuntime`] ties ours and
//!   openraft's view of a runtime together, streams come from a `Net`.
//!
//! Left out: reads from a leader's lease (never trusted; [`Replica::linearize`] asks a majority).

mod addresses;
mod appending;
mod backup;
mod changes;
mod clock;
mod compaction;
mod config;
mod dial;
mod entry;
mod error;
mod evidence;
mod facts;
mod held;
mod leadership;
mod life;
mod link;
mod log_store;
mod marks;
mod member;
mod membership;
mod network;
pub mod offline;
mod order;
mod payloads;
mod proposer;
mod raft;
mod reception;
mod repair;
mod replica;
mod responder;
mod room;
mod route;
mod rpc;
mod scrub;
mod serve;
mod snapshot;
mod state_machine;
mod steward;
#[cfg(test)]
mod tests;
mod transfer;

pub use changes::Changes;
pub use config::{RaftRuntime, Timing};
pub use error::{MembershipError, ProposeError, StartError};
pub use facts::Audit;
pub use member::{Leadership, Member, MemberInfo, ReplicaStatus, Role, SnapshotCounts};
pub use payloads::PayloadError;
pub use proposer::Done;
pub use replica::{Options, Replica, start};
pub use room::Room;
pub use route::{LEADER_WAIT, Route, route};
pub use scrub::Pace;
pub use serve::{PeerError, serve_peer};
pub use steward::SpaceOptions;
