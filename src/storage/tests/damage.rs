//! Every file of a store with a bit flipped, cut short, mixed up or replaced by an old copy: the
//! store is whole, or says that it is not.

use proptest::prelude::*;

use super::script::{Seen, keys, needed_from, open, open_damaged, payload, run, steps};
use crate::env::disk::{Disk, Keep, MemDisk};
use crate::storage::{Opened, Patient, Storage, StorageError};

/// A store after its life, what it holds, and how its disk was before each step.
struct Origin {
    disk: MemDisk,
    expected: Seen,
    earlier: Vec<MemDisk>,
}

/// How a damaged store was found.
#[derive(Debug, PartialEq)]
enum Found {
    Whole,
    Quarantined,
}

fn copy(disk: &MemDisk) -> MemDisk {
    disk.crash(Keep::Everything, 0)
}

fn origin() -> Origin {
    let disk = MemDisk::new();
    let storage = open(&disk).unwrap();
    let mut earlier = Vec::new();
    for step in steps() {
        earlier.push(copy(&disk));
        run(&storage, &step).unwrap();
    }
    storage.log.close();
    let expected = Seen::of(&storage);
    drop(storage);
    assert!(expected.entries.len() > 3 && expected.snapshot.is_some());
    Origin { disk: copy(&disk), expected, earlier }
}

/// Opens a damaged store. If it opens, nothing in it is other than it was, but that it may have
/// gone back to the snapshot before while the log reaches from there, and that an event may say
/// that it is damaged.
fn judge(disk: &MemDisk, expected: &Seen, context: &str) -> Found {
    match open_damaged(disk).unwrap_or_else(|error| panic!("{context}: {error}")) {
        Opened::Quarantined { .. } => Found::Quarantined,
        Opened::Healthy(storage) => {
            let found = Seen::of(&storage);
            let fell_back = found.snapshot != expected.snapshot;
            let snapshot = found.snapshot.filter(|_| fell_back).or(expected.snapshot);
            assert_eq!(found, Seen { snapshot, ..expected.clone() }, "{context}");
            let (last, _) = snapshot.unwrap();
            assert!(last <= expected.snapshot.unwrap().0, "{context}");
            assert_eq!(storage.log.id(last.index), Some(last), "{context}: the log reaches back");
            check_events(&storage, context);
            mend(&storage, context);
            Found::Whole
        }
    }
}

fn check_events(storage: &Storage, context: &str) {
    let from = needed_from();
    let last = storage.events.current().unwrap().last;
    for key in keys(last, from[&last]) {
        match storage.events.read(key) {
            Err(StorageError::CorruptEvent { key: named, .. }) => assert_eq!(named, key),
            found => assert_eq!(found.unwrap(), Some(payload(key)), "{context}: {key}"),
        }
    }
}

/// A scrub finds whatever is damaged in a store that opened, and with what others have of it all is
/// whole again.
fn mend(storage: &Storage, context: &str) {
    scrub(storage);
    for patient in storage.events.examine().unwrap() {
        let Patient::Segment(wounded) = patient else {
            panic!("{context}: a damaged snapshot was opened");
        };
        assert!(wounded.lost.iter().all(|lost| lost.is(&payload(lost.key))), "{context}");
        let found = wounded.lost.iter().map(|lost| (lost.key, payload(lost.key))).collect();
        assert_eq!(storage.events.heal(wounded, found).unwrap(), [], "{context}");
    }
    scrub(storage);
    assert!(storage.events.damage().peek().suspects.is_empty(), "{context}: it is damaged still");
    let last = storage.events.current().unwrap().last;
    for key in keys(last, needed_from()[&last]) {
        assert_eq!(storage.events.read(key).unwrap(), Some(payload(key)), "{context}: {key}");
    }
}

/// Reads everything; what is damaged in the event store is a suspect then, and nothing else may be.
fn scrub(storage: &Storage) {
    for mut check in storage.events.checks() {
        while storage.events.check_piece(&mut check, 1000).unwrap().is_some() {}
    }
    assert!(!storage.events.mend_manifest().unwrap(), "it was settled when it was opened");
    storage.registers().check().unwrap();
    let mut from = 0;
    while let Some((next, _)) = storage.log.verify(from, 1000).unwrap() {
        assert!(next > from);
        from = next;
    }
    assert_eq!(Some(from), storage.log.state().last.map(|last| last.index + 1));
}

#[test]
fn every_flipped_bit_and_every_truncation() {
    let origin = origin();
    let (mut whole, mut quarantined) = (0, 0);
    let mut count = |found| match found {
        Found::Whole => whole += 1,
        Found::Quarantined => quarantined += 1,
    };
    for path in origin.disk.paths() {
        let bytes = origin.disk.read_all(&path).unwrap();
        // All bits of the small files, one of each byte of the others.
        let step = if bytes.len() < 100 { 1 } else { 7 };
        for bit in (0..bytes.len() * 8).step_by(step) {
            let disk = copy(&origin.disk);
            assert!(disk.flip_bit(&path, bit));
            count(judge(&disk, &origin.expected, &format!("bit {bit} of {path}")));
        }
        for len in (0..bytes.len()).step_by(step) {
            let disk = copy(&origin.disk);
            disk.create(&path, &bytes[..len]).unwrap();
            count(judge(&disk, &origin.expected, &format!("{path} cut to {len}")));
        }
    }
    assert!(whole > 500 && quarantined > 500, "{whole} whole, {quarantined} quarantined");
}

#[test]
fn no_old_copy_of_a_file_is_taken_for_the_present_one() {
    let origin = origin();
    let mut quarantined = 0;
    for (step, earlier) in origin.earlier.iter().enumerate() {
        for path in earlier.paths() {
            let disk = copy(&origin.disk);
            disk.create(&path, &earlier.read_all(&path).unwrap()).unwrap();
            let found = judge(&disk, &origin.expected, &format!("{path} of before step {step}"));
            quarantined += usize::from(found == Found::Quarantined);
        }
    }
    assert!(quarantined > 10, "{quarantined} old copies noticed");
}

/// Something that happens to a file.
#[derive(Debug, Clone)]
enum Harm {
    Edit(Vec<(prop::sample::Index, u8)>),
    Zero(prop::sample::Index, usize),
    Insert(prop::sample::Index, Vec<u8>),
    Remove(prop::sample::Index, usize),
    Delete,
}

fn harm() -> impl Strategy<Value = Harm> {
    let index = any::<prop::sample::Index>;
    prop_oneof![
        prop::collection::vec((index(), any::<u8>()), 1..8).prop_map(Harm::Edit),
        (index(), 1usize..200).prop_map(|(at, len)| Harm::Zero(at, len)),
        (index(), prop::collection::vec(any::<u8>(), 1..50))
            .prop_map(|(at, new)| Harm::Insert(at, new)),
        (index(), 1usize..200).prop_map(|(at, len)| Harm::Remove(at, len)),
        Just(Harm::Delete),
    ]
}

fn pick(disk: &MemDisk, which: &prop::sample::Index) -> String {
    let paths = disk.paths();
    paths[which.index(paths.len())].clone()
}

fn hurt(disk: &MemDisk, path: &str, harm: &Harm) {
    let mut bytes = disk.read_all(path).unwrap();
    let end = |at: usize, len: usize| (at + len).min(bytes.len());
    match harm {
        _ if bytes.is_empty() => bytes.push(1),
        Harm::Edit(edits) => {
            for (at, value) in edits {
                let at = at.index(bytes.len());
                bytes[at] = *value;
            }
        }
        Harm::Zero(at, len) => {
            let at = at.index(bytes.len());
            let end = end(at, *len);
            bytes[at..end].fill(0);
        }
        Harm::Insert(at, new) => {
            let at = at.index(bytes.len());
            bytes.splice(at..at, new.iter().copied());
        }
        Harm::Remove(at, len) => {
            let at = at.index(bytes.len());
            let end = end(at, *len);
            bytes.drain(at..end);
        }
        Harm::Delete => return disk.remove(path).unwrap(),
    }
    disk.create(path, &bytes).unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn whatever_happens_to_a_file(which: prop::sample::Index, harm in harm()) {
        thread_local!(static ORIGIN: Origin = origin());
        ORIGIN.with(|origin| {
            let disk = copy(&origin.disk);
            let path = pick(&disk, &which);
            hurt(&disk, &path, &harm);
            judge(&disk, &origin.expected, &format!("{path}: {harm:?}"));
        });
    }
}
