//! Release: from a case's id to the former state. What may not be released is refused before anything is touched;
//! the rest is a stage like any other.

use crate::HandlerError;
use crate::settings::Settings;
use crate::stage::{Work, case_of, case_span, keep_report, run, try_again};
use lambda_runtime::Diagnostic;
use serde_json::Value;
use stasis_cloud::observe::Former;
use stasis_cloud::{Cloud, CloudError};
use stasis_decide::{release, revoke};
use stasis_model::Timestamp;
use stasis_model::action::Action;
use stasis_model::approval::Verdict;
use stasis_model::case::{Case, Claim, InstanceRef, claim_key};
use stasis_model::error::InputError;
use stasis_model::facts::ReleaseFacts;
use stasis_model::ids::CaseId;
use stasis_model::stage::{ActionRecord, Plan, Stage, StageOutcome, StageReport, StageStatus};
use std::collections::BTreeSet;
use tracing::Instrument as _;

/// The keys of the input.
const KEYS: [&str; 2] = ["caseId", "reason"];
/// The longest reason, in characters.
const REASON_MOST: usize = 1024;

/// The work of releasing, with the reason that was given.
struct Release {
    reason: Option<String>,
}

impl Work for Release {
    const STAGE: Stage = Stage::Release;
    type Facts = ReleaseFacts;

    async fn observe(&self, cloud: &Cloud, case: &Case) -> Result<ReleaseFacts, CloudError> {
        let policy = revoke::policy_name(&case.case_id);
        cloud.release_facts(case, &policy, |done| former(case, done)).await
    }

    fn plan(&self, case: &Case, facts: &ReleaseFacts, _now: Timestamp, _tried: &[ActionRecord]) -> Plan {
        let mut plan = release::plan(case, facts);
        let reason = self.reason.as_deref().unwrap_or("none given");
        plan.notes.insert(0, format!("reason of the release: {reason}"));
        plan
    }
}

fn former(case: &Case, done: &[Action]) -> Former {
    let registrations = release::registrations_before(case, done);
    Former {
        target_groups: registrations.iter().map(|r| r.target_group.clone()).collect(),
        targets: registrations.into_iter().map(|r| r.target).collect(),
        classic_load_balancers: release::classic_before(case, done).into_iter().collect(),
    }
}

/// Answers one call of the release.
pub async fn answer(cloud: &Cloud, _settings: &Settings, input: Value) -> Result<StageOutcome, Diagnostic> {
    let (case_id, reason) = read(&input).map_err(HandlerError::from)?;
    let case = case_of(cloud, &case_id).await?;
    let span = case_span(&case, Stage::Release);
    put_back(cloud, case, reason).instrument(span).await.map_err(Diagnostic::from)
}

fn read(input: &Value) -> Result<(CaseId, Option<String>), InputError> {
    let Value::Object(fields) = input else {
        return Err(InputError::invalid("input", "must be a JSON object: {\"caseId\": \"case-…\", \"reason\": \"…\"}"));
    };
    if let Some(key) = fields.keys().find(|key| !KEYS.contains(&key.as_str())) {
        return Err(InputError::UnknownKey { key: key.escape_debug().take(64).collect(), known: KEYS.join(", ") });
    }
    let case_id = match fields.get("caseId") {
        Some(Value::String(text)) => text.parse()?,
        Some(_) => return Err(InputError::invalid("caseId", "must be a string")),
        None => {
            return Err(InputError::Missing {
                key: "caseId".to_owned(),
                remedy: "name the case to release: {\"caseId\": \"case-…\", \"reason\": \"…\"}".to_owned(),
            });
        }
    };
    let reason = match fields.get("reason") {
        None | Some(Value::Null) => None,
        Some(Value::String(text)) => Some(text.clone()),
        Some(_) => return Err(InputError::invalid("reason", "must be a string")),
    };
    if let Some(reason) = &reason
        && (reason.chars().count() > REASON_MOST || reason.chars().any(char::is_control))
    {
        return Err(InputError::invalid("reason", format!("must be one line of at most {REASON_MOST} characters")));
    }
    Ok((case_id, reason))
}

async fn put_back(cloud: &Cloud, mut case: Case, reason: Option<String>) -> Result<StageOutcome, HandlerError> {
    let reports: Vec<StageReport> =
        cloud.stage_reports(&case.case_id).await?.into_iter().map(|(_, _, report)| report).collect();
    let since = case.worked_on_since();
    let mut releases = reports.iter().filter(|r| r.stage == Stage::Release && r.finished_at >= since);
    if let Some(done) = releases.find(|r| r.status == StageStatus::Done) {
        return Ok(released_before(&case, done, &reports));
    }
    may_be_released(cloud, &case, &reports).await?;
    let InstanceRef { account, region, .. } = &case.instance;
    let cloud = cloud.beside(account, region, Stage::Release, &case.case_id).await?;
    if !cloud.exists(&case.instance.instance_id).await? {
        return Err(HandlerError::NotFound(format!(
            "instance {} of case {} does not exist any more, so there is nothing to release; its evidence is kept",
            case.instance.instance_id, case.case_id
        )));
    }
    // The numbering and the chain of earlier releases go on.
    if let Some(last) = reports.iter().filter(|r| r.stage == Stage::Release).max_by_key(|r| r.attempt) {
        case.stages.insert(Stage::Release, last.outcome(last.previous.clone()));
    }
    let work = Release { reason };
    let report = Box::pin(run(&work, &cloud, &case)).await?;
    let kept = keep_report(&cloud, report).await?;
    tracing::info!(status = %kept.status, "release");
    try_again(kept)
}

/// The answer for a case that was released before: nothing is done twice. Where that release was never reported, because its
/// answer got lost, it is its answer again.
fn released_before(case: &Case, done: &StageReport, reports: &[StageReport]) -> StageOutcome {
    let mut outcome = done.outcome(None);
    let is_reported = reports.iter().any(|r| r.stage == Stage::Report && r.started_at >= done.finished_at);
    if is_reported {
        outcome.status = StageStatus::Skipped;
        outcome.summary = format!(
            "{} was released already, at {}: nothing is done twice",
            case.case_id,
            done.finished_at.to_rfc3339()
        );
    }
    outcome
}

/// Refuses what must not be released, before anything is touched.
async fn may_be_released(cloud: &Cloud, case: &Case, reports: &[StageReport]) -> Result<(), HandlerError> {
    let id = &case.case_id;
    let refuse = |problem: String| Err(HandlerError::Input(InputError::invalid("caseId", problem)));
    if case.is_dry_run() {
        return refuse(format!("{id} was a dry run: nothing was changed, so there is nothing to release"));
    }
    // After a rejection the run itself does nothing but release.
    let since = case.worked_on_since();
    let answers = reports.iter().filter(|r| r.finished_at >= since).filter_map(|r| r.answer.as_ref());
    let rejected = answers.into_iter().any(|answer| answer.verdict == Verdict::Rejected);
    // The runs that a case was taken from may go on, too.
    let executions = if rejected { BTreeSet::new() } else { cloud.executions_of(case).await? };
    for execution in executions.iter().filter(|execution| execution.starts_with("arn:")) {
        if cloud.is_running(execution).await? {
            return refuse(format!(
                "{id} is still being worked on by execution {execution}; wait for its end, or stop that execution (aws stepfunctions stop-execution), then run the release again"
            ));
        }
    }
    let claim: Option<Claim> = cloud.fetch_json(&claim_key(&case.instance)).await?;
    if let Some(other) = claim.filter(|claim| claim.case_id != *id) {
        return refuse(format!(
            "{} is held by case {} now, not by {id}; release that one",
            case.instance.instance_id, other.case_id
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_input_is_checked_and_the_key_is_named() {
        let sample = include_str!("../../../events/release/false-alarm.json");
        let good = serde_json::from_str(sample).expect("JSON");
        assert!(read(&good).expect("good").1.expect("a reason").ends_with("false alarm"));
        let table = [
            (json!([]), "input"),
            (json!({}), "caseId: missing"),
            (json!({"caseId": 7}), "caseId"),
            (json!({"caseId": "../x"}), "caseId"),
            (json!({"caseId": "case-20261123T061126Z-1f2e3d4c", "reason": "a\nb"}), "reason"),
            (json!({"caseId": "case-20261123T061126Z-1f2e3d4c", "force": true}), "force"),
        ];
        for (input, part) in table {
            let error = read(&input).expect_err("refused").to_string();
            assert!(error.contains(part), "{error}");
        }
    }
}
