//! How commands fail.

use std::process::ExitCode;

use thiserror::Error;

/// Why a command fails. Prints as one line, or two if there is something to do about it.
#[derive(Debug, Error)]
pub enum CliError {
    /// What was to be checked does not hold. Exit code 1.
    #[error("error: {0}")]
    DoesNotHold(String),
    /// The command could not do its work. Exit code 2.
    #[error("error: {what}{}", hint_line(.hint.as_deref()))]
    Unable {
        /// What went wrong, with the file, key or argument that it is about.
        what: String,
        /// What to do about it.
        hint: Option<String>,
    },
    /// A validator halted, since going on would not have been safe. Exit code 3.
    #[error("error: the validator halted: {0}")]
    Halted(String),
}

fn hint_line(hint: Option<&str>) -> String {
    hint.map(|hint| format!("\n  {hint}")).unwrap_or_default()
}

impl CliError {
    /// The command could not do its work, and what went wrong says it all.
    #[must_use]
    pub fn unable(what: impl Into<String>) -> Self {
        Self::Unable { what: what.into(), hint: None }
    }

    /// The command could not do its work, and there is something to do about it.
    #[must_use]
    pub fn unable_hint(what: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::Unable { what: what.into(), hint: Some(hint.into()) }
    }

    /// The code that the process ends with.
    #[must_use]
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::DoesNotHold(_) => ExitCode::from(1),
            Self::Unable { .. } => ExitCode::from(2),
            Self::Halted(_) => ExitCode::from(3),
        }
    }
}

impl From<std::io::Error> for CliError {
    /// Standard output is closed or full.
    fn from(error: std::io::Error) -> Self {
        Self::unable(format!("cannot write the output: {error}"))
    }
}
