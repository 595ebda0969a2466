//! Disks that fill up: publishes are refused or another node leads, consumers go on, and everything
//! comes back by itself. Each node has a small file system of its own, for which root is needed.

use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::fs::{FallocateFlags, fallocate, statvfs};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader};

use crate::support::{Cluster, Running, SOON, binary, both, cluster, finish, nothing_lost, seqs};

const MIB: u64 = 1 << 20;
/// Bytes of each node's file system.
const DISK_BYTES: u64 = 320 * MIB;
/// Below this a node's disk is short, whatever is in its log.
const FLOOR: u64 = 48 * MIB;

/// What somebody else leaves of it: too little, and enough for another log database.
const LEFT: u64 = 30 * MIB;
/// Events that take more than what a log database has taken from the disk ahead.
const MANY: u64 = 15_000;

/// File systems of nodes; out of the way when dropped, and gone when the nodes are.
struct Disks {
    roots: Vec<PathBuf>,
}

impl Disks {
    fn relieve(&self, id: u64) {
        std::fs::remove_file(self.roots[id as usize - 1].join("hog")).expect("remove the file");
    }
}

impl Drop for Disks {
    fn drop(&mut self) {
        for root in &self.roots {
            let _ = Command::new("umount").arg("-l").arg(root).status();
        }
    }
}

/// A cluster of three whose nodes have file systems of their own. They are taken away first, so that
/// nothing is in the way when the cluster's directory is removed.
struct Small {
    disks: Disks,
    cluster: Cluster,
    _config: tempfile::NamedTempFile,
}

/// `None`, with a line that says so, where file systems cannot be mounted.
async fn small_cluster(ballast: &str) -> Option<Small> {
    if !rustix::process::geteuid().is_root() {
        eprintln!("left out: only root can mount small file systems");
        return None;
    }
    let config = tempfile::NamedTempFile::new().expect("make a file");
    let text = format!(
        "free_space_floor = \"{FLOOR}\"\nsnapshot_log_bytes = \"4MiB\"\nballast = \"{ballast}\"\n"
    );
    std::fs::write(config.path(), text).expect("write the settings");
    let path = config.path().to_str().expect("UTF-8").to_owned();
    let mut cluster = cluster(3, &["--config", &path]).await;
    let mut disks = Disks { roots: Vec::new() };
    for id in 1..=3 {
        let node = cluster.local.node(id).expect("three nodes");
        assert_eq!(node.terminate().await.expect("terminate"), Some(0));
        let root = node.data_dir.clone();
        if let Err(why) = move_to_small_disk(&root) {
            eprintln!("left out: {why}");
            return None;
        }
        disks.roots.push(root);
        cluster.restart(id).await;
    }
    cluster.until("all are healthy", |s| states(s).iter().all(|s| s == "healthy")).await;
    Some(Small { disks, cluster, _config: config })
}

/// Fills the file system at `root` with one file, up to `leave` bytes.
fn hog(root: &Path, leave: u64) {
    let file = std::fs::File::create(root.join("hog")).expect("create a file");
    let mut len = 0;
    loop {
        let found = statvfs(root).expect("look at the disk");
        let more = (found.f_bavail * found.f_frsize).saturating_sub(leave);
        if more < 4096 {
            return;
        }
        match fallocate(&file, FallocateFlags::empty(), len, more) {
            Ok(()) => len += more,
            Err(rustix::io::Errno::NOSPC) => {
                // A node writes meanwhile: by smaller steps.
                let Ok(written) = file.write_at(&vec![1; more.min(MIB) as usize], len) else {
                    return;
                };
                len += written as u64;
            }
            Err(error) => panic!("fill a disk: {error}"),
        }
    }
}

fn mount(root: &Path, bytes: u64) -> Result<(), String> {
    let size = format!("size={bytes}");
    run(Command::new("mount").args(["-t", "tmpfs", "-o", &size, "aqueduct-test"]).arg(root))
}

fn move_to_small_disk(dir: &Path) -> Result<(), String> {
    let old = dir.with_extension("old");
    std::fs::rename(dir, &old).map_err(|error| error.to_string())?;
    std::fs::create_dir(dir).map_err(|error| error.to_string())?;
    mount(dir, DISK_BYTES)?;
    // The ballast is the node's to make.
    let _ = std::fs::remove_file(old.join("ballast"));
    run(Command::new("cp").arg("-a").arg(old.join(".")).arg(dir))
}

fn run(command: &mut Command) -> Result<(), String> {
    let output = command.output().map_err(|error| error.to_string())?;
    output.status.success().then_some(()).ok_or_else(|| format!("{command:?}: {}", both(&output)))
}

impl Small {
    fn root(&self, id: u64) -> &Path {
        &self.disks.roots[id as usize - 1]
    }

    /// Somebody else fills a node's disk up to `leave` bytes.
    fn hog(&self, id: u64, leave: u64) {
        hog(self.root(id), leave);
    }

    fn relieve(&self, id: u64) {
        self.disks.relieve(id);
    }

    /// What a node says of itself, without asking others.
    async fn state(&self, id: u64) -> String {
        let status = self.cluster.status().await.unwrap_or_default();
        states(&status).get(id as usize - 1).cloned().unwrap_or_default()
    }
}

fn states(status: &Value) -> Vec<String> {
    let nodes = status["nodes"].as_array().into_iter().flatten();
    nodes.map(|node| node["state"].as_str().unwrap_or_default().to_owned()).collect()
}

/// Publishes in the background, patiently.
fn publishing(cluster: &Cluster, lane: &str, count: u64) -> Running {
    let count = count.to_string();
    let words = ["pub", "default", "--count", &count, "--lane", lane, "--size", "4096"];
    cluster.spawn(&[&words[..], &["--timeout", "120"]].concat())
}

/// What `pub` says of one event that it gives up after a while.
async fn refusal(cluster: &Cluster) -> String {
    let deadline = Instant::now() + SOON;
    loop {
        let output = cluster.run(&["pub", "default", "x", "--timeout", "2"]).await;
        if !output.status.success() {
            return both(&output);
        }
        assert!(Instant::now() < deadline, "publishes are not refused");
    }
}

async fn accepted(cluster: &Cluster) {
    let deadline = Instant::now() + SOON;
    loop {
        let output = cluster.run(&["pub", "default", "x", "--timeout", "5"]).await;
        if output.status.success() {
            return;
        }
        assert!(Instant::now() < deadline, "publishes stay refused:\n{}", both(&output));
    }
}

#[tokio::test]
async fn a_short_leader_leaves_and_short_disks_refuse_publishes_until_they_have_room() {
    let Some(small) = small_cluster("32MiB").await else { return };
    let cluster = &small.cluster;
    cluster.consumer("default", "all").await;
    let mut acks = finish(publishing(cluster, "before", 2_000)).await;

    // Only the leader's disk is short: another node leads, and nothing is refused meanwhile.
    let first = cluster.leader().await;
    small.hog(first, LEFT);
    let publisher = publishing(cluster, "meanwhile", 3_000);
    let at = first as usize - 1;
    cluster
        .until("another node leads", |s| {
            s["leader"].as_u64().is_some_and(|leader| leader != first)
                && states(s).get(at).is_some_and(|state| state == "disk short")
        })
        .await;
    acks.extend(finish(publisher).await);

    // All are short: refused, with who lacks what; consumers go on.
    (1..=3).filter(|id| *id != first).for_each(|id| small.hog(id, LEFT));
    let said = refusal(cluster).await;
    assert!(said.contains("not enough room on the disks: node"), "{said}");
    assert!(said.contains("; node") && said.contains("let consumers settle"), "{said}");
    let deliveries = cluster.drain("default", "all", "2").await;
    nothing_lost(&acks, &deliveries);

    (1..=3).for_each(|id| small.relieve(id));
    accepted(cluster).await;
    cluster.until("all have room", |s| states(s) == ["healthy"; 3]).await;
    cluster.audit().await;
}

#[tokio::test]
async fn nodes_whose_disks_are_full_wait_for_room_and_go_on_in_the_same_process() {
    let Some(small) = small_cluster("0").await else { return };
    let cluster = &small.cluster;
    cluster.consumer("default", "all").await;
    let leader = cluster.leader().await;
    let follower = (1..=3).find(|id| *id != leader).expect("three nodes");
    let pids: Vec<_> = cluster.local.nodes.iter().map(|node| node.pid()).collect();

    // A follower alone: the majority goes on.
    let publisher = publishing(cluster, "one", MANY);
    small.hog(follower, 0);
    let deadline = Instant::now() + SOON;
    while !small.state(follower).await.starts_with("disk full: ") {
        assert!(Instant::now() < deadline, "its state is {:?}", small.state(follower).await);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let acks = finish(publisher).await;
    small.relieve(follower);
    cluster.until("it is back", |s| states(s) == ["healthy"; 3]).await;
    let now: Vec<_> = cluster.local.nodes.iter().map(|node| node.pid()).collect();
    assert_eq!(now, pids, "nobody was started again");

    let deliveries = cluster.drain("default", "all", "3").await;
    nothing_lost(&acks, &deliveries);
    assert_eq!(seqs(&acks).len() as u64, MANY);
    cluster.audit().await;
}

#[tokio::test]
async fn a_node_that_is_started_on_a_full_disk_waits_for_room() {
    let home = tempfile::tempdir().expect("make a temporary directory");
    let mounted = match rustix::process::geteuid().is_root() {
        true => mount(home.path(), 64 * MIB),
        false => Err("only root can mount small file systems".into()),
    };
    if let Err(why) = mounted {
        return eprintln!("left out: {why}");
    }
    let _disks = Disks { roots: vec![home.path().to_owned()] };
    hog(home.path(), 0);
    let mut command = tokio::process::Command::new(binary());
    command.args(["node", "--bootstrap", "--data-dir"]).arg(home.path().join("data"));
    for port in ["--listen", "--peer", "--admin", "--http"] {
        command.args([port, "127.0.0.1:0"]);
    }
    command.stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true);
    let mut node = command.spawn().expect("start a node");
    let mut lines = BufReader::new(node.stdout.take().expect("it is piped")).lines();
    let mut said = async || {
        let line = tokio::time::timeout(SOON, lines.next_line()).await.expect("a line in time");
        let line = line.expect("read its output").expect("it does not end");
        serde_json::from_str::<Value>(&line).expect("a JSON line")
    };
    let waits = said().await;
    assert_eq!(waits["event"], "disk_full", "{waits}");
    assert!(waits["reason"].as_str().is_some_and(|why| why.contains("the disk is full")));
    std::fs::remove_file(home.path().join("hog")).expect("make room");
    let ready = said().await;
    assert_eq!((&ready["event"], &ready["pid"]), (&"ready".into(), &waits["pid"]));
    assert_eq!(ready["admin_addr"], waits["admin_addr"], "it is found where it was");
}
