//! `report.md`: the same without the plots.

use std::fmt::Write;

use super::gather::{FaultSpan, Gathered};
use super::text::{count, list, moment, span};
use super::{NO_VIOLATIONS, figures, nothing_to_judge};
use crate::verdict::Verdict;

/// Violations listed.
pub const VIOLATIONS: usize = 100;
/// Faults listed.
pub const FAULTS: usize = 200;

/// How long a fault lasted.
pub fn lasted(fault: &FaultSpan) -> String {
    match fault.end {
        Some(end) => span(end.saturating_sub(fault.begin) as f64),
        None => "to the end".into(),
    }
}

/// Text as it stands in a cell of a table.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace(['\n', '\r'], " ")
}

/// The whole text. Writing to a string does not fail.
pub fn render(run: &Verdict, gathered: &Gathered) -> String {
    let mut text = format!("# {}: {}\n\n", run.scenario, run.verdict);
    let Verdict { nodes, seconds, seed, .. } = run;
    let _ = writeln!(text, "{nodes} nodes, {seconds} s, seed {seed}.\n");
    for doubt in run.doubts() {
        let _ = writeln!(text, "In doubt: {doubt}\n");
    }
    let _ = writeln!(text, "| | |\n|---|---|");
    let latency = |part| gathered.latency.quantile(part).map_or_else(|| "–".into(), span);
    let rows = [
        ("publish latency p50, p99", format!("{}, {}", latency(0.5), latency(0.99))),
        ("kill of the leader → next ack", failovers(run)),
        ("faults", count(gathered.faults.len() as u64)),
        ("records", count(gathered.records)),
    ];
    let figures = figures(run).map(|(name, value)| (name, count(value)));
    for (name, value) in figures.into_iter().chain(rows) {
        let _ = writeln!(text, "| {name} | {value} |");
    }
    let _ = writeln!(text, "\nDo it again: `{}`\n", run.reproduce);
    violations(&mut text, run);
    coverage(&mut text, run);
    left_out(&mut text, run);
    faults(&mut text, gathered);
    text
}

fn failovers(run: &Verdict) -> String {
    let mut times = run.failover_ms.clone();
    times.sort_unstable();
    match (times.first(), times.get(times.len() / 2), times.last()) {
        (Some(least), Some(median), Some(most)) => {
            format!("{} kills: median {median} ms ({least} to {most})", times.len())
        }
        _ => "–".into(),
    }
}

fn violations(text: &mut String, run: &Verdict) {
    let _ = writeln!(text, "## Violations\n");
    if run.violations.is_empty() {
        let _ = writeln!(text, "{NO_VIOLATIONS}\n");
    }
    if let Some(idle) = nothing_to_judge(run) {
        let _ = writeln!(text, "{idle}\n");
    }
    if run.violations.is_empty() {
        return;
    }
    let _ = writeln!(text, "| at | invariant | what |\n|---:|---|---|");
    for violation in run.violations.iter().take(VIOLATIONS) {
        let (at, detail) = (moment(violation.at), cell(&violation.detail));
        let _ = writeln!(text, "| {at} | {} | {detail} |", violation.invariant);
    }
    text.push('\n');
}

fn coverage(text: &mut String, run: &Verdict) {
    let _ = writeln!(text, "## Coverage\n\n| what | done | required |\n|---|---:|---:|");
    let names = run.required.keys().chain(run.coverage.keys());
    for name in names.collect::<std::collections::BTreeSet<_>>() {
        let done = run.coverage.get(name).copied().unwrap_or(0);
        let required = match run.required.get(name) {
            Some(least) if done < *least => format!("{}, not enough", count(*least)),
            Some(least) => count(*least),
            None => String::new(),
        };
        let _ = writeln!(text, "| {} | {} | {required} |", cell(name), count(done));
    }
    text.push('\n');
}

fn left_out(text: &mut String, run: &Verdict) {
    let _ = writeln!(text, "## Left out\n");
    if run.left_out.is_empty() {
        let _ = writeln!(text, "Nothing.");
    }
    for why in &run.left_out {
        let _ = writeln!(text, "- {why}");
    }
    text.push('\n');
}

fn faults(text: &mut String, gathered: &Gathered) {
    let _ = writeln!(text, "## Timeline of faults\n");
    if gathered.faults.is_empty() {
        let _ = writeln!(text, "None.");
        return;
    }
    if gathered.faults.len() > FAULTS {
        let _ = writeln!(text, "The first {FAULTS} of {}.\n", gathered.faults.len());
    }
    let _ = writeln!(text, "| from | for | fault | nodes | detail |\n|---:|---:|---|---|---|");
    for fault in gathered.faults.iter().take(FAULTS) {
        let (from, lasted) = (moment(fault.begin), lasted(fault));
        let (name, nodes) = (cell(&fault.name), list(&fault.targets));
        let _ =
            writeln!(text, "| {from} | {lasted} | {name} | {nodes} | {} |", cell(&fault.detail));
    }
}
