//! What waits to be written to one client: one queue, so that everything leaves in the order in
//! which it was decided.
//!
//! Deliveries wait as heads without payloads and are bounded by the consumers' credit; consecutive
//! ones of a consumer are joined. Messages are bounded by number: beyond
//! [`limits::SESSION_FRAMES_MAX`] the queue overflows, and the session ends. An honest client does
//! not get there, because a session stops reading while [`Outbox::is_crowded`].

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::dispatch::Delivery;
use crate::types::{ChannelId, ProxyId, Tenure, limits};
use crate::wire::ServerMessage;

/// Deliveries of one consumer, payloads not loaded.
#[derive(Debug, Clone, PartialEq)]
pub struct Heads {
    /// The client's handle of the consumer.
    pub consumer: u32,
    pub tenure: Tenure,
    /// `None`: a volatile consumer.
    pub proxy: Option<ProxyId>,
    pub channel: ChannelId,
    /// The channel holds dead letters.
    pub dead_letters: bool,
    pub events: Vec<Delivery>,
}

/// One thing to be written.
#[derive(Debug, Clone, PartialEq)]
pub enum Outgoing {
    Message(ServerMessage),
    Deliver(Heads),
}

/// A handle on the queue; clones are the same queue.
#[derive(Debug, Clone, Default)]
pub struct Outbox(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    queue: Mutex<Queue>,
    filled: Notify,
    emptied: Notify,
}

#[derive(Debug, Default)]
struct Queue {
    items: VecDeque<Outgoing>,
    messages: usize,
    /// Settlements passed to delivery and not confirmed yet.
    unconfirmed: usize,
    /// Consumers that delivery closed of its own accord.
    closed: Vec<u32>,
    overflowed: bool,
    finished: bool,
}

impl Outbox {
    /// Queues a message.
    pub fn send(&self, message: impl Into<ServerMessage>) {
        let message = message.into();
        let mut queue = self.lock();
        match &message {
            ServerMessage::SettleConfirmed(_) => {
                queue.unconfirmed = queue.unconfirmed.saturating_sub(1);
            }
            ServerMessage::Closed(closed) if closed.reason.is_some() => {
                queue.closed.push(closed.consumer);
            }
            _ => {}
        }
        if queue.messages >= limits::SESSION_FRAMES_MAX {
            queue.overflowed = true;
        } else {
            queue.messages += 1;
            queue.items.push_back(Outgoing::Message(message));
        }
        drop(queue);
        self.0.filled.notify_one();
    }

    /// Queues deliveries, joined with those just before them if they go to the same consumer.
    pub fn deliver(&self, heads: Heads) {
        let mut queue = self.lock();
        match queue.items.back_mut() {
            Some(Outgoing::Deliver(last))
                if (last.consumer, last.tenure, last.proxy)
                    == (heads.consumer, heads.tenure, heads.proxy) =>
            {
                last.events.extend(heads.events);
            }
            _ => queue.items.push_back(Outgoing::Deliver(heads)),
        }
        drop(queue);
        self.0.filled.notify_one();
    }

    /// Takes note of a settlement that will be confirmed through this queue.
    pub fn expect_confirmation(&self) {
        self.lock().unconfirmed += 1;
    }

    /// Nothing will be queued any more.
    pub fn finish(&self) {
        self.lock().finished = true;
        self.0.filled.notify_one();
    }

    /// Everything that waits, in order. Waits for something; empty once the queue is finished.
    /// Cancel-safe.
    pub async fn take(&self) -> VecDeque<Outgoing> {
        loop {
            let items = self.take_now();
            if !items.is_empty() || self.lock().finished {
                return items;
            }
            self.0.filled.notified().await;
        }
    }

    /// Everything that waits, in order.
    pub fn take_now(&self) -> VecDeque<Outgoing> {
        let mut queue = self.lock();
        queue.messages = 0;
        let items = std::mem::take(&mut queue.items);
        drop(queue);
        if !items.is_empty() {
            self.0.emptied.notify_one();
        }
        items
    }

    /// Consumers that delivery closed of its own accord since the last call.
    pub fn take_closed(&self) -> Vec<u32> {
        std::mem::take(&mut self.lock().closed)
    }

    /// Whether a message was lost because the client does not read.
    pub fn overflowed(&self) -> bool {
        self.lock().overflowed
    }

    /// Whether so much waits, written or expected, that no more should be asked for.
    pub fn is_crowded(&self) -> bool {
        let queue = self.lock();
        queue.messages + queue.unconfirmed >= limits::SESSION_FRAMES_MAX / 2
    }

    /// Waits until somebody took what waited.
    pub async fn emptied(&self) {
        self.0.emptied.notified().await;
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        // Plain pushes and takes: a panicking holder leaves nothing half done.
        self.0.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{Code, PayloadKey, Rejection, SeqRange};
    use crate::wire::{Closed, Gap, Pong, SettleConfirmed};

    fn heads(consumer: u32, seqs: &[u64]) -> Heads {
        let event = |&seq: &u64| Delivery {
            seq,
            key: PayloadKey { index: seq, position: 0 },
            size: 10,
            delivery: 1,
            maybe_redelivered: false,
            fencing: 0,
        };
        Heads {
            consumer,
            tenure: Tenure(1),
            proxy: None,
            channel: ChannelId(1),
            dead_letters: false,
            events: seqs.iter().map(event).collect(),
        }
    }

    #[test]
    fn deliveries_join_but_keep_their_order() {
        let outbox = Outbox::default();
        outbox.deliver(heads(1, &[1, 2]));
        outbox.deliver(heads(1, &[3]));
        outbox.deliver(heads(2, &[3]));
        outbox.deliver(heads(1, &[4]));
        let gap = Gap { consumer: 1, missed: SeqRange { first: 5, last: 6 } };
        outbox.send(gap);
        outbox.deliver(heads(1, &[7]));
        let expected = [
            Outgoing::Deliver(heads(1, &[1, 2, 3])),
            Outgoing::Deliver(heads(2, &[3])),
            Outgoing::Deliver(heads(1, &[4])),
            Outgoing::Message(gap.into()),
            Outgoing::Deliver(heads(1, &[7])),
        ];
        assert_eq!(outbox.take_now(), expected);
        assert!(outbox.take_now().is_empty());
    }

    #[test]
    fn messages_are_bounded_and_crowding_comes_first() {
        let outbox = Outbox::default();
        for n in 0..limits::SESSION_FRAMES_MAX as u64 {
            assert_eq!(outbox.is_crowded(), n as usize >= limits::SESSION_FRAMES_MAX / 2);
            outbox.send(Pong { nonce: n });
        }
        assert!(!outbox.overflowed());
        outbox.send(Pong { nonce: 0 });
        assert!(outbox.overflowed());
        assert_eq!(outbox.take_now().len(), limits::SESSION_FRAMES_MAX);
        assert!(!outbox.is_crowded());
    }

    #[test]
    fn expected_confirmations_crowd_until_they_are_written() {
        let outbox = Outbox::default();
        let confirmed = SettleConfirmed {
            batch: 1,
            proxy: ProxyId(1),
            settled: 1,
            already: Vec::new(),
            refused: None,
        };
        (0..limits::SESSION_FRAMES_MAX / 2).for_each(|_| outbox.expect_confirmation());
        assert!(outbox.is_crowded());
        outbox.send(confirmed);
        assert!(outbox.is_crowded(), "one less expected, one more to write");
        outbox.take_now();
        assert!(!outbox.is_crowded());
    }

    #[test]
    fn only_unasked_closings_are_reported() {
        let outbox = Outbox::default();
        outbox.send(Closed { consumer: 1, reason: None });
        outbox
            .send(Closed { consumer: 2, reason: Some(Rejection::new(Code::UnknownProxy, "gone")) });
        assert_eq!(outbox.take_closed(), [2]);
        assert!(outbox.take_closed().is_empty());
    }
}
