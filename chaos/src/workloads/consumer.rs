//! One client of a durable consumer.

use std::time::Duration;

use aqueduct::client::{self, Delivery, Settler};
use aqueduct::env::Runtime;
use aqueduct::transport::Net;
use aqueduct::types::Rejection;

use super::actor::{Actor, Course, after};
use super::tap::Tap;
use super::{ConsumerSpec, lane_number};
use crate::history::{Outcome, Verdict, What, body};

/// See the module.
pub struct Member<N, E> {
    actor: Actor<N, E>,
    spec: ConsumerSpec,
    /// Events without a verdict, for the drain. Lost when the client goes.
    held: Vec<u64>,
}

/// Held events remembered; older ones come again when their lease ends.
const HELD_MAX: usize = 4_096;
/// Pause after an attachment that failed.
const AGAIN: Duration = Duration::from_millis(100);

/// Verdicts of a common kind.
struct Group {
    verdict: Verdict,
    delay_ms: u64,
    seqs: Vec<u64>,
}

/// What a client records of a delivery.
pub fn delivered(consumer: &str, channel: &str, delivery: &Delivery) -> What {
    let body = delivery.event.body();
    What::Delivered {
        consumer: consumer.into(),
        channel: channel.into(),
        seq: delivery.seq,
        lane: lane_number(delivery.lane),
        number: delivery.sequence,
        event: body::event(&body),
        digest: body::digest(&body),
        delivery: delivery.delivery,
        marked: delivery.delivery > 1 || delivery.maybe_redelivered,
        tenure: delivery.tenure.0,
        accepted_us: delivery.accepted.0,
    }
}

impl<N: Net, E: Runtime> Member<N, E> {
    pub fn new(actor: Actor<N, E>, spec: ConsumerSpec) -> Member<N, E> {
        Member { actor, spec, held: Vec::new() }
    }

    /// Comes, and comes again, until the load stops.
    pub async fn run(mut self) {
        while let Some(client) = self.actor.client(Course::Stop).await {
            let vanish = match self.actor.reached(Course::Drain) {
                true => None,
                false => self.spec.behaviour.vanish_every,
            };
            let vanish = vanish.map(|span| span.draw_ms(&mut self.actor.rng));
            let (env, stop) = (self.actor.world.env.clone(), self.actor.until(Course::Stop));
            let why = tokio::select! {
                biased;
                () = stop => "the load stops".to_string(),
                () = after(&env, vanish) => {
                    self.actor.note("consumers_vanished", "");
                    "it vanished".into()
                }
                Err(rejection) = self.life(&client) => rejection.to_string(),
            };
            client.close();
            self.held.clear();
            self.actor.record(What::Detached { consumer: self.spec.name.clone(), why });
            let away = match vanish {
                Some(_) => self.spec.behaviour.away.draw_ms(&mut self.actor.rng),
                None => AGAIN,
            };
            self.actor.pause(away, Course::Stop).await;
        }
    }

    /// Takes and settles; ends only when the client is of no more use.
    async fn life(&mut self, client: &client::Client) -> Result<(), Rejection> {
        let mut tap = Tap::open(client, &self.spec).await?;
        self.actor.record(What::Attached { consumer: self.spec.name.clone() });
        let settler = tap.settler();
        loop {
            let drain = self.actor.until(Course::Drain);
            let draining = self.actor.reached(Course::Drain);
            let batch = tokio::select! {
                biased;
                () = drain, if !draining => Vec::new(),
                batch = tap.next() => batch?,
            };
            for delivery in &batch {
                self.actor.record(delivered(&self.spec.name, &self.spec.channel, delivery));
            }
            self.work(&batch, &settler).await?;
        }
    }

    /// Verdicts on a batch, each as it is drawn.
    async fn work(&mut self, batch: &[Delivery], settler: &Settler) -> Result<(), Rejection> {
        let draining = self.actor.reached(Course::Drain);
        if !draining && !batch.is_empty() {
            let work = self.spec.behaviour.work.draw_ms(&mut self.actor.rng);
            if work > Duration::ZERO {
                self.actor.pause(work, Course::Drain).await;
            }
        }
        let mut groups = self.draw(batch);
        if draining && !self.held.is_empty() {
            let seqs = std::mem::take(&mut self.held);
            groups.push(Group { verdict: Verdict::Ack, delay_ms: 0, seqs });
        }
        if !groups.is_empty() {
            self.settle(groups, settler).await?;
        }
        if !draining && self.actor.rng.f64() < self.spec.behaviour.stall && !batch.is_empty() {
            self.actor.note("consumers_stalled", "");
            let time = self.spec.behaviour.stall_time.draw_ms(&mut self.actor.rng);
            self.actor.pause(time, Course::Drain).await;
        }
        Ok(())
    }

    fn draw(&mut self, batch: &[Delivery]) -> Vec<Group> {
        let behaviour = &self.spec.behaviour;
        let draining = self.actor.reached(Course::Drain);
        let (mut acks, mut nacks, mut terms) = (Vec::new(), Vec::new(), Vec::new());
        for delivery in batch {
            let drawn = if draining { 1.0 } else { self.actor.rng.f64() };
            let nack = behaviour.nack;
            let hold = nack + behaviour.hold;
            match drawn {
                drawn if drawn < nack => nacks.push(delivery.seq),
                drawn if drawn < hold => self.held.push(delivery.seq),
                drawn if drawn < hold + behaviour.terminate => terms.push(delivery.seq),
                _ => acks.push(delivery.seq),
            }
        }
        let forgotten = self.held.len().saturating_sub(HELD_MAX);
        self.held.drain(..forgotten);
        let delay_ms = behaviour.nack_delay.draw(&mut self.actor.rng);
        let groups = [
            Group { verdict: Verdict::Ack, delay_ms: 0, seqs: acks },
            Group { verdict: Verdict::Nack, delay_ms, seqs: nacks },
            Group { verdict: Verdict::Terminate, delay_ms: 0, seqs: terms },
        ];
        groups.into_iter().filter(|group| !group.seqs.is_empty()).collect()
    }

    /// Gives verdicts and waits until they are committed.
    async fn settle(&self, groups: Vec<Group>, settler: &Settler) -> Result<(), Rejection> {
        let before = settler.settlements();
        for Group { verdict, delay_ms, seqs } in &groups {
            self.actor.record(What::Settle {
                consumer: self.spec.name.clone(),
                seqs: seqs.clone(),
                verdict: *verdict,
            });
            let said = match verdict {
                Verdict::Ack => client::Verdict::Ack,
                Verdict::Nack => client::Verdict::Nack { delay_ms: *delay_ms },
                Verdict::Terminate => client::Verdict::Terminate { reason: "it was drawn".into() },
            };
            settler.settle(seqs, said).await?;
        }
        // An error here may be about verdicts given long ago: the counts tell.
        let flushed = settler.flush().await;
        let after = settler.settlements();
        let given: u64 = groups.iter().map(|group| group.seqs.len() as u64).sum();
        let confirmed = after.confirmed >= before.confirmed + given && after.unconfirmed() == 0;
        for Group { verdict, seqs, .. } in groups {
            let outcome = match &flushed {
                _ if confirmed => Outcome::Ok(()),
                Err(rejection) => Outcome::Unknown(rejection.code.to_string()),
                Ok(_) => Outcome::Unknown("not all were confirmed".into()),
            };
            let consumer = self.spec.name.clone();
            self.actor.record(What::Settled { consumer, seqs, verdict, outcome });
        }
        if confirmed { Ok(()) } else { flushed.map(|_| ()) }
    }
}
