//! A limit on deliveries in a second: a bucket that fills evenly and holds a tenth of a second.

use crate::types::Stamp;

/// Parts of an event that the bucket counts in: what a rate of 1 adds in a microsecond.
const PARTS: u64 = 1_000_000;

/// How much may go now.
#[derive(Debug, Default)]
pub(super) struct Rate {
    parts: u64,
    filled: Option<Stamp>,
    rate: u64,
    due: Option<Stamp>,
}

impl Rate {
    /// How many events may go now at `rate` events a second; 0: no limit.
    pub fn allows(&mut self, rate: u64, now: Stamp) -> u64 {
        self.rate = rate;
        if rate == 0 {
            (self.filled, self.due) = (None, None);
            return u64::MAX;
        }
        let full = (rate / 10).max(1).saturating_mul(PARTS);
        let before = self.filled.replace(now);
        let passed = before.map(|before| now.0.saturating_sub(before.0));
        let more = passed.map_or(full, |passed| passed.saturating_mul(rate));
        self.parts = self.parts.saturating_add(more).min(full);
        self.look_ahead();
        self.parts / PARTS
    }

    /// So many went.
    pub fn spend(&mut self, events: u64) {
        self.parts = self.parts.saturating_sub(events.saturating_mul(PARTS));
        self.look_ahead();
    }

    fn look_ahead(&mut self) {
        let filled = self.filled.filter(|_| self.parts < PARTS && self.rate > 0);
        self.due = filled.map(|filled| {
            let wait = (PARTS - self.parts).div_ceil(self.rate).max(1);
            Stamp(filled.0.saturating_add(wait))
        });
    }

    /// When the next may go, if none may now.
    pub fn next_due(&self) -> Option<Stamp> {
        self.due
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn never_more_than_the_rate_and_a_tenth_of_a_second(
            rate in 1u64..5000,
            steps in prop::collection::vec((0u64..300_000, 0u64..600), 1..60),
        ) {
            let (mut bucket, mut now, mut went) = (Rate::default(), Stamp(7), 0);
            for (wait, wanted) in steps {
                now = Stamp(now.0 + wait);
                let goes = bucket.allows(rate, now).min(wanted);
                bucket.spend(goes);
                went += goes;
                let most = (now.0 - 7) * rate / PARTS + (rate / 10).max(1);
                prop_assert!(went <= most, "{} of {}", went, most);
                // Whoever waits until it is due is let through.
                if bucket.allows(rate, now) == 0 {
                    let due = bucket.next_due().unwrap();
                    prop_assert!(due > now);
                    now = due;
                    prop_assert!(bucket.allows(rate, now) >= 1);
                }
            }
        }
    }
}
