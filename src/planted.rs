//! Bugs planted on purpose, to show that the checks find them. Only in a build with the feature
//! `planted-bugs`, and then only the one named by the environment variable `AQUEDUCT_PLANTED`;
//! otherwise [`planted`] is `false` at compile time and what it guards is not in the program.

/// Whether the planted bug of this name is active.
#[cfg(not(feature = "planted-bugs"))]
#[inline(always)]
pub const fn planted(_name: &str) -> bool {
    false
}

/// Whether the planted bug of this name is active.
#[cfg(feature = "planted-bugs")]
pub fn planted(name: &str) -> bool {
    static CHOSEN: std::sync::OnceLock<Option<String>> = std::sync::OnceLock::new();
    let chosen = CHOSEN.get_or_init(|| std::env::var("AQUEDUCT_PLANTED").ok());
    chosen.as_deref() == Some(name)
}
