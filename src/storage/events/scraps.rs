//! What is left over of work that failed, or was overtaken: on a full disk its space is needed.

use super::manifest::Manifest;
use super::store::EventStore;

/// Dropped, it removes the files written since that do not count. The commit lock must be free then.
pub(super) struct Scraps {
    store: EventStore,
    first: u64,
}

impl Scraps {
    /// Those of work that begins now.
    pub fn of(store: &EventStore) -> Scraps {
        Scraps { store: store.clone(), first: store.next_number() }
    }
}

impl Drop for Scraps {
    fn drop(&mut self) {
        let store = &self.store;
        if store.next_number() == self.first {
            return;
        }
        let _commit = store.lock_commit();
        // A manifest that is on the disk although its sync failed may name them.
        let counts = Manifest::read(store.disk()).is_ok_and(|found| {
            let next = found.as_ref().map_or(0, |manifest| manifest.next);
            found == Some(store.state().manifest(next))
        });
        if counts && let Err(error) = store.discard(self.first) {
            tracing::warn!(%error, "files that nobody needs stay until the next start");
        }
    }
}
