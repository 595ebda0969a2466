//! A supplier: publishes on a lane until it is told to stop, and crashes if that is its nature.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aqueduct::client::{Client, LaneChoice, PublishError, PublishOptions, Publisher, Receipt};
use aqueduct::env::Runtime;
use aqueduct::transport::Net;
use aqueduct::types::{Event, EventBytes, Name, Rejection};
use tokio::sync::mpsc;

use super::actor::{Actor, Course, after};
use super::lane_number;
use super::notebook::{Entry, Known, Notebook, Resume};
use super::pacer::Pacer;
use super::{LaneKind, SupplierSpec};
use crate::history::{Asks, EventId, Outcome, Place, What, body};

/// Pause after a life that could not begin.
const AGAIN: Duration = Duration::from_millis(100);

/// See the module.
pub struct Supplier<N, E> {
    actor: Actor<N, E>,
    spec: SupplierSpec,
    /// Which supplier it is, from 1: the upper half of its events' ids.
    number: u32,
    /// Events made up so far.
    made: u64,
    pacer: Pacer,
    notebook: Pages,
    /// Whether everything in doubt was repeated at the end.
    reconciled: bool,
}

/// The notebook, shared by who gives events and who hears the answers.
type Pages = Arc<Mutex<Notebook>>;

fn open(pages: &Pages) -> MutexGuard<'_, Notebook> {
    pages.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An event given to the client.
struct Given {
    number: u64,
    event: EventId,
    receipt: Receipt,
}

impl<N: Net, E: Runtime> Supplier<N, E> {
    pub fn new(actor: Actor<N, E>, spec: SupplierSpec, number: u32) -> Supplier<N, E> {
        let pacer = Pacer::new(spec.rate);
        let notebook = Pages::default();
        Supplier { actor, spec, number, made: 0, pacer, notebook, reconciled: false }
    }

    /// Lives until the load is quiet and nothing is left to find out.
    pub async fn run(mut self) {
        while !self.actor.reached(Course::Stop) && !self.is_finished() {
            self.life().await;
        }
    }

    fn is_done_making(&self) -> bool {
        let max = self.spec.events_max;
        self.actor.reached(Course::Quiet) || (max > 0 && self.made >= max)
    }

    fn is_finished(&self) -> bool {
        let clear = match self.spec.lane {
            LaneKind::Fresh => true,
            LaneKind::Named(_) => self.reconciled && !open(&self.notebook).has_open(),
        };
        self.is_done_making() && clear
    }

    /// One client, from its making to its end or crash.
    async fn life(&mut self) {
        let Some(client) = self.actor.client(Course::Stop).await else { return };
        let crash = self.spec.crash_every.map(|span| span.draw_ms(&mut self.actor.rng));
        let (env, stop) = (self.actor.world.env.clone(), self.actor.until(Course::Stop));
        let crashed = tokio::select! {
            biased;
            () = stop => false,
            () = after(&env, crash) => true,
            () = self.publish(&client) => false,
        };
        // Whoever waited for answers is gone: they are not heard any more.
        client.close();
        for event in open(&self.notebook).abandon() {
            let outcome = Outcome::Unknown("the supplier is gone".into());
            self.actor.record(What::Published { event, outcome });
        }
        if crashed {
            self.actor.note("supplier_crashes", "");
        }
        if self.spec.lane == LaneKind::Fresh {
            self.notebook = Pages::default();
        }
    }

    async fn publish(&mut self, client: &Client) {
        let Some(publisher) = self.open_lane(client).await else {
            self.actor.pause(AGAIN, Course::Stop).await;
            return;
        };
        let (sender, given) = mpsc::channel(self.spec.in_flight.max(1));
        let recorder = self.actor.world.recorder.clone();
        let (by, notebook) = (self.actor.by.clone(), self.notebook.clone());
        let hear = hear(given, notebook, move |what| recorder.record(&by, what));
        tokio::join!(self.give(&publisher, sender), hear);
    }

    /// Opens the lane, at a place that is drawn if it is taken up again.
    async fn open_lane(&mut self, client: &Client) -> Option<Publisher> {
        let resume = match self.actor.rng.u32(..4) {
            _ if self.is_done_making() => Resume::Doubt,
            0 => Resume::Doubt,
            1 => Resume::Overlap(self.actor.rng.u64(1..64)),
            _ => Resume::Open,
        };
        self.reconciled = self.is_done_making();
        let first = open(&self.notebook).first(resume);
        let opened = match self.try_open(client, first).await {
            // Numbers before it never arrived, and never will: they are repeated, too.
            Err(rejection) if first.is_some() && rejection.expected.is_some() => {
                self.try_open(client, rejection.expected).await
            }
            opened => opened,
        };
        match opened {
            Ok(publisher) => {
                if first.is_some() {
                    self.actor.note("lanes_resumed", "");
                }
                Some(publisher)
            }
            Err(rejection) => {
                self.actor.note("lanes_not_opened", rejection.to_string());
                self.reconciled = false;
                None
            }
        }
    }

    async fn try_open(&self, client: &Client, first: Option<u64>) -> Result<Publisher, Rejection> {
        let lane = match &self.spec.lane {
            LaneKind::Fresh => LaneChoice::Fresh,
            LaneKind::Named(name) => LaneChoice::Named(valid(name)?),
        };
        let options = PublishOptions {
            lane,
            first_sequence: first,
            deadline: Duration::from_millis(self.spec.deadline_ms),
            in_flight_events: self.spec.in_flight,
            ..PublishOptions::default()
        };
        client.publisher(valid(&self.spec.channel)?, options).await
    }

    /// Gives events to the lane: first what is repeated, then new ones at their pace.
    async fn give(&mut self, publisher: &Publisher, given: mpsc::Sender<Given>) {
        let lane = lane_number(publisher.lane()).to_string();
        loop {
            let number = publisher.next_sequence();
            let before = open(&self.notebook).get(number);
            let (event, bytes, asks) = match before {
                Some(entry) => (entry.event, entry.bytes, entry.asks),
                None => match self.make().await {
                    Some(made) => made,
                    None => return,
                },
            };
            let announced = self.announce(&lane, number, event, bytes, asks);
            let Some(encoded) = announced else { return };
            open(&self.notebook).give(number, event, bytes, asks);
            match publisher.send(encoded).await {
                Ok(receipt) => {
                    if before.is_some() {
                        self.actor.note("events_repeated", "");
                    }
                    let number = receipt.sequence();
                    if given.send(Given { number, event, receipt }).await.is_err() {
                        return;
                    }
                }
                Err(error) => return self.not_given(number, event, before, &error),
            }
        }
    }

    /// A new event when it is due. `None`: there are to be no more.
    async fn make(&mut self) -> Option<(EventId, usize, Asks)> {
        loop {
            if self.is_done_making() {
                return None;
            }
            match self.pacer.next(self.actor.now()) {
                Duration::ZERO => break,
                wait => self.actor.pause(wait, Course::Quiet).await,
            };
        }
        self.made += 1;
        let bytes = self.spec.bytes.draw(&mut self.actor.rng) as usize;
        let event = u64::from(self.number) << 32 | self.made;
        let now = self.actor.world.env.wall();
        let asks = self.spec.asks.draw(&mut self.actor.rng, now);
        Some((event, bytes.max(body::BYTES_MIN), asks))
    }

    /// Records that an event is about to be published.
    fn announce(
        &self,
        lane: &str,
        number: u64,
        event: EventId,
        bytes: usize,
        asks: Asks,
    ) -> Option<EventBytes> {
        let body = body::make(event, bytes);
        self.actor.record(What::Publish {
            event,
            channel: self.spec.channel.clone(),
            lane: lane.to_string(),
            number,
            digest: body::digest(&body),
            bytes: body.len() as u32,
            asks,
        });
        let Asks { priority, timeout_ms, start_ms, stop_ms } = asks;
        let event = Event { priority, timeout_ms, start_ms, stop_ms, ..Event::of_body(body) };
        event.encode().ok()
    }

    /// The client did not take the event, which says nothing about earlier attempts.
    fn not_given(&self, number: u64, event: EventId, before: Option<Entry>, error: &PublishError) {
        let reason = error.rejection().code.to_string();
        let known = before.map_or(Known::Refused, |entry| entry.known);
        open(&self.notebook).note(number, known);
        let outcome = match known {
            Known::Refused => Outcome::Fail(reason),
            _ => Outcome::Unknown(reason),
        };
        self.actor.record(What::Published { event, outcome });
    }
}

/// Hears the answers, which come in lane order.
async fn hear(mut given: mpsc::Receiver<Given>, notebook: Pages, record: impl Fn(What)) {
    while let Some(Given { number, event, receipt }) = given.recv().await {
        let (known, outcome) = match receipt.await {
            Ok(ack) => {
                let place = Place { seq: ack.seq, duplicate: ack.duplicate };
                (Known::Accepted, Outcome::Ok(place))
            }
            Err(PublishError::Refused(rejection)) => {
                (Known::Refused, Outcome::Fail(rejection.code.to_string()))
            }
            Err(PublishError::Unknown(rejection)) => {
                (Known::Unknown, Outcome::Unknown(rejection.code.to_string()))
            }
        };
        open(&notebook).note(number, known);
        record(What::Published { event, outcome });
    }
}

/// A name of the load, which may be none.
pub fn valid(name: &str) -> Result<Name, Rejection> {
    Name::new(name).map_err(|e| Rejection::new(aqueduct::types::Code::BadRequest, e.to_string()))
}
