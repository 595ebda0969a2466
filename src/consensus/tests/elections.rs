//! Elections that no timeout brings about: here timeouts take longer than a test.

use std::time::Instant;

use crate::types::NodeId;

use super::super::Timing;
use super::rig::{DEADLINE, Rig, Supplier, host};

/// Nobody is elected by this in time.
const PATIENT: Timing =
    Timing { heartbeat_ms: 100, election_min_ms: 60_000, election_max_ms: 90_000 };

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_died_is_replaced_without_a_timeout() {
    let mut rig = Rig::with_timing(5, 64 << 20, PATIENT).await;
    let mut leader = rig.leader().await;
    let mut supplier = Supplier::open(&leader).await;
    // Two of five may be gone.
    for _ in 0..2 {
        supplier.send(&leader, 8, 100).await.unwrap();
        let (dead, died) = (leader.me(), Instant::now());
        rig.kill(dead.0).await;
        leader = rig.leader().await;
        assert!(died.elapsed() < DEADLINE && leader.me() != dead);
        supplier.resume(&leader).await;
    }
    supplier.send(&leader, 8, 100).await.unwrap();
    rig.agree().await;
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_comes_back_at_once_is_replaced_all_the_same() {
    let mut rig = Rig::with_timing(3, 64 << 20, PATIENT).await;
    let leader = rig.leader().await;
    let mut supplier = Supplier::open(&leader).await;
    supplier.send(&leader, 8, 100).await.unwrap();
    let dead = leader.me();
    rig.kill(dead.0).await;
    rig.start(dead.0).await;
    let leader = rig.leader().await;
    supplier.resume(&leader).await;
    supplier.send(&leader, 8, 100).await.unwrap();
    rig.agree().await;
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_break_depose_nobody() {
    let rig = Rig::with_timing(3, 64 << 20, PATIENT).await;
    let leader = rig.leader().await;
    let held = leader.leadership().peek();
    let mut supplier = Supplier::open(&leader).await;
    let me = leader.me();
    let others: Vec<NodeId> =
        rig.nodes.values().map(|node| node.me()).filter(|n| *n != me).collect();
    for _ in 0..10 {
        for other in &others {
            rig.net.cut(&host(me.0), &host(other.0));
            rig.net.heal(&host(me.0), &host(other.0));
        }
        supplier.send(&leader, 8, 100).await.unwrap();
        rig.agree().await;
    }
    assert_eq!(leader.leadership().peek(), held);
    rig.stop().await;
}
