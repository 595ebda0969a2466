//! Exclusive proxies: one of the attached consumers holds the proxy and gets all events, the others
//! stand by.
//!
//! Who holds it is a fact, and so is the token that fences off the holders before. Here it is only
//! decided who is to be proposed, and nothing goes to anybody before the fact is there.

use std::ops::Bound;

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
    /// It gave a verdict since it was last looked at the time…
    spoke: bool,
    /// …and that was then.
    heard: Option<Stamp>,
    /// A lease of it ended without a word from it; it has said nothing since.
    silent: bool,
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

    /// The holder gave a verdict: it lives.
    pub fn hear(&mut self) {
        (self.spoke, self.silent) = (true, false);
    }

    /// What was said was said by now.
    pub fn pass_time(&mut self, now: Stamp) {
        if std::mem::take(&mut self.spoke) {
            self.heard = Some(now);
        }
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
            (self.holding.spoke, self.holding.heard, self.holding.silent) = (false, None, false);
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

    /// A consumer said something of its events.
    pub fn hear_from(&mut self, from: Option<ConsumerKey>) {
        if from.is_none_or(|consumer| self.holding.active == Some(consumer)) {
            self.holding.hear();
        }
    }

    /// A lease ended then. True: its consumer holds the proxy, said nothing as long as it lasted, and
    /// somebody else stands by. So it is not the event that failed.
    pub fn falls_silent(&mut self, consumer: ConsumerKey, due: Stamp) -> bool {
        let ack_wait_ms = self.facts.service.ack_wait_ms;
        let spoke = self.holding.heard.is_some_and(|heard| heard.plus_millis(ack_wait_ms) > due);
        if self.holding.active != Some(consumer) || spoke {
            return false;
        }
        self.holding.silent = true;
        self.relief().is_some()
    }

    /// Who takes over from a holder that fell silent: who came next after it. Until then nothing
    /// more goes to it.
    pub fn relief(&self) -> Option<Member> {
        let silent = self.holding.active.filter(|_| self.holding.silent)?;
        let later = self.members.range((Bound::Excluded(silent), Bound::Unbounded));
        let in_turn = later.map(|(_, member)| member).chain(self.members.values());
        in_turn.copied().find(|member| Some(*member) != self.facts.holder)
    }

    /// Proposes who is to hold the proxy next, if that is to change: whoever came first. A holder
    /// that went is replaced at once, one that fell silent by who came after it; one that a new
    /// leader has not seen yet has time to come back, while somebody waits for that.
    pub fn succeed(&mut self, now: Stamp) -> Option<Action> {
        self.holding.pause = self.holding.pause.filter(|pause| *pause > now);
        if !self.facts.service.exclusive || self.holding.proposed || self.holding.pause.is_some() {
            return None;
        }
        if self.holding.active.is_some() {
            (self.holding.seen, self.holding.patience) = (true, None);
            return self.relief().map(|next| self.hold(Some(next)));
        }
        let next = self.members.values().next().copied();
        if next.is_none() {
            self.holding.patience = None;
        }
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
        Some(self.hold(next))
    }

    fn hold(&mut self, holder: Option<Member>) -> Action {
        self.holding.proposed = true;
        Action::Hold { proxy: self.id, holder }
    }

    /// The proposal of a holder came to its end.
    pub fn held(&mut self, applied: bool, now: Stamp) {
        self.holding.proposed = false;
        if !applied {
            self.holding.pause = Some(now.plus_millis(limits::VERDICT_PAUSE_MS_MAX));
        }
    }
}
