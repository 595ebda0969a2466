//! A whole load against one real node in this process, which is stopped and started in between.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aqueduct::client::{AdminClient, AdminOptions};
use aqueduct::env::{Publisher, TokioRuntime, watch};
use aqueduct::node::{ByteSize, Config, NodeError, run_until};
use aqueduct::transport::TcpNet;
use tokio::task::JoinHandle;

use super::*;
use crate::history::{ChannelView, ClusterView, EventId, Outcome, ProxyView, Verdict, What};

/// Keeps everything in memory.
#[derive(Default)]
struct Memory(Mutex<Vec<(String, What)>>);

impl Recorder for Memory {
    fn record(&self, by: &str, what: What) {
        self.0.lock().unwrap().push((by.to_string(), what));
    }
}

impl Memory {
    /// The last that each one did, for a test that fails.
    fn ends(&self) -> String {
        let mut ends = BTreeMap::<&str, Vec<&What>>::new();
        let records = self.0.lock().unwrap();
        records.iter().for_each(|(by, what)| ends.entry(by).or_default().push(what));
        let tail = |(by, all): (&&str, &Vec<_>)| {
            format!("{by}: {:?}\n", &all[all.len().saturating_sub(12)..])
        };
        ends.iter().map(tail).collect()
    }
}

struct OneNode {
    admin: AdminClient,
}

impl Eyes for OneNode {
    fn nodes(&self) -> Vec<u64> {
        vec![1]
    }

    async fn status(&self, _: u64) -> Outcome<ClusterView> {
        let answer = match self.admin.status(false).await {
            Ok(answer) => answer,
            Err(error) => return Outcome::Unknown(error.to_string()),
        };
        let proxy = |p: &aqueduct::wire::admin::ProxyReport| ProxyView {
            name: p.name.to_string(),
            offered: p.offered,
            acked: p.acked,
            pending: p.pending,
            ..ProxyView::default()
        };
        let channels = answer.value.channels.iter().map(|channel| ChannelView {
            name: channel.name.to_string(),
            accepted: channel.accepted,
            proxies: channel.proxies.iter().map(proxy).collect(),
            ..ChannelView::default()
        });
        Outcome::Ok(ClusterView { channels: channels.collect(), ..ClusterView::default() })
    }

    async fn look(&self, node: u64) -> Vec<What> {
        vec![What::NodeDown { node }]
    }
}

struct Node {
    stop: Publisher<bool>,
    ended: JoinHandle<Result<(), NodeError>>,
}

impl Node {
    fn start(dir: &Path, listen: &str) -> Node {
        let any = || "127.0.0.1:0".to_string();
        let config = Config {
            data_dir: dir.to_path_buf(),
            listen: listen.into(),
            peer: any(),
            admin: any(),
            http: any(),
            bootstrap: true,
            free_space_floor: ByteSize(1),
            shutdown_grace_ms: 100,
            ..Config::default()
        };
        let (stop, stopping) = watch(false);
        let ended = tokio::spawn(async move {
            let ended = run_until(config, stopping, |_| ()).await;
            ended.inspect_err(|error| eprintln!("the node ended: {error}"))
        });
        Node { stop, ended }
    }

    async fn stop(self) {
        self.stop.set(true);
        self.ended.await.unwrap().unwrap();
    }
}

/// One that nobody gets by asking for any: it must still be free when the node starts again.
fn a_free_address() -> String {
    let mut candidates =
        std::iter::repeat_with(|| format!("127.0.0.1:{}", fastrand::u16(20_000..30_000)));
    candidates.find(|addr| std::net::TcpListener::bind(addr).is_ok()).unwrap()
}

/// What became of each event and each consumer, as the history has it.
#[derive(Default)]
struct Told {
    accepted: BTreeSet<EventId>,
    got: BTreeMap<String, BTreeSet<EventId>>,
    acked: BTreeMap<String, BTreeSet<u64>>,
    notes: BTreeMap<String, u64>,
}

fn tell(records: &[(String, What)]) -> Told {
    let mut told = Told::default();
    let mut numbers = BTreeMap::new();
    let mut open = BTreeMap::<EventId, u32>::new();
    for (by, what) in records {
        match what {
            What::Publish { event, lane, number, .. } => {
                let one = numbers.entry((lane.clone(), *number)).or_insert(*event);
                assert_eq!(one, event, "a number of a lane stands for one event");
                *open.entry(*event).or_default() += 1;
            }
            What::Published { event, outcome } => {
                let attempts = open.get_mut(event).filter(|attempts| **attempts > 0);
                *attempts.expect("announced before") -= 1;
                if matches!(outcome, Outcome::Ok(_)) {
                    told.accepted.insert(*event);
                }
            }
            What::Delivered { consumer, event: Some(event), .. } => {
                assert!(open.contains_key(event), "{by} got {event} before it was announced");
                told.got.entry(consumer.clone()).or_default().insert(*event);
            }
            What::Settled { consumer, seqs, verdict: Verdict::Ack, outcome: Outcome::Ok(()) } => {
                told.acked.entry(consumer.clone()).or_default().extend(seqs);
            }
            What::Note { key, count, .. } => *told.notes.entry(key.clone()).or_default() += count,
            _ => {}
        }
    }
    told
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_load_survives_a_restart_and_ends_with_everything_settled() {
    let dir = tempfile::tempdir().unwrap();
    let addr = a_free_address();
    let node = Node::start(dir.path(), &addr);
    let memory = Arc::new(Memory::default());
    let world = World {
        net: Arc::new(|_: &str| TcpNet),
        env: TokioRuntime::new(),
        servers: vec![addr.clone()],
        token: String::new(),
        recorder: memory.clone(),
    };
    let mut load = Load::default();
    load.suppliers[2].crash_every = Some(Span::ms(100, 400));
    load.consumers.iter_mut().for_each(|consumer| {
        consumer.behaviour.vanish_every = Some(Span::ms(200, 900));
        consumer.ack_wait_ms = 500;
    });
    let mut running = load.start(world, 7).await.unwrap();
    let eyes = Arc::new(OneNode { admin: AdminClient::new(AdminOptions::new([addr.clone()])) });
    running.watch(&eyes, &[1], Duration::from_millis(200), Duration::from_millis(200));

    tokio::time::sleep(Duration::from_millis(1_500)).await;
    node.stop().await;
    let node = Node::start(dir.path(), &addr);
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    assert!(running.quiet(Duration::from_secs(20)).await, "{}", memory.ends());
    assert!(running.drain(Duration::from_secs(20), &*eyes).await);
    running.stop().await;
    node.stop().await;

    let records = memory.0.lock().unwrap();
    let told = tell(&records);
    for consumer in ["worker", "audit"] {
        assert!(told.got[consumer].is_superset(&told.accepted), "{consumer} misses events");
        // Some were committed while their client vanished and never heard of it.
        assert!(told.acked[consumer].len() > told.accepted.len() / 10, "{consumer} settles");
    }
    assert!(told.accepted.len() > 500, "{}", told.accepted.len());
    assert!(told.got["tail"].len() > 100, "{:?}", told.got["tail"].len());
    for key in ["supplier_crashes", "lanes_resumed", "events_repeated", "consumers_vanished"] {
        assert!(told.notes.get(key).is_some_and(|count| *count > 0), "{key}: {:?}", told.notes);
    }
}
