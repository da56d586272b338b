//! The answer of `stasis-contain` and `stasis-release`: the contract with people, tests and other tools.

use crate::check::Check;
use crate::ids::{CaseId, InstanceId, Ticket};
use crate::stage::{FileRef, Stage, StageOutcome};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum RunStatus {
    /// Everything was done, and AWS confirms it.
    Contained,
    /// Something is missing; `reason` says what.
    Partial,
    /// Nothing was done, as asked; the plan is in the report.
    DryRun,
    /// Not ours to act on.
    Ignored,
    /// A case is open for the instance already.
    Duplicate,
    /// More instances than one run takes: runs of their own were started for them, each with its own answer.
    Divided,
    /// An approver said no.
    Rejected,
    /// What was changed is put back, and AWS confirms it.
    Released,
}

impl fmt::Display for RunStatus {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Contained => "CONTAINED",
            Self::Partial => "PARTIAL",
            Self::DryRun => "DRY_RUN",
            Self::Ignored => "IGNORED",
            Self::Duplicate => "DUPLICATE",
            Self::Divided => "DIVIDED",
            Self::Rejected => "REJECTED",
            Self::Released => "RELEASED",
        })
    }
}

/// What became of one instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InstanceResult {
    /// The instance.
    pub instance_id: InstanceId,
    /// How it ended for it.
    pub status: RunStatus,
    /// What each stage answered.
    pub stages: BTreeMap<Stage, StageOutcome>,
    /// The security checklist.
    pub checklist: Vec<Check>,
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RunResult {
    /// The case; none where none was opened.
    pub case_id: Option<CaseId>,
    /// Its ticket.
    pub ticket: Option<Ticket>,
    /// How the run ended.
    pub status: RunStatus,
    /// Why, in a sentence.
    pub reason: String,
    /// The instances.
    pub instances: Vec<InstanceResult>,
    /// The case's folder, `s3://…/`.
    pub evidence: Option<String>,
    /// The report, `s3://…`.
    pub report: Option<String>,
    /// The manifest that the case was sealed with: kept in the execution's history, it tells an older one that was put
    /// back from the newest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub manifest: Option<FileRef>,
}

impl RunResult {
    /// The answer of a run that opened no case.
    pub fn without_case(status: RunStatus, reason: impl Into<String>) -> Self {
        Self {
            case_id: None,
            ticket: None,
            status,
            reason: reason.into(),
            instances: Vec::new(),
            evidence: None,
            report: None,
            manifest: None,
        }
    }
}

/// The answer of triage to the state machine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "decision", rename_all = "UPPERCASE")]
pub enum TriageAnswer {
    /// Cases to work on.
    Open {
        /// One per instance.
        cases: Vec<crate::case::Case>,
        /// What the run has to say of what it opens no case for: other findings of the same input, instances that are gone.
        #[serde(default)]
        ended: Vec<RunResult>,
    },
    /// More instances than one run takes.
    Divide {
        /// The runs that are to be started, one for each part.
        parts: Vec<Part>,
        /// The run's answer, once they are.
        output: RunResult,
    },
    /// Nothing to do.
    End {
        /// The run's answer.
        output: RunResult,
    },
}

/// A part of an input that names more instances than one run takes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// The name of its execution: the same whenever the same execution asks for it, so that none is started twice.
    pub name: String,
    /// How many instances come before it.
    pub skip: usize,
}
