//! A new incarnation of a cluster out of the data of one node of it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Serialize;

use crate::env::disk::{Disk, RealDisk};
use crate::machine::{Loss, Machine};
use crate::storage::{Fresh, Identity, Look, RegisterLook, Site, StorageError};
use crate::types::{ClusterId, NodeId, SeqRanges};

use super::super::config::RaftVote;
use super::super::entry::entry_id;
use super::super::member::Member;
use super::OfflineError;
use super::refound::Founder;
use super::survey::{Survey, survey};

/// Where the new directory goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// Nowhere: only say what would be.
    Nowhere,
    /// In the place of the old one, which is kept beside.
    InPlace,
    /// Where nothing is yet.
    Into(PathBuf),
}

/// What a recovery found, kept and lost.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Recovery {
    pub from: Origin,
    pub known: Known,
    /// The new incarnation.
    pub cluster_id: ClusterId,
    pub node_id: NodeId,
    /// Where its directory is; none if nothing was written.
    pub data_dir: Option<PathBuf>,
    /// Where the old one is now, if it had to make room.
    pub kept: Option<PathBuf>,
    pub channels: Vec<ChannelLeft>,
    /// Events that the state knows and whose bytes are gone.
    pub lost: Vec<Lost>,
    /// What is damaged, and reasons to be quarantined that are overridden.
    pub findings: Vec<String>,
    /// What nobody can know here.
    pub doubts: Vec<String>,
}

/// Whose data it is; what cannot be read any more is missing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Origin {
    pub cluster_id: Option<ClusterId>,
    pub node_id: Option<NodeId>,
    /// The other members, as far as this node knew.
    pub other_members: Vec<NodeId>,
}

/// How far the node knew what happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Known {
    /// Everything up to here was committed: the last entry of its snapshot.
    pub snapshot_index: Option<u64>,
    /// Last entry that is kept. Those after the snapshot may not have been committed.
    pub last_index: u64,
    pub last_term: u64,
    /// The term of its vote, and for whom.
    pub vote_term: Option<u64>,
    pub vote_for: Option<NodeId>,
    /// Whether that one led, as it knew.
    pub vote_led: Option<bool>,
    /// Entries up to here, exclusive, were durable here.
    pub durable_end: Option<u64>,
}

/// A channel of the new incarnation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ChannelLeft {
    pub name: String,
    pub accepted: u64,
    /// Events that some durable consumer waits for.
    pub pending: u64,
    pub consumers: usize,
}

/// Events of a channel whose bytes are gone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Lost {
    pub channel: String,
    pub events: u64,
    /// First and last sequence of each stretch.
    pub sequences: Vec<(u64, u64)>,
    /// Durable consumers that waited for some of them, and for how many; they count as `discarded`.
    pub consumers: Vec<(String, u64)>,
}

/// Makes the node whose data are in `dir`, which must not run, the only member of a new incarnation
/// of its cluster, with everything that can be read of its snapshot and log. The old directory is
/// changed in no case, and moved aside if the new one takes its place.
pub fn recover(dir: &Path, target: &Target, cluster: ClusterId) -> Result<Recovery, OfflineError> {
    let look = Look::open(dir)?;
    let name = dir.display().to_string();
    let site = match target {
        Target::Nowhere => return recover_on(&look, None, cluster, &name),
        Target::InPlace => Site::beside(dir)?,
        Target::Into(new) => {
            Site::check_free(new)?;
            Site::beside(new)?
        }
    };
    let opening = StorageError::io(format!("opening {}", site.dir().display()));
    let disk = RealDisk::open(site.dir()).map_err(opening)?;
    let mut recovery = recover_on(&look, Some(Arc::new(disk)), cluster, &name)?;
    match target {
        Target::Into(new) => {
            site.place()?;
            recovery.data_dir = Some(new.clone());
        }
        _ => {
            recovery.kept =
                Some(site.replace().map_err(|error| OfflineError::NotReplaced { error })?);
            recovery.data_dir = Some(dir.to_path_buf());
        }
    }
    Ok(recovery)
}

/// The same, from an open look to an empty disk, or to none.
pub(super) fn recover_on(
    look: &Look,
    disk: Option<Arc<dyn Disk>>,
    cluster: ClusterId,
    dir: &str,
) -> Result<Recovery, OfflineError> {
    let salvaged = look.events()?;
    let mut survey = survey(look, &salvaged, dir)?;
    let vote = vote(look, &mut survey.findings);
    let identity = look.identity.value().copied();
    let term = vote.map_or(0, |vote| vote.leader_id.term);
    let founder = Founder::after(&survey.image, term, cluster, old_self(&survey, identity));
    let fresh = disk.map(Fresh::begin).transpose()?;
    let mut writer = fresh.as_ref().map(|fresh| fresh.events.writer());
    let lost = survey.payloads(look, &salvaged, &mut |key, payload| match &mut writer {
        Some(writer) => writer.relocate(key, payload),
        None => Ok(()),
    })?;
    let losses = survey.machine.give_up(&lost);
    survey.machine.check_ledger().map_err(OfflineError::Unsound)?;
    let recovery = report(look, &survey, vote, &founder, &losses);
    if let (Some(fresh), Some(writer)) = (fresh, writer) {
        founder.found(fresh, writer, survey.machine, survey.image)?;
    }
    Ok(recovery)
}

fn vote(look: &Look, findings: &mut Vec<String>) -> Option<RaftVote> {
    let vote = postcard::from_bytes::<RaftVote>(look.vote.value()?);
    vote.map_err(|error| findings.push(format!("the saved vote does not parse: {error}"))).ok()
}

/// The node as its own configuration knew it.
fn old_self(survey: &Survey, identity: Option<Identity>) -> Member {
    let membership = survey.image.membership.membership();
    let known = identity.and_then(|identity| membership.get_node(&identity.node.0));
    known.cloned().unwrap_or_default()
}

fn report(
    look: &Look,
    survey: &Survey,
    vote: Option<RaftVote>,
    founder: &Founder,
    losses: &[Loss],
) -> Recovery {
    let identity = look.identity.value();
    let node = identity.map(|identity| identity.node);
    let members = survey.image.membership.membership().nodes().map(|(id, _)| NodeId(*id));
    let last = survey.image.last.as_ref().map(entry_id).unwrap_or_default();
    let known = Known {
        snapshot_index: survey.snapshot.map(|id| id.index),
        last_index: last.index,
        last_term: last.term,
        vote_term: vote.map(|vote| vote.leader_id.term),
        vote_for: vote.map(|vote| NodeId(vote.leader_id.node_id)),
        vote_led: vote.map(|vote| vote.committed),
        durable_end: look.mark.value().map(|mark| mark.end),
    };
    Recovery {
        from: Origin {
            cluster_id: identity.map(|identity| identity.cluster),
            node_id: node,
            other_members: members.filter(|id| Some(*id) != node).collect(),
        },
        cluster_id: founder.cluster,
        node_id: founder.node,
        data_dir: None,
        kept: None,
        channels: channels(&survey.machine),
        lost: losses.iter().map(lost).collect(),
        findings: findings(look, survey, &known),
        doubts: doubts(survey, &known),
        known,
    }
}

pub(super) fn channels(machine: &Machine) -> Vec<ChannelLeft> {
    let channel = |channel: &crate::machine::Channel| ChannelLeft {
        name: channel.name().to_string(),
        accepted: channel.accepted(),
        pending: channel.pending().events,
        consumers: channel.proxies().count(),
    };
    machine.channels().map(channel).collect()
}

fn lost(loss: &Loss) -> Lost {
    let ranges = |set: &SeqRanges| set.iter().map(|range| (range.first, range.last)).collect();
    Lost {
        channel: loss.name.to_string(),
        events: loss.sequences.count(),
        sequences: ranges(&loss.sequences),
        consumers: loss.waited.iter().map(|(name, count)| (name.to_string(), *count)).collect(),
    }
}

fn findings(look: &Look, survey: &Survey, known: &Known) -> Vec<String> {
    let mut findings = survey.findings.clone();
    for (name, wrong) in [
        ("identity", wrong(&look.identity)),
        // A node that never voted has none.
        ("vote", wrong(&look.vote).filter(|_| look.vote != RegisterLook::Missing)),
        ("floor", wrong(&look.floor)),
        ("mark", wrong(&look.mark)),
    ] {
        findings.extend(wrong.map(|wrong| format!("register {name}: {wrong}")));
    }
    let end = known.last_index + 1;
    let durable = known.durable_end.unwrap_or(0);
    if survey.log_end < durable && durable <= end {
        findings.push(format!(
            "the log ends before entry {}, but entries before {durable} were durable: the snapshot \
             covers them, and what came after it is lost",
            survey.log_end
        ));
    }
    if durable > end {
        findings.push(format!(
            "entries {end} to {} were durable here and cannot be read: what they held is lost, \
             acknowledged events perhaps",
            durable - 1
        ));
    }
    if let Some(beyond) = survey.beyond {
        findings.push(format!(
            "the log has entries up to {beyond} at least, which nothing leads to: not kept"
        ));
    }
    findings
}

fn wrong<T>(register: &RegisterLook<T>) -> Option<String> {
    match register {
        RegisterLook::Held(_) => None,
        RegisterLook::Missing => Some("it is missing".into()),
        RegisterLook::Damaged(why) => Some(why.clone()),
    }
}

fn doubts(survey: &Survey, known: &Known) -> Vec<String> {
    let mut doubts = vec![format!(
        "how much the lost members acknowledged after entry {}; all of it is lost",
        known.last_index
    )];
    let first = known.snapshot_index.map_or(0, |index| index + 1);
    if first <= known.last_index {
        doubts.push(format!(
            "which of the entries {first} to {} were committed; all are kept, so events may appear \
             whose publish was never acknowledged",
            known.last_index
        ));
    }
    if survey.machine.channels().any(|channel| channel.proxies().count() > 0) {
        doubts.push("which events were settled after that entry; they are delivered again".into());
    }
    doubts
}
