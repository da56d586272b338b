//! What AWS answers when it does not do what was asked. Told apart by AWS' error codes, never by its
//! messages, which change without notice.

use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_types::error::display::DisplayErrorContext;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use stasis_model::stage::Failure;

/// What to make of an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Too many requests: later it will go.
    Throttled,
    /// AWS or the way to it failed: later it may go.
    Transient,
    /// No permission.
    Denied,
    /// There is no such thing.
    NotFound,
    /// It is there already, or it changed meanwhile.
    Conflict,
    /// Refused for another reason.
    Refused,
}

/// An AWS call that did not work.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{operation} of {subject} failed: {code}: {message}{remedy}")]
pub struct CloudError {
    /// The operation, such as `ec2:DescribeInstances`.
    pub operation: &'static str,
    /// What it was about.
    pub subject: String,
    /// What to make of it.
    pub kind: Kind,
    /// AWS' code, or ours where there was no answer.
    pub code: String,
    /// AWS' words.
    pub message: String,
    /// What to do about it, where we know.
    remedy: &'static str,
}

/// How much of AWS' words is kept, in characters.
const MESSAGE_MOST: usize = 500;

impl CloudError {
    /// An error of ours about an answer that cannot be used.
    pub fn unusable(operation: &'static str, subject: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(operation, subject, "UnusableAnswer", message, None)
    }

    /// An error with AWS' code.
    pub fn new(
        operation: &'static str,
        subject: impl Into<String>,
        code: &str,
        message: impl Into<String>,
        http: Option<u16>,
    ) -> Self {
        let kind = kind(code, http);
        let remedy = match kind {
            Kind::Denied => "; grant the function's role this action on this resource",
            Kind::Throttled => "; it is tried again",
            _ => "",
        };
        let message: String = message.into().chars().filter(|c| !c.is_control()).take(MESSAGE_MOST).collect();
        Self { operation, subject: subject.into(), kind, code: code.to_owned(), message, remedy }
    }

    /// From an error of the SDK.
    pub fn from_sdk<E, R>(operation: &'static str, subject: impl Into<String>, error: &SdkError<E, R>) -> Self
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
        R: std::fmt::Debug + HttpStatus,
    {
        let http = error.raw_response().map(HttpStatus::status);
        match error {
            SdkError::ServiceError(service) => {
                let code = service.err().code().unwrap_or("UnknownError");
                let message = service.err().message().unwrap_or("no message");
                Self::new(operation, subject, code, message, http)
            }
            SdkError::TimeoutError(_) => Self::new(operation, subject, "TimedOut", "no answer in time", None),
            SdkError::DispatchFailure(_) => {
                Self::new(operation, subject, "Unreachable", DisplayErrorContext(error).to_string(), None)
            }
            _ => Self::new(operation, subject, "UnusableAnswer", DisplayErrorContext(error).to_string(), http),
        }
    }

    /// The same error where it may be EC2's eventual consistency: what was just made is not seen everywhere at
    /// once (<https://docs.aws.amazon.com/ec2/latest/devguide/eventual-consistency.html>).
    #[must_use]
    pub fn not_visible_yet(mut self) -> Self {
        self.kind = Kind::Transient;
        self
    }

    /// The same error with more to say about what it means here.
    #[must_use]
    pub fn adding(mut self, remedy: &'static str) -> Self {
        self.remedy = remedy;
        self
    }

    /// Whether trying again can help.
    pub fn is_retryable(&self) -> bool {
        matches!(self.kind, Kind::Throttled | Kind::Transient)
    }

    /// Whether AWS says that there is no such thing.
    pub fn is_not_found(&self) -> bool {
        self.kind == Kind::NotFound
    }

    /// Whether AWS says that it is there already.
    pub fn is_conflict(&self) -> bool {
        self.kind == Kind::Conflict
    }

    /// For a report.
    pub fn failure(&self) -> Failure {
        Failure { code: self.code.clone(), message: self.to_string(), retryable: self.is_retryable() }
    }
}

/// The HTTP status of a raw answer, where there is one.
pub trait HttpStatus {
    /// The status.
    fn status(&self) -> u16;
}

impl HttpStatus for aws_smithy_runtime_api::client::orchestrator::HttpResponse {
    fn status(&self) -> u16 {
        self.status().as_u16()
    }
}

/// Codes of the services in use
/// (<https://docs.aws.amazon.com/AWSEC2/latest/APIReference/errors-overview.html> and the error lists of the
/// other services). Where a code is not known, the HTTP status decides whether trying again can help.
fn kind(code: &str, http: Option<u16>) -> Kind {
    match code {
        "RequestLimitExceeded"
        | "Throttling"
        | "ThrottlingException"
        | "ThrottledException"
        | "RequestThrottled"
        | "RequestThrottledException"
        | "TooManyRequestsException"
        | "TooManyUpdates"
        | "SlowDown"
        | "EC2ThrottledException" => Kind::Throttled,
        "UnauthorizedOperation"
        | "AccessDenied"
        | "AccessDeniedException"
        | "AuthFailure"
        | "UnauthorizedAccess"
        | "InvalidClientTokenId"
        | "UnrecognizedClientException"
        | "ExpiredToken"
        | "ExpiredTokenException"
        | "KMSAccessDeniedException"
        | "AuthorizationError" => Kind::Denied,
        "InternalError"
        | "InternalFailure"
        | "InternalServerError"
        | "InternalServiceError"
        | "ServiceUnavailable"
        | "Unavailable"
        | "RequestTimeout"
        | "TimedOut"
        | "Unreachable"
        | "InternalServiceException"
        | "ResourceContention"
        | "ScalingActivityInProgress"
        | "ServiceUnavailableException" => Kind::Transient,
        "PreconditionFailed"
        | "ConditionalRequestConflict"
        | "InvalidGroup.Duplicate"
        | "InvalidPermission.Duplicate"
        | "OpsItemAlreadyExistsException" => Kind::Conflict,
        "NoSuchKey"
        | "NoSuchBucket"
        | "InvalidInstanceId"
        | "InvocationDoesNotExist"
        | "InvalidCommandId"
        | "InvalidInstanceID.Malformed"
        | "ObjectLockConfigurationNotFoundError"
        | "NotFound" => Kind::NotFound,
        code if code.ends_with(".NotFound") || code.ends_with("NotFoundException") => Kind::NotFound,
        _ if http.is_some_and(|status| status >= 500) => Kind::Transient,
        _ if http == Some(429) => Kind::Throttled,
        _ => Kind::Refused,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_decide_and_an_unknown_one_leaves_it_to_the_status() {
        let table = [
            ("RequestLimitExceeded", Some(503), Kind::Throttled),
            ("UnauthorizedOperation", Some(403), Kind::Denied),
            ("InvalidInstanceID.NotFound", Some(400), Kind::NotFound),
            ("InvalidGroup.NotFound", Some(400), Kind::NotFound),
            ("TargetGroupNotFoundException", Some(400), Kind::NotFound),
            ("InvalidGroup.Duplicate", Some(400), Kind::Conflict),
            ("PreconditionFailed", Some(412), Kind::Conflict),
            ("SomethingNew", Some(500), Kind::Transient),
            ("SomethingNew", Some(400), Kind::Refused),
            ("Unreachable", None, Kind::Transient),
        ];
        for (code, http, expected) in table {
            assert_eq!(kind(code, http), expected, "{code} {http:?}");
        }
    }

    #[test]
    fn a_message_names_operation_subject_and_remedy_and_no_control_character() {
        let error = CloudError::new("ec2:CreateTags", "i-1", "UnauthorizedOperation", "no\u{1b}[31m", Some(403));
        assert_eq!(
            error.to_string(),
            "ec2:CreateTags of i-1 failed: UnauthorizedOperation: no[31m; grant the function's role this action on this resource"
        );
    }
}
