//! What a run leaves for its readers, and how it is judged again.

use std::path::Path;

use anyhow::{Context, Result};

use super::judgement::{Judgement, note};
use super::{Scenario, find};
use crate::history;
use crate::verdict::Verdict;

/// The files of a run's directory.
pub const HISTORY: &str = "history.jsonl";
pub const VERDICT: &str = "verdict.json";

/// Reads the history in `dir` again, judges it by today's invariants and writes the verdict.
///
/// # Errors
/// The directory is not that of a run, or its history is damaged; then nothing is written.
pub fn judge_again(dir: &Path) -> Result<Verdict> {
    let path = dir.join(HISTORY);
    let records = history::read(&path).with_context(|| {
        format!("{}: this is not the directory of a run, see 'run --out'", path.display())
    })?;
    let mut records = records.peekable();
    let scenario = match records.peek() {
        Some(Ok(first)) => scenario_of(first)?,
        _ => anyhow::bail!("{} does not begin as a run's history does", path.display()),
    };
    let mut judgement = Judgement::new(scenario);
    let torn = history::is_torn(&path).with_context(|| format!("read {}", path.display()))?;
    for record in records {
        judgement.observe(&record.with_context(|| format!("read {}", path.display()))?);
    }
    let mut verdict = judgement.conclude();
    if torn {
        let text =
            "the history ends within a line, as the run was cut short; that line is left out";
        verdict.doubt(text);
    }
    write(dir, &verdict)?;
    Ok(verdict)
}

/// Writes the verdict, and the reports for people.
pub fn write(dir: &Path, verdict: &Verdict) -> Result<()> {
    let path = dir.join(VERDICT);
    let text = serde_json::to_string_pretty(verdict)? + "\n";
    std::fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
    crate::report::write(dir, verdict)
}

fn scenario_of(first: &history::Record) -> Result<&'static Scenario> {
    match &first.what {
        history::What::Note { key, text, .. } if key == note::SCENARIO => {
            find(text).with_context(|| format!("there is no scenario '{text}' any more"))
        }
        _ => anyhow::bail!("the history does not say which scenario it is of"),
    }
}
