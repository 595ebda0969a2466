//! What is wrong with bytes that should be one of our formats.

use std::fmt;

use super::error::StorageError;

/// A reason not to read bytes. A version counts as newer only if the checksum over it fits: what a
/// flipped bit made of it is damage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// Whole, and of a format that this build does not know.
    Newer {
        found: u32,
        known: u32,
    },
    Damaged(String),
}

impl Fault {
    /// The error for whoever wanted to read `what`.
    pub fn of(self, what: impl Into<String>) -> StorageError {
        match self {
            Fault::Newer { found, known } => StorageError::newer(what, found, known),
            Fault::Damaged(detail) => StorageError::corrupt(what, detail),
        }
    }

    /// Judges a version whose checksum fits.
    pub fn check_version(found: impl Into<u32>, known: impl Into<u32>) -> Result<(), Fault> {
        let (found, known) = (found.into(), known.into());
        match found {
            _ if found > known => Err(Fault::Newer { found, known }),
            _ if found == known => Ok(()),
            _ => Err(Fault::Damaged(format!("version {found} was never written"))),
        }
    }
}

impl From<String> for Fault {
    fn from(detail: String) -> Fault {
        Fault::Damaged(detail)
    }
}

impl From<&str> for Fault {
    fn from(detail: &str) -> Fault {
        Fault::Damaged(detail.to_owned())
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Newer { found, known } => {
                write!(f, "it has format {found}, this build reads up to {known}")
            }
            Fault::Damaged(detail) => f.write_str(detail),
        }
    }
}
