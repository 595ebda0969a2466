//! When to build a snapshot, and what may leave the log then.
//!
//! A snapshot is due when the entries applied since the last one exceed a number of bytes. The log
//! is then purged up to the *older* of the two retained snapshots: should the newer one be lost,
//! the older one and the log still make the whole state.

use std::sync::Arc;

use super::config::RaftRuntime;
use super::facts::Facts;
use super::raft::Raft;
use super::snapshot::oldest_retained;

/// Runs until openraft stops.
pub(super) async fn run<E: RaftRuntime>(raft: Raft<E>, facts: Arc<Facts>) {
    loop {
        let due = tokio::select! { biased;
            () = facts.snapshot_done.notified() => false,
            () = facts.snapshot_due.notified() => true,
        };
        let asked = if due {
            raft.trigger().snapshot().await
        } else {
            match oldest_retained(&facts.payloads.store) {
                Some(index) => raft.trigger().purge_log(index).await,
                None => Ok(()),
            }
        };
        if asked.is_err() {
            return;
        }
    }
}
