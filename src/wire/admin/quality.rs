//! Quality of service, admins and proxies, in the words of the admin service. Field names
//! are a contract with scripts: add, never rename.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::ProxyReport;
use crate::types::{
    Domain, EventType, Level, Name, Property, Qos, QosChange, QosError, Seq, Side, Start,
    Subscription,
};

/// What a question about the quality of service is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    Channel {
        channel: Name,
    },
    Admin {
        channel: Name,
        #[serde(default)]
        side: Side,
        admin: Name,
    },
    Proxy {
        channel: Name,
        proxy: Name,
    },
    /// A lane that has a name.
    Lane {
        channel: Name,
        lane: Name,
    },
}

impl Target {
    /// The channel, or that of the admin or proxy.
    pub fn channel(&self) -> &Name {
        match self {
            Target::Channel { channel }
            | Target::Admin { channel, .. }
            | Target::Proxy { channel, .. }
            | Target::Lane { channel, .. } => channel,
        }
    }

    /// Its own name.
    pub fn name(&self) -> &Name {
        match self {
            Target::Channel { channel: name }
            | Target::Admin { admin: name, .. }
            | Target::Proxy { proxy: name, .. }
            | Target::Lane { lane: name, .. } => name,
        }
    }

    /// The level on which its properties are set.
    pub fn level(&self) -> Level {
        match self {
            Target::Channel { .. } => Level::Channel,
            Target::Admin { side, .. } => side.admin_level(),
            Target::Proxy { .. } => Level::Proxy,
            Target::Lane { .. } => Level::Lane,
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::Channel { channel } => write!(f, "channel '{channel}'"),
            Target::Admin { channel, admin, .. } => {
                write!(f, "{} '{admin}' of channel '{channel}'", self.level())
            }
            Target::Proxy { channel, proxy } => write!(f, "proxy '{proxy}' of channel '{channel}'"),
            Target::Lane { channel, lane } => write!(f, "lane '{lane}' of channel '{channel}'"),
        }
    }
}

/// Names of properties and their values, as people write them; the value `inherit` takes away what
/// is set. Words, so that a node can say what is wrong with those it does not know.
pub type QosWish = BTreeMap<String, String>;

/// The wish for what is set.
pub fn qos_wish(changes: &[QosChange]) -> QosWish {
    let text = |(property, value): &QosChange| {
        let spec = property.spec();
        let value = value.map_or_else(|| "inherit".to_string(), |value| spec.domain.show(value));
        (spec.name.to_string(), value)
    };
    changes.iter().map(text).collect()
}

/// The changes that a wish asks for at this level, or everything that is wrong with it.
pub fn read_wish(level: Level, wish: &QosWish) -> Result<Vec<QosChange>, Vec<QosFault>> {
    let (mut changes, mut faults) = (Vec::new(), Vec::new());
    for (name, value) in wish {
        match read_property(level, name, value) {
            Ok(change) => changes.push(change),
            Err(error) => faults.push(QosFault::new(&error, name, value)),
        }
    }
    if faults.is_empty() { Ok(changes) } else { Err(faults) }
}

fn read_property(level: Level, name: &str, value: &str) -> Result<QosChange, QosError> {
    let property: Property = name.parse()?;
    if !property.spec().levels.contains(&level) {
        return Err(QosError::Unavailable { property, level });
    }
    Ok((property, Qos::parse(property, value)?))
}

/// A property that cannot be set so.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct QosFault {
    /// OMG's `QoSError_code`: `bad_property`, `bad_value`, `unavailable_property`.
    pub code: String,
    /// As it was written.
    pub property: String,
    /// As it was written.
    pub value: String,
    /// What would be allowed: values, or levels.
    pub allowed: String,
    /// All of this in a sentence.
    pub message: String,
}

impl QosFault {
    fn new(error: &QosError, property: &str, value: &str) -> QosFault {
        let (code, allowed) = match error {
            QosError::BadProperty(_) => ("bad_property", "what `qos properties` lists".into()),
            QosError::BadValue { property, .. } => {
                ("bad_value", property.spec().domain.to_string())
            }
            QosError::Unavailable { property, .. } => ("unavailable_property", levels(*property)),
        };
        QosFault {
            code: code.into(),
            property: property.into(),
            value: value.into(),
            allowed,
            message: error.to_string(),
        }
    }
}

fn levels(property: Property) -> String {
    let levels: Vec<String> = property.spec().levels.iter().map(ToString::to_string).collect();
    format!("on {}", levels.join(", "))
}

/// A value of a property in JSON: a flag, a number or a word.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum PropertyValue {
    Flag(bool),
    Number(i64),
    Word(String),
}

impl PropertyValue {
    /// The value as the table of properties has it.
    pub fn new(property: Property, value: i64) -> PropertyValue {
        match property.spec().domain {
            Domain::Flag => PropertyValue::Flag(value != 0),
            Domain::Number { .. } => PropertyValue::Number(value),
            word => PropertyValue::Word(word.show(value)),
        }
    }
}

impl fmt::Display for PropertyValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PropertyValue::Flag(flag) => flag.fmt(f),
            PropertyValue::Number(number) => number.fmt(f),
            PropertyValue::Word(word) => word.fmt(f),
        }
    }
}

/// Where a value comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// Nobody set it.
    Default,
    Channel,
    Admin,
    Proxy,
    SupplierAdmin,
    Lane,
}

impl Origin {
    /// The stable name used in JSON and tables.
    pub fn as_str(self) -> &'static str {
        match self {
            Origin::Default => "default",
            Origin::Channel => "channel",
            Origin::Admin => "admin",
            Origin::Proxy => "proxy",
            Origin::SupplierAdmin => "supplier admin",
            Origin::Lane => "lane",
        }
    }
}

/// A property at one level: what is set there, and what would hold without it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PropertyReport {
    pub property: Property,
    /// What is set here, if anything.
    pub own: Option<PropertyValue>,
    /// What holds if nothing is set here.
    pub inherited: PropertyValue,
    pub inherited_from: Origin,
    pub default: PropertyValue,
    /// What holds.
    pub effective: PropertyValue,
    pub effective_from: Origin,
    /// The values that it can have, in words.
    pub allowed: String,
    /// Of numbers; may be empty.
    #[serde(default)]
    pub unit: String,
    /// What it does.
    #[serde(default)]
    pub meaning: String,
}

/// The quality of service of a channel, an admin, a proxy or a lane.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct QosReport {
    pub channel: Name,
    pub level: Level,
    /// The admin asked about, or that of the proxy or lane.
    pub admin: Option<Name>,
    pub proxy: Option<Name>,
    #[serde(default)]
    pub lane: Option<Name>,
    /// What is set here.
    pub qos: Qos,
    /// All properties that can be set here.
    pub properties: Vec<PropertyReport>,
}

/// Where a change took hold: what is decided once the log entry at `index` is applied follows it,
/// for all events; `next_seq` is the first event that had not been accepted before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cut {
    pub index: u64,
    pub next_seq: Seq,
}

/// Answer to a change of the quality of service: what it is now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct QosSet {
    #[serde(flatten)]
    pub report: QosReport,
    pub cut: Cut,
}

/// What could be set, and to what.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PropertyRange {
    pub property: Property,
    pub allowed: String,
    /// Of numbers; may be empty.
    #[serde(default)]
    pub unit: String,
    pub default: PropertyValue,
}

/// Answer to a validation: whether these properties could be set so. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct QosValidation {
    pub ok: bool,
    pub level: Level,
    pub errors: Vec<QosFault>,
    /// All properties that can be set there.
    pub possible: Vec<PropertyRange>,
}

impl QosValidation {
    /// What there is to say of a wish at this level.
    pub fn new(level: Level, wish: &QosWish) -> QosValidation {
        let errors = read_wish(level, wish).err().unwrap_or_default();
        let settable = Property::all().iter().filter(|spec| spec.levels.contains(&level));
        let range = |property: Property| PropertyRange {
            property,
            allowed: property.spec().domain.to_string(),
            unit: unit(property).into(),
            default: PropertyValue::new(property, property.spec().default),
        };
        let possible = settable.map(|spec| range(spec.property)).collect();
        QosValidation { ok: errors.is_empty(), level, errors, possible }
    }
}

/// The unit of a property that is a number; may be empty.
pub fn unit(property: Property) -> &'static str {
    match property.spec().domain {
        Domain::Number { unit, .. } => unit,
        Domain::Flag | Domain::Word(_) => "",
    }
}

/// An admin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AdminReport {
    pub name: Name,
    #[serde(default)]
    pub side: Side,
    /// What is set for it.
    pub qos: Qos,
    /// Its proxies deliver nothing, or its lanes take nothing.
    pub suspended: bool,
    /// Of a consumer admin: the types of events that its proxies get, as far as they want them
    /// themselves; none named: all.
    #[serde(default)]
    pub types: Subscription,
    /// How many durable proxies are of it, or lanes.
    pub proxies: u64,
}

/// The admins of a channel: first those of consumers, then those of suppliers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AdminList {
    pub channel: Name,
    pub admins: Vec<AdminReport>,
}

/// Answer to a change of the admins of a channel: the admin as it is now, or was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AdminChanged {
    pub channel: Name,
    #[serde(flatten)]
    pub admin: AdminReport,
    pub cut: Cut,
}

/// A durable proxy to be created.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProxyWish {
    pub name: Name,
    /// Where it begins; of no matter to one that exists.
    #[serde(default)]
    pub start: Start,
    /// `None`: the default one, or whichever an existing proxy is of.
    #[serde(default)]
    pub admin: Option<Name>,
    #[serde(default)]
    pub qos: QosWish,
    /// The types of events that it wants; none named: all, or whatever an existing one wants.
    #[serde(default)]
    pub types: Subscription,
}

/// Answer to the creation of a proxy.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProxyCreated {
    pub channel: Name,
    /// False: it was there, with all that was asked for.
    pub created: bool,
    /// The first event offered to it.
    pub start_seq: Seq,
    #[serde(flatten)]
    pub proxy: ProxyReport,
}

/// Answer to a suspension, or the end of one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Suspension {
    pub channel: Name,
    pub level: Level,
    /// Of the admin, proxy or lane.
    pub name: Name,
    pub suspended: bool,
    pub cut: Cut,
}

/// Answer to a change of subscription: what an admin or a proxy wants now; no patterns: everything.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subscribed {
    pub channel: Name,
    pub level: Level,
    /// Of the admin or proxy.
    pub name: Name,
    pub types: Subscription,
    pub cut: Cut,
}

/// A type that events of a channel have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OfferedType {
    #[serde(flatten)]
    pub event_type: EventType,
    /// Retained events of it.
    pub events: u64,
}

/// The types of a channel's retained events (OMG `obtain_offered_types`), in order. Events without a
/// type are not counted here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OfferedTypes {
    pub channel: Name,
    pub types: Vec<OfferedType>,
}
