//! From commands of many sources to log entries, and from their answers back.
//!
//! Commands wait in an [`Intake`], fair between those who wait and bounded in bytes. Where more than one
//! lane of a channel waits, the channel's policy says which is next, as it is defined at that moment. Whenever fewer than
//! [`limits::ENTRIES_IN_FLIGHT_MAX`] entries are on their way and something waits, the next entry
//! is formed: while entries are on the way the next one fills, so batches grow with the load and
//! no timer is needed. Only what nobody waits for, settlements, waits a moment while events are
//! being published: the next entry of events takes them along.
//!
//! Invariants:
//! - Every command is answered exactly once, and nothing here ever waits for room: a full queue
//!   refuses.
//! - `NotLeader` and `ShuttingDown` are said only of commands that never entered the log; where
//!   that is not certain it is `TenureLost`.
//! - Entries are applied in the order in which they were formed, or refused: one that was refused
//!   for want of a lease is not offered again after a later one has got in.
//! - Commands enter the log only in a tenure that this node serves, and carry it: should another
//!   leader come first, the machine refuses them.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{Notify, mpsc};

use crate::env::Runtime;
use crate::intake::{Intake, LaneTurns, Party};
use crate::machine::{Batch, Command, Reply};
use crate::schedule::Policy;
use crate::types::{ChannelId, LaneId, Stamp, Tenure, limits};

use super::clock::SoftClock;
use super::error::ProposeError;
use super::member::Member;
use super::order::{Rules, Waiting};

/// Told the outcome of a command. Must be quick: it runs on the proposer's task.
pub type Done = Box<dyn FnOnce(Result<Reply, ProposeError>) + Send>;

/// A leader whose lease has run out (also one just elected) refuses entries for a moment; they
/// are offered again after this pause …
const LEASE_PAUSE: Duration = Duration::from_millis(20);
/// … and this often before the commands are refused.
const LEASE_TRIES: u32 = 50;

/// So long after an entry that somebody waited for, settlements wait for the next one. At a steady
/// trickle of events this halves the number of entries; consumers get their next events all the
/// same, and only hear of the commit a little later.
const RIDE_PAUSE: Duration = Duration::from_millis(5);

/// What became of an entry.
#[derive(Debug)]
pub(super) enum Outcome {
    Applied(Vec<Reply>),
    /// It never entered the log; somebody else leads.
    Refused(Option<Member>),
    /// It never entered the log; this leader has not heard from a majority for a while.
    NoLease,
    /// It may or may not take effect.
    Unknown,
}

/// Where entries go: openraft, or a fake in tests.
pub(super) trait Writer: Send + Sync + 'static {
    /// Hands an entry over. `answer` is called once, or dropped when nobody knows.
    fn write(
        &self,
        entry: Bytes,
        answer: impl FnOnce(Outcome) + Send + 'static,
    ) -> impl Future<Output = ()> + Send;
}

/// The handle: cheap to clone.
#[derive(Clone)]
pub(super) struct Proposer {
    shared: Arc<Shared>,
    events: mpsc::UnboundedSender<Event>,
}

struct Shared {
    inside: Mutex<Inside>,
    wake: Notify,
    now: Box<dyn Fn() -> Stamp + Send + Sync>,
}

struct Inside {
    gate: Gate,
    intake: Intake<Asked>,
    /// How many of those that wait are no settlements.
    urgent: usize,
}

#[derive(Clone)]
enum Gate {
    Open(Tenure),
    Closed { leader: Option<Member> },
    Stopped,
}

struct Asked {
    command: Command,
    done: Done,
}

enum Event {
    /// At most [`limits::ENTRIES_IN_FLIGHT_MAX`] of these are under way.
    Answered(u64, Outcome),
    /// The tenure ended: whatever is on its way is unknown.
    Lost,
    Stopped,
}

impl Proposer {
    /// Starts the proposer, closed, and its task.
    pub fn start<E: Runtime>(
        writer: impl Writer,
        rules: impl Rules,
        clock: SoftClock<E>,
        env: E,
    ) -> Proposer {
        let (events, inbox) = mpsc::unbounded_channel();
        let gate = Gate::Closed { leader: None };
        let inside = Inside { gate, intake: Intake::default(), urgent: 0 };
        let time = clock.clone();
        let (inside, wake) = (Mutex::new(inside), Notify::new());
        let shared = Arc::new(Shared { inside, wake, now: Box::new(move || time.now()) });
        let task = Task {
            shared: shared.clone(),
            events: events.clone(),
            writer,
            rules,
            clock,
            env: env.clone(),
            next_ticket: 0,
            rides_until: Duration::ZERO,
            applied: None,
            flights: BTreeMap::new(),
            held: BTreeMap::new(),
        };
        env.spawn(task.run(inbox));
        Proposer { shared, events }
    }

    /// Queues a command; `done` is told how it ended, possibly before this returns.
    pub fn submit(&self, source: u64, command: Command, done: Done) {
        let cost = command_bytes(&command);
        let urgent = !rides(&command);
        let from = (source, party(source, &command));
        let now = (self.shared.now)();
        let mut inside = self.shared.lock();
        let (error, done) = match &inside.gate {
            Gate::Open(_) => match inside.intake.offer(from, cost, Asked { command, done }, now) {
                Ok(()) => {
                    inside.urgent += usize::from(urgent);
                    drop(inside);
                    return self.shared.wake.notify_one();
                }
                Err((full, asked)) => (ProposeError::Overloaded(full.to_string()), asked.done),
            },
            Gate::Closed { leader } => (ProposeError::NotLeader { leader: leader.clone() }, done),
            Gate::Stopped => (ProposeError::ShuttingDown, done),
        };
        drop(inside);
        done(Err(error));
    }

    /// Bytes of commands that wait for an entry.
    pub fn waiting_bytes(&self) -> usize {
        self.shared.lock().intake.bytes()
    }

    /// How these lanes of a channel fared in waiting for their turns.
    pub fn fared(&self, lanes: &[(ChannelId, LaneId)]) -> Vec<LaneTurns> {
        let now = (self.shared.now)();
        let inside = self.shared.lock();
        lanes.iter().map(|(channel, lane)| inside.intake.fared(*channel, *lane, now)).collect()
    }

    /// Commands are taken from now on, for this tenure.
    pub fn open(&self, tenure: Tenure) {
        self.shared.lock().gate = Gate::Open(tenure);
    }

    /// The tenure is over. What has not entered the log is answered `NotLeader`, the rest
    /// `TenureLost`, at once.
    pub fn close(&self, leader: Option<Member>) {
        let closed = Gate::Closed { leader: leader.clone() };
        self.shut(closed, Event::Lost, ProposeError::NotLeader { leader });
    }

    /// Answers everybody and ends the task.
    pub fn stop(&self) {
        self.shut(Gate::Stopped, Event::Stopped, ProposeError::ShuttingDown);
    }

    fn shut(&self, gate: Gate, event: Event, error: ProposeError) {
        let mut inside = self.shared.lock();
        if matches!(inside.gate, Gate::Stopped) {
            return;
        }
        let was_open = matches!(inside.gate, Gate::Open(_));
        inside.gate = gate;
        let waiting = inside.take(usize::MAX, usize::MAX, (self.shared.now)());
        drop(inside);
        if was_open || matches!(event, Event::Stopped) {
            let _ = self.events.send(event);
        }
        waiting.into_iter().for_each(|asked| (asked.done)(Err(error.clone())));
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inside {
    fn waiting(&self, channel: ChannelId) -> Vec<Waiting> {
        let waiting = self.intake.waiting(channel).into_iter();
        waiting.map(|(lane, since, asked)| Waiting::new(lane, since, &asked.command)).collect()
    }

    fn take(&mut self, bytes_target: usize, count_max: usize, now: Stamp) -> Vec<Asked> {
        let taken = self.intake.take(bytes_target, count_max, now);
        self.urgent -= taken.iter().filter(|asked| !rides(&asked.command)).count();
        taken
    }
}

/// An entry on its way.
struct Flight {
    entry: Bytes,
    dones: Vec<Done>,
    tries: u32,
}

struct Task<E, W, R> {
    shared: Arc<Shared>,
    events: mpsc::UnboundedSender<Event>,
    writer: W,
    rules: R,
    clock: SoftClock<E>,
    env: E,
    next_ticket: u64,
    /// Until this moment of the monotonic clock settlements wait for something to ride with.
    rides_until: Duration,
    /// The latest entry formed of those known to be applied.
    applied: Option<u64>,
    flights: BTreeMap<u64, Flight>,
    /// Refused for want of a lease, to be offered again in order.
    held: BTreeMap<u64, Flight>,
}

impl<E: Runtime, W: Writer, R: Rules> Task<E, W, R> {
    async fn run(mut self, mut inbox: mpsc::UnboundedReceiver<Event>) {
        loop {
            while self.held.is_empty() && self.flights.len() < limits::ENTRIES_IN_FLIGHT_MAX {
                let Some(flight) = self.form() else { break };
                let ticket = self.next_ticket;
                self.next_ticket += 1;
                self.send(ticket, flight).await;
            }
            let event = tokio::select! { biased;
                event = inbox.recv() => event,
                () = self.lease_pause() => {
                    // One by one: the lease may come back between two of them.
                    if let Some((ticket, flight)) = self.held.pop_first() {
                        self.send(ticket, flight).await;
                    }
                    continue;
                }
                () = self.shared.wake.notified() => continue,
                () = self.ride_over() => continue,
            };
            match event {
                Some(Event::Answered(ticket, outcome)) => self.answered(ticket, outcome),
                Some(Event::Lost) => self.lose(&ProposeError::TenureLost),
                Some(Event::Stopped) | None => return self.lose(&ProposeError::TenureLost),
            }
        }
    }

    /// Completes when held entries should be offered again: after a pause, and when none is ahead
    /// of them.
    fn lease_pause(&self) -> impl Future<Output = ()> + use<E, W, R> {
        let due = !self.held.is_empty() && self.flights.is_empty();
        let env = self.env.clone();
        async move {
            match due {
                true => env.sleep(LEASE_PAUSE).await,
                false => std::future::pending().await,
            }
        }
    }

    /// Completes when settlements that wait alone have waited long enough.
    fn ride_over(&self) -> impl Future<Output = ()> + use<E, W, R> {
        let waits = {
            let inside = self.shared.lock();
            inside.urgent == 0 && !inside.intake.is_empty()
        };
        let ready = self.held.is_empty() && self.flights.len() < limits::ENTRIES_IN_FLIGHT_MAX;
        let pause = self.rides_until.saturating_sub(self.env.monotonic());
        let env = self.env.clone();
        async move {
            match waits && ready {
                true => env.sleep(pause).await,
                false => std::future::pending().await,
            }
        }
    }

    /// Makes an entry of what waits, if this node serves and anything does.
    fn form(&mut self) -> Option<Flight> {
        let now = self.env.monotonic();
        self.set_orders();
        let mut inside = self.shared.lock();
        let Gate::Open(tenure) = inside.gate else { return None };
        if inside.intake.is_empty() || (inside.urgent == 0 && now < self.rides_until) {
            return None;
        }
        if inside.urgent > 0 {
            self.rides_until = now + RIDE_PAUSE;
        }
        let stamp = self.clock.now();
        let asked = inside.take(limits::BATCH_BYTES_TARGET, limits::BATCH_COMMANDS_MAX, stamp);
        drop(inside);
        let (commands, dones) = asked.into_iter().map(|a| (a.command, a.done)).unzip();
        let entry = Batch { tenure, stamp, commands }.encode();
        Some(Flight { entry, dones, tries: 0 })
    }

    /// Where several lanes of a channel wait, they go by its policy as it is now. Facts are looked at
    /// without holding up those who submit.
    fn set_orders(&self) {
        let contended = self.shared.lock().intake.contended();
        if contended.is_empty() {
            return;
        }
        let policies = self.rules.policies(&contended);
        for (channel, policy) in contended.into_iter().zip(policies) {
            let claims = match policy {
                Policy::RoundRobin => Vec::new(),
                _ => {
                    let waiting = self.shared.lock().waiting(channel);
                    self.rules.claims(&waiting)
                }
            };
            let now = (self.shared.now)();
            self.shared.lock().intake.set_order(channel, policy, claims, now);
        }
    }

    async fn send(&mut self, ticket: u64, flight: Flight) {
        let entry = flight.entry.clone();
        self.flights.insert(ticket, flight);
        let events = self.events.clone();
        let answer = move |outcome| {
            let _ = events.send(Event::Answered(ticket, outcome));
        };
        self.writer.write(entry, answer).await;
    }

    fn answered(&mut self, ticket: u64, outcome: Outcome) {
        // Not there any more: the tenure ended meanwhile, and its commands were answered.
        let Some(mut flight) = self.flights.remove(&ticket) else { return };
        match outcome {
            Outcome::Applied(replies) if replies.len() == flight.dones.len() => {
                self.applied = self.applied.max(Some(ticket));
                self.refuse_overtaken();
                flight.dones.into_iter().zip(replies).for_each(|(done, reply)| done(Ok(reply)));
            }
            Outcome::NoLease if flight.tries < LEASE_TRIES => {
                flight.tries += 1;
                self.held.insert(ticket, flight);
                self.refuse_overtaken();
            }
            Outcome::NoLease => flight.fail(&ProposeError::NotLeader { leader: None }),
            Outcome::Refused(leader) => flight.fail(&ProposeError::NotLeader { leader }),
            Outcome::Unknown | Outcome::Applied(_) => flight.fail(&ProposeError::TenureLost),
        }
    }

    /// Refuses what is held and was overtaken. It is in no log; offering it again would turn the
    /// order of a supplier's events around.
    fn refuse_overtaken(&mut self) {
        let Some(applied) = self.applied else { return };
        let later = self.held.split_off(&applied);
        for flight in std::mem::replace(&mut self.held, later).into_values() {
            flight.fail(&ProposeError::Overloaded("the leader had paused; try again".into()));
        }
    }

    fn lose(&mut self, error: &ProposeError) {
        // What is held was refused: it is in no log.
        for flight in std::mem::take(&mut self.held).into_values() {
            flight.fail(&ProposeError::NotLeader { leader: None });
        }
        for flight in std::mem::take(&mut self.flights).into_values() {
            flight.fail(error);
        }
    }
}

impl Flight {
    fn fail(self, error: &ProposeError) {
        self.dones.into_iter().for_each(|done| done(Err(error.clone())));
    }
}

/// Who waits with a command.
fn party(source: u64, command: &Command) -> Party {
    match command {
        Command::Publish(publish) => Party::Lane(publish.channel, publish.lane),
        _ => Party::Source(source),
    }
}

/// Whether nobody waits for this command, so that it can wait for another.
fn rides(command: &Command) -> bool {
    matches!(command, Command::Settle(_))
}

/// What a command counts for in the queue: its bytes in the entry, nearly.
fn command_bytes(command: &Command) -> usize {
    match command {
        Command::Publish(publish) => publish.events.len(),
        Command::Settle(settle) => {
            let part =
                |p: &crate::machine::SettlePart| 16 * p.sequences.range_count() + p.reason.len();
            settle.parts.iter().map(part).sum()
        }
        Command::CountAttempts { sequences, .. }
        | Command::ReplayLetters { sequences, .. }
        | Command::DropLetters { sequences, .. } => 16 * sequences.range_count(),
        Command::ExpireLanes { lanes } => 12 * lanes.len(),
        _ => 0,
    }
}

#[cfg(test)]
mod tests;
