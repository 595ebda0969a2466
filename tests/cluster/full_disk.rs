//! Disks that fill up: publishes are refused or another node leads, consumers go on, and everything
//! comes back by itself. Each node has a small file system of its own, for which root is needed.

use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::fs::{FallocateFlags, fallocate, statvfs};
use serde_json::Value;

use crate::support::{Cluster, Running, SOON, both, cluster, finish, nothing_lost, seqs};

const MIB: u64 = 1 << 20;
/// Bytes of each node's file system.
const DISK_BYTES: u64 = 320 * MIB;
/// Below this a node's disk is short, whatever is in its log.
const FLOOR: u64 = 48 * MIB;

/// Events that take more than what a log database has taken from the disk ahead.
const MANY: u64 = 15_000;

/// File systems of nodes; out of the way when dropped, and gone when the nodes are.
struct Disks {
    roots: Vec<PathBuf>,
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

fn move_to_small_disk(dir: &Path) -> Result<(), String> {
    let old = dir.with_extension("old");
    std::fs::rename(dir, &old).map_err(|error| error.to_string())?;
    std::fs::create_dir(dir).map_err(|error| error.to_string())?;
    let size = format!("size={DISK_BYTES}");
    run(Command::new("mount").args(["-t", "tmpfs", "-o", &size, "aqueduct-test"]).arg(dir))?;
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

    fn free(&self, id: u64) -> u64 {
        let found = statvfs(self.root(id)).expect("look at the disk");
        found.f_bavail * found.f_frsize
    }

    /// Somebody else fills a node's disk up to `leave` bytes.
    fn hog(&self, id: u64, leave: u64) {
        let file = std::fs::File::create(self.root(id).join("hog")).expect("create a file");
        let mut len = 0;
        loop {
            let more = self.free(id).saturating_sub(leave);
            if more < 4096 {
                return;
            }
            match fallocate(&file, FallocateFlags::empty(), len, more) {
                Ok(()) => len += more,
                Err(rustix::io::Errno::NOSPC) => {
                    // Nodes write meanwhile: byte by byte, so to speak.
                    let Ok(written) = file.write_at(&vec![1; more.min(MIB) as usize], len) else {
                        return;
                    };
                    len += written as u64;
                }
                Err(error) => panic!("fill a disk: {error}"),
            }
        }
    }

    fn relieve(&self, id: u64) {
        std::fs::remove_file(self.root(id).join("hog")).expect("remove the file");
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
    small.hog(first, FLOOR - 8 * MIB);
    let publisher = publishing(cluster, "meanwhile", 3_000);
    let at = first as usize - 1;
    cluster
        .until("another node leads", |s| {
            s["leader"].as_u64().is_some_and(|leader| leader != first)
                && states(s).get(at).is_some_and(|state| state == "disk full")
        })
        .await;
    acks.extend(finish(publisher).await);

    // All are short: refused, with who lacks what; consumers go on.
    (1..=3).filter(|id| *id != first).for_each(|id| small.hog(id, FLOOR - 8 * MIB));
    let said = refusal(cluster).await;
    assert!(said.contains("not enough room on the disks: node 1 has"), "{said}");
    assert!(said.contains("node 3 has") && said.contains("let consumers settle"), "{said}");
    let deliveries = cluster.drain("default", "all", "2").await;
    nothing_lost(&acks, &deliveries);
    let status = cluster.until("all are short", |s| states(s) == ["disk full"; 3]).await;
    assert!(status["nodes"][0]["free_bytes"].as_u64().is_some_and(|free| free < FLOOR));

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
    let mut acks = finish(publisher).await;
    small.relieve(follower);
    cluster.until("it is back", |s| states(s) == ["healthy"; 3]).await;

    // All at once: whatever was acknowledged is there when they have room again.
    let publisher = publishing(cluster, "all", MANY);
    (1..=3).for_each(|id| small.hog(id, 0));
    let logs = || {
        let log = |id: u64| small.root(id).with_extension("log");
        let read = |id| std::fs::read_to_string(log(id)).unwrap_or_default();
        (1..=3).map(|id| read(id).matches("takes no part until there is room").count()).sum()
    };
    let waits: usize = logs();
    let deadline = Instant::now() + SOON;
    while logs() < waits + 2 {
        assert!(Instant::now() < deadline, "no majority waits for room");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    (1..=3).for_each(|id| small.relieve(id));
    acks.extend(finish(publisher).await);
    cluster.until("all are back", |s| states(s) == ["healthy"; 3]).await;
    let now: Vec<_> = cluster.local.nodes.iter().map(|node| node.pid()).collect();
    assert_eq!(now, pids, "nobody was started again");
    let deliveries = cluster.drain("default", "all", "3").await;
    nothing_lost(&acks, &deliveries);
    assert_eq!(seqs(&acks).len() as u64, 2 * MANY);
    cluster.audit().await;
}
