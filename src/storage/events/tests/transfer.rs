//! Snapshots on their way from one store to another.

use super::*;

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
