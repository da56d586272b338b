//! Errors as the state machine sees them: a fixed set of names that its Retry and Catch match.
//!
//! An error is raised only where there is nothing to record. Whatever was done or found out is a report.

use lambda_runtime::Diagnostic;
use stasis_cloud::CloudError;
use stasis_cloud::error::Kind;
use stasis_model::error::InputError;

/// Why a function cannot answer.
#[derive(Debug, thiserror::Error)]
pub enum HandlerError {
    /// The input cannot be used.
    #[error("{0}")]
    Input(#[from] InputError),
    /// What the input names is not there.
    #[error("{0}")]
    NotFound(String),
    /// An AWS call failed.
    #[error("{0}")]
    Cloud(#[from] CloudError),
    /// Going on would risk evidence.
    #[error("{0}")]
    EvidenceAtRisk(String),
    /// Something is left undone for a reason that may pass; what was done is in the stage's report.
    #[error("{0}")]
    Unfinished(String),
    /// A mistake of ours.
    #[error("{0}; this is a mistake in Stasis, please report it")]
    Bug(String),
}

impl HandlerError {
    /// Whether trying again can help.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Cloud(error) => error.is_retryable(),
            Self::Unfinished(_) => true,
            _ => false,
        }
    }

    /// The name under which the state machine knows it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Input(_) => "InvalidInput",
            Self::NotFound(_) => "NotFound",
            Self::EvidenceAtRisk(_) => "EvidenceAtRisk",
            Self::Unfinished(_) => "Transient",
            Self::Bug(_) => "Bug",
            Self::Cloud(error) => match error.kind {
                Kind::Throttled => "Throttled",
                Kind::Transient => "Transient",
                Kind::Denied => "Denied",
                Kind::NotFound => "NotFound",
                Kind::Conflict | Kind::Refused => "EvidenceAtRisk",
            },
        }
    }
}

/// A type's own name would be a Rust path that no Catch can match.
impl From<HandlerError> for Diagnostic {
    fn from(error: HandlerError) -> Self {
        Self { error_type: error.name().to_owned(), error_message: error.to_string() }
    }
}
