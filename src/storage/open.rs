//! Opening a data directory: lock, identity, registers, event store, log, in this order.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use super::error::StorageError;
use super::events::EventStore;
use super::hold::{Hold, LOCK, Released};
use super::identity::{Identity, IdentityRegister};
use super::log::{
    Drive, FileMedium, LogStore, Medium, Recovered, Registers, SledMedium, SledOptions, recover,
};
use super::register::Register;
use super::registers::Registers as NodeRegisters;
use crate::env::disk::{Disk, RealDisk};
use crate::types::{ClusterId, NodeId, limits};

/// Who is to live in a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner {
    pub cluster: ClusterId,
    pub node: NodeId,
}

/// Sizes; the defaults are those of [`limits`].
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Bytes of newest log entries kept in memory.
    pub tail_bytes: usize,
    /// Bytes after which the log goes on in a fresh database.
    pub database_bytes: u64,
}

impl Default for Options {
    fn default() -> Options {
        Options { tail_bytes: limits::LOG_TAIL_BYTES, database_bytes: limits::LOG_DATABASE_BYTES }
    }
}

/// Everything a healthy node has on its disk. The directory stays locked until the last handle to
/// the log is gone.
pub struct Storage {
    pub identity: Identity,
    pub log: LogStore,
    pub events: EventStore,
    /// For whoever watches free space.
    pub disk: Arc<dyn Disk>,
    /// Tells when the directory can be opened again.
    pub released: Released,
}

/// What was found in a directory.
pub enum Opened {
    Healthy(Storage),
    /// Something acknowledged is damaged. The node must not vote, lead or serve.
    Quarantined {
        reason: String,
        /// If it can still be read.
        identity: Option<Identity>,
        /// Keeps others out of the directory.
        lock: Option<File>,
    },
}

impl Storage {
    /// A look at the registers.
    pub fn registers(&self) -> NodeRegisters {
        NodeRegisters::new(self.disk.clone())
    }
}

impl Opened {
    /// The storage of a healthy node; a quarantine as an error.
    pub fn healthy(self) -> Result<Storage, StorageError> {
        match self {
            Opened::Healthy(storage) => Ok(storage),
            Opened::Quarantined { reason, .. } => {
                Err(StorageError::corrupt("the data directory", reason))
            }
        }
    }
}

/// Who lives in a directory, without opening it; `None` if nobody does.
pub fn peek(dir: &Path) -> Result<Option<Identity>, StorageError> {
    if !dir.exists() {
        return Ok(None);
    }
    let disk = real_disk(dir)?;
    IdentityRegister::peek(&disk, &dir.display().to_string())
}

/// Whether a node has this directory open now.
pub fn is_in_use(dir: &Path) -> bool {
    dir.join(LOCK).exists() && real_disk(dir).is_ok_and(|disk| matches!(disk.lock(LOCK), Ok(None)))
}

/// Opens the directory of a node. With an `owner` an empty directory is made its own, and one of
/// somebody else is refused; without, it must have one.
pub fn open(dir: &Path, owner: Option<Owner>, options: Options) -> Result<Opened, StorageError> {
    let name = dir.display().to_string();
    let disk = real_disk(dir)?;
    let failed = StorageError::io(format!("locking {name}"));
    let lock = disk.lock(LOCK).map_err(failed)?;
    let lock = Some(lock.ok_or_else(|| StorageError::Locked { dir: name.clone() })?);
    let disk: Arc<dyn Disk> = Arc::new(disk);
    let sled = SledOptions { dir: dir.join("log"), database_bytes: options.database_bytes };
    let is_empty = || SledMedium::is_empty(&dir.join("log"));
    let medium = || SledMedium::open(sled);
    Opening { disk, name, lock, options, drive: Drive::Thread }.run(owner, is_empty, medium)
}

/// Opens a node on any disk, its log in plain files: for simulations and tests.
pub fn open_on(
    disk: Arc<dyn Disk>,
    owner: Option<Owner>,
    options: Options,
    drive: Drive,
) -> Result<Opened, StorageError> {
    let files = disk.clone();
    let medium = || FileMedium::open(files.clone(), options.database_bytes);
    let is_empty = || FileMedium::is_empty(&*files);
    let name = "the simulated disk".to_owned();
    Opening { disk, name, lock: None, options, drive }.run(owner, is_empty, medium)
}

fn real_disk(dir: &Path) -> Result<RealDisk, StorageError> {
    RealDisk::open(dir).map_err(StorageError::io(format!("opening {}", dir.display())))
}

struct Opening {
    disk: Arc<dyn Disk>,
    name: String,
    lock: Option<File>,
    options: Options,
    drive: Drive,
}

impl Opening {
    fn run<M: Medium + 'static>(
        self,
        owner: Option<Owner>,
        is_empty: impl FnOnce() -> Result<bool, StorageError>,
        medium: impl FnOnce() -> Result<M, StorageError>,
    ) -> Result<Opened, StorageError> {
        let identity = IdentityRegister::open(self.disk.clone(), &self.name)
            .and_then(|register| register.read().map(|found| (register, found)));
        let (mut register, found) = match identity {
            Err(StorageError::Corrupt { what, detail }) => {
                return Ok(self.quarantine(None, format!("{what}: {detail}")));
            }
            other => other?,
        };
        let identity = match (found, owner) {
            (Some(found), Some(owner)) => {
                register.check(found, owner)?;
                found
            }
            (Some(found), None) => found,
            (None, _) if !is_empty()? || !EventStore::is_empty(&*self.disk)? => {
                return Ok(self.quarantine(None, "there is data, but no identity".into()));
            }
            (None, None) => return Err(StorageError::Empty { dir: self.name }),
            (None, Some(owner)) => self.create(owner)?,
        };
        match self.open_healthy(identity, medium) {
            Ok((log, events)) => {
                let identity = Identity { incarnation: identity.incarnation + 1, ..identity };
                register.write(identity)?;
                events.settle()?;
                let (hold, released) = Hold::by(self.lock);
                log.hold(hold);
                Ok(Opened::Healthy(Storage { identity, log, events, disk: self.disk, released }))
            }
            Err(StorageError::Corrupt { what, detail }) => {
                Ok(self.quarantine(Some(identity), format!("{what}: {detail}")))
            }
            Err(error) => Err(error),
        }
    }

    /// Lays down everything but the identity, which says that the rest is there.
    fn create(&self, owner: Owner) -> Result<Identity, StorageError> {
        let mut registers = self.registers()?;
        registers.vote.write_both(&[])?;
        registers.write_floor(None)?;
        registers.set_mark(0)?;
        EventStore::create(&*self.disk)?;
        Ok(Identity { cluster: owner.cluster, node: owner.node, incarnation: 0 })
    }

    fn registers(&self) -> Result<Registers, StorageError> {
        let open = |path| Register::open(self.disk.clone(), path);
        Ok(Registers { vote: open("vote")?, floor: open("floor")?, mark: open("mark")? })
    }

    fn open_healthy<M: Medium + 'static>(
        &self,
        identity: Identity,
        medium: impl FnOnce() -> Result<M, StorageError>,
    ) -> Result<(LogStore, EventStore), StorageError> {
        let registers = self.registers()?;
        for (name, register) in registers.named() {
            if register.value().is_none() {
                return Err(StorageError::corrupt(format!("register {name}"), "it is missing"));
            }
        }
        let floor = registers.read_floor()?;
        let events = EventStore::open(self.disk.clone(), identity.node, floor)?;
        let snapshot = events.current().map(|snapshot| snapshot.last);
        match recover(medium()?, registers, snapshot, self.options.tail_bytes, self.drive)? {
            Recovered::Healthy(log) => Ok((log, events)),
            Recovered::Damaged(detail) => Err(StorageError::corrupt("the log", detail)),
        }
    }

    fn quarantine(self, identity: Option<Identity>, reason: String) -> Opened {
        tracing::error!(dir = self.name, %reason, "quarantine: acknowledged data is damaged");
        Opened::Quarantined { reason, identity, lock: self.lock }
    }
}
