//! What can be done with the data of a node that does not run: begin a new incarnation of its
//! cluster with it, and look inside.
//!
//! ```text
//! recover   a data directory ─► survey (snapshot + log) ─┐
//!                                                        ├─► refound ─► a data directory
//! restore   a backup ─► verify ──────────────────────────┘
//! ```
//!
//! A new *incarnation* has a new cluster id and one member under a node id that the old cluster
//! never gave out. Its state is one snapshot that ends with an entry of its own: a configuration of
//! that member alone, one index and one term past everything that was found. So nothing of the old
//! cluster can be mistaken for it, in a handshake or in a log.

mod backup;
mod dump;
mod recover;
mod refound;
mod restore;
mod survey;
#[cfg(test)]
mod tests;

use std::io;

use thiserror::Error;

pub use backup::{BackupHead, BackupReader, BackupWriter};
pub use dump::{
    ChannelInside, CommandInside, ConsumerInside, Content, EntryInside, LogFilter, LogItem,
    PublishInside, Registers, SegmentShown, SnapshotInside, StateInside, StoreInside, dump_log,
    dump_store,
};
pub use recover::{ChannelLeft, Known, Lost, Origin, Recovery, Target, recover};
pub use restore::{Restored, restore};

use crate::storage::StorageError;

/// Why nothing was made of it.
#[derive(Debug, Error)]
pub enum OfflineError {
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// No state can be put together.
    #[error("nothing can be recovered from {dir}: {reason}")]
    Nothing { dir: String, reason: String },
    /// A newer build wrote it.
    #[error("{what}: a newer build wrote it; use that build")]
    Newer { what: String },
    /// The state that was put together does not hold.
    #[error("{0}; nothing was changed")]
    Unsound(String),
    /// The directories cannot be exchanged.
    #[error(
        "the new directory could not be put in the place of the old one: {error}. A mount point \
         cannot be replaced: write to another directory with --into"
    )]
    NotReplaced { error: StorageError },
}

impl From<io::Error> for OfflineError {
    fn from(error: io::Error) -> OfflineError {
        OfflineError::Unsound(error.to_string())
    }
}
