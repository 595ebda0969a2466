//! Looking at the data directory of a stopped node: whatever can be read, damage and all.
//!
//! Nothing is changed, so a look can be taken of a directory that is evidence. The directory is
//! locked meanwhile. Only a newer format is an error: what this build does not understand it must
//! not take for damage.

use std::fs::{File, TryLockError};
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

use super::error::StorageError;
use super::events::{self, Salvaged};
use super::identity::{Identity, IdentityRegister};
use super::log::{LogLook, Mark, Piece, read_floor, read_mark};
use super::register;
use crate::env::disk::{Disk, RealDisk};
use crate::types::EntryId;

/// A register as it was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Register<T> {
    Held(T),
    Missing,
    Damaged(String),
}

impl<T> Register<T> {
    /// The value, if it could be read.
    pub fn value(&self) -> Option<&T> {
        match self {
            Register::Held(value) => Some(value),
            _ => None,
        }
    }

    fn of(read: Result<Option<T>, StorageError>) -> Result<Register<T>, StorageError> {
        match read {
            Ok(Some(value)) => Ok(Register::Held(value)),
            Ok(None) => Ok(Register::Missing),
            Err(error @ StorageError::NewerFormat { .. }) => Err(error),
            Err(error) => Ok(Register::Damaged(error.to_string())),
        }
    }
}

/// A data directory, open to be looked at.
pub struct Look {
    disk: Arc<dyn Disk>,
    log: LogLook,
    pub identity: Register<Identity>,
    /// The saved vote, opaque bytes.
    pub vote: Register<Bytes>,
    /// The last entry purged from the log; `None` inside if nothing was.
    pub floor: Register<Option<EntryId>>,
    pub mark: Register<Mark>,
    _lock: Option<File>,
}

impl Look {
    /// Opens the directory of a stopped node, and keeps others out of it.
    pub fn open(dir: &Path) -> Result<Look, StorageError> {
        let name = dir.display().to_string();
        if !dir.is_dir() {
            return Err(StorageError::Empty { dir: name });
        }
        let lock = lock(dir, &name)?;
        let disk = RealDisk::open(dir).map_err(StorageError::io(format!("opening {name}")))?;
        Look::at(Arc::new(disk), LogLook::Databases(dir.join("log")), &name, lock)
    }

    /// The same of any disk, its log in plain files: for simulations and tests.
    pub fn open_on(disk: Arc<dyn Disk>) -> Result<Look, StorageError> {
        Look::at(disk.clone(), LogLook::Files(disk), "the simulated disk", None)
    }

    fn at(
        disk: Arc<dyn Disk>,
        log: LogLook,
        name: &str,
        lock: Option<File>,
    ) -> Result<Look, StorageError> {
        let peek = |path| register::Register::peek(&*disk, path);
        let identity = Register::of(IdentityRegister::peek(&*disk, name))?;
        let vote = Register::of(peek("vote").map(|value| value.filter(|v| !v.is_empty())))?;
        let floor = peek("floor").and_then(|v| v.map(|v| read_floor(Some(&v))).transpose());
        let mark = peek("mark").and_then(|v| v.map(|v| read_mark(Some(&v))).transpose());
        let (floor, mark) = (Register::of(floor)?, Register::of(mark)?);
        Ok(Look { disk, log, identity, vote, floor, mark, _lock: lock })
    }

    /// Shows the log, entry by entry, until the visitor breaks off.
    pub fn log(&self, visit: &mut dyn FnMut(Piece) -> ControlFlow<()>) -> Result<(), StorageError> {
        self.log.pieces(visit)
    }

    /// What can be read of snapshots and segments.
    pub fn events(&self) -> Result<Salvaged, StorageError> {
        events::salvage(self.disk.clone())
    }
}

/// The lock that a node takes. A directory without the file has no node in it.
fn lock(dir: &Path, name: &str) -> Result<Option<File>, StorageError> {
    let failed = || StorageError::io(format!("locking {name}"));
    let file = match File::open(dir.join("LOCK")) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        other => other.map_err(failed())?,
    };
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Err(StorageError::Locked { dir: name.to_owned() }),
        Err(TryLockError::Error(error)) => Err(failed()(error)),
    }
}
