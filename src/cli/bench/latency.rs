//! Time from publish to push delivery at a steady rate, on one clock: both ends are here.

use std::time::{Duration, Instant};

use super::super::args::{BenchLatency, Common};
use super::super::exit::Failure;
use super::figures::{Figures, histogram, note};
use super::publish::open;
use super::{Bed, progress};
use crate::client::{Publisher, SubscribeOptions, Subscriber};
use crate::types::{Event, Name, limits};

/// How long the last events may take to arrive.
const TAIL: Duration = Duration::from_secs(10);
/// Events that carry the time of their publish in the first bytes of the body.
const STAMP_BYTES: usize = 8;

/// Measures latency.
pub async fn run(common: &Common, flags: &BenchLatency) -> Result<Figures, Failure> {
    let bed = Bed::new(common, &flags.target).await?;
    let consumer = Name::new(format!("bench-{:08x}", fastrand::u32(..)))
        .map_err(|e| Failure::usage(e.to_string()))?;
    let (sender, receiver) = (bed.client().await?, bed.client().await?);
    let options = SubscribeOptions::durable(consumer);
    let subscriber = receiver.subscribe(flags.target.channel.clone(), options).await?;
    let lane = open(&sender, &flags.target.channel, limits::LANE_IN_FLIGHT_MAX).await?;

    let seconds = flags.seconds.clamp(0.1, 86_400.0);
    let total = (seconds * flags.rate as f64) as u64;
    let bar = progress(Some(total));
    let meter = bed.meter();
    let base = Instant::now();
    let size = flags.target.size.max(STAMP_BYTES);
    let supply = tokio::spawn(supply(lane, base, total, flags.rate.max(1), size));
    let arrivals = arrivals(subscriber, base, total, &bar);
    let limit = Duration::from_secs_f64(seconds) + TAIL;
    let latencies = tokio::time::timeout(limit, arrivals).await;
    supply.abort();
    let elapsed = base.elapsed();
    bar.finish_and_clear();
    let latencies =
        latencies.map_err(|_| anyhow::anyhow!("not all events arrived in {limit:?}"))??;
    let mut figures = Figures::of("latency", latencies.len(), elapsed)
        .latencies(&latencies)
        .costs(meter.map(|m| m.stop()));
    figures.errors = total - latencies.len();
    Ok(figures)
}

/// Publishes `total` events at `rate` per second; each carries its time of publish.
async fn supply(lane: Publisher, base: Instant, total: u64, rate: u64, size: usize) {
    let answers = async { while lane.acks().await.is_some() {} };
    let events = async {
        for n in 0..total {
            let due = base + Duration::from_nanos(n * 1_000_000_000 / rate);
            tokio::time::sleep_until(due.into()).await;
            let mut body = vec![0u8; size];
            let now = base.elapsed().as_nanos() as u64;
            body[..STAMP_BYTES].copy_from_slice(&now.to_le_bytes());
            let Ok(event) = Event::of_body(body).encode() else { return };
            if lane.publish_many([event]).await.is_err() {
                return;
            }
        }
    };
    tokio::join!(answers, events);
}

/// Receives `total` events and notes how long each took.
async fn arrivals(
    mut subscriber: Subscriber,
    base: Instant,
    total: u64,
    bar: &indicatif::ProgressBar,
) -> Result<hdrhistogram::Histogram<u64>, Failure> {
    let mut latencies = histogram();
    while latencies.len() < total {
        let batch = subscriber.next_batch().await?;
        let now = base.elapsed().as_nanos() as u64;
        for delivery in batch.iter().filter(|d| d.delivery == 1) {
            let body = delivery.event.body();
            let Some(stamp) = body.first_chunk::<STAMP_BYTES>() else { continue };
            let took = now.saturating_sub(u64::from_le_bytes(*stamp));
            note(&mut latencies, Duration::from_nanos(took), 1);
        }
        bar.set_position(latencies.len());
        subscriber.ack(&batch.iter().map(|d| d.seq).collect::<Vec<_>>()).await?;
    }
    Ok(latencies)
}
