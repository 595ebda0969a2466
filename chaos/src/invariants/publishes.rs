//! When the latest events were first published, and what they ask for.

use std::collections::{HashMap, VecDeque};

use crate::history::{Asks, EventId};

/// Events remembered. Of an older one nothing is concluded.
const REMEMBERED: usize = 200_000;

/// The first publish of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Publish {
    pub at: u64,
    pub asks: Asks,
}

#[derive(Default)]
pub(super) struct Publishes {
    first: HashMap<EventId, Publish>,
    order: VecDeque<EventId>,
}

impl Publishes {
    /// An event is published; what was known of it before stays.
    pub fn add(&mut self, event: EventId, publish: Publish) {
        if self.first.contains_key(&event) {
            return;
        }
        self.first.insert(event, publish);
        self.order.push_back(event);
        if self.order.len() > REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.first.remove(&oldest);
        }
    }

    pub fn get(&self, event: Option<EventId>) -> Option<Publish> {
        self.first.get(&event?).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_publish_counts_and_the_oldest_are_forgotten() {
        let mut publishes = Publishes::default();
        let asks = Asks::default();
        let most = REMEMBERED as u64;
        (0..most + 10).for_each(|event| publishes.add(event, Publish { at: event, asks }));
        publishes.add(most, Publish { at: 1, asks });
        assert_eq!(publishes.get(Some(most)).map(|publish| publish.at), Some(most));
        assert_eq!((publishes.get(Some(9)), publishes.get(None)), (None, None));
        assert!(publishes.get(Some(10)).is_some());
        assert_eq!((publishes.first.len(), publishes.order.len()), (REMEMBERED, REMEMBERED));
    }
}
