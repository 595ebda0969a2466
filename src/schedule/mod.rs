//! Scheduling policies: who is next. Shared by both sides, what comes in (`intake`) and what goes
//! out (`dispatch`).
//!
//! A policy holds keys, never work: its user keeps the queues and asks only for the next key. It is
//! deterministic: the same calls give the same order on every machine.
#![deny(clippy::disallowed_types, clippy::disallowed_methods)]

mod policy;
mod rank;
mod round_robin;
mod scheduler;
mod shares;
#[cfg(test)]
mod tests;

pub use policy::{Claim, DEADLINE_IMPLIED_MS, DEADLINE_OVERDUE_MS_MAX, Policy, WEIGHT_MAX};
pub use round_robin::RoundRobin;
pub use scheduler::Scheduler;
