//! Snapshots: when they are built, and how members get them that are far behind.

use std::time::Duration;

use super::rig::{DEADLINE, Node, Rig, Supplier, check_payloads, until};

/// Each entry makes a snapshot due, also those that come while one is being built.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_that_is_due_is_not_forgotten() {
    let rig = Rig::new(1, 1).await;
    let leader = rig.leader().await;
    let mut supplier = Supplier::open(&leader).await;
    for _ in 0..200 {
        supplier.send(&leader, 1, 100).await.unwrap();
    }
    let applied = leader.status().applied;
    until("a snapshot of all of it", || (leader.status().snapshot_index >= applied).then_some(()))
        .await;
    rig.stop().await;
}

/// A cluster, and a member that was away until the log no longer reached back to it.
struct Scene {
    rig: Rig,
    leader: Node,
    supplier: Supplier,
    behind: u64,
}

impl Scene {
    /// Snapshots are due every `growth` bytes; `frames` of 8 events of `bytes` come meanwhile.
    async fn set(growth: u64, frames: u64, bytes: usize) -> Scene {
        let mut rig = Rig::new(3, growth).await;
        let leader = rig.leader().await;
        let mut supplier = Supplier::open(&leader).await;
        let behind = (1..=3).find(|id| *id != leader.me().0).unwrap();
        let seen = leader.status().last_log;
        rig.kill(behind).await;
        for _ in 0..frames {
            supplier.send(&leader, 8, bytes).await.unwrap();
        }
        until("a purge", || {
            let purged = |node: &Node| node.status().purged > seen;
            rig.nodes.values().all(purged).then_some(())
        })
        .await;
        Scene { rig, leader, supplier, behind }
    }

    /// Much to be sent: many segments.
    async fn large() -> Scene {
        Scene::set(256 << 10, 900, 2_000).await
    }

    /// Little, in few segments.
    async fn small() -> Scene {
        Scene::set(32 << 10, 100, 200).await
    }
}

/// Waits until a node has received a snapshot.
async fn until_received(node: &Node) {
    until("a snapshot", || (node.status().snapshots.received > 0).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_whose_entries_are_gone_catches_up_by_snapshot() {
    let Scene { mut rig, leader, mut supplier, behind } = Scene::small().await;
    let node = rig.start(behind).await;
    until_received(&node).await;
    rig.join(4).await;
    supplier.send(&leader, 8, 200).await.unwrap();
    rig.agree().await;
    assert_eq!(rig.nodes.len(), 4);
    for node in rig.nodes.values() {
        assert_eq!(check_payloads(node, supplier.channel).await, supplier.acked);
    }
    rig.stop().await;
}

/// The sender dies in the middle: its successor, which has other segments, sends only the rest.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_next_leader_sends_only_what_the_one_that_died_did_not() {
    let Scene { mut rig, leader, mut supplier, behind } = Scene::large().await;
    let node = rig.start(behind).await;
    let sent = until("most of it to arrive", || {
        let counts = node.status().snapshots;
        assert_eq!(counts.received, 0, "the transfer is over already");
        (counts.received_bytes > 9 << 20).then_some(counts.received_bytes)
    })
    .await;
    rig.kill(leader.me().0).await;
    assert_eq!(node.status().snapshots.received, 0, "the transfer was over already");

    let next = rig.leader().await;
    assert_ne!(next.me(), node.me(), "a node without the entries cannot lead");
    until_received(&node).await;
    let all = node.status().store_bytes;
    let rest = next.status().snapshots.sent_bytes;
    assert!(rest < all - sent + (2 << 20), "{sent} and then {rest} of {all} were sent");
    supplier.resume(&next).await;
    supplier.send(&next, 8, 200).await.unwrap();
    rig.start(leader.me().0).await;
    rig.agree().await;
    for node in rig.nodes.values() {
        assert_eq!(check_payloads(node, supplier.channel).await, supplier.acked);
    }
    rig.stop().await;
}

/// Its power goes in the middle: what it had written is there, and counts.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_receiver_that_dies_goes_on_where_it_ended() {
    let Scene { mut rig, supplier, behind, .. } = Scene::large().await;
    let node = rig.start(behind).await;
    until("a segment to be written", || {
        let counts = node.status().snapshots;
        assert_eq!(counts.received, 0, "the transfer is over already");
        (counts.received_bytes > 9 << 20).then_some(())
    })
    .await;
    rig.kill(behind).await;
    let node = rig.start(behind).await;
    until_received(&node).await;
    let (again, all) = (node.status().snapshots.received_bytes, node.status().store_bytes);
    assert!(again < all - (7 << 20), "{again} of {all} came again");
    rig.agree().await;
    assert_eq!(check_payloads(&node, supplier.channel).await, supplier.acked);
    rig.stop().await;
}

/// However slowly it is sent: the log that follows the snapshot is still there when it has arrived.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_waits_for_a_snapshot_under_way() {
    let Scene { mut rig, leader, mut supplier, behind } = Scene::large().await;
    let node = rig.start(behind).await;
    until("a transfer", || node.status().snapshots.receiving).await;
    let before = leader.status().snapshot_index;
    // Several snapshots more, but not as much as the log keeps at most.
    for _ in 0..60 {
        supplier.send(&leader, 8, 2_000).await.unwrap();
    }
    assert_eq!(node.status().snapshots.received, 0, "the transfer is over already");
    until_received(&node).await;
    let status = leader.status();
    assert!(status.snapshot_index > before, "there was another snapshot meanwhile");
    assert!(status.purged <= before, "purged up to {} beyond {before}", status.purged);
    rig.agree().await;
    assert_eq!(node.status().snapshots.received, 1);
    // Some have left the history.
    assert!(check_payloads(&node, supplier.channel).await > 0);
    rig.stop().await;
}

/// It answers, so that openraft never stops sending it entries, and purges none that it sends.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_follower_does_not_keep_the_log_of_the_others() {
    let rig = Rig::new(3, 64 << 10).await;
    let leader = rig.leader().await;
    let mut supplier = Supplier::open(&leader).await;
    let slow = rig.nodes.values().find(|node| node.me() != leader.me()).unwrap();
    let disk = rig.disks[&slow.me().0].clone();
    disk.slow_syncs(Duration::from_millis(100));
    let began = std::time::Instant::now();
    let purged_beyond = || leader.status().purged > slow.status().last_log;
    while !purged_beyond() {
        assert!(began.elapsed() < DEADLINE, "the log is kept for it");
        supplier.send(&leader, 8, 20_000).await.unwrap();
    }
    disk.slow_syncs(Duration::ZERO);
    until_received(slow).await;
    rig.agree().await;
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_receiver_with_a_full_disk_goes_on_when_there_is_room() {
    let Scene { mut rig, supplier, behind, .. } = Scene::large().await;
    let node = rig.start(behind).await;
    until("a transfer", || node.status().snapshots.receiving).await;
    let disk = rig.disks[&behind].clone();
    disk.leave_free(1 << 20);
    until("the transfer to be given up", || {
        let counts = node.status().snapshots;
        (counts.receiving.is_none() && counts.received == 0).then_some(())
    })
    .await;
    assert_eq!(node.status().failure, None);
    disk.leave_free(1 << 40);
    until_received(&node).await;
    rig.agree().await;
    assert_eq!(check_payloads(&node, supplier.channel).await, supplier.acked);
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_that_is_damaged_at_its_sender_does_no_harm_to_its_receiver() {
    let Scene { mut rig, leader, supplier, behind } = Scene::small().await;
    let disk = rig.disks[&leader.me().0].clone();
    let segments = || disk.paths().into_iter().filter(|path| path.contains("/seg-"));
    let damaged: Vec<String> = segments().collect();
    assert!(!damaged.is_empty());
    assert!(damaged.iter().all(|path| disk.flip_bit(path, 8 * 100)));

    // The receiver refuses what is damaged, and the sender repairs its disk from the third member.
    let node = rig.start(behind).await;
    until_received(&node).await;
    assert_eq!(node.status().failure, None);
    let repaired = leader.status().damage;
    assert!(repaired.repaired > 0 && repaired.suspects.is_empty(), "{repaired:?}");
    rig.agree().await;
    for node in rig.nodes.values() {
        assert_eq!(check_payloads(node, supplier.channel).await, supplier.acked);
    }
    rig.stop().await;
}
