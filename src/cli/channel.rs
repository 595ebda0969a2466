//! `channel`: create, list, show, remove.

use std::time::Duration;

use super::args::{Channel, ChannelCreate, Common};
use super::exit::{Exit, Failure};
use super::quality::brief;
use super::{admins, asked, connect_admin, output};
use crate::types::{EventType, Level, Property, QosChange};
use crate::wire::admin::{Answer, ChannelList, ChannelReport, OfferedType, OfferedTypes};

/// Runs a `channel` command.
pub async fn run(common: &Common, command: &Channel) -> Result<Exit, Failure> {
    let admin = connect_admin(common)?;
    match command {
        Channel::Create(flags) => {
            let changes = changes(flags);
            asked::check(Level::Channel, &changes)?;
            let answer = admin.create_channel(&flags.name, &changes).await?;
            output::result(common.output, &answer, |a| format!("created channel {}", a.value.name));
        }
        Channel::Ls => output::result(common.output, &admin.channels().await?, list),
        Channel::Show { name } => {
            output::result(common.output, &admin.channel(name).await?, show);
        }
        Channel::Types { name } => {
            output::result(common.output, &admin.offered_types(name).await?, types);
        }
        Channel::Rm { name } => {
            let answer = admin.remove_channel(name).await?;
            output::result(common.output, &answer, |a| format!("removed channel {}", a.value.name));
        }
    }
    Ok(Exit::Ok)
}

/// What is to be set: flags of their own are short for properties.
fn changes(flags: &ChannelCreate) -> Vec<QosChange> {
    let own = [
        (Property::MaxQueueBytes, flags.max_bytes.map(|size| size.0)),
        (Property::HistoryEvents, flags.history_events),
        (Property::HistoryBytes, flags.history_bytes.map(|size| size.0)),
        (Property::HistoryAge, flags.history_age),
    ];
    asked::with_flags(&flags.qos, own)
}

fn list(answer: &Answer<ChannelList>) -> String {
    let mut table = output::table(&["channel", "last seq", "retained", "consumers", "events are"]);
    for channel in &answer.value.channels {
        table.add_row(vec![
            channel.name.to_string(),
            output::count(channel.last_seq),
            output::count(channel.retained),
            output::count(channel.proxies),
            if channel.best_effort { "best effort" } else { "persistent" }.to_string(),
        ]);
    }
    table.to_string()
}

fn types(answer: &Answer<OfferedTypes>) -> String {
    let mut table = output::table(&["domain", "type", "events"]);
    for OfferedType { event_type, events } in &answer.value.types {
        let EventType { domain, kind } = event_type.clone();
        table.add_row(vec![domain, kind, output::count(*events)]);
    }
    table.to_string()
}

fn age(millis: u64) -> String {
    let age = humantime::format_duration(Duration::from_millis(millis));
    if millis == 0 { String::new() } else { format!(", and nothing older than {age}") }
}

/// What its consumers gave up, if they ever did.
fn letters(channel: &ChannelReport) -> String {
    let Some(letters) = &channel.dead_letters else { return String::new() };
    let mut text = format!(
        "dead         {} letters in {}, {}; {} replayed, {} dropped",
        output::count(letters.kept),
        letters.dead_channel,
        output::bytes(letters.kept_bytes),
        output::count(letters.replayed),
        output::count(letters.dropped),
    );
    for (count, what) in [(letters.pushed_out, "pushed out by later ones"), (letters.lost, "lost")]
    {
        if count > 0 {
            text.push_str(&format!(", {} {what}", output::count(count)));
        }
    }
    text.push('\n');
    text
}

fn show(answer: &Answer<ChannelReport>) -> String {
    let channel = &answer.value;
    let mut text = format!(
        "channel      {}\nreliability  {}\naccepted     {} events, the last with sequence {}\n\
         retained     {} events from sequence {}, {}\npending      {} of at most {} (then publishes are refused)\n\
         no interest  {} events came while there was no durable consumer\n\
         history      {} events or {}, whichever is less{}\n\
         quality      {}\nsubscribers  {} without a name\n",
        channel.name,
        match channel.best_effort {
            true => "best effort: events are in the leader's memory alone, numbers of this tenure",
            false => "persistent",
        },
        output::count(channel.accepted),
        channel.last_seq,
        output::count(channel.retained),
        channel.first_retained,
        output::bytes(channel.retained_bytes),
        output::bytes(channel.pending_bytes),
        output::bytes(channel.max_queue_bytes),
        output::count(channel.no_interest),
        output::count(channel.history_events),
        output::bytes(channel.history_bytes),
        age(channel.history_age_ms),
        brief(&channel.qos),
        output::count(channel.subscribers),
    );
    text.push_str(&letters(channel));
    if channel.admins.len() > 2 || channel.admins.iter().any(|a| a.suspended || !a.qos.is_empty()) {
        text.push_str(&format!("\n{}\n", admins::table(&channel.admins)));
    }
    let mut table = output::table(&[
        "consumer",
        "admin",
        "offered",
        "acked",
        "dead",
        "pending",
        "in flight",
        "clients",
        "ack wait",
        "max deliveries",
    ]);
    for proxy in &channel.proxies {
        let limit = proxy.max_deliveries;
        table.add_row(vec![
            proxy.name.to_string(),
            proxy.admin.to_string(),
            output::count(proxy.offered),
            output::count(proxy.acked),
            output::count(proxy.dead_lettered),
            output::count(proxy.pending),
            output::count(proxy.in_flight),
            output::count(proxy.clients),
            format!("{} ms", proxy.ack_wait_ms),
            if limit == 0 { "no limit".into() } else { limit.to_string() },
        ]);
    }
    if channel.proxies.is_empty() {
        text.push_str(
            "consumers    none that are durable; `aqueduct sub CHANNEL --name NAME` makes one\n",
        );
    } else {
        text.push_str(&format!("\n{table}"));
    }
    text
}
