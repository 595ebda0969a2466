//! The world, behind traits: time and tasks here, files in `disk`. A simulation brings its own.

mod runtime;
mod watch;

pub use runtime::{Runtime, TokioRuntime};
pub use watch::{Publisher, Watch, watch};
