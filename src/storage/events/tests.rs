//! The event store against a naive model: relocation, compaction, crashes, transfer, damage.

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
fn a_transfer_brings_only_what_is_missing() {
    let (_, from) = create(1);
    let (disk, to) = create(2);
    let alive: Vec<_> = (0..300).map(|n| key(n, 0)).collect();
    snapshot(&from, 300, &alive).unwrap();
    transfer(&from, &to).unwrap();
    check_holds(&to, &model(&alive));
    let more: Vec<_> = alive.iter().copied().chain([key(400, 1)]).collect();
    let info = snapshot(&from, 401, &more).unwrap();
    assert_eq!(bring(&from, &to, u64::MAX).unwrap().1, 1, "one event is missing");
    assert_eq!(transfer(&from, &to).unwrap(), info);
    let to = reopen(&disk.crash(Keep::Nothing, 0), 2);
    assert_eq!(to.current(), Some(info));
    check_holds(&to, &model(&more));
}

fn transfer(from: &EventStore, to: &EventStore) -> Result<SnapshotInfo, StorageError> {
    bring(from, to, u64::MAX)?.0.complete()?.install()
}

/// Sends the image and so many events, a few at a time; returns how many were sent.
fn bring(from: &EventStore, to: &EventStore, events: u64) -> Result<(Staging, u64), StorageError> {
    let pinned = from.pin().unwrap();
    let mut staging = to.stage(pinned.files().to_vec())?;
    bring_file(&pinned, &mut staging, &pinned.files()[0])?;
    let mut sent = 0;
    while let Some(keys) = staging.wanted().cloned().filter(|_| sent < events) {
        sent += staging.put(pinned.records(&keys, 2000)?.into())?;
    }
    Ok((staging, sent))
}

fn bring_file(pinned: &Pinned, staging: &mut Staging, file: &FileInfo) -> Result<(), StorageError> {
    while staging.missing().contains(file) {
        let offset = staging.arrived(&file.name);
        let chunk = pinned.read_chunk(&file.name, offset, 1000)?;
        staging.write_chunk(&file.name, offset, &chunk)?;
    }
    Ok(())
}

#[test]
fn a_transfer_by_files_serves_an_older_sender_and_a_backup() {
    let (_, from) = create(1);
    let (disk, to) = create(2);
    let alive: Vec<_> = (0..300).map(|n| key(n, 0)).collect();
    let info = snapshot(&from, 300, &alive).unwrap();
    let pinned = from.pin().unwrap();
    let mut staging = to.stage(pinned.files().to_vec()).unwrap();
    for file in staging.missing() {
        assert!(staging.wanted().is_none_or(|keys| keys.count() > 0));
        bring_file(&pinned, &mut staging, &file).unwrap();
    }
    assert_eq!(staging.complete().unwrap().install().unwrap(), info);
    check_holds(&reopen(&disk.crash(Keep::Nothing, 0), 2), &model(&alive));
}

/// Each sender has other segments, and the state has gone on; what came from one counts for the next.
#[test]
fn another_sender_brings_what_the_first_did_not() {
    let (_, first) = create(1);
    let (_, second) = create(2);
    let (disk, to) = create(3);
    let alive: Vec<_> = (0..1_000).map(|n| key(n / 3, (n % 3) as u32)).collect();
    snapshot(&to, 50, &alive[..60]).unwrap();
    snapshot(&first, 400, &alive).unwrap();
    let more: Vec<_> = alive[30..].iter().copied().chain([key(500, 0), key(500, 1)]).collect();
    snapshot(&second, 333, &alive[20..700]).unwrap();
    snapshot(&second, 500, &more).unwrap();

    let (mut staging, sent) = bring(&first, &to, 900).unwrap();
    assert!((900..940).contains(&sent), "{sent} of the 940 that it did not have");
    assert_eq!(staging.events(), (1_000, 940 - sent));
    staging.keep().unwrap();
    drop(staging);
    // Its own snapshots are built and tidied up meanwhile, and it restarts.
    snapshot(&to, 60, &alive[..60]).unwrap();
    to.double().unwrap();
    assert!(to.staged_bytes() > 0);
    let to = reopen(&disk.crash(Keep::Nothing, 0), 3);

    let (staging, again) = bring(&second, &to, u64::MAX).unwrap();
    assert_eq!(again, 940 - sent + 2, "only what is missing travels");
    let installed = staging.complete().unwrap().install().unwrap();
    assert_eq!(installed.last.index, 500);
    check_holds(&to, &model(&more));
    assert_eq!(to.staged_bytes(), 0);
    // What is not needed any more goes like anything else.
    snapshot(&to, 600, &[]).unwrap();
    snapshot(&to, 700, &[]).unwrap();
    assert_eq!(disk_files(&to), 3);
}

fn disk_files(store: &EventStore) -> usize {
    store.disk().list("events").unwrap().len()
}

#[test]
fn what_was_received_in_vain_goes_when_the_node_has_got_as_far_by_itself() {
    let (_, from) = create(1);
    let (_, to) = create(2);
    let alive: Vec<_> = (0..100).map(|n| key(n, 0)).collect();
    snapshot(&from, 100, &alive).unwrap();
    let (mut staging, _) = bring(&from, &to, 60).unwrap();
    staging.keep().unwrap();
    drop(staging);
    snapshot(&to, 50, &alive[..40]).unwrap();
    assert!(to.staged_bytes() > 0);
    for last in [200, 300] {
        snapshot(&to, last, &alive[..5]).unwrap();
    }
    assert_eq!(to.staged_bytes(), 0);
    check_holds(&to, &model(&alive[..5]));
    let parts = |store: &EventStore| {
        let names = store.disk().list("events").unwrap();
        names.iter().filter(|name| name.ends_with(".part")).count()
    };
    assert_eq!(parts(&to), 1, "the image stays for its sender …");
    snapshot(&from, 400, &alive).unwrap();
    drop(to.stage(from.pin().unwrap().files().to_vec()).unwrap());
    assert_eq!(parts(&to), 0, "… until another one is offered");
}

#[test]
fn a_bad_transfer_changes_nothing() {
    let (_, from) = create(1);
    let (to_disk, to) = create(2);
    snapshot(&from, 9, &[key(1, 0), key(2, 0)]).unwrap();
    let pinned = from.pin().unwrap();
    let (image, segment) = (&pinned.files()[0], &pinned.files()[1]);
    assert!(to.stage(vec![segment.clone()]).is_err(), "no snapshot in it");
    assert!(
        to.stage([pinned.files(), std::slice::from_ref(image)].concat()).is_err(),
        "two of them"
    );
    let mut evil = pinned.files().to_vec();
    evil[0].name = "../snap-1".into();
    assert!(matches!(to.stage(evil), Err(StorageError::UnknownFile(_))));
    let mut staging = to.stage(pinned.files().to_vec()).unwrap();
    assert!(staging.write_chunk("seg-x", 0, b"").is_err());
    for file in [segment, image] {
        assert!(staging.write_chunk(&file.name, file.len, b"x").is_err());
        let mut bytes = pinned.read_chunk(&file.name, 0, 1 << 20).unwrap();
        bytes[20] ^= 1;
        assert!(staging.write_chunk(&file.name, 0, &bytes).unwrap_err().is_corruption());
        assert_eq!(staging.arrived(&file.name), 0, "it is asked for again");
    }
    assert!(staging.put(Bytes::from_static(b"early")).is_err());
    bring_file(&pinned, &mut staging, image).unwrap();
    let whole = pinned.records(&staging.wanted().cloned().unwrap(), usize::MAX).unwrap();
    for bit in 0..whole.len() * 8 {
        let mut bad = whole.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        let mut staging = to.stage(pinned.files().to_vec()).unwrap();
        staging.wanted();
        assert!(staging.put(bad.into()).is_err(), "bit {bit}");
    }
    let strange = Staging::new(to.clone(), pinned.files().to_vec()).unwrap();
    assert!(
        strange.complete().is_err_and(|error| error.to_string().contains("2 events are missing"))
    );
    assert!(staging.put(Bytes::new()).is_err());
    assert_eq!(to.current(), None);
    to_disk.fill(Some(0));
    assert!(matches!(bring(&from, &to, 9).err(), Some(StorageError::Full { .. })));
    to_disk.fill(None);
    assert!(transfer(&from, &to).is_ok(), "what was bad is asked for again");
}

#[test]
fn a_part_of_another_file_of_the_same_name_is_found_out() {
    let (_, from) = create(1);
    let (_, to) = create(2);
    snapshot(&from, 9, &[key(1, 0)]).unwrap();
    let pinned = from.pin().unwrap();
    let image = &pinned.files()[0];
    let mut staging = to.stage(pinned.files().to_vec()).unwrap();
    staging.write_chunk(&image.name, 0, &[7; 10]).unwrap();
    assert!(bring(&from, &to, 9).is_err_and(|error| error.is_corruption()));
    assert!(transfer(&from, &to).is_ok());
}

/// The power goes at every write of a transfer: the receiver has the old snapshot or the new one,
/// and goes on with what it had made durable.
#[test]
fn a_transfer_survives_power_cuts() {
    let (_, from) = create(1);
    let alive: Vec<_> = (0..120).map(|n| key(n, 0)).collect();
    snapshot(&from, 120, &alive).unwrap();
    let mut resumed = 0;
    for (keep, seed) in
        [(Keep::Nothing, 0), (Keep::Everything, 0), (Keep::Some, 1), (Keep::Some, 2)]
    {
        for changes in 0.. {
            let (disk, to) = create(2);
            snapshot(&to, 30, &alive[..20]).unwrap();
            disk.cut_power_after(changes);
            let staged = || {
                let (mut staging, sent) = bring(&from, &to, 60)?;
                staging.keep()?;
                assert!(sent < 100);
                drop(staging);
                transfer(&from, &to)
            };
            let done = staged().is_ok();
            let disk = disk.crash(keep, seed * 1000 + changes);
            let to = reopen(&disk, 2);
            check_holds(&to, &model(&alive[..20]));
            let last = to.current().unwrap().last.index;
            assert!(last == 120 || (last == 30 && !done), "{last} after {changes} changes");
            let (staging, sent) = bring(&from, &to, u64::MAX).unwrap();
            resumed += u64::from(last == 30 && (1..100).contains(&sent));
            staging.complete().unwrap().install().unwrap();
            check_holds(&to, &model(&alive));
            if done {
                break;
            }
        }
    }
    assert!(resumed > 10, "{resumed} went on where they had ended");
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

#[test]
fn an_overtaken_build_returns_what_was_installed() {
    let (_, from) = create(1);
    let (disk, to) = create(2);
    let installed = snapshot(&from, 50, &[key(1, 0)]).unwrap();
    let mut writer = to.writer();
    writer.relocate(key(2, 0), payload(key(2, 0))).unwrap();
    transfer(&from, &to).unwrap();
    let built = writer.finish(Bytes::new(), at(40), Bytes::new(), &Keys::default()).unwrap();
    assert_eq!(built, installed);
    assert_eq!(disk.list("events").unwrap().len(), 3);
}

#[test]
fn damage_falls_back_while_the_log_reaches() {
    let (disk, store) = create(1);
    let first = snapshot(&store, 10, &[key(1, 0)]).unwrap();
    let second = snapshot(&store, 20, &[key(1, 0)]).unwrap();
    disk.flip_bit(&format!("events/{}", second.name), 300);
    let open = |floor| EventStore::open(Arc::new(disk.clone()), NodeId(1), Some(at(floor)));
    assert_eq!(open(10).unwrap().current(), Some(first));
    assert!(open(11).is_err_and(|error| error.is_corruption()));
    let (disk, store) = create(1);
    snapshot(&store, 10, &[]).unwrap();
    let open = |floor| EventStore::open(Arc::new(disk.clone()), NodeId(1), Some(at(floor)));
    assert!(open(10).is_ok() && open(11).is_err(), "the log is purged beyond the snapshot");
}

fn wounded(store: &EventStore) -> Vec<Wounded> {
    let segment = |patient| match patient {
        Patient::Segment(wounded) => wounded,
        Patient::Snapshot(name) => panic!("{name} is whole"),
    };
    store.examine().unwrap().into_iter().map(segment).collect()
}

fn name_of_segment(disk: &MemDisk) -> String {
    disk.list("events").unwrap().into_iter().find(|name| name.starts_with("seg-")).unwrap()
}

#[test]
fn a_damaged_segment_is_written_anew_with_what_others_had() {
    let alive = [key(1, 0), key(1, 1), key(2, 0)];
    let bits = {
        let (disk, store) = create(1);
        snapshot(&store, 9, &alive).unwrap();
        disk.len(&format!("events/{}", name_of_segment(&disk))).unwrap() as usize * 8
    };
    let mut lost_some = 0;
    for bit in (0..bits).step_by(3) {
        let (disk, store) = create(1);
        snapshot(&store, 9, &alive).unwrap();
        let name = name_of_segment(&disk);
        disk.flip_bit(&format!("events/{name}"), bit);
        store.suspect(&name);
        let found = wounded(&store).pop().unwrap_or_else(|| panic!("bit {bit} is not noticed"));
        let lost: Vec<PayloadKey> = found.lost.iter().map(|lost| lost.key).collect();
        lost_some += usize::from(!lost.is_empty());
        assert!(found.lost.iter().all(|lost| lost.is(&payload(lost.key))));
        assert_eq!(store.heal(found, model(&lost)).unwrap(), [], "bit {bit}");
        let damage = store.damage().peek();
        assert!(damage.suspects.is_empty() && damage.found == damage.repaired, "{damage:?}");
        check_holds(&store, &model(&alive));
        let store = reopen(&disk.crash(Keep::Nothing, 0), 1);
        check_holds(&store, &model(&alive));
        assert!(!disk.exists(&format!("events/{name}")).unwrap(), "the damaged copy is gone");
    }
    assert!(lost_some > 20, "{lost_some}");
}

#[test]
fn what_nobody_has_stays_listed_and_what_nobody_needs_is_left_out() {
    let (disk, store) = create(1);
    snapshot(&store, 9, &[key(1, 0), key(1, 1)]).unwrap();
    let name = name_of_segment(&disk);
    disk.flip_bit(&format!("events/{name}"), 8 * 60);
    assert!(store.read(key(1, 0)).unwrap_err().is_corruption());
    let found = wounded(&store).remove(0);
    assert!(!found.lost[0].is(&payload(key(2, 0))), "another event is not taken for it");
    assert_eq!(store.heal(found, Model::new()).unwrap(), [key(1, 0)]);
    assert_eq!((store.damage().peek().lost(), store.damage().peek().repaired), (1, 0));
    assert!(store.read(key(1, 0)).is_err(), "and the rest is there");
    check_holds(&store, &model(&[key(1, 1)]));
    // Settled by now: only the older snapshot needs it, and that one is given up.
    snapshot(&store, 19, &[key(1, 1)]).unwrap();
    let found = wounded(&store).remove(0);
    assert_eq!(store.heal(found, Model::new()).unwrap(), []);
    assert_eq!(store.previous(), None);
    assert!(!store.holds(key(1, 0)));
    check_holds(&store, &model(&[key(1, 1)]));
    assert!(store.damage().peek().suspects.is_empty());
}

#[test]
fn a_crash_leaves_the_damaged_segment_or_the_new_one() {
    for seed in 0..60 {
        let (disk, store) = create(1);
        let alive: Vec<_> = (0..5).map(|position| key(1, position)).collect();
        snapshot(&store, 9, &alive).unwrap();
        let name = name_of_segment(&disk);
        disk.flip_bit(&format!("events/{name}"), 8 * 60);
        store.suspect(&name);
        let found = wounded(&store).remove(0);
        disk.cut_power_after(seed % 12);
        let healed = store.heal(found, model(&alive[..1])).is_ok();
        let store = reopen(&disk.crash(Keep::Some, seed), 1);
        check_holds(&store, &model(&alive[1..]));
        match store.read(alive[0]) {
            Ok(found) => assert_eq!(found, Some(payload(alive[0]))),
            Err(error) => assert!(error.is_corruption() && !healed, "seed {seed}: {error}"),
        }
    }
}

#[test]
fn a_suspect_that_is_whole_is_cleared_and_a_damaged_snapshot_waits_for_the_next() {
    let (disk, store) = create(1);
    let first = snapshot(&store, 9, &[key(1, 0)]).unwrap();
    store.suspect(&name_of_segment(&disk));
    store.suspect(&first.name);
    store.suspect("seg-gone");
    assert!(store.examine().unwrap().is_empty());
    assert_eq!(store.damage().peek(), super::Damage::default());
    disk.flip_bit(&format!("events/{}", first.name), 99);
    store.suspect(&first.name);
    for last in [19, 29] {
        let found = store.examine().unwrap();
        assert!(matches!(&found[..], [Patient::Snapshot(name)] if *name == first.name));
        snapshot(&store, last, &[key(1, 0)]).unwrap();
    }
    assert!(store.examine().unwrap().is_empty());
    assert_eq!((store.damage().peek().found, store.damage().peek().repaired), (1, 1));
}

#[test]
fn a_snapshot_without_room_leaves_nothing_behind_and_is_written_later() {
    let (disk, store) = create(1);
    let alive: Vec<_> = (0..400).map(|n| key(n / 7, (n % 7) as u32)).collect();
    snapshot(&store, 60, &alive[..200]).unwrap();
    let (paths, used) = (disk.paths(), disk.used_bytes());
    let needs = {
        let whole = disk.crash(Keep::Everything, 0);
        snapshot(&reopen(&whole, 1), 90, &alive).unwrap();
        whole.used_bytes() - used
    };
    // Wherever the room ends.
    for leave in (0..needs).step_by(needs as usize / 40) {
        disk.fill(Some(leave));
        assert!(snapshot(&store, 90, &alive).unwrap_err().is_full(), "{leave} of {needs}");
        let manifest = |path: &&String| !path.ends_with(".new");
        assert_eq!(disk.paths().iter().filter(manifest).cloned().collect::<Vec<_>>(), paths);
        disk.fill(None);
        check_holds(&store, &model(&alive[..200]));
    }
    disk.fill(Some(needs + 4_096));
    snapshot(&store, 90, &alive).unwrap();
    check_holds(&reopen(&disk, 1), &model(&alive));
}

#[test]
fn segments_are_rewritten_only_where_there_is_room() {
    let (disk, store) = create(1);
    let alive: Vec<_> = (0..400).map(|n| key(n / 7, (n % 7) as u32)).collect();
    snapshot(&store, 60, &alive).unwrap();
    snapshot(&store, 61, &alive[..100]).unwrap();
    let before = disk.used_bytes();
    disk.fill(Some(700));
    // A quarter lives, and there is no room for a copy of it.
    snapshot(&store, 62, &alive[..100]).unwrap();
    assert!(disk.used_bytes() <= before + 700);
    check_holds(&reopen(&disk, 1), &model(&alive[..100]));
    disk.fill(None);
    snapshot(&store, 63, &alive[..100]).unwrap();
    assert!(disk.used_bytes() < before / 2, "{} of {before}", disk.used_bytes());
}
