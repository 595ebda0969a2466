//! `qos`: the properties, what holds for whom and why, and changes.

use serde::Serialize;

use super::args::{Common, Qos};
use super::exit::{Exit, Failure};
use super::{asked, connect_admin, output};
use crate::types::{self, Domain, Level, Property, QosChange, Spec};
use crate::wire::admin::{
    Answer, PropertyReport, PropertyValue, QosReport, QosSet, QosValidation, QosWish, unit,
};

/// Runs a `qos` command.
pub async fn run(common: &Common, command: &Qos) -> Result<Exit, Failure> {
    match command {
        Qos::Properties => output::result(common.output, &Properties::all(), properties),
        Qos::Get { target } => {
            let answer = connect_admin(common)?.qos(&target.target()).await?;
            output::result(common.output, &answer, |a| report(&a.value));
        }
        Qos::Set { target, changes } => {
            let target = target.target();
            asked::check(target.level(), changes)?;
            let answer = connect_admin(common)?.set_qos(&target, changes).await?;
            output::result(common.output, &answer, |a| changed(a, changes));
        }
        Qos::Validate { target, wish } => {
            let wish: QosWish = wish.iter().cloned().collect();
            let answer = connect_admin(common)?.validate_qos(&target.target(), &wish).await?;
            output::result(common.output, &answer, |a| verdict(&a.value));
            return Ok(if answer.value.ok { Exit::Ok } else { Exit::CheckFailed });
        }
    }
    Ok(Exit::Ok)
}

/// The table of properties in JSON.
#[derive(Serialize)]
struct Properties {
    properties: Vec<PropertyLine>,
}

#[derive(Serialize)]
struct PropertyLine {
    property: Property,
    /// Its name in the OMG specification.
    omg: &'static str,
    levels: &'static [Level],
    allowed: String,
    /// The words that it can be.
    #[serde(skip_serializing_if = "Option::is_none")]
    words: Option<&'static [&'static str]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    min: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max: Option<i64>,
    unit: &'static str,
    default: PropertyValue,
    meaning: &'static str,
}

impl Properties {
    fn all() -> Properties {
        let line = |spec: &Spec| {
            let (min, max, words) = match spec.domain {
                Domain::Number { min, max, .. } => (Some(min), Some(max), None),
                Domain::Word(words) => (None, None, Some(words)),
                Domain::Flag => (None, None, None),
            };
            PropertyLine {
                property: spec.property,
                omg: spec.omg,
                levels: spec.levels,
                allowed: spec.domain.to_string(),
                words,
                min,
                max,
                unit: unit(spec.property),
                default: PropertyValue::new(spec.property, spec.default),
                meaning: spec.meaning,
            }
        };
        Properties { properties: Property::all().iter().map(line).collect() }
    }
}

fn properties(all: &Properties) -> String {
    let mut table = output::table(&["property", "levels", "values", "default", "meaning"]);
    for line in &all.properties {
        let levels: Vec<String> = line.levels.iter().map(ToString::to_string).collect();
        table.add_row(vec![
            line.property.to_string(),
            levels.join(", "),
            line.allowed.clone(),
            line.default.to_string(),
            line.meaning.to_string(),
        ]);
    }
    format!("{table}\n\nA property holds for everything below the level where it is set.")
}

/// Whose it is, and all properties.
fn report(report: &QosReport) -> String {
    let supplies = matches!(report.level, Level::SupplierAdmin | Level::Lane);
    let admin = if supplies { Level::SupplierAdmin } else { Level::Admin };
    let parts =
        [(admin, &report.admin), (Level::Proxy, &report.proxy), (Level::Lane, &report.lane)];
    let named = |(level, name): (Level, &Option<_>)| Some(format!(", {level} {}", name.as_ref()?));
    let of: String = parts.into_iter().filter_map(named).collect();
    format!("channel {}{of}\n\n{}", report.channel, values(&report.properties))
}

/// Properties: what holds, and where it comes from.
pub fn values(properties: &[PropertyReport]) -> String {
    let mut table =
        output::table(&["property", "value", "from", "if not set here", "default", "values"]);
    for line in properties {
        table.add_row(vec![
            line.property.to_string(),
            line.effective.to_string(),
            line.effective_from.as_str().into(),
            format!("{} ({})", line.inherited, line.inherited_from.as_str()),
            line.default.to_string(),
            line.allowed.clone(),
        ]);
    }
    table.to_string()
}

fn changed(answer: &Answer<QosSet>, changes: &[QosChange]) -> String {
    let QosSet { report: whole, cut } = &answer.value;
    let touched = |line: &&PropertyReport| changes.iter().any(|(p, _)| *p == line.property);
    let lines: Vec<_> = whole.properties.iter().filter(touched).cloned().collect();
    let shown = QosReport { properties: lines, ..whole.clone() };
    format!(
        "{}\n\nholds from log index {} on; the first event accepted after it has sequence {}",
        report(&shown),
        cut.index,
        cut.next_seq
    )
}

fn verdict(validation: &QosValidation) -> String {
    if validation.ok {
        return format!("can be set on {} level; nothing was changed", validation.level);
    }
    let mut text = String::from("cannot be set:\n");
    for error in &validation.errors {
        text.push_str(&format!("  {}={}: {}\n", error.property, error.value, error.message));
    }
    let mut table = output::table(&["property", "values", "default"]);
    for line in &validation.possible {
        let default = line.default.to_string();
        table.add_row(vec![line.property.to_string(), line.allowed.clone(), default]);
    }
    format!("{text}\nwhat can be set on {} level:\n\n{table}", validation.level)
}

/// What is set, in a line; `-` if nothing is.
pub fn brief(qos: &types::Qos) -> String {
    let set = qos
        .iter()
        .map(|(property, value)| format!("{property}={}", property.spec().domain.show(value)));
    let set: Vec<String> = set.collect();
    if set.is_empty() { "-".into() } else { set.join(" ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOCUMENT: &str = include_str!("../../docs/QOS.md");

    /// Every row of the document's table, in the order of the table of properties.
    #[test]
    fn the_document_has_the_table_of_properties() {
        let row = |line: PropertyLine| {
            let levels: Vec<String> = line.levels.iter().map(ToString::to_string).collect();
            let PropertyLine { property, omg, allowed, default, meaning, .. } = line;
            let levels = levels.join(", ");
            format!("| `{property}` | {omg} | {levels} | {allowed} | {default} | {meaning} |")
        };
        let expected: Vec<String> = Properties::all().properties.into_iter().map(row).collect();
        let (_, after) = DOCUMENT.split_once("## Properties").expect("the section");
        let (section, _) = after.split_once("\n## ").expect("the next section");
        let rows: Vec<&str> = section.lines().filter(|line| line.starts_with("| `")).collect();
        assert_eq!(rows, expected, "docs/QOS.md differs from the table in types/qos.rs");
    }

    #[test]
    fn what_is_set_is_told_in_a_line() {
        let mut qos = types::Qos::default();
        assert_eq!(brief(&qos), "-");
        qos.set(Property::OrderPolicy, Some(2));
        qos.set(Property::RejectNewEvents, Some(0));
        assert_eq!(brief(&qos), "order_policy=priority reject_new_events=false");
    }
}
