//! How a command ends: exit codes and errors that scripts can rely on.

use std::path::Path;
use std::process::ExitCode;

use serde_json::json;

use super::args::Format;
use crate::client::AdminError;
use crate::types::{Code, Rejection};

/// What a command came to. The numbers are part of the contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    Ok = 0,
    /// It ran, and what it checked does not hold.
    CheckFailed = 1,
    /// Whether it took effect is unknown.
    Unknown = 2,
    /// The cluster refused it.
    Refused = 3,
    /// No node, or no leader, could be reached.
    Unreachable = 4,
    /// The command line is wrong.
    Usage = 64,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit as u8)
    }
}

/// The exit code that a refusal deserves.
pub fn of_rejection(rejection: &Rejection) -> Exit {
    match rejection.code {
        Code::TenureLost => Exit::Unknown,
        Code::NoLeader | Code::ShuttingDown => Exit::Unreachable,
        _ => Exit::Refused,
    }
}

/// A failure on its way to the terminal: what to print and how to exit.
#[derive(Debug)]
pub struct Failure {
    pub exit: Exit,
    pub code: String,
    pub message: String,
    pub hint: String,
    pub retryable: bool,
}

impl Failure {
    /// The command line asks for something that makes no sense.
    pub fn usage(message: impl Into<String>) -> Failure {
        Failure {
            exit: Exit::Usage,
            code: "usage".into(),
            message: message.into(),
            hint: "`--help` after the command says what it takes".into(),
            retryable: false,
        }
    }

    /// A file named on the command line cannot be read.
    pub fn unreadable(path: &Path, error: &std::io::Error) -> Failure {
        Failure::usage(format!("cannot read {}: {error}", path.display()))
            .hint("check the path and its permissions")
    }

    /// The same with better advice.
    pub fn hint(mut self, hint: impl Into<String>) -> Failure {
        self.hint = hint.into();
        self
    }

    /// Nobody answers.
    pub fn unreachable(message: impl Into<String>) -> Failure {
        Failure {
            exit: Exit::Unreachable,
            code: "unreachable".into(),
            message: message.into(),
            hint: "check --servers (or AQUEDUCT_SERVERS) and that a majority of the nodes runs; \
                   `aqueduct demo --keep` starts a cluster to try things on"
                .into(),
            retryable: true,
        }
    }

    /// Prints it, to stdout as JSON if JSON was asked for, to stderr for people.
    pub fn print(&self, format: Format) {
        if format == Format::Table {
            eprintln!("error: {}", self.message);
            if !self.hint.is_empty() {
                eprintln!("  try: {}", self.hint);
            }
            return;
        }
        let error = json!({"error": {"code": self.code, "message": self.message,
            "hint": self.hint, "retryable": self.retryable}});
        super::output::say(error);
    }
}

impl From<Rejection> for Failure {
    fn from(rejection: Rejection) -> Failure {
        Failure {
            exit: of_rejection(&rejection),
            code: rejection.code.as_str().into(),
            message: rejection.message,
            hint: rejection.hint,
            retryable: rejection.code.retryable(),
        }
    }
}

impl From<AdminError> for Failure {
    fn from(error: AdminError) -> Failure {
        match error {
            AdminError::Refused(rejection) => rejection.into(),
            AdminError::Unreachable { .. } => Failure::unreachable(error.to_string()),
            AdminError::Unknown { .. } => Failure {
                exit: Exit::Unknown,
                code: "unknown".into(),
                message: error.to_string(),
                hint: "ask `aqueduct status` what is there".into(),
                retryable: false,
            },
        }
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Failure {
        Failure {
            exit: Exit::CheckFailed,
            code: "failed".into(),
            message: format!("{error:#}"),
            hint: String::new(),
            retryable: false,
        }
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Failure {
        Failure::from(anyhow::Error::from(error))
    }
}
