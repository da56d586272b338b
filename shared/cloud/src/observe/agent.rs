//! Systems Manager: the agent on the instance, and the command that was sent for a case.

use super::time;
use crate::{Cloud, CloudError};
use aws_sdk_ssm::types::{
    Command as SsmCommand, CommandFilter, CommandFilterKey, CommandInvocation, InstanceInformationStringFilter,
};
use chrono::TimeDelta;
use stasis_model::baseline::Agent;
use stasis_model::case::Case;
use stasis_model::facts::{Command, CommandStep};
use stasis_model::ids::InstanceId;

const INFORMATION: &str = "ssm:DescribeInstanceInformation";
const COMMANDS: &str = "ssm:ListCommands";
const INVOCATIONS: &str = "ssm:ListCommandInvocations";

impl Cloud {
    /// The agent; none where Systems Manager does not manage the instance.
    pub(crate) async fn agent(&self, id: &InstanceId) -> Result<Option<Agent>, CloudError> {
        let filter = InstanceInformationStringFilter::builder()
            .key("InstanceIds")
            .values(id.as_str())
            .build()
            .map_err(|error| CloudError::unusable(INFORMATION, id.as_str(), error.to_string()))?;
        let answer = self
            .ssm
            .describe_instance_information()
            .filters(filter)
            .send()
            .await
            .map_err(|error| CloudError::from_sdk(INFORMATION, id.as_str(), &error))?;
        Ok(answer.instance_information_list().iter().find(|i| i.instance_id() == Some(id.as_str())).map(|i| Agent {
            ping_status: i.ping_status().map_or("unknown", |s| s.as_str()).to_owned(),
            platform_type: i.platform_type().map_or("unknown", |s| s.as_str()).to_owned(),
            platform_name: i.platform_name().map(str::to_owned),
            version: i.agent_version().map(str::to_owned),
        }))
    }

    /// The command of a case with this document, found by the comment that marks it: SSM takes neither tag nor client token.
    pub(crate) async fn command(
        &self,
        case: &Case,
        document: &str,
        comment: &str,
    ) -> Result<Option<Command>, CloudError> {
        let id = case.instance.instance_id.as_str();
        // A busy host has a month of other people's commands: only those since the case was opened matter.
        let opened = (case.opened_at - TimeDelta::minutes(1)).format("%Y-%m-%dT%H:%M:%SZ").to_string();
        let since = CommandFilter::builder()
            .key(CommandFilterKey::InvokedAfter)
            .value(opened)
            .build()
            .map_err(|error| CloudError::unusable(COMMANDS, id, error.to_string()))?;
        let commands: Vec<SsmCommand> = self
            .ssm
            .list_commands()
            .instance_id(id)
            .filters(since)
            .into_paginator()
            .items()
            .send()
            .try_collect()
            .await
            .map_err(|error| CloudError::from_sdk(COMMANDS, id, &error))?;
        let ours = commands
            .iter()
            .filter(|c| c.comment() == Some(comment) && c.document_name() == Some(document))
            .max_by_key(|c| c.requested_date_time().map(|at| at.secs()));
        let Some((command_id, listed)) = ours.and_then(|c| Some((c.command_id()?, c))) else { return Ok(None) };
        let invocation = self.invocation(id, command_id).await?;
        let requested_at = listed.requested_date_time().and_then(time).unwrap_or(case.opened_at);
        Ok(Some(match invocation {
            Some(invocation) => Command {
                command_id: command_id.to_owned(),
                status: invocation.status().map_or("Pending", |s| s.as_str()).to_owned(),
                undelivered: invocation.status_details().is_some_and(is_undelivered),
                requested_at,
                steps: invocation.command_plugins().iter().filter_map(step).collect(),
            },
            // Run Command is eventually consistent: the invocation may follow the command.
            None => Command {
                command_id: command_id.to_owned(),
                status: "Pending".to_owned(),
                undelivered: false,
                requested_at,
                steps: Vec::new(),
            },
        }))
    }

    async fn invocation(&self, id: &str, command_id: &str) -> Result<Option<CommandInvocation>, CloudError> {
        let answer = self
            .ssm
            .list_command_invocations()
            .command_id(command_id)
            .instance_id(id)
            .details(true)
            .send()
            .await
            .map_err(|error| CloudError::from_sdk(INVOCATIONS, command_id, &error))?;
        Ok(answer.command_invocations().iter().find(|i| i.instance_id() == Some(id)).cloned())
    }
}

/// Whether a status says that the agent did not get the command. AWS writes it with and without blanks
/// (<https://docs.aws.amazon.com/systems-manager/latest/userguide/monitor-commands.html>).
fn is_undelivered(details: &str) -> bool {
    let word: String = details.chars().filter(|c| !c.is_whitespace()).collect();
    matches!(word.as_str(), "DeliveryTimedOut" | "Undeliverable")
}

fn step(from: &aws_sdk_ssm::types::CommandPlugin) -> Option<CommandStep> {
    Some(CommandStep {
        name: from.name()?.to_owned(),
        status: from.status().map_or("Pending", |s| s.as_str()).to_owned(),
        response_code: from.response_code(),
        has_output: from.output().is_some_and(|text| !text.trim().is_empty()),
        said: from.output().unwrap_or_default().to_owned(),
    })
}
