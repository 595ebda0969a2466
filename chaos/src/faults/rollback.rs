//! Something of a node's disk is as it was a while ago: a restored backup, a disk that lied.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::anatomy::{events, log, register};
use super::damage::{self, Copies, Done, Expect};
use super::flip::loss_of_log;
use super::whom::Whom;
use super::{Begun, Inject, Scene};

/// What is restored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Old {
    Log,
    Vote,
    Manifest,
    /// The whole directory.
    Everything,
}

/// Copies something of each target, lets it go on, and restores the copy.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Rollback {
    pub whom: Whom,
    pub what: Old,
    /// Of the slots of the vote.
    #[serde(default)]
    pub copies: Copies,
    /// Milliseconds between copying and restoring, with the node running.
    pub age_ms: u64,
}

impl Inject for Rollback {
    fn name(&self) -> String {
        let what = serde_json::to_value(self.what).unwrap_or_default();
        let what = what.as_str().unwrap_or_default();
        match (self.what, self.copies) {
            (Old::Vote, Copies::One) => format!("rollback({}, one copy of {what})", self.whom),
            _ => format!("rollback({}, {what})", self.whom),
        }
    }

    async fn begin(&self, scene: &mut Scene<'_>) -> Result<Begun> {
        let targets = self.whom.choose(scene).await?;
        let mut begun = scene.announce(self.name(), &targets, "");
        scene.bed.kill(&targets).await?;
        for node in &targets {
            let dir = scene.bed.node(*node)?.data_dir;
            for path in self.paths(&dir) {
                copy(&path, &backup(&dir, &path)?)?;
            }
        }
        scene.bed.restart_all(&targets).await?;
        tokio::time::sleep(Duration::from_millis(self.age_ms)).await;
        scene.bed.kill(&targets).await?;
        for node in &targets {
            let dir = scene.bed.node(*node)?.data_dir;
            let done = self.restore(&dir)?;
            damage::note(scene, &mut begun, *node, done);
        }
        damage::observe(scene, &mut begun).await?;
        Ok(begun)
    }

    async fn end(&self, begun: &mut Begun, scene: &mut Scene<'_>) -> Result<String> {
        damage::restore(begun, scene).await
    }
}

impl Rollback {
    fn paths(&self, dir: &Path) -> Vec<PathBuf> {
        match (self.what, self.copies) {
            (Old::Log, _) => vec![dir.join("log")],
            (Old::Vote, Copies::One) => vec![dir.join("vote.a")],
            (Old::Vote, Copies::All) => vec![dir.join("vote.a"), dir.join("vote.b")],
            (Old::Manifest, _) => vec![events::manifest_path(dir)],
            (Old::Everything, _) => vec![dir.to_path_buf()],
        }
    }

    fn restore(&self, dir: &Path) -> Result<Done> {
        let paths = self.paths(dir);
        let backups: Vec<_> = paths.iter().map(|path| backup(dir, path)).collect::<Result<_>>()?;
        let expect = self.expect(dir, &paths, &backups)?;
        let mut done = Done::new();
        for (path, backup) in paths.iter().zip(&backups) {
            remove(path)?;
            std::fs::rename(backup, path).context("restore a copy")?;
            let how = format!("as it was {} ms of life ago", self.age_ms);
            let name = path.strip_prefix(dir).unwrap_or(path).display().to_string();
            done.push((if name.is_empty() { "everything".into() } else { name }, how, expect));
        }
        if self.what == Old::Manifest && expect == Expect::Either {
            // Now that the old one is there, its own rules say whether it is enough.
            let manifest = events::manifest(dir)?;
            if !events::is_sufficient(dir, &manifest) {
                done[0].2 = Expect::Quarantine;
            }
        }
        Ok(done)
    }

    fn expect(&self, dir: &Path, paths: &[PathBuf], backups: &[PathBuf]) -> Result<Expect> {
        let is_same = |(now, then): (&PathBuf, &PathBuf)| {
            Some(std::fs::read(now).ok()? == std::fs::read(then).ok()?)
        };
        let are_same = || paths.iter().zip(backups).all(|pair| is_same(pair) == Some(true));
        Ok(match (self.what, self.copies) {
            (Old::Vote | Old::Manifest, _) if are_same() => Expect::Nothing,
            (Old::Vote, Copies::One) => Expect::Repair,
            (Old::Vote, Copies::All) | (Old::Everything, _) => Expect::Unnoticed,
            (Old::Manifest, _) => Expect::Either,
            (Old::Log, _) => {
                let last = log::records(&backups[0])?.iter().map(|record| record.last).max();
                let last = last.max(register::floor(dir)?.map(|floor| floor.index));
                loss_of_log(last.map_or(0, |last| last + 1), register::mark(dir)?)
            }
        })
    }
}

/// Where the copy of a path is kept: beside the data directory, on the same disk.
fn backup(dir: &Path, path: &Path) -> Result<PathBuf> {
    let name = path.file_name().context("a path without a name")?;
    Ok(dir.with_file_name(format!("{}.old", name.display())))
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    let failed = || format!("copy {}", from.display());
    if !from.is_dir() {
        return std::fs::copy(from, to).map(drop).with_context(failed);
    }
    std::fs::create_dir_all(to).with_context(failed)?;
    for entry in std::fs::read_dir(from).with_context(failed)? {
        let entry = entry.with_context(failed)?;
        copy(&entry.path(), &to.join(entry.file_name()))?;
    }
    Ok(())
}

fn remove(path: &Path) -> Result<()> {
    let removed = match path.is_dir() {
        true => std::fs::remove_dir_all(path),
        false => std::fs::remove_file(path),
    };
    removed.with_context(|| format!("remove {}", path.display()))
}
