//! A file that has lost its end.

use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::anatomy::{self, events, register};
use super::damage::{self, Copies, Done, Expect, Part};
use super::flip::{below, choose_copies, durable_record, segment, snapshots};
use super::whom::Whom;
use super::{Begun, Inject, Scene};

/// Cuts off a file of each target.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Truncate {
    pub whom: Whom,
    pub part: Part,
    #[serde(default)]
    pub copies: Copies,
}

impl Inject for Truncate {
    fn name(&self) -> String {
        format!("truncate({}, {} of {})", self.whom, self.copies, self.part)
    }

    async fn begin(&self, scene: &mut Scene<'_>) -> Result<Begun> {
        let work = |dir: &Path, rng: &mut fastrand::Rng| truncate(dir, self.part, self.copies, rng);
        damage::inflict(scene, self.name(), &self.whom, work).await
    }

    async fn end(&self, begun: &mut Begun, scene: &mut Scene<'_>) -> Result<String> {
        damage::restore(begun, scene).await
    }
}

/// Cuts off a file in the directory of a stopped node.
pub fn truncate(dir: &Path, part: Part, copies: Copies, rng: &mut fastrand::Rng) -> Result<Done> {
    match part {
        Part::Log => {
            let (chosen, expect) = durable_record(dir, rng)?;
            // Other files may hold later copies: each loses its own, and what follows it.
            let mut cuts = std::collections::BTreeMap::new();
            for copy in &chosen {
                let cut = cuts.entry(copy.path.clone()).or_insert(copy.offset);
                *cut = copy.offset.min(*cut);
            }
            cuts.iter().map(|(path, cut)| shorten(dir, path, *cut, expect)).collect()
        }
        Part::Vote => {
            let mut slots = register::slots(dir, "vote")?;
            let expect = choose_copies(&mut slots, copies, rng);
            let cut =
                |slot: &register::Slot| shorten(dir, &slot.path, rng.u64(..slot.bytes()), expect);
            slots.iter().map(cut).collect()
        }
        Part::Manifest => {
            let path = events::manifest_path(dir);
            let len = std::fs::metadata(&path).context("look at the manifest")?.len();
            Ok(vec![shorten(dir, &path, rng.u64(..len), Expect::Quarantine)?])
        }
        Part::Snapshot => {
            let (snapshots, expect) = snapshots(dir, copies)?;
            let paths = snapshots.iter().map(|s| (events::path(dir, &s.name), s.len));
            paths.map(|(path, len)| shorten(dir, &path, rng.u64(..len), expect)).collect()
        }
        Part::Segment => {
            let segment = segment(dir, rng)?;
            let (inside, len) = events::events_of(dir, &segment)?;
            let cut = rng.u64(..len);
            // The index can be made again from whole events.
            let expect = if cut < inside.end { Expect::Quarantine } else { Expect::Repair };
            Ok(vec![shorten(dir, &events::path(dir, &segment.name), cut, expect)?])
        }
    }
}

fn shorten(dir: &Path, path: &Path, len: u64, expect: Expect) -> Result<(String, String, Expect)> {
    anatomy::truncate(path, len)?;
    Ok((below(dir, path), format!("cut off after {len} bytes"), expect))
}
