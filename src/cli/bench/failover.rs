//! Failover: SIGKILL of the leader, until a publish sent after it is acknowledged.

use std::time::{Duration, Instant};

use super::super::args::{BenchFailover, BenchTarget, Common};
use super::super::connect;
use super::super::exit::Failure;
use super::figures::{Figures, histogram, note};
use super::{Bed, event, progress};
use crate::client::{LaneChoice, Publisher};
use crate::wire::admin::Role;

/// Nodes if nothing is said.
const NODES: u64 = 3;
/// How long the cluster may take to be whole again between runs.
const WHOLE_WITHIN: Duration = Duration::from_secs(60);

/// Measures failover on a cluster of its own: a stranger's leader is not ours to kill.
pub async fn run(common: &Common, flags: &BenchFailover) -> Result<Figures, Failure> {
    if flags.target.spawn.is_none() && !common.servers.is_empty() {
        return Err(Failure::usage(
            "bench failover kills leaders, and only of a cluster it started: use --spawn 3",
        ));
    }
    let nodes = flags.target.spawn.unwrap_or(NODES);
    if nodes < 3 {
        return Err(Failure::usage("failover needs --spawn 3 or more: fewer nodes have none"));
    }
    let target = BenchTarget { spawn: Some(nodes), ..flags.target.clone() };
    let mut bed = Bed::new(common, &target).await?;
    let client = bed.client().await?;
    let lane = client.publisher(target.channel.clone(), LaneChoice::Fresh).await?;
    let event = event(target.size)?;
    let mut failovers = Vec::new();
    let (mut latencies, mut events) = (histogram(), 0);
    let started = Instant::now();
    let bar = progress(Some(flags.runs));
    for _ in 0..flags.runs {
        let leader = whole(&bed, nodes as usize).await?;
        events += warm_up(&lane, &event).await?;
        let Some(node) = bed.cluster.as_mut().and_then(|c| c.node(leader)) else {
            return Err(anyhow::anyhow!("node {leader} leads, but is not of this cluster").into());
        };
        let killed = node.kill().await?;
        lane.publish_encoded(event.clone()).await.map_err(|e| e.rejection().clone())?;
        let took = killed.elapsed();
        failovers.push(took.as_millis() as u64);
        note(&mut latencies, took, 1);
        node.restart().await?;
        bar.inc(1);
        events += 1;
    }
    bar.finish_and_clear();
    let mut figures = Figures::of("failover", events, started.elapsed()).latencies(&latencies);
    figures.failover_ms = failovers;
    Ok(figures)
}

/// Waits until all nodes vote and one leads; returns which.
pub async fn whole(bed: &Bed, nodes: usize) -> Result<u64, Failure> {
    let deadline = Instant::now() + WHOLE_WITHIN;
    while Instant::now() < deadline {
        if let Ok(admin) = connect::admin(&bed.common)
            && let Ok(answer) = admin.status(false).await
        {
            let status = answer.value;
            let well = |role| matches!(role, Role::Leader | Role::Follower);
            let voting =
                status.nodes.iter().filter(|n| well(n.role) && n.state == "healthy").count();
            if let (true, Some(leader)) = (voting == nodes, status.leader) {
                return Ok(leader.0);
            }
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Err(anyhow::anyhow!("the cluster was not whole again within {WHOLE_WITHIN:?}").into())
}

/// A few publishes, so that the connection is in use when the leader dies.
async fn warm_up(lane: &Publisher, event: &crate::types::EventBytes) -> Result<u64, Failure> {
    const EVENTS: u64 = 20;
    for _ in 0..EVENTS {
        lane.publish_encoded(event.clone()).await.map_err(|e| e.rejection().clone())?;
    }
    Ok(EVENTS)
}
