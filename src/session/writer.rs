//! The outgoing half: heads become frames with their payloads, in the order of the outbox.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::io::AsyncWrite;

use super::serve::End;
use crate::delivery::{Cluster, ConsumerId, Handle, Heads, Outbox, Outgoing, Request, SessionId};
use crate::dispatch;
use crate::env::Runtime;
use crate::machine::Machine;
use crate::planted::{Bug, planted};
use crate::transport::{FrameError, FrameWriter};
use crate::types::{ChannelId, Payload, PayloadKey, Seq, SeqRange, limits};
use crate::wire::{DeadLetter, Deliver, Delivery, Gap, ServerMessage};

/// Bytes of a delivery besides its event, about.
const HEAD_BYTES: usize = 48;

/// Writes what waits in the outbox.
pub(super) struct Writer<W, C, E> {
    pub frames: FrameWriter<W>,
    pub outbox: Outbox,
    pub cluster: C,
    pub delivery: Handle,
    pub session: SessionId,
    pub env: E,
    /// Unreadable payloads that were logged: each is logged once, not at every retry.
    pub unreadable: BTreeSet<PayloadKey>,
}

impl<W: AsyncWrite + Unpin, C: Cluster, E: Runtime> Writer<W, C, E> {
    /// Runs until the outbox is finished and everything is written, or the client is lost.
    pub async fn run(&mut self) -> End {
        loop {
            let items = self.outbox.take().await;
            if items.is_empty() {
                return End::PeerGone;
            }
            if self.outbox.overflowed() {
                return End::Stalled;
            }
            for item in items {
                let written = match item {
                    Outgoing::Message(message) => self.feed(&message).await,
                    Outgoing::Deliver(heads) => self.deliver(heads).await,
                };
                if let Err(end) = written {
                    return end;
                }
            }
            if let Err(end) = self.flush().await {
                return end;
            }
        }
    }

    /// Puts a message behind the others; writes when enough waits for a good write.
    async fn feed(&mut self, message: &ServerMessage) -> Result<(), End> {
        self.frames.feed(message.encode().into()).map_err(End::Broken)?;
        match self.frames.pending_bytes() >= limits::FRAME_BYTES_TARGET {
            true => self.flush().await,
            false => Ok(()),
        }
    }

    async fn flush(&mut self) -> Result<(), End> {
        let stall = Duration::from_millis(limits::SESSION_STALL_MS);
        tokio::select! { biased;
            flushed = self.frames.flush() => flushed.map_err(|error| match error {
                FrameError::Io(_) => End::PeerGone,
                other => End::Broken(other),
            }),
            () = self.env.sleep(stall) => Err(End::Stalled),
        }
    }

    /// Writes deliveries in as many frames as they need.
    async fn deliver(&mut self, mut heads: Heads) -> Result<(), End> {
        if planted(Bug::MemoryFirst) {
            heads.events.sort_by_key(|event| self.cluster.cached_payload(event.key).is_none());
        }
        let mut rest = heads.events.as_slice();
        while !rest.is_empty() {
            let (frame, later) = rest.split_at(frame_events(rest));
            rest = later;
            let payloads = self.load(frame).await;
            let letters = match heads.dead_letters {
                true => self.cluster.read(|machine| letters(machine, heads.channel, frame)),
                false => BTreeMap::new(),
            };
            let (message, missing) = assemble(&heads, frame, payloads, letters);
            if !message.events.is_empty() {
                self.feed(&ServerMessage::Deliver(message)).await?;
            }
            if !missing.is_empty() {
                self.give_up(&heads, missing).await?;
            }
        }
        Ok(())
    }

    /// The payloads of these deliveries: from memory, and what is not there from disk.
    async fn load(&self, frame: &[dispatch::Delivery]) -> Vec<Result<Payload, String>> {
        let cached: Vec<_> = frame.iter().map(|d| self.cluster.cached_payload(d.key)).collect();
        let absent = frame.iter().zip(&cached).filter(|(_, payload)| payload.is_none());
        let keys: Vec<PayloadKey> = absent.map(|(delivery, _)| delivery.key).collect();
        if keys.is_empty() {
            return cached.into_iter().flatten().map(Ok).collect();
        }
        let mut loaded = self.cluster.payloads(keys).await.into_iter();
        let missing = || Err("storage has no answer for it".to_string());
        let either = |payload: Option<Payload>| match payload {
            Some(payload) => Ok(payload),
            None => loaded.next().unwrap_or_else(missing),
        };
        cached.into_iter().map(either).collect()
    }

    /// Unreadable events: a durable proxy gets them again later, a volatile consumer is told that
    /// it missed them.
    async fn give_up(
        &mut self,
        heads: &Heads,
        missing: Vec<(dispatch::Delivery, String)>,
    ) -> Result<(), End> {
        for (delivery, error) in &missing {
            let retained = |machine: &Machine| {
                machine.channel(heads.channel).is_some_and(|c| c.slot(delivery.seq).is_some())
            };
            if !self.cluster.read(retained) {
                // Settled everywhere while it was on its way here, and gone with reason.
                continue;
            }
            if self.unreadable.len() >= limits::FRAME_EVENTS_MAX {
                self.unreadable.clear();
            }
            if self.unreadable.insert(delivery.key) {
                let (channel, seq, key) = (heads.channel, delivery.seq, delivery.key);
                tracing::error!(%channel, seq, %key, %error, "an event's payload cannot be read");
            }
        }
        if heads.proxy.is_none() {
            for (delivery, _) in &missing {
                let missed = SeqRange::one(delivery.seq);
                self.feed(&Gap { consumer: heads.consumer, missed }.into()).await?;
            }
        }
        let consumer = ConsumerId { session: self.session, handle: heads.consumer };
        let bytes = missing.iter().map(|(delivery, _)| u64::from(delivery.size)).sum();
        let sequences = missing.iter().map(|(delivery, _)| delivery.seq).collect();
        let proxy = heads.proxy;
        self.delivery.ask(Request::Unreadable { consumer, proxy, sequences, bytes }).await;
        Ok(())
    }
}

/// How many of these events go into one frame: at least one.
fn frame_events(events: &[dispatch::Delivery]) -> usize {
    let mut bytes = 0;
    let fits = events.iter().take(limits::FRAME_EVENTS_MAX).take_while(|delivery| {
        bytes += delivery.size as usize + HEAD_BYTES;
        bytes <= limits::FRAME_BYTES_TARGET
    });
    fits.count().max(1)
}

/// The frame of those events that could be read, and the others.
fn assemble(
    heads: &Heads,
    frame: &[dispatch::Delivery],
    payloads: Vec<Result<Payload, String>>,
    mut letters: BTreeMap<Seq, DeadLetter>,
) -> (Deliver, Vec<(dispatch::Delivery, String)>) {
    let mut events = Vec::with_capacity(frame.len());
    let mut missing = Vec::new();
    for (head, payload) in frame.iter().zip(payloads) {
        match payload {
            Ok(Payload { lane, sequence, accepted, event }) => events.push(Delivery {
                seq: head.seq,
                tenure: heads.tenure,
                lane,
                sequence,
                delivery: head.delivery,
                maybe_redelivered: head.maybe_redelivered,
                fencing: head.fencing,
                accepted,
                dead_letter: letters.remove(&head.seq).map(Box::new),
                event,
            }),
            Err(error) => missing.push((*head, error)),
        }
    }
    (Deliver { consumer: heads.consumer, tenure: heads.tenure, events }, missing)
}

/// Where these dead letters come from.
fn letters(
    machine: &Machine,
    channel: ChannelId,
    frame: &[dispatch::Delivery],
) -> BTreeMap<Seq, DeadLetter> {
    let Some(channel) = machine.channel(channel) else { return BTreeMap::new() };
    let letter = |delivery: &dispatch::Delivery| {
        let letter = channel.dead_letter(delivery.seq)?;
        // A channel deleted since has left its name only here.
        let origin = machine.channel(letter.channel).unwrap_or(channel);
        let letter = DeadLetter {
            channel: origin.name().clone(),
            proxy: letter.proxy_name.clone(),
            seq: letter.seq,
            attempts: letter.attempts,
            reason: letter.reason.clone(),
        };
        Some((delivery.seq, letter))
    };
    frame.iter().filter_map(letter).collect()
}
