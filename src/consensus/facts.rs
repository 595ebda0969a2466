//! What openraft's side writes and everybody else reads: the machine, payloads, who is a member,
//! and the results of checkpoints.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, Weak};

use tokio::sync::Notify;

use crate::env::Runtime;
use crate::machine::{Machine, Reply};
use crate::storage::StorageError;
use crate::types::limits;

use super::changes::ChangeHub;
use super::marks::Marks;
use super::payloads::Payloads;
use super::snapshot::{Image, oldest_retained};
use super::transfer::Transfers;

/// Results of checkpoints that are remembered.
const AUDITS_MAX: usize = 16;

/// Shared by the state machine, the snapshot builder and the replica's handles.
pub(super) struct Facts {
    machine: RwLock<Machine>,
    pub payloads: Payloads,
    pub changes: ChangeHub,
    audits: Mutex<BTreeMap<u64, Audit>>,
    /// Greatest node id that was ever a member.
    last_node: AtomicU64,
    /// Bytes of entries applied since this process began, and what they were when the last
    /// snapshot was begun.
    applied_bytes: AtomicU64,
    covered_bytes: AtomicU64,
    /// The same for the last snapshot that was finished.
    stored_bytes: AtomicU64,
    growth_max: u64,
    /// The disk is short: snapshots are to make room.
    pressed: AtomicBool,
    /// There was no room for the newest snapshot, …
    roomless: AtomicBool,
    /// … and until it is tried again none is due.
    put_off: AtomicBool,
    /// Why storage failed under the state machine.
    failure: Mutex<Option<StorageError>>,
    /// How far it was when snapshots were begun.
    marks: Mutex<Marks>,
    /// Bytes of entries that the log keeps for a member that is behind.
    log_kept_max: u64,
    /// Bytes read by the scrub.
    pub scrubbed: AtomicU64,
    pub transfers: Transfers,
    /// Where snapshots end that are being sent, and what was applied when that began, by number.
    sending: Mutex<BTreeMap<u64, (u64, u64)>>,
    /// Enough was applied since the last snapshot.
    pub snapshot_due: Notify,
    /// A snapshot was built or installed.
    pub snapshot_done: Notify,
    /// The disk has become short.
    pub room_wanted: Notify,
}

/// What this node found at a checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Audit {
    /// The machine's hash at the checkpoint.
    pub hash: u64,
    /// Whether the ledger of every proxy and channel adds up.
    pub ledger_ok: bool,
}

impl Facts {
    /// A fresh machine. `growth_max`: bytes of entries after which a snapshot is due.
    pub fn new(payloads: Payloads, growth_max: u64) -> Facts {
        let log_kept_max = growth_max.saturating_mul(limits::SENDING_LOGS_MAX);
        Facts {
            machine: RwLock::new(Machine::new()),
            payloads,
            changes: ChangeHub::default(),
            audits: Mutex::default(),
            last_node: AtomicU64::new(0),
            applied_bytes: AtomicU64::new(0),
            covered_bytes: AtomicU64::new(0),
            stored_bytes: AtomicU64::new(0),
            growth_max,
            pressed: AtomicBool::new(false),
            roomless: AtomicBool::new(false),
            put_off: AtomicBool::new(false),
            failure: Mutex::default(),
            marks: Mutex::new(Marks::new(growth_max / 2, log_kept_max)),
            log_kept_max,
            scrubbed: AtomicU64::new(0),
            transfers: Transfers::default(),
            sending: Mutex::default(),
            snapshot_due: Notify::new(),
            snapshot_done: Notify::new(),
            room_wanted: Notify::new(),
        }
    }

    pub fn read(&self) -> RwLockReadGuard<'_, Machine> {
        self.machine.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn write(&self) -> RwLockWriteGuard<'_, Machine> {
        self.machine.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Remembers the outcome of a checkpoint among `replies`. The ledger is walked in the
    /// background, on a clone; apply does not wait.
    pub fn audit(self: &Arc<Self>, replies: &[Reply], env: &impl Runtime) {
        let found = replies.iter().find_map(|reply| match reply {
            Reply::Checkpoint { index, hash } => Some((*index, *hash)),
            _ => None,
        });
        let Some((index, hash)) = found else { return };
        let (facts, env, machine) = (self.clone(), env.clone(), self.read().clone());
        env.clone().spawn(async move {
            let checked = env.blocking(move || machine.check_ledger()).await;
            let ledger_ok = match checked {
                Some(Ok(())) => true,
                Some(Err(reason)) => {
                    tracing::error!(index, reason, "the ledger does not add up");
                    false
                }
                None => return,
            };
            let mut audits = facts.audits.lock().unwrap_or_else(PoisonError::into_inner);
            audits.insert(index, Audit { hash, ledger_ok });
            while audits.len() > AUDITS_MAX {
                audits.pop_first();
            }
        });
    }

    /// What was found at the checkpoint at `index`, if it is among the last ones.
    pub fn audit_at(&self, index: u64) -> Option<Audit> {
        self.audits.lock().unwrap_or_else(PoisonError::into_inner).get(&index).copied()
    }

    /// Takes note of who was ever a member.
    pub fn members_seen(&self, state: &Image) {
        self.last_node.fetch_max(state.last_node, Ordering::Relaxed);
    }

    /// Greatest node id that was ever a member.
    pub fn last_node(&self) -> u64 {
        self.last_node.load(Ordering::Relaxed)
    }

    /// An entry of `bytes` was applied.
    pub fn grow(&self, bytes: usize) {
        let was_due = self.is_due();
        self.applied_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        // Said once: while a snapshot is built, openraft would be asked in vain at each entry.
        if !was_due && self.is_due() {
            self.snapshot_due.notify_one();
        }
    }

    /// Whether enough was applied since the last snapshot was begun.
    pub fn is_due(&self) -> bool {
        !self.put_off.load(Ordering::Relaxed)
            && self.applied_bytes() - self.covered_bytes.load(Ordering::Relaxed) >= self.growth_max
    }

    /// Bytes of the entries applied since this process began.
    pub fn applied_bytes(&self) -> u64 {
        self.applied_bytes.load(Ordering::Relaxed)
    }

    /// Bytes in log and event store that snapshots would make free, roughly: the log, and what the
    /// event store holds beyond twice the retained events and what arrives of another snapshot.
    pub fn wasted_bytes(&self) -> u64 {
        let (needed, store) = (self.needed_bytes(), &self.payloads.store);
        let stored = store.bytes().saturating_sub(store.staged_bytes());
        self.payloads.log.bytes() + stored.saturating_sub(needed.saturating_mul(2))
    }

    /// Bytes of the events that the machine needs.
    fn needed_bytes(&self) -> u64 {
        self.read().channels().map(|channel| channel.retained().bytes).sum()
    }

    /// At most so many bytes of events are in the log only, and needed.
    pub fn unrelocated_bytes(&self) -> u64 {
        let fresh = self.applied_bytes() - self.stored_bytes.load(Ordering::Relaxed);
        fresh.min(self.needed_bytes())
    }

    /// A snapshot of the machine as it is now is about to be built, or was installed.
    pub fn snapshot_begins(&self) {
        let (index, bytes) = (self.read().applied(), self.applied_bytes());
        self.covered_bytes.store(bytes, Ordering::Relaxed);
        self.marks.lock().unwrap_or_else(PoisonError::into_inner).note(index, bytes);
    }

    /// Holds on to the log after `index` while the value returned lives: a snapshot that ends there
    /// is being sent.
    pub fn keep_log_after(self: &Arc<Self>, index: u64) -> LogKept {
        let mut sending = self.sending.lock().unwrap_or_else(PoisonError::into_inner);
        let number = sending.last_key_value().map_or(0, |(last, _)| last + 1);
        sending.insert(number, (index, self.applied_bytes()));
        LogKept { facts: Arc::downgrade(self), number }
    }

    /// What follows this entry in the log is needed by a member that is being sent a snapshot, which
    /// began less than [`limits::SENDING_LOGS_MAX`] allows ago.
    pub fn log_kept_after(&self) -> Option<u64> {
        let now = self.applied_bytes();
        let sending = self.sending.lock().unwrap_or_else(PoisonError::into_inner);
        let counts =
            sending.values().filter(|(_, began)| now.saturating_sub(*began) < self.log_kept_max);
        counts.map(|(index, _)| *index).min()
    }

    /// Whether a follower that has confirmed everything up to `last` is better served by a snapshot:
    /// what it lacks is kept for it alone, and there is much of it by now. openraft purges nothing
    /// that it is sending, and a follower that is slow but answers would never let it stop.
    pub fn is_left_behind(&self, last: u64) -> bool {
        let marks = self.marks.lock().unwrap_or_else(PoisonError::into_inner);
        let mark = marks.long_ago(self.applied_bytes());
        mark.is_some_and(|mark| last < mark)
            && oldest_retained(&self.payloads.store).is_some_and(|oldest| last < oldest)
    }

    /// There was no room for a snapshot: none is due until [`Facts::snapshot_missing`], which is to
    /// be called after a pause if this says so.
    pub fn put_off_snapshot(&self, error: &io::Error) -> bool {
        if self.roomless.swap(true, Ordering::Relaxed) {
            tracing::debug!(%error, "there is still no room for a snapshot");
        } else {
            tracing::warn!(%error, "there is no room for a snapshot; trying on");
        }
        !self.put_off.swap(true, Ordering::Relaxed)
    }

    /// A snapshot is on disk: the one begun last.
    pub fn snapshot_stored(&self) {
        self.roomless.store(false, Ordering::Relaxed);
        self.put_off.store(false, Ordering::Relaxed);
        self.stored_bytes.store(self.covered_bytes.load(Ordering::Relaxed), Ordering::Relaxed);
        self.snapshot_done.notify_one();
    }

    /// A snapshot that was put off, unless there is one by now, is as due as before.
    pub fn snapshot_missing(&self) {
        if self.put_off.swap(false, Ordering::Relaxed) {
            self.covered_bytes.store(self.stored_bytes.load(Ordering::Relaxed), Ordering::Relaxed);
            self.snapshot_due.notify_one();
        }
    }

    /// Whether the disk is short.
    pub fn is_pressed(&self) -> bool {
        self.pressed.load(Ordering::Relaxed)
    }

    /// The disk is short, or no longer.
    pub fn set_pressed(&self, pressed: bool) {
        self.pressed.store(pressed, Ordering::Relaxed);
        if pressed {
            self.room_wanted.notify_one();
        }
    }

    /// Storage failed under the state machine, which ends consensus.
    pub fn failed(&self, error: &StorageError) {
        let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        failure.get_or_insert_with(|| error.clone());
    }

    /// Why storage failed, if it has.
    pub fn failure(&self) -> Option<StorageError> {
        let failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        self.payloads.log.failure().or_else(|| failure.clone())
    }
}

/// Keeps the log that follows a snapshot.
pub(super) struct LogKept {
    /// Does not keep the storage of a node that has stopped.
    facts: Weak<Facts>,
    number: u64,
}

impl Drop for LogKept {
    fn drop(&mut self) {
        let Some(facts) = self.facts.upgrade() else { return };
        let mut sending = facts.sending.lock().unwrap_or_else(PoisonError::into_inner);
        sending.remove(&self.number);
    }
}
