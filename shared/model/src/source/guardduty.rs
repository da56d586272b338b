//! GuardDuty's own findings: as EventBridge delivers them (camelCase) and as `GetFindings` returns them (PascalCase).
//!
//! What a finding says of an instance is not acted on unless the finding is about the instance: others carry
//! `instanceDetails` all the same, samples of every kind among them, and acting on those would isolate a wrong host.

use super::{Detection, Meaning, Named, is_true, items, lower_first, named, text, time};
use crate::error::InputError;
use crate::ids::quoted;
use serde_json::Value;
use std::collections::BTreeSet;
use std::net::IpAddr;

/// How many remote addresses of a finding are taken.
const ADDRESSES_MOST: usize = 16;
/// Attack sequences that are about machines. Those about credentials or data name instances only in passing.
const SEQUENCES: [&str; 3] = ["AttackSequence:EC2/", "AttackSequence:ECS/", "AttackSequence:EKS/"];
/// Where the instance of a finding stands.
const INSTANCE: &str = "resource.instanceDetails.instanceId";
/// Where those of an attack sequence stand.
const SEQUENCE: &str = "service.detection.sequence.resources.uid";

/// Reads a finding of either case of letters.
///
/// # Errors
/// Where a finding about instances names none, or a malformed one; the key is named.
pub fn read(value: &Value) -> Result<Meaning, InputError> {
    let finding = &lower_first(value);
    let kind = text(finding, "/type");
    let called = kind.map_or_else(|| "of no type".to_owned(), quoted);
    let about = text(finding, "/resource/resourceType");
    let is_sequence = kind.is_some_and(|kind| SEQUENCES.iter().any(|prefix| kind.starts_with(prefix)));
    if about != Some("Instance") && !is_sequence {
        return Ok(Meaning::Ignore(not_about_instances(finding, &called, about)));
    }
    if is_true(finding.pointer("/service/archived")) {
        return Ok(Meaning::Ignore(format!("finding {called} is archived: somebody has dealt with it")));
    }
    if is_sample(finding) {
        return Ok(Meaning::Ignore(format!("finding {called} is a sample: there is no such instance")));
    }
    let instances = if is_sequence { of_sequence(finding)? } else { vec![of_instance(finding)?] };
    if instances.is_empty() {
        return Ok(Meaning::Ignore(format!("finding {called} names no EC2 instance among its resources")));
    }
    Ok(Meaning::Act(Box::new(Detection {
        id: text(finding, "/id").map(str::to_owned),
        kind: kind.map(str::to_owned),
        severity: finding.get("severity").and_then(Value::as_f64),
        title: text(finding, "/title").map(str::to_owned),
        last_seen: time(finding, &["/service/eventLastSeen", "/updatedAt"]),
        instances,
        remote_addresses: remote_addresses(finding),
    })))
}

/// Why a finding is none of ours, with what to do where an instance may be behind it all the same.
fn not_about_instances(finding: &Value, called: &str, about: Option<&str>) -> String {
    let about = about.map_or_else(|| "nothing that it names".to_owned(), quoted);
    let host = text(finding, "/resource/instanceDetails/instanceId").filter(|_| !is_sample(finding));
    let host = host.map_or_else(String::new, |id| {
        format!("; it mentions the instance {}: to contain that one, start a run with its id", quoted(id))
    });
    format!("finding {called} is about {about}, not about an EC2 instance{host}")
}

fn of_instance(finding: &Value) -> Result<Named, InputError> {
    let id = text(finding, "/resource/instanceDetails/instanceId").ok_or_else(|| InputError::Missing {
        key: INSTANCE.to_owned(),
        remedy: "the finding is about an instance and names none; start a run with {\"instanceId\": \"i-…\"}"
            .to_owned(),
    })?;
    let found = named(id, None, None, INSTANCE)?;
    Ok(Named {
        account: text(finding, "/accountId")
            .map(str::parse)
            .transpose()
            .map_err(|e: InputError| e.under("accountId"))?,
        region: text(finding, "/region").map(str::parse).transpose().map_err(|e: InputError| e.under("region"))?,
        ..found
    })
}

/// The instances of an attack sequence: those among its resources, and those that a group of them lists. Whether a `uid`
/// is an ARN or an id the documentation does not say, so both are read.
fn of_sequence(finding: &Value) -> Result<Vec<Named>, InputError> {
    let (account, region) = (text(finding, "/accountId"), text(finding, "/region"));
    let mut found: BTreeSet<Named> = BTreeSet::new();
    let resources = items(finding, "/service/detection/sequence/resources");
    for resource in resources.iter().filter(|r| text(r, "/resourceType") == Some("EC2_INSTANCE")) {
        let uid = text(resource, "/uid").or_else(|| text(resource, "/name")).ok_or_else(|| InputError::Missing {
            key: SEQUENCE.to_owned(),
            remedy: "an instance of the sequence has no id; start a run with {\"instanceId\": \"i-…\"}".to_owned(),
        })?;
        let (account, region) = (text(resource, "/accountId").or(account), text(resource, "/region").or(region));
        found.insert(named(uid, account, region, SEQUENCE)?);
    }
    for resource in resources {
        let place = (text(resource, "/accountId").or(account), text(resource, "/region").or(region));
        let groups = resource.get("data").and_then(Value::as_object);
        for group in groups.into_iter().flat_map(|data| data.values()) {
            for uid in items(group, "/ec2InstanceUids").iter().filter_map(Value::as_str) {
                let listed = named(uid, place.0, place.1, "service.detection.sequence.resources.data.ec2InstanceUids")?;
                if !found.iter().any(|known| known.instance == listed.instance) {
                    found.insert(listed);
                }
            }
        }
    }
    Ok(found.into_iter().collect())
}

/// Whether it is a sample, made by a button in the console. The mark is a field in some deliveries and hidden in a text of
/// JSON in others.
fn is_sample(finding: &Value) -> bool {
    let Some(info) = finding.pointer("/service/additionalInfo") else { return false };
    let hidden = text(info, "/value").and_then(|text| serde_json::from_str::<Value>(text).ok());
    is_true(info.get("sample")) || hidden.is_some_and(|inner| is_true(inner.get("sample")))
}

/// The addresses at the other side of the connections that the finding is about. What called an AWS API is not among
/// them: it is no connection of the instance.
fn remote_addresses(finding: &Value) -> Vec<IpAddr> {
    let address = |holder: &Value| -> Option<IpAddr> {
        let details = holder.get("remoteIpDetails")?;
        ["ipAddressV4", "ipAddressV6"].iter().find_map(|key| details.get(key)?.as_str()?.parse().ok())
    };
    let connection = finding.pointer("/service/action/networkConnectionAction").into_iter();
    let probes = items(finding, "/service/action/portProbeAction/portProbeDetails");
    // Of a sequence: where it was connected with.
    let endpoints = items(finding, "/service/detection/sequence/endpoints");
    let endpoints = endpoints.iter().filter_map(|endpoint| text(endpoint, "/ip")?.parse().ok());
    let found: BTreeSet<IpAddr> = connection.chain(probes).filter_map(address).chain(endpoints).collect();
    found.into_iter().take(ADDRESSES_MOST).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn finding() -> Value {
        json!({"id": "f", "type": "Backdoor:EC2/C&CActivity.B", "severity": 8, "accountId": "111122223333",
            "region": "eu-central-1", "resource": {"resourceType": "Instance",
            "instanceDetails": {"instanceId": "i-0a1b2c3d"}}, "service": {"archived": false}})
    }

    fn acted(value: &Value) -> Detection {
        match read(value).expect("readable") {
            Meaning::Act(detection) => *detection,
            Meaning::Ignore(reason) => panic!("{reason}"),
        }
    }

    fn ignored(value: &Value) -> String {
        match read(value).expect("readable") {
            Meaning::Ignore(reason) => reason,
            Meaning::Act(detection) => panic!("{detection:?}"),
        }
    }

    #[test]
    fn a_sample_is_known_by_either_mark() {
        for info in [json!({"sample": true}), json!({"value": "{\"sample\":true}", "type": "default"})] {
            let mut sample = finding();
            sample["service"]["additionalInfo"] = info;
            assert!(ignored(&sample).contains("is a sample"));
        }
        for info in [json!(null), json!({}), json!({"value": "sample"}), json!({"sample": false}), json!("sample")] {
            let mut real = finding();
            real["service"]["additionalInfo"] = info;
            acted(&real);
        }
    }

    #[test]
    fn both_cases_of_letters_read_the_same() {
        let pascal = json!({"Id": "f", "Type": "Backdoor:EC2/C&CActivity.B", "Severity": 8.0, "AccountId": "111122223333",
            "Region": "eu-central-1", "Resource": {"ResourceType": "Instance",
            "InstanceDetails": {"InstanceId": "i-0a1b2c3d"}}, "Service": {"Archived": false}});
        assert_eq!(acted(&finding()), acted(&pascal));
    }

    #[test]
    fn an_instance_that_is_only_mentioned_is_named_and_not_acted_on() {
        for about in ["AccessKey", "EKSCluster", "Container", "S3Bucket"] {
            let mut other = finding();
            other["resource"]["resourceType"] = json!(about);
            let reason = ignored(&other);
            assert!(reason.contains(about) && reason.contains("i-0a1b2c3d"), "{reason}");
            other["service"]["additionalInfo"] = json!({"sample": true});
            assert!(!ignored(&other).contains("i-0a1b2c3d"), "the instance of a sample is nobody's");
        }
    }

    fn sequence() -> Value {
        let instance = |uid: &str, account: &str| json!({"uid": uid, "resourceType": "EC2_INSTANCE", "accountId": account, "region": "eu-central-1"});
        json!({"id": "s", "type": "AttackSequence:EC2/CompromisedInstanceGroup", "severity": 9, "accountId": "111122223333",
        "region": "eu-central-1", "resource": {"resourceType": "AttackSequence"}, "service": {"archived": false,
        "detection": {"sequence": {"endpoints": [{"id": "e", "ip": "198.51.100.7"}, {"id": "n", "domain": "x.example"}], "resources": [
            instance("arn:aws:ec2:eu-central-1:111122223333:instance/i-0000000a", "111122223333"),
            instance("i-0000000b", "222233334444"),
            {"uid": "g", "resourceType": "AUTOSCALING_AUTO_SCALING_GROUP",
             "data": {"autoscalingAutoScalingGroup": {"ec2InstanceUids": ["i-0000000a", "i-0000000c"]}}},
            {"uid": "arn:aws:iam::111122223333:instance-profile/x", "resourceType": "IAM_INSTANCE_PROFILE"},
        ]}}}})
    }

    #[test]
    fn an_attack_sequence_names_each_instance_once_with_its_own_account() {
        let detection = acted(&sequence());
        let found: Vec<(&str, &str)> = detection
            .instances
            .iter()
            .map(|n| (n.instance.as_str(), n.account.as_ref().map_or("", |a| a.as_str())))
            .collect();
        assert_eq!(
            found,
            [("i-0000000a", "111122223333"), ("i-0000000b", "222233334444"), ("i-0000000c", "111122223333")]
        );
        assert_eq!(detection.remote_addresses.len(), 1);
    }

    #[test]
    fn a_sequence_about_credentials_or_without_instances_is_ignored() {
        let mut other = sequence();
        other["type"] = json!("AttackSequence:IAM/CompromisedCredentials");
        assert!(ignored(&other).contains("\"AttackSequence\", not about an EC2 instance"));
        let mut empty = sequence();
        empty["service"]["detection"]["sequence"]["resources"] = json!([]);
        assert!(ignored(&empty).contains("names no EC2 instance"));
    }
}
