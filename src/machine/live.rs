//! Which payloads somebody may still ask for.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::{Channel, Machine, Slot};
use crate::types::PayloadKey;

/// A payload that is still needed, and its event's size in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct LiveKey {
    pub key: PayloadKey,
    pub size: u32,
}

impl Machine {
    /// The payload keys of all retained events, ascending, each once. Lazy, except that the keys
    /// of dead letters and of those that were replayed, which are in no order, are collected first.
    pub fn live_keys(&self) -> impl Iterator<Item = LiveKey> {
        let mut sources: Vec<_> = self.channels().flat_map(keys).collect();
        let mut heads: BinaryHeap<_> = sources
            .iter_mut()
            .enumerate()
            .filter_map(|(i, source)| source.next().map(|live| Reverse((live, i))))
            .collect();
        let mut last = None;
        let mut current = heads.pop();
        std::iter::from_fn(move || {
            loop {
                let Reverse((live, i)) = current?;
                let next =
                    sources.get_mut(i).and_then(Iterator::next).map(|next| Reverse((next, i)));
                // Channels take turns rarely: most keys that follow each other are of one.
                current = match next {
                    Some(next) if heads.peek().is_none_or(|head| *head <= next) => Some(next),
                    Some(next) => heads.pop().inspect(|_| heads.push(next)),
                    None => heads.pop(),
                };
                if last.replace(live.key) != Some(live.key) {
                    return Some(live);
                }
            }
        })
    }
}

type Keys<'a> = Box<dyn Iterator<Item = LiveKey> + 'a>;

/// The live keys of one channel, in parts that are ascending.
fn keys(channel: &Channel) -> Vec<Keys<'_>> {
    if channel.is_dead_letters() {
        return vec![sorted(channel.slots.iter_from(0).map(|(_, slot)| live(&slot)))];
    }
    let in_order = channel.slots.iter_from(0).filter(|(_, slot)| !slot.mark.again);
    let again = channel.slots.marked_from(0).filter(|(_, slot)| slot.mark.again);
    vec![
        Box::new(in_order.map(|(_, slot)| live(&slot))),
        sorted(again.map(|(_, slot)| live(&slot))),
    ]
}

fn sorted<'a>(keys: impl Iterator<Item = LiveKey>) -> Keys<'a> {
    let mut keys: Vec<LiveKey> = keys.collect();
    keys.sort_unstable();
    Box::new(keys.into_iter())
}

fn live(slot: &Slot) -> LiveKey {
    LiveKey { key: slot.key(), size: slot.size }
}
