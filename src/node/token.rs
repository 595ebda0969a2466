//! Shared secrets: read from files, compared in constant time, never printed.

use std::fmt;
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::types::limits::TOKEN_BYTES_MAX;

/// Why a token file cannot be used.
#[derive(Debug, Error)]
pub enum TokenError {
    #[error("cannot read the token file {path}: {source}")]
    Unreadable { path: PathBuf, source: std::io::Error },
    #[error("the token file {path} is empty: write one line of random text into it")]
    Empty { path: PathBuf },
    #[error("the token in {path} is longer than {TOKEN_BYTES_MAX} bytes")]
    TooLong { path: PathBuf },
}

/// A secret that a listener asks for; the default lets everybody in.
#[derive(Clone, Default)]
pub struct Token(Option<String>);

impl Token {
    /// The token in `file`; without a file, one that lets everybody in.
    pub fn of(file: Option<&Path>) -> Result<Token, TokenError> {
        Ok(Token(file.map(read).transpose()?))
    }

    /// What to present to a listener that asks for this token.
    pub fn text(&self) -> &str {
        self.0.as_deref().unwrap_or_default()
    }

    /// Whether `presented` is this token. The time it takes tells nothing but the length.
    pub fn admits(&self, presented: &str) -> bool {
        let Some(secret) = &self.0 else { return true };
        let differ = secret.bytes().zip(presented.bytes()).fold(0, |acc, (a, b)| acc | (a ^ b));
        // Kept from being turned into an early return.
        std::hint::black_box(differ) == 0 && secret.len() == presented.len()
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Token(secret)" } else { "Token(open)" })
    }
}

/// The text of a token file without surrounding white space.
pub fn read(path: &Path) -> Result<String, TokenError> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| TokenError::Unreadable { path: path.into(), source })?;
    let text = text.trim();
    if text.is_empty() {
        return Err(TokenError::Empty { path: path.into() });
    }
    if text.len() > TOKEN_BYTES_MAX {
        return Err(TokenError::TooLong { path: path.into() });
    }
    Ok(text.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_text_is_admitted() {
        let token = Token(Some("correct horse".into()));
        for (presented, admitted) in [
            ("correct horse", true),
            ("correct horsf", false),
            ("correct hors", false),
            ("correct horse ", false),
            ("", false),
        ] {
            assert_eq!(token.admits(presented), admitted, "{presented:?}");
        }
        assert!(Token::default().admits("") && Token::default().admits("anything"));
        assert_eq!(format!("{token:?}"), "Token(secret)");
    }

    #[test]
    fn token_files_are_trimmed_and_checked() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        let of = |text: &str| {
            std::fs::write(&path, text).unwrap();
            Token::of(Some(&path))
        };
        assert_eq!(of(" secret\n").unwrap().text(), "secret");
        assert!(matches!(of("\n"), Err(TokenError::Empty { .. })));
        assert!(matches!(of(&"x".repeat(2000)), Err(TokenError::TooLong { .. })));
        assert!(matches!(Token::of(Some(dir.path())), Err(TokenError::Unreadable { .. })));
        assert_eq!(Token::of(None).unwrap().text(), "");
    }
}
