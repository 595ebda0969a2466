//! A snapshot to be carried off: everything that was acknowledged before it was asked for.

use std::time::Duration;

use crate::machine::Machine;
use crate::storage::Pinned;

use super::config::RaftRuntime;
use super::error::ProposeError;
use super::replica::Replica;

/// How often it is looked whether the snapshot is there.
const LOOK_EVERY: Duration = Duration::from_millis(50);

impl<E: RaftRuntime> Replica<E> {
    /// The newest snapshot here once it covers the entry at `index`, pinned: its files stay while
    /// they are carried off. One is built if need be. Goes on until it is there; whoever asks gives
    /// up.
    pub async fn snapshot_from(&self, index: u64) -> Result<Pinned, ProposeError> {
        let store = self.facts().payloads.store.clone();
        let pinned = async {
            loop {
                if store.current().is_some_and(|current| current.last.index >= index)
                    && let Some(pinned) = store.pin()
                {
                    return Ok(pinned);
                }
                // One that is being built is not disturbed.
                if self.read(Machine::applied) >= index
                    && self.raft().trigger().snapshot().await.is_err()
                {
                    return Err(ProposeError::ShuttingDown);
                }
                self.env().sleep(LOOK_EVERY).await;
            }
        };
        tokio::select! { biased;
            () = self.stopped() => Err(ProposeError::ShuttingDown),
            pinned = pinned => pinned,
        }
    }
}
