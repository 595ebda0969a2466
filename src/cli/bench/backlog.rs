//! A backlog larger than memory: an idle durable consumer, a node that dies with it on its disk,
//! then draining it, in order, and the disk afterwards.

use std::collections::BTreeMap;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::super::args::{BenchBacklog, BenchTarget, Common};
use super::super::exit::Failure;
use super::super::output;
use super::consume::fill;
use super::failover::whole;
use super::figures::Figures;
use super::{Bed, progress};
use crate::client::{SubscribeOptions, Subscriber};
use crate::storage::BALLAST;
use crate::types::{Name, Start, limits};

/// Nodes if nothing is said.
const NODES: u64 = 3;
/// Publishing is timed in so many parts, to see whether it slows down.
const PARTS: u64 = 10;
/// A consumer that gets nothing for so long will get nothing more.
const STALLED: Duration = Duration::from_secs(30);
/// The disk counts as free again when each node uses less than this …
const RECLAIMED_BYTES: u64 = 200 << 20;
/// … and has so long to get there.
const RECLAIMED_WITHIN: Duration = Duration::from_secs(120);

/// What is reported beside the common figures.
#[derive(Debug, Default, Serialize)]
pub struct Backlog {
    /// Events per second published while each tenth of the backlog was built.
    publish_rates: Vec<f64>,
    /// From the start of a killed leader's process until it served again, and until it had caught
    /// up.
    ready_ms: u64,
    caught_up_ms: u64,
    drain_rate: f64,
    /// Used by the data directories, by node: with the whole backlog, and in the end.
    disk_full_bytes: BTreeMap<u64, u64>,
    disk_left_bytes: BTreeMap<u64, u64>,
    /// From the last settlement until every node used less than 200 MiB; absent if it never did.
    reclaim_s: Option<f64>,
}

/// Builds up a backlog and drains it, on a cluster of its own.
pub async fn run(common: &Common, flags: &BenchBacklog) -> Result<Figures, Failure> {
    if flags.target.spawn.is_none() && !common.servers.is_empty() {
        return Err(Failure::usage(
            "bench backlog kills a node, and only of a cluster it started: use --spawn 3",
        ));
    }
    let nodes = flags.target.spawn.unwrap_or(NODES);
    let target = BenchTarget { spawn: Some(nodes), ..flags.target.clone() };
    let mut bed = Bed::new(common, &target).await?;
    let options = SubscribeOptions {
        from: Start::New,
        credit_events: limits::CREDIT_EVENTS_MAX,
        credit_bytes: limits::CREDIT_BYTES_MAX,
        ..SubscribeOptions::durable(Name::new("idle").map_err(|e| Failure::usage(e.to_string()))?)
    };
    let client = bed.client().await?;
    drop(client.puller(target.channel.clone(), options.clone()).await?);

    let meter = bed.meter();
    let mut backlog = Backlog::default();
    let (started, bar) = (Instant::now(), progress(Some(flags.count)));
    for part in 0..PARTS {
        let count = flags.count * (part + 1) / PARTS - flags.count * part / PARTS;
        let began = Instant::now();
        fill(&client, &target, count).await?;
        backlog.publish_rates.push(count as f64 / began.elapsed().as_secs_f64());
        bar.inc(count);
    }
    bar.finish_and_clear();
    let elapsed = started.elapsed();
    backlog.disk_full_bytes = disk_used(&bed)?;
    let mut used = meter.map(|meter| meter.stop());

    restart_leader(&mut bed, nodes as usize, &mut backlog).await?;

    let meter = bed.meter();
    let mut subscriber = bed.client().await?.subscribe(target.channel.clone(), options).await?;
    let errors = drain(&mut subscriber, flags.count, &mut backlog).await?;
    reclaim(&bed, &mut backlog).await?;
    for (node, peak) in meter.map(|meter| meter.stop().rss_peak_bytes).unwrap_or_default() {
        let known = used.as_mut().and_then(|used| used.rss_peak_bytes.get_mut(&node));
        known.into_iter().for_each(|known| *known = peak.max(*known));
    }
    let mut figures = Figures::of("backlog", flags.count, elapsed).costs(used);
    figures.errors = errors;
    figures.backlog = Some(backlog);
    Ok(figures)
}

/// SIGKILL and start; how long until it served, and until the cluster was whole.
async fn restart_leader(bed: &mut Bed, nodes: usize, backlog: &mut Backlog) -> Result<(), Failure> {
    let leader = whole(bed, nodes).await?;
    let Some(node) = bed.cluster.as_mut().and_then(|cluster| cluster.node(leader)) else {
        return Err(anyhow::anyhow!("node {leader} leads, but is not of this cluster").into());
    };
    node.kill().await?;
    let started = Instant::now();
    node.restart().await?;
    backlog.ready_ms = started.elapsed().as_millis() as u64;
    whole(bed, nodes).await?;
    backlog.caught_up_ms = started.elapsed().as_millis() as u64;
    Ok(())
}

/// Consumes everything; how many events were missing or out of order.
async fn drain(
    subscriber: &mut Subscriber,
    count: u64,
    backlog: &mut Backlog,
) -> Result<u64, Failure> {
    let (bar, settler) = (progress(Some(count)), subscriber.settler());
    let (started, mut got, mut last, mut disorder) = (Instant::now(), 0, None, 0);
    while got < count {
        let Ok(batch) = tokio::time::timeout(STALLED, subscriber.next_batch()).await else { break };
        let seqs: Vec<_> = batch?.iter().map(|delivery| delivery.seq).collect();
        for seq in &seqs {
            disorder += u64::from(last.is_some_and(|last| *seq != last + 1));
            last = Some(*seq);
        }
        subscriber.ack(&seqs).await?;
        got += seqs.len() as u64;
        bar.inc(seqs.len() as u64);
    }
    let confirmed = tokio::time::timeout(STALLED, async {
        let mut known = 0;
        while known < got {
            known = settler.confirmed_beyond(known).await?;
        }
        Ok::<(), crate::types::Rejection>(())
    });
    confirmed.await.map_err(|_| anyhow::anyhow!("acks were not confirmed in {STALLED:?}"))??;
    bar.finish_and_clear();
    backlog.drain_rate = got as f64 / started.elapsed().as_secs_f64();
    Ok(count - got + disorder)
}

/// Waits until the disks are free again.
async fn reclaim(bed: &Bed, backlog: &mut Backlog) -> Result<(), Failure> {
    let started = Instant::now();
    loop {
        backlog.disk_left_bytes = disk_used(bed)?;
        if backlog.disk_left_bytes.values().all(|used| *used < RECLAIMED_BYTES) {
            backlog.reclaim_s = Some(started.elapsed().as_secs_f64());
            return Ok(());
        }
        if started.elapsed() > RECLAIMED_WITHIN {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

fn disk_used(bed: &Bed) -> Result<BTreeMap<u64, u64>, Failure> {
    let nodes = bed.cluster.iter().flat_map(|cluster| &cluster.nodes);
    let used = |dir: &Path| used_below(dir).map_err(anyhow::Error::from);
    nodes.map(|node| Ok((node.ready.node_id, used(&node.data_dir)?))).collect()
}

/// Bytes that a directory takes on the disk, but for the ballast.
fn used_below(dir: &Path) -> io::Result<u64> {
    let mut total = 0;
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_name() == BALLAST {
            continue;
        }
        // Nodes remove files while we look.
        let Ok(metadata) = entry.metadata() else { continue };
        total += metadata.blocks() * 512;
        if metadata.is_dir() {
            total += match used_below(&entry.path()) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
                used => used?,
            };
        }
    }
    Ok(total)
}

impl Backlog {
    /// For people.
    pub fn lines(&self) -> Vec<String> {
        let rates: Vec<_> = self.publish_rates.iter().map(|r| output::count(*r as u64)).collect();
        let sizes = |sizes: &BTreeMap<u64, u64>| {
            sizes.values().map(|b| output::bytes(*b)).collect::<Vec<_>>().join(", ")
        };
        let reclaimed = match self.reclaim_s {
            Some(seconds) => format!("after {seconds:.1} s"),
            None => "never".into(),
        };
        vec![
            format!("publish   {} events/s, tenth by tenth", rates.join(", ")),
            format!(
                "restart   of the killed leader: ready after {} ms, caught up after {} ms",
                self.ready_ms, self.caught_up_ms
            ),
            format!("drain     {} events/s", output::count(self.drain_rate as u64)),
            format!(
                "on disk   {} with the backlog; {} in the end, below {} {reclaimed}",
                sizes(&self.disk_full_bytes),
                sizes(&self.disk_left_bytes),
                output::bytes(RECLAIMED_BYTES)
            ),
        ]
    }
}
