//! Many channels that nobody uses: how fast they are made, and what each costs a node.

use std::time::{Duration, Instant};

use futures::stream::{self, StreamExt, TryStreamExt};
use serde::Serialize;

use super::super::args::{BenchChannels, Common};
use super::super::connect;
use super::super::exit::Failure;
use super::super::output;
use super::figures::{Figures, histogram, note};
use super::{Bed, progress};
use crate::client::AdminClient;
use crate::types::Name;

/// Idle processor time is measured for so long, after a pause in which the creation settles.
const IDLE: Duration = Duration::from_secs(5);
const SETTLE: Duration = Duration::from_secs(2);

/// What is reported beside the common figures.
#[derive(Debug, Default, Serialize)]
pub struct Idle {
    /// Resident memory that a channel added, in bytes, on the node where it was most.
    channel_bytes: u64,
    /// Processor time of the busiest node while nothing happened, in percent of one processor.
    idle_cpu_pct: f64,
}

/// Creates channels, as many requests at once as asked for, and looks at the nodes afterwards.
pub async fn run(common: &Common, flags: &BenchChannels) -> Result<Figures, Failure> {
    let bed = Bed::new(common, &flags.target).await?;
    let askers: Result<Vec<AdminClient>, Failure> =
        (0..flags.inflight).map(|_| connect::admin(&bed.common)).collect();
    let askers = askers?;
    let run = fastrand::u32(..);
    let before = bed.resident();
    let (bar, meter, started) = (progress(Some(flags.count)), bed.meter(), Instant::now());
    let workers = askers.iter().zip(0..).map(|(asker, first)| {
        let (bar, numbers) = (bar.clone(), (first..flags.count).step_by(askers.len()));
        async move { create(asker, run, numbers, &bar).await }
    });
    let parts: Vec<_> = stream::iter(workers).buffer_unordered(askers.len()).try_collect().await?;
    let elapsed = started.elapsed();
    bar.finish_and_clear();
    let mut latencies = histogram();
    for part in &parts {
        latencies.add(part).map_err(anyhow::Error::from)?;
    }
    let mut figures = Figures::of("channels", flags.count, elapsed)
        .latencies(&latencies)
        .costs(meter.map(|meter| meter.stop()));
    if bed.cluster.is_some() {
        tokio::time::sleep(SETTLE).await;
        let grown =
            bed.resident().into_iter().zip(before).map(|(now, was)| now.saturating_sub(was));
        let channel_bytes = grown.max().unwrap_or(0) / flags.count.max(1);
        figures.idle = Some(Idle { channel_bytes, idle_cpu_pct: idle_cpu(&bed).await });
    }
    Ok(figures)
}

/// Creates these channels one after the other.
async fn create(
    asker: &AdminClient,
    run: u32,
    numbers: impl Iterator<Item = u64>,
    bar: &indicatif::ProgressBar,
) -> Result<hdrhistogram::Histogram<u64>, Failure> {
    let mut latencies = histogram();
    for number in numbers {
        let name = Name::new(format!("bench-{run:08x}-{number}"))
            .map_err(|e| Failure::usage(e.to_string()))?;
        let asked = Instant::now();
        asker.create_channel(&name, &[]).await?;
        note(&mut latencies, asked.elapsed(), 1);
        bar.inc(1);
    }
    Ok(latencies)
}

/// Percent of one processor that the busiest node used while nothing happened.
async fn idle_cpu(bed: &Bed) -> f64 {
    let Some(meter) = bed.meter() else { return 0.0 };
    let started = Instant::now();
    tokio::time::sleep(IDLE).await;
    let busiest = meter.stop().cpu_by_node.into_values().max().unwrap_or_default();
    busiest.as_secs_f64() * 100.0 / started.elapsed().as_secs_f64()
}

impl Idle {
    /// For people.
    pub fn lines(&self) -> Vec<String> {
        vec![
            format!("memory    {} for each channel and node", output::bytes(self.channel_bytes)),
            format!("idle      {:.1} % of a processor, the busiest node", self.idle_cpu_pct),
        ]
    }
}
