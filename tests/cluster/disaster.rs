//! When a majority is gone for good: the last node begins a new cluster.

use std::path::Path;

use serde_json::Value;

use crate::support::{Cluster, both, cluster, json_lines, nothing_lost};

/// Kills two of three nodes for good and stops the third; where its data are. The others' too.
async fn lose_majority(cluster: &mut Cluster) -> (std::path::PathBuf, Vec<std::path::PathBuf>) {
    let mut dead = Vec::new();
    for _ in 0..2 {
        let mut node = cluster.local.nodes.remove(0);
        node.kill().await.expect("kill");
        dead.push(node.data_dir.clone());
    }
    let survivor = &mut cluster.local.nodes[0];
    survivor.terminate().await.expect("terminate");
    (survivor.data_dir.clone(), dead)
}

fn files(dir: &Path) -> Vec<(std::path::PathBuf, u64)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).expect("list") {
        let path = entry.expect("entry").path();
        match path.is_dir() {
            true => found.extend(files(&path)),
            false => found.push((path.clone(), path.metadata().expect("metadata").len())),
        }
    }
    found.sort();
    found
}

async fn grow_to_three(cluster: &mut Cluster) {
    for _ in 0..2 {
        cluster.local.grow().await.expect("join");
    }
    cluster
        .until("three nodes vote", |s| {
            s["nodes"].as_array().is_some_and(|n| {
                n.len() == 3 && n.iter().all(|n| n["role"] == "leader" || n["role"] == "follower")
            })
        })
        .await;
}

#[tokio::test]
async fn the_last_node_of_a_lost_cluster_begins_a_new_one() {
    let mut cluster = cluster(3, &["--snapshot-log-bytes", "1048576"]).await;
    cluster.consumer("default", "all").await;
    let mut acks = Vec::new();
    for round in 0..4 {
        let (count, lane) = ("1500", format!("round{round}"));
        let words = ["pub", "default", "--count", count, "--size", "500", "--lane", &lane];
        acks.extend(cluster.lines(&words).await);
    }
    // The last node has everything that was acknowledged.
    cluster.audit().await;
    let old = cluster.local.nodes[2].ready.clone();
    let dir = cluster.local.nodes[2].data_dir.display().to_string();
    let running = cluster.run(&["recover", &dir, "--yes-data-may-be-lost"]).await;
    assert!(both(&running).contains("in use by another node"), "{}", both(&running));

    let (survivor, dead) = lose_majority(&mut cluster).await;
    let before = files(&survivor);
    let unsure = cluster.run(&["recover", &dir]).await;
    assert_eq!(unsure.status.code(), Some(64), "{}", both(&unsure));
    let dry = cluster.lines(&["recover", &dir, "--dry-run"]).await.remove(0);
    assert_eq!(files(&survivor), before, "a dry run changes nothing");
    assert!(dry["data_dir"].is_null() && dry["dry_run"] == true, "{dry:#}");
    let recovered = cluster.lines(&["recover", &dir, "--yes-data-may-be-lost"]).await.remove(0);
    assert_eq!(recovered["from"]["cluster_id"], Value::from(old.cluster_id.clone()));
    assert_eq!(recovered["known"], dry["known"]);
    assert_eq!(recovered["findings"], serde_json::json!([]), "{recovered:#}");
    let kept = Path::new(recovered["kept"].as_str().expect("where the old directory is"));
    assert_eq!(files(kept).len(), before.len(), "the old directory is kept");

    cluster.local.nodes[0].restart().await.expect("start the new incarnation");
    let ready = cluster.local.nodes[0].ready.clone();
    assert_ne!(ready.cluster_id, old.cluster_id);
    assert_eq!(ready.node_id, 4, "ids are not reused");
    grow_to_three(&mut cluster).await;
    cluster.audit().await;
    // Who slept through it does not come back by accident.
    let stray = dead[0].display().to_string();
    let addresses = ["--listen", "--peer", "--admin", "--http"];
    let addresses = addresses.iter().flat_map(|flag| [*flag, "127.0.0.1:0"]);
    let mut words = vec!["node", "--data-dir", &stray, "--join", &ready.peer_addr];
    words.extend(addresses);
    let refused = cluster.run(&words).await;
    assert!(!refused.status.success());
    assert!(both(&refused).contains(&old.cluster_id), "{}", both(&refused));

    let words = ["pub", "default", "--count", "100", "--lane", "round0", "--sequence", "1501"];
    acks.extend(cluster.lines(&words).await);
    let deliveries = cluster.drain("default", "all", "3").await;
    nothing_lost(&acks, &deliveries);
    cluster.audit().await;
}

#[tokio::test]
async fn recovering_twice_is_recovering_once_more() {
    let mut cluster = cluster(1, &[]).await;
    let acks = cluster.lines(&["pub", "default", "--count", "50"]).await;
    cluster.local.nodes[0].terminate().await.expect("terminate");
    let dir = cluster.local.nodes[0].data_dir.clone();
    let name = dir.display().to_string();
    let first = cluster.lines(&["recover", &name, "--yes-data-may-be-lost"]).await.remove(0);
    // What an attempt left that was killed on its way.
    let leftover = dir.with_file_name("node1.preparing");
    std::fs::create_dir_all(leftover.join("events")).expect("mkdir");
    std::fs::write(leftover.join("UNFINISHED"), b"").expect("write");
    let second = cluster.lines(&["recover", &name, "--yes-data-may-be-lost"]).await.remove(0);
    assert!(!leftover.exists(), "the leftover is removed");
    assert_eq!(second["from"]["cluster_id"], first["cluster_id"]);
    assert_ne!(second["kept"], first["kept"], "both old directories are kept");
    // Into another place, which must be free.
    let into = dir.with_file_name("elsewhere").display().to_string();
    let words = ["recover", &name, "--into", &into, "--yes-data-may-be-lost"];
    cluster.lines(&words).await;
    let again = cluster.run(&words).await;
    assert!(both(&again).contains("not empty"), "{}", both(&again));
    assert_eq!(json_lines(&again), Vec::<Value>::new());
    cluster.local.nodes[0].restart().await.expect("start the newest");
    let deliveries = cluster
        .lines(&["sub", "default", "--from", "all", "--max", "50", "--idle-exit", "5"])
        .await;
    nothing_lost(&acks, &deliveries);
    cluster.audit().await;
}
