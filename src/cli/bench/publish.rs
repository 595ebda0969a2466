//! Publish throughput in a closed loop: so many events in flight, each answer lets one more go.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use indicatif::ProgressBar;

use super::super::args::{BenchPublish, Common};
use super::super::connect;
use super::super::exit::Failure;
use super::figures::{Figures, histogram, note};
use super::{Bed, event, progress};
use crate::client::{AckRange, Client, Fate, LaneChoice, PublishOptions, Publisher};
use crate::types::{Event, EventBytes, Header, Name, Start, TypePattern, limits};
use crate::wire::admin::{ProxyWish, QosWish};

/// Of the events that have a type.
const DOMAIN: &str = "bench";
/// How long a benchmark runs if nothing is said.
const SECONDS: f64 = 10.0;

/// When to stop.
struct Goal {
    /// Events still to be sent, over all connections.
    left: AtomicU64,
    deadline: Option<Instant>,
}

impl Goal {
    /// Takes up to `wanted` events; 0: enough is sent.
    fn take(&self, wanted: u64) -> u64 {
        if self.deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            return 0;
        }
        let taken = self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
            Some(left - left.min(wanted))
        });
        taken.map_or(0, |left| left.min(wanted))
    }
}

/// Measures publishing.
pub async fn run(common: &Common, flags: &BenchPublish) -> Result<Figures, Failure> {
    let bed = Bed::new(common, &flags.target).await?;
    let connections = flags.connections.max(1);
    let window = (flags.inflight / connections).clamp(1, limits::LANE_IN_FLIGHT_MAX);
    let mut lanes = Vec::new();
    for _ in 0..connections {
        lanes.push(open(&bed.client().await?, &flags.target.channel, window).await?);
    }
    let events = events(flags)?;
    create_proxies(&bed, flags).await?;
    let seconds = flags.length.seconds.or(flags.length.count.is_none().then_some(SECONDS));
    let bar = progress(flags.length.count);
    let meter = bed.meter();
    let started = Instant::now();
    let goal = Arc::new(Goal {
        left: AtomicU64::new(flags.length.count.unwrap_or(u64::MAX)),
        deadline: seconds.map(|s| started + Duration::from_secs_f64(s.clamp(0.0, 86_400.0))),
    });
    let tasks: Vec<_> = lanes
        .into_iter()
        .map(|lane| {
            tokio::spawn(closed_loop(lane, events.clone(), window, goal.clone(), bar.clone()))
        })
        .collect();
    let (mut latencies, mut errors) = (histogram(), 0);
    for task in tasks {
        let outcome = task.await.map_err(anyhow::Error::from)?;
        errors += outcome.errors;
        latencies.add(&outcome.latencies).map_err(anyhow::Error::from)?;
    }
    let elapsed = started.elapsed();
    bar.finish_and_clear();
    let mut figures = Figures::of("publish", latencies.len(), elapsed)
        .latencies(&latencies)
        .costs(meter.map(|meter| meter.stop()));
    figures.errors = errors;
    Ok(figures)
}

/// What is published, one after the other.
fn events(flags: &BenchPublish) -> Result<Arc<[EventBytes]>, Failure> {
    let plain = event(flags.target.size, 0)?;
    if flags.types == 0 {
        return Ok([plain].into());
    }
    let typed = |number: u64| {
        let kind = format!("type-{number}");
        let header = Header { domain: DOMAIN.into(), kind, ..Header::default() };
        Event { header, ..Event::of_body(plain.body()) }.encode()
    };
    let events: Result<Vec<EventBytes>, _> = (0..flags.types).map(typed).collect();
    Ok(events.map_err(anyhow::Error::from)?.into())
}

/// Durable proxies, which nobody is attached to.
async fn create_proxies(bed: &Bed, flags: &BenchPublish) -> Result<(), Failure> {
    let admin = connect::admin(&bed.common)?;
    let run = fastrand::u32(..);
    for number in 0..flags.proxies {
        let name = format!("bench-{run:08x}-{number}");
        let pattern = format!("{DOMAIN}::type-{}", number % flags.types.max(1));
        let wanted: Option<TypePattern> =
            flags.pick.then(|| pattern.parse()).transpose().map_err(anyhow::Error::from)?;
        let wish = ProxyWish {
            name: Name::new(name).map_err(anyhow::Error::from)?,
            start: Start::New,
            admin: None,
            qos: QosWish::new(),
            types: wanted.into_iter().collect(),
        };
        admin.create_proxy(&flags.target.channel, &wish).await?;
    }
    Ok(())
}

/// Opens a lane for bulk publishing.
pub async fn open(client: &Client, channel: &Name, window: usize) -> Result<Publisher, Failure> {
    let options = PublishOptions {
        lane: LaneChoice::Fresh,
        in_flight_events: window,
        ..PublishOptions::default()
    };
    Ok(client.publisher(channel.clone(), options).await?)
}

struct Outcome {
    latencies: Histogram<u64>,
    errors: u64,
}

/// Keeps `window` events in flight until the goal is reached; then waits for the last answers.
async fn closed_loop(
    lane: Publisher,
    events: Arc<[EventBytes]>,
    window: usize,
    goal: Arc<Goal>,
    bar: ProgressBar,
) -> Outcome {
    let mut outcome = Outcome { latencies: histogram(), errors: 0 };
    // When events were sent: (how many, when), in lane order.
    let mut sent: VecDeque<(u64, Instant)> = VecDeque::new();
    let mut in_flight = 0u64;
    let mut next = events.iter().cycle().cloned();
    loop {
        let more = goal.take(window as u64 - in_flight);
        if more > 0 {
            sent.push_back((more, Instant::now()));
            in_flight += more;
            if lane.publish_many(next.by_ref().take(more as usize)).await.is_err() {
                outcome.errors += in_flight;
                return outcome;
            }
        } else if in_flight == 0 {
            return outcome;
        }
        let Some(ranges) = lane.acks().await else {
            outcome.errors += in_flight;
            return outcome;
        };
        for range in ranges {
            in_flight -= u64::from(range.count);
            answered(&range, &mut sent, &mut outcome);
            bar.inc(u64::from(range.count));
        }
    }
}

/// Notes how long the events of a range took.
fn answered(range: &AckRange, sent: &mut VecDeque<(u64, Instant)>, outcome: &mut Outcome) {
    let accepted = matches!(range.fate, Fate::Accepted { .. });
    let mut left = u64::from(range.count);
    while left > 0 {
        let Some((count, at)) = sent.front_mut() else { return };
        let taken = left.min(*count);
        match accepted {
            true => note(&mut outcome.latencies, at.elapsed(), taken),
            false => outcome.errors += taken,
        }
        *count -= taken;
        left -= taken;
        if *count == 0 {
            sent.pop_front();
        }
    }
}
