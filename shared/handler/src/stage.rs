//! The one way in which a stage works: observe, plan, perform, and again where that opened the way for
//! more; then the report, create-only. A retry observes and plans anew and finds nothing left.

use crate::HandlerError;
use crate::settings::Settings;
use crate::telemetry;
use futures::TryFutureExt as _;
use futures::future::join_all;
use lambda_runtime::Diagnostic;
use serde::Deserialize;
use serde_json::Value;
use stasis_cloud::casefile::Created;
use stasis_cloud::perform::Performed;
use stasis_cloud::{Cloud, CloudError};
use stasis_decide::sha256;
use stasis_model::action::Action;
use stasis_model::case::{Case, Claim, InstanceRef, prefix};
use stasis_model::check::Check;
use stasis_model::error::InputError;
use stasis_model::evidence::Evidence;
use stasis_model::ids::{CaseId, InstanceId};
use stasis_model::stage::{
    ActionRecord, Failure, FileRef, Next, Outcome, Plan, Stage, StageOutcome, StageReport, StageStatus,
};
use stasis_model::{SCHEMA, Timestamp, now};
use std::collections::BTreeMap;
use std::future::Future;
use std::mem::discriminant;
use tracing::Instrument as _;

/// What a stage adds to the common way: what it reads, and what follows from that.
pub trait Work: Send + Sync + 'static {
    /// The stage.
    const STAGE: Stage;
    /// What it reads.
    type Facts: Send + Sync;

    /// Reads the facts.
    fn observe(&self, cloud: &Cloud, case: &Case) -> impl Future<Output = Result<Self::Facts, CloudError>> + Send;

    /// What follows from them, at the time `now`, after what was `tried` in this call.
    fn plan(&self, case: &Case, facts: &Self::Facts, now: Timestamp, tried: &[ActionRecord]) -> Plan;
}

/// How often a stage observes and plans in one call. Release takes the most: six parts, and a last look.
const ROUNDS: u32 = 8;

/// Answers one call of a stage.
pub async fn answer<W: Work>(
    work: &W,
    cloud: &Cloud,
    settings: &Settings,
    input: Value,
) -> Result<StageOutcome, Diagnostic> {
    let case = load_case(cloud, settings, input).await?;
    let span = case_span(&case, W::STAGE);
    async {
        let InstanceRef { account, region, .. } = &case.instance;
        let cloud = cloud.beside(account, region, W::STAGE, &case.case_id).await?;
        let report = run(work, &cloud, &case).await?;
        let kept = keep_report(&cloud, report).await?;
        try_again(kept)
    }
    .inspect_err(|error: &HandlerError| tracing::error!(error = error.name(), %error, "the stage could not answer"))
    .instrument(span)
    .await
    .map_err(Diagnostic::from)
}

/// What is left undone for a passing reason is worth another call, after the wait that only the state machine
/// can make. The report of this call is kept; the next one follows it.
pub(crate) fn try_again(outcome: StageOutcome) -> Result<StageOutcome, HandlerError> {
    match outcome.failures.iter().find(|failure| failure.retryable) {
        Some(failure) if outcome.status == StageStatus::Incomplete => {
            Err(HandlerError::Unfinished(failure.message.clone()))
        }
        _ => Ok(outcome),
    }
}

/// The span that puts the case on every log line.
pub(crate) fn case_span(case: &Case, stage: Stage) -> tracing::Span {
    tracing::info_span!("stage", stage = %stage, case = %case.case_id, ticket = %case.ticket, instance = %case.instance.instance_id)
}

/// A case by name, for a stage that is called by hand.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct CaseName {
    case_id: Option<CaseId>,
    instance_id: Option<InstanceId>,
    #[serde(default)]
    stages: BTreeMap<Stage, StageOutcome>,
}

/// The case of a call: the whole of it, as the state machine sends it, or by `caseId`, or as the one that is
/// open for an `instanceId`.
pub(crate) async fn load_case(cloud: &Cloud, settings: &Settings, input: Value) -> Result<Case, HandlerError> {
    if input.get("schema").is_some() {
        let case: Case = serde_json::from_value(input)
            .map_err(|error| InputError::invalid("case", format!("cannot be read: {error}")))?;
        return check_schema(case);
    }
    let name: CaseName = serde_json::from_value(input).map_err(|error| {
        InputError::invalid(
            "input",
            format!("must be a case, {{\"caseId\": \"case-…\"}} or {{\"instanceId\": \"i-…\"}}: {error}"),
        )
    })?;
    let case_id = match (name.case_id, name.instance_id) {
        (Some(case_id), _) => case_id,
        (None, Some(instance)) => open_case(cloud, settings, &instance).await?,
        (None, None) => {
            return Err(InputError::Missing {
                key: "caseId".to_owned(),
                remedy: "name the case, or the instance by instanceId".to_owned(),
            }
            .into());
        }
    };
    let mut case = case_of(cloud, &case_id).await?;
    case.stages.extend(name.stages);
    Ok(case)
}

/// The case of this id.
pub(crate) async fn case_of(cloud: &Cloud, case_id: &CaseId) -> Result<Case, HandlerError> {
    let case = cloud
        .case(case_id)
        .await?
        .ok_or_else(|| HandlerError::NotFound(format!("there is no case {case_id} in bucket {}", cloud.bucket())))?;
    check_schema(case)
}

fn check_schema(case: Case) -> Result<Case, HandlerError> {
    if case.schema == SCHEMA {
        return Ok(case);
    }
    Err(InputError::invalid(
        "schema",
        format!("case {} has layout {}, this version knows {SCHEMA}", case.case_id, case.schema),
    )
    .into())
}

/// The case that is open for an instance, by its claim.
async fn open_case(cloud: &Cloud, settings: &Settings, instance: &InstanceId) -> Result<CaseId, HandlerError> {
    let tail = format!("/{}/{instance}.json", settings.home.region);
    let claims = cloud.list("open/").await?;
    let key =
        claims.iter().map(|o| o.key.as_str()).find(|key| key.ends_with(&tail)).ok_or_else(|| {
            HandlerError::NotFound(format!("no case is open for {instance} in {}", settings.home.region))
        })?;
    let claim: Claim = cloud
        .fetch_json(key)
        .await?
        .ok_or_else(|| HandlerError::NotFound(format!("no case is open for {instance}")))?;
    Ok(claim.case_id)
}

/// What the rounds came to.
#[derive(Default)]
struct Tally {
    records: Vec<ActionRecord>,
    performed: Vec<Performed>,
}

/// Observes, plans and performs.
pub(crate) async fn run<W: Work>(work: &W, cloud: &Cloud, case: &Case) -> Result<StageReport, HandlerError> {
    let started_at = now();
    let mut tally = Tally::default();
    let mut plan = Plan::nothing();
    let mut failures = Vec::new();
    let mut stuck = false;
    let mut failed_before: Vec<Failure> = Vec::new();
    for _ in 0..ROUNDS {
        let facts = match work.observe(cloud, case).await {
            Ok(facts) => facts,
            // Nothing was done yet, so there is nothing to record: the state machine tries again.
            Err(error) if tally.records.is_empty() && error.is_retryable() => return Err(error.into()),
            Err(error) => {
                failures = vec![error.failure()];
                break;
            }
        };
        let planned_before = std::mem::replace(&mut plan, work.plan(case, &facts, now(), &tally.records)).steps;
        failures = plan.obstacles.clone();
        if case.is_dry_run() {
            let (records, refused) = rehearse(cloud, case, &plan).await;
            tally.records.extend(records);
            failures.extend(refused);
            break;
        }
        let before = tally.records.len();
        // What failed for a passing reason is left to the next call: only the state machine can wait.
        if stuck && plan.steps == planned_before {
            failures.extend(std::mem::take(&mut failed_before));
            break;
        }
        for step in &plan.steps {
            perform_step(cloud, case, W::STAGE, step, &mut tally).await;
        }
        let records = tally.records.get(before..).unwrap_or_default();
        let failed: Vec<Failure> = records.iter().filter_map(|r| r.error.clone()).collect();
        let progress = records.iter().any(|r| r.outcome != Outcome::Failed);
        failures.extend(failed.clone());
        if plan.next != Next::ObserveAgain {
            if failed.iter().any(|failure| !failure.retryable)
                && let Ok(facts) = work.observe(cloud, case).await
            {
                let again = work.plan(case, &facts, now(), &[]);
                let records = tally.records.get_mut(before..).unwrap_or_default();
                plan.notes.extend(settle(records, &mut failures, &again));
            }
            break;
        }
        stuck = !progress;
        failed_before = failed;
    }
    if plan.next == Next::ObserveAgain && failures.is_empty() && !case.is_dry_run() {
        failures.push(Failure {
            code: "NotConverged".to_owned(),
            message: format!(
                "after {ROUNDS} rounds there was still something to change: somebody else may be changing it too"
            ),
            retryable: true,
        });
    }
    Ok(conclude(W::STAGE, case, started_at, tally, plan, failures))
}

/// What was refused may be so all the same: somebody did it at the same moment, or the answer to our first try got lost. Where
/// the plan for what AWS says afterwards has no obstacle and wants nothing of that kind any more, the refusal is no failure;
/// it is told as a note.
fn settle(records: &mut [ActionRecord], failures: &mut Vec<Failure>, again: &Plan) -> Vec<String> {
    if !again.obstacles.is_empty() {
        return Vec::new();
    }
    let is_wanted = |action: &Action| again.actions().any(|wanted| discriminant(wanted) == discriminant(action));
    let mut notes = Vec::new();
    for record in records.iter_mut().filter(|record| record.outcome == Outcome::Failed && !is_wanted(&record.action)) {
        let Some(refusal) = record.error.take_if(|error| !error.retryable) else { continue };
        record.outcome = Outcome::AlreadySo;
        notes.push(format!(
            "{}: refused, and so all the same when AWS was asked again ({})",
            record.words, refusal.message
        ));
        failures.retain(|failure| *failure != refusal);
    }
    notes
}

fn planned(action: &Action) -> ActionRecord {
    ActionRecord {
        words: action.to_string(),
        target: action.target(),
        action: action.clone(),
        outcome: Outcome::Planned,
        error: None,
        request_id: None,
        at: now(),
    }
}

/// The records of a dry run, each with why EC2 would refuse it, where it would.
async fn rehearse(cloud: &Cloud, case: &Case, plan: &Plan) -> (Vec<ActionRecord>, Vec<Failure>) {
    let refusals = cloud.refusals(case, plan.actions()).await;
    let (mut records, mut failures) = (Vec::new(), Vec::new());
    for (action, refusal) in plan.actions().zip(refusals) {
        let mut record = planned(action);
        if let Some(error) = refusal {
            let failure = Failure { message: format!("would be refused: {error}"), ..error.failure() };
            record.error = Some(failure.clone());
            failures.push(failure);
        }
        records.push(record);
    }
    (records, failures)
}

/// Performs a group of actions at the same time. One that fails does not keep the others from being done.
async fn perform_step(cloud: &Cloud, case: &Case, stage: Stage, step: &[Action], tally: &mut Tally) {
    let results = join_all(step.iter().map(|action| cloud.perform(case, action))).await;
    for (action, result) in step.iter().zip(results) {
        let mut record = planned(action);
        match result {
            Ok(performed) => {
                record.outcome = performed.outcome;
                record.request_id.clone_from(&performed.request_id);
                tally.performed.push(performed);
            }
            Err(error) => {
                record.outcome = Outcome::Failed;
                record.error = Some(error.failure());
            }
        }
        let code = record.error.as_ref().map(|e| e.code.as_str());
        tracing::info!(target: "audit", %stage, action = %record.words, on = %record.target, outcome = ?record.outcome, code, aws_request = record.request_id.as_deref());
        tally.records.push(record);
    }
}

fn conclude(
    stage: Stage,
    case: &Case,
    started_at: Timestamp,
    tally: Tally,
    plan: Plan,
    failures: Vec<Failure>,
) -> StageReport {
    let (status, wait_seconds) = match (case.is_dry_run(), plan.next) {
        (true, _) => (StageStatus::Planned, None),
        (false, Next::Wait(seconds)) if failures.is_empty() => (StageStatus::Waiting, Some(seconds)),
        (false, Next::WaitForRest(seconds)) => (StageStatus::Waiting, Some(seconds)),
        (false, _) if failures.is_empty() => (StageStatus::Done, None),
        (false, _) => (StageStatus::Incomplete, None),
    };
    let previous = case.stages.get(&stage).and_then(|outcome| outcome.report.clone());
    let attempt = case.stages.get(&stage).map_or(1, |outcome| outcome.attempt + 1);
    let mut notes = plan.notes;
    let mut evidence = Vec::new();
    for performed in tally.performed {
        notes.extend(performed.notes);
        evidence.extend(performed.evidence);
    }
    // What was read back says more of the same piece, and the last word counts.
    evidence.retain(|made: &Evidence| !plan.evidence.iter().any(|read| read.kind == made.kind && read.id == made.id));
    evidence.extend(plan.evidence);
    StageReport {
        schema: SCHEMA,
        case_id: case.case_id.clone(),
        stage,
        attempt,
        status,
        started_at,
        finished_at: now(),
        wait_seconds,
        summary: summary(
            status,
            &tally.records,
            &failures,
            &plan.checks,
            &evidence,
            plan.progress.as_deref(),
            wait_seconds,
        ),
        previous,
        actions: tally.records,
        failures,
        evidence,
        checks: plan.checks,
        notes,
        answer: None,
    }
}

fn summary(
    status: StageStatus,
    records: &[ActionRecord],
    failures: &[Failure],
    checks: &[Check],
    evidence: &[Evidence],
    progress: Option<&str>,
    wait: Option<u32>,
) -> String {
    let applied = records.iter().filter(|r| matches!(r.outcome, Outcome::Applied | Outcome::AlreadySo)).count();
    let passed = checks.iter().filter(|c| c.passed()).count();
    let done = match (checks.len(), applied, evidence.len()) {
        (0, 0, 0) => "nothing left to do".to_owned(),
        (0, 0, pieces) => format!("{pieces} pieces of evidence"),
        (0, applied, _) => format!("{applied} of {} actions done", records.len()),
        (checks, ..) => format!("{passed} of {checks} checks pass"),
    };
    match status {
        StageStatus::Planned => format!("{} actions planned, none done", records.len()),
        StageStatus::Waiting => format!("{}, looking again in {} s", progress.unwrap_or(&done), wait.unwrap_or(0)),
        StageStatus::Incomplete => failures.first().map_or_else(String::new, |f| f.message.clone()),
        _ => done,
    }
}

/// Writes the report, create-only, and gives the short answer that stands for it. What was done counts even
/// where it cannot be written down: the answer then says that, instead of an error that would hide it.
pub(crate) async fn keep_report(cloud: &Cloud, mut report: StageReport) -> Result<StageOutcome, HandlerError> {
    telemetry::tell(&telemetry::of_stage(&report));
    let folder = format!("{}stages/{}/", prefix(&report.case_id), report.stage);
    // The one before it is known by number alone where its own answer got lost: the chain is of what was kept.
    if report.attempt > 1 && report.previous.is_none() {
        follow_on(cloud, &folder, &mut report).await;
    }
    for _ in 0..3 {
        let body = serde_json::to_vec_pretty(&report).map_err(|error| {
            HandlerError::Bug(format!("the report of {} cannot be written as JSON: {error}", report.stage))
        })?;
        let hash = sha256(&body);
        let key = format!("{folder}{}.json", report.attempt);
        match cloud.create(&key, "application/json", body).await {
            Ok(Created::Yes { .. }) => {
                tracing::info!(status = %report.status, attempt = report.attempt, actions = report.actions.len(), failures = report.failures.len(), "reported");
                return Ok(report.outcome(Some(FileRef { key, sha256: hash })));
            }
            // A former try of this call got as far as its report: this one follows it.
            Ok(Created::Exists) => follow_on(cloud, &folder, &mut report).await,
            Err(error) => return Ok(unrecorded(&report, &error)),
        }
    }
    let error = CloudError::unusable("s3:PutObject", folder.as_str(), "others keep writing reports of this stage");
    Ok(unrecorded(&report, &error))
}

/// Writes the first report of a stage, or leaves the one that is there.
pub(crate) async fn keep_first_report(cloud: &Cloud, report: StageReport) -> Result<StageOutcome, HandlerError> {
    let key = format!("{}stages/{}/1.json", prefix(&report.case_id), report.stage);
    let body = serde_json::to_vec_pretty(&report).map_err(|error| {
        HandlerError::Bug(format!("the report of {} cannot be written as JSON: {error}", report.stage))
    })?;
    let hash = sha256(&body);
    match cloud.create(&key, "application/json", body).await {
        Ok(Created::Yes { .. }) => {
            telemetry::tell(&telemetry::of_stage(&report));
            Ok(report.outcome(Some(FileRef { key, sha256: hash })))
        }
        Ok(Created::Exists) => Ok(report.outcome(None)),
        Err(error) => Ok(unrecorded(&report, &error)),
    }
}

/// Numbers and chains a report after the newest that is there.
async fn follow_on(cloud: &Cloud, folder: &str, report: &mut StageReport) {
    let Ok(listed) = cloud.list(folder).await else { return };
    let number = |key: &str| key.strip_prefix(folder)?.strip_suffix(".json")?.parse::<u32>().ok();
    let Some(newest) = listed.iter().filter_map(|o| number(&o.key)).max() else { return };
    let key = format!("{folder}{newest}.json");
    if let Ok(Some(fetched)) = cloud.fetch(&key).await {
        report.previous = Some(FileRef { key, sha256: fetched.sha256 });
    }
    report.attempt = newest + 1;
}

fn unrecorded(report: &StageReport, error: &CloudError) -> StageOutcome {
    tracing::error!(code = %error.code, "the report could not be written");
    let mut outcome = report.outcome(None);
    if outcome.status != StageStatus::Waiting {
        outcome.status = StageStatus::Incomplete;
    }
    outcome.failures.insert(
        0,
        Failure::lasting("EvidenceAtRisk", format!("the report of {} could not be written: {error}", report.stage)),
    );
    outcome
}

#[cfg(test)]
mod tests {
    use super::*;
    use stasis_model::ids::VolumeId;

    fn detach(code: &str) -> ActionRecord {
        let action = Action::DetachFromScalingGroup {
            group: "web".to_owned(),
            instance: "i-0a1b2c3d".parse().expect("id"),
            decrement: true,
        };
        let error = Some(Failure::lasting(code, "not part of the group"));
        ActionRecord { outcome: Outcome::Failed, error, ..planned(&action) }
    }

    fn snapshot() -> Action {
        let volume: VolumeId = "vol-0a".parse().expect("id");
        Action::CreateSnapshot { volume, description: String::new(), tags: Vec::new() }
    }

    #[test]
    fn what_was_refused_and_is_so_all_the_same_is_no_failure() {
        let settled = |again: &Plan| {
            let mut records = vec![detach("ValidationError")];
            let mut failures: Vec<Failure> = records.iter().filter_map(|record| record.error.clone()).collect();
            let notes = settle(&mut records, &mut failures, again);
            (records.remove(0).outcome, failures.len(), notes.len())
        };
        let mut other = Plan::nothing();
        other.step(vec![snapshot()]);
        let mut same = Plan::nothing();
        same.step(vec![detach("").action]);
        let mut unread = Plan::nothing();
        unread.obstacles.push(Failure::lasting("Unreadable", "the group"));
        assert_eq!(settled(&Plan::nothing()), (Outcome::AlreadySo, 0, 1));
        assert_eq!(settled(&other), (Outcome::AlreadySo, 0, 1));
        assert_eq!(settled(&same), (Outcome::Failed, 1, 0), "it is still wanted");
        assert_eq!(settled(&unread), (Outcome::Failed, 1, 0), "nobody knows");
    }
}
