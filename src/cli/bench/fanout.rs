//! Fan-out: one channel, many durable consumers, each of which gets and settles every event.

use std::time::Instant;

use super::super::args::{BenchFanout, Common};
use super::super::exit::Failure;
use super::consume::{fill, push, until_confirmed};
use super::figures::Figures;
use super::{Bed, progress};
use crate::client::SubscribeOptions;
use crate::types::{Name, Start};

/// Measures deliveries: they count when their acks are confirmed.
pub async fn run(common: &Common, flags: &BenchFanout) -> Result<Figures, Failure> {
    let bed = Bed::new(common, &flags.target).await?;
    let channel = &flags.target.channel;
    let mut clients = Vec::new();
    for _ in 0..flags.connections {
        clients.push(bed.client().await?);
    }
    let run = fastrand::u32(..);
    let total = flags.count.saturating_mul(flags.consumers);
    let bar = progress(Some(total));
    let mut tasks = Vec::new();
    for (number, client) in (0..flags.consumers).zip(clients.iter().cycle()) {
        let name = Name::new(format!("bench-{run:08x}-{number}"))
            .map_err(|e| Failure::usage(e.to_string()))?;
        let options = SubscribeOptions { from: Start::New, ..SubscribeOptions::durable(name) };
        let subscriber = client.subscribe(channel.clone(), options).await?;
        tasks.push(tokio::spawn(push(subscriber, bar.clone())));
    }

    let meter = bed.meter();
    let started = Instant::now();
    fill(&bed.client().await?, &flags.target, flags.count).await?;
    let confirmed = until_confirmed(&bar, total, &tasks).await;
    let elapsed = started.elapsed();
    tasks.iter().for_each(|task| task.abort());
    bar.finish_and_clear();
    let mut figures = Figures::of("fanout", confirmed, elapsed).costs(meter.map(|m| m.stop()));
    figures.errors = total - confirmed;
    Ok(figures)
}
