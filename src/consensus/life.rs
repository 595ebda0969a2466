//! Which life of a peer's process its connections have met.

use std::sync::Arc;

use crate::env::{Publisher, Watch, watch};

/// What the connections to one peer know together: as soon as one of them meets another life of
/// its process, the others speak to nobody, however patiently they wait. A host that lost its power
/// closes no connection. Cheap to clone; clones share it.
#[derive(Clone)]
pub(super) struct Life {
    /// The incarnation met last; 0: none so far.
    met: Arc<Publisher<u64>>,
    seen: Watch<u64>,
}

impl Life {
    pub fn new() -> Life {
        let (met, seen) = watch(0);
        Life { met: Arc::new(met), seen }
    }

    /// A connection was welcomed by this life.
    pub fn meet(&self, incarnation: u64) {
        self.met.set(incarnation);
    }

    /// Completes when a connection has met another life than this one.
    pub async fn ended(&self, incarnation: u64) {
        let mut seen = self.seen.clone();
        // The writer lives as long as this.
        let _ = seen.wait_for(|met| *met != incarnation).await;
    }
}
