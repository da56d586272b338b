//! What can start a run, told apart by hand: an untagged guess would answer "did not match any variant"
//! to a person at three in the morning.

use crate::case::Mode;
use crate::error::InputError;
use crate::finding::Finding;
use crate::ids::{AccountId, InstanceId, Region, Ticket, quoted};
use aws_lambda_events::event::eventbridge::EventBridgeEvent;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
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
    /// What started it.
    pub source: Source,
    /// The remote addresses that it names.
    pub remote_addresses: Vec<IpAddr>,
}

/// What an input means.
#[derive(Debug, Clone, PartialEq)]
pub enum Trigger {
    /// Act on this instance.
    Act(Box<Request>),
    /// Not ours to act on, because of this.
    Ignore(String),
}

/// The keys of the manual input.
const MANUAL_KEYS: [&str; 7] = ["instanceId", "ticket", "reason", "account", "region", "mode", "approve"];
/// The longest reason, in characters.
const REASON_MOST: usize = 1024;
/// The sources whose events are read; others are ignored by name.
const SOURCES: [&str; 2] = ["aws.guardduty", "stasis.drill"];

impl Trigger {
    /// Reads an input of `stasis-contain`: an event as EventBridge delivers it, a finding without its
    /// envelope, or the manual input.
    ///
    /// # Errors
    /// Where a manual input is malformed or a finding about an instance names none; the key is named.
    pub fn read(input: &Value) -> Result<Self, InputError> {
        let Value::Object(fields) = input else {
            return Err(InputError::invalid(
                "input",
                "must be a JSON object: an event, a finding, or {\"instanceId\": \"i-…\"}",
            ));
        };
        if fields.contains_key("detail-type") || fields.contains_key("detail") {
            return from_event(input);
        }
        if let Some(findings) = fields.get("Findings").or_else(|| fields.get("findings")) {
            return match findings.as_array().map(Vec::as_slice) {
                Some([finding]) => from_finding(finding),
                _ => Err(InputError::invalid("Findings", "must hold exactly one finding; start one run for each")),
            };
        }
        if ["resource", "Resource", "schemaVersion", "SchemaVersion"].iter().any(|key| fields.contains_key(*key)) {
            return from_finding(input);
        }
        from_manual(fields)
    }
}

/// An event in EventBridge's envelope.
fn from_event(input: &Value) -> Result<Trigger, InputError> {
    let event: EventBridgeEvent<Value> = EventBridgeEvent::deserialize(input)
        .map_err(|error| InputError::invalid("event", format!("is not an EventBridge event: {error}")))?;
    if !SOURCES.contains(&event.source.as_str()) {
        return Ok(Trigger::Ignore(format!("events from {} are not acted on", quoted(&event.source))));
    }
    match (event.detail_type.as_str(), &event.detail) {
        ("GuardDuty Finding", detail) => from_finding(detail),
        ("Stasis Request", Value::Object(fields)) if event.source == "stasis.drill" => from_manual(fields),
        (other, _) => Ok(Trigger::Ignore(format!("events of type {} are not acted on", quoted(other)))),
    }
}

/// A finding without its envelope.
fn from_finding(value: &Value) -> Result<Trigger, InputError> {
    let finding =
        Finding::read(value).map_err(|error| InputError::invalid("finding", format!("cannot be read: {error}")))?;
    let kind = finding.kind.as_deref().map_or_else(|| "of no type".to_owned(), quoted);
    let about = finding.resource.as_ref().and_then(|r| r.resource_type.as_deref());
    if about != Some("Instance") {
        let about = about.map_or_else(|| "nothing that it names".to_owned(), quoted);
        return Ok(Trigger::Ignore(format!("finding {kind} is about {about}, not about an EC2 instance")));
    }
    if finding.is_archived() {
        return Ok(Trigger::Ignore(format!("finding {kind} is archived: somebody has dealt with it")));
    }
    if finding.is_sample() {
        return Ok(Trigger::Ignore(format!("finding {kind} is a sample: there is no such instance")));
    }
    let instance = finding
        .resource
        .as_ref()
        .and_then(|r| r.instance_details.as_ref())
        .and_then(|d| d.instance_id.as_deref())
        .ok_or_else(|| InputError::Missing {
            key: "resource.instanceDetails.instanceId".to_owned(),
            remedy: "the finding is about an instance and names none; start a run with {\"instanceId\": \"i-…\"}"
                .to_owned(),
        })?
        .parse::<InstanceId>()
        .map_err(|error| error.under("resource.instanceDetails.instanceId"))?;
    let account = given(finding.account_id.as_deref())
        .map(str::parse)
        .transpose()
        .map_err(|e: InputError| e.under("accountId"))?;
    let region =
        given(finding.region.as_deref()).map(str::parse).transpose().map_err(|e: InputError| e.under("region"))?;
    Ok(Trigger::Act(Box::new(Request {
        remote_addresses: finding.remote_addresses(),
        instance,
        account,
        region,
        ticket: None,
        reason: None,
        mode: Mode::Contain,
        source: Source::Finding {
            id: finding.id,
            finding_type: finding.kind,
            severity: finding.severity,
            title: finding.title,
        },
    })))
}

/// A text that says something.
fn given(text: Option<&str>) -> Option<&str> {
    text.filter(|t| !t.is_empty())
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
    match text("approve")? {
        None | Some("auto") => {}
        // Acting at once on a request to ask first would be the one wrong answer.
        Some("ask") => {
            return Err(InputError::invalid(
                "approve",
                "\"ask\" is not available in this version, and nothing was done; use mode \"dry-run\" to see the plan, then \"auto\"",
            ));
        }
        Some(other) => return Err(InputError::invalid("approve", format!("{} is none of auto, ask", quoted(other)))),
    }
    let reason = text("reason")?;
    if let Some(reason) = reason
        && (reason.chars().count() > REASON_MOST || reason.chars().any(char::is_control))
    {
        return Err(InputError::invalid("reason", format!("must be one line of at most {REASON_MOST} characters")));
    }
    Ok(Trigger::Act(Box::new(Request {
        instance,
        account: text("account")?.map(str::parse).transpose()?,
        region: text("region")?.map(str::parse).transpose()?,
        ticket: text("ticket")?.map(str::parse).transpose()?,
        reason: reason.map(str::to_owned),
        mode,
        source: Source::Request,
        remote_addresses: Vec::new(),
    })))
}
