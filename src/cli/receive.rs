//! `sub`, `pull`, `ack` and `nack`: the consumer's side.

use std::io::Write;
use std::time::{Duration, UNIX_EPOCH};

use serde_json::{Value, json};

use super::args::{Common, Format, Nack, Pull, PullAck, SubAck, Subscribe, Token};
use super::connect;
use super::exit::{Exit, Failure};
use super::interrupt::Interrupts;
use super::output;
use super::publish::body_base64;
use crate::client::{self, Client, Delivery, Settlements, SubscribeOptions, Verdict};
use crate::types::{self, CloudDefaults, Code, EventBytes, EventQos, Name, Rejection, Seq};

/// Without --idle-exit: as good as for ever.
const NO_IDLE_EXIT: Duration = Duration::from_secs(u32::MAX as u64);

/// How long a goodbye may take.
const GOODBYE_MAX: Duration = Duration::from_secs(1);

/// Receives until told to stop, by count, silence or a signal.
pub async fn subscribe(common: &Common, flags: &Subscribe) -> Result<Exit, Failure> {
    let mut options = SubscribeOptions {
        name: flags.name.clone(),
        from: flags.from,
        admin: flags.settings.admin.clone(),
        qos: connect::qos(&flags.settings)?,
        types: flags.types.iter().cloned().collect(),
        ..SubscribeOptions::default()
    };
    if options.name.is_none() && (options.admin.is_some() || !options.qos.is_empty()) {
        let message =
            "plain subscribers share a proxy: --admin and --qos are for durable consumers";
        return Err(Failure::usage(message).hint("give the consumer a --name"));
    }
    // No more than asked for is taken from others who share the consumer.
    let wanted = flags.max.and_then(|max| u32::try_from(max).ok()).unwrap_or(u32::MAX);
    options.credit_events = options.credit_events.min(wanted.max(1));
    let idle = match flags.idle_exit {
        Some(value) => connect::seconds("--idle-exit", value)?,
        None => NO_IDLE_EXIT,
    };
    let client = connect::client(common).await?;
    let mut subscriber = client.subscribe(flags.channel.clone(), options).await?;
    if subscriber.settler().is_best_effort() {
        eprintln!(
            "note: channel '{}' is best effort: what its leader has not delivered is lost with it",
            flags.channel
        );
    }
    let mut interrupts = Interrupts::catch()?;
    let mut left = flags.max.unwrap_or(u64::MAX);
    while left > 0 {
        let batch = tokio::select! { biased;
            () = interrupts.any() => break,
            batch = tokio::time::timeout(idle, subscriber.next_batch()) => batch,
        };
        for missed in subscriber.missed() {
            eprintln!(
                "warning: events {} to {} are gone: not retained any more",
                missed.first, missed.last
            );
        }
        let Ok(batch) = batch else { break };
        let mut batch = batch?;
        // What is beyond the count asked for is not taken: it goes to somebody else.
        batch.truncate(left.min(batch.len() as u64) as usize);
        left -= batch.len() as u64;
        // What could not be shown is not acknowledged: it comes again.
        let form = Form::of(common.output, flags.cloud_events);
        print(form, &flags.channel, &batch, |_| None)?;
        let seqs: Vec<Seq> = batch.iter().map(|d| d.seq).collect();
        match flags.ack {
            SubAck::Auto => subscriber.ack(&seqs).await?,
            SubAck::Nack => subscriber.nack(&seqs, Duration::ZERO).await?,
            SubAck::None => {}
        }
    }
    let exit = confirmed(common, subscriber.flush()).await;
    // A cluster that is away sees the end of the connection, later.
    let _ = tokio::time::timeout(GOODBYE_MAX, subscriber.leave()).await;
    exit
}

/// Fetches once.
pub async fn pull(common: &Common, flags: &Pull) -> Result<Exit, Failure> {
    let options = SubscribeOptions {
        name: Some(flags.name.clone()),
        from: flags.from,
        admin: flags.settings.admin.clone(),
        qos: connect::qos(&flags.settings)?,
        types: flags.types.iter().cloned().collect(),
        ..SubscribeOptions::default()
    };
    let wait = connect::seconds("--wait", flags.wait)?;
    if flags.cloud_events && flags.ack == PullAck::Manual {
        let message = "--cloud-events has no place for the tokens of --ack manual";
        return Err(Failure::usage(message).hint("leave one of them out"));
    }
    let form = Form::of(common.output, flags.cloud_events);
    let client = connect::client(common).await?;
    let mut puller = client.puller(flags.channel.clone(), options).await?;
    let batch = puller.fetch(flags.batch, wait).await?;
    let settler = puller.settler();
    print(form, &flags.channel, &batch, |d| settler.token(d).map(|t| t.to_string()))?;
    if flags.ack == PullAck::Auto {
        puller.ack(&batch.iter().map(|d| d.seq).collect::<Vec<_>>()).await?;
    }
    confirmed(common, puller.flush()).await
}

/// Waits, within the timeout, until what was settled is committed.
async fn confirmed(
    common: &Common,
    flush: impl Future<Output = Result<Settlements, Rejection>>,
) -> Result<Exit, Failure> {
    match tokio::time::timeout(connect::patience(common)?, flush).await {
        Ok(outcome) => outcome.map(|_| Exit::Ok).map_err(Failure::from),
        Err(_) => Err(unconfirmed()),
    }
}

fn unconfirmed() -> Failure {
    Failure {
        exit: Exit::Unknown,
        code: "unconfirmed".into(),
        message: "no confirmation of the acknowledgements came in time".into(),
        hint: "whether they took effect is unknown; events may be delivered again".into(),
        retryable: true,
    }
}

/// Confirms a pulled event.
pub async fn ack(common: &Common, flags: &Token) -> Result<Exit, Failure> {
    settle(common, flags, Verdict::Ack, "acknowledged").await
}

/// Gives a pulled event back.
pub async fn nack(common: &Common, flags: &Nack) -> Result<Exit, Failure> {
    let delay_ms = connect::seconds("--delay", flags.delay)?.as_millis() as u64;
    // What is in flight at nobody is left alone; a nack is nothing that is confirmed.
    let done = "given back, if it was still out";
    settle(common, &flags.token, Verdict::Nack { delay_ms }, done).await
}

/// Checks that the token is one of the consumer named.
async fn belongs(common: &Common, flags: &Token, token: client::Token) -> Result<(), Failure> {
    let answer = connect::admin(common)?.channel(&flags.channel).await?;
    let proxies = &answer.value.proxies;
    if proxies.iter().any(|p| p.name == flags.name && p.id == token.proxy) {
        return Ok(());
    }
    let message = format!(
        "token {} is not one of consumer '{}' of channel '{}'",
        flags.token, flags.name, flags.channel
    );
    let rejection = Rejection::new(Code::UnknownProxy, message);
    Err(rejection.hint("give the channel and the --name that `pull` was called with").into())
}

async fn settle(
    common: &Common,
    flags: &Token,
    verdict: Verdict,
    done: &str,
) -> Result<Exit, Failure> {
    let token: client::Token = flags.token.parse().map_err(|e: client::TokenError| {
        Failure::usage(e.to_string())
            .hint("copy it from what `aqueduct pull CHANNEL --name NAME --ack manual` prints")
    })?;
    belongs(common, flags, token).await?;
    let client: Client = connect::client(common).await?;
    let settling = client.settle_token(token, verdict);
    let outcome = tokio::time::timeout(connect::patience(common)?, settling).await;
    let totals = outcome.map_err(|_| unconfirmed())??;
    let line = json!({"token": flags.token, "confirmed": totals.confirmed,
        "settled": totals.settled, "already": totals.already});
    match common.output {
        Format::Table if totals.already > 0 => {
            output::say(format_args!("{} was settled before", flags.token))
        }
        Format::Table => output::say(format_args!("{} {done}", flags.token)),
        _ => output::say(line),
    }
    Ok(Exit::Ok)
}

/// How events are shown.
#[derive(Debug, Clone, Copy)]
enum Form {
    People,
    Json,
    CloudEvents,
}

impl Form {
    fn of(format: Format, cloud_events: bool) -> Form {
        match format {
            _ if cloud_events => Form::CloudEvents,
            Format::Table => Form::People,
            Format::Json | Format::Jsonl => Form::Json,
        }
    }
}

fn print(
    form: Form,
    channel: &Name,
    batch: &[Delivery],
    token: impl Fn(&Delivery) -> Option<String>,
) -> std::io::Result<()> {
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    for delivery in batch {
        let token = token(delivery);
        match form {
            Form::People => writeln!(out, "{}", for_people(delivery, token.as_deref()))?,
            Form::Json => writeln!(out, "{}", to_json(channel, delivery, token))?,
            Form::CloudEvents => writeln!(out, "{}", to_cloud_event(channel, delivery)?)?,
        }
    }
    out.flush()
}

/// With the place in the channel where the event names none itself.
fn to_cloud_event(channel: &Name, delivery: &Delivery) -> std::io::Result<Value> {
    let event = delivery.event.decode().map_err(std::io::Error::other)?;
    let (id, kind) = (delivery.seq.to_string(), "event".to_string());
    let defaults = CloudDefaults { id, source: format!("/channels/{channel}"), kind };
    Ok(Value::Object(event.to_cloud_event(defaults)))
}

/// The body of an event, if it is text.
pub fn body_text(event: &EventBytes) -> String {
    let body = event.body();
    match std::str::from_utf8(&body) {
        Ok(text) if !text.chars().any(|c| c.is_control() && c != '\t') => text.to_string(),
        _ => format!("({} bytes, not text)", body.len()),
    }
}

fn for_people(delivery: &Delivery, token: Option<&str>) -> String {
    let mut line = format!("{:>8}  {}", delivery.seq, body_text(&delivery.event));
    if delivery.delivery > 1 {
        line.push_str(&format!("  [delivery {}]", delivery.delivery));
    }
    if let Some(letter) = &delivery.dead_letter {
        line.push_str(&format!("  [from {} {}: {}]", letter.channel, letter.seq, letter.reason));
    }
    if let Some(token) = token {
        line.push_str(&format!("  token {token}"));
    }
    line
}

fn by_name(values: Vec<(String, types::Value)>) -> Value {
    let plain = |value| match value {
        types::Value::Bool(truth) => json!(truth),
        types::Value::Int(number) => json!(number),
        types::Value::Float(number) => json!(number),
        types::Value::Text(text) => json!(text),
    };
    values.into_iter().map(|(name, value)| (name, plain(value))).collect()
}

/// Microseconds since the Unix epoch as a date and time.
pub fn rfc3339(micros: u64) -> String {
    // Nobody accepts events after the year 9999, which cannot be written so.
    let time = UNIX_EPOCH + Duration::from_micros(micros.min(253_402_300_799_999_999));
    humantime::format_rfc3339_micros(time).to_string()
}

fn to_json(channel: &Name, delivery: &Delivery, token: Option<String>) -> Value {
    let mut line = json!({
        "channel": channel,
        "seq": delivery.seq,
        "lane": delivery.lane.to_string(),
        "sequence": delivery.sequence,
        "delivery": delivery.delivery,
        "maybe_redelivered": delivery.maybe_redelivered,
        "accepted_us": delivery.accepted.0,
        "accepted": rfc3339(delivery.accepted.0),
    });
    add_event(&mut line, &delivery.event);
    if let Some(letter) = &delivery.dead_letter {
        line["dead_letter"] = json!({"channel": letter.channel, "consumer": letter.proxy,
            "seq": letter.seq, "attempts": letter.attempts, "reason": letter.reason});
    }
    if let Some(token) = token {
        line["token"] = json!(token);
    }
    if delivery.fencing > 0 {
        line["fencing_token"] = json!(delivery.fencing);
    }
    line
}

/// Adds what the event says itself.
pub fn add_event(line: &mut Value, event: &EventBytes) {
    line["body_base64"] = json!(body_base64(event));
    let EventQos { priority, timeout_ms, start_ms, stop_ms } = event.qos();
    let asked = [
        ("priority", json!(priority)),
        ("timeout_ms", json!(timeout_ms)),
        ("start_ms", json!(start_ms)),
        ("stop_ms", json!(stop_ms)),
    ];
    for (name, value) in asked.into_iter().filter(|(_, value)| *value != 0) {
        line[name] = value;
    }
    if let Ok(header) = event.header()
        && header != Default::default()
    {
        line["domain"] = json!(header.domain);
        line["type"] = json!(header.kind);
        line["name"] = json!(header.name);
        line["header"] = by_name(header.variable);
        line["fields"] = by_name(header.fields);
    }
}
