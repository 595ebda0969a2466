//! Exclusive proxies: one of the attached consumers holds the proxy and gets all events, the others
//! stand by.
//!
//! Who holds it is a fact, and so is the token that fences off the holders before. Here it is only
//! decided who is to be proposed, and nothing goes to anybody before the fact is there.

use std::collections::BTreeMap;

use super::queue::Queue;
use super::window::State;
use super::{Action, ConsumerKey, ProxyFacts};
use crate::types::{Member, Seq, Stamp, limits};

/// What is known of the holder beside the facts.
#[derive(Debug, Default)]
pub(super) struct Holding {
    /// Which consumer the holder is. `None` also where all consumers get events.
    active: Option<ConsumerKey>,
    /// The holder was here in this tenure: when it goes it is replaced at once.
    seen: bool,
    /// After a change of leader it has until then to come back.
    patience: Option<Stamp>,
    /// A change is on its way to the log.
    proposed: bool,
    /// Not to be proposed again before.
    pause: Option<Stamp>,
    /// To be done first of all.
    parting: Vec<Action>,
}

impl Holding {
    /// Whether more is known here than the facts say.
    pub fn is_idle(&self) -> bool {
        !self.proposed && !self.seen && self.parting.is_empty()
    }

    /// When to look again.
    pub fn next_due(&self) -> Option<Stamp> {
        self.pause.max(self.patience)
    }

    /// What belongs to the holder before, to be proposed before anything else.
    pub fn take_parting(&mut self) -> Vec<Action> {
        std::mem::take(&mut self.parting)
    }
}

impl Queue {
    /// Takes in the definition as it is now. Where an exclusive proxy has another token, the former
    /// holder's time is over: what it had goes again, and what it said is proposed under its token,
    /// for the machine to refuse what comes too late.
    pub fn learn(&mut self, known: ProxyFacts) {
        let before = std::mem::replace(&mut self.facts, known);
        if self.facts.fencing != before.fencing && self.facts.fencing > 0 {
            let said = (before.revision, before.fencing);
            self.proposals.make(&mut self.verdicts, self.id, said, &mut self.holding.parting);
            self.take_back_all();
        }
        if self.facts.service.exclusive != before.service.exclusive {
            self.holding = Holding { parting: self.holding.take_parting(), ..Holding::default() };
            self.members.keys().for_each(|consumer| self.turns.insert(*consumer));
        }
        self.find_active();
    }

    fn take_back_all(&mut self) {
        let out = self.window.iter().filter(|slot| matches!(slot.state, State::InFlight { .. }));
        let out: Vec<Seq> = out.map(|slot| slot.seq).collect();
        out.into_iter().for_each(|seq| self.requeue(seq, None));
    }

    /// Finds the consumer that the holder is: of several connections of one the latest.
    pub fn find_active(&mut self) {
        let holder = self.facts.holder;
        let is_holder = |member: &Member| Some(*member) == holder;
        let found = self.members.iter().rev().find(|(_, member)| is_holder(member));
        let active = found.map(|(consumer, _)| *consumer);
        if std::mem::replace(&mut self.holding.active, active) != active {
            active.into_iter().for_each(|consumer| self.turns.insert(consumer));
        }
    }

    /// Whether this consumer gets events now.
    pub fn is_active(&self, consumer: ConsumerKey) -> bool {
        !self.facts.service.exclusive || self.holding.active == Some(consumer)
    }

    /// The consumers that get events now.
    pub fn receivers(&self) -> impl Iterator<Item = ConsumerKey> + '_ {
        self.members.keys().copied().filter(|consumer| self.is_active(*consumer))
    }

    /// Those who wait for their turn to hold the proxy, in the order in which they came.
    pub fn standby(&self) -> impl Iterator<Item = Member> + '_ {
        let waits = |consumer: &ConsumerKey| !self.is_active(*consumer);
        self.members.iter().filter(move |(consumer, _)| waits(consumer)).map(|(_, m)| *m)
    }

    /// Proposes who is to hold the proxy next, if that is to change: whoever came first. A holder
    /// that went is replaced at once; one that a new leader has not seen yet has time to come back.
    pub fn succeed(&mut self, now: Stamp) -> Option<Action> {
        self.holding.pause = self.holding.pause.filter(|pause| *pause > now);
        if !self.facts.service.exclusive || self.holding.proposed || self.holding.pause.is_some() {
            return None;
        }
        if self.holding.active.is_some() {
            (self.holding.seen, self.holding.patience) = (true, None);
            return None;
        }
        let next = first(&self.members);
        match (self.facts.holder, next) {
            (None, None) => {
                self.holding.seen = false;
                return None;
            }
            (Some(_), None) if !self.holding.seen => return None,
            (Some(_), Some(_)) if !self.holding.seen => {
                let patient = now.plus_millis(limits::HOLDER_RETURN_MS);
                let until = *self.holding.patience.get_or_insert(patient);
                if until > now {
                    return None;
                }
            }
            _ => {}
        }
        (self.holding.seen, self.holding.patience) = (true, None);
        self.holding.proposed = true;
        Some(Action::Hold { proxy: self.id, holder: next })
    }

    /// The proposal of a holder came to its end.
    pub fn held(&mut self, applied: bool, now: Stamp) {
        self.holding.proposed = false;
        if !applied {
            self.holding.pause = Some(now.plus_millis(limits::VERDICT_PAUSE_MS_MAX));
        }
    }
}

fn first(members: &BTreeMap<ConsumerKey, Member>) -> Option<Member> {
    members.values().next().copied()
}
