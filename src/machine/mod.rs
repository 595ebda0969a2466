//! The replicated state machine: a pure function of its log.
#![deny(clippy::disallowed_types, clippy::disallowed_methods)]

mod command;

pub use command::{
    Batch, Command, LaneTarget, Publish, PublishRun, Published, Reply, Settle, SettlePart, Settled,
};
