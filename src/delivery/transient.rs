//! What the leader keeps of best-effort channels: their machine, their payloads, who is told of
//! changes. Begins and ends with a tenure; no disk has any of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::Notify;

use super::facts::World;
use crate::machine::{Batch, Command, Machine, Publish, Reply, SEQUENCE_BLOCK, events};
use crate::types::{
    ChannelId, Code, EventBytes, Payload, PayloadKey, Rejection, Seq, Stamp, Tenure, limits,
};

/// Payload keys from this index on are of best-effort events. No log gets there.
const FIRST_INDEX: u64 = 1 << 63;

/// A handle on it; clones are the same.
#[derive(Clone, Default)]
pub struct Transient(Arc<Shared>);

#[derive(Default)]
struct Shared {
    /// Of the tenure served, if any.
    memory: Mutex<Option<Memory>>,
    dirty: Mutex<BTreeSet<ChannelId>>,
    changed: Notify,
}

struct Memory {
    machine: Machine,
    payloads: BTreeMap<PayloadKey, Payload>,
    /// With what each costs besides its bytes.
    payload_bytes: u64,
    next_index: u64,
    /// No sequence above it was given.
    highest: Seq,
    /// No sequence from this one on may be given yet.
    ceiling: Seq,
    /// An entry that lifts the ceiling is asked for.
    asked: bool,
}

impl Transient {
    /// Whether it is for memory to say what lies under this key.
    pub(super) fn holds(key: PayloadKey) -> bool {
        key.index >= FIRST_INDEX
    }

    /// The payload under this key, while somebody may still ask for it.
    pub(super) fn payload(&self, key: PayloadKey) -> Option<Payload> {
        self.lock().as_ref()?.payloads.get(&key).cloned()
    }

    /// Looks at `facts`, and beside them at the machine of this tenure. Which that is, and the time,
    /// is asked only where there are best-effort channels.
    pub fn see<T>(
        &self,
        facts: &Machine,
        tenure: impl FnOnce() -> (Option<Tenure>, Stamp),
        look: impl FnOnce(World<'_>) -> T,
    ) -> T {
        self.mirror(facts, tenure, |machine| look(World { facts, transient: machine.map(|m| &*m) }))
    }

    /// Looks at the machine of this tenure, brought up to how `facts` define its channels.
    pub(super) fn mirror<T>(
        &self,
        facts: &Machine,
        tenure: impl FnOnce() -> (Option<Tenure>, Stamp),
        look: impl FnOnce(Option<&mut Machine>) -> T,
    ) -> T {
        let mut memory = self.lock();
        if memory.is_none() && !facts.has_best_effort() {
            return look(None);
        }
        let (tenure, now) = tenure();
        if tenure.is_none() || memory.as_ref().is_some_and(|m| Some(m.machine.tenure()) != tenure) {
            *memory = None;
        }
        let Some(tenure) = tenure else { return look(None) };
        let memory = memory.get_or_insert_with(|| Memory::new(tenure, now));
        if !memory.machine.mirrors(facts) {
            memory.machine.mirror(facts);
            memory.clear();
        }
        // Entries of a later tenure are not ours.
        if facts.tenure() == tenure {
            memory.lift(facts.sequence_ceiling());
        }
        let seen = look(Some(&mut memory.machine));
        self.mark(memory.machine.take_touched());
        seen
    }

    /// Applies a command that concerns best-effort events alone; hands back one that does not. True:
    /// sequences run short, and another entry of the log would give more.
    pub(super) fn apply(
        &self,
        command: Command,
        tenure: impl FnOnce() -> (Option<Tenure>, Stamp),
    ) -> Result<(Reply, bool), Command> {
        let mut locked = self.lock();
        let Some(memory) = locked.as_mut().filter(|memory| memory.concerns(&command)) else {
            return Err(command);
        };
        let (tenure, now) = tenure();
        if Some(memory.machine.tenure()) != tenure {
            return Err(command);
        }
        let reply = memory.apply(command, now);
        let short = memory.is_short();
        let touched = memory.machine.take_touched();
        drop(locked);
        self.mark(touched);
        Ok((reply, short))
    }

    /// How many payloads there are, and their bytes.
    #[cfg(test)]
    pub fn payload_count(&self) -> (usize, u64) {
        self.lock().as_ref().map_or((0, 0), |m| (m.payloads.len(), m.payload_bytes))
    }

    fn mark(&self, channels: BTreeSet<ChannelId>) {
        if !channels.is_empty() {
            let mut dirty = self.0.dirty.lock().unwrap_or_else(PoisonError::into_inner);
            dirty.extend(channels);
            self.0.changed.notify_one();
        }
    }

    /// The channels changed since the last call; waits for some. Cancel-safe. For one reader.
    pub(super) async fn changed(&self) -> BTreeSet<ChannelId> {
        loop {
            let dirty = {
                let mut dirty = self.0.dirty.lock().unwrap_or_else(PoisonError::into_inner);
                std::mem::take(&mut *dirty)
            };
            if !dirty.is_empty() {
                return dirty;
            }
            self.0.changed.notified().await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Memory>> {
        // Apply has no failure half way.
        self.0.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Memory {
    fn new(tenure: Tenure, now: Stamp) -> Memory {
        Memory {
            machine: Machine::transient(tenure, now),
            payloads: BTreeMap::new(),
            payload_bytes: 0,
            next_index: FIRST_INDEX,
            highest: 0,
            ceiling: 0,
            asked: false,
        }
    }

    fn concerns(&self, command: &Command) -> bool {
        match command {
            Command::Publish(publish) => self.machine.channel(publish.channel).is_some(),
            Command::SkipSequences { lane, .. } => self.machine.lane(*lane).is_some(),
            Command::Settle(settle) => self.machine.proxy(settle.proxy).is_some(),
            Command::CountAttempts { proxy, .. } => self.machine.proxy(*proxy).is_some(),
            _ => false,
        }
    }

    /// Sequences below this one may be given.
    fn lift(&mut self, ceiling: Seq) {
        if ceiling > self.ceiling {
            (self.ceiling, self.asked) = (ceiling, false);
        }
    }

    /// Whether an entry is to be asked for; once for each ceiling.
    fn is_short(&mut self) -> bool {
        let short = self.highest.saturating_add(SEQUENCE_BLOCK / 2) > self.ceiling;
        short && !std::mem::replace(&mut self.asked, true)
    }

    fn apply(&mut self, command: Command, stamp: Stamp) -> Reply {
        if let Command::Publish(publish) = &command {
            if let Err(refusal) = self.admit(publish) {
                return Reply::Rejected(refusal);
            }
            self.machine.begin_lane(publish);
            self.keep(publish, stamp);
        }
        let (index, tenure) = (self.next_index, self.machine.tenure());
        self.next_index += 1;
        let batch = Batch { tenure, stamp, commands: vec![command] };
        let reply = self.machine.apply(index, &batch).pop();
        self.clear();
        // There is one reply to each command.
        reply.unwrap_or(Reply::Done)
    }

    fn admit(&mut self, publish: &Publish) -> Result<(), Rejection> {
        let next = self.machine.channel(publish.channel).map_or(0, |channel| channel.next_seq());
        self.highest = self.highest.max(next.saturating_add(publish.count.into()));
        let refuse = |message: &str| {
            Err(Rejection::new(Code::Overloaded, message).hint("send it again after a moment"))
        };
        if self.highest > self.ceiling {
            // What was asked for may have been refused.
            self.asked = false;
            return refuse("the sequences of a best-effort channel wait for the log");
        }
        if self.payload_bytes + publish.events.len() as u64 > limits::BEST_EFFORT_MEMORY_BYTES {
            self.let_go();
        }
        if self.payload_bytes + publish.events.len() as u64 > limits::BEST_EFFORT_MEMORY_BYTES {
            return refuse("the events of best-effort channels fill the memory they may have");
        }
        Ok(())
    }

    /// Each event by itself: what it came in is not held up by the last of them that is waited for.
    fn keep(&mut self, publish: &Publish, accepted: Stamp) {
        for (position, bytes) in events(publish).enumerate() {
            let bytes = Bytes::copy_from_slice(&bytes);
            let Ok(event) = EventBytes::check(bytes, limits::EVENT_BYTES_CEILING) else { continue };
            let key = PayloadKey { index: self.next_index, position: position as u32 };
            let sequence = publish.first_sequence.saturating_add(position as u64);
            self.payload_bytes += cost(&event);
            let payload = Payload { lane: publish.lane, sequence, accepted, event };
            self.payloads.insert(key, payload);
        }
    }

    /// Lets payloads go that nobody can ask for, once they are as many as the others.
    fn clear(&mut self) {
        let retained = self.machine.channels().map(|channel| channel.retained());
        let (events, bytes) =
            retained.fold((0, 0), |(events, bytes), t| (events + t.events, bytes + t.bytes));
        let needed = bytes + events * limits::BEST_EFFORT_EVENT_OVERHEAD;
        if self.payload_bytes > 2 * needed + (1 << 20) {
            self.let_go();
        }
    }

    fn let_go(&mut self) {
        let live: BTreeSet<PayloadKey> = self.machine.live_keys().map(|live| live.key).collect();
        self.payloads.retain(|key, _| live.contains(key));
        self.payload_bytes = self.payloads.values().map(|payload| cost(&payload.event)).sum();
    }
}

/// What a payload takes of memory.
fn cost(event: &EventBytes) -> u64 {
    event.len() as u64 + limits::BEST_EFFORT_EVENT_OVERHEAD
}
