//! Looking at the log of a stopped node without changing it, damage and all.
//!
//! sled writes to a database when it opens it, and may cut off what is damaged. So each database is
//! copied to a scratch directory, and the copy is read.

use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use super::Entry;
use super::database::{self, Database};
use super::files::{self, frames};
use super::record::Assembler;
use crate::env::disk::Disk;
use crate::storage::error::StorageError;
use crate::storage::fault::Fault;

/// What is found in a log, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    Entry(Entry),
    /// Something between the entry before and the entry after cannot be read.
    Damage(String),
}

/// A log to be looked at.
pub enum LogLook {
    /// The databases of a real node.
    Databases(PathBuf),
    /// Plain files.
    Files(Arc<dyn Disk>),
}

/// Records in order, and what could not be read of them.
type Visit<'a> = dyn FnMut(Result<Bytes, String>) -> ControlFlow<()> + 'a;

impl LogLook {
    /// Shows everything in the log until the visitor breaks off. Purged entries that are still
    /// there are shown, too.
    pub fn pieces(
        &self,
        visit: &mut dyn FnMut(Piece) -> ControlFlow<()>,
    ) -> Result<(), StorageError> {
        let mut assembler = Assembler::default();
        let (mut ended, mut newer) = (false, None);
        self.records(&mut |record| {
            let read = record.map_err(Fault::from).and_then(|bytes| assembler.push(bytes));
            let flow = match read {
                Ok(entries) => entries.into_iter().map(Piece::Entry).try_for_each(&mut *visit),
                Err(fault @ Fault::Newer { .. }) => {
                    newer = Some(fault);
                    ControlFlow::Break(())
                }
                Err(Fault::Damaged(damage)) => {
                    // What follows must stand for itself.
                    assembler = Assembler::default();
                    visit(Piece::Damage(damage))
                }
            };
            ended = flow.is_break();
            flow
        })?;
        if let Some(newer) = newer {
            return Err(newer.of("a record of the log"));
        }
        let unfinished = assembler.last_header().filter(|header| !header.is_final());
        if let Some(header) = unfinished.filter(|_| !ended) {
            let _ = visit(Piece::Damage(format!("entry {} lacks a part", header.first)));
        }
        Ok(())
    }

    fn records(&self, visit: &mut Visit<'_>) -> Result<(), StorageError> {
        match self {
            LogLook::Files(disk) => file_records(&**disk, visit),
            LogLook::Databases(dir) => database_records(dir, visit),
        }
    }
}

fn file_records(disk: &dyn Disk, visit: &mut Visit<'_>) -> Result<(), StorageError> {
    for path in files::paths(disk)? {
        let read = disk.read_all(&path).map_err(|error| error.to_string());
        let flow = match read {
            Ok(content) => frames(&content.into()).try_for_each(|frame| {
                visit(frame.map_err(|offset| format!("{path}: no frame at offset {offset}")))
            }),
            Err(error) => visit(Err(format!("{path}: {error}"))),
        };
        if flow.is_break() {
            return Ok(());
        }
    }
    Ok(())
}

fn database_records(dir: &Path, visit: &mut Visit<'_>) -> Result<(), StorageError> {
    for path in database::ready_in(dir)? {
        let scratch = Scratch::copy_of(&path)?;
        let mut flow = ControlFlow::Continue(());
        match show(&scratch.0, &mut |bytes| {
            flow = visit(Ok(bytes));
            flow
        }) {
            Err(error @ (StorageError::Corrupt { .. } | StorageError::Io { .. })) => {
                let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                flow = visit(Err(format!("{name}: {error}")));
            }
            other => other?,
        }
        if flow.is_break() {
            return Ok(());
        }
    }
    Ok(())
}

/// Shows the records of one database.
fn show(path: &Path, visit: &mut dyn FnMut(Bytes) -> ControlFlow<()>) -> Result<(), StorageError> {
    let database = Database::open(path)?;
    for number in database.tree_numbers()? {
        let more = database.visit(number, (0, 0), &mut |_, value| {
            visit(Bytes::copy_from_slice(value)).is_continue()
        })?;
        if !more {
            break;
        }
    }
    Ok(())
}

/// A copy of a database, removed when dropped.
struct Scratch(PathBuf);

impl Scratch {
    fn copy_of(path: &Path) -> Result<Scratch, StorageError> {
        let to = std::env::temp_dir().join(format!("aqueduct-look-{:016x}", fastrand::u64(..)));
        let what = format!("copying {} to {} to look at it", path.display(), to.display());
        let scratch = Scratch(to);
        copy(path, &scratch.0).map_err(StorageError::io(what))?;
        Ok(scratch)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What stays behind is a nuisance, not a failure.
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn copy(from: &Path, to: &Path) -> std::io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        match entry.file_type()?.is_dir() {
            true => copy(&entry.path(), &target)?,
            false => drop(fs::copy(entry.path(), target)?),
        }
    }
    Ok(())
}
