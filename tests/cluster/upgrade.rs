//! A rolling upgrade: nodes that speak two protocol versions side by side, and a way back.

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
async fn nodes_are_upgraded_one_by_one_under_load_and_can_go_back() {
    let mut cluster = cluster(3, &["--protocol-version-max", "4"]).await;
    cluster.until("all speak version 4", |s| protocols(s) == [4, 4, 4]).await;
    cluster.consumer("default", "all").await;
    let mut acks = Vec::new();
    let steps = [(1, "5"), (2, "5"), (2, "4"), (3, "5"), (2, "5")];
    let mut seen = Vec::new();
    for (step, (id, version)) in steps.into_iter().enumerate() {
        let publisher = cluster.publisher("default", &format!("step{step}"), 4_000);
        let node = cluster.local.node(id).expect("three nodes");
        assert_eq!(node.terminate().await.expect("terminate"), Some(0), "SIGTERM ends well");
        let flag = node.extra.iter().position(|word| word == "--protocol-version-max");
        node.extra[flag.expect("the flag it was started with") + 1] = version.to_string();
        cluster.restart(id).await;
        let wanted: u64 = version.parse().expect("a number");
        let status = cluster
            .until("it is back", |s| {
                all_healthy(s) && protocols(s).get(id as usize - 1) == Some(&wanted)
            })
            .await;
        seen.push(protocols(&status));
        acks.extend(finish(publisher).await);
        cluster.audit().await;
    }
    assert_eq!(seen, [[5, 4, 4], [5, 5, 4], [5, 4, 4], [5, 4, 5], [5, 5, 5]]);
    let deliveries = cluster.drain("default", "all", "3").await;
    nothing_lost(&acks, &deliveries);
}
