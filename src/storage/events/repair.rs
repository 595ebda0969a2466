//! Repair of what is damaged: a segment is written anew from what is whole in it and what others
//! had of the rest; a snapshot is replaced by the next one.
//!
//! The damaged copy counts until the manifest names the new one, so an interrupted repair changes
//! nothing. What neither retained snapshot needs is left out.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use super::files;
use super::scraps::Scraps;
use super::segment::{self, Known, Segment};
use super::store::{EventStore, State};
use crate::storage::error::StorageError;
use crate::types::{Payload, PayloadKey};

/// A file found damaged.
pub enum Patient {
    /// A snapshot: the remedy is another one.
    Snapshot(String),
    Segment(Wounded),
}

/// A damaged segment.
pub struct Wounded {
    segment: Arc<Segment>,
    whole: BTreeMap<PayloadKey, Payload>,
    /// What must be had from elsewhere, ascending.
    pub lost: Vec<Lost>,
}

/// An event that is needed and damaged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lost {
    pub key: PayloadKey,
    known: Option<Known>,
}

impl Lost {
    /// Whether this may be the event, by what the segment's index says of it.
    pub fn is(&self, payload: &Payload) -> bool {
        self.known.is_none_or(|known| known == Known::of(payload))
    }
}

impl Wounded {
    /// The name of the segment.
    pub fn name(&self) -> &str {
        &self.segment.info.file.name
    }
}

impl State {
    /// Whether a retained snapshot needs the payload.
    fn needs(&self, key: PayloadKey) -> bool {
        self.current.iter().chain(&self.previous).any(|snapshot| snapshot.held.contains(key))
    }
}

impl EventStore {
    /// Takes note that something in a file is not as it was written.
    pub fn suspect(&self, name: &str) {
        self.set_damage(|damage| {
            damage.suspects.entry(name.to_owned()).or_default();
        });
    }

    /// Reads all suspects from the disk. Those that are whole, or no longer count, are cleared.
    pub fn examine(&self) -> Result<Vec<Patient>, StorageError> {
        let mut patients = Vec::new();
        for name in self.damage().peek().suspects.into_keys() {
            match self.examine_file(&name)? {
                Some(patient) => patients.push(patient),
                None => self.clear(&name),
            }
        }
        Ok(patients)
    }

    fn examine_file(&self, name: &str) -> Result<Option<Patient>, StorageError> {
        let state = self.state();
        let mut snapshots = state.current.iter().chain(&state.previous);
        if let Some(snapshot) = snapshots.find(|snapshot| snapshot.file.name == name) {
            let damaged = self.is_damaged(&snapshot.file)?;
            return Ok(damaged.then(|| {
                self.diagnosed(name, &[]);
                Patient::Snapshot(name.to_owned())
            }));
        }
        let mut segments = state.segments.iter();
        let Some(segment) = segments.find(|segment| segment.info.file.name == name) else {
            return Ok(None);
        };
        if !self.is_damaged(&segment.info.file)? {
            return Ok(None);
        }
        let wounded = self.diagnose(&state, segment)?;
        self.diagnosed(name, &wounded.lost);
        Ok(Some(Patient::Segment(wounded)))
    }

    /// The file is damaged, and these events with it.
    fn diagnosed(&self, name: &str, lost: &[Lost]) {
        self.set_damage(|damage| {
            let Some(suspect) = damage.suspects.get_mut(name) else { return };
            suspect.lost = lost.len() as u64;
            suspect.first = lost.first().map(|lost| lost.key);
            let found = suspect.lost.max(1).max(suspect.found);
            damage.found += found - suspect.found;
            suspect.found = found;
        });
    }

    fn is_damaged(&self, file: &super::FileInfo) -> Result<bool, StorageError> {
        match files::verify(self.disk(), &files::path(&file.name), file) {
            Ok(()) => Ok(false),
            Err(StorageError::Corrupt { .. }) => Ok(true),
            Err(StorageError::Io { error, .. }) if files::is_damage(&error) => Ok(true),
            Err(error) => Err(error),
        }
    }

    /// Reads every event of the segment that is needed.
    fn diagnose(&self, state: &State, segment: &Arc<Segment>) -> Result<Wounded, StorageError> {
        let known = match segment::known(self.disk(), &segment.info.file) {
            Err(StorageError::Io { error, .. }) if files::is_damage(&error) => BTreeMap::new(),
            other => other?,
        };
        let (mut whole, mut lost) = (BTreeMap::new(), Vec::new());
        let mut last: Option<(u64, Bytes)> = None;
        for key in segment.keys.iter().filter(|key| state.needs(*key)) {
            match self.record_in(segment, key, &mut last) {
                Ok((_, payload)) => drop(whole.insert(key, payload)),
                Err(StorageError::CorruptEvent { .. }) => {
                    lost.push(Lost { key, known: known.get(&key).copied() });
                }
                Err(error) => return Err(error),
            }
        }
        Ok(Wounded { segment: segment.clone(), whole, lost })
    }

    /// Writes a segment anew with what was found of the lost events; durable on return. Returns
    /// the keys that are still lost: if there are any nothing was changed. The older snapshot is
    /// given up where only it needs what is lost.
    pub fn heal(
        &self,
        wounded: Wounded,
        found: BTreeMap<PayloadKey, Payload>,
    ) -> Result<Vec<PayloadKey>, StorageError> {
        let Wounded { segment, whole, lost } = wounded;
        let name = segment.info.file.name.clone();
        let scraps = Scraps::of(self);
        let _commit = self.lock_commit();
        let state = self.state();
        let Some(at) = state.segments.iter().position(|held| held.id == segment.id) else {
            self.clear(&name);
            return Ok(Vec::new());
        };
        let missing: Vec<PayloadKey> = lost
            .iter()
            .map(|lost| lost.key)
            .filter(|key| state.needs(*key) && !found.contains_key(key))
            .collect();
        let mut next = State {
            current: state.current.clone(),
            previous: state.previous.clone(),
            segments: state.segments.clone(),
        };
        if !missing.is_empty() {
            next.previous = None;
            let still: Vec<_> = missing.into_iter().filter(|key| next.needs(*key)).collect();
            if !still.is_empty() {
                return Ok(still);
            }
            tracing::warn!(
                segment = name,
                "going on without the snapshot before: it needs events \
                that are damaged here, and settled everywhere"
            );
        }
        let fetched = found.len();
        let mut events = whole;
        events.extend(found);
        events.retain(|key, _| next.needs(*key));
        match events.is_empty() {
            true => drop(next.segments.remove(at)),
            false => {
                let fresh = Segment::write(self.disk(), scraps.segment_name(), &events)?;
                next.segments[at] = Arc::new(fresh);
            }
        }
        self.commit(next)?;
        tracing::warn!(segment = name, fetched, "a damaged segment was written anew");
        self.clear(&name);
        Ok(Vec::new())
    }

    fn clear(&self, name: &str) {
        self.set_damage(|damage| {
            let found = damage.suspects.remove(name).map_or(0, |suspect| suspect.found);
            damage.repaired += found;
        });
    }
}
