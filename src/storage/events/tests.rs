//! The event store against a naive model: relocation, compaction, crashes; what all of its tests use.

mod damage;
mod room;
mod transfer;

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use super::{EventStore, FileInfo, Keys, Patient, Pinned, SnapshotInfo, Staging, Wounded};
use crate::env::disk::{Disk, Keep, MemDisk};
use crate::storage::StorageError;
use crate::types::{EntryId, Event, LaneId, NodeId, Payload, PayloadKey, Stamp};

type Model = BTreeMap<PayloadKey, Payload>;

fn payload(key: PayloadKey) -> Payload {
    let body = vec![key.position as u8; 100 + key.index as usize % 500];
    let event = Event::of_body(body).encode().unwrap();
    let lane = LaneId { index: 3, position: 1 };
    Payload { lane, sequence: key.index, accepted: Stamp(key.index), event }
}

fn key(index: u64, position: u32) -> PayloadKey {
    PayloadKey { index, position }
}

fn at(index: u64) -> EntryId {
    EntryId { term: 1, node: NodeId(1), index }
}

fn create(node: u64) -> (MemDisk, EventStore) {
    let disk = MemDisk::new();
    EventStore::create(&disk).unwrap();
    let store = reopen(&disk, node);
    (disk, store)
}

fn reopen(disk: &MemDisk, node: u64) -> EventStore {
    let store = EventStore::open(Arc::new(disk.clone()), NodeId(node), None).unwrap();
    store.settle().unwrap();
    store
}

fn snapshot(
    store: &EventStore,
    last: u64,
    alive: &[PayloadKey],
) -> Result<SnapshotInfo, StorageError> {
    let mut writer = store.writer();
    let alive = alive.iter().copied().collect();
    for key in store.missing(&alive).iter() {
        writer.relocate(key, payload(key))?;
    }
    let machine = Bytes::from(format!("machine at {last}"));
    writer.finish(Bytes::from_static(b"meta"), at(last), machine, &alive)
}

fn check_holds(store: &EventStore, model: &Model) {
    for (key, payload) in model {
        assert!(store.holds(*key));
        assert_eq!(store.read(*key).unwrap().as_ref(), Some(payload), "{key}");
    }
}

fn model(keys: &[PayloadKey]) -> Model {
    keys.iter().map(|key| (*key, payload(*key))).collect()
}

#[test]
fn a_snapshot_and_what_it_holds_come_back() {
    let (disk, store) = create(1);
    assert_eq!((store.current(), store.read(key(1, 0)).unwrap()), (None, None));
    let alive: Vec<_> = (0..400).map(|n| key(n / 7, (n % 7) as u32)).collect();
    let written = snapshot(&store, 60, &alive).unwrap();
    assert_eq!(snapshot(&store, 60, &alive).unwrap(), written, "repeating is harmless");
    let store = reopen(&disk.crash(Keep::Nothing, 0), 1);
    assert_eq!(store.current().unwrap(), written);
    assert_eq!(store.read_machine(&written).unwrap(), "machine at 60");
    check_holds(&store, &model(&alive));
    assert_eq!(store.read(key(0, 7)).unwrap(), None);
}

#[test]
fn a_payload_goes_only_when_neither_snapshot_needs_it() {
    let (disk, store) = create(1);
    let alive: Vec<_> = (0..100).map(|n| key(n, 0)).collect();
    snapshot(&store, 100, &alive).unwrap();
    snapshot(&store, 200, &alive[..3]).unwrap();
    check_holds(&store, &model(&alive));
    snapshot(&store, 300, &alive[..3]).unwrap();
    check_holds(&store, &model(&alive[..3]));
    assert!(!store.holds(alive[3]), "rewritten without the dead");
    snapshot(&store, 400, &[]).unwrap();
    check_holds(&store, &model(&alive[..3]));
    snapshot(&store, 500, &[]).unwrap();
    assert!(!store.holds(alive[0]));
    let files = disk.list("events").unwrap();
    assert_eq!(files.len(), 3, "a manifest and two snapshots: {files:?}");
}

#[test]
fn a_second_copy_of_the_snapshot_frees_what_only_the_older_one_needs() {
    let (disk, store) = create(1);
    let alive: Vec<_> = (0..100).map(|n| key(n, 0)).collect();
    snapshot(&store, 100, &alive).unwrap();
    let newest = snapshot(&store, 200, &alive[..3]).unwrap();
    for after in 0.. {
        let disk = disk.crash(Keep::Everything, 0);
        let store = reopen(&disk, 1);
        disk.cut_power_after(after);
        let done = store.double().is_ok();
        for store in [reopen(&disk.crash(Keep::Nothing, 0), 1)].iter().chain(done.then_some(&store))
        {
            check_holds(store, &model(&alive[..3]));
            assert_eq!(store.current().unwrap().last, newest.last);
            assert!(!done || !store.holds(alive[50]), "after {after} operations");
        }
        if done {
            let copies = [store.current(), store.previous()].map(|info| info.unwrap());
            let newest = disk.crash(Keep::Nothing, 0);
            newest.flip_bit(&format!("events/{}", copies[0].name), 500);
            check_holds(&reopen(&newest, 1), &model(&alive[..3]));
            return;
        }
    }
}

#[test]
fn a_crash_leaves_the_old_or_the_new_snapshot() {
    for seed in 0..120 {
        let mut chance = fastrand::Rng::with_seed(seed);
        let (mut disk, mut store) = create(1);
        let mut alive: Vec<PayloadKey> = Vec::new();
        let mut retained = alive.clone();
        for round in 1..8u64 {
            let mut next: Vec<_> = alive.iter().copied().filter(|_| chance.u8(0..3) > 0).collect();
            next.extend((0..chance.u32(0..30)).map(|position| key(round * 10, position)));
            disk.cut_power_after(chance.u64(1..24));
            let result = snapshot(&store, round * 10 + 9, &next);
            let keep = [Keep::Nothing, Keep::Everything, Keep::Some][chance.usize(0..3)];
            disk = disk.crash(keep, chance.u64(..));
            store = reopen(&disk, 1);
            let found = store.current().map_or(0, |snapshot| snapshot.last.index);
            if result.is_ok() {
                assert_eq!(found, round * 10 + 9, "seed {seed}");
            }
            if found == round * 10 + 9 {
                (retained, alive) = (alive, next);
            }
            check_holds(&store, &model(&alive));
            check_holds(&store, &model(&retained));
            let files = disk.list("events").unwrap();
            let snapshots = files.iter().filter(|name| name.starts_with("snap-")).count();
            let retained =
                usize::from(store.current().is_some()) + usize::from(store.previous().is_some());
            assert_eq!(snapshots, retained, "seed {seed}: garbage stays in {files:?}");
        }
    }
}

#[test]
fn pinned_files_stay() {
    let (disk, store) = create(1);
    snapshot(&store, 10, &[key(1, 0)]).unwrap();
    let pinned = store.pin().unwrap();
    for last in [20, 30, 40] {
        snapshot(&store, last, &[]).unwrap();
    }
    for file in pinned.files() {
        assert_eq!(pinned.read_chunk(&file.name, 0, 1 << 20).unwrap().len() as u64, file.len);
    }
    let before = disk.list("events").unwrap().len();
    drop(pinned);
    assert_eq!(disk.list("events").unwrap().len(), before - 2);
}
