//! The chain of custody: what CloudTrail's event history shows of a case. CloudTrail shows a call some minutes after it was made.

use super::evidence::LOOKUP;
use super::time;
use crate::{Cloud, CloudError};
use aws_sdk_cloudtrail::types::{Event, LookupAttributeKey};
use serde_json::Value;
use stasis_model::case::Case;
use stasis_model::custody::{Act, Custody, Unconfirmed};
use stasis_model::disks::place_of;
use stasis_model::stage::{Outcome, StageReport};
use stasis_model::{SCHEMA, now};
use std::collections::{BTreeMap, BTreeSet};

/// How many resources are looked up by name: LookupEvents takes two calls a second for an account and region
/// (<https://docs.aws.amazon.com/awscloudtrail/latest/APIReference/API_LookupEvents.html>).
const RESOURCES_MOST: usize = 12;
/// How many pages of 50 records are read of each.
const PAGES_MOST: usize = 6;
/// The services whose calls are management events in the instance's region; those of IAM are in another, and S3 and KMS are
/// the evidence's own.
const SERVICES: [&str; 4] = ["ec2", "autoscaling", "elasticloadbalancing", "ssm"];

impl Cloud {
    /// What CloudTrail shows of a case now.
    ///
    /// # Errors
    /// Where CloudTrail or the case file cannot be read.
    pub(crate) async fn custody(&self, case: &Case) -> Result<Custody, CloudError> {
        let kept = self.stage_reports(&case.case_id).await?;
        let reports: Vec<&StageReport> = kept.iter().map(|(_, _, report)| report).collect();
        let did = done(case, &reports);
        let resources = resources(case, &reports);
        let mut found: BTreeMap<String, Event> = BTreeMap::new();
        let mut cut = false;
        let by_name = resources.iter().take(RESOURCES_MOST).map(|id| (LookupAttributeKey::ResourceName, id.clone()));
        // Role sessions carry the name of the function at home, and elsewhere that of the case.
        let sessions: BTreeSet<String> = match self.home.is(&case.instance.account, &case.instance.region) {
            true => reports.iter().map(|report| format!("stasis-{}", report.stage)).collect(),
            false => BTreeSet::from([case.case_id.to_string()]),
        };
        let by_session = sessions.iter().map(|name| (LookupAttributeKey::Username, name.clone()));
        for (key, value) in by_name.chain(by_session) {
            let (events, more) = self.events(case, key, &value).await?;
            cut |= more;
            found.extend(events.into_iter().filter_map(|event| Some((event.event_id()?.to_owned(), event))));
        }
        let mut acts: Vec<Act> =
            found.iter().filter_map(|(id, event)| act(id, event, case, &resources, &did, &sessions)).collect();
        acts.sort();
        let shown: BTreeSet<&str> = acts.iter().filter_map(|act| act.request_id.as_deref()).collect();
        let unconfirmed = did
            .into_iter()
            .filter(|(request_id, _)| !shown.contains(request_id.as_str()))
            .map(|(request_id, (stage, words))| Unconfirmed { stage, words, request_id })
            .collect();
        Ok(Custody {
            schema: SCHEMA,
            case_id: case.case_id.clone(),
            account: case.instance.account.clone(),
            region: case.instance.region.clone(),
            read_at: now(),
            acts,
            unconfirmed,
            cut,
        })
    }

    /// The records since the case was opened, and whether there are more.
    async fn events(
        &self,
        case: &Case,
        key: LookupAttributeKey,
        value: &str,
    ) -> Result<(Vec<Event>, bool), CloudError> {
        let mut pages = self.events_of(case, key, value)?.into_paginator().send();
        let mut events = Vec::new();
        for _ in 0..PAGES_MOST {
            match pages.try_next().await.map_err(|error| CloudError::from_sdk(LOOKUP, value, &error))? {
                Some(page) => events.extend(page.events.unwrap_or_default()),
                None => return Ok((events, false)),
            }
        }
        Ok((events, true))
    }
}

/// What the stages did beside the instance, by AWS' id of the request: the stage, and the action in words.
fn done(case: &Case, reports: &[&StageReport]) -> BTreeMap<String, (String, String)> {
    let records = reports.iter().flat_map(|report| report.actions.iter().map(move |record| (report.stage, record)));
    records
        .filter(|(_, record)| record.outcome == Outcome::Applied)
        .filter(|(_, record)| record.action.place().is_none_or(|place| *place == place_of(case)))
        .filter(|(_, record)| {
            let writes = |permission: &&str| {
                let (service, action) = permission.split_once(':').unwrap_or_default();
                SERVICES.contains(&service) && !action.starts_with("Get") && !action.starts_with("Describe")
            };
            record.action.permissions().iter().any(writes)
        })
        .filter_map(|(stage, record)| {
            Some((record.request_id.clone()?, (stage.name().to_owned(), record.words.clone())))
        })
        .collect()
}

/// The instance and what belongs to it, the instance first.
fn resources(case: &Case, reports: &[&StageReport]) -> Vec<String> {
    let mut ids = case.baseline.instance.resources(&case.instance.instance_id);
    let evidence = reports.iter().flat_map(|report| &report.evidence).map(|evidence| evidence.id.clone());
    for id in evidence.filter(|id| id.starts_with("snap-")) {
        if !ids.contains(&id) {
            ids.push(id);
        }
    }
    ids
}

/// A record as an act; none for what only read, and for what is of another case.
fn act(
    id: &str,
    event: &Event,
    case: &Case,
    resources: &[String],
    did: &BTreeMap<String, (String, String)>,
    sessions: &BTreeSet<String>,
) -> Option<Act> {
    let detail: Value = serde_json::from_str(event.cloud_trail_event()?).ok()?;
    if detail.get("readOnly").and_then(Value::as_bool) == Some(true) {
        return None;
    }
    let text = |path: &str| detail.pointer(path).and_then(Value::as_str).map(str::to_owned);
    let whole = event.cloud_trail_event()?;
    let request_id = text("/requestID");
    let ours = request_id.as_ref().and_then(|id| did.get(id));
    let on: Vec<String> = resources.iter().filter(|id| whole.contains(id.as_str())).cloned().collect();
    if ours.is_none() && on.is_empty() && !whole.contains(case.case_id.as_str()) {
        return None;
    }
    let service = event.event_source().and_then(|source| source.split('.').next()).unwrap_or("unknown");
    let by = text("/userIdentity/arn")
        .or_else(|| text("/userIdentity/invokedBy"))
        .or_else(|| event.username().map(str::to_owned))
        .or_else(|| text("/userIdentity/type"))
        .unwrap_or_else(|| "unknown".to_owned());
    Some(Act {
        at: event.event_time().and_then(time)?,
        by,
        what: format!("{service}:{}", event.event_name().unwrap_or("unknown")),
        on,
        from: text("/sourceIPAddress"),
        refused: text("/errorCode"),
        request_id,
        event_id: id.to_owned(),
        stage: ours.map(|(stage, _)| stage.clone()),
        in_session: event.username().is_some_and(|name| sessions.contains(name)),
    })
}
