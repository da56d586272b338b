//! Findings of the new Security Hub, in the Open Cybersecurity Schema Framework
//! (<https://schema.ocsf.io/1.6.0/classes/detection_finding>), as 'Findings Imported V2' brings them. GuardDuty's detections
//! about EC2 instances are acted on.

use super::{Detection, Meaning, Named, is_true, items, named, text, time};
use crate::error::InputError;
use crate::ids::quoted;
use serde_json::Value;

/// The class of detections; others are about compliance, vulnerabilities, data.
const DETECTION_FINDING: u64 = 2004;
/// Where the instance of a finding stands.
const INSTANCE: &str = "resources.uid";

/// Whether a value looks like such a finding.
pub fn is_one(value: &Value) -> bool {
    value.get("class_uid").is_some() || value.get("finding_info").is_some()
}

/// Reads a finding.
///
/// # Errors
/// Where a finding about an instance names a malformed one; the key is named.
pub fn read(finding: &Value) -> Result<Meaning, InputError> {
    let types: Vec<&str> = items(finding, "/finding_info/types").iter().filter_map(Value::as_str).collect();
    let kind = types.iter().find(|kind| kind.contains(':')).or(types.first()).copied();
    let called = kind.map_or_else(|| "of no type".to_owned(), quoted);
    let ignore = |why: &str| Ok(Meaning::Ignore(format!("Security Hub finding {called} {why}")));
    if finding.get("class_uid").and_then(Value::as_u64) != Some(DETECTION_FINDING) {
        return ignore("is no detection (class 2004)");
    }
    if text(finding, "/metadata/product/name") != Some("GuardDuty") {
        return ignore("is not GuardDuty's: only those are acted on");
    }
    let resources = items(finding, "/resources");
    let is_instance = |r: &&Value| matches!(text(r, "/type"), Some("AWS::EC2::Instance" | "AwsEc2Instance"));
    let instances: Vec<&Value> = resources.iter().filter(is_instance).collect();
    let first = resources.first().and_then(|r| text(r, "/type"));
    // A container's host stands among the resources of a finding about the container.
    if instances.is_empty() || first.is_some_and(|kind| kind.contains("Container")) {
        let about = first.map_or_else(|| "nothing".to_owned(), quoted);
        return ignore(&format!("is about {about}, not about an EC2 instance"));
    }
    // 3 suppressed, 4 resolved, 5 archived, 6 deleted.
    let status = finding.get("status_id").and_then(Value::as_u64);
    let status_name = text(finding, "/status").map(str::to_lowercase);
    if matches!(status, Some(3..=6))
        || matches!(status_name.as_deref(), Some("suppressed" | "resolved" | "archived" | "deleted"))
    {
        return ignore("is suppressed, resolved or archived: somebody has dealt with it");
    }
    let sampled = is_true(finding.pointer("/unmapped/sample")) || is_true(finding.get("is_sample"));
    if sampled || text(finding, "/finding_info/title").is_some_and(|title| title.starts_with("[SAMPLE")) {
        return ignore("is a sample: there is no such instance");
    }
    let (account, region) = (text(finding, "/cloud/account/uid"), text(finding, "/cloud/region"));
    let mut found: Vec<Named> = Vec::new();
    for resource in instances {
        let (account, region) =
            (text(resource, "/owner/account/uid").or(account), text(resource, "/region").or(region));
        found.push(named(text(resource, "/uid").unwrap_or_default(), account, region, INSTANCE)?);
    }
    found.sort();
    found.dedup();
    Ok(Meaning::Act(Box::new(Detection {
        id: text(finding, "/finding_info/uid").map(str::to_owned),
        kind: kind.map(str::to_owned),
        severity: severity(finding),
        title: text(finding, "/finding_info/title").map(str::to_owned),
        last_seen: time(finding, &["/finding_info/last_seen_time", "/finding_info/modified_time", "/time"]),
        instances: found,
        remote_addresses: Vec::new(),
    })))
}

/// OCSF's severity on GuardDuty's scale: the lowest of each level.
fn severity(finding: &Value) -> Option<f64> {
    match finding.get("severity_id").and_then(Value::as_u64)? {
        1 | 2 => Some(1.0),
        3 => Some(4.0),
        4 => Some(7.0),
        5 => Some(9.0),
        6 => Some(10.0),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn finding() -> Value {
        json!({"class_uid": 2004, "metadata": {"product": {"name": "GuardDuty"}}, "severity_id": 4, "status_id": 1, "status": "New",
            "finding_info": {"uid": "f", "title": "t", "types": ["Threats", "CryptoCurrency:EC2/BitcoinTool.B!DNS"]},
            "cloud": {"account": {"uid": "111122223333"}, "region": "eu-central-1"},
            "resources": [{"type": "AWS::EC2::Instance", "uid": "i-0a1b2c3d"}]})
    }

    #[test]
    fn a_detection_about_an_instance_is_acted_on() {
        let Meaning::Act(found) = read(&finding()).expect("readable") else { panic!() };
        assert_eq!(found.kind.as_deref(), Some("CryptoCurrency:EC2/BitcoinTool.B!DNS"));
        assert_eq!((found.instances.len(), found.severity), (1, Some(7.0)));
        assert_eq!(found.instances[0].account.as_ref().map(|a| a.as_str()), Some("111122223333"));
    }

    #[test]
    fn everything_else_is_ignored_by_name() {
        let table: [(&str, Value, &str); 7] = [
            ("/class_uid", json!(2002), "no detection"),
            ("/class_uid", json!(null), "no detection"),
            ("/metadata/product/name", json!("Macie"), "not GuardDuty's"),
            ("/resources", json!([{"type": "AwsS3Bucket", "uid": "arn:aws:s3:::b"}]), "\"AwsS3Bucket\""),
            (
                "/resources",
                json!([{"type": "Container", "uid": "c"}, {"type": "AWS::EC2::Instance", "uid": "i-0a1b2c3d"}]),
                "\"Container\"",
            ),
            ("/status_id", json!(3), "suppressed"),
            ("/status", json!("Resolved"), "resolved"),
        ];
        for (pointer, value, part) in table {
            let mut other = finding();
            *other.pointer_mut(pointer).expect("a place") = value;
            let Meaning::Ignore(reason) = read(&other).expect("readable") else { panic!("{pointer}") };
            assert!(reason.contains(part), "{pointer}: {reason}");
        }
    }

    #[test]
    fn a_malformed_instance_is_refused_by_its_key() {
        let mut wrong = finding();
        wrong["resources"][0]["uid"] = json!("arn:aws:ec2:us-east-1:123456789012:instance/i-test-instance");
        assert!(read(&wrong).expect_err("refused").to_string().starts_with("resources.uid: "));
    }
}
