//! The demo's supplier and its two durable consumers.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::tally::{Received, Tally};
use crate::client::{Client, Delivery, PublishError, Publisher, Puller, Receipt, Subscriber};
use crate::types::Event;

/// Name of the consumer that is sent events.
pub const PUSH: &str = "billing";
/// Name of the consumer that asks for events.
pub const PULL: &str = "archive";

/// Events per fetch, and the longest wait for the first.
const FETCH: u32 = 256;
const FETCH_WAIT: Duration = Duration::from_secs(1);

/// The tally, shared by all who count.
#[derive(Clone, Default)]
pub struct Board(Arc<Mutex<Tally>>);

impl Board {
    /// With a place for each consumer.
    pub fn new() -> Board {
        let board = Board::default();
        for name in [PUSH, PULL] {
            board.lock().received.insert(name.into(), Received::default());
        }
        board
    }

    /// The tally, for a moment: never across an await.
    pub fn lock(&self) -> MutexGuard<'_, Tally> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The SIGKILL whose recovery is being waited for.
pub type Outage = Arc<Mutex<Option<Instant>>>;

/// Publishes `rate` events per second until `stop`, then waits for the last answers.
pub async fn supply(
    lane: Publisher,
    rate: u64,
    board: Board,
    outage: Outage,
    stop: watch::Receiver<bool>,
) {
    let started = Instant::now();
    let mut answers = tokio::task::JoinSet::new();
    for n in 0u64.. {
        let due = started + Duration::from_nanos(n * 1_000_000_000 / rate.max(1));
        tokio::time::sleep_until(due.into()).await;
        if *stop.borrow() {
            break;
        }
        let body = format!("{{\"order\":{n},\"amount\":{}}}", n % 977);
        let Ok(event) = Event::of_body(body).encode() else { break };
        let sent = Instant::now();
        match lane.send(event).await {
            Ok(receipt) => {
                answers.spawn(answer(receipt, sent, board.clone(), outage.clone()));
            }
            Err(error) => count_error(&board, &error),
        }
        while answers.try_join_next().is_some() {}
    }
    while answers.join_next().await.is_some() {}
}

async fn answer(receipt: Receipt, sent: Instant, board: Board, outage: Outage) {
    match receipt.await {
        Ok(ack) => {
            board.lock().ack(ack.seq);
            recovered(sent, &board, &outage);
        }
        Err(error) => count_error(&board, &error),
    }
}

/// An event sent after the SIGKILL was acknowledged: the outage is over.
fn recovered(sent: Instant, board: &Board, outage: &Outage) {
    let mut outage = outage.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(killed) = outage.filter(|killed| sent >= *killed) {
        board.lock().failover_ms.push(killed.elapsed().as_millis() as u64);
        *outage = None;
    }
}

fn count_error(board: &Board, error: &PublishError) {
    match error {
        PublishError::Refused(_) => board.lock().refused += 1,
        PublishError::Unknown(_) => board.lock().unknown += 1,
    }
}

fn note(board: &Board, name: &str, batch: &[Delivery]) {
    if let Some(received) = board.lock().received.get_mut(name) {
        for delivery in batch {
            received.note(delivery.seq, delivery.delivery > 1 || delivery.maybe_redelivered);
        }
    }
}

/// Receives pushed events for ever.
pub async fn consume_pushed(mut subscriber: Subscriber, board: Board) {
    while let Ok(batch) = subscriber.next_batch().await {
        note(&board, PUSH, &batch);
        let seqs: Vec<_> = batch.iter().map(|d| d.seq).collect();
        if subscriber.ack(&seqs).await.is_err() {
            return;
        }
    }
}

/// Fetches events for ever. A fetch that finds no leader is made again.
pub async fn consume_pulled(mut puller: Puller, board: Board) {
    loop {
        let Ok(batch) = puller.fetch(FETCH, FETCH_WAIT).await else {
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        note(&board, PULL, &batch);
        let seqs: Vec<_> = batch.iter().map(|d| d.seq).collect();
        if puller.ack(&seqs).await.is_err() {
            return;
        }
    }
}

/// Where the client is connected, for the view.
pub fn connected_to(client: &Client) -> Option<u64> {
    client.server().map(|welcome| welcome.node.0)
}
