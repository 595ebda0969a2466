//! Faults do to real nodes what they say, and the nodes make of it what the faults expect.

use std::path::Path;
use std::sync::Mutex;
use std::time::Duration;

use aqueduct::client::{Client, LaneChoice, Options, SubscribeOptions};
use aqueduct::types::{Event, Name};
use aqueduct_chaos::bed::{self, Bed, BedOptions, DiskKind, NetworkKind, Shape, State};
use aqueduct_chaos::faults::damage::{Copies, Expect, Part};
use aqueduct_chaos::faults::membership::{Change, Membership};
use aqueduct_chaos::faults::partition::{Cut, Partition};
use aqueduct_chaos::faults::rollback::{Old, Rollback};
use aqueduct_chaos::faults::whom::Whom;
use aqueduct_chaos::faults::{
    Fault, Scene, clock::Clock, disk_full::DiskFull, failing_sync::FailingSync, flip, flip::Flip,
    flood::Flood, frames::Frames, kill::Kill, link::Link, pause::Pause, power_cut::PowerCut,
    rolling_restart::RollingRestart, slow_disk::SlowDisk, truncate,
};
use aqueduct_chaos::history::{Recorder, Stage, What};

/// What a history would have.
#[derive(Default)]
struct Seen(Mutex<Vec<What>>);

impl Recorder for Seen {
    fn record(&self, _: &str, what: What) {
        self.0.lock().unwrap().push(what);
    }
}

impl Seen {
    /// Names of faults that began or ended.
    fn stages(&self, wanted: Stage) -> Vec<String> {
        let seen = self.0.lock().unwrap();
        let names = seen.iter().filter_map(|what| match what {
            What::Fault { fault, stage, .. } if *stage == wanted => Some(fault.clone()),
            _ => None,
        });
        names.collect()
    }

    /// What the last fault that ended says of itself.
    fn last_end(&self) -> String {
        let seen = self.0.lock().unwrap();
        let end = seen.iter().rev().find_map(|what| match what {
            What::Fault { stage: Stage::End, detail, .. } => Some(detail.clone()),
            _ => None,
        });
        end.expect("a fault has ended")
    }

    fn count(&self, wanted: impl Fn(&What) -> bool) -> usize {
        self.0.lock().unwrap().iter().filter(|what| wanted(what)).count()
    }
}

fn options(nodes: usize, dir: &Path) -> BedOptions {
    let mut options = BedOptions::new(nodes, dir, bed::binary::find_or_build().unwrap());
    (options.network, options.disks) = (NetworkKind::Proxies, DiskKind::Plain);
    options.node_config = "snapshot_log_bytes = \"1MiB\"\n".into();
    options
}

/// Publishes events that a consumer who never comes back keeps pending, so that snapshots and
/// segments are needed.
async fn try_publish(servers: Vec<String>, count: u64) -> anyhow::Result<()> {
    let client = Client::connect(Options::new(servers)).await?;
    let idle = SubscribeOptions::durable(Name::new("idle")?);
    drop(client.subscribe(Name::default_channel(), idle).await?);
    let publisher = client.publisher(Name::default_channel(), LaneChoice::Fresh).await?;
    let event = Event::of_body(vec![7; 1000]);
    for _ in 0..count / 100 {
        let sent = (0..100).map(|_| publisher.publish(&event));
        futures::future::try_join_all(sent).await?;
    }
    Ok(())
}

async fn publish(bed: &Bed, count: u64) {
    try_publish(bed.servers(), count).await.unwrap();
}

/// Damages a stopped node's directory many times, each time from the same beginning.
#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_node_starts_or_refuses_as_expected() {
    let dir = tempfile::tempdir().unwrap();
    let mut bed = Bed::start(options(1, dir.path())).await.unwrap();
    for _ in 0..3 {
        publish(&bed, 1500).await;
    }
    // Stopped in order, then killed, so that the end of the log is like after a crash.
    bed.terminate(&[1]).await.unwrap();
    bed.restart(1).await.unwrap();
    publish(&bed, 300).await;
    bed.kill(&[1]).await.unwrap();
    let data = bed.node(1).unwrap().data_dir;
    let whole = data.with_extension("whole");
    copy(&data, &whole);

    let rng = &mut fastrand::Rng::with_seed(7);
    let rounds: usize = std::env::var("ROUNDS").ok().and_then(|n| n.parse().ok()).unwrap_or(2);
    let parts = [Part::Log, Part::Vote, Part::Snapshot, Part::Segment, Part::Manifest];
    let mut quarantined = 0;
    for round in 0..rounds {
        for part in parts {
            for copies in [Copies::One, Copies::All] {
                let is_cut = (round + usize::from(copies == Copies::All)) % 2 == 1;
                let damage = if is_cut { truncate::truncate } else { flip::flip };
                let done = damage(&data, part, copies, rng).unwrap();
                let state = bed.restart(1).await.unwrap();
                let found = format!("{done:?}: {state:?}");
                println!("{found}");
                match done[0].2 {
                    Expect::Quarantine => {
                        assert!(matches!(state, State::Quarantined(_)), "{found}")
                    }
                    Expect::Repair | Expect::OnRead => assert_eq!(state, State::Ready, "{found}"),
                    _ => assert!(matches!(state, State::Ready | State::Quarantined(_)), "{found}"),
                }
                quarantined += usize::from(matches!(state, State::Quarantined(_)));
                bed.kill(&[1]).await.unwrap();
                std::fs::remove_dir_all(&data).unwrap();
                copy(&whole, &data);
            }
        }
    }
    assert!(quarantined >= 4 * rounds, "{quarantined}");
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &to),
            false => drop(std::fs::copy(entry.path(), to).unwrap()),
        }
    }
}

/// Lets a fault happen and end; afterwards the cluster is whole, and whoever was published to
/// before can still be published to.
async fn survive(bed: &mut Bed, seen: &Seen, fault: Fault) {
    if let Some(lack) = fault.lacks(bed) {
        println!("SKIPPED, {}: it needs {lack}", fault.name());
        return;
    }
    let started = std::time::Instant::now();
    let members = bed.nodes().iter().filter(|node| node.member).count();
    let rng = &mut fastrand::Rng::with_seed(3);
    // A fault that nobody meets is none. What becomes of these events is not looked at here.
    let mut load = tokio::task::JoinSet::new();
    load.spawn(try_publish(bed.servers(), 1_000_000));
    let running = fault.begin(&mut Scene { bed, rng, recorder: seen }).await.unwrap();
    tokio::time::sleep(Duration::from_millis(1500)).await;
    load.shutdown().await;
    let scene = &mut Scene { bed, rng, recorder: seen };
    running.end(scene).await.unwrap_or_else(|error| panic!("{error:#}"));
    bed.voters(members).await.unwrap();
    publish(bed, 100).await;
    let detail = seen.last_end();
    println!("{} was survived in {:?}: {detail}", fault.name(), started.elapsed());
    assert!(!detail.starts_with("0 "), "it did nothing: {detail}");
    assert_eq!(seen.stages(Stage::Begin).last(), Some(&fault.name()));
    assert_eq!(seen.stages(Stage::End).last(), Some(&fault.name()));
}

fn read(text: &str) -> Fault {
    serde_json::from_str(text).unwrap()
}

#[test]
fn faults_are_data() {
    let kill = Fault::Kill(Kill { whom: Whom::Leader });
    assert_eq!(read(r#"{"fault": "kill", "whom": "leader"}"#), kill);
    let cut = Fault::Partition(Partition { cut: Cut::MajorityRing });
    assert_eq!(read(r#"{"fault": "partition", "cut": "majority_ring"}"#), cut);
    let flip = Flip { whom: Whom::Minority, part: Part::Log, copies: Copies::One };
    assert_eq!(read(r#"{"fault": "flip", "whom": "minority", "part": "log"}"#), Fault::Flip(flip));
    assert_eq!(kill.name(), "kill(leader)");
}

#[tokio::test(flavor = "multi_thread")]
async fn processes_and_disks_fail_and_a_cluster_survives() {
    let dir = tempfile::tempdir().unwrap();
    let mut options = options(3, dir.path());
    (options.disks, options.shim) = (DiskKind::Auto, true);
    options.disk_bytes = 1 << 30;
    let mut bed = Bed::start(options).await.unwrap();
    println!("left out: {:?}", bed.left_out());
    let seen = Seen::default();
    publish(&bed, 500).await;
    for fault in [
        Fault::Kill(Kill { whom: Whom::All }),
        Fault::Pause(Pause { whom: Whom::Leader }),
        Fault::PowerCut(PowerCut { whom: Whom::Majority }),
        Fault::PowerCut(PowerCut { whom: Whom::All }),
        Fault::DiskFull(DiskFull { whom: Whom::Follower, leave: 0 }),
        Fault::FailingSync(FailingSync { whom: Whom::Leader, count: 1 }),
        Fault::SlowDisk(SlowDisk { whom: Whom::Follower, sync_ms: 20 }),
        Fault::Clock(Clock { whom: Whom::Leader, jump_ms: -3_600_000 }),
        Fault::RollingRestart(RollingRestart {}),
    ] {
        survive(&mut bed, &seen, fault).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn networks_and_members_change_and_a_cluster_survives() {
    let dir = tempfile::tempdir().unwrap();
    let mut options = options(3, dir.path());
    options.network = NetworkKind::Auto;
    let mut bed = Bed::start(options).await.unwrap();
    println!("left out: {:?}", bed.left_out());
    let seen = Seen::default();
    let spoilt = Shape { loss: 0.05, duplicate: 0.05, delay_ms: 5, jitter_ms: 5, rate: 0 };
    publish(&bed, 500).await;
    for fault in [
        Fault::Partition(Partition { cut: Cut::IsolateLeader }),
        Fault::Partition(Partition { cut: Cut::DeafLeader }),
        Fault::Partition(Partition { cut: Cut::MuteLeader }),
        Fault::Partition(Partition { cut: Cut::Partial }),
        Fault::Partition(Partition { cut: Cut::MajorityRing }),
        Fault::Link(Link { whom: Whom::All, shape: spoilt, clients: true }),
        Fault::Flood(Flood { whom: Whom::All, connections: 100 }),
        Fault::Frames(Frames { whom: Whom::All }),
        Fault::Membership(Membership { change: Change::Transfer }),
        Fault::Membership(Membership { change: Change::Grow }),
        Fault::Membership(Membership { change: Change::Leave(Whom::Leader) }),
        Fault::Membership(Membership { change: Change::Remove(Whom::Follower) }),
    ] {
        survive(&mut bed, &seen, fault).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn damaged_nodes_are_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let mut bed = Bed::start(options(3, dir.path())).await.unwrap();
    let seen = Seen::default();
    publish(&bed, 1500).await;
    let flip = Flip { whom: Whom::Minority, part: Part::Log, copies: Copies::One };
    survive(&mut bed, &seen, Fault::Flip(flip)).await;
    assert_eq!(seen.count(|what| matches!(what, What::Damaged { .. })), 1);
    assert_eq!(seen.count(|what| matches!(what, What::Wiped { .. })), 1);
    let old = |what, copies| Rollback { whom: Whom::Follower, what, copies, age_ms: 500 };
    survive(&mut bed, &seen, Fault::Rollback(old(Old::Vote, Copies::One))).await;
    survive(&mut bed, &seen, Fault::Rollback(old(Old::Log, Copies::One))).await;
    survive(&mut bed, &seen, Fault::Rollback(old(Old::Manifest, Copies::One))).await;
}
