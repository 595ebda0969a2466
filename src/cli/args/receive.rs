//! What consumers say: `sub`, `pull`, `ack`, `nack`.

use clap::{Args, ValueEnum};

use crate::cli::asked::property_value;
use crate::cli::connect::start;
use crate::types::{Name, QosChange, Start, TypePattern};

#[derive(Debug, Args)]
pub struct Subscribe {
    /// Channel to receive from.
    pub channel: Name,
    /// Durable consumer of this name: remembered, and shared by all clients that use it.
    #[arg(long)]
    pub name: Option<Name>,
    /// Where a new consumer starts: new, all, seq:N, or time:T (T: -DURATION ago,
    /// 2027-01-31T12:00:00Z, or milliseconds since 1970).
    #[arg(long, default_value = "new", value_parser = start)]
    pub from: Start,
    /// Stop after this many events.
    #[arg(long, value_name = "N")]
    pub max: Option<u64>,
    /// Stop when nothing came for so long.
    #[arg(long, value_name = "SECS")]
    pub idle_exit: Option<f64>,
    /// Print each event as a CloudEvent 1.0 in JSON.
    #[arg(long)]
    pub cloud_events: bool,
    /// Types of events wanted: 'domain::type', or 'type' of any domain; `*` stands for any text. May
    /// be repeated [default: all]. An existing durable consumer must want the same.
    #[arg(long = "type", value_name = "PATTERN")]
    pub types: Vec<TypePattern>,
    /// What to answer to each event (durable consumers).
    #[arg(long, value_enum, default_value_t = SubAck::Auto)]
    pub ack: SubAck,
    #[command(flatten)]
    pub settings: ConsumerSettings,
}

/// Settings of a durable consumer, used when it is created.
#[derive(Debug, Clone, Args)]
pub struct ConsumerSettings {
    /// Redeliver what is not settled after so long.
    #[arg(long, value_name = "SECS")]
    pub ack_wait: Option<f64>,
    /// After so many deliveries an event goes to the dead-letter channel CHANNEL.dead.
    #[arg(long, value_name = "N")]
    pub max_deliveries: Option<u32>,
    /// Unsettled deliveries at a time, over all clients of the consumer.
    #[arg(long, value_name = "N")]
    pub max_in_flight: Option<u32>,
    /// Consumer admin that it is of; an existing consumer must be of it.
    #[arg(long, value_name = "NAME")]
    pub admin: Option<Name>,
    /// Property to set for a new consumer, as in order_policy=priority; may be repeated. An
    /// existing consumer must have it. `aqueduct qos properties` lists them.
    #[arg(long, value_name = "PROPERTY=VALUE", value_delimiter = ',', value_parser = property_value)]
    pub qos: Vec<QosChange>,
}

/// What `sub` answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum SubAck {
    /// Confirm each event once it is printed.
    Auto,
    /// Answer nothing: each event comes again when its lease ends.
    None,
    /// Give each event back: it is redelivered.
    Nack,
}

#[derive(Debug, Args)]
pub struct Pull {
    /// Channel to fetch from.
    pub channel: Name,
    /// Durable consumer to fetch for; created if there is none.
    #[arg(long, default_value = "puller")]
    pub name: Name,
    /// Where a new consumer starts: new, all, seq:N, or time:T (T: -DURATION ago,
    /// 2027-01-31T12:00:00Z, or milliseconds since 1970).
    #[arg(long, default_value = "all", value_parser = start)]
    pub from: Start,
    /// Fetch at most this many events.
    #[arg(long, default_value_t = 1)]
    pub batch: u32,
    /// Wait so long for the first event.
    #[arg(long, default_value_t = 1.0, value_name = "SECS")]
    pub wait: f64,
    /// Print each event as a CloudEvent 1.0 in JSON; only with --ack auto.
    #[arg(long)]
    pub cloud_events: bool,
    /// Types of events wanted: 'domain::type', or 'type' of any domain; `*` stands for any text. May
    /// be repeated [default: all]. An existing consumer must want the same.
    #[arg(long = "type", value_name = "PATTERN")]
    pub types: Vec<TypePattern>,
    /// auto: confirmed once printed; manual: use `aqueduct ack` or `nack` with the token.
    #[arg(long, value_enum, default_value_t = PullAck::Auto)]
    pub ack: PullAck,
    #[command(flatten)]
    pub settings: ConsumerSettings,
}

/// Who settles pulled events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum PullAck {
    /// This command, after printing.
    Auto,
    /// The user, by token.
    Manual,
}

#[derive(Debug, Args)]
pub struct Token {
    /// Channel that it was pulled from.
    pub channel: Name,
    /// Name of the durable consumer.
    pub name: Name,
    /// The token that `pull` printed.
    pub token: String,
}

#[derive(Debug, Args)]
pub struct Nack {
    #[command(flatten)]
    pub token: Token,
    /// Redeliver not before so long.
    #[arg(long, default_value_t = 0.0, value_name = "SECS")]
    pub delay: f64,
}
