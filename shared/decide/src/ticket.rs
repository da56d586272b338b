//! Ticket: what the ticket of a case is told, at its opening and each time that the case has come further.

use crate::text::one_line;
use serde::Serialize;
use stasis_model::Timestamp;
use stasis_model::case::{Case, InstanceRef};
use stasis_model::ids::CaseId;
use stasis_model::source::Level;
use stasis_model::trigger::Source;
use std::collections::BTreeMap;

/// The detail type of events about cases; their source is `stasis`.
pub const DETAIL_TYPE: &str = "Stasis Case";
/// The longest foreign text that goes into a ticket, in characters.
const TEXT_MOST: usize = 200;

/// How far a case has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Progress {
    /// It was opened.
    Opened,
    /// People are asked.
    AwaitingApproval,
    /// It is contained.
    Contained,
    /// Something is missing.
    Partial,
    /// People said no, and it was put back.
    Rejected,
    /// It was put back.
    Released,
}

impl Progress {
    /// Its word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Opened => "OPENED",
            Self::AwaitingApproval => "AWAITING_APPROVAL",
            Self::Contained => "CONTAINED",
            Self::Partial => "PARTIAL",
            Self::Rejected => "REJECTED",
            Self::Released => "RELEASED",
        }
    }

    /// Whether nothing is held any more, so that the ticket may be closed.
    pub fn is_over(self) -> bool {
        matches!(self, Self::Rejected | Self::Released)
    }
}

/// How bad what started a case is. A request is somebody's who knows.
pub fn level(source: &Source) -> Level {
    match source {
        Source::Finding { severity: Some(severity), .. } => Level::of(*severity),
        Source::Finding { severity: None, .. } | Source::Request => Level::Critical,
    }
}

/// What an event on the bus of tickets tells.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CaseEvent {
    schema: u32,
    case_id: CaseId,
    ticket: String,
    status: Progress,
    reason: String,
    /// 1 critical to 4 low, as an OpsItem has it.
    severity: &'static str,
    instance: InstanceRef,
    finding_type: Option<String>,
    finding_id: Option<String>,
    evidence: String,
    at: Timestamp,
}

/// The event that tells how far a case has come.
pub fn event(case: &Case, progress: Progress, reason: &str, now: Timestamp) -> CaseEvent {
    let (finding_type, finding_id) = finding(&case.source);
    CaseEvent {
        schema: stasis_model::SCHEMA,
        case_id: case.case_id.clone(),
        ticket: case.ticket.to_string(),
        status: progress,
        reason: reason.to_owned(),
        severity: level(&case.source).ops_item_severity(),
        instance: case.instance.clone(),
        finding_type,
        finding_id,
        evidence: format!("s3://{}/{}", case.bucket, case.prefix()),
        at: now,
    }
}

fn finding(source: &Source) -> (Option<String>, Option<String>) {
    match source {
        Source::Finding { finding_type, id, .. } => (finding_type.as_deref().map(plain), id.as_deref().map(plain)),
        Source::Request => (None, None),
    }
}

fn plain(text: &str) -> String {
    one_line(text, TEXT_MOST)
}

/// The ARN of an instance.
fn arn(instance: &InstanceRef) -> String {
    let partition = instance.region.partition();
    format!("arn:{partition}:ec2:{}:{}:instance/{}", instance.region, instance.account, instance.instance_id)
}

/// What an OpsItem holds of a case from the beginning: the case, the finding, and the instance as its related resource
/// (<https://docs.aws.amazon.com/systems-manager/latest/userguide/OpsCenter-working-operational-data.html>).
pub fn data_at_opening(
    case_id: &CaseId,
    instance: &InstanceRef,
    source: &Source,
    bucket: &str,
) -> BTreeMap<&'static str, String> {
    let mut data = BTreeMap::from([
        ("/aws/resources", format!("[{{\"arn\":\"{}\"}}]", arn(instance))),
        ("stasis-case", case_id.to_string()),
        ("stasis-status", Progress::Opened.word().to_owned()),
        ("stasis-evidence", format!("s3://{bucket}/cases/{case_id}/")),
    ]);
    if let (Some(kind), id) = finding(source) {
        data.insert("stasis-finding", format!("{kind} {}", id.unwrap_or_default()).trim_end().to_owned());
    }
    data
}

/// What an OpsItem is told later.
pub fn data_of(progress: Progress, reason: &str, now: Timestamp) -> BTreeMap<&'static str, String> {
    BTreeMap::from([
        ("stasis-status", progress.word().to_owned()),
        ("stasis-reason", reason.to_owned()),
        ("stasis-updated", now.to_rfc3339()),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample;
    use serde_json::{Value, json};

    #[test]
    fn an_ops_item_names_case_finding_and_instance_and_foreign_text_stays_harmless() {
        let case = sample::case();
        let source = Source::Finding {
            id: Some("f\n1".to_owned()),
            finding_type: Some("x".repeat(1000)),
            severity: Some(8.0),
            title: None,
        };
        let data = data_at_opening(&case.case_id, &case.instance, &source, "evidence");
        let resources: Value = serde_json::from_str(&data["/aws/resources"]).expect("JSON");
        assert_eq!(resources, json!([{"arn": "arn:aws:ec2:eu-central-1:111122223333:instance/i-0a1b2c3d4e5f67890"}]));
        assert!(data["stasis-finding"].len() < 420 && !data["stasis-finding"].contains('\n'));
        assert!(!data_at_opening(&case.case_id, &case.instance, &Source::Request, "b").contains_key("stasis-finding"));
        // Systems Manager takes no other keys of its own.
        assert!(data.keys().all(|key| *key == "/aws/resources" || key.starts_with("stasis-")));
    }

    #[test]
    fn an_event_tells_what_a_connector_needs() {
        let case = sample::case();
        let told = serde_json::to_value(event(&case, Progress::Contained, "held", sample::time())).expect("JSON");
        assert_eq!((told["status"].as_str(), told["ticket"].as_str()), (Some("CONTAINED"), Some("INC-42")));
        assert_eq!(told["instance"]["instanceId"], case.instance.instance_id.as_str());
        assert_eq!(told["evidence"], format!("s3://evidence/cases/{}/", case.case_id));
        for progress in [
            Progress::Opened,
            Progress::AwaitingApproval,
            Progress::Contained,
            Progress::Partial,
            Progress::Rejected,
            Progress::Released,
        ] {
            assert_eq!(serde_json::to_value(progress).expect("JSON"), progress.word());
        }
    }
}
