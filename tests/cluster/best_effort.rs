//! Best-effort channels: as quick as memory, honest about what that means, and served again at once
//! by the next leader.

use serde_json::{Value, json};

use crate::support::{Cluster, cluster, finish};

/// A channel of the status.
fn channel<'a>(status: &'a Value, name: &str) -> &'a Value {
    let channels = status["channels"].as_array().expect("channels");
    channels.iter().find(|channel| channel["name"] == name).expect("the channel")
}

impl Cluster {
    /// Publishes that many events on lane `l`, which must all be acknowledged; the closing line.
    async fn published(&self, count: u64) -> Value {
        let mut lines = finish(self.publisher("ticks", "l", count)).await;
        let closing = lines.pop().expect("a closing line");
        assert_eq!((&closing["acked"], &closing["unknown"]), (&json!(count), &json!(0)));
        closing
    }
}

#[tokio::test]
async fn events_live_in_the_leaders_memory_and_the_next_leader_serves_on() {
    let mut cluster = cluster(3, &[]).await;
    let quality = "event_reliability=best_effort";
    cluster.lines(&["channel", "create", "ticks", "--qos", quality]).await;
    cluster.consumer("ticks", "screen").await;

    let before = cluster.until("applied is known", |s| s["nodes"][0]["applied"].is_u64()).await;
    assert_eq!(cluster.published(500).await["reliability"], "best_effort");
    let after = cluster.until("accepted", |s| channel(s, "ticks")["accepted"] == 500).await;
    assert_eq!(channel(&after, "ticks")["best_effort"], true);
    let applied = |status: &Value| {
        let nodes = status["nodes"].as_array().expect("nodes");
        nodes.iter().filter_map(|node| node["applied"].as_u64()).max().expect("a node")
    };
    let entries = applied(&after) - applied(&before);
    assert!(entries < 20, "the log has the opening of a lane, not {entries} entries");

    let got = cluster.drain("ticks", "screen", "1").await;
    assert_eq!(got.len(), 500);
    assert!(got.iter().all(|event| event["maybe_redelivered"] == false));
    let settled = |s: &Value| channel(s, "ticks")["proxies"][0]["acked"] == 500;
    cluster.until("all is settled", settled).await;

    // What was not consumed is lost with the leader, and the ledger says no more of it.
    cluster.published(100).await;
    let killed = cluster.kill_leader().await;
    cluster.until("another leads", |s| s["leader"].as_u64().is_some_and(|l| l != killed)).await;
    cluster.published(50).await;
    let again = cluster.drain("ticks", "screen", "1").await;
    assert_eq!(again.len(), 50, "those of the new leader");
    let last = got.last().and_then(|event| event["seq"].as_u64()).expect("a sequence");
    assert!(again.iter().all(|event| event["seq"].as_u64() > Some(last)));
    cluster.restart(killed).await;
    cluster.audit().await;
}

#[tokio::test]
async fn a_subscriber_and_its_supplier_outlive_the_leader() {
    let mut cluster = cluster(3, &[]).await;
    let quality = "event_reliability=best_effort";
    cluster.lines(&["channel", "create", "ticks", "--qos", quality]).await;
    let subscriber = cluster.spawn(&["sub", "ticks", "--idle-exit", "4"]);
    let attached = |s: &Value| channel(s, "ticks")["subscribers"] == 1;
    cluster.until("it is attached", attached).await;
    let supplier = cluster.spawn(&["pub", "ticks", "--count", "200000", "--quiet"]);
    let busy = |s: &Value| channel(s, "ticks")["accepted"].as_u64() > Some(1000);
    cluster.until("events flow", busy).await;
    cluster.kill_leader().await;
    let closing = finish(supplier).await.pop().expect("a closing line");
    assert_eq!((&closing["acked"], &closing["unknown"]), (&json!(200_000), &json!(0)));
    let got = finish(subscriber).await;
    let seqs: Vec<u64> = got.iter().filter_map(|event| event["seq"].as_u64()).collect();
    assert!(seqs.is_sorted_by(|a, b| a < b), "each once, in order");
    assert!(got.len() > 1000, "{} events", got.len());
}
