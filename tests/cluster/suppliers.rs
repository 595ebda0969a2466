//! The suppliers' side of a channel: admins that group lanes, what is inherited, and who is
//! suspended or ended with them.

use base64::prelude::*;
use serde_json::{Value, json};

use crate::support::{Cluster, cluster, finish};

impl Cluster {
    /// What `proxy ls` says of a lane, or of the default one.
    async fn lane(&self, name: Option<&str>) -> Value {
        let listed = self.lines(&["proxy", "ls", "default"]).await.remove(0);
        let lanes = listed["lanes"].as_array().expect("lanes");
        let found = lanes.iter().find(|lane| lane["name"] == json!(name));
        found.unwrap_or_else(|| panic!("no lane {name:?} in {listed:#}")).clone()
    }
}

#[tokio::test]
async fn suppliers_inherit_wait_while_suspended_and_end_with_their_admin() {
    let mut cluster = cluster(3, &[]).await;
    let words = ["proxy", "create", "default", "all", "--qos", "order_policy=priority"];
    cluster.lines(&words).await;
    let set = ["--supplier", "--qos", "priority=4,max_suppliers=1"];
    cluster.lines(&[&["admin", "create", "default", "sensors"][..], &set].concat()).await;
    let probe = ["--lane", "probe", "--admin", "sensors"];
    let say = |body: &'static str| [&["pub", "default", body][..], &probe].concat();
    cluster.lines(&say("one")).await;
    cluster.lines(&["pub", "default", "plain"]).await;
    let words = ["qos", "set", "default", "--lane", "probe", "priority=9"];
    cluster.lines(&words).await;
    let refused = cluster.run(&["pub", "default", "x", "--admin", "sensors"]).await;
    assert_eq!(refused.status.code(), Some(3), "max_suppliers of the admin");

    // Suspended, through a change of leader: the supplier waits, and is taken after it.
    cluster.lines(&["admin", "suspend", "default", "sensors", "--supplier"]).await;
    let output = cluster.run(&[&say("no")[..], &["--timeout", "1"]].concat()).await;
    assert_ne!(output.status.code(), Some(0));
    let waiting = cluster.spawn(&say("two"));
    let killed = cluster.kill_leader().await;
    cluster.until("another leads", |s| s["leader"].as_u64().is_some_and(|l| l != killed)).await;
    assert_eq!(cluster.lane(Some("probe")).await["state"], "suspended by admin");
    cluster.lines(&["admin", "resume", "default", "sensors", "--supplier"]).await;
    let acks = finish(waiting).await;
    assert_eq!(acks[0]["sequence"], 2, "what was refused was not consumed: {acks:?}");

    cluster.lines(&["qos", "set", "default", "supplier_scheduling_policy=weighted"]).await;
    cluster.lines(&["qos", "set", "default", "--lane", "probe", "scheduling_weight=7"]).await;
    cluster.lines(&say("three")).await;
    let shown = cluster.lines(&["scheduler", "show", "default"]).await.remove(0);
    let lane = &shown["suppliers"]["lanes"][0];
    assert_eq!((&shown["suppliers"]["policy"], &lane["weight"]), (&json!("weighted"), &json!(7)));
    assert!(lane["turns"].as_u64() >= Some(1) && lane["longest_wait_ms"].is_u64(), "{shown:#}");

    let lane = cluster.lane(Some("probe")).await;
    assert_eq!(
        (&lane["why"], &lane["last_sequence"]),
        (&json!("own: named, admin sensors, QoS"), &json!(3))
    );
    let shared = cluster.lane(None).await;
    assert_eq!(
        (&shared["why"], &shared["lanes"]),
        (&json!("shared: push, default QoS"), &json!(1))
    );
    let deliveries = cluster.drain("default", "all", "1").await;
    let order: Vec<_> = deliveries.iter().map(|d| d["seq"].as_u64().expect("a sequence")).collect();
    assert_eq!(order, [3, 4, 1, 2], "by priority: of the lane, of the admin, of nobody");

    cluster.restart(killed).await;
    cluster.lines(&["admin", "rm", "default", "sensors", "--supplier"]).await;
    let gone = cluster.run(&["qos", "get", "default", "--lane", "probe", "-o", "json"]).await;
    assert_eq!(document(&gone)["error"]["code"], "unknown_lane");
    cluster.audit().await;
}

/// The leader is killed while it polls, twice, and the supplier, too: nothing is lost, and nothing
/// comes twice, although the supplier starts again with the whole file.
#[tokio::test]
async fn a_polled_file_comes_once_whoever_dies() {
    const LINES: usize = 40_000;
    let mut cluster = cluster(3, &[]).await;
    cluster.consumer("default", "all").await;
    let set = ["--supplier", "--qos", "maximum_batch_size=20,poll_interval=5"];
    cluster.lines(&[&["admin", "create", "default", "meters"][..], &set].concat()).await;
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("readings");
    let lines: Vec<String> = (0..LINES).map(|i| format!("reading {i}")).collect();
    std::fs::write(&file, lines.join("\n")).expect("write the file");
    let file = file.to_str().expect("a path of text").to_string();
    let serve = ["serve", "default", "--file", &file, "--lane", "meter", "--admin", "meters"];
    let at = |share: usize| {
        move |s: &Value| s["channels"][0]["last_seq"].as_u64() >= Some((LINES * share / 10) as u64)
    };

    let first = cluster.spawn(&serve);
    cluster.until("some came", at(1)).await;
    let lane = cluster.lane(Some("meter")).await;
    assert_eq!((&lane["pulled"], &lane["connected"]), (&json!(true), &json!(true)));
    assert_eq!(lane["why"], "own: pull, named, admin meters");
    let killed = cluster.kill_leader().await;
    cluster.until("more came, by another leader", at(3)).await;
    cluster.restart(killed).await;
    // The supplier is killed.
    drop(first);
    let second = cluster.spawn(&serve);
    cluster.until("more came, by another supplier", at(5)).await;
    let killed = cluster.kill_leader().await;
    let acks = finish(second).await;
    cluster.restart(killed).await;
    let closing = acks.last().expect("a closing line");
    assert_eq!((&closing["refused"], &closing["unknown"]), (&json!(0), &json!(0)));

    let deliveries = cluster.drain("default", "all", "2").await;
    let mut bodies: Vec<(u64, String)> =
        deliveries.iter().map(|d| (d["seq"].as_u64().expect("a sequence"), body(d))).collect();
    bodies.sort();
    bodies.dedup();
    let bodies: Vec<String> = bodies.into_iter().map(|(_, body)| body).collect();
    assert_eq!(bodies, lines, "each line once, in order");
    cluster.audit().await;
}

fn body(delivery: &Value) -> String {
    let bytes = BASE64_STANDARD.decode(delivery["body_base64"].as_str().expect("a body"));
    String::from_utf8(bytes.expect("base64")).expect("text")
}

/// An event with an id is one event, from whomever and whenever it comes within the window, also
/// after a change of leader and a restart of all nodes.
#[tokio::test]
async fn a_repeated_id_is_no_new_event() {
    let mut cluster = cluster(3, &[]).await;
    cluster.consumer("default", "all").await;
    let cloud = r#"{"specversion":"1.0","type":"t","source":"/s","id":"7","data":1}"#;
    let plain = ["pub", "default", "hello", "--id", "7"];
    let structured = ["pub", "default", cloud, "--cloud-event"];
    let place = |lines: &[Value]| (lines[0]["seq"].clone(), lines[0]["duplicate"].clone());
    assert_eq!(place(&cluster.lines(&plain).await), (json!(1), json!(false)));
    assert_eq!(place(&cluster.lines(&structured).await), (json!(2), json!(false)));
    let killed = cluster.kill_leader().await;
    cluster.until("another leads", |s| s["leader"].as_u64().is_some_and(|l| l != killed)).await;
    assert_eq!(place(&cluster.lines(&plain).await), (json!(1), json!(true)));
    cluster.restart(killed).await;
    for id in 1..=3 {
        let node = cluster.local.node(id).expect("three nodes");
        node.terminate().await.expect("terminate");
        cluster.restart(id).await;
    }
    cluster.until("there is a leader", |s| s["leader"].is_u64()).await;
    assert_eq!(place(&cluster.lines(&structured).await), (json!(2), json!(true)));
    assert_eq!(place(&cluster.lines(&["pub", "default", "new"]).await), (json!(3), json!(false)));
    assert_eq!(cluster.drain("default", "all", "1").await.len(), 3);
    cluster.audit().await;
}

fn document(output: &std::process::Output) -> Value {
    serde_json::from_slice(&output.stdout).expect("JSON")
}
