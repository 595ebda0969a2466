//! A backup of a cluster under load, and the cluster that comes of it.

use crate::support::{both, cluster, finish, nothing_lost, seqs};

#[tokio::test]
async fn a_backup_under_load_becomes_a_cluster_that_goes_on() {
    let mut old = cluster(3, &["--snapshot-log-bytes", "1048576"]).await;
    old.consumer("default", "all").await;
    old.consumer("default", "half").await;
    let before = old.lines(&["pub", "default", "--count", "4000", "--size", "300"]).await;
    let settled =
        old.lines(&["sub", "default", "--name", "half", "--max", "2000", "--idle-exit", "5"]).await;
    let publisher = old.publisher("default", "load", 10_000);
    old.until("events flow", |s| s["channels"][0]["accepted"].as_u64() > Some(4_000)).await;

    // From a follower, which asks the leader how far to go.
    let leader = old.leader().await;
    let follower = (1..=3).find(|id| *id != leader).expect("there are followers");
    let address = old.local.node(follower).expect("ours").ready.admin_addr.clone();
    let file = old.local.dir.join("it.backup").display().to_string();
    let words = ["backup", &file, "--servers", &address];
    let taken = old.lines(&words).await.remove(0);
    assert_eq!(taken["node_id"], follower);
    let again = old.run(&words).await;
    assert!(
        both(&again).contains("not empty") || both(&again).contains("exists"),
        "{}",
        both(&again)
    );
    finish(publisher).await;

    let dir = old.local.dir.join("restored").display().to_string();
    let restored = old.lines(&["restore", &file, "--data-dir", &dir]).await.remove(0);
    assert_eq!(restored["backup"]["last_index"], taken["last_index"]);
    let again = old.run(&["restore", &file, "--data-dir", &dir]).await;
    assert!(both(&again).contains("not empty"), "{}", both(&again));
    for node in &mut old.local.nodes {
        node.kill().await.expect("kill");
    }
    // The same program, another cluster: node 1 of the harness starts on the restored directory.
    old.local.nodes.truncate(1);
    old.local.nodes[0].data_dir = dir.into();
    old.local.nodes[0].restart().await.expect("start on the restored directory");
    assert_eq!(old.local.nodes[0].ready.node_id, 4, "ids are not reused");
    for _ in 0..2 {
        old.local.grow().await.expect("join");
    }
    old.audit().await;
    let later = old.lines(&["pub", "default", "--count", "10", "--lane", "later"]).await;
    let all = old.drain("default", "all", "3").await;
    nothing_lost(&before, &all);
    nothing_lost(&later, &all);
    // What was settled before stays so, but for what was not yet confirmed.
    let half = old.drain("default", "half", "3").await;
    let twice = seqs(&settled).intersection(&seqs(&half)).count();
    assert_eq!(twice, 0, "settled before the backup, delivered after");
    old.audit().await;
}

#[tokio::test]
async fn a_backup_of_nobody_leaves_nothing() {
    let dir = tempfile::tempdir().expect("make a temporary directory");
    let file = dir.path().join("b").display().to_string();
    let words = ["backup", &file, "--timeout", "1"];
    let output = crate::support::command("127.0.0.1:1", &words).output().await.expect("run");
    assert_eq!(output.status.code(), Some(4), "{}", both(&output));
    assert_eq!(std::fs::read_dir(dir.path()).expect("list").count(), 0);
}
