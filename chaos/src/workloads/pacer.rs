//! When the next event is due.

use std::time::Duration;

/// Keeps a rate on average, and forgets what was missed while nothing moved.
pub struct Pacer {
    rate: u64,
    began: Option<Duration>,
    given: u64,
}

/// Events missed for longer than this are not made up for.
const LAG_MAX: Duration = Duration::from_millis(500);

impl Pacer {
    /// `rate` events a second; 0: always due.
    pub fn new(rate: u64) -> Pacer {
        Pacer { rate, began: None, given: 0 }
    }

    /// How long to wait before the next event. Zero: it is due, and counts as given.
    pub fn next(&mut self, now: Duration) -> Duration {
        if self.rate == 0 {
            return Duration::ZERO;
        }
        let began = *self.began.get_or_insert(now);
        let due = began + Duration::from_micros(self.given * 1_000_000 / self.rate);
        if due > now {
            return due - now;
        }
        if now - due > LAG_MAX {
            (self.began, self.given) = (Some(now), 0);
        }
        self.given += 1;
        Duration::ZERO
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_the_rate_and_forgets_a_pause() {
        let mut pacer = Pacer::new(100);
        let mut now = Duration::from_secs(7);
        let mut given = 0;
        let run = |pacer: &mut Pacer, now: &mut Duration, until: Duration| {
            let mut given = 0;
            while *now < until {
                match pacer.next(*now) {
                    Duration::ZERO => given += 1,
                    wait => *now += wait,
                }
            }
            given
        };
        given += run(&mut pacer, &mut now, Duration::from_secs(8));
        assert_eq!(given, 100);
        now += Duration::from_secs(60);
        given = run(&mut pacer, &mut now, Duration::from_secs(69));
        assert!((100..=102).contains(&given), "{given}");
    }
}
