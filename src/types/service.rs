//! What the properties set on a channel, and on the admins and proxies of its sides, come to.

use super::limits;
use super::qos::{Property, Qos};

/// Which event of a proxy goes first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Order {
    /// In the order of sequences.
    #[default]
    Fifo,
    /// The greatest priority first, then the lowest sequence.
    Priority,
    /// The earliest end first (those without one last), then the lowest sequence.
    Deadline,
}

/// Which event goes when there are too many.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Discard {
    /// The oldest.
    #[default]
    Fifo,
    /// The newest.
    Lifo,
    /// The lowest priority, and of those the newest.
    Priority,
    /// The earliest end, and of those the oldest; those without one last.
    Deadline,
}

/// Which proxy of a channel, or lane, is served next, when there is more to do than at once.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Scheduling {
    /// One after the other.
    #[default]
    RoundRobin,
    /// Shares by their weights.
    Weighted,
    /// The highest priority, which rises by 1 for each `aging_ms` waited; 0: never.
    Priority { aging_ms: u64 },
    /// Whose next event ends first.
    EarliestDeadline,
}

/// What holds for a consumer proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Service {
    pub order: Order,
    pub discard: Discard,
    /// Unsettled events; 0: no limit.
    pub max_events: u64,
    /// What admin or proxy say, in milliseconds; 0: nothing. What the channel says is a matter of
    /// its events.
    pub timeout_ms: u64,
    pub start_time_supported: bool,
    pub stop_time_supported: bool,
    pub batch_max: u32,
    pub pacing_ms: u64,
    /// Against other proxies, where the channel's scheduling goes by weights.
    pub weight: u32,
    /// Against other proxies, where the channel's scheduling goes by priorities.
    pub urgency: i16,
    /// Events in a second; 0: no limit.
    pub rate: u64,
    /// Pause after a first failure, and the longest, in milliseconds; 0: none.
    pub redelivery_ms: (u64, u64),
    /// Lease of a delivery.
    pub ack_wait_ms: u64,
    /// Failed deliveries after which an event is a dead letter; 0: no limit.
    pub max_deliveries: u32,
    /// Delivered and unsettled events, over all clients.
    pub max_in_flight: u32,
    /// One of its clients gets all events.
    pub exclusive: bool,
    /// Without a client for so long the proxy is deleted; 0: never.
    pub inactivity_ms: u64,
}

impl Default for Service {
    fn default() -> Service {
        Service::new(&Qos::default(), &Qos::default(), &Qos::default())
    }
}

impl Service {
    /// What the settings of a proxy, its admin and its channel come to.
    pub fn new(proxy: &Qos, admin: &Qos, channel: &Qos) -> Service {
        let value = |property| Qos::resolve(&[proxy, admin, channel], property);
        let order = match value(Property::OrderPolicy) {
            2 => Order::Priority,
            3 => Order::Deadline,
            _ => Order::Fifo,
        };
        let timeout = Qos::resolve(&[proxy, admin], Property::Timeout);
        Service {
            order,
            discard: discard(value(Property::DiscardPolicy)),
            max_events: value(Property::MaxEventsPerConsumer).unsigned_abs(),
            timeout_ms: timeout.unsigned_abs(),
            start_time_supported: value(Property::StartTimeSupported) != 0,
            stop_time_supported: value(Property::StopTimeSupported) != 0,
            batch_max: value(Property::MaximumBatchSize).unsigned_abs() as u32,
            pacing_ms: value(Property::PacingInterval).unsigned_abs(),
            weight: value(Property::SchedulingWeight).unsigned_abs() as u32,
            urgency: value(Property::SchedulingPriority) as i16,
            rate: value(Property::RateLimit).unsigned_abs(),
            redelivery_ms: (
                value(Property::RedeliveryDelay).unsigned_abs(),
                value(Property::RedeliveryDelayMax).unsigned_abs(),
            ),
            ack_wait_ms: value(Property::AckWait).unsigned_abs(),
            max_deliveries: value(Property::MaxDeliveries).unsigned_abs() as u32,
            max_in_flight: value(Property::MaxInFlight).unsigned_abs() as u32,
            exclusive: value(Property::ExclusiveConsumer) != 0,
            inactivity_ms: value(Property::InactivityExpiry).unsigned_abs(),
        }
    }

    /// How long an event waits before it goes again after so many failures, in milliseconds.
    pub fn redelivery_delay(&self, failures: u32) -> u64 {
        let (first, longest) = self.redelivery_ms;
        let doublings = failures.saturating_sub(1).min(32);
        first.saturating_mul(1 << doublings).min(longest)
    }

    /// Whether something is to be done for a proxy although no consumer is there.
    pub fn acts_alone(&self) -> bool {
        self.max_events > 0 || self.timeout_ms > 0
    }
}

/// What stays of a channel's newest events whoever has settled them: as much as all three allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct History {
    pub events: u64,
    pub bytes: u64,
    /// 0: no limit.
    pub age_ms: u64,
}

/// What holds for a lane and, when they are accepted, for events of it that ask for nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Supply {
    pub priority: i16,
    /// 0: never.
    pub timeout_ms: u64,
    /// How often it is polled, if it is.
    pub poll_ms: u64,
    /// How many events are asked for then.
    pub batch_max: u32,
    /// Against other lanes, where the channel's scheduling goes by weights.
    pub weight: u32,
    /// Against other lanes, where the channel's scheduling goes by priorities.
    pub urgency: i16,
}

impl Supply {
    /// What the settings of a lane, its supplier admin and its channel come to.
    pub fn new(lane: &Qos, admin: &Qos, channel: &Qos) -> Supply {
        let value = |property| Qos::resolve(&[lane, admin, channel], property);
        Supply {
            priority: value(Property::Priority) as i16,
            timeout_ms: value(Property::Timeout).unsigned_abs(),
            poll_ms: value(Property::PollInterval).unsigned_abs(),
            batch_max: value(Property::MaximumBatchSize).unsigned_abs() as u32,
            weight: value(Property::SchedulingWeight).unsigned_abs() as u32,
            urgency: value(Property::SchedulingPriority) as i16,
        }
    }
}

/// What holds for a channel as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Admission {
    /// Events stay in the leader's memory: no log, no disk, and lost with it.
    pub best_effort: bool,
    /// 0: no limit.
    pub max_queue_length: u64,
    /// Pending bytes at which publishes are refused.
    pub max_queue_bytes: u64,
    pub reject_new_events: bool,
    pub discard: Discard,
    /// 0: no limit of its own.
    pub max_consumers: u64,
    /// 0: no limit of its own.
    pub max_suppliers: u64,
    /// How long repeats are told by their ids; 0: not at all.
    pub dedup_ms: u64,
    pub scheduling: Scheduling,
    /// The same for its lanes.
    pub supplier_scheduling: Scheduling,
    pub history: History,
}

impl Default for Admission {
    fn default() -> Admission {
        Admission::new(&Qos::default())
    }
}

impl Admission {
    /// What the settings of a channel come to.
    pub fn new(channel: &Qos) -> Admission {
        let value = |property| Qos::resolve(&[channel], property);
        let best_effort = value(Property::EventReliability) == 1;
        let bytes_max = if best_effort { limits::BEST_EFFORT_BYTES_MAX } else { u64::MAX };
        Admission {
            best_effort,
            max_queue_length: value(Property::MaxQueueLength).unsigned_abs(),
            max_queue_bytes: value(Property::MaxQueueBytes).unsigned_abs().min(bytes_max),
            reject_new_events: value(Property::RejectNewEvents) != 0,
            discard: discard(value(Property::DiscardPolicy)),
            max_consumers: value(Property::MaxConsumers).unsigned_abs(),
            max_suppliers: value(Property::MaxSuppliers).unsigned_abs(),
            dedup_ms: value(Property::DedupWindow).unsigned_abs(),
            scheduling: scheduling(
                value(Property::SchedulingPolicy),
                value(Property::SchedulingAging),
            ),
            supplier_scheduling: scheduling(
                value(Property::SupplierSchedulingPolicy),
                value(Property::SupplierSchedulingAging),
            ),
            history: History {
                events: value(Property::HistoryEvents).unsigned_abs(),
                bytes: value(Property::HistoryBytes).unsigned_abs().min(bytes_max),
                age_ms: value(Property::HistoryAge).unsigned_abs(),
            },
        }
    }
}

fn scheduling(place: i64, aging: i64) -> Scheduling {
    match place {
        1 => Scheduling::Weighted,
        2 => Scheduling::Priority { aging_ms: aging.unsigned_abs() },
        3 => Scheduling::EarliestDeadline,
        _ => Scheduling::RoundRobin,
    }
}

fn discard(place: i64) -> Discard {
    match place {
        2 => Discard::Lifo,
        3 => Discard::Priority,
        4 => Discard::Deadline,
        _ => Discard::Fifo,
    }
}
