//! Building a snapshot: relocate, write, and make it current in one step.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use super::SnapshotInfo;
use super::keys::Keys;
use super::segment::Segment;
use super::snapshot::Snapshot;
use super::store::{EventStore, State};
use crate::storage::error::StorageError;
use crate::types::limits::SEGMENT_BYTES_TARGET;
use crate::types::{EntryId, Payload, PayloadKey};

/// A snapshot in the making. Dropped unfinished, it leaves files that the next sweep removes.
pub struct SnapshotWriter {
    store: EventStore,
    segments: SegmentWriter,
}

impl SnapshotWriter {
    pub(super) fn new(store: EventStore) -> SnapshotWriter {
        let segments = SegmentWriter::new(store.clone());
        SnapshotWriter { store, segments }
    }

    /// Copies a payload into the store, unless it is there. Cheapest in the order of keys.
    pub fn relocate(&mut self, key: PayloadKey, payload: &Payload) -> Result<(), StorageError> {
        if self.holds(key) {
            return Ok(());
        }
        self.segments.put(key, payload.clone())
    }

    /// Whether the payload is in the store, or was copied.
    pub fn holds(&self, key: PayloadKey) -> bool {
        self.store.holds(key) || self.segments.holds(key)
    }

    /// Makes the snapshot current: `last` is the last entry it covers, `machine` its state, and
    /// `alive` says of a relocated payload whether the machine still needs it. Everything is
    /// synced on return. If the store has a snapshot as new by now, that one is returned.
    pub fn finish(
        mut self,
        meta: Bytes,
        last: EntryId,
        machine: Bytes,
        alive: &dyn Fn(PayloadKey) -> bool,
    ) -> Result<SnapshotInfo, StorageError> {
        let store = self.store.clone();
        let _commit = store.lock_commit();
        let old = store.state();
        if let Some(current) = old.current.as_ref().filter(|c| c.info.last.index >= last.index) {
            let dead = self.segments.finish()?;
            store.sweep(|name| dead.iter().any(|segment| segment.info.file.name == name))?;
            return Ok(current.info.clone());
        }
        let fresh = self.segments.finish()?;
        let all: Vec<Arc<Segment>> = old.segments.iter().cloned().chain(fresh).collect();
        let held: Keys =
            all.iter().flat_map(|segment| segment.keys.iter()).filter(|key| alive(*key)).collect();
        let empty = Keys::default();
        let before = old.current.as_ref().map_or(&empty, |snapshot| &snapshot.held);
        let segments = compact(&store, all, &|key| held.contains(key) || before.contains(key))?;
        let name = store.next_snapshot_name();
        let snapshot = Snapshot::write(store.disk(), name, (last, meta, held), &machine)?;
        let info = snapshot.info.clone();
        let (current, previous) = (Some(Arc::new(snapshot)), old.current.clone());
        store.commit(State { current, previous, segments })?;
        Ok(info)
    }
}

/// Leaves out dead segments and rewrites those that are less than half alive.
fn compact(
    store: &EventStore,
    segments: Vec<Arc<Segment>>,
    needed: &dyn Fn(PayloadKey) -> bool,
) -> Result<Vec<Arc<Segment>>, StorageError> {
    let mut kept = Vec::new();
    let mut rewriter = SegmentWriter::new(store.clone());
    for segment in segments {
        let living = segment.keys.iter().filter(|key| needed(*key)).count() as u64;
        if living == 0 {
            continue;
        }
        if living * 2 >= segment.info.events || !rewriter.copy(store, &segment, needed)? {
            kept.push(segment);
        }
    }
    kept.extend(rewriter.finish()?);
    Ok(kept)
}

/// Gathers events and writes them as segments.
struct SegmentWriter {
    store: EventStore,
    events: BTreeMap<PayloadKey, Payload>,
    bytes: usize,
    written: Vec<Arc<Segment>>,
}

impl SegmentWriter {
    fn new(store: EventStore) -> SegmentWriter {
        SegmentWriter { store, events: BTreeMap::new(), bytes: 0, written: Vec::new() }
    }

    fn holds(&self, key: PayloadKey) -> bool {
        self.events.contains_key(&key)
            || self.written.iter().any(|segment| segment.keys.contains(key))
    }

    fn put(&mut self, key: PayloadKey, payload: Payload) -> Result<(), StorageError> {
        self.bytes += payload.event.len();
        self.events.insert(key, payload);
        if self.bytes >= SEGMENT_BYTES_TARGET { self.cut() } else { Ok(()) }
    }

    /// Copies what is needed of a segment; returns false if some of it is damaged, in which case
    /// the segment must stay as it is.
    fn copy(
        &mut self,
        store: &EventStore,
        segment: &Segment,
        needed: &dyn Fn(PayloadKey) -> bool,
    ) -> Result<bool, StorageError> {
        let mut copies = Vec::new();
        for key in segment.keys.iter().filter(|key| needed(*key)) {
            match store.read_segment(segment, key) {
                Ok(payload) => copies.push((key, payload)),
                Err(StorageError::CorruptEvent { .. }) => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        copies.into_iter().try_for_each(|(key, payload)| self.put(key, payload))?;
        Ok(true)
    }

    fn cut(&mut self) -> Result<(), StorageError> {
        let events = std::mem::take(&mut self.events);
        self.bytes = 0;
        if !events.is_empty() {
            let name = self.store.next_segment_name();
            self.written.push(Arc::new(Segment::write(self.store.disk(), name, &events)?));
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<Vec<Arc<Segment>>, StorageError> {
        self.cut()?;
        Ok(std::mem::take(&mut self.written))
    }
}
