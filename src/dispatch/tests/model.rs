//! The rules of dispatch, told naively: every event of a proxy has a state, every consumer a
//! demand, and all is found by searching. It does not predict deliveries; it judges them.

use std::collections::{BTreeMap, BTreeSet};

use super::fake::{CHANNEL, FakeFacts};
use crate::dispatch::*;
use crate::types::{Member, Order, Outcome, ProxyId, Seq, SeqRanges, Stamp, Subscription, limits};

/// The place of an event in the order of a proxy.
fn key(facts: &FakeFacts, id: ProxyId, seq: Seq) -> (i128, Seq) {
    let service = facts.proxies[&id].facts.service;
    let event = facts.slot(CHANNEL, seq).unwrap();
    let rank = match service.order {
        Order::Fifo => 0,
        Order::Priority => -i128::from(event.priority),
        Order::Deadline if event.stop.0 > 0 && service.stop_time_supported => event.stop.0.into(),
        Order::Deadline => i128::MAX,
    };
    (rank, seq)
}

/// Whether an event has come to its end for a proxy.
fn has_ended(facts: &FakeFacts, id: ProxyId, seq: Seq, now: Stamp) -> bool {
    let service = facts.proxies[&id].facts.service;
    let event = facts.slot(CHANNEL, seq).unwrap();
    let age = now.millis_since(event.accepted);
    (service.stop_time_supported && event.stop.0 > 0 && event.stop <= now)
        || (service.timeout_ms > 0 && age >= service.timeout_ms)
}

/// Whether nothing but a consumer is wanting: the proxy wants it, it has not ended, and had not all its
/// deliveries.
fn may_go(facts: &FakeFacts, id: ProxyId, seq: Seq, now: Stamp) -> bool {
    let proxy = &facts.proxies[&id];
    let max = proxy.facts.service.max_deliveries;
    let recorded = proxy.attempts.get(&seq).copied().unwrap_or(0);
    let fresh = max == 0 || recorded < max;
    fresh && facts.wants(id, seq) && !has_ended(facts, id, seq, now)
}

fn has_started(facts: &FakeFacts, id: ProxyId, seq: Seq, now: Stamp) -> bool {
    let heeded = facts.proxies[&id].facts.service.start_time_supported;
    !heeded || facts.slot(CHANNEL, seq).unwrap().start <= now
}

/// Where an unsettled event of a proxy is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Place {
    InFlight { consumer: ConsumerKey, due: Stamp },
    Waiting { not_before: Stamp },
    Settling,
    Returned,
}

/// An event that something happened to; all others are new.
#[derive(Debug, Clone, Copy)]
pub struct Event {
    pub place: Place,
    delivery: u32,
    failed: u32,
    /// It had all its deliveries.
    exhausted: bool,
}

impl Event {
    fn new(place: Place) -> Event {
        Event { place, delivery: 0, failed: 0, exhausted: false }
    }
}

#[derive(Debug, Default)]
pub struct ProxyModel {
    pub events: BTreeMap<Seq, Event>,
    /// Settled by a verdict that waits to be proposed.
    judged: BTreeSet<Seq>,
    /// The same, by one that says that it is not wanted.
    filtered: BTreeSet<Seq>,
    /// Not wanted when they were settled, and ended otherwise, too: nobody knows which was said.
    either: BTreeSet<Seq>,
    /// Something was refused: nothing is proposed before this.
    quiet_until: Stamp,
    /// Since when it wants what it wants.
    pub subscribed: Stamp,
    /// The fencing token, as of the last poll.
    pub token: u64,
    /// It is another than before: what was said under that one does not wait.
    handed_over: bool,
    /// What its window may not exceed in this poll.
    window_max: usize,
}

#[derive(Debug)]
pub struct ConsumerModel {
    /// `None`: volatile, with the next sequence it is owed.
    pub proxy: Option<ProxyId>,
    pub member: Member,
    pub next: Seq,
    /// What a volatile one wants.
    pub types: Subscription,
    pub events: i64,
    pub bytes: i64,
    /// Of a pull consumer.
    pub pulls: Option<Vec<Pull>>,
    /// Given to a pull consumer and not yet accounted for by the end of a pull.
    unaccounted: u32,
}

impl ConsumerModel {
    pub fn new(proxy: Option<ProxyId>, member: Member, next: Seq, mode: Mode) -> ConsumerModel {
        let (events, bytes, pulls) = match mode {
            Mode::Push { events, bytes } => (i64::from(events), bytes as i64, None),
            Mode::Pull => (0, 0, Some(Vec::new())),
        };
        let types = Subscription::default();
        ConsumerModel { proxy, member, next, types, events, bytes, pulls, unaccounted: 0 }
    }

    /// A volatile one passes events up to `seq` that it does not want.
    fn pass(&mut self, facts: &FakeFacts, seq: Seq) {
        let unwanted = |seq: Seq| {
            let name = facts.name(facts.slot(CHANNEL, seq).unwrap().kind);
            !self.types.wants(name.borrow())
        };
        assert!((self.next..seq).all(unwanted), "{self:?} did not get all before {seq}");
        self.next = seq;
    }

    fn wants(&self) -> bool {
        match &self.pulls {
            Some(pulls) => !pulls.is_empty(),
            None => self.events > 0 && self.bytes > 0,
        }
    }

    fn spend(&mut self, size: u32) {
        assert!(self.wants(), "given more than wanted: {self:?}");
        if self.pulls.is_some() {
            self.unaccounted += 1;
        } else {
            self.events -= 1;
            self.bytes -= i64::from(size);
        }
    }

    fn pull_done(&mut self, request: u64, delivered: u32, now: Stamp) {
        let pulls = self.pulls.as_mut().expect("only pull consumers have pulls");
        let at = pulls.iter().position(|p| p.request == request).expect("ends once");
        let pull = pulls.remove(at);
        assert!(delivered <= pull.events_max);
        assert!(delivered > 0 || pull.deadline <= now, "ended empty before its deadline");
        self.unaccounted = self.unaccounted.checked_sub(delivered).expect("counts deliveries");
    }
}

impl ProxyModel {
    pub fn window(&self) -> usize {
        let inside = |e: &&Event| matches!(e.place, Place::InFlight { .. } | Place::Waiting { .. });
        self.events.values().filter(inside).count()
    }

    pub fn settling(&mut self, seqs: impl Iterator<Item = Seq>) {
        for seq in seqs {
            self.judged.insert(seq);
            self.events.entry(seq).or_insert(Event::new(Place::Settling)).place = Place::Settling;
        }
    }

    /// It wants other events than before: what was judged by that alone is open again, if it was not
    /// proposed.
    pub fn reopen(&mut self, proposed: &SeqRanges) {
        for seq in std::mem::take(&mut self.filtered) {
            if !self.judged.contains(&seq) && !proposed.contains(seq) {
                self.events.remove(&seq);
            }
        }
        self.forget_pause();
    }

    /// With nothing that waits for the end of a pause it may be forgotten.
    pub fn forget_pause(&mut self) {
        if !self.waits() {
            self.quiet_until = Stamp(0);
        }
    }

    pub fn settled(&mut self, ranges: &SeqRanges) {
        self.events.retain(|seq, _| !ranges.contains(*seq));
    }

    /// A settlement failed; `others` are settled by further ones on the way.
    pub fn settle_failed(&mut self, ranges: &SeqRanges, others: &SeqRanges, now: Stamp) {
        let mut buried_again = Vec::new();
        for (seq, event) in &mut self.events {
            let waits = self.judged.contains(seq) || self.filtered.contains(seq);
            let kept = others.contains(*seq) || waits;
            if !ranges.contains(*seq) || kept || event.place != Place::Settling {
                continue;
            }
            match event.exhausted {
                true => buried_again.push(*seq),
                false => *event = Event::new(Place::Returned),
            }
        }
        if !buried_again.is_empty() {
            self.wait_again(buried_again.into_iter(), now);
        }
    }

    /// What is refused because it is not wanted is proposed again, likewise.
    pub fn filter_again(&mut self, seqs: impl Iterator<Item = Seq>) {
        self.filtered.extend(seqs);
    }

    /// These are proposed again, but not at once.
    pub fn wait_again(&mut self, seqs: impl Iterator<Item = Seq>, now: Stamp) {
        self.judged.extend(seqs);
        let pause = now.plus_millis(limits::VERDICT_PAUSE_MS);
        self.quiet_until = self.quiet_until.max(pause);
    }

    /// Whether something waits to be proposed.
    pub fn waits(&self) -> bool {
        !self.judged.is_empty() || !self.filtered.is_empty()
    }

    fn proposed(&mut self, facts: &FakeFacts, id: ProxyId, parts: &[Settlement], now: Stamp) {
        let quiet = self.quiet_until > now && !self.handed_over;
        assert!(!quiet, "a proposal before the pause is over");
        for part in parts.iter().filter(|part| part.outcome == Outcome::Filtered) {
            let mut seqs = part.sequences.iter().flat_map(|range| range.first..=range.last);
            let unwanted = seqs.all(|seq| !facts.wants(id, seq));
            assert!(unwanted || self.handed_over, "{part:?} is wanted");
        }
        for seq in parts.iter().flat_map(|p| p.sequences.iter()).flat_map(|r| r.first..=r.last) {
            self.judged.remove(&seq);
            self.filtered.remove(&seq);
        }
    }

    /// What the dispatcher settles: what was judged, and what is on record as attempted too often.
    fn compare_settling(
        &mut self,
        facts: &FakeFacts,
        id: ProxyId,
        settling: &SeqRanges,
        now: Stamp,
    ) {
        let proxy = &facts.proxies[&id];
        let max = proxy.facts.service.max_deliveries;
        let pending = facts.pending(id);
        let mut discarded = 0;
        for seq in pending.iter().copied() {
            let known = self.events.get(&seq).is_some_and(|e| e.place == Place::Settling);
            assert!(settling.contains(seq) || !known, "{id:?}: {seq} is settled no more");
            if settling.contains(seq) && !known {
                let recorded = proxy.attempts.get(&seq).copied().unwrap_or(0);
                let failed = self.events.get(&seq).map_or(0, |event| event.failed);
                let exhausted = max > 0 && recorded.max(failed) >= max;
                let ended = has_ended(facts, id, seq, now);
                let unwanted = !facts.wants(id, seq);
                if !exhausted && !ended && !unwanted && !self.either.contains(&seq) {
                    discarded += 1;
                }
                if unwanted && (exhausted || ended) {
                    self.either.insert(seq);
                }
                self.settling(std::iter::once(seq));
                let event = self.events.get_mut(&seq).unwrap();
                if unwanted {
                    self.judged.remove(&seq);
                    self.filtered.insert(seq);
                }
                event.exhausted =
                    exhausted && !ended && !unwanted && proxy.facts.service.max_events == 0;
            }
        }
        let max = proxy.facts.service.max_events;
        let excess = (pending.len() as u64).saturating_sub(max);
        assert!(discarded == 0 || (max > 0 && discarded <= excess), "{discarded} discarded");
    }

    /// Under a new token whoever had something has it no more; that is no failure.
    fn hand_over(&mut self, token: u64) {
        self.handed_over = std::mem::replace(&mut self.token, token) != token && token > 0;
        if !self.handed_over {
            return;
        }
        for event in self.events.values_mut() {
            if matches!(event.place, Place::InFlight { .. }) {
                event.place = Place::Waiting { not_before: Stamp(0) };
            }
        }
    }

    /// An attempt failed.
    pub fn fail(&mut self, seq: Seq, not_before: Stamp, max: u32) {
        let event = self.events.get_mut(&seq).unwrap();
        event.failed += 1;
        event.place = Place::Waiting { not_before };
        if max > 0 && event.failed >= max {
            event.place = Place::Settling;
            event.exhausted = true;
            self.judged.insert(seq);
        }
    }

    pub fn expire(&mut self, now: Stamp, max: u32) {
        let over = |e: &Event| matches!(e.place, Place::InFlight { due, .. } if due <= now);
        let expired: Vec<Seq> =
            self.events.iter().filter(|(_, e)| over(e)).map(|(s, _)| *s).collect();
        expired.into_iter().for_each(|seq| self.fail(seq, Stamp(0), max));
    }

    fn deliver(
        &mut self,
        facts: &FakeFacts,
        id: ProxyId,
        to: ConsumerKey,
        d: &Delivery,
        now: Stamp,
    ) {
        let proxy = &facts.proxies[&id];
        let settings = &proxy.facts.service;
        assert!(facts.pending(id).contains(&d.seq), "{} is settled", d.seq);
        let recorded = proxy.attempts.get(&d.seq).copied().unwrap_or(0);
        let old = self.events.get(&d.seq).copied();
        match old.map(|e| e.place) {
            None => {}
            Some(Place::Waiting { not_before }) => assert!(not_before <= now, "{} early", d.seq),
            Some(Place::Returned) => {}
            Some(other) => panic!("{} goes although {other:?}", d.seq),
        }
        let (before, failed) = old.map_or((0, 0), |e| (e.delivery, e.failed));
        // Without a limit nobody asks what is on record.
        let failed = failed.max(if settings.max_deliveries > 0 { recorded } else { 0 });
        assert!(d.delivery > before && d.delivery > failed);
        assert!(settings.max_deliveries == 0 || failed < settings.max_deliveries);
        assert!(d.maybe_redelivered || d.delivery == 1);
        assert!(!has_ended(facts, id, d.seq, now), "{} has ended", d.seq);
        assert!(facts.wants(id, d.seq), "{} is not wanted", d.seq);
        let again = matches!(old.map(|e| e.place), Some(Place::Waiting { .. }));
        assert!(again || has_started(facts, id, d.seq, now), "{} has not started", d.seq);
        assert!(!proxy.facts.rests, "the proxy is suspended");
        let due = now.plus_millis(settings.ack_wait_ms);
        let place = Place::InFlight { consumer: to, due };
        let event = Event { delivery: d.delivery, failed, ..Event::new(place) };
        self.events.insert(d.seq, event);
    }

    /// What was delivered goes before what was not: nothing of a lower place is left that could have
    /// gone. One that went again may have gone before new ones for which there was no room.
    fn nothing_before(
        &self,
        facts: &FakeFacts,
        (id, seq): (ProxyId, Seq),
        again: bool,
        now: Stamp,
    ) {
        let max = facts.proxies[&id].facts.service.max_deliveries;
        let could_go = |left: &Seq| match self.events.get(left).map(|e| e.place) {
            _ if self.is_spent(*left, max) => false,
            None | Some(Place::Returned) => !again && has_started(facts, id, *left, now),
            Some(Place::Waiting { not_before }) => not_before <= now,
            _ => false,
        };
        let left = facts.pending(id).into_iter();
        let may_go = |left: &Seq| may_go(facts, id, *left, now);
        let left = left.filter(|left| may_go(left) && could_go(left));
        let first = left.map(|left| key(facts, id, left)).min();
        assert!(first.is_none_or(|first| first > key(facts, id, seq)), "{seq} before {first:?}");
    }

    /// What is not wanted is on its way out of here, soon after it came.
    fn filters_in_time(&self, facts: &FakeFacts, id: ProxyId, now: Stamp) {
        for seq in facts.pending(id).into_iter().filter(|seq| !facts.wants(id, *seq)) {
            let place = self.events.get(&seq).map(|event| event.place);
            let since = facts.slot(CHANNEL, seq).unwrap().accepted.max(self.subscribed);
            let settled = matches!(place, Some(Place::Settling | Place::InFlight { .. }));
            let in_time = now < since.plus_millis(limits::FILTER_PAUSE_MS);
            assert!(
                settled || in_time,
                "{id:?} waits for {seq}, which it does not want: {place:?}"
            );
        }
    }

    /// Whether it had all its deliveries, after a change of their number.
    fn is_spent(&self, seq: Seq, max: u32) -> bool {
        max > 0 && self.events.get(&seq).is_some_and(|event| event.failed >= max)
    }

    /// An event that could go now, were there a consumer for it.
    fn deliverable(&self, facts: &FakeFacts, id: ProxyId, now: Stamp) -> Option<Seq> {
        let service = facts.proxies[&id].facts.service;
        let room = self.window() < service.max_in_flight as usize;
        let due = |seq: &Seq| may_go(facts, id, *seq, now);
        let due = facts.pending(id).into_iter().filter(due);
        due.into_iter().find(|seq| match self.events.get(seq).map(|e| e.place) {
            _ if self.is_spent(*seq, service.max_deliveries) => false,
            None | Some(Place::Returned) => room && has_started(facts, id, *seq, now),
            Some(Place::Waiting { not_before }) => not_before <= now,
            _ => false,
        })
    }
}

/// The whole model.
#[derive(Debug, Default)]
pub struct Model {
    pub proxies: BTreeMap<ProxyId, ProxyModel>,
    pub consumers: BTreeMap<ConsumerKey, ConsumerModel>,
}

impl Model {
    /// Time passes, then these actions are judged. `settling`: what the dispatcher says it settles.
    pub fn poll(
        &mut self,
        facts: &FakeFacts,
        actions: &[Action],
        settling: impl Fn(ProxyId) -> SeqRanges,
        now: Stamp,
    ) {
        for (id, proxy) in &mut self.proxies {
            proxy.hand_over(facts.proxy(*id).map_or(0, |known| known.fencing));
            let service = facts.proxies[id].facts.service;
            proxy.expire(now, service.max_deliveries);
            // A lower limit takes nothing back.
            proxy.window_max = proxy.window().max(service.max_in_flight as usize);
        }
        for (id, proxy) in &mut self.proxies {
            proxy.compare_settling(facts, *id, &settling(*id), now);
        }
        self.judge_deliveries(facts, actions, now);
        for action in actions {
            match action {
                Action::Settle { proxy, parts, .. } => {
                    self.proxies.get_mut(proxy).unwrap().proposed(facts, *proxy, parts, now);
                }
                Action::CountAttempts { proxy, .. } => {
                    self.proxies.get_mut(proxy).unwrap().proposed(facts, *proxy, &[], now);
                }
                Action::PullDone { consumer, request, delivered } => {
                    let consumer = self.consumers.get_mut(consumer).unwrap();
                    consumer.pull_done(*request, *delivered, now);
                }
                Action::Close { .. } => panic!("nothing was removed"),
                _ => {}
            }
        }
    }

    fn judge_deliveries(&mut self, facts: &FakeFacts, actions: &[Action], now: Stamp) {
        let mut durable = Vec::new();
        for action in actions {
            match action {
                Action::Deliver { consumer, proxy, events, .. } => {
                    // What goes again needs no room; new ones may get some later in a round.
                    let again = |id, d: &Delivery| {
                        let known = self.proxies.get(id).and_then(|proxy| proxy.events.get(&d.seq));
                        known.is_some_and(|event| matches!(event.place, Place::Waiting { .. }))
                    };
                    let in_order = |pair: &[Delivery]| match proxy {
                        Some(id) if again(id, &pair[0]) && !again(id, &pair[1]) => true,
                        Some(id) => key(facts, *id, pair[0].seq) < key(facts, *id, pair[1].seq),
                        None => pair[0].seq < pair[1].seq,
                    };
                    assert!(events.windows(2).all(in_order), "{action:?}");
                    let model = self.consumers.get_mut(consumer).unwrap();
                    assert_eq!(model.proxy, *proxy);
                    for event in events {
                        model.spend(event.size);
                        if let Some(proxy) = proxy {
                            let known = facts.proxy(*proxy).unwrap();
                            assert_eq!(event.fencing, known.fencing);
                            let holds = known.holder == Some(model.member);
                            assert!(holds || !known.service.exclusive, "{consumer:?} stands by");
                            durable.push((event.seq, *proxy, *consumer, *event));
                        } else {
                            model.pass(facts, event.seq);
                            let name = facts.name(facts.slot(CHANNEL, event.seq).unwrap().kind);
                            assert!(model.types.wants(name.borrow()), "{action:?} is not wanted");
                            model.next += 1;
                        }
                    }
                }
                Action::Gap { consumer, missed } => {
                    let model = self.consumers.get_mut(consumer).unwrap();
                    model.pass(facts, missed.first);
                    assert!(missed.last < facts.first_retained);
                    model.next = missed.last + 1;
                }
                _ => {}
            }
        }
        // Batches of competing consumers interleave: together they follow the order.
        durable.sort_by_key(|(seq, proxy, ..)| (*proxy, key(facts, *proxy, *seq)));
        let again = durable.iter().filter(|(seq, proxy, ..)| {
            let known = self.proxies.get(proxy).and_then(|proxy| proxy.events.get(seq));
            known.is_some_and(|event| matches!(event.place, Place::Waiting { .. }))
        });
        let again: BTreeSet<(ProxyId, Seq)> =
            again.map(|(seq, proxy, ..)| (*proxy, *seq)).collect();
        for (_, proxy, consumer, event) in &durable {
            let model = self.proxies.entry(*proxy).or_default();
            model.deliver(facts, *proxy, *consumer, event, now);
        }
        for (seq, id, ..) in &durable {
            self.proxies[id].nothing_before(facts, (*id, *seq), again.contains(&(*id, *seq)), now);
        }
    }

    /// The consumer that a holder is: the latest of its connections.
    fn active(&self, id: ProxyId, holder: Option<Member>) -> Option<ConsumerKey> {
        let is_holder = |(_, consumer): &(&ConsumerKey, &ConsumerModel)| {
            consumer.proxy == Some(id) && Some(consumer.member) == holder
        };
        self.consumers.iter().rev().find(is_holder).map(|(key, _)| *key)
    }

    /// Whatever can go has gone.
    pub fn nothing_is_stuck(&self, facts: &FakeFacts, now: Stamp) {
        for (key, consumer) in &self.consumers {
            assert_eq!(consumer.unaccounted, 0, "{key:?} waits for the end of a pull");
            let mut open = consumer.pulls.iter().flatten();
            assert!(open.all(|pull| pull.deadline > now), "{key:?} has an overdue pull");
            if !consumer.wants() {
                continue;
            }
            match consumer.proxy {
                None => {
                    let name = |seq: Seq| facts.name(facts.slot(CHANNEL, seq).unwrap().kind);
                    let mut left = consumer.next..facts.end();
                    let waits = left.find(|seq| consumer.types.wants(name(*seq).borrow()));
                    assert_eq!(waits, None, "{key:?} wants it");
                }
                Some(id) => {
                    let known = facts.proxy(id).unwrap();
                    let active = self.active(id, known.holder) == Some(*key);
                    let rests = known.rests || (known.service.exclusive && !active);
                    let waits = self.proxies[&id].deliverable(facts, id, now).filter(|_| !rests);
                    assert_eq!(waits, None, "{key:?} wants it: {:?}", self.proxies[&id]);
                }
            }
        }
        for (id, proxy) in &self.proxies {
            proxy.filters_in_time(facts, *id, now);
            assert!(proxy.window() <= proxy.window_max, "{id} has too many out");
        }
    }
}
