//! Executions of the state machines: looked at by the functions; begun and answered by an analyst. Never stopped here.

use crate::{Cloud, CloudError};
use aws_sdk_sfn::types::{ExecutionStatus, HistoryEventType};
use stasis_model::Timestamp;
use std::collections::BTreeMap;

const DESCRIBE: &str = "states:DescribeExecution";
const START: &str = "states:StartExecution";
const HISTORY: &str = "states:GetExecutionHistory";
const ANSWER: &str = "states:SendTaskSuccess";

/// An execution as Step Functions describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Execution {
    /// `RUNNING`, `SUCCEEDED`, `FAILED`, `TIMED_OUT`, `ABORTED` or `PENDING_REDRIVE`.
    pub status: String,
    /// When it began.
    pub began_at: Option<Timestamp>,
    /// Its output, where it succeeded.
    pub output: Option<String>,
    /// Error and cause, where it failed.
    pub failure: Option<(String, String)>,
}

impl Execution {
    /// Whether it goes on.
    pub fn is_running(&self) -> bool {
        self.status == "RUNNING" || self.status == "PENDING_REDRIVE"
    }
}

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

    /// Starts a state machine.
    ///
    /// # Errors
    /// Where it cannot be started.
    pub async fn start(&self, machine: &str, input: &str) -> Result<String, CloudError> {
        let answer = self
            .sfn
            .start_execution()
            .state_machine_arn(machine)
            .input(input)
            .send()
            .await
            .map_err(|error| CloudError::from_sdk(START, machine, &error))?;
        Ok(answer.execution_arn().to_owned())
    }

    /// An execution; none where Step Functions does not know it, as after 90 days.
    ///
    /// # Errors
    /// Where it cannot be described.
    pub async fn execution(&self, arn: &str) -> Result<Option<Execution>, CloudError> {
        let answer = match self.sfn.describe_execution().execution_arn(arn).send().await {
            Ok(answer) => answer,
            Err(error) => {
                return match CloudError::from_sdk(DESCRIBE, arn, &error) {
                    gone if gone.code == "ExecutionDoesNotExist" => Ok(None),
                    error => Err(error),
                };
            }
        };
        let begun = answer.start_date();
        Ok(Some(Execution {
            status: answer.status().as_str().to_owned(),
            began_at: Timestamp::from_timestamp(begun.secs(), begun.subsec_nanos()),
            output: answer.output().map(str::to_owned),
            failure: answer.error().map(|error| (error.to_owned(), answer.cause().unwrap_or_default().to_owned())),
        }))
    }

    /// The tasks that an execution is at, by the names of their states, with when each was entered.
    ///
    /// # Errors
    /// Where its history cannot be read.
    pub async fn running_tasks(&self, arn: &str) -> Result<BTreeMap<String, Timestamp>, CloudError> {
        let mut pages =
            self.sfn.get_execution_history().execution_arn(arn).max_results(1000).into_paginator().items().send();
        let mut entered = BTreeMap::new();
        while let Some(event) = pages.try_next().await.map_err(|error| CloudError::from_sdk(HISTORY, arn, &error))? {
            match event.r#type() {
                HistoryEventType::TaskStateEntered => {
                    let at = event.timestamp();
                    let at = Timestamp::from_timestamp(at.secs(), at.subsec_nanos());
                    if let (Some(details), Some(at)) = (event.state_entered_event_details(), at) {
                        entered.insert(details.name().to_owned(), at);
                    }
                }
                HistoryEventType::TaskStateExited | HistoryEventType::TaskStateAborted => {
                    if let Some(details) = event.state_exited_event_details() {
                        entered.remove(details.name());
                    }
                }
                _ => {}
            }
        }
        Ok(entered)
    }

    /// Answers a task that waits for its token.
    ///
    /// # Errors
    /// Where nobody waits any more (`TaskTimedOut`, `InvalidToken`), or the answer is refused.
    pub async fn answer_task(&self, token: &str, output: &str) -> Result<(), CloudError> {
        self.sfn
            .send_task_success()
            .task_token(token)
            .output(output)
            .send()
            .await
            .map_err(|error| CloudError::from_sdk(ANSWER, "the question", &error))?;
        Ok(())
    }
}
