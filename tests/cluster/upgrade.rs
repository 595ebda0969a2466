//! A rolling restart, as in an upgrade; and what a node is not told to speak.

use serde_json::Value;

use crate::support::{cluster, finish, nothing_lost};

/// The newest version that each node speaks, by id.
fn protocols(status: &Value) -> Vec<u64> {
    let nodes = status["nodes"].as_array().into_iter().flatten();
    nodes.filter_map(|node| node["protocol"].as_u64()).collect()
}

fn all_healthy(status: &Value) -> bool {
    status["nodes"].as_array().is_some_and(|n| n.iter().all(|n| n["state"] == "healthy"))
}

#[tokio::test]
async fn nodes_are_restarted_one_by_one_under_load() {
    let mut cluster = cluster(3, &["--protocol-version-max", "7"]).await;
    cluster.until("all speak version 7", |s| protocols(s) == [7, 7, 7]).await;
    cluster.consumer("default", "all").await;
    let mut acks = Vec::new();
    for id in 1..=3 {
        let publisher = cluster.publisher("default", &format!("step{id}"), 4_000);
        let node = cluster.local.node(id).expect("three nodes");
        assert_eq!(node.terminate().await.expect("terminate"), Some(0), "SIGTERM ends well");
        cluster.restart(id).await;
        cluster.until("it is back", |s| all_healthy(s) && protocols(s) == [7, 7, 7]).await;
        acks.extend(finish(publisher).await);
        cluster.audit().await;
    }
    let deliveries = cluster.drain("default", "all", "3").await;
    nothing_lost(&acks, &deliveries);
}
