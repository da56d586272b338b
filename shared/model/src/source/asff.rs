//! Security Hub's findings in the AWS Security Finding Format
//! (<https://docs.aws.amazon.com/securityhub/latest/userguide/securityhub-findings-format.html>). Of the many products that
//! send them, GuardDuty's about EC2 instances are acted on: what others say of an instance is a setting, no intruder.

use super::{Detection, Meaning, Named, is_true, items, lower_first, named, text, time};
use crate::error::InputError;
use crate::ids::quoted;
use serde_json::Value;

/// Where the instance of a finding stands.
const INSTANCE: &str = "Resources.Id";

/// Whether a value looks like such a finding.
pub fn is_one(value: &Value) -> bool {
    let has = |key: &str| value.get(key).is_some();
    has("ProductArn") || (has("SchemaVersion") && has("Resources"))
}

/// Reads a finding.
///
/// # Errors
/// Where a finding about an instance names a malformed one; the key is named.
pub fn read(value: &Value) -> Result<Meaning, InputError> {
    let finding = &lower_first(value);
    let types: Vec<&str> = items(finding, "/types").iter().filter_map(Value::as_str).collect();
    let called = types.first().map_or_else(|| "of no type".to_owned(), |kind| quoted(kind));
    let ignore = |why: &str| Ok(Meaning::Ignore(format!("Security Hub finding {called} {why}")));
    let by_guardduty = text(finding, "/productName") == Some("GuardDuty")
        || text(finding, "/productArn").is_some_and(|arn| arn.ends_with("product/aws/guardduty"));
    if !by_guardduty {
        return ignore("is not GuardDuty's: only those are acted on");
    }
    // Security Hub writes `TTPs/Initial Access/UnauthorizedAccess:EC2-SSHBruteForce`, with the slash kept in sequences.
    let is_about_instances = types.iter().any(|kind| kind.contains(":EC2") || kind.contains(":Runtime"));
    let resources = items(finding, "/resources");
    let instances: Vec<&Value> = resources.iter().filter(|r| text(r, "/type") == Some("AwsEc2Instance")).collect();
    if !is_about_instances || instances.is_empty() {
        let about = resources.first().and_then(|r| text(r, "/type")).map_or_else(|| "nothing".to_owned(), quoted);
        return ignore(&format!("is about {about}, not about an EC2 instance"));
    }
    if text(finding, "/recordState") == Some("ARCHIVED") {
        return ignore("is archived: somebody has dealt with it");
    }
    if let Some(status @ ("RESOLVED" | "SUPPRESSED")) = text(finding, "/workflow/status") {
        return ignore(&format!("is {}: somebody has dealt with it", status.to_lowercase()));
    }
    if is_sample(finding) {
        return ignore("is a sample: there is no such instance");
    }
    let (account, region) = (text(finding, "/awsAccountId"), text(finding, "/region"));
    let mut found: Vec<Named> = Vec::new();
    for resource in instances {
        let uid = text(resource, "/id").unwrap_or_default();
        found.push(named(uid, account, text(resource, "/region").or(region), INSTANCE)?);
    }
    found.sort();
    found.dedup();
    Ok(Meaning::Act(Box::new(Detection {
        id: text(finding, "/id").map(str::to_owned),
        kind: types.first().map(|kind| guardduty_type(kind)),
        severity: severity(finding),
        title: text(finding, "/title").map(str::to_owned),
        last_seen: time(finding, &["/lastObservedAt", "/updatedAt"]),
        instances: found,
        remote_addresses: text(finding, "/network/destinationIpV4")
            .or_else(|| text(finding, "/network/sourceIpV4"))
            .and_then(|address| address.parse().ok())
            .into_iter()
            .collect(),
    })))
}

/// GuardDuty's own name of a type: Security Hub puts its taxonomy before it and a dash for its slash.
fn guardduty_type(kind: &str) -> String {
    let Some(colon) = kind.find(':') else { return kind.to_owned() };
    let begin = kind.get(..colon).and_then(|before| before.rfind('/')).map_or(0, |slash| slash + 1);
    let own = kind.get(begin..).unwrap_or(kind);
    if own.contains('/') { own.to_owned() } else { own.replacen('-', "/", 1) }
}

/// Security Hub's severity on GuardDuty's scale
/// (<https://docs.aws.amazon.com/securityhub/1.0/APIReference/API_Severity.html>).
fn severity(finding: &Value) -> Option<f64> {
    let of = |pointer: &str| finding.pointer(pointer).and_then(Value::as_f64).filter(|s| *s > 0.0);
    let labelled = match text(finding, "/severity/label") {
        Some("CRITICAL") => Some(9.0),
        Some("HIGH") => Some(7.0),
        Some("MEDIUM") => Some(4.0),
        Some("LOW" | "INFORMATIONAL") => Some(1.0),
        _ => None,
    };
    of("/severity/product").or(labelled).or_else(|| Some((of("/severity/normalized")? / 10.0).clamp(1.0, 10.0)))
}

/// Whether Security Hub or GuardDuty marks it as a sample.
fn is_sample(finding: &Value) -> bool {
    let marked = |key: &str| is_true(finding.get("productFields").and_then(|fields| fields.get(key)));
    is_true(finding.get("sample"))
        || marked("aws/guardduty/service/additionalInfo/sample")
        || text(finding, "/title").is_some_and(|title| title.starts_with("[SAMPLE"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn finding() -> Value {
        json!({"SchemaVersion": "2018-10-08", "Id": "f", "ProductArn": "arn:aws:securityhub:eu-central-1::product/aws/guardduty",
            "AwsAccountId": "111122223333", "Region": "eu-central-1", "Title": "t", "RecordState": "ACTIVE",
            "Types": ["TTPs/Initial Access/UnauthorizedAccess:EC2-SSHBruteForce"], "Workflow": {"Status": "NEW"},
            "Severity": {"Label": "HIGH", "Normalized": 70},
            "Resources": [{"Type": "AwsEc2Instance", "Id": "arn:aws:ec2:eu-central-1:111122223333:instance/i-0a1b2c3d"}]})
    }

    #[test]
    fn guardduty_s_finding_about_an_instance_is_acted_on_by_its_own_type() {
        let Meaning::Act(found) = read(&finding()).expect("readable") else { panic!() };
        assert_eq!(found.kind.as_deref(), Some("UnauthorizedAccess:EC2/SSHBruteForce"));
        assert_eq!((found.instances.len(), found.severity), (1, Some(7.0)));
        assert_eq!(
            guardduty_type("TTPs/AttackSequence:EC2/CompromisedInstanceGroup"),
            "AttackSequence:EC2/CompromisedInstanceGroup"
        );
        assert_eq!(guardduty_type("no colon"), "no colon");
    }

    #[test]
    fn everything_else_is_ignored_by_name() {
        let table: [(&str, Value, &str); 8] = [
            ("/ProductArn", json!("arn:aws:securityhub:eu-central-1::product/aws/inspector"), "not GuardDuty's"),
            ("/Types", json!(["TTPs/Exfiltration:S3-ObjectRead.Unusual"]), "not about an EC2 instance"),
            ("/Resources", json!([{"Type": "AwsS3Bucket", "Id": "arn:aws:s3:::b"}]), "\"AwsS3Bucket\""),
            ("/Resources", json!("none"), "about nothing"),
            ("/RecordState", json!("ARCHIVED"), "archived"),
            ("/Workflow/Status", json!("SUPPRESSED"), "suppressed"),
            ("/Workflow/Status", json!("RESOLVED"), "resolved"),
            ("/Title", json!("[SAMPLE] an instance is querying a domain"), "sample"),
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
        wrong["Resources"][0]["Id"] = json!("arn:aws:ec2:eu-central-1:111122223333:instance/i-zz");
        assert!(read(&wrong).expect_err("refused").to_string().starts_with("Resources.Id: "));
    }
}
