//! When to build a snapshot, and what may leave the log then.
//!
//! A snapshot is due when the entries applied since the last one exceed a number of bytes. The log
//! is then purged up to the *older* of the two retained snapshots: should the newer one be lost,
//! the older one and the log still make the whole state.
//!
//! So what the older snapshot needs stays until two more are built, and after a large backlog has
//! been consumed nothing may bring them about. Once it is quiet they are built all the same, if
//! there is much to be gained; where no entry has come since the last one, it is copied. On a disk
//! that is short this is done at once, and for less: an early snapshot is a small one.
//!
//! What follows a snapshot that is being sent stays, too, up to a limit: else the follower would
//! need another snapshot when this one has arrived, and another one after that.

use std::sync::Arc;
use std::time::Duration;

use openraft::errors::Fatal as RaftFatal;

use super::config::{RaftRuntime, Types};
use super::facts::Facts;
use super::raft::Raft;
use super::snapshot::oldest_retained;

type Fatal<E> = RaftFatal<Types<E>>;

/// How often is looked whether there is something to tidy up. After looks at which nothing was
/// gained since the one before, twice as long each time, up to …
const TIDY_EVERY: Duration = Duration::from_secs(5);
/// … so long: what is left may be alive, only scattered.
const TIDY_EVERY_MAX: Duration = Duration::from_secs(600);
/// The same on a disk that is short, …
const PRESSED_EVERY: Duration = Duration::from_secs(1);
/// … up to …
const PRESSED_EVERY_MAX: Duration = Duration::from_secs(5);
/// … where a smaller part of what is otherwise worth a snapshot is.
const PRESSED_PART: u64 = 8;
/// A snapshot that stays due is asked for again after this long: openraft takes no request while it
/// has not heard that the one before is ready.
const DUE_EVERY: Duration = Duration::from_millis(100);
/// It is quiet if no more bytes a second than this were applied since the last look.
const QUIET_BYTES_PER_S: u64 = 16 << 10;

/// Decides when snapshots are built and the log is purged.
pub(super) struct Compaction<E: RaftRuntime> {
    pub raft: Raft<E>,
    pub facts: Arc<Facts>,
    /// Waste on the disk beyond this is worth a snapshot.
    pub waste_max: u64,
    pub env: E,
}

/// What was seen at the last look, and when to look again.
struct Look {
    applied_bytes: u64,
    wasted_bytes: u64,
    again_in: Duration,
}

impl<E: RaftRuntime> Compaction<E> {
    /// Runs until openraft stops.
    pub async fn run(self) {
        let applied_bytes = self.facts.applied_bytes();
        let mut look = Look { applied_bytes, wasted_bytes: 0, again_in: TIDY_EVERY };
        loop {
            let due = self.facts.is_due();
            let wait = if due { DUE_EVERY } else { look.again_in };
            let asked = tokio::select! { biased;
                () = self.facts.snapshot_done.notified() => self.purge().await,
                () = self.facts.snapshot_due.notified() => self.raft.trigger().snapshot().await,
                () = self.facts.room_wanted.notified() => self.tidy(&mut look).await,
                () = self.env.sleep(wait) => match due {
                    true => self.raft.trigger().snapshot().await,
                    false => self.tidy(&mut look).await,
                },
            };
            if asked.is_err() {
                return;
            }
        }
    }

    async fn purge(&self) -> Result<(), Fatal<E>> {
        let Some(oldest) = oldest_retained(&self.facts.payloads.store) else { return Ok(()) };
        let kept = self.facts.log_kept_after();
        self.raft.trigger().purge_log(kept.map_or(oldest, |kept| kept.min(oldest))).await
    }

    async fn tidy(&self, look: &mut Look) -> Result<(), Fatal<E>> {
        let (bytes, wasted) = (self.facts.applied_bytes(), self.facts.wasted_bytes());
        let fresh = bytes - std::mem::replace(&mut look.applied_bytes, bytes);
        let quiet = fresh <= QUIET_BYTES_PER_S * look.again_in.as_secs();
        let gained = wasted < std::mem::replace(&mut look.wasted_bytes, wasted);
        let (every, every_max, worth) = match self.facts.is_pressed() {
            true => (PRESSED_EVERY, PRESSED_EVERY_MAX, self.waste_max / PRESSED_PART),
            false => (TIDY_EVERY, TIDY_EVERY_MAX, self.waste_max),
        };
        if !(quiet || self.facts.is_pressed()) || wasted <= worth {
            look.again_in = every;
            return Ok(());
        }
        look.again_in = if gained { every } else { every_max.min(look.again_in * 2) };
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
