//! What is said of quality of service: `qos`, `admin`, `proxy`.

use clap::{Args, Subcommand};

use crate::cli::asked::{property_change, property_value, property_words};
use crate::cli::connect::start;
use crate::types::{Name, QosChange, Side, Start, TypePattern};
use crate::wire::admin::Target;

#[derive(Debug, Subcommand)]
pub enum Qos {
    /// List the properties: levels, values, defaults, what they do; asks no node
    Properties,
    /// Show what holds for a channel, an admin, a proxy or a lane, and where it comes from
    #[command(after_help = "Examples:
  aqueduct qos get orders
  aqueduct qos get orders --admin fast
  aqueduct qos get orders --proxy billing --output json
  aqueduct qos get orders --supplier-admin sensors")]
    Get {
        #[command(flatten)]
        target: QosTarget,
    },
    /// Set properties; all of them, or none if one cannot be
    #[command(after_help = "Examples:
  aqueduct qos set orders max_queue_length=10000 reject_new_events=true
  aqueduct qos set orders --admin fast order_policy=priority timeout=60000
  aqueduct qos set orders --proxy billing order_policy=inherit")]
    Set {
        #[command(flatten)]
        target: QosTarget,
        /// Property and value; the value `inherit` takes away what is set.
        #[arg(required = true, value_name = "PROPERTY=VALUE", value_parser = property_change)]
        changes: Vec<QosChange>,
    },
    /// Ask whether properties could be set so, and what could be set; exits 1 if they could not
    #[command(after_help = "Example:
  aqueduct qos validate orders --proxy billing order_policy=random")]
    Validate {
        #[command(flatten)]
        target: QosTarget,
        /// Property and value; the value `inherit` takes away what is set.
        #[arg(value_name = "PROPERTY=VALUE", value_parser = property_words)]
        wish: Vec<(String, String)>,
    },
}

/// Whose quality of service.
#[derive(Debug, Args)]
pub struct QosTarget {
    /// Name of the channel.
    pub channel: Name,
    /// Of this consumer admin.
    #[arg(long, value_name = "NAME", group = "whose")]
    pub admin: Option<Name>,
    /// Of this proxy, that is, of the durable consumer of this name.
    #[arg(long, value_name = "NAME", group = "whose")]
    pub proxy: Option<Name>,
    /// Of this supplier admin.
    #[arg(long, value_name = "NAME", group = "whose")]
    pub supplier_admin: Option<Name>,
    /// Of the lane of this name, that is, of what a supplier is connected to.
    #[arg(long, value_name = "NAME", group = "whose")]
    pub lane: Option<Name>,
}

impl QosTarget {
    /// The same for the admin service.
    pub fn target(&self) -> Target {
        let channel = self.channel.clone();
        match (&self.admin, &self.proxy, &self.supplier_admin, &self.lane) {
            (Some(admin), ..) => {
                Target::Admin { channel, side: Side::Consumer, admin: admin.clone() }
            }
            (_, Some(proxy), ..) => Target::Proxy { channel, proxy: proxy.clone() },
            (_, _, Some(admin), _) => {
                Target::Admin { channel, side: Side::Supplier, admin: admin.clone() }
            }
            (.., Some(lane)) => Target::Lane { channel, lane: lane.clone() },
            (None, None, None, None) => Target::Channel { channel },
        }
    }
}

const SUBSCRIBE_HELP: &str = "The first patterns narrow what was everything before. \
An event goes to a proxy if one of its patterns picks its type, and one of its admin's; \
whoever has no patterns picks all. Quote them: the shell has a use for *, too.";

#[derive(Debug, Subcommand)]
pub enum Admin {
    /// Create an admin
    #[command(after_help = "Examples:
  aqueduct admin create orders fast --qos order_policy=priority --qos pacing_interval=100
  aqueduct admin create orders sensors --supplier --qos priority=-5,timeout=60000")]
    Create(AdminCreate),
    /// List the admins of a channel, of both sides
    Ls {
        /// Name of the channel.
        channel: Name,
    },
    /// Show an admin: its quality of service and its proxies or lanes
    Show(AdminName),
    /// Remove an admin with its proxies, or with its lanes, which ends their suppliers
    Rm(AdminName),
    /// Let its proxies get events of these types, too
    #[command(after_help = SUBSCRIBE_HELP)]
    Subscribe(AdminTypes),
    /// Take patterns of types away; without any left its proxies get all types
    Unsubscribe(AdminTypes),
    /// Let its proxies deliver nothing, while what comes waits; or its lanes take nothing, while
    /// their suppliers wait
    Suspend(AdminName),
    /// Let its proxies deliver again, or its lanes take events
    Resume(AdminName),
}

#[derive(Debug, Args)]
pub struct AdminCreate {
    #[command(flatten)]
    pub of: AdminName,
    /// Property to set, as in order_policy=priority; may be repeated. `aqueduct qos properties`
    /// lists them.
    #[arg(long, value_name = "PROPERTY=VALUE", value_delimiter = ',', value_parser = property_value)]
    pub qos: Vec<QosChange>,
    /// Types of events that its proxies get, as in 'telecom::*'; may be repeated [default: all].
    #[arg(long = "type", value_name = "PATTERN")]
    pub types: Vec<TypePattern>,
}

#[derive(Debug, Args)]
pub struct AdminTypes {
    #[command(flatten)]
    pub of: AdminName,
    /// Patterns of types: 'domain::type', or 'type' of any domain; `*` stands for any text.
    #[arg(required = true, value_name = "PATTERN")]
    pub patterns: Vec<TypePattern>,
}

/// An admin of a channel.
#[derive(Debug, Args)]
pub struct AdminName {
    /// Name of the channel.
    pub channel: Name,
    /// Name of the admin.
    pub name: Name,
    /// A supplier admin, a group of lanes, instead of a consumer admin.
    #[arg(long)]
    pub supplier: bool,
}

impl AdminName {
    /// Which side it is of.
    pub fn side(&self) -> Side {
        if self.supplier { Side::Supplier } else { Side::Consumer }
    }
}

#[derive(Debug, Subcommand)]
pub enum Proxy {
    /// Create a durable proxy; consumers attach to it by its name
    #[command(after_help = "Examples:
  aqueduct proxy create orders billing --admin fast --from all
  aqueduct proxy create orders audit --qos max_events_per_consumer=1000,discard_policy=fifo")]
    Create(ProxyCreate),
    /// List what consumers and suppliers of a channel are connected to, and why
    Ls {
        /// Name of the channel.
        channel: Name,
    },
    /// Show a proxy: how it delivers, its quality of service, its ledger
    Show(ProxyName),
    /// Remove a durable proxy; what it has not settled is no longer kept for it
    Rm(ProxyName),
    /// Let it get events of these types, too
    #[command(after_help = SUBSCRIBE_HELP)]
    Subscribe(ProxyTypes),
    /// Take patterns of types away; without any left it gets all types
    Unsubscribe(ProxyTypes),
    /// Let it deliver nothing, while what comes waits; or with --lane, take nothing
    Suspend(ProxyOrLane),
    /// Let it deliver, or take events, again
    Resume(ProxyOrLane),
}

#[derive(Debug, Args)]
pub struct ProxyCreate {
    #[command(flatten)]
    pub of: ProxyName,
    /// Consumer admin that it is of [default: default].
    #[arg(long, value_name = "NAME")]
    pub admin: Option<Name>,
    /// Property to set, as in order_policy=priority; may be repeated. `aqueduct qos properties`
    /// lists them.
    #[arg(long, value_name = "PROPERTY=VALUE", value_delimiter = ',', value_parser = property_value)]
    pub qos: Vec<QosChange>,
    /// Types of events that it wants, as in 'telecom::*'; may be repeated [default: all].
    #[arg(long = "type", value_name = "PATTERN")]
    pub types: Vec<TypePattern>,
    /// Where it starts: new, all, seq:N, or time:T (T: -DURATION ago, 2027-01-31T12:00:00Z, or
    /// milliseconds since 1970).
    #[arg(long, default_value = "new", value_parser = start)]
    pub from: Start,
    /// Redeliver what is not settled after so many milliseconds.
    #[arg(long, value_name = "MS")]
    pub ack_wait_ms: Option<u64>,
    /// After so many deliveries an event goes to the dead-letter channel CHANNEL.dead.
    #[arg(long, value_name = "N")]
    pub max_deliveries: Option<u32>,
    /// Unsettled deliveries at a time, over all clients of the proxy.
    #[arg(long, value_name = "N")]
    pub max_in_flight: Option<u32>,
}

#[derive(Debug, Args)]
pub struct ProxyTypes {
    #[command(flatten)]
    pub of: ProxyName,
    /// Patterns of types: 'domain::type', or 'type' of any domain; `*` stands for any text.
    #[arg(required = true, value_name = "PATTERN")]
    pub patterns: Vec<TypePattern>,
}

/// A durable proxy of a channel.
#[derive(Debug, Args)]
pub struct ProxyName {
    /// Name of the channel.
    pub channel: Name,
    /// Name of the proxy, that is, of the durable consumer.
    pub name: Name,
}

/// A durable proxy of a channel, or a lane that has a name.
#[derive(Debug, Args)]
pub struct ProxyOrLane {
    #[command(flatten)]
    pub of: ProxyName,
    /// The name is that of a lane, a supplier's proxy.
    #[arg(long)]
    pub lane: bool,
}

/// The job scheduler. Its policy, and what proxies bring before it, are properties of the quality
/// of service: see `aqueduct qos properties`.
#[derive(Debug, Subcommand)]
pub enum Scheduler {
    /// Show the policies of a channel, what they promise, and how long each proxy and lane waits
    Show { channel: Name },
}
