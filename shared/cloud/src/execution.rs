//! The execution of the state machine that works on a case. Only looked at, never started or stopped here.

use crate::{Cloud, CloudError};
use aws_sdk_sfn::types::ExecutionStatus;

const DESCRIBE: &str = "states:DescribeExecution";

impl Cloud {
    /// Whether an execution still runs. One that Step Functions no longer knows, after 90 days, does not.
    ///
    /// # Errors
    /// Where it cannot be described.
    pub async fn is_running(&self, execution: &str) -> Result<bool, CloudError> {
        match self.sfn.describe_execution().execution_arn(execution).send().await {
            Ok(answer) => Ok(matches!(answer.status(), ExecutionStatus::Running | ExecutionStatus::PendingRedrive)),
            Err(error) => match CloudError::from_sdk(DESCRIBE, execution, &error) {
                gone if gone.code == "ExecutionDoesNotExist" => Ok(false),
                error => Err(error),
            },
        }
    }
}
