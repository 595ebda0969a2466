//! When a proxy may propose again after the log had no room for it.

use crate::types::{Stamp, limits};

/// More than enough to reach the longest pause.
const DOUBLINGS_MAX: u32 = 16;

/// The pause after refusals; it doubles until something is applied.
#[derive(Debug, Default)]
pub(super) struct Pause {
    until: Option<Stamp>,
    refusals: u32,
}

impl Pause {
    /// A proposal was refused. Further ones refused meanwhile count as the same time.
    pub fn start(&mut self, now: Stamp) {
        if self.until.is_none_or(|until| until <= now) {
            self.refusals = self.refusals.saturating_add(1);
        }
        let doublings = self.refusals.saturating_sub(1).min(DOUBLINGS_MAX);
        let millis = (limits::VERDICT_PAUSE_MS << doublings).min(limits::VERDICT_PAUSE_MS_MAX);
        let until = now.plus_millis(millis);
        self.until = self.until.max(Some(until));
    }

    /// A proposal was applied: the next pause is a short one. The one under way goes on, since what
    /// was applied had been taken before the refusal.
    pub fn shorten(&mut self) {
        self.refusals = 0;
    }

    /// Whether the pause lasts; ends it if its time has come.
    pub fn lasts(&mut self, now: Stamp) -> bool {
        self.until = self.until.filter(|until| *until > now);
        self.until.is_some()
    }

    /// When it ends, if it was not found to be over.
    pub fn until(&self) -> Option<Stamp> {
        self.until
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_limit_and_start_over_after_a_success() {
        let (mut pause, mut now, mut lengths) = (Pause::default(), Stamp(5), Vec::new());
        for _ in 0..70 {
            pause.start(now);
            pause.start(now);
            let until = pause.until().unwrap();
            lengths.push(until.millis_since(now));
            assert!(pause.lasts(Stamp(until.0 - 1)) && !pause.lasts(until));
            now = until;
        }
        assert_eq!(lengths[..4], [10, 20, 40, 80]);
        assert!(lengths[6..].iter().all(|length| *length == limits::VERDICT_PAUSE_MS_MAX));
        pause.shorten();
        for _ in 0..2 {
            pause.start(now);
            assert_eq!(pause.until(), Some(now.plus_millis(limits::VERDICT_PAUSE_MS)));
            // Of an older proposal, while a pause is under way.
            pause.shorten();
        }
    }
}
