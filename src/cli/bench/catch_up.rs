//! A node that was away longer than the log reaches gets a snapshot, while events are published at
//! a steady rate: how long it takes, what is sent, and what it does to the publishers.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use serde::Serialize;

use super::super::args::{BenchCatchUp, BenchTarget, Common};
use super::super::connect;
use super::super::exit::Failure;
use super::super::output;
use super::consume::fill;
use super::failover::whole;
use super::figures::{Figures, histogram, note};
use super::publish::open;
use super::{Bed, event, progress};
use crate::client::{AdminClient, Fate, Publisher, SubscribeOptions};
use crate::types::{EventBytes, Name, Start, limits};
use crate::wire::admin::{ClusterStatus, NodeReport};

/// Nodes if nothing is said.
const NODES: u64 = 3;
/// How long the node may take to catch up.
const CAUGHT_UP_WITHIN: Duration = Duration::from_secs(600);
/// It has caught up when it is no more entries behind than this.
const BEHIND_MAX: u64 = 100;
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// The cluster is at rest when it has built no snapshot for so long, or …
const SETTLED_FOR: Duration = Duration::from_secs(6);
/// … counts as such after this.
const SETTLED_WITHIN: Duration = Duration::from_secs(30);

/// What is reported beside the common figures, whose latencies are those during the catch-up.
#[derive(Debug, Default, Serialize)]
pub struct CatchUp {
    /// Events pending, most of which the node that comes back does not have.
    pending: u64,
    /// Events per second published meanwhile.
    publish_rate: u64,
    /// From the start of the node's process until it had installed a snapshot, and until it had
    /// caught up.
    snapshot_s: f64,
    caught_up_s: f64,
    snapshots: u64,
    sent_bytes: u64,
    before_p50_ms: f64,
    before_p99_ms: f64,
    after_p50_ms: f64,
    after_p99_ms: f64,
    /// p99 during the catch-up over p99 before.
    p99_ratio: f64,
}

/// Measures a catch-up on a cluster of its own.
pub async fn run(common: &Common, flags: &BenchCatchUp) -> Result<Figures, Failure> {
    if flags.target.spawn.is_none() && !common.servers.is_empty() {
        return Err(Failure::usage(
            "bench catch-up kills a node, and only of a cluster it started: use --spawn 3",
        ));
    }
    let nodes = flags.target.spawn.unwrap_or(NODES);
    if nodes < 3 {
        return Err(Failure::usage("catch-up needs --spawn 3 or more: it goes on without one"));
    }
    let target = BenchTarget { spawn: Some(nodes), ..flags.target.clone() };
    let mut bed = Bed::new(common, &target).await?;
    let client = bed.client().await?;
    let idle = Name::new("idle").map_err(|e| Failure::usage(e.to_string()))?;
    let options = SubscribeOptions { from: Start::New, ..SubscribeOptions::durable(idle) };
    drop(client.puller(target.channel.clone(), options).await?);

    let leader = whole(&bed, nodes as usize).await?;
    let away = take_away(&mut bed, leader).await?;
    let bar = progress(None);
    fill(&client, &target, flags.pending).await?;
    settled(&bed, leader).await?;
    let lane = open(&client, &target.channel, limits::LANE_IN_FLIGHT_MAX).await?;
    let steady = Steady::start(lane, flags.rate.max(1), event(target.size, 0)?);
    let part = Duration::from_secs_f64(flags.seconds.clamp(0.1, 3600.0));
    let before = steady.over(part).await;

    let began = Instant::now();
    let meter = bed.meter();
    bring_back(&mut bed, away).await?;
    let mut catch_up =
        CatchUp { pending: flags.pending, publish_rate: flags.rate, ..CatchUp::default() };
    until_caught_up(&bed, away, began, &mut catch_up).await?;
    let during = steady.take();
    let elapsed = began.elapsed();
    let used = meter.map(|meter| meter.stop());
    let after = steady.over(part).await;
    bar.finish_and_clear();

    let ms = |found: &Histogram<u64>, at| found.value_at_quantile(at) as f64 / 1000.0;
    (catch_up.before_p50_ms, catch_up.before_p99_ms) = (ms(&before, 0.5), ms(&before, 0.99));
    (catch_up.after_p50_ms, catch_up.after_p99_ms) = (ms(&after, 0.5), ms(&after, 0.99));
    catch_up.p99_ratio = ms(&during, 0.99) / catch_up.before_p99_ms.max(f64::EPSILON);
    let mut figures = Figures::of("catch-up", during.len(), elapsed).latencies(&during).costs(used);
    figures.errors = steady.stop();
    figures.catch_up = Some(catch_up);
    Ok(figures)
}

/// Waits until no more snapshots come of what was published.
async fn settled(bed: &Bed, leader: u64) -> Result<(), Failure> {
    let admin = connect::admin(&bed.common)?;
    let (began, mut last, mut since) = (Instant::now(), None, Instant::now());
    while since.elapsed() < SETTLED_FOR && began.elapsed() < SETTLED_WITHIN {
        let seen = look(&admin, leader).await.map(|(node, _)| node.snapshot_index);
        if seen != last {
            (last, since) = (seen, Instant::now());
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    Ok(())
}

/// SIGKILL for a node that does not lead; which.
async fn take_away(bed: &mut Bed, leader: u64) -> Result<u64, Failure> {
    let nodes = bed.cluster.iter_mut().flat_map(|cluster| &mut cluster.nodes);
    let follower = nodes.into_iter().find(|node| node.ready.node_id != leader);
    let Some(node) = follower else { return Err(anyhow::anyhow!("there is no follower").into()) };
    node.kill().await?;
    Ok(node.ready.node_id)
}

async fn bring_back(bed: &mut Bed, away: u64) -> Result<(), Failure> {
    let node = bed.cluster.as_mut().and_then(|cluster| cluster.node(away));
    Ok(node.ok_or_else(|| anyhow::anyhow!("node {away} is not of this cluster"))?.restart().await?)
}

/// Looks at the cluster until the node has received a snapshot and what came since.
async fn until_caught_up(
    bed: &Bed,
    away: u64,
    began: Instant,
    catch_up: &mut CatchUp,
) -> Result<(), Failure> {
    let admin = connect::admin(&bed.common)?;
    while began.elapsed() < CAUGHT_UP_WITHIN {
        if let Some((node, leader)) = look(&admin, away).await
            && node.snapshots.received > 0
        {
            let now = began.elapsed().as_secs_f64();
            if catch_up.snapshots == 0 {
                catch_up.snapshot_s = now;
            }
            catch_up.snapshots = node.snapshots.received;
            catch_up.sent_bytes = leader.snapshots.sent_bytes;
            if node.applied + BEHIND_MAX >= leader.committed {
                catch_up.caught_up_s = now;
                return Ok(());
            }
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    let what = match catch_up.snapshots {
        0 => "needed no snapshot, or got none: use more --pending",
        _ => "did not catch up",
    };
    Err(anyhow::anyhow!("node {away} {what} ({CAUGHT_UP_WITHIN:?})").into())
}

/// The node and the leader, as they are now.
async fn look(admin: &AdminClient, away: u64) -> Option<(NodeReport, NodeReport)> {
    let ClusterStatus { leader, nodes, .. } = admin.status(false).await.ok()?.value;
    let find = |id: u64| nodes.iter().find(|node| node.id.0 == id).cloned();
    Some((find(away)?, find(leader?.0)?))
}

/// Publishes at a steady rate, and times the answers.
struct Steady {
    seen: Arc<Mutex<Seen>>,
    task: tokio::task::JoinHandle<()>,
}

struct Seen {
    /// When events were sent that have no answer yet.
    sent: VecDeque<Instant>,
    latencies: Histogram<u64>,
    errors: u64,
}

impl Steady {
    fn start(lane: Publisher, rate: u64, event: EventBytes) -> Steady {
        let seen = Seen { sent: VecDeque::new(), latencies: histogram(), errors: 0 };
        let seen = Arc::new(Mutex::new(seen));
        let supplied = seen.clone();
        let task = tokio::spawn(async move {
            tokio::join!(supply(&lane, rate, event, &supplied), answers(&lane, &supplied));
        });
        Steady { seen, task }
    }

    /// What is seen in the time to come.
    async fn over(&self, time: Duration) -> Histogram<u64> {
        self.take();
        tokio::time::sleep(time).await;
        self.take()
    }

    /// What was seen since it was last asked.
    fn take(&self) -> Histogram<u64> {
        std::mem::replace(&mut lock(&self.seen).latencies, histogram())
    }

    /// Ends it; how many events were refused or not answered.
    fn stop(self) -> u64 {
        self.task.abort();
        lock(&self.seen).errors
    }
}

fn lock(seen: &Mutex<Seen>) -> std::sync::MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Publishes without end. An event that had to wait for its turn counts from when it was due.
async fn supply(lane: &Publisher, rate: u64, event: EventBytes, seen: &Mutex<Seen>) {
    let base = Instant::now();
    for n in 0u64.. {
        let due = base + Duration::from_nanos(n.saturating_mul(1_000_000_000 / rate));
        tokio::time::sleep_until(due.into()).await;
        lock(seen).sent.push_back(due);
        if lane.publish_many([event.clone()]).await.is_err() {
            lock(seen).errors += 1;
            return;
        }
    }
}

async fn answers(lane: &Publisher, seen: &Mutex<Seen>) {
    while let Some(ranges) = lane.acks().await {
        let mut seen = lock(seen);
        for range in ranges {
            let accepted = matches!(range.fate, Fate::Accepted { .. });
            for _ in 0..range.count {
                let Some(due) = seen.sent.pop_front() else { return };
                match accepted {
                    true => note(&mut seen.latencies, due.elapsed(), 1),
                    false => seen.errors += 1,
                }
            }
        }
    }
}

impl CatchUp {
    /// For people.
    pub fn lines(&self) -> Vec<String> {
        vec![
            format!(
                "catch-up  snapshot after {:.2} s, caught up after {:.2} s; {} sent in {} snapshot(s)",
                self.snapshot_s,
                self.caught_up_s,
                output::bytes(self.sent_bytes),
                self.snapshots
            ),
            format!(
                "publish   {} events/s: p50/p99 {:.2}/{:.2} ms before, {:.2}/{:.2} ms after; p99 \
                 during it is {:.2} times that before",
                output::count(self.publish_rate),
                self.before_p50_ms,
                self.before_p99_ms,
                self.after_p50_ms,
                self.after_p99_ms,
                self.p99_ratio
            ),
        ]
    }
}
