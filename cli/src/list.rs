//! `stasis list`: the cases of the bucket.

use crate::args::List;
use crate::error::CliError;
use crate::place::Place;
use crate::text::safe;
use futures::StreamExt as _;
use serde::Serialize;
use stasis_model::case::{Case, Claim};
use stasis_model::ids::CaseId;
use stasis_model::stage::Stage;
use std::collections::BTreeSet;

const AT_ONCE: usize = 8;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Listed {
    case_id: CaseId,
    /// Whether a claim says that it is open: a new finding of its instance joins it.
    open: bool,
    opened_at: Option<String>,
    instance_id: Option<String>,
    account: Option<String>,
    region: Option<String>,
    ticket: Option<String>,
    name: Option<String>,
    /// What the newest report says it came to.
    status: Option<String>,
    reason: Option<String>,
}

/// Lists the cases.
pub(crate) async fn run(place: &Place, what: &List) -> Result<bool, CliError> {
    let open = open_cases(place).await?;
    let mut ids = place.cloud.case_ids().await?;
    ids.reverse();
    ids.retain(|id| !what.open || open.contains(id));
    let more = ids.len().saturating_sub(what.limit);
    ids.truncate(what.limit);
    let mut cases: Vec<Listed> = futures::stream::iter(ids)
        .map(async |id| listed(place, id, &open).await)
        .buffer_unordered(AT_ONCE)
        .collect::<Vec<_>>()
        .await
        .into_iter()
        .collect::<Result<_, _>>()?;
    cases.sort_by(|a, b| b.case_id.cmp(&a.case_id));
    place.screen.json(&cases)?;
    if cases.is_empty() {
        place.screen.say(format!(
            "no case{} in bucket {}",
            if what.open { " is open" } else { "" },
            place.cloud.bucket()
        ))?;
        return Ok(true);
    }
    let cell = |text: &Option<String>| safe(text.as_deref().unwrap_or(""));
    let rows = cases.iter().map(|case| {
        vec![
            case.case_id.to_string(),
            if case.open { "open" } else { "closed" }.to_owned(),
            cell(&case.status),
            cell(&case.instance_id),
            cell(&case.name),
            cell(&case.ticket),
        ]
    });
    place.screen.table(&["CASE", "", "STATUS", "INSTANCE", "NAME", "TICKET"], rows.collect())?;
    if more > 0 {
        place.screen.say(format!("and {more} older ones (--limit)"))?;
    }
    Ok(true)
}

async fn open_cases(place: &Place) -> Result<BTreeSet<CaseId>, CliError> {
    let claims = place.cloud.list("open/").await?;
    let claims: Vec<_> = futures::stream::iter(claims)
        .map(async |claim| place.cloud.fetch_json::<Claim>(&claim.key).await)
        .buffer_unordered(AT_ONCE)
        .collect()
        .await;
    let mut open = BTreeSet::new();
    for claim in claims {
        open.extend(claim?.map(|claim| claim.case_id));
    }
    Ok(open)
}

async fn listed(place: &Place, id: CaseId, open: &BTreeSet<CaseId>) -> Result<Listed, CliError> {
    let folder = stasis_model::case::prefix(&id);
    let case: Option<Case> = place.cloud.fetch_json(&format!("{folder}case.json")).await?;
    let reports = place.cloud.list(&format!("{folder}stages/{}/", Stage::Report)).await?;
    let number = |key: &str| key.rsplit_once('/')?.1.strip_suffix(".json")?.parse::<u32>().ok();
    let newest = reports.iter().filter_map(|file| Some((number(&file.key)?, &file.key))).max();
    let summary = match newest {
        Some((_, key)) => place.cloud.fetch_json::<stasis_model::stage::StageReport>(key).await?.map(|r| r.summary),
        None => None,
    };
    let (status, reason) = match summary.as_deref().map(|text| text.split_once(": ").unwrap_or((text, ""))) {
        Some((status, reason)) => (Some(status.to_owned()), Some(reason.to_owned())),
        None => (Some("no report yet".to_owned()), None),
    };
    let case = case.as_ref();
    Ok(Listed {
        open: open.contains(&id),
        case_id: id,
        opened_at: case.map(|case| case.opened_at.to_rfc3339()),
        instance_id: case.map(|case| case.instance.instance_id.to_string()),
        account: case.map(|case| case.instance.account.to_string()),
        region: case.map(|case| case.instance.region.to_string()),
        ticket: case.map(|case| case.ticket.to_string()),
        name: case.and_then(|case| case.baseline.instance.name()).map(str::to_owned),
        status,
        reason,
    })
}
