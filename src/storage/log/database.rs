//! One sled database of the log: a directory that is created durably, filled tree by tree, closed
//! when rolled, and removed whole.
//!
//! sled is held to what it does well: records far below its blob limit, a fresh tree
//! before leaves are consolidated or split, our own `fdatasync`, and no trust in its checksums.

use std::fs::File;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use ::sled::{Config, Db, Tree};
use rustix::fs::FallocateFlags;

use super::record::Record;
use crate::planted::{Bug, planted};
use crate::storage::error::StorageError;

/// Compiled in: opening with another value shows an empty database.
const SEGMENT_BYTES: usize = 8 << 20;
const CACHE_BYTES: u64 = 8 << 20;
/// A tree takes at least this much before the next one is begun.
const TREE_CHUNKS_MIN: usize = 8;
const TREE_BYTES_MIN: usize = 64 << 10;
/// sled lets go of its lock some time after the last handle is dropped.
const LOCK_PATIENCE: Duration = Duration::from_secs(10);
/// Present once creation was synced; a directory without it never held an acknowledged record.
const READY: &str = "ready";

/// Key of the first record of a tree.
type Key = (u64, u32);

/// Where the records of a database lie.
#[derive(Debug, Clone, Default)]
pub struct Contents {
    /// First key and number of each tree that holds records, in order.
    pub trees: Vec<(Key, u32)>,
    /// Index of the last entry.
    pub last: u64,
    /// Bytes of all records.
    pub bytes: u64,
    next_tree: u32,
}

/// An open database.
#[derive(Clone)]
pub struct Database {
    path: PathBuf,
    db: Db,
}

/// The tree that is being filled, and the file that makes it durable.
pub struct Filling {
    database: Database,
    file: File,
    tree: Option<(Tree, usize, usize)>,
}

/// Creates a database that is to take so many bytes, or opens an empty one; all its files and names
/// are durable on return.
pub fn create(path: &Path, bytes: u64) -> Result<Database, StorageError> {
    let failed = || StorageError::io(format!("creating log database {}", path.display()));
    if path.exists() && !is_ready(path) {
        // An earlier creation was interrupted.
        std::fs::remove_dir_all(path).map_err(failed())?;
    }
    let database = Database::open(path)?;
    database.protect("flushing", |db| db.flush())?;
    if let Err(error) = reserve(&path.join("db"), bytes) {
        // It works without, only slower; whether there is room is judged elsewhere.
        tracing::debug!(%error, path = %path.display(), "no space was reserved");
    }
    File::create(path.join(READY)).map_err(failed())?;
    make_durable(path)?;
    Ok(database)
}

/// Takes the space of whole segments at once: a sync of a file that grows writes its size, too.
fn reserve(file: &Path, bytes: u64) -> io::Result<()> {
    let file = File::options().write(true).open(file)?;
    let bytes = bytes.next_multiple_of(SEGMENT_BYTES as u64);
    Ok(rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, bytes)?)
}

/// Syncs everything of a database, names included.
pub fn make_durable(path: &Path) -> Result<(), StorageError> {
    let files = ["db", "conf", READY].map(|name| path.join(name));
    let dirs = [path, path.parent().unwrap_or(path)];
    for file in files.iter().map(PathBuf::as_path).chain(dirs) {
        let failed = StorageError::sync(format!("syncing log database {}", path.display()));
        sync(file).map_err(failed)?;
    }
    Ok(())
}

/// Path of the database of a generation.
pub fn path_in(dir: &Path, generation: u64) -> PathBuf {
    dir.join(format!("db-{generation:010}"))
}

/// The databases in a directory whose creation was finished, the oldest first.
pub fn ready_in(dir: &Path) -> Result<Vec<PathBuf>, StorageError> {
    let failed = || StorageError::io(format!("listing log directory {}", dir.display()));
    let entries = match std::fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(failed())?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.map_err(failed())?;
        let name = entry.file_name();
        let generation = name.to_str().and_then(|name| name.strip_prefix("db-"));
        if let Some(Ok(generation)) = generation.map(str::parse::<u64>) {
            found.push((generation, entry.path()));
        }
    }
    found.sort();
    Ok(found.into_iter().map(|(_, path)| path).filter(|path| is_ready(path)).collect())
}

/// Whether the creation of a database was finished.
pub fn is_ready(path: &Path) -> bool {
    path.join(READY).exists()
}

/// Removes a database: durably out of the way on return, its space free soon after.
pub fn remove(path: &Path) -> Result<(), StorageError> {
    let gone = path.with_extension("gone");
    let failed = || StorageError::io(format!("removing log database {}", path.display()));
    std::fs::rename(path, &gone).map_err(failed())?;
    sync(path.parent().unwrap_or(path)).map_err(failed())?;
    std::fs::remove_dir_all(&gone).map_err(failed())
}

fn sync(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

impl Database {
    /// Opens the database, creating it when absent. A database that sled refuses or panics on is
    /// [`StorageError::Corrupt`].
    pub fn open(path: &Path) -> Result<Database, StorageError> {
        sweep(path)?;
        let deadline = Instant::now() + LOCK_PATIENCE;
        loop {
            let config = Config::new()
                .path(path)
                .segment_size(SEGMENT_BYTES)
                .cache_capacity(CACHE_BYTES)
                .flush_every_ms(None);
            match protect(path, "opening", || config.open()) {
                Err(StorageError::Io { error, .. })
                    if error.to_string().contains("acquire lock") && Instant::now() < deadline =>
                {
                    std::thread::sleep(Duration::from_millis(5));
                }
                Err(error) => return Err(error),
                Ok(db) => return Ok(Database { path: path.to_owned(), db }),
            }
        }
    }

    /// Numbers of the trees, in order.
    pub fn tree_numbers(&self) -> Result<Vec<u32>, StorageError> {
        let names = self.protect("listing the trees of", |db| Ok(db.tree_names()))?;
        let number = |name: &::sled::IVec| Some(u32::from_be_bytes(name[..].try_into().ok()?));
        let mut numbers: Vec<u32> = names.iter().filter_map(number).collect();
        numbers.sort_unstable();
        Ok(numbers)
    }

    /// A tree by its number, created when absent.
    pub fn tree(&self, number: u32) -> Result<Tree, StorageError> {
        self.protect("opening a tree of", |db| db.open_tree(number.to_be_bytes()))
    }

    /// Does something with the database that may fail, or panic on damage.
    pub fn protect<T>(
        &self,
        doing: &str,
        work: impl FnOnce(&Db) -> ::sled::Result<T>,
    ) -> Result<T, StorageError> {
        protect(&self.path, doing, || work(&self.db))
    }

    /// Shows the records of a tree from `start` on. Returns false when the visitor broke off.
    pub fn visit(
        &self,
        number: u32,
        start: Key,
        visit: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<bool, StorageError> {
        let tree = self.tree(number)?;
        self.protect("reading", |_| {
            for item in tree.range(key(start)..) {
                let (key, value) = item?;
                if !visit(&key, &value) {
                    return Ok(false);
                }
            }
            Ok(true)
        })
    }

    /// The last key of a tree that is not after `at`.
    pub fn key_before(&self, number: u32, at: Key) -> Result<Option<Key>, StorageError> {
        let tree = self.tree(number)?;
        let found = self
            .protect("reading", |_| tree.range(..=key(at)).next_back().transpose())?
            .map(|(key, _)| key);
        Ok(found.and_then(|key| parse_key(&key)))
    }
}

impl Filling {
    /// Goes on filling a database, beginning with a fresh tree.
    pub fn new(database: Database) -> Result<Filling, StorageError> {
        let path = database.path.join("db");
        let failed = StorageError::io(format!("opening {}", path.display()));
        let file = File::open(&path).map_err(failed)?;
        Ok(Filling { database, file, tree: None })
    }

    /// Puts a record behind all others.
    pub fn put(&mut self, record: &Record, contents: &mut Contents) -> Result<(), StorageError> {
        let full =
            |tree: &(Tree, usize, usize)| tree.1 >= TREE_CHUNKS_MIN && tree.2 >= TREE_BYTES_MIN;
        let at = (record.first, record.part);
        let (tree, chunks, bytes) = match &mut self.tree {
            Some(tree) if !full(tree) => tree,
            slot => {
                contents.trees.push((at, contents.next_tree));
                let tree = self.database.tree(contents.next_tree)?;
                contents.next_tree += 1;
                slot.insert((tree, 0, 0))
            }
        };
        let key = key(at);
        self.database.protect("writing", |_| tree.insert(key, &record.bytes[..]))?;
        (*chunks, *bytes) = (*chunks + 1, *bytes + record.bytes.len());
        contents.last = record.last;
        contents.bytes += record.bytes.len() as u64;
        Ok(())
    }

    /// Makes everything durable: sled's flush alone does not.
    pub fn sync(&self) -> Result<(), StorageError> {
        self.database.protect("flushing", |db| db.flush())?;
        if planted(Bug::FlushTrusted) {
            return Ok(());
        }
        let failed = StorageError::sync(format!("syncing {}", self.database.path.display()));
        self.file.sync_data().map_err(failed)
    }

    /// Removes what lies after entry `last`, newest first, and replaces the record that holds
    /// entries on both sides by `prefix`. Durable on return.
    pub fn truncate_after(
        &mut self,
        last: u64,
        prefix: Option<Record>,
        contents: &mut Contents,
    ) -> Result<(), StorageError> {
        self.tree = None;
        while let Some(&(first, number)) = contents.trees.last() {
            let tree = self.database.tree(number)?;
            let after = key((last.saturating_add(1), 0));
            self.database.protect("truncating", |_| {
                for item in tree.range(after..).rev() {
                    tree.remove(item?.0)?;
                }
                Ok(())
            })?;
            if first.0 <= last {
                break;
            }
            contents.trees.pop();
        }
        if let (Some(record), Some(&(_, number))) = (prefix, contents.trees.last()) {
            let tree = self.database.tree(number)?;
            let key = key((record.first, record.part));
            self.database.protect("truncating", |_| tree.insert(key, &record.bytes[..]))?;
        }
        contents.last = contents.last.min(last);
        self.sync()
    }
}

impl Contents {
    /// Learns of a record found in a tree.
    pub fn add(&mut self, number: u32, at: Key, last: u64, bytes: usize) {
        if self.trees.last().is_none_or(|(_, tree)| *tree != number) {
            self.trees.push((at, number));
        }
        self.last = self.last.max(last);
        self.bytes += bytes as u64;
    }

    /// Learns of a tree, empty perhaps.
    pub fn add_tree(&mut self, number: u32) {
        self.next_tree = self.next_tree.max(number.saturating_add(1));
    }

    /// Index of the first entry, if there is one.
    pub fn first(&self) -> Option<u64> {
        self.trees.first().map(|(key, _)| key.0)
    }
}

/// The key of a record: index of its first entry and part, big endian.
fn key((first, part): Key) -> [u8; 12] {
    let mut key = [0; 12];
    key[..8].copy_from_slice(&first.to_be_bytes());
    key[8..].copy_from_slice(&part.to_be_bytes());
    key
}

/// What [`key`] made.
pub fn parse_key(key: &[u8]) -> Option<Key> {
    let first = u64::from_be_bytes(key.get(..8)?.try_into().ok()?);
    Some((first, u32::from_be_bytes(key.get(8..)?.try_into().ok()?)))
}

/// Removes half-written sled snapshots, which would make every open fail.
fn sweep(path: &Path) -> Result<(), StorageError> {
    let failed = || StorageError::io(format!("sweeping {}", path.display()));
    let entries = match std::fs::read_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other.map_err(failed())?,
    };
    for entry in entries {
        let path = entry.map_err(failed())?.path();
        if path.extension().is_some_and(|extension| extension == "generating") {
            std::fs::remove_file(path).map_err(failed())?;
        }
    }
    Ok(())
}

fn protect<T>(
    path: &Path,
    doing: &str,
    work: impl FnOnce() -> ::sled::Result<T>,
) -> Result<T, StorageError> {
    let what = || format!("{doing} log database {}", path.display());
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(::sled::Error::Io(error))) if error.kind() != io::ErrorKind::UnexpectedEof => {
            Err(StorageError::io(what())(error))
        }
        Ok(Err(error)) => {
            let detail = format!("{doing} it failed: {error}");
            Err(StorageError::corrupt(format!("log database {}", path.display()), detail))
        }
        Err(_) => {
            let detail = format!("{doing} it made sled panic");
            Err(StorageError::corrupt(format!("log database {}", path.display()), detail))
        }
    }
}
