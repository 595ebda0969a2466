//! Whole nodes in this process, on real sockets and disks.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::task::JoinHandle;

use super::*;
use crate::client::{AdminClient, AdminError, AdminOptions, Client, LaneChoice, Options};
use crate::env::{Publisher, watch};
use crate::types::{ClusterId, Code, Event, Name, NodeId};
use crate::wire::admin::Role;

mod quality;

/// A generous bound for anything that should take milliseconds.
const PATIENCE: Duration = Duration::from_secs(30);

/// A node that runs, and what it announced.
struct Running {
    stop: Publisher<bool>,
    ended: JoinHandle<Result<(), NodeError>>,
    announced: Arc<Mutex<Vec<Announcement>>>,
}

fn config(dir: &Path) -> Config {
    let any = || "127.0.0.1:0".to_string();
    Config {
        data_dir: dir.to_path_buf(),
        listen: any(),
        peer: any(),
        admin: any(),
        http: any(),
        free_space_floor: ByteSize(1),
        shutdown_grace_ms: 500,
        ..Config::default()
    }
}

fn founder(dir: &Path) -> Config {
    Config { bootstrap: true, ..config(dir) }
}

fn start(config: Config) -> Running {
    let (stop, stopping) = watch(false);
    let announced = Arc::new(Mutex::new(Vec::new()));
    let said = announced.clone();
    let ended = tokio::spawn(run_until(config, stopping, move |announcement| {
        said.lock().unwrap().push(announcement);
    }));
    Running { stop, ended, announced }
}

/// What a ready line says.
struct Ready {
    node: NodeId,
    cluster: ClusterId,
    client: String,
    peer: String,
    admin: String,
    http: String,
}

impl Running {
    /// Waits for the first announcement; what the node died of if it did.
    async fn announcement(&mut self) -> Result<Announcement, NodeError> {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            if let Some(first) = self.announced.lock().unwrap().first() {
                return Ok(first.clone());
            }
            if self.ended.is_finished() {
                let ended = (&mut self.ended).await.unwrap();
                return Err(ended.expect_err("it ended without a word"));
            }
            assert!(tokio::time::Instant::now() < deadline, "the node announces nothing");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn ready(&mut self) -> Ready {
        match self.announcement().await.unwrap() {
            Announcement::Ready {
                node_id,
                cluster_id,
                client_addr,
                peer_addr,
                admin_addr,
                http_addr,
                ..
            } => Ready {
                node: node_id,
                cluster: cluster_id,
                client: client_addr,
                peer: peer_addr,
                admin: admin_addr,
                http: http_addr,
            },
            other => panic!("not ready: {other:?}"),
        }
    }

    async fn stop(self) -> Result<(), NodeError> {
        self.stop.set(true);
        tokio::time::timeout(PATIENCE, self.ended).await.unwrap().unwrap()
    }
}

fn admin(addr: &str) -> AdminClient {
    AdminClient::new(AdminOptions::new([addr]))
}

async fn publish(addr: &str, text: &'static str) -> u64 {
    let client = Client::connect(Options::new([addr])).await.unwrap();
    let channel = Name::default_channel();
    let publisher = client.publisher(channel, LaneChoice::Fresh).await.unwrap();
    publisher.publish(&Event::of_body(text)).await.unwrap().seq
}

async fn get(addr: &str, path: &str) -> String {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = tokio::net::TcpStream::connect(addr).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_nodes_join_move_hand_over_and_leave() {
    let dir = tempfile::tempdir().unwrap();
    let dirs: Vec<_> = (1..=3).map(|n| dir.path().join(n.to_string())).collect();
    let mut first = start(founder(&dirs[0]));
    let one = first.ready().await;
    assert_eq!(one.node, NodeId(1));
    assert_eq!(publish(&one.client, "a").await, 1);

    let join = |dir: &Path, through: &str| Config { join: vec![through.into()], ..config(dir) };
    let mut second = start(join(&dirs[1], &one.peer));
    let two = second.ready().await;
    // Through a member that does not lead.
    let mut third = start(join(&dirs[2], &two.peer));
    let three = third.ready().await;
    assert_eq!((two.cluster, three.cluster), (one.cluster, one.cluster));
    assert!(one.node < two.node && two.node < three.node);

    // Any node is a front door, to events and to questions.
    assert_eq!(publish(&three.client, "b").await, 2);
    let status = admin(&three.admin).status(false).await.unwrap();
    assert_eq!((status.answered_by, status.linearizable), (one.node, true));
    let states: Vec<_> = status.value.nodes.iter().map(|n| (n.role, n.state.as_str())).collect();
    let (leader, follower) = ((Role::Leader, "healthy"), (Role::Follower, "healthy"));
    assert_eq!(states, [leader, follower, follower]);
    assert_eq!(status.value.channels[0].accepted, 2);
    let audit = admin(&two.client).audit().await.unwrap().value;
    assert!(audit.equal && audit.nodes.len() == 3, "{audit:?}");
    let stale = admin(&three.admin).status(true).await.unwrap();
    assert_eq!((stale.answered_by, stale.linearizable), (three.node, false));

    assert!(get(&two.http, "/readyz").await.starts_with("HTTP/1.1 200"));
    let metrics = get(&one.http, "/metrics").await;
    assert!(metrics.contains("aqueduct_accepted_total{channel=\"default\"} 2"), "{metrics}");

    // A node that comes back at other addresses is found there.
    second.stop().await.unwrap();
    let mut second = start(config(&dirs[1]));
    let moved = second.ready().await;
    assert_eq!(moved.node, two.node);
    assert_ne!(moved.peer, two.peer);
    let relocated = async {
        loop {
            let members = admin(&one.admin).cluster().await.unwrap().value.members;
            if members.iter().any(|m| m.id == two.node && m.peer_addr == moved.peer) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, relocated).await.unwrap();
    let audit = admin(&one.admin).audit().await.unwrap().value;
    assert!(audit.equal, "{audit:?}");

    // A leader that stops leaves a leader behind.
    first.stop().await.unwrap();
    assert_eq!(publish(&moved.client, "c").await, 3);
    let mut first = start(config(&dirs[0]));
    first.ready().await;

    // A node that leaves ends well, and is not let in again.
    let left = admin(&three.admin).leave().await.unwrap().value;
    assert_eq!(left.members.len(), 2);
    tokio::time::timeout(PATIENCE, third.ended).await.unwrap().unwrap().unwrap();
    let again = start(config(&dirs[2]));
    let refused = tokio::time::timeout(PATIENCE, again.ended).await.unwrap().unwrap();
    assert!(matches!(refused, Err(NodeError::Removed(node)) if node == three.node), "{refused:?}");
    assert_eq!(publish(&moved.client, "d").await, 4);

    // So does one that is removed, once it wonders where its leader is.
    let removed = admin(&moved.admin).remove(one.node).await.unwrap().value;
    assert_eq!(removed.members.len(), 1);
    let ended = tokio::time::timeout(PATIENCE, first.ended).await.unwrap().unwrap();
    assert!(matches!(ended, Err(NodeError::Removed(node)) if node == one.node), "{ended:?}");
    let last = admin(&moved.admin).remove(moved.node).await.unwrap_err();
    assert!(last.to_string().contains("a cluster needs one"), "{last}");
    assert_eq!(publish(&moved.client, "e").await, 5);
    second.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_directory_has_one_node_and_one_cluster() {
    let dir = tempfile::tempdir().unwrap();
    let home = dir.path().join("home");
    let nowhere = start(config(&dir.path().join("new"))).announcement().await.unwrap_err();
    assert!(nowhere.to_string().contains("--bootstrap"), "{nowhere}");

    let mut node = start(founder(&home));
    let before = node.ready().await;
    let second = start(founder(&home)).announcement().await.unwrap_err();
    assert!(second.to_string().contains("in use by another node"), "{second}");
    node.stop().await.unwrap();

    // Founding and joining are for empty directories; here both are no news.
    let settings = Config { join: vec!["127.0.0.1:1".into()], ..config(&home) };
    for settings in [founder(&home), settings] {
        let mut node = start(settings);
        let after = node.ready().await;
        assert_eq!((after.node, after.cluster), (before.node, before.cluster));
        node.stop().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_are_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let secret = |name: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, format!("the secret called {name}")).unwrap();
        Some(path)
    };
    let (cluster, client, other) = (secret("cluster"), secret("client"), secret("other"));
    let mut node = start(Config {
        cluster_token_file: cluster,
        client_token_file: client,
        ..founder(&dir.path().join("1"))
    });
    let ready = node.ready().await;

    let refused = admin(&ready.admin).status(false).await.unwrap_err();
    assert!(
        matches!(&refused, AdminError::Refused(r) if r.code == Code::Unauthorized),
        "{refused}"
    );
    let options = AdminOptions {
        token: "the secret called client".into(),
        ..AdminOptions::new([ready.client.as_str()])
    };
    let known = AdminClient::new(options);
    known.status(false).await.unwrap();
    // Clients may ask, but not bring nodes in.
    let refused = known.promote(NodeId(1)).await.unwrap_err();
    assert!(
        matches!(&refused, AdminError::Refused(r) if r.code == Code::Unauthorized),
        "{refused}"
    );

    for wrong in [None, other] {
        let joiner = Config {
            join: vec![ready.peer.clone()],
            cluster_token_file: wrong,
            ..config(&dir.path().join("2"))
        };
        let error = start(joiner).announcement().await.unwrap_err();
        assert!(matches!(error, NodeError::Join { .. }), "{error}");
        assert!(error.to_string().contains("token"), "{error}");
    }
    node.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_node_stays_up_to_say_so() {
    let dir = tempfile::tempdir().unwrap();
    let home = dir.path().join("home");
    let mut node = start(founder(&home));
    node.ready().await;
    node.stop().await.unwrap();
    for slot in ["vote.a", "vote.b"] {
        let path = home.join(slot);
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[20] ^= 1;
        std::fs::write(&path, bytes).unwrap();
    }

    let strict = Config { exit_if_quarantined: true, ..config(&home) };
    let error = start(strict).announcement().await.unwrap_err();
    assert!(matches!(error, NodeError::Quarantined(_)), "{error}");

    let mut node = start(config(&home));
    let Announcement::Quarantined { reason, admin_addr, http_addr, .. } =
        node.announcement().await.unwrap()
    else {
        panic!("it is damaged and does not say so");
    };
    assert!(reason.contains("vote"), "{reason}");
    let report = admin(&admin_addr).node_status().await.unwrap();
    assert_eq!((report.role, report.state), (Role::Down, format!("quarantined: {reason}")));
    let mut impatient = AdminOptions::new([admin_addr]);
    impatient.patience = Duration::from_millis(200);
    let refused = AdminClient::new(impatient).channels().await.unwrap_err();
    assert!(matches!(&refused, AdminError::Refused(r) if r.code == Code::Quarantined), "{refused}");
    assert!(get(&http_addr, "/livez").await.starts_with("HTTP/1.1 200"));
    let ready = get(&http_addr, "/readyz").await;
    assert!(ready.starts_with("HTTP/1.1 503") && ready.contains("quarantined"), "{ready}");
    node.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_node_is_let_go_and_joins_as_another() {
    let dir = tempfile::tempdir().unwrap();
    let mut first = start(founder(&dir.path().join("1")));
    let ready = first.ready().await;
    let mut second =
        start(Config { join: vec![ready.peer.clone()], ..config(&dir.path().join("2")) });
    second.ready().await;
    let home = dir.path().join("3");
    let mut third = start(Config { join: vec![ready.peer.clone()], ..config(&home) });
    assert_eq!(third.ready().await.node, NodeId(3));
    publish(&ready.client, "kept").await;
    // It finds the others by what it has noted of them.
    let noted = || std::fs::read_to_string(home.join("members")).unwrap_or_default();
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while !noted().contains(&ready.peer) {
        assert!(tokio::time::Instant::now() < deadline, "it notes nobody");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    third.stop().await.unwrap();
    for slot in ["vote.a", "vote.b"] {
        let path = home.join(slot);
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[20] ^= 1;
        std::fs::write(&path, bytes).unwrap();
    }

    // Even with a setting that founds clusters.
    let third = start(Config { rejoin: Rejoin::Auto, ..founder(&home) });
    let deadline = tokio::time::Instant::now() + PATIENCE;
    let told = loop {
        let told = third.announced.lock().unwrap().clone();
        match told.last() {
            Some(Announcement::Ready { .. }) => break told,
            _ => assert!(tokio::time::Instant::now() < deadline, "not whole again: {told:?}"),
        }
        assert!(!third.ended.is_finished(), "it ended after {told:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    let [
        Announcement::Quarantined { .. },
        Announcement::Cleared { node_id: NodeId(3), kept },
        Announcement::Ready { node_id: NodeId(4), cluster_id, .. },
    ] = &told[..]
    else {
        panic!("{told:?}");
    };
    assert_eq!(*cluster_id, ready.cluster);
    assert!(Path::new(kept).join("vote.a").exists(), "the old data is kept in {kept}");
    let members = admin(&ready.client).cluster().await.unwrap().value.members;
    let ids: Vec<u64> = members.iter().map(|member| member.id.0).collect();
    assert_eq!(ids, [1, 2, 4]);
    assert!(members.iter().all(|member| member.role != Role::Learner), "{members:?}");
    for node in [third, second, first] {
        node.stop().await.unwrap();
    }
}

/// Two members of which one is damaged have no majority to let it go: it must keep what it has.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_node_keeps_its_data_while_nobody_can_let_it_go() {
    let dir = tempfile::tempdir().unwrap();
    let mut first = start(founder(&dir.path().join("1")));
    let ready = first.ready().await;
    let home = dir.path().join("2");
    let joining = Config { join: vec![ready.peer.clone()], ..config(&home) };
    let mut second = start(joining.clone());
    second.ready().await;
    second.stop().await.unwrap();
    for slot in ["vote.a", "vote.b"] {
        std::fs::write(home.join(slot), "nothing").unwrap();
    }
    let mut second = start(Config { rejoin: Rejoin::Auto, ..joining });
    assert!(matches!(second.announcement().await.unwrap(), Announcement::Quarantined { .. }));
    // It is asked to let it go in the same words, and refuses, or does not get it committed.
    let mut asker = AdminOptions::new([ready.client.clone()]);
    asker.patience = Duration::from_secs(3);
    let refused = AdminClient::new(asker).remove(NodeId(2)).await;
    assert!(refused.is_err(), "{refused:?}");
    assert_eq!(second.announced.lock().unwrap().len(), 1);
    assert!(home.join("identity.a").exists() && !home.join("damaged").exists());
    second.stop().await.unwrap();
    first.stop().await.unwrap();
}

#[tokio::test]
async fn settings_that_cannot_work_are_refused_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let exposed = Config { listen: "0.0.0.0:0".into(), ..founder(&dir.path().join("1")) };
    let error = start(exposed).announcement().await.unwrap_err();
    assert!(error.to_string().contains("client_token_file"), "{error}");
}
