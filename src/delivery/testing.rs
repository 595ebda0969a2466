//! A machine without a cluster around it: what sessions and delivery are tested against.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use tokio::sync::Notify;

use super::cluster::{Changes, Cluster, Done};
use crate::env::testing::TestTime;
use crate::env::{Publisher, Runtime, Watch, watch};
use crate::machine::{Batch, Command, Machine, Reply};
use crate::types::{
    ChannelId, Code, Event, EventBytes, NodeId, Payload, PayloadKey, Rejection, Stamp, Tenure,
};

/// Applies every command at once, as an entry of its own.
#[derive(Clone)]
pub struct FakeCluster(Arc<Inner>);

struct Inner {
    world: Mutex<World>,
    tenure: Publisher<Option<Tenure>>,
    tenures: Watch<Option<Tenure>>,
    changed: Notify,
    pub time: TestTime,
}

struct World {
    machine: Machine,
    index: u64,
    payloads: BTreeMap<PayloadKey, Payload>,
    unreadable: BTreeSet<PayloadKey>,
    on_disk: bool,
    dirty: BTreeSet<ChannelId>,
    held: Option<Vec<(Command, Done)>>,
    refusing: Option<Rejection>,
}

impl FakeCluster {
    /// A cluster of one node that serves its first tenure.
    pub fn new() -> FakeCluster {
        let world = World {
            machine: Machine::new(),
            index: 0,
            payloads: BTreeMap::new(),
            unreadable: BTreeSet::new(),
            on_disk: false,
            dirty: BTreeSet::new(),
            held: None,
            refusing: None,
        };
        let (tenure, tenures) = watch(None);
        let (changed, time) = (Notify::new(), TestTime::default());
        let world = Mutex::new(world);
        let cluster = FakeCluster(Arc::new(Inner { world, tenure, tenures, changed, time }));
        cluster.begin_tenure();
        cluster
    }

    pub fn time(&self) -> TestTime {
        self.0.time.clone()
    }

    /// Begins and serves another tenure.
    pub fn begin_tenure(&self) {
        self.apply(Command::BeginTenure { node: NodeId(1) });
        let tenure = self.0.world.lock().unwrap().machine.tenure();
        self.0.tenure.set(Some(tenure));
    }

    /// Stops serving.
    pub fn end_tenure(&self) {
        self.0.tenure.set(None);
    }

    /// Applies a command now, whatever is held.
    pub fn apply(&self, command: Command) -> Reply {
        let mut world = self.0.world.lock().unwrap();
        world.index += 1;
        let (index, tenure, stamp) = (world.index, world.machine.tenure(), self.now());
        world.keep_payloads(&command, stamp);
        let replies = world.machine.apply(index, &Batch { tenure, stamp, commands: vec![command] });
        let touched = world.machine.take_touched();
        world.dirty.extend(touched);
        drop(world);
        self.0.changed.notify_one();
        replies.into_iter().next().unwrap()
    }

    /// From now on commands wait for [`FakeCluster::release`].
    pub fn hold(&self) {
        self.0.world.lock().unwrap().held.get_or_insert_default();
    }

    /// How many commands wait.
    pub fn held(&self) -> usize {
        self.0.world.lock().unwrap().held.as_ref().map_or(0, Vec::len)
    }

    /// Applies what waited, and goes on without waiting.
    pub fn release(&self) {
        let held = self.0.world.lock().unwrap().held.take();
        for (command, done) in held.into_iter().flatten() {
            done(Ok(self.apply(command)));
        }
    }

    /// Commands are refused with this, or taken again.
    pub fn refuse(&self, rejection: Option<Rejection>) {
        self.0.world.lock().unwrap().refusing = rejection;
    }

    /// Damages the payload of the event with this sequence in the default channel, or mends it.
    pub fn damage(&self, seq: u64, damaged: bool) {
        let mut world = self.0.world.lock().unwrap();
        let channel = default_channel(&world.machine);
        let key = world.machine.channel(channel).unwrap().slot(seq).unwrap().key();
        world.on_disk = true;
        match damaged {
            true => world.unreadable.insert(key),
            false => world.unreadable.remove(&key),
        };
    }
}

/// The channel that is always there.
pub fn default_channel(machine: &Machine) -> ChannelId {
    machine.channel_by_name(&crate::types::Name::default_channel()).unwrap().id()
}

impl World {
    fn keep_payloads(&mut self, command: &Command, accepted: Stamp) {
        let Command::Publish(publish) = command else { return };
        for (position, bytes) in crate::machine::events(publish).enumerate() {
            let key = PayloadKey { index: self.index, position: position as u32 };
            let event = EventBytes::check(bytes, 1 << 20).unwrap();
            let sequence = publish.first_sequence + position as u64;
            self.payloads.insert(key, Payload { lane: publish.lane, sequence, accepted, event });
        }
    }
}

impl Cluster for FakeCluster {
    type Changes = FakeChanges;

    fn submit(&self, _source: u64, command: Command, done: Done) {
        let mut world = self.0.world.lock().unwrap();
        if let Some(rejection) = world.refusing.clone() {
            drop(world);
            return done(Err(rejection));
        }
        if let Some(held) = &mut world.held {
            return held.push((command, done));
        }
        drop(world);
        done(Ok(self.apply(command)));
    }

    fn is_congested(&self) -> bool {
        self.0.world.lock().unwrap().held.is_some()
    }

    fn read<T>(&self, look: impl FnOnce(&Machine) -> T) -> T {
        look(&self.0.world.lock().unwrap().machine)
    }

    fn now(&self) -> Stamp {
        Stamp(self.0.time.monotonic().as_micros() as u64)
    }

    fn tenure(&self) -> Option<Tenure> {
        self.0.tenures.peek()
    }

    fn tenure_after(&self, seen: Option<Tenure>) -> impl Future<Output = Option<Tenure>> + Send {
        let mut tenures = self.0.tenures.clone();
        async move { tenures.wait_for(|tenure| *tenure != seen).await.flatten() }
    }

    async fn confirm(&self) -> Result<(), Rejection> {
        self.0.world.lock().unwrap().refusing.clone().map_or(Ok(()), Err)
    }

    fn not_serving(&self) -> Rejection {
        Rejection::new(Code::NoLeader, "this node does not lead")
    }

    fn changes(&self) -> FakeChanges {
        FakeChanges(self.clone())
    }

    fn cached_payload(&self, key: PayloadKey) -> Option<Payload> {
        let world = self.0.world.lock().unwrap();
        (!world.on_disk).then(|| world.payloads.get(&key).cloned()).flatten()
    }

    async fn payloads(&self, keys: Vec<PayloadKey>) -> Vec<Result<Payload, String>> {
        let world = self.0.world.lock().unwrap();
        let read = |key: PayloadKey| match world.payloads.get(&key) {
            Some(payload) if !world.unreadable.contains(&key) => Ok(payload.clone()),
            _ => Err(format!("{key} is damaged")),
        };
        keys.into_iter().map(read).collect()
    }
}

pub struct FakeChanges(FakeCluster);

impl Changes for FakeChanges {
    async fn next(&mut self) -> Option<BTreeSet<ChannelId>> {
        loop {
            let dirty = std::mem::take(&mut self.0.0.world.lock().unwrap().dirty);
            if !dirty.is_empty() {
                return Some(dirty);
            }
            self.0.0.changed.notified().await;
        }
    }
}

/// An events block of these bodies.
pub fn block(bodies: &[&str]) -> Bytes {
    let mut builder = crate::wire::EventsBlockBuilder::new();
    for body in bodies {
        builder.push(&Event::of_body(Bytes::copy_from_slice(body.as_bytes())).encode().unwrap());
    }
    builder.finish().into_bytes()
}
