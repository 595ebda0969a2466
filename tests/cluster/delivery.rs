//! What consumers see: fan-out, competing, redelivery, dead letters, tokens, lanes by name.

use crate::support::{both, cluster, seqs};

#[tokio::test]
async fn every_node_is_a_front_door() {
    let cluster = cluster(3, &[]).await;
    for (i, address) in cluster.local.servers().iter().enumerate() {
        let acks = cluster.lines(&["pub", "default", "hello", "--servers", address]).await;
        assert_eq!(acks[0]["seq"], i + 1, "{acks:?}");
    }
    for address in cluster.local.servers() {
        let events = cluster
            .lines(&["sub", "default", "--from", "all", "--max", "3", "--servers", &address])
            .await;
        assert_eq!(seqs(&events), (1..=3).collect());
        assert_eq!(events[0]["body_base64"], "aGVsbG8=");
    }
}

#[tokio::test]
async fn a_repeat_on_a_named_lane_is_published_once() {
    let cluster = cluster(3, &[]).await;
    let servers = cluster.local.servers();
    let publish = |server: &str| {
        let words = ["pub", "default", "order", "--lane", "orders", "--sequence", "1"];
        let mut all = words.to_vec();
        all.extend(["--servers", server]);
        all.into_iter().map(String::from).collect::<Vec<_>>()
    };
    for (i, server) in servers.iter().enumerate() {
        let words = publish(server);
        let lines = cluster.lines(&words.iter().map(String::as_str).collect::<Vec<_>>()).await;
        assert_eq!(lines[0]["seq"], 1, "{lines:?}");
        assert_eq!(lines[0]["duplicate"], i > 0, "{lines:?}");
    }
}

#[tokio::test]
async fn nacked_events_come_again_and_then_go_to_the_dead_letters() {
    let cluster = cluster(1, &[]).await;
    cluster.lines(&["pub", "default", "poison"]).await;
    let words = [
        "sub",
        "default",
        "--name",
        "c",
        "--from",
        "all",
        "--max-deliveries",
        "3",
        "--ack",
        "nack",
        "--idle-exit",
        "2",
    ];
    let deliveries = cluster.lines(&words).await;
    let counts: Vec<_> = deliveries.iter().filter_map(|d| d["delivery"].as_u64()).collect();
    assert_eq!(counts, [1, 2, 3], "{deliveries:?}");
    let dead = cluster.lines(&["sub", "default.dead", "--from", "all", "--max", "1"]).await;
    assert_eq!(dead[0]["body_base64"], "cG9pc29u");
    let status = cluster.status().await.expect("an answer");
    let channels = status["channels"].as_array().expect("channels");
    let default = channels.iter().find(|c| c["name"] == "default").expect("the default channel");
    assert_eq!(default["proxies"][0]["dead_lettered"], 1, "{default:#}");
    assert_eq!(default["proxies"][0]["pending"], 0);
}

#[tokio::test]
async fn an_unanswered_delivery_comes_again_when_its_lease_ends() {
    let cluster = cluster(1, &[]).await;
    cluster.lines(&["pub", "default", "slow"]).await;
    let words = [
        "sub",
        "default",
        "--name",
        "c",
        "--from",
        "all",
        "--ack-wait",
        "0.5",
        "--ack",
        "none",
        "--max",
        "3",
    ];
    let deliveries = cluster.lines(&words).await;
    let counts: Vec<_> = deliveries.iter().filter_map(|d| d["delivery"].as_u64()).collect();
    assert_eq!(counts, [1, 2, 3]);
}

#[tokio::test]
async fn pulled_events_are_settled_by_token() {
    let cluster = cluster(3, &[]).await;
    cluster.lines(&["pub", "default", "--count", "3", "--size", "10"]).await;
    let pull = ["pull", "default", "--name", "p", "--batch", "3", "--wait", "5", "--ack", "manual"];
    let events = cluster.lines(&pull).await;
    assert_eq!(seqs(&events), (1..=3).collect());
    for (i, event) in events.iter().enumerate() {
        let token = event["token"].as_str().expect("a token");
        let word = if i == 2 { "nack" } else { "ack" };
        let output = cluster.run(&[word, "default", "p", token]).await;
        assert!(output.status.success(), "{}", both(&output));
    }
    let again = cluster.lines(&pull).await;
    assert_eq!(seqs(&again), [3].into(), "only the nacked one comes again: {again:?}");
    assert_eq!(again[0]["delivery"], 2);
}

#[tokio::test]
async fn clients_of_one_name_compete_and_plain_ones_fan_out() {
    let cluster = cluster(3, &[]).await;
    let named = ["sub", "default", "--name", "team", "--idle-exit", "4"];
    let plain = ["sub", "default", "--idle-exit", "4"];
    let team = [cluster.spawn(&named), cluster.spawn(&named)];
    let all = [cluster.spawn(&plain), cluster.spawn(&plain)];
    cluster
        .until("two clients share the consumer", |s| s["channels"][0]["proxies"][0]["clients"] == 2)
        .await;
    cluster.lines(&["pub", "default", "--count", "2000", "--size", "20"]).await;
    let mut shared = Vec::new();
    for child in team {
        shared.push(crate::support::finish(child).await);
    }
    assert_eq!(shared[0].len() + shared[1].len(), 2000, "each event reaches one of them");
    assert!(shared.iter().all(|events| !events.is_empty()), "both take part");
    for child in all {
        let events = crate::support::finish(child).await;
        assert_eq!(seqs(&events).len(), 2000, "a plain sub sees every event");
    }
}

#[tokio::test]
async fn a_full_channel_refuses_and_goes_on_when_there_is_room() {
    let cluster = cluster(1, &[]).await;
    cluster.lines(&["channel", "create", "small", "--max-bytes", "20000"]).await;
    cluster.lines(&["pull", "small", "--name", "c", "--wait", "0"]).await;
    let refused = cluster
        .run(&[
            "pub",
            "small",
            "--count",
            "100",
            "--size",
            "1000",
            "--timeout",
            "1",
            "--output",
            "jsonl",
        ])
        .await;
    assert_eq!(refused.status.code(), Some(3), "{}", both(&refused));
    assert!(both(&refused).contains("channel_full"), "{}", both(&refused));
    let events = cluster.drain("small", "c", "2").await;
    assert!((1..100).contains(&events.len()), "{} events were accepted", events.len());
    cluster.lines(&["pub", "small", "--count", "5", "--size", "1000"]).await;
}

#[tokio::test]
async fn structured_events_and_cloud_events_come_back_as_they_went() {
    let cluster = cluster(1, &[]).await;
    let order = r#"{"specversion":"1.0","id":"7","source":"/shop","type":"order","customer":"eve",
        "datacontenttype":"application/json","data":{"total":3,"items":[1,2]}}"#;
    cluster.lines(&["pub", "default", "--cloud-event", order]).await;
    let words = ["--domain", "shop", "--type", "refund", "--event-name", "r1"];
    let more = ["--header", "trace=\"12\"", "--field", "total=3", "--field", "fast=true"];
    cluster.lines(&[&["pub", "default", "back"], &words[..], &more[..]].concat()).await;

    let all = ["sub", "default", "--from", "all", "--max", "2"];
    let events = cluster.lines(&all).await;
    assert_eq!(
        (&events[0]["type"], &events[0]["fields"]["customer"]),
        (&"order".into(), &"eve".into())
    );
    let refund = &events[1];
    assert_eq!((&refund["domain"], &refund["name"]), (&"shop".into(), &"r1".into()));
    assert_eq!(refund["header"], serde_json::json!({"trace": "12"}));
    assert_eq!(refund["fields"], serde_json::json!({"total": 3, "fast": true}));

    let clouds = cluster.lines(&[&all[..], &["--cloud-events"]].concat()).await;
    assert_eq!(clouds[0], serde_json::from_str::<serde_json::Value>(order).expect("JSON"));
    assert_eq!(
        (&clouds[1]["id"], &clouds[1]["source"]),
        (&"2".into(), &"/channels/default".into())
    );
    assert_eq!((&clouds[1]["type"], &clouds[1]["total"]), (&"refund".into(), &3.into()));

    for (words, says) in [
        (vec!["pub", "default", "--cloud-event", r#"{"id":"7"}"#], "specversion"),
        (vec!["pub", "default", "--cloud-event", "--type", "t", "{}"], "--type"),
        (vec!["pub", "default", "x", "--field", "nothing"], "NAME=VALUE"),
        (vec!["pull", "default", "--ack", "manual", "--cloud-events"], "tokens"),
    ] {
        let output = cluster.run(&words).await;
        assert_eq!(output.status.code(), Some(64), "{words:?}: {}", both(&output));
        assert!(both(&output).contains(says), "{words:?}: {}", both(&output));
    }
}

#[tokio::test]
async fn a_consumer_that_says_goodbye_has_failed_nothing() {
    let cluster = cluster(1, &[]).await;
    let words = ["proxy", "create", "default", "once", "--max-deliveries", "1"];
    cluster.lines(&words).await;
    let published = ["pub", "default", "--count", "3", "--size", "8"];
    cluster.lines(&published).await;
    let first = cluster.lines(&["sub", "default", "--name", "once", "--max", "1"]).await;
    assert_eq!(first.len(), 1);
    let idle = ["sub", "default", "--name", "once", "--ack", "none", "--idle-exit", "0.5"];
    assert_eq!(cluster.lines(&idle).await.len(), 2, "shown, not settled");
    let rest = cluster.lines(&["sub", "default", "--name", "once", "--idle-exit", "0.5"]).await;
    assert_eq!(rest.len(), 2, "and given back");
    let status = cluster.until("it is settled", |s| {
        s["channels"].as_array().is_some_and(|all| {
            all.iter().any(|c| c["name"] == "default" && c["proxies"][0]["acked"] == 3)
        })
    });
    status.await;
}
