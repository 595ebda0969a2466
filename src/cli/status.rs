//! `status` and `audit`: what the cluster looks like, and whether its nodes agree.

use super::args::{Common, Format, Status};
use super::exit::{Exit, Failure};
use super::proxies::state;
use super::{connect_admin, output};
use crate::wire::admin::{Answer, Audit, ClusterStatus};

/// Time between two pictures of `--watch`.
const WATCH_EVERY: std::time::Duration = std::time::Duration::from_secs(1);

/// Shows nodes, channels and their ledgers, once or again and again.
pub async fn status(common: &Common, flags: &Status) -> Result<Exit, Failure> {
    loop {
        let answer = connect_admin(common)?.status(flags.stale).await?;
        if flags.watch && common.output == Format::Table {
            // Clear the screen and go to its top left corner.
            print!("\x1b[2J\x1b[H");
        }
        output::result(common.output, &answer, picture);
        if !flags.watch {
            return Ok(Exit::Ok);
        }
        tokio::time::sleep(WATCH_EVERY).await;
    }
}

fn picture(answer: &Answer<ClusterStatus>) -> String {
    let status = &answer.value;
    let leader = status.leader.map_or("none".into(), |id| format!("node {id}"));
    let trust = match answer.linearizable {
        true => "linearizable".into(),
        false => format!("stale by {} ms or more", answer.stale_ms),
    };
    let head = format!(
        "cluster {}   leader {leader}   term {}   tenure {}   (answered by node {}, {trust})",
        status.cluster_id, status.term, answer.tenure, answer.answered_by
    );
    format!("{head}\n\n{}\n\n{}", nodes(status), channels(status))
}

fn nodes(status: &ClusterStatus) -> String {
    let mut table = output::table(&[
        "node", "address", "role", "state", "applied", "snapshot", "log", "store", "free",
        "memory", "release",
    ]);
    for node in &status.nodes {
        table.add_row(vec![
            node.id.to_string(),
            node.addr.clone(),
            node.role.to_string(),
            node.state.clone(),
            node.applied.to_string(),
            node.snapshot_index.to_string(),
            output::bytes(node.log_bytes),
            output::bytes(node.store_bytes),
            output::bytes(node.free_bytes),
            output::bytes(node.rss_bytes),
            node.release.clone(),
        ]);
    }
    table.to_string()
}

fn channels(status: &ClusterStatus) -> String {
    let mut table = output::table(&[
        "channel",
        "consumer",
        "offered",
        "acked",
        "dead",
        "other",
        "pending",
        "in flight",
        "clients",
    ]);
    for channel in &status.channels {
        table.add_row(vec![
            match channel.best_effort {
                true => format!("{} (best effort)", channel.name),
                false => channel.name.to_string(),
            },
            "(all)".into(),
            output::count(channel.accepted),
            String::new(),
            String::new(),
            String::new(),
            output::bytes(channel.pending_bytes),
            String::new(),
            String::new(),
        ]);
        for proxy in &channel.proxies {
            let name = match state(channel, proxy) {
                "active" => proxy.name.to_string(),
                state => format!("{} ({state})", proxy.name),
            };
            let other = proxy.filtered + proxy.expired + proxy.discarded + proxy.skipped;
            table.add_row(vec![
                String::new(),
                name,
                output::count(proxy.offered),
                output::count(proxy.acked),
                output::count(proxy.dead_lettered),
                output::count(other),
                output::count(proxy.pending),
                output::count(proxy.in_flight),
                output::count(proxy.clients),
            ]);
        }
    }
    table.to_string()
}

/// Compares the nodes at one place of the log; exits 1 if they differ.
pub async fn audit(common: &Common) -> Result<Exit, Failure> {
    let answer = connect_admin(common)?.audit().await?;
    output::result(common.output, &answer, verdict);
    Ok(if answer.value.equal { Exit::Ok } else { Exit::CheckFailed })
}

fn in_words(audit: &Audit) -> String {
    let answers: Vec<_> = audit.nodes.iter().filter(|node| node.hash.is_some()).collect();
    let same = answers.windows(2).all(|pair| pair[0].hash == pair[1].hash);
    match same && answers.iter().all(|node| node.ledger_ok) {
        true if audit.equal => "all nodes agree".into(),
        true => format!(
            "the {} of {} nodes that answered agree; ask again when all are there",
            answers.len(),
            audit.nodes.len()
        ),
        false => "the nodes DO NOT agree".into(),
    }
}

fn verdict(answer: &Answer<Audit>) -> String {
    let audit = &answer.value;
    let mut table = output::table(&["node", "state hash", "ledger"]);
    for node in &audit.nodes {
        let (hash, ledger) = match &node.hash {
            None => ("no answer".into(), "unknown"),
            Some(hash) if node.ledger_ok => (hash.clone(), "adds up"),
            Some(hash) => (hash.clone(), "DOES NOT ADD UP"),
        };
        table.add_row(vec![node.id.to_string(), hash, ledger.into()]);
    }
    format!("at log index {}: {}\n\n{table}", audit.index, in_words(audit))
}
