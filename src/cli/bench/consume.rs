//! Consume throughput: a backlog is drained, and an event counts when its ack is confirmed.

use std::time::{Duration, Instant};

use indicatif::ProgressBar;

use super::super::args::{BenchConsume, BenchMode, BenchTarget, Common};
use super::super::asked;
use super::super::exit::Failure;
use super::figures::Figures;
use super::publish::open;
use super::{Bed, event, progress};
use crate::client::{Client, Settler, SubscribeOptions, Subscriber};
use crate::types::{Level, Name, Rejection, Start, limits};

/// A puller that finds nothing for so long has drained its share.
const PULL_WAIT: Duration = Duration::from_millis(500);

/// Measures consuming.
pub async fn run(common: &Common, flags: &BenchConsume) -> Result<Figures, Failure> {
    let bed = Bed::new(common, &flags.target).await?;
    let consumer = Name::new(format!("bench-{:08x}", fastrand::u32(..)))
        .map_err(|e| Failure::usage(e.to_string()))?;
    let options = SubscribeOptions {
        from: Start::New,
        credit_events: limits::CREDIT_EVENTS_MAX,
        credit_bytes: limits::CREDIT_BYTES_MAX,
        qos: asked::qos(Level::Proxy, &flags.order.qos)?,
        ..SubscribeOptions::durable(consumer)
    };
    let client = bed.client().await?;
    // Created before the events, so that it is offered each of them.
    drop(client.puller(flags.target.channel.clone(), options.clone()).await?);
    fill_with(&client, &flags.target, flags.count, flags.order.priorities).await?;

    let bar = progress(Some(flags.count));
    let meter = bed.meter();
    let started = Instant::now();
    let mut tasks = Vec::new();
    for _ in 0..flags.connections.max(1) {
        let (client, channel) = (bed.client().await?, flags.target.channel.clone());
        let (options, bar) = (options.clone(), bar.clone());
        let (mode, batch) = (flags.mode, flags.batch);
        tasks.push(tokio::spawn(async move {
            match mode {
                BenchMode::Push => push(client.subscribe(channel, options).await?, bar).await,
                BenchMode::Pull => pull(client, channel, options, batch, bar).await,
            }
        }));
    }
    let confirmed = until_confirmed(&bar, flags.count, &tasks).await;
    let elapsed = started.elapsed();
    tasks.iter().for_each(|task| task.abort());
    bar.finish_and_clear();
    let mut figures = Figures::of("consume", confirmed, elapsed).costs(meter.map(|m| m.stop()));
    figures.errors = flags.count - confirmed;
    Ok(figures)
}

/// Puts `count` events into the channel.
pub async fn fill(client: &Client, target: &BenchTarget, count: u64) -> Result<(), Failure> {
    fill_with(client, target, count, 1).await
}

/// The same, with so many different priorities.
pub async fn fill_with(
    client: &Client,
    target: &BenchTarget,
    count: u64,
    priorities: u16,
) -> Result<(), Failure> {
    let lane = open(client, &target.channel, limits::LANE_IN_FLIGHT_MAX).await?;
    let kinds: Result<Vec<_>, _> = (0..priorities).map(|p| event(target.size, p as i16)).collect();
    let supply = lane.publish_many(kinds?.into_iter().cycle().take(count as usize));
    let answers = async {
        let mut answered = 0;
        while answered < count {
            let Some(ranges) = lane.acks().await else { break };
            answered += ranges.iter().map(|r| u64::from(r.count)).sum::<u64>();
        }
    };
    let (supplied, ()) = tokio::join!(supply, answers);
    supplied.map_err(|error| error.rejection().clone())?;
    Ok(())
}

/// Waits until `count` acks are confirmed, or all consumers have ended, or nothing happens.
pub async fn until_confirmed<T>(
    bar: &ProgressBar,
    count: u64,
    tasks: &[tokio::task::JoinHandle<T>],
) -> u64 {
    const STALLED: Duration = Duration::from_secs(30);
    let (mut last, mut since) = (0, Instant::now());
    loop {
        let confirmed = bar.position();
        if confirmed > last {
            (last, since) = (confirmed, Instant::now());
        }
        let over = tasks.iter().all(|task| task.is_finished()) || since.elapsed() > STALLED;
        if confirmed >= count || over {
            return confirmed.min(count);
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// Adds confirmed acks to the bar as they come.
fn count_confirmed(settler: Settler, bar: ProgressBar) {
    tokio::spawn(async move {
        let mut known = 0;
        while let Ok(confirmed) = settler.confirmed_beyond(known).await {
            bar.inc(confirmed - known);
            known = confirmed;
        }
    });
}

/// Acks whatever comes; the bar counts what is confirmed.
pub async fn push(mut subscriber: Subscriber, bar: ProgressBar) -> Result<(), Rejection> {
    count_confirmed(subscriber.settler(), bar);
    loop {
        let batch = subscriber.next_batch().await?;
        subscriber.ack(&batch.iter().map(|d| d.seq).collect::<Vec<_>>()).await?;
    }
}

async fn pull(
    client: Client,
    channel: Name,
    options: SubscribeOptions,
    batch: u32,
    bar: ProgressBar,
) -> Result<(), Rejection> {
    let mut puller = client.puller(channel, options).await?;
    count_confirmed(puller.settler(), bar);
    loop {
        let events = puller.fetch(batch, PULL_WAIT).await?;
        puller.ack(&events.iter().map(|d| d.seq).collect::<Vec<_>>()).await?;
    }
}
