//! Plans that people wrote or changed: read, and refused if they cannot be what was meant.

use std::path::Path;

use anyhow::Result;
use serde_json::Value;

use super::plan::Plan;

/// What the command line asks for makes no sense.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Usage(pub String);

/// Least and most that a number may be, by the end of its path; the first that fits counts. Beyond
/// these a run hangs, or fails for reasons that are not the product's.
const NUMBERS: &[(&str, f64, f64)] = &[
    ("nodes", 1.0, 9.0),
    ("tail_bytes", 4_096.0, 1e9),
    ("database_bytes", 4_096.0, 1e9),
    ("snapshot_log_bytes", 4_096.0, 1e9),
    ("payload_cache_bytes", 0.0, 1e9),
    ("pump_us", 1.0, 100_000.0),
    ("drift_ppm", -100_000.0, 100_000.0),
    ("ahead_ms", -86_400_000.0, 86_400_000.0),
    ("storm.weather.latency_us", 0.0, 1e6),
    ("storm.weather.jitter_us", 0.0, 1e6),
    ("storm.weather.loss_per_mille", 0.0, 1_000.0),
    ("bad_link.weather.latency_us", 0.0, 1e6),
    ("bad_link.weather.jitter_us", 0.0, 1e6),
    ("bad_link.weather.loss_per_mille", 0.0, 1_000.0),
    ("weather.latency_us", 0.0, 20_000.0),
    ("weather.jitter_us", 0.0, 20_000.0),
    ("weather.loss_per_mille", 0.0, 50.0),
    ("rate", 1.0, 10_000.0),
    ("asks.priority", 0.0, 1.0),
    ("asks.timeout", 0.0, 1.0),
    ("asks.start", 0.0, 1.0),
    ("asks.stop", 0.0, 1.0),
    ("start_in.most", 0.0, 10_000.0),
    ("every.least", 1.0, 60_000.0),
    ("suspended.most", 0.0, 10_000.0),
    ("in_flight", 1.0, 4_096.0),
    ("deadline_ms", 1.0, 60_000.0),
    ("clients", 1.0, 16.0),
    ("ack_wait_ms", 100.0, 3_000.0),
    ("max_in_flight", 1.0, 4_096.0),
    ("credit", 1.0, 4_096.0),
    ("behaviour.nack", 0.0, 1.0),
    ("behaviour.hold", 0.0, 1.0),
    ("behaviour.terminate", 0.0, 1.0),
    ("behaviour.stall", 0.0, 1.0),
    ("crash_every.least", 1.0, 60_000.0),
    ("vanish_every.least", 1.0, 60_000.0),
    ("least", 0.0, 1e6),
    ("most", 0.0, 1e6),
    ("connect_ms", 1.0, 60_000.0),
    ("ping_ms", 1.0, 60_000.0),
    ("silence_ms", 1.0, 60_000.0),
    ("at_ms", 0.0, 13_000.0),
    ("for_ms", 1.0, 10_000.0),
    ("longest_ms", 0.0, 5_000.0),
    ("changes", 0.0, 1e6),
];

/// The same for the lengths of lists.
const LENGTHS: &[(&str, usize, usize)] =
    &[("suppliers", 1, 16), ("consumers", 1, 16), ("listeners", 0, 16), ("steps", 0, 1_000)];

/// Reads a plan and checks it.
pub fn read(path: &Path) -> Result<Plan, Usage> {
    let shown = path.display();
    let text = std::fs::read_to_string(path)
        .map_err(|error| Usage(format!("cannot read the plan {shown}: {error}")))?;
    let advice = "`sim --seed S --show` prints a plan to begin with";
    let plan = serde_json::from_str(&text)
        .map_err(|error| Usage(format!("{shown} is not a plan: {error}; {advice}")))?;
    let faults = faults(&plan);
    if faults.is_empty() {
        return Ok(plan);
    }
    Err(Usage(format!("{shown} cannot be run:\n  {}", faults.join("\n  "))))
}

/// What is wrong with a plan, a line each.
fn faults(plan: &Plan) -> Vec<String> {
    let mut faults = Vec::new();
    // It was read from JSON, and can be written as such.
    walk("", &serde_json::to_value(plan).unwrap_or_default(), &mut faults);
    for (name, list) in [("drift_ppm", &plan.drift_ppm), ("ahead_ms", &plan.ahead_ms)] {
        if list.len() as u64 != plan.nodes {
            faults.push(format!("{name} has {} values; one per node is needed", list.len()));
        }
    }
    faults
}

fn walk(path: &str, value: &Value, faults: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                let dot = if path.is_empty() { "" } else { "." };
                walk(&format!("{path}{dot}{key}"), value, faults);
            }
            if let (Some(least), Some(most)) = (value["least"].as_f64(), value["most"].as_f64())
                && least > most
            {
                faults.push(format!("{path}: least {least} is more than most {most}"));
            }
        }
        Value::Array(list) => {
            if let Some((_, least, most)) = LENGTHS.iter().find(|(end, ..)| ends(path, end))
                && !(*least..=*most).contains(&list.len())
            {
                let length = list.len();
                faults.push(format!("{path} has {length} entries; {least} to {most} are allowed"));
            }
            for (number, value) in list.iter().enumerate() {
                walk(&format!("{path}[{number}]"), value, faults);
            }
        }
        Value::Number(number) => {
            let number = number.as_f64().unwrap_or(f64::NAN);
            if let Some((_, least, most)) = NUMBERS.iter().find(|(end, ..)| ends(path, end))
                && !(*least..=*most).contains(&number)
            {
                faults.push(format!("{path} is {number}; {least} to {most} are allowed"));
            }
        }
        _ => {}
    }
}

/// Whether the path ends with these names; a number behind the last one does not count.
fn ends(path: &str, names: &str) -> bool {
    let path = path.rsplit_once('[').filter(|(_, rest)| rest.ends_with(']')).map_or(path, |p| p.0);
    path.strip_suffix(names).is_some_and(|before| before.is_empty() || before.ends_with('.'))
}

#[cfg(test)]
mod tests {
    use super::super::plan;
    use super::*;

    /// Seed 1's plan with the value at this pointer replaced, as a user's file.
    fn changed(pointer: &str, to: Value) -> Result<Plan, String> {
        let mut value = serde_json::to_value(plan::draw(1)).unwrap();
        *value.pointer_mut(pointer).unwrap() = to;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("plan.json");
        std::fs::write(&path, value.to_string()).unwrap();
        read(&path).map_err(|usage| usage.to_string())
    }

    #[test]
    fn every_drawn_plan_is_sound_and_survives_json() {
        for seed in 0..2_000 {
            let plan = plan::draw(seed);
            assert!(faults(&plan).is_empty(), "seed {seed}: {:?}", faults(&plan));
            let text = serde_json::to_string(&plan).unwrap();
            let again: Plan = serde_json::from_str(&text).unwrap();
            assert_eq!(serde_json::to_string(&again).unwrap(), text);
            assert_eq!(again.steps, plan.steps);
        }
    }

    #[test]
    fn what_cannot_be_run_is_named_with_what_can() {
        for (pointer, value, says) in [
            ("/nodes", 200.into(), "nodes is 200; 1 to 9 are allowed"),
            ("/nodes", 0.into(), "nodes is 0"),
            ("/pump_us", 0.into(), "pump_us is 0"),
            ("/weather/loss_per_mille", 5_000.into(), "weather.loss_per_mille is 5000; 0 to 50"),
            ("/load/suppliers/0/rate", 0.into(), "load.suppliers[0].rate is 0; 1 to 10000"),
            ("/load/suppliers", Value::Array(vec![]), "load.suppliers has 0 entries; 1 to 16"),
            ("/load/consumers", Value::Array(vec![]), "load.consumers has 0 entries"),
            ("/drift_ppm", Value::Array(vec![]), "drift_ppm has 0 values"),
            ("/drift_ppm/1", 200_000.into(), "drift_ppm[1] is 200000"),
            ("/weather", serde_json::json!({"rain": 1}), "unknown field `rain`"),
            ("/steps", serde_json::json!([{"at_ms": 1, "step": {"crush": {}}}]), "crush"),
        ] {
            let said = changed(pointer, value).unwrap_err();
            assert!(said.contains(says), "{said}");
        }
        assert!(changed("/steps", Value::Array(vec![])).is_ok());
    }

    #[test]
    fn large_numbers_are_strings() {
        let steps = |choice: Value| {
            let flip = serde_json::json!({"who": "leader", "choice": choice});
            changed("/steps", serde_json::json!([{"at_ms": 1, "step": {"flip_bit": flip}}]))
        };
        let plan = steps("18446744073709551615".into()).unwrap();
        assert_eq!(plan.steps, steps(u64::MAX.into()).unwrap().steps);
        let text = serde_json::to_string(&plan).unwrap();
        assert!(text.contains("\"18446744073709551615\""), "{text}");
        assert!(steps("1e3".into()).unwrap_err().contains("'1e3' is not a whole number"));
    }
}
