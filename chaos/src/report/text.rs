//! Numbers and words as people read them.

/// A count with separators: `1,234,567`.
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A short number for an axis: `950`, `12k`, `1.5M`.
pub fn short(value: f64) -> String {
    let (value, unit) = match value.abs() {
        v if v >= 1e9 => (value / 1e9, "G"),
        v if v >= 1e6 => (value / 1e6, "M"),
        v if v >= 1e3 => (value / 1e3, "k"),
        _ => (value, ""),
    };
    let digits = if value.fract().abs() < 0.05 || value.abs() >= 100.0 { 0 } else { 1 };
    format!("{value:.digits$}{unit}")
}

/// A time span in microseconds: `350 µs`, `1.5 ms`, `12 s`.
pub fn span(micros: f64) -> String {
    let (value, unit) = match micros {
        0.0 => return "0".into(),
        m if m >= 1e6 => (m / 1e6, "s"),
        m if m >= 1e3 => (m / 1e3, "ms"),
        m => (m, "µs"),
    };
    let digits = if value >= 10.0 || value.fract() < 0.05 { 0 } else { 1 };
    format!("{value:.digits$} {unit}")
}

/// A moment of a run: `12.34 s`.
pub fn moment(micros: u64) -> String {
    format!("{:.2} s", micros as f64 / 1e6)
}

/// Text as it stands in HTML.
pub fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            other => safe.push(other),
        }
    }
    safe
}

/// Numbers of nodes: `1, 3`.
pub fn list(numbers: &[u64]) -> String {
    numbers.iter().map(u64::to_string).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        assert_eq!((count(7), count(1_234_567)), ("7".into(), "1,234,567".into()));
        assert_eq!(
            [short(950.0), short(12_000.0), short(1.5e6), short(0.5)],
            ["950", "12k", "1.5M", "0.5"]
        );
        assert_eq!(span(0.0), "0");
        assert_eq!([span(350.0), span(1_500.0), span(12e6)], ["350 µs", "1.5 ms", "12 s"]);
        assert_eq!(escape("<a href=\"x\">&"), "&lt;a href=&quot;x&quot;&gt;&amp;");
        assert_eq!((moment(1_234_567), list(&[1, 3])), ("1.23 s".into(), "1, 3".into()));
    }
}
