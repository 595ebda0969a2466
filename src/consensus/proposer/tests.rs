use std::sync::atomic::{AtomicUsize, Ordering};

use crate::env::TokioRuntime;
use crate::env::testing::TestTime;
use crate::machine::Publish;
use crate::machine::Settle;
use crate::schedule::Claim;
use crate::types::{NodeId, ProxyId};

use super::*;

/// An entry handed over, and how to answer it.
struct Written {
    batch: Batch,
    answer: Box<dyn FnOnce(Outcome) + Send>,
}

/// Keeps what is written until the test answers it.
struct Fake(mpsc::UnboundedSender<Written>);

impl Writer for Fake {
    async fn write(&self, entry: Bytes, answer: impl FnOnce(Outcome) + Send + 'static) {
        let batch = Batch::decode(entry).unwrap();
        let _ = self.0.send(Written { batch, answer: Box::new(answer) });
    }
}

/// Lanes of even channels take turns by weight, those of odd ones one after the other.
struct Definitions;

impl Rules for Definitions {
    fn policies(&self, channels: &[ChannelId]) -> Vec<Policy> {
        let policy = |id: &ChannelId| match id.0 % 2 {
            0 => Policy::Weighted,
            _ => Policy::RoundRobin,
        };
        channels.iter().map(policy).collect()
    }

    fn claims(&self, waiting: &[Waiting]) -> Vec<(LaneId, Claim)> {
        let weight = |lane: LaneId| Claim { weight: lane.position, ..Claim::default() };
        waiting.iter().map(|one| (one.lane, weight(one.lane))).collect()
    }
}

type Results = mpsc::UnboundedReceiver<Result<Reply, ProposeError>>;

struct Bench {
    proposer: Proposer,
    written: mpsc::UnboundedReceiver<Written>,
    tell: mpsc::UnboundedSender<Result<Reply, ProposeError>>,
    told: Results,
}

fn bench() -> Bench {
    bench_in(TokioRuntime::new())
}

fn bench_in(env: impl Runtime) -> Bench {
    let (to_test, written) = mpsc::unbounded_channel();
    let (tell, told) = mpsc::unbounded_channel();
    let proposer = Proposer::start(Fake(to_test), Definitions, SoftClock::new(env.clone()), env);
    Bench { proposer, written, tell, told }
}

impl Bench {
    fn submit(&self, command: Command) {
        let tell = self.tell.clone();
        self.proposer.submit(1, command, Box::new(move |result| tell.send(result).unwrap()));
    }

    async fn next(&mut self) -> Written {
        soon(self.written.recv()).await.unwrap()
    }

    async fn result(&mut self) -> Result<Reply, ProposeError> {
        soon(self.told.recv()).await.unwrap()
    }
}

/// What does not come is a failure, not a test that hangs.
async fn soon<T>(coming: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), coming).await.expect("it comes in time")
}

fn done(count: usize) -> Outcome {
    Outcome::Applied(vec![Reply::Done; count])
}

#[tokio::test]
async fn entries_fill_while_others_are_on_the_way() {
    let mut bench = bench();
    bench.proposer.open(Tenure(7));
    let mut first = Vec::new();
    for _ in 0..limits::ENTRIES_IN_FLIGHT_MAX {
        bench.submit(Command::Checkpoint);
        first.push(bench.next().await);
    }
    for _ in 0..100 {
        bench.submit(Command::Checkpoint);
    }
    tokio::task::yield_now().await;
    assert!(bench.written.try_recv().is_err(), "as many as may be are on the way");
    let stamp = first[0].batch.stamp;
    (first.remove(0).answer)(done(1));
    let rest = bench.next().await;
    assert_eq!(rest.batch.commands.len(), 100);
    assert_eq!(rest.batch.tenure, Tenure(7));
    assert!(rest.batch.stamp >= stamp);
    (rest.answer)(done(100));
    for _ in 0..101 {
        assert_eq!(bench.result().await, Ok(Reply::Done));
    }
}

#[tokio::test]
async fn settlements_ride_with_what_somebody_waits_for() {
    let settle = || {
        Command::Settle(Settle { proxy: ProxyId(1), revision: 0, fencing: 0, parts: Vec::new() })
    };
    let time = TestTime::default();
    let mut bench = bench_in(time.clone());
    bench.proposer.open(Tenure(7));
    bench.submit(settle());
    assert_eq!(bench.next().await.batch.commands.len(), 1, "nothing else is going on");
    bench.submit(Command::Checkpoint);
    bench.next().await;
    bench.submit(settle());
    tokio::task::yield_now().await;
    assert!(bench.written.try_recv().is_err(), "the next may come any moment");
    bench.submit(Command::Checkpoint);
    assert_eq!(bench.next().await.batch.commands.len(), 2);
    bench.submit(settle());
    tokio::task::yield_now().await;
    assert!(bench.written.try_recv().is_err());
    time.advance(RIDE_PAUSE.as_millis() as u64);
    assert_eq!(bench.next().await.batch.commands.len(), 1, "none came");
}

#[tokio::test]
async fn a_closed_proposer_names_the_leader() {
    let mut bench = bench();
    let leader = Some(Member { id: NodeId(3), ..Member::default() });
    bench.proposer.close(leader.clone());
    bench.submit(Command::Checkpoint);
    assert_eq!(bench.result().await, Err(ProposeError::NotLeader { leader }));
    bench.proposer.stop();
    bench.submit(Command::Checkpoint);
    assert_eq!(bench.result().await, Err(ProposeError::ShuttingDown));
}

#[tokio::test]
async fn losing_office_tells_apart_what_is_in_the_log_and_what_is_not() {
    let mut bench = bench();
    bench.proposer.open(Tenure(1));
    let mut flying = Vec::new();
    for _ in 0..limits::ENTRIES_IN_FLIGHT_MAX {
        bench.submit(Command::Checkpoint);
        flying.push(bench.next().await);
    }
    bench.submit(Command::Checkpoint);
    bench.proposer.close(None);
    assert_eq!(bench.result().await, Err(ProposeError::NotLeader { leader: None }));
    for _ in 0..limits::ENTRIES_IN_FLIGHT_MAX {
        assert_eq!(bench.result().await, Err(ProposeError::TenureLost));
    }
    // Late answers of the old tenure reach nobody, and do not confuse the next one.
    bench.proposer.open(Tenure(9));
    flying.into_iter().for_each(|written| (written.answer)(done(1)));
    bench.submit(Command::Checkpoint);
    let next = bench.next().await;
    assert_eq!(next.batch.tenure, Tenure(9));
    (next.answer)(done(1));
    assert_eq!(bench.result().await, Ok(Reply::Done));
    assert!(bench.told.try_recv().is_err());
}

#[tokio::test]
async fn each_outcome_has_its_error() {
    let mut bench = bench();
    bench.proposer.open(Tenure(1));
    let leader = Some(Member { id: NodeId(2), ..Member::default() });
    for (outcome, expected) in [
        (Outcome::Refused(leader.clone()), ProposeError::NotLeader { leader }),
        (Outcome::Unknown, ProposeError::TenureLost),
        (done(2), ProposeError::TenureLost),
    ] {
        bench.submit(Command::Checkpoint);
        (bench.next().await.answer)(outcome);
        assert_eq!(bench.result().await, Err(expected));
    }
}

#[tokio::test]
async fn entries_refused_for_want_of_a_lease_are_offered_again_in_order() {
    let mut bench = bench();
    bench.proposer.open(Tenure(1));
    bench.submit(Command::DeleteChannel { channel: crate::types::ChannelId(1) });
    let first = bench.next().await;
    bench.submit(Command::DeleteChannel { channel: crate::types::ChannelId(2) });
    let second = bench.next().await;
    let expected = [first.batch.clone(), second.batch.clone()];
    (first.answer)(Outcome::NoLease);
    (second.answer)(Outcome::NoLease);
    for batch in expected {
        let again = bench.next().await;
        assert_eq!(again.batch, batch);
        (again.answer)(done(1));
        assert_eq!(bench.result().await, Ok(Reply::Done));
    }
    bench.submit(Command::Checkpoint);
    for _ in 0..=LEASE_TRIES {
        (bench.next().await.answer)(Outcome::NoLease);
    }
    assert_eq!(bench.result().await, Err(ProposeError::NotLeader { leader: None }));
}

#[tokio::test]
async fn an_entry_that_was_overtaken_is_refused_and_not_offered_again() {
    for lease_comes_back_first in [true, false] {
        let mut bench = bench();
        bench.proposer.open(Tenure(1));
        bench.submit(Command::DeleteChannel { channel: crate::types::ChannelId(1) });
        let first = bench.next().await;
        bench.submit(Command::Checkpoint);
        let second = bench.next().await;
        if lease_comes_back_first {
            (second.answer)(done(1));
            assert_eq!(bench.result().await, Ok(Reply::Done));
            (first.answer)(Outcome::NoLease);
        } else {
            (first.answer)(Outcome::NoLease);
            (second.answer)(done(1));
        }
        let mut results = vec![bench.result().await];
        if !lease_comes_back_first {
            results.push(bench.result().await);
        }
        assert!(matches!(results[0], Err(ProposeError::Overloaded(_))), "{results:?}");
        bench.submit(Command::Checkpoint);
        assert_eq!(bench.next().await.batch.commands, [Command::Checkpoint]);
    }
}

#[tokio::test]
async fn a_full_queue_refuses_and_never_waits() {
    let bench = bench();
    bench.proposer.open(Tenure(1));
    let refused = std::sync::Arc::new(AtomicUsize::new(0));
    let command = Command::Publish(crate::machine::Publish {
        channel: crate::types::ChannelId(1),
        lane: crate::types::LaneId { index: 1, position: 0 },
        epoch: 1,
        first_sequence: 1,
        count: 1,
        events: Bytes::from(vec![0; 8 << 20]),
    });
    for _ in 0..2 * limits::INTAKE_BYTES_MAX / (8 << 20) {
        let refused = refused.clone();
        let done = move |result: Result<Reply, ProposeError>| {
            assert!(matches!(result, Err(ProposeError::Overloaded(_))), "{result:?}");
            refused.fetch_add(1, Ordering::Relaxed);
        };
        bench.proposer.submit(1, command.clone(), Box::new(done));
    }
    assert!(refused.load(Ordering::Relaxed) >= limits::INTAKE_BYTES_MAX / (8 << 20));
}

/// What was waiting goes into the next entries in the order that the channel's policy gives.
#[tokio::test]
async fn lanes_of_a_channel_go_by_its_policy() {
    const PUBLISHES: u32 = 200;
    for (channel, shares) in [(1, (45..=55, 45..=55)), (2, (20..=30, 70..=80))] {
        let mut bench = bench();
        bench.proposer.open(Tenure(3));
        // So many entries are on the way that the rest waits.
        for _ in 0..limits::ENTRIES_IN_FLIGHT_MAX {
            bench.submit(Command::Checkpoint);
            let _on_its_way = bench.next().await;
        }
        for sequence in 1..=PUBLISHES {
            for weight in [1, 3] {
                bench.submit(Command::Publish(Publish {
                    channel: ChannelId(channel),
                    lane: LaneId { index: 9, position: weight },
                    epoch: 1,
                    first_sequence: sequence.into(),
                    count: 1,
                    events: block(8_000),
                }));
            }
        }
        let lanes = [1, 3].map(|p| (ChannelId(channel), LaneId { index: 9, position: p }));
        bench.proposer.events.send(Event::Answered(0, Outcome::Unknown)).unwrap();
        let entry = bench.next().await.batch;
        let of = |weight: u32| {
            let mine = |command: &&Command| matches!(command, Command::Publish(publish) if publish.lane.position == weight);
            100 * entry.commands.iter().filter(mine).count() / entry.commands.len()
        };
        assert!(entry.commands.len() > 50, "{} publishes", entry.commands.len());
        assert!(shares.0.contains(&of(1)) && shares.1.contains(&of(3)), "{} : {}", of(1), of(3));
        let fared = bench.proposer.fared(&lanes);
        assert!(fared.iter().all(|lane| lane.turns > 0), "{fared:?}");
    }
}

fn block(bytes: u32) -> Bytes {
    let mut block = bytes.to_le_bytes().to_vec();
    block.resize(4 + bytes as usize, 0);
    block.into()
}
