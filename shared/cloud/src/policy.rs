//! Reads the policy document. Holds no opinion of it.

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
    /// A parameter of the home region; none where there is none of this name.
    ///
    /// # Errors
    /// Where Systems Manager refuses or cannot be reached.
    pub async fn parameter(&self, name: &str) -> Result<Option<Parameter>, CloudError> {
        match self.ssm_at_home.get_parameter().name(name).with_decryption(true).send().await {
            Ok(answer) => Ok(answer.parameter.map(|parameter| Parameter {
                version: parameter.version(),
                value: parameter.value.unwrap_or_default(),
            })),
            Err(error) if error.as_service_error().is_some_and(|e| e.is_parameter_not_found()) => Ok(None),
            Err(error) => Err(CloudError::from_sdk(GET, name, &error)),
        }
    }
}
