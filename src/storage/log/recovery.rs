//! Opening the log: what is there, whether it is whole, and what a crash left over.

use std::ops::ControlFlow;

use bytes::Bytes;

use super::medium::Medium;
use super::record::{self, Assembler};
use super::store::{Drive, LogStore, Shared};
use super::tail::Tail;
use super::writer::{Mark, Registers, Writer};
use crate::planted::{Bug, planted};
use crate::storage::error::StorageError;
use crate::storage::fault::Fault;
use crate::types::EntryId;

/// How the log was found.
pub enum Recovered {
    /// Whole, perhaps after its unacknowledged end was cut off.
    Healthy(LogStore),
    /// Acknowledged entries are missing or damaged. Nothing was changed.
    Damaged(String),
}

/// Reads the whole log, checks it against the floor and the high-water mark, and starts it.
/// Entries up to `snapshot`, included, are covered by a snapshot: a log that does not hold this
/// very entry ends before it or is another leader's, and nothing in it counts any more (a crash
/// came between installing the snapshot and purging the log). `tail_bytes` of the newest entries
/// stay in memory.
pub fn recover<M: Medium + 'static>(
    mut medium: M,
    mut registers: Registers,
    snapshot: Option<EntryId>,
    tail_bytes: usize,
    drive: Drive,
) -> Result<Recovered, StorageError> {
    let floor = registers.read_floor()?;
    let mark = registers.read_mark()?;
    let mut scan = Scan::new(Tail::new(floor, tail_bytes), mark.end);
    let scanned = medium.scan(&mut |bytes| scan.take(bytes));
    match scanned {
        Err(StorageError::Corrupt { what, detail }) => {
            scan.bad.get_or_insert(format!("{what}: {detail}"));
            scan.excess = true;
        }
        other => other?,
    }
    if let Some(newer) = scan.newer {
        return Err(newer.of("a record of the log"));
    }
    scan.finish();
    let end = scan.tail.expected().unwrap_or(0);
    if let Some(reason) = scan.damage(mark).filter(|_| !planted(Bug::MarkIgnored)) {
        return Ok(Recovered::Damaged(reason));
    }
    if let Some(why) = scan.bad {
        tracing::warn!(end, %why, "the log has an unfinished end, as a crash leaves it: cut off");
    }
    if scan.excess {
        medium.truncate_after(scan.tail.last_index(), None)?;
    }
    if let Some(last) = snapshot.filter(|last| scan.tail.id(last.index) != Some(*last)) {
        tracing::warn!(end, snapshot = %last, "the log does not lead to the snapshot: discarded");
        discard(&mut medium, &mut registers, last)?;
        scan = Scan::new(Tail::new(Some(last), tail_bytes), 0);
    } else if let Some(floor) = floor {
        medium.drop_below(floor.index + 1)?;
    }
    // What a killed process wrote last may not be on the disk yet; from here on it counts.
    medium.sync()?;
    let end = scan.tail.expected().unwrap_or(0);
    let vote = registers.vote.value().filter(|vote| !vote.is_empty()).cloned();
    let shared = Shared::new(scan.tail, vote, medium.reader());
    let writer = Writer::new(shared.clone(), medium, registers, scan.chain, end)?;
    Ok(Recovered::Healthy(LogStore::start(writer, shared, drive)?))
}

/// Removes all entries in favour of a snapshot. The floor comes last: above it, entries of another
/// leader would look like the log that goes on there.
fn discard<M: Medium>(
    medium: &mut M,
    registers: &mut Registers,
    snapshot: EntryId,
) -> Result<(), StorageError> {
    let empty = registers.read_floor()?.map_or(0, |floor| floor.index + 1);
    if registers.read_mark()?.end > empty {
        registers.set_mark(empty)?;
    }
    medium.truncate_after(None, None)?;
    registers.write_floor(Some(snapshot))
}

/// The state of a scan over all records.
struct Scan {
    tail: Tail,
    assembler: Assembler,
    chain: u32,
    bad: Option<String>,
    /// A record of a format that this build does not know.
    newer: Option<Fault>,
    /// There are records that do not belong to the log.
    excess: bool,
    /// Parts of a split entry are still to come.
    unfinished: bool,
    /// The high-water mark, and the checksum of the record that ends there.
    mark: u64,
    marked: Option<u32>,
}

impl Scan {
    fn new(tail: Tail, mark: u64) -> Scan {
        Scan {
            tail,
            assembler: Assembler::default(),
            chain: 0,
            bad: None,
            newer: None,
            excess: false,
            unfinished: false,
            mark,
            marked: None,
        }
    }

    fn take(&mut self, bytes: Bytes) -> ControlFlow<()> {
        match self.add(bytes) {
            Ok(()) => ControlFlow::Continue(()),
            Err(newer @ Fault::Newer { .. }) => {
                self.newer = Some(newer);
                ControlFlow::Break(())
            }
            Err(Fault::Damaged(detail)) => {
                self.bad = Some(detail);
                self.excess = true;
                ControlFlow::Break(())
            }
        }
    }

    fn add(&mut self, bytes: Bytes) -> Result<(), Fault> {
        let started = self.assembler.last_header().is_some();
        match record::check(&bytes) {
            // Purged records are of no interest, whatever state they are in.
            Err(Fault::Damaged(_)) if !started && self.tail.first() > 0 => return Ok(()),
            Ok(header) if !started && header.last() < self.tail.first() => return Ok(()),
            _ => {}
        }
        let entries = self.assembler.push(bytes)?;
        let header = self.assembler.last_header();
        self.unfinished = header.is_some_and(|header| !header.is_final());
        let first = self.tail.first();
        for entry in entries.into_iter().filter(|entry| entry.id.index >= first) {
            let expected = self.tail.expected().unwrap_or(0);
            if expected != entry.id.index {
                let index = entry.id.index;
                return Err(format!("entry {index} stands where {expected} should").into());
            }
            let index = entry.id.index;
            self.tail.push(entry);
            self.tail.set_durable(0, index);
        }
        if let Some(header) = header.filter(|_| !self.unfinished) {
            self.chain = header.crc;
            if header.last().checked_add(1) == Some(self.mark) {
                self.marked = Some(header.crc);
            }
        }
        Ok(())
    }

    /// What is missing of that which was durable. A snapshot that covers it is no excuse: what came
    /// after it is gone, too.
    fn damage(&self, mark: Mark) -> Option<String> {
        let end = self.tail.expected().unwrap_or(0);
        if end < mark.end {
            let why = self.bad.as_deref().unwrap_or("records are missing");
            return Some(format!(
                "the log ends before entry {end}, but entries before {} were durable: {why}",
                mark.end
            ));
        }
        let held = self.tail.first() < mark.end && mark.end <= end;
        let other = mark.chain.filter(|chain| held && self.marked != Some(*chain));
        other.map(|_| {
            format!("the log before entry {} is not what was durable: an old copy?", mark.end)
        })
    }

    fn finish(&mut self) {
        if self.unfinished {
            self.excess = true;
            self.bad.get_or_insert("the last entry lacks a part".into());
        }
        // Nothing but purged records: start over with an empty medium.
        self.excess |= self.tail.last_index().is_none();
        if self.tail.last_index().is_none() {
            self.chain = 0;
        }
    }
}
