//! Open cases: asks AWS of each whether its instance is still held, and has people told where it is not. What is said is the
//! decide crate's. It holds nothing again by itself: who changed it may have meant it.

use crate::HandlerError;
use crate::notify::publish;
use crate::ready::{AT_ONCE, LEFT_AT_LEAST};
use futures::StreamExt as _;
use stasis_cloud::Cloud;
use stasis_cloud::casefile::Created;
use stasis_decide::open_cases::{self, TELLING};
use stasis_decide::report;
use stasis_model::case::{Case, Claim};
use stasis_model::ids::InstanceId;
use stasis_model::open_cases::{OpenCase, OpenCases, Standing};
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
    for one in looked {
        match one? {
            Looked::Case(case) => said.cases.push(case),
            Looked::Closed => {}
            Looked::Unasked => said.unasked += 1,
        }
    }
    let undone = said.cases.iter().filter(|one| matches!(one.standing, Standing::Undone { .. })).count();
    tracing::info!(cases = said.cases.len(), undone, unasked = said.unasked, "open cases were looked at");
    Ok(said)
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

/// One of them. What is wrong with one keeps no other from being looked at.
async fn one(cloud: &Cloud, topic: &str, claim: Claim, at: Timestamp) -> Result<OpenCase, HandlerError> {
    let looked = async {
        let case = cloud.case(&claim.case_id).await?;
        let case = case.ok_or_else(|| HandlerError::EvidenceAtRisk("it is claimed and has no case.json".to_owned()))?;
        let standing = standing(cloud, &case).await?;
        tell(cloud, topic, &case, &standing, at).await?;
        Ok::<_, HandlerError>(standing)
    };
    let standing = match looked.await {
        Err(error) if error.is_retryable() => return Err(error),
        Err(error) => {
            tracing::error!(error = error.name(), %error, case = %claim.case_id, "an open case could not be looked at");
            Standing::Unknown { why: error.to_string() }
        }
        Ok(standing) => standing,
    };
    let instance = claim.instance;
    Ok(OpenCase {
        case_id: claim.case_id,
        instance_id: instance.instance_id,
        account: instance.account,
        region: instance.region,
        standing,
    })
}

async fn standing(cloud: &Cloud, case: &Case) -> Result<Standing, HandlerError> {
    let newest = cloud.newest_reports(&case.case_id, &TELLING).await?;
    let Some(verified) = open_cases::verified(&newest) else { return Ok(Standing::Unverified) };
    let place = &case.instance;
    Ok(match cloud.beside_for_readiness(&place.account, &place.region, &case.case_id).await {
        Ok(there) => open_cases::standing(case, verified, &there.held_facts(case).await),
        Err(error) => Standing::Unknown { why: error.to_string() },
    })
}

/// Has people told, once a day for the same.
async fn tell(cloud: &Cloud, topic: &str, case: &Case, standing: &Standing, at: Timestamp) -> Result<(), HandlerError> {
    let notice = report::notice_of_open_case(case, standing, &cloud.home().region);
    let (Some(key), Some(notice)) = (open_cases::told_key(case, standing, at), notice) else { return Ok(()) };
    tracing::warn!(target: "audit", case = %case.case_id, instance = %case.instance.instance_id, key, "not held as it was verified");
    let body = serde_json::to_vec_pretty(standing)
        .map_err(|error| HandlerError::Bug(format!("what became of a case cannot be written as JSON: {error}")))?;
    // Told first: told twice does less harm than never.
    if cloud.fetch(&key).await?.is_none() {
        publish(cloud, topic, &notice).await?;
        if let Created::Exists = cloud.create(&key, "application/json", body).await? {
            tracing::info!(key, "another call told of it at the same moment");
        }
    }
    Ok(())
}
