//! Tables for people, JSON for programs.

use std::fmt::Display;
use std::io::Write;

use comfy_table::{Table, presets};
use serde::Serialize;

use super::args::Format;

/// A table with plain headings and no frame.
pub fn table(headings: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(headings.iter().map(|h| h.to_uppercase()));
    table
}

/// Prints one result: the document, or what `people` makes of it.
pub fn result<T: Serialize>(format: Format, value: &T, people: impl FnOnce(&T) -> String) {
    say(match format {
        Format::Table => people(value).trim_end().to_string(),
        Format::Json => to_json(value, true),
        Format::Jsonl => to_json(value, false),
    });
}

/// Prints a line. Whoever closed stdout (`| head`) does not want it.
pub fn say(line: impl Display) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// The JSON text of a value of ours; such values always serialize.
pub fn to_json<T: Serialize>(value: &T, pretty: bool) -> String {
    let text =
        if pretty { serde_json::to_string_pretty(value) } else { serde_json::to_string(value) };
    text.unwrap_or_else(|error| {
        format!("{{\"error\":{{\"code\":\"encoding\",\"message\":{:?}}}}}", error.to_string())
    })
}

/// A byte count for people: `17 B`, `4.2 KiB`, `1.3 GiB`.
pub fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if count < 1024 {
        return format!("{count} B");
    }
    let mut value = count as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

/// Times in milliseconds, as in `31, 40 ms`.
pub fn millis(times: &[u64]) -> String {
    let times: Vec<_> = times.iter().map(ToString::to_string).collect();
    format!("{} ms", times.join(", "))
}

/// A count for people: digits in groups of three.
pub fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut grouped = String::new();
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(c);
    }
    grouped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_for_people() {
        assert_eq!([count(7), count(1234), count(1_234_567)], ["7", "1,234", "1,234,567"]);
        assert_eq!([bytes(17), bytes(4300), bytes(3 << 30)], ["17 B", "4.2 KiB", "3.0 GiB"]);
    }
}
