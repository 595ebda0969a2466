//! Free disk space: below the floor publishes are refused, so that settlements, snapshots and the
//! purge of the log, which make room, still find some.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tracing::{info, warn};

use crate::delivery::{Cluster, Done};
use crate::env::disk::Disk;
use crate::env::{Runtime, TokioRuntime};
use crate::machine::{Command, Machine};
use crate::types::{Code, Payload, PayloadKey, Rejection, Stamp, Tenure};

/// How often the disk is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Whether there is room.
#[derive(Debug, Clone, Default)]
pub struct Space(Arc<AtomicBool>);

impl Space {
    /// Whether publishes are refused now.
    pub fn is_short(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Looks at `disk` until dropped.
    pub async fn watch(self, disk: Arc<dyn Disk>, floor: u64, env: TokioRuntime) {
        loop {
            let asked = disk.clone();
            if let Some(Ok(free)) = env.blocking(move || asked.free_bytes()).await {
                self.set(free, floor);
            }
            env.sleep(LOOK_EVERY).await;
        }
    }

    fn set(&self, free: u64, floor: u64) {
        let short = free < floor;
        if self.0.swap(short, Ordering::Relaxed) == short {
            return;
        }
        if short {
            warn!(free, floor, "the disk is nearly full: publishes are refused");
        } else {
            info!(free, floor, "the disk has room again: publishes are accepted");
        }
    }
}

/// A cluster that takes no publishes while the disk is short of room.
#[derive(Clone)]
pub struct Spacious<C> {
    pub cluster: C,
    pub space: Space,
}

impl<C: Cluster> Cluster for Spacious<C> {
    type Changes = C::Changes;

    fn submit(&self, source: u64, command: Command, done: Done) {
        if matches!(command, Command::Publish(_)) && self.space.is_short() {
            return done(Err(Rejection::new(Code::StorageFailed, "the disk is nearly full")
                .hint("consume what is pending, or free disk space on the node; then try again")));
        }
        self.cluster.submit(source, command, done);
    }

    fn read<T>(&self, look: impl FnOnce(&Machine) -> T) -> T {
        self.cluster.read(look)
    }

    fn now(&self) -> Stamp {
        self.cluster.now()
    }

    fn tenure(&self) -> Option<Tenure> {
        self.cluster.tenure()
    }

    fn tenure_after(&self, seen: Option<Tenure>) -> impl Future<Output = Option<Tenure>> + Send {
        self.cluster.tenure_after(seen)
    }

    fn confirm(&self) -> impl Future<Output = Result<(), Rejection>> + Send {
        self.cluster.confirm()
    }

    fn not_serving(&self) -> Rejection {
        self.cluster.not_serving()
    }

    fn changes(&self) -> C::Changes {
        self.cluster.changes()
    }

    fn cached_payload(&self, key: PayloadKey) -> Option<Payload> {
        self.cluster.cached_payload(key)
    }

    fn payloads(
        &self,
        keys: Vec<PayloadKey>,
    ) -> impl Future<Output = Vec<Result<Payload, String>>> + Send {
        self.cluster.payloads(keys)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_floor_counts() {
        let space = Space::default();
        for (free, floor, short) in [(10, 5, false), (4, 5, true), (3, 5, true), (5, 5, false)] {
            space.set(free, floor);
            assert_eq!(space.is_short(), short, "{free} free");
        }
    }
}
