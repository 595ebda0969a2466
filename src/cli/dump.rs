//! `log dump` and `snapshot dump`: what is inside a stopped node's directory.

use std::ops::ControlFlow;

use serde_json::json;

use super::args::{Common, Format, LogDump, SnapshotDump};
use super::exit::{Exit, Failure};
use super::output;
use crate::consensus::offline::{
    ChannelInside, CommandInside, Content, EntryInside, LogFilter, LogItem, Registers,
    SnapshotInside, StateInside, StoreInside, dump_log, dump_store,
};

/// Runs `log dump`. Exits with 1 if something is damaged.
pub fn log(common: &Common, flags: &LogDump) -> Result<Exit, Failure> {
    let filter = LogFilter { indexes: flags.from..=flags.to, bodies: flags.bodies };
    let table = common.output == Format::Table;
    let mut damaged = false;
    dump_log(
        &flags.dir,
        &filter,
        &mut |registers| match table {
            true => output::say(registers_text(&registers)),
            false => output::say(output::to_json(&json!({ "registers": registers }), false)),
        },
        &mut |item| {
            damaged |= matches!(item, LogItem::Damage(_));
            output::say(if table { item_text(&item) } else { output::to_json(&item, false) });
            ControlFlow::Continue(())
        },
    )?;
    Ok(if damaged { Exit::CheckFailed } else { Exit::Ok })
}

/// Runs `snapshot dump`. Exits with 1 if something is damaged.
pub fn snapshot(common: &Common, flags: &SnapshotDump) -> Result<Exit, Failure> {
    let inside = dump_store(&flags.dir)?;
    output::result(common.output, &inside, store_text);
    Ok(if inside.findings.is_empty() { Exit::Ok } else { Exit::CheckFailed })
}

fn registers_text(registers: &Registers) -> String {
    let Registers { identity, vote, floor, mark } = registers;
    format!("identity  {identity}\nvote      {vote}\npurged    {floor}\nmark      {mark}")
}

fn item_text(item: &LogItem) -> String {
    match item {
        LogItem::Damage(what) => format!("DAMAGED   {what}"),
        LogItem::Entry(entry) => entry_text(entry),
    }
}

fn entry_text(entry: &EntryInside) -> String {
    let EntryInside { index, term, node, purged, bytes, content } = entry;
    let purged = if *purged { " purged" } else { "" };
    let place = format!("{index:<9} term {term} node {node}{purged}");
    match content {
        Content::Blank => format!("{place}: blank"),
        Content::Membership { voters, members } => {
            let members: Vec<_> = members.iter().map(ToString::to_string).collect();
            format!("{place}: voters {voters:?}, {}", members.join(", "))
        }
        Content::Batch { tenure, stamp, commands } => {
            let lines = commands.iter().map(command_text).map(|text| format!("\n          {text}"));
            format!(
                "{place}: batch of tenure {tenure} at {stamp}, {bytes} bytes{}",
                lines.collect::<String>()
            )
        }
        Content::Unreadable { reason } => format!("{place}: UNREADABLE, {reason}"),
    }
}

fn command_text(command: &CommandInside) -> String {
    match command {
        CommandInside::Publish { publish } => {
            let last = publish.first_sequence + u64::from(publish.count).saturating_sub(1);
            let bodies = publish.bodies_base64.iter().map(|body| format!("\n            {body}"));
            format!(
                "publish on channel {}: lane {} epoch {} sequences {}-{last}, {} bytes{}",
                publish.channel,
                publish.lane,
                publish.epoch,
                publish.first_sequence,
                publish.bytes,
                bodies.collect::<String>()
            )
        }
        CommandInside::Other(command) => format!("{command:?}"),
    }
}

fn store_text(inside: &StoreInside) -> String {
    let mut lines = vec![registers_text(&inside.registers)];
    inside.snapshots.iter().for_each(|snapshot| lines.extend(snapshot_text(snapshot)));
    for segment in &inside.segments {
        let edge = |key: &Option<String>| key.clone().unwrap_or_else(|| "-".into());
        lines.push(format!(
            "segment   {}: {} events in {}, keys {} to {}",
            segment.name,
            output::count(segment.events as u64),
            output::bytes(segment.bytes),
            edge(&segment.first),
            edge(&segment.last)
        ));
    }
    lines.extend(inside.findings.iter().map(|finding| format!("DAMAGED   {finding}")));
    lines.join("\n")
}

fn snapshot_text(snapshot: &SnapshotInside) -> Vec<String> {
    let SnapshotInside { name, last_index, last_term, machine_bytes, state } = snapshot;
    let mut lines = vec![format!(
        "snapshot  {name}: up to entry {last_index} of term {last_term}, {}",
        output::bytes(*machine_bytes)
    )];
    let Some(state) = state else { return lines };
    let StateInside { hash, tenure, members, voters, last_node, lanes, live_events, .. } = state;
    let members: Vec<_> = members.iter().map(ToString::to_string).collect();
    lines.push(format!(
        "  state {hash}, tenure {tenure}, {lanes} lanes, {} live events",
        output::count(*live_events as u64)
    ));
    lines.push(format!(
        "  voters {voters:?} of {}; last id given out {last_node}",
        members.join(", ")
    ));
    state.channels.iter().for_each(|channel| lines.extend(channel_text(channel)));
    lines
}

fn channel_text(channel: &ChannelInside) -> Vec<String> {
    let mut lines = vec![format!(
        "  channel {} ({}): {} accepted, {} retained from {}, {} pending",
        channel.id,
        channel.name,
        output::count(channel.accepted),
        output::count(channel.retained),
        channel.first_retained,
        output::count(channel.pending)
    )];
    for consumer in &channel.consumers {
        let outcomes = consumer.outcomes.iter().map(|(name, n)| format!(", {n} {name}"));
        lines.push(format!(
            "    consumer {} ({}): from {}, settled below {}, {} pending{}",
            consumer.id,
            consumer.name,
            consumer.start_seq,
            consumer.floor,
            output::count(consumer.pending),
            outcomes.collect::<String>()
        ));
    }
    lines
}
