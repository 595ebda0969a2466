//! The one writer of the log: drains, packs, syncs once, answers in order.

use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::Bytes;

use super::medium::Medium;
use super::record::{self, Assembler, Header, Packer, Record};
use super::store::{Op, Shared};
use super::{Done, Entry};
use crate::planted::{Bug, planted};
use crate::storage::error::StorageError;
use crate::storage::fault::Fault;
use crate::storage::register::Register;
use crate::types::EntryId;

/// The log's registers.
pub struct Registers {
    /// The vote, opaque; empty when there is none.
    pub vote: Register,
    /// The last entry purged: postcard of `Option<EntryId>`.
    pub floor: Register,
    /// The high-water mark: u64 LE; u32 LE as well if the checksum is known.
    pub mark: Register,
}

/// How far the log is known to be durable.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Mark {
    /// One more than the index of the last entry.
    pub end: u64,
    /// Checksum of the record that ends there, which is that of all before it, too. So an old copy
    /// of the log is told from it, however long. Unknown after a truncation.
    pub chain: Option<u32>,
}

impl Registers {
    /// All of them, with their names.
    pub fn named(&self) -> [(&'static str, &Register); 3] {
        [("vote", &self.vote), ("floor", &self.floor), ("mark", &self.mark)]
    }

    /// The purge floor.
    pub fn read_floor(&self) -> Result<Option<EntryId>, StorageError> {
        read_floor(self.floor.value())
    }

    /// The high-water mark: entries below it were durable.
    pub fn read_mark(&self) -> Result<Mark, StorageError> {
        read_mark(self.mark.value())
    }

    /// Saves the purge floor, durably.
    pub fn write_floor(&mut self, floor: Option<EntryId>) -> Result<(), StorageError> {
        let bytes = postcard::to_stdvec(&floor)
            .map_err(|error| StorageError::corrupt("purge floor", error.to_string()))?;
        self.floor.write_both(&bytes)
    }

    /// Sets the mark in both slots: an old slot must never bring another one back.
    pub fn set_mark(&mut self, end: u64) -> Result<(), StorageError> {
        self.mark.write_both(&end.to_le_bytes())
    }

    fn raise_mark(&mut self, mark: Mark) -> Result<(), StorageError> {
        let mut bytes = mark.end.to_le_bytes().to_vec();
        bytes.extend(mark.chain.iter().flat_map(|chain| chain.to_le_bytes()));
        self.mark.write_next(&bytes)
    }
}

/// The purge floor that a register's value stands for.
pub fn read_floor(value: Option<&Bytes>) -> Result<Option<EntryId>, StorageError> {
    let bytes = value.map_or(&[0][..], |value| value);
    postcard::from_bytes(bytes)
        .map_err(|error| StorageError::corrupt("register floor", error.to_string()))
}

/// The high-water mark that a register's value stands for.
pub fn read_mark(value: Option<&Bytes>) -> Result<Mark, StorageError> {
    let Some(value) = value else { return Ok(Mark::default()) };
    let damaged =
        || StorageError::corrupt("register mark", format!("it has {} bytes", value.len()));
    let (end, chain) = value.split_first_chunk().ok_or_else(damaged)?;
    let chain = match chain {
        [] => None,
        chain => Some(u32::from_le_bytes(chain.try_into().map_err(|_| damaged())?)),
    };
    Ok(Mark { end: u64::from_le_bytes(*end), chain })
}

/// See the module. After the first failure every operation fails.
pub struct Writer<M> {
    shared: Arc<Shared>,
    medium: M,
    registers: Registers,
    packer: Packer,
    /// The mark as saved, and as it may be saved.
    saved: Mark,
    synced: Mark,
    failed: Option<StorageError>,
}

impl<M: Medium> Writer<M> {
    /// A writer that continues a recovered log: `chain` is the checksum of its last record, `end`
    /// one more than its last index.
    pub(super) fn new(
        shared: Arc<Shared>,
        medium: M,
        registers: Registers,
        chain: u32,
        end: u64,
    ) -> Result<Writer<M>, StorageError> {
        let saved = registers.read_mark()?;
        shared.lock().medium_bytes = medium.bytes();
        let packer = Packer { chain };
        let found = Mark { end, chain: Some(chain) };
        let synced = if end > saved.end { found } else { saved };
        Ok(Writer { shared, medium, registers, packer, saved, synced, failed: None })
    }

    /// Does what was asked, in order.
    pub(super) fn run(&mut self, ops: VecDeque<Op>) {
        let mut batch = Batch::default();
        for op in ops {
            match op {
                Op::Append { entries, epoch, done } => batch.add(entries, epoch, done),
                other => {
                    self.commit(std::mem::take(&mut batch));
                    self.change(other);
                }
            }
        }
        self.commit(batch);
    }

    /// Saves the high-water mark if it has moved. A failure is sticky.
    pub(super) fn raise_mark(&mut self) {
        if self.synced.end > self.saved.end {
            let mark = self.synced;
            if self.guard(|writer| writer.registers.raise_mark(mark)).is_ok() {
                self.saved = mark;
            }
        }
    }

    /// Ends in order: mark raised, medium closed.
    pub(super) fn close(&mut self) {
        self.raise_mark();
        self.medium.close();
    }

    fn commit(&mut self, batch: Batch) {
        if batch.dones.is_empty() {
            return;
        }
        let result = self.guard(|writer| {
            let records = writer.packer.pack(&batch.entries);
            if records.is_empty() {
                return Ok(());
            }
            match writer.medium.write(&records) {
                Err(error) if planted(Bug::FullIsWritten) && error.is_full() => return Ok(()),
                written => written?,
            }
            if planted(Bug::SyncSkipped) {
                return Ok(());
            }
            writer.medium.sync()
        });
        if let (Ok(()), Some(last)) = (&result, batch.entries.last()) {
            self.synced = Mark { end: last.id.index + 1, chain: Some(self.packer.chain) };
            let mut inside = self.shared.lock();
            inside.tail.set_durable(batch.epoch, last.id.index);
            inside.medium_bytes = self.medium.bytes();
        }
        batch.dones.into_iter().for_each(|done| done(result.clone()));
    }

    fn change(&mut self, op: Op) {
        let (result, done) = match op {
            Op::Condemned { error } => {
                self.raise_mark();
                let _sticky = self.guard(|_| Err::<(), _>(error));
                return;
            }
            Op::Vote { done, .. } if planted(Bug::VoteNotPersisted) => (Ok(()), done),
            Op::Vote { vote, done } => (self.guard(|w| w.registers.vote.write_both(&vote)), done),
            Op::Truncate { after, done } => (self.guard(|w| w.truncate(after)), done),
            Op::Purge { upto, empties, done } => (self.guard(|w| w.purge(upto, empties)), done),
            Op::Lost { end, done } => (self.guard(|w| w.lose(end)), done),
            Op::Refused { error, done } => (Err(error), done),
            Op::Append { done, .. } => (Err(StorageError::Closed), done),
        };
        self.shared.lock().medium_bytes = self.medium.bytes();
        done(result);
    }

    fn truncate(&mut self, after: Option<u64>) -> Result<(), StorageError> {
        let end = after.map_or(0, |index| index + 1);
        let lowered = Mark { end, chain: None };
        if self.saved.end > end {
            self.registers.set_mark(end)?;
            self.saved = lowered;
        }
        if self.synced.end > end {
            self.synced = lowered;
        }
        let (chain, prefix) = match after {
            None => (0, None),
            Some(index) => self.cut(index)?,
        };
        self.packer.chain = prefix.as_ref().map_or(chain, |(packer, _)| packer.chain);
        if planted(Bug::TruncateNotDurable) {
            return Ok(());
        }
        self.medium.truncate_after(after, prefix.map(|(_, record)| record))
    }

    /// How to end the log with entry `index`: the checksum of the record that ends there, or what
    /// to put in place of the one that goes on beyond.
    fn cut(&self, index: u64) -> Result<(u32, Option<(Packer, Record)>), StorageError> {
        let damaged = |fault: Fault| fault.of(format!("log entry {index}"));
        let mut found: Option<Result<(Header, Vec<Entry>), Fault>> = None;
        let mut assembler = Assembler::default();
        self.medium.reader().read(index, &mut |bytes| {
            let read = record::check(&bytes).and_then(|header| {
                let entries = assembler.push(bytes)?;
                Ok((header, entries))
            });
            let more = read.as_ref().is_ok_and(|(header, _)| !header.is_final());
            found = Some(read);
            if more { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })?;
        let (header, mut entries) =
            found.unwrap_or_else(|| Err("it is not there".into())).map_err(damaged)?;
        if header.last() == index {
            return Ok((header.crc, None));
        }
        entries.retain(|entry| entry.id.index <= index);
        let mut packer = Packer { chain: header.previous };
        let record = packer.pack(&entries).pop();
        let record = record.ok_or_else(|| damaged("its record holds other entries".into()))?;
        Ok((0, Some((packer, record))))
    }

    fn purge(&mut self, upto: EntryId, empties: bool) -> Result<(), StorageError> {
        if self.registers.read_floor()?.is_some_and(|floor| floor.index >= upto.index) {
            return Ok(());
        }
        if planted(Bug::FloorAfterDelete) {
            self.drop_purged(upto, empties)?;
        }
        self.registers.write_floor(Some(upto))?;
        self.drop_purged(upto, empties)
    }

    fn drop_purged(&mut self, upto: EntryId, empties: bool) -> Result<(), StorageError> {
        if empties {
            self.packer.chain = 0;
            return self.medium.truncate_after(None, None);
        }
        self.medium.drop_below(upto.index + 1)
    }

    /// Raises the mark to what was durable; there is no way on from here.
    fn lose(&mut self, end: u64) -> Result<(), StorageError> {
        self.registers.set_mark(end)?;
        self.saved = Mark { end, chain: None };
        let had = self.synced.end;
        Err(StorageError::corrupt(
            "the log",
            format!("it ends before entry {had}, but entries before {end} were durable here"),
        ))
    }

    fn guard<T>(
        &mut self,
        work: impl FnOnce(&mut Writer<M>) -> Result<T, StorageError>,
    ) -> Result<T, StorageError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        let result = work(self);
        if let Err(error) = &result {
            tracing::error!(%error, "the log has failed: nothing more is acknowledged");
            self.failed = Some(error.clone());
            self.shared.fail(error.clone());
        }
        result
    }
}

/// Appends that share one sync.
#[derive(Default)]
struct Batch {
    entries: Vec<Entry>,
    epoch: u64,
    dones: Vec<Done>,
}

impl Batch {
    fn add(&mut self, entries: Vec<Entry>, epoch: u64, done: Done) {
        self.entries.extend(entries);
        self.epoch = epoch;
        self.dones.push(done);
    }
}
