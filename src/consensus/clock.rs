//! The soft clock that stamps log entries.
//!
//! Replicated time moves with this node's monotonic clock and leans toward wall time by at most a
//! tenth. So it never jumps, never runs backwards along the log, and a wrong wall clock does
//! little harm. Only a machine that has no time yet takes wall time as it is.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::env::Runtime;
use crate::types::Stamp;

/// Slew: at most one part in this many.
const SLEW_PARTS: u64 = 10;

/// Sans-I/O: both clocks are told to it.
#[derive(Debug, Clone, Default)]
pub struct Clock {
    stamp: Stamp,
    at: Duration,
}

impl Clock {
    /// Takes notice of a stamp from the log: time is at least that.
    pub fn observe(&mut self, stamp: Stamp, monotonic: Duration) {
        if stamp > self.stamp {
            *self = Clock { stamp, at: monotonic };
        }
    }

    /// The stamp for this moment, and never less than one given or observed before.
    pub fn now(&mut self, monotonic: Duration, wall: Duration) -> Stamp {
        let wall = micros(wall);
        if self.stamp == Stamp(0) {
            *self = Clock { stamp: Stamp(wall.max(1)), at: monotonic };
            return self.stamp;
        }
        let elapsed = micros(monotonic.saturating_sub(self.at));
        let straight = self.stamp.0.saturating_add(elapsed);
        let lean = elapsed / SLEW_PARTS;
        let leaned = wall.clamp(straight - lean, straight.saturating_add(lean));
        // Intervals too short to lean in are left to add up.
        if lean > 0 {
            *self = Clock { stamp: Stamp(leaned), at: self.at.max(monotonic) };
        }
        Stamp(leaned)
    }
}

/// The clock of a node, shared by those who read the log and those who stamp entries.
#[derive(Debug, Clone)]
pub struct SoftClock<E> {
    clock: Arc<Mutex<Clock>>,
    env: E,
}

impl<E: Runtime> SoftClock<E> {
    pub fn new(env: E) -> SoftClock<E> {
        SoftClock { clock: Arc::default(), env }
    }

    fn lock(&self) -> MutexGuard<'_, Clock> {
        self.clock.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Soft time.
    pub fn now(&self) -> Stamp {
        self.lock().now(self.env.monotonic(), self.env.wall())
    }

    /// Takes notice of a stamp from the log.
    pub fn observe(&self, stamp: Stamp) {
        self.lock().observe(stamp, self.env.monotonic());
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn a_fresh_clock_takes_wall_time() {
        assert_eq!(Clock::default().now(ms(5), ms(1_000_000)), Stamp(1_000_000_000));
    }

    #[test]
    fn leans_by_a_tenth_toward_wall_time_and_no_more() {
        for (wall, expected_ms) in
            [(10_000, 1_100), (0, 900), (1_050, 1_050), (1_000, 1_000), (1_100, 1_100)]
        {
            let mut clock = Clock::default();
            clock.observe(Stamp(1), ms(0));
            let stamp = clock.now(ms(1_000), ms(wall));
            assert!(stamp.0.abs_diff(expected_ms * 1000) <= 1, "wall {wall}: {stamp}");
        }
    }

    #[test]
    fn an_older_stamp_changes_nothing() {
        let mut clock = Clock::default();
        clock.observe(Stamp(5_000_000), ms(0));
        clock.observe(Stamp(4_000_000), ms(900));
        assert_eq!(clock.now(ms(1_000), ms(6_000)), Stamp(6_000_000));
    }

    proptest! {
        #[test]
        fn never_runs_backwards(
            steps in prop::collection::vec((0u64..50_000, 0u64..10_000_000), 1..200)
        ) {
            let mut clock = Clock::default();
            let (mut monotonic, mut last) = (Duration::ZERO, Stamp(0));
            for (step, wall) in steps {
                monotonic += Duration::from_micros(step);
                let now = clock.now(monotonic, Duration::from_micros(wall));
                prop_assert!(now >= last);
                last = now;
            }
        }
    }
}
