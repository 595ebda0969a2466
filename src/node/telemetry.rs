//! Logs: `tracing` to standard error, because standard output belongs to data.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

/// Starts logging with `filter` (a level or `tracing` directives). A second call changes nothing.
///
/// # Errors
/// A filter that does not parse; see [`check_filter`].
pub fn start(filter: &str) -> Result<(), String> {
    let filter = parse(filter)?;
    // Refused only if logging runs already, as in tests that start several nodes.
    let _ = tracing_subscriber::fmt()
        .compact()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .try_init();
    Ok(())
}

/// Says what is wrong with `filter`, if anything.
pub fn check_filter(filter: &str) -> Result<(), String> {
    parse(filter).map(|_| ())
}

fn parse(filter: &str) -> Result<EnvFilter, String> {
    EnvFilter::try_new(filter).map_err(|e| {
        format!("'{filter}' is not a log filter ({e}): write a level, or info,aqueduct=debug")
    })
}
