//! The world, behind traits: time and tasks here, files in [`disk`]. A simulation brings its own.

pub mod disk;
mod runtime;
#[cfg(test)]
pub mod testing;
mod watch;

pub use runtime::{Runtime, TokioRuntime};
pub use watch::{Publisher, Watch, watch};
