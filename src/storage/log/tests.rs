//! The log against a naive model, with the power cut at any moment.

use std::sync::{Arc, Mutex};

use bytes::Bytes;

use super::{Done, Drive, Entry, LogStore};
use crate::env::disk::{Keep, MemDisk};
use crate::storage::{self, Keys, Opened, Options, Owner, Storage, StorageError};
use crate::types::{ClusterId, EntryId, NodeId};

const OWNER: Owner = Owner { cluster: ClusterId(7), node: NodeId(1) };

/// What can be seen of a log.
#[derive(Debug, Clone, Default, PartialEq)]
struct Seen {
    vote: Option<Bytes>,
    purged: Option<EntryId>,
    entries: Vec<Entry>,
}

#[derive(Debug, Clone)]
enum Op {
    Append(Vec<Entry>),
    Vote(Bytes),
    Truncate(Option<u64>),
    Purge(EntryId),
}

impl Seen {
    fn of(log: &LogStore) -> Seen {
        let state = log.state();
        let first = state.purged.map_or(0, |id| id.index + 1);
        let end = state.last.map_or(0, |id| id.index + 1);
        let mut entries: Vec<Entry> = Vec::new();
        while first + (entries.len() as u64) < end {
            entries.extend(log.read(first + entries.len() as u64..end, 10_000).unwrap());
        }
        Seen { vote: log.vote(), purged: state.purged, entries }
    }

    fn end(&self) -> u64 {
        let last = self.entries.last().map(|entry| entry.id).or(self.purged);
        last.map_or(0, |id| id.index + 1)
    }

    /// The states that an operation passes through, the last being its result.
    fn steps(&self, op: &Op) -> Vec<Seen> {
        let mut now = self.clone();
        let mut steps = Vec::new();
        match op {
            Op::Vote(vote) => now.vote = Some(vote.clone()),
            Op::Purge(upto) => {
                now.purged = Some(*upto);
                now.entries.retain(|entry| entry.id.index > upto.index);
            }
            Op::Append(entries) => {
                for entry in entries {
                    now.entries.push(entry.clone());
                    steps.push(now.clone());
                }
            }
            Op::Truncate(index) => {
                let beyond = |entry: &Entry| index.is_none_or(|index| entry.id.index > index);
                while now.entries.last().is_some_and(beyond) {
                    now.entries.pop();
                    steps.push(now.clone());
                }
            }
        }
        steps.push(now);
        steps
    }
}

fn options() -> Options {
    Options { tail_bytes: 2_000, database_bytes: 5_000 }
}

fn open(disk: &MemDisk, drive: Drive) -> Storage {
    match storage::open_on(Arc::new(disk.clone()), Some(OWNER), options(), drive).unwrap() {
        Opened::Healthy(storage) => storage,
        Opened::Quarantined { reason, .. } => panic!("quarantined: {reason}"),
    }
}

fn entry(chance: &mut fastrand::Rng, term: u64, index: u64) -> Entry {
    let len = match chance.u8(0..20) {
        0 => chance.usize(90_000..210_000),
        1..5 => chance.usize(0..3_000),
        _ => chance.usize(0..200),
    };
    let body = vec![chance.u8(..); len].into();
    Entry { id: EntryId { term, node: NodeId(1), index }, kind: chance.u8(..), body }
}

/// `covered`: entries before it are in a snapshot, and are not truncated any more.
fn random_op(chance: &mut fastrand::Rng, seen: &Seen, covered: u64, term: &mut u64) -> Op {
    let (first, end) = (seen.purged.map_or(0, |id| id.index + 1), seen.end());
    let kept = first.max(covered);
    match chance.u8(0..12) {
        0 => Op::Vote(vec![chance.u8(..); chance.usize(1..50)].into()),
        1 if end > kept => {
            *term += 1;
            let index = chance.u64(kept..end);
            Op::Truncate(index.checked_sub(1).filter(|index| *index >= first))
        }
        2 if end > first => {
            let index = chance.u64(first..end);
            let id = seen.entries[(index - first) as usize].id;
            Op::Purge(id)
        }
        3 if chance.u8(0..4) == 0 => {
            *term += 1;
            Op::Purge(EntryId { term: *term, node: NodeId(2), index: end + chance.u64(1..20) })
        }
        _ => {
            let count = chance.u64(1..6);
            Op::Append((end..end + count).map(|index| entry(chance, *term, index)).collect())
        }
    }
}

fn submit(log: &LogStore, op: Op, done: Done) {
    match op {
        Op::Append(entries) => log.append(entries, done),
        Op::Vote(vote) => log.save_vote(vote, done),
        Op::Truncate(index) => log.truncate_after(index, done),
        Op::Purge(upto) => log.purge(upto, done),
    }
}

/// Writes the snapshot that must be there before the log is purged; what was asked before it is
/// done before it.
fn is_covered(storage: &Storage, op: &Op) -> bool {
    let Op::Purge(upto) = op else { return true };
    storage.log.pump();
    storage.events.writer().finish(Bytes::new(), *upto, Bytes::new(), &Keys::default()).is_ok()
}

/// Runs random operations until the power goes; returns what was asked, and how much of it was
/// acknowledged.
fn run_until_crash(disk: &MemDisk, start: &Seen, chance: &mut fastrand::Rng) -> (Vec<Op>, usize) {
    let storage = open(disk, Drive::Pump);
    let log = storage.log.clone();
    assert!(Seen::of(&log) == *start);
    let acknowledged = Arc::new(Mutex::new(Vec::new()));
    let (mut ops, mut seen) = (Vec::new(), start.clone());
    let mut unsure = None;
    let mut term = seen.end() + 100;
    disk.cut_power_after(chance.u64(1..60));
    for _ in 0..40 {
        let covered = storage.events.current().map_or(0, |snapshot| snapshot.last.index + 1);
        let op = random_op(chance, &seen, covered, &mut term);
        if !is_covered(&storage, &op) {
            // The snapshot may be there all the same, and stand for what would have been purged.
            unsure = Some(op);
            break;
        }
        seen = seen.steps(&op).pop().unwrap();
        let (number, acknowledged) = (ops.len(), acknowledged.clone());
        ops.push(op.clone());
        let done = move |result: Result<(), StorageError>| {
            acknowledged.lock().unwrap().push((number, result.is_ok()));
        };
        submit(&log, op, Box::new(done));
        assert_eq!(log.state().purged, seen.purged);
        if chance.u8(0..3) == 0 {
            log.pump();
        }
        if log.failure().is_some() {
            break;
        }
        assert!(Seen::of(&log).entries == seen.entries, "readable when submitted");
    }
    log.pump();
    let acknowledged = acknowledged.lock().unwrap();
    assert!(acknowledged.iter().map(|(number, _)| *number).eq(0..ops.len()), "answered in order");
    let good = acknowledged.iter().take_while(|(_, ok)| *ok).count();
    assert!(acknowledged[good..].iter().all(|(_, ok)| !ok), "a failure is sticky");
    ops.extend(unsure);
    (ops, good)
}

#[test]
fn what_was_acknowledged_survives_any_crash() {
    for seed in 0..150 {
        let mut chance = fastrand::Rng::with_seed(seed);
        let (mut disk, mut seen) = (MemDisk::new(), Seen::default());
        open(&disk, Drive::Pump);
        for life in 0..6 {
            let (ops, good) = run_until_crash(&disk, &seen, &mut chance);
            let keep = [Keep::Nothing, Keep::Everything, Keep::Some][chance.usize(0..3)];
            disk = disk.crash(keep, chance.u64(..));
            let found = Seen::of(&open(&disk, Drive::Pump).log);
            let mut possible = vec![seen.clone()];
            for (number, op) in ops.iter().enumerate() {
                let steps = possible.last().unwrap_or(&seen).steps(op);
                if number < good {
                    possible.clear();
                    possible.extend(steps.into_iter().last());
                } else {
                    possible.extend(steps);
                }
            }
            assert!(
                possible.contains(&found),
                "seed {seed}, life {life}, {keep:?}: {good} of {} operations acknowledged",
                ops.len()
            );
            seen = found;
        }
    }
}

#[test]
fn any_flipped_bit_is_harmless_repaired_or_quarantined() {
    let disk = MemDisk::new();
    let log = open(&disk, Drive::Inline).log;
    let mut chance = fastrand::Rng::with_seed(1);
    let mut small = |index| Entry {
        id: EntryId { term: 1, node: NodeId(1), index },
        kind: 1,
        body: vec![chance.u8(..); 90].into(),
    };
    (0..60).for_each(|index| log.append(vec![small(index)], Box::new(|r| r.unwrap())));
    log.append(vec![entry(&mut fastrand::Rng::with_seed(3), 1, 60)], Box::new(|r| r.unwrap()));
    log.save_vote(Bytes::from_static(b"vote"), Box::new(|r| r.unwrap()));
    log.close();
    let expected = Seen::of(&open(&disk, Drive::Pump).log);
    let disk = disk.crash(Keep::Everything, 0);
    let (mut healthy, mut quarantined) = (0, 0);
    for path in disk.paths() {
        for bit in (0..).step_by(37) {
            let damaged = disk.crash(Keep::Everything, 0);
            if !damaged.flip_bit(&path, bit) {
                break;
            }
            let damaged = Arc::new(damaged);
            match storage::open_on(damaged, Some(OWNER), options(), Drive::Pump).unwrap() {
                Opened::Healthy(storage) => {
                    healthy += 1;
                    assert_eq!(Seen::of(&storage.log), expected, "bit {bit} of {path}");
                }
                Opened::Quarantined { .. } => quarantined += 1,
            }
        }
    }
    assert!(healthy > 20 && quarantined > 100, "{healthy} healthy, {quarantined} quarantined");
}

#[test]
fn nothing_is_acknowledged_after_a_failed_sync() {
    let disk = MemDisk::new();
    let log = open(&disk, Drive::Inline).log;
    let results = Arc::new(Mutex::new(Vec::new()));
    let push = |results: &Arc<Mutex<Vec<bool>>>| -> Done {
        let results = results.clone();
        Box::new(move |result| results.lock().unwrap().push(result.is_ok()))
    };
    let entry = |index| entry(&mut fastrand::Rng::with_seed(9), 1, index);
    log.append(vec![entry(0)], push(&results));
    disk.fail_sync(true);
    log.append(vec![entry(1)], push(&results));
    disk.fail_sync(false);
    let syncs = disk.syncs();
    log.append(vec![entry(2)], push(&results));
    log.save_vote(Bytes::from_static(b"v"), push(&results));
    log.truncate_after(Some(0), push(&results));
    assert_eq!(*results.lock().unwrap(), [true, false, false, false, false]);
    assert!(matches!(log.failure(), Some(StorageError::Io { .. })));
    log.close();
    assert_eq!(disk.syncs(), syncs, "no failed sync is repeated");
}

#[test]
fn a_full_disk_ends_the_log_and_what_was_acknowledged_is_there_when_it_is_opened_again() {
    let disk = MemDisk::new();
    let log = open(&disk, Drive::Inline).log;
    let result = Arc::new(Mutex::new(None));
    let append = |log: &LogStore, index| {
        let told = result.clone();
        let entry = entry(&mut fastrand::Rng::with_seed(9), 1, index);
        log.append(vec![entry], Box::new(move |done| *told.lock().unwrap() = Some(done)));
        result.lock().unwrap().take().unwrap()
    };
    (0..4).for_each(|index| append(&log, index).unwrap());
    disk.fill(Some(0));
    assert!(append(&log, 4).unwrap_err().is_full());
    assert!(log.failure().unwrap().is_full());
    disk.fill(None);
    assert!(append(&log, 5).unwrap_err().is_full(), "there is no going on");
    log.close();
    let again = open(&disk, Drive::Inline).log;
    assert_eq!(again.state().last.unwrap().index, 3);
    append(&again, 4).unwrap();
}

#[test]
fn a_hole_is_refused_in_its_turn() {
    let log = open(&MemDisk::new(), Drive::Inline).log;
    let entry = |index| entry(&mut fastrand::Rng::with_seed(9), 1, index);
    log.append(vec![entry(0)], Box::new(|result| assert!(result.is_ok())));
    let refused = |result: Result<(), StorageError>| {
        assert!(matches!(result, Err(StorageError::Hole { expected: 1, found: 2 })));
    };
    log.append(vec![entry(2)], Box::new(refused));
    log.append(vec![entry(1)], Box::new(|result| assert!(result.is_ok())));
    assert!(matches!(log.read(2..5, 1), Err(StorageError::Absent { from: 2, first: 0, last: 1 })));
    assert_eq!((log.read(0..9, 0).unwrap().len(), log.read(0..9, 1 << 20).unwrap().len()), (1, 2));
}

#[test]
fn many_appends_share_one_sync() {
    let disk = MemDisk::new();
    let log = open(&disk, Drive::Pump).log;
    let before = disk.syncs();
    for index in 0..100 {
        let id = EntryId { term: 1, node: NodeId(1), index };
        log.append(vec![Entry { id, kind: 0, body: Bytes::new() }], Box::new(|r| r.unwrap()));
    }
    assert!(log.pump() && !log.pump());
    assert!(disk.syncs() - before <= 2, "{} syncs for log and mark", disk.syncs() - before);
}

#[test]
fn a_callback_may_submit() {
    let log = open(&MemDisk::new(), Drive::Inline).log;
    let (again, id) = (log.clone(), EntryId { term: 1, node: NodeId(1), index: 0 });
    let done = move |result: Result<(), StorageError>| {
        result.unwrap();
        again.save_vote(Bytes::from_static(b"later"), Box::new(|r| r.unwrap()));
    };
    log.append(vec![Entry { id, kind: 0, body: Bytes::new() }], Box::new(done));
    assert_eq!(log.vote().unwrap(), "later");
}
