//! The suppliers' side of a channel: admins that group lanes, what is inherited, and who is
//! suspended or ended with them.

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

    let lane = cluster.lane(Some("probe")).await;
    assert_eq!(
        (&lane["why"], &lane["last_sequence"]),
        (&json!("own: named, admin sensors, QoS"), &json!(2))
    );
    let shared = cluster.lane(None).await;
    assert_eq!(
        (&shared["why"], &shared["lanes"]),
        (&json!("shared: push, default QoS"), &json!(1))
    );
    let deliveries = cluster.drain("default", "all", "1").await;
    let order: Vec<_> = deliveries.iter().map(|d| d["seq"].as_u64().expect("a sequence")).collect();
    assert_eq!(order, [3, 1, 2], "by priority: of the lane, of the admin, of nobody");

    cluster.restart(killed).await;
    cluster.lines(&["admin", "rm", "default", "sensors", "--supplier"]).await;
    let gone = cluster.run(&["qos", "get", "default", "--lane", "probe", "-o", "json"]).await;
    assert_eq!(document(&gone)["error"]["code"], "unknown_lane");
    cluster.audit().await;
}

fn document(output: &std::process::Output) -> Value {
    serde_json::from_slice(&output.stdout).expect("JSON")
}
