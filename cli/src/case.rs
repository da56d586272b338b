//! A case as it stands now: what its file says, what its execution does, and what that comes to.

use crate::error::CliError;
use crate::place::Place;
use futures::future::try_join;
use serde::Serialize;
use stasis_cloud::execution::Execution;
use stasis_decide::report::{Conclusion, Material, conclude, expected_stages, take_in};
use stasis_model::Timestamp;
use stasis_model::case::Case;
use stasis_model::ids::CaseId;
use stasis_model::now;
use stasis_model::outcome::RunResult;
use stasis_model::stage::{FileRef, Stage, StageReport, StageStatus};
use std::collections::{BTreeMap, BTreeSet};

/// A case as it stands.
#[derive(Debug)]
pub(crate) struct Standing {
    /// It, with the newest word of each stage.
    pub case: Case,
    /// Every report.
    pub reports: Vec<StageReport>,
    /// What it has come to.
    pub conclusion: Conclusion,
    /// Whether it is being worked on.
    pub is_running: bool,
    /// Why its execution failed, where it did.
    pub failure: Option<String>,
    /// The stages that are being worked on, since when.
    pub at_work: BTreeMap<Stage, Timestamp>,
}

/// A stage as it is shown.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Row {
    /// The stage.
    pub stage: Stage,
    /// Its status, or that it is at work or to come.
    pub status: String,
    /// Seconds from the opening of the case to its beginning.
    pub began_after: Option<f64>,
    /// Seconds that it took, or has taken so far.
    pub took: Option<f64>,
    /// Its last word.
    pub summary: String,
}

/// Reads a case. `whole` asks for what its execution is at, which takes more calls.
pub(crate) async fn standing(place: &Place, id: &CaseId, whole: bool) -> Result<Standing, CliError> {
    let reports = async { place.cloud.stage_reports(id).await.map_err(CliError::from) };
    let (mut case, kept) = try_join(place.case(id), reports).await?;
    let execution = match &case.execution {
        Some(arn) if arn.starts_with("arn:") => place.cloud.execution(arn).await.unwrap_or_else(|error| {
            place.screen.note(format!("what the execution does cannot be told: {}", CliError::from(error)));
            None
        }),
        _ => None,
    };
    let is_running = execution.as_ref().is_some_and(Execution::is_running);
    outcomes_of(&mut case, execution.as_ref());
    let files = kept.iter().map(|(key, sha256, report)| (FileRef { key: key.clone(), sha256: sha256.clone() }, report));
    take_in(&mut case, files);
    let reports: Vec<StageReport> = kept.into_iter().map(|(_, _, report)| report).collect();
    let conclusion = conclude(&Material { case: &case, reports: &reports, last: !is_running, now: now() });
    let at_work = match (&case.execution, is_running && whole) {
        (Some(arn), true) => at_work(&place.cloud.running_tasks(arn).await?),
        _ => BTreeMap::new(),
    };
    let failure = execution.and_then(|execution| execution.failure).map(|(error, cause)| format!("{error}: {cause}"));
    Ok(Standing { case, reports, conclusion, is_running, failure, at_work })
}

/// What the state machine said of the stages, among it those that failed without a report.
fn outcomes_of(case: &mut Case, execution: Option<&Execution>) {
    let output = execution.and_then(|execution| execution.output.as_deref());
    let Some(result) = output.and_then(|text| serde_json::from_str::<RunResult>(text).ok()) else { return };
    let mine = result.instances.into_iter().find(|one| one.instance_id == case.instance.instance_id);
    case.stages.extend(mine.map(|one| one.stages).unwrap_or_default());
}

/// The names of states begin with that of their stage.
fn at_work(states: &BTreeMap<String, Timestamp>) -> BTreeMap<Stage, Timestamp> {
    let of = |state: &str| {
        let state = state.to_lowercase();
        Stage::ALL.iter().copied().find(|stage| state.starts_with(&stage.to_string()))
    };
    states.iter().filter_map(|(state, at)| Some((of(state)?, *at))).collect()
}

impl Standing {
    /// The stages, in the order of the work.
    pub(crate) fn rows(&self, now: Timestamp) -> Vec<Row> {
        let mut shown: BTreeSet<Stage> = self.case.stages.keys().copied().collect();
        shown.extend(self.at_work.keys());
        if self.is_running && !self.case.is_dry_run() {
            shown.extend(expected_stages(&self.case));
        }
        Stage::ALL.iter().filter(|stage| shown.contains(stage)).map(|stage| self.row(*stage, now)).collect()
    }

    fn row(&self, stage: Stage, now: Timestamp) -> Row {
        let opened = self.case.opened_at;
        let seconds = |from: Timestamp, to: Timestamp| (to - from).as_seconds_f64().max(0.0);
        let reports = self.reports.iter().filter(|report| report.stage == stage);
        let began = reports.clone().map(|report| report.started_at).min();
        let ended = reports.map(|report| report.finished_at).max();
        let outcome = self.case.stages.get(&stage);
        let since = self.at_work.get(&stage);
        let began = began.or(since.copied());
        let is_open = since.is_some() || outcome.is_some_and(|o| o.status == StageStatus::Waiting) && self.is_running;
        let status = match outcome {
            _ if since.is_some() => "AT WORK".to_owned(),
            Some(outcome) => outcome.status.to_string(),
            None => "to come".to_owned(),
        };
        Row {
            stage,
            status,
            began_after: began.map(|at| seconds(opened, at)),
            took: began.and_then(|at| Some(seconds(at, if is_open { now } else { ended? }))),
            summary: outcome.map(|outcome| outcome.summary.clone()).unwrap_or_default(),
        }
    }
}
