//! Dead letters as an operator meets them: listed, shown, replayed and dropped, also after the leader
//! died, and the ledgers add up all the while.

use serde_json::{Value, json};

use crate::support::{Cluster, both, cluster, json_lines, seqs};

async fn one(cluster: &Cluster, words: &[&str]) -> Value {
    cluster.lines(words).await.remove(0)
}

/// The ledger of a consumer of the default channel.
async fn ledger(cluster: &Cluster, name: &str) -> Value {
    let report = one(cluster, &["channel", "show", "default"]).await;
    let proxies = report["proxies"].as_array().expect("proxies").clone();
    proxies.into_iter().find(|proxy| proxy["name"] == name).expect("the consumer")
}

/// Three events that `billing` gave up after two deliveries each, and `audit` has had.
async fn given_up() -> Cluster {
    let cluster = cluster(3, &["--snapshot-log-bytes", "1048576"]).await;
    one(&cluster, &["proxy", "create", "default", "billing", "--max-deliveries", "2"]).await;
    one(&cluster, &["proxy", "create", "default", "audit"]).await;
    for body in ["one", "two", "three"] {
        cluster.lines(&["pub", "default", body, "--type", "bill"]).await;
    }
    assert_eq!(seqs(&cluster.drain("default", "audit", "1").await).len(), 3);
    let words = ["sub", "default", "--name", "billing", "--ack", "nack", "--idle-exit", "2"];
    assert_eq!(cluster.lines(&words).await.len(), 6);
    cluster
        .until("all three are dead letters", |s| {
            let channels = s["channels"].as_array().into_iter().flatten();
            channels.clone().any(|c| c["dead_letters"]["kept"] == 3)
        })
        .await;
    cluster
}

#[tokio::test]
async fn letters_are_replayed_once_and_dropped_after_the_leader_died() {
    let mut cluster = given_up().await;
    let listed = one(&cluster, &["dead", "ls", "default"]).await;
    let letters = listed["letters"].as_array().expect("letters");
    assert_eq!(letters.len(), 3, "{listed:#}");
    assert_eq!((&letters[0]["seq"], &letters[0]["origin_seq"]), (&json!(1), &json!(1)));
    assert_eq!((&letters[0]["proxy"], &letters[0]["attempts"]), (&json!("billing"), &json!(2)));
    assert!(letters[0]["reason"].as_str().is_some_and(|why| why.contains("max deliveries")));
    let some = one(&cluster, &["dead", "ls", "default.dead", "--limit", "1", "--from", "2"]).await;
    assert_eq!(some["letters"].as_array().map(Vec::len), Some(1));
    let shown = one(&cluster, &["dead", "show", "default", "2"]).await;
    assert_eq!((&shown["body_base64"], &shown["type"]), (&json!("dHdv"), &json!("bill")));
    let people = both(&cluster.run(&["dead", "show", "default", "2"]).await);
    assert!(people.contains("billing") && people.contains("two"), "{people}");

    // So much that the letters' events lie in the log no more, nor in memory.
    one(&cluster, &["channel", "create", "bulk"]).await;
    cluster.lines(&["pub", "bulk", "--count", "16000", "--size", "1000", "--quiet"]).await;
    cluster
        .until("all have snapshots", |s| {
            let mut nodes = s["nodes"].as_array().into_iter().flatten();
            nodes.all(|node| node["snapshot_index"].as_u64() > Some(0))
        })
        .await;
    let killed = cluster.kill_leader().await;
    cluster.until("another leads", |s| s["leader"].as_u64().is_some_and(|l| l != killed)).await;
    let replayed = one(&cluster, &["dead", "replay", "default", "1"]).await;
    assert_eq!((&replayed["replayed"], &replayed["refused"]), (&json!(1), &json!(0)));
    assert_eq!(replayed["outcomes"][0]["first_seq"], 4);
    let got = cluster.drain("default", "billing", "1").await;
    assert_eq!(got.len(), 1, "{got:#?}");
    assert_eq!((&got[0]["seq"], &got[0]["body_base64"]), (&json!(4), &json!("b25l")));
    assert_eq!(got[0]["maybe_redelivered"], true);
    assert_eq!(ledger(&cluster, "audit").await["skipped"], 1);
    assert_eq!(ledger(&cluster, "billing").await["acked"], 1);

    assert_eq!(one(&cluster, &["dead", "drop", "default", "2"]).await["dropped"], 1);
    let again = cluster.run(&["dead", "replay", "default", "1..2", "--output", "jsonl"]).await;
    assert_eq!(again.status.code(), Some(3), "{}", both(&again));
    assert_eq!(json_lines(&again)[0]["unknown"], 2);
    let rest = one(&cluster, &["dead", "replay", "default", "--all", "--to-all"]).await;
    assert_eq!(rest["replayed"], 1);
    // The replayed event has the payload key of the first publish: snapshots go on with it.
    cluster.lines(&["pub", "bulk", "--count", "4000", "--size", "1000", "--quiet"]).await;
    assert_eq!(cluster.drain("default", "billing", "1").await.len(), 1);
    assert_eq!(cluster.drain("default", "audit", "1").await.len(), 1);

    let listed = one(&cluster, &["dead", "ls", "default"]).await;
    assert_eq!(listed["letters"], json!([]));
    assert_eq!((&listed["replayed"], &listed["dropped"]), (&json!(2), &json!(1)));
    cluster.restart(killed).await;
    cluster.audit().await;
}

#[tokio::test]
async fn what_cannot_be_replayed_stays_and_says_why() {
    let cluster = given_up().await;
    one(&cluster, &["proxy", "rm", "default", "billing"]).await;
    let refused = cluster.run(&["dead", "replay", "default", "--all", "--output", "jsonl"]).await;
    assert_eq!(refused.status.code(), Some(3), "{}", both(&refused));
    let told = json_lines(&refused).remove(0);
    assert_eq!((&told["refused"], &told["replayed"]), (&json!(3), &json!(0)));
    assert_eq!(told["outcomes"][0]["error"]["code"], "unknown_proxy");
    let people = both(&cluster.run(&["dead", "replay", "default", "3"]).await);
    assert!(people.contains("to all proxies"), "{people}");
    let shown = both(&cluster.run(&["channel", "show", "default"]).await);
    assert!(shown.contains("3 letters in default.dead"), "{shown}");
    assert_eq!(one(&cluster, &["dead", "drop", "default", "1..3"]).await["dropped"], 3);
    let none = both(&cluster.run(&["dead", "ls", "default"]).await);
    assert!(none.contains("no dead letters in default.dead, 3 dropped"), "{none}");
    for (words, code) in [
        (vec!["dead", "ls", "nowhere"], 3),
        (vec!["dead", "show", "default", "9"], 3),
        (vec!["dead", "replay", "default"], 64),
        (vec!["dead", "drop", "default", "5..3"], 64),
    ] {
        let output = cluster.run(&words).await;
        assert_eq!(output.status.code(), Some(code), "{words:?}: {}", both(&output));
    }
    cluster.audit().await;
}
