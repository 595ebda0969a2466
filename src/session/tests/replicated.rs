//! Sessions and delivery over a real replica: one node, its disk in memory.

use std::sync::Arc;

use super::client::{Client, acks, push};
use crate::consensus::{self, Member, Replica};
use crate::delivery::{self, Cluster};
use crate::env::disk::MemDisk;
use crate::env::{TokioRuntime, watch};
use crate::session::Options;
use crate::storage::{self, Drive, Owner};
use crate::transport::MemNet;
use crate::types::{ClusterId, Code, NodeId, Qos, limits};
use crate::wire::ServerMessage;

async fn replica() -> Replica<TokioRuntime> {
    let owner = Owner { cluster: ClusterId(1), node: NodeId(1) };
    let disk = Arc::new(MemDisk::new());
    let opened = storage::open_on(disk, Some(owner), storage::Options::default(), Drive::Thread);
    let storage = opened.unwrap().healthy().unwrap();
    let member = Member { id: NodeId(1), peer_addr: "one:1".into(), ..Member::default() };
    let options = consensus::Options::new(member);
    let started = consensus::start(options, storage, MemNet::new("one"), TokioRuntime::new());
    let replica = started.await.unwrap();
    replica.bootstrap().await.unwrap();
    replica.leadership().wait_for(|leadership| leadership.tenure.is_some()).await.unwrap();
    replica
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pipelined_publishes_reach_an_acking_consumer_through_the_log() {
    const FRAMES: u64 = 100;
    const EVENTS: u64 = 20;
    let replica = replica().await;
    let (_running, shutdown) = watch(false);
    let env = TokioRuntime::new();
    let options = Options {
        cluster: replica.clone(),
        delivery: delivery::start(replica.clone(), env.clone()),
        suppliers: crate::session::Suppliers::default(),
        env,
        event_bytes_max: limits::EVENT_BYTES_MAX,
        shutdown,
    };
    let mut supplier = Client::connect(options.clone(), 1 << 20);
    let mut consumer = Client::connect(options, 1 << 20);
    let proxy = consumer.attach(Qos::default(), push(60_000)).await;

    let publish = async {
        let lane = supplier.open_lane().await;
        let bodies = vec!["event"; EVENTS as usize];
        for frame in 0..FRAMES {
            supplier.send(lane, frame * EVENTS + 1, &bodies).await;
        }
        let mut answered = 0;
        while answered < FRAMES * EVENTS {
            let ServerMessage::PublishAck(ack) = supplier.hear().await else { panic!() };
            assert_eq!(ack.refused, None);
            assert_eq!(ack.runs[0].first_sequence, answered + 1, "in order");
            answered += ack.runs.iter().map(|run| u64::from(run.count)).sum::<u64>();
        }
    };
    let consume = async {
        let (mut next, mut confirmed) = (1, 0);
        while confirmed < FRAMES * EVENTS {
            match consumer.hear().await {
                ServerMessage::Deliver(deliver) => {
                    let seqs: Vec<u64> = deliver.events.iter().map(|event| event.seq).collect();
                    assert!(seqs.iter().copied().eq(next..next + seqs.len() as u64), "in order");
                    next += seqs.len() as u64;
                    consumer.say(acks(proxy, &seqs)).await;
                }
                ServerMessage::SettleConfirmed(done) => confirmed += done.settled,
                other => panic!("{other:?}"),
            }
        }
    };
    tokio::join!(publish, consume);
    let pending = replica.read(|machine| machine.pending(machine.proxy(proxy).unwrap()));
    assert_eq!(pending, 0);

    replica.shutdown().await;
    let ServerMessage::Goodbye(goodbye) = supplier.hear().await else { panic!() };
    assert_eq!(goodbye.reason.code, Code::NoLeader);
    assert_eq!(Cluster::tenure(&replica), None);
}
