//! What a node keeps on its disk, and what it makes of it after a crash or damage.
//!
//! ```text
//! LOCK                  advisory lock: one node per directory
//! identity.{a,b}        registers (two checksummed slots each): whose directory this is,
//! vote.{a,b}            the Raft vote,
//! floor.{a,b}           the last log entry purged,
//! mark.{a,b}            how far the log was durable (high-water mark)
//! ballast               nothing: space to be given up when there is no other
//! log/                  the Raft log: sled databases (plain files in a simulation)
//! events/               event store: segments, snapshots, manifest
//! ```
//!
//! Invariants
//! * What was acknowledged is there after a crash; what was not may be, or not.
//! * Damage is harmless, repaired, or named; it never changes an answer. Damage to something
//!   acknowledged that cannot be repaired is [`Opened::Quarantined`]: no log is handed out, so the
//!   node can neither vote nor serve, and the files stay as they are for whoever investigates.
//!   (sled itself may cut a damaged database when it opens it; the mark keeps that visible.)
//! * One thread writes the log; everything else here blocks its caller.
//!
//! Exposure: the mark is raised at most 100 ms after the log's sync. Damage to the very last
//! entries, acknowledged later than that before a crash, looks like an unfinished write.
//!
//! Left out: asking peers (what is lost is named, and taken from whoever asks), the pace of a scrub,
//! and the meaning of any bytes.

mod ballast;
mod clearing;
mod error;
pub mod events;
mod fault;
mod fresh;
mod hold;
mod identity;
pub mod log;
mod look;
mod open;
pub mod register;
mod registers;
mod site;
#[cfg(test)]
mod tests;

pub use ballast::{BALLAST, Ballast};
pub use clearing::{clear, finish_clearing};
pub use error::StorageError;
pub use events::{
    Damage, EventStore, FileInfo, Keys, Patient, Pinned, Received, Salvaged, SegmentInside,
    SnapshotInfo, SnapshotWriter, Staging, Wounded,
};
pub use fresh::Fresh;
pub use hold::Released;
pub use identity::Identity;
pub use log::{Done, Drive, Entry, LogState, LogStore, Mark, Piece};
pub use look::{Look, Register as RegisterLook};
pub use open::{Opened, Options, Owner, Storage, is_in_use, open, open_on, peek};
pub use registers::Registers;
pub use site::Site;
