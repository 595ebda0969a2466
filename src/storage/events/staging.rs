//! Sending and receiving a snapshot.

use std::sync::Arc;

use super::manifest::FileInfo;
use super::segment::Segment;
use super::snapshot::Snapshot;
use super::store::{EventStore, State};
use super::{SnapshotInfo, files};
use crate::storage::error::StorageError;

/// The files of a snapshot, which stay while this lives.
pub struct Pinned {
    store: EventStore,
    /// The snapshot that is pinned.
    pub snapshot: SnapshotInfo,
    /// The snapshot file first, then the segments it needs.
    pub files: Vec<FileInfo>,
}

impl Pinned {
    pub(super) fn new(store: EventStore, snapshot: SnapshotInfo, files: Vec<FileInfo>) -> Pinned {
        Pinned { store, snapshot, files }
    }

    /// Takes note that a pinned file may be damaged.
    pub fn suspect(&self, name: &str) {
        self.store.suspect(name);
    }

    /// Reads up to `len` bytes of a pinned file at `offset`; fewer at its end, none beyond.
    pub fn read_chunk(&self, name: &str, offset: u64, len: usize) -> Result<Vec<u8>, StorageError> {
        let file = find(&self.files, name)?;
        let len = file.len.saturating_sub(offset).min(len as u64) as usize;
        let read = self.store.disk().read(&files::path(name), offset, len);
        if read.as_ref().is_err_and(files::is_damage) {
            self.suspect(name);
        }
        read.map_err(StorageError::io(format!("reading {name}")))
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        self.store.unpin(&self.files);
    }
}

/// A snapshot on its way in. What has arrived stays until the node restarts, so another staging
/// of the same files goes on where one was given up.
pub struct Staging {
    store: EventStore,
    files: Vec<FileInfo>,
}

impl Staging {
    pub(super) fn new(store: EventStore, files: Vec<FileInfo>) -> Result<Staging, StorageError> {
        if let Some(file) = files.iter().find(|file| !files::is_name(&file.name)) {
            return Err(StorageError::UnknownFile(file.name.clone()));
        }
        let snapshots = files.iter().filter(|file| files::is_snapshot(&file.name)).count();
        if snapshots != 1 {
            let detail = format!("it has {snapshots} snapshot files instead of one");
            return Err(StorageError::corrupt("the list of files of a snapshot", detail));
        }
        Ok(Staging { store, files })
    }

    /// The files that this node does not have.
    pub fn missing(&self) -> Vec<FileInfo> {
        self.files.iter().filter(|file| !self.has(file)).cloned().collect()
    }

    /// Bytes of a missing file that have arrived.
    pub fn arrived(&self, name: &str) -> u64 {
        self.store.disk().len(&staged(name)).unwrap_or(0)
    }

    /// Stores a piece of a missing file.
    pub fn write_chunk(
        &mut self,
        name: &str,
        offset: u64,
        bytes: &[u8],
    ) -> Result<(), StorageError> {
        let file = find(&self.files, name)?;
        if offset.checked_add(bytes.len() as u64).is_none_or(|end| end > file.len) {
            let detail = format!("{} bytes at {offset} reach beyond its end", bytes.len());
            return Err(StorageError::corrupt(format!("file {name} of a snapshot"), detail));
        }
        let failed = StorageError::io(format!("writing {name}"));
        self.store.disk().write_at(&staged(name), offset, bytes).map_err(failed)
    }

    /// Verifies what has arrived, and drops what is damaged, so that it is asked for again. What is
    /// whole here can still be found damaged by [`Staging::install`]; then it is this disk's fault.
    pub fn check(&self) -> Result<(), StorageError> {
        let checked: Vec<_> = self.missing().iter().map(|file| self.check_file(file)).collect();
        checked.into_iter().try_for_each(|checked| checked.map(drop))
    }

    /// Verifies every file and makes the snapshot current in one step; the old ones go. If the
    /// store has a snapshot as new by now, that one is returned.
    pub fn install(self) -> Result<SnapshotInfo, StorageError> {
        let _commit = self.store.lock_commit();
        // All of them, so that everything bad is asked for again.
        let verified: Vec<_> = self.missing().iter().map(|file| self.verify(file)).collect();
        verified.into_iter().collect::<Result<(), StorageError>>()?;
        let state = self.open()?;
        let incoming = state.current.as_ref().map(|snapshot| snapshot.info.clone());
        let incoming = incoming.ok_or_else(|| StorageError::corrupt("a snapshot", "no file"))?;
        if let Some(current) = self.store.current().filter(|c| c.last.index >= incoming.last.index)
        {
            self.store.sweep(|name| self.files.iter().any(|file| file.name == name))?;
            return Ok(current);
        }
        self.store.commit(state)?;
        Ok(incoming)
    }

    /// Whether a file of this content counts here.
    fn has(&self, file: &FileInfo) -> bool {
        let state = self.store.state();
        let mut segments = state.segments.iter().map(|segment| &segment.info.file);
        segments.any(|held| held == file)
    }

    /// Checks a file that has arrived, makes it durable and gives it its name.
    fn verify(&self, file: &FileInfo) -> Result<(), StorageError> {
        let checked = self.check_file(file)?;
        let path = files::path(&file.name);
        if checked == path {
            return Ok(());
        }
        let (disk, failed) = (self.store.disk(), || StorageError::io(format!("receiving {path}")));
        disk.sync(&checked).map_err(failed())?;
        disk.rename(&checked, &path).map_err(failed())
    }

    /// Checks a file that has arrived, and says where it is: an earlier attempt may have given it
    /// its name. What is damaged on its way in is dropped.
    fn check_file(&self, file: &FileInfo) -> Result<String, StorageError> {
        let disk = self.store.disk();
        let (part, path) = (staged(&file.name), files::path(&file.name));
        let failed = || StorageError::io(format!("receiving {}", file.name));
        if !disk.exists(&part).map_err(failed())? && disk.exists(&path).map_err(failed())? {
            return files::verify(disk, &path, file).map(|()| path);
        }
        let checked = files::verify(disk, &part, file);
        if checked.as_ref().is_err_and(StorageError::is_corruption) {
            disk.remove(&part).map_err(failed())?;
        }
        checked.map(|()| part)
    }

    fn open(&self) -> Result<State, StorageError> {
        let mut state = State::default();
        for file in &self.files {
            if files::is_snapshot(&file.name) {
                let snapshot = Snapshot::open(self.store.disk(), file.clone())?;
                state.current = Some(Arc::new(snapshot));
            } else {
                let segment = Segment::adopt(self.store.disk(), file.clone())?;
                state.segments.push(Arc::new(segment));
            }
        }
        Ok(state)
    }
}

fn staged(name: &str) -> String {
    format!("{}.part", files::path(name))
}

fn find<'a>(files: &'a [FileInfo], name: &str) -> Result<&'a FileInfo, StorageError> {
    let found = files.iter().find(|file| file.name == name);
    found.ok_or_else(|| StorageError::UnknownFile(name.to_owned()))
}
