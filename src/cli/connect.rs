//! From flags to connections.

use std::time::{Duration, SystemTime};

use super::args::{Common, ConsumerSettings};
use super::asked::{self, moment};
use super::exit::Failure;
use crate::client::{AdminClient, AdminOptions, Client, Options};
use crate::types::{Level, Property, Qos, Start, Value};

/// The server asked when nobody is named.
const DEFAULT_SERVER: &str = "127.0.0.1:7400";

/// The servers to ask.
fn servers(common: &Common) -> Vec<String> {
    match common.servers.as_slice() {
        [] => vec![DEFAULT_SERVER.into()],
        given => given.to_vec(),
    }
}

/// An address in the form `HOST:PORT`.
pub fn host_port(text: &str) -> Result<String, String> {
    let port = text.rsplit_once(':').filter(|(host, _)| !host.is_empty()).map(|(_, port)| port);
    match port.map(str::parse::<u16>) {
        Some(Ok(_)) => Ok(text.to_string()),
        _ => Err(format!("'{text}' is not an address: write HOST:PORT, as in 127.0.0.1:7400")),
    }
}

/// The patience that `--timeout` asks for.
pub fn patience(common: &Common) -> Result<Duration, Failure> {
    seconds("--timeout", common.timeout)
}

/// A number of seconds given by the user.
pub fn seconds(what: &str, value: f64) -> Result<Duration, Failure> {
    Duration::try_from_secs_f64(value)
        .map_err(|_| Failure::usage(format!("{what} {value} is not a number of seconds")))
}

/// The client token, if a file was named.
pub fn token(common: &Common) -> Result<String, Failure> {
    let Some(path) = &common.token_file else { return Ok(String::new()) };
    let text = std::fs::read_to_string(path).map_err(|e| Failure::unreadable(path, &e))?;
    Ok(text.trim().to_string())
}

/// A connection for events.
pub async fn client(common: &Common) -> Result<Client, Failure> {
    let mut options = Options::new(servers(common)).token(token(common)?).name("cli");
    options.connect_timeout = patience(common)?;
    Ok(Client::connect(options).await?)
}

/// An asker of the cluster; it connects with the first question.
pub fn admin(common: &Common) -> Result<AdminClient, Failure> {
    let mut options = AdminOptions::new(servers(common));
    (options.token, options.patience) = (token(common)?, patience(common)?);
    Ok(AdminClient::new(options))
}

/// Where a consumer starts, from the words `new`, `all`, `seq:N` or `time:T`.
pub fn start(text: &str) -> Result<Start, String> {
    if let Some(time) = text.strip_prefix("time:") {
        let since = moment(time, SystemTime::now()).map(Start::Time);
        return since.map_err(|why| format!("'{text}' is not a start: {why}"));
    }
    match text.strip_prefix("seq:").map(str::parse) {
        Some(Ok(seq)) => Ok(Start::Seq(seq)),
        None if text == "new" => Ok(Start::New),
        None if text == "all" => Ok(Start::All),
        _ => Err(format!("'{text}' is not a start: use new, all, seq:N or time:T")),
    }
}

/// A named value in the form `NAME=VALUE`.
pub fn assignment(text: &str) -> Result<(String, Value), String> {
    let (name, value) = text
        .split_once('=')
        .filter(|(name, _)| !name.is_empty())
        .ok_or_else(|| format!("'{text}' names no value: write NAME=VALUE"))?;
    let quoted = value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    let value = match (quoted, value) {
        (Some(text), _) => Value::Text(text.into()),
        (None, "true") => Value::Bool(true),
        (None, "false") => Value::Bool(false),
        (None, text) => match (text.parse(), text.parse::<f64>()) {
            (Ok(number), _) => Value::Int(number),
            (_, Ok(number)) if number.is_finite() => Value::Float(number),
            _ => Value::Text(text.into()),
        },
    };
    Ok((name.into(), value))
}

/// What is to be set for a durable consumer: flags of their own are short for properties.
pub fn qos(flags: &ConsumerSettings) -> Result<Qos, Failure> {
    let wait = flags.ack_wait.map(|wait| seconds("--ack-wait", wait)).transpose()?;
    let own = [
        (Property::AckWait, wait.map(|wait| wait.as_millis() as u64)),
        (Property::MaxDeliveries, flags.max_deliveries.map(u64::from)),
        (Property::MaxInFlight, flags.max_in_flight.map(u64::from)),
    ];
    asked::qos(Level::Proxy, &asked::with_flags(&flags.qos, own))
}
