//! Quality of service as people and scripts meet it: set on a level, inherited below, refused with
//! what would be allowed, and kept when the leader dies. What it does to deliveries is tested elsewhere.

use serde_json::{Value, json};

use crate::support::{Cluster, both, cluster};

impl Cluster {
    /// The JSON of a command that must succeed.
    async fn one(&self, words: &[&str]) -> Value {
        self.lines(words).await.remove(0)
    }

    /// The JSON of an error and the exit code of a command that must fail.
    pub async fn failure(&self, words: &[&str]) -> (i32, Value) {
        let output = self.run(&[words, &["--output", "json"]].concat()).await;
        let code = output.status.code().expect("no signal");
        let text = String::from_utf8_lossy(&output.stdout);
        let error = serde_json::from_str::<Value>(&text);
        (code, error.unwrap_or_else(|_| panic!("{words:?}: {}", both(&output)))["error"].clone())
    }
}

/// What `qos get` says of a property: what holds, from where, and what is set here.
fn of<'a>(report: &'a Value, property: &str) -> (&'a Value, &'a str, &'a Value) {
    let lines = report["properties"].as_array().expect("properties");
    let line = lines.iter().find(|line| line["property"] == property).expect("the property");
    (&line["effective"], line["effective_from"].as_str().expect("a level"), &line["own"])
}

#[tokio::test]
async fn quality_is_inherited_and_survives_the_leader() {
    let mut cluster = cluster(3, &[]).await;
    let limits = "max_queue_length=5000,timeout=60000";
    cluster.one(&["channel", "create", "orders", "--qos", limits]).await;
    let made = ["admin", "create", "orders", "fast", "--qos", "order_policy=priority"];
    assert_eq!(cluster.one(&made).await["qos"], json!({"order_policy": "priority"}));
    let words = ["proxy", "create", "orders", "billing", "--admin", "fast", "--qos"];
    let billing = cluster.one(&[&words[..], &["pacing_interval=5"]].concat()).await;
    assert_eq!((&billing["created"], &billing["admin"]), (&json!(true), &json!("fast")));
    cluster.one(&["proxy", "create", "orders", "audit", "--max-in-flight", "10"]).await;

    let get = ["qos", "get", "orders", "--proxy", "billing"];
    let report = cluster.one(&get).await;
    assert_eq!(of(&report, "order_policy"), (&json!("priority"), "admin", &Value::Null));
    assert_eq!(of(&report, "timeout"), (&json!(60000), "channel", &Value::Null));
    assert_eq!(of(&report, "pacing_interval"), (&json!(5), "proxy", &json!(5)));
    assert_eq!(of(&report, "maximum_batch_size").1, "default");
    let audit = cluster.one(&["qos", "get", "orders", "--proxy", "audit"]).await;
    assert_eq!(of(&audit, "order_policy"), (&json!("any"), "default", &Value::Null));

    let killed = cluster.kill_leader().await;
    cluster.until("another leads", |s| s["leader"].as_u64().is_some_and(|l| l != killed)).await;
    let after = cluster.one(&get).await;
    assert_eq!(after["properties"], report["properties"]);
    let words = ["qos", "set", "orders", "--admin", "fast", "order_policy=inherit", "timeout=100"];
    let set = cluster.one(&words).await;
    assert_eq!(set["cut"]["next_seq"], 1);
    assert!(set["cut"]["index"].as_u64() <= set["applied"].as_u64(), "{set:#}");
    cluster.one(&["admin", "suspend", "orders", "fast"]).await;
    cluster.restart(killed).await;
    cluster.audit().await;
    let report = cluster.one(&get).await;
    assert_eq!(of(&report, "order_policy").1, "default");
    assert_eq!(of(&report, "timeout"), (&json!(100), "admin", &Value::Null));

    let listed = cluster.one(&["proxy", "ls", "orders"]).await;
    let states: Vec<_> = listed["proxies"]
        .as_array()
        .expect("proxies")
        .iter()
        .map(|p| (&p["name"], &p["state"]))
        .collect();
    let (audit, billing) = (json!("audit"), json!("billing"));
    let (active, suspended) = (json!("active"), json!("suspended by admin"));
    assert_eq!(states[..2], [(&audit, &active), (&billing, &suspended)]);
    assert_eq!(listed["proxies"][2]["durable"], false, "plain subscribers share one: {listed:#}");
    cluster.one(&["admin", "rm", "orders", "fast"]).await;
    let listed = cluster.one(&["proxy", "ls", "orders"]).await;
    assert_eq!(listed["proxies"].as_array().map(Vec::len), Some(2));
}

#[tokio::test]
async fn what_cannot_be_is_told_before_it_is_asked_and_refused_after() {
    let cluster = cluster(1, &[]).await;
    cluster.one(&["proxy", "create", "default", "p"]).await;

    // Known without a cluster: there is none at this address.
    let nobody = ["--servers", "127.0.0.1:1"];
    for (words, says) in [
        (vec!["qos", "set", "default", "order_policy=random"], "any, fifo, priority, deadline"),
        (vec!["qos", "set", "default", "start_time=1"], "unavailable_property"),
        (vec!["proxy", "create", "default", "q", "--qos", "max_queue_length=1"], "a channel"),
        (vec!["admin", "create", "default", "q", "--qos", "colour=red"], "bad_property"),
        (vec!["channel", "create", "c", "--qos", "priority=40000"], "-32767 to 32767"),
        (vec!["sub", "default", "--name", "q", "--qos", "max_suppliers=1"], "unavailable_property"),
        (vec!["sub", "default", "--qos", "timeout=1"], "--name"),
        (vec!["pull", "default", "--qos", "timeout=inherit"], "leave timeout out"),
        (vec!["pub", "default", "x", "--priority", "40000"], "-32767 to 32767"),
        (vec!["pub", "default", "x", "--event-timeout", "soon"], "timeout cannot be 'soon'"),
        (vec!["pub", "default", "x", "--start-time", "noon"], "start_time"),
        (vec!["pub", "default", "x", "--start-time", "+9s", "--stop-time", "+1s"], "stop_time"),
        (vec!["sub", "default", "--from", "time:noon"], "milliseconds since 1970"),
    ] {
        let output = crate::support::command(nobody[1], &words).output().await.expect("it runs");
        assert_eq!(output.status.code(), Some(64), "{words:?}: {}", both(&output));
        assert!(both(&output).contains(says), "{words:?}: {}", both(&output));
    }
    let all = cluster.run(&[&["qos", "properties"][..], &nobody].concat()).await;
    assert!(all.status.success() && both(&all).contains("max_events_per_consumer"));

    for (words, says) in [
        (vec!["qos", "get", "default", "--admin", "nobody"], "unknown_admin"),
        (vec!["qos", "set", "default", "--proxy", "nobody", "timeout=1"], "unknown_proxy"),
        (vec!["qos", "validate", "nowhere"], "unknown_channel"),
        (vec!["proxy", "create", "default", "q", "--admin", "nobody"], "unknown_admin"),
        (vec!["proxy", "create", "default", "p", "--qos", "timeout=1"], "proxy_exists"),
        (vec!["sub", "default", "--name", "q", "--admin", "nobody"], "unknown_admin"),
        (vec!["admin", "create", "default", "default"], "admin_exists"),
        (vec!["admin", "rm", "default", "default"], "not_allowed"),
        (vec!["proxy", "suspend", "default", "nobody"], "unknown_proxy"),
    ] {
        let (code, error) = cluster.failure(&words).await;
        assert_eq!((code, &error["code"]), (3, &json!(says)), "{words:?}: {error:#}");
    }

    let words = ["qos", "validate", "default", "--proxy", "p", "timeout=9", "max_queue_length=1"];
    let output = cluster.run(&[&words[..], &["-o", "jsonl"]].concat()).await;
    assert_eq!(output.status.code(), Some(1), "{}", both(&output));
    let verdict = crate::support::json_lines(&output).remove(0);
    assert_eq!(verdict["errors"].as_array().map(Vec::len), Some(1), "{verdict:#}");
    assert_eq!(verdict["errors"][0]["code"], "unavailable_property");
    assert_eq!(verdict["errors"][0]["allowed"], "on channel");
    assert!(cluster.run(&words[..6]).await.status.success());
    let report = cluster.one(&["qos", "get", "default", "--proxy", "p"]).await;
    assert_eq!(report["qos"], json!({}), "validating changes nothing");
}

#[tokio::test]
async fn what_events_ask_for_comes_with_them() {
    let cluster = cluster(1, &[]).await;
    cluster.lines(&["pub", "default", "early"]).await;
    let words = ["pub", "default", "late", "--priority", "-7", "--event-timeout", "2h"];
    let times =
        ["--start-time", "2020-01-31T12:00:00Z", "--stop-time", "2127-01-31T13:30:00+01:30"];
    cluster.lines(&[&words[..], &times].concat()).await;
    let all = cluster.lines(&["sub", "default", "--from", "all", "--max", "2"]).await;
    for key in ["priority", "timeout_ms", "start_ms", "stop_ms"] {
        assert!(all[0].get(key).is_none(), "{key} was not set: {:#}", all[0]);
    }
    assert_eq!((&all[1]["priority"], &all[1]["timeout_ms"]), (&json!(-7), &json!(7_200_000)));
    assert_eq!(all[1]["start_ms"], 1_580_472_000_000u64);
    assert_eq!(all[1]["stop_ms"], 4_957_070_400_000u64);
    let accepted = all[1]["accepted"].as_str().expect("a time");
    assert!(accepted.ends_with('Z') && accepted.len() == "2026-01-31T12:00:00.000000Z".len());

    let since = format!("time:{accepted}");
    let words = ["sub", "default", "--name", "late", "--from", &since, "--max", "1"];
    // To the millisecond: the first may be as late.
    let first = &cluster.lines(&words).await[0]["seq"];
    assert!(*first == 1 || *first == 2, "{first}");
    let past = ["proxy", "create", "default", "none", "--from", "time:+1h"];
    assert_eq!(cluster.one(&past).await["start_seq"], 3);
}

#[tokio::test]
async fn limits_of_delivery_and_history_change_while_they_are_used() {
    let cluster = cluster(1, &[]).await;
    let words = ["channel", "create", "jobs", "--history-events", "100", "--max-bytes", "1MiB"];
    let made = cluster.one(&words).await;
    assert_eq!((&made["max_queue_bytes"], &made["history_events"]), (&json!(1 << 20), &json!(100)));
    assert_eq!(made["qos"], json!({"max_queue_bytes": 1 << 20, "history_events": 100}));
    let words = ["proxy", "create", "jobs", "w", "--max-in-flight", "2", "--max-deliveries", "3"];
    let made = cluster.one(&words).await;
    assert_eq!((&made["max_in_flight"], &made["max_deliveries"]), (&json!(2), &json!(3)));
    cluster.lines(&["pub", "jobs", "--count", "10"]).await;

    // Fewer in flight stop new leases at once, more let them go.
    let pull = ["pull", "jobs", "--name", "w", "--batch", "9", "--ack", "manual", "--wait", "0.5"];
    assert_eq!(cluster.lines(&pull).await.len(), 2);
    let set = |value: &'static str| ["qos", "set", "jobs", "--proxy", "w", value];
    cluster.one(&set("max_in_flight=1")).await;
    assert_eq!(cluster.lines(&pull).await.len(), 0);
    cluster.one(&set("max_in_flight=5")).await;
    // An ack wait holds for leases from then on.
    cluster.one(&set("ack_wait=300")).await;
    let third = cluster.lines(&pull).await;
    assert_eq!(crate::support::seqs(&third), [3, 4, 5].into());
    let words = ["pull", "jobs", "--name", "w", "--batch", "9", "--ack", "manual", "--wait", "20"];
    let again = cluster.lines(&words).await;
    assert_eq!((&again[0]["seq"], &again[0]["delivery"]), (&json!(3), &json!(2)));

    // Attaching compares what is asked for, and nothing else.
    let other = ["sub", "jobs", "--name", "w", "--max-deliveries", "4"];
    assert_eq!(cluster.failure(&other).await.1["code"], "proxy_exists");
    let same = ["sub", "jobs", "--name", "w", "--max-deliveries", "3", "--idle-exit", "30"];
    cluster.one(&set("ack_wait=60000")).await;
    let all = cluster.lines(&[&same[..], &["--max", "10"]].concat()).await;
    assert_eq!(crate::support::seqs(&all), (1..=10).collect());

    // A lower history is trimmed at once; one that ages, where nobody publishes, by the leader.
    let status = cluster.until("all are acked", |s| pending(s) == Some(0)).await;
    assert_eq!(retained(&status), Some(10));
    cluster.one(&["qos", "set", "jobs", "history_events=4"]).await;
    let status = cluster.status().await.expect("a status");
    assert_eq!(retained(&status), Some(4));
    cluster.one(&["qos", "set", "jobs", "history_age=1000"]).await;
    cluster.until("the history is too old", |s| retained(s) == Some(0)).await;
    cluster.audit().await;
}

fn jobs(status: &Value) -> Option<&Value> {
    status["channels"].as_array()?.iter().find(|channel| channel["name"] == "jobs")
}

fn retained(status: &Value) -> Option<u64> {
    jobs(status)?["retained"].as_u64()
}

fn pending(status: &Value) -> Option<u64> {
    jobs(status)?["proxies"][0]["pending"].as_u64()
}
