//! The demo's second channel: alerts of different urgency, one of them beyond anybody's power.
//!
//! They are published before the first kill and consumed after the last, by a consumer whose order
//! is that of priorities: what waits is in its order under whichever leader. The poisonous one
//! fails each time, and becomes a dead letter.

use std::time::{Duration, Instant};

use serde::Serialize;

use super::super::args::Common;
use super::super::connect;
use super::super::exit::Failure;
use crate::client::{Client, LaneChoice, SubscribeOptions};
use crate::types::{Event, EventBytes, Name, Property, Qos, Rejection, Start};

const CHANNEL: &str = "alerts";
/// Name of the consumer.
const DESK: &str = "desk";
const ALERTS: u16 = 20;
/// Which of them nobody can process, and how often it is tried.
const POISON: u16 = 7;
const TRIES: u32 = 2;
const WAIT: Duration = Duration::from_secs(1);
const DONE_WITHIN: Duration = Duration::from_secs(20);

/// What became of the alerts; part of the closing report.
#[derive(Debug, Clone, Default, Serialize)]
pub struct AlertReport {
    /// The order in which the consumer had them for the first time, by their priorities.
    pub priorities: Vec<i16>,
    /// Whether no priority was greater than one before it.
    pub in_order: bool,
    /// Alerts processed, each once.
    pub processed: u64,
    /// What the dead letter says of itself; `None`: there is none.
    pub dead_letter: Option<String>,
}

impl AlertReport {
    /// Whether all went as it should.
    pub fn passed(&self) -> bool {
        let others = u64::from(ALERTS) - 1;
        self.in_order && self.processed == others && self.dead_letter.is_some()
    }
}

fn name(text: &str) -> Result<Name, Failure> {
    Name::new(text).map_err(|error| Failure::usage(error.to_string()))
}

fn desk() -> Result<SubscribeOptions, Failure> {
    let mut qos = Qos::default();
    if let Ok(order) = Qos::parse(Property::OrderPolicy, "priority") {
        qos.set(Property::OrderPolicy, order);
    }
    qos.set(Property::MaxDeliveries, Some(TRIES.into()));
    Ok(SubscribeOptions { qos, from: Start::All, ..SubscribeOptions::durable(name(DESK)?) })
}

/// Creates channel and consumer, and publishes the alerts.
pub async fn publish(common: &Common, client: &Client) -> Result<(), Failure> {
    let channel = name(CHANNEL)?;
    connect::admin(common)?.create_channel(&channel, &[]).await?;
    // It is there from the start, and takes nothing before the end.
    drop(client.puller(channel.clone(), desk()?).await?);
    let lane = client.publisher(channel, LaneChoice::Fresh).await?;
    for n in 0..ALERTS {
        let priority = (n * 7 % 5) as i16;
        let body = if n == POISON { "poison".to_string() } else { format!("alert {n}") };
        let event = Event { priority, ..Event::of_body(body) };
        lane.publish(&event).await.map_err(|error| error.rejection().clone())?;
    }
    Ok(())
}

/// Consumes them, one after the other, and looks for the dead letter.
pub async fn consume(client: &Client) -> Result<AlertReport, Failure> {
    let deadline = Instant::now() + DONE_WITHIN;
    let mut report = AlertReport::default();
    let mut puller = client.puller(name(CHANNEL)?, desk()?).await?;
    let mut first = std::collections::BTreeSet::new();
    while report.processed + 1 < u64::from(ALERTS) && Instant::now() < deadline {
        // A fetch that finds no leader is made again.
        let Ok(batch) = puller.fetch(1, WAIT).await else { continue };
        for delivery in batch {
            if first.insert(delivery.seq) {
                report.priorities.push(delivery.event.qos().priority);
            }
            if is_poison(&delivery.event) {
                puller.settler().nack(&[delivery.seq], Duration::ZERO).await?;
            } else {
                puller.ack(&[delivery.seq]).await?;
                report.processed += 1;
            }
        }
    }
    puller.settler().flush().await?;
    report.in_order = report.priorities.windows(2).all(|pair| pair[0] >= pair[1]);
    report.dead_letter = dead_letter(client, deadline).await?;
    Ok(report)
}

fn is_poison(event: &EventBytes) -> bool {
    event.body().as_ref() == b"poison"
}

async fn dead_letter(client: &Client, deadline: Instant) -> Result<Option<String>, Failure> {
    let options = SubscribeOptions { from: Start::All, ..SubscribeOptions::default() };
    while Instant::now() < deadline {
        let letters = name(CHANNEL)?.dead_letter();
        // There is no such channel before the first letter.
        let Ok(mut subscriber) = client.subscribe(letters, options.clone()).await else {
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let next = tokio::time::timeout(WAIT, subscriber.next()).await;
        let Ok(Ok(letter)) = next.map(|next: Result<_, Rejection>| next) else { continue };
        let said = letter.dead_letter.map(|letter| {
            format!("{} after {} attempts: {}", letter.proxy, letter.attempts, letter.reason)
        });
        return Ok(said);
    }
    Ok(None)
}
