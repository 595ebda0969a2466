//! Joining, leaving, being removed, and catching up by snapshot.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::support::{cluster, finish, nothing_lost};

fn ids(cluster_answer: &Value) -> BTreeSet<u64> {
    let members = cluster_answer["members"].as_array().into_iter().flatten();
    members.filter_map(|m| m["id"].as_u64()).collect()
}

#[tokio::test]
async fn a_node_joins_and_leaves_under_load() {
    let mut cluster = cluster(3, &[]).await;
    cluster.consumer("default", "all").await;
    let publisher = cluster.publisher("default", "load", 20_000);
    let id = cluster.local.grow().await.expect("join").ready.node_id;
    assert!(id > 3, "a new node has a new id");
    cluster
        .until("the fourth node votes", |s| {
            s["nodes"]
                .as_array()
                .is_some_and(|n| n.iter().any(|n| n["id"] == id && n["role"] == "follower"))
        })
        .await;
    let address = cluster.local.node(id).expect("ours").ready.client_addr.clone();
    let left = cluster.run(&["cluster", "leave", "--servers", &address]).await;
    assert!(left.status.success(), "{}", crate::support::both(&left));
    cluster
        .until("the fourth node is gone", |s| s["nodes"].as_array().is_some_and(|n| n.len() == 3))
        .await;
    let acks = finish(publisher).await;
    let deliveries = cluster.drain("default", "all", "3").await;
    nothing_lost(&acks, &deliveries);
    cluster.audit().await;
}

#[tokio::test]
async fn a_dead_node_is_removed_and_replaced_under_a_new_id() {
    let mut cluster = cluster(3, &[]).await;
    let leader = cluster.leader().await;
    let dead = (1..=3).find(|id| *id != leader).expect("there are followers");
    cluster.local.node(dead).expect("ours").kill().await.expect("kill");
    let removed = cluster.lines(&["cluster", "remove", &dead.to_string()]).await;
    assert!(!ids(&removed[0]).contains(&dead), "{removed:?}");
    let new = cluster.local.grow().await.expect("join").ready.node_id;
    assert!(new > 3, "the id {new} was used before");
    cluster
        .until("three nodes vote", |s| {
            s["nodes"].as_array().is_some_and(|n| {
                n.len() == 3 && n.iter().all(|n| n["role"] == "leader" || n["role"] == "follower")
            })
        })
        .await;
    cluster.audit().await;
}

#[tokio::test]
async fn a_node_away_longer_than_the_log_catches_up_by_snapshot() {
    let mut cluster = cluster(3, &["--snapshot-log-bytes", "1048576"]).await;
    let first = cluster.lines(&["pub", "default", "--count", "2000", "--size", "500"]).await;
    let leader = cluster.leader().await;
    let away = (1..=3).find(|id| *id != leader).expect("there are followers");
    cluster.local.node(away).expect("ours").kill().await.expect("kill");
    // An unsettled consumer keeps all events pending, so the snapshot must carry them.
    cluster
        .lines(&[
            "sub", "default", "--name", "idle", "--from", "all", "--max", "1", "--ack", "none",
        ])
        .await;
    let mut acks = first;
    for _ in 0..6 {
        acks.extend(cluster.lines(&["pub", "default", "--count", "2000", "--size", "500"]).await);
    }
    let status = cluster
        .until("the leader has taken snapshots", |s| {
            s["nodes"]
                .as_array()
                .is_some_and(|n| n.iter().any(|n| n["snapshot_index"].as_u64() > Some(0)))
        })
        .await;
    assert!(status["nodes"].is_array());
    cluster.restart(away).await;
    cluster
        .until("it has caught up by snapshot", |s| {
            let nodes = s["nodes"].as_array().into_iter().flatten();
            let applied: BTreeSet<_> =
                nodes.clone().filter_map(|n| n["applied"].as_u64()).collect();
            let back =
                nodes.clone().any(|n| n["id"] == away && n["snapshot_index"].as_u64() > Some(0));
            back && applied.len() == 1
        })
        .await;
    cluster.audit().await;
    // Make the caught-up node lead, so that what it delivers comes from its own disk.
    let moved = cluster.run(&["cluster", "transfer", &away.to_string()]).await;
    assert!(moved.status.success(), "{}", crate::support::both(&moved));
    let deliveries = cluster.drain("default", "idle", "3").await;
    nothing_lost(&acks, &deliveries);
}
