//! Consuming by push: events as they come, verdicts back.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use super::client::{Alive, Attachment};
use super::conversation::{Mode, Settlements, Verdict};
use super::{SubscribeOptions, Token};
use crate::types::{Name, ProxyId, Rejection, Seq, SeqRange};
use crate::wire::Delivery;

/// A consumer that is sent events. Dropping it ends it; verdicts given are still confirmed as long
/// as the client lives.
pub struct Subscriber {
    settler: Settler,
    channel: Name,
    local: VecDeque<Delivery>,
}

/// Gives verdicts on the deliveries of a durable consumer. Cheap to clone.
#[derive(Clone)]
pub struct Settler {
    pub(super) attachment: Arc<Attachment>,
}

/// Events settled before the limit of unconfirmed ones is looked at again.
const SETTLE_AT_ONCE: usize = 1024;

impl Subscriber {
    pub(super) async fn open(
        alive: Arc<Alive>,
        channel: Name,
        options: SubscribeOptions,
    ) -> Result<Subscriber, Rejection> {
        let attachment = Attachment::open(alive, channel.clone(), options, Mode::Push).await?;
        let settler = Settler { attachment: Arc::new(attachment) };
        Ok(Subscriber { settler, channel, local: VecDeque::new() })
    }

    pub fn channel(&self) -> &Name {
        &self.channel
    }

    /// Says goodbye and waits until the cluster has heard it: what was not settled goes to others at
    /// once, and that it was here counts as no failure. Dropped without it, as when the process dies,
    /// a consumer may be one whose events made it fail.
    pub async fn leave(self) {
        let Attachment { alive, key, news } = &*self.settler.attachment;
        alive.shared.lock().conversation.leave_consumer(*key);
        alive.shared.wake.notify_one();
        let left = alive.shared.wait(news, |state| state.conversation.has_left(*key).then_some(()));
        left.await;
    }

    /// What gives verdicts, for use elsewhere.
    pub fn settler(&self) -> Settler {
        self.settler.clone()
    }

    /// The next event; waits for it. Cancel-safe.
    ///
    /// # Errors
    /// The consumer has ended: its channel or proxy is gone, or the client was closed.
    pub async fn next(&mut self) -> Result<Delivery, Rejection> {
        loop {
            if let Some(delivery) = self.local.pop_front() {
                return Ok(delivery);
            }
            self.local = self.take().await?;
        }
    }

    /// All events that have arrived, at least one; waits for it. Cancel-safe.
    ///
    /// # Errors
    /// As [`Subscriber::next`].
    pub async fn next_batch(&mut self) -> Result<Vec<Delivery>, Rejection> {
        if self.local.is_empty() {
            return self.take().await.map(Vec::from);
        }
        Ok(Vec::from(std::mem::take(&mut self.local)))
    }

    /// The next events, at most `max` and at least one; waits for it. Cancel-safe.
    ///
    /// # Errors
    /// As [`Subscriber::next`].
    pub async fn next_sequence(&mut self, max: usize) -> Result<Vec<Delivery>, Rejection> {
        if self.local.is_empty() {
            self.local = self.take().await?;
        }
        Ok(self.local.drain(..max.clamp(1, self.local.len())).collect())
    }

    async fn take(&self) -> Result<VecDeque<Delivery>, Rejection> {
        let attachment = &self.settler.attachment;
        let taken = attachment.wait(|consumer| {
            if consumer.has_received() {
                return Some(Ok(consumer.take(usize::MAX)));
            }
            consumer.failed().map(|rejection| Err(rejection.clone()))
        });
        let taken = taken.await;
        // Credit may be due.
        attachment.alive.shared.wake.notify_one();
        taken
    }

    /// Sequences that this ephemeral consumer missed since the last call, because they were not
    /// retained any more when it came back.
    pub fn missed(&self) -> Vec<SeqRange> {
        let attachment = &self.settler.attachment;
        let mut state = attachment.alive.shared.lock();
        let consumer = state.conversation.consumer(attachment.key);
        consumer.map(|consumer| consumer.take_gaps()).unwrap_or_default()
    }

    /// See [`Settler::ack`].
    ///
    /// # Errors
    /// As [`Settler::settle`].
    pub async fn ack(&self, seqs: &[Seq]) -> Result<(), Rejection> {
        self.settler.ack(seqs).await
    }

    /// Processes events with `work` in batches of at most `max`, and acknowledges each batch that it
    /// has done, until it says no.
    ///
    /// # Errors
    /// As [`Subscriber::next`].
    pub async fn for_each_batch(
        &mut self,
        max: usize,
        mut work: impl FnMut(&[Delivery]) -> bool,
    ) -> Result<(), Rejection> {
        loop {
            let batch = self.next_sequence(max).await?;
            if !work(&batch) {
                batch.into_iter().rev().for_each(|delivery| self.local.push_front(delivery));
                return Ok(());
            }
            let seqs: Vec<Seq> = batch.iter().map(|delivery| delivery.seq).collect();
            self.settler.ack(&seqs).await?;
        }
    }

    /// Processes events one by one with `work`, and acknowledges what it has done, until it says
    /// no: a shorthand for the common loop.
    ///
    /// # Errors
    /// As [`Subscriber::next`].
    pub async fn for_each(
        &mut self,
        mut work: impl FnMut(&Delivery) -> bool,
    ) -> Result<(), Rejection> {
        loop {
            let batch = self.next_batch().await?;
            let done = batch.iter().take_while(|delivery| work(delivery)).count();
            let seqs: Vec<Seq> = batch.iter().take(done).map(|delivery| delivery.seq).collect();
            self.settler.ack(&seqs).await?;
            if done < batch.len() {
                self.local = batch.into_iter().skip(done).collect();
                return Ok(());
            }
        }
    }
}

impl Settler {
    /// The durable proxy that is settled for; `None` for an ephemeral consumer.
    pub fn proxy(&self) -> Option<ProxyId> {
        let mut state = self.attachment.alive.shared.lock();
        state.conversation.consumer(self.attachment.key).and_then(|consumer| consumer.proxy())
    }

    /// Whether events come from the leader's memory alone: what a leader had is lost with it.
    pub fn is_best_effort(&self) -> bool {
        let mut state = self.attachment.alive.shared.lock();
        let consumer = state.conversation.consumer(self.attachment.key);
        consumer.is_some_and(|consumer| consumer.best_effort())
    }

    /// The token of a delivery of this consumer; `None` for an ephemeral one.
    pub fn token(&self, delivery: &Delivery) -> Option<Token> {
        self.proxy().map(|proxy| Token { proxy, seq: delivery.seq, fencing: delivery.fencing })
    }

    /// Gives a verdict on deliveries. Returns when it is queued: verdicts travel together, and are
    /// sent again until they are confirmed. Waits while too many are unconfirmed. An ephemeral
    /// consumer has nothing to settle, and nothing happens.
    ///
    /// # Errors
    /// The consumer has ended.
    pub async fn settle(&self, seqs: &[Seq], verdict: Verdict) -> Result<(), Rejection> {
        for chunk in seqs.chunks(SETTLE_AT_ONCE) {
            self.settle_some(chunk, &verdict).await?;
        }
        Ok(())
    }

    async fn settle_some(&self, seqs: &[Seq], verdict: &Verdict) -> Result<(), Rejection> {
        let attachment = &self.attachment;
        let (shared, key) = (&attachment.alive.shared, attachment.key);
        let queued = shared.wait(&attachment.news, |state| {
            let consumer = state.conversation.consumer(key)?;
            if let Some(rejection) = consumer.failed() {
                return Some(Err(rejection.clone()));
            }
            if !consumer.has_room() {
                return None;
            }
            state.conversation.settle(key, seqs, verdict.clone());
            Some(Ok(()))
        });
        let queued = queued.await;
        shared.wake.notify_one();
        queued
    }

    /// These were processed: never again.
    ///
    /// # Errors
    /// As [`Settler::settle`].
    pub async fn ack(&self, seqs: &[Seq]) -> Result<(), Rejection> {
        self.settle(seqs, Verdict::Ack).await
    }

    /// These were not processed: again, after a delay.
    ///
    /// # Errors
    /// As [`Settler::settle`].
    pub async fn nack(&self, seqs: &[Seq], delay: Duration) -> Result<(), Rejection> {
        self.settle(seqs, Verdict::Nack { delay_ms: delay.as_millis() as u64 }).await
    }

    /// These can never be processed: to the dead-letter channel, with the reason.
    ///
    /// # Errors
    /// As [`Settler::settle`].
    pub async fn terminate(&self, seqs: &[Seq], reason: &str) -> Result<(), Rejection> {
        self.settle(seqs, Verdict::Terminate { reason: reason.into() }).await
    }

    /// These are still being processed: their leases begin again.
    ///
    /// # Errors
    /// As [`Settler::settle`].
    pub async fn touch(&self, seqs: &[Seq]) -> Result<(), Rejection> {
        self.settle(seqs, Verdict::Touch).await
    }

    /// What settling came to so far.
    pub fn settlements(&self) -> Settlements {
        let mut state = self.attachment.alive.shared.lock();
        let consumer = state.conversation.consumer(self.attachment.key);
        consumer.map(|consumer| consumer.settling.totals().clone()).unwrap_or_default()
    }

    /// Waits until more verdicts are confirmed than `known`; returns how many are. For counting
    /// confirmed acknowledgements.
    ///
    /// # Errors
    /// The consumer has ended.
    pub async fn confirmed_beyond(&self, known: u64) -> Result<u64, Rejection> {
        let confirmed = self.attachment.wait(|consumer| {
            let confirmed = consumer.settling.totals().confirmed;
            let more = (confirmed > known).then_some(Ok(confirmed));
            more.or_else(|| consumer.failed().map(|rejection| Err(rejection.clone())))
        });
        confirmed.await
    }

    /// Waits until every verdict given is confirmed.
    ///
    /// # Errors
    /// The last refusal, if any verdict was ever refused for good; or the consumer has ended with
    /// verdicts unconfirmed.
    pub async fn flush(&self) -> Result<Settlements, Rejection> {
        let flushed = self.attachment.wait(|consumer| {
            let totals = consumer.settling.totals();
            if consumer.settling.is_idle() {
                return Some(totals.last_refusal.clone().map_or_else(|| Ok(totals.clone()), Err));
            }
            consumer.failed().map(|rejection| Err(rejection.clone()))
        });
        flushed.await
    }
}

impl std::ops::Deref for Subscriber {
    type Target = Settler;

    fn deref(&self) -> &Settler {
        &self.settler
    }
}
