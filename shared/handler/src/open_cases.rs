//! Open cases: asks AWS of each whether its instance is still held, and has people told where it is not. What is said is the
//! decide crate's. It holds nothing again by itself: who changed it may have meant it.

use crate::HandlerError;
use crate::notify::publish;
use crate::ready::{AT_ONCE, LEFT_AT_LEAST};
use futures::StreamExt as _;
use stasis_cloud::Cloud;
use stasis_cloud::casefile::Created;
use stasis_decide::open_cases::{self, Confirmed, TELLING};
use stasis_decide::report;
use stasis_model::case::{Case, Claim};
use stasis_model::ids::InstanceId;
use stasis_model::open_cases::{OpenCase, OpenCases, Standing};
use stasis_model::stage::{Stage, StageReport};
use stasis_model::{SCHEMA, Timestamp, now};

/// Looks at every open case, or at those of the named instances, until `deadline` at the latest.
pub(crate) async fn look(
    cloud: &Cloud,
    topic: &str,
    named: &[InstanceId],
    deadline: Timestamp,
) -> Result<OpenCases, HandlerError> {
    let checked_at = now();
    let mut claims = cloud.list("open/").await?;
    claims.retain(|claim| named.is_empty() || named.iter().any(|id| claim.key.ends_with(&format!("/{id}.json"))));
    let looked: Vec<Result<Looked, HandlerError>> = futures::stream::iter(&claims)
        .map(async |claim| {
            if deadline - now() < LEFT_AT_LEAST {
                return Ok(Looked::Unasked);
            }
            match cloud.fetch_json::<Claim>(&claim.key).await? {
                Some(claim) => one(cloud, topic, claim, checked_at).await.map(Looked::Case),
                None => Ok(Looked::Closed),
            }
        })
        .buffered(AT_ONCE)
        .collect()
        .await;
    let mut said = OpenCases { schema: SCHEMA, checked_at, cases: Vec::new(), unasked: 0 };
    let mut failed = None;
    for one in looked {
        match one {
            Ok(Looked::Case(case)) => said.cases.push(case),
            Ok(Looked::Closed) => {}
            Ok(Looked::Unasked) => said.unasked += 1,
            Err(error) => {
                tracing::error!(error = error.name(), %error, "an open case could not be looked at");
                failed = failed.or(Some(error));
            }
        }
    }
    let undone = said.cases.iter().filter(|one| matches!(one.standing, Standing::Undone { .. })).count();
    tracing::info!(cases = said.cases.len(), undone, unasked = said.unasked, "open cases were looked at");
    // What is wrong with one keeps no other from being looked at, and is no success: an alarm hears of it.
    failed.map_or(Ok(said), Err)
}

/// What became of a claim.
enum Looked {
    /// Its case was looked at.
    Case(OpenCase),
    /// Its case was closed meanwhile.
    Closed,
    /// There was no time left for it.
    Unasked,
}

/// One of them.
async fn one(cloud: &Cloud, topic: &str, claim: Claim, at: Timestamp) -> Result<OpenCase, HandlerError> {
    let case = cloud.case(&claim.case_id).await?;
    let case = case.ok_or_else(|| {
        HandlerError::EvidenceAtRisk(format!("case {} is claimed and has no case.json", claim.case_id))
    })?;
    let standing = standing(cloud, &case, at).await?;
    tell(cloud, topic, &case, &standing, at).await?;
    let instance = claim.instance;
    Ok(OpenCase {
        case_id: claim.case_id,
        instance_id: instance.instance_id,
        account: instance.account,
        region: instance.region,
        standing,
    })
}

async fn standing(cloud: &Cloud, case: &Case, at: Timestamp) -> Result<Standing, HandlerError> {
    let newest = cloud.newest_reports(&case.case_id, &TELLING).await?;
    let since = open_cases::counts_since(case, at);
    if open_cases::verified(&newest, since).is_none() {
        return Ok(Standing::Unverified);
    }
    let place = &case.instance;
    match cloud.beside_for_readiness(&place.account, &place.region, &case.case_id).await {
        Ok(there) => compared(&there, case, &newest, since).await,
        Err(error) if error.is_retryable() => Err(error.into()),
        Err(error) => Ok(Standing::Unknown { why: error.to_string() }),
    }
}

/// How the instance stands beside what AWS has confirmed since then; `cloud` is that of the instance's place.
pub(crate) async fn compared(
    cloud: &Cloud,
    case: &Case,
    newest: &[StageReport],
    since: Timestamp,
) -> Result<Standing, HandlerError> {
    let Some((verified, since)) = open_cases::verified(newest, since) else { return Ok(Standing::Unverified) };
    let facts = cloud.held_facts(case).await?.filter(|facts| !facts.is_gone());
    let Some(facts) = facts else { return Ok(Standing::Gone) };
    let failing = open_cases::failing(case, &facts);
    let mut confirmed = Confirmed::by(verified);
    // Older reports are read only where something does not pass now that did not pass in the newest either.
    for attempt in (1..verified.attempt).rev() {
        if confirmed.covers(&failing) {
            break;
        }
        match cloud.stage_report(&case.case_id, Stage::Verify, attempt).await? {
            Some(report) if report.finished_at > since => confirmed.and_before(&report),
            _ => break,
        }
    }
    Ok(open_cases::standing(case, &confirmed, failing))
}

/// Has people told: where a look on this day or the one before has seen it too, and once a day for the same.
async fn tell(cloud: &Cloud, topic: &str, case: &Case, standing: &Standing, at: Timestamp) -> Result<(), HandlerError> {
    let notice = report::notice_of_open_case(case, standing, &cloud.home().region);
    let (Some(kept), Some(notice)) = (open_cases::kept(case, standing, at), notice) else { return Ok(()) };
    let instance = &case.instance.instance_id;
    tracing::warn!(target: "audit", case = %case.case_id, %instance, mark = kept.seen, "not as it was verified");
    let body = serde_json::to_vec_pretty(standing)
        .map_err(|error| HandlerError::Bug(format!("how a case stands cannot be written as JSON: {error}")))?;
    let is_first = matches!(cloud.create(&kept.seen, "application/json", body.clone()).await?, Created::Yes { .. });
    if is_first && cloud.fetch(&kept.seen_before).await?.is_none() {
        return Ok(());
    }
    // Told first, written down then: told twice does less harm than never.
    if cloud.fetch(&kept.told).await?.is_none() {
        publish(cloud, topic, &notice).await?;
        cloud.create(&kept.told, "application/json", body).await?;
    }
    Ok(())
}
