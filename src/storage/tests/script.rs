//! A scripted life of a store: every operation there is, each with the states it passes through.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use bytes::Bytes;

use crate::env::disk::MemDisk;
use crate::storage::{
    Done, Drive, Entry, EventStore, LogStore, Opened, Options, Owner, Pinned, Storage,
    StorageError, open_on,
};
use crate::types::{ClusterId, EntryId, Event, LaneId, NodeId, Payload, PayloadKey, Stamp};

pub const OWNER: Owner = Owner { cluster: ClusterId(7), node: NodeId(1) };
/// Small enough that files of the log roll and entries leave memory.
const OPTIONS: Options = Options { tail_bytes: 1_000, database_bytes: 2_000 };

/// What can be seen of a store.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Seen {
    pub vote: Option<Bytes>,
    pub purged: Option<EntryId>,
    pub entries: Vec<Entry>,
    /// Last entry and number of the current snapshot.
    pub snapshot: Option<(EntryId, u64)>,
}

/// One thing that happens to a store.
#[derive(Debug, Clone)]
pub enum Step {
    Append(Vec<Entry>),
    Vote(&'static [u8]),
    Truncate(Option<u64>),
    Purge(EntryId),
    /// Builds a snapshot that ends with the entry and needs this many events of it, and of those
    /// before it that lie from the index on.
    Build(EntryId, u64),
    /// Receives and installs a snapshot of a peer, then purges the log up to it.
    Install(EntryId),
    /// The same while a sender holds on to the old one.
    InstallPinned(EntryId),
}

pub fn id(term: u64, index: u64) -> EntryId {
    EntryId { term, node: NodeId(term), index }
}

fn entries(term: u64, range: std::ops::Range<u64>, len: usize) -> Vec<Entry> {
    let entry = |index| Entry {
        id: id(term, index),
        kind: 1,
        body: vec![index as u8 ^ term as u8; len + index as usize % 7].into(),
    };
    range.map(entry).collect()
}

/// The script.
pub fn steps() -> Vec<Step> {
    use Step::*;
    vec![
        Append(entries(1, 0..4, 20)),
        Truncate(None),
        Append(entries(1, 0..3, 40)),
        Vote(b"first"),
        Append(entries(1, 3..5, 20)),
        Append(entries(1, 5..6, 99_000)),
        Vote(b"second, longer"),
        Truncate(Some(3)),
        Append(entries(2, 4..6, 1_100)),
        Append(entries(2, 6..8, 60)),
        Build(id(2, 5), 0),
        Append(entries(2, 8..12, 700)),
        Build(id(2, 10), 4),
        Purge(id(2, 5)),
        Append(entries(2, 12..14, 30)),
        Truncate(Some(11)),
        Append(entries(3, 12..20, 300)),
        Build(id(3, 16), 12),
        Purge(id(2, 10)),
        // A snapshot beyond the log.
        Install(id(4, 30)),
        Append(entries(4, 31..34, 50)),
        Vote(b"3"),
        // One with a tail that conflicts at its index: cut off first, as openraft does.
        Append(entries(5, 34..44, 300)),
        Truncate(Some(33)),
        Install(id(6, 40)),
        // One with a tail of a later term that ends before it: nobody cuts that off.
        Append(entries(9, 41..44, 80)),
        InstallPinned(id(7, 50)),
        Append(entries(10, 51..55, 80)),
        Build(id(10, 53), 50),
        Append(entries(10, 55..60, 500)),
        Truncate(Some(54)),
        Append(entries(11, 55..58, 80)),
    ]
}

impl Seen {
    pub fn of(storage: &Storage) -> Seen {
        let state = storage.log.state();
        let first = state.purged.map_or(0, |id| id.index + 1);
        let end = state.last.map_or(0, |id| id.index + 1);
        let mut entries: Vec<Entry> = Vec::new();
        while first + (entries.len() as u64) < end {
            let next = first + entries.len() as u64;
            entries.extend(storage.log.read(next..end, 10_000).unwrap());
        }
        let snapshot = storage.events.current().map(|snapshot| {
            let machine = storage.events.read_machine(&snapshot).unwrap();
            assert_eq!(machine, machine_of(snapshot.last), "the snapshot's own machine");
            (snapshot.last, snapshot.machine_bytes)
        });
        Seen { vote: storage.log.vote(), purged: state.purged, entries, snapshot }
    }

    /// The states that a step passes through, its result last.
    pub fn through(&self, step: &Step) -> Vec<Seen> {
        let mut now = self.clone();
        let mut states = Vec::new();
        match step {
            Step::Append(entries) => {
                for entry in entries {
                    now.entries.push(entry.clone());
                    states.push(now.clone());
                }
            }
            Step::Vote(vote) => now.vote = Some(Bytes::from_static(vote)),
            Step::Truncate(index) => {
                let beyond = |entry: &Entry| index.is_none_or(|index| entry.id.index > index);
                while now.entries.last().is_some_and(beyond) {
                    now.entries.pop();
                    states.push(now.clone());
                }
            }
            Step::Purge(upto) => now.purge(*upto),
            Step::Build(last, _) => now.snapshot = Some((*last, machine_of(*last).len() as u64)),
            Step::Install(last) | Step::InstallPinned(last) => {
                now.snapshot = Some((*last, machine_of(*last).len() as u64));
                now.purge(*last);
            }
        }
        states.push(now);
        states
    }

    fn purge(&mut self, upto: EntryId) {
        self.purged = Some(upto);
        self.entries.retain(|entry| entry.id.index > upto.index);
    }
}

/// Opens the store; a crash alone never leaves one that is quarantined.
pub fn open(disk: &MemDisk) -> Result<Storage, StorageError> {
    match open_on(Arc::new(disk.clone()), Some(OWNER), OPTIONS, Drive::Inline)? {
        Opened::Healthy(storage) => Ok(storage),
        Opened::Quarantined { reason, .. } => panic!("quarantined by a crash: {reason}"),
    }
}

/// Opens a store that may be damaged.
pub fn open_damaged(disk: &MemDisk) -> Result<Opened, StorageError> {
    open_on(Arc::new(disk.clone()), Some(OWNER), OPTIONS, Drive::Inline)
}

/// Does one step; an error is that of the step, or of the log.
pub fn run(storage: &Storage, step: &Step) -> Result<(), StorageError> {
    let log = &storage.log;
    match step.clone() {
        Step::Append(entries) => finish(log, |log, done| log.append(entries, done)),
        Step::Vote(vote) => finish(log, |log, done| log.save_vote(vote.into(), done)),
        Step::Truncate(index) => finish(log, |log, done| log.truncate_after(index, done)),
        Step::Purge(upto) => finish(log, |log, done| log.purge(upto, done)),
        Step::Build(last, from) => build(&storage.events, last, from),
        Step::Install(last) => {
            install(&storage.events, last)?;
            finish(log, |log, done| log.purge(last, done))
        }
        Step::InstallPinned(last) => {
            let pinned = storage.events.pin();
            install(&storage.events, last)?;
            check_pinned(pinned.as_ref());
            finish(log, |log, done| log.purge(last, done))
        }
    }
}

fn finish(log: &LogStore, submit: impl FnOnce(&LogStore, Done)) -> Result<(), StorageError> {
    let told = Arc::new(Mutex::new(None));
    let tell = told.clone();
    submit(log, Box::new(move |result| *tell.lock().unwrap() = Some(result)));
    told.lock().unwrap().take().expect("answered before it returns")
}

fn check_pinned(pinned: Option<&Pinned>) {
    for file in pinned.iter().flat_map(|pinned| pinned.files()) {
        let bytes = pinned.unwrap().read_chunk(&file.name, 0, usize::MAX).unwrap();
        assert_eq!(crc32fast::hash(&bytes), file.crc, "a pinned file stays");
    }
}

fn machine_of(last: EntryId) -> Bytes {
    format!("the machine after {last}").into()
}

/// The keys of events that a snapshot needs: three of every entry from `from` to its last.
pub fn keys(last: EntryId, from: u64) -> Vec<PayloadKey> {
    let of = |index| (0..3).map(move |position| PayloadKey { index, position });
    (from..=last.index).flat_map(of).collect()
}

pub fn payload(key: PayloadKey) -> Payload {
    let body = vec![key.position as u8; 50 + key.index as usize % 40];
    let event = Event::of_body(body).encode().unwrap();
    let lane = LaneId { index: 3, position: 1 };
    Payload { lane, sequence: key.index, accepted: Stamp(key.index), event }
}

fn build(events: &EventStore, last: EntryId, from: u64) -> Result<(), StorageError> {
    let live = keys(last, from).into_iter().collect();
    let mut writer = events.writer();
    for key in events.missing(&live).iter() {
        writer.relocate(key, payload(key))?;
    }
    writer.finish(Bytes::from_static(b"meta"), last, machine_of(last), &live).map(drop)
}

/// From which index on the snapshot that ends here needs events.
pub fn needed_from() -> BTreeMap<EntryId, u64> {
    let from = |step: &Step| match step {
        Step::Build(last, from) => Some((*last, *from)),
        Step::Install(last) | Step::InstallPinned(last) => Some((*last, last.index - 3)),
        _ => None,
    };
    steps().iter().filter_map(from).collect()
}

fn install(events: &EventStore, last: EntryId) -> Result<(), StorageError> {
    let peer_disk = MemDisk::new();
    // A peer of its own for each: names of files are unique in a cluster.
    let owner = Owner { node: NodeId(last.index), ..OWNER };
    let opened = open_on(Arc::new(peer_disk), Some(owner), OPTIONS, Drive::Inline).unwrap();
    let peer = opened.healthy().unwrap().events;
    build(&peer, last, last.index - 3).unwrap();
    let pinned = peer.pin().unwrap();
    let mut staging = events.stage(pinned.files().to_vec())?;
    let image = staging.image().clone();
    let mut offset = staging.arrived(&image.name);
    while offset < image.len {
        let piece = pinned.read_chunk(&image.name, offset, 300).unwrap();
        staging.write_chunk(&image.name, offset, &piece)?;
        offset += piece.len() as u64;
    }
    while let Some(keys) = staging.wanted().cloned() {
        staging.put(pinned.records(&keys, 300).unwrap().into())?;
        staging.keep()?;
    }
    staging.complete()?.install().map(drop)
}

/// Every event that a retained snapshot needs can be read, and is what was written.
pub fn check_events(storage: &Storage) {
    let from = needed_from();
    for snapshot in storage.events.current().into_iter().chain(storage.events.previous()) {
        for key in keys(snapshot.last, from[&snapshot.last]) {
            assert_eq!(storage.events.read(key).unwrap(), Some(payload(key)), "{key}");
        }
    }
}
