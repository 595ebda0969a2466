//! What is left over of work that failed, or was overtaken: on a full disk its space is needed.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::manifest::Manifest;
use super::store::EventStore;
use crate::storage::error::StorageError;

/// Names the files of some work. When nobody does any more, those that do not count are removed; the
/// commit lock must be free then.
pub(super) struct Scraps {
    store: EventStore,
    names: Mutex<Vec<String>>,
}

impl Scraps {
    /// Those of work that begins now.
    pub fn of(store: &EventStore) -> Arc<Scraps> {
        Arc::new(Scraps { store: store.clone(), names: Mutex::default() })
    }

    /// Where the files are.
    pub fn store(&self) -> &EventStore {
        &self.store
    }

    /// The name of a segment that is about to be written.
    pub fn segment_name(&self) -> String {
        self.note(self.store.next_segment_name())
    }

    /// The name of a snapshot that is about to be written.
    pub fn snapshot_name(&self) -> String {
        self.note(self.store.next_snapshot_name())
    }

    /// How many names were given out.
    pub fn count(&self) -> usize {
        self.names().len()
    }

    /// Removes the files named after the first `kept`, as far as they do not count. The caller holds
    /// the commit lock.
    pub fn discard_after(&self, kept: usize) -> Result<(), StorageError> {
        let names = self.names();
        self.store.sweep(|name| names.iter().skip(kept).any(|scrap| scrap == name))
    }

    fn note(&self, name: String) -> String {
        self.names().push(name.clone());
        name
    }

    fn names(&self) -> MutexGuard<'_, Vec<String>> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Scraps {
    fn drop(&mut self) {
        if self.count() == 0 {
            return;
        }
        let store = &self.store;
        let _commit = store.lock_commit();
        // A manifest that is on the disk although its sync failed may name them.
        let counts = Manifest::read(store.disk()).is_ok_and(|found| {
            let next = found.as_ref().map_or(0, |manifest| manifest.next);
            found == Some(store.state().manifest(next))
        });
        if counts && let Err(error) = self.discard_after(0) {
            tracing::warn!(%error, "files that nobody needs stay until the next start");
        }
    }
}
