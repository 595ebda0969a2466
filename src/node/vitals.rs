//! How a node is: for `/readyz`, `/metrics` and its own part of `status`.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use futures::future::BoxFuture;

use super::http::Vitals;
use super::metrics::Sample;
use super::process;
use super::reception::Services;
use crate::admin::Local;
use crate::consensus::ReplicaStatus;
use crate::delivery::World;
use crate::env::{Publisher, Watch, watch};
use crate::machine::Channel;
use crate::transport::Net;
use crate::types::Outcome;

/// A node this many log entries behind is no good front door.
const BEHIND_MAX: u64 = 10_000;

/// The state of a node that takes part, and whose disk has too little room for publishes.
const DISK_SHORT: &str = "disk short";
/// How the state of a node begins that takes no part until there is room on its disk.
pub const DISK_FULL: &str = "disk full";

/// What the node process knows of itself, in whichever phase of life. Cheap to clone.
pub struct Health<N>(Arc<Inner<N>>);

struct Inner<N> {
    phase: Mutex<Phase<N>>,
    stopping: AtomicBool,
    left: Publisher<bool>,
    left_seen: Watch<bool>,
}

enum Phase<N> {
    /// Not serving; the text says why.
    Closed(String),
    Serving(Arc<Services<N>>),
}

impl<N> Clone for Health<N> {
    fn clone(&self) -> Self {
        Health(self.0.clone())
    }
}

impl<N> Health<N> {
    /// A node that has just begun.
    pub fn starting() -> Health<N> {
        let phase = Mutex::new(Phase::Closed("starting".into()));
        let (left, left_seen) = watch(false);
        Health(Arc::new(Inner { phase, stopping: AtomicBool::new(false), left, left_seen }))
    }

    /// Turns true when the node has left its cluster at its own request.
    pub fn left(&self) -> Watch<bool> {
        self.0.left_seen.clone()
    }

    /// It does not serve, and why.
    pub fn closed(&self, why: impl Into<String>) {
        self.set(Phase::Closed(why.into()));
    }

    /// It takes part.
    pub fn serving(&self, services: Arc<Services<N>>) {
        self.set(Phase::Serving(services));
    }

    /// It was told to stop.
    pub fn stopping(&self) {
        self.0.stopping.store(true, Ordering::Relaxed);
    }

    fn set(&self, phase: Phase<N>) {
        *self.0.phase.lock().unwrap_or_else(PoisonError::into_inner) = phase;
    }

    fn services(&self) -> Result<Arc<Services<N>>, String> {
        match &*self.0.phase.lock().unwrap_or_else(PoisonError::into_inner) {
            Phase::Closed(why) => Err(why.clone()),
            Phase::Serving(services) => Ok(services.clone()),
        }
    }
}

impl<N: Net> Local for Health<N> {
    fn state(&self) -> String {
        if self.0.stopping.load(Ordering::Relaxed) {
            return "stopping".into();
        }
        match self.services() {
            Ok(services) if services.replica.room().short => DISK_SHORT.into(),
            _ => "healthy".into(),
        }
    }

    fn left(&self) {
        self.0.left.set(true);
    }

    fn rss_bytes(&self) -> u64 {
        process::usage().rss_bytes
    }
}

impl<N: Net> Vitals for Health<N> {
    fn ready(&self) -> Result<(), String> {
        if self.0.stopping.load(Ordering::Relaxed) {
            return Err("stopping".into());
        }
        let services = self.services()?;
        let leader = services.replica.leadership().peek().leader;
        judge(&services.replica.status(), leader.is_some())
    }

    fn metrics(&self) -> BoxFuture<'_, String> {
        Box::pin(async move {
            let mut sample = Sample::default();
            process_metrics(&mut sample);
            sample.gauge("up", "Whether the node takes part.", self.services().is_ok().into());
            let short = match self.services() {
                Ok(services) => services.replica.room().short,
                Err(why) => why.starts_with(DISK_FULL),
            };
            sample.gauge("disk_short", "Whether the disk has too little room.", short.into());
            if let Ok(services) = self.services() {
                services.gather(&mut sample).await;
            }
            sample.into_text()
        })
    }
}

/// Whether a node in this state should get clients.
fn judge(status: &ReplicaStatus, leader_known: bool) -> Result<(), String> {
    if let Some(failure) = &status.failure {
        return Err(format!("failed: {failure}"));
    }
    if !leader_known {
        return Err("no leader is known".into());
    }
    let behind = status.committed.saturating_sub(status.applied);
    if behind > BEHIND_MAX {
        return Err(format!("{behind} log entries behind"));
    }
    Ok(())
}

fn process_metrics(sample: &mut Sample) {
    let usage = process::usage();
    sample.gauge("process_resident_bytes", "Resident memory.", usage.rss_bytes as f64);
    sample.counter("process_cpu_seconds", "Processor time used.", usage.cpu_s);
    sample.gauge("process_open_fds", "Open file descriptors.", usage.open_fds as f64);
    sample.gauge("process_threads", "Threads.", usage.threads as f64);
}

impl<N: Net> Services<N> {
    async fn gather(&self, sample: &mut Sample) {
        self.replica_metrics(sample);
        self.visit_metrics(sample);
        self.office.look(|world| channel_metrics(&world, sample));
        let stats = self.sessions.delivery.stats(Vec::new()).await;
        sample.gauge("consumers", "Consumers attached here.", stats.consumers as f64);
    }

    fn replica_metrics(&self, sample: &mut Sample) {
        let status = self.replica.status();
        let snapshots = status.snapshots;
        sample.gauge(
            "leader",
            "Whether this node serves as leader.",
            status.tenure.is_some().into(),
        );
        for (name, help, value) in [
            ("term", "Raft term.", status.term),
            ("applied_index", "Last log index applied.", status.applied),
            ("committed_index", "Last log index known to be committed.", status.committed),
            ("snapshot_index", "Last log index in the newest snapshot.", status.snapshot_index),
            ("log_bytes", "Bytes of log on disk.", status.log_bytes),
            ("store_bytes", "Bytes of snapshots and segments on disk.", status.store_bytes),
            ("damaged_events", "Damaged events not repaired yet.", status.damage.lost()),
            ("disk_free_bytes", "Bytes free on the disk.", status.room.free),
            ("disk_floor_bytes", "Bytes that are to be free for publishes.", status.room.floor),
        ] {
            sample.gauge(name, help, value as f64);
        }
        let refused = self.replica.lacks_room().is_some();
        let help = "Whether this leader refuses publishes for want of disk space.";
        sample.gauge("publishes_refused", help, refused.into());
        for (name, help, value) in [
            ("scrubbed_bytes", "Bytes read again to find damage.", status.scrubbed_bytes),
            ("snapshots_sent", "Snapshots sent to other members.", snapshots.sent),
            ("snapshot_sent_bytes", "Bytes of snapshots sent.", snapshots.sent_bytes),
            ("snapshots_received", "Snapshots received and installed.", snapshots.received),
            ("snapshot_received_bytes", "Bytes of snapshots received.", snapshots.received_bytes),
            ("damage_found", "Damaged events and files found.", status.damage.found),
            ("damage_repaired", "Damaged events and files repaired.", status.damage.repaired),
        ] {
            sample.counter(name, help, value as f64);
        }
    }

    fn visit_metrics(&self, sample: &mut Sample) {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed) as f64;
        let visits = &self.visits;
        for (kind, counter) in [
            ("session", &visits.sessions),
            ("relayed", &visits.relayed),
            ("admin", &visits.admins),
            ("peer", &visits.peers),
        ] {
            sample.gauge_of("connections", "Connections now.", &[("kind", kind)], count(counter));
        }
    }
}

fn channel_metrics(world: &World, sample: &mut Sample) {
    let lanes = world.facts.lanes().count() as f64;
    sample.gauge("lanes", "Lanes remembered.", lanes);
    for channel in world.all_channels() {
        channel_counters(channel, sample);
        let machine = world.of(channel.id());
        for proxy in machine.proxies(channel.id()) {
            let (name, of) = (proxy.name().as_str(), channel.name().as_str());
            let labels = [("channel", of), ("consumer", name)];
            let offered = machine.offered(proxy) as f64;
            sample.counter_of("offered", "Events offered to a durable consumer.", &labels, offered);
            let pending = machine.pending(proxy) as f64;
            sample.gauge_of(
                "pending",
                "Events a durable consumer has not settled.",
                &labels,
                pending,
            );
            for outcome in Outcome::ALL {
                let labels = [labels[0], labels[1], ("outcome", outcome.as_str())];
                let ended = proxy.counts().get(outcome) as f64;
                sample.counter_of("settled", "Events settled, by outcome.", &labels, ended);
            }
        }
    }
}

fn channel_counters(channel: &Channel, sample: &mut Sample) {
    let labels = [("channel", channel.name().as_str())];
    let accepted = channel.accepted() as f64;
    sample.counter_of("accepted", "Events accepted.", &labels, accepted);
    let no_interest = channel.no_interest() as f64;
    let help = "Events accepted while no durable consumer existed.";
    sample.counter_of("no_interest", help, &labels, no_interest);
    let help = "Proxies deleted because they had no client for too long";
    sample.counter_of("proxies_expired", help, &labels, channel.expired_proxies() as f64);
    let retained = channel.retained().bytes as f64;
    sample.gauge_of("retained_bytes", "Bytes of events retained.", &labels, retained);
    let pending = channel.pending().bytes as f64;
    let help = "Bytes of events that some durable consumer has not settled.";
    sample.gauge_of("pending_bytes", help, &labels, pending);
    if channel.is_dead_letters() {
        let kept = channel.dead_letter_count() as f64;
        let help = "Dead letters that nobody has replayed or dropped.";
        sample.gauge_of("dead_letters", help, &labels, kept);
        let pushed_out = channel.letter_counts().pushed_out as f64;
        let help = "Dead letters that later ones pushed out.";
        sample.counter_of("dead_letters_pushed_out", help, &labels, pushed_out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::consensus::{Role, Room, SnapshotCounts};
    use crate::machine::Machine;
    use crate::storage::Damage;

    #[test]
    fn only_a_useful_node_is_ready() {
        let status = |committed, failure: Option<&str>| ReplicaStatus {
            role: Role::Follower,
            term: 1,
            leader: None,
            tenure: None,
            applied: 5,
            committed,
            last_log: 5,
            purged: 0,
            snapshot_index: 0,
            log_bytes: 0,
            store_bytes: 0,
            scrubbed_bytes: 0,
            damage: Damage::default(),
            room: Room::default(),
            snapshots: SnapshotCounts::default(),
            failure: failure.map(str::to_string),
        };
        for (status, leader, wanted) in [
            (status(6, None), true, Ok(())),
            (status(6, None), false, Err("no leader is known")),
            (status(6 + BEHIND_MAX, None), true, Err("10001 log entries behind")),
            (status(6, Some("disk gone")), true, Err("failed: disk gone")),
        ] {
            assert_eq!(judge(&status, leader), wanted.map_err(str::to_string));
        }
    }

    #[test]
    fn channels_and_their_ledgers_are_counted() {
        let mut sample = Sample::default();
        channel_metrics(&World::of_facts(&Machine::new()), &mut sample);
        let text = sample.into_text();
        for line in ["aqueduct_accepted_total{channel=\"default\"} 0.0", "aqueduct_lanes 0.0"] {
            assert!(text.contains(line), "{line} is missing in:\n{text}");
        }
    }
}
