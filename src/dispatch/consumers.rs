//! The attached consumers: what each wants, and the batch being put together for it.

use std::collections::{BTreeMap, BTreeSet};

use super::demand::{Demand, OpenPull, RequestError};
use super::{Action, ConsumerKey, Delivery, Mode, Pull};
use crate::types::{ChannelId, Code, ProxyId, Rejection, Stamp, limits};

/// Whose events a consumer gets.
#[derive(Debug, Clone, Copy)]
pub(super) struct Origin {
    /// `None` for a volatile consumer.
    pub proxy: Option<ProxyId>,
    pub channel: ChannelId,
}

#[derive(Debug)]
struct Consumer {
    origin: Origin,
    demand: Demand,
    batch: Vec<Delivery>,
    batch_bytes: usize,
    /// It got something in a round not yet ended.
    in_round: bool,
}

/// All consumers of a dispatcher, and the deadlines of their pulls.
#[derive(Debug, Default)]
pub(super) struct Consumers {
    all: BTreeMap<ConsumerKey, Consumer>,
    /// One entry per waiting pull: when, whose, which request.
    deadlines: BTreeSet<(Stamp, ConsumerKey, u64)>,
}

impl Consumers {
    pub fn insert(&mut self, key: ConsumerKey, origin: Origin, mode: Mode) {
        let demand = Demand::new(mode);
        let consumer =
            Consumer { origin, demand, batch: Vec::new(), batch_bytes: 0, in_round: false };
        self.all.insert(key, consumer);
    }

    /// Forgets a consumer; its pulls get no answer.
    pub fn remove(&mut self, key: ConsumerKey) -> Option<Origin> {
        let consumer = self.all.remove(&key)?;
        for open in consumer.demand.pulls() {
            self.deadlines.remove(&(open.pull.deadline, key, open.pull.request));
        }
        Some(consumer.origin)
    }

    pub fn origin(&self, key: ConsumerKey) -> Option<Origin> {
        self.all.get(&key).map(|c| c.origin)
    }

    /// Whether an event may go to this consumer now.
    pub fn wants(&self, key: ConsumerKey) -> bool {
        self.all.get(&key).is_some_and(|c| c.demand.wants())
    }

    /// Whether it decides itself when events go.
    pub fn pulls(&self, key: ConsumerKey) -> bool {
        self.all.get(&key).is_some_and(|c| matches!(c.demand, Demand::Pull(_)))
    }

    /// Adds push credit.
    pub fn grant(&mut self, key: ConsumerKey, events: u32, bytes: u64) -> Result<(), Rejection> {
        let granted = self.all.get_mut(&key).is_none_or(|c| c.demand.grant(events, bytes));
        if granted {
            return Ok(());
        }
        Err(Rejection::new(Code::NotAllowed, "credit for a consumer that pulls")
            .hint("send a pull request, or attach as a push consumer"))
    }

    /// Queues a pull request.
    pub fn request(&mut self, key: ConsumerKey, pull: Pull) -> Result<(), Rejection> {
        let Some(consumer) = self.all.get_mut(&key) else { return Ok(()) };
        let what = || format!("pull request {}", pull.request);
        consumer.demand.request(pull).map_err(|error| match error {
            RequestError::Pushed => {
                Rejection::new(Code::NotAllowed, format!("{} of a push consumer", what()))
                    .hint("grant credit, or attach as a pull consumer")
            }
            RequestError::TooMany => Rejection::new(
                Code::Overloaded,
                format!("{}: {} are waiting", what(), limits::PULLS_PER_CONSUMER_MAX),
            )
            .hint("wait for one to end"),
            RequestError::Duplicate => {
                Rejection::new(Code::BadRequest, format!("{}: its number is in use", what()))
                    .hint("number pull requests distinctly")
            }
        })?;
        self.deadlines.insert((pull.deadline, key, pull.request));
        Ok(())
    }

    /// Adds an event to the consumer's batch, which goes when it has `batch_max` events or a frame
    /// is full. True if it is the
    /// first of a round; the caller owes an [`Consumers::end_round`] then.
    pub fn give(
        &mut self,
        key: ConsumerKey,
        delivery: Delivery,
        batch_max: usize,
        out: &mut Vec<Action>,
    ) -> bool {
        let Some(consumer) = self.all.get_mut(&key) else { return false };
        let first = !std::mem::replace(&mut consumer.in_round, true);
        consumer.batch.push(delivery);
        consumer.batch_bytes += delivery.size as usize;
        let completed = consumer.demand.spend(delivery.size);
        if completed.is_some()
            || consumer.batch.len() >= batch_max.min(limits::FRAME_EVENTS_MAX)
            || consumer.batch_bytes >= limits::FRAME_BYTES_TARGET
        {
            consumer.flush(key, out);
        }
        if let Some(open) = completed {
            self.done(key, open, out);
        }
        first
    }

    /// Sends the batch as it is.
    pub fn flush(&mut self, key: ConsumerKey, out: &mut Vec<Action>) {
        if let Some(consumer) = self.all.get_mut(&key) {
            consumer.flush(key, out);
        }
    }

    /// Sends what the round gave this consumer, and ends the pull that got something.
    pub fn end_round(&mut self, key: ConsumerKey, out: &mut Vec<Action>) {
        let Some(consumer) = self.all.get_mut(&key) else { return };
        consumer.in_round = false;
        consumer.flush(key, out);
        if let Some(open) = consumer.demand.end_round() {
            self.done(key, open, out);
        }
    }

    /// Ends the pulls whose deadline has come.
    pub fn expire(&mut self, now: Stamp, out: &mut Vec<Action>) {
        while let Some(&(deadline, key, request)) = self.deadlines.first() {
            if deadline > now {
                break;
            }
            self.deadlines.pop_first();
            if let Some(open) = self.all.get_mut(&key).and_then(|c| c.demand.cancel(request)) {
                self.done(key, open, out);
            }
        }
    }

    /// The earliest deadline.
    pub fn next_deadline(&self) -> Option<Stamp> {
        self.deadlines.first().map(|(deadline, ..)| *deadline)
    }

    fn done(&mut self, consumer: ConsumerKey, open: OpenPull, out: &mut Vec<Action>) {
        let request = open.pull.request;
        self.deadlines.remove(&(open.pull.deadline, consumer, request));
        out.push(Action::PullDone { consumer, request, delivered: open.delivered });
    }
}

impl Consumer {
    fn flush(&mut self, consumer: ConsumerKey, out: &mut Vec<Action>) {
        if self.batch.is_empty() {
            return;
        }
        let Origin { proxy, channel } = self.origin;
        let events = std::mem::take(&mut self.batch);
        self.batch_bytes = 0;
        out.push(Action::Deliver { consumer, proxy, channel, events });
    }
}
