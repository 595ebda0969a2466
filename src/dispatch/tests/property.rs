//! Random inputs; the model judges what comes out.

use proptest::prelude::*;

use super::fake::{CHANNEL, FakeFacts, is_judged};
use super::model::{ConsumerModel, Model, Place};
use crate::dispatch::*;
use crate::types::{
    Discard, Interest, Member, Order, Outcome, ProxyId, Seq, SeqRange, SeqRanges, Service, Stamp,
    Subscription, Tenure, TypeId, limits,
};

const PROXIES: [ProxyId; 2] = [ProxyId(1), ProxyId(2)];

struct World {
    facts: FakeFacts,
    tenure: Tenure,
    dispatcher: Dispatcher,
    model: Model,
    now: Stamp,
    proposed: Vec<Action>,
    next_consumer: u64,
    next_request: u64,
    /// The facts changed, and the dispatcher was not told.
    untold: bool,
}

/// What becomes of a proposal.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Fate {
    Applied,
    /// There is no room in the log now.
    Refused,
    Failed,
}

/// One random input, and numbers it may use.
#[derive(Debug, Clone, Copy)]
struct Op {
    kind: u8,
    proxy: ProxyId,
    a: u64,
    b: u64,
    poll: bool,
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let op = (0u8..35, 0usize..2, any::<u64>(), any::<u64>(), 0u8..4).prop_map(
        |(kind, proxy, a, b, poll)| Op { kind, proxy: PROXIES[proxy], a, b, poll: poll > 0 },
    );
    prop::collection::vec(op, 1..200)
}

impl World {
    fn new(max_deliveries: u32) -> World {
        let mut facts = FakeFacts::default();
        let settings =
            Service { ack_wait_ms: 50, max_deliveries, max_in_flight: 7, ..Service::default() };
        facts.add_proxy(PROXIES[0], settings);
        let many = Service { ack_wait_ms: 30, max_in_flight: 1000, ..Service::default() };
        facts.add_proxy(PROXIES[1], many);
        let tenure = Tenure(1);
        let mut world = World {
            facts,
            tenure,
            dispatcher: Dispatcher::new(tenure),
            model: Model::default(),
            now: Stamp(0),
            proposed: Vec::new(),
            next_consumer: 0,
            next_request: 0,
            untold: false,
        };
        world.begin();
        world
    }

    fn begin(&mut self) {
        self.tenure = Tenure(self.tenure.0 + 10);
        self.dispatcher.begin(self.tenure);
        self.untold = false;
        self.model = Model::default();
        self.model.proxies = PROXIES.map(|id| (id, Default::default())).into();
        self.proposed.clear();
    }

    fn max(&self, proxy: ProxyId) -> u32 {
        self.facts.proxies[&proxy].facts.service.max_deliveries
    }

    fn step(&mut self, op: Op) {
        let Op { kind, proxy, a, b, .. } = op;
        match kind {
            0..=4 => self.publish(a, b),
            5..=7 => self.attach(op),
            8 => self.detach(a, if b % 2 == 0 { Departure::Lost } else { Departure::Returned }),
            9..=13 => self.demand(a, b),
            14..=17 => self.conclude_events(proxy, pick(a, b, self.facts.end()), kind == 17),
            18..=20 => self.nack(proxy, pick(a, b, self.facts.end()), a % 3 * 20, b),
            21 => self.touch(proxy, pick(a, b, self.facts.end()), b),
            22..=25 => self.now = self.now.plus_millis(a % 40),
            26..=29 => {
                let fates = [Fate::Applied, Fate::Applied, Fate::Refused, Fate::Failed];
                self.decide(a as usize, fates[b as usize % fates.len()]);
            }
            30 => {
                let last = self.facts.end();
                self.facts.first_retained = self.facts.first_retained.max(a % (last + 1)).max(1);
            }
            31 => self.define(proxy, a, b),
            33..=34 => self.subscribe(proxy, a, b),
            _ if a % 4 == 0 => self.begin(),
            _ => {}
        }
        // What comes before the next poll is judged as before a change of definition.
        if op.poll || kind == 31 {
            self.poll();
        }
    }

    fn poll(&mut self) {
        let actions = self.dispatcher.poll(&self.facts, self.now);
        let settling = |id| self.dispatcher.settling(id);
        self.model.poll(&self.facts, &actions, settling, self.now);
        if !self.untold {
            self.model.nothing_is_stuck(&self.facts, self.now);
        }
        for (id, proxy) in &self.model.proxies {
            assert_eq!(self.dispatcher.in_flight(*id), proxy.window() as u64);
        }
        let wakeup = self.dispatcher.next_wakeup();
        assert!(wakeup.is_none_or(|due| due > self.now), "no work is left");
        let waits = self.model.proxies.values().any(|proxy| proxy.waits());
        assert!(wakeup.is_some() || !waits, "what was refused is forgotten");
        let to_log = |a: &Action| {
            matches!(a, Action::Settle { .. } | Action::CountAttempts { .. } | Action::Hold { .. })
        };
        self.proposed.extend(actions.into_iter().filter(to_log));
        PROXIES.into_iter().for_each(|id| self.somebody_will_hold(id));
    }

    /// An exclusive proxy with consumers has one who holds it, or soon will.
    fn somebody_will_hold(&self, id: ProxyId) {
        let Some(known) = self.facts.proxy(id).filter(|known| known.service.exclusive) else {
            return;
        };
        let mut here = self.model.consumers.values().filter(|c| c.proxy == Some(id)).peekable();
        if here.peek().is_none() || here.any(|c| Some(c.member) == known.holder) {
            return;
        }
        let proposed =
            |action: &Action| matches!(action, Action::Hold { proxy, .. } if *proxy == id);
        let due = self.dispatcher.next_wakeup();
        let soon = self.now.plus_millis(limits::HOLDER_RETURN_MS);
        let waits = due.is_some_and(|due| due <= soon);
        assert!(self.proposed.iter().any(proposed) || waits, "nobody will ever hold {id}");
    }

    fn publish(&mut self, a: u64, b: u64) {
        let moment = |n: u64| match n % 4 {
            0 => self.now.plus_millis(n % 60),
            _ => Stamp(0),
        };
        let kind = match b % 7 {
            0 => TypeId::default(),
            n => self.facts.number(&format!("k{}", n / 2)),
        };
        let event = SlotFacts {
            accepted: self.now,
            kind,
            priority: if b.is_multiple_of(3) { (b / 3 % 5) as i16 - 2 } else { 0 },
            start: moment(b / 7),
            stop: moment(b / 11),
            ..FakeFacts::plain(self.tenure.0 + 1, b as u32 % 300)
        };
        self.facts.events.extend((0..a % 6).map(|_| event));
        // The machine may be ahead of what is told of it.
        match a % 5 {
            0 => self.untold = true,
            _ => self.tell(),
        }
    }

    fn tell(&mut self) {
        self.untold = false;
        self.dispatcher.channel_touched(CHANNEL);
    }

    /// The definition of a proxy changes.
    fn define(&mut self, id: ProxyId, a: u64, b: u64) {
        let known = &mut self.facts.proxies.get_mut(&id).unwrap().facts;
        known.revision += 1;
        known.rests = a.is_multiple_of(8);
        known.service.order = [Order::Fifo, Order::Priority, Order::Deadline][b as usize % 3];
        known.service.start_time_supported = !a.is_multiple_of(3);
        known.service.stop_time_supported = !b.is_multiple_of(5);
        known.service.timeout_ms = if a.is_multiple_of(5) { 20 + b % 50 } else { 0 };
        known.service.max_events = if b.is_multiple_of(7) { 1 + a % 20 } else { 0 };
        known.service.batch_max = 1 + (a % 9) as u32;
        let policies = [Discard::Fifo, Discard::Lifo, Discard::Priority, Discard::Deadline];
        known.service.discard = policies[a as usize % 4];
        known.service.exclusive = (a / 7).is_multiple_of(3);
        if !known.service.exclusive && known.holder.take().is_some() {
            known.fencing += 1;
        }
        if id == PROXIES[0] {
            known.service.max_in_flight = [7, 1, 3, 20][(a / 4 % 4) as usize];
            known.service.ack_wait_ms = [50, 20][(b / 3 % 2) as usize];
            if a.is_multiple_of(6) {
                known.service.max_deliveries = (b / 5 % 4) as u32;
            }
        }
        self.facts.definitions += 1;
        self.tell();
    }

    /// A proxy wants other events from now on.
    fn subscribe(&mut self, id: ProxyId, a: u64, b: u64) {
        let interest = Interest { own: subscription(a), admin: subscription(b) };
        let proposed = self.proposed.iter().flat_map(|action| match action {
            Action::Settle { proxy, parts, .. } if *proxy == id => parts.as_slice(),
            _ => &[],
        });
        let proposed: SeqRanges = proposed.flat_map(|part| part.sequences.iter()).collect();
        self.facts.subscribe(id, interest);
        self.dispatcher.channel_touched(CHANNEL);
        let model = self.model.proxies.get_mut(&id).unwrap();
        model.subscribed = self.now;
        model.reopen(&proposed);
    }

    fn attach(&mut self, op: Op) {
        self.next_consumer += 1;
        let key = ConsumerKey(self.next_consumer);
        let mode = match op.a % 3 {
            0 => Mode::Pull,
            _ => Mode::Push { events: (op.b % 9) as u32, bytes: op.b % 2000 },
        };
        let next_seq = op.b % (self.facts.end() + 2);
        let (to, proxy) = match op.a % 5 {
            0 => {
                let types = subscription(op.b / 3);
                (Attachment::Volatile { channel: CHANNEL, next_seq, types }, None)
            }
            _ => (Attachment::Durable(op.proxy), Some(op.proxy)),
        };
        // One in four is known already, from another connection.
        let member =
            Member { client: self.next_consumer - u64::from(op.b.is_multiple_of(4)), consumer: 1 };
        self.dispatcher.attach(&self.facts, (key, member), to, mode).unwrap();
        let next = next_seq.clamp(1, self.facts.end());
        let types = if proxy.is_none() { subscription(op.b / 3) } else { Subscription::default() };
        let mut consumer = ConsumerModel::new(proxy, member, next, mode);
        consumer.types = types;
        self.model.consumers.insert(key, consumer);
    }

    fn some_consumer(&self, n: u64) -> Option<ConsumerKey> {
        let count = self.model.consumers.len().max(1);
        self.model.consumers.keys().nth(n as usize % count).copied()
    }

    fn detach(&mut self, n: u64, how: Departure) {
        let Some(key) = self.some_consumer(n) else { return };
        self.dispatcher.detach(key, how);
        let Some(id) = self.model.consumers.remove(&key).and_then(|c| c.proxy) else { return };
        let max = self.max(id);
        let proxy = self.model.proxies.get_mut(&id).unwrap();
        for seq in held(proxy, |c| c == key) {
            match how {
                Departure::Lost => proxy.fail(seq, Stamp(0), max),
                // Not drawn here; a test of the driver has it.
                Departure::LeavesLeases => {}
                Departure::Returned => {
                    let event = proxy.events.get_mut(&seq).unwrap();
                    event.place = Place::Waiting { not_before: Stamp(0) };
                }
            }
        }
    }

    fn demand(&mut self, n: u64, amount: u64) {
        let Some(key) = self.some_consumer(n) else { return };
        self.next_request += 1;
        let consumer = self.model.consumers.get_mut(&key).unwrap();
        let Some(pulls) = &mut consumer.pulls else {
            let (events, bytes) = (amount % 10, amount % 3000);
            self.dispatcher.credit(key, events as u32, bytes).unwrap();
            consumer.events += events as i64;
            consumer.bytes += bytes as i64;
            return;
        };
        let pull = Pull {
            request: self.next_request,
            events_max: 1 + (amount % 6) as u32,
            bytes_max: amount % 1000,
            deadline: self.now.plus_millis(amount % 50),
        };
        if self.dispatcher.pull(key, pull).is_ok() {
            pulls.push(pull);
        }
    }

    /// Whether nobody's word counts now: a new holder is not served yet.
    fn is_between_hands(&self, id: ProxyId) -> bool {
        let token = self.facts.proxy(id).map_or(0, |proxy| proxy.fencing);
        self.dispatcher.check_fencing(&self.facts, id, token).is_err()
    }

    /// Acks or terminates.
    fn conclude_events(&mut self, id: ProxyId, range: SeqRange, term: bool) {
        if self.is_between_hands(id) {
            return;
        }
        let ranges = SeqRanges::from_iter([range]);
        let taken = match term {
            false => self.dispatcher.ack(&self.facts, id, &ranges),
            true => self.dispatcher.term(&self.facts, id, &ranges, "no"),
        };
        assert_eq!(taken.unwrap(), range.len());
        let pending = self.facts.pending(id);
        let seqs = (range.first..=range.last).filter(|seq| pending.contains(seq));
        self.model.proxies.get_mut(&id).unwrap().settling(seqs);
    }

    fn nack(&mut self, id: ProxyId, range: SeqRange, delay_ms: u64, n: u64) {
        if self.is_between_hands(id) {
            return;
        }
        let from = if n.is_multiple_of(3) { None } else { self.some_consumer(n) };
        let ranges = SeqRanges::from_iter([range]);
        self.dispatcher.nack(id, from, &ranges, delay_ms, self.now);
        let until = if delay_ms > 0 { self.now.plus_millis(delay_ms) } else { Stamp(0) };
        let max = self.max(id);
        let proxy = self.model.proxies.get_mut(&id).unwrap();
        let theirs = held(proxy, |c| from.is_none_or(|f| f == c));
        for (_, event) in proxy.events.range_mut(range.first..=range.last) {
            if let Place::Waiting { not_before } = &mut event.place {
                *not_before = until.max(*not_before);
            }
        }
        for seq in theirs.into_iter().filter(|s| (range.first..=range.last).contains(s)) {
            proxy.fail(seq, until, max);
        }
    }

    fn touch(&mut self, id: ProxyId, range: SeqRange, n: u64) {
        if self.is_between_hands(id) {
            return;
        }
        let from = self.some_consumer(n);
        self.dispatcher.touch(id, from, &SeqRanges::from_iter([range]), self.now);
        let until = self.now.plus_millis(self.facts.proxies[&id].facts.service.ack_wait_ms);
        let proxy = self.model.proxies.get_mut(&id).unwrap();
        for (_, event) in proxy.events.range_mut(range.first..=range.last) {
            if let Place::InFlight { consumer, due } = &mut event.place
                && from.is_none_or(|f| f == *consumer)
            {
                *due = until;
            }
        }
    }

    /// One of the proposals is applied, or is refused, or fails.
    fn decide(&mut self, n: usize, fate: Fate) {
        if self.proposed.is_empty() {
            return;
        }
        match self.proposed.remove(n % self.proposed.len()) {
            Action::Hold { proxy, holder } => {
                let known = &self.facts.proxies[&proxy].facts;
                let applied = fate == Fate::Applied && known.service.exclusive;
                if applied {
                    self.facts.hold(proxy, holder);
                    self.dispatcher.channel_touched(CHANNEL);
                }
                self.dispatcher.held(proxy, applied, self.now);
            }
            Action::Settle { proxy, proposal, revision, fencing, parts } => {
                let fate = match fate {
                    Fate::Applied if self.facts.is_fenced(proxy, fencing) => Fate::Failed,
                    fate => fate,
                };
                self.decide_settlement(proxy, (proposal, revision, fencing), &parts, fate);
            }
            Action::CountAttempts { proxy, proposal, sequences } => {
                if fate == Fate::Applied {
                    self.facts.count_attempts(proxy, &sequences);
                }
                let model = self.model.proxies.get_mut(&proxy).unwrap();
                if fate == Fate::Refused {
                    model.wait_again(std::iter::empty(), self.now);
                }
                self.report(proxy, proposal, fate);
            }
            _ => {}
        }
    }

    fn decide_settlement(
        &mut self,
        proxy: ProxyId,
        (proposal, revision, fencing): (u64, u64, u64),
        parts: &[Settlement],
        fate: Fate,
    ) {
        let sequences = |parts: &[Settlement]| -> SeqRanges {
            parts.iter().flat_map(|part| part.sequences.iter()).collect()
        };
        let all = sequences(parts);
        let others = self.proposed.iter().filter_map(|action| match action {
            Action::Settle { proxy: of, parts, .. } if *of == proxy => Some(sequences(parts)),
            _ => None,
        });
        let others: SeqRanges =
            others.flat_map(|set| set.iter().collect::<Vec<SeqRange>>()).collect();
        let model = self.model.proxies.get_mut(&proxy).unwrap();
        match fate {
            Fate::Applied => {
                let parts = parts.to_vec();
                let (judged, said): (Vec<_>, Vec<_>) =
                    parts.iter().cloned().partition(|part| is_judged(part.outcome));
                let action = Action::Settle { proxy, proposal, revision, fencing, parts };
                let stale = self.facts.apply(&action);
                model.settled(&sequences(&said));
                match stale {
                    true => model.settle_failed(&sequences(&judged), &others, self.now),
                    false => model.settled(&sequences(&judged)),
                }
                return self.dispatcher.applied(proxy, proposal, stale, self.now);
            }
            Fate::Refused if model.token != fencing => {
                model.settle_failed(&all, &others, self.now);
                assert!(!self.dispatcher.refused(proxy, proposal, self.now));
                return;
            }
            Fate::Refused => {
                let stale = self.facts.proxies[&proxy].facts.revision != revision;
                let filters = |part: &Settlement| part.outcome == Outcome::Filtered;
                let (filtered, again): (Vec<_>, Vec<_>) = parts.iter().cloned().partition(filters);
                let (filtered, again) = (sequences(&filtered), sequences(&again));
                model.wait_again(again.iter().flat_map(|r| r.first..=r.last), self.now);
                match stale {
                    true => model.settle_failed(&filtered, &others, self.now),
                    false => model.filter_again(filtered.iter().flat_map(|r| r.first..=r.last)),
                }
                model.forget_pause();
            }
            Fate::Failed => model.settle_failed(&all, &others, self.now),
        }
        self.report(proxy, proposal, fate);
    }

    fn report(&mut self, proxy: ProxyId, proposal: u64, fate: Fate) {
        match fate {
            Fate::Applied => self.dispatcher.applied(proxy, proposal, false, self.now),
            Fate::Refused => assert!(self.dispatcher.refused(proxy, proposal, self.now)),
            Fate::Failed => self.dispatcher.failed(proxy, proposal, self.now),
        }
    }

    /// From any state, patient consumers that ack everything get everything.
    fn drain(&mut self) {
        // Else one that wants nothing may hold an exclusive proxy.
        while !self.model.consumers.is_empty() {
            self.detach(0, Departure::Returned);
        }
        for id in PROXIES {
            self.define(id, 1, 1);
        }
        for n in 0..PROXIES.len() as u64 {
            let op = Op { kind: 0, proxy: PROXIES[n as usize], a: 1, b: 0, poll: true };
            self.attach(op);
            let key = ConsumerKey(self.next_consumer);
            self.dispatcher.credit(key, 60_000, 50_000_000).unwrap();
            let consumer = self.model.consumers.get_mut(&key).unwrap();
            (consumer.events, consumer.bytes) = (60_000, 50_000_000);
        }
        for _ in 0..400 {
            self.poll();
            for id in PROXIES {
                for seq in held(&self.model.proxies[&id], |_| true) {
                    self.conclude_events(id, SeqRange::one(seq), false);
                }
            }
            self.poll();
            while !self.proposed.is_empty() {
                self.decide(0, Fate::Applied);
            }
            if PROXIES.iter().all(|id| self.facts.pending(*id).is_empty()) {
                return;
            }
            self.now = self.dispatcher.next_wakeup().map_or(self.now, |due| due.max(self.now));
        }
        panic!("never delivered: {:?}", PROXIES.map(|id| self.facts.pending(id)));
    }
}

fn subscription(n: u64) -> Subscription {
    let patterns: &[&str] = match n % 6 {
        0 => &["k0"],
        1 => &["k1", "k2"],
        2 => &["*3", "nothing"],
        _ => &[],
    };
    patterns.iter().map(|text| text.parse().unwrap()).collect()
}

fn held(proxy: &super::model::ProxyModel, whose: impl Fn(ConsumerKey) -> bool) -> Vec<Seq> {
    let theirs =
        |place: &Place| matches!(place, Place::InFlight { consumer, .. } if whose(*consumer));
    proxy.events.iter().filter(|(_, e)| theirs(&e.place)).map(|(seq, _)| *seq).collect()
}

/// A short range among the events `1..end`; empty if there are none.
fn pick(a: u64, b: u64, end: Seq) -> SeqRange {
    let first = 1 + a % (end - 1).max(1);
    SeqRange { first, last: (first + b % 5).min(end - 1) }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn follows_the_rules(ops in ops(), max_deliveries in 0u32..4) {
        let mut world = World::new(max_deliveries);
        ops.into_iter().for_each(|op| world.step(op));
        world.drain();
    }
}
