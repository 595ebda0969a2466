//! One node's process: started, watched, signalled and buried.

use std::fs::OpenOptions;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::Deserialize;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;

use super::network::Host;
use super::roster::{NodeInfo, Roster, State};

/// A running process, or one that has just ended. Killed when dropped.
pub struct Process {
    pub pid: u32,
    /// A handle that never means another process.
    handle: OwnedFd,
    watcher: JoinHandle<()>,
}

/// A line on a node's stdout. What else is in it is of no interest here.
#[derive(Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
enum Line {
    Ready {
        node_id: u64,
    },
    DiskFull {
        reason: String,
    },
    Quarantined {
        reason: String,
    },
    Cleared {
        node_id: u64,
    },
    Removed {},
    #[serde(other)]
    Other,
}

/// Starts `command`; needs the runtime's context on the calling thread. What it logs is appended
/// to the file `log`.
pub fn spawn(mut command: Command, log: &Path) -> Result<Child> {
    let log = OpenOptions::new()
        .create(true)
        .append(true)
        .open(log)
        .with_context(|| format!("open {}", log.display()))?;
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log);
    command.kill_on_drop(true).process_group(0);
    let program = command.as_std().get_program().to_owned();
    command.spawn().with_context(|| format!("start {}", program.display()))
}

impl Process {
    /// Watches the process of a node's present life, and keeps the roster up to date.
    pub fn watch(mut child: Child, roster: &Roster, host: Host, life: u64) -> Result<Process> {
        let pid = child.id().context("the process has ended already")?;
        let raw = Pid::from_raw(pid as i32).context("a process has the id 0")?;
        let handle = pidfd_open(raw, PidfdFlags::empty()).context("get hold of the process")?;
        let stdout = child.stdout.take().context("the node's stdout is not piped")?;
        let roster = roster.clone();
        roster.change(host, life, |node| node.pid = Some(pid));
        let watcher = tokio::spawn(async move {
            let mut lines = BufReader::new(stdout).lines();
            while let Ok(Some(line)) = lines.next_line().await {
                let line = serde_json::from_str(&line).unwrap_or(Line::Other);
                roster.change(host, life, |node| note(node, line));
            }
            let status = child.wait().await.ok();
            let code = status.and_then(|status| status.code());
            let signal = status.and_then(|status| status.signal());
            roster.change(host, life, |node| {
                let killed = signal == Some(Signal::KILL.as_raw());
                // One that gave its data up is not known by another id yet.
                let id = if node.id == 0 { node.cleared.last().copied() } else { Some(node.id) };
                let wanted = killed || node.told || node.state == State::Removed;
                if let Some(id) = id.filter(|_| !wanted) {
                    node.exits.push((id, format!("code {code:?}, signal {signal:?}")));
                }
                node.state = State::Exited { code, signal };
                (node.pid, node.paused) = (None, false);
            });
        });
        Ok(Process { pid, handle, watcher })
    }

    /// Sends a signal; an error if the process is gone.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        pidfd_send_signal(&self.handle, signal)
            .with_context(|| format!("send {signal:?} to process {}", self.pid))
    }

    /// Whether the process has ended, even if nobody was told yet.
    pub fn has_ended(&self) -> bool {
        self.wait_blocking(Duration::ZERO)
    }

    /// Blocks until the process has ended; whether it did.
    pub fn wait_blocking(&self, within: Duration) -> bool {
        let timeout =
            Timespec { tv_sec: within.as_secs() as i64, tv_nsec: i64::from(within.subsec_nanos()) };
        let mut polled = [PollFd::from_borrowed_fd(self.handle.as_fd(), PollFlags::IN)];
        poll(&mut polled, Some(&timeout)).is_ok_and(|ready| ready > 0)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended long ago.
        let _ = pidfd_send_signal(&self.handle, Signal::KILL);
        self.watcher.abort();
    }
}

fn note(node: &mut NodeInfo, line: Line) {
    match line {
        Line::Ready { node_id } => {
            (node.id, node.state, node.member) = (node_id, State::Ready, true);
            node.ready_at = Some(Instant::now());
        }
        Line::DiskFull { reason } => {
            (node.state, node.waits) = (State::Full(reason), node.waits + 1);
        }
        Line::Quarantined { reason } => node.state = State::Quarantined(reason),
        Line::Cleared { node_id } => {
            node.cleared.push(node_id);
            (node.id, node.state, node.member) = (0, State::Cleared, false);
        }
        Line::Removed {} => (node.state, node.member) = (State::Removed, false),
        Line::Other => {}
    }
}
