//! One client's attachment to a durable consumer, push or pull.

use std::time::Duration;

use aqueduct::client::{Client, Delivery, Puller, Settler, SubscribeOptions, Subscriber};
use aqueduct::types::{ProxySettings, Qos, Rejection, Start};

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

    async fn attach(client: &Client, spec: &ConsumerSpec, qos: Qos) -> Result<Tap, Rejection> {
        let options = SubscribeOptions {
            // The channel is empty then, so this means: whatever will be published.
            from: Start::All,
            settings: Some(ProxySettings {
                ack_wait_ms: spec.ack_wait_ms,
                max_deliveries: spec.max_deliveries,
                max_in_flight: spec.max_in_flight,
            }),
            credit_events: spec.credit,
            qos,
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
