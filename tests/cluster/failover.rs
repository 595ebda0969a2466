//! Kills and pauses: nothing acknowledged is lost, and a client sees a pause, not an error.

use std::collections::BTreeMap;

use rustix::process::Signal;
use serde_json::Value;

use crate::support::{cluster, finish, nothing_lost, seqs};

/// Each lane sequence has one place in the channel, however often it was sent.
fn published_once(deliveries: &[Value]) {
    let mut places = BTreeMap::new();
    for line in deliveries {
        let event = (line["lane"].to_string(), line["sequence"].to_string());
        let seq = line["seq"].as_u64().expect("a delivery has a seq");
        let before = places.insert(event.clone(), seq);
        assert!(before.is_none_or(|b| b == seq), "{event:?} lies at {before:?} and at {seq}");
    }
}

#[tokio::test]
async fn killing_the_leader_under_load_loses_nothing() {
    let mut cluster = cluster(3, &[]).await;
    cluster.consumer("default", "all").await;
    let publisher = cluster.publisher("default", "load", 30_000);
    for _ in 0..3 {
        let before = cluster.until("events flow", |s| s["channels"][0]["accepted"] != 0).await;
        let accepted = before["channels"][0]["accepted"].as_u64();
        let killed = cluster.kill_leader().await;
        cluster.until("another leads", |s| s["leader"].as_u64().is_some_and(|l| l != killed)).await;
        cluster.restart(killed).await;
        cluster
            .until("events go on or are all there", |s| {
                let now = s["channels"][0]["accepted"].as_u64();
                now > accepted || now == Some(30_000)
            })
            .await;
    }
    let acks = finish(publisher).await;
    let closing = acks.last().expect("a closing line");
    assert_eq!((closing["acked"].as_u64(), closing["unknown"].as_u64()), (Some(30_000), Some(0)));
    let deliveries = cluster.drain("default", "all", "3").await;
    nothing_lost(&acks, &deliveries);
    published_once(&deliveries);
    assert_eq!(seqs(&deliveries).len(), 30_000, "published twice or not at all");
    cluster.audit().await;
}

#[tokio::test]
async fn killing_all_nodes_keeps_what_was_acknowledged() {
    let mut cluster = cluster(3, &[]).await;
    cluster.consumer("default", "all").await;
    let acks = cluster.lines(&["pub", "default", "--count", "5000", "--size", "100"]).await;
    for id in 1..=3 {
        cluster.local.node(id).expect("three nodes").kill().await.expect("kill");
    }
    // A quorum is needed before any of them reports ready, so all start at once.
    let restarts = cluster.local.nodes.iter_mut().map(|node| node.restart());
    for outcome in futures::future::join_all(restarts).await {
        outcome.expect("restart");
    }
    let deliveries = cluster.drain("default", "all", "3").await;
    nothing_lost(&acks, &deliveries);
    cluster.audit().await;
}

#[tokio::test]
async fn a_rolling_restart_under_load_is_a_pause() {
    let mut cluster = cluster(3, &[]).await;
    cluster.consumer("default", "all").await;
    let publisher = cluster.publisher("default", "load", 20_000);
    for id in 1..=3 {
        let node = cluster.local.node(id).expect("three nodes");
        assert_eq!(node.terminate().await.expect("terminate"), Some(0), "SIGTERM ends well");
        cluster.restart(id).await;
        cluster
            .until("all are back", |s| {
                s["nodes"].as_array().is_some_and(|n| n.iter().all(|n| n["state"] == "healthy"))
            })
            .await;
    }
    let acks = finish(publisher).await;
    let deliveries = cluster.drain("default", "all", "3").await;
    nothing_lost(&acks, &deliveries);
    published_once(&deliveries);
    cluster.audit().await;
}

#[tokio::test]
async fn a_paused_follower_holds_nobody_up_and_catches_up() {
    let mut cluster = cluster(3, &[]).await;
    let leader = cluster.leader().await;
    let follower = (1..=3).find(|id| *id != leader).expect("there are followers");
    cluster.local.node(follower).expect("ours").signal(Signal::STOP).expect("pause");
    let leader_addr = cluster.local.node(leader).expect("ours").ready.client_addr.clone();
    let acks = cluster
        .lines(&["pub", "default", "--count", "3000", "--size", "64", "--servers", &leader_addr])
        .await;
    assert_eq!(acks.last().expect("a closing line")["acked"], 3000);
    cluster.local.node(follower).expect("ours").signal(Signal::CONT).expect("resume");
    cluster.audit().await;
}

#[tokio::test]
async fn a_lone_node_killed_again_and_again_keeps_its_word() {
    let mut cluster = cluster(1, &[]).await;
    cluster.consumer("default", "all").await;
    let mut acks = Vec::new();
    for round in 0..6 {
        let lane = format!("round{round}");
        let publisher = cluster.publisher("default", &lane, 4_000);
        cluster
            .until("some of it is accepted", |s| {
                s["channels"][0]["accepted"].as_u64() > Some(round * 4_000)
            })
            .await;
        cluster.kill_leader().await;
        cluster.restart(1).await;
        acks.extend(finish(publisher).await);
    }
    let deliveries = cluster.drain("default", "all", "2").await;
    nothing_lost(&acks, &deliveries);
    published_once(&deliveries);
    assert_eq!(seqs(&deliveries).len(), 24_000, "published twice or not at all");
    cluster.audit().await;
}
