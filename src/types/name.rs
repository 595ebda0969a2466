//! Names people give to channels, proxies and lanes.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::limits;

/// A name: 1 to [`limits::NAME_BYTES_MAX`] bytes of `A-Z a-z 0-9 . _ -`, not starting with `.` or
/// `-`. Safe in a path, a URL, a metric label and a shell word.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Name(String);

/// Why a text is not a [`Name`].
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum NameError {
    #[error("a name must not be empty: use letters, digits, '.', '_' or '-'")]
    Empty,
    #[error("name of {0} bytes is too long: use at most {max}", max = limits::NAME_BYTES_MAX)]
    TooLong(usize),
    #[error("name '{name}' has '{found}' in it: use letters, digits, '.', '_' or '-'")]
    BadCharacter { name: String, found: char },
    #[error("name '{0}' starts with '.' or '-': start with a letter, digit or '_'")]
    BadStart(String),
}

impl Name {
    /// Checks `text` and makes it a name.
    pub fn new(text: impl Into<String>) -> Result<Name, NameError> {
        let text = text.into();
        if text.is_empty() {
            return Err(NameError::Empty);
        }
        if text.len() > limits::NAME_BYTES_MAX {
            return Err(NameError::TooLong(text.len()));
        }
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        if let Some(found) = text.chars().find(|&c| !allowed(c)) {
            return Err(NameError::BadCharacter { name: text, found });
        }
        if text.starts_with(['.', '-']) {
            return Err(NameError::BadStart(text));
        }
        Ok(Name(text))
    }

    /// The channel that exists in every cluster from the start.
    pub fn default_channel() -> Name {
        Name("default".into())
    }

    /// The consumer admin that every channel has from the start.
    pub fn default_admin() -> Name {
        Name("default".into())
    }

    /// The name of the dead-letter channel of the channel with this name. It can be longer than
    /// a name that users may choose, by the suffix.
    pub fn dead_letter(&self) -> Name {
        Name(format!("{}{}", self.0, limits::DEAD_LETTER_SUFFIX))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl FromStr for Name {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Name, NameError> {
        Name::new(text)
    }
}

impl TryFrom<String> for Name {
    type Error = NameError;

    fn try_from(text: String) -> Result<Name, NameError> {
        // A dead-letter name made by us is one suffix longer than users may choose.
        match text.strip_suffix(limits::DEAD_LETTER_SUFFIX) {
            Some(origin) if !origin.is_empty() => Name::new(origin).map(|n| n.dead_letter()),
            _ => Name::new(text),
        }
    }
}

impl From<Name> for String {
    fn from(name: Name) -> String {
        name.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked() {
        let long = "x".repeat(limits::NAME_BYTES_MAX + 1);
        for (text, good) in [
            ("default", true),
            ("a.b_c-9", true),
            ("", false),
            (".hidden", false),
            ("-flag", false),
            ("two words", false),
            ("päron", false),
            ("a/b", false),
            (long.as_str(), false),
        ] {
            assert_eq!(Name::new(text).is_ok(), good, "{text:?}");
        }
    }
}
