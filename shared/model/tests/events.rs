//! Every sample in events/ means what its folder says, and every published finding, where they are at hand,
//! means what its index says.

#![allow(clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use proptest::prelude::*;
use serde_json::{Value, json};
use stasis_model::error::InputError;
use stasis_model::trigger::{Source, Trigger};
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

/// A source whose events are requests, as the samples use it.
fn read(input: &Value) -> Result<Trigger, InputError> {
    Trigger::read(input, &["example.edr".to_owned()])
}

/// The instances that an input is about; none where it is ignored or refused.
fn instances(input: &Value) -> Vec<String> {
    match read(input) {
        Ok(Trigger::Act { requests, .. }) => requests.iter().map(|r| r.instance.to_string()).collect(),
        Ok(Trigger::Divide { parts, .. }) => {
            parts.iter().flat_map(|skip| instances(&json!({"skip": skip, "event": input}))).collect()
        }
        Ok(Trigger::Ignore(_)) | Err(_) => Vec::new(),
    }
}

#[test]
fn findings_and_requests_name_the_instance() {
    for folder in ["guardduty", "securityhub", "manual"] {
        for (name, sample) in samples(folder) {
            match read(&sample) {
                Ok(Trigger::Act { requests, .. }) => {
                    let found: Vec<&str> = requests.iter().map(|r| r.instance.as_str()).collect();
                    assert_eq!(found, ["i-0a1b2c3d4e5f67890"], "{name}");
                    if let Source::Finding { finding_type, severity, .. } = &requests[0].source {
                        assert!(
                            finding_type
                                .as_ref()
                                .is_some_and(|kind| kind.contains(":EC2/") || kind.contains(":Runtime/")),
                            "{name}"
                        );
                        assert!(severity.is_some_and(|severity| (1.0..=10.0).contains(&severity)), "{name}");
                    }
                }
                other => panic!("{name}: {other:?}"),
            }
        }
    }
}

#[test]
fn an_attack_sequence_names_each_of_its_instances_with_its_account() {
    let (_, sample) = samples("sequence").remove(0);
    let Ok(Trigger::Act { requests, skipped }) = read(&sample) else { panic!("{:?}", read(&sample)) };
    let found: Vec<(&str, &str)> = requests
        .iter()
        .map(|r| (r.instance.as_str(), r.account.as_ref().map_or("", |account| account.as_str())))
        .collect();
    assert_eq!(
        found,
        [
            ("i-0a1b2c3d4e5f67890", "111122223333"),
            ("i-0b1b2c3d4e5f67890", "111122223333"),
            ("i-0c1b2c3d4e5f67890", "222233334444"),
        ]
    );
    assert!(skipped.is_empty() && requests.iter().all(|r| r.remote_addresses.len() == 1));
}

#[test]
fn what_names_more_instances_than_one_run_takes_is_divided_and_its_parts_are_all_of_it() {
    let (_, sample) = samples("sequence").into_iter().find(|(name, _)| name == "group-of-many.json").expect("it");
    assert_eq!(read(&sample), Ok(Trigger::Divide { instances: 21, parts: vec![0, 10, 20] }));
    let part = |skip: usize, event: &Value| {
        read(&json!({"skip": skip, "event": event, "AWS_STEP_FUNCTIONS_STARTED_BY_EXECUTION_ID": "arn:aws:states:…"}))
    };
    for (skip, count) in [(0, 10), (10, 10), (20, 1)] {
        match part(skip, &sample) {
            Ok(Trigger::Act { requests, .. }) => assert_eq!(requests.len(), count),
            other => panic!("{skip}: {other:?}"),
        }
    }
    let wanted: Vec<String> = (0..21).map(|number| format!("i-{number:017x}")).collect();
    assert_eq!(instances(&sample), wanted);
    assert_eq!(read(&json!({"skip": 10.0, "event": sample})), part(10, &sample), "as an expression may write it");
    // A part of a part is none, and what is ignored stays so.
    let refused = part(0, &json!({"skip": 10, "event": sample}));
    assert!(refused.as_ref().is_err_and(|error| error.to_string().contains("unknown key")), "{refused:?}");
    for (_, ignored) in samples("ignored") {
        assert_eq!(part(10, &ignored), read(&ignored));
    }
    for skip in [json!(-1), json!("10"), json!(1.5), Value::Null] {
        let refused = read(&json!({"skip": skip, "event": sample}));
        assert!(refused.is_err_and(|error| error.to_string().starts_with("skip: ")), "{skip}");
    }
}

#[test]
fn the_first_part_alone_tells_what_is_none_of_ours() {
    let finding = |number: usize| {
        json!({"SchemaVersion": "2018-10-08", "Id": "f", "ProductArn": "arn:aws:securityhub:eu-central-1::product/aws/guardduty",
            "Types": ["TTPs/Command and Control/CryptoCurrency:EC2-BitcoinTool.B!DNS"], "Severity": {"Label": "HIGH"},
            "Resources": [{"Type": if number == 0 { "AwsS3Bucket" } else { "AwsEc2Instance" },
                "Id": format!("arn:aws:ec2:eu-central-1:111122223333:instance/i-{number:017}")}]})
    };
    let many = json!({"Findings": (0..=11).map(finding).collect::<Vec<_>>()});
    assert_eq!(read(&many), Ok(Trigger::Divide { instances: 11, parts: vec![0, 10] }));
    for (skip, told) in [(0, 1), (10, 0)] {
        match read(&json!({"skip": skip, "event": many})) {
            Ok(Trigger::Act { skipped, .. }) => assert_eq!(skipped.len(), told),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn what_is_none_of_ours_in_a_list_keeps_the_rest_from_nothing_and_is_told() {
    let (_, sample) = samples("securityhub").into_iter().find(|(name, _)| name.starts_with("custom")).expect("it");
    let Ok(Trigger::Act { requests, skipped }) = read(&sample) else { panic!() };
    assert_eq!((requests.len(), skipped.len()), (1, 1));
    assert!(skipped[0].contains("AwsS3Bucket"), "{skipped:?}");
}

#[test]
fn a_source_that_nobody_named_is_ignored() {
    let (_, sample) = samples("manual").into_iter().find(|(name, _)| name == "from-an-edr.json").expect("it");
    match Trigger::read(&sample, &[]) {
        Ok(Trigger::Ignore(reason)) => assert!(reason.contains("\"example.edr\""), "{reason}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_is_not_ours_is_ignored_with_a_reason_that_names_why() {
    let reasons = [
        ("access-key-with-instance-details.json", "\"AccessKey\""),
        ("archived-as-text.json", "archived"),
        ("archived.json", "archived"),
        ("bucket.json", "\"S3Bucket\""),
        ("container-of-a-cluster.json", "\"EKSCluster\", not about an EC2 instance; it mentions the instance"),
        ("credentials-used-elsewhere.json", "to contain that one, start a run with its id"),
        ("no-resource.json", "nothing that it names"),
        ("other-detail-type.json", "Malware Protection"),
        ("other-source.json", "\"aws.ec2\""),
        ("sample-mark-in-text.json", "sample"),
        ("sample.json", "sample"),
        ("security-hub-other-product.json", "is not GuardDuty's"),
        ("security-hub-suppressed.json", "suppressed"),
        ("security-hub-v2-vulnerability.json", "no detection"),
        ("sequence-about-credentials.json", "\"AttackSequence\""),
    ];
    let samples = samples("ignored");
    assert_eq!(samples.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), reasons.map(|(name, _)| name));
    for ((name, sample), (_, part)) in samples.iter().zip(reasons) {
        match read(sample) {
            Ok(Trigger::Ignore(reason)) => assert!(reason.contains(part), "{name}: {reason}"),
            other => panic!("{name}: {other:?}"),
        }
    }
}

#[test]
fn what_is_malformed_is_refused_and_the_key_is_named() {
    let messages = [
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
        ("no-findings.json", "findings: must be a list of at least one"),
        ("not-an-object.json", "input: must be a JSON object"),
        ("part-beyond-the-event.json", "skip: is 10, and the event names 1 instances"),
        ("part-without-event.json", "event: missing"),
        ("reason-with-control-character.json", "reason: must be one line"),
        ("security-hub-masked-id.json", "Resources.Id: "),
        ("security-hub-v2-bad-region.json", "resources.uid: \"frankfurt\" is not a region"),
        ("unknown-approve.json", "approve: \"yes\" is none of"),
        ("unknown-key.json", "\"tickett\": unknown key; known are instanceId"),
        ("unknown-mode.json", "mode: \"destroy\" is none of"),
        ("wrong-type.json", "instanceId: must be a string"),
    ];
    let samples = samples("invalid");
    assert_eq!(samples.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), messages.map(|(name, _)| name));
    for ((name, sample), (_, part)) in samples.iter().zip(messages) {
        match read(sample) {
            Err(error) => assert!(error.to_string().contains(part), "{name}: {error}"),
            other => panic!("{name}: {other:?}"),
        }
    }
}

/// The corpus of published findings lies beside the checkout for those who have it. Its index says of each which
/// instances are to be acted on if it were neither a sample nor archived.
#[test]
fn published_findings_are_read_as_their_index_says() {
    let folder = root().join("../shared/findings");
    let Ok(index) = std::fs::read_to_string(folder.join("INDEX.tsv")) else { return };
    let mut lines = index.lines();
    let columns: Vec<&str> = lines.next().expect("a head").split('\t').collect();
    let at = |name: &str| columns.iter().position(|c| *c == name).expect("a column");
    let (file, expected, account, oddities) = (at("file"), at("instance_ids_expected"), at("account"), at("oddities"));
    let (mut acted, mut real, mut read_all) = (0, 0, 0);
    for line in lines {
        let cells: Vec<&str> = line.split('\t').collect();
        let Ok(text) = std::fs::read_to_string(folder.join(cells[file])) else { continue };
        let Ok(value) = serde_json::from_str::<Value>(&text) else { continue };
        read_all += 1;
        let found = instances(&value);
        let withheld = ["sample=true", "archived=true", "Suppressed", "placeholder"];
        let is_account = cells[account].len() == 12 && cells[account].bytes().all(|b| b.is_ascii_digit());
        let is_withheld = withheld.iter().any(|mark| cells[oddities].contains(mark)) || !is_account;
        let wanted: Vec<&str> = cells[expected].split([',', ';']).filter(|id| !id.is_empty()).collect();
        let what = cells[file];
        if found.is_empty() {
            assert!(wanted.is_empty() || is_withheld, "{what}: {wanted:?} is missed: {:?}", read(&value));
        } else {
            assert_eq!(found, wanted, "{what} is about others: {}", cells[oddities]);
            acted += 1;
        }
        // The same finding, were it real: nothing but its mark keeps a sample from being acted on.
        if is_account {
            assert_eq!(
                instances(&as_if_real(&value)),
                wanted,
                "{what} without its marks: {:?}",
                read(&as_if_real(&value))
            );
            real += usize::from(!wanted.is_empty());
        }
    }
    assert!(acted >= 8 && real >= 25 && read_all >= 100, "{acted} and {real} of {read_all}");
}

/// A finding without what marks it as a sample or as dealt with.
fn as_if_real(value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            let kept = fields.iter().filter(|(key, _)| !key.eq_ignore_ascii_case("additionalInfo"));
            let kept =
                kept.filter(|(key, _)| !key.eq_ignore_ascii_case("archived") && !key.eq_ignore_ascii_case("sample"));
            Value::Object(kept.map(|(key, inner)| (key.clone(), as_if_real(inner))).collect())
        }
        Value::Array(items) => Value::Array(items.iter().map(as_if_real).collect()),
        other => other.clone(),
    }
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
        Just("findings".to_owned()),
        Just("class_uid".to_owned()),
        Just("resources".to_owned()),
        Just("Resources".to_owned()),
        Just("ProductArn".to_owned()),
        Just("Types".to_owned()),
        Just("type".to_owned()),
        Just("uid".to_owned()),
        Just("detection".to_owned()),
        Just("sequence".to_owned()),
        Just("mode".to_owned()),
        Just("skip".to_owned()),
        Just("event".to_owned()),
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
        Just(Value::from("Findings Imported V2")),
        Just(Value::from("aws.securityhub")),
        Just(Value::from("AttackSequence:EC2/CompromisedInstanceGroup")),
        Just(Value::from("EC2_INSTANCE")),
        Just(Value::from("AwsEc2Instance")),
        Just(Value::from(2004)),
        Just(Value::from("arn:aws:securityhub:eu-central-1::product/aws/guardduty")),
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
        if let Ok(Trigger::Act { requests, .. }) = read(&value) {
            prop_assert!(!requests.is_empty() && requests.iter().all(|r| r.instance.as_str().starts_with("i-")));
        }
    }
}
