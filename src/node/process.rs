//! What this process uses, as the kernel counts it.

/// Resources of this process at one moment; zeros where `/proc` does not tell.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Usage {
    /// Resident memory in bytes.
    pub rss_bytes: u64,
    /// Processor time of all threads since the start, in seconds.
    pub cpu_s: f64,
    /// Open file descriptors.
    pub open_fds: u64,
    /// Threads.
    pub threads: u64,
}

/// Reads `/proc/self`.
pub fn usage() -> Usage {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let open_fds = std::fs::read_dir("/proc/self/fd").map_or(0, |all| all.count() as u64);
    Usage { open_fds, ..parse_stat(&stat) }
}

/// The fields we want of `proc_pid_stat(5)`.
fn parse_stat(stat: &str) -> Usage {
    // The second field, the name, stands in parentheses and may hold anything.
    let after_name = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
    let fields: Vec<u64> =
        after_name.split_ascii_whitespace().map(|f| f.parse().unwrap_or(0)).collect();
    // Numbered from 1 in the manual; the third is the first after the name.
    let field = |number: usize| fields.get(number - 3).copied().unwrap_or(0);
    let page = rustix::param::page_size() as u64;
    let ticks = rustix::param::clock_ticks_per_second().max(1) as f64;
    Usage {
        rss_bytes: field(24) * page,
        cpu_s: (field(14) + field(15)) as f64 / ticks,
        open_fds: 0,
        threads: field(20),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_is_parsed_behind_an_odd_name() {
        let stat =
            "7 (a b) c) S 1 7 7 0 -1 4194304 100 0 0 0 250 50 0 0 20 0 9 0 12345 1000000 300";
        let usage = parse_stat(stat);
        let page = rustix::param::page_size() as u64;
        assert_eq!((usage.rss_bytes, usage.threads), (300 * page, 9));
        assert!(usage.cpu_s > 0.0);
        assert_eq!(parse_stat("nonsense"), Usage::default());
    }

    #[test]
    fn this_process_uses_something() {
        let usage = usage();
        assert!(usage.rss_bytes > 0 && usage.open_fds > 0 && usage.threads > 0, "{usage:?}");
    }
}
