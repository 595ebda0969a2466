//! Notes of what a bed has set up on the machine, so that another run can remove it if this one
//! dies without a chance to.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};

use super::disk::unmount_patiently;

/// Below the system's directory for temporary files, followed by the number of the user.
const DIR: &str = "aqueduct-beds";

/// A process that is meant even if its number is used again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct ProcessId {
    pid: u32,
    /// Clock ticks after boot.
    started: u64,
}

/// What is in a file of notes.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Notes {
    owner: ProcessId,
    processes: Vec<ProcessId>,
    mounts: Vec<PathBuf>,
}

/// The notes of a living bed. The file goes when this is dropped.
#[derive(Debug)]
pub struct Leftovers {
    path: PathBuf,
    notes: Notes,
}

impl Leftovers {
    /// Begins to take notes.
    pub fn begin() -> Result<Leftovers> {
        let dir = dir();
        std::fs::create_dir_all(&dir).with_context(|| format!("create {}", dir.display()))?;
        let own = std::process::id();
        let owner = ProcessId::of(own).context("find this process in /proc")?;
        let path = dir.join(format!("{own}-{:016x}.json", fastrand::u64(..)));
        let notes = Notes { owner, processes: Vec::new(), mounts: Vec::new() };
        let leftovers = Leftovers { path, notes };
        leftovers.save()?;
        Ok(leftovers)
    }

    /// A process runs that must not stay.
    pub fn add_process(&mut self, pid: u32) -> Result<()> {
        self.notes.processes.retain(ProcessId::is_alive);
        self.notes.processes.extend(ProcessId::of(pid));
        self.save()
    }

    /// Something is about to be mounted here.
    pub fn add_mount(&mut self, root: &Path) -> Result<()> {
        self.notes.mounts.push(root.to_path_buf());
        self.save()
    }

    /// Where something is mounted, or was about to be.
    pub fn mounts(&self) -> &[PathBuf] {
        &self.notes.mounts
    }

    fn save(&self) -> Result<()> {
        let new = self.path.with_extension("new");
        serde_json::to_writer(File::create(&new)?, &self.notes)?;
        std::fs::rename(&new, &self.path).context("save what the bed has set up")
    }
}

impl Drop for Leftovers {
    fn drop(&mut self) {
        // If it stays, the next sweep finds nothing to do.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Removes what beds of dead processes have left behind: processes and mounts, by their notes.
/// Returns a line for each. Beds of living processes are left alone.
pub fn sweep() -> Vec<String> {
    let Ok(files) = std::fs::read_dir(dir()) else { return Vec::new() };
    let mut swept = Vec::new();
    for path in files.flatten().map(|file| file.path()) {
        let Ok(text) = std::fs::read_to_string(&path) else { continue };
        let Ok(notes) = serde_json::from_str::<Notes>(&text) else { continue };
        if !notes.owner.is_alive() {
            notes.clear(&mut swept);
            let _ = std::fs::remove_file(path);
        }
    }
    swept
}

fn dir() -> PathBuf {
    let user = rustix::process::geteuid().as_raw();
    std::env::temp_dir().join(format!("{DIR}-{user}"))
}

impl Notes {
    fn clear(&self, swept: &mut Vec<String>) {
        for process in self.processes.iter().filter(|process| process.is_alive()) {
            process.kill();
            swept.push(format!("killed process {}", process.pid));
        }
        for root in self.mounts.iter().filter(|root| is_mounted(root)) {
            match unmount_patiently(root) {
                Ok(()) => swept.push(format!("unmounted {}", root.display())),
                Err(error) => swept.push(format!("{error:#}")),
            }
        }
    }
}

impl ProcessId {
    fn of(pid: u32) -> Option<ProcessId> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name before may contain anything.
        let (_, rest) = stat.rsplit_once(')')?;
        let mut fields = rest.split_whitespace();
        let state = fields.next()?;
        let started = fields.nth(18)?.parse().ok()?;
        (state != "Z").then_some(ProcessId { pid, started })
    }

    fn is_alive(&self) -> bool {
        ProcessId::of(self.pid).as_ref() == Some(self)
    }

    /// Kills it, and waits a while for its end.
    fn kill(&self) {
        let Some(pid) = Pid::from_raw(self.pid as i32) else { return };
        let Ok(handle) = pidfd_open(pid, PidfdFlags::empty()) else { return };
        // Looked at again: the handle may be that of a later process of the same number.
        if self.is_alive() && pidfd_send_signal(&handle, Signal::KILL).is_ok() {
            let within = Timespec { tv_sec: Duration::from_secs(5).as_secs() as i64, tv_nsec: 0 };
            let _ = poll(&mut [PollFd::new(&handle, PollFlags::IN)], Some(&within));
        }
    }
}

fn is_mounted(root: &Path) -> bool {
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    mounts.lines().any(|line| line.split(' ').nth(1).map(Path::new) == Some(root))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dead_run_is_swept_and_a_living_one_is_not() {
        let mut sleeping = std::process::Command::new("sleep").arg("600").spawn().unwrap();
        let mut ours = Leftovers::begin().unwrap();
        ours.add_process(sleeping.id()).unwrap();
        sweep();
        assert!(sleeping.try_wait().unwrap().is_none(), "its owner lives");

        ours.notes.owner.started += 1;
        ours.save().unwrap();
        let swept = sweep();
        assert!(swept.contains(&format!("killed process {}", sleeping.id())), "{swept:?}");
        assert!(!sleeping.wait().unwrap().success());
        assert!(!ours.path.exists());
    }
}
