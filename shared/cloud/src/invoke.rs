//! Asks a function of Stasis that answers at once and is no stage of a case.

use crate::{Cloud, CloudError};
use aws_config::timeout::TimeoutConfig;
use aws_sdk_lambda::primitives::Blob;
use serde::Deserialize;
use stasis_model::ready::{Readiness, ReadyRequest};
use std::time::Duration;

const INVOKE: &str = "lambda:InvokeFunction";
const READY: &str = "stasis-ready";
/// As long as the function itself may take.
const AT_MOST: Duration = Duration::from_secs(900);

/// What Lambda answers in place of an answer, where the function failed.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Failed {
    error_type: Option<String>,
    error_message: Option<String>,
}

impl Cloud {
    /// What the function `stasis-ready` says.
    ///
    /// # Errors
    /// Where it cannot be called, or fails; under the function's own name of the error.
    pub async fn ask_readiness(&self, request: &ReadyRequest) -> Result<Readiness, CloudError> {
        let unusable = |error: &dyn std::fmt::Display| CloudError::unusable(INVOKE, READY, error.to_string());
        let timeouts = TimeoutConfig::builder()
            .operation_attempt_timeout(AT_MOST)
            .operation_timeout(AT_MOST)
            .read_timeout(AT_MOST);
        let config = aws_sdk_lambda::config::Builder::from(&self.config)
            .region(aws_sdk_lambda::config::Region::new(self.home.region.as_str().to_owned()))
            .timeout_config(timeouts.build());
        let body = serde_json::to_vec(request).map_err(|error| unusable(&error))?;
        let answer = aws_sdk_lambda::Client::from_conf(config.build())
            .invoke()
            .function_name(READY)
            .payload(Blob::new(body))
            .send()
            .await
            .map_err(|error| CloudError::from_sdk(INVOKE, READY, &error))?;
        let payload = answer.payload().map(Blob::as_ref).unwrap_or_default();
        if answer.function_error().is_some() {
            let failed: Failed = serde_json::from_slice(payload).map_err(|error| unusable(&error))?;
            let code = failed.error_type.unwrap_or_else(|| "Unhandled".to_owned());
            let message = failed.error_message.unwrap_or_else(|| "the function failed and said nothing".to_owned());
            return Err(CloudError::new(INVOKE, READY, &code, message, None));
        }
        serde_json::from_slice(payload).map_err(|error| unusable(&error))
    }
}
