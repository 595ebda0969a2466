//! Subscriptions by type, as people and scripts meet them: who gets what through the death of a leader,
//! what the ledger says of the rest, and what is told and refused.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::support::{Cluster, both, cluster, finish, seqs};

const EACH: u64 = 1500;

impl Cluster {
    async fn proxy_of(&self, channel: &str, name: &str) -> Value {
        self.lines(&["proxy", "show", channel, name]).await.remove(0)
    }
}

/// The ledger of a proxy in an answer of `status`.
fn ledger(status: &Value, channel: &str, proxy: &str, what: &str) -> Option<u64> {
    let channels = status["channels"].as_array()?;
    let proxies = channels.iter().find(|c| c["name"] == channel)?["proxies"].as_array()?;
    proxies.iter().find(|p| p["name"] == proxy)?[what].as_u64()
}

#[tokio::test]
async fn consumers_with_patterns_get_their_types_and_the_ledgers_are_exact_when_a_leader_dies() {
    let mut cluster = cluster(3, &[]).await;
    cluster.lines(&["channel", "create", "news"]).await;
    let words = ["admin", "create", "news", "telecom", "--type", "telecom::*"];
    assert_eq!(cluster.lines(&words).await[0]["types"], json!(["telecom::*"]));
    let admin = ["--admin", "telecom"];
    let wishes: [(&str, &[&str]); 4] = [
        ("alarms", &["--type", "alarm"]),
        ("calls", &["--admin", "telecom", "--type", "c*", "--type", "stock::quote"]),
        ("all", &[]),
        ("idle", &["--type", "nothing"]),
    ];
    for (name, wish) in wishes {
        cluster.lines(&[&["proxy", "create", "news", name][..], wish].concat()).await;
    }
    let receive = |name: &'static str, more: &[&str]| {
        cluster.spawn(&[&["sub", "news", "--name", name, "--idle-exit", "8"][..], more].concat())
    };
    let consumers =
        [receive("alarms", &["--type", "alarm"]), receive("calls", &admin), receive("all", &[])];
    let kinds = [("telecom", "alarm"), ("telecom", "call"), ("stock", "alarm"), ("stock", "quote")];
    let count = EACH.to_string();
    let publishers = kinds.map(|(domain, kind)| {
        let words = ["pub", "news", "--count", &count, "--size", "64", "--lane"];
        let typed = ["--domain", domain, "--type", kind];
        cluster.spawn(&[&words[..], &[&format!("{domain}-{kind}")], &typed].concat())
    });
    let some = |s: &Value| ledger(s, "news", "all", "acked").is_some_and(|acked| acked > 200);
    cluster.until("consumers are at work", some).await;
    let killed = cluster.kill_leader().await;
    cluster.until("another leads", |s| s["leader"].as_u64().is_some_and(|l| l != killed)).await;
    cluster.restart(killed).await;

    let mut acked: Vec<BTreeSet<u64>> = Vec::new();
    for publisher in publishers {
        acked.push(seqs(&finish(publisher).await));
    }
    assert!(acked.iter().all(|acks| acks.len() as u64 == EACH), "all were acknowledged");
    let union = |places: &[usize]| -> BTreeSet<u64> {
        places.iter().flat_map(|place| acked[*place].iter().copied()).collect()
    };
    let [alarms, calls, all] = consumers;
    for (name, consumer, wanted) in
        [("alarms", alarms, &[0, 2][..]), ("calls", calls, &[1]), ("all", all, &[0, 1, 2, 3])]
    {
        assert_eq!(seqs(&finish(consumer).await), union(wanted), "what '{name}' got");
    }
    let total = 4 * EACH;
    for (name, matching) in [("alarms", 2 * EACH), ("calls", EACH), ("all", total), ("idle", 0)] {
        let exact = |s: &Value| {
            ledger(s, "news", name, "pending") == Some(0)
                && ledger(s, "news", name, "offered") == Some(total)
                && ledger(s, "news", name, "acked") == Some(matching)
                && ledger(s, "news", name, "filtered") == Some(total - matching)
        };
        cluster.until(&format!("the ledger of '{name}' is exact"), exact).await;
    }
    cluster.audit().await;
}

#[tokio::test]
async fn subscriptions_are_shown_changed_and_refused() {
    let cluster = cluster(1, &[]).await;
    let publish = |domain: &'static str, kind: &'static str| {
        cluster.command(&["pub", "default", "x", "--domain", domain, "--type", kind]).output()
    };
    cluster.lines(&["proxy", "create", "default", "p", "--type", "telecom::*"]).await;
    for (domain, kind) in [("telecom", "alarm"), ("stock", "quote"), ("stock", "alarm")] {
        assert!(publish(domain, kind).await.expect("it runs").status.success());
    }
    let types = cluster.lines(&["channel", "types", "default"]).await.remove(0);
    let offered = |domain, kind| json!({"domain": domain, "type": kind, "events": 1});
    let expected =
        [offered("stock", "alarm"), offered("stock", "quote"), offered("telecom", "alarm")];
    assert_eq!(types["types"], json!(expected));

    cluster.until("two are filtered", |s| ledger(s, "default", "p", "filtered") == Some(2)).await;
    let changed = cluster.lines(&["proxy", "subscribe", "default", "p", "quote"]).await.remove(0);
    assert_eq!(changed["types"], json!(["*::quote", "telecom::*"]));
    assert_eq!(changed["cut"]["next_seq"], 4);
    // What was settled stays so; what comes now follows the new patterns.
    assert!(publish("stock", "quote").await.expect("it runs").status.success());
    let got = cluster.lines(&["pull", "default", "--name", "p", "--batch", "9"]).await;
    assert_eq!(seqs(&got), [1, 4].into());
    let words = ["proxy", "unsubscribe", "default", "p", "telecom::*", "quote"];
    assert_eq!(cluster.lines(&words).await[0]["types"], json!([]));
    let shown = cluster.proxy_of("default", "p").await;
    assert_eq!((&shown["types"], &shown["admin_types"]), (&json!([]), &json!([])));
    let admin = ["admin", "subscribe", "default", "default", "alarm"];
    assert_eq!(cluster.lines(&admin).await[0]["types"], json!(["*::alarm"]));
    assert_eq!(cluster.proxy_of("default", "p").await["admin_types"], json!(["*::alarm"]));

    // A plain subscriber has no ledger: it just gets what it wants.
    let plain = ["sub", "default", "--from", "all", "--type", "stock::*", "--idle-exit", "1"];
    assert_eq!(seqs(&cluster.lines(&plain).await), [2, 3, 4].into());

    for (words, code, says) in [
        (vec!["sub", "default", "--type", "a:b"], 64, "write 'domain::type'"),
        (vec!["proxy", "subscribe", "default", "p", ""], 64, "picks nothing"),
        (vec!["proxy", "subscribe", "default", "nobody", "a"], 3, "unknown_proxy"),
        (vec!["sub", "default", "--name", "p", "--type", "other"], 3, "proxy_exists"),
    ] {
        let output = cluster.run(&[&words[..], &["--output", "json"]].concat()).await;
        assert_eq!(output.status.code(), Some(code), "{words:?}: {}", both(&output));
        assert!(both(&output).contains(says), "{words:?}: {}", both(&output));
    }
    cluster.audit().await;
}
