//! The ledger is exact.
//!
//! In every status, stale ones too: what a consumer was offered is in exactly one outcome or
//! pending; what a channel accepted has one place each; a consumer was offered whatever came after
//! its start. Nothing is counted that nobody did: no more events accepted than were published, no
//! more acked than acks were sent. After a drained run nothing is pending.
//!
//! That nothing done is left out of the count is the business of `status_linearizable`.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::Invariant;
use crate::history::{
    ChannelView, ClusterView, EventId, Outcome, Phase, Place, ProxyView, Record, Verdict, What,
};
use crate::table::{Set, entry};

#[derive(Default)]
pub(super) struct LedgerExact {
    channels: BTreeMap<String, Channel>,
    consumers: BTreeMap<String, Consumer>,
    /// Events published, neither acknowledged nor certainly refused.
    open: HashMap<EventId, Open>,
    draining: bool,
    /// Statuses asked since then and not yet answered.
    asks: BTreeSet<u64>,
    refused: u64,
}

#[derive(Default)]
struct Channel {
    acknowledged: Set,
    /// Acknowledged without a place.
    placeless: u64,
    open: u64,
}

struct Open {
    channel: String,
    /// An attempt ended without an answer.
    unknown: bool,
}

#[derive(Default)]
struct Consumer {
    channel: String,
    after: u64,
    /// Whether it is one of the run's own.
    subscribed: bool,
    /// Sequences that a client tried to ack.
    acks: Set,
    /// The least pending in any status asked since the drain began; nothing new comes in a drain.
    pending: Option<u64>,
}

impl LedgerExact {
    fn publish(&mut self, event: EventId, channel: &str) {
        self.open.entry(event).or_insert_with(|| {
            entry(&mut self.channels, channel).open += 1;
            Open { channel: channel.into(), unknown: false }
        });
    }

    fn published(&mut self, event: EventId, outcome: &Outcome<Place>) {
        let Some(open) = self.open.get_mut(&event) else { return };
        match outcome {
            Outcome::Unknown(_) => {
                open.unknown = true;
                return;
            }
            // An earlier attempt may have been accepted all the same.
            Outcome::Fail(_) if open.unknown => return,
            Outcome::Fail(_) => self.refused += 1,
            Outcome::Ok(_) => {}
        }
        let Some(open) = self.open.remove(&event) else { return };
        let channel = entry(&mut self.channels, &open.channel);
        channel.open -= 1;
        match outcome {
            Outcome::Ok(Place { seq: 0, .. }) => channel.placeless += 1,
            Outcome::Ok(place) => drop(channel.acknowledged.insert(place.seq)),
            _ => {}
        }
    }

    fn drained(&mut self, view: &ClusterView) {
        for proxy in view.channels.iter().flat_map(|channel| &channel.proxies) {
            if let Some(consumer) = self.consumers.get_mut(&proxy.name) {
                let least = consumer.pending.map_or(proxy.pending, |p| p.min(proxy.pending));
                consumer.pending = Some(least);
            }
        }
    }

    fn check_channel(&self, view: &ChannelView) -> Result<(), String> {
        let ChannelView { name, accepted, last_seq, .. } = view;
        if accepted != last_seq {
            return Err(format!("{name} accepted {accepted} events, and the last is {last_seq}"));
        }
        if let Some(channel) = self.channels.get(name) {
            let most = channel.acknowledged.len() + channel.placeless + channel.open;
            if *accepted > most {
                return Err(format!("{name} accepted {accepted} events, of {most} published"));
            }
        }
        view.proxies.iter().try_for_each(|proxy| self.check_proxy(view, proxy))
    }

    fn check_proxy(&self, channel: &ChannelView, view: &ProxyView) -> Result<(), String> {
        let ProxyView { name, offered, acked, pending, .. } = view;
        let sum = acked + view.filtered + view.expired + view.discarded + view.dead_lettered;
        let sum = sum + view.skipped + pending;
        if *offered != sum {
            return Err(format!("{name} was offered {offered}, but its ledger adds up to {sum}"));
        }
        let Some(consumer) = self.consumers.get(name) else { return Ok(()) };
        if !consumer.subscribed || consumer.channel != channel.name {
            return Ok(());
        }
        let owed = channel.last_seq.saturating_sub(consumer.after);
        if *offered < owed {
            return Err(format!("{name} was offered {offered} of {owed} events"));
        }
        let most = consumer.acks.len();
        if *acked > most {
            return Err(format!("{name} acked {acked} events, but sent acks of {most}"));
        }
        Ok(())
    }
}

impl Invariant for LedgerExact {
    fn name(&self) -> &'static str {
        "ledger-exact"
    }

    fn judges(&self, what: &What) -> bool {
        matches!(what, What::Status { outcome: Outcome::Ok(_), .. })
    }

    fn observe(&mut self, record: &Record) -> Result<(), String> {
        match &record.what {
            What::Publish { event, channel, .. } => self.publish(*event, channel),
            What::Published { event, outcome } => self.published(*event, outcome),
            What::Subscribed { consumer, channel, after, .. } => {
                let consumer = entry(&mut self.consumers, consumer);
                (consumer.channel, consumer.after) = (channel.clone(), *after);
                consumer.subscribed = true;
            }
            What::Settle { consumer, seqs, verdict: Verdict::Ack } => {
                let acks = &mut entry(&mut self.consumers, consumer).acks;
                acks.extend(seqs);
            }
            What::Phase { phase } => self.draining = *phase >= Phase::Drain,
            What::AskStatus { ask, .. } if self.draining => {
                self.asks.insert(*ask);
            }
            What::Status { ask, outcome } => {
                let in_drain = self.asks.remove(ask);
                let Outcome::Ok(view) = outcome else { return Ok(()) };
                if view.linearizable && in_drain {
                    self.drained(view);
                }
                return view.channels.iter().try_for_each(|channel| self.check_channel(channel));
            }
            _ => {}
        }
        Ok(())
    }

    fn finish(&mut self, drained: bool) -> Vec<String> {
        let consumers = self.consumers.iter().filter(|(_, consumer)| consumer.subscribed);
        let left = consumers.filter_map(|(name, consumer)| match consumer.pending {
            Some(0) => None,
            Some(pending) => {
                Some(format!("{pending} events of {name} are pending after the drain"))
            }
            None => Some(format!("no linearizable status tells whether {name} was drained")),
        });
        if drained { left.collect() } else { Vec::new() }
    }

    fn figures(&self) -> Vec<(&'static str, u64)> {
        let acked = self.channels.values().map(|c| c.acknowledged.len() + c.placeless).sum();
        vec![("acked", acked), ("unknown", self.open.len() as u64), ("refused", self.refused)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::invariants::testing::*;

    fn one() -> LedgerExact {
        LedgerExact::default()
    }

    /// Two events for a consumer from the first on, one of them acked.
    fn two() -> Story {
        let story = story().subscribed(0).event(1, 1).event(2, 2);
        story.settle(&[1], Verdict::Ack)
    }

    fn drained(story: Story) -> Story {
        story.settle(&[2], Verdict::Ack).phase(Phase::Drain).status(view(2, &[proxy(2, 0)]))
    }

    #[test]
    fn holds_for_a_ledger_that_adds_up() {
        let offered = view(2, &[ProxyView { dead_lettered: 1, offered: 2, ..proxy(1, 0) }]);
        holds(one(), drained(two().status(view(2, &[proxy(1, 1)])).status(offered)));
    }

    #[test]
    fn catches_a_sum_that_is_off() {
        for proxy in [
            ProxyView { offered: 3, ..proxy(1, 1) },
            ProxyView { skipped: 1, ..proxy(1, 1) },
            ProxyView { pending: 0, ..proxy(1, 1) },
        ] {
            catches(one(), drained(two().status(view(2, &[proxy]))), "adds up to");
        }
    }

    #[test]
    fn catches_places_that_are_not_those_of_events() {
        let mut wrong = view(2, &[proxy(1, 1)]);
        wrong.channels[0].accepted = 1;
        catches(one(), drained(two().status(wrong)), "accepted 1 events, and the last is 2");
    }

    #[test]
    fn catches_more_than_was_done() {
        let more = drained(two().status(view(3, &[proxy(1, 2)])));
        catches(one(), more, "accepted 3 events, of 2 published");
        catches(one(), drained(two().status(view(2, &[proxy(2, 0)]))), "acked 2 events, but sent");
        let open = drained(two().publish(3).publish_unknown(3).publish(3));
        let refused = open.publish_fails(3, "overloaded").status(view(3, &[proxy(1, 2)]));
        let found = judge(one(), refused, false);
        assert!(found.is_empty(), "the first attempt may have been accepted: {found:?}");
        let refused = two().publish(3).publish_fails(3, "overloaded");
        catches(one(), drained(refused.status(view(3, &[proxy(1, 2)]))), "of 2 published");
    }

    #[test]
    fn catches_events_not_offered() {
        catches(one(), drained(two().status(view(2, &[proxy(1, 0)]))), "offered 1 of 2");
    }

    #[test]
    fn statuses_may_be_asked_at_once() {
        let story = two().settle(&[2], Verdict::Ack).phase(Phase::Drain).ask(1).ask(2);
        let story = story.answer(1, view(2, &[proxy(2, 0)]));
        holds(one(), story.then(What::Status { ask: 2, outcome: Outcome::Unknown("?".into()) }));
    }

    #[test]
    fn catches_what_is_left_after_the_drain() {
        let left = two().phase(Phase::Drain).status(view(2, &[proxy(1, 1)]));
        assert!(judge(one(), left.clone(), false).is_empty());
        catches(one(), left, "1 events of w are pending");
        let before = two().status(view(2, &[proxy(1, 1)])).phase(Phase::Drain);
        catches(one(), before, "no linearizable status");
    }
}
