//! One flipped bit, in data that counts.

use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::anatomy::{self, events, log, register};
use super::damage::{self, Copies, Done, Expect, Part};
use super::whom::Whom;
use super::{Begun, Inject, Scene};

/// Flips a bit in a file of each target.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Flip {
    pub whom: Whom,
    pub part: Part,
    #[serde(default)]
    pub copies: Copies,
}

impl Inject for Flip {
    fn name(&self) -> String {
        format!("flip({}, {} of {})", self.whom, self.copies, self.part)
    }

    async fn begin(&self, scene: &mut Scene<'_>) -> Result<Begun> {
        let work = |dir: &Path, rng: &mut fastrand::Rng| flip(dir, self.part, self.copies, rng);
        damage::inflict(scene, self.name(), &self.whom, work).await
    }

    async fn end(&self, begun: &mut Begun, scene: &mut Scene<'_>) -> Result<String> {
        damage::restore(begun, scene).await
    }
}

/// Flips a bit in the directory of a stopped node.
pub fn flip(dir: &Path, part: Part, copies: Copies, rng: &mut fastrand::Rng) -> Result<Done> {
    match part {
        Part::Log => {
            let (chosen, expect) = durable_record(dir, rng)?;
            let place = rng.u64(..chosen[0].len);
            let at = chosen.iter().map(|copy| (copy.path.clone(), copy.offset + place));
            let what = format!(" in entries {}..={}", chosen[0].first, chosen[0].last);
            let bit = rng.u8(..8);
            at.map(|(path, offset)| hit(dir, &path, offset, bit, &what, expect)).collect()
        }
        Part::Vote => {
            let mut slots = register::slots(dir, "vote")?;
            let expect = choose_copies(&mut slots, copies, rng);
            slots.iter().map(|slot| any(dir, &slot.path, slot.bytes(), expect, rng)).collect()
        }
        Part::Manifest => {
            let path = events::manifest_path(dir);
            let len = std::fs::metadata(&path).context("look at the manifest")?.len();
            Ok(vec![any(dir, &path, len, Expect::Quarantine, rng)?])
        }
        Part::Snapshot => {
            let (snapshots, expect) = snapshots(dir, copies)?;
            let paths = snapshots.iter().map(|s| (events::path(dir, &s.name), s.len));
            paths.map(|(path, len)| any(dir, &path, len, expect, rng)).collect()
        }
        Part::Segment => {
            let segment = segment(dir, rng)?;
            let (inside, len) = events::events_of(dir, &segment)?;
            let (path, offset) = (events::path(dir, &segment.name), rng.u64(..len));
            let (what, expect) = match inside.contains(&offset) {
                true => (" in an event", Expect::OnRead),
                false => (" in the index", Expect::Repair),
            };
            Ok(vec![hit(dir, &path, offset, rng.u8(..8), what, expect)?])
        }
    }
}

/// All copies of a record below the mark, never none, and what must come of its loss.
pub(super) fn durable_record(
    dir: &Path,
    rng: &mut fastrand::Rng,
) -> Result<(Vec<log::Found>, Expect)> {
    let (mark, floor) = (register::mark(dir)?, register::floor(dir)?);
    let chosen = log::choose(&dir.join("log"), floor.map(|floor| floor.index), mark, rng)?;
    let expect = loss_of_log(chosen[0].first, mark);
    Ok((chosen, expect))
}

/// What must come of a log that ends before `end`, if entries before `mark` were durable.
pub(super) fn loss_of_log(end: u64, mark: u64) -> Expect {
    if end < mark { Expect::Quarantine } else { Expect::Either }
}

/// One slot can be repaired from the other; two cannot.
pub(super) fn choose_copies<T>(
    slots: &mut Vec<T>,
    copies: Copies,
    rng: &mut fastrand::Rng,
) -> Expect {
    if copies == Copies::All {
        return Expect::Quarantine;
    }
    let chosen = rng.usize(..slots.len());
    slots.swap(0, chosen);
    slots.truncate(1);
    Expect::Repair
}

/// The snapshots to hit, and what must come of it: the newest one alone falls back to the one
/// before.
pub(super) fn snapshots(dir: &Path, copies: Copies) -> Result<(Vec<events::FileInfo>, Expect)> {
    let manifest = events::manifest(dir)?;
    let current = manifest.current.context("the node has no snapshot yet")?;
    let fallback = manifest.previous.filter(|previous| events::is_usable(dir, previous));
    Ok(match (copies, fallback) {
        (Copies::One, Some(_)) => (vec![current], Expect::Repair),
        (Copies::All, Some(fallback)) => (vec![current, fallback], Expect::Quarantine),
        (_, None) => (vec![current], Expect::Quarantine),
    })
}

/// Any segment that counts.
pub(super) fn segment(dir: &Path, rng: &mut fastrand::Rng) -> Result<events::FileInfo> {
    let segments = events::manifest(dir)?.segments;
    let chosen = rng.choice(&segments).context("the node has no segment yet")?;
    Ok(chosen.file.clone())
}

/// A name for people: the path below the data directory.
pub(super) fn below(dir: &Path, path: &Path) -> String {
    path.strip_prefix(dir).unwrap_or(path).display().to_string()
}

fn any(
    dir: &Path,
    path: &Path,
    len: u64,
    expect: Expect,
    rng: &mut fastrand::Rng,
) -> Result<(String, String, Expect)> {
    hit(dir, path, rng.u64(..len), rng.u8(..8), "", expect)
}

fn hit(
    dir: &Path,
    path: &Path,
    offset: u64,
    bit: u8,
    what: &str,
    expect: Expect,
) -> Result<(String, String, Expect)> {
    anatomy::flip(path, offset, bit)?;
    Ok((below(dir, path), format!("bit {bit} of byte {offset} flipped{what}"), expect))
}
