//! What a link does to what passes over it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How long a lost segment takes to be sent again, the first time; doubles each time.
const RESEND_AFTER: Duration = Duration::from_millis(200);

/// The condition of a directed link. A stream is a TCP stream: what is lost is sent again later,
/// and everything behind it waits.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Weather {
    /// One way, in microseconds.
    pub latency_us: u64,
    /// Added to it: up to this much, drawn for each segment.
    pub jitter_us: u64,
    /// Segments lost, of a thousand.
    pub loss_per_mille: u16,
}

impl Default for Weather {
    fn default() -> Weather {
        Weather { latency_us: 150, jitter_us: 100, loss_per_mille: 0 }
    }
}

impl Weather {
    /// How long one segment is under way.
    pub fn delay(&self, chance: &mut fastrand::Rng) -> Duration {
        let mut delay = Duration::from_micros(self.latency_us + chance.u64(0..=self.jitter_us));
        let mut resend = RESEND_AFTER;
        while chance.u16(0..1000) < self.loss_per_mille && resend < RESEND_AFTER * 16 {
            delay += resend;
            resend *= 2;
        }
        delay
    }
}
