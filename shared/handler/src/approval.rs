//! Approval: puts the question to people, and keeps their answer. Decides nothing: what an answer means is the decide
//! crate's, and what follows from it the state machine's.

use crate::HandlerError;
use crate::notify::publish;
use crate::settings::Settings;
use crate::stage::{case_span, keep_report};
use crate::ticket::tell;
use lambda_runtime::Diagnostic;
use serde::Deserialize;
use serde_json::Value;
use stasis_cloud::Cloud;
use stasis_decide::approval::{self, Heard};
use stasis_decide::ticket::Progress;
use stasis_model::approval::{Answer, Verdict, token_key};
use stasis_model::case::Case;
use stasis_model::error::InputError;
use stasis_model::stage::{Failure, Stage, StageOutcome, StageReport, StageStatus};
use stasis_model::{SCHEMA, now};
use tracing::Instrument as _;

/// What the state machine sends: the token of the task that waits, or what came of it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Call {
    case: Case,
    /// How often the question was put.
    #[serde(default)]
    asked: u32,
    token: Option<String>,
    heard: Option<Heard>,
}

/// Answers one call.
pub async fn answer(cloud: &Cloud, settings: &Settings, topic: &str, input: Value) -> Result<StageOutcome, Diagnostic> {
    let call = Call::deserialize(input).map_err(|error| {
        HandlerError::from(InputError::invalid(
            "input",
            format!("must be {{\"case\": …, \"token\": …}} or {{\"case\": …, \"heard\": …}}, as the state machine sends it: {error}"),
        ))
    })?;
    let span = case_span(&call.case, Stage::Approval);
    async {
        match (call.token, call.heard) {
            (Some(token), None) => ask(cloud, settings, topic, &call.case, token).await,
            (None, Some(heard)) => settle(cloud, &call.case, &heard, call.asked).await,
            _ => Err(InputError::invalid("input", "must hold either token or heard").into()),
        }
    }
    .instrument(span)
    .await
    .map_err(Diagnostic::from)
}

/// Keeps the token where an approver finds it, and tells people. The token alone answers nothing: whoever uses it needs
/// the right to send it, too.
async fn ask(
    cloud: &Cloud,
    settings: &Settings,
    topic: &str,
    case: &Case,
    token: String,
) -> Result<StageOutcome, HandlerError> {
    let started_at = now();
    let reports: Vec<StageReport> =
        cloud.stage_reports(&case.case_id).await?.into_iter().map(|(_, _, report)| report).collect();
    let question = approval::question(case, &approval::planned(&reports), settings.home.region.as_str(), started_at);
    cloud.write(&token_key(case), "text/plain; charset=utf-8", token.into_bytes()).await?;
    publish(cloud, topic, &question).await?;
    let mut notes = vec![question.body];
    if let Err(error) = tell(cloud, case, Progress::AwaitingApproval, "people are asked").await {
        tracing::error!(%error, "the ticket was not told that people are asked");
        notes.push(format!("the ticket was not told that people are asked: {error}"));
    }
    let report = StageReport {
        status: StageStatus::Waiting,
        summary: "people were asked whether to contain the instance".to_owned(),
        notes,
        ..empty(case, started_at)
    };
    keep_report(cloud, report).await
}

/// Keeps what was answered.
async fn settle(cloud: &Cloud, case: &Case, heard: &Heard, asked: u32) -> Result<StageOutcome, HandlerError> {
    let at = now();
    let terms = case.decided.approval.unwrap_or_default();
    let report = match approval::understand(heard, terms, asked, at) {
        Ok(answer) => {
            let words = approval::in_words(&answer, Some(terms));
            tracing::info!(target: "audit", verdict = ?answer.verdict, contain = answer.contain, "approval");
            let failures = problems(&answer, &words);
            StageReport {
                status: if failures.is_empty() { StageStatus::Done } else { StageStatus::Incomplete },
                summary: words,
                failures,
                answer: Some(answer),
                ..empty(case, at)
            }
        }
        Err(why) => StageReport { status: StageStatus::Waiting, summary: why, ..empty(case, at) },
    };
    keep_report(cloud, report).await
}

fn problems(answer: &Answer, words: &str) -> Vec<Failure> {
    match answer.verdict {
        Verdict::Unasked => vec![Failure::lasting("Unasked", words)],
        Verdict::Approved | Verdict::Rejected | Verdict::Expired => Vec::new(),
    }
}

fn empty(case: &Case, started_at: stasis_model::Timestamp) -> StageReport {
    StageReport {
        schema: SCHEMA,
        case_id: case.case_id.clone(),
        stage: Stage::Approval,
        attempt: 1,
        status: StageStatus::Done,
        started_at,
        finished_at: now(),
        wait_seconds: None,
        summary: String::new(),
        previous: None,
        actions: Vec::new(),
        failures: Vec::new(),
        evidence: Vec::new(),
        checks: Vec::new(),
        notes: Vec::new(),
        answer: None,
    }
}
