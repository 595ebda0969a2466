//! What a proxy does not want: found by the types of events, and settled as `filtered`.
//!
//! Of new events a proxy is told those that it wants ([`Queue::want`]), so the others are the gaps
//! between them: nobody looks at each event for each proxy. Only what was there before the proxy, or
//! before its present subscription, is looked through, in stretches of one type.
//!
//! `filtered` verdicts wait for each other ([`limits::FILTER_PAUSE_MS`]), unless the proxy has
//! something else to settle, or the channel has little room.

use super::Facts;
use super::catalog::Catalog;
use super::dispatcher::Owner;
use super::queue::Queue;
use super::verdicts::Verdicts;
use crate::types::{Outcome, Seq, SeqRange, SeqRanges, limits};

/// How far a proxy has been through the events with its subscription.
#[derive(Debug)]
pub(super) struct Sieve {
    /// Events before this one have been looked at.
    judged: Seq,
    /// From this one on `wanted` has all that the proxy wants.
    told_from: Seq,
    wanted: SeqRanges,
    /// What waits is to be proposed now.
    pressed: bool,
}

impl Sieve {
    /// Nothing was looked at; what is wanted is told from `told_from` on.
    pub fn new(start: Seq, told_from: Seq) -> Sieve {
        Sieve { judged: start, told_from, wanted: SeqRanges::new(), pressed: true }
    }

    /// Whether what waits is to be proposed without anything else.
    pub fn is_due(&self, verdicts: &Verdicts) -> bool {
        self.pressed || verdicts.filtered_ranges() >= limits::FILTER_RANGES_MAX
    }

    /// Events from this one on are to be looked at again.
    pub fn look_again(&mut self, from: Seq) {
        self.judged = self.judged.min(from);
        self.pressed = true;
    }

    /// What waits is to be proposed.
    pub fn press(&mut self) {
        self.pressed = true;
    }
}

impl Queue {
    /// The proxy wants these new events. Told in the order of sequences, until `end`.
    pub fn want(&mut self, range: SeqRange) {
        let sieve = &mut self.sieve;
        sieve.wanted.insert_range(range);
        // One that cannot settle anything now looks through them later.
        if sieve.wanted.range_count() > limits::SETTLING_RANGES_MAX {
            sieve.told_from = range.last + 1;
            sieve.wanted = SeqRanges::new();
        }
    }

    /// It wants other events than before: what is not settled is considered anew. New events are
    /// told from `told_from` on.
    pub fn sift_anew(&mut self, told_from: Seq) {
        let filtered = self.verdicts.take_filtered();
        self.reconsider(filtered);
        self.sieve = Sieve::new(self.facts.start_seq, told_from);
    }

    /// No verdict says of these any more that the proxy does not want them: they are looked at again.
    pub fn reconsider(&mut self, mut events: SeqRanges) {
        self.verdicts.ranges().for_each(|range| events.remove_range(range));
        self.proposals.ranges().for_each(|range| events.remove_range(range));
        let Some(first) = events.first() else { return };
        self.sieve.look_again(first);
        for range in events.iter() {
            self.settling.remove_range(range);
            self.behind.release(self.progress.passed(range));
        }
    }

    /// Ends what the proxy does not want among the events up to now. True: there is more to look at.
    pub fn sift(&mut self, facts: &impl Facts, catalog: &Catalog) -> bool {
        let end = catalog.told();
        if !catalog.interests.picks(Owner::Proxy(self.id)) || self.sieve.judged >= end {
            return false;
        }
        let told_from = self.sieve.told_from.min(end);
        if self.look_through(facts, catalog, told_from) {
            return true;
        }
        if self.sieve.judged < told_from || self.is_settling_much() {
            return false;
        }
        let (wanted, from) = (std::mem::take(&mut self.sieve.wanted), self.sieve.judged);
        let mut gaps = SeqRanges::from_iter([SeqRange { first: from, last: end - 1 }]);
        gaps.remove_all(&wanted);
        gaps.iter().for_each(|gap| self.end_pending(facts, gap, Outcome::Filtered));
        (self.sieve.judged, self.sieve.told_from) = (end, end);
        false
    }

    /// Looks at what is unsettled before `end`. True: there is more, and it can be gone on at once.
    fn look_through(&mut self, facts: &impl Facts, catalog: &Catalog, end: Seq) -> bool {
        let (owner, channel) = (Owner::Proxy(self.id), self.facts.channel);
        let mut looks = limits::DISPATCH_EVENTS_MAX;
        while self.sieve.judged < end {
            let run = facts.unsettled_from(self.id, self.sieve.judged).filter(|r| r.first < end);
            let Some(run) = run else {
                self.sieve.judged = end;
                break;
            };
            let run = SeqRange { last: run.last.min(end - 1), ..run };
            for (stretch, kind) in facts.types_in(channel, run) {
                if looks == 0 || self.is_settling_much() {
                    self.sieve.judged = stretch.first;
                    return looks == 0;
                }
                looks -= 1;
                if !catalog.interests.wants(owner, kind) {
                    self.end_pending(facts, stretch, Outcome::Filtered);
                }
            }
            self.sieve.judged = run.last + 1;
        }
        false
    }

    /// So much is on its way to be settled that more is looked for when some of it is.
    fn is_settling_much(&self) -> bool {
        self.settling.range_count() >= limits::SETTLING_RANGES_MAX / 2
    }

    /// Ends one that is not wanted and was not found before: nobody else sees to it.
    pub fn refuse(&mut self, event: Seq) {
        self.judge_ended(SeqRange::one(event), Outcome::Filtered);
        self.sieve.press();
    }

    /// Once all was looked at and proposed, what comes then waits for more.
    pub fn let_gather(&mut self, catalog: &Catalog) {
        if self.sieve.judged >= catalog.told() && self.verdicts.filtered_ranges() == 0 {
            self.sieve.pressed = false;
        }
    }
}
