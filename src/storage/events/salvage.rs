//! Looking at an event store that may be damaged, without changing it.

use std::sync::Arc;

use super::files;
use super::manifest::{FileInfo, Manifest, SegmentInfo};
use super::segment::Segment;
use super::snapshot::Snapshot;
use super::store::{EventStore, State};
use super::{DIR, SnapshotInfo};
use crate::env::disk::Disk;
use crate::storage::error::StorageError;
use crate::types::{Payload, PayloadKey};

/// What can be read of an event store.
pub struct Salvaged {
    store: EventStore,
    /// Snapshots that are whole, the newest first.
    pub snapshots: Vec<SnapshotInfo>,
    /// What is wrong, in words.
    pub findings: Vec<String>,
}

/// One segment, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentInside {
    pub file: FileInfo,
    pub keys: Vec<PayloadKey>,
}

/// Opens what the manifest names; if that cannot be read, or leads to no snapshot, whatever lies in
/// the directory and is whole in itself. Only a newer format is an error, and a directory that
/// cannot be listed.
pub fn salvage(disk: Arc<dyn Disk>) -> Result<Salvaged, StorageError> {
    let mut findings = Vec::new();
    let names = disk.list(DIR).map_err(StorageError::io("listing the event store"))?;
    let manifest = match note(Manifest::read(&*disk), &mut findings)? {
        Some(None) => {
            findings.push("the manifest of the event store is missing".into());
            None
        }
        other => other.flatten(),
    };
    let mut snapshots = match &manifest {
        Some(manifest) => named_snapshots(&*disk, manifest, &mut findings)?,
        None => Vec::new(),
    };
    let promised = manifest.as_ref().is_none_or(|manifest| manifest.current.is_some());
    let search = snapshots.is_empty() && promised;
    if search {
        snapshots = found_snapshots(&*disk, &names, &mut findings)?;
    }
    let named = manifest.filter(|_| !search).map(|manifest| manifest.segments);
    let listed: Vec<(String, Option<SegmentInfo>)> = match named {
        Some(segments) => segments.into_iter().map(|s| (s.file.name.clone(), Some(s))).collect(),
        None => whole_names(&names, "seg-").map(|name| (name.clone(), None)).collect(),
    };
    let mut segments = Vec::new();
    for (name, info) in listed {
        if let Some((segment, wrong)) = note(Segment::salvage(&*disk, &name, info), &mut findings)?
        {
            findings.extend(wrong);
            segments.push(Arc::new(segment));
        }
    }
    snapshots.sort_by_key(|snapshot| std::cmp::Reverse(snapshot.info.last.index));
    let infos = snapshots.iter().map(|snapshot| snapshot.info.clone()).collect();
    let store = EventStore::to_look_at(disk, State { segments, ..State::default() });
    Ok(Salvaged { store, snapshots: infos, findings })
}

impl Salvaged {
    /// The machine of one of the snapshots.
    pub fn machine(&self, snapshot: &SnapshotInfo) -> Result<bytes::Bytes, StorageError> {
        self.store.read_machine(snapshot)
    }

    /// A payload, verified; `None` if it is not here.
    pub fn read(&self, key: PayloadKey) -> Result<Option<Payload>, StorageError> {
        self.store.read(key)
    }

    /// The segments and what they hold.
    pub fn segments(&self) -> Vec<SegmentInside> {
        let state = self.store.state();
        let inside = |segment: &Arc<Segment>| SegmentInside {
            file: segment.info.file.clone(),
            keys: segment.keys.iter().collect(),
        };
        state.segments.iter().map(inside).collect()
    }
}

fn named_snapshots(
    disk: &dyn Disk,
    manifest: &Manifest,
    findings: &mut Vec<String>,
) -> Result<Vec<Snapshot>, StorageError> {
    let mut found = Vec::new();
    for file in manifest.current.iter().chain(&manifest.previous) {
        found.extend(note(Snapshot::open(disk, file.clone()), findings)?);
    }
    Ok(found)
}

fn found_snapshots(
    disk: &dyn Disk,
    names: &[String],
    findings: &mut Vec<String>,
) -> Result<Vec<Snapshot>, StorageError> {
    let mut found = Vec::new();
    for name in whole_names(names, "snap-") {
        let opened = files::found(disk, name).and_then(|file| Snapshot::open(disk, file));
        found.extend(note(opened, findings)?);
    }
    Ok(found)
}

/// Names of files that were finished: not what is still on its way in.
fn whole_names<'a>(names: &'a [String], prefix: &'a str) -> impl Iterator<Item = &'a String> {
    names.iter().filter(move |name| name.starts_with(prefix) && files::is_name(name))
}

/// What was read; damage becomes a finding. A newer format is no damage.
fn note<T>(
    read: Result<T, StorageError>,
    findings: &mut Vec<String>,
) -> Result<Option<T>, StorageError> {
    match read {
        Ok(value) => Ok(Some(value)),
        Err(error @ StorageError::NewerFormat { .. }) => Err(error),
        Err(error) => {
            findings.push(error.to_string());
            Ok(None)
        }
    }
}
