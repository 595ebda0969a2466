//! Which events go when there are too many (OMG DiscardPolicy).

use super::SlotFacts;
use super::catalog::{Catalog, Rank, ordinary, rank};
use crate::types::{Discard, Order, Seq, SeqRange, SeqRanges, Service};

/// Events looked at for one choice; the rest is chosen the next time.
const LOOKS_MAX: usize = 65_536;

/// The events among which some are to go: those that one proxy, or any, waits for.
pub(super) trait Shelf {
    /// The first of them at or after `seq`.
    fn first_from(&self, seq: Seq) -> Option<Seq>;

    /// The last of them at or before `seq`.
    fn last_upto(&self, seq: Seq) -> Option<Seq>;

    fn slot(&self, seq: Seq) -> Option<SlotFacts>;

    /// Whether it may go: it is not at a consumer now, and not going already.
    fn may_go(&self, seq: Seq) -> bool;
}

/// Chooses `count` events by the policy, or fewer if no more may go.
pub(super) fn choose(
    shelf: &impl Shelf,
    catalog: &Catalog,
    policy: Discard,
    count: u64,
) -> SeqRanges {
    let mut choice = Choice { shelf, chosen: SeqRanges::new(), left: count, looks: LOOKS_MAX };
    let whole = SeqRange { first: 0, last: Seq::MAX };
    match policy {
        Discard::Fifo => choice.oldest(whole, |_| true),
        Discard::Lifo => choice.newest(whole, |_| true),
        Discard::Priority => choice.lowest_priorities(catalog),
        Discard::Deadline => choice.earliest_ends(catalog),
    }
    choice.chosen
}

struct Choice<'a, S> {
    shelf: &'a S,
    chosen: SeqRanges,
    left: u64,
    looks: usize,
}

impl<S: Shelf> Choice<'_, S> {
    fn is_done(&self) -> bool {
        self.left == 0 || self.looks == 0
    }

    fn look(&mut self, seq: Seq, fits: &impl Fn(Seq) -> bool) {
        self.looks -= 1;
        if fits(seq) && self.shelf.may_go(seq) && !self.chosen.contains(seq) {
            self.chosen.insert(seq);
            self.left -= 1;
        }
    }

    fn oldest(&mut self, range: SeqRange, fits: impl Fn(Seq) -> bool) {
        let mut from = Some(range.first);
        while let Some(seq) = from.and_then(|from| self.shelf.first_from(from))
            && seq <= range.last
            && !self.is_done()
        {
            self.look(seq, &fits);
            from = seq.checked_add(1);
        }
    }

    fn newest(&mut self, range: SeqRange, fits: impl Fn(Seq) -> bool) {
        let mut upto = Some(range.last);
        while let Some(seq) = upto.and_then(|upto| self.shelf.last_upto(upto))
            && seq >= range.first
            && !self.is_done()
        {
            self.look(seq, &fits);
            upto = seq.checked_sub(1);
        }
    }

    /// Of each rank, from the lowest priority up, the newest first: so a newcomer that is not
    /// higher goes itself.
    fn lowest_priorities(&mut self, catalog: &Catalog) {
        let order = Order::Priority;
        let mut upto = Rank::MAX;
        while let Some(rank) = catalog.last_rank(order, upto)
            && !self.is_done()
        {
            match catalog.class(order, rank) {
                Some(class) => {
                    let ranges: Vec<SeqRange> = class.iter().collect();
                    ranges.into_iter().rev().for_each(|range| self.newest(range, |_| true));
                }
                None => self
                    .newest(SeqRange { first: 0, last: Seq::MAX }, is_ordinary(self.shelf, order)),
            }
            upto = rank - 1;
        }
    }

    /// Of each end, from the earliest on, the oldest first.
    fn earliest_ends(&mut self, catalog: &Catalog) {
        let order = Order::Deadline;
        let mut from = Rank::MIN;
        while let Some(rank) = catalog.next_rank(order, from)
            && !self.is_done()
        {
            match catalog.class(order, rank) {
                Some(class) => {
                    let ranges: Vec<SeqRange> = class.iter().collect();
                    ranges.into_iter().for_each(|range| self.oldest(range, |_| true));
                }
                None => self
                    .oldest(SeqRange { first: 0, last: Seq::MAX }, is_ordinary(self.shelf, order)),
            }
            let Some(next) = rank.checked_add(1) else { break };
            from = next;
        }
    }
}

/// Whether an event asks for nothing in this order.
fn is_ordinary<S: Shelf>(shelf: &S, order: Order) -> impl Fn(Seq) -> bool + use<'_, S> {
    let service = Service { order, ..Service::default() };
    move |seq| shelf.slot(seq).is_none_or(|slot| rank(&service, &slot) == ordinary(order))
}
