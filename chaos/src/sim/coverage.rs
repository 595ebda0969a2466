//! What many seeds must have met with, or they guard nothing.

use crate::verdict::Coverage;

/// So many seeds are enough to meet with everything.
pub const ENOUGH_SEEDS: u64 = 100;

const MUST_HAPPEN: &[&str] = &[
    "accepted_answers",
    "deliveries",
    "deliveries_marked",
    "settled",
    "statuses",
    "duplicate_answers",
    "lanes_resumed",
    "judged_expired",
    "judged_discarded",
    "redefined",
    "suspensions",
    "consumers_vanished",
    "fault:kill",
    "fault:power-cut",
    "fault:power-cut-midway",
    "fault:power-cut-at-removal",
    "fault:restart",
    "fault:partition",
    "fault:one-way-partition",
    "fault:partial-partition",
    "fault:bridge-partition",
    "fault:ring-partition",
    "fault:clients-cut-off",
    "fault:storm",
    "fault:bad-link",
    "fault:slow-disk",
    "fault:failing-sync",
    "fault:full-disk",
    "waited_for_room",
    "fault:clock-jump",
    "bits_flipped",
    "logs_lost",
    "quarantined",
    "replaced",
    "mended",
    "rotted",
    "transferred",
    "joined",
    "snapshots_received",
    "removed",
];

/// Without these not even one seed has done anything.
const ALWAYS: &[&str] = &["accepted_answers", "deliveries"];

/// What should have happened in so many seeds and never did.
pub fn missed(coverage: &Coverage, seeds: u64) -> Vec<&'static str> {
    let needed = if seeds < ENOUGH_SEEDS { ALWAYS } else { MUST_HAPPEN };
    needed.iter().filter(|key| !coverage.contains_key(**key)).copied().collect()
}

/// In a line: how much was published and delivered, and how often which fault began.
pub fn described(coverage: &Coverage) -> String {
    let (faults, rest): (Vec<_>, Vec<_>) =
        coverage.iter().partition(|(key, _)| key.starts_with("fault:"));
    let of = |key: &str| rest.iter().find(|(name, _)| *name == key).map_or(0, |(_, count)| **count);
    let begun: u64 = faults.iter().map(|(_, count)| **count).sum();
    let all = ["accepted_answers", "deliveries", "deliveries_marked", "quarantined"];
    let counts: Vec<String> = all.iter().map(|key| format!("{} {key}", of(key))).collect();
    format!("{}, {begun} faults of {} kinds", counts.join(", "), faults.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_never_happened_is_named() {
        let mut coverage: Coverage = MUST_HAPPEN.iter().map(|key| (key.to_string(), 2)).collect();
        assert!(missed(&coverage, ENOUGH_SEEDS).is_empty());
        coverage.remove("fault:kill");
        assert_eq!(missed(&coverage, ENOUGH_SEEDS), ["fault:kill"]);
        assert!(missed(&coverage, 1).is_empty());
        assert_eq!(missed(&Coverage::new(), 1), ALWAYS);
        let text = described(&coverage);
        assert!(
            text.starts_with("2 accepted_answers") && text.contains("faults of 16 kinds"),
            "{text}"
        );
    }
}
