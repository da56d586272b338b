//! Report: gathers what the stages wrote, and writes report, manifest and notice. What the run came to is
//! decided by the decide crate; this only brings it together.

use crate::HandlerError;
use crate::joining::is_superseded;
use crate::notify::publish;
use crate::seal::seal;
use crate::settings::Settings;
use crate::stage::{case_of, case_span, keep_report, load_case};
use crate::telemetry;
use crate::ticket::tell;
use lambda_runtime::Diagnostic;
use serde::{Deserialize as _, Serialize};
use serde_json::Value;
use stasis_cloud::Cloud;
use stasis_decide::manifest::{self, Manifest};
use stasis_decide::report::{self, Conclusion, Material};
use stasis_model::case::{Case, Mode, Takeover};
use stasis_model::error::InputError;
use stasis_model::evidence::{Evidence, EvidenceKind};
use stasis_model::ids::CaseId;
use stasis_model::outcome::{RunResult, RunStatus};
use stasis_model::stage::{Failure, FileRef, Stage, StageReport, StageStatus};
use stasis_model::{SCHEMA, Timestamp, now};
use tracing::Instrument as _;

/// What a call is answered with.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub enum Answer {
    /// What the run came to.
    Run(Box<RunResult>),
    /// The manifests that cases were sealed with again.
    Sealed(Vec<FileRef>),
    /// The stage whose failure people were told of.
    Told(Stage),
}

/// Key of the input that says whether the run is over.
const FINAL: &str = "final";
/// Key of the input that names a stage that failed after the first report.
const FAILED: &str = "failed";

/// Answers one call of the report.
pub async fn answer(cloud: &Cloud, settings: &Settings, topic: &str, mut input: Value) -> Result<Answer, Diagnostic> {
    if let Some(cases) = input.get("seal") {
        return seal_again(cloud, settings, cases).await.map(Answer::Sealed).map_err(Diagnostic::from);
    }
    let failed = input.as_object_mut().and_then(|fields| fields.remove(FAILED));
    let last = input.as_object_mut().and_then(|fields| fields.remove(FINAL)).and_then(|v| v.as_bool()).unwrap_or(true);
    let case = load_case(cloud, settings, input).await?;
    let span = case_span(&case, Stage::Report);
    if let Some(stage) = failed {
        return tell_of_failure(cloud, settings, topic, &case, &stage).instrument(span).await.map_err(Diagnostic::from);
    }
    let written = Box::pin(write(cloud, settings, topic, case, last)).instrument(span).await;
    // Counted once: the run reports again when evidence is complete.
    if let (Ok(result), true) = (&written, last) {
        telemetry::tell(&telemetry::of_run(result.case_id.as_ref(), result.status, now()));
    }
    written.map(|result| Answer::Run(Box::new(result))).map_err(Diagnostic::from)
}

/// Tells people at once of a stage that failed while evidence was awaited, which may take hours more.
async fn tell_of_failure(
    cloud: &Cloud,
    settings: &Settings,
    topic: &str,
    case: &Case,
    stage: &Value,
) -> Result<Answer, HandlerError> {
    let (stage, outcome) = Stage::deserialize(stage)
        .ok()
        .and_then(|stage| case.stages.get(&stage).map(|outcome| (stage, outcome.clone().in_words())))
        .ok_or_else(|| InputError::invalid(FAILED, "must name a stage of the case that has an outcome"))?;
    publish(cloud, topic, &report::notice_of_failure(case, &outcome, &settings.home.region)).await?;
    Ok(Answer::Told(stage))
}

/// Seals cases again that something was added to once their runs were over. A run that still goes on seals its own.
async fn seal_again(cloud: &Cloud, settings: &Settings, cases: &Value) -> Result<Vec<FileRef>, HandlerError> {
    let ids: Vec<CaseId> = serde_json::from_value(cases.clone()).map_err(|error| {
        InputError::invalid("seal", format!("must be the ids of cases that findings were added to: {error}"))
    })?;
    let mut sealed = Vec::new();
    for id in &ids {
        let case = case_of(cloud, id).await?;
        let newest: Option<Manifest> = cloud.fetch_json(&format!("{}{}", case.prefix(), manifest::NAME)).await?;
        if newest.is_some_and(|newest| newest.complete) {
            let now = seal(cloud, settings, &case, true).await?;
            if let Some(problem) = now.problems.first() {
                tracing::error!(case = %id, problem, "the seal is not whole");
            }
            sealed.push(now.manifest);
        }
    }
    Ok(sealed)
}

async fn write(
    cloud: &Cloud,
    settings: &Settings,
    topic: &str,
    mut case: Case,
    last: bool,
) -> Result<RunResult, HandlerError> {
    let started_at = now();
    if let Some(newer) = is_superseded(cloud, &case).await? {
        return Ok(superseded(case, &newer));
    }
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
    let notice = report::notice(&material, &conclusion, &settings.home.region);
    let mut failures = Vec::new();
    let mut unheard = None;
    if let Err(error) = publish(cloud, topic, &notice).await {
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
    tell_how_long(&material);
    let sealed = seal(cloud, settings, &case, last).await?;
    // The report was written before this was known, so it does not say so; the answer does.
    if let Some(problem) = unheard {
        say(&mut conclusion, &problem);
    }
    if let Some(problem) = untold {
        conclusion.reason = format!("{}; {problem}", conclusion.reason);
    }
    for problem in &sealed.problems {
        say(&mut conclusion, problem);
    }
    let mut result = report::result(&material, &conclusion);
    result.manifest = Some(sealed.manifest);
    for instance in &mut result.instances {
        instance.stages.insert(Stage::Report, outcome.clone());
    }
    Ok(result)
}

/// Tells how long containment took, with the first report after it.
fn tell_how_long(material: &Material<'_>) {
    let Some(contained) = material.contained_at() else { return };
    let told = material.reports.iter().any(|kept| kept.stage == Stage::Report && kept.finished_at >= contained);
    if !told && !material.is_release() {
        let (allowed, _) = material.allowed_since();
        telemetry::tell(&telemetry::of_containment(&material.case.case_id, allowed, contained));
    }
}

/// The answer of a run whose case another has taken over: that one reports, so that the newest report is never of a run that
/// does less.
fn superseded(case: Case, newer: &Takeover) -> RunResult {
    let reason = format!(
        "execution {} has taken case {} over and reports: {}",
        newer.execution, case.case_id, newer.taken_over.why
    );
    let mut result = RunResult::without_case(RunStatus::Duplicate, reason);
    result.evidence = Some(format!("s3://{}/{}", case.bucket, case.prefix()));
    result.case_id = Some(case.case_id);
    result.ticket = Some(case.ticket);
    result
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
    let kept = cloud.stage_reports(&case.case_id).await?;
    let files = kept.iter().map(|(key, sha256, report)| (FileRef { key: key.clone(), sha256: sha256.clone() }, report));
    report::take_in(case, files);
    Ok(kept.into_iter().map(|(_, _, report)| report).collect())
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
