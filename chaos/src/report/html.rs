//! `report.html`: everything in one file, light or dark as the reader has it.

use std::fmt::Write;

use super::gather::Gathered;
use super::markdown::{FAULTS, VIOLATIONS, lasted};
use super::plots::{self, Plot};
use super::text::{count, escape, list, moment};
use super::{NO_VIOLATIONS, figures, nothing_to_judge};
use crate::verdict::Verdict;

const STYLE: &str = include_str!("style.css");

/// The whole page.
pub fn render(run: &Verdict, gathered: &Gathered) -> String {
    let (word, title) = (run.verdict, escape(&run.scenario));
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>{title}: {word}</title>\n<style>\n{STYLE}</style></head>\n<body><main>\n"
    );
    head(&mut page, run, gathered);
    violations(&mut page, run);
    plots::all(run, gathered).iter().for_each(|plot| figure(&mut page, plot));
    coverage(&mut page, run);
    left_out(&mut page, run);
    faults(&mut page, gathered);
    page.push_str("</main></body></html>\n");
    page
}

fn put(page: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a string does not fail.
    let _ = writeln!(page, "{text}");
}

fn head(page: &mut String, run: &Verdict, gathered: &Gathered) {
    let Verdict { verdict: word, nodes, seconds, seed, .. } = run;
    put(
        page,
        format_args!(
            "<header><p class=\"verdict {word}\">{word}</p><div><h1>{}</h1><p class=\"quiet\">{nodes} \
             nodes, {seconds} s, seed {seed}</p></div></header>",
            escape(&run.scenario)
        ),
    );
    for doubt in run.doubts() {
        put(page, format_args!("<p class=\"bad\">In doubt: {}</p>", escape(&doubt)));
    }
    let faults = ("faults", gathered.faults.len() as u64);
    page.push_str("<ul class=\"figures\">\n");
    for (name, value) in figures(run).into_iter().chain([faults]) {
        let class = if name == "lost" && value > 0 { "bad" } else { "" };
        put(page, format_args!("<li class=\"{class}\"><b>{}</b> {name}</li>", count(value)));
    }
    page.push_str("</ul>\n");
    put(page, format_args!("<p>Do it again: <code>{}</code></p>", escape(&run.reproduce)));
}

fn violations(page: &mut String, run: &Verdict) {
    page.push_str("<h2>Violations</h2>\n");
    if run.violations.is_empty() {
        put(page, format_args!("<p>{NO_VIOLATIONS}</p>"));
    }
    if let Some(idle) = nothing_to_judge(run) {
        put(page, format_args!("<p>{}</p>", escape(&idle)));
    }
    if run.violations.is_empty() {
        return;
    }
    page.push_str("<div class=\"table\"><table><tr><th>at<th>invariant<th>what\n");
    for violation in run.violations.iter().take(VIOLATIONS) {
        put(
            page,
            format_args!(
                "<tr><td class=\"number\">{}<td>{}<td>{}",
                moment(violation.at),
                escape(&violation.invariant),
                escape(&violation.detail)
            ),
        );
    }
    page.push_str("</table></div>\n");
}

fn figure(page: &mut String, plot: &Plot) {
    put(page, format_args!("<figure><h2>{}</h2>", escape(&plot.title)));
    put(page, format_args!("<figcaption>{}", escape(&plot.about)));
    if !plot.legend.is_empty() {
        page.push_str("<div>");
        for (colour, name) in &plot.legend {
            put(page, format_args!("<span class=\"key c{colour}\">{}</span>", escape(name)));
        }
        page.push_str("</div>");
    }
    put(page, format_args!("</figcaption>\n{}</figure>", plot.svg));
}

fn coverage(page: &mut String, run: &Verdict) {
    page.push_str("<h2>Coverage</h2>\n<p>What the run had to do at least, and what it did.</p>\n");
    page.push_str("<div class=\"table\"><table><tr><th>what<th>done<th>required<th>\n");
    let names = run.required.keys().chain(run.coverage.keys());
    let names: std::collections::BTreeSet<_> = names.collect();
    for name in names {
        let done = run.coverage.get(name).copied().unwrap_or(0);
        let required = run.required.get(name).copied();
        let (said, class) = match required {
            None => ("", ""),
            Some(least) if done >= least => ("enough", "good"),
            Some(_) => ("not enough", "bad"),
        };
        put(
            page,
            format_args!(
                "<tr><td>{}<td class=\"number\">{}<td class=\"number\">{}<td class=\"{class}\">{said}",
                escape(name),
                count(done),
                required.map(count).unwrap_or_default()
            ),
        );
    }
    page.push_str("</table></div>\n");
}

fn left_out(page: &mut String, run: &Verdict) {
    page.push_str("<h2>Left out</h2>\n");
    if run.left_out.is_empty() {
        return page.push_str("<p>Nothing.</p>\n");
    }
    page.push_str("<ul>\n");
    run.left_out.iter().for_each(|why| put(page, format_args!("<li>{}</li>", escape(why))));
    page.push_str("</ul>\n");
}

fn faults(page: &mut String, gathered: &Gathered) {
    page.push_str("<h2>Timeline of faults</h2>\n");
    if gathered.faults.is_empty() {
        return page.push_str("<p>None.</p>\n");
    }
    let all = gathered.faults.len();
    if all > FAULTS {
        put(page, format_args!("<p>The first {FAULTS} of {}.</p>", count(all as u64)));
    }
    page.push_str("<div class=\"table\"><table><tr><th>from<th>for<th>fault<th>nodes<th>detail\n");
    for fault in gathered.faults.iter().take(FAULTS) {
        put(
            page,
            format_args!(
                "<tr><td class=\"number\">{}<td class=\"number\">{}<td>{}<td>{}<td>{}",
                moment(fault.begin),
                lasted(fault),
                escape(&fault.name),
                list(&fault.targets),
                escape(&fault.detail)
            ),
        );
    }
    page.push_str("</table></div>\n");
}
