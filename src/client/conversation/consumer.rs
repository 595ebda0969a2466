//! One consumer: its place on the server, its credit, and deliveries not yet taken.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use super::fetch::Fetch;
use super::settling::Settling;
use crate::client::SubscribeOptions;
use crate::types::{Code, Name, ProxyId, Rejection, Seq, SeqRange, Start, limits};
use crate::wire::{AttachTarget, Attached, Credit, Delivery, FlowMode, Pull};

/// How a consumer gets its events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// The server sends while there is credit.
    Push,
    /// The server sends what is asked for.
    Pull,
}

/// The consumer's standing on the present connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// Not asked for; not before this time.
    Absent(Duration),
    Asked,
    Attached,
    /// The user is done with it; the server is to be told.
    Leaving,
}

/// The consumer's side of an attachment. See the module.
#[derive(Debug)]
pub struct Consumer {
    channel: Name,
    options: SubscribeOptions,
    mode: Mode,
    standing: Standing,
    attempts: u32,
    ever_attached: bool,
    /// Whether its events come from the leader's memory alone.
    best_effort: bool,
    /// Ephemeral: the last sequence seen, or the one before the first to be seen.
    seen: Option<Seq>,
    received: VecDeque<Delivery>,
    /// Taken by the user since credit was last given back.
    taken_events: u32,
    taken_bytes: u64,
    fetch: Option<Fetch>,
    /// Sequences received over an earlier connection and not taken: the new leader sends them again.
    stale: BTreeSet<Seq>,
    /// Settlements that an earlier connection left unconfirmed: the same.
    suspicious: bool,
    missed: Vec<SeqRange>,
    pub settling: Settling,
    failed: Option<Rejection>,
}

/// Gaps remembered until the user asks; older ones are merged.
const GAPS_MAX: usize = 64;
/// Deliveries held at most, whatever a server does: credit, and what a cancelled fetch left.
const RECEIVED_MAX: usize = 2 * limits::CREDIT_EVENTS_MAX as usize;

impl Consumer {
    /// A consumer not attached yet.
    pub fn new(channel: Name, mut options: SubscribeOptions, mode: Mode) -> Consumer {
        options.credit_events = options.credit_events.clamp(1, limits::CREDIT_EVENTS_MAX);
        options.credit_bytes = options.credit_bytes.clamp(1, limits::CREDIT_BYTES_MAX);
        Consumer {
            channel,
            options,
            mode,
            standing: Standing::Absent(Duration::ZERO),
            attempts: 0,
            ever_attached: false,
            best_effort: false,
            seen: None,
            received: VecDeque::new(),
            taken_events: 0,
            taken_bytes: 0,
            fetch: None,
            stale: BTreeSet::new(),
            suspicious: false,
            missed: Vec::new(),
            settling: Settling::default(),
            failed: None,
        }
    }

    pub fn channel(&self) -> &Name {
        &self.channel
    }

    pub fn failed(&self) -> Option<&Rejection> {
        self.failed.as_ref()
    }

    /// Whether the server ever knew it, so that the user's call has succeeded.
    pub fn ever_attached(&self) -> bool {
        self.ever_attached
    }

    /// Whether its events come from the leader's memory alone.
    pub fn best_effort(&self) -> bool {
        self.best_effort
    }

    pub fn proxy(&self) -> Option<ProxyId> {
        self.settling.proxy()
    }

    /// Whether another verdict may be given now.
    pub fn has_room(&self) -> bool {
        (self.settling.totals().unconfirmed() as usize) < self.options.unconfirmed_max
    }

    /// If it should attach now: to what, and how. Counts as asked.
    pub fn attach(&mut self, now: Duration) -> Option<(Name, AttachTarget, FlowMode)> {
        match self.standing {
            Standing::Absent(not_before) if not_before <= now && self.failed.is_none() => {}
            _ => return None,
        }
        self.standing = Standing::Asked;
        let options = &self.options;
        let target = match &options.name {
            Some(name) => AttachTarget::Durable {
                name: name.clone(),
                start: options.from,
                admin: options.admin.clone(),
                qos: options.qos.clone(),
                types: options.types.clone(),
            },
            None => AttachTarget::Volatile {
                start: options.from,
                resume_after: self.seen,
                types: options.types.clone(),
            },
        };
        // What is held already must be taken before more than the rest of the window comes.
        let held_bytes: u64 = self.received.iter().map(|d| d.event.len() as u64).sum();
        let mode = match self.mode {
            Mode::Pull => FlowMode::Pull,
            Mode::Push => FlowMode::Push {
                credit_events: options.credit_events.saturating_sub(self.received.len() as u32),
                credit_bytes: options.credit_bytes.saturating_sub(held_bytes),
            },
        };
        (self.taken_events, self.taken_bytes) = (0, 0);
        Some((self.channel.clone(), target, mode))
    }

    /// The server attached it.
    pub fn attached(&mut self, answer: &Attached, batch: &mut u64) {
        if self.standing == Standing::Leaving {
            return;
        }
        self.standing = Standing::Attached;
        self.ever_attached = true;
        self.attempts = 0;
        self.best_effort = answer.best_effort;
        self.settling.attach(answer.proxy, batch);
        if self.options.name.is_none() && self.options.from == Start::New {
            self.seen.get_or_insert(answer.next_seq.saturating_sub(1));
        }
    }

    /// The server refused or ended it: again after `pause` if that can help.
    pub fn refused(
        &mut self,
        rejection: Rejection,
        now: Duration,
        pause: impl FnOnce(u32) -> Duration,
    ) {
        if self.standing == Standing::Leaving {
            return;
        }
        if rejection.code.retryable() {
            self.standing = Standing::Absent(now + pause(self.attempts));
            self.attempts = self.attempts.saturating_add(1);
            self.fetch.iter_mut().for_each(Fetch::disconnected);
        } else {
            self.fail(rejection);
        }
    }

    /// Nothing more will come.
    pub fn fail(&mut self, rejection: Rejection) {
        if self.standing != Standing::Leaving {
            self.standing = Standing::Absent(Duration::MAX);
        }
        self.failed = Some(rejection);
    }

    /// The connection is gone.
    pub fn disconnected(&mut self) {
        if self.standing != Standing::Leaving {
            self.standing = Standing::Absent(Duration::ZERO);
        }
        if self.options.name.is_some() {
            self.stale = self.received.iter().map(|delivery| delivery.seq).collect();
            self.suspicious = !self.settling.is_idle();
        }
        self.settling.disconnected();
        self.fetch.iter_mut().for_each(Fetch::disconnected);
    }

    /// Events arrived. `Err`: far more than there was credit for; the connection should go.
    pub fn deliver(&mut self, events: Vec<Delivery>) -> Result<(), &'static str> {
        if self.standing == Standing::Leaving {
            return Ok(());
        }
        if self.received.len() + events.len() > RECEIVED_MAX {
            return Err("more was delivered than asked for");
        }
        self.take_note_of_tokens(&events);
        let held = self.received.len();
        if self.options.name.is_none() {
            self.seen = events.last().map(|delivery| delivery.seq).or(self.seen);
        }
        self.suspicious = self.suspicious && !self.settling.is_idle();
        if self.stale.is_empty() && !self.suspicious {
            self.received.extend(events);
        } else {
            events.into_iter().for_each(|delivery| self.receive_unless_copy(delivery));
        }
        let kept = self.received.len() - held;
        self.fetch.iter_mut().for_each(|fetch| fetch.got(kept));
        Ok(())
    }

    /// Under a new fencing token nothing counts that came under an earlier one: what the user has not
    /// taken of it comes again.
    fn take_note_of_tokens(&mut self, events: &[Delivery]) {
        for delivery in events {
            if !self.settling.delivered(delivery.seq, delivery.fencing) {
                continue;
            }
            let fencing = delivery.fencing;
            let (kept, gone) =
                std::mem::take(&mut self.received).into_iter().partition(|d| d.fencing == fencing);
            self.received = kept;
            let gone: VecDeque<Delivery> = gone;
            gone.iter().for_each(|delivery| self.give_back(delivery));
            self.stale.clear();
            self.suspicious = false;
        }
    }

    /// A copy of what the user has or has settled is dropped, and its credit goes back.
    fn receive_unless_copy(&mut self, delivery: Delivery) {
        // One copy each: what comes after it is a true redelivery.
        if self.stale.remove(&delivery.seq) || self.settling.is_settling(delivery.seq) {
            self.give_back(&delivery);
        } else {
            self.received.push_back(delivery);
        }
    }

    fn give_back(&mut self, delivery: &Delivery) {
        self.taken_events += 1;
        self.taken_bytes += delivery.event.len() as u64;
    }

    /// Events that were lost to this ephemeral consumer.
    pub fn gap(&mut self, missed: SeqRange) {
        self.seen = self.seen.max(Some(missed.last));
        let full = self.missed.len() >= GAPS_MAX;
        match self.missed.last_mut() {
            Some(last) if full => last.last = missed.last,
            _ => self.missed.push(missed),
        }
    }

    /// Gaps since the last call.
    pub fn take_gaps(&mut self) -> Vec<SeqRange> {
        std::mem::take(&mut self.missed)
    }

    /// Hands up to `max` of the deliveries received to the user. Their credit goes back.
    pub fn take(&mut self, max: usize) -> VecDeque<Delivery> {
        let left = self.received.split_off(max.min(self.received.len()));
        let taken = std::mem::replace(&mut self.received, left);
        taken.iter().for_each(|delivery| self.give_back(delivery));
        if self.received.is_empty() {
            self.stale.clear();
        }
        taken
    }

    /// Whether there is anything to take.
    pub fn has_received(&self) -> bool {
        !self.received.is_empty()
    }

    /// The credit to give back now: in large pieces.
    pub fn credit(&mut self, consumer: u32, event_bytes_max: u64) -> Option<Credit> {
        let SubscribeOptions { credit_events, credit_bytes, .. } = self.options;
        let nothing = self.taken_events == 0 && self.taken_bytes == 0;
        if self.standing != Standing::Attached || self.mode == Mode::Pull || nothing {
            return None;
        }
        // Half a window is left to the server, and room for its largest event.
        let due = self.taken_events >= credit_events.div_ceil(2)
            || self.taken_bytes >= credit_bytes.div_ceil(2)
            || self.taken_bytes + event_bytes_max >= credit_bytes;
        if !due {
            return None;
        }
        // A full window overdrawn by its last event is more than one message may grant.
        let events = self.taken_events.min(limits::CREDIT_EVENTS_MAX);
        let bytes = self.taken_bytes.min(limits::CREDIT_BYTES_MAX);
        (self.taken_events, self.taken_bytes) =
            (self.taken_events - events, self.taken_bytes - bytes);
        Some(Credit { consumer, events, bytes })
    }

    /// The user asks for up to `events_max` events, waiting until then for a first.
    pub fn fetch(&mut self, events_max: u32, bytes_max: u64, until: Duration) {
        self.fetch = Some(Fetch::new(events_max, bytes_max, until, self.options.deadline));
    }

    /// Whether the user's fetch is answered in full, or given up; then it is over.
    pub fn fetched(&mut self) -> Option<Result<(), Rejection>> {
        let fetch = self.fetch.take_if(|fetch| fetch.is_over())?;
        if !fetch.is_late() {
            return Some(Ok(()));
        }
        let message = "no server answered the request for events in time";
        Some(Err(Rejection::new(Code::NoLeader, message).hint("look at the cluster's status")))
    }

    /// Gives up a fetch that no server answers. Returns whether there is news.
    pub fn tick(&mut self, now: Duration) -> bool {
        self.fetch.as_mut().is_some_and(|fetch| fetch.tick(now))
    }

    /// When a fetch is given up.
    pub fn patience_ends(&self) -> Option<Duration> {
        self.fetch.as_ref().and_then(Fetch::give_up_at)
    }

    /// Whether a fetch is going on.
    pub fn is_fetching(&self) -> bool {
        self.fetch.is_some()
    }

    /// The pull to send now.
    pub fn pull(&mut self, request: u32, consumer: u32, now: Duration) -> Option<Pull> {
        let fetch = self.fetch.as_mut().filter(|_| self.standing == Standing::Attached)?;
        fetch.ask(request, consumer, now)
    }

    /// The server answered the pull in full.
    pub fn pull_done(&mut self, now: Duration) {
        if let Some(fetch) = &mut self.fetch {
            fetch.answered(now);
        }
    }

    /// The pull was refused: again after a pause if that can help.
    pub fn pull_refused(
        &mut self,
        rejection: Rejection,
        now: Duration,
        pause: impl FnOnce(u32) -> Duration,
    ) {
        if !rejection.code.retryable() {
            return self.fail(rejection);
        }
        let again_at = now + pause(self.attempts);
        self.attempts = self.attempts.saturating_add(1);
        if let Some(fetch) = &mut self.fetch {
            fetch.refused(again_at);
        }
    }

    /// The user is done with it. Returns whether the server must be told.
    pub fn leave(&mut self) -> bool {
        let known = matches!(self.standing, Standing::Attached | Standing::Asked);
        self.standing = Standing::Leaving;
        self.received.clear();
        known
    }

    /// Whether nothing is left to do for a consumer that the user is done with.
    pub fn is_over(&self) -> bool {
        let settled = self.settling.is_idle() || self.failed.is_some();
        self.standing == Standing::Leaving && settled
    }

    /// Whether the server owes an answer.
    pub fn awaits(&self) -> bool {
        self.standing == Standing::Asked || self.settling.awaits()
    }

    /// When there may be something to say again.
    pub fn wake_at(&self) -> Option<Duration> {
        let attach = match self.standing {
            Standing::Absent(at) if self.failed.is_none() => Some(at),
            _ => None,
        };
        let attached = self.standing == Standing::Attached;
        let pull = self.fetch.as_ref().filter(|_| attached).and_then(Fetch::ask_at);
        attach.into_iter().chain(pull).chain(self.settling.wake_at()).min()
    }
}
