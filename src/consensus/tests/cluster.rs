//! Clusters in one process, over memory.

use std::time::{Duration, Instant};

use crate::machine::Command;
use crate::types::NodeId;

use super::super::{MembershipError, ProposeError, Role, Timing};
use super::rig::{DEADLINE, Rig, Supplier, check_payloads, host, until};

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
    let refused = tokio::time::timeout(DEADLINE, leader.remove(needed)).await.unwrap();
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
