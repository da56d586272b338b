//! Every sample in events/ means what its folder says, and every published finding, where they are at hand,
//! means what its index says.

#![allow(clippy::expect_used, clippy::panic, reason = "tests")]

use proptest::prelude::*;
use serde_json::Value;
use stasis_model::ids::InstanceId;
use stasis_model::trigger::Trigger;
use std::path::{Path, PathBuf};

/// Asked of cargo as the test runs: a target folder that several checkouts share keeps the path of the first.
fn root() -> PathBuf {
    let package = std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo runs this test");
    Path::new(&package).join("../..")
}

fn samples(folder: &str) -> Vec<(String, Value)> {
    let mut found: Vec<(String, Value)> = std::fs::read_dir(root().join("events").join(folder))
        .expect("the folder")
        .map(|entry| {
            let path = entry.expect("an entry").path();
            let name = path.file_name().expect("a name").to_string_lossy().into_owned();
            let text = std::fs::read_to_string(&path).expect("readable");
            (name, serde_json::from_str(&text).expect("JSON"))
        })
        .collect();
    found.sort_by(|a, b| a.0.cmp(&b.0));
    assert!(!found.is_empty(), "{folder}");
    found
}

#[test]
fn findings_and_requests_name_the_instance() {
    let expected: InstanceId = "i-0a1b2c3d4e5f67890".parse().expect("id");
    for folder in ["guardduty", "manual"] {
        for (name, sample) in samples(folder) {
            match Trigger::read(&sample) {
                Ok(Trigger::Act(request)) => assert_eq!(request.instance, expected, "{name}"),
                other => panic!("{name}: {other:?}"),
            }
        }
    }
}

#[test]
fn what_is_not_ours_is_ignored_with_a_reason_that_names_why() {
    let reasons = [
        ("access-key-with-instance-details.json", "\"AccessKey\""),
        ("archived-as-text.json", "archived"),
        ("archived.json", "archived"),
        ("bucket.json", "\"S3Bucket\""),
        ("no-resource.json", "nothing that it names"),
        ("other-detail-type.json", "Malware Protection"),
        ("other-source.json", "\"aws.ec2\""),
        ("sample-mark-in-text.json", "sample"),
        ("sample.json", "sample"),
    ];
    let samples = samples("ignored");
    assert_eq!(samples.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), reasons.map(|(name, _)| name));
    for ((name, sample), (_, part)) in samples.iter().zip(reasons) {
        match Trigger::read(sample) {
            Ok(Trigger::Ignore(reason)) => assert!(reason.contains(part), "{name}: {reason}"),
            other => panic!("{name}: {other:?}"),
        }
    }
}

#[test]
fn what_is_malformed_is_refused_and_the_key_is_named() {
    let messages = [
        ("approve-ask.json", "approve: \"ask\" is not available"),
        ("bad-account.json", "account: \"1234\" is not an account id"),
        ("bad-region.json", "region: \"Frankfurt\" is not a region"),
        ("bad-ticket.json", "ticket: \"<b>INC</b>\" is not a ticket"),
        ("empty.json", "instanceId: missing"),
        ("event-without-source.json", "event: is not an EventBridge event"),
        (
            "finding-with-placeholder.json",
            "resource.instanceDetails.instanceId: \"${instance_id}\" is not an instance id",
        ),
        ("finding-without-instance-id.json", "resource.instanceDetails.instanceId: missing"),
        ("malformed-id.json", "instanceId: \"i-archived123456789\" is not an instance id"),
        ("not-an-object.json", "input: must be a JSON object"),
        ("reason-with-control-character.json", "reason: must be one line"),
        ("two-findings.json", "Findings: must hold exactly one"),
        ("unknown-approve.json", "approve: \"yes\" is none of"),
        ("unknown-key.json", "\"tickett\": unknown key; known are instanceId"),
        ("unknown-mode.json", "mode: \"destroy\" is none of"),
        ("wrong-type.json", "instanceId: must be a string"),
    ];
    let samples = samples("invalid");
    assert_eq!(samples.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), messages.map(|(name, _)| name));
    for ((name, sample), (_, part)) in samples.iter().zip(messages) {
        match Trigger::read(sample) {
            Err(error) => assert!(error.to_string().contains(part), "{name}: {error}"),
            other => panic!("{name}: {other:?}"),
        }
    }
}

/// The corpus of published findings lies beside the checkout for those who have it.
#[test]
fn published_guardduty_findings_never_name_a_wrong_host() {
    let folder = root().join("../shared/findings");
    let Ok(entries) = std::fs::read_dir(&folder) else { return };
    let mut acted = 0;
    for entry in entries {
        let path = entry.expect("an entry").path();
        let Ok(value) = std::fs::read_to_string(&path)
            .map_err(|_| ())
            .and_then(|t| serde_json::from_str::<Value>(&t).map_err(|_| ()))
        else {
            continue;
        };
        if let Ok(Trigger::Act(request)) = Trigger::read(&value) {
            acted += 1;
            let finding = value.get("detail").unwrap_or(&value);
            let finding = finding.get("Findings").and_then(|f| f.get(0)).unwrap_or(finding);
            let resource = finding.get("resource").or_else(|| finding.get("Resource")).expect("a resource");
            let kind = resource.get("resourceType").or_else(|| resource.get("ResourceType")).and_then(Value::as_str);
            assert_eq!(kind, Some("Instance"), "{path:?}");
            assert!(resource.to_string().contains(request.instance.as_str()), "{path:?}");
        }
    }
    assert!(acted > 0, "the corpus holds findings about instances");
}

fn any_json() -> impl Strategy<Value = Value> {
    let keys = prop_oneof![
        Just("instanceId".to_owned()),
        Just("detail".to_owned()),
        Just("detail-type".to_owned()),
        Just("source".to_owned()),
        Just("resource".to_owned()),
        Just("resourceType".to_owned()),
        Just("instanceDetails".to_owned()),
        Just("service".to_owned()),
        Just("Findings".to_owned()),
        Just("mode".to_owned()),
        ".{0,6}",
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
        Just(Value::from("i-0a1b2c3d")),
        Just(Value::from("Instance")),
        Just(Value::from("GuardDuty Finding")),
        Just(Value::from("stasis.drill")),
    ];
    leaf.prop_recursive(6, 64, 6, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::vec((keys.clone(), inner), 0..6)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

proptest! {
    /// Whatever comes in, triage does not panic, and what it acts on is a well-formed id.
    #[test]
    fn any_json_is_read_without_a_panic(value in any_json()) {
        if let Ok(Trigger::Act(request)) = Trigger::read(&value) {
            prop_assert!(request.instance.as_str().starts_with("i-"));
        }
    }
}
