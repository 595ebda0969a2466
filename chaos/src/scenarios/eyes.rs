//! Looks at real nodes: over their admin service, and at their processes from outside.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aqueduct::client::{AdminClient, AdminError, AdminOptions};
use aqueduct::storage::BALLAST;
use aqueduct::wire::admin::{ChannelReport, NodeReport, ProxyReport, Role};

use crate::bed::{NodeInfo, Roster};
use crate::history::{ChannelView, ClusterView, NodeView, Outcome, ProxyView, What};
use crate::workloads::Eyes;

/// A node that does not say how it is within this time counts as down.
const LOOK_WITHIN: Duration = Duration::from_millis(700);
/// How long a linearizable status may take.
const STATUS_WITHIN: Duration = Duration::from_secs(3);
/// Looks between two measurements of a node's process.
const MEASURE_EVERY: u64 = 5;

/// See the module.
pub struct RealEyes {
    roster: Roster,
    /// By node and patience, made when needed.
    clients: Mutex<BTreeMap<(u64, Duration), Arc<AdminClient>>>,
    looks: Mutex<BTreeMap<u64, u64>>,
    turns: AtomicUsize,
}

impl RealEyes {
    pub fn new(roster: Roster) -> RealEyes {
        RealEyes {
            roster,
            clients: Mutex::default(),
            looks: Mutex::default(),
            turns: AtomicUsize::new(0),
        }
    }

    fn client(&self, node: &NodeInfo, patience: Duration) -> Arc<AdminClient> {
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        let make = || {
            let options = AdminOptions {
                name: "observer".into(),
                patience,
                ..AdminOptions::new([node.admin_addr.clone()])
            };
            Arc::new(AdminClient::new(options))
        };
        clients.entry((node.id, patience)).or_insert_with(make).clone()
    }

    /// The admin service of a member, asked with this patience.
    pub fn admin(&self, node: u64, patience: Duration) -> Option<Arc<AdminClient>> {
        let node = self.roster.node(node).ok()?;
        Some(self.client(&node, patience))
    }

    /// Counts who is asked for changes.
    pub fn turn(&self) -> usize {
        self.turns.fetch_add(1, Ordering::Relaxed)
    }

    /// Whether the process of this node is to be measured this time.
    fn measures(&self, node: u64) -> bool {
        let mut looks = self.looks.lock().unwrap_or_else(PoisonError::into_inner);
        let count = looks.entry(node).or_default();
        *count += 1;
        *count % MEASURE_EVERY == 1
    }
}

impl Eyes for RealEyes {
    fn nodes(&self) -> Vec<u64> {
        let nodes = self.roster.nodes();
        nodes.into_iter().filter(|node| node.member).map(|node| node.id).collect()
    }

    async fn status(&self, via: u64) -> Outcome<ClusterView> {
        let Ok(node) = self.roster.node(via) else { return Outcome::Fail("no_leader".into()) };
        let client = self.client(&node, STATUS_WITHIN);
        match tokio::time::timeout(2 * STATUS_WITHIN, client.status(false)).await {
            Ok(Ok(answer)) => Outcome::Ok(ClusterView {
                answered_by: answer.answered_by.0,
                linearizable: answer.linearizable,
                leader: answer.value.leader.map(|leader| leader.0),
                term: answer.value.term,
                channels: answer.value.channels.iter().map(channel).collect(),
            }),
            Ok(Err(AdminError::Refused(rejection))) => Outcome::Fail(rejection.code.to_string()),
            Ok(Err(error)) => Outcome::Unknown(error.to_string()),
            Err(_) => Outcome::Unknown("no answer in time".into()),
        }
    }

    async fn look(&self, node: u64) -> Vec<What> {
        let Ok(before) = self.roster.node(node) else { return Vec::new() };
        let Some(pid) = before.pid else { return vec![What::NodeDown { node }] };
        let client = self.client(&before, LOOK_WITHIN);
        let asked = tokio::time::timeout(LOOK_WITHIN, client.node_status()).await;
        // An answer may be that of the life before, or of the one after.
        if self.roster.node(node).map(|after| after.lives()).ok() != Some(before.lives()) {
            return Vec::new();
        }
        let mut seen = match asked {
            // It may have become another node meanwhile.
            Ok(Ok(report)) if ![0, node].contains(&report.id.0) => return Vec::new(),
            Ok(Ok(report)) => vec![What::Node { node, view: view(&report, before.lives()) }],
            _ => vec![What::NodeDown { node }],
        };
        if self.measures(node) {
            let measuring = tokio::task::spawn_blocking(move || usage(node, pid, &before.data_dir));
            seen.extend(measuring.await.ok().flatten());
        }
        seen
    }
}

fn view(report: &NodeReport, life: u64) -> NodeView {
    let role = match report.role {
        Role::Down if report.state.starts_with("quarantined") => "quarantined",
        Role::Down => "stopped",
        role => role.as_str(),
    };
    NodeView {
        life,
        role: role.into(),
        term: report.term,
        leader: report.leader.map(|leader| leader.0),
        tenure: report.tenure.map(|tenure| tenure.0),
        applied: report.applied,
        committed: report.committed,
        snapshot_index: report.snapshot_index,
    }
}

fn channel(report: &ChannelReport) -> ChannelView {
    ChannelView {
        name: report.name.to_string(),
        accepted: report.accepted,
        last_seq: report.last_seq,
        retained: report.retained,
        proxies: report.proxies.iter().map(proxy).collect(),
    }
}

fn proxy(report: &ProxyReport) -> ProxyView {
    ProxyView {
        name: report.name.to_string(),
        offered: report.offered,
        acked: report.acked,
        filtered: report.filtered,
        expired: report.expired,
        discarded: report.discarded,
        dead_lettered: report.dead_lettered,
        skipped: report.skipped,
        pending: report.pending,
        in_flight: report.in_flight,
    }
}

/// What a process uses; `None` if it is gone.
fn usage(node: u64, pid: u32, data: &Path) -> Option<What> {
    let statm = std::fs::read_to_string(format!("/proc/{pid}/statm")).ok()?;
    let pages: u64 = statm.split_whitespace().nth(1)?.parse().ok()?;
    let descriptors = std::fs::read_dir(format!("/proc/{pid}/fd")).ok()?.count() as u64;
    let rss_bytes = pages * rustix::param::page_size() as u64;
    Some(What::Usage { node, rss_bytes, descriptors, disk_bytes: disk_bytes(data) })
}

/// Bytes that a directory takes on its disk. What vanishes meanwhile does not count, nor does the
/// ballast: it is given up when it is needed.
fn disk_bytes(dir: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let Ok(entries) = std::fs::read_dir(dir) else { return 0 };
    let counting = entries.flatten().filter(|entry| entry.file_name() != BALLAST);
    let sizes = counting.map(|entry| match entry.metadata() {
        Ok(found) if found.is_dir() => disk_bytes(&entry.path()),
        Ok(found) => found.blocks() * 512,
        Err(_) => 0,
    });
    sizes.sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_measured_from_outside() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("sub")).unwrap();
        std::fs::write(dir.path().join("sub/file"), vec![1; 100_000]).unwrap();
        let Some(What::Usage { node, rss_bytes, descriptors, disk_bytes }) =
            usage(3, std::process::id(), dir.path())
        else {
            panic!("this process is not there");
        };
        assert_eq!(node, 3);
        assert!(rss_bytes > 1 << 20, "{rss_bytes}");
        assert!(descriptors > 2, "{descriptors}");
        assert!((100_000..300_000).contains(&disk_bytes), "{disk_bytes}");
        assert_eq!(usage(3, u32::MAX, dir.path()), None);
    }
}
