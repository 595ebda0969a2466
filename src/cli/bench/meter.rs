//! What processes cost, read from `/proc`: CPU time, peak memory, bytes written to disk.

use std::collections::BTreeMap;
use std::time::Duration;

/// What a process has used since it started.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Usage {
    pub cpu: Duration,
    pub rss_bytes: u64,
    pub rss_peak_bytes: u64,
    /// Bytes that the process caused to be written to a disk.
    pub written_bytes: u64,
}

impl Usage {
    /// Of this process now. `None` if it is gone or this system has no `/proc`.
    pub fn of(pid: u32) -> Option<Usage> {
        let file = |name: &str| std::fs::read_to_string(format!("/proc/{pid}/{name}")).ok();
        let status = file("status")?;
        let rss_bytes = labelled(&status, "VmRSS:")? * 1024;
        let rss_peak_bytes = labelled(&status, "VmHWM:")? * 1024;
        let written_bytes = file("io").and_then(|io| labelled(&io, "write_bytes:")).unwrap_or(0);
        let cpu = cpu_time(&file("stat")?)?;
        Some(Usage { cpu, rss_bytes, rss_peak_bytes, written_bytes })
    }
}

/// The number after `label` at the beginning of a line.
fn labelled(text: &str, label: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(label))?;
    line.split_whitespace().next()?.parse().ok()
}

/// User and system time from `/proc/PID/stat`; the name in it may hold spaces and parentheses.
fn cpu_time(stat: &str) -> Option<Duration> {
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks: u64 = fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?;
    Some(Duration::from_secs_f64(ticks as f64 / rustix::param::clock_ticks_per_second() as f64))
}

/// Usage of several processes between two moments.
pub struct Meter {
    nodes: BTreeMap<u64, (u32, Usage)>,
    own: Usage,
}

/// What was used between start and stop of a [`Meter`].
#[derive(Debug, Clone, Default)]
pub struct Used {
    /// CPU of nodes and client together.
    pub cpu: Duration,
    pub cpu_by_node: BTreeMap<u64, Duration>,
    /// Peak since the start of the process, by node.
    pub rss_peak_bytes: BTreeMap<u64, u64>,
    /// Written per node, on average.
    pub written_bytes: u64,
}

impl Meter {
    /// Starts measuring these nodes (id, process id) and this process.
    pub fn start(nodes: impl IntoIterator<Item = (u64, u32)>) -> Meter {
        let nodes = nodes.into_iter().filter_map(|(id, pid)| Some((id, (pid, Usage::of(pid)?))));
        Meter { nodes: nodes.collect(), own: Usage::of(std::process::id()).unwrap_or_default() }
    }

    /// What was used since the start.
    pub fn stop(&self) -> Used {
        let own = Usage::of(std::process::id()).unwrap_or_default();
        let mut used = Used { cpu: own.cpu.saturating_sub(self.own.cpu), ..Used::default() };
        for (id, (pid, before)) in &self.nodes {
            let Some(now) = Usage::of(*pid) else { continue };
            let cpu = now.cpu.saturating_sub(before.cpu);
            used.cpu += cpu;
            used.cpu_by_node.insert(*id, cpu);
            used.rss_peak_bytes.insert(*id, now.rss_peak_bytes);
            used.written_bytes += now.written_bytes.saturating_sub(before.written_bytes);
        }
        used.written_bytes /= self.nodes.len().max(1) as u64;
        used
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proc_is_understood() {
        let stat = "42 (a (b) c) S 1 1 1 0 -1 0 0 0 0 0 150 50 0 0 20 0 1 0 1 1";
        let ticks = rustix::param::clock_ticks_per_second() as f64;
        assert_eq!(cpu_time(stat), Some(Duration::from_secs_f64(200.0 / ticks)));
        assert_eq!(labelled("VmPeak: 1 kB\nVmHWM:\t  77 kB\n", "VmHWM:"), Some(77));
        assert!(Usage::of(std::process::id()).is_some_and(|u| u.rss_peak_bytes > 0));
    }
}
