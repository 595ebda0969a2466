//! What a run came to, for people: `report.md`, and `report.html`, which needs no other file.
//!
//! ```text
//! history.jsonl ─► gather (buckets of time) ─► plots (SVG) ─► html
//! verdict.json  ────────────────────────────────────────────► html, markdown
//! ```

mod chart;
mod gather;
mod html;
mod latency;
mod markdown;
mod plots;
mod series;
#[cfg(test)]
mod tests;
mod text;

use std::fs;
use std::path::Path;

use anyhow::Context;

use crate::history;
use crate::verdict::Verdict;
use gather::{Gathered, Gatherer};

/// What a verdict without violations says of them.
const NO_VIOLATIONS: &str = "None in the invariants that had something to judge.";

/// Which invariants say nothing of this run, if there are any.
fn nothing_to_judge(run: &Verdict) -> Option<String> {
    let names = run.nothing_to_judge.join(", ");
    let text =
        format!("Nothing to judge: {names}. This run has no records of what they are about.");
    (!names.is_empty()).then_some(text)
}

/// The figures at the head of a report, under the names that coverage has them by.
fn figures(run: &Verdict) -> [(&'static str, u64); 6] {
    let Verdict { acked, lost, unknown, .. } = *run;
    let counted = ["refused", "deliveries", "duplicates"].map(|name| (name, run.count(name)));
    let [refused, deliveries, duplicates] = counted;
    [("acked", acked), ("lost", lost), ("unknown", unknown), refused, deliveries, duplicates]
}

/// Writes `report.md` and `report.html` into a run's directory, from its `history.jsonl`. Reads the
/// history once; what is kept of it does not grow with its length, but for a few bytes per event.
///
/// # Errors
/// The history cannot be read, or the reports cannot be written.
pub fn write(dir: &Path, run: &Verdict) -> anyhow::Result<()> {
    let gathered = gather(&dir.join("history.jsonl"))?;
    let put = |name: &str, text: String| {
        fs::write(dir.join(name), text).with_context(|| format!("write {name}"))
    };
    put("report.md", markdown::render(run, &gathered))?;
    put("report.html", html::render(run, &gathered))
}

fn gather(path: &Path) -> anyhow::Result<Gathered> {
    let context = || format!("read {}", path.display());
    let mut gatherer = Gatherer::default();
    for record in history::read(path).with_context(context)? {
        gatherer.observe(&record.with_context(context)?);
    }
    Ok(gatherer.finish())
}
