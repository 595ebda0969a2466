//! Scheduling policies: who is next. Shared by both sides, what comes in (`intake`) and what goes
//! out (`dispatch`).
//!
//! A policy holds keys, never work: its user keeps the queues and asks only for the next key. It is
//! deterministic: the same calls give the same order on every machine.
#![deny(clippy::disallowed_types, clippy::disallowed_methods)]

mod round_robin;

pub use round_robin::RoundRobin;
