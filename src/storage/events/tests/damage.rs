//! Damage: what is fallen back to, repaired, listed.

use super::*;

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
    assert_eq!(store.damage().peek(), crate::storage::Damage::default());
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
