//! The stack that Stasis was deployed by, for whoever works with it from outside.

use crate::CloudError;
use aws_config::SdkConfig;
use stasis_model::ids::AccountId;
use std::collections::BTreeMap;

const DESCRIBE: &str = "cloudformation:DescribeStacks";
const WHO: &str = "sts:GetCallerIdentity";

/// The outputs of a stack by name; none where there is no such stack.
///
/// # Errors
/// Where CloudFormation refuses or cannot be reached.
pub async fn outputs(config: &SdkConfig, stack: &str) -> Result<Option<BTreeMap<String, String>>, CloudError> {
    let client = aws_sdk_cloudformation::Client::new(config);
    let answer = match client.describe_stacks().stack_name(stack).send().await {
        Ok(answer) => answer,
        Err(error) => {
            return match CloudError::from_sdk(DESCRIBE, stack, &error) {
                // CloudFormation has no code of its own for a stack that is not there.
                none if none.code == "ValidationError" => Ok(None),
                error => Err(error),
            };
        }
    };
    Ok(answer.stacks().first().map(|stack| {
        let outputs = stack.outputs().iter();
        outputs.filter_map(|o| Some((o.output_key()?.to_owned(), o.output_value()?.to_owned()))).collect()
    }))
}

/// Account and ARN of whoever calls.
///
/// # Errors
/// Where there are no credentials, or AWS does not take them.
pub async fn caller(config: &SdkConfig) -> Result<(AccountId, String), CloudError> {
    let answer = aws_sdk_sts::Client::new(config)
        .get_caller_identity()
        .send()
        .await
        .map_err(|error| CloudError::from_sdk(WHO, "you", &error))?;
    let account = answer.account().unwrap_or_default().parse();
    let account = account.map_err(|_| CloudError::unusable(WHO, "you", "it names no account"))?;
    Ok((account, answer.arn().unwrap_or("not told").to_owned()))
}
