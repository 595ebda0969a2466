//! A data directory that begins with a snapshot: that of a new incarnation of a cluster.
//!
//! The identity is written last, so what a crash leaves of it is no node's directory.

use std::sync::Arc;

use super::error::StorageError;
use super::events::EventStore;
use super::identity::{Identity, IdentityRegister};
use super::log::Registers;
use super::open::Owner;
use super::register::Register;
use crate::env::disk::Disk;
use crate::types::NodeId;

/// A directory in the making.
pub struct Fresh {
    disk: Arc<dyn Disk>,
    /// Where the snapshot goes, with the payloads it needs.
    pub events: EventStore,
}

impl Fresh {
    /// Begins on an empty disk.
    pub fn begin(disk: Arc<dyn Disk>) -> Result<Fresh, StorageError> {
        EventStore::create(&*disk)?;
        // No node has this id, so the names of its files are nobody's.
        let events = EventStore::open(disk.clone(), NodeId(0), None)?;
        Ok(Fresh { disk, events })
    }

    /// Makes it a directory that a node can be started on: its log is empty and continues after the
    /// current snapshot, which there must be. Durable on return.
    pub fn finish(self, owner: Owner, vote: &[u8]) -> Result<Identity, StorageError> {
        let snapshot = self.events.current();
        let last =
            snapshot.ok_or_else(|| StorageError::corrupt("a new directory", "no snapshot"))?;
        self.disk.make_dir("log").map_err(StorageError::io("creating the log directory"))?;
        let open = |path| Register::open(self.disk.clone(), path);
        let mut registers =
            Registers { vote: open("vote")?, floor: open("floor")?, mark: open("mark")? };
        registers.vote.write_both(vote)?;
        registers.write_floor(Some(last.last))?;
        registers.set_mark(0)?;
        let Owner { cluster, node } = owner;
        let identity = Identity { cluster, node, incarnation: 0 };
        IdentityRegister::open(self.disk.clone(), "a new directory")?.write(identity)?;
        Ok(identity)
    }
}
