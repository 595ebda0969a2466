//! The plots of a report.

use super::chart::{COLOURS, Chart, Scale, linear, log};
use super::gather::{FaultSpan, Gathered};
use super::series::Series;
use super::text;
use crate::verdict::Verdict;

/// Points of a line, at most twice as many.
const POINTS: u64 = 240;
/// Consumers drawn: those with the largest backlogs.
const CONSUMERS: usize = COLOURS;
/// Kinds of faults with a row of their own; the last row takes the others.
const KINDS: usize = 12;
/// Bars of the distribution of failovers.
const BARS: usize = 24;

/// Values at times; `None` is a gap.
type Line = Vec<(f64, Option<f64>)>;

/// A plot with what a reader needs to understand it.
pub struct Plot {
    pub title: String,
    pub about: String,
    /// Colour and what it stands for.
    pub legend: Vec<(usize, String)>,
    pub svg: String,
}

/// All plots that have something to show.
pub fn all(verdict: &Verdict, run: &Gathered) -> Vec<Plot> {
    let plots = [
        faults(run),
        Some(throughput(verdict, run)),
        latency(run),
        leaders(run),
        pending(run),
        Some(duplicates(verdict, run)),
        failovers(&verdict.failover_ms),
    ];
    plots.into_iter().flatten().collect()
}

fn width(run: &Gathered) -> u64 {
    (run.end / POINTS).max(1)
}

fn kinds(run: &Gathered) -> Vec<String> {
    let mut kinds: Vec<String> = Vec::new();
    for fault in &run.faults {
        let kind = if kinds.len() < KINDS { fault.kind() } else { "other" };
        if !kinds.iter().any(|known| known == fault.kind() || known == kind) {
            kinds.push(kind.into());
        }
    }
    kinds
}

fn row(kinds: &[String], fault: &FaultSpan) -> usize {
    kinds.iter().position(|kind| kind == fault.kind()).unwrap_or(kinds.len().saturating_sub(1))
}

fn says(fault: &FaultSpan) -> String {
    let FaultSpan { name, targets, begin, .. } = fault;
    format!("{name} on {}, at {}", text::list(targets), text::moment(*begin))
}

/// A chart over the time of the run, with bands for faults and rules for phases.
fn over_time(run: &Gathered, height: f64, scale: Scale, title: &str) -> Chart {
    let mut chart = Chart::new(height, run.end as f64, scale, title);
    let kinds = kinds(run);
    for fault in &run.faults {
        let end = fault.end.unwrap_or(run.end) as f64;
        chart.band(fault.begin as f64, end, row(&kinds, fault), &says(fault));
    }
    run.phases.iter().skip(1).for_each(|(at, _)| chart.rule(*at as f64));
    chart.time_axis();
    chart
}

fn faults(run: &Gathered) -> Option<Plot> {
    let kinds = kinds(run);
    if kinds.is_empty() {
        return None;
    }
    let rows = kinds.len();
    let mut chart = Chart::new(rows as f64 * 24.0, run.end as f64, linear(1.0), "Faults");
    chart.rows(&kinds);
    for fault in &run.faults {
        let (row, end) = (row(&kinds, fault), fault.end.unwrap_or(run.end) as f64);
        chart.cell((row, rows), fault.begin as f64, end, row, &says(fault));
    }
    run.phases.iter().skip(1).for_each(|(at, _)| chart.rule(*at as f64));
    chart.time_axis();
    let named = |(at, phase): &(u64, crate::history::Phase)| {
        format!("{} at {}", format!("{phase:?}").to_lowercase(), text::moment(*at))
    };
    let phases: Vec<String> = run.phases.iter().skip(1).map(named).collect();
    let about = match phases.is_empty() {
        true => "The same colours mark them in the plots below.".into(),
        false => format!(
            "The same colours mark them in the plots below; dashed lines are phases: {}.",
            phases.join(", ")
        ),
    };
    Some(Plot { title: "Faults".into(), about, legend: Vec::new(), svg: chart.finish() })
}

/// Counts as rates per second, without a last bucket that is hardly begun.
fn rates(run: &Gathered, series: &Series<u64>) -> Line {
    let series = series.coarsened(width(run));
    let seconds = series.width as f64 / 1e6;
    let whole = (run.end / series.width) as usize;
    let rate = |at: usize| series.buckets.get(at).copied().unwrap_or(0) as f64 / seconds;
    let middle = |at: usize| (at as u64 * series.width + series.width / 2) as f64;
    (0..whole).map(|at| (middle(at), Some(rate(at)))).collect()
}

fn most(lines: &[&[(f64, Option<f64>)]]) -> f64 {
    lines.iter().flat_map(|line| line.iter()).filter_map(|(_, value)| *value).fold(0.0, f64::max)
}

fn throughput(verdict: &Verdict, run: &Gathered) -> Plot {
    let (acks, deliveries) = (rates(run, &run.acks), rates(run, &run.deliveries));
    let scale = linear(most(&[&acks, &deliveries]));
    let mut chart = over_time(run, 180.0, scale, "Throughput");
    chart.values(text::short);
    chart.line(&deliveries, 1, false);
    chart.line(&acks, 0, false);
    let legend = vec![
        (0, format!("acked ({})", text::count(verdict.acked))),
        (1, format!("deliveries ({})", text::count(verdict.count("deliveries")))),
    ];
    let about = "Events per second, over all suppliers and all consumers.".into();
    Plot { title: "Throughput".into(), about, legend, svg: chart.finish() }
}

fn latency(run: &Gathered) -> Option<Plot> {
    let (least, all) = (run.latency.quantile(0.001)?, run.latency.quantile(1.0)?);
    let series = run.latencies.coarsened(width(run));
    let line = |part: f64| -> Line {
        series.iter().map(|(at, found)| (at as f64, found.quantile(part))).collect()
    };
    let mut chart = over_time(run, 180.0, log(least, all), "Publish latency");
    chart.values(text::span);
    chart.line(&line(0.99), 1, false);
    chart.line(&line(0.5), 0, false);
    let over = |part: f64| run.latency.quantile(part).map(text::span).unwrap_or_default();
    let legend = vec![(0, format!("p50 ({})", over(0.5))), (1, format!("p99 ({})", over(0.99)))];
    let about = format!(
        "From the first attempt to the acknowledgement, at the time of the acknowledgement; \
         logarithmic. In brackets over the whole run; the longest took {}.",
        text::span(all)
    );
    Some(Plot { title: "Publish latency".into(), about, legend, svg: chart.finish() })
}

fn leaders(run: &Gathered) -> Option<Plot> {
    if run.leaders.is_empty() {
        return None;
    }
    let names: Vec<String> = run.nodes.iter().map(|node| format!("node {node}")).collect();
    let rows = names.len();
    let mut chart = over_time(run, rows as f64 * 26.0, linear(1.0), "Leader");
    chart.rows(&names);
    let ends = run.leaders.iter().skip(1).map(|(at, _)| *at).chain([run.end]);
    for ((begin, leader), end) in run.leaders.iter().zip(ends) {
        let Some(node) = leader else { continue };
        let Ok(row) = run.nodes.binary_search(node) else { continue };
        let title = format!("node {node} leads from {}", text::moment(*begin));
        chart.cell((row, rows), *begin as f64, end as f64, row, &title);
    }
    let changes = run.leaders.iter().filter(|(_, leader)| leader.is_some()).count();
    let about = format!("As observers saw it: {} leaderships.", text::count(changes as u64));
    Some(Plot { title: "Leader".into(), about, legend: Vec::new(), svg: chart.finish() })
}

fn pending(run: &Gathered) -> Option<Plot> {
    let mut lines: Vec<(&String, Line)> = Vec::new();
    for (name, series) in &run.pending {
        let series = series.coarsened(width(run));
        let points = series.iter().filter_map(|(at, most)| Some((at as f64, Some(most.0? as f64))));
        lines.push((name, points.collect()));
    }
    if lines.is_empty() {
        return None;
    }
    lines.sort_by(|(_, a), (_, b)| most(&[b]).total_cmp(&most(&[a])));
    let left_out = lines.len().saturating_sub(CONSUMERS);
    lines.truncate(CONSUMERS);
    let scale = linear(lines.iter().map(|(_, line)| most(&[line])).fold(0.0, f64::max));
    let mut chart = over_time(run, 160.0, scale, "Pending per consumer");
    chart.values(text::short);
    let mut legend = Vec::new();
    for (colour, (name, line)) in lines.iter().enumerate() {
        chart.line(line, colour, false);
        legend.push((colour, format!("{name} (at most {})", text::count(most(&[line]) as u64))));
    }
    let about = match left_out {
        0 => "Events offered and not settled, as statuses showed them.".into(),
        n => format!("Events offered and not settled. {n} consumers with less are left out."),
    };
    Some(Plot { title: "Pending per consumer".into(), about, legend, svg: chart.finish() })
}

/// Counts as a growing sum.
fn sums(run: &Gathered, series: &Series<u64>) -> Line {
    let series = series.coarsened(width(run));
    let mut sum = 0;
    let mut points = vec![(0.0, Some(0.0))];
    for (at, count) in series.iter() {
        sum += count;
        points.push(((at + series.width / 2).min(run.end) as f64, Some(sum as f64)));
    }
    points.push((run.end as f64, Some(sum as f64)));
    points
}

fn duplicates(verdict: &Verdict, run: &Gathered) -> Plot {
    let (twice, never) = (sums(run, &run.duplicates), sums(run, &run.undelivered));
    let mut chart = over_time(run, 140.0, linear(most(&[&twice, &never])), "Duplicates, losses");
    chart.values(text::short);
    for (at, lost) in run.undelivered.coarsened(width(run)).iter().filter(|(_, lost)| **lost > 0) {
        chart.alarm(at as f64, &format!("{lost} never delivered"));
    }
    chart.line(&twice, 0, true);
    chart.line(&never, 1, true);
    let never = text::count(run.undelivered.buckets.iter().sum());
    let legend = vec![
        (0, format!("duplicates ({})", text::count(verdict.count("duplicates")))),
        (1, format!("acked, never delivered to some consumer ({never})")),
    ];
    let about = "Sums over all durable consumers. An event that was never delivered counts when \
                 it was acknowledged; red marks show when. One is lost if the consumer's \
                 ledger does not account for it."
        .into();
    Plot { title: "Duplicates and losses".into(), about, legend, svg: chart.finish() }
}

fn failovers(times_ms: &[u64]) -> Option<Plot> {
    let mut spans: Vec<u64> = times_ms.iter().map(|ms| ms * 1000).collect();
    spans.sort_unstable();
    let (least, longest) = (*spans.first()?, *spans.last()?);
    let Scale::Linear(end) = linear(longest as f64) else { return None };
    let step = end / BARS as f64;
    let mut counts = [0u64; BARS];
    for span in &spans {
        counts[((*span as f64 / step) as usize).min(BARS - 1)] += 1;
    }
    let highest = counts.iter().copied().max().unwrap_or(0);
    let mut chart = Chart::new(150.0, end, linear(highest as f64), "Kill of a leader to next ack");
    chart.values(text::short);
    for (bar, count) in counts.iter().enumerate().filter(|(_, count)| **count > 0) {
        let from = bar as f64 * step;
        let title = format!("{count} from {} on", text::span(from));
        chart.bar(from + step * 0.06, from + step * 0.94, *count as f64, 0, &title);
    }
    chart.span_axis();
    let at = |part: f64| spans[((spans.len() - 1) as f64 * part).round() as usize] as f64;
    let tail = match spans.len() {
        ..=19 => String::new(),
        _ => format!(", p90 {}, p99 {}", text::span(at(0.9)), text::span(at(0.99))),
    };
    let about = format!(
        "{} kills; from the kill to the first acknowledgement of an event published after it. \
         Shortest {}, median {}{tail}, longest {}.",
        text::count(spans.len() as u64),
        text::span(least as f64),
        text::span(at(0.5)),
        text::span(longest as f64)
    );
    let title = "Kill of the leader to next acknowledgement".into();
    Some(Plot { title, about, legend: Vec::new(), svg: chart.finish() })
}
