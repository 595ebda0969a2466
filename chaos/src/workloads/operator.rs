//! An operator: changes the quality of service of durable consumers while they work, suspends and
//! resumes them, and leaves everything running in the end.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use aqueduct::env::Runtime;
use aqueduct::transport::Net;
use aqueduct::types::{Code, Level, QosChange, Rejection};
use aqueduct::wire::admin::read_wish;

use super::actor::{Actor, Course};
use super::{ConsumerSpec, OperatorSpec};
use crate::history::{Cut, Definition, Outcome, What, Wish};

/// Pause before a change that did not certainly happen is asked for again.
const AGAIN: Duration = Duration::from_millis(100);

/// How consumers are defined anew: over the admin service on real nodes, directly in the
/// simulation. Every answer comes in bounded time.
pub trait Hands: Send + Sync + 'static {
    /// Changes the proxy of this name.
    fn redefine(
        &self,
        channel: &str,
        consumer: &str,
        to: &Definition,
    ) -> impl Future<Output = Outcome<Cut>> + Send;
}

/// The changes that properties and values stand for.
///
/// # Errors
/// There is no such property for a proxy, or it cannot have that value.
pub fn changes(wish: &Wish) -> Result<Vec<QosChange>, Rejection> {
    read_wish(Level::Proxy, wish).map_err(|faults| {
        let faults: Vec<String> = faults.into_iter().map(|fault| fault.message).collect();
        Rejection::new(Code::InvalidQos, faults.join("; "))
    })
}

/// See the module.
pub struct Operator<N, E, H> {
    actor: Actor<N, E>,
    hands: Arc<H>,
    spec: OperatorSpec,
    consumers: Vec<ConsumerSpec>,
    asks: u64,
    /// Consumers that may be suspended, by their place.
    suspended: BTreeSet<usize>,
}

impl<N: Net, E: Runtime, H: Hands> Operator<N, E, H> {
    pub fn new(
        actor: Actor<N, E>,
        hands: Arc<H>,
        spec: OperatorSpec,
        consumers: Vec<ConsumerSpec>,
    ) -> Operator<N, E, H> {
        Operator { actor, hands, spec, consumers, asks: 0, suspended: BTreeSet::new() }
    }

    /// Works until the load is quiet.
    pub async fn run(mut self) {
        loop {
            let wait = self.spec.every.draw_ms(&mut self.actor.rng);
            if !self.actor.pause(wait, Course::Quiet).await {
                break;
            }
            let whom = self.actor.rng.usize(..self.consumers.len().max(1));
            if self.actor.rng.u8(..6) == 0 {
                self.interrupt(whom).await;
            } else {
                let wish = draw(&mut self.actor.rng);
                self.redefine(whom, Definition::Qos(wish)).await;
            }
        }
        while let Some(whom) = self.suspended.first().copied() {
            self.resume(whom).await;
            if self.actor.reached(Course::Stop) {
                break;
            }
        }
    }

    /// Suspends a consumer for a while.
    async fn interrupt(&mut self, whom: usize) {
        self.suspended.insert(whom);
        if self.redefine(whom, Definition::Suspended(true)).await {
            let time = self.spec.suspended.draw_ms(&mut self.actor.rng);
            self.actor.pause(time, Course::Quiet).await;
        }
        self.resume(whom).await;
    }

    async fn resume(&mut self, whom: usize) {
        while !self.redefine(whom, Definition::Suspended(false)).await {
            if !self.actor.pause(AGAIN, Course::Stop).await {
                return;
            }
        }
        self.suspended.remove(&whom);
    }

    /// Asks for a change, on the record; whether it certainly happened.
    async fn redefine(&mut self, whom: usize, to: Definition) -> bool {
        let Some(spec) = self.consumers.get(whom) else { return true };
        self.asks += 1;
        let (ask, consumer) = (self.asks, spec.name.clone());
        self.actor.record(What::Redefine { ask, consumer, to: to.clone() });
        let outcome = self.hands.redefine(&spec.channel, &spec.name, &to).await;
        let done = matches!(outcome, Outcome::Ok(_));
        self.actor.record(What::Redefined { ask, outcome });
        if done {
            self.actor.note(
                if matches!(to, Definition::Qos(_)) { "redefined" } else { "suspensions" },
                "",
            );
        }
        done
    }
}

/// What an operator may think of.
fn draw(rng: &mut fastrand::Rng) -> Wish {
    let choices: &[(&str, &[&str])] = &[
        ("order_policy", &["fifo", "priority", "deadline", "inherit"]),
        ("order_policy", &["fifo", "priority", "deadline", "priority"]),
        ("order_policy", &["priority", "deadline", "priority", "deadline"]),
        ("max_events_per_consumer", &["inherit", "20", "60", "200"]),
        ("discard_policy", &["fifo", "lifo", "priority", "deadline"]),
        ("timeout", &["inherit", "300", "1000", "2500"]),
        ("pacing_interval", &["inherit", "5", "20", "80"]),
        ("maximum_batch_size", &["inherit", "4", "16", "64"]),
        ("rate_limit", &["inherit", "inherit", "500", "2000"]),
        ("redelivery_delay", &["inherit", "10", "50", "200"]),
    ];
    let mut wish = Wish::new();
    for _ in 0..rng.usize(1..3) {
        let (name, values) = choices[rng.usize(..choices.len())];
        let value = values[rng.usize(..values.len())];
        wish.insert(name.to_string(), value.to_string());
        if name == "redelivery_delay" {
            // It doubles with each failure, and a drain does not wait for ever.
            wish.insert("redelivery_delay_max".into(), "800".into());
        }
    }
    wish
}

/// Properties that a consumer of the load may begin with.
pub fn draw_beginning(rng: &mut fastrand::Rng) -> Wish {
    let mut wish = draw(rng);
    wish.retain(|_, value| value != "inherit");
    wish
}
