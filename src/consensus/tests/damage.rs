//! Damage: what is repaired from other members, and what is found out by them.

use std::time::Duration;

use crate::env::disk::{Disk, Keep};
use crate::storage::Opened;
use crate::types::NodeId;

use super::super::MemberInfo;
use super::rig::{DEADLINE, Node, Rig, Supplier, check_payloads, read_all, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damaged_events_are_fetched_from_whoever_has_them() {
    let mut rig = Rig::new(3, 32 << 10).await;
    rig.payload_cache_bytes = 1;
    let mut supplier = Supplier::open(&rig.leader().await).await;
    for _ in 0..100 {
        let leader = rig.leader().await;
        supplier.send(&leader, 8, 200).await.unwrap();
    }
    // Nobody has them in memory then.
    for id in 1..=3 {
        until("a purge", || (rig.nodes[&id].status().purged > 0).then_some(())).await;
        rig.kill(id).await;
        rig.start(id).await;
    }
    rig.agree().await;
    // Everywhere, but never the same event.
    for id in 1..=3 {
        let disk = rig.disks[&id].clone();
        let segments = disk.paths().into_iter().filter(|path| path.contains("/seg-"));
        let flipped = segments.filter(|path| disk.flip_bit(path, 8 * (300 * id as usize)));
        assert!(flipped.count() > 0);
    }
    for node in rig.nodes.values() {
        let whole = || node.status().damage.suspects.is_empty();
        let _first_look = read_all(node, supplier.channel).await;
        until("repair", || whole().then_some(())).await;
        assert!(node.status().damage.repaired > 0, "node {}", node.me());
        assert_eq!(check_payloads(node, supplier.channel).await, supplier.acked);
    }
    rig.stop().await;
}

/// A cluster that scrubs all the time, with snapshots and segments.
async fn scrubbing() -> (Rig, Supplier) {
    let mut rig = Rig::new(3, 32 << 10).await;
    rig.scrub_pause = Duration::from_millis(20);
    let mut supplier = Supplier::open(&rig.leader().await).await;
    for _ in 0..100 {
        let leader = rig.leader().await;
        supplier.send(&leader, 8, 200).await.unwrap();
    }
    for id in 1..=3 {
        until("a purge", || (rig.nodes[&id].status().purged > 0).then_some(())).await;
    }
    for id in 1..=3 {
        rig.kill(id).await;
        rig.start(id).await;
    }
    let leader = rig.leader().await;
    supplier.resume(&leader).await;
    rig.agree().await;
    (rig, supplier)
}

/// Flips a bit in every file of that kind, counted from its end if negative.
fn flip(rig: &Rig, id: u64, part: &str, bit: isize) -> usize {
    let disk = &rig.disks[&id];
    let at = |path: &str| match usize::try_from(bit) {
        Ok(bit) => bit,
        Err(_) => disk.len(path).unwrap() as usize * 8 - bit.unsigned_abs(),
    };
    let hit = |path: &&String| path.contains(part) && disk.flip_bit(path, at(path));
    disk.paths().iter().filter(hit).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_scrub_finds_what_nobody_reads_and_it_is_repaired() {
    let (rig, mut supplier) = scrubbing().await;
    let leader = rig.leader().await;
    let node = &rig.nodes[&1];
    for (part, bit) in [("/seg-", 8 * 300), ("/MANIFEST", 200)] {
        let before = node.status().damage.repaired;
        let damaged = flip(&rig, 1, part, bit);
        let repaired = || node.status().damage.repaired - before >= damaged as u64;
        until(part, || (damaged > 0 && repaired()).then_some(())).await;
    }
    // A snapshot is repaired by others that come after it.
    let found = node.status().damage.found;
    assert!(flip(&rig, 1, "/snap-", 8 * 40) > 0);
    until("a look at it", || (node.status().damage.found > found).then_some(())).await;
    let started = std::time::Instant::now();
    while !node.status().damage.suspects.is_empty() {
        assert!(started.elapsed() < DEADLINE, "{:?}", node.status().damage);
        supplier.send(&leader, 8, 200).await.unwrap();
    }
    assert!(node.status().scrubbed_bytes > 0);
    assert_eq!(node.status().failure, None);
    rig.agree().await;
    // Some have left the history.
    assert!(check_payloads(node, supplier.channel).await > 0);
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_scrub_that_finds_the_log_damaged_ends_the_part_of_the_node() {
    for (part, bit) in [("log/", -8), ("vote.", 160)] {
        let (mut rig, _) = scrubbing().await;
        let leader = rig.leader().await.me().0;
        let follower = (1..=3).find(|id| *id != leader).unwrap();
        assert!(flip(&rig, follower, part, bit) > 0);
        let node = rig.nodes.remove(&follower).unwrap();
        tokio::time::timeout(DEADLINE, node.stopped()).await.unwrap();
        assert!(node.status().failure.unwrap().contains("damaged"), "{part}");
        node.shutdown().await;
        assert!(matches!(rig.open(follower), Opened::Quarantined { .. }), "{part}");
        rig.stop().await;
    }
}

/// Waits until a node has confirmed everything to the leader; how far that is.
async fn until_confirmed(leader: &Node, node: u64) -> u64 {
    let last = leader.status().last_log;
    let confirmed = |info: &MemberInfo| info.member.id.0 == node && info.matched >= Some(last);
    until("everything to be confirmed", || leader.members().iter().any(confirmed).then_some(last))
        .await
}

/// The high-water mark lags behind the log: damage in between looks like a crash.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_that_lost_what_it_confirmed_is_found_out_and_its_leader_goes_on() {
    let mut rig = Rig::new(3, 64 << 20).await;
    let leader = rig.leader().await;
    let victim = (1..=3).find(|id| *id != leader.me().0).unwrap();
    let mut supplier = Supplier::open(&leader).await;
    for _ in 0..20 {
        supplier.send(&leader, 8, 100).await.unwrap();
    }
    let last = until_confirmed(&leader, victim).await;
    rig.kill(victim).await;
    rig.forget_end_of_log(victim, last - 10);

    let forgetful = rig.start(victim).await;
    supplier.send(&leader, 8, 100).await.unwrap();
    tokio::time::timeout(DEADLINE, forgetful.stopped()).await.expect("it stops");
    let failure = forgetful.status().failure.unwrap();
    assert!(failure.contains(&format!("entries before {} were durable", last + 1)), "{failure}");
    rig.kill(victim).await;
    let reason = rig.open(victim).healthy().err().expect("it is quarantined").to_string();
    assert!(reason.contains("were durable"), "{reason}");

    supplier.send(&leader, 8, 100).await.unwrap();
    assert_eq!(leader.me(), rig.leader().await.me());
    rig.agree().await;
    rig.stop().await;
}

/// Hands leadership to a node until it has it: an election may go to the third.
async fn until_leads(rig: &Rig, node: NodeId) -> Node {
    for _ in 0..10 {
        let leader = rig.leader().await;
        if leader.me() == node {
            return leader;
        }
        // An answer that comes too late says nothing either.
        let _ = leader.transfer(Some(node)).await;
    }
    panic!("{node} does not come to lead");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_restored_from_a_copy_of_an_earlier_term_is_found_out() {
    let mut rig = Rig::new(3, 64 << 20).await;
    let leader = rig.leader().await;
    let mut supplier = Supplier::open(&leader).await;
    supplier.send(&leader, 8, 100).await.unwrap();
    let victim = (1..=3).find(|id| *id != leader.me().0).unwrap();
    rig.kill(victim).await;
    let copy = rig.disks[&victim].crash(Keep::Everything, 0);
    rig.start(victim).await;

    let other = 6 - leader.me().0 - victim;
    let leader = until_leads(&rig, NodeId(other)).await;
    supplier.resume(&leader).await;
    supplier.send(&leader, 8, 100).await.unwrap();
    until_confirmed(&leader, victim).await;
    rig.kill(victim).await;
    rig.disks.insert(victim, copy);

    let restored = rig.start(victim).await;
    supplier.send(&leader, 8, 100).await.unwrap();
    tokio::time::timeout(DEADLINE, restored.stopped()).await.expect("it stops");
    rig.kill(victim).await;
    assert!(rig.open(victim).healthy().is_err(), "it is quarantined");
    rig.stop().await;
}
