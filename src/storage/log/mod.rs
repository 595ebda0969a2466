//! The Raft log: one ordered writer, group commit, and a tail in memory.
//!
//! ```text
//! append ─► tail (readable at once) ─► queue ─► Writer: pack, write, sync ─► callbacks, in order
//! vote, truncate, purge ──────────────┘              │
//!                                                 Medium: sled databases, or plain files
//! ```
//!
//! * All changes go through one queue and one writer; nothing overtakes.
//! * A callback with `Ok` means durable. After the first failure every operation fails, and a
//!   failed sync is never tried again: the kernel may have dropped the pages.
//! * The high-water mark is raised only after a sync and lowered, durably, before a truncation.
//!   A log found shorter than its mark has lost acknowledged entries: quarantine.
//! * The purge floor (with term) is durable before anything below it goes.
//!
//! Entries are opaque here; what they mean is the business of consensus.

use std::ops::Range;

use bytes::Bytes;

use super::error::StorageError;
use crate::types::EntryId;

mod database;
mod files;
mod look;
mod medium;
mod record;
mod recovery;
mod sled;
mod store;
mod tail;
#[cfg(test)]
mod tests;
mod writer;

pub use look::Piece;
pub use store::{Drive, LogStore};
pub use writer::Mark;

pub(super) use files::FileMedium;
pub(super) use look::LogLook;
pub(super) use medium::Medium;
pub(super) use recovery::{Recovered, recover};
pub(super) use sled::{SledMedium, SledOptions};
pub(super) use writer::{Registers, read_floor, read_mark};

/// One entry of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub id: EntryId,
    /// What sort of entry, for whoever reads it.
    pub kind: u8,
    pub body: Bytes,
}

/// Called once, in the order of the operations, on the writer's thread: must not block.
pub type Done = Box<dyn FnOnce(Result<(), StorageError>) + Send>;

/// The bounds of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogState {
    /// The last entry purged.
    pub purged: Option<EntryId>,
    /// The last entry, or the last one purged if there is none after it.
    pub last: Option<EntryId>,
}

fn absent(range: &Range<u64>, first: u64, last: Option<u64>) -> StorageError {
    StorageError::Absent { from: range.start, first, last: last.unwrap_or(0) }
}
