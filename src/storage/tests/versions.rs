//! What a newer build wrote is refused, whatever file it is: it is no damage, and nothing of it is
//! cut off, repaired or quarantined.

use std::sync::Arc;

use super::script::{open_damaged, run, steps};
use crate::env::disk::{Disk, Keep, MemDisk};
use crate::storage::{FileInfo, Look, Opened, StorageError};

fn origin() -> MemDisk {
    let disk = MemDisk::new();
    let storage = super::script::open(&disk).unwrap();
    steps().iter().for_each(|step| run(&storage, step).unwrap());
    storage.log.close();
    drop(storage);
    disk.crash(Keep::Everything, 0)
}

fn crc(parts: &[&[u8]]) -> [u8; 4] {
    crc32fast::hash(&parts.concat()).to_le_bytes()
}

/// Changes a file, durably.
fn rewrite(disk: &MemDisk, path: &str, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = disk.read_all(path).unwrap();
    change(&mut bytes);
    disk.replace(path, &bytes).unwrap();
}

fn version(bytes: &mut [u8]) {
    bytes[4] = 2;
}

fn register(disk: &MemDisk, path: &str, change: impl Fn(&mut [u8])) {
    rewrite(disk, path, |bytes| {
        change(bytes);
        let end = 24 + u32::from_le_bytes(bytes[16..20].try_into().unwrap()) as usize;
        let sum = crc(&[&bytes[..20], &bytes[24..end]]);
        bytes[20..24].copy_from_slice(&sum);
    });
}

fn seal_manifest(bytes: &mut [u8]) {
    let (len, sum) = ((bytes.len() - 16) as u32, 12..16);
    bytes[8..12].copy_from_slice(&len.to_le_bytes());
    let found = crc(&[&bytes[..12], &bytes[16..]]);
    bytes[sum].copy_from_slice(&found);
}

/// The manifest, field by field.
type Manifest = (u64, Option<FileInfo>, Option<FileInfo>, Vec<(FileInfo, u64)>);

fn first(disk: &MemDisk, part: &str) -> String {
    disk.paths().into_iter().find(|path| path.contains(part)).unwrap()
}

fn newer_snapshot(disk: &MemDisk) {
    // All of them: the one before must not do instead.
    for path in disk.paths().into_iter().filter(|path| path.contains("/snap-")) {
        rewrite(disk, &path, |bytes| {
            bytes[4] = 2;
            let sum = crc(&[&bytes[..28]]);
            bytes[28..32].copy_from_slice(&sum);
        });
    }
}

fn newer_segment(disk: &MemDisk) {
    let path = first(disk, "/seg-");
    rewrite(disk, &path, |bytes| bytes[4] = 2);
    let sum = crc32fast::hash(&disk.read_all(&path).unwrap());
    rewrite(disk, "events/MANIFEST", |bytes| {
        let mut manifest: Manifest = postcard::from_bytes(&bytes[16..]).unwrap();
        let named = manifest.3.iter_mut().find(|(file, _)| path.ends_with(&file.name));
        named.unwrap().0.crc = sum;
        bytes.truncate(16);
        bytes.extend(postcard::to_stdvec(&manifest).unwrap());
        seal_manifest(bytes);
    });
}

/// The last record of the log: where an unfinished write would be cut off.
fn newer_record(disk: &MemDisk) {
    let path = disk.paths().into_iter().rfind(|path| path.starts_with("log/")).unwrap();
    rewrite(disk, &path, |bytes| {
        let (mut at, mut next) = (0, 0);
        while next < bytes.len() {
            at = next;
            next += 4 + u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
        }
        let record = &mut bytes[at + 4..];
        record[0] = 2;
        let sum = crc(&[&record[..4], &record[8..]]);
        record[4..8].copy_from_slice(&sum);
    });
}

/// What the refusal must name, and how the disk gets such a file.
type Case = (&'static str, &'static dyn Fn(&MemDisk));

#[test]
fn every_kind_of_file_of_a_newer_build_is_refused_and_left_alone() {
    let cases: [Case; 9] = [
        ("register vote", &|disk| register(disk, "vote.a", version)),
        // The mark goes to one slot at a time: the old one beside must not win.
        ("register mark", &|disk| register(disk, "mark.b", version)),
        ("register floor", &|disk| register(disk, "floor.a", version)),
        ("register identity", &|disk| register(disk, "identity.a", version)),
        ("data directory", &|disk| {
            for path in ["identity.a", "identity.b"] {
                register(disk, path, |bytes| bytes[24] = 77);
            }
        }),
        ("manifest", &|disk| {
            rewrite(disk, "events/MANIFEST", |bytes| {
                bytes[4] = 2;
                seal_manifest(bytes);
            })
        }),
        ("snapshot", &newer_snapshot),
        ("segment", &newer_segment),
        ("record of the log", &newer_record),
    ];
    for (what, make) in cases {
        let disk = origin();
        make(&disk);
        let content = |disk: &MemDisk| {
            let read = |path: String| (path.clone(), disk.read_all(&path).unwrap());
            // Registers are made equal before anything else is looked at.
            let files = disk.paths().into_iter().filter(|path| path.contains('/'));
            files.map(read).collect::<Vec<_>>()
        };
        let before = content(&disk);
        let refused = match open_damaged(&disk) {
            Err(error) => error,
            Ok(Opened::Healthy(_)) => panic!("{what}: it was opened"),
            Ok(Opened::Quarantined { reason, .. }) => panic!("{what}: quarantined, {reason}"),
        };
        assert!(matches!(refused, StorageError::NewerFormat { .. }), "{what}: {refused}");
        let text = refused.to_string();
        assert!(text.contains(what) && text.contains("use that build"), "{what}: {text}");
        assert!(content(&disk) == before, "{what}: something was changed");
        // Who only looks does not take it for damage either.
        let looked = Look::open_on(Arc::new(disk.clone())).and_then(|look| {
            look.events()?;
            look.log(&mut |_| std::ops::ControlFlow::Continue(()))
        });
        assert!(matches!(looked, Err(StorageError::NewerFormat { .. })), "{what}: {looked:?}");
    }
}

#[test]
fn a_directory_of_an_older_format_is_refused_in_words() {
    let disk = origin();
    for path in ["identity.a", "identity.b"] {
        register(&disk, path, |bytes| bytes[24] = 1);
    }
    let error = open_damaged(&disk).err().unwrap();
    assert!(matches!(error, StorageError::OlderFormat { found: 1, .. }), "{error}");
}
