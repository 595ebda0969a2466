//! Failover: the leader is lost, until a publish sent after it is acknowledged, and a consumer that
//! waits gets its next event.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::super::args::{BenchFailover, BenchTarget, Common, LossBy};
use super::super::connect;
use super::super::exit::Failure;
use super::super::local::LocalNode;
use super::figures::{Figures, histogram, note};
use super::waiting::Waiting;
use super::{Bed, event, progress};
use crate::client::{LaneChoice, Publisher};
use crate::types::EventBytes;
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
    let mut waiting = Waiting::start(&bed, &target, flags).await?;
    let lane = client.publisher(target.channel.clone(), LaneChoice::Fresh).await?;
    let event = event(target.size, 0)?;
    let (mut failovers, mut deliveries) = (Vec::new(), Vec::new());
    let (mut latencies, mut events) = (histogram(), 0);
    let started = Instant::now();
    let bar = progress(Some(flags.runs));
    for _ in 0..flags.runs {
        let leader = whole(&bed, nodes as usize).await?;
        events += warm_up(&lane, &event).await?;
        if let Some(waiting) = &mut waiting {
            waiting.take_each().await?;
        }
        let (gone, took) = match flags.by {
            LossBy::Transfer => hand_over(&bed, &lane, &event).await?,
            by => {
                let gone = lose(&mut bed, leader, by).await?;
                publish(&lane, &event).await?;
                (gone, gone.elapsed())
            }
        };
        failovers.push(took.as_millis() as u64);
        note(&mut latencies, took, 1);
        if let Some(waiting) = &mut waiting {
            waiting.next_each().await?;
            deliveries.push(gone.elapsed().as_millis() as u64);
        }
        bring_back(&mut bed, leader, flags.by).await?;
        bar.inc(1);
        events += 1;
    }
    bar.finish_and_clear();
    let mut figures = Figures::of("failover", events, started.elapsed()).latencies(&latencies);
    figures.failover_ms = failovers;
    figures.delivery_ms = deliveries;
    figures.attach_ms = waiting.map(|waiting| waiting.attached_in.as_millis() as u64);
    Ok(figures)
}

/// Takes a node's life, or its attention. Returns since when.
async fn lose(bed: &mut Bed, leader: u64, by: LossBy) -> Result<Instant, Failure> {
    let node = node(bed, leader)?;
    if by == LossBy::Pause {
        node.signal(Signal::STOP)?;
        return Ok(Instant::now());
    }
    Ok(node.kill().await?)
}

/// Has the leader hand over while events go on being published. Returns when that was asked, and
/// the longest wait for an answer to one of them.
async fn hand_over(
    bed: &Bed,
    lane: &Publisher,
    event: &EventBytes,
) -> Result<(Instant, Duration), Failure> {
    let admin = connect::admin(&bed.common)?;
    let (asked, mut longest) = (Instant::now(), Duration::ZERO);
    let mut moved = std::pin::pin!(admin.transfer(None));
    let mut over = false;
    loop {
        let (began, served_by_the_next) = (Instant::now(), over);
        let mut answered = std::pin::pin!(publish(lane, event));
        loop {
            tokio::select! { biased;
                done = &mut moved, if !over => {
                    done?;
                    over = true;
                }
                answer = &mut answered => break answer?,
            }
        }
        longest = longest.max(began.elapsed());
        if served_by_the_next {
            return Ok((asked, longest));
        }
    }
}

async fn publish(lane: &Publisher, event: &EventBytes) -> Result<(), Failure> {
    lane.publish_encoded(event.clone()).await.map_err(|e| e.rejection().clone())?;
    Ok(())
}

/// Has the node take part again.
async fn bring_back(bed: &mut Bed, node: u64, by: LossBy) -> Result<(), Failure> {
    match by {
        LossBy::Kill => self::node(bed, node)?.restart().await?,
        LossBy::Pause => self::node(bed, node)?.signal(Signal::CONT)?,
        LossBy::Transfer => {}
    }
    Ok(())
}

fn node(bed: &mut Bed, id: u64) -> Result<&mut LocalNode, Failure> {
    let node = bed.cluster.as_mut().and_then(|cluster| cluster.node(id));
    Ok(node.ok_or_else(|| anyhow::anyhow!("node {id} leads, but is not of this cluster"))?)
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
async fn warm_up(lane: &Publisher, event: &EventBytes) -> Result<u64, Failure> {
    const EVENTS: u64 = 20;
    for _ in 0..EVENTS {
        publish(lane, event).await?;
    }
    Ok(EVENTS)
}
