//! Exclusive proxies: one consumer holds them, its token fences off those before, and both are facts
//! that the next leader knows.

use std::collections::BTreeMap;
use std::time::Duration;

use aqueduct::client::{Client, Options, SubscribeOptions, Subscriber, Token, Verdict};
use aqueduct::types::{Code, Name, Property, Qos, Start};
use serde_json::{Value, json};

use crate::support::{Cluster, SOON};

async fn client(cluster: &Cluster, name: &str) -> Client {
    Client::connect(Options::new(cluster.local.servers()).name(name)).await.expect("connect")
}

/// Consumes from the exclusive proxy `w`.
async fn consumer(client: &Client) -> Subscriber {
    let options = SubscribeOptions {
        qos: Qos::from([(Property::ExclusiveConsumer, 1)]),
        from: Start::All,
        ..SubscribeOptions::durable(Name::new("w").expect("a name"))
    };
    client.subscribe(Name::default_channel(), options).await.expect("attach")
}

/// The next `count` events as sequence and token.
async fn take(subscriber: &mut Subscriber, count: usize) -> BTreeMap<u64, u64> {
    let mut taken = BTreeMap::new();
    while taken.len() < count {
        let batch = tokio::time::timeout(SOON, subscriber.next_batch()).await;
        let batch = batch.expect("events come").expect("it goes on");
        taken.extend(batch.iter().map(|delivery| (delivery.seq, delivery.fencing)));
    }
    taken
}

/// `proxy show` of the proxy.
async fn shown(cluster: &Cluster) -> Value {
    cluster.lines(&["proxy", "show", "default", "w"]).await.remove(0)
}

#[tokio::test]
async fn one_holds_it_through_a_change_of_leader_and_a_stale_token_settles_nothing() {
    let mut cluster = crate::support::cluster(3, &[]).await;
    let (one, two) = (client(&cluster, "one").await, client(&cluster, "two").await);
    let mut first = consumer(&one).await;
    let mut second = consumer(&two).await;
    cluster.lines(&["pub", "default", "--count", "10"]).await;
    let before = take(&mut first, 10).await;
    let token = before[&1];
    assert!(token > 0 && before.values().all(|t| *t == token), "{before:?}");
    first.ack(&[1, 2]).await.expect("room");
    first.flush().await.expect("confirmed");
    let show = shown(&cluster).await;
    assert_eq!((&show["fencing_token"], &show["exclusive"]), (&json!(token), &json!(true)));
    assert_eq!(show["standby"].as_array().map(Vec::len), Some(1), "{show:#}");

    // The holder comes back to the next leader, and is the same under the same token.
    let killed = cluster.kill_leader().await;
    cluster.until("another leads", |s| s["leader"].as_u64().is_some_and(|l| l != killed)).await;
    let again = take(&mut first, 8).await;
    assert_eq!(again.keys().copied().collect::<Vec<_>>(), (3..=10).collect::<Vec<_>>());
    assert!(again.values().all(|t| *t == token), "{again:?}");
    let none = tokio::time::timeout(Duration::from_millis(300), second.next_batch()).await;
    assert!(none.is_err(), "one that stands by gets nothing: {none:?}");
    assert_eq!(shown(&cluster).await["holder"], show["holder"]);

    // It goes, and the other has all that it left, under a higher token.
    let proxy = first.proxy().expect("a durable one");
    let stale = Token { proxy, seq: 5, fencing: token };
    drop(first);
    let rest = take(&mut second, 8).await;
    let next = rest[&3];
    assert!(next > token && rest.values().all(|t| *t == next), "{rest:?} after {token}");
    let third = client(&cluster, "three").await;
    let refused = third.settle_token(stale, Verdict::Ack).await.expect_err("it is stale");
    assert_eq!(refused.code, Code::Fenced, "{refused}");
    let (code, error) = cluster.failure(&["ack", "default", "w", &stale.to_string()]).await;
    assert_eq!((code, &error["code"]), (3, &json!("fenced")));
    let show = shown(&cluster).await;
    assert_eq!(
        (&show["acked"], &show["pending"]),
        (&json!(2), &json!(8)),
        "none counted: {show:#}"
    );
    assert_eq!(show["fencing_token"], next);

    // A token of the present holder counts, whoever names it.
    let good = Token { proxy, seq: 5, fencing: next };
    let settled = third.settle_token(good, Verdict::Ack).await.expect("it is the current one");
    assert_eq!(settled.settled, 1);
    let seqs: Vec<u64> = rest.keys().copied().collect();
    second.ack(&seqs).await.expect("room");
    second.flush().await.expect("confirmed");
    cluster.restart(killed).await;
    cluster.audit().await;
    let show = shown(&cluster).await;
    assert_eq!((&show["acked"], &show["pending"]), (&json!(10), &json!(0)));
}

#[tokio::test]
async fn no_token_has_two_holders_while_leaders_and_consumers_go() {
    let mut cluster = crate::support::cluster(3, &[]).await;
    cluster.lines(&["proxy", "create", "default", "w", "--qos", "exclusive_consumer=true"]).await;
    let sub = |max: &'static str| {
        cluster.spawn(&["sub", "default", "--name", "w", "--max", max, "--idle-exit", "20"])
    };
    // Two that end after some are there before the one that could take all, and before any event.
    let brief = [sub("500"), sub("1000")];
    let attached = |s: &serde_json::Value| {
        let channels = s["channels"].as_array().into_iter().flatten();
        let mut proxies = channels.flat_map(|c| c["proxies"].as_array().into_iter().flatten());
        proxies.any(|proxy| proxy["name"] == "w" && proxy["clients"] == 2)
    };
    cluster.until("two are attached", attached).await;
    let [first, second] = brief;
    let consumers = [first, second, sub("6000")];
    let publisher = cluster.publisher("default", "steady", 6_000);
    let killed = cluster.kill_leader().await;
    cluster.until("another leads", |s| s["leader"].as_u64().is_some_and(|l| l != killed)).await;
    let acks = crate::support::finish(publisher).await;
    let mut holders: BTreeMap<u64, usize> = BTreeMap::new();
    let mut all = Vec::new();
    for (number, consumer) in consumers.into_iter().enumerate() {
        let lines = crate::support::finish(consumer).await;
        let tokens: Vec<u64> =
            lines.iter().map(|line| line["fencing_token"].as_u64().expect("a token")).collect();
        assert!(tokens.is_sorted(), "tokens of one consumer rise");
        for token in tokens {
            assert_eq!(*holders.entry(token).or_insert(number), number, "two held {token}");
        }
        all.extend(lines);
    }
    assert!(holders.len() >= 2, "it changed hands: {holders:?}");
    crate::support::nothing_lost(&acks, &all);
    cluster.restart(killed).await;
    cluster.audit().await;
}
