//! Building a snapshot: relocate, write, and make it current in one step.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use super::SnapshotInfo;
use super::keys::Keys;
use super::scraps::Scraps;
use super::segment::Segment;
use super::snapshot::{self, Snapshot};
use super::store::{EventStore, State};
use crate::planted::{Bug, planted};
use crate::storage::error::StorageError;
use crate::types::limits::SEGMENT_BYTES_TARGET;
use crate::types::{EntryId, Payload, PayloadKey};

/// A snapshot in the making. Dropped unfinished, it takes its files with it.
pub struct SnapshotWriter {
    store: EventStore,
    segments: SegmentWriter,
    scraps: Arc<Scraps>,
}

impl SnapshotWriter {
    pub(super) fn new(store: EventStore) -> SnapshotWriter {
        let scraps = Scraps::of(&store);
        SnapshotWriter { store, segments: SegmentWriter::new(scraps.clone()), scraps }
    }

    /// Copies a payload into the store. It should not be there yet: see [`EventStore::missing`].
    /// Cheapest in the order of keys.
    pub fn relocate(&mut self, key: PayloadKey, payload: Payload) -> Result<(), StorageError> {
        self.segments.put(key, payload)
    }

    /// Whether the payload is in the store, or was copied.
    pub fn holds(&self, key: PayloadKey) -> bool {
        self.store.holds(key) || self.segments.holds(key)
    }

    /// Makes the snapshot current: `last` is the last entry it covers, `machine` its state, `live`
    /// the payloads that the machine still needs. Everything is synced on return. If the store has
    /// a snapshot as new by now, that one is returned.
    pub fn finish(
        mut self,
        meta: Bytes,
        last: EntryId,
        machine: Bytes,
        live: &Keys,
    ) -> Result<SnapshotInfo, StorageError> {
        let store = self.store.clone();
        let _commit = store.lock_commit();
        let old = store.state();
        if let Some(current) = old.current.as_ref().filter(|c| c.info.last.index >= last.index) {
            return Ok(current.info.clone());
        }
        let fresh = self.segments.finish()?;
        let all: Vec<Arc<Segment>> = old.segments.iter().cloned().chain(fresh).collect();
        let held = live.both(&Keys::union(all.iter().map(|segment| &segment.keys)));
        let before = old.current.as_ref().map(|snapshot| &snapshot.held);
        let before = before.filter(|_| !planted(Bug::OlderSnapshotForgotten));
        let needed = Keys::union(before.into_iter().chain([&held]));
        let segments = compact_if_possible(&self.scraps, all, &needed, last.index)?;
        let name = self.scraps.snapshot_name();
        let snapshot = Snapshot::write(store.disk(), name, (last, meta, held), &machine)?;
        let info = snapshot.info.clone();
        let (current, previous) = (Some(Arc::new(snapshot)), old.current.clone());
        store.commit(State { current, previous, segments })?;
        Ok(info)
    }
}

impl EventStore {
    /// Puts a second copy of the current snapshot in the place of the older one, so that what only
    /// that one needs may go. Everything is synced on return.
    pub fn double(&self) -> Result<(), StorageError> {
        let scraps = Scraps::of(self);
        let _commit = self.lock_commit();
        let old = self.state();
        let Some(current) = old.current.clone() else { return Ok(()) };
        let machine = snapshot::read_machine(self.disk(), &current.file.name)?;
        let head = (current.info.last, current.info.meta.clone(), current.held.clone());
        let copy = Snapshot::write(self.disk(), scraps.snapshot_name(), head, &machine)?;
        let last = current.info.last.index;
        let segments = compact_if_possible(&scraps, old.segments.clone(), &current.held, last)?;
        self.commit(State { current: Some(Arc::new(copy)), previous: Some(current), segments })
    }
}

/// Leaves out dead segments, and rewrites those that are less than half alive if there is room.
/// What was received of a snapshot beyond the entry at `last` stays: it is needed when the rest has
/// come.
fn compact_if_possible(
    scraps: &Arc<Scraps>,
    segments: Vec<Arc<Segment>>,
    needed: &Keys,
    last: u64,
) -> Result<Vec<Arc<Segment>>, StorageError> {
    let kept = scraps.count();
    match compact(scraps.clone(), segments.clone(), needed, last) {
        Err(error) if error.is_full() => {
            tracing::info!(%error, "segments are left as they are");
            scraps.discard_after(kept)?;
            let stays = |segment: &Arc<Segment>| {
                segment.is_beyond(last) || !segment.keys.both(needed).is_empty()
            };
            Ok(segments.into_iter().filter(stays).collect())
        }
        other => other,
    }
}

fn compact(
    scraps: Arc<Scraps>,
    segments: Vec<Arc<Segment>>,
    needed: &Keys,
    last: u64,
) -> Result<Vec<Arc<Segment>>, StorageError> {
    let mut kept = Vec::new();
    let mut rewriter = SegmentWriter::new(scraps);
    for segment in segments {
        if segment.is_beyond(last) {
            kept.push(segment);
            continue;
        }
        let living = segment.keys.both(needed);
        if living.is_empty() {
            continue;
        }
        let much = living.count() * 2 >= segment.info.events;
        if much || !rewriter.copy(&segment, &living)? {
            kept.push(segment);
        }
    }
    kept.extend(rewriter.finish()?);
    Ok(kept)
}

/// Gathers events and writes them as segments.
pub(super) struct SegmentWriter {
    scraps: Arc<Scraps>,
    events: BTreeMap<PayloadKey, Payload>,
    bytes: usize,
    written: Vec<Arc<Segment>>,
}

impl SegmentWriter {
    pub fn new(scraps: Arc<Scraps>) -> SegmentWriter {
        SegmentWriter { scraps, events: BTreeMap::new(), bytes: 0, written: Vec::new() }
    }

    fn holds(&self, key: PayloadKey) -> bool {
        self.events.contains_key(&key)
            || self.written.iter().any(|segment| segment.keys.contains(key))
    }

    pub fn put(&mut self, key: PayloadKey, payload: Payload) -> Result<(), StorageError> {
        self.bytes += payload.event.len();
        self.events.insert(key, payload);
        if self.bytes >= SEGMENT_BYTES_TARGET { self.cut() } else { Ok(()) }
    }

    /// Copies what lives of a segment; returns false if some of it is damaged, in which case the
    /// segment must stay as it is.
    fn copy(&mut self, segment: &Segment, living: &Keys) -> Result<bool, StorageError> {
        let mut copies = Vec::new();
        for key in living.iter() {
            match self.scraps.store().read_segment(segment, key) {
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
            let name = self.scraps.segment_name();
            let disk = self.scraps.store().disk();
            self.written.push(Arc::new(Segment::write(disk, name, &events)?));
        }
        Ok(())
    }

    /// Writes what was gathered, and hands out the segments written since the last time.
    pub fn finish(&mut self) -> Result<Vec<Arc<Segment>>, StorageError> {
        self.cut()?;
        Ok(self.written())
    }

    /// Hands out the segments written since the last time.
    pub fn written(&mut self) -> Vec<Arc<Segment>> {
        std::mem::take(&mut self.written)
    }
}
