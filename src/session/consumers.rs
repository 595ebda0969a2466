//! Consumers: attaching, credit, pulls and settlements.

use super::conversation::{Effect, Pending, Session, unexpected, unknown_channel};
use super::view::{ChannelView, View};
use crate::delivery::{ConsumerId, Request};
use crate::dispatch::{Attachment, Mode};
use crate::machine::{Command, Reply};
use crate::types::{ChannelId, Code, Member, ProxyId, Rejection, Start, limits};
use crate::wire::{
    Attach, AttachTarget, Attached, Closed, Credit, FlowMode, Pull, Settle, SettleConfirmed,
};

/// A consumer as its session sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Consumer {
    /// The request that attached it; tells it from a later one under the same handle.
    request: u32,
    attached: bool,
    pulls: bool,
}

impl Session {
    pub(super) fn attach(&mut self, attach: Attach, view: &impl View) {
        let channel = match self.check_attach(&attach, view) {
            Ok(channel) => channel,
            Err(rejection) => return self.fail(attach.request, rejection),
        };
        let pulls = attach.mode == FlowMode::Pull;
        let consumer = Consumer { request: attach.request, attached: false, pulls };
        self.consumers.insert(attach.consumer, consumer);
        match attach.target.clone() {
            AttachTarget::Volatile { start, resume_after, types } => {
                let next = view.next_seq(channel.id);
                let next_seq = match (resume_after, start) {
                    // What an earlier leader had in memory is lost, and nobody knows how much.
                    (Some(seen), _) => {
                        seen.saturating_add(1).max(view.first_seq(channel.id)).min(next)
                    }
                    (None, Start::New) => next,
                    (None, Start::All) => view.retained_from(channel.id, 1),
                    (None, Start::Seq(seq)) => view.retained_from(channel.id, seq),
                    (None, Start::Time(ms)) => view.retained_since(channel.id, ms),
                };
                let attachment = Attachment::Volatile { channel: channel.id, next_seq, types };
                self.attached(&attach, channel, attachment, 0, view);
            }
            AttachTarget::Durable { .. } => self.attach_durable(attach, channel, view),
        }
    }

    fn check_attach(&self, attach: &Attach, view: &impl View) -> Result<ChannelView, Rejection> {
        let refuse =
            |code, message: String, hint: &str| Err(Rejection::new(code, message).hint(hint));
        if self.consumers.contains_key(&attach.consumer) {
            let message = format!("consumer {} is attached on this connection", attach.consumer);
            return refuse(Code::BadRequest, message, "choose another handle, or detach it first");
        }
        let max = limits::CONSUMERS_PER_SESSION_MAX;
        if self.consumers.len() >= max {
            let message = format!("{max} consumers are attached on this connection");
            return refuse(Code::Overloaded, message, "detach one, or open another connection");
        }
        if let FlowMode::Push { credit_events, credit_bytes } = attach.mode {
            check_credit(credit_events, credit_bytes)?;
        }
        if let AttachTarget::Volatile { types, .. } = &attach.target
            && types.len() > limits::PATTERNS_MAX
        {
            let message = format!("a subscription with {} patterns of types", types.len());
            let hint = format!("use at most {}", limits::PATTERNS_MAX);
            return refuse(Code::BadRequest, message, &hint);
        }
        view.channel(&attach.channel).ok_or_else(|| unknown_channel(&attach.channel))
    }

    /// Takes the proxy that exists, or has one made.
    fn attach_durable(&mut self, attach: Attach, channel: ChannelView, view: &impl View) {
        let AttachTarget::Durable { name, start, admin, qos, types } = attach.target.clone() else {
            return;
        };
        if let Some(proxy) = view.proxy(channel.id, &name)
            && admin.is_none()
            && types.is_empty()
            && qos.iter().all(|(property, value)| proxy.qos.get(property) == Some(value))
        {
            let attachment = Attachment::Durable(proxy.id);
            return self.attached(&attach, channel, attachment, proxy.revision, view);
        }
        // Whether one that exists is what is asked for, the machine says, in its words.
        let channel_id = channel.id;
        let command = Command::CreateProxy { channel: channel_id, name, start, admin, qos, types };
        self.propose(command, Pending::Attach { attach: Box::new(attach), channel: channel.id });
    }

    pub(super) fn proxy_ready(
        &mut self,
        attach: Attach,
        channel: ChannelId,
        reply: Result<Reply, Rejection>,
        view: &impl View,
    ) {
        let waits = |c: &Consumer| c.request == attach.request && !c.attached;
        let current = self.consumers.get(&attach.consumer).is_some_and(waits);
        match reply {
            Ok(Reply::ProxyReady { proxy, revision, .. }) if current => {
                let gone = ChannelView { id: channel, is_dead_letters: false, best_effort: false };
                let channel = view.channel(&attach.channel).unwrap_or(gone);
                self.attached(&attach, channel, Attachment::Durable(proxy), revision, view);
            }
            // Detached before it was attached: the client has its `Closed`.
            Ok(Reply::ProxyReady { .. }) => {}
            Ok(other) => self.attach_failed(&attach, current, unexpected(&other)),
            Err(rejection) => self.attach_failed(&attach, current, rejection),
        }
    }

    fn attach_failed(&mut self, attach: &Attach, current: bool, rejection: Rejection) {
        if current {
            self.consumers.remove(&attach.consumer);
            self.fail(attach.request, rejection);
        }
    }

    /// Answers first, then asks for deliveries: both go through one queue, in this order.
    fn attached(
        &mut self,
        attach: &Attach,
        channel: ChannelView,
        attachment: Attachment,
        revision: u64,
        view: &impl View,
    ) {
        if let Some(consumer) = self.consumers.get_mut(&attach.consumer) {
            consumer.attached = true;
        }
        let proxy: Option<ProxyId> = match attachment {
            Attachment::Durable(proxy) => Some(proxy),
            Attachment::Volatile { .. } => None,
        };
        let (request, consumer, tenure) = (attach.request, attach.consumer, self.tenure);
        let next_seq = view.next_seq(channel.id);
        let best_effort = channel.best_effort;
        self.send(Attached { request, consumer, proxy, revision, next_seq, tenure, best_effort });
        let mode = match attach.mode {
            FlowMode::Push { credit_events: events, credit_bytes: bytes } => {
                Mode::Push { events, bytes }
            }
            FlowMode::Pull => Mode::Pull,
        };
        let consumer = self.consumer_id(consumer);
        let dead_letters = channel.is_dead_letters;
        let member = Member { client: attach.client, consumer: attach.consumer };
        let ask = Request::Attach { consumer, attachment, mode, member, dead_letters };
        self.effect(Effect::Ask(ask));
    }

    fn consumer_id(&self, handle: u32) -> ConsumerId {
        ConsumerId { session: self.id, handle }
    }

    /// Credit for a consumer that is gone was on its way when it went: ignored.
    pub(super) fn credit(&mut self, credit: Credit) {
        let Some(known) = self.consumers.get(&credit.consumer) else { return };
        if known.pulls {
            let message = format!("credit for consumer {}, which pulls", credit.consumer);
            let hint = "send Pull, or attach it with credit";
            return self.close(Rejection::new(Code::BadRequest, message).hint(hint));
        }
        if let Err(rejection) = check_credit(credit.events, credit.bytes) {
            return self.close(rejection);
        }
        let consumer = self.consumer_id(credit.consumer);
        let (events, bytes) = (credit.events, credit.bytes);
        self.effect(Effect::Ask(Request::Credit { consumer, events, bytes }));
    }

    pub(super) fn pull(&mut self, pull: Pull) {
        let Pull { request, consumer, events_max, bytes_max, wait_ms } = pull;
        if let Err(rejection) = self.check_pull(&pull) {
            return self.fail(request, rejection);
        }
        let consumer = self.consumer_id(consumer);
        let ask = Request::Pull { consumer, request, events_max, bytes_max, wait_ms };
        self.effect(Effect::Ask(ask));
    }

    fn check_pull(&self, pull: &Pull) -> Result<(), Rejection> {
        let bad = |message: String, hint: String| {
            Err(Rejection::new(Code::BadRequest, message).hint(hint))
        };
        match self.consumers.get(&pull.consumer) {
            Some(consumer) if consumer.pulls && consumer.attached => {}
            Some(consumer) if consumer.pulls => {
                let message = format!("consumer {} is not attached yet", pull.consumer);
                return bad(message, "wait for Attached".into());
            }
            Some(_) => {
                let message = format!("consumer {} is pushed to", pull.consumer);
                return bad(message, "attach it as one that pulls".into());
            }
            None => {
                let message = format!("consumer {} is not attached", pull.consumer);
                return bad(message, "attach it first".into());
            }
        }
        if pull.events_max == 0 || pull.events_max > limits::CREDIT_EVENTS_MAX {
            let message = format!("a pull of {} events", pull.events_max);
            return bad(message, format!("ask for 1 to {}", limits::CREDIT_EVENTS_MAX));
        }
        if pull.bytes_max > limits::CREDIT_BYTES_MAX {
            let message = format!("a pull of {} bytes", pull.bytes_max);
            return bad(message, format!("ask for at most {}", limits::CREDIT_BYTES_MAX));
        }
        if pull.wait_ms > limits::PULL_WAIT_MS_MAX {
            let message = format!("a pull that waits {} ms", pull.wait_ms);
            return bad(message, format!("wait at most {} ms", limits::PULL_WAIT_MS_MAX));
        }
        Ok(())
    }

    pub(super) fn settle(&mut self, settle: Settle) {
        match check_settle(&settle) {
            Ok(()) => {
                let session = self.id;
                self.effect(Effect::Ask(Request::Settle { session, settle }));
            }
            Err(rejection) => self.send(SettleConfirmed {
                batch: settle.batch,
                proxy: settle.proxy,
                settled: 0,
                already: Vec::new(),
                refused: Some(rejection),
            }),
        }
    }

    /// Detaching what is gone already needs no second answer.
    pub(super) fn detach(&mut self, handle: u32) {
        match self.consumers.remove(&handle) {
            Some(consumer) if consumer.attached => {
                let consumer = self.consumer_id(handle);
                self.effect(Effect::Ask(Request::Detach { consumer }));
            }
            Some(_) => self.send(Closed { consumer: handle, reason: None }),
            None => {}
        }
    }
}

fn check_credit(events: u32, bytes: u64) -> Result<(), Rejection> {
    let (events_max, bytes_max) = (limits::CREDIT_EVENTS_MAX, limits::CREDIT_BYTES_MAX);
    if events <= events_max && bytes <= bytes_max {
        return Ok(());
    }
    let message = format!("a credit of {events} events and {bytes} bytes is too large");
    let hint = format!("grant at most {events_max} events and {bytes_max} bytes at a time");
    Err(Rejection::new(Code::BadRequest, message).hint(hint))
}

fn check_settle(settle: &Settle) -> Result<(), Rejection> {
    let bad =
        |message: String, hint: String| Err(Rejection::new(Code::BadRequest, message).hint(hint));
    let named = (settle.nacks.iter().map(|n| &n.sequences))
        .chain(settle.terms.iter().map(|t| &t.sequences))
        .chain([&settle.acks, &settle.touches]);
    let events = named.fold(0u64, |n, set| n.saturating_add(set.count()));
    if events > limits::SETTLE_EVENTS_MAX {
        let message = format!("a settlement of {events} events");
        return bad(message, format!("split it: at most {}", limits::SETTLE_EVENTS_MAX));
    }
    if let Some(nack) = settle.nacks.iter().find(|n| n.delay_ms > limits::NACK_DELAY_MS_MAX) {
        let message = format!("a delay of {} ms is too long", nack.delay_ms);
        return bad(message, format!("use at most {} ms", limits::NACK_DELAY_MS_MAX));
    }
    Ok(())
}
