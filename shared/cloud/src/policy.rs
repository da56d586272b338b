//! Reads the policy document. Holds no opinion of it, and never waits to read it again.

use aws_config::retry::RetryConfig;

use crate::{Cloud, CloudError};

const GET: &str = "ssm:GetParameter";

/// A parameter of Systems Manager.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parameter {
    /// What it holds.
    pub value: String,
    /// Its version.
    pub version: i64,
}

impl Cloud {
    /// A parameter of the home region; none where there is none of this name. It is asked for once: the SDK waits up to a
    /// second before its second try and two before its third, which is most of what its caller has.
    ///
    /// # Errors
    /// Where Systems Manager refuses or cannot be reached.
    pub async fn parameter(&self, name: &str) -> Result<Option<Parameter>, CloudError> {
        let once = aws_sdk_ssm::config::Builder::new().retry_config(RetryConfig::disabled());
        let call = self.ssm_at_home.get_parameter().name(name).with_decryption(true);
        match call.customize().config_override(once).send().await {
            Ok(answer) => Ok(answer.parameter.map(|parameter| Parameter {
                version: parameter.version(),
                value: parameter.value.unwrap_or_default(),
            })),
            Err(error) if error.as_service_error().is_some_and(|e| e.is_parameter_not_found()) => Ok(None),
            Err(error) => Err(CloudError::from_sdk(GET, name, &error)),
        }
    }
}
