//! Looking into the directory of a stopped node.

use serde_json::Value;

use crate::support::{both, cluster, json_lines};

#[tokio::test]
async fn a_stopped_node_shows_its_log_and_its_snapshots() {
    let mut cluster = cluster(1, &["--snapshot-log-bytes", "1048576"]).await;
    cluster.consumer("default", "all").await;
    cluster.lines(&["pub", "default", "--count", "4000", "--size", "400"]).await;
    cluster.until("a snapshot", |s| s["nodes"][0]["snapshot_index"].as_u64() > Some(0)).await;
    let dir = cluster.local.nodes[0].data_dir.display().to_string();
    let refused = cluster.run(&["log", "dump", &dir]).await;
    assert!(both(&refused).contains("in use by another node"), "{}", both(&refused));
    cluster.local.nodes[0].terminate().await.expect("terminate");

    let dumped = cluster.lines(&["log", "dump", &dir]).await;
    assert!(dumped[0]["registers"]["vote"].as_str().expect("a vote").contains("leads"));
    let entries: Vec<&Value> = dumped.iter().filter_map(|line| line.get("entry")).collect();
    assert_eq!(entries.len() + 1, dumped.len(), "nothing is damaged");
    let commands = entries.iter().flat_map(|e| e["commands"].as_array().into_iter().flatten());
    let published: u64 = commands.filter_map(|c| c["publish"]["count"].as_u64()).sum();
    assert!(published > 0 && published <= 4000, "{published}");
    let last = entries.last().expect("an entry")["index"].as_u64().expect("an index");
    let (from, to) = ((last - 1).to_string(), last.to_string());
    let some = cluster.lines(&["log", "dump", &dir, "--from", &from, "--to", &to]).await;
    assert_eq!(some.len(), 3, "{some:?}");

    let inside = cluster.lines(&["snapshot", "dump", &dir]).await.remove(0);
    let state = &inside["snapshots"][0]["state"];
    assert_eq!(state["channels"][0]["consumers"][0]["name"], "all");
    assert_eq!(inside["findings"], serde_json::json!([]));
    for words in [&["log", "dump", &dir][..], &["snapshot", "dump", &dir]] {
        let people = cluster.run(words).await;
        assert!(people.status.success() && both(&people).contains("identity  node 1"));
    }
    let nowhere = cluster.run(&["snapshot", "dump", "/nonexistent", "--output", "jsonl"]).await;
    assert!(json_lines(&nowhere)[0]["error"]["message"].is_string());
    // It was only looked at.
    cluster.local.nodes[0].restart().await.expect("restart");
    cluster.audit().await;
}
