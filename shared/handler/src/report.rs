//! Report: gathers what the stages wrote, and writes report, manifest and notice. What the run came to is
//! decided by the decide crate; this only brings it together.

use crate::HandlerError;
use crate::settings::Settings;
use crate::stage::{case_span, keep_report, load_case};
use crate::ticket::tell;
use futures::future::join_all;
use lambda_runtime::Diagnostic;
use serde_json::Value;
use stasis_cloud::Cloud;
use stasis_cloud::casefile::Digested;
use stasis_decide::manifest::{self, ManifestEntry};
use stasis_decide::memory;
use stasis_decide::report::{self, Conclusion, Material};
use stasis_model::case::{Case, Mode};
use stasis_model::evidence::{Evidence, EvidenceKind};
use stasis_model::outcome::{RunResult, RunStatus};
use stasis_model::stage::{Failure, FileRef, Stage, StageReport, StageStatus};
use stasis_model::{SCHEMA, Timestamp, now};
use std::collections::BTreeMap;
use tracing::Instrument as _;

/// Up to this size the image of the memory is read once more for its hash, in bytes; above it takes too long.
const READ_AGAIN: u64 = 1 << 30;
/// Key of the input that says whether the run is over.
const FINAL: &str = "final";

/// Answers one call of the report.
pub async fn answer(
    cloud: &Cloud,
    settings: &Settings,
    topic: &str,
    mut input: Value,
) -> Result<RunResult, Diagnostic> {
    let last = input.as_object_mut().and_then(|fields| fields.remove(FINAL)).and_then(|v| v.as_bool()).unwrap_or(true);
    let case = load_case(cloud, settings, input).await?;
    let span = case_span(&case, Stage::Report);
    Box::pin(write(cloud, topic, case, last)).instrument(span).await.map_err(Diagnostic::from)
}

async fn write(cloud: &Cloud, topic: &str, mut case: Case, last: bool) -> Result<RunResult, HandlerError> {
    let started_at = now();
    case.stages =
        std::mem::take(&mut case.stages).into_iter().map(|(stage, outcome)| (stage, outcome.in_words())).collect();
    let reports = stage_reports(cloud, &mut case).await?;
    // A call by hand brings the case as it was opened.
    if case.mode == Mode::Contain
        && case.stages.get(&Stage::Approval).and_then(|o| o.answer.as_ref()).is_some_and(|answer| !answer.contain)
    {
        case.mode = Mode::Preserve;
    }
    let material = Material { case: &case, reports: &reports, last, now: now() };
    let mut conclusion = report::conclude(&material);
    let key = format!("{}{}", case.prefix(), report::NAME);
    let page = report::html(&material, &conclusion).into_bytes();
    let size = u64::try_from(page.len()).ok();
    let sha256 = cloud.write(&key, "text/html; charset=utf-8", page).await?;
    let notice = report::notice(&material, &conclusion);
    let mut failures = Vec::new();
    let mut unheard = None;
    if let Err(error) = cloud.publish(topic, &notice.subject, &notice.body).await {
        unheard = Some(format!("nobody was notified: {error}"));
        failures.push(error.failure());
    }
    let mut untold = None;
    if let Some(progress) = report::progress(conclusion.status)
        && let Err(error) = tell(cloud, &case, progress, &conclusion.reason).await
    {
        untold = Some(format!("the ticket {} was not told: {error}", case.ticket));
        failures.push(error.failure());
    }
    let page = Evidence {
        kind: EvidenceKind::Object,
        location: Some(format!("s3://{}/{key}", cloud.bucket())),
        id: key,
        description: "the report".to_owned(),
        sha256: Some(sha256),
        size,
    };
    let outcome = keep_report(cloud, own_report(&case, started_at, &conclusion, page, &failures)).await?;
    write_manifest(cloud, &case, last).await?;
    // The report was written before this was known, so it does not say so; the answer does.
    if let Some(problem) = unheard {
        say(&mut conclusion, &problem);
    }
    if let Some(problem) = untold {
        conclusion.reason = format!("{}; {problem}", conclusion.reason);
    }
    let mut result = report::result(&material, &conclusion);
    for instance in &mut result.instances {
        instance.stages.insert(Stage::Report, outcome.clone());
    }
    Ok(result)
}

fn say(conclusion: &mut Conclusion, problem: &str) {
    if conclusion.status == RunStatus::Contained {
        conclusion.status = RunStatus::Partial;
        conclusion.reason = problem.to_owned();
    } else {
        conclusion.reason = format!("{}; {problem}", conclusion.reason);
    }
}

/// Every report of the case, oldest first. A stage that the call does not mention, because it was made by
/// hand, is taken from its newest report.
async fn stage_reports(cloud: &Cloud, case: &mut Case) -> Result<Vec<StageReport>, HandlerError> {
    let mut reports = Vec::new();
    for (key, sha256, report) in cloud.stage_reports(&case.case_id).await? {
        let newer = case.stages.get(&report.stage).is_none_or(|known| known.attempt < report.attempt);
        // What the state machine says of a function that failed counts more than an older report of it.
        let failed = case.stages.get(&report.stage).is_some_and(|known| known.status == StageStatus::Failed);
        if newer && !failed {
            case.stages.insert(report.stage, report.outcome(Some(FileRef { key, sha256 })));
        }
        reports.push(report);
    }
    Ok(reports)
}

fn own_report(
    case: &Case,
    started_at: Timestamp,
    conclusion: &Conclusion,
    page: Evidence,
    failures: &[Failure],
) -> StageReport {
    let previous = case.stages.get(&Stage::Report);
    StageReport {
        schema: SCHEMA,
        case_id: case.case_id.clone(),
        stage: Stage::Report,
        attempt: previous.map_or(1, |outcome| outcome.attempt + 1),
        status: if failures.is_empty() { StageStatus::Done } else { StageStatus::Incomplete },
        started_at,
        finished_at: now(),
        wait_seconds: None,
        summary: format!("{}: {}", conclusion.status, conclusion.reason),
        previous: previous.and_then(|outcome| outcome.report.clone()),
        actions: Vec::new(),
        failures: failures.to_vec(),
        evidence: vec![page],
        checks: Vec::new(),
        notes: Vec::new(),
        answer: None,
    }
}

/// Writes the manifest, last of all, so that it lists everything else.
async fn write_manifest(cloud: &Cloud, case: &Case, complete: bool) -> Result<(), HandlerError> {
    let key = format!("{}{}", case.prefix(), manifest::NAME);
    let listed = cloud.list(&case.prefix()).await?;
    let sizes: BTreeMap<&str, u64> = listed.iter().map(|o| (o.key.as_str(), o.size)).collect();
    let keys: Vec<&str> = listed.iter().map(|o| o.key.as_str()).filter(|k| *k != key).collect();
    let image = memory::image_key(case);
    let (large, keys): (Vec<&str>, Vec<&str>) =
        keys.into_iter().partition(|key| *key == image && sizes.get(key).is_some_and(|size| *size > READ_AGAIN));
    let digested = join_all(keys.iter().map(|key| cloud.digest(key))).await;
    let mut files = Vec::new();
    for (key, digested) in keys.iter().zip(digested) {
        if let Some(Digested { size, version_id, sha256 }) = digested? {
            files.push(ManifestEntry { key: (*key).to_owned(), version_id, size, sha256, hashed_by_collector: false });
        }
    }
    for key in large {
        let outcome = cloud.acquisition(case).await?;
        files.push(ManifestEntry {
            key: key.to_owned(),
            size: sizes.get(key).copied().unwrap_or_default(),
            version_id: outcome.as_ref().and_then(|outcome| outcome.version_id.clone()),
            sha256: outcome.and_then(|outcome| outcome.sha256).unwrap_or_else(|| "not known".to_owned()),
            hashed_by_collector: true,
        });
    }
    let previous = cloud.fetch(&key).await?.map(|f| FileRef { key: key.clone(), sha256: f.sha256 });
    let manifest = manifest::manifest(&case.case_id, &case.ticket, files, previous, complete, now());
    let body = serde_json::to_vec_pretty(&manifest)
        .map_err(|error| HandlerError::Bug(format!("the manifest cannot be written as JSON: {error}")))?;
    cloud.write(&key, "application/json", body).await?;
    Ok(())
}
