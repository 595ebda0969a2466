//! The thresholds by which a run is judged.

use std::time::Duration;

/// Thresholds. The defaults are for real processes on a busy machine; a simulation, which has no
/// slow clients or late observers of its own, may set the lags to nearly nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    /// After healing, a consumer with events waiting and a client attached gets one at least this
    /// often.
    pub stuck_after: Duration,
    /// How much later than it was sent a client may record a delivery: what it did not read yet
    /// waits in sockets and buffers while leases end and leaders change.
    pub delivery_lag: Duration,
    /// How much later than it happened an observer may record something.
    pub observe_lag: Duration,
    /// How much later than the cluster attached it a client may record that it is attached.
    pub attach_lag: Duration,
    /// How long a delivery sent before an ack was committed may stay unread, whatever else is
    /// known: after this it counts as sent afterwards.
    pub settled_grace: Duration,
    /// How often one cause may repeat one event for one consumer.
    pub repeats_per_cause: u64,
    /// How long a node with damaged data may look like a follower after it was started.
    pub damage_grace: Duration,
    /// Most memory a node's process may use, in bytes.
    pub rss_bytes_max: u64,
    /// Most files and sockets a node's process may have open.
    pub descriptors_max: u64,
    /// By how many it may have more at the end than any node had at the beginning.
    pub descriptors_growth: u64,
    /// Most bytes of disk a node may use.
    pub disk_bytes_max: u64,
}

impl Default for Rules {
    fn default() -> Rules {
        Rules {
            stuck_after: Duration::from_secs(3),
            delivery_lag: Duration::from_secs(15),
            observe_lag: Duration::from_secs(2),
            attach_lag: Duration::from_secs(2),
            settled_grace: Duration::from_secs(60),
            repeats_per_cause: 1,
            damage_grace: Duration::from_secs(1),
            rss_bytes_max: 1 << 30,
            descriptors_max: 8192,
            descriptors_growth: 256,
            disk_bytes_max: 8 << 30,
        }
    }
}

/// A duration in the unit of [`crate::history::Record::at`].
pub(super) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
