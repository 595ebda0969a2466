//! Proxies that are deleted when nobody consumes from them: not while somebody does, and not too early
//! after the leader died.

use aqueduct::client::{Client, Options, SubscribeOptions};
use aqueduct::types::Name;
use serde_json::Value;

use crate::support::cluster;

fn channel(status: &Value) -> &Value {
    &status["channels"][0]
}

fn has(status: &Value, name: &str) -> bool {
    let proxies = channel(status)["proxies"].as_array().into_iter().flatten();
    proxies.into_iter().any(|proxy| proxy["name"] == name)
}

#[tokio::test]
async fn a_proxy_outlives_the_leader_while_it_is_used_and_ends_when_it_is_not() {
    let mut cluster = cluster(3, &[]).await;
    for name in ["used", "idle"] {
        let qos = ["--qos", "inactivity_expiry=3000"];
        cluster.lines(&[&["proxy", "create", "default", name][..], &qos].concat()).await;
    }
    cluster.lines(&["proxy", "create", "default", "stays"]).await;
    let options = Options::new(cluster.local.servers()).name("test");
    let client = Client::connect(options).await.expect("connect");
    let used = SubscribeOptions::durable(Name::new("used").expect("a name"));
    let mut subscriber = client.subscribe(Name::default_channel(), used).await.expect("attach");

    let killed = cluster.kill_leader().await;
    cluster.lines(&["pub", "default", "--count", "5"]).await;
    // Time enough for the one is time enough for the other.
    let status = cluster.until("the idle one is deleted", |s| !has(s, "idle")).await;
    assert!(has(&status, "used") && has(&status, "stays"), "{status:#}");
    assert_eq!(channel(&status)["expired_proxies"], 1);
    let batch = subscriber.next_batch().await.expect("it goes on");
    assert_eq!(batch[0].seq, 1);

    drop(subscriber);
    let status = cluster.until("the other, too", |s| !has(s, "used")).await;
    assert!(has(&status, "stays"), "{status:#}");
    assert_eq!(channel(&status)["expired_proxies"], 2);
    cluster.restart(killed).await;
    cluster.audit().await;
}
