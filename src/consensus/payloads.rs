//! Where the bytes of an event are found: the newest entries in memory, then the log, then the
//! event store.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use thiserror::Error;

use crate::machine::{Batch, Command, EVENT_PREFIX_BYTES, Publish, events};
use crate::storage::{EventStore, LogStore};
use crate::types::{EventBytes, Payload, PayloadKey, limits};

/// Why a payload cannot be had.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PayloadError {
    #[error("no event is stored under {0}: it is settled, or never was")]
    Missing(PayloadKey),
    #[error("the event under {key} cannot be read: {reason}")]
    Unreadable { key: PayloadKey, reason: String },
    /// The database that holds it cannot be opened.
    #[error("the event under {0} cannot be read: the disk is full")]
    NoRoom(PayloadKey),
}

/// The newest applied entries with events, up to a number of bytes.
pub(super) struct PayloadCache {
    bytes_max: usize,
    inside: Mutex<Inside>,
}

#[derive(Default)]
struct Inside {
    entries: BTreeMap<u64, Arc<EntryEvents>>,
    bytes: usize,
}

impl PayloadCache {
    pub fn new(bytes_max: usize) -> PayloadCache {
        PayloadCache { bytes_max, inside: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps an entry about to be applied, at the cost of the oldest, and hands it back.
    pub fn keep(&self, index: u64, batch: Batch) -> Arc<EntryEvents> {
        let entry = Arc::new(EntryEvents::new(batch));
        if entry.bytes == 0 {
            return entry;
        }
        let mut inside = self.lock();
        inside.bytes += entry.bytes;
        if let Some(old) = inside.entries.insert(index, entry.clone()) {
            inside.bytes -= old.bytes;
        }
        while inside.bytes > self.bytes_max && inside.entries.len() > 1 {
            if let Some((_, oldest)) = inside.entries.pop_first() {
                inside.bytes -= oldest.bytes;
            }
        }
        entry
    }

    /// The payload, if its entry is in memory.
    pub fn get(&self, key: PayloadKey) -> Option<Payload> {
        let entry = self.lock().entries.get(&key.index).cloned()?;
        entry.payload(key.position)
    }
}

/// The events of one entry, found by their position without walking over the others.
pub(super) struct EntryEvents {
    pub batch: Batch,
    bytes: usize,
    /// For each publish: position of its first event, and where each event begins in its block.
    /// Made when first asked for: followers hardly ever are.
    places: OnceLock<Vec<(u32, Vec<u32>)>>,
}

impl EntryEvents {
    pub fn new(batch: Batch) -> EntryEvents {
        let bytes = publishes(&batch).map(|publish| publish.events.len()).sum();
        EntryEvents { batch, bytes, places: OnceLock::new() }
    }

    /// The event at a position.
    pub fn payload(&self, position: u32) -> Option<Payload> {
        let places = self.places.get_or_init(|| places(&self.batch));
        let nth = places.partition_point(|(base, _)| *base <= position).checked_sub(1)?;
        let (base, starts) = places.get(nth)?;
        let within = (position - base) as usize;
        let publish = publishes(&self.batch).nth(nth)?;
        let start = *starts.get(within)? as usize;
        let end = match starts.get(within + 1) {
            Some(next) => *next as usize - EVENT_PREFIX_BYTES,
            None => publish.events.len(),
        };
        let bytes = publish.events.get(start..end).map(|_| publish.events.slice(start..end))?;
        Some(Payload {
            lane: publish.lane,
            sequence: publish.first_sequence + within as u64,
            accepted: self.batch.stamp,
            event: EventBytes::check(bytes, limits::EVENT_BYTES_CEILING).ok()?,
        })
    }
}

fn publishes(batch: &Batch) -> impl Iterator<Item = &Publish> {
    batch.commands.iter().filter_map(|command| match command {
        Command::Publish(publish) => Some(publish),
        _ => None,
    })
}

fn places(batch: &Batch) -> Vec<(u32, Vec<u32>)> {
    let mut base = 0u32;
    let mut places = Vec::new();
    for publish in publishes(batch) {
        let starts = events(publish).scan(0, |at, event| {
            let start = *at + EVENT_PREFIX_BYTES;
            *at = start + event.len();
            Some(start as u32)
        });
        places.push((base, starts.collect()));
        base = base.saturating_add(publish.count);
    }
    places
}

/// All places where payloads are, together. Cheap to clone.
#[derive(Clone)]
pub(super) struct Payloads {
    pub cache: Arc<PayloadCache>,
    pub log: LogStore,
    pub store: EventStore,
}

impl Payloads {
    /// Reads payloads wherever they are; blocks on the disk. Keys in ascending order read each
    /// entry once.
    pub fn read(&self, keys: &[PayloadKey]) -> Vec<Result<Payload, PayloadError>> {
        let (mut last, mut full) = (None, false);
        let one = |key: &PayloadKey| match full {
            // Opening a database in vain takes a while: once is enough.
            true => Err(PayloadError::NoRoom(*key)),
            false => self.read_one(*key, &mut last).inspect_err(|error| {
                full = matches!(error, PayloadError::NoRoom(_));
            }),
        };
        keys.iter().map(one).collect()
    }

    /// The same, but not from the event store: for what is damaged there.
    pub fn read_elsewhere(&self, keys: &[PayloadKey]) -> BTreeMap<PayloadKey, Payload> {
        let mut last = None;
        let one = |key: &PayloadKey| Some((*key, self.newer(*key, &mut last).ok()??));
        keys.iter().filter_map(one).collect()
    }

    fn read_one(
        &self,
        key: PayloadKey,
        last: &mut Option<(u64, EntryEvents)>,
    ) -> Result<Payload, PayloadError> {
        let unreadable = |reason: String| PayloadError::Unreadable { key, reason };
        if let Some(payload) = self.cache.get(key) {
            return Ok(payload);
        }
        // Where it is in both, the event store is quicker than a database of the log.
        if let Ok(Some(payload)) = self.store.read(key) {
            return Ok(payload);
        }
        if let Some(payload) = self.newer(key, last)? {
            return Ok(payload);
        }
        match self.store.read(key) {
            Ok(Some(payload)) => Ok(payload),
            Ok(None) => Err(PayloadError::Missing(key)),
            Err(error) => Err(unreadable(error.to_string())),
        }
    }

    /// Looks in the cache and in the log. `last` is the entry read last.
    fn newer(
        &self,
        key: PayloadKey,
        last: &mut Option<(u64, EntryEvents)>,
    ) -> Result<Option<Payload>, PayloadError> {
        if let Some(payload) = self.cache.get(key) {
            return Ok(Some(payload));
        }
        if self.log.state().purged.is_some_and(|purged| key.index <= purged.index) {
            return Ok(None);
        }
        if last.as_ref().is_none_or(|(index, _)| *index != key.index) {
            *last = self.entry(key)?.map(|entry| (key.index, entry));
        }
        match last {
            Some((_, entry)) => match entry.payload(key.position) {
                Some(payload) => Ok(Some(payload)),
                None => Err(PayloadError::Missing(key)),
            },
            None => Ok(None),
        }
    }

    /// The log entry that brought an event, if it is not purged.
    fn entry(&self, key: PayloadKey) -> Result<Option<EntryEvents>, PayloadError> {
        let unreadable = |reason: String| PayloadError::Unreadable { key, reason };
        let mut found = match self.log.read(key.index..key.index + 1, 0) {
            Ok(found) => found,
            // Purged just now: then it is in the event store.
            Err(crate::storage::StorageError::Absent { .. }) => Vec::new(),
            Err(error) if error.is_full() => return Err(PayloadError::NoRoom(key)),
            Err(error) => return Err(unreadable(error.to_string())),
        };
        let Some(entry) = found.pop() else { return Ok(None) };
        let batch = Batch::decode(entry.body).map_err(|error| unreadable(error.to_string()))?;
        Ok(Some(EntryEvents::new(batch)))
    }
}
