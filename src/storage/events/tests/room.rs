//! Disks without room.

use super::*;

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
