//! The playbooks: what is looked at beside the instance.

use crate::local::local;
use crate::policy::finding;
use crate::suspect::{Suspect, stage};
use serde_json::{Value, json};
use std::collections::BTreeMap;

async fn flow_logs(suspect: &Suspect) -> Vec<aws_sdk_ec2::types::FlowLog> {
    let ec2 = local().ec2().await;
    let of = aws_sdk_ec2::types::Filter::builder().name("resource-id").set_values(Some(suspect.interfaces())).build();
    ec2.describe_flow_logs().filter(of).send().await.expect("flow logs").flow_logs().to_vec()
}

async fn checks(output: &Value) -> BTreeMap<String, (String, String)> {
    let key = output["instances"][0]["stages"]["scope"]["report"]["key"].as_str().expect("a report");
    let report = local().json(key).await;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let checks = report["checks"].as_array().expect("checks").iter();
    checks.map(|check| (text(&check["name"]), (text(&check["status"]), text(&check["observed"])))).collect()
}

#[tokio::test]
async fn flow_logs_of_a_coin_miner_are_switched_on_and_off_again_with_the_release() {
    let suspect =
        Suspect::plant(&json!({"scaling_group": false, "target_groups": 0, "data_volumes": 0, "extra_interfaces": 1}));
    let mut detail = finding(&suspect.id, "CryptoCurrency:Runtime/BitcoinTool.B", 8.0, 1);
    detail["service"]["action"] = json!({"actionType": "NETWORK_CONNECTION",
        "networkConnectionAction": {"remoteIpDetails": {"ipAddressV4": "198.51.100.9"}}});
    let output = local().contain(&detail).await.output();
    assert_eq!((output["status"].as_str(), stage(&output, "scope")), (Some("CONTAINED"), "DONE"), "{output:#}");
    let logs = flow_logs(&suspect).await;
    assert_eq!(logs.len(), 2, "one for each interface: {logs:?}");
    for log in &logs {
        assert_eq!((log.log_group_name(), log.deliver_logs_status()), (Some("/stasis/flow-logs"), Some("SUCCESS")));
        assert_eq!(log.traffic_type().map(|kind| kind.as_str()), Some("ALL"));
    }
    let found = checks(&output).await;
    assert_eq!(found["flow logs show with whom the instance talks"].0, "PASS", "{found:?}");
    // The checklist of the containment is its own.
    let checklist = output["instances"][0]["checklist"].as_array().expect("a checklist");
    assert!(!checklist.iter().any(|check| check["name"].as_str().is_some_and(|name| name.contains("flow logs"))));
    let page = local().object(&format!("cases/{}/report.html", output["caseId"].as_str().expect("a case"))).await;
    let page = String::from_utf8(page).expect("text");
    assert!(
        page.contains("Beyond the instance") && page.contains("filter dstAddr in [&quot;198.51.100.9&quot;]"),
        "{page}"
    );
    let released = local().release(&json!({"caseId": output["caseId"], "reason": "a test"})).await.output();
    assert_eq!(released["status"], "RELEASED", "{released:#}");
    assert!(flow_logs(&suspect).await.is_empty());
}

#[tokio::test]
async fn what_the_role_may_destroy_and_who_may_be_the_role_is_told() {
    let suspect = Suspect::plant(
        &json!({"scaling_group": false, "target_groups": 0, "data_volumes": 0, "own_profile": true, "endpoints": false}),
    );
    let role = suspect.text("instanceProfile").to_owned();
    let (kept, lost) = (format!("kept-{role}"), format!("lost-{role}"));
    let s3 = local().s3().await;
    let region = aws_sdk_s3::types::BucketLocationConstraint::from("eu-central-1");
    for name in [&kept, &lost] {
        let place = aws_sdk_s3::types::CreateBucketConfiguration::builder().location_constraint(region.clone()).build();
        s3.create_bucket().bucket(name).create_bucket_configuration(place).send().await.expect("a bucket");
    }
    let on = aws_sdk_s3::types::VersioningConfiguration::builder()
        .status(aws_sdk_s3::types::BucketVersioningStatus::Enabled)
        .build();
    s3.put_bucket_versioning().bucket(&kept).versioning_configuration(on).send().await.expect("versioned");
    let iam = aws_sdk_iam::Client::new(&local().config("IAM").await);
    let allow = json!({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:*Object",
        "Resource": [format!("arn:aws:s3:::{kept}/*"), format!("arn:aws:s3:::{lost}/*")]}]});
    iam.put_role_policy()
        .role_name(&role)
        .policy_name("data")
        .policy_document(allow.to_string())
        .send()
        .await
        .expect("a policy");
    let trust = json!({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "sts:AssumeRole",
        "Principal": {"AWS": "arn:aws:iam::999999999999:root", "Service": "ec2.amazonaws.com"}}]});
    iam.update_assume_role_policy().role_name(&role).policy_document(trust.to_string()).send().await.expect("a trust");
    let output = local().contain(&finding(&suspect.id, "Impact:Runtime/CryptoMinerExecuted", 8.0, 1)).await.output();
    let found = checks(&output).await;
    let versions = &found["buckets that the role may destroy keep versions"];
    assert!(versions.0 == "FAIL" && versions.1.contains(&lost) && !versions.1.contains(&kept), "{versions:?}");
    let second = &found["versions in those buckets need a second factor to be deleted"];
    assert!(second.0 == "FAIL" && second.1.contains(&kept) && second.1.contains(&lost), "{second:?}");
    let analyzer = &found["Access Analyzer has nothing against the role"];
    assert!(
        analyzer.0 == "FAIL" && analyzer.1.starts_with("1 finding about arn:aws:iam::111122223333:role/"),
        "{analyzer:?}"
    );
    assert_eq!((found.len(), stage(&output, "scope")), (4, "DONE"), "{found:?}");
}

#[tokio::test]
async fn a_playbook_that_cannot_do_its_work_makes_the_run_partial_and_holds_nothing_up() {
    let suspect = Suspect::plant(&json!({"scaling_group": false, "target_groups": 0, "data_volumes": 0}));
    local().fault("ec2", "CreateFlowLogs", &suspect.interfaces()[0], "UnauthorizedOperation", 403);
    let output = local().contain(&finding(&suspect.id, "CryptoCurrency:Runtime/BitcoinTool.B", 8.0, 1)).await.output();
    assert_eq!((output["status"].as_str(), stage(&output, "scope")), (Some("PARTIAL"), "INCOMPLETE"), "{output:#}");
    let reason = output["reason"].as_str().expect("a reason");
    assert!(reason.starts_with("the instance is cut off from the network, but: scope: ec2:CreateFlowLogs"), "{reason}");
    assert!(suspect.is_quarantined().await);
}
