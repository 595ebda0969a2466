//! Scenario scripts, and a property test against the rules of the module head.

mod fake;
mod model;
mod property;
mod scripts;
