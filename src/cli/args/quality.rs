//! What is said of quality of service: `qos`, `admin`, `proxy`.

use clap::{Args, Subcommand};

use crate::cli::asked::{property_change, property_value, property_words};
use crate::cli::connect::start;
use crate::types::{Name, QosChange, Start, TypePattern};
use crate::wire::admin::Target;

#[derive(Debug, Subcommand)]
pub enum Qos {
    /// List the properties: levels, values, defaults, what they do; asks no node
    Properties,
    /// Show what holds for a channel, an admin or a proxy, and where it comes from
    #[command(after_help = "Examples:
  aqueduct qos get orders
  aqueduct qos get orders --admin fast
  aqueduct qos get orders --proxy billing --output json")]
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
    #[arg(long, value_name = "NAME", conflicts_with = "proxy")]
    pub admin: Option<Name>,
    /// Of this proxy, that is, of the durable consumer of this name.
    #[arg(long, value_name = "NAME")]
    pub proxy: Option<Name>,
}

impl QosTarget {
    /// The same for the admin service.
    pub fn target(&self) -> Target {
        let channel = self.channel.clone();
        match (&self.admin, &self.proxy) {
            (_, Some(proxy)) => Target::Proxy { channel, proxy: proxy.clone() },
            (Some(admin), None) => Target::Admin { channel, admin: admin.clone() },
            (None, None) => Target::Channel { channel },
        }
    }
}

const SUBSCRIBE_HELP: &str = "The first patterns narrow what was everything before. \
An event goes to a proxy if one of its patterns picks its type, and one of its admin's; \
whoever has no patterns picks all. Quote them: the shell has a use for *, too.";

#[derive(Debug, Subcommand)]
pub enum Admin {
    /// Create a consumer admin
    #[command(after_help = "Example:
  aqueduct admin create orders fast --qos order_policy=priority --qos pacing_interval=100")]
    Create(AdminCreate),
    /// List the consumer admins of a channel
    Ls {
        /// Name of the channel.
        channel: Name,
    },
    /// Show an admin: its quality of service and its proxies
    Show(AdminName),
    /// Remove an admin with its proxies
    Rm(AdminName),
    /// Let its proxies get events of these types, too
    #[command(after_help = SUBSCRIBE_HELP)]
    Subscribe(AdminTypes),
    /// Take patterns of types away; without any left its proxies get all types
    Unsubscribe(AdminTypes),
    /// Let its proxies deliver nothing; what comes meanwhile waits
    Suspend(AdminName),
    /// Let its proxies deliver again
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

/// A consumer admin of a channel.
#[derive(Debug, Args)]
pub struct AdminName {
    /// Name of the channel.
    pub channel: Name,
    /// Name of the admin.
    pub name: Name,
}

#[derive(Debug, Subcommand)]
pub enum Proxy {
    /// Create a durable proxy; consumers attach to it by its name
    #[command(after_help = "Examples:
  aqueduct proxy create orders billing --admin fast --from all
  aqueduct proxy create orders audit --qos max_events_per_consumer=1000,discard_policy=fifo")]
    Create(ProxyCreate),
    /// List the proxies of a channel
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
    /// Let it deliver nothing; what comes meanwhile waits
    Suspend(ProxyName),
    /// Let it deliver again
    Resume(ProxyName),
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

/// The job scheduler. Its policy, and what proxies bring before it, are properties of the quality
/// of service: see `aqueduct qos properties`.
#[derive(Debug, Subcommand)]
pub enum Scheduler {
    /// Show the policy of a channel, what it promises, and how long each proxy waits
    Show { channel: Name },
}
