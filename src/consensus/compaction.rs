//! When to build a snapshot, and what may leave the log then.
//!
//! A snapshot is due when the entries applied since the last one exceed a number of bytes. The log
//! is then purged up to the *older* of the two retained snapshots: should the newer one be lost,
//! the older one and the log still make the whole state.
//!
//! So what the older snapshot needs stays until two more are built, and after a large backlog has
//! been consumed nothing may bring them about. Once it is quiet they are built all the same, if
//! there is much to be gained; where no entry has come since the last one, it is copied.

use std::sync::Arc;
use std::time::Duration;

use openraft::errors::Fatal as RaftFatal;

use super::config::{RaftRuntime, Types};
use super::facts::Facts;
use super::raft::Raft;
use super::snapshot::oldest_retained;

type Fatal<E> = RaftFatal<Types<E>>;

/// How often is looked whether there is something to tidy up.
const TIDY_EVERY: Duration = Duration::from_secs(5);
/// It is quiet if no more bytes than this were applied since the last look.
const QUIET_BYTES: u64 = 64 << 10;

/// Decides when snapshots are built and the log is purged.
pub(super) struct Compaction<E: RaftRuntime> {
    pub raft: Raft<E>,
    pub facts: Arc<Facts>,
    /// Waste on the disk beyond this is worth a snapshot.
    pub waste_max: u64,
    pub env: E,
}

impl<E: RaftRuntime> Compaction<E> {
    /// Runs until openraft stops.
    pub async fn run(self) {
        // Bytes applied up to the last look.
        let mut seen = self.facts.applied_bytes();
        loop {
            let asked = tokio::select! { biased;
                () = self.facts.snapshot_done.notified() => self.stored().await,
                () = self.facts.snapshot_due.notified() => self.raft.trigger().snapshot().await,
                () = self.env.sleep(TIDY_EVERY) => self.tidy(&mut seen).await,
            };
            if asked.is_err() {
                return;
            }
        }
    }

    /// A snapshot is on disk. More may have come while it was built than makes the next one due.
    async fn stored(&self) -> Result<(), Fatal<E>> {
        self.purge().await?;
        match self.facts.is_due() {
            true => self.raft.trigger().snapshot().await,
            false => Ok(()),
        }
    }

    async fn purge(&self) -> Result<(), Fatal<E>> {
        match oldest_retained(&self.facts.payloads.store) {
            Some(index) => self.raft.trigger().purge_log(index).await,
            None => Ok(()),
        }
    }

    async fn tidy(&self, seen: &mut u64) -> Result<(), Fatal<E>> {
        let bytes = self.facts.applied_bytes();
        let quiet = bytes - std::mem::replace(seen, bytes) <= QUIET_BYTES;
        if !quiet || self.facts.wasted_bytes() <= self.waste_max {
            return Ok(());
        }
        let (store, applied) = (self.facts.payloads.store.clone(), self.facts.read().applied());
        if store.current().is_none_or(|current| current.last.index < applied) {
            return self.raft.trigger().snapshot().await;
        }
        if oldest_retained(&store) == Some(applied) {
            return Ok(());
        }
        if let Some(Err(error)) = self.env.blocking(move || store.double()).await {
            tracing::warn!(%error, "tidying up failed: what could go stays a while");
        }
        self.purge().await
    }
}
