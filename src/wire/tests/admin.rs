//! The admin service: the JSON that scripts rely on, and questions over a stream.

use futures::StreamExt;
use serde_json::Value;
use tarpc::context;
use tarpc::server::{BaseChannel, Channel, serve};
use tokio::io::duplex;

use crate::types::{ChannelId, ClusterId, Code, Name, NodeId, ProxyId, Rejection, Tenure};
use crate::wire::admin::*;

fn answer<T>(value: T) -> Answer<T> {
    Answer {
        answered_by: NodeId(2),
        role: Role::Follower,
        tenure: Tenure(17),
        applied: u64::MAX,
        linearizable: false,
        stale_ms: 12,
        value,
    }
}

fn node() -> NodeReport {
    NodeReport {
        id: NodeId(1),
        addr: "127.0.0.1:7001".into(),
        role: Role::Leader,
        state: "healthy".into(),
        term: 7,
        leader: Some(NodeId(1)),
        tenure: Some(Tenure(17)),
        applied: 1,
        committed: 2,
        snapshot_index: 3,
        log_bytes: 4,
        store_bytes: 5,
        rss_bytes: 6,
        free_bytes: 7,
        release: "0.1.0".into(),
        protocol: 2,
        snapshots: SnapshotReport {
            sent: 1,
            sent_bytes: 2,
            received: 3,
            received_bytes: 4,
            receiving: Some(42),
        },
    }
}

fn channel() -> ChannelReport {
    let proxy = ProxyReport {
        id: ProxyId(5),
        name: Name::new("billing").unwrap(),
        offered: 10,
        acked: 6,
        filtered: 0,
        expired: 0,
        discarded: 0,
        dead_lettered: 1,
        skipped: 0,
        pending: 3,
        in_flight: 2,
        clients: 1,
        ack_wait_ms: 30_000,
        max_deliveries: 0,
        max_in_flight: 32_768,
        inactivity_expiry_ms: 0,
        last_active_us: 7,
        exclusive: true,
        holder: Some("00000000000000ab.1".into()),
        fencing_token: Some(17),
        standby: Vec::new(),
        admin: Name::default_admin(),
        qos: Default::default(),
        suspended: false,
        types: Default::default(),
        turns: 4,
        waiting_ms: 0,
        longest_wait_ms: 3,
    };
    ChannelReport {
        id: ChannelId(4),
        name: Name::default_channel(),
        accepted: 10,
        retained: 10,
        retained_bytes: 1000,
        pending_bytes: 300,
        no_interest: 0,
        expired_proxies: 1,
        last_seq: 10,
        first_retained: 1,
        max_queue_bytes: 1 << 32,
        history_events: 10_000,
        history_bytes: 1 << 24,
        history_age_ms: 0,
        qos: Default::default(),
        admins: Vec::new(),
        subscribers: 0,
        dead_letters: None,
        proxies: vec![proxy],
        best_effort: false,
        suppliers: Default::default(),
    }
}

fn status() -> Answer<ClusterStatus> {
    answer(ClusterStatus {
        cluster_id: ClusterId(0xab),
        leader: Some(NodeId(1)),
        term: 3,
        nodes: vec![node()],
        channels: vec![channel()],
    })
}

fn audit() -> Answer<Audit> {
    let node = |id, hash: Option<&str>| NodeAudit {
        id: NodeId(id),
        hash: hash.map(str::to_string),
        ledger_ok: true,
    };
    let nodes = vec![node(1, Some("00000000000000ff")), node(2, None)];
    answer(Audit { index: 40, equal: false, nodes })
}

fn members() -> Answer<Members> {
    let member = MemberEntry {
        id: NodeId(1),
        addr: "127.0.0.1:7001".into(),
        peer_addr: "127.0.0.1:7101".into(),
        admin_addr: "127.0.0.1:7201".into(),
        role: Role::Leader,
        matched: None,
    };
    answer(Members { members: vec![member] })
}

fn json(value: impl serde::Serialize) -> Value {
    serde_json::to_value(value).unwrap()
}

/// Every key is there; others may be.
fn has_keys(value: &Value, path: &str, keys: &str) {
    let object = value.pointer(path).unwrap_or_else(|| panic!("{path} is missing"));
    for key in keys.split(", ") {
        assert!(object.get(key).is_some(), "{path} lacks {key}");
    }
}

#[test]
fn json_keeps_the_contract_with_scripts() {
    let status = json(status());
    let top =
        "answered_by, linearizable, stale_ms, cluster_id, leader, term, tenure, nodes, channels";
    has_keys(&status, "", top);
    let node = "id, addr, role, state, applied, committed, snapshot_index, log_bytes, store_bytes, \
                rss_bytes";
    has_keys(&status, "/nodes/0", node);
    has_keys(&status, "/channels/0", "name, accepted, retained, no_interest, last_seq, proxies");
    let proxy = "name, offered, acked, filtered, expired, discarded, dead_lettered, skipped, \
                 pending, in_flight";
    has_keys(&status, "/channels/0/proxies/0", proxy);
    assert_eq!(status["cluster_id"], "00000000000000ab");
    assert_eq!(status["nodes"][0]["role"], "leader");
    assert_eq!(status["applied"], u64::MAX);

    let audit = json(audit());
    has_keys(&audit, "", "index, equal, nodes, answered_by");
    has_keys(&audit, "/nodes/0", "id, hash, ledger_ok");
    has_keys(&json(members()), "/members/0", "id, addr, role");
}

#[test]
fn answers_come_back_from_json() {
    let status = status();
    assert_eq!(serde_json::from_value::<Answer<ClusterStatus>>(json(&status)).unwrap(), status);
    let audit = audit();
    assert_eq!(serde_json::from_value::<Answer<Audit>>(json(&audit)).unwrap(), audit);
}

#[test]
fn what_older_nodes_say_of_channels_is_understood() {
    let mut older = json(channel());
    for key in ["qos", "admins", "subscribers", "dead_letters"] {
        older.as_object_mut().unwrap().remove(key);
    }
    for key in ["admin", "qos", "suspended"] {
        older["proxies"][0].as_object_mut().unwrap().remove(key);
    }
    assert_eq!(serde_json::from_value::<ChannelReport>(older).unwrap(), channel());
}

#[test]
fn quality_is_told_in_names_and_words() {
    use crate::types::{Level, Property, Qos};
    let mut qos = Qos::default();
    qos.set(Property::OrderPolicy, Some(2));
    let line = PropertyReport {
        property: Property::OrderPolicy,
        own: Some(PropertyValue::new(Property::OrderPolicy, 2)),
        inherited: PropertyValue::new(Property::OrderPolicy, 0),
        inherited_from: Origin::Default,
        default: PropertyValue::new(Property::OrderPolicy, 0),
        effective: PropertyValue::new(Property::OrderPolicy, 2),
        effective_from: Origin::Admin,
        allowed: Property::OrderPolicy.spec().domain.to_string(),
        unit: String::new(),
        meaning: String::new(),
    };
    let report = QosReport {
        channel: Name::default_channel(),
        level: Level::Admin,
        admin: Some(Name::new("fast").unwrap()),
        proxy: None,
        lane: None,
        qos,
        properties: vec![line],
    };
    let set = answer(QosSet { report, cut: Cut { index: 9, next_seq: 4 } });
    let told = json(&set);
    has_keys(&told, "", "channel, level, admin, proxy, qos, properties, cut, applied");
    let line = "property, own, inherited, inherited_from, default, effective, effective_from, \
                allowed, unit";
    has_keys(&told, "/properties/0", line);
    assert_eq!(told["properties"][0]["own"], "priority");
    assert_eq!(told["qos"], serde_json::json!({"order_policy": "priority"}));
    assert_eq!(told["properties"][0]["effective_from"], "admin");
    assert_eq!(serde_json::from_value::<Answer<QosSet>>(told).unwrap(), set);
}

#[tokio::test]
async fn questions_travel_over_a_stream() {
    let (near, far) = duplex(4096);
    let server = BaseChannel::with_defaults(server_transport(far)).execute(serve(
        async |_, request: AdminServiceRequest| {
            Ok(match request {
                AdminServiceRequest::Status { stale: true } => {
                    AdminServiceResponse::Status(Ok(status()))
                }
                _ => AdminServiceResponse::Audit(Err(Rejection::new(Code::NoLeader, "none"))),
            })
        },
    ));
    let server = tokio::spawn(server.for_each_concurrent(None, |answering| answering));
    let client = AdminServiceClient::new(Default::default(), client_transport(near)).spawn();
    assert_eq!(client.status(context::current(), true).await.unwrap(), Ok(status()));
    let refused = client.audit(context::current()).await.unwrap().unwrap_err();
    assert_eq!(refused.code, Code::NoLeader);
    drop(client);
    tokio::time::timeout(std::time::Duration::from_secs(10), server).await.unwrap().unwrap();
}
