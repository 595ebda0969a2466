//! Publishing: events in, acknowledgements out, many on their way at a time.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::sync::{Notify, oneshot};

use super::client::Alive;
use super::conversation::{Key, Lane, LaneIdentity};
use super::shared::State;
use super::{Ack, AckRange, PublishError, PublishOptions};
use crate::types::{Code, Event, EventBytes, LaneId, Name, Rejection, limits};

/// The supplier's end of a lane. Events keep the order in which they are given.
///
/// Dropping it publishes what was given as long as the client lives; [`Publisher::flush`] waits
/// for that.
pub struct Publisher {
    alive: Arc<Alive>,
    key: Key,
    news: Arc<Notify>,
    channel: Name,
    identity: LaneIdentity,
    interest: bool,
    best_effort: bool,
}

/// The promise of an answer to one event. Dropping it does not take the event back.
#[must_use = "await it to learn whether the event was accepted"]
pub struct Receipt {
    sequence: u64,
    answer: oneshot::Receiver<Result<Ack, PublishError>>,
}

impl Receipt {
    /// The event's sequence on the lane.
    pub fn sequence(&self) -> u64 {
        self.sequence
    }
}

impl Future for Receipt {
    type Output = Result<Ack, PublishError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        // Every waiter is answered, at the latest when the client ends; without an answer the
        // runtime itself is gone.
        let gone = || {
            PublishError::Unknown(Rejection::new(Code::ShuttingDown, "the client's task is gone"))
        };
        Pin::new(&mut self.answer).poll(cx).map(|answer| answer.unwrap_or_else(|_| Err(gone())))
    }
}

impl Publisher {
    pub(super) async fn open(
        alive: Arc<Alive>,
        channel: Name,
        options: PublishOptions,
    ) -> Result<Publisher, Rejection> {
        let (key, news) = {
            let shared = &alive.shared;
            let mut state = shared.lock();
            let key = state.conversation.open_lane(channel.clone(), options, shared.now());
            (key, state.face(key))
        };
        alive.shared.wake.notify_one();
        let identity = LaneIdentity { lane: LaneId::default(), epoch: 0 };
        let (interest, best_effort) = (true, false);
        let mut publisher =
            Publisher { alive, key, news, channel, identity, interest, best_effort };
        publisher.opened().await?;
        Ok(publisher)
    }

    /// Waits until the lane is open.
    async fn opened(&mut self) -> Result<(), Rejection> {
        let (shared, key) = (&self.alive.shared, self.key);
        let outcome = shared.wait(&self.news, |state| {
            let lane = state.conversation.lane(key)?;
            match (lane.failed(), lane.identity()) {
                (Some(rejection), _) => Some(Err(rejection.clone())),
                (None, identity) => {
                    identity.map(|identity| Ok((identity, lane.interest(), lane.best_effort())))
                }
            }
        });
        (self.identity, self.interest, self.best_effort) = outcome.await?;
        Ok(())
    }

    /// The lane's id: opens it again with [`super::LaneChoice::Existing`].
    pub fn lane(&self) -> LaneId {
        self.identity.lane
    }

    pub fn channel(&self) -> &Name {
        &self.channel
    }

    /// Whether anybody was interested when the lane was opened: a durable consumer, or a
    /// subscriber. Otherwise events are kept only as the channel's history.
    pub fn channel_interest(&self) -> bool {
        self.interest
    }

    /// Whether an acknowledgement means no more than: in the leader's memory. What it acknowledged
    /// is lost with it.
    pub fn is_best_effort(&self) -> bool {
        self.best_effort
    }

    /// The lane sequence that the next event gets.
    pub fn next_sequence(&self) -> u64 {
        let mut state = self.alive.shared.lock();
        state.conversation.lane(self.key).map_or(0, |lane| lane.next_sequence())
    }

    /// Publishes an event and waits for its answer. Call it from many tasks, or use
    /// [`Publisher::send`], to have many on their way.
    ///
    /// # Errors
    /// The event was refused, or its outcome is unknown when the deadline passed.
    pub async fn publish(&self, event: &Event) -> Result<Ack, PublishError> {
        self.publish_encoded(encode(event)?).await
    }

    /// The same with an event encoded before.
    ///
    /// # Errors
    /// As [`Publisher::publish`].
    pub async fn publish_encoded(&self, event: EventBytes) -> Result<Ack, PublishError> {
        self.send(event).await?.await
    }

    /// Waits for room, gives the event to the lane, and hands back the promise of its answer.
    ///
    /// # Errors
    /// The event is too large, or the lane is of no more use.
    pub async fn send(&self, event: EventBytes) -> Result<Receipt, PublishError> {
        let shared = &self.alive.shared;
        let sent = shared.wait(&self.news, |state| {
            if let Err(error) = self.admit(state, &event) {
                return Some(Err(error));
            }
            let lane = state.conversation.lane(self.key).filter(|lane| lane.has_room())?;
            let sequence = lane.push(event.clone(), shared.now());
            let (waiter, answer) = oneshot::channel();
            state.expect(self.key, Some(waiter));
            Some(Ok(Receipt { sequence, answer }))
        });
        let receipt = sent.await;
        shared.wake.notify_one();
        receipt
    }

    /// Publishes many events without a promise for each: their answers come as ranges from
    /// [`Publisher::acks`], which somebody must read. Returns when all are given to the lane, with
    /// the lane sequence of the first.
    ///
    /// # Errors
    /// An event is too large, or the lane is of no more use; those before it are on their way.
    pub async fn publish_many(
        &self,
        events: impl IntoIterator<Item = EventBytes>,
    ) -> Result<u64, PublishError> {
        let shared = &self.alive.shared;
        let first = self.next_sequence();
        let mut events = events.into_iter().peekable();
        while events.peek().is_some() {
            let given = shared.wait(&self.news, |state| self.give(state, &mut events));
            let given = given.await;
            shared.wake.notify_one();
            given?;
        }
        Ok(first)
    }

    /// Gives as many events to the lane as it has room for. `None`: for none.
    fn give(
        &self,
        state: &mut State,
        events: &mut std::iter::Peekable<impl Iterator<Item = EventBytes>>,
    ) -> Option<Result<(), PublishError>> {
        let now = self.alive.shared.now();
        let mut given = None;
        while let Some(event) = events.peek() {
            if let Err(error) = self.admit(state, event) {
                return Some(Err(error));
            }
            if !state.has_room_for_ranges(self.key) {
                break;
            }
            let Some(lane) = state.conversation.lane(self.key).filter(|lane| lane.has_room())
            else {
                break;
            };
            if let Some(event) = events.next() {
                lane.push(event, now);
                state.expect(self.key, None);
                given = Some(Ok(()));
            }
        }
        given
    }

    /// Whether the lane can take this event at all.
    fn admit(&self, state: &mut State, event: &EventBytes) -> Result<(), PublishError> {
        let welcome = state.conversation.welcome();
        let max = welcome.map_or(limits::EVENT_BYTES_CEILING, |w| w.event_bytes_max as usize);
        if event.len() > max {
            let message =
                format!("event of {} bytes is larger than the {max} allowed", event.len());
            return Err(PublishError::Refused(Rejection::new(Code::EventTooLarge, message)));
        }
        let Some(lane) = state.conversation.lane(self.key) else { return Ok(()) };
        lane.failed().map_or(Ok(()), |rejection| Err(PublishError::Refused(rejection.clone())))
    }

    /// Answers to events published with [`Publisher::publish_many`], in lane order; waits for at
    /// least one. `None`: the lane failed and there are no more.
    pub async fn acks(&self) -> Option<Vec<AckRange>> {
        let shared = &self.alive.shared;
        let acks = shared.wait(&self.news, |state| {
            let ranges = state.take_ranges(self.key);
            if !ranges.is_empty() {
                return Some(Some(ranges));
            }
            let failed = state.conversation.lane(self.key).is_none_or(|l| l.failed().is_some());
            failed.then_some(None)
        });
        let acks = acks.await;
        // Publishing in bulk may wait for the room that this made.
        self.news.notify_waiters();
        acks
    }

    /// Publishes a sequence of events and waits for all answers; in their order.
    ///
    /// # Errors
    /// The first event that was refused, or whose outcome is unknown. Those before it were accepted;
    /// those after it may have been.
    pub async fn publish_all(&self, events: &[Event]) -> Result<Vec<Ack>, PublishError> {
        let mut receipts = Vec::with_capacity(events.len());
        for event in events {
            receipts.push(self.send(encode(event)?).await?);
        }
        let mut acks = Vec::with_capacity(receipts.len());
        for receipt in receipts {
            acks.push(receipt.await?);
        }
        Ok(acks)
    }

    /// Waits until the lane has something to say.
    pub(super) async fn wait_on_lane<T>(&self, mut ready: impl FnMut(&mut Lane) -> Option<T>) -> T {
        let shared = &self.alive.shared;
        shared.wait(&self.news, |state| ready(state.conversation.lane(self.key)?)).await
    }

    /// Does something with the lane, and sends what it has to say.
    pub(super) fn on_lane(&self, act: impl FnOnce(&mut Lane)) {
        if let Some(lane) = self.alive.shared.lock().conversation.lane(self.key) {
            act(lane);
        }
        self.alive.shared.wake.notify_one();
    }

    /// Why the lane is of no more use.
    pub(super) fn failure(&self) -> Rejection {
        let mut state = self.alive.shared.lock();
        let failed = state.conversation.lane(self.key).and_then(|lane| lane.failed().cloned());
        failed.unwrap_or_else(|| Rejection::new(Code::ShuttingDown, "the client was closed"))
    }

    /// Waits until every event given so far, and since, has its answer.
    pub async fn flush(&self) {
        let shared = &self.alive.shared;
        let flushed = shared.wait(&self.news, |state| {
            let done = state.conversation.lane(self.key).is_none_or(|lane| lane.unanswered() == 0);
            done.then_some(())
        });
        flushed.await;
    }
}

fn encode(event: &Event) -> Result<EventBytes, PublishError> {
    event.encode().map_err(|error| {
        PublishError::Refused(Rejection::new(Code::EventTooLarge, error.to_string()))
    })
}

impl Drop for Publisher {
    fn drop(&mut self) {
        let mut state = self.alive.shared.lock();
        state.conversation.leave_lane(self.key);
        state.forget(self.key);
    }
}
