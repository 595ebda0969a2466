//! The handle to the event store.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use bytes::Bytes;

use super::cache::BlockCache;
use super::damage::Damage;
use super::keys::Keys;
use super::manifest::{self, FileInfo, Manifest};
use super::pinned::Pinned;
use super::segment::{self, Segment};
use super::snapshot::{self, Snapshot};
use super::staging::Staging;
use super::writer::SnapshotWriter;
use super::{DIR, SnapshotInfo, files};
use crate::env::disk::Disk;
use crate::env::{Publisher, Watch, watch};
use crate::storage::error::StorageError;
use crate::types::{EntryId, NodeId, Payload, PayloadKey};

/// The event store of one node. Clones are handles to the same store.
#[derive(Clone)]
pub struct EventStore(Arc<Inside>);

struct Inside {
    disk: Arc<dyn Disk>,
    node: NodeId,
    next: AtomicU64,
    state: RwLock<Arc<State>>,
    /// Held while a manifest is prepared and written.
    commit: Mutex<()>,
    cache: Mutex<BlockCache>,
    pins: Mutex<BTreeMap<String, usize>>,
    damage: Publisher<Damage>,
    damage_seen: Watch<Damage>,
}

/// What counts, as one manifest said it.
#[derive(Debug, Default)]
pub(super) struct State {
    pub current: Option<Arc<Snapshot>>,
    pub previous: Option<Arc<Snapshot>>,
    pub segments: Vec<Arc<Segment>>,
}

impl State {
    pub(super) fn manifest(&self, next: u64) -> Manifest {
        let file = |snapshot: &Option<Arc<Snapshot>>| snapshot.as_ref().map(|s| s.file.clone());
        Manifest {
            next,
            current: file(&self.current),
            previous: file(&self.previous),
            segments: self.segments.iter().map(|segment| segment.info.clone()).collect(),
        }
    }
}

impl EventStore {
    /// Lays down an empty event store.
    pub(in crate::storage) fn create(disk: &dyn Disk) -> Result<(), StorageError> {
        disk.make_dir(DIR).map_err(StorageError::io("creating the event store"))?;
        Manifest::default().write(disk)
    }

    /// Whether a disk holds no file of an event store but a manifest.
    pub(in crate::storage) fn is_empty(disk: &dyn Disk) -> Result<bool, StorageError> {
        let names = disk.list(DIR).map_err(StorageError::io("listing the event store"))?;
        Ok(names.iter().all(|name| files::number(name).is_none()))
    }

    /// Opens the store of `node` and verifies snapshots and segment indexes, changing nothing.
    /// `floor` is the last entry purged from the log: a snapshot that ends before it is useless.
    pub(in crate::storage) fn open(
        disk: Arc<dyn Disk>,
        node: NodeId,
        floor: Option<EntryId>,
    ) -> Result<EventStore, StorageError> {
        let lost = || StorageError::corrupt("the event store", "its manifest is missing");
        let manifest = Manifest::read(&*disk)?.ok_or_else(lost)?;
        let names = disk.list(DIR).map_err(StorageError::io("listing the event store"))?;
        let used = names.iter().filter_map(|name| files::number(name)).max();
        let next = AtomicU64::new(manifest.next.max(used.map_or(0, |number| number + 1)));
        let state = open_state(&*disk, manifest, floor)?;
        Ok(EventStore::new(disk, node, next, state))
    }

    /// A store to be looked at, never changed.
    pub(super) fn to_look_at(disk: Arc<dyn Disk>, state: State) -> EventStore {
        EventStore::new(disk, NodeId(0), AtomicU64::new(0), state)
    }

    fn new(disk: Arc<dyn Disk>, node: NodeId, next: AtomicU64, state: State) -> EventStore {
        let (damage, damage_seen) = watch(Damage::default());
        EventStore(Arc::new(Inside {
            disk,
            node,
            next,
            state: RwLock::new(Arc::new(state)),
            commit: Mutex::default(),
            cache: Mutex::default(),
            pins: Mutex::default(),
            damage,
            damage_seen,
        }))
    }

    /// Makes what was found at open current, and sweeps what does not count.
    pub(in crate::storage) fn settle(&self) -> Result<(), StorageError> {
        let state = self.state();
        let found = Manifest::read(self.disk())?;
        if found != Some(state.manifest(found.as_ref().map_or(0, |manifest| manifest.next))) {
            state.manifest(self.0.next.load(Ordering::Relaxed)).write(self.disk())?;
        }
        // A killed process may have renamed the manifest and not got further.
        self.disk().sync_dir(DIR).map_err(StorageError::io("syncing the event store"))?;
        self.sweep(|_| true)
    }

    /// The newest snapshot.
    pub fn current(&self) -> Option<SnapshotInfo> {
        self.state().current.as_ref().map(|snapshot| snapshot.info.clone())
    }

    /// The one before. The log must reach back to the end of it.
    pub fn previous(&self) -> Option<SnapshotInfo> {
        self.state().previous.as_ref().map(|snapshot| snapshot.info.clone())
    }

    /// Reads the machine of a retained snapshot, verified.
    pub fn read_machine(&self, snapshot: &SnapshotInfo) -> Result<Bytes, StorageError> {
        snapshot::read_machine(self.disk(), &snapshot.name)
    }

    /// Whether the payload is here. Never touches the disk.
    pub fn holds(&self, key: PayloadKey) -> bool {
        self.state().segments.iter().any(|segment| segment.keys.contains(key))
    }

    /// Those of the keys whose payloads are not here.
    pub fn missing(&self, keys: &Keys) -> Keys {
        keys.minus(&Keys::union(self.state().segments.iter().map(|segment| &segment.keys)))
    }

    /// Reads a payload, verified; `None` if it is not here. Damage is
    /// [`StorageError::CorruptEvent`].
    pub fn read(&self, key: PayloadKey) -> Result<Option<Payload>, StorageError> {
        let state = self.state();
        let result = self.read_in(&state, key);
        // A snapshot finished meanwhile may have moved it: look once more.
        if result.is_err() && !Arc::ptr_eq(&state, &self.state()) {
            return self.read_in(&self.state(), key);
        }
        result
    }

    /// Begins a snapshot.
    pub fn writer(&self) -> SnapshotWriter {
        SnapshotWriter::new(self.clone())
    }

    /// Holds on to the files of the current snapshot; `None` if there is no snapshot.
    pub fn pin(&self) -> Option<Pinned> {
        // Before anybody sweeps what another snapshot has made superfluous.
        let mut pins = lock(&self.0.pins);
        let state = self.state();
        let snapshot = state.current.as_ref()?;
        let needed = |segment: &&Arc<Segment>| !segment.keys.both(&snapshot.held).is_empty();
        let segments: Vec<_> = state.segments.iter().filter(needed).cloned().collect();
        let names = segments.iter().map(|segment| segment.info.file.clone());
        let files = std::iter::once(snapshot.file.clone()).chain(names).collect();
        let hold = self.hold_with(&mut pins, files);
        Some(Pinned::new(snapshot.info.clone(), segments, hold))
    }

    /// Holds on to files that count. The caller holds the commit lock.
    pub(super) fn hold(&self, files: Vec<FileInfo>) -> Hold {
        self.hold_with(&mut lock(&self.0.pins), files)
    }

    fn hold_with(&self, pins: &mut BTreeMap<String, usize>, files: Vec<FileInfo>) -> Hold {
        for file in &files {
            *pins.entry(file.name.clone()).or_default() += 1;
        }
        Hold { store: self.clone(), files }
    }

    /// Names more segments in the manifest: events of a snapshot on its way in.
    pub(super) fn take_in(&self, fresh: Vec<Arc<Segment>>) -> Result<(), StorageError> {
        if fresh.is_empty() {
            return Ok(());
        }
        let _commit = self.lock_commit();
        let old = self.state();
        let (current, previous) = (old.current.clone(), old.previous.clone());
        let segments = old.segments.iter().cloned().chain(fresh).collect();
        self.commit(State { current, previous, segments })
    }

    /// Bytes of segments with events that no snapshot here covers yet: what has arrived of one that
    /// is on its way in.
    pub fn staged_bytes(&self) -> u64 {
        let state = self.state();
        let last = state.current.as_ref().map_or(0, |current| current.info.last.index);
        let staged = state.segments.iter().filter(|segment| segment.is_beyond(last));
        staged.map(|segment| segment.info.file.len).sum()
    }

    /// Prepares to receive a snapshot consisting of `files` (one snapshot, its segments).
    pub fn stage(&self, files: Vec<FileInfo>) -> Result<Staging, StorageError> {
        Staging::new(self.clone(), files)
    }

    /// Bytes of all files that count.
    pub fn bytes(&self) -> u64 {
        self.counting().iter().map(|file| file.len).sum()
    }

    /// All files that count but the manifest.
    pub(super) fn counting(&self) -> Vec<FileInfo> {
        let Manifest { current, previous, segments, .. } = self.state().manifest(0);
        let segments = segments.into_iter().map(|segment| segment.file);
        current.into_iter().chain(previous).chain(segments).collect()
    }

    /// Makes this state what the manifest says. The caller holds the commit lock.
    pub(super) fn write_manifest(&self, state: &State) -> Result<(), StorageError> {
        state.manifest(self.0.next.load(Ordering::Relaxed)).write(self.disk())
    }

    fn read_in(&self, state: &State, key: PayloadKey) -> Result<Option<Payload>, StorageError> {
        let segment = state.segments.iter().find(|segment| segment.keys.contains(key));
        segment.map(|segment| self.read_segment(segment, key)).transpose()
    }

    /// Reads a payload that the segment holds. Damage makes the segment a suspect.
    pub(super) fn read_segment(
        &self,
        segment: &Segment,
        key: PayloadKey,
    ) -> Result<Payload, StorageError> {
        let found = self.find_in(segment, key);
        if found.as_ref().is_err_and(StorageError::is_corruption) {
            self.suspect(&segment.info.file.name);
        }
        found
    }

    fn find_in(&self, segment: &Segment, key: PayloadKey) -> Result<Payload, StorageError> {
        let absent = || StorageError::CorruptEvent { key, detail: "it has no block".into() };
        let block = segment.block_of(key).ok_or_else(absent)?;
        let place = (segment.id, block.offset);
        let cached = lock(&self.0.cache).get(place);
        if let Some(bytes) = cached {
            return segment::find(&bytes, key);
        }
        let bytes = segment::read_block(self.disk(), &segment.info.file, block, key)?;
        let found = segment::find(&bytes, key);
        // What is damaged is read again next time: it may have been the memory.
        if found.is_ok() {
            lock(&self.0.cache).put(place, bytes);
        }
        found
    }

    /// What is known of damage.
    pub fn damage(&self) -> Watch<Damage> {
        self.0.damage_seen.clone()
    }

    pub(super) fn set_damage(&self, change: impl FnOnce(&mut Damage)) {
        self.0.damage.modify(change);
    }

    pub(super) fn disk(&self) -> &dyn Disk {
        &*self.0.disk
    }

    pub(super) fn state(&self) -> Arc<State> {
        self.0.state.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn next_segment_name(&self) -> String {
        files::segment_name(self.0.node, self.0.next.fetch_add(1, Ordering::Relaxed))
    }

    pub(super) fn next_snapshot_name(&self) -> String {
        files::snapshot_name(self.0.node, self.0.next.fetch_add(1, Ordering::Relaxed))
    }

    /// Keeps others from changing the manifest.
    pub(super) fn lock_commit(&self) -> MutexGuard<'_, ()> {
        lock(&self.0.commit)
    }

    /// Makes a state current: names durable, then the manifest in one step. What no longer counts
    /// goes, unless pinned. The caller holds the commit lock.
    pub(super) fn commit(&self, state: State) -> Result<(), StorageError> {
        self.disk().sync_dir(DIR).map_err(StorageError::io("syncing the event store"))?;
        self.write_manifest(&state)?;
        let old = {
            let mut current = self.0.state.write().unwrap_or_else(PoisonError::into_inner);
            std::mem::replace(&mut *current, Arc::new(state))
        };
        let old = old.manifest(0);
        self.sweep(|name| old.names(name))
    }

    /// Lets go of files held.
    fn unpin(&self, pinned: &[FileInfo]) {
        let mut pins = lock(&self.0.pins);
        for file in pinned {
            if let Some(count) = pins.get_mut(&file.name) {
                *count -= 1;
            }
        }
        pins.retain(|_, count| *count > 0);
        drop(pins);
        if let Err(error) = self.sweep(|name| pinned.iter().any(|file| file.name == name)) {
            tracing::warn!(%error, "files that nobody needs stay until the next start");
        }
    }

    /// Removes files by name that neither count nor are pinned.
    pub(super) fn sweep(&self, which: impl Fn(&str) -> bool) -> Result<(), StorageError> {
        let pins = lock(&self.0.pins);
        let manifest = self.state().manifest(0);
        let names = self.disk().list(DIR).map_err(StorageError::io("listing the event store"))?;
        let counts = |name: &str| {
            manifest.names(name) || pins.contains_key(name) || files::path(name) == manifest::path()
        };
        for name in names.iter().filter(|name| which(name) && !counts(name)) {
            let failed = StorageError::io(format!("removing {name}"));
            self.disk().remove(&files::path(name)).map_err(failed)?;
        }
        Ok(())
    }
}

/// Files that stay while this lives.
pub(super) struct Hold {
    pub store: EventStore,
    pub files: Vec<FileInfo>,
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.store.unpin(&self.files);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Opens the files of a manifest, falling back to the previous snapshot if need be.
fn open_state(
    disk: &dyn Disk,
    manifest: Manifest,
    floor: Option<EntryId>,
) -> Result<State, StorageError> {
    let reaches = |snapshot: &Snapshot| floor.is_none_or(|f| snapshot.info.last.index >= f.index);
    let mut segments = Vec::new();
    for info in manifest.segments {
        segments.push(Arc::new(Segment::open(disk, info).map_err(as_damage)?));
    }
    let open = |file: FileInfo| Snapshot::open(disk, file).map_err(as_damage);
    let previous = manifest.previous.map(open).transpose();
    let current = match manifest.current.map(open).transpose() {
        Err(error @ StorageError::Corrupt { .. }) => match previous {
            Ok(Some(snapshot)) if reaches(&snapshot) => {
                tracing::warn!(%error, "falling back to the snapshot before");
                let current = Some(Arc::new(snapshot));
                return Ok(State { current, previous: None, segments });
            }
            _ => return Err(error),
        },
        other => other?,
    };
    if let Some(floor) = floor.filter(|_| !current.as_ref().is_some_and(reaches)) {
        let detail = format!("the log is purged up to {floor}, but no snapshot reaches it");
        return Err(StorageError::corrupt("the event store", detail));
    }
    let previous = match previous {
        Err(error @ StorageError::Corrupt { .. }) => {
            tracing::warn!(%error, "going on without the snapshot before");
            None
        }
        other => other?,
    };
    Ok(State { current: current.map(Arc::new), previous: previous.map(Arc::new), segments })
}

/// A file that the manifest names must be there: its absence is damage.
fn as_damage(error: StorageError) -> StorageError {
    match error {
        StorageError::Io { what, error }
            if matches!(
                error.kind(),
                std::io::ErrorKind::NotFound | std::io::ErrorKind::UnexpectedEof
            ) =>
        {
            StorageError::corrupt(what, error.to_string())
        }
        other => other,
    }
}
