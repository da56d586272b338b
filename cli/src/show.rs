//! `stasis show`: what is known of a case, on one screen.

use crate::args::One;
use crate::case::{Row, Standing, standing};
use crate::error::CliError;
use crate::place::Place;
use crate::text::safe;
use serde::Serialize;
use stasis_decide::manifest::{self, Manifest};
use stasis_decide::triage::decision_in_words;
use stasis_model::approval::token_key;
use stasis_model::check::Check;
use stasis_model::ids::CaseId;
use stasis_model::now;
use stasis_model::outcome::RunStatus;
use stasis_model::stage::Stage;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Shown<'a> {
    case_id: &'a CaseId,
    status: RunStatus,
    reason: &'a str,
    is_running: bool,
    evidence_is_pending: bool,
    cut_off: Option<bool>,
    failure: Option<&'a str>,
    instance: &'a stasis_model::case::InstanceRef,
    name: Option<&'a str>,
    ticket: &'a stasis_model::ids::Ticket,
    opened_at: String,
    decided: &'a stasis_model::case::Decided,
    stages: Vec<Row>,
    checklist: &'a [Check],
    awaits_approval: bool,
    manifest: Option<Sealed>,
    report: String,
    evidence: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Sealed {
    sequence: u32,
    written_at: String,
    files: usize,
    complete: bool,
    signed: bool,
}

/// Shows a case.
pub(crate) async fn run(place: &Place, what: &One) -> Result<bool, CliError> {
    let standing = standing(place, &what.case, true).await?;
    let case = &standing.case;
    let folder = case.prefix();
    let sealed: Option<Manifest> = place.cloud.fetch_json(&format!("{folder}{}", manifest::NAME)).await?;
    let sealed = sealed.map(|manifest| Sealed {
        sequence: manifest.sequence,
        written_at: manifest.written_at.to_rfc3339(),
        files: manifest.files.len(),
        complete: manifest.complete,
        signed: manifest.signed_with.is_some(),
    });
    let asked = !place.cloud.list(&token_key(case)).await?.is_empty();
    let awaits_approval = asked && case.stages.get(&Stage::Approval).is_none_or(|outcome| outcome.answer.is_none());
    let by = if case.stages.contains_key(&Stage::Release) { Stage::Release } else { Stage::Verify };
    let checklist = case.stages.get(&by).map_or(&[][..], |outcome| outcome.checklist.as_slice());
    let shown = Shown {
        case_id: &case.case_id,
        status: standing.conclusion.status,
        reason: &standing.conclusion.reason,
        is_running: standing.is_running,
        evidence_is_pending: standing.conclusion.pending,
        cut_off: standing.conclusion.cut_off,
        failure: standing.failure.as_deref(),
        instance: &case.instance,
        name: case.baseline.instance.name(),
        ticket: &case.ticket,
        opened_at: case.opened_at.to_rfc3339(),
        decided: &case.decided,
        stages: standing.rows(now()),
        checklist,
        awaits_approval,
        manifest: sealed,
        report: format!("s3://{}/{folder}{}", case.bucket, stasis_decide::report::NAME),
        evidence: format!("s3://{}/{folder}", case.bucket),
    };
    place.screen.json(&shown)?;
    tell(place, &standing, &shown)?;
    Ok(!matches!(standing.conclusion.status, RunStatus::Partial) || standing.is_running)
}

fn tell(place: &Place, standing: &Standing, shown: &Shown<'_>) -> Result<(), CliError> {
    let (screen, case) = (place.screen, &standing.case);
    let name = shown.name.map_or_else(String::new, |name| format!(" ({})", safe(name)));
    let going = if shown.is_running { ", being worked on" } else { "" };
    screen.say(format!("{}  {}{going}", shown.case_id, headline(standing)))?;
    screen.say(format!("  {}", safe(shown.reason)))?;
    if let Some(failure) = shown.failure {
        screen.say(format!("  the execution failed: {}", safe(failure)))?;
    }
    screen.say(format!(
        "  instance  {}{name}, account {}, {}",
        case.instance.instance_id, case.instance.account, case.instance.region
    ))?;
    screen.say(format!("  ticket    {}", safe(&case.ticket.to_string())))?;
    screen.say(format!("  opened    {}", case.opened_at.format("%Y-%m-%d %H:%M:%S UTC")))?;
    screen.say(format!("  decided   {}", safe(&decision_in_words(&case.decided))))?;
    screen.say("")?;
    screen.table(&["STAGE", "STATUS", "AFTER", "TOOK", ""], table_of(&shown.stages))?;
    let open: Vec<&Check> = shown.checklist.iter().filter(|check| !check.passed()).collect();
    screen.say("")?;
    screen.say(format!("{} of {} checks pass", shown.checklist.len() - open.len(), shown.checklist.len()))?;
    for check in open {
        screen.say(format!("  {:<8} {}: {}", check.status, safe(&check.name), safe(&check.observed)))?;
    }
    match &shown.manifest {
        Some(sealed) => screen.say(format!(
            "sealed by manifest {} with {} files{}: stasis verify {}",
            sealed.sequence,
            sealed.files,
            if sealed.signed { "" } else { ", NOT signed" },
            shown.case_id
        ))?,
        None => screen.say("not sealed yet: there is no manifest")?,
    }
    screen.say(format!("report    {}", shown.report))?;
    if shown.awaits_approval {
        screen.say(format!("It waits for an answer: stasis approve {0}, or stasis reject {0}", shown.case_id))?;
    }
    Ok(())
}

/// What a case has come to, in a word or two.
pub(crate) fn headline(standing: &Standing) -> String {
    let conclusion = &standing.conclusion;
    match (conclusion.status, conclusion.cut_off) {
        (RunStatus::Partial, _) if standing.is_running && !standing.case.stages.contains_key(&Stage::Verify) => {
            "NOT CONTAINED YET".to_owned()
        }
        (RunStatus::Partial, Some(true)) => "PARTIAL, cut off the network".to_owned(),
        (RunStatus::Partial, Some(false)) => "PARTIAL, NOT cut off the network".to_owned(),
        (RunStatus::Contained, _) if conclusion.pending => "CONTAINED, evidence pending".to_owned(),
        (status, _) => status.to_string(),
    }
}

/// The stages as a table's rows.
pub(crate) fn table_of(rows: &[Row]) -> Vec<Vec<String>> {
    let seconds = |value: Option<f64>| value.map_or_else(String::new, |value| format!("{value:.1} s"));
    rows.iter()
        .map(|row| {
            vec![
                row.stage.to_string(),
                row.status.clone(),
                seconds(row.began_after),
                seconds(row.took),
                safe(&row.summary),
            ]
        })
        .collect()
}
