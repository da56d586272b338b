//! Ready: looks at instances before there is an incident, and says of each whether it could be contained and captured now; and
//! at those of open cases, whether they are still held. What is said is the decide crate's; nothing is changed, and nothing
//! written but the answer itself, where the schedule asks.

use crate::HandlerError;
use crate::notify::publish;
use crate::open_cases;
use crate::settings::Settings;
use chrono::TimeDelta;
use futures::StreamExt as _;
use lambda_runtime::Diagnostic;
use serde_json::Value;
use stasis_cloud::casefile::Created;
use stasis_cloud::{Cloud, CloudError, spoke_role};
use stasis_decide::{ready, report, revoke};
use stasis_model::baseline::Observed;
use stasis_model::case::{Case, InstanceRef};
use stasis_model::error::InputError;
use stasis_model::ids::{AccountId, InstanceId, Region};
use stasis_model::ready::{InstanceReadiness, Needed, PlaceFacts, Readiness, ReadyAnswer, ReadyCheck, ReadyRequest};
use stasis_model::{Timestamp, now};
use std::collections::BTreeMap;

/// How many instances are looked at at the same time: each look is some twenty calls, and the account's own work goes on.
pub(crate) const AT_ONCE: usize = 4;
/// What is left of the function's time when nothing further is begun.
pub(crate) const LEFT_AT_LEAST: TimeDelta = TimeDelta::seconds(120);

/// Answers one call, until `deadline` at the latest. `roles` are those of the stages at home.
pub async fn answer(
    cloud: &Cloud,
    settings: &Settings,
    topic: &str,
    roles: &BTreeMap<String, String>,
    input: Value,
    deadline: Timestamp,
) -> Result<ReadyAnswer, Diagnostic> {
    let answered = async {
        let request: ReadyRequest =
            serde_json::from_value(input).map_err(|error| InputError::invalid("input", error.to_string()))?;
        let request = request.checked()?;
        if request.open_cases {
            return Ok(ReadyAnswer::OpenCases(
                Box::pin(open_cases::look(cloud, topic, &request.instance_ids, deadline)).await?,
            ));
        }
        let said = Box::pin(look(cloud, settings, topic, roles, request, deadline)).await?;
        Ok(ReadyAnswer::Readiness(said))
    };
    answered.await.map_err(|error: HandlerError| {
        tracing::error!(error = error.name(), %error, "readiness could not be told");
        Diagnostic::from(error)
    })
}

async fn look(
    cloud: &Cloud,
    settings: &Settings,
    topic: &str,
    roles: &BTreeMap<String, String>,
    request: ReadyRequest,
    deadline: Timestamp,
) -> Result<Readiness, HandlerError> {
    let at = now();
    let account = request.account.clone().unwrap_or_else(|| settings.home.account.clone());
    let region = request.region.clone().unwrap_or_else(|| settings.home.region.clone());
    let there = cloud.beside_for_readiness(&account, &region, &ready::case_id(at)?).await?;
    let look = Look { cloud: &there, settings, account: &account, region: &region, at };
    let mut next = request.next.clone();
    let mut found = Vec::new();
    let mut unasked = 0;
    loop {
        let (ids, further) = match request.instance_ids.as_slice() {
            [] => there.running_instances(next.take()).await?,
            named => (named.to_vec(), None),
        };
        next = further;
        if request.publish && deadline - now() < LEFT_AT_LEAST {
            unasked += ids.len();
        } else {
            found.extend(look.at(&ids).await);
        }
        if next.is_none() || !request.publish {
            break;
        }
    }
    // Once for all pages: what holds for the place does not change from one to the next.
    let place = if request.next.is_none() { look.place(roles, &found).await } else { Vec::new() };
    let instances: Vec<InstanceReadiness> = found.into_iter().map(|(said, _)| said).collect();
    let mut said = ready::readiness(&account, &region, at, place, instances);
    said.next = next;
    said.unasked = unasked;
    tracing::info!(verdict = %said.verdict, instances = said.instances.len(), unasked, "readiness was looked at");
    if request.publish {
        keep(cloud, topic, &said).await?;
    }
    Ok(said)
}

/// Where and when is looked.
struct Look<'a> {
    cloud: &'a Cloud,
    settings: &'a Settings,
    account: &'a AccountId,
    region: &'a Region,
    at: Timestamp,
}

impl Look<'_> {
    /// What is said of each instance, and the case that was supposed for it.
    async fn at(&self, ids: &[InstanceId]) -> Vec<(InstanceReadiness, Option<Case>)> {
        futures::stream::iter(ids)
            .map(async |id| match self.supposed(id).await {
                Ok(case) => {
                    let facts = self.cloud.ready_facts(&case, &revoke::policy_name(&case.case_id)).await;
                    (ready::instance(&case, &facts, self.at), Some(case))
                }
                Err(error) => (ready::unreadable(id, &error.to_string()), None),
            })
            .buffered(AT_ONCE)
            .collect()
            .await
    }

    async fn supposed(&self, id: &InstanceId) -> Result<Case, HandlerError> {
        let look = self.cloud.first_look(id).await?;
        let instance =
            InstanceRef { instance_id: id.clone(), account: look.owner.clone(), region: self.region.clone() };
        let baseline = self.cloud.baseline(id, look).await;
        let bucket = &self.settings.home.bucket;
        Ok(ready::supposed(instance, baseline, self.settings.policy.clone(), bucket, self.at)?)
    }

    /// What holds for every instance there. What the functions may do is asked about the first one that was read.
    async fn place(
        &self,
        roles: &BTreeMap<String, String>,
        found: &[(InstanceReadiness, Option<Case>)],
    ) -> Vec<ReadyCheck> {
        let policy = &self.settings.policy;
        let wanted: Vec<&str> = ready::wanted_documents(policy).collect();
        let documents: Result<_, CloudError> = self.cloud.documents(&wanted).await;
        let permissions = match found.iter().find_map(|(_, case)| case.as_ref()) {
            Some(case) => self.cloud.simulated(case, self.with_roles(roles, ready::needed(case))).await,
            None => Vec::new(),
        };
        let bucket = self.cloud.evidence_bucket().await;
        ready::place(policy, &bucket, &PlaceFacts { documents: Observed::from(documents), permissions })
    }

    /// Each need with the role that has it: the stage's own at home, that of its spoke elsewhere.
    fn with_roles(&self, roles: &BTreeMap<String, String>, needed: Vec<Needed>) -> Vec<(String, Needed)> {
        let at_home = self.settings.home.is(self.account, self.region);
        let role = |needed: &Needed| match at_home {
            true => roles.get(needed.stage.name()).cloned(),
            false => Some(spoke_role(self.account, self.region, needed.stage.name())),
        };
        needed.into_iter().filter_map(|needed| Some((role(&needed)?, needed))).collect()
    }
}

/// Writes the answer into the evidence bucket, and tells people in short.
async fn keep(cloud: &Cloud, topic: &str, said: &Readiness) -> Result<(), HandlerError> {
    let key = format!("readiness/{}/{}/{}.json", said.account, said.region, said.checked_at.format("%Y%m%dT%H%M%SZ"));
    let body = serde_json::to_vec_pretty(said)
        .map_err(|error| HandlerError::Bug(format!("readiness cannot be written as JSON: {error}")))?;
    // A second try of the same call finds it there, and tells people all the same.
    if let Created::Exists = cloud.create(&key, "application/json", body).await? {
        tracing::info!(key, "readiness was written already");
    }
    let location = format!("s3://{}/{key}", cloud.bucket());
    publish(cloud, topic, &report::notice_of_readiness(said, &location)).await?;
    Ok(())
}
