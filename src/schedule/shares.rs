//! Shares in proportion to weights: deficit scheduling without a ring.
//!
//! A contender's rank is what it was charged per unit of weight, and the lowest goes first: it is
//! furthest behind its share. So turns of any cost, above a quantum or cut short, are carried over
//! exactly, and nobody has to be passed over round after round until a debt is paid.
//!
//! Invariants:
//! - Nobody ranks below `level`, which never falls.
//! - Who joins ranks as after a full turn taken at `level`. Leaving therefore forfeits the rest of
//!   a turn: coming back is never better than having stayed, and nobody saves up while away.
//! - If no turn costs more than `turn`, a contender of weight `w` ranks at most `turn / w` above
//!   `level`. Both bounds of [`Policy::Weighted`](super::Policy::Weighted) follow: between two
//!   turns of one contender another begins its turns within a span of `turn / w`, and each moves it
//!   on by what it took per unit of its own weight.

use super::policy::WEIGHT_MAX;

/// Steps of a rank for one unit of cost per unit of weight. What division loses is less than one
/// step in a turn, so it adds up to one unit of cost per unit of weight after 2^40 turns.
pub(super) const STEPS: i128 = 1 << 40;

/// Where shares are counted from.
#[derive(Debug, Clone)]
pub(super) struct Shares {
    turn: u64,
    /// The lowest rank when a turn last ended.
    level: i128,
}

impl Shares {
    /// For turns that cost up to `turn`.
    pub fn new(turn: u64) -> Shares {
        Shares { turn, level: 0 }
    }

    /// The rank of one that joins.
    pub fn newcomer(&self, weight: u32) -> i128 {
        self.level.saturating_add(span(self.turn, weight))
    }

    /// The rank after a turn. One that took nothing is charged in full, else a contender that
    /// cannot move would keep the turn for ever.
    pub fn charged(&self, rank: i128, weight: u32, cost: u64) -> i128 {
        let cost = if cost == 0 { self.turn } else { cost };
        rank.saturating_add(span(cost, weight))
    }

    /// The rank after a change of weight: what it is ahead stays the same number of events.
    pub fn reweighed(&self, rank: i128, from: u32, to: u32) -> i128 {
        if from == to {
            return rank;
        }
        let ahead = rank.saturating_sub(self.level).saturating_mul(counted(from));
        self.level.saturating_add(ahead / counted(to))
    }

    /// A turn ends, when `lowest` is the lowest rank.
    pub fn advance(&mut self, lowest: i128) {
        self.level = self.level.max(lowest);
    }
}

/// What a cost moves the rank of a contender with this weight.
fn span(cost: u64, weight: u32) -> i128 {
    i128::from(cost) * STEPS / counted(weight)
}

fn counted(weight: u32) -> i128 {
    i128::from(weight.clamp(1, WEIGHT_MAX))
}
