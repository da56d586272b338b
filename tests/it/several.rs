//! One event, several instances: an attack sequence, and events that carry more than one finding.

use crate::local::local;
use crate::suspect::Suspect;
use serde_json::{Value, json};

const ACCOUNT: &str = "111122223333";

fn sequence(instances: &[&str]) -> Value {
    let resources: Vec<Value> = instances
        .iter()
        .map(|id| {
            json!({"uid": format!("arn:aws:ec2:eu-central-1:{ACCOUNT}:instance/{id}"), "resourceType": "EC2_INSTANCE",
                "accountId": ACCOUNT, "region": "eu-central-1"})
        })
        .collect();
    json!({"schemaVersion": "2.0", "id": "5ec7a1f09d3b4c6e8a20b1d4c7f3e965", "accountId": ACCOUNT, "region": "eu-central-1",
        "type": "AttackSequence:EC2/CompromisedInstanceGroup", "severity": 9, "title": "A group of instances",
        "resource": {"resourceType": "AttackSequence"},
        "service": {"archived": false, "detection": {"sequence": {"resources": resources}}}})
}

#[tokio::test]
async fn an_attack_sequence_contains_each_instance_and_one_that_is_gone_spoils_nothing() {
    let plant = || Suspect::plant(&json!({"scaling_group": false, "target_groups": 0, "data_volumes": 0}));
    let (first, second, gone) = (plant(), plant(), plant());
    let ec2 = local().ec2().await;
    #[expect(clippy::disallowed_methods, reason = "somebody else's doing")]
    let terminated = ec2.terminate_instances().instance_ids(&gone.id).send().await;
    terminated.expect("terminated");
    let detail = sequence(&[&first.id, &gone.id, &second.id]);
    let output = local().send_event("stasis.drill", "GuardDuty Finding", &detail, &gone.id).await.output();
    assert_eq!(output["status"], "CONTAINED", "{output:#}");
    assert!(first.is_quarantined().await && second.is_quarantined().await);
    let cases = output["cases"].as_array().expect("cases");
    assert_eq!(cases.len(), 2, "{output:#}");
    assert_ne!(cases[0]["caseId"], cases[1]["caseId"]);
    assert_eq!(output["instances"].as_array().map(Vec::len), Some(2));
    let reason = output["reason"].as_str().expect("a reason");
    assert!(reason.contains(&format!("instance {} is terminated", gone.id)), "{reason}");
    assert!(gone.cases().await.is_empty());
    // Once more: both join their cases.
    let output = local().contain(&sequence(&[&first.id, &second.id])).await.output();
    assert_eq!(output["status"], "DUPLICATE", "{output:#}");
    assert_eq!((first.cases().await.len(), second.cases().await.len()), (1, 1));
}

#[tokio::test]
async fn what_is_none_of_ours_beside_an_instance_is_told_and_spoils_nothing() {
    let suspect = Suspect::plant(&json!({"scaling_group": false, "target_groups": 0, "data_volumes": 0}));
    let bucket = json!({"SchemaVersion": "2018-10-08", "ProductArn": "arn:aws:securityhub:eu-central-1::product/aws/guardduty",
        "Types": ["TTPs/Exfiltration:S3-ObjectRead.Unusual"], "Resources": [{"Type": "AwsS3Bucket", "Id": "arn:aws:s3:::b"}]});
    let mut finding = bucket.clone();
    finding["Types"] = json!(["TTPs/Command and Control/CryptoCurrency:EC2-BitcoinTool.B!DNS"]);
    finding["Severity"] = json!({"Label": "HIGH"});
    finding["Resources"] = json!([{"Type": "AwsEc2Instance",
        "Id": format!("arn:aws:ec2:eu-central-1:{ACCOUNT}:instance/{}", suspect.id)}]);
    let event = json!({"version": "0", "id": "c8c4daa7-a20c-2f03-0070-b7393dd542ad", "source": "aws.securityhub",
        "detail-type": "Security Hub Findings - Custom Action", "account": ACCOUNT, "time": "2026-11-23T06:10:00Z",
        "region": "eu-central-1", "resources": [], "detail": {"actionName": "Contain", "findings": [bucket, finding]}});
    let output = local().contain(&event).await.output();
    assert_eq!(output["status"], "CONTAINED", "{output:#}");
    assert!(output["reason"].as_str().is_some_and(|r| r.contains("\"AwsS3Bucket\"")), "{output:#}");
    assert!(suspect.is_quarantined().await);
}

#[tokio::test]
async fn a_source_that_was_named_brings_requests_through_eventbridge() {
    let suspect = Suspect::plant(&json!({"scaling_group": false, "target_groups": 0, "data_volumes": 0}));
    let detail = json!({"instanceId": suspect.id, "reason": "EDR alert 4711", "ticket": "EDR-4711"});
    let output = local().send_event("example.edr", "Host Compromised", &detail, &suspect.id).await.output();
    assert_eq!(
        (output["status"].as_str(), output["ticket"].as_str()),
        (Some("CONTAINED"), Some("EDR-4711")),
        "{output:#}"
    );
}

#[tokio::test]
async fn an_instance_of_an_account_where_nobody_looks_is_never_called_gone() {
    let mut finding = sequence(&["i-0123456789abcdef0"]);
    finding["service"]["detection"]["sequence"]["resources"][0]["uid"] = json!("i-0123456789abcdef0");
    let output = local().contain(&finding).await.output();
    assert_eq!(output["status"], "IGNORED", "{output:#}");
    assert!(output["reason"].as_str().is_some_and(|r| r.contains("does not exist any more")), "{output:#}");
    finding["service"]["detection"]["sequence"]["resources"][0]["accountId"] = json!("999999999999");
    match local().contain(&finding).await {
        crate::local::Ended::Failed { error, cause } => {
            assert_eq!(error, "NotFound");
            assert!(cause.contains("account 999999999999") && cause.contains("nothing was done"), "{cause}");
        }
        other => panic!("{other:?}"),
    }
}
