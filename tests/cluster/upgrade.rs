//! A rolling upgrade: nodes that speak two protocol versions side by side, and a way back.

use serde_json::Value;

use crate::support::{both, cluster, finish, nothing_lost};

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
    let mut cluster = cluster(3, &["--protocol-version-max", "7"]).await;
    cluster.until("all speak version 7", |s| protocols(s) == [7, 7, 7]).await;
    cluster.consumer("default", "all").await;
    let lines = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(lines.path(), "a\nb\n").expect("write it");
    let file = lines.path().to_str().expect("a plain path");
    let serve = ["serve", "default", "--lane", "source", "--file", file, "--output", "jsonl"];
    let refused = cluster.run(&serve).await;
    assert!(!refused.status.success(), "nobody polls before version 8");
    assert!(both(&refused).contains("version_mismatch"), "{}", both(&refused));

    let mut acks = Vec::new();
    let steps = [(1, "8"), (2, "8"), (2, "7"), (3, "8"), (2, "8")];
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
    assert_eq!(seen, [[8, 7, 7], [8, 8, 7], [8, 7, 7], [8, 7, 8], [8, 8, 8]]);
    acks.extend(cluster.lines(&serve[..6]).await);
    let deliveries = cluster.drain("default", "all", "3").await;
    nothing_lost(&acks, &deliveries);
}
