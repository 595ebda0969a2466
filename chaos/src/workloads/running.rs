//! A load from its start to its end.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use anyhow::{Context, bail};
use aqueduct::env::{Publisher, Runtime, Watch, watch};
use aqueduct::transport::Net;
use tokio::sync::mpsc;

use super::actor::{Actor, Course};
use super::consumer::Member;
use super::listener::Listener;
use super::observer::{Asker, Eyes, Looker, ask};
use super::operator::{Hands, Operator};
use super::supplier::Supplier;
use super::tap::Tap;
use super::{Load, Patience, World, dead_letters};
use crate::history::{ClusterView, What};

/// How long creating the durable consumers may take.
const SETUP_MAX: Duration = Duration::from_secs(30);
/// Pause between looks at what is pending.
const DRAIN_LOOK: Duration = Duration::from_millis(200);

/// How long reading a channel of dead letters may take.
const READ_MAX: Duration = Duration::from_secs(20);

/// A load that runs. Dropping it stops everything without waiting.
pub struct Running<N, E> {
    world: World<N, E>,
    load: Load,
    seed: u64,
    /// Not tokio's, which wakes in an order of chance.
    course: Publisher<Course>,
    news: Watch<Course>,
    /// Everybody holds a sender for as long as it lives.
    suppliers: Crowd,
    others: Crowd,
    asks: Arc<AtomicU64>,
}

impl<N, E> Drop for Running<N, E> {
    fn drop(&mut self) {
        self.course.set(Course::Stop);
    }
}

/// Tells when the last of many is gone.
struct Crowd {
    ticket: Option<mpsc::Sender<()>>,
    gone: mpsc::Receiver<()>,
}

impl Crowd {
    fn new() -> Crowd {
        let (ticket, gone) = mpsc::channel(1);
        Crowd { ticket: Some(ticket), gone }
    }

    /// Waits until all are gone; nobody may come any more.
    async fn gone(&mut self) {
        self.ticket = None;
        while self.gone.recv().await.is_some() {}
    }
}

impl Load {
    /// Creates the durable consumers, then lets everybody begin. What is drawn follows `seed`.
    ///
    /// # Errors
    /// A consumer cannot be created in 30 s.
    pub async fn start<N: Net, E: Runtime>(
        self,
        world: World<N, E>,
        seed: u64,
    ) -> anyhow::Result<Running<N, E>> {
        let (course, news) = watch(Course::Load);
        let mut running = Running {
            world,
            load: self,
            seed,
            course,
            news,
            suppliers: Crowd::new(),
            others: Crowd::new(),
            asks: Arc::default(),
        };
        running.prepare().await?;
        running.begin();
        Ok(running)
    }

    /// Names of the durable consumers.
    pub fn durable(&self) -> BTreeSet<String> {
        self.consumers.iter().map(|consumer| consumer.name.clone()).collect()
    }
}

impl<N: Net, E: Runtime> Running<N, E> {
    fn actor(&self, by: String) -> Actor<N, E> {
        let seed = xxhash_rust::xxh3::xxh3_64_with_seed(by.as_bytes(), self.seed);
        Actor {
            world: self.world.clone(),
            by,
            patience: self.load.patience.clone(),
            rng: fastrand::Rng::with_seed(seed),
            course: self.news.clone(),
        }
    }

    /// Creates the durable consumers.
    async fn prepare(&self) -> anyhow::Result<()> {
        let until = self.world.env.monotonic() + SETUP_MAX;
        let by = "setup".to_string();
        for spec in &self.load.consumers {
            while let Err(error) = self.create(&by, spec).await {
                if self.world.env.monotonic() >= until {
                    bail!(error.context(format!("create consumer '{}'", spec.name)));
                }
                self.world.env.sleep(DRAIN_LOOK).await;
            }
            self.world.recorder.record(
                &by,
                What::Subscribed {
                    consumer: spec.name.clone(),
                    channel: spec.channel.clone(),
                    after: 0,
                    max_deliveries: Some(spec.max_deliveries).filter(|max| *max > 0),
                    ack_wait_ms: spec.ack_wait_ms,
                    max_in_flight: spec.max_in_flight,
                    qos: spec.qos.clone(),
                },
            );
        }
        Ok(())
    }

    async fn create(&self, by: &str, spec: &super::ConsumerSpec) -> anyhow::Result<()> {
        let client = self.world.client(by, &self.load.patience).await.context("connect")?;
        let opened = Tap::create(&client, spec).await;
        client.close();
        opened.map(|_| ()).context("attach")
    }

    fn begin(&mut self) {
        let load = self.load.clone();
        for spec in load.consumers {
            for client in 1..=spec.clients.max(1) {
                let actor = self.actor(format!("{}/{client}", spec.name));
                self.spawn(Member::new(actor, spec.clone()).run());
            }
        }
        for spec in load.listeners {
            let actor = self.actor(spec.name.clone());
            self.spawn(Listener { actor, spec }.run());
        }
        for (number, spec) in (1..).zip(load.suppliers) {
            let supplier = Supplier::new(self.actor(format!("supplier-{number}")), spec, number);
            let ticket = self.suppliers.ticket.clone();
            self.world.env.spawn(async move {
                supplier.run().await;
                drop(ticket);
            });
        }
    }

    fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        let ticket = self.others.ticket.clone();
        self.world.env.spawn(async move {
            work.await;
            drop(ticket);
        });
    }

    /// Lets the operator of the load begin, if it has one.
    pub fn operate<H: Hands>(&self, hands: &Arc<H>) {
        if let Some(spec) = self.load.operator.clone() {
            let (actor, consumers) = (self.actor("operator".into()), self.load.consumers.clone());
            self.spawn(Operator::new(actor, hands.clone(), spec, consumers).run());
        }
    }

    /// Looks at these nodes, each every `look`, and asks for a status every `ask`, until the end.
    pub fn watch<Y: Eyes>(&self, eyes: &Arc<Y>, nodes: &[u64], look: Duration, ask: Duration) {
        let (asks, actor) = (self.asks.clone(), self.actor("observer".into()));
        self.spawn(Asker { actor, eyes: eyes.clone(), asks, every: ask }.run());
        nodes.iter().for_each(|&node| self.watch_node(eyes, node, look));
    }

    /// Looks at one more node.
    pub fn watch_node<Y: Eyes>(&self, eyes: &Arc<Y>, node: u64, every: Duration) {
        let actor = self.actor(format!("node-{node}"));
        self.spawn(Looker { actor, eyes: eyes.clone(), every, node }.run());
    }

    /// No new events from here on; waits until every supplier has the answers it can get, at most
    /// so long. Says whether they all ended.
    pub async fn quiet(&mut self, within: Duration) -> bool {
        self.course.set(Course::Quiet);
        tokio::select! {
            biased;
            () = self.suppliers.gone() => true,
            () = self.world.env.sleep(within) => false,
        }
    }

    /// Everybody behaves and settles; waits until nothing is pending for any durable consumer of
    /// the load, at most so long. Says whether it came to that.
    pub async fn drain(&mut self, within: Duration, eyes: &impl Eyes) -> bool {
        self.course.set(Course::Drain);
        let until = self.world.env.monotonic() + within;
        let recorder = self.world.recorder.clone();
        for turn in 0.. {
            let nodes = eyes.nodes();
            if let Some(&via) = nodes.get(turn % nodes.len().max(1)) {
                let view = ask(eyes, &*recorder, "drain", &self.asks, via).await;
                if let Some(view) = view.filter(|view| self.is_drained(view)) {
                    self.read_dead_letters(&view).await;
                    return true;
                }
            }
            if self.world.env.monotonic() >= until {
                break;
            }
            self.world.env.sleep(DRAIN_LOOK).await;
        }
        false
    }

    /// What cannot be read is not known by name, which whoever judges finds out by counting.
    async fn read_dead_letters(&self, view: &ClusterView) {
        let (env, recorder) = (&self.world.env, &*self.world.recorder);
        for channel in view.channels.iter().filter(|channel| dead_letters::has_any(channel)) {
            let reading = async {
                let client = self.world.client("coroner", &self.load.patience).await?;
                let read = dead_letters::read(&client, channel, recorder).await;
                client.close();
                read
            };
            tokio::select! {
                biased;
                _ = reading => {}
                () = env.sleep(READ_MAX) => {}
            }
        }
    }

    fn is_drained(&self, view: &ClusterView) -> bool {
        self.load.consumers.iter().all(|spec| {
            let channel = view.channels.iter().find(|channel| channel.name == spec.channel);
            let proxies = channel.map(|channel| &channel.proxies[..]).unwrap_or_default();
            proxies.iter().any(|proxy| proxy.name == spec.name && proxy.pending == 0)
        })
    }

    /// Ends everybody, and waits for it.
    pub async fn stop(mut self) {
        self.course.set(Course::Stop);
        self.suppliers.gone().await;
        self.others.gone().await;
    }

    /// The load that runs.
    pub fn load(&self) -> &Load {
        &self.load
    }

    /// How patient its clients are.
    pub fn patience(&self) -> &Patience {
        &self.load.patience
    }
}
