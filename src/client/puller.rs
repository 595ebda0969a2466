//! Consuming by pull: events when asked for.

use std::sync::Arc;
use std::time::Duration;

use super::SubscribeOptions;
use super::client::{Alive, Attachment};
use super::conversation::Mode;
use super::subscriber::Settler;
use crate::types::{Name, Rejection, limits};
use crate::wire::Delivery;

/// A consumer that asks for events. Verdicts are given as with [`super::Subscriber`]; by token,
/// any other client can give them too.
pub struct Puller {
    settler: Settler,
    channel: Name,
    bytes_max: u64,
}

impl Puller {
    pub(super) async fn open(
        alive: Arc<Alive>,
        channel: Name,
        options: SubscribeOptions,
    ) -> Result<Puller, Rejection> {
        let bytes_max = options.credit_bytes.clamp(1, limits::CREDIT_BYTES_MAX);
        let attachment = Attachment::open(alive, channel.clone(), options, Mode::Pull).await?;
        Ok(Puller { settler: Settler { attachment: Arc::new(attachment) }, channel, bytes_max })
    }

    pub fn channel(&self) -> &Name {
        &self.channel
    }

    /// What gives verdicts, for use elsewhere.
    pub fn settler(&self) -> Settler {
        self.settler.clone()
    }

    /// Fetches up to `max` events, waiting up to `wait` for the first. Fewer, or none, is no
    /// error. If the future is dropped, what it was sent comes with the next call.
    ///
    /// # Errors
    /// The consumer has ended; or `no_leader` if there was no connection during the wait and a
    /// while after it.
    pub async fn fetch(&mut self, max: u32, wait: Duration) -> Result<Vec<Delivery>, Rejection> {
        let attachment = &self.settler.attachment;
        let shared = &attachment.alive.shared;
        {
            let mut state = shared.lock();
            let until = shared.now() + wait;
            if let Some(consumer) = state.conversation.consumer(attachment.key)
                && !consumer.has_received()
                && !consumer.is_fetching()
            {
                consumer.fetch(max, self.bytes_max, until);
            }
        }
        shared.wake.notify_one();
        let fetched = attachment.wait(|consumer| {
            if let Some(rejection) = consumer.failed() {
                return Some(Err(rejection.clone()));
            }
            match consumer.fetched() {
                Some(Err(rejection)) => Some(Err(rejection)),
                Some(Ok(())) => Some(Ok(consumer.take(max as usize))),
                None if consumer.is_fetching() => None,
                None => Some(Ok(consumer.take(max as usize))),
            }
        });
        fetched.await.map(Vec::from)
    }
}

impl std::ops::Deref for Puller {
    type Target = Settler;

    fn deref(&self) -> &Settler {
        &self.settler
    }
}
