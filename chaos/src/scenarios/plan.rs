//! Which faults, in which order, with which timing: data, from which a seed draws.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::faults::Fault;
use crate::workloads::Span;

/// The faults of a run: its rounds, one after the other, again and again until the time is over.
/// Each round comes once at least.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    pub rounds: Vec<Round>,
    /// Pause before each round, in milliseconds.
    pub pause: Span,
    /// The rounds come in an order that is drawn, not in turn.
    pub drawn: bool,
    /// Ends after so many rounds; 0: when the time is over.
    pub rounds_max: u64,
}

/// Faults that belong together and may overlap.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Round(pub Vec<Act>);

/// One fault of a round.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Act {
    /// When it begins, in milliseconds after the round's beginning.
    pub at: Span,
    pub fault: Fault,
    /// How long it lasts, in milliseconds.
    pub lasts: Span,
}

/// One moment of a round: the act of this number begins, or ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cue {
    pub at: Duration,
    pub act: usize,
    pub ends: bool,
}

impl Plan {
    /// Rounds of one fault each, in turn.
    pub fn of(pause: Span, faults: impl IntoIterator<Item = (Fault, Span)>) -> Plan {
        let rounds = faults.into_iter().map(|(fault, lasts)| Round::one(fault, lasts));
        Plan { rounds: rounds.collect(), pause, drawn: false, rounds_max: 0 }
    }

    /// The same, ending after so many rounds.
    pub fn at_most(mut self, rounds: u64) -> Plan {
        self.rounds_max = rounds;
        self
    }

    /// The same, with the order drawn.
    pub fn shuffled(mut self) -> Plan {
        self.drawn = true;
        self
    }

    /// All faults, in the order of the rounds.
    pub fn faults(&self) -> impl Iterator<Item = &Fault> {
        self.rounds.iter().flat_map(|round| &round.0).map(|act| &act.fault)
    }

    /// The order of the next rounds.
    pub fn order(&self, rng: &mut fastrand::Rng) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.rounds.len()).collect();
        if self.drawn {
            rng.shuffle(&mut order);
        }
        order
    }
}

impl Round {
    /// A round of one fault.
    pub fn one(fault: Fault, lasts: Span) -> Round {
        Round(vec![Act { at: Span::ms(0, 0), fault, lasts }])
    }

    /// The same with another fault, beginning later.
    pub fn and(mut self, at: Span, fault: Fault, lasts: Span) -> Round {
        self.0.push(Act { at, fault, lasts });
        self
    }

    /// Draws when everything begins and ends, in order of time.
    pub fn cues(&self, rng: &mut fastrand::Rng) -> Vec<Cue> {
        let mut cues = Vec::new();
        for (act, Act { at, lasts, .. }) in self.0.iter().enumerate() {
            let begins = at.draw_ms(rng);
            let ends = begins + lasts.draw_ms(rng);
            cues.push(Cue { at: begins, act, ends: false });
            cues.push(Cue { at: ends, act, ends: true });
        }
        cues.sort_by_key(|cue| (cue.at, cue.ends));
        cues
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::faults::kill::Kill;
    use crate::faults::pause::Pause;
    use crate::faults::whom::Whom;

    #[test]
    fn what_begins_ends_later_and_a_seed_repeats_it() {
        let pause = Fault::Pause(Pause { whom: Whom::Leader });
        let kill = Fault::Kill(Kill { whom: Whom::Follower });
        let round = Round::one(pause, Span::ms(500, 3_000)).and(
            Span::ms(0, 1_000),
            kill,
            Span::ms(0, 2_000),
        );
        for seed in 0..100 {
            let cues = round.cues(&mut fastrand::Rng::with_seed(seed));
            assert_eq!(cues, round.cues(&mut fastrand::Rng::with_seed(seed)));
            assert!(cues.is_sorted_by_key(|cue| cue.at));
            for act in 0..2 {
                let of_act = cues.iter().filter(|cue| cue.act == act).map(|cue| cue.ends);
                assert_eq!(of_act.collect::<Vec<_>>(), [false, true]);
            }
        }
    }
}
