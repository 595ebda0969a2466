//! `recover`: the last node of a lost cluster begins a new one.

use serde_json::json;

use super::args::{Common, Recover};
use super::exit::{Exit, Failure};
use super::output;
use crate::consensus::offline::{ChannelLeft, Lost, OfflineError, Recovery, Target, recover};
use crate::storage::StorageError;
use crate::types::ClusterId;

/// Runs `recover`.
pub fn run(common: &Common, flags: &Recover) -> Result<Exit, Failure> {
    let target = match (&flags.into, flags.dry_run) {
        (_, true) => Target::Nowhere,
        _ if !flags.yes_data_may_be_lost => return Err(unconfirmed(flags)),
        (Some(new), false) => Target::Into(new.clone()),
        (None, false) => Target::InPlace,
    };
    // Zero would look like "no cluster" to people.
    let cluster = ClusterId(fastrand::u64(1..));
    let recovery = recover(&flags.dir, &target, cluster)?;
    let mut document = json!(recovery);
    document["dry_run"] = json!(flags.dry_run);
    output::result(common.output, &document, |_| people(&recovery));
    Ok(Exit::Ok)
}

fn unconfirmed(flags: &Recover) -> Failure {
    Failure::usage(format!(
        "this gives up the cluster that {} belongs to, and whatever only its other members have",
        flags.dir.display()
    ))
    .hint(
        "if a majority of the members can still be brought back, do that instead; see what would \
         be lost with --dry-run, then confirm with --yes-data-may-be-lost",
    )
}

impl From<OfflineError> for Failure {
    fn from(error: OfflineError) -> Failure {
        let hint = match &error {
            OfflineError::Storage(StorageError::Locked { .. }) => "stop the node first",
            OfflineError::Nothing { .. } => "try the data of another member, or restore a backup",
            _ => "",
        };
        Failure::from(anyhow::Error::from(error)).hint(hint)
    }
}

fn people(recovery: &Recovery) -> String {
    let Recovery { from, known, .. } = recovery;
    let or_unknown = |text: Option<String>| text.unwrap_or_else(|| "unknown".into());
    let mut lines = vec![format!(
        "found     node {} of cluster {}, with members {:?} beside it",
        or_unknown(from.node_id.map(|id| id.to_string())),
        or_unknown(from.cluster_id.map(|id| id.to_string())),
        from.other_members.iter().map(|id| id.0).collect::<Vec<_>>(),
    )];
    lines.push(format!(
        "kept      everything up to log entry {} of term {}; its snapshot ends with {}",
        known.last_index,
        known.last_term,
        or_unknown(known.snapshot_index.map(|index| index.to_string())),
    ));
    if let (Some(term), Some(node), Some(led)) = (known.vote_term, known.vote_for, known.vote_led) {
        let what = if led { "led by" } else { "with a vote for" };
        lines.push(format!("last term {term}, {what} node {node}"));
    }
    lines.extend(recovery.channels.iter().map(channel));
    lines.extend(recovery.lost.iter().map(lost));
    lines.extend(recovery.findings.iter().map(|finding| format!("damaged   {finding}")));
    lines.extend(recovery.doubts.iter().map(|doubt| format!("unknown   {doubt}")));
    lines.push(outcome(recovery));
    lines.join("\n")
}

/// A line on a channel of a new incarnation.
pub fn channel(channel: &ChannelLeft) -> String {
    format!(
        "channel   {}: {} events accepted, {} pending for {} durable consumers",
        channel.name,
        output::count(channel.accepted),
        output::count(channel.pending),
        channel.consumers
    )
}

fn lost(lost: &Lost) -> String {
    let stretches = lost.sequences.iter().map(|(first, last)| match first == last {
        true => first.to_string(),
        false => format!("{first}-{last}"),
    });
    let consumers = lost.consumers.iter().map(|(name, count)| format!("{count} for {name}"));
    format!(
        "LOST      {} events of channel {} ({}); counted as discarded: {}",
        lost.events,
        lost.channel,
        stretches.collect::<Vec<_>>().join(", "),
        consumers.collect::<Vec<_>>().join(", ")
    )
}

fn outcome(recovery: &Recovery) -> String {
    let Some(dir) = &recovery.data_dir else {
        return "nothing was written: this was a dry run".into();
    };
    let kept = recovery.kept.as_ref();
    let kept = kept.map(|kept| format!("\nThe old directory is now {}.", kept.display()));
    format!(
        "{} is now node {} of the new cluster {}.{}\nStart it, then join new nodes with empty \
         directories. Never start the other members of the old cluster again.",
        dir.display(),
        recovery.node_id,
        recovery.cluster_id,
        kept.unwrap_or_default()
    )
}
