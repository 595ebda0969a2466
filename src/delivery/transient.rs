//! What the leader keeps of best-effort channels: their machine, their payloads, who is told of
//! changes. Begins and ends with a tenure; no disk has any of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::Notify;

use super::facts::World;
use crate::machine::{Batch, Command, Machine, Publish, Reply, events};
use crate::types::{ChannelId, EventBytes, Payload, PayloadKey, Stamp, Tenure, limits};

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
    payload_bytes: u64,
    next_index: u64,
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

    /// Looks at the machine of this tenure, brought up to how `facts` define its channels.
    pub(super) fn mirror<T>(
        &self,
        facts: &Machine,
        (tenure, now): (Option<Tenure>, Stamp),
        look: impl FnOnce(Option<&mut Machine>) -> T,
    ) -> T {
        let mut memory = self.lock();
        if tenure.is_none() || memory.as_ref().is_some_and(|m| Some(m.machine.tenure()) != tenure) {
            *memory = None;
        }
        let Some(tenure) = tenure else { return look(None) };
        if memory.is_none() && !facts.has_best_effort() {
            return look(None);
        }
        let memory = memory.get_or_insert_with(|| Memory::new(tenure, now));
        if !memory.machine.mirrors(facts) {
            memory.machine.mirror(facts);
        }
        let seen = look(Some(&mut memory.machine));
        self.mark(memory.machine.take_touched());
        seen
    }

    /// Looks at `facts`, with what this leader keeps beside them as it is.
    pub fn beside<T>(
        &self,
        facts: &Machine,
        tenure: Option<Tenure>,
        look: impl FnOnce(World<'_>) -> T,
    ) -> T {
        let memory = self.lock();
        let transient = memory.as_ref().map(|memory| &memory.machine);
        let transient = transient.filter(|machine| Some(machine.tenure()) == tenure);
        look(World { facts, transient })
    }

    /// Applies a command that concerns best-effort events alone; hands back one that does not.
    pub(super) fn apply(
        &self,
        command: Command,
        tenure: Option<Tenure>,
        now: impl FnOnce() -> Stamp,
    ) -> Result<Reply, Command> {
        let mut locked = self.lock();
        let of_tenure = |memory: &&mut Memory| Some(memory.machine.tenure()) == tenure;
        let Some(memory) = locked.as_mut().filter(of_tenure).filter(|m| m.concerns(&command))
        else {
            return Err(command);
        };
        let reply = memory.apply(command, now());
        let touched = memory.machine.take_touched();
        drop(locked);
        self.mark(touched);
        Ok(reply)
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

    fn apply(&mut self, command: Command, stamp: Stamp) -> Reply {
        let (index, tenure) = (self.next_index, self.machine.tenure());
        self.next_index += 1;
        if let Command::Publish(publish) = &command {
            self.machine.begin_lane(publish.lane, publish.first_sequence);
            self.keep(index, publish, stamp);
        }
        let batch = Batch { tenure, stamp, commands: vec![command] };
        let reply = self.machine.apply(index, &batch).pop();
        self.clear();
        // There is one reply to each command.
        reply.unwrap_or(Reply::Done)
    }

    /// Each event by itself: what it came in is not held up by the last of them that is waited for.
    fn keep(&mut self, index: u64, publish: &Publish, accepted: Stamp) {
        for (position, bytes) in events(publish).enumerate() {
            let bytes = Bytes::copy_from_slice(&bytes);
            let Ok(event) = EventBytes::check(bytes, limits::EVENT_BYTES_CEILING) else { continue };
            let key = PayloadKey { index, position: position as u32 };
            let sequence = publish.first_sequence.saturating_add(position as u64);
            self.payload_bytes += event.len() as u64;
            let payload = Payload { lane: publish.lane, sequence, accepted, event };
            self.payloads.insert(key, payload);
        }
    }

    /// Lets payloads go that nobody can ask for, once they are as many as the others.
    fn clear(&mut self) {
        let retained = self.machine.channels().map(|channel| channel.retained());
        let (events, bytes) =
            retained.fold((0, 0), |(events, bytes), t| (events + t.events, bytes + t.bytes));
        let few = self.payloads.len() as u64 <= 2 * events + 1024;
        if few && self.payload_bytes <= 2 * bytes + (1 << 20) {
            return;
        }
        let live: BTreeSet<PayloadKey> = self.machine.live_keys().map(|live| live.key).collect();
        self.payloads.retain(|key, _| live.contains(key));
        self.payload_bytes = self.payloads.values().map(|p| p.event.len() as u64).sum();
    }
}
