//! Clusters that lost their majority for good, and what becomes of the last disk.

use std::sync::Arc;

use super::backup::{BackupHead, BackupReader, BackupWriter};
use super::dump::{show_log, show_store};
use super::recover::{Recovery, recover_on};
use super::restore::restore_on;
use super::{CommandInside, Content, EntryInside, LogFilter, LogItem};
use crate::consensus::tests::rig::{CLUSTER, Node, Rig, Supplier, check_payloads, until};
use crate::env::disk::{Keep, MemDisk};
use crate::machine::{Command, Reply};
use crate::storage::{self, Drive, Look, Opened, StorageError};
use crate::types::{ClusterId, Name, NodeId, Outcome, ProxyId, Qos, Start};

const NEW: ClusterId = ClusterId(0xc2);

/// A consumer that settles nothing.
async fn idle_consumer(node: &Node) -> ProxyId {
    let channel = node.read(|m| m.channel_by_name(&Name::default_channel()).unwrap().id());
    let (name, qos, types) = (Name::new("idle").unwrap(), Qos::default(), Default::default());
    let command =
        Command::CreateProxy { channel, name, start: Start::All, admin: None, qos, types };
    match node.propose(1, command).await.unwrap() {
        Reply::ProxyReady { proxy, .. } => proxy,
        other => panic!("{other:?}"),
    }
}

/// A cluster of `size` nodes with pending events in segments and in the log, of which all are dead.
async fn dead_cluster(size: u64, rounds: u32) -> (Rig, Supplier) {
    let mut rig = Rig::new(size, 16 << 10).await;
    let leader = rig.leader().await;
    idle_consumer(&leader).await;
    let mut supplier = Supplier::open(&leader).await;
    for _ in 0..rounds {
        supplier.send(&leader, 8, 100).await.unwrap();
    }
    until("a snapshot", || (leader.status().snapshot_index > 0).then_some(())).await;
    let last = rig.agree().await;
    for id in 1..=size {
        let raised = || look(&rig.disks[&id]).mark.value().filter(|mark| mark.end > last).copied();
        until("the mark to follow the log", raised).await;
    }
    for id in 1..=size {
        rig.kill(id).await;
    }
    (rig, supplier)
}

fn look(disk: &MemDisk) -> Look {
    Look::open_on(Arc::new(disk.clone())).unwrap()
}

fn recover(from: &MemDisk, to: &MemDisk) -> Result<Recovery, super::OfflineError> {
    recover_on(&look(from), Some(Arc::new(to.clone())), NEW, "the disk")
}

fn reopen(disk: &MemDisk) -> Result<Opened, StorageError> {
    storage::open_on(Arc::new(disk.clone()), None, storage::Options::default(), Drive::Inline)
}

fn content(disk: &MemDisk) -> Vec<(String, Vec<u8>)> {
    use crate::env::disk::Disk;
    disk.paths().into_iter().map(|path| (path.clone(), disk.read_all(&path).unwrap())).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_node_founds_a_new_incarnation_and_others_join_it() {
    let (mut rig, mut supplier) = dead_cluster(3, 60).await;
    let (survivor, new) = (rig.disks[&3].clone(), MemDisk::new());
    let before = content(&survivor);
    let dry = recover_on(&look(&survivor), None, NEW, "the disk").unwrap();
    let recovery = recover(&survivor, &new).unwrap();
    assert_eq!(dry, recovery, "a dry run says what will be");
    assert_eq!(content(&survivor), before, "the old disk is untouched");
    assert_eq!((recovery.from.cluster_id, recovery.node_id), (Some(CLUSTER), NodeId(4)));
    assert_eq!(recovery.from.other_members, [NodeId(1), NodeId(2)]);
    assert!(recovery.findings.is_empty() && recovery.lost.is_empty(), "{recovery:?}");
    assert_eq!(recovery.channels[0].pending, supplier.acked);

    (rig.cluster, rig.disks) = (NEW, [(4, new)].into());
    rig.start(4).await;
    let leader = rig.leader().await;
    supplier.resume(&leader).await;
    supplier.send(&leader, 3, 100).await.unwrap();
    rig.join(5).await;
    rig.join(6).await;
    rig.agree().await;
    for node in rig.nodes.values() {
        assert_eq!(check_payloads(node, supplier.channel).await, supplier.acked);
    }
    // It outlives its founder.
    rig.kill(4).await;
    let leader = rig.leader().await;
    supplier.resume(&leader).await;
    supplier.send(&leader, 1, 100).await.unwrap();
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn power_that_goes_on_the_way_leaves_no_half_made_node() {
    let (rig, _) = dead_cluster(1, 30).await;
    let survivor = &rig.disks[&1];
    let mut finished = false;
    for changes in 0.. {
        let new = MemDisk::new();
        new.cut_power_after(changes);
        let done = recover(survivor, &new).is_ok();
        for (keep, seed) in [(Keep::Nothing, 0), (Keep::Everything, 0), (Keep::Some, changes)] {
            match reopen(&new.crash(keep, seed)) {
                Ok(Opened::Healthy(storage)) => {
                    let last = storage.log.state().last;
                    assert_eq!(storage.events.current().map(|s| s.last), last, "{changes}");
                }
                _ => assert!(!done, "{changes}: it was finished"),
            }
        }
        if done {
            finished = true;
            break;
        }
    }
    assert!(finished);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_bit_is_flipped_the_new_incarnation_adds_up() {
    let (rig, supplier) = dead_cluster(1, 30).await;
    let survivor = &rig.disks[&1];
    let (mut whole, mut less, mut nothing) = (0, 0, 0);
    for (path, bytes) in content(survivor) {
        for bit in (0..bytes.len() * 8).step_by(bytes.len().max(8)) {
            let damaged = survivor.crash(Keep::Everything, 0);
            damaged.flip_bit(&path, bit);
            let new = MemDisk::new();
            let Ok(recovery) = recover(&damaged, &new) else {
                nothing += 1;
                continue;
            };
            // `found` has decoded the image again: hash and ledger hold.
            let storage = reopen(&new).unwrap().healthy().unwrap();
            assert_eq!(storage.identity.cluster, NEW, "bit {bit} of {path}");
            let pending = recovery.channels[0].pending;
            match pending == supplier.acked {
                true => whole += 1,
                false => {
                    less += 1;
                    let context = format!("bit {bit} of {path}: {recovery:?}");
                    assert!(
                        !recovery.findings.is_empty() || !recovery.lost.is_empty(),
                        "{context}"
                    );
                }
            }
        }
    }
    assert!(whole > 0 && less > 0, "{whole} whole, {less} less, {nothing} nothing");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_damaged_below_its_mark_is_kept_up_to_the_damage() {
    let (mut rig, supplier) = dead_cluster(1, 30).await;
    let survivor = rig.disks[&1].clone();
    let logs: Vec<String> =
        survivor.paths().into_iter().filter(|path| path.starts_with("log/")).collect();
    let [log] = &logs[..] else { panic!("one file of the log: {logs:?}") };
    // In the last entries: they are in no snapshot.
    use crate::env::disk::Disk;
    let end = survivor.len(log).unwrap() as usize;
    survivor.flip_bit(log, (end - 100) * 8);
    assert!(matches!(rig.open(1), Opened::Quarantined { .. }));
    let new = MemDisk::new();
    let recovery = recover(&survivor, &new).unwrap();
    let text = recovery.findings.join("\n");
    assert!(text.contains("checksum") && text.contains("were durable here"), "{text}");
    let pending = recovery.channels[0].pending;
    assert!(0 < pending && pending <= supplier.acked, "{pending} of {}", supplier.acked);

    (rig.cluster, rig.disks) = (NEW, [(2, new)].into());
    let node = rig.start(2).await;
    rig.leader().await;
    rig.agree().await;
    assert_eq!(check_payloads(&node, supplier.channel).await, pending);
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_whose_bytes_are_gone_are_counted_as_discarded() {
    let (mut rig, supplier) = dead_cluster(1, 60).await;
    let survivor = rig.disks[&1].clone();
    // In the first event of the first segment, past its header.
    let segment = survivor.paths().into_iter().find(|path| path.contains("/seg-")).unwrap();
    survivor.flip_bit(&segment, 80 * 8);
    let findings = show_store(&look(&survivor)).unwrap().findings;
    assert!(findings.iter().any(|finding| finding.contains(": 1 of ")), "{findings:?}");
    // What was purged from the log may still be there: then nothing is lost.
    assert!(recover(&survivor, &MemDisk::new()).unwrap().lost.is_empty());
    let (log, bytes) =
        content(&survivor).into_iter().find(|(path, _)| path.starts_with("log/")).unwrap();
    let body = [1, 0, 0, 0, 0, 0, 0, 0, 7, 7, 7, 7];
    let at = bytes.windows(body.len()).position(|window| window == body).unwrap();
    survivor.flip_bit(&log, at * 8);
    let new = MemDisk::new();
    let recovery = recover(&survivor, &new).unwrap();
    let [lost] = &recovery.lost[..] else { panic!("{recovery:?}") };
    assert_eq!((lost.events, &lost.consumers[..]), (1, &[("idle".to_string(), 1)][..]));
    assert_eq!(recovery.channels[0].pending, supplier.acked - 1);

    (rig.cluster, rig.disks) = (NEW, [(2, new)].into());
    let node = rig.start(2).await;
    rig.leader().await;
    rig.agree().await;
    let discarded = node.read(|machine| {
        let channel = machine.channel(supplier.channel).unwrap();
        let (_, proxy) = channel.proxies().next().unwrap();
        machine.proxy(proxy).unwrap().counts().get(Outcome::Discarded)
    });
    assert_eq!(discarded, 1);
    rig.stop().await;
}

/// Writes a backup of what a node has now.
async fn back_up(node: &Node, path: &std::path::Path) -> BackupHead {
    let index = node.linearize().await.unwrap();
    let pinned = node.snapshot_from(index).await.unwrap();
    let last = pinned.snapshot.last;
    assert!(last.index >= index);
    let head = BackupHead {
        cluster_id: CLUSTER,
        node_id: node.me(),
        release: "test".into(),
        taken_at: 1,
        last_index: last.index,
        last_term: last.term,
        files: pinned.files().to_vec(),
    };
    let mut writer = BackupWriter::create(path, &head).unwrap();
    while let Some((file, offset)) = writer.next() {
        let piece = pinned.read_chunk(&file.name, offset, 1000).unwrap();
        writer.add(&piece).unwrap();
    }
    writer.finish().unwrap();
    head
}

fn restore(path: &std::path::Path, disk: &MemDisk) -> Result<(), super::OfflineError> {
    let mut backup = BackupReader::open(path)?;
    restore_on(&mut backup, Arc::new(disk.clone()), NEW).map(drop)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_becomes_a_new_incarnation_with_everything_before_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("backup");
    let mut rig = Rig::new(3, 16 << 10).await;
    let leader = rig.leader().await;
    idle_consumer(&leader).await;
    let mut supplier = Supplier::open(&leader).await;
    for _ in 0..40 {
        supplier.send(&leader, 8, 100).await.unwrap();
    }
    back_up(&leader, &path).await;
    let acked = supplier.acked;
    assert!(BackupWriter::create(&path, &BackupReader::open(&path).unwrap().head).is_err());
    supplier.send(&leader, 8, 100).await.unwrap();
    for id in 1..=3 {
        rig.kill(id).await;
    }

    let new = MemDisk::new();
    restore(&path, &new).unwrap();
    (rig.cluster, rig.disks) = (NEW, [(4, new)].into());
    rig.start(4).await;
    let leader = rig.leader().await;
    // What came after the backup is gone, and its lane sequences are free again.
    supplier.acked = acked;
    supplier.resume(&leader).await;
    assert_eq!(supplier.acked, acked);
    supplier.send(&leader, 3, 100).await.unwrap();
    rig.join(5).await;
    rig.agree().await;
    for node in rig.nodes.values() {
        assert_eq!(check_payloads(node, supplier.channel).await, supplier.acked);
    }
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_that_is_not_whole_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("backup");
    let rig = Rig::new(1, 16 << 10).await;
    let leader = rig.leader().await;
    idle_consumer(&leader).await;
    let mut supplier = Supplier::open(&leader).await;
    supplier.send(&leader, 20, 100).await.unwrap();
    back_up(&leader, &path).await;
    rig.stop().await;
    let bytes = std::fs::read(&path).unwrap();
    let bad = dir.path().join("bad");
    let refused = |bytes: &[u8], what: String| {
        std::fs::write(&bad, bytes).unwrap();
        let disk = MemDisk::new();
        assert!(restore(&bad, &disk).is_err(), "{what}");
        // As after any failure on the way: no identity, so no node.
        assert!(!matches!(reopen(&disk), Ok(Opened::Healthy(_))), "{what}");
    };
    for bit in 0..bytes.len() * 8 {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        if bit < 512 || bit % 37 == 0 {
            refused(&flipped, format!("bit {bit}"));
        }
    }
    for len in (0..bytes.len()).filter(|len| len % 61 == 0 || len + 8 > bytes.len()) {
        refused(&bytes[..len], format!("{len} bytes"));
    }
    refused(&[&bytes[..], b"x"].concat(), "one byte more".into());

    // Nor does it leave anything beside the place where it was to go.
    let target = dir.path().join("data");
    std::fs::write(&bad, &bytes[..bytes.len() - 100]).unwrap();
    let text = super::restore(&bad, &target, NEW).unwrap_err().to_string();
    assert!(text.contains("bytes instead of"), "{text}");
    let mut flipped = bytes.clone();
    flipped[bytes.len() - 100] ^= 1;
    std::fs::write(&bad, &flipped).unwrap();
    let text = super::restore(&bad, &target, NEW).unwrap_err().to_string();
    assert!(text.contains("wrong checksum"), "{text}");
    let left: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().path()).collect();
    assert_eq!(left.len(), 2, "{left:?}");
    assert_eq!(super::restore(&path, &target, NEW).unwrap().node_id, NodeId(2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn power_that_goes_while_restoring_leaves_no_half_made_node() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("backup");
    let rig = Rig::new(1, 16 << 10).await;
    let leader = rig.leader().await;
    Supplier::open(&leader).await.send(&leader, 20, 100).await.unwrap();
    back_up(&leader, &path).await;
    rig.stop().await;
    for changes in 0.. {
        let new = MemDisk::new();
        new.cut_power_after(changes);
        let done = restore(&path, &new).is_ok();
        for (keep, seed) in [(Keep::Nothing, 0), (Keep::Everything, 0), (Keep::Some, changes)] {
            let healthy = matches!(reopen(&new.crash(keep, seed)), Ok(Opened::Healthy(_)));
            assert!(healthy || !done, "{changes}: it was finished");
        }
        if done {
            return assert!(changes > 10, "the power never went");
        }
    }
}

/// Everything in a log, as it is shown.
fn shown(disk: &MemDisk, indexes: std::ops::RangeInclusive<u64>) -> Vec<LogItem> {
    let (mut items, filter) = (Vec::new(), LogFilter { indexes, bodies: true });
    let mut visit = |item| {
        items.push(item);
        std::ops::ControlFlow::Continue(())
    };
    show_log(&look(disk), &filter, &mut visit).unwrap();
    items
}

fn indexes(items: &[LogItem]) -> Vec<u64> {
    let index = |item: &LogItem| match item {
        LogItem::Entry(entry) => Some(entry.index),
        LogItem::Damage(_) => None,
    };
    items.iter().filter_map(index).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dump_shows_every_entry_and_damage_in_its_place() {
    let (rig, supplier) = dead_cluster(1, 20).await;
    let disk = &rig.disks[&1];
    let whole = shown(disk, 0..=u64::MAX);
    let all = indexes(&whole);
    assert_eq!(all, (0..all.len() as u64).collect::<Vec<_>>(), "each entry once, in order");
    assert!(
        matches!(&whole[0], LogItem::Entry(e) if matches!(e.content, Content::Membership { .. }))
    );
    let published: u64 = whole
        .iter()
        .filter_map(|item| match item {
            LogItem::Entry(EntryInside { content: Content::Batch { commands, .. }, .. }) => {
                Some(commands)
            }
            _ => None,
        })
        .flatten()
        .map(|command| match command {
            CommandInside::Publish { publish } => publish.bodies_base64.len() as u64,
            CommandInside::Other(_) => 0,
        })
        .sum();
    assert_eq!(published, supplier.acked);
    assert_eq!(indexes(&shown(disk, 3..=5)), [3, 4, 5]);
    let store = show_store(&look(disk)).unwrap();
    let state = store.snapshots[0].state.as_ref().unwrap();
    assert!(store.findings.is_empty() && state.last_node == 1 && state.live_events > 0);
    assert_eq!(state.channels[0].consumers[0].pending, state.live_events as u64);

    let before = content(disk);
    for (path, bytes) in &before {
        for bit in (3..bytes.len() * 8).step_by(bytes.len().max(64) / 2 + 1) {
            let damaged = disk.crash(Keep::Everything, 0);
            damaged.flip_bit(path, bit);
            let left = shown(&damaged, 0..=u64::MAX);
            let store = show_store(&look(&damaged)).unwrap();
            let told = left.iter().any(|item| matches!(item, LogItem::Damage(_)));
            let context = format!("bit {bit} of {path}");
            assert_eq!(told, path.starts_with("log/"), "{context}");
            assert!(indexes(&left).iter().all(|index| all.contains(index)), "{context}");
            // Events of a segment are verified when they are read.
            let silent = path.starts_with("log/") || path.contains("/seg-") || !path.contains('/');
            assert!(silent || !store.findings.is_empty(), "{context}");
        }
    }
    assert_eq!(content(disk), before);
}
