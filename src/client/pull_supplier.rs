//! Supplying by pull: a source that the cluster polls.

use std::future::Future;

use super::conversation::PollToAnswer;
use super::{AckRange, PublishError, Publisher};
use crate::types::{EventBytes, Rejection};

/// Where a pull supplier gets its events.
///
/// What was taken is the supplier's to see through: it is offered to the cluster again, over
/// whatever connection, until it is answered, and accepted once.
pub trait Source: Send {
    /// At most `most` events (what is beyond them comes all the same); none: there are none now, ask
    /// again later. `None`: there will be no more. Called for one poll at a time.
    fn take(&mut self, most: usize) -> impl Future<Output = Option<Vec<EventBytes>>> + Send;

    /// What became of events taken before, in their order. A source that keeps them elsewhere lets go
    /// of them here.
    fn answered(&mut self, answers: &[AckRange]) {
        let _ = answers;
    }
}

/// An async closure is a source.
impl<F, T> Source for F
where
    F: FnMut(usize) -> T + Send,
    T: Future<Output = Option<Vec<EventBytes>>> + Send,
{
    fn take(&mut self, most: usize) -> impl Future<Output = Option<Vec<EventBytes>>> + Send {
        self(most)
    }
}

/// A supplier that does not publish by itself: the cluster asks it for events, every
/// `poll_interval`, and at once again while it gives as many as it was asked for. Nobody asks while
/// the channel is full, or the lane or its admin is suspended.
pub struct PullSupplier {
    publisher: Publisher,
}

impl PullSupplier {
    pub(super) fn new(publisher: Publisher) -> PullSupplier {
        PullSupplier { publisher }
    }

    /// The lane that is polled.
    pub fn publisher(&self) -> &Publisher {
        &self.publisher
    }

    /// Serves a source until it has no more and everything that it gave is answered.
    ///
    /// # Errors
    /// The lane is of no more use: it was removed, somebody else has opened it, or the client ended.
    /// Events that the cluster refused one by one are told to [`Source::answered`] alone.
    pub async fn serve(&self, mut source: impl Source) -> Result<(), PublishError> {
        let (mut given, mut answered) = (0, 0);
        let mut ended = false;
        while !ended || answered < given {
            tokio::select! { biased;
                answers = self.publisher.acks() => {
                    let answers = answers.ok_or_else(|| PublishError::Refused(self.why()))?;
                    answered += answers.iter().map(|range| u64::from(range.count)).sum::<u64>();
                    source.answered(&answers);
                }
                poll = self.publisher.poll(), if !ended => {
                    let poll = poll.map_err(PublishError::Refused)?;
                    let taken = source.take(poll.most as usize).await;
                    ended = taken.is_none();
                    let events = taken.unwrap_or_default();
                    let count = events.len();
                    given += count as u64;
                    self.publisher.publish_many(events).await?;
                    self.publisher.answer_poll(poll, count as u32);
                }
            }
        }
        Ok(())
    }

    fn why(&self) -> Rejection {
        self.publisher.failure()
    }
}

impl Publisher {
    /// What the cluster asks for; waits for it.
    async fn poll(&self) -> Result<PollToAnswer, Rejection> {
        self.wait_on_lane(|lane| {
            let failed = lane.failed().cloned().map(Err);
            failed.or_else(|| lane.take_poll().map(Ok))
        })
        .await
    }

    fn answer_poll(&self, poll: PollToAnswer, count: u32) {
        self.on_lane(|lane| lane.answer_poll(poll, count));
    }
}
