//! What can go wrong with the disk, by what the caller must do about it.

use std::io;
use std::sync::Arc;

use thiserror::Error;

use crate::types::{ClusterId, NodeId, PayloadKey};

/// Why storage refused or failed. Cheap to clone: a failure is told to everybody who waits.
#[derive(Debug, Clone, Error)]
pub enum StorageError {
    /// The operating system refused. Nothing written afterwards is acknowledged.
    #[error("{what} failed: {error}; check the path, its permissions and the disk")]
    Io { what: String, error: Arc<io::Error> },
    /// The disk has no room. Sticky like every failure of the log: the node's life ends, and another
    /// one begins when there is.
    #[error("{what} failed: the disk is full; free some space")]
    Full { what: String },
    /// Bytes on disk are not what was written.
    #[error("{what} is damaged: {detail}")]
    Corrupt { what: String, detail: String },
    /// The payload of one event is damaged; a peer may have it intact.
    #[error("payload {key} is damaged on disk: {detail}; fetch it from a peer")]
    CorruptEvent { key: PayloadKey, detail: String },
    /// Another process works on the directory.
    #[error("{dir} is in use by another node; stop it, or choose another directory")]
    Locked { dir: String },
    /// The directory belongs to somebody else.
    #[error(
        "{dir} belongs to node {found_node} of cluster {found_cluster}, not to node {node} of \
         cluster {cluster}; choose another directory"
    )]
    Foreign {
        dir: String,
        found_cluster: ClusterId,
        found_node: NodeId,
        cluster: ClusterId,
        node: NodeId,
    },
    /// A newer build wrote it. No damage: nothing may be taken away because of it.
    #[error(
        "{what} has format {found}, this build reads up to {known}: a newer build wrote it; use \
         that build, or a newer one"
    )]
    NewerFormat { what: String, found: u32, known: u32 },
    /// A build wrote it whose formats are no longer read.
    #[error(
        "{dir} has format {found}, this build reads {known} only; start with the build that wrote \
         it, or with an empty directory"
    )]
    OlderFormat { dir: String, found: u32, known: u32 },
    /// There is no node in the directory and none was to be created.
    #[error(
        "{dir} holds no node: name the data directory of one, or bootstrap a cluster or join one"
    )]
    Empty { dir: String },
    /// Something is already where a new directory is to be.
    #[error("{dir} is not empty; name a directory that does not exist yet")]
    Occupied { dir: String },
    /// The log does not hold these entries (purged, or never written).
    #[error("log entries from {from} are not in the log, which holds {first}..={last}")]
    Absent { from: u64, first: u64, last: u64 },
    /// Appended entries do not continue the log: a fault of the caller.
    #[error("entry {found} does not continue the log, which expects {expected}")]
    Hole { expected: u64, found: u64 },
    /// A limit of the formats is exceeded: a fault of the caller.
    #[error("{what} has {bytes} bytes, at most {max} are possible")]
    TooLarge { what: String, bytes: usize, max: usize },
    /// A file offered by a peer is not one that was announced.
    #[error("file {0} is not part of this transfer")]
    UnknownFile(String),
    /// The log was closed.
    #[error("the log is closed")]
    Closed,
}

impl StorageError {
    /// An operating-system error while doing `what`.
    pub fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> StorageError {
        let what = what.into();
        move |error| match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                StorageError::Full { what }
            }
            _ => StorageError::Io { what, error: Arc::new(error) },
        }
    }

    /// A sync that failed while doing `what`, whyever: the kernel may have dropped what it could not
    /// write, so that there is no going on from here even if all that it lacked was room.
    pub fn sync(what: impl Into<String>) -> impl FnOnce(io::Error) -> StorageError {
        let what = what.into();
        move |error| StorageError::Io { what, error: Arc::new(error) }
    }

    /// A format that this build does not know.
    pub fn newer(what: impl Into<String>, found: u32, known: u32) -> StorageError {
        StorageError::NewerFormat { what: what.into(), found, known }
    }

    /// Damage found in `what`.
    pub fn corrupt(what: impl Into<String>, detail: impl Into<String>) -> StorageError {
        StorageError::Corrupt { what: what.into(), detail: detail.into() }
    }

    /// Whether all that is wrong is that there is no room.
    pub fn is_full(&self) -> bool {
        matches!(self, StorageError::Full { .. })
    }

    /// Finds an error of storage in one of the operating system that was made of it.
    pub fn within(error: &io::Error) -> Option<&StorageError> {
        error.get_ref().and_then(|inner| inner.downcast_ref())
    }

    /// Whether the bytes on disk are to blame.
    pub fn is_corruption(&self) -> bool {
        matches!(self, StorageError::Corrupt { .. } | StorageError::CorruptEvent { .. })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn want_of_room_is_told_from_a_failed_sync() {
        let full = || io::Error::from(io::ErrorKind::StorageFull);
        let quota = io::Error::from(io::ErrorKind::QuotaExceeded);
        assert!(StorageError::io("a")(full()).is_full() && StorageError::io("a")(quota).is_full());
        assert!(!StorageError::sync("a")(full()).is_full());
        assert!(!StorageError::io("a")(io::Error::from_raw_os_error(5)).is_full());
        let wrapped = io::Error::other(StorageError::io("a")(full()));
        assert!(StorageError::within(&wrapped).is_some_and(StorageError::is_full));
        assert!(StorageError::within(&full()).is_none());
    }
}
