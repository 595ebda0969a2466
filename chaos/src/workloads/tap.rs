//! One client's attachment to a durable consumer, push or pull.

use std::time::Duration;

use aqueduct::client::{Client, Delivery, Puller, Settler, SubscribeOptions, Subscriber};
use aqueduct::types::{Property, Qos, Rejection, Start};

use super::operator::changes;
use super::supplier::valid;
use super::{ConsumerSpec, Mode};

/// See the module.
pub enum Tap {
    Push(Subscriber),
    Pull(Puller, u32),
}

/// How long one pull waits for events.
const PULL_WAIT: Duration = Duration::from_millis(500);

impl Tap {
    /// Creates the consumer as `spec` says, and attaches.
    pub async fn create(client: &Client, spec: &ConsumerSpec) -> Result<Tap, Rejection> {
        let mut qos = Qos::default();
        qos.change(&changes(&spec.qos)?);
        Tap::attach(client, spec, qos).await
    }

    /// Attaches to the consumer, however it is defined by now.
    pub async fn open(client: &Client, spec: &ConsumerSpec) -> Result<Tap, Rejection> {
        Tap::attach(client, spec, Qos::default()).await
    }

    async fn attach(client: &Client, spec: &ConsumerSpec, mut qos: Qos) -> Result<Tap, Rejection> {
        // These the operator leaves alone.
        qos.change(&[
            (Property::AckWait, Some(spec.ack_wait_ms as i64)),
            (Property::MaxDeliveries, Some(spec.max_deliveries.into())),
            (Property::MaxInFlight, Some(spec.max_in_flight.into())),
        ]);
        let options = SubscribeOptions {
            // The channel is empty then, so this means: whatever will be published.
            from: Start::All,
            qos,
            credit_events: spec.credit,
            ..SubscribeOptions::durable(valid(&spec.name)?)
        };
        let channel = valid(&spec.channel)?;
        Ok(match spec.mode {
            Mode::Push => Tap::Push(client.subscribe(channel, options).await?),
            Mode::Pull => Tap::Pull(client.puller(channel, options).await?, spec.credit),
        })
    }

    /// What has come; perhaps nothing, if it asks and there is nothing. Cancel-safe.
    pub async fn next(&mut self) -> Result<Vec<Delivery>, Rejection> {
        match self {
            Tap::Push(subscriber) => subscriber.next_batch().await,
            Tap::Pull(puller, max) => puller.fetch(*max, PULL_WAIT).await,
        }
    }

    pub fn settler(&self) -> Settler {
        match self {
            Tap::Push(subscriber) => subscriber.settler(),
            Tap::Pull(puller, _) => puller.settler(),
        }
    }
}
