//! A snapshot that stays while it is sent or carried off.

use std::sync::Arc;

use bytes::Bytes;

use super::keys::Keys;
use super::manifest::FileInfo;
use super::segment::{self, Segment};
use super::store::{EventStore, Hold};
use super::{SnapshotInfo, files};
use crate::storage::error::StorageError;
use crate::types::{Payload, PayloadKey};

/// The files of a snapshot, which stay while this lives.
pub struct Pinned {
    /// The snapshot that is pinned.
    pub snapshot: SnapshotInfo,
    segments: Vec<Arc<Segment>>,
    hold: Hold,
}

impl Pinned {
    pub(super) fn new(snapshot: SnapshotInfo, segments: Vec<Arc<Segment>>, hold: Hold) -> Pinned {
        Pinned { snapshot, segments, hold }
    }

    /// The snapshot file first, then the segments it needs.
    pub fn files(&self) -> &[FileInfo] {
        &self.hold.files
    }

    /// Takes note that a pinned file may be damaged.
    pub fn suspect(&self, name: &str) {
        self.hold.store.suspect(name);
    }

    /// Reads up to `len` bytes of a pinned file at `offset`; fewer at its end, none beyond.
    pub fn read_chunk(&self, name: &str, offset: u64, len: usize) -> Result<Vec<u8>, StorageError> {
        let file = files::find(&self.hold.files, name)?;
        let len = file.len.saturating_sub(offset).min(len as u64) as usize;
        let read = self.hold.store.disk().read(&files::path(name), offset, len);
        if read.as_ref().is_err_and(files::is_damage) {
            self.suspect(name);
        }
        read.map_err(StorageError::io(format!("reading {name}")))
    }

    /// Records of some of the keys, each checked: at least one, until they exceed `bytes`. Reads
    /// past the cache. A damaged event makes its segment a suspect.
    pub fn records(&self, keys: &Keys, bytes: usize) -> Result<Vec<u8>, StorageError> {
        let mut records = Vec::new();
        for segment in &self.segments {
            let mut block = None;
            for key in keys.both(&segment.keys).iter() {
                if records.len() >= bytes {
                    return Ok(records);
                }
                let record = self.hold.store.record_in(segment, key, &mut block);
                if record.as_ref().is_err_and(StorageError::is_corruption) {
                    self.suspect(&segment.info.file.name);
                }
                records.extend_from_slice(&record?.0);
            }
        }
        match keys.first().filter(|_| records.is_empty()) {
            Some(key) => Err(StorageError::corrupt(
                format!("snapshot {}", self.snapshot.name),
                format!("event {key}, which it needs, is in none of its segments"),
            )),
            None => Ok(records),
        }
    }
}

impl EventStore {
    /// Reads the record of an event past the cache, checked; keys in order read each block once.
    pub(super) fn record_in(
        &self,
        segment: &Segment,
        key: PayloadKey,
        last: &mut Option<(u64, Bytes)>,
    ) -> Result<(Bytes, Payload), StorageError> {
        let absent = || StorageError::CorruptEvent { key, detail: "it has no block".into() };
        let block = segment.block_of(key).ok_or_else(absent)?;
        if let Some((_, bytes)) = last.as_ref().filter(|(offset, _)| *offset == block.offset) {
            return segment::find_record(bytes, key);
        }
        let bytes = segment::read_block(self.disk(), &segment.info.file, block, key)?;
        *last = Some((block.offset, bytes.clone()));
        segment::find_record(&bytes, key)
    }
}
