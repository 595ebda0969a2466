//! Who wants to know which channels have new facts.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::Notify;

use crate::types::ChannelId;

/// A coalesced stream of channels whose facts changed. Bounded by the number of channels, however
/// slowly it is read.
pub struct Changes(Arc<Shared>);

#[derive(Default)]
struct Shared {
    dirty: Mutex<Dirty>,
    wake: Notify,
}

#[derive(Default)]
struct Dirty {
    channels: BTreeSet<ChannelId>,
    closed: bool,
}

impl Changes {
    /// The channels changed since the last call, waiting until there is one. Empty: the replica
    /// has stopped. Cancel-safe.
    pub async fn next(&mut self) -> BTreeSet<ChannelId> {
        loop {
            {
                let mut dirty = self.0.dirty.lock().unwrap_or_else(PoisonError::into_inner);
                if dirty.closed || !dirty.channels.is_empty() {
                    return std::mem::take(&mut dirty.channels);
                }
            }
            self.0.wake.notified().await;
        }
    }
}

/// The writing end.
#[derive(Default)]
pub(super) struct ChangeHub(Mutex<Vec<Weak<Shared>>>);

impl ChangeHub {
    /// A new reader, which sees what is marked from now on.
    pub fn subscribe(&self) -> Changes {
        let shared = Arc::new(Shared::default());
        let mut readers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        readers.retain(|reader| reader.strong_count() > 0);
        readers.push(Arc::downgrade(&shared));
        Changes(shared)
    }

    /// Tells every reader.
    pub fn mark(&self, channels: &BTreeSet<ChannelId>) {
        if !channels.is_empty() {
            self.tell(|dirty| dirty.channels.extend(channels));
        }
    }

    /// Ends every reader.
    pub fn close(&self) {
        self.tell(|dirty| dirty.closed = true);
    }

    fn tell(&self, change: impl Fn(&mut Dirty)) {
        let readers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for reader in readers.iter().filter_map(Weak::upgrade) {
            change(&mut reader.dirty.lock().unwrap_or_else(PoisonError::into_inner));
            reader.wake.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn changes_coalesce_until_they_are_read() {
        let hub = ChangeHub::default();
        let mut changes = hub.subscribe();
        for channel in [3, 1, 3] {
            hub.mark(&BTreeSet::from([ChannelId(channel)]));
        }
        assert_eq!(changes.next().await, BTreeSet::from([ChannelId(1), ChannelId(3)]));
        hub.mark(&BTreeSet::from([ChannelId(2)]));
        assert_eq!(changes.next().await, BTreeSet::from([ChannelId(2)]));
        hub.close();
        assert!(changes.next().await.is_empty());
    }
}
