//! A simulated cluster: its nodes, their disks and the network between them, and the hands that
//! start, kill and look at them.

mod looking;

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aqueduct::env::disk::{Disk, Keep, MemDisk};
use aqueduct::storage::Ballast;
use openraft_rt::AsyncRuntime;
use openraft_rt_sim::SimRuntime;

use super::env::{Chance, SimEnv};
use super::net::Fabric;
use super::node::{self, Process, Sizes, Started};
use super::plan::{Left, Plan};
use super::recorder::Scribe;
use super::weather::Weather;
use crate::history::{NodeView, Recorder, What};

/// A process that ended by itself is started again after up to this long.
const SUPERVISED_MS: u64 = 800;

/// How often a node that waits for room looks.
const ROOM_EVERY: Duration = Duration::from_millis(200);

/// Everything there is. Clones share it.
#[derive(Clone)]
pub struct World(Arc<Inner>);

struct Inner {
    pub fabric: Fabric,
    pub chance: Chance,
    pub scribe: Scribe,
    sizes: Sizes,
    calm: Weather,
    pump_every: Duration,
    hosts: Mutex<BTreeMap<u64, Host>>,
    /// The last committed entry that anybody looked at.
    looked_at: AtomicU64,
}

/// Where a node lives: a disk and a clock that outlast its processes.
struct Host {
    /// The node's id; that of a host that has not joined is 0.
    id: u64,
    disk: MemDisk,
    state: State,
    life: u64,
    drift_ppm: i64,
    ahead_ms: i64,
    slow_disk: Duration,
    /// Whoever keeps it down; started when the last lets go.
    holds: u32,
    full: u32,
    /// What is left free while it is full, counted from when that began.
    leave: u64,
    failing_sync: u32,
    /// A bit of it flipped, whether that was noticed or not.
    damaged: bool,
    /// All that was damaged are relocated events, which it gets from others: in these files.
    curable: bool,
    wounds: Vec<String>,
    /// The last committed entry that was looked at.
    seen: u64,
    hashed: u64,
    /// Snapshots received in this life.
    received: u64,
}

enum State {
    Up(Process),
    /// On its way up.
    Starting(SimEnv),
    Down,
    Quarantined,
    /// It is no member any more.
    Retired,
}

/// Numbers of hosts; a node keeps its host's number as its id while the cluster is as founded.
pub type Slot = u64;

impl World {
    pub fn new(plan: &Plan, chance: Chance, scribe: Scribe) -> World {
        let fabric = Fabric::new(chance.clone(), plan.weather);
        let world = World(Arc::new(Inner {
            fabric,
            chance,
            scribe,
            sizes: Sizes {
                tail_bytes: plan.tail_bytes,
                database_bytes: plan.database_bytes,
                snapshot_log_bytes: plan.snapshot_log_bytes,
                payload_cache_bytes: plan.payload_cache_bytes,
            },
            calm: plan.weather,
            pump_every: Duration::from_micros(plan.pump_us),
            hosts: Mutex::default(),
            looked_at: AtomicU64::new(0),
        }));
        for slot in 1..=plan.nodes {
            let at = slot as usize - 1;
            let drift = plan.drift_ppm.get(at).copied().unwrap_or(0);
            let ahead = plan.ahead_ms.get(at).copied().unwrap_or(0);
            world.add_host(slot, drift, ahead);
        }
        world
    }

    pub fn fabric(&self) -> &Fabric {
        &self.0.fabric
    }

    /// The weather without any fault.
    pub fn calm(&self) -> Weather {
        self.0.calm
    }

    pub fn chance(&self) -> &Chance {
        &self.0.chance
    }

    fn hosts(&self) -> MutexGuard<'_, BTreeMap<Slot, Host>> {
        self.0.hosts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn host<T>(&self, slot: Slot, act: impl FnOnce(&mut Host) -> T) -> Option<T> {
        self.hosts().get_mut(&slot).map(act)
    }

    fn add_host(&self, slot: Slot, drift_ppm: i64, ahead_ms: i64) {
        let host = Host {
            id: 0,
            disk: MemDisk::new(),
            state: State::Down,
            life: 0,
            drift_ppm,
            ahead_ms,
            slow_disk: Duration::ZERO,
            holds: 0,
            full: 0,
            leave: 0,
            failing_sync: 0,
            damaged: false,
            curable: false,
            wounds: Vec::new(),
            seen: 0,
            hashed: 0,
            received: 0,
        };
        self.hosts().insert(slot, host);
    }

    /// A host that never was.
    pub fn new_host(&self) -> Slot {
        let slot = self.hosts().keys().next_back().map_or(1, |last| last + 1);
        self.add_host(slot, 0, 0);
        slot
    }

    // Lives and deaths ---------------------------------------------------------------------------

    /// Starts a host's process. With `id` its disk, which is empty, becomes that of the node.
    pub async fn start(&self, slot: Slot, id: Option<u64>) {
        let prepared = self.host(slot, |host| {
            host.life += 1;
            host.id = id.unwrap_or(host.id);
            let env = SimEnv::new(self.0.chance.clone(), host.drift_ppm, host.ahead_ms);
            env.slow_blocking(host.slow_disk);
            host.state = State::Starting(env.clone());
            (host.id, host.life, host.disk.clone(), env)
        });
        let Some((node, life, disk, env)) = prepared else { return };
        let (world, net) = (self.clone(), self.0.fabric.host(node::host(slot)));
        self.0.fabric.light(&node::host(slot));
        let place = node::Place { slot, id: node, founding: id.is_some() };
        let started =
            node::start(place, &disk, self.0.sizes, self.0.pump_every, net, env.clone()).await;
        let current = self.host(slot, |host| host.life == life && env.is_alive());
        match started {
            Started::Up(process) if current != Some(true) => process.replica.shutdown().await,
            _ if current != Some(true) => {}
            Started::Up(process) => {
                let replica = process.replica.clone();
                self.host(slot, |host| {
                    (host.seen, host.received) = (0, 0);
                    host.state = State::Up(process);
                });
                drop(SimRuntime::spawn(async move {
                    replica.stopped().await;
                    world.exited(slot, life).await;
                }));
            }
            Started::Quarantined(reason) => {
                env.die();
                self.host(slot, |host| host.state = State::Quarantined);
                self.note("quarantined", &format!("node {node}: {reason}"));
                let view = NodeView { role: "quarantined".into(), ..NodeView::default() };
                self.record(&format!("node-{node}"), What::Node { node, view });
            }
            Started::Full(reason) => {
                env.die();
                self.host(slot, |host| host.state = State::Down);
                self.wait_for_room(slot, &reason);
            }
            Started::Failed(reason) => {
                env.die();
                self.host(slot, |host| host.state = State::Down);
                self.note("failed_starts", &format!("node {node}: {reason}"));
                self.supervise(slot);
            }
        }
    }

    /// A process ended by itself: storage failed under it, or it was removed.
    async fn exited(&self, slot: Slot, life: u64) {
        let same = |host: &mut Host| matches!(host.state, State::Up(_)) && host.life == life;
        if self.host(slot, same) != Some(true) {
            return;
        }
        let removed = self.replica(slot).is_some_and(|replica| replica.leadership().peek().removed);
        let full =
            self.replica(slot).and_then(|replica| replica.failure()?.is_full().then_some(()));
        let failure = self.replica(slot).and_then(|replica| replica.status().failure);
        if full.is_some() {
            // The process lives, and nothing that it wrote is lost.
            self.kill(slot, Left::Everything, false);
            return self.wait_for_room(slot, &format!("{failure:?}"));
        }
        self.note("exits", &format!("host {slot}: {failure:?} removed: {removed}"));
        if !removed {
            let (node, how) = (self.id(slot), format!("{failure:?}"));
            self.record(&format!("node-{node}"), What::Exited { node, how });
        }
        // The kernel may have dropped what it could not write.
        let left = if failure.is_some() { Left::Some } else { Left::Everything };
        self.kill(slot, left, false);
        if removed {
            self.host(slot, |host| host.state = State::Retired);
            return;
        }
        self.supervise(slot);
    }

    /// Does what a node does whose disk is full: gives up its ballast, and begins another life when
    /// there is room.
    fn wait_for_room(&self, slot: Slot, why: &str) {
        self.hold(slot);
        self.note("waited_for_room", &format!("host {slot}: {why}"));
        let world = self.clone();
        let again: Pin<Box<dyn Future<Output = ()> + Send>> = Box::pin(async move {
            loop {
                SimRuntime::sleep(ROOM_EVERY).await;
                let room = world.disk(slot, |disk| {
                    let ballast = Ballast::new(Arc::new(disk.clone()), node::SPACE.ballast);
                    ballast.give_up().is_ok() && ballast.is_room_for(node::ROOM_TO_OPEN)
                });
                if room != Some(false) {
                    break;
                }
            }
            world.release(slot).await;
        });
        drop(SimRuntime::spawn(again));
    }

    /// Has a host started again in a while.
    fn supervise(&self, slot: Slot) {
        self.hold(slot);
        let pause = self.0.chance.draw(|chance| chance.u64(50..SUPERVISED_MS));
        let world = self.clone();
        let again: Pin<Box<dyn Future<Output = ()> + Send>> = Box::pin(async move {
            SimRuntime::sleep(Duration::from_millis(pause)).await;
            world.release(slot).await;
        });
        drop(SimRuntime::spawn(again));
    }

    /// Ends a process at once. What it still does changes nothing: its network is gone, and the
    /// disk that is found afterwards is another.
    pub fn kill(&self, slot: Slot, left: Left, silently: bool) {
        let seed = self.0.chance.draw(|chance| chance.u64(..));
        let keep = match left {
            Left::Everything => Keep::Everything,
            Left::Nothing => Keep::Nothing,
            Left::Some => Keep::Some,
        };
        let died = self.host(slot, |host| {
            let left = host.disk.free_bytes().unwrap_or(0);
            host.disk = host.disk.crash(keep, seed);
            host.leave = if host.full > 0 { left } else { host.leave };
            host.repair();
            match std::mem::replace(&mut host.state, State::Down) {
                State::Up(process) => {
                    process.env.die();
                    Some((host.id, process.replica))
                }
                State::Starting(env) => {
                    env.die();
                    None
                }
                other => {
                    host.state = other;
                    None
                }
            }
        });
        let Some(Some((node, replica))) = died else { return };
        self.0.fabric.die(&node::host(slot), silently);
        self.record(&format!("node-{node}"), What::NodeDown { node });
        drop(SimRuntime::spawn(async move { replica.shutdown().await }));
    }

    /// Ends a process in order.
    pub async fn stop(&self, slot: Slot) {
        let Some(replica) = self.replica(slot) else { return };
        if replica.leadership().peek().tenure.is_some() && replica.members().len() > 1 {
            let transfer = replica.transfer(None);
            tokio::select! { biased;
                _ = transfer => {}
                () = SimRuntime::sleep(Duration::from_secs(2)) => {}
            }
        }
        self.host(slot, |host| {
            if let State::Up(process) = &host.state {
                process.goodbye.set(true);
            }
        });
        SimRuntime::sleep(Duration::from_millis(20)).await;
        self.kill(slot, Left::Everything, false);
    }

    /// Keeps a host down.
    pub fn hold(&self, slot: Slot) {
        self.host(slot, |host| host.holds += 1);
    }

    /// Lets go of a host; whoever lets go last starts it.
    pub async fn release(&self, slot: Slot) {
        let start = self.host(slot, |host| {
            host.holds = host.holds.saturating_sub(1);
            host.holds == 0 && matches!(host.state, State::Down)
        });
        if start == Some(true) {
            self.start(slot, None).await;
        }
    }

    /// Takes a host out of the game.
    pub fn retire(&self, slot: Slot) {
        self.kill(slot, Left::Everything, false);
        self.host(slot, |host| host.state = State::Retired);
    }

    // Faults of hosts ----------------------------------------------------------------------------

    /// Changes something about a host's disk, for a down or running process alike.
    pub fn disk<T>(&self, slot: Slot, act: impl FnOnce(&MemDisk) -> T) -> Option<T> {
        self.host(slot, |host| act(&host.disk))
    }

    /// Adds to the reasons why the disk is full, with so many bytes free now, or takes one away.
    pub fn fill(&self, slot: Slot, leave: Option<u64>) {
        self.host(slot, |host| {
            host.full = if leave.is_some() { host.full + 1 } else { host.full.saturating_sub(1) };
            host.leave = leave.unwrap_or(host.leave);
            if leave.is_some() || host.full == 0 {
                host.disk.fill(leave);
            }
        });
    }

    /// Adds to (or takes from) the reasons why syncs fail.
    pub fn fail_sync(&self, slot: Slot, fail: bool) {
        self.host(slot, |host| {
            let now = host.failing_sync;
            host.failing_sync = if fail { now + 1 } else { now.saturating_sub(1) };
            host.disk.fail_sync(host.failing_sync > 0);
        });
    }

    /// Whether this disk may be damaged too: damaged members must stay a minority. If so it counts
    /// as damaged from now on.
    pub fn may_damage(&self, slot: Slot) -> bool {
        let members = self.slots();
        let damaged = |other: &&Slot| {
            **other == slot || self.host(**other, |host| host.damaged) == Some(true)
        };
        let may = members.iter().filter(damaged).count() <= (members.len() - 1) / 2;
        may && self.host(slot, |host| host.damaged = true).is_some()
    }

    /// What kind of file was damaged.
    pub fn damage_is_curable(&self, slot: Slot, first: bool, curable: bool) {
        self.host(slot, |host| host.curable = curable && (first || host.curable));
    }

    /// This file was damaged, and must not stay so.
    pub fn wound(&self, slot: Slot, file: &str) {
        self.host(slot, |host| host.wounds.push(file.to_owned()));
    }

    /// Whether no file that was damaged is there any more: what is repaired is written anew.
    pub fn is_mended(&self, slot: Slot) -> bool {
        let is_gone = |disk: &MemDisk, file: &String| !disk.paths().contains(file);
        self.host(slot, |host| host.wounds.iter().all(|file| is_gone(&host.disk, file)))
            == Some(true)
    }

    /// Damaged, in a way that it mends itself.
    pub fn is_curable(&self, slot: Slot) -> bool {
        self.is_up(slot) && self.host(slot, |host| host.curable) == Some(true)
    }

    /// It counts as sound again.
    pub fn cured(&self, slot: Slot) {
        self.host(slot, |host| {
            host.damaged = false;
            host.wounds.clear();
        });
    }

    pub fn slow_disk(&self, slot: Slot, longest: Duration) {
        self.host(slot, |host| {
            host.slow_disk = longest;
            if let Some(env) = host.state.env() {
                env.slow_blocking(longest);
            }
        });
    }

    pub fn set_clock(&self, slot: Slot, ahead_ms: i64) {
        self.host(slot, |host| {
            host.ahead_ms = ahead_ms;
            if let Some(env) = host.state.env() {
                env.set_clock_ahead(ahead_ms);
            }
        });
    }

    // For the history ----------------------------------------------------------------------------

    pub fn record(&self, by: &str, what: What) {
        self.0.scribe.record(by, what);
    }

    pub fn note(&self, key: &str, text: &str) {
        let what = What::Note { key: key.into(), count: 1, text: text.into() };
        self.record("nemesis", what);
    }
}

impl State {
    /// What a process that runs, or is about to, lives in.
    fn env(&self) -> Option<&SimEnv> {
        match self {
            State::Up(process) => Some(&process.env),
            State::Starting(env) => Some(env),
            State::Down | State::Quarantined | State::Retired => None,
        }
    }
}

impl Host {
    /// Puts the disk into the condition that the reasons ask for.
    fn repair(&mut self) {
        self.disk.fill((self.full > 0).then_some(self.leave));
        self.disk.fail_sync(self.failing_sync > 0);
    }
}

/// Waits until something holds, looking every few milliseconds; says no after `longest`.
pub async fn until(longest: Duration, mut holds: impl FnMut() -> bool) -> bool {
    let deadline = super::env::now() + longest;
    while !holds() {
        if super::env::now() >= deadline {
            return false;
        }
        SimRuntime::sleep(Duration::from_millis(5)).await;
    }
    true
}
