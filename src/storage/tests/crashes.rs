//! The power goes at every single write and sync of a scripted life, and of the start after it.

use super::script::{Seen, check_events, id, open, run, steps};
use crate::env::disk::{Keep, MemDisk};
use crate::storage::Entry;

/// What a crash leaves of what was not synced.
const KEEPS: [(Keep, u64); 6] = [
    (Keep::Nothing, 0),
    (Keep::Everything, 0),
    (Keep::Some, 1),
    (Keep::Some, 2),
    (Keep::Some, 3),
    (Keep::Some, 4),
];

/// Lives until the power goes after `changes` changes. The disk as it was left, the states in which
/// the store may be found now, and whether the script ended before.
fn live(changes: u64) -> (MemDisk, Vec<Seen>, bool) {
    let disk = MemDisk::new();
    disk.cut_power_after(changes);
    let mut possible = vec![Seen::default()];
    let Ok(storage) = open(&disk) else { return (disk, possible, false) };
    for step in steps() {
        let states = possible[0].through(&step);
        if run(&storage, &step).is_err() {
            possible.extend(states);
            return (disk, possible, false);
        }
        possible = states.into_iter().last().into_iter().collect();
        assert_eq!(Seen::of(&storage), possible[0], "after {step:?}");
    }
    storage.log.close();
    (disk, possible, true)
}

/// Opens what a crash left: it is one of the possible states, all of it can be read, and it goes
/// on from there.
fn check(disk: &MemDisk, possible: &[Seen], context: &str) {
    let storage = open(disk).unwrap_or_else(|error| panic!("{context}: {error}"));
    let found = Seen::of(&storage);
    assert!(possible.contains(&found), "{context}: found {found:?}, none of {possible:?}");
    check_events(&storage);
    let next = storage.log.state().last.map_or(0, |id| id.index + 1);
    let entry = Entry { id: id(99, next), kind: 9, body: vec![9; 50].into() };
    run(&storage, &super::script::Step::Append(vec![entry.clone()])).unwrap();
    drop(storage);
    let again = Seen::of(&open(disk).unwrap());
    assert_eq!(again.entries.last(), Some(&entry), "{context}: it goes on");
}

#[test]
fn power_may_go_at_every_write_and_sync() {
    let mut changes = 0;
    loop {
        let (disk, possible, whole) = live(changes);
        for (keep, seed) in KEEPS {
            let context = format!("power gone after {changes} changes, {keep:?} {seed}");
            check(&disk.crash(keep, seed * 1000 + changes), &possible, &context);
        }
        if whole {
            break;
        }
        changes += 1;
    }
    assert!(changes > 200, "{changes} moments are not the whole script");
}

#[test]
fn power_may_go_again_while_a_crash_is_cleaned_up() {
    let mut starts = 0;
    for changes in (0..).step_by(7) {
        let (disk, possible, whole) = live(changes);
        for (keep, seed) in &KEEPS[..4] {
            for second in 0.. {
                let disk = disk.crash(*keep, seed * 1000 + changes);
                disk.cut_power_after(second);
                let opened = open(&disk).is_ok();
                starts += 1;
                let context = format!("{changes} changes, {keep:?} {seed}, then {second}");
                for (keep, seed) in [KEEPS[0], KEEPS[2]] {
                    check(&disk.crash(keep, seed * 77 + second), &possible, &context);
                }
                if opened {
                    break;
                }
            }
        }
        if whole {
            break;
        }
    }
    assert!(starts > 1000, "{starts} starts");
}
