//! The handle that everybody holds.

use std::collections::VecDeque;
use std::ops::{ControlFlow, Range};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use bytes::Bytes;

use super::medium::{Medium, MediumReader};
use super::record::Assembler;
use super::tail::Tail;
use super::writer::Writer;
use super::{Done, Entry, LogState, absent};
use crate::env::{Publisher, Watch, watch};
use crate::storage::error::StorageError;
use crate::storage::hold::Hold;
use crate::types::EntryId;

/// An idle writer raises the high-water mark after this long; a busy one as often.
const MARK_INTERVAL: Duration = Duration::from_millis(100);

/// What the writer is asked to do.
pub(super) enum Op {
    Append {
        entries: Vec<Entry>,
        epoch: u64,
        done: Done,
    },
    Vote {
        vote: Bytes,
        done: Done,
    },
    Truncate {
        after: Option<u64>,
        done: Done,
    },
    Purge {
        upto: EntryId,
        empties: bool,
        done: Done,
    },
    /// Entries before `end` were durable, and are gone.
    Lost {
        end: u64,
        done: Done,
    },
    /// Something durable was found damaged.
    Condemned {
        error: StorageError,
    },
    /// Fails in its turn: refused when it was submitted.
    Refused {
        error: StorageError,
        done: Done,
    },
}

/// State shared by handles and writer.
pub(super) struct Shared {
    pub inside: Mutex<Inside>,
    wake: Condvar,
    reader: Arc<dyn MediumReader>,
    failed: (Publisher<bool>, Watch<bool>),
}

pub(super) struct Inside {
    pub tail: Tail,
    pub vote: Option<Bytes>,
    pub failed: Option<StorageError>,
    pub medium_bytes: u64,
    queue: VecDeque<Op>,
    closing: bool,
}

/// Who runs the writer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Drive {
    /// A thread of its own.
    Thread,
    /// Whoever calls [`LogStore::pump`].
    Pump,
    /// The caller of each operation, before it returns.
    Inline,
}

enum Runner {
    Thread(Mutex<Option<JoinHandle<()>>>),
    Pump { writer: Mutex<Option<Box<dyn Pump>>>, inline: bool },
}

/// A writer whose medium is forgotten.
trait Pump: Send {
    fn step(&mut self, ops: VecDeque<Op>);
    fn raise_mark(&mut self);
    fn close(&mut self);
}

impl<M: Medium> Pump for Writer<M> {
    fn step(&mut self, ops: VecDeque<Op>) {
        self.run(ops);
    }
    fn raise_mark(&mut self) {
        self.raise_mark();
    }
    fn close(&mut self) {
        self.close();
    }
}

/// The log of one node. Clones are handles to the same log; dropping the last one closes it.
#[derive(Clone)]
pub struct LogStore(Arc<Handle>);

struct Handle {
    shared: Arc<Shared>,
    runner: Runner,
    /// Let go when everything is closed.
    hold: Mutex<Option<Hold>>,
}

impl Shared {
    pub fn new(tail: Tail, vote: Option<Bytes>, reader: Arc<dyn MediumReader>) -> Arc<Shared> {
        let inside = Inside {
            tail,
            vote,
            failed: None,
            medium_bytes: 0,
            queue: VecDeque::new(),
            closing: false,
        };
        let (inside, failed) = (Mutex::new(inside), watch(false));
        Arc::new(Shared { inside, wake: Condvar::new(), reader, failed })
    }

    /// The log has failed.
    pub fn fail(&self, error: StorageError) {
        self.lock().failed = Some(error);
        self.failed.0.set(true);
    }

    pub fn lock(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for work. `None`: closing, and nothing left to do. Empty: idle for a while.
    fn wait(&self) -> Option<VecDeque<Op>> {
        let mut inside = self.lock();
        if inside.queue.is_empty() && !inside.closing {
            let waited = self.wake.wait_timeout(inside, MARK_INTERVAL);
            inside = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        if inside.queue.is_empty() && inside.closing {
            return None;
        }
        Some(std::mem::take(&mut inside.queue))
    }
}

impl LogStore {
    pub(super) fn start<M: Medium + 'static>(
        writer: Writer<M>,
        shared: Arc<Shared>,
        drive: Drive,
    ) -> Result<LogStore, StorageError> {
        let runner = match drive {
            Drive::Pump | Drive::Inline => Runner::Pump {
                writer: Mutex::new(Some(Box::new(writer))),
                inline: drive == Drive::Inline,
            },
            Drive::Thread => {
                let shared = shared.clone();
                let thread = thread::Builder::new().name("log-writer".into());
                let handle = thread.spawn(move || write_until_closed(writer, &shared));
                Runner::Thread(Mutex::new(Some(
                    handle.map_err(StorageError::io("starting the log writer"))?,
                )))
            }
        };
        Ok(LogStore(Arc::new(Handle { shared, runner, hold: Mutex::default() })))
    }

    /// Keeps the directory until the last handle is gone.
    pub(in crate::storage) fn hold(&self, hold: Hold) {
        *self.0.hold.lock().unwrap_or_else(PoisonError::into_inner) = Some(hold);
    }

    /// Appends entries. They can be read when this returns; they are durable when `done` is told
    /// so. They must continue the log (any index may start an empty, unpurged one), else `done`
    /// gets [`StorageError::Hole`] in its turn.
    pub fn append(&self, entries: Vec<Entry>, done: Done) {
        self.submit(|inside| {
            let mut expected = inside.tail.expected();
            for entry in &entries {
                let expects = expected.unwrap_or(entry.id.index);
                if expects != entry.id.index {
                    let error = StorageError::Hole { expected: expects, found: entry.id.index };
                    return Op::Refused { error, done };
                }
                expected = Some(expects + 1);
            }
            entries.iter().for_each(|entry| inside.tail.push(entry.clone()));
            Op::Append { entries, epoch: inside.tail.epoch(), done }
        });
    }

    /// Saves the vote, opaque bytes; in both slots, durably, when `done` is called.
    pub fn save_vote(&self, vote: Bytes, done: Done) {
        self.submit(|inside| {
            inside.vote = Some(vote.clone());
            Op::Vote { vote, done }
        });
    }

    /// Removes all entries after `index`; all of them if `None`. Durable when `done` is called.
    pub fn truncate_after(&self, index: Option<u64>, done: Done) {
        self.submit(|inside| {
            inside.tail.truncate_after(index);
            let after = inside.tail.last_index();
            Op::Truncate { after, done }
        });
    }

    /// Removes all entries up to `upto`, which may lie beyond the last. The floor is durable when
    /// `done` is called; the space comes back later.
    pub fn purge(&self, upto: EntryId, done: Done) {
        self.submit(|inside| {
            inside.tail.purge(upto);
            Op::Purge { upto, empties: inside.tail.last_index().is_none(), done }
        });
    }

    /// Takes it from somebody who knows that entries before `end` were durable here, which is more
    /// than the log has: it has failed when `done` is called, and is found damaged when it is opened
    /// again.
    pub fn lose(&self, end: u64, done: Done) {
        self.submit(|_| Op::Lost { end, done });
    }

    /// The bounds of the log.
    pub fn state(&self) -> LogState {
        self.0.shared.lock().tail.state()
    }

    /// The vote saved last.
    pub fn vote(&self) -> Option<Bytes> {
        self.0.shared.lock().vote.clone()
    }

    /// The id of an entry in the log, or of the last one purged. Never touches the disk.
    pub fn id(&self, index: u64) -> Option<EntryId> {
        self.0.shared.lock().tail.id(index)
    }

    /// The entry at `index` if it is in memory. Never touches the disk.
    pub fn cached(&self, index: u64) -> Option<Entry> {
        self.0.shared.lock().tail.get(index).cloned()
    }

    /// Bytes of the log on disk, purged entries not yet removed included.
    pub fn bytes(&self) -> u64 {
        self.0.shared.lock().medium_bytes
    }

    /// The failure that ended the log, if it has failed.
    pub fn failure(&self) -> Option<StorageError> {
        self.0.shared.lock().failed.clone()
    }

    /// Reads consecutive entries from the start of `range`: at least one (if the range is not
    /// empty), and no more once `max_bytes` of bodies are exceeded. Ends at the end of the log.
    /// Blocks on the disk for entries no longer in memory. [`StorageError::Absent`] if the first
    /// is not in the log.
    pub fn read(&self, range: Range<u64>, max_bytes: usize) -> Result<Vec<Entry>, StorageError> {
        if range.is_empty() {
            return Ok(Vec::new());
        }
        let (first, last, disk_end) = {
            let inside = self.0.shared.lock();
            let (first, last) = (inside.tail.first(), inside.tail.last_index());
            if range.start < first || last.is_none_or(|last| range.start > last) {
                return Err(absent(&range, first, last));
            }
            let mut entries = Limited::new(max_bytes);
            for index in range.clone() {
                match inside.tail.get(index) {
                    Some(entry) if entries.push(entry.clone()) => {}
                    _ => break,
                }
            }
            if !entries.list.is_empty() {
                return Ok(entries.list);
            }
            // What the tail holds may not be on disk yet, and something older in its place.
            let end = inside.tail.memory_start().or(last.map(|last| last.saturating_add(1)));
            (first, last, end.unwrap_or(range.end))
        };
        match self.read_disk(range.start..range.end.min(disk_end), max_bytes) {
            Ok(entries) if entries.is_empty() => Err(absent(&range, first, last)),
            other => other,
        }
    }

    fn read_disk(&self, range: Range<u64>, max_bytes: usize) -> Result<Vec<Entry>, StorageError> {
        let mut assembler = Assembler::default();
        let mut found = Limited::new(max_bytes);
        let mut damage = None;
        self.0.shared.reader.read(range.start, &mut |record| {
            let entries = match assembler.push(record) {
                Ok(entries) => entries,
                Err(fault) => {
                    damage = Some(fault);
                    return ControlFlow::Break(());
                }
            };
            for entry in entries.into_iter().filter(|entry| entry.id.index >= range.start) {
                if entry.id.index >= range.end || !found.push(entry) {
                    return ControlFlow::Break(());
                }
            }
            ControlFlow::Continue(())
        })?;
        match damage {
            Some(fault) if found.list.is_empty() => {
                Err(fault.of(format!("log entry {}", range.start)))
            }
            _ => Ok(found.list),
        }
    }

    /// Reads entries back from the disk, in memory or not, only to see whether they are whole: from
    /// `from`, or the first after it, at least one, about `max_bytes`. Returns where to go on and
    /// how many bytes it were; `None` at the end of what is durable.
    pub fn verify(&self, from: u64, max_bytes: usize) -> Result<Option<(u64, u64)>, StorageError> {
        let held = || {
            let inside = self.0.shared.lock();
            let end = inside.tail.durable().map_or(0, |durable| durable.saturating_add(1));
            let start = from.max(inside.tail.first());
            // An unpurged log need not begin at 0.
            (inside.tail.epoch(), (start..end).find(|index| inside.tail.id(*index).is_some()), end)
        };
        let before = held();
        let (_, Some(start), end) = before else { return Ok(None) };
        let read = match self.read_disk(start..end, max_bytes) {
            Ok(entries) if entries.is_empty() => {
                Err(StorageError::corrupt(format!("log entry {start}"), "it is not on the disk"))
            }
            other => other,
        };
        // Purged or cut off meanwhile: that is no damage.
        if read.is_err() && (held().0, held().1) != (before.0, Some(start)) {
            return Ok(Some((start, 0)));
        }
        let entries = read?;
        let bytes = entries.iter().map(|entry| entry.body.len() as u64).sum();
        Ok(entries.last().map(|entry| (entry.id.index + 1, bytes)))
    }

    /// Takes it from somebody who read the disk that something acknowledged is damaged: the log has
    /// failed from then on.
    pub fn condemn(&self, error: StorageError) {
        tracing::error!(%error, "acknowledged data is damaged");
        self.submit(|_| Op::Condemned { error });
    }

    /// Turns true when the log has failed: nothing more is acknowledged.
    pub fn has_failed(&self) -> Watch<bool> {
        self.0.shared.failed.1.clone()
    }

    /// Runs the writer once over everything queued. Only for a log without a thread; returns
    /// whether there was anything to do.
    pub fn pump(&self) -> bool {
        let Runner::Pump { writer, .. } = &self.0.runner else { return false };
        let mut worked = false;
        // A callback that submits comes back here: its operation is picked up by the outer loop.
        while let Ok(mut writer) = writer.try_lock() {
            let ops = std::mem::take(&mut self.0.shared.lock().queue);
            if ops.is_empty() {
                break;
            }
            worked = true;
            if let Some(writer) = writer.as_mut() {
                writer.step(ops);
                writer.raise_mark();
            }
        }
        worked
    }

    /// Finishes what is queued, raises the mark and closes the files. Operations submitted later
    /// fail with [`StorageError::Closed`]. Blocks; must not be called from a `done` callback.
    pub fn close(&self) {
        if let Runner::Pump { writer, .. } = &self.0.runner {
            self.pump();
            if let Some(mut writer) = writer.lock().unwrap_or_else(PoisonError::into_inner).take() {
                writer.close();
            }
        }
        self.0.close();
    }

    fn submit(&self, op: impl FnOnce(&mut Inside) -> Op) {
        let mut inside = self.0.shared.lock();
        let op = op(&mut inside);
        if inside.closing {
            drop(inside);
            return op.refuse(StorageError::Closed);
        }
        inside.queue.push_back(op);
        drop(inside);
        match &self.0.runner {
            Runner::Thread(_) => self.0.shared.wake.notify_one(),
            Runner::Pump { inline: true, .. } => {
                self.pump();
            }
            Runner::Pump { .. } => {}
        }
    }
}

impl Op {
    /// Tells who asked that it will not happen.
    pub fn refuse(self, error: StorageError) {
        match self {
            Op::Append { done, .. }
            | Op::Vote { done, .. }
            | Op::Truncate { done, .. }
            | Op::Purge { done, .. }
            | Op::Lost { done, .. }
            | Op::Refused { done, .. } => done(Err(error)),
            Op::Condemned { .. } => {}
        }
    }
}

impl Handle {
    fn close(&self) {
        self.shared.lock().closing = true;
        self.shared.wake.notify_one();
        let Runner::Thread(handle) = &self.runner else { return };
        let handle = handle.lock().unwrap_or_else(PoisonError::into_inner).take();
        match handle {
            // The last handle may die inside a callback: the writer then ends by itself.
            Some(handle) if handle.thread().id() != thread::current().id() => {
                let _ = handle.join();
            }
            _ => {}
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.close();
    }
}

fn write_until_closed<M: Medium>(mut writer: Writer<M>, shared: &Shared) {
    let mut raised = std::time::Instant::now();
    while let Some(ops) = shared.wait() {
        let idle = ops.is_empty();
        writer.run(ops);
        if idle || raised.elapsed() >= MARK_INTERVAL {
            writer.raise_mark();
            raised = std::time::Instant::now();
        }
    }
    writer.close();
}

/// Entries up to a number of bytes, at least one.
struct Limited {
    list: Vec<Entry>,
    left: usize,
}

impl Limited {
    fn new(max_bytes: usize) -> Limited {
        Limited { list: Vec::new(), left: max_bytes }
    }

    fn push(&mut self, entry: Entry) -> bool {
        if !self.list.is_empty() && entry.body.len() > self.left {
            return false;
        }
        self.left = self.left.saturating_sub(entry.body.len());
        self.list.push(entry);
        true
    }
}
