//! Consumers that each have a backlog and take one event at a time: who is served again, and how
//! soon, after a failover.

use std::time::{Duration, Instant};

use futures::future::try_join_all;

use super::super::args::{BenchFailover, BenchOrder, BenchTarget};
use super::super::asked;
use super::super::exit::Failure;
use super::Bed;
use super::consume::fill_with;
use crate::client::{Client, SubscribeOptions, Subscriber};
use crate::types::{Level, Name, Property, Qos, Rejection, Start};

/// Connections that many consumers share.
const CONNECTIONS: u64 = 8;
/// Consumers that are attached at a time.
const AT_ONCE: usize = 100;

/// Durable consumers of one channel, each with all of the backlog.
pub struct Waiting {
    subscribers: Vec<Subscriber>,
    /// From the first attach until each had its first event.
    pub attached_in: Duration,
}

impl Waiting {
    /// Makes the consumers, then the backlog, and attaches them. `None`: no backlog is asked for.
    pub async fn start(
        bed: &Bed,
        target: &BenchTarget,
        flags: &BenchFailover,
    ) -> Result<Option<Waiting>, Failure> {
        if flags.pending == 0 {
            return Ok(None);
        }
        let asked: Result<Vec<_>, _> =
            (0..flags.consumers).map(|number| options(number, &flags.order)).collect();
        let asked = asked?;
        let mut clients = Vec::new();
        for _ in 0..flags.consumers.min(CONNECTIONS) {
            clients.push(bed.client().await?);
        }
        let pairs: Vec<(&Client, &SubscribeOptions)> = clients.iter().cycle().zip(&asked).collect();
        for some in pairs.chunks(AT_ONCE) {
            let made = some.iter().map(|(client, options)| async {
                client.puller(target.channel.clone(), (*options).clone()).await.map(drop)
            });
            try_join_all(made).await?;
        }
        let pending = flags.pending + 2 * flags.runs;
        fill_with(&bed.client().await?, target, pending, flags.order.priorities).await?;

        let began = Instant::now();
        let mut subscribers = Vec::new();
        for some in pairs.chunks(AT_ONCE) {
            let attached = some.iter().map(|(client, options)| {
                client.subscribe(target.channel.clone(), (*options).clone())
            });
            subscribers.extend(try_join_all(attached).await?);
        }
        let mut waiting = Waiting { subscribers, attached_in: Duration::ZERO };
        waiting.next_each().await?;
        waiting.attached_in = began.elapsed();
        Ok(Some(waiting))
    }

    /// Has each of them take an event and keep it: what is not settled comes again from whoever
    /// leads next, and nothing else comes before.
    pub async fn take_each(&mut self) -> Result<(), Rejection> {
        try_join_all(self.subscribers.iter_mut().map(Subscriber::next)).await.map(drop)
    }

    /// Waits until each of them has an event, and settles it.
    pub async fn next_each(&mut self) -> Result<(), Rejection> {
        let each = self.subscribers.iter_mut().map(|subscriber| async {
            let delivery = subscriber.next().await?;
            subscriber.ack(&[delivery.seq]).await
        });
        try_join_all(each).await.map(drop)
    }
}

/// One consumer has what was asked for; many are of all kinds besides.
fn options(number: u64, order: &BenchOrder) -> Result<SubscribeOptions, Failure> {
    let name = Name::new(format!("waiting-{number}")).map_err(|e| Failure::usage(e.to_string()))?;
    let mut qos = if number > 0 { kind(number) } else { Qos::default() };
    asked::check(Level::Proxy, &order.qos)?;
    qos.change(&order.qos);
    let durable = SubscribeOptions::durable(name);
    Ok(SubscribeOptions { credit_events: 1, from: Start::New, qos, ..durable })
}

fn kind(number: u64) -> Qos {
    let set: &[(Property, i64)] = match number % 5 {
        0 => &[(Property::OrderPolicy, 1)],
        1 => &[(Property::OrderPolicy, 2), (Property::DiscardPolicy, 3)],
        2 => &[(Property::OrderPolicy, 3)],
        3 => &[(Property::PacingInterval, 5), (Property::MaximumBatchSize, 1)],
        _ => &[(Property::Timeout, 3_600_000), (Property::RateLimit, 1000)],
    };
    let mut qos = Qos::default();
    set.iter().for_each(|(property, value)| qos.set(*property, Some(*value)));
    qos
}
