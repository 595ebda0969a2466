//! An ephemeral consumer: sees what comes while it is there, and owes nobody a verdict.

use std::time::Duration;

use aqueduct::client::{Client, SubscribeOptions};
use aqueduct::env::Runtime;
use aqueduct::transport::Net;
use aqueduct::types::Rejection;

use super::ListenerSpec;
use super::actor::{Actor, Course};
use super::consumer::delivered;
use super::supplier::valid;
use crate::history::What;

/// Pause after an attachment that failed.
const AGAIN: Duration = Duration::from_millis(200);

/// See the module.
pub struct Listener<N, E> {
    pub actor: Actor<N, E>,
    pub spec: ListenerSpec,
}

impl<N: Net, E: Runtime> Listener<N, E> {
    /// Listens until the load stops.
    pub async fn run(self) {
        while let Some(client) = self.actor.client(Course::Stop).await {
            let stop = self.actor.until(Course::Stop);
            let why = tokio::select! {
                biased;
                () = stop => "the load stops".to_string(),
                Err(rejection) = self.life(&client) => rejection.to_string(),
            };
            client.close();
            self.actor.record(What::Detached { consumer: self.spec.name.clone(), why });
            self.actor.pause(AGAIN, Course::Stop).await;
        }
    }

    async fn life(&self, client: &Client) -> Result<(), Rejection> {
        let channel = valid(&self.spec.channel)?;
        let mut subscriber = client.subscribe(channel, SubscribeOptions::default()).await?;
        self.actor.record(What::Attached { consumer: self.spec.name.clone() });
        loop {
            for delivery in subscriber.next_batch().await? {
                self.actor.record(delivered(&self.spec.name, &self.spec.channel, &delivery));
            }
            for gap in subscriber.missed() {
                let text = format!("events {} to {} of {}", gap.first, gap.last, self.spec.name);
                self.actor.record(What::Note { key: "gaps".into(), count: gap.len(), text });
            }
        }
    }
}
