//! Errors, as somebody reads them at three in the morning: what is wrong, with what, and what to do next.

use stasis_cloud::CloudError;
use stasis_cloud::error::Kind;
use std::path::PathBuf;
use std::process::ExitCode;

/// Why a command could not be carried out.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CliError {
    /// The command line cannot be used.
    #[error("{0}")]
    Usage(String),
    /// What it names is not there.
    #[error("{0}")]
    NotFound(String),
    /// AWS did not do it.
    #[error("{}", aws(.0))]
    Cloud(#[from] CloudError),
    /// A file or folder cannot be used.
    #[error("{path}: {problem}", path = .path.display())]
    File {
        /// It.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// It cannot be had now.
    #[error("{0}")]
    Failed(String),
}

impl CliError {
    /// An error of the disk.
    pub(crate) fn file(path: impl Into<PathBuf>, error: &std::io::Error) -> Self {
        Self::File { path: path.into(), problem: error.to_string() }
    }

    /// As the exit codes say (`stasis --help`).
    pub(crate) fn code(&self) -> ExitCode {
        ExitCode::from(match self {
            Self::Usage(_) => 2,
            Self::NotFound(_) => 3,
            Self::Cloud(error) => match error.kind {
                Kind::NotFound => 3,
                Kind::Denied => 4,
                _ if error.code == "Unreachable" && error.message.contains("credentials") => 4,
                _ => 5,
            },
            Self::File { .. } | Self::Failed(_) => 5,
        })
    }
}

/// What AWS answered, with what an analyst can do about it.
fn aws(error: &CloudError) -> String {
    let next = match error.kind {
        _ if error.code == "ExpiredToken" || error.code == "ExpiredTokenException" => {
            "your session has ended: sign in again (aws sso login)"
        }
        Kind::Denied => {
            "your own AWS identity needs this right; take another profile (--profile), or ask whoever gives rights in this account"
        }
        Kind::NotFound if error.code == "NoSuchBucket" => {
            "name the evidence bucket (--bucket), or the stack (--stack), region (--region) and profile (--profile) that Stasis is in"
        }
        Kind::NotFound => "check the name, the region (--region) and the profile (--profile)",
        Kind::Throttled => "AWS has too many requests: try again in a moment",
        _ if error.code == "Unreachable" => {
            "no AWS could be reached with these credentials: check the network, the profile (--profile) and AWS_ENDPOINT_URL"
        }
        Kind::Transient => "try again in a moment",
        Kind::Conflict | Kind::Refused => "nothing was changed by this call",
    };
    format!("{} of {} was refused: {}: {}\n{next}", error.operation, error.subject, error.code, error.message)
}
