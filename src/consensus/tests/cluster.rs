//! Clusters in one process, over memory.

use std::time::{Duration, Instant};

use crate::env::disk::{Disk, Keep};
use crate::machine::Command;
use crate::storage::Opened;
use crate::types::NodeId;

use super::super::{MemberInfo, MembershipError, ProposeError, Role, Timing};
use super::rig::{DEADLINE, Node, Rig, Supplier, check_payloads, host, read_all, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_when_leaders_die() {
    let mut rig = Rig::new(3, 64 << 20).await;
    let mut leader = rig.leader().await;
    let mut supplier = Supplier::open(&leader).await;
    for _round in 0..3 {
        for _ in 0..20 {
            supplier.send(&leader, 8, 100).await.unwrap();
        }
        let dead = leader.me().0;
        let flying: Vec<_> = (0..4)
            .map(|_| {
                tokio::spawn({
                    let (leader, command) = (leader.clone(), supplier.publish(2, 100));
                    async move { leader.propose(2, command).await }
                })
            })
            .collect();
        rig.kill(dead).await;
        for outcome in flying {
            // Whatever it is, there is one.
            let _ = outcome.await.unwrap();
        }
        leader = rig.leader().await;
        assert_ne!(leader.me().0, dead);
        supplier.resume(&leader).await;
        supplier.send(&leader, 1, 100).await.unwrap();
        rig.start(dead).await;
    }
    let index = rig.agree().await;
    for node in rig.nodes.values() {
        assert!(node.status().applied >= index);
        assert_eq!(check_payloads(node, supplier.channel).await, supplier.acked);
    }
    rig.stop().await;
}

/// A commit goes with the entries that follow; here none do, and no heartbeat brings it either.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn followers_hear_of_the_last_commit() {
    let silent = Timing { heartbeat_ms: 50_000, election_min_ms: 60_000, election_max_ms: 90_000 };
    let rig = Rig::with_timing(3, 64 << 20, silent).await;
    let leader = rig.leader().await;
    let mut supplier = Supplier::open(&leader).await;
    supplier.send(&leader, 8, 100).await.unwrap();
    let (applied, acknowledged) = (leader.status().applied, Instant::now());
    for node in rig.nodes.values() {
        until("it applied what was acknowledged", || {
            (node.status().applied >= applied).then_some(())
        })
        .await;
    }
    // After ten seconds or so anything may bring it.
    assert!(acknowledged.elapsed() < Duration::from_secs(5));
    rig.stop().await;
}

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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_is_there_after_all_nodes_lost_power() {
    let mut rig = Rig::new(3, 16 << 10).await;
    let leader = rig.leader().await;
    let mut supplier = Supplier::open(&leader).await;
    for _ in 0..60 {
        supplier.send(&leader, 8, 100).await.unwrap();
    }
    until("a snapshot and a purge", || (leader.status().purged > 0).then_some(())).await;
    for id in 1..=3 {
        rig.kill(id).await;
    }
    for id in 1..=3 {
        rig.start(id).await;
    }
    let leader = rig.leader().await;
    supplier.resume(&leader).await;
    supplier.send(&leader, 1, 100).await.unwrap();
    rig.agree().await;
    for node in rig.nodes.values() {
        assert_eq!(check_payloads(node, supplier.channel).await, supplier.acked);
    }
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_whose_entries_are_gone_catches_up_by_snapshot() {
    let mut rig = Rig::new(3, 32 << 10).await;
    let leader = rig.leader().await;
    let behind = (1..=3).find(|id| *id != leader.me().0).unwrap();
    let mut supplier = Supplier::open(&leader).await;
    let seen = leader.status().last_log;
    rig.kill(behind).await;
    for _ in 0..100 {
        supplier.send(&leader, 8, 200).await.unwrap();
    }
    until("a purge", || (leader.status().purged > seen).then_some(())).await;
    let node = rig.start(behind).await;
    until("a snapshot", || (node.status().snapshot_index > seen).then_some(())).await;
    rig.join(4).await;
    supplier.send(&leader, 8, 200).await.unwrap();
    rig.agree().await;
    assert_eq!(rig.nodes.len(), 4);
    for node in rig.nodes.values() {
        assert_eq!(check_payloads(node, supplier.channel).await, supplier.acked);
    }
    rig.stop().await;
}

/// Publishes while a follower is away, until the log no longer reaches back to it. Returns it.
async fn leave_behind(rig: &mut Rig, leader: &Node, supplier: &mut Supplier, frames: u64) -> u64 {
    let behind = (1..=3).find(|id| *id != leader.me().0).unwrap();
    let seen = leader.status().last_log;
    rig.kill(behind).await;
    for _ in 0..frames {
        supplier.send(leader, 8, 2_000).await.unwrap();
    }
    until("a purge", || {
        let purged = |id: &u64| rig.nodes[id].status().purged > seen;
        (1..=3).filter(|id| *id != behind).all(|id| purged(&id)).then_some(())
    })
    .await;
    behind
}

/// The sender dies in the middle: its successor, which has other segments, sends only the rest.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_next_leader_sends_only_what_the_one_that_died_did_not() {
    let mut rig = Rig::new(3, 256 << 10).await;
    let leader = rig.leader().await;
    let mut supplier = Supplier::open(&leader).await;
    let behind = leave_behind(&mut rig, &leader, &mut supplier, 900).await;
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
    until("a snapshot", || (node.status().snapshots.received > 0).then_some(())).await;
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
    let mut rig = Rig::new(3, 256 << 10).await;
    let leader = rig.leader().await;
    let mut supplier = Supplier::open(&leader).await;
    let behind = leave_behind(&mut rig, &leader, &mut supplier, 900).await;
    let node = rig.start(behind).await;
    until("a segment to be written", || {
        let counts = node.status().snapshots;
        assert_eq!(counts.received, 0, "the transfer is over already");
        (counts.received_bytes > 9 << 20).then_some(())
    })
    .await;
    rig.kill(behind).await;
    let node = rig.start(behind).await;
    until("a snapshot", || (node.status().snapshots.received > 0).then_some(())).await;
    let (again, all) = (node.status().snapshots.received_bytes, node.status().store_bytes);
    assert!(again < all - (7 << 20), "{again} of {all} came again");
    rig.agree().await;
    assert_eq!(check_payloads(&node, supplier.channel).await, supplier.acked);
    rig.stop().await;
}

/// However slowly it is sent: the log that follows the snapshot is still there when it has arrived.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_waits_for_a_snapshot_under_way() {
    let mut rig = Rig::new(3, 256 << 10).await;
    let leader = rig.leader().await;
    let mut supplier = Supplier::open(&leader).await;
    let behind = leave_behind(&mut rig, &leader, &mut supplier, 900).await;
    let node = rig.start(behind).await;
    until("a transfer", || node.status().snapshots.receiving).await;
    let before = leader.status().snapshot_index;
    // Several snapshots more, but not as much as the log keeps at most.
    for _ in 0..60 {
        supplier.send(&leader, 8, 2_000).await.unwrap();
    }
    assert_eq!(node.status().snapshots.received, 0, "the transfer is over already");
    until("a snapshot", || (node.status().snapshots.received > 0).then_some(())).await;
    let status = leader.status();
    assert!(status.snapshot_index > before, "there was another snapshot meanwhile");
    assert!(status.purged <= before, "purged up to {} beyond {before}", status.purged);
    rig.agree().await;
    assert_eq!(node.status().snapshots.received, 1);
    // Some have left the history.
    assert!(check_payloads(&node, supplier.channel).await > 0);
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_receiver_with_a_full_disk_goes_on_when_there_is_room() {
    let mut rig = Rig::new(3, 256 << 10).await;
    let leader = rig.leader().await;
    let mut supplier = Supplier::open(&leader).await;
    let behind = leave_behind(&mut rig, &leader, &mut supplier, 900).await;
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
    until("a snapshot", || (node.status().snapshots.received > 0).then_some(())).await;
    rig.agree().await;
    assert_eq!(check_payloads(&node, supplier.channel).await, supplier.acked);
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_that_is_damaged_at_its_sender_does_no_harm_to_its_receiver() {
    let mut rig = Rig::new(3, 32 << 10).await;
    let leader = rig.leader().await;
    let behind = (1..=3).find(|id| *id != leader.me().0).unwrap();
    let mut supplier = Supplier::open(&leader).await;
    let seen = leader.status().last_log;
    rig.kill(behind).await;
    for _ in 0..100 {
        supplier.send(&leader, 8, 200).await.unwrap();
    }
    until("a purge", || (leader.status().purged > seen).then_some(())).await;
    let disk = rig.disks[&leader.me().0].clone();
    let segments = || disk.paths().into_iter().filter(|path| path.contains("/seg-"));
    let damaged: Vec<String> = segments().collect();
    assert!(!damaged.is_empty());
    assert!(damaged.iter().all(|path| disk.flip_bit(path, 8 * 100)));

    // The receiver refuses what is damaged, and the sender repairs its disk from the third member.
    let node = rig.start(behind).await;
    until("a snapshot", || (node.status().snapshot_index > seen).then_some(())).await;
    assert_eq!(node.status().failure, None);
    let repaired = leader.status().damage;
    assert!(repaired.repaired > 0 && repaired.suspects.is_empty(), "{repaired:?}");
    rig.agree().await;
    for node in rig.nodes.values() {
        assert_eq!(check_payloads(node, supplier.channel).await, supplier.acked);
    }
    rig.stop().await;
}

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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_cut_off_stops_serving_and_says_so() {
    let rig = Rig::new(3, 64 << 20).await;
    let old = rig.leader().await;
    let supplier = Supplier::open(&old).await;
    let others: Vec<u64> = (1..=3).filter(|id| *id != old.me().0).collect();
    for other in &others {
        rig.net.cut(&host(old.me().0), &host(*other));
    }
    let lost = old.propose(1, supplier.publish(1, 10)).await.unwrap_err();
    assert!(
        matches!(lost, ProposeError::TenureLost | ProposeError::NotLeader { leader: None }),
        "{lost:?}"
    );
    old.leadership().wait_for(|seen| seen.tenure.is_none()).await;
    let refused = old.propose(1, Command::Checkpoint).await.unwrap_err();
    assert!(matches!(refused, ProposeError::NotLeader { .. }), "{refused:?}");
    assert!(old.linearize().await.is_err());
    let new = until("another leader", || {
        let serves = |id: &&u64| rig.nodes[id].leadership().get().tenure.is_some();
        others.iter().find(serves).map(|id| rig.nodes[id].clone())
    })
    .await;
    assert!(new.linearize().await.is_ok());
    for other in &others {
        rig.net.heal(&host(old.me().0), &host(*other));
    }
    let mut seen = old.leadership();
    seen.wait_for(|seen| seen.leader.as_ref().is_some_and(|leader| leader.id == new.me())).await;
    rig.agree().await;
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_come_and_go() {
    let mut rig = Rig::new(3, 64 << 20).await;
    let leader = rig.leader().await;
    assert_eq!(leader.status().role, Role::Leader);
    assert!(leader.members().iter().all(|info| info.voter));

    let target = (1..=3).map(NodeId).find(|id| *id != leader.me()).unwrap();
    // The target may lose its election where other tests have the processor.
    let next = leader.transfer(Some(target)).await.unwrap();
    assert_ne!(next, leader.me());
    let leader = rig.leader().await;

    let gone = (1..=3).find(|id| *id != leader.me().0).unwrap();
    leader.remove(NodeId(gone)).await.unwrap();
    leader.remove(NodeId(gone)).await.unwrap();
    assert_eq!(leader.members().len(), 2);
    assert_eq!(leader.promote(NodeId(gone)).await, Err(MembershipError::Unknown(NodeId(gone))));
    rig.nodes.remove(&gone).unwrap().shutdown().await;

    // The id of a node that left is not given again.
    rig.join(4).await;
    // A leader can remove itself.
    leader.remove(leader.me()).await.unwrap();
    let mut seen = leader.leadership();
    seen.wait_for(|seen| seen.removed).await.unwrap();
    let former = rig.nodes.remove(&leader.me().0).unwrap();
    let leader = rig.leader().await;
    assert_eq!(leader.members().len(), 2);
    rig.agree().await;
    former.shutdown().await;
    rig.stop().await;
}

/// Of three with one dead the other follower is needed: without it nothing could be committed, its
/// own removal least of all.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_is_needed_is_not_removed() {
    let mut rig = Rig::new(3, 64 << 20).await;
    let leader = rig.leader().await;
    let mut others = (1..=3).map(NodeId).filter(|id| *id != leader.me());
    let (dead, needed) = (others.next().unwrap(), others.next().unwrap());
    rig.nodes.remove(&dead.0).unwrap().shutdown().await;
    let refused = leader.remove(needed).await;
    assert_eq!(refused, Err(MembershipError::NoMajority { left: 2, answering: 1 }));
    assert!(leader.propose(1, Command::Checkpoint).await.is_ok(), "the cluster goes on");
    leader.remove(dead).await.unwrap();
    assert_eq!(leader.members().len(), 2);
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_single_node_serves_and_cannot_remove_itself() {
    let rig = Rig::new(1, 64 << 20).await;
    let node = rig.leader().await;
    let mut supplier = Supplier::open(&node).await;
    let mut changes = node.changes();
    supplier.send(&node, 3, 10).await.unwrap();
    assert!(changes.next().await.contains(&supplier.channel));
    let refused = node.remove(node.me()).await;
    assert_eq!(refused, Err(MembershipError::LastVoter(node.me())));
    let key = node.read(|m| m.channel(supplier.channel).unwrap().slot(2).unwrap().key());
    assert_eq!(node.cached_payload(key).unwrap().sequence, 2);
    node.shutdown().await;
    let refused = node.propose(1, Command::Checkpoint).await;
    assert_eq!(refused, Err(ProposeError::ShuttingDown));
    assert!(tokio::time::timeout(Duration::from_secs(5), node.stopped()).await.is_ok());
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
