//! Receiving a snapshot.
//!
//! ```text
//! the snapshot's file   ─► a part file, checked when it is whole: now it is known what is needed
//! events, by their keys ─► segments of this node's own, named by the manifest as they are written
//! whole segment files   ─► a part file, checked, and named by the manifest, too
//! ```
//!
//! Events are the same wherever they come from, and so what has arrived counts whoever sent it: the
//! next sender brings what is missing. No snapshot here needs it yet, but it lies beyond all of
//! them, and what does stays when the others are tidied up. The snapshot itself is another one at
//! each sender; a part of it serves only who offers the same again.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;

use super::keys::Keys;
use super::manifest::FileInfo;
use super::scraps::Scraps;
use super::segment::Segment;
use super::snapshot::{self, Snapshot};
use super::store::{EventStore, Hold, State};
use super::writer::SegmentWriter;
use super::{DIR, SnapshotInfo, files, record};
use crate::planted::{Bug, planted};
use crate::storage::error::StorageError;
use crate::types::limits;

/// A snapshot on its way in.
pub struct Staging {
    store: EventStore,
    files: Vec<FileInfo>,
    image: FileInfo,
    /// Once it is whole.
    opened: Option<Arc<Snapshot>>,
    /// What is missing, in the portions in which it is asked for; made when first asked.
    wanted: Option<VecDeque<Keys>>,
    /// How many those are.
    left: u64,
    writer: SegmentWriter,
}

impl Staging {
    pub(super) fn new(store: EventStore, files: Vec<FileInfo>) -> Result<Staging, StorageError> {
        if let Some(file) = files.iter().find(|file| !files::is_name(&file.name)) {
            return Err(StorageError::UnknownFile(file.name.clone()));
        }
        let mut snapshots = files.iter().filter(|file| files::is_snapshot(&file.name));
        let (Some(image), None) = (snapshots.next().cloned(), snapshots.next()) else {
            let detail = "it has not one snapshot file";
            return Err(StorageError::corrupt("the list of files of a snapshot", detail));
        };
        let opened = store.state().current.clone().filter(|current| current.file == image);
        let writer = SegmentWriter::new(Scraps::of(&store));
        let mut staging = Staging { store, files, image, opened, wanted: None, left: 0, writer };
        staging.take_up()?;
        Ok(staging)
    }

    /// Goes on with parts that arrived before; others are of no use any more.
    fn take_up(&mut self) -> Result<(), StorageError> {
        let disk = self.store.disk();
        let found = disk.list(DIR).map_err(StorageError::io("listing the event store"))?;
        for name in found.iter().filter(|name| files::is_part(name)) {
            let mine = self.files.iter().any(|file| files::part(&file.name) == files::path(name));
            if !mine {
                let failed = StorageError::io(format!("removing {name}"));
                disk.remove(&files::path(name)).map_err(failed)?;
            }
        }
        match self.arrived(&self.image.name) == self.image.len {
            true => self.check_part(&self.image.clone()).or_else(|error| match error {
                StorageError::Corrupt { .. } => Ok(()),
                other => Err(other),
            }),
            false => Ok(()),
        }
    }

    /// The snapshot's own file.
    pub fn image(&self) -> &FileInfo {
        &self.image
    }

    /// The files that this node does not have.
    pub fn missing(&self) -> Vec<FileInfo> {
        self.files.iter().filter(|file| !self.has(file)).cloned().collect()
    }

    /// Bytes of a missing file that have arrived.
    pub fn arrived(&self, name: &str) -> u64 {
        self.store.disk().len(&files::part(name)).unwrap_or(0)
    }

    /// Stores a piece of a missing file. With the last one it is checked: if it is damaged it is
    /// dropped, so that it is asked for again.
    pub fn write_chunk(
        &mut self,
        name: &str,
        offset: u64,
        bytes: &[u8],
    ) -> Result<(), StorageError> {
        let file = files::find(&self.files, name)?.clone();
        let end = offset.checked_add(bytes.len() as u64).filter(|end| *end <= file.len);
        let Some(end) = end else {
            let detail = format!("{} bytes at {offset} reach beyond its end", bytes.len());
            return Err(StorageError::corrupt(format!("file {name} of a snapshot"), detail));
        };
        self.check_room()?;
        let failed = StorageError::io(format!("writing {name}"));
        self.store.disk().write_at(&files::part(name), offset, bytes).map_err(failed)?;
        if end == file.len { self.check_part(&file) } else { Ok(()) }
    }

    /// Some of the events that are missing, to be asked for next; `None` if all are here, or if it
    /// is not known yet which are needed.
    pub fn wanted(&mut self) -> Option<&Keys> {
        let opened = self.opened.as_ref()?;
        let (store, left) = (&self.store, &mut self.left);
        let find = || {
            let missing = store.missing(&opened.held);
            *left = missing.count();
            missing.portions(limits::SNAPSHOT_KEYS_MAX).into()
        };
        self.wanted.get_or_insert_with(find).front()
    }

    /// How many events the snapshot needs, and how many of them are missing: zeros before its file
    /// has arrived, all before [`Staging::wanted`] was asked.
    pub fn events(&self) -> (u64, u64) {
        let needed = self.opened.as_ref().map_or(0, |opened| opened.held.count());
        (needed, if self.wanted.is_some() { self.left } else { needed })
    }

    /// Stores records of events that were asked for; returns how many. What is gathered becomes
    /// durable in large pieces, or by [`Staging::keep`].
    pub fn put(&mut self, mut records: Bytes) -> Result<u64, StorageError> {
        let refused = |detail: String| StorageError::corrupt("a piece of a snapshot", detail);
        self.check_room()?;
        let Some(asked) = self.wanted.as_mut().and_then(VecDeque::pop_front) else {
            return Err(refused("nobody asked for it".into()));
        };
        let mut came = Vec::new();
        while let Some((key, bytes)) = record::next(&mut records) {
            let Some(payload) = record::decode(bytes).filter(|_| asked.contains(key)) else {
                return Err(refused(format!("event {key} is damaged, or was not asked for")));
            };
            came.push((key, payload));
        }
        if came.is_empty() || !records.is_empty() {
            return Err(refused("it is cut short".into()));
        }
        let arrived: Keys = came.iter().map(|(key, _)| *key).collect();
        self.left = self.left.saturating_sub(arrived.count());
        let rest = asked.minus(&arrived);
        if let Some(wanted) = self.wanted.as_mut().filter(|_| !rest.is_empty()) {
            wanted.push_front(rest);
        }
        came.into_iter().try_for_each(|(key, payload)| self.writer.put(key, payload))?;
        self.store.take_in(self.writer.written())?;
        Ok(arrived.count())
    }

    /// Makes durable what was gathered: it stays, whatever becomes of the sender and of this node.
    pub fn keep(&mut self) -> Result<(), StorageError> {
        let written = self.writer.finish()?;
        self.store.take_in(written)
    }

    /// Ends the receiving, if everything is here. What is needed is held on to from now on, so that
    /// nothing but the disk can prevent the installation.
    pub fn complete(mut self) -> Result<Received, StorageError> {
        self.keep()?;
        let what = || format!("snapshot {}", self.image.name);
        let absent = || StorageError::corrupt(what(), "its file has not arrived");
        let snapshot = self.opened.clone().ok_or_else(absent)?;
        let _commit = self.store.lock_commit();
        let needed = |segment: &Arc<Segment>| !segment.keys.both(&snapshot.held).is_empty();
        let mut segments = self.store.state().segments.clone();
        segments.retain(needed);
        if planted(Bug::InstallForgetsSegment) {
            segments.pop();
        } else {
            let held = Keys::union(segments.iter().map(|segment| &segment.keys));
            let missing = snapshot.held.minus(&held);
            if let Some(first) = missing.first() {
                let detail =
                    format!("{} events are missing, {first} is the first", missing.count());
                return Err(StorageError::corrupt(what(), detail));
            }
        }
        let hold = self.store.hold(segments.iter().map(|s| s.info.file.clone()).collect());
        Ok(Received { store: self.store.clone(), snapshot, segments, _hold: hold })
    }

    /// Whether a file of this content counts here.
    fn has(&self, file: &FileInfo) -> bool {
        if *file == self.image {
            return self.opened.is_some();
        }
        let state = self.store.state();
        let mut segments = state.segments.iter().map(|segment| &segment.info.file);
        segments.any(|held| held == file)
    }

    /// Checks a file that has arrived and makes it durable; drops it if it is damaged.
    fn check_part(&mut self, file: &FileInfo) -> Result<(), StorageError> {
        let (disk, part) = (self.store.disk(), files::part(&file.name));
        let failed = || StorageError::io(format!("receiving {}", file.name));
        let checked = files::verify(disk, &part, file);
        if checked.as_ref().is_err_and(StorageError::is_corruption) {
            disk.remove(&part).map_err(failed())?;
        }
        checked?;
        disk.sync(&part).map_err(failed())?;
        if *file == self.image {
            self.opened = Some(Arc::new(Snapshot::open_at(disk, &part, file.clone())?));
            return Ok(());
        }
        disk.rename(&part, &files::path(&file.name)).map_err(failed())?;
        let segment = Segment::adopt(disk, file.clone())?;
        self.store.take_in(vec![Arc::new(segment)])
    }

    /// The log needs room, too.
    fn check_room(&self) -> Result<(), StorageError> {
        let looking = StorageError::io("looking for free space");
        let free = self.store.disk().free_bytes().map_err(looking)?;
        match free < limits::SNAPSHOT_FREE_BYTES_MIN {
            true => Err(StorageError::Full { what: "receiving a snapshot".into() }),
            false => Ok(()),
        }
    }
}

/// A snapshot that is here, whole, and does not count yet.
pub struct Received {
    store: EventStore,
    snapshot: Arc<Snapshot>,
    segments: Vec<Arc<Segment>>,
    _hold: Hold,
}

impl Received {
    /// What it is.
    pub fn info(&self) -> &SnapshotInfo {
        &self.snapshot.info
    }

    /// Reads its machine, verified.
    pub fn read_machine(&self) -> Result<Bytes, StorageError> {
        let name = &self.snapshot.info.name;
        let (path, part) = (files::path(name), files::part(name));
        let looking = StorageError::io(format!("looking for {name}"));
        let arrived = self.store.disk().exists(&part).map_err(looking)?;
        snapshot::read_machine_at(self.store.disk(), if arrived { &part } else { &path }, name)
    }

    /// Makes the snapshot current in one step; the old ones go. If the store has a snapshot as new
    /// by now, that one is returned.
    pub fn install(self) -> Result<SnapshotInfo, StorageError> {
        let _commit = self.store.lock_commit();
        let (disk, name) = (self.store.disk(), &self.snapshot.info.name);
        let (path, part) = (files::path(name), files::part(name));
        let failed = || StorageError::io(format!("installing {name}"));
        let incoming = self.snapshot.info.last.index;
        if let Some(current) = self.store.current().filter(|c| c.last.index >= incoming) {
            disk.remove(&part).map_err(failed())?;
            return Ok(current);
        }
        disk.rename(&part, &path).map_err(failed())?;
        let Received { snapshot, segments, .. } = &self;
        let (current, segments) = (Some(snapshot.clone()), segments.clone());
        self.store.commit(State { current, previous: None, segments })?;
        Ok(snapshot.info.clone())
    }
}
