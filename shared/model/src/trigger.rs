//! What can start a run, told apart by hand: an untagged guess would answer "did not match any variant"
//! to a person at three in the morning.

use crate::Timestamp;
use crate::case::Mode;
use crate::error::InputError;
use crate::ids::{AccountId, InstanceId, Region, Ticket, quoted};
use crate::source::{Detection, Meaning, Named, asff, guardduty, ocsf};
use aws_lambda_events::event::eventbridge::EventBridgeEvent;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::BTreeSet;
use std::net::IpAddr;

/// What started a case, for the record. Titles are foreign text: escape them wherever they go.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Source {
    /// A finding.
    Finding {
        /// Its id, where it has one.
        id: Option<String>,
        /// Its type.
        finding_type: Option<String>,
        /// Its severity.
        severity: Option<f64>,
        /// Its title.
        title: Option<String>,
    },
    /// A person or a tool.
    Request,
}

/// Whether somebody is asked before the instance is contained.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Approve {
    /// Nobody.
    Auto,
    /// An approver.
    Ask,
}

/// A request to act on an instance.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    /// The instance.
    pub instance: InstanceId,
    /// The account it should be in, where that was said.
    pub account: Option<AccountId>,
    /// The region it should be in, where that was said.
    pub region: Option<Region>,
    /// The ticket, where there is one already.
    pub ticket: Option<Ticket>,
    /// Why.
    pub reason: Option<String>,
    /// How far to go.
    pub mode: Mode,
    /// Whether to ask first, where that was said.
    pub approve: Option<Approve>,
    /// When what the finding is about was last seen, where it says so.
    pub last_seen: Option<Timestamp>,
    /// What started it.
    pub source: Source,
    /// The remote addresses that it names.
    pub remote_addresses: Vec<IpAddr>,
}

/// What an input means.
#[derive(Debug, Clone, PartialEq)]
pub enum Trigger {
    /// Act on these instances.
    Act {
        /// One request for each, never none.
        requests: Vec<Request>,
        /// Why the other findings of the same input are not acted on.
        skipped: Vec<String>,
    },
    /// More instances than one run takes: a run for each part.
    Divide {
        /// How many instances the input names.
        instances: usize,
        /// How many instances come before each part: what its run is told to skip.
        parts: Vec<usize>,
    },
    /// Not ours to act on, because of this.
    Ignore(String),
}

/// The keys of the manual input.
const MANUAL_KEYS: [&str; 7] = ["instanceId", "ticket", "reason", "account", "region", "mode", "approve"];
/// The longest reason, in characters.
const REASON_MOST: usize = 1024;
/// The source of drills, whose events carry the manual input.
pub const DRILL: &str = "stasis.drill";
/// How many instances one run takes: their cases must fit into the 256 KiB that an execution carries, and all their looks
/// into its 25,000 events (<https://docs.aws.amazon.com/step-functions/latest/dg/service-quotas.html>).
pub const INSTANCES_MOST: usize = 10;
/// The keys of a part of an input that names more. Step Functions links the two executions by the third
/// (<https://docs.aws.amazon.com/step-functions/latest/dg/concepts-nested-workflows.html>).
const PART_KEYS: [&str; 3] = ["skip", "event", "AWS_STEP_FUNCTIONS_STARTED_BY_EXECUTION_ID"];

impl Trigger {
    /// Reads an input of `stasis-contain`: an event as EventBridge delivers it, findings without their envelope, the manual
    /// input, or a part of findings that name more instances than one run takes. Events of the `request_sources` carry the
    /// manual input as their detail.
    ///
    /// # Errors
    /// Where a manual input is malformed or a finding about an instance names none; the key is named.
    pub fn read(input: &Value, request_sources: &[String]) -> Result<Self, InputError> {
        match input.get("skip") {
            Some(skip) => Self::whole(divided_event(input)?, request_sources)?.after(skip),
            None => Ok(Self::whole(input, request_sources)?.divided()),
        }
    }

    /// Everything that an input names, however much that is.
    fn whole(input: &Value, request_sources: &[String]) -> Result<Self, InputError> {
        let Value::Object(fields) = input else {
            return Err(InputError::invalid(
                "input",
                "must be a JSON object: an event, a finding, or {\"instanceId\": \"i-…\"}",
            ));
        };
        if fields.contains_key("detail-type") || fields.contains_key("detail") {
            return from_event(input, request_sources);
        }
        if let Some(findings) = fields.get("Findings").or_else(|| fields.get("findings")) {
            return from_findings(findings);
        }
        let of_guardduty = ["resource", "Resource", "schemaVersion", "SchemaVersion", "service", "Service"];
        if asff::is_one(input) || ocsf::is_one(input) || of_guardduty.iter().any(|key| fields.contains_key(*key)) {
            return from_findings(&Value::Array(vec![input.clone()]));
        }
        from_manual(fields)
    }

    /// What names more instances than one run takes, in parts.
    fn divided(self) -> Self {
        match self {
            Self::Act { requests, .. } if requests.len() > INSTANCES_MOST => {
                let instances = requests.len();
                Self::Divide { instances, parts: (0..instances).step_by(INSTANCES_MOST).collect() }
            }
            few => few,
        }
    }

    /// The part of it that begins after so many instances. What is not acted on is told by the first part.
    fn after(self, skip: &Value) -> Result<Self, InputError> {
        let skip = whole_number(skip).and_then(|skip| usize::try_from(skip).ok());
        let skip =
            skip.ok_or_else(|| InputError::invalid("skip", "must be how many instances of the event come before"))?;
        let Self::Act { requests, skipped } = self else { return Ok(self) };
        let instances = requests.len();
        let requests: Vec<_> = requests.into_iter().skip(skip).take(INSTANCES_MOST).collect();
        if requests.is_empty() {
            return Err(InputError::invalid("skip", format!("is {skip}, and the event names {instances} instances")));
        }
        Ok(Self::Act { requests, skipped: if skip == 0 { skipped } else { Vec::new() } })
    }
}

/// A number without a fraction, in whatever form: an expression of a state machine may make `10.0` of it.
fn whole_number(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| {
        let text = value.as_f64()?.to_string();
        text.parse().ok()
    })
}

/// The event of an input that is about a part of one.
fn divided_event(input: &Value) -> Result<&Value, InputError> {
    if let Some(key) = input.as_object().and_then(|fields| fields.keys().find(|key| !PART_KEYS.contains(&key.as_str())))
    {
        return Err(InputError::UnknownKey { key: quoted(key), known: PART_KEYS.join(", ") });
    }
    input.get("event").ok_or_else(|| InputError::Missing {
        key: "event".to_owned(),
        remedy: "give the event whose first instances are to be skipped".to_owned(),
    })
}

/// An event in EventBridge's envelope.
fn from_event(input: &Value, request_sources: &[String]) -> Result<Trigger, InputError> {
    let event: EventBridgeEvent<Value> = EventBridgeEvent::deserialize(input)
        .map_err(|error| InputError::invalid("event", format!("is not an EventBridge event: {error}")))?;
    let (source, kind, detail) = (event.source.as_str(), event.detail_type.as_str(), &event.detail);
    // Some forwarders put the findings of one event into a list.
    let findings = detail.get("findings").or_else(|| detail.get("Findings"));
    match (source, kind) {
        ("aws.guardduty" | DRILL, "GuardDuty Finding") => match findings {
            Some(findings) => from_findings(findings),
            None => from_findings(&Value::Array(vec![detail.clone()])),
        },
        (
            "aws.securityhub" | DRILL,
            "Security Hub Findings - Imported" | "Security Hub Findings - Custom Action" | "Findings Imported V2",
        ) => from_findings(findings.unwrap_or(&Value::Null)),
        (source, _) if source == DRILL || request_sources.iter().any(|known| known == source) => match detail {
            Value::Object(fields) => from_manual(fields),
            _ => Err(InputError::invalid("detail", "must be a JSON object such as {\"instanceId\": \"i-…\"}")),
        },
        ("aws.guardduty" | "aws.securityhub", other) => {
            Ok(Trigger::Ignore(format!("events of type {} are not acted on", quoted(other))))
        }
        (other, _) => Ok(Trigger::Ignore(format!("events from {} are not acted on", quoted(other)))),
    }
}

/// Findings without envelope, each in whatever form it comes. One that is none of ours, or malformed, keeps no other from
/// being acted on.
fn from_findings(findings: &Value) -> Result<Trigger, InputError> {
    let Some(findings) = findings.as_array().filter(|findings| !findings.is_empty()) else {
        return Err(InputError::invalid("findings", "must be a list of at least one finding"));
    };
    let (mut requests, mut skipped, mut malformed) = (Vec::<Request>::new(), Vec::new(), None);
    for finding in findings {
        match read_finding(finding) {
            Ok(Meaning::Act(detection)) => requests.extend(of_detection(&detection)),
            Ok(Meaning::Ignore(reason)) => skipped.push(reason),
            Err(error) => {
                skipped.push(error.to_string());
                malformed = malformed.or(Some(error));
            }
        }
    }
    // An instance that several findings name is worked on once, for the first of them.
    let mut seen = BTreeSet::new();
    requests.retain(|request| seen.insert(request.instance.clone()));
    match (requests.is_empty(), malformed) {
        (false, _) => Ok(Trigger::Act { requests, skipped }),
        (true, Some(error)) => Err(error),
        (true, None) => Ok(Trigger::Ignore(skipped.join("; "))),
    }
}

fn read_finding(finding: &Value) -> Result<Meaning, InputError> {
    if !finding.is_object() {
        Err(InputError::invalid("finding", "must be a JSON object"))
    } else if ocsf::is_one(finding) {
        ocsf::read(finding)
    } else if asff::is_one(finding) {
        asff::read(finding)
    } else {
        guardduty::read(finding)
    }
}

fn of_detection(detection: &Detection) -> Vec<Request> {
    let request = |named: &Named| Request {
        instance: named.instance.clone(),
        account: named.account.clone(),
        region: named.region.clone(),
        ticket: None,
        reason: None,
        mode: Mode::Contain,
        approve: None,
        last_seen: detection.last_seen,
        source: Source::Finding {
            id: detection.id.clone(),
            finding_type: detection.kind.clone(),
            severity: detection.severity,
            title: detection.title.clone(),
        },
        remote_addresses: detection.remote_addresses.clone(),
    };
    detection.instances.iter().map(request).collect()
}

/// The manual input.
fn from_manual(fields: &Map<String, Value>) -> Result<Trigger, InputError> {
    if let Some(key) = fields.keys().find(|key| !MANUAL_KEYS.contains(&key.as_str())) {
        return Err(InputError::UnknownKey { key: quoted(key), known: MANUAL_KEYS.join(", ") });
    }
    let text = |key: &'static str| -> Result<Option<&str>, InputError> {
        match fields.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(InputError::invalid(key, "must be a string")),
        }
    };
    let instance = text("instanceId")?
        .ok_or_else(|| InputError::Missing {
            key: "instanceId".to_owned(),
            remedy: "name the instance: {\"instanceId\": \"i-…\"}".to_owned(),
        })?
        .parse()?;
    let mode = match text("mode")? {
        None | Some("contain") => Mode::Contain,
        Some("preserve") => Mode::Preserve,
        Some("dry-run") => Mode::DryRun,
        Some(other) => {
            return Err(InputError::invalid(
                "mode",
                format!("{} is none of contain, preserve, dry-run", quoted(other)),
            ));
        }
    };
    let approve = match text("approve")? {
        None => None,
        Some("auto") => Some(Approve::Auto),
        Some("ask") => Some(Approve::Ask),
        Some(other) => return Err(InputError::invalid("approve", format!("{} is none of auto, ask", quoted(other)))),
    };
    let reason = text("reason")?;
    if let Some(reason) = reason
        && (reason.chars().count() > REASON_MOST || reason.chars().any(char::is_control))
    {
        return Err(InputError::invalid("reason", format!("must be one line of at most {REASON_MOST} characters")));
    }
    let request = Request {
        instance,
        account: text("account")?.map(str::parse).transpose()?,
        region: text("region")?.map(str::parse).transpose()?,
        ticket: text("ticket")?.map(str::parse).transpose()?,
        reason: reason.map(str::to_owned),
        mode,
        approve,
        last_seen: None,
        source: Source::Request,
        remote_addresses: Vec::new(),
    };
    Ok(Trigger::Act { requests: vec![request], skipped: Vec::new() })
}
