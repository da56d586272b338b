//! What a stage does and says: its plan, the record of what came of it, and the short answer that
//! travels on through the state machine.

use crate::Timestamp;
use crate::action::Action;
use crate::approval::Answer;
use crate::check::Check;
use crate::evidence::Evidence;
use crate::ids::CaseId;
use serde::{Deserialize, Serialize};
use std::fmt;

/// The stages, in the order in which they begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// Reads the request and opens the case.
    Triage,
    /// Asks people first, where the policy says so.
    Approval,
    /// Keeps the instance from being stopped or terminated.
    Protect,
    /// Takes it out of scaling group and load balancers.
    Detach,
    /// Makes the quarantine groups ready, while protect and detach are still at work.
    Prepare,
    /// Cuts it from the network.
    Quarantine,
    /// Reads volatile data.
    Capture,
    /// Acquires the memory.
    Memory,
    /// Snapshots the disks.
    Preserve,
    /// Copies the snapshots.
    Replicate,
    /// Looks at what else the compromise may reach, where the policy says so.
    Scope,
    /// Takes the power of the instance's role away.
    Revoke,
    /// Reads everything back.
    Verify,
    /// Writes the report.
    Report,
    /// Puts everything back that was changed.
    Release,
}

impl Stage {
    /// Every stage, in order.
    pub const ALL: [Self; 15] = [
        Self::Triage,
        Self::Approval,
        Self::Protect,
        Self::Detach,
        Self::Prepare,
        Self::Quarantine,
        Self::Capture,
        Self::Memory,
        Self::Preserve,
        Self::Replicate,
        Self::Scope,
        Self::Revoke,
        Self::Verify,
        Self::Report,
        Self::Release,
    ];

    /// Its name: of the function, of the folder, in every record.
    pub fn name(self) -> &'static str {
        match self {
            Self::Triage => "triage",
            Self::Approval => "approval",
            Self::Protect => "protect",
            Self::Detach => "detach",
            Self::Prepare => "prepare",
            Self::Quarantine => "quarantine",
            Self::Capture => "capture",
            Self::Memory => "memory",
            Self::Preserve => "preserve",
            Self::Replicate => "replicate",
            Self::Scope => "scope",
            Self::Revoke => "revoke",
            Self::Verify => "verify",
            Self::Report => "report",
            Self::Release => "release",
        }
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.name())
    }
}

/// How a stage ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum StageStatus {
    /// All that was planned is so.
    Done,
    /// Something could not be done; the failures say what.
    Incomplete,
    /// More is to come: call again after the time given.
    Waiting,
    /// The function itself could not answer; said by the state machine.
    Failed,
    /// A dry run: planned and not done.
    Planned,
    /// Nothing to do for this case.
    Skipped,
}

impl fmt::Display for StageStatus {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Done => "DONE",
            Self::Incomplete => "INCOMPLETE",
            Self::Waiting => "WAITING",
            Self::Failed => "FAILED",
            Self::Planned => "PLANNED",
            Self::Skipped => "SKIPPED",
        })
    }
}

/// What a stage does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// It is through once the plan is performed.
    Finish,
    /// What the plan changes opens the way for more: observe and plan again at once.
    ObserveAgain,
    /// AWS needs time: come back after this many seconds. What failed ends the stage all the same.
    Wait(u32),
    /// As [`Next::Wait`], also where something failed: the rest does not depend on it, and what failed is said again
    /// each time.
    WaitForRest(u32),
}

/// A plan: groups of actions, the groups one after another, the actions of a group at the same time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The groups.
    pub steps: Vec<Vec<Action>>,
    /// What comes after.
    pub next: Next,
    /// What cannot be done, and why: facts that make the stage incomplete whatever is performed.
    pub obstacles: Vec<Failure>,
    /// What the reader of the report should know.
    pub notes: Vec<String>,
    /// Checks; verify's, which plans no action.
    pub checks: Vec<Check>,
    /// Evidence that was found and needs no action.
    pub evidence: Vec<Evidence>,
    /// How far what is waited for has come, in a few words.
    pub progress: Option<String>,
}

impl Plan {
    /// A plan that does nothing and finishes.
    pub fn nothing() -> Self {
        Self {
            steps: Vec::new(),
            next: Next::Finish,
            obstacles: Vec::new(),
            notes: Vec::new(),
            checks: Vec::new(),
            evidence: Vec::new(),
            progress: None,
        }
    }

    /// Every action, in order.
    pub fn actions(&self) -> impl Iterator<Item = &Action> {
        self.steps.iter().flatten()
    }

    /// Adds a group of actions, unless it is empty.
    pub fn step(&mut self, actions: Vec<Action>) {
        if !actions.is_empty() {
            self.steps.push(actions);
        }
    }
}

/// Why something was not done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Failure {
    /// AWS' error code, or ours.
    pub code: String,
    /// What failed, with the id concerned, and what to do about it.
    pub message: String,
    /// Whether trying again can help.
    #[serde(default)]
    pub retryable: bool,
}

impl Failure {
    /// A failure that trying again does not mend.
    pub fn lasting(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self { code: code.into(), message: message.into(), retryable: false }
    }
}

/// What came of an action.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Outcome {
    /// AWS accepted it.
    Applied,
    /// AWS says that it was so already.
    AlreadySo,
    /// A dry run.
    Planned,
    /// AWS refused, or could not be reached.
    Failed,
}

/// The record of one action.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ActionRecord {
    /// The action.
    pub action: Action,
    /// The action in plain words.
    pub words: String,
    /// What it was done to.
    pub target: String,
    /// What came of it.
    pub outcome: Outcome,
    /// Why it failed.
    pub error: Option<Failure>,
    /// AWS' id of the request, to find it in CloudTrail.
    pub request_id: Option<String>,
    /// When it was answered.
    pub at: Timestamp,
}

/// A file of the case and its hash: how one report names the one before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FileRef {
    /// Key in the evidence bucket.
    pub key: String,
    /// SHA-256 in hexadecimal.
    pub sha256: String,
}

/// Everything a stage did in one call. Written to the case file, create-only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StageReport {
    /// Layout of this document.
    pub schema: u32,
    /// The case.
    pub case_id: CaseId,
    /// The stage.
    pub stage: Stage,
    /// Which call of the stage it was, from 1.
    pub attempt: u32,
    /// How it ended.
    pub status: StageStatus,
    /// When it began.
    pub started_at: Timestamp,
    /// When it ended.
    pub finished_at: Timestamp,
    /// When to call again, in seconds, while waiting.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait_seconds: Option<u32>,
    /// One line.
    pub summary: String,
    /// The report before this one.
    pub previous: Option<FileRef>,
    /// The record of each action.
    pub actions: Vec<ActionRecord>,
    /// What could not be done, actions and obstacles alike.
    pub failures: Vec<Failure>,
    /// The evidence.
    pub evidence: Vec<Evidence>,
    /// The checks.
    pub checks: Vec<Check>,
    /// What the reader should know.
    pub notes: Vec<String>,
    /// What people answered; approval's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<Answer>,
}

/// The short answer of a stage: bounded in size, because the state machine carries at most 256 KiB
/// (<https://docs.aws.amazon.com/step-functions/latest/dg/service-quotas.html>).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StageOutcome {
    /// The stage.
    pub stage: Stage,
    /// How it ended.
    pub status: StageStatus,
    /// Which call of the stage it was, from 1.
    #[serde(default)]
    pub attempt: u32,
    /// When to call again, in seconds, while waiting.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait_seconds: Option<u32>,
    /// When it began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Timestamp>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Timestamp>,
    /// One line.
    #[serde(default)]
    pub summary: String,
    /// The first failures.
    #[serde(default)]
    pub failures: Vec<Failure>,
    /// The whole report.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub report: Option<FileRef>,
    /// The checklist; verify's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub checklist: Vec<Check>,
    /// What people answered; approval's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<Answer>,
}

/// How many failures travel with the outcome; all of them are in the report.
const FAILURES_CARRIED: usize = 8;
/// How much of a text travels with the outcome, in characters.
const TEXT_CARRIED: usize = 400;

impl StageOutcome {
    /// The same outcome with the cause of a failed function in words: the state machine passes on what Lambda
    /// says, which is JSON of the form `{"errorType": …, "errorMessage": …}`.
    #[must_use]
    pub fn in_words(mut self) -> Self {
        if self.status == StageStatus::Failed {
            for failure in &mut self.failures {
                if let Ok(cause) = serde_json::from_str::<LambdaCause>(&failure.message) {
                    failure.message = cut(&cause.error_message);
                }
            }
            if let Some(first) = self.failures.first() {
                self.summary = cut(&format!("{}: {}", first.code, first.message));
            }
        }
        self
    }
}

/// What Lambda says of a function that answered with an error.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct LambdaCause {
    error_message: String,
}

impl StageReport {
    /// The short answer that stands for this report, which is kept at `report`.
    pub fn outcome(&self, report: Option<FileRef>) -> StageOutcome {
        StageOutcome {
            stage: self.stage,
            status: self.status,
            attempt: self.attempt,
            wait_seconds: self.wait_seconds,
            started_at: Some(self.started_at),
            finished_at: Some(self.finished_at),
            summary: cut(&self.summary),
            failures: self
                .failures
                .iter()
                .take(FAILURES_CARRIED)
                .map(|f| Failure { code: cut(&f.code), message: cut(&f.message), retryable: f.retryable })
                .collect(),
            report,
            checklist: self
                .checks
                .iter()
                .map(|c| Check { expected: cut(&c.expected), observed: cut(&c.observed), ..c.clone() })
                .collect(),
            answer: self.answer.clone(),
        }
    }
}

/// A text of at most [`TEXT_CARRIED`] characters.
fn cut(text: &str) -> String {
    if text.chars().count() <= TEXT_CARRIED {
        return text.to_owned();
    }
    text.chars().take(TEXT_CARRIED).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cause_of_a_failed_function_is_told_in_words() {
        let failed = |message: &str| StageOutcome {
            stage: Stage::Detach,
            status: StageStatus::Failed,
            attempt: 0,
            wait_seconds: None,
            started_at: None,
            finished_at: None,
            summary: String::new(),
            failures: vec![Failure::lasting("Denied", message)],
            report: None,
            checklist: Vec::new(),
            answer: None,
        };
        let told = failed(r#"{"errorType":"Denied","errorMessage":"autoscaling said no"}"#).in_words();
        assert_eq!(told.summary, "Denied: autoscaling said no");
        assert_eq!(failed("Task timed out").in_words().summary, "Denied: Task timed out");
    }

    #[test]
    fn an_outcome_stays_small_whatever_the_report_holds() {
        let long = "x".repeat(10_000);
        let report = StageReport {
            schema: crate::SCHEMA,
            case_id: "case-20261123T061126Z-1f2e3d4c".parse().expect("id"),
            stage: Stage::Protect,
            attempt: 1,
            status: StageStatus::Incomplete,
            started_at: crate::now(),
            finished_at: crate::now(),
            wait_seconds: None,
            summary: long.clone(),
            previous: None,
            actions: Vec::new(),
            failures: vec![Failure::lasting("Code", long.clone()); 500],
            evidence: Vec::new(),
            checks: Vec::new(),
            notes: vec![long; 500],
            answer: None,
        };
        let size = serde_json::to_vec(&report.outcome(None)).expect("JSON").len();
        assert!(size < 8_192, "{size}");
    }
}
