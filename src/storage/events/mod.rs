//! The event store: payloads relocated out of the log, snapshots, and the manifest.
//!
//! ```text
//! events/MANIFEST                     which of the files below count: replaced by one rename
//! events/snap-<node>-<number>         a snapshot: meta, machine, keys it needs from segments
//! events/seg-<node>-<number>          a segment: immutable, events sorted by payload key
//! ```
//!
//! * Files are written and synced before the manifest names them; what it does not name is
//!   garbage, swept at open. So snapshot and segment list become current in one step.
//! * A payload goes only when neither of the two retained snapshots needs it.
//! * Names are unique in the whole cluster, keys of events are the same in all of it: of a snapshot
//!   only those events travel that the receiver does not have.
//! * A damaged event is an error of that event; a damaged snapshot falls back to the one before
//!   while the log still reaches it. Either makes its file a suspect ([`Damage`]) until it is
//!   written anew ([`EventStore::examine`], [`EventStore::heal`]).
//!
//! All calls block. What a snapshot means is the business of consensus and machine.

mod cache;
mod damage;
mod files;
mod keys;
mod manifest;
mod pinned;
pub mod record;
mod repair;
mod salvage;
mod scraps;
mod scrub;
mod segment;
mod snapshot;
mod staging;
mod store;
#[cfg(test)]
mod tests;

mod writer;

pub use damage::Damage;
pub use keys::Keys;
pub use manifest::FileInfo;
pub use pinned::Pinned;
pub use repair::{Lost, Patient, Wounded};
pub use salvage::{Salvaged, SegmentInside, salvage};
pub use scrub::FileCheck;
pub use snapshot::SnapshotInfo;
pub use staging::{Received, Staging};
pub use store::EventStore;
pub use writer::SnapshotWriter;

/// Directory of the event store.
const DIR: &str = "events";
