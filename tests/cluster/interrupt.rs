//! Commands that start nodes of their own leave nothing behind, however they are ended.

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tokio::process::Command;

use crate::support::{SOON, binary};

/// Pids of the nodes whose data lies under this directory.
fn nodes_under(dir: &Path) -> Vec<String> {
    let of_ours = |pid: &String| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).contains(dir.to_str().expect("UTF-8"))
    };
    let all = std::fs::read_dir("/proc").expect("read /proc").flatten();
    all.map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| name.bytes().all(|byte| byte.is_ascii_digit()))
        .filter(of_ours)
        .collect()
}

async fn until(what: &str, dir: &Path, wanted: impl Fn(&[String]) -> bool) {
    let deadline = Instant::now() + SOON;
    loop {
        let nodes = nodes_under(dir);
        if wanted(&nodes) {
            return;
        }
        assert!(Instant::now() < deadline, "not within {SOON:?}: {what}; there are {nodes:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Starts the command with its temporary files under `dir`, sends the signal when three nodes run,
/// and waits until all of them are gone.
async fn interrupted(words: &[&str], dir: &Path, how: Signal) {
    let mut command = Command::new(binary());
    command.args(words).env("TMPDIR", dir).stdin(Stdio::null()).kill_on_drop(true);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("start");
    until("three nodes run", dir, |nodes| nodes.len() == 3).await;
    let pid = child.id().and_then(|pid| Pid::from_raw(pid as i32)).expect("it runs");
    kill_process(pid, how).expect("send the signal");
    tokio::time::timeout(SOON, child.wait()).await.expect("it ends in time").expect("wait");
    until("no node is left", dir, <[String]>::is_empty).await;
}

#[tokio::test]
async fn a_command_told_to_stop_leaves_no_nodes_and_no_files() {
    let demo = ["demo", "--seconds", "60"];
    let bench = ["bench", "publish", "--spawn", "3", "--seconds", "60"];
    for (words, how) in [
        (&demo[..], Signal::TERM),
        (&demo[..], Signal::HUP),
        (&demo[..], Signal::INT),
        (&bench[..], Signal::TERM),
    ] {
        let dir = tempfile::tempdir().expect("make a temporary directory");
        interrupted(words, dir.path(), how).await;
        let left = std::fs::read_dir(dir.path()).expect("read it").count();
        assert_eq!(left, 0, "{words:?}, {how:?}: files are left");
    }
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn nodes_end_with_a_demo_that_is_killed() {
    let dir = tempfile::tempdir().expect("make a temporary directory");
    interrupted(&["demo", "--seconds", "60"], dir.path(), Signal::KILL).await;
}
