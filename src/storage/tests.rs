//! Whole data directories on the real disk: reopened, copied under load, damaged.

use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::timeout;

use super::*;
use crate::types::{ClusterId, EntryId, Event, LaneId, NodeId, Payload, PayloadKey, Stamp};

mod crashes;
mod damage;
mod script;
mod versions;

const OWNER: Owner = Owner { cluster: ClusterId(7), node: NodeId(3) };
const EVENTS: u32 = 40;

/// What can be read of a directory; an event may be damaged, but must say so.
#[derive(Debug, PartialEq)]
struct Content {
    vote: Option<Bytes>,
    state: LogState,
    entries: Vec<Entry>,
    machine: Option<Bytes>,
    events: Vec<Option<Payload>>,
}

fn options() -> Options {
    Options { tail_bytes: 20_000, database_bytes: 200_000 }
}

fn open_healthy(dir: &Path) -> Storage {
    open(dir, Some(OWNER), options()).unwrap().healthy().unwrap()
}

fn entry(index: u64, len: usize) -> Entry {
    let id = EntryId { term: 1 + index / 100, node: NodeId(3), index };
    Entry { id, kind: 2, body: vec![index as u8; len].into() }
}

fn append(log: &LogStore, entries: Vec<Entry>) {
    wait(|done| log.append(entries, done));
}

/// Waits for an operation to be acknowledged.
fn wait(submit: impl FnOnce(Done)) {
    let (sender, receiver) = mpsc::channel();
    submit(Box::new(move |result| sender.send(result).unwrap()));
    receiver.recv().unwrap().unwrap();
}

fn entries(log: &LogStore) -> Vec<Entry> {
    let state = log.state();
    let end = state.last.map_or(0, |id| id.index + 1);
    let mut next = state.purged.map_or(0, |id| id.index + 1);
    let mut entries = Vec::new();
    while next < end {
        entries.extend(log.read(next..end, 100_000).unwrap());
        next = entries.last().map(|entry: &Entry| entry.id.index + 1).unwrap();
    }
    entries
}

fn event_key(position: u32) -> PayloadKey {
    PayloadKey { index: 5, position }
}

fn payload(position: u32) -> Payload {
    let event = Event::of_body(vec![position as u8; 500]).encode().unwrap();
    let lane = LaneId { index: 1, position };
    Payload { lane, sequence: 8, accepted: Stamp(u64::from(position)), event }
}

fn content(storage: &Storage) -> Content {
    let read = |position| match storage.events.read(event_key(position)) {
        Err(StorageError::CorruptEvent { key, .. }) => {
            assert_eq!(key, event_key(position));
            Some(payload(position))
        }
        other => other.unwrap(),
    };
    let machine = |snapshot| storage.events.read_machine(&snapshot).unwrap();
    Content {
        vote: storage.log.vote(),
        state: storage.log.state(),
        entries: entries(&storage.log),
        machine: storage.events.current().map(machine),
        events: (0..EVENTS).map(read).collect(),
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    let mut entries: Vec<_> = fs::read_dir(from).unwrap().map(Result::unwrap).collect();
    // Registers first: a copy takes time, and a mark must not be younger than its log.
    entries.sort_by_key(|entry| entry.file_type().unwrap().is_dir());
    for entry in entries {
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

fn files(dir: &Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found.sort();
    found
}

/// A closed directory with some of everything.
fn furnish(dir: &Path) {
    let storage = open_healthy(dir);
    for index in 0..150 {
        append(&storage.log, vec![entry(index, 40 * (index as usize % 100))]);
    }
    append(&storage.log, vec![entry(150, 250_000), entry(151, 3)]);
    wait(|done| storage.log.save_vote(Bytes::from_static(b"a vote"), done));
    for last in [20, 30] {
        let mut writer = storage.events.writer();
        for p in (0..EVENTS).filter(|p| !storage.events.holds(event_key(*p))) {
            writer.relocate(event_key(p), payload(p)).unwrap();
        }
        let id = EntryId { term: 1, node: NodeId(3), index: last };
        let machine = Bytes::from(vec![last as u8; 3000]);
        writer
            .finish(Bytes::from_static(b"meta"), id, machine, &(0..EVENTS).map(event_key).collect())
            .unwrap();
    }
    let floor = EntryId { term: 1, node: NodeId(3), index: 10 };
    wait(|done| storage.log.purge(floor, done));
    storage.log.close();
}

#[test]
fn a_log_over_several_databases_comes_back() {
    let dir = tempfile::tempdir().unwrap();
    let mut expected = Vec::new();
    for life in 0..4u64 {
        let storage = open_healthy(dir.path());
        assert_eq!(storage.identity.incarnation, life + 1);
        assert!(entries(&storage.log) == expected);
        for index in expected.len() as u64..(life + 1) * 80 {
            expected.push(entry(index, 7_000 * (index as usize % 3)));
            append(&storage.log, expected[index as usize..].to_vec());
        }
        assert!(entries(&storage.log) == expected, "tail and disk together");
        let cut = expected.len() - 30 + life as usize;
        wait(|done| storage.log.truncate_after(Some(cut as u64 - 1), done));
        expected.truncate(cut);
        assert!(entries(&storage.log) == expected);
    }
    let databases = || fs::read_dir(dir.path().join("log")).unwrap().count();
    let before = databases();
    let storage = open_healthy(dir.path());
    let floor = expected[200].id;
    wait(|done| storage.log.purge(floor, done));
    assert!(entries(&storage.log) == expected[201..]);
    assert!(databases() < before, "{before} databases, {} after the purge", databases());
    let beyond = EntryId { term: 9, node: NodeId(1), index: 5_000 };
    wait(|done| storage.log.purge(beyond, done));
    append(&storage.log, vec![entry(5_001, 10)]);
    drop(storage);
    // Nothing reaches the floor but a snapshot, and there is none.
    assert!(matches!(open(dir.path(), None, options()), Ok(Opened::Quarantined { .. })));
}

#[test]
fn a_copy_taken_under_load_holds_what_was_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let copies = tempfile::tempdir().unwrap();
    let storage = open_healthy(dir.path());
    let acknowledged = Arc::new(Mutex::new(0));
    let mut next = 0;
    for round in 0..6 {
        for _ in 0..200 {
            let acknowledged = acknowledged.clone();
            let done = move |result: Result<(), StorageError>| {
                result.unwrap();
                *acknowledged.lock().unwrap() += 1;
            };
            storage.log.append(vec![entry(next, 300)], Box::new(done));
            next += 1;
        }
        let before = *acknowledged.lock().unwrap();
        let target = copies.path().join(round.to_string());
        copy(dir.path(), &target);
        let copied = open_healthy(&target);
        let found = entries(&copied.log);
        assert!(found.len() >= before, "{} of {before}", found.len());
        assert!(found.iter().enumerate().all(|(n, found)| *found == entry(n as u64, 300)));
    }
}

#[test]
fn a_flipped_bit_in_any_file_never_goes_unnoticed() {
    let dir = tempfile::tempdir().unwrap();
    let origin = dir.path().join("origin");
    furnish(&origin);
    let pristine = dir.path().join("pristine");
    copy(&origin, &pristine);
    let expected = content(&open_healthy(&pristine));
    assert_eq!(expected.entries.len(), 141);
    let (mut healthy, mut quarantined) = (0, 0);
    for file in files(&origin) {
        let bytes = fs::read(&file).unwrap();
        let used = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        let flips = if file.ends_with("db") { 12 } else { 4 };
        for flip in 0..flips.min(used) {
            let damaged = dir.path().join("damaged");
            copy(&origin, &damaged);
            let mut bytes = bytes.clone();
            let at = (used * flip / flips) + (flip * 7) % (used / flips).max(1);
            bytes[at] ^= 1 << (flip % 8);
            fs::write(damaged.join(file.strip_prefix(&origin).unwrap()), bytes).unwrap();
            match open(&damaged, Some(OWNER), options()).unwrap() {
                Opened::Healthy(storage) => {
                    healthy += 1;
                    let found = content(&storage);
                    let older = found.machine == Some(Bytes::from(vec![20; 3000]));
                    let machine =
                        if older { found.machine.clone() } else { expected.machine.clone() };
                    let expected = Content { machine, ..content_like(&expected) };
                    assert_eq!(found, expected, "byte {at} of {}", file.display());
                }
                Opened::Quarantined { .. } => quarantined += 1,
            }
            fs::remove_dir_all(&damaged).unwrap();
        }
    }
    assert!(healthy > 10 && quarantined > 10, "{healthy} healthy, {quarantined} quarantined");
}

fn content_like(content: &Content) -> Content {
    Content {
        vote: content.vote.clone(),
        state: content.state,
        entries: content.entries.clone(),
        machine: content.machine.clone(),
        events: content.events.clone(),
    }
}

#[test]
fn a_directory_has_one_node() {
    let dir = tempfile::tempdir().unwrap();
    assert!(matches!(open(dir.path(), None, options()), Err(StorageError::Empty { .. })));
    assert_eq!(peek(dir.path()).unwrap(), None);
    let storage = open_healthy(dir.path());
    assert_eq!(peek(dir.path()).unwrap(), Some(storage.identity));
    let second = open(dir.path(), Some(OWNER), options());
    assert!(matches!(second, Err(StorageError::Locked { .. })));
    drop(storage);
    let other = Owner { node: NodeId(4), ..OWNER };
    let foreign = open(dir.path(), Some(other), options());
    assert!(matches!(foreign, Err(StorageError::Foreign { found_node: NodeId(3), .. })));
    assert_eq!(open(dir.path(), None, options()).unwrap().healthy().unwrap().identity.node.0, 3);
}

#[tokio::test]
async fn whoever_waits_for_a_directory_finds_it_free() {
    let dir = tempfile::tempdir().unwrap();
    let Storage { log, events, released, .. } = open_healthy(dir.path());
    drop(events);
    let early = timeout(Duration::from_millis(50), released.clone().wait()).await;
    assert!(early.is_err(), "a handle to the log is left");
    let dropping = tokio::task::spawn_blocking(move || drop(log));
    timeout(Duration::from_secs(10), released.wait()).await.expect("the last handle is gone");
    open(dir.path(), None, options()).unwrap().healthy().unwrap();
    dropping.await.unwrap();
}

#[test]
fn lost_files_are_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let origin = dir.path().join("origin");
    furnish(&origin);
    for lost in [&["vote.a", "vote.b"][..], &["identity.a", "identity.b"], &["events/MANIFEST"]] {
        let damaged = dir.path().join("damaged");
        copy(&origin, &damaged);
        lost.iter().for_each(|name| fs::remove_file(damaged.join(name)).unwrap());
        let opened = open(&damaged, Some(OWNER), options()).unwrap();
        assert!(matches!(opened, Opened::Quarantined { .. }), "without {lost:?}");
        drop(opened);
        fs::remove_dir_all(&damaged).unwrap();
    }
}

#[test]
fn lost_databases_are_noticed_and_what_is_left_of_them_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let (origin, damaged) = (dir.path().join("origin"), dir.path().join("damaged"));
    furnish(&origin);
    for part in ["", "ready"] {
        let mut noticed = 0;
        for entry in fs::read_dir(origin.join("log")).unwrap() {
            copy(&origin, &damaged);
            let database = damaged.join("log").join(entry.unwrap().file_name());
            match part {
                "" => fs::remove_dir_all(&database).unwrap(),
                file => fs::remove_file(database.join(file)).unwrap(),
            }
            match open(&damaged, Some(OWNER), options()).unwrap() {
                Opened::Quarantined { .. } => {
                    noticed += 1;
                    assert_eq!(database.join("db").exists(), !part.is_empty());
                }
                // The one prepared in advance was empty.
                Opened::Healthy(storage) => assert_eq!(entries(&storage.log).len(), 141),
            }
            fs::remove_dir_all(&damaged).unwrap();
        }
        assert!(noticed >= 2, "{noticed} databases with entries");
    }
}
