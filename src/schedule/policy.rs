//! Which rule decides whose turn it is, and what it promises to those who wait.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::types::{Scheduling, Stamp};

/// Largest weight that counts; a larger one counts as this.
pub const WEIGHT_MAX: u32 = 1_000;
/// Aging of `priority` when none is given: a contender rises by 1 in so many milliseconds.
pub const PRIORITY_AGING_MS: u64 = 1_000;
/// Who has no deadline is due so many milliseconds after it began to wait.
pub const DEADLINE_IMPLIED_MS: u64 = 1_000;
/// A deadline counts as passed for at most so many milliseconds when its contender begins to wait.
pub const DEADLINE_OVERDUE_MS_MAX: u64 = 1_000;

/// A rule for whose turn it is.
///
/// Each rule bounds the wait of a contender, from when it began to wait (it joined, or its last
/// turn ended) to its next turn, *provided that* only the front is served, that no turn costs more
/// than [`turn_max`](super::Scheduler::turn_max), and that policy and claims stay as they are.
/// Others may come and go meanwhile as they like.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Policy {
    /// Turns in the order in which contenders began to wait.
    ///
    /// Bound: each other contender has at most one turn meanwhile.
    #[default]
    RoundRobin,
    /// Deficit scheduling: who is furthest behind the share that its weight gives goes first. A
    /// heavier contender has turns more often, not longer ones, so nobody waits for a long turn.
    ///
    /// Share: of two contenders with weights `w` and `v` that wait or are served throughout some
    /// period, the first takes `W` and the second `V`; then `W / w` and `V / v` differ by at most
    /// `turn / w + turn / v`. Bound: while a contender of weight `w` waits, another of weight `v`
    /// takes at most `turn * v / w + turn`. (A turn that took nothing counts as a full one.)
    Weighted,
    /// The highest priority goes first. It rises by 1 for each `aging_ms` waited, evenly.
    ///
    /// Bound: a contender of priority `p` waits at most `(highest - p) * aging_ms` and then for one
    /// turn of each other contender, where `highest` is the highest priority that contends.
    /// `aging_ms: 0` is strict: nobody rises, and there is no bound.
    Priority { aging_ms: u64 },
    /// The earliest deadline goes first. Who has none is due [`DEADLINE_IMPLIED_MS`] after it began
    /// to wait. A deadline that passed more than [`DEADLINE_OVERDUE_MS_MAX`] before its contender
    /// began to wait counts as passed by just that: what is hopelessly late is served in the order
    /// of waiting, and cannot starve the rest.
    ///
    /// Bound: a contender waits until [`DEADLINE_OVERDUE_MS_MAX`] after it is due, and then for one
    /// turn of each other contender.
    EarliestDeadline,
}

impl From<Scheduling> for Policy {
    fn from(scheduling: Scheduling) -> Policy {
        match scheduling {
            Scheduling::RoundRobin => Policy::RoundRobin,
            Scheduling::Weighted => Policy::Weighted,
            Scheduling::Priority { aging_ms } => Policy::Priority { aging_ms },
            Scheduling::EarliestDeadline => Policy::EarliestDeadline,
        }
    }
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Policy::RoundRobin => f.pad("round_robin"),
            Policy::Weighted => f.pad("weighted"),
            Policy::Priority { aging_ms } => f.pad(&format!("priority:{aging_ms}")),
            Policy::EarliestDeadline => f.pad("earliest_deadline"),
        }
    }
}

/// Why a text is not a [`Policy`].
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PolicyError {
    #[error(
        "'{0}' is not a scheduling policy: use round_robin, weighted, priority, \
         priority:AGING_MS or earliest_deadline"
    )]
    Unknown(String),
    #[error(
        "aging '{0}' of policy priority is not a number of milliseconds: write priority:1000, or \
         priority:0 for strict priority without aging"
    )]
    BadAging(String),
}

impl FromStr for Policy {
    type Err = PolicyError;

    fn from_str(text: &str) -> Result<Policy, PolicyError> {
        match text {
            "round_robin" => Ok(Policy::RoundRobin),
            "weighted" => Ok(Policy::Weighted),
            "priority" => Ok(Policy::Priority { aging_ms: PRIORITY_AGING_MS }),
            "earliest_deadline" => Ok(Policy::EarliestDeadline),
            _ => match text.strip_prefix("priority:") {
                Some(aging) => aging
                    .parse()
                    .map(|aging_ms| Policy::Priority { aging_ms })
                    .map_err(|_| PolicyError::BadAging(aging.into())),
                None => Err(PolicyError::Unknown(text.into())),
            },
        }
    }
}

/// What a contender brings; each policy looks at its own part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claim {
    /// Its share in proportion to the weights of others, from 1 to [`WEIGHT_MAX`]; what lies
    /// outside counts as the nearest of these.
    pub weight: u32,
    /// Higher goes first.
    pub priority: i16,
    /// When its first event should have gone.
    pub deadline: Option<Stamp>,
}

impl Default for Claim {
    fn default() -> Claim {
        Claim { weight: 1, priority: 0, deadline: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_read_as_they_are_written() {
        for (policy, text, json) in [
            (Policy::RoundRobin, "round_robin", r#""round_robin""#),
            (Policy::Weighted, "weighted", r#""weighted""#),
            (Policy::Priority { aging_ms: 0 }, "priority:0", r#"{"priority":{"aging_ms":0}}"#),
            (
                Policy::Priority { aging_ms: 250 },
                "priority:250",
                r#"{"priority":{"aging_ms":250}}"#,
            ),
            (Policy::EarliestDeadline, "earliest_deadline", r#""earliest_deadline""#),
        ] {
            assert_eq!(policy.to_string(), text);
            assert_eq!(text.parse(), Ok(policy));
            assert_eq!(serde_json::to_string(&policy).unwrap(), json);
            assert_eq!(serde_json::from_str::<Policy>(json).unwrap(), policy);
            let packed = postcard::to_stdvec(&policy).unwrap();
            assert_eq!(postcard::from_bytes::<Policy>(&packed).unwrap(), policy);
        }
        assert_eq!("priority".parse(), Ok(Policy::Priority { aging_ms: PRIORITY_AGING_MS }));
        assert_eq!(Policy::default(), Policy::RoundRobin);
        assert_eq!(format!("{:>9}", Policy::Weighted), " weighted");
    }

    #[test]
    fn what_is_no_policy_is_refused_with_what_would_be() {
        for text in ["", "fair", "Weighted", "weighted:2", " weighted", "round-robin"] {
            let error = text.parse::<Policy>().unwrap_err();
            assert_eq!(error, PolicyError::Unknown(text.into()));
            assert!(error.to_string().contains("earliest_deadline"), "{error}");
        }
        for aging in ["", "-1", "1s", "1.5", "99999999999999999999"] {
            let error = format!("priority:{aging}").parse::<Policy>().unwrap_err();
            assert_eq!(error, PolicyError::BadAging(aging.into()));
        }
    }
}
