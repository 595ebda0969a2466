//! Reads everything on this disk again, slowly, to find damage while others still have what is lost.
//!
//! ```text
//! segments, snapshots ─► suspects, which `repair` makes whole
//! manifest            ─► written anew
//! log, registers      ─► the node ends its part, and is quarantined when it opens its disk again
//! ```
//!
//! What is read is paced; a round begins with a file chosen by lot, so that a node which restarts
//! often gets everywhere. What the log damages is only believed after it was seen three times: a
//! record is read while others are written.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::planted::{Bug, planted};
use crate::storage::{LogStore, Registers, StorageError};

use super::config::RaftRuntime;
use super::facts::Facts;

/// Bytes read at once.
const PIECE_BYTES: u64 = 64 << 10;
/// Damage to the log or a register must be seen so often, with this pause between.
const LOOKS: u32 = 3;
const LOOK_PAUSE: Duration = Duration::from_millis(200);

/// How fast and how often.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    pub bytes_per_s: u64,
    /// Between the end of a round and the next.
    pub pause: Duration,
}

/// The task that scrubs.
pub(super) struct Scrubber<E> {
    pub facts: Arc<Facts>,
    pub registers: Registers,
    pub pace: Pace,
    pub env: E,
}

impl<E: RaftRuntime> Scrubber<E> {
    /// Runs until dropped.
    pub async fn run(self) {
        loop {
            if let Err(error) = self.round().await {
                tracing::warn!(%error, "a scrub was broken off; trying again in a while");
            }
            self.env.sleep(self.pace.pause).await;
        }
    }

    async fn round(&self) -> Result<(), StorageError> {
        self.files().await?;
        let store = self.facts.payloads.store.clone();
        self.blocking(move || store.mend_manifest()).await?;
        self.registers().await?;
        self.log().await
    }

    async fn files(&self) -> Result<(), StorageError> {
        let store = &self.facts.payloads.store;
        let mut checks = store.checks();
        if planted(Bug::ScrubSkipsSegments) {
            checks.clear();
        }
        if !checks.is_empty() {
            let first = self.env.random() as usize % checks.len();
            checks.rotate_left(first);
        }
        for mut check in checks {
            loop {
                let store = store.clone();
                let read = self.blocking(move || {
                    let read = store.check_piece(&mut check, PIECE_BYTES)?;
                    Ok((check, read))
                });
                let (same, Some(bytes)) = read.await? else { break };
                check = same;
                self.was_read(bytes).await;
            }
        }
        Ok(())
    }

    async fn registers(&self) -> Result<(), StorageError> {
        let registers = self.registers.clone();
        let check = move |_: &LogStore| registers.check().map(Some);
        self.look_closely(check).await.map(drop)
    }

    async fn log(&self) -> Result<(), StorageError> {
        let mut from = 0;
        while let Some((next, bytes)) =
            self.look_closely(move |log: &LogStore| log.verify(from, PIECE_BYTES as usize)).await?
        {
            from = next;
            self.was_read(bytes).await;
        }
        Ok(())
    }

    /// Believes in damage when it was seen often enough; then it ends the log.
    async fn look_closely<T: Send + 'static>(
        &self,
        look: impl Fn(&LogStore) -> Result<Option<T>, StorageError> + Clone + Send + 'static,
    ) -> Result<Option<T>, StorageError> {
        let log = &self.facts.payloads.log;
        for again in (0..LOOKS).rev() {
            let (log, look) = (log.clone(), look.clone());
            match self.blocking(move || look(&log)).await {
                Err(error) if error.is_corruption() && again > 0 => {
                    self.env.sleep(LOOK_PAUSE).await;
                }
                Err(error) if error.is_corruption() => {
                    self.facts.payloads.log.condemn(error.clone());
                    return Err(error);
                }
                other => return other,
            }
        }
        Ok(None)
    }

    async fn was_read(&self, bytes: u64) {
        self.facts.scrubbed.fetch_add(bytes, Ordering::Relaxed);
        let millis = bytes.saturating_mul(1000) / self.pace.bytes_per_s.max(1);
        self.env.sleep(Duration::from_millis(millis)).await;
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, StorageError> + Send + 'static,
    ) -> Result<T, StorageError> {
        self.env.blocking(work).await.unwrap_or(Err(StorageError::Closed))
    }
}
