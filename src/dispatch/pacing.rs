//! Pacing: events are collected into batches (OMG MaximumBatchSize and PacingInterval).

use crate::types::{Service, Stamp};

/// When the batch that is being collected goes.
#[derive(Debug, Default)]
pub(super) struct Pacing {
    /// Since when there is something to collect.
    since: Option<Stamp>,
    due: Option<Stamp>,
}

impl Pacing {
    /// How many of `waiting` events go now. A batch goes when it is full, or when its interval is
    /// over.
    pub fn allows(&mut self, service: &Service, waiting: u64, now: Stamp) -> u64 {
        (self.due, self.since) = (None, self.since.filter(|_| waiting > 0));
        if service.pacing_ms == 0 {
            self.since = None;
            return u64::MAX;
        }
        if waiting == 0 {
            return 0;
        }
        let full = u64::from(service.batch_max);
        let due = self.since.get_or_insert(now).plus_millis(service.pacing_ms);
        if waiting >= full || due <= now {
            self.since = None;
            return full.min(waiting);
        }
        self.due = Some(due);
        0
    }

    /// When a batch goes although it is not full.
    pub fn next_due(&self) -> Option<Stamp> {
        self.due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_goes_when_it_is_full_or_its_time_is_over() {
        let service = Service { batch_max: 3, pacing_ms: 10, ..Service::default() };
        let mut pacing = Pacing::default();
        let at = |ms| Stamp(0).plus_millis(ms);
        assert_eq!(pacing.allows(&service, 0, at(0)), 0);
        assert_eq!(pacing.allows(&service, 1, at(5)), 0);
        assert_eq!(pacing.next_due(), Some(at(15)));
        assert_eq!(pacing.allows(&service, 2, at(14)), 0);
        assert_eq!(pacing.allows(&service, 2, at(15)), 2);
        assert_eq!((pacing.allows(&service, 1, at(16)), pacing.next_due()), (0, Some(at(26))));
        assert_eq!(pacing.allows(&service, 7, at(17)), 3);
        // What it had waited for is gone otherwise: the next interval begins with the next event.
        assert_eq!(pacing.allows(&service, 1, at(18)), 0);
        assert_eq!(pacing.allows(&service, 0, at(20)), 0);
        assert_eq!((pacing.allows(&service, 1, at(40)), pacing.next_due()), (0, Some(at(50))));
        assert_eq!(pacing.allows(&Service::default(), 1, at(41)), u64::MAX);
    }
}
