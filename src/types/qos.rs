//! Quality of service: the properties of OMG Notification Service 1.1, §2.5, and those that are
//! ours, from the scheduler's on.
//!
//! A property is set at a level (channel; consumer admin and its proxies; supplier admin and its
//! lanes; event) and holds for everything below it that does not set its own. [`Property::spec`] is the one table of names,
//! ranges, defaults and levels; nothing else knows them. docs/QOS.md is tested against it.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use thiserror::Error;

use super::limits;

/// Where a property can be set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    Channel,
    /// A ConsumerAdmin: a group of proxies that consumers are connected to.
    Admin,
    /// A SupplierProxy: what one consumer, or several that compete, are connected to.
    Proxy,
    /// An event's own header.
    Event,
    /// A SupplierAdmin: a group of lanes.
    SupplierAdmin,
    /// A ConsumerProxy: what one supplier is connected to.
    Lane,
}

/// A property of the quality of service. The numbers are written to disk: never change one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum Property {
    EventReliability = 0,
    ConnectionReliability = 1,
    Priority = 2,
    StartTime = 3,
    StopTime = 4,
    Timeout = 5,
    StartTimeSupported = 6,
    StopTimeSupported = 7,
    MaxEventsPerConsumer = 8,
    OrderPolicy = 9,
    DiscardPolicy = 10,
    MaximumBatchSize = 11,
    PacingInterval = 12,
    MaxQueueLength = 13,
    MaxConsumers = 14,
    MaxSuppliers = 15,
    RejectNewEvents = 16,
    SchedulingPolicy = 17,
    SchedulingAging = 18,
    SchedulingWeight = 19,
    SchedulingPriority = 20,
    RateLimit = 21,
    RedeliveryDelay = 22,
    RedeliveryDelayMax = 23,
    AckWait = 24,
    MaxDeliveries = 25,
    MaxInFlight = 26,
    MaxQueueBytes = 27,
    HistoryEvents = 28,
    HistoryBytes = 29,
    HistoryAge = 30,
    ExclusiveConsumer = 31,
    PollInterval = 32,
    SupplierSchedulingPolicy = 33,
    SupplierSchedulingAging = 34,
    DedupWindow = 35,
    InactivityExpiry = 36,
}

/// What values a property takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Domain {
    /// A whole number, both ends allowed.
    Number {
        min: i64,
        max: i64,
        unit: &'static str,
    },
    Flag,
    /// One of these words; the value is its place.
    Word(&'static [&'static str]),
}

/// A line of the table.
#[derive(Debug, Clone, Copy)]
pub struct Spec {
    pub property: Property,
    /// As in JSON and on the command line.
    pub name: &'static str,
    /// As in the OMG specification.
    pub omg: &'static str,
    pub domain: Domain,
    /// What holds where nobody says anything.
    pub default: i64,
    pub levels: &'static [Level],
    /// What it does, in a sentence.
    pub meaning: &'static str,
}

const RELIABILITY: Domain = Domain::Word(&["persistent", "best_effort"]);
const CONNECTIONS: Domain = Domain::Word(&["persistent"]);
const ORDERS: Domain = Domain::Word(&["any", "fifo", "priority", "deadline"]);
const DISCARDS: Domain = Domain::Word(&["any", "fifo", "lifo", "priority", "deadline"]);
const SCHEDULES: Domain =
    Domain::Word(&["round_robin", "weighted", "priority", "earliest_deadline"]);
/// Longest span a property may name, in milliseconds: 49 days.
const SPAN_MS: i64 = u32::MAX as i64;
/// Latest moment a property may name, in milliseconds since the Unix epoch: the year 9999.
const MOMENT_MS: i64 = 253_402_300_799_999;
const COUNT_MAX: i64 = 1 << 40;
const BYTES_MAX: i64 = 1 << 50;
/// Ten years in milliseconds.
const AGE_MS: i64 = 315_360_000_000;

const CHANNEL: &[Level] = &[Level::Channel];
const EVENT: &[Level] = &[Level::Event];
const CONSUMERS: &[Level] = &[Level::Admin, Level::Proxy];
const SERVED: &[Level] = &[Level::Admin, Level::Proxy, Level::SupplierAdmin, Level::Lane];
const SUPPLIERS: &[Level] = &[Level::Channel, Level::SupplierAdmin, Level::Lane];
/// What events inherit from whom they are supplied by.
const SUPPLIED: &[Level] = &[Level::Channel, Level::SupplierAdmin, Level::Lane, Level::Event];
const ABOVE_EVENT: &[Level] = &[Level::Channel, Level::Admin, Level::Proxy];

const fn number(min: i64, max: i64, unit: &'static str) -> Domain {
    Domain::Number { min, max, unit }
}

macro_rules! table {
    ($($property:ident $name:literal $omg:literal, $domain:expr, default $default:expr, $levels:expr, $meaning:literal;)*) => {
        const TABLE: &[Spec] = &[$(Spec {
            property: Property::$property,
            name: $name,
            omg: $omg,
            domain: $domain,
            default: $default,
            levels: $levels,
            meaning: $meaning,
        }),*];
    };
}

table! {
    EventReliability "event_reliability" "EventReliability", RELIABILITY, default 0, CHANNEL,
        "persistent: an accepted event is on the disks of a majority; best_effort: in the leader's memory alone, lost with it";
    ConnectionReliability "connection_reliability" "ConnectionReliability", CONNECTIONS, default 0, ABOVE_EVENT,
        "a proxy and what it waits for survive every restart";
    Priority "priority" "Priority", number(-32_767, 32_767, ""), default 0, SUPPLIED,
        "greater is more urgent; an event with priority 0 takes that of its lane, supplier admin or channel";
    StartTime "start_time" "StartTime", number(0, MOMENT_MS, "ms since 1970"), default 0, EVENT,
        "not delivered before this moment";
    StopTime "stop_time" "StopTime", number(0, MOMENT_MS, "ms since 1970"), default 0, EVENT,
        "expires at this moment; 0: never";
    Timeout "timeout" "Timeout", number(0, SPAN_MS, "ms"), default 0, &[Level::Channel, Level::Admin, Level::Proxy, Level::SupplierAdmin, Level::Lane, Level::Event],
        "expires so long after it was accepted; 0: never";
    StartTimeSupported "start_time_supported" "StartTimeSupported", Domain::Flag, default 1, ABOVE_EVENT,
        "whether start times of events are heeded";
    StopTimeSupported "stop_time_supported" "StopTimeSupported", Domain::Flag, default 1, ABOVE_EVENT,
        "whether stop times and timeouts that events have from their supplier or channel are heeded";
    MaxEventsPerConsumer "max_events_per_consumer" "MaxEventsPerConsumer", number(0, COUNT_MAX, "events"), default 0, ABOVE_EVENT,
        "unsettled events of one proxy beyond which its discard policy acts; 0: no limit";
    OrderPolicy "order_policy" "OrderPolicy", ORDERS, default 0, ABOVE_EVENT,
        "which event goes first; any: as fifo";
    DiscardPolicy "discard_policy" "DiscardPolicy", DISCARDS, default 0, ABOVE_EVENT,
        "which event goes when there are too many; any: as fifo, the oldest";
    MaximumBatchSize "maximum_batch_size" "MaximumBatchSize", number(1, limits::FRAME_EVENTS_MAX as i64, "events"), default limits::FRAME_EVENTS_MAX as i64, &[Level::Channel, Level::Admin, Level::Proxy, Level::SupplierAdmin, Level::Lane],
        "most events handed over at once, or asked of a supplier that is polled";
    PacingInterval "pacing_interval" "PacingInterval", number(0, 3_600_000, "ms"), default 0, ABOVE_EVENT,
        "events are collected so long into a batch, unless it is full before; 0: they go at once";
    MaxQueueLength "max_queue_length" "MaxQueueLength", number(0, COUNT_MAX, "events"), default 0, CHANNEL,
        "events of the channel that some proxy waits for; 0: no limit but that of bytes";
    MaxConsumers "max_consumers" "MaxConsumers", number(0, limits::PROXIES_PER_CHANNEL_MAX as i64, "proxies"), default 0, CHANNEL,
        "durable proxies of the channel; 0: as many as a channel may have";
    MaxSuppliers "max_suppliers" "MaxSuppliers", number(0, limits::LANES_MAX as i64, "lanes"), default 0, &[Level::Channel, Level::SupplierAdmin],
        "lanes of the channel, or of the supplier admin; 0: as many as a cluster may have";
    RejectNewEvents "reject_new_events" "RejectNewEvents", Domain::Flag, default 1, CHANNEL,
        "at max_queue_length: whether new events are refused, or the discard policy of the channel acts";
    SchedulingPolicy "scheduling_policy" "SchedulingPolicy", SCHEDULES, default 0, CHANNEL,
        "which proxy is served next when there is more to do than at once";
    SchedulingAging "scheduling_aging" "SchedulingAging", number(0, 3_600_000, "ms"), default 1000, CHANNEL,
        "under priority: a proxy rises by 1 for each such span that it waits; 0: never";
    SchedulingWeight "scheduling_weight" "SchedulingWeight", number(1, 1000, ""), default 1, SERVED,
        "under weighted: the share of a proxy or lane against others";
    SchedulingPriority "scheduling_priority" "SchedulingPriority", number(-32_767, 32_767, ""), default 0, SERVED,
        "under priority: the priority of a proxy or lane against others";
    RateLimit "rate_limit" "RateLimit", number(0, 1_000_000_000, "events per second"), default 0, ABOVE_EVENT,
        "most events delivered in a second, redeliveries included; 0: no limit";
    RedeliveryDelay "redelivery_delay" "RedeliveryDelay", number(0, 3_600_000, "ms"), default 0, ABOVE_EVENT,
        "pause before an event goes again that failed; doubled by each further failure";
    RedeliveryDelayMax "redelivery_delay_max" "RedeliveryDelayMax", number(1, 3_600_000, "ms"), default 60_000, ABOVE_EVENT,
        "longest such pause";
    AckWait "ack_wait" "AckWait", number(1, 86_400_000, "ms"), default limits::ACK_WAIT_MS as i64, ABOVE_EVENT,
        "lease of a delivery: not settled by then, the event goes again";
    MaxDeliveries "max_deliveries" "MaxDeliveries", number(0, 1_000_000, "deliveries"), default 0, ABOVE_EVENT,
        "after so many failed deliveries an event is a dead letter; 0: no limit";
    MaxInFlight "max_in_flight" "MaxInFlight", number(1, limits::CREDIT_EVENTS_MAX as i64, "events"), default limits::PROXY_IN_FLIGHT as i64, ABOVE_EVENT,
        "events of a proxy that are out or wait to go again, over all its clients";
    MaxQueueBytes "max_queue_bytes" "MaxQueueBytes", number(1, BYTES_MAX, "bytes"), default limits::CHANNEL_BYTES_MAX as i64, CHANNEL,
        "bytes of events that some proxy waits for; at the limit publishes are refused";
    HistoryEvents "history_events" "HistoryEvents", number(0, COUNT_MAX, "events"), default limits::HISTORY_EVENTS as i64, CHANNEL,
        "newest events kept whoever has settled them";
    HistoryBytes "history_bytes" "HistoryBytes", number(0, BYTES_MAX, "bytes"), default limits::HISTORY_BYTES as i64, CHANNEL,
        "the same in bytes; whichever limit comes first counts";
    HistoryAge "history_age" "HistoryAge", number(0, AGE_MS, "ms"), default 0, CHANNEL,
        "events older than this leave the history, whatever the other limits say; 0: no limit";
    ExclusiveConsumer "exclusive_consumer" "ExclusiveConsumer", Domain::Flag, default 0, CONSUMERS,
        "whether one of the proxy's clients gets all events, and the others stand by";
    PollInterval "poll_interval" "PollInterval", number(1, 3_600_000, "ms"), default 100, SUPPLIERS,
        "a supplier that is polled is asked so often, and at once again while it gives as many events as asked for";
    SupplierSchedulingPolicy "supplier_scheduling_policy" "SupplierSchedulingPolicy", SCHEDULES, default 0, CHANNEL,
        "which lane is served next when more comes in than goes into the log at once";
    SupplierSchedulingAging "supplier_scheduling_aging" "SupplierSchedulingAging", number(0, 3_600_000, "ms"), default 1000, CHANNEL,
        "under priority: a lane rises by 1 for each such span that it waits; 0: never";
    DedupWindow "dedup_window" "DedupWindow", number(0, 3_600_000, "ms"), default 120_000, CHANNEL,
        "a repeat of an event with the same id is no new event for so long after it, among the latest 10,000; 0: it is";
    InactivityExpiry "inactivity_expiry" "InactivityExpiry", number(0, AGE_MS, "ms"), default 0, ABOVE_EVENT,
        "a proxy without a client for so long is deleted; 0: never";
}

impl Property {
    /// All properties with what is to know of them, in the order of the specification.
    pub fn all() -> &'static [Spec] {
        TABLE
    }

    /// What is to know of it.
    pub fn spec(self) -> &'static Spec {
        &TABLE[self as usize]
    }

    fn of_number(number: u8) -> Option<Property> {
        TABLE.get(usize::from(number)).map(|spec| spec.property)
    }
}

impl fmt::Display for Property {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.spec().name)
    }
}

/// By its name here or in the specification, in whatever case, with or without underscores.
impl FromStr for Property {
    type Err = QosError;

    fn from_str(text: &str) -> Result<Property, QosError> {
        let plain = |name: &str| name.replace(['_', '-'], "").to_ascii_lowercase();
        let found = TABLE.iter().find(|spec| plain(spec.omg) == plain(text));
        found.map(|spec| spec.property).ok_or_else(|| QosError::BadProperty(text.to_string()))
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Level::Channel => "channel",
            Level::Admin => "admin",
            Level::Proxy => "proxy",
            Level::Event => "event",
            Level::SupplierAdmin => "supplier admin",
            Level::Lane => "lane",
        })
    }
}

impl fmt::Display for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Domain::Number { min, max, unit } => {
                write!(f, "{min} to {max}")?;
                if unit.is_empty() { Ok(()) } else { write!(f, " {unit}") }
            }
            Domain::Flag => f.write_str("true, false"),
            Domain::Word(words) => f.write_str(&words.join(", ")),
        }
    }
}

impl Domain {
    /// Whether it is a value of this domain.
    pub fn holds(self, value: i64) -> bool {
        match self {
            Domain::Number { min, max, .. } => (min..=max).contains(&value),
            Domain::Flag => value == 0 || value == 1,
            Domain::Word(words) => usize::try_from(value).is_ok_and(|place| place < words.len()),
        }
    }

    /// A value as people write it.
    pub fn show(self, value: i64) -> String {
        match self {
            Domain::Number { .. } => value.to_string(),
            Domain::Flag => (value != 0).to_string(),
            Domain::Word(words) => {
                let word = usize::try_from(value).ok().and_then(|place| words.get(place));
                word.map_or_else(|| value.to_string(), |word| (*word).to_string())
            }
        }
    }

    fn read(self, text: &str) -> Option<i64> {
        match self {
            Domain::Number { .. } => text.parse().ok(),
            Domain::Flag => text.parse::<bool>().ok().map(i64::from),
            Domain::Word(words) => {
                let place = words.iter().position(|word| word.eq_ignore_ascii_case(text));
                place.map(|place| place as i64)
            }
        }
    }
}

/// Why a property cannot be set so. The names are those of OMG's `QoSError_code`.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum QosError {
    #[error("bad_property: there is no property '{0}'; `qos properties` lists them")]
    BadProperty(String),
    #[error("bad_value: {property} cannot be '{value}'; allowed: {}", property.spec().domain)]
    BadValue { property: Property, value: String },
    #[error(
        "unavailable_property: {property} is not set on {}; set it on {}",
        article(*level), levels(*property)
    )]
    Unavailable { property: Property, level: Level },
}

fn article(level: Level) -> String {
    let article = if matches!(level, Level::Admin | Level::Event) { "an" } else { "a" };
    format!("{article} {level}")
}

fn levels(property: Property) -> String {
    let levels: Vec<String> = property.spec().levels.iter().map(|l| article(*l)).collect();
    levels.join(", ")
}

/// A property and its new value, or none to inherit it again.
pub type QosChange = (Property, Option<i64>);

/// What is set at one level: properties that are not in it are inherited.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Qos(BTreeMap<Property, i64>);

impl Qos {
    /// Whether nothing is set.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The value set here, if any; flags are 0 or 1, words their place in [`Domain::Word`].
    pub fn get(&self, property: Property) -> Option<i64> {
        self.0.get(&property).copied()
    }

    /// Sets a value, or inherits again; the value is checked by [`Qos::check`].
    pub fn set(&mut self, property: Property, value: Option<i64>) {
        match value {
            Some(value) => self.0.insert(property, value),
            None => self.0.remove(&property),
        };
    }

    /// Reads `value` for the property; `inherit` takes away what is set.
    pub fn parse(property: Property, value: &str) -> Result<Option<i64>, QosError> {
        if value == "inherit" {
            return Ok(None);
        }
        let bad = || QosError::BadValue { property, value: value.to_string() };
        let domain = property.spec().domain;
        domain.read(value).filter(|v| domain.holds(*v)).map(Some).ok_or_else(bad)
    }

    /// What is set, in the order of the table.
    pub fn iter(&self) -> impl Iterator<Item = (Property, i64)> + '_ {
        self.0.iter().map(|(property, value)| (*property, *value))
    }

    /// Everything that cannot be set so at this level.
    pub fn check(&self, level: Level) -> Vec<QosError> {
        let check = |(property, value): (Property, i64)| {
            let spec = property.spec();
            if !spec.levels.contains(&level) {
                return Some(QosError::Unavailable { property, level });
            }
            let bad = !spec.domain.holds(value);
            bad.then(|| QosError::BadValue { property, value: value.to_string() })
        };
        self.iter().filter_map(check).collect()
    }

    /// Carries out changes: a value each, or nothing to inherit again.
    pub fn change(&mut self, changes: &[QosChange]) {
        changes.iter().for_each(|(property, value)| self.set(*property, *value));
    }

    /// The first value set among these levels, narrowest first, or the default.
    pub fn resolve(levels: &[&Qos], property: Property) -> i64 {
        let set = levels.iter().find_map(|qos| qos.get(property));
        set.unwrap_or(property.spec().default)
    }
}

impl<const N: usize> From<[(Property, i64); N]> for Qos {
    fn from(set: [(Property, i64); N]) -> Qos {
        Qos(set.into())
    }
}

/// People and JSON see names and words; on disk and in the log there are numbers.
impl Serialize for Qos {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if !serializer.is_human_readable() {
            return serializer.collect_map(self.iter().map(|(p, value)| (p as u8, value)));
        }
        serializer.collect_map(self.iter().map(|(p, value)| (p.spec().name, Shown(p, value))))
    }
}

/// A value in JSON: a number, a flag or a word.
struct Shown(Property, i64);

impl Serialize for Shown {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0.spec().domain {
            Domain::Number { .. } => serializer.serialize_i64(self.1),
            Domain::Flag => serializer.serialize_bool(self.1 != 0),
            word => serializer.serialize_str(&word.show(self.1)),
        }
    }
}

/// What [`Shown`] can be read from.
#[derive(Deserialize)]
#[serde(untagged)]
enum Read {
    Flag(bool),
    Number(i64),
    Word(String),
}

impl<'de> Deserialize<'de> for Qos {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Qos, D::Error> {
        if deserializer.is_human_readable() {
            let named = BTreeMap::<String, Read>::deserialize(deserializer)?;
            let entries = named.into_iter().map(|(name, read)| {
                let property = name.parse::<Property>()?;
                let text = match read {
                    Read::Flag(flag) => flag.to_string(),
                    Read::Number(number) => number.to_string(),
                    Read::Word(word) => word,
                };
                Ok((property, Qos::parse(property, &text)?))
            });
            let entries: Result<Vec<_>, QosError> = entries.collect();
            let set = entries.map_err(de::Error::custom)?;
            return Ok(Qos(set.into_iter().filter_map(|(p, value)| Some((p, value?))).collect()));
        }
        let numbered = BTreeMap::<u8, i64>::deserialize(deserializer)?;
        let entries = numbered
            .into_iter()
            .map(|(number, value)| Property::of_number(number).map(|property| (property, value)));
        let entries: Option<BTreeMap<_, _>> = entries.collect();
        // Whoever takes it checks the values.
        entries.map(Qos).ok_or_else(|| de::Error::custom("a property that is unknown here"))
    }
}

#[cfg(test)]
mod tests {
    use super::super::service::{Order, Service};
    use super::*;

    #[test]
    fn the_table_is_in_the_order_of_numbers_and_its_defaults_are_allowed() {
        for (number, spec) in TABLE.iter().enumerate() {
            assert_eq!(spec.property as usize, number);
            assert!(spec.domain.holds(spec.default), "{}", spec.name);
            assert_eq!(spec.omg.parse(), Ok(spec.property));
            assert_eq!(spec.name.parse(), Ok(spec.property));
        }
    }

    #[test]
    fn the_narrowest_level_that_says_something_counts() {
        let mut levels = [Qos::default(), Qos::default(), Qos::default()];
        let order = |[proxy, admin, channel]: &[Qos; 3]| Service::new(proxy, admin, channel).order;
        assert_eq!(order(&levels), Order::Fifo);
        levels[2].set(Property::OrderPolicy, Some(2));
        assert_eq!(order(&levels), Order::Priority);
        levels[0].set(Property::OrderPolicy, Some(3));
        assert_eq!(order(&levels), Order::Deadline);
        levels[0].set(Property::OrderPolicy, None);
        levels[1].set(Property::OrderPolicy, Some(0));
        assert_eq!(order(&levels), Order::Fifo);
    }

    #[test]
    fn what_is_wrong_is_said_with_what_would_be_right() {
        let said = |property, value| Qos::parse(property, value).unwrap_err().to_string();
        let words = said(Property::OrderPolicy, "random");
        assert!(words.contains("bad_value") && words.contains("any, fifo, priority, deadline"));
        assert!(said(Property::Priority, "40000").contains("-32767 to 32767"));
        assert!("Colour".parse::<Property>().unwrap_err().to_string().contains("bad_property"));
        let mut qos = Qos::default();
        qos.set(Property::MaxQueueLength, Some(5));
        qos.set(Property::PacingInterval, Some(-1));
        qos.set(Property::StopTimeSupported, Some(2));
        let said: Vec<String> = qos.check(Level::Proxy).iter().map(ToString::to_string).collect();
        assert!(said[0].contains("stop_time_supported cannot be '2'"), "{said:?}");
        assert!(said[1].contains("pacing_interval") && said[1].contains("bad_value"), "{said:?}");
        assert!(said[2].contains("unavailable_property") && said[2].contains("a channel"));
    }

    #[test]
    fn json_has_names_and_words_and_the_log_has_numbers() {
        let mut qos = Qos::default();
        qos.set(Property::OrderPolicy, Some(2));
        qos.set(Property::RejectNewEvents, Some(0));
        qos.set(Property::Priority, Some(-3));
        let json = serde_json::to_string(&qos).unwrap();
        assert_eq!(json, r#"{"priority":-3,"order_policy":"priority","reject_new_events":false}"#);
        assert_eq!(serde_json::from_str::<Qos>(&json).unwrap(), qos);
        let bytes = postcard::to_stdvec(&qos).unwrap();
        assert_eq!(bytes, [3, 2, 5, 9, 4, 16, 0]);
        assert_eq!(postcard::from_bytes::<Qos>(&bytes).unwrap(), qos);
        assert!(postcard::from_bytes::<Qos>(&[1, 200, 0]).is_err());
        let wrong = serde_json::from_str::<Qos>(r#"{"priority":"high"}"#).unwrap_err();
        assert!(wrong.to_string().contains("-32767 to 32767"), "{wrong}");
    }
}
