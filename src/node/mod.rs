//! One node: its settings, the order in which its parts start and stop, its health.
//!
//! Layer 6, the only place that sees everything. The parts are strangers to each other; what one
//! needs of another it gets from here.

pub mod config;
mod door;
mod entry;
mod error;
mod full;
mod http;
mod listeners;
mod metrics;
mod process;
mod ready;
mod reception;
mod rejoin;
mod roster;
mod run;
mod serving;
mod signals;
pub mod telemetry;
mod token;
mod vitals;

pub use config::{ByteSize, Config, ConfigError, Finding, Level, Loaded, Rejoin};
pub use error::NodeError;
pub use ready::Announcement;
pub use run::{run, run_until};

#[cfg(test)]
mod tests;
