//! Aqueduct: a fault-tolerant event channel service.
//!
//! Start with `docs/ARCHITECTURE.md`. Modules are listed bottom first; imports point only
//! downwards, and `tests/layers.rs` holds it.

pub mod env;
pub mod planted;
pub mod schedule;
pub mod types;

pub mod dispatch;
pub mod intake;
pub mod machine;
pub mod storage;
pub mod transport;
pub mod wire;

pub mod client;
pub mod consensus;

pub mod delivery;
pub mod session;

pub mod admin;
pub mod relay;

pub mod node;

pub mod cli;
