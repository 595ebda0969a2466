//! What damage faults share: a node is stopped, damaged and started again; if it is quarantined, an
//! operator replaces it then, or it becomes whole again by itself.

use std::fmt;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::whom::Whom;
use super::{Begun, Scene};
use crate::bed::State;
use crate::history::What;

/// A note's key. Count: milliseconds from the start of a damaged node to its refusal to serve.
pub const REFUSED: &str = "refused_after_ms";
/// Another. Count: milliseconds from the start of a damaged node until it was a voter again, by
/// itself and under another id.
pub const REJOINED: &str = "rejoined_after_ms";
/// Another: a node was killed on its way from quarantine to being a voter.
const KILLED_MIDWAY: &str = "killed_while_rejoining";
/// The longest until then.
const MIDWAY_MS: u64 = 400;

/// Which of a node's files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    Log,
    Vote,
    Snapshot,
    Segment,
    Manifest,
}

/// How many of the copies that there are: slots of a register, retained snapshots.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Copies {
    #[default]
    One,
    All,
}

/// What the product must make of damage when it starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Expect {
    /// Something acknowledged is gone for good: it must not vote, lead or serve.
    Quarantine,
    /// There is another copy: it must start, with nothing lost.
    Repair,
    /// It starts; the damage shows when an event is read, if anybody still needs it.
    OnRead,
    /// Either is right: it cannot be said from outside whether what was hit still counted.
    Either,
    /// Nothing that counts has changed.
    Nothing,
    /// The directory is as it once was. No node can know by itself: nothing is promised.
    Unnoticed,
}

/// Something that was done to a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    pub node: u64,
    /// Path below the data directory.
    pub file: String,
    pub how: String,
    pub expect: Expect,
}

/// What a damaged node did next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observed {
    pub node: u64,
    pub state: State,
    /// When it was started, and from there to its first word.
    pub start: Instant,
    pub after_ms: u64,
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Part::Log => "log",
            Part::Vote => "vote",
            Part::Snapshot => "snapshot",
            Part::Segment => "segment",
            Part::Manifest => "manifest",
        })
    }
}

impl fmt::Display for Copies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Copies::One => "one copy",
            Copies::All => "all copies",
        })
    }
}

/// What was done to a directory: file, how, and what must come of it.
pub type Done = Vec<(String, String, Expect)>;

/// Kills the chosen nodes, has `work` damage their directories, records that, and starts them
/// again.
pub(super) async fn inflict(
    scene: &mut Scene<'_>,
    name: String,
    whom: &Whom,
    work: impl Fn(&Path, &mut fastrand::Rng) -> Result<Done>,
) -> Result<Begun> {
    let targets = whom.choose(scene).await?;
    let mut begun = scene.announce(name, &targets, "");
    scene.bed.kill(&targets).await?;
    for node in &targets {
        let dir = scene.bed.node(*node)?.data_dir;
        let done = work(&dir, scene.rng)?;
        note(scene, &mut begun, *node, done);
    }
    observe(scene, &mut begun).await?;
    Ok(begun)
}

/// Records what was done to a stopped node.
pub(super) fn note(scene: &Scene<'_>, begun: &mut Begun, node: u64, done: Done) {
    for (file, how, expect) in done {
        let damage = Damage { node, file, how, expect };
        scene.record(match expect {
            Expect::Quarantine => {
                What::Damaged { node, file: damage.file.clone(), how: damage.how.clone() }
            }
            _ => What::Touched {
                node,
                file: damage.file.clone(),
                how: format!("{}: {expect:?}", damage.how),
                harmless: matches!(expect, Expect::Repair | Expect::Nothing),
            },
        });
        begun.damage.push(damage);
    }
}

/// Starts the targets, and notes what they say.
pub(super) async fn observe(scene: &mut Scene<'_>, begun: &mut Begun) -> Result<()> {
    for node in begun.targets.clone() {
        let start = Instant::now();
        let mut state = scene.bed.restart(node).await?;
        let after_ms = start.elapsed().as_millis() as u64;
        // It may have gone on already.
        let heir = scene.bed.roster().heir(node)?;
        if heir.cleared.last() == Some(&node) {
            state = State::Quarantined("it has given its data up since".into());
        }
        let key = match state {
            State::Quarantined(_) => "quarantined",
            State::Ready => "ready after damage",
            _ => "ended after damage",
        };
        if let State::Quarantined(_) = state {
            let (key, text) = (REFUSED.into(), format!("node {node}"));
            scene.record(What::Note { key, count: after_ms, text });
        }
        let text = format!("node {node} after {after_ms} ms: {state:?}");
        scene.record(What::Note { key: key.into(), count: 1, text });
        begun.observed.push(Observed { node, state, start, after_ms });
    }
    Ok(())
}

/// Has nodes that are quarantined, or do not start, become whole again: by themselves if that is how
/// the bed is set up, else by an operator.
pub(super) async fn restore(begun: &Begun, scene: &mut Scene<'_>) -> Result<String> {
    let mut done = Vec::new();
    for Observed { node, state, start, .. } in &begun.observed {
        done.extend(match state {
            State::Ready => None,
            State::Quarantined(_) if scene.bed.options().rejoins => {
                Some(rejoin(*node, *start, scene).await?)
            }
            _ => Some(replace(*node, scene).await?),
        });
    }
    Ok(done.join(", "))
}

/// Does what an operator does: takes the node out, wipes it and lets it join again under a new id.
async fn replace(node: u64, scene: &mut Scene<'_>) -> Result<String> {
    scene.bed.kill(&[node]).await?;
    scene.bed.remove(node).await?;
    let new = scene.bed.replace(node).await?;
    scene.record(What::Wiped { node });
    Ok(format!("node {node} was replaced by node {new}"))
}

/// Waits until the node votes again under a new id; now and then it is killed on its way.
async fn rejoin(node: u64, start: Instant, scene: &mut Scene<'_>) -> Result<String> {
    if scene.rng.bool() {
        let moment = Duration::from_millis(scene.rng.u64(..MIDWAY_MS));
        tokio::time::sleep(moment).await;
        if scene.bed.start_over(node).await? {
            let text = format!("node {node}, {:?} after its start", start.elapsed());
            scene.record(What::Note { key: KILLED_MIDWAY.into(), count: 1, text });
        }
    }
    let (new, ready_at) = scene.bed.rejoined(node).await?;
    let took = ready_at.saturating_duration_since(start).as_millis() as u64;
    let text = format!("node {node} is node {new}");
    scene.record(What::Note { key: REJOINED.into(), count: took, text });
    Ok(format!("node {node} has rejoined as node {new} after {took} ms"))
}
