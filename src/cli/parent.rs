//! Nodes that `demo` and `bench` start for themselves end with them, however those end.

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, getppid};

/// Has the kernel kill this process when its parent, which must be this one, is gone.
#[cfg(target_os = "linux")]
pub fn end_with(parent: u32) -> Result<()> {
    use rustix::process::{Signal, set_parent_process_death_signal};
    set_parent_process_death_signal(Some(Signal::KILL)).context("bind to the parent process")?;
    still(parent)
}

/// Elsewhere there is no such binding: only the parent's own tidying up remains.
#[cfg(not(target_os = "linux"))]
pub fn end_with(parent: u32) -> Result<()> {
    still(parent)
}

/// It may have ended before we asked for the signal.
fn still(parent: u32) -> Result<()> {
    let now = getppid().map(Pid::as_raw_pid);
    let same = now.is_some_and(|pid| pid.unsigned_abs() == parent);
    ensure!(same, "process {parent}, which started this node, is not its parent (any more)");
    Ok(())
}
