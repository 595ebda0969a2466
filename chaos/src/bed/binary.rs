//! Where the program under test is.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

use anyhow::{Context, Result, bail};

/// Names the program to use instead of the one in the target directory.
const VARIABLE: &str = "AQUEDUCT_BINARY";

/// The `aqueduct` program: this one, else what `AQUEDUCT_BINARY` says, else the one beside this
/// program.
pub fn find(chosen: Option<&Path>) -> Result<PathBuf> {
    let named = || std::env::var_os(VARIABLE).map(PathBuf::from);
    let (path, hint) = match chosen.map(Path::to_path_buf).or_else(named) {
        Some(path) => (path, format!("see --binary and {VARIABLE}")),
        None => {
            let hint = "run 'cargo build -p aqueduct' with the profile of this program";
            (beside(&target_dir()?), format!("{hint}, or use --binary"))
        }
    };
    if !path.is_file() {
        bail!("{} is not there; {hint}", path.display());
    }
    if rustix::fs::access(&path, rustix::fs::Access::EXEC_OK).is_err() {
        bail!("{} is not executable; {hint}", path.display());
    }
    // Nodes may be started in another directory.
    path.canonicalize().with_context(|| format!("find {}", path.display()))
}

/// The same, for tests: builds the program with cargo if it is missing.
pub fn find_or_build() -> Result<PathBuf> {
    static BUILDING: Mutex<()> = Mutex::new(());
    let _one_at_a_time = BUILDING.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    if let Ok(found) = find(None) {
        return Ok(found);
    }
    let target = target_dir()?;
    let mut build = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    build.args(["build", "-p", "aqueduct", "--bin", "aqueduct", "--target-dir"]);
    build.arg(target.parent().unwrap_or(&target));
    if target.ends_with("release") {
        build.arg("--release");
    }
    build.current_dir(env!("CARGO_MANIFEST_DIR"));
    let status = build.status().context("run cargo to build the program under test")?;
    if !status.success() {
        bail!("cargo could not build the program under test: {status}");
    }
    find(None)
}

/// The directory of this program's profile, such as `target/debug`.
fn target_dir() -> Result<PathBuf> {
    let own = std::env::current_exe().context("find this program's own path")?;
    let dir = own.parent().unwrap_or(Path::new("."));
    let is_test = dir.file_name().is_some_and(|name| name == "deps");
    Ok(if is_test { dir.parent().unwrap_or(dir) } else { dir }.to_path_buf())
}

fn beside(target: &Path) -> PathBuf {
    target.join("aqueduct")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_run_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("aqueduct");
        let why = || format!("{:#}", find(Some(&path)).unwrap_err());
        assert!(why().contains("is not there"), "{}", why());
        std::fs::write(&path, "").unwrap();
        assert!(why().contains("is not executable"), "{}", why());
    }
}
