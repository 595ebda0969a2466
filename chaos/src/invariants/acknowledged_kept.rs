//! No acknowledged event is lost, for any durable consumer.
//!
//! Every event acknowledged at a place after the consumer's start reached one of its clients by the
//! end of a drained run, or is in a counted outcome of the last linearizable ledger. Dead letters are
//! read by name at the end, so each excuses the event that it is; and where deliveries are not
//! limited, only events that a client has terminated may be among them. Other outcomes are numbers and
//! not names: they excuse as many missing events as they count; but expiry only excuses events that
//! can end, by what they ask for or by a timeout of the consumer. So do dead letters if not all of them
//! could be read, less those the history itself accounts for (terminated by a client that had them).
//!
//! That the cluster goes on knowing of an acknowledged event also while a run is not drained is
//! the business of `status_linearizable`.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::Invariant;
use super::definitions::Definitions;
use crate::history::{EventId, Outcome, Place, ProxyView, Record, Verdict, What};
use crate::table::{Set, entry};

/// Missing sequences named in a violation.
const NAMED: usize = 5;

#[derive(Default)]
pub(super) struct AcknowledgedKept {
    /// Places of acknowledged events, by channel.
    acknowledged: BTreeMap<String, Set>,
    consumers: BTreeMap<String, Consumer>,
    /// Places of those of them that can end by themselves, likewise.
    mortal: BTreeMap<String, Set>,
    definitions: Definitions,
    /// Events published and not yet acknowledged with their place.
    open: HashMap<EventId, Open>,
    /// Those of them acknowledged without a place.
    placeless: HashSet<EventId>,
    lost: u64,
}

struct Open {
    channel: String,
    /// Where it was seen; 0: nowhere.
    seq: u64,
    /// Whether it ends by itself.
    ends: bool,
}

#[derive(Default)]
struct Consumer {
    channel: String,
    after: u64,
    delivered: Set,
    terminated: Set,
    /// Whether an event is given up after so many deliveries.
    limited: bool,
    /// A client has asked for it, whatever came of that.
    given_up: Set,
    /// Its dead letters, as far as they were read.
    dead: Set,
    /// Its ledger in the latest linearizable status.
    ledger: ProxyView,
}

impl Invariant for AcknowledgedKept {
    fn name(&self) -> &'static str {
        "acknowledged-kept"
    }

    fn judges(&self, what: &What) -> bool {
        matches!(what, What::Published { outcome: Outcome::Ok(_), .. })
    }

    fn observe(&mut self, record: &Record) -> Result<(), String> {
        self.definitions.observe(record.at, &record.what);
        match &record.what {
            What::Publish { event, channel, asks, .. } => {
                let open = || Open { channel: channel.clone(), seq: 0, ends: asks.ends() };
                self.open.entry(*event).or_insert_with(open);
            }
            What::Published { event, outcome } => self.published(*event, outcome),
            What::Subscribed { consumer, channel, after, max_deliveries, .. } => {
                let consumer = entry(&mut self.consumers, consumer);
                (consumer.channel, consumer.after) = (channel.clone(), *after);
                consumer.limited = max_deliveries.is_some();
            }
            What::Settle { consumer, seqs, verdict: Verdict::Terminate } => {
                entry(&mut self.consumers, consumer).given_up.extend(seqs);
            }
            What::DeadLetter { consumer, channel, seq } => {
                if let Some(known) = self.consumers.get_mut(consumer)
                    && known.channel == *channel
                {
                    known.dead.insert(*seq);
                }
            }
            What::Delivered { consumer, channel, seq, event, .. } => {
                let known = entry(&mut self.consumers, consumer);
                known.delivered.insert(*seq);
                if let Some(open) = event.and_then(|event| self.open.get_mut(&event))
                    && open.channel == *channel
                {
                    open.seq = *seq;
                }
            }
            What::Settled {
                consumer,
                seqs,
                verdict: Verdict::Terminate,
                outcome: Outcome::Ok(()),
            } => {
                let consumer = entry(&mut self.consumers, consumer);
                consumer.terminated.extend(seqs);
            }
            What::Status { outcome: Outcome::Ok(view), .. } if view.linearizable => {
                for proxy in view.channels.iter().flat_map(|channel| &channel.proxies) {
                    if let Some(consumer) = self.consumers.get_mut(&proxy.name) {
                        consumer.ledger.clone_from(proxy);
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn finish(&mut self, drained: bool) -> Vec<String> {
        if !drained {
            return Vec::new();
        }
        let mut found = self.place_the_placeless();
        for (name, consumer) in &self.consumers {
            let Some(acknowledged) = self.acknowledged.get(&consumer.channel) else { continue };
            let missing = acknowledged.iter().filter(|seq| consumer.misses(*seq));
            let all_end = self.definitions.least(name, "timeout").is_some();
            let mortal = self.mortal.get(&consumer.channel);
            let ends = |seq: &u64| all_end || mortal.is_some_and(|mortal| mortal.contains(*seq));
            let (mortal, immortal): (Vec<u64>, Vec<u64>) = missing.partition(ends);
            found.extend(consumer.buried_unasked().map(|seq| {
                format!("{name} has a dead letter that nobody asked for, such as [{seq}]")
            }));
            let excused = consumer.excused();
            let immortals_excused = excused - consumer.ledger.expired;
            let count = immortal.len() as u64;
            if count > immortals_excused {
                let named = &immortal[..immortal.len().min(NAMED)];
                self.lost += count - immortals_excused;
                found.push(format!(
                    "{name} never got {count} acknowledged events, such as {named:?}; its ledger \
                     accounts for {immortals_excused} of them"
                ));
                continue;
            }
            let named: Vec<u64> = immortal.into_iter().chain(mortal).collect();
            let (count, named) = (named.len() as u64, &named[..named.len().min(NAMED)]);
            if count > excused {
                self.lost += count - excused;
                found.push(format!(
                    "{name} never got {count} acknowledged events, such as {named:?}; its ledger \
                     accounts for {excused} of them"
                ));
            }
        }
        found
    }

    fn figures(&self) -> Vec<(&'static str, u64)> {
        vec![("lost", self.lost)]
    }
}

impl AcknowledgedKept {
    fn published(&mut self, event: EventId, outcome: &Outcome<Place>) {
        let Outcome::Ok(place) = outcome else { return };
        if place.seq == 0 {
            self.placeless.insert(event);
        } else if let Some(open) = self.open.remove(&event) {
            self.placeless.remove(&event);
            self.acknowledge(&open, place.seq);
        }
    }

    fn acknowledge(&mut self, open: &Open, seq: u64) {
        entry(&mut self.acknowledged, &open.channel).insert(seq);
        if open.ends {
            entry(&mut self.mortal, &open.channel).insert(seq);
        }
    }

    /// Events acknowledged without a place are where they were seen. Those that nobody saw are
    /// lost if anybody was to see them.
    fn place_the_placeless(&mut self) -> Vec<String> {
        let mut unseen = Vec::new();
        for event in std::mem::take(&mut self.placeless) {
            match self.open.remove(&event) {
                Some(Open { channel, seq: 0, .. }) => {
                    let mut owed = self.consumers.values().filter(|c| c.channel == channel);
                    if owed.any(|consumer| consumer.excused() == 0) {
                        unseen.push(event);
                    }
                }
                Some(open) => self.acknowledge(&open, open.seq),
                None => {}
            }
        }
        if unseen.is_empty() {
            return Vec::new();
        }
        self.lost += unseen.len() as u64;
        let some = &unseen[..unseen.len().min(NAMED)];
        vec![format!("nobody ever got {} acknowledged events, such as {some:?}", unseen.len())]
    }
}

impl Consumer {
    fn misses(&self, seq: u64) -> bool {
        seq > self.after && !self.delivered.contains(seq) && !self.dead.contains(seq)
    }

    /// Whether all dead letters are known by name.
    fn dead_are_known(&self) -> bool {
        self.dead.len() >= self.ledger.dead_lettered
    }

    /// How many events the ledger accounts for, and not by name, that need not have been delivered.
    fn excused(&self) -> u64 {
        let ProxyView { filtered, expired, discarded, dead_lettered, skipped, .. } = self.ledger;
        let nameless = match self.dead_are_known() {
            true => 0,
            false => dead_lettered.saturating_sub(self.terminated.len()),
        };
        filtered + expired + discarded + skipped + nameless
    }

    /// The first dead letter that there is no reason for.
    fn buried_unasked(&self) -> Option<u64> {
        self.dead.iter().find(|seq| !self.limited && !self.given_up.contains(*seq))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::{Asks, Wish};
    use crate::invariants::testing::*;

    fn one() -> AcknowledgedKept {
        AcknowledgedKept::default()
    }

    #[test]
    fn holds_when_everything_arrives() {
        let story = story().event(1, 1).subscribed(1).event(2, 2).event(3, 3);
        holds(one(), story.clone().redelivered(3, 3, 2).delivered(2, 2));
        assert!(judge(one(), story, false).is_empty(), "not drained: it may still come");
    }

    #[test]
    fn catches_what_is_missing() {
        let story = story().subscribed(0).event(1, 1).event(2, 2).delivered(1, 1);
        catches(one(), story.clone(), "w never got 1 acknowledged events, such as [2]");
        let mut lost = one();
        judge_in(&mut lost, story);
        assert_eq!(lost.figures(), [("lost", 1)]);
    }

    fn judge_in(one: &mut AcknowledgedKept, story: Story) {
        story.records.iter().for_each(|record| one.observe(record).unwrap());
        one.finish(true);
    }

    #[test]
    fn outcomes_excuse_only_what_they_count() {
        let story = story().subscribed(0).event(1, 1).event(2, 2).delivered(1, 1);
        let dead = |dead_lettered| ProxyView { dead_lettered, ..proxy(1, 0) };
        holds(one(), story.clone().status(view(2, &[dead(1)])));
        let terminated = story.settled(&[1], Verdict::Terminate, Outcome::Ok(()));
        catches(one(), terminated.status(view(2, &[dead(1)])), "such as [2]");
    }

    #[test]
    fn expiry_excuses_only_what_can_end() {
        let stops = Asks { stop_ms: 7, ..Asks::default() };
        let expired =
            |story: Story| story.status(view(2, &[ProxyView { expired: 1, ..proxy(1, 0) }]));
        let mortal = story().subscribed(0).asking(1, stops).published(1, 1).event(2, 2);
        holds(one(), expired(mortal.clone().delivered(2, 2)));
        catches(one(), expired(mortal.delivered(1, 1)), "such as [2]; its ledger accounts for 0");
        let all = story().subscribed_as(0, &[("timeout", "9")]).event(1, 1);
        holds(one(), expired(all));
    }

    fn dead(story: Story, seq: u64) -> Story {
        story.then(What::DeadLetter { consumer: "w".into(), channel: "c".into(), seq })
    }

    fn limited(story: Story) -> Story {
        let (consumer, channel) = ("w".into(), "c".into());
        let (max_deliveries, ack_wait_ms, max_in_flight) = (Some(3), 1_000, 4_096);
        story.then(What::Subscribed {
            consumer,
            channel,
            after: 0,
            max_deliveries,
            ack_wait_ms,
            max_in_flight,
            qos: Wish::new(),
        })
    }

    #[test]
    fn a_dead_letter_excuses_the_event_that_it_is() {
        let story = limited(story()).event(1, 1).event(2, 2).event(3, 3).delivered(1, 1);
        let story = story.status(view(3, &[ProxyView { dead_lettered: 2, ..proxy(1, 0) }]));
        holds(one(), dead(dead(story.clone(), 2), 3));
        catches(one(), dead(dead(story.clone(), 1), 2), "such as [3]; its ledger accounts for 0");
        holds(one(), story);
    }

    #[test]
    fn without_a_limit_only_what_was_terminated_is_dead() {
        let story = story().subscribed(0).event(1, 1).delivered(1, 1);
        let story = story.status(view(1, &[ProxyView { dead_lettered: 1, ..proxy(0, 0) }]));
        let given_up = story.clone().settle(&[1], Verdict::Terminate);
        holds(one(), dead(given_up, 1));
        catches(one(), dead(story, 1), "a dead letter that nobody asked for, such as [1]");
    }

    #[test]
    fn an_unknown_or_refused_publish_may_be_missing() {
        let story = story().subscribed(0).publish(1).publish_unknown(1).publish(2);
        holds(one(), story.publish_fails(2, "overloaded"));
    }

    #[test]
    fn a_place_not_known_any_more_is_where_it_was_seen() {
        let story = story().subscribed(0).publish(1);
        holds(one(), story.clone().delivered(1, 7).published(1, 0));
        holds(one(), story.clone().published(1, 0).delivered(1, 7));
        catches(one(), story.published(1, 0), "nobody ever got 1");
    }
}
