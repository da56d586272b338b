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

/// Instances that do not exist.
fn ghosts(mark: &str, count: usize) -> Vec<String> {
    (0..count).map(|number| format!("i-{}{number:03x}", &mark[mark.len() - 14..])).collect()
}

#[tokio::test]
async fn an_event_about_more_instances_than_one_run_takes_is_divided_and_each_is_contained() {
    let plant = || Suspect::plant(&json!({"scaling_group": false, "target_groups": 0, "data_volumes": 0}));
    let (first, second, third) = (plant(), plant(), plant());
    let (before, between) = (ghosts(&first.id, 9), ghosts(&second.id, 9));
    let mut named = vec![first.id.as_str()];
    named.extend(before.iter().map(String::as_str));
    named.push(&second.id);
    named.extend(between.iter().map(String::as_str));
    named.push(&third.id);
    let detail = sequence(&named);
    for status in ["CONTAINED", "DUPLICATE"] {
        let output = local().contain(&detail).await.output();
        assert_eq!((output["status"].as_str(), &output["caseId"]), (Some("DIVIDED"), &Value::Null), "{output:#}");
        assert!(output["reason"].as_str().is_some_and(|r| r.contains("21 instances are named")), "{output:#}");
        let executions = output["executions"].as_array().expect("executions");
        assert_eq!(executions.len(), 3, "{output:#}");
        let mut reasons = String::new();
        for execution in executions {
            let part = local().end_of(execution.as_str().expect("an ARN")).await.output();
            // Some part may hold none but those that are gone.
            assert!(part["status"] == status || part["status"] == "IGNORED", "{part:#}");
            reasons += part["reason"].as_str().expect("a reason");
        }
        assert_eq!(reasons.matches("does not exist any more").count(), 18, "{reasons}");
        for suspect in [&first, &second, &third] {
            assert!(suspect.is_quarantined().await && suspect.cases().await.len() == 1, "{reasons}");
        }
    }
}

#[tokio::test]
async fn parts_that_got_no_run_of_their_own_are_named_by_a_run_that_fails() {
    let suspect = Suspect::plant(&json!({"scaling_group": false, "target_groups": 0, "data_volumes": 0}));
    let many = ghosts(&suspect.id, 11);
    let event = sequence(&many.iter().map(String::as_str).collect::<Vec<_>>());
    // The state machine itself, but that no part finds one to run in.
    let elsewhere = "arn:aws:states:eu-central-1:111122223333:stateMachine:is-not-there";
    let copy = local().copy_of_contain(&suspect.id, "{% $states.context.StateMachine.Id %}", elsewhere).await;
    match local().end_of(&local().start_execution(&copy, &event).await).await {
        crate::local::Ended::Failed { error, cause } => {
            assert_eq!(error, "PartsMissing");
            for part in ["skip 0: StepFunctions.StateMachineDoesNotExist", "skip 10: ", "again with the same input"] {
                assert!(cause.contains(part), "{part}: {cause}");
            }
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_part_that_has_its_run_already_is_no_part_that_is_missing() {
    let suspect = Suspect::plant(&json!({"scaling_group": false, "target_groups": 0, "data_volumes": 0}));
    let many = ghosts(&suspect.id, 11);
    let event = sequence(&many.iter().map(String::as_str).collect::<Vec<_>>());
    // Both parts under one name: whichever comes second finds an execution that has it.
    let name = format!("same-{}", suspect.id);
    let copy = local().copy_of_contain(&suspect.id, "{% $states.input.name %}", &name).await;
    let output = local().end_of(&local().start_execution(&copy, &event).await).await.output();
    assert_eq!(output["status"], "DIVIDED", "{output:#}");
    let executions = output["executions"].as_array().expect("executions");
    // The one that was started, and the one that the other would have been.
    let prefix = copy.replace(":stateMachine:", ":execution:");
    let is = |wanted: &str| executions.iter().filter(|e| e.as_str().is_some_and(|arn| arn.starts_with(wanted))).count();
    assert_eq!((is(&format!("{prefix}:{name}")), is(&format!("{prefix}:part-"))), (1, 1), "{output:#}");
}

#[tokio::test]
async fn what_is_to_be_divided_and_too_long_to_be_handed_on_is_refused_in_words() {
    let many = ghosts("i-0123456789abcdef0", 11);
    let mut event = sequence(&many.iter().map(String::as_str).collect::<Vec<_>>());
    let room = (256 << 10) - event.to_string().len() - 512;
    event["description"] = json!("x".repeat(room));
    let (name, message) = local().invoke("triage", &event).await.expect_err("refused");
    assert!(name == "InvalidInput" && message.contains("names 11 instances"), "{name}: {message}");
    assert!(message.contains("too long to be handed to a run for each part"), "{message}");
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
            assert_eq!(error, "Denied");
            for part in [
                "role/stasis-spoke-triage-eu-central-1",
                "nothing was done in account 999999999999",
                "HubAccount=111122223333",
            ] {
                assert!(cause.contains(part), "{part}: {cause}");
            }
        }
        other => panic!("{other:?}"),
    }
}

/// The account of which Stasis has roles, beside its own.
const MEMBER: &str = "333344445555";

fn planted_in(account: &str) -> Suspect {
    Suspect::plant(&json!({"account": account, "data_volumes": 0, "own_profile": true}))
}

#[tokio::test]
async fn an_attack_sequence_over_two_accounts_is_contained_in_both() {
    let (home, member, gone) = (planted_in(ACCOUNT), planted_in(MEMBER), planted_in(MEMBER));
    let groups = (home.groups().await, member.groups().await);
    let ec2 = aws_sdk_ec2::Client::new(&local().config_of("EC2", MEMBER).await);
    #[expect(clippy::disallowed_methods, reason = "somebody else's doing")]
    let terminated = ec2.terminate_instances().instance_ids(&gone.id).send().await;
    terminated.expect("terminated");
    let mut detail = sequence(&[&home.id, &member.id, &gone.id]);
    for (at, account) in [(1, MEMBER), (2, MEMBER)] {
        let resource = &mut detail["service"]["detection"]["sequence"]["resources"][at];
        let id = resource["uid"].as_str().expect("an ARN").replace(ACCOUNT, account);
        resource["uid"] = json!(id);
        resource["accountId"] = json!(account);
    }
    let output = local().send_event("stasis.drill", "GuardDuty Finding", &detail, &gone.id).await.output();
    assert_eq!(output["status"], "CONTAINED", "{output:#}");
    for suspect in [&home, &member] {
        assert!(suspect.is_quarantined().await, "{:?}", suspect.groups().await);
        assert_eq!(suspect.protection().await, (true, true, "stop".to_owned()));
        assert_eq!((suspect.scaling_group().await, suspect.serving_targets().await), (None, 0));
        assert_eq!(suspect.snapshots().await.len(), 1);
    }
    assert!(output["reason"].as_str().is_some_and(|r| r.contains(&format!("instance {} is terminated", gone.id))));
    // The case of the other account: its evidence at home, its copies where copies go, each call under its own name.
    let claim = local().keys(&format!("open/{MEMBER}/eu-central-1/{}", member.id)).await;
    let case = local().json(&claim[0]).await["caseId"].as_str().expect("a case").to_owned();
    let keys = local().keys(&format!("cases/{case}/")).await;
    assert!(keys.iter().any(|key| key.contains("/memory/image")), "{keys:?}");
    let there = aws_sdk_ec2::Client::new(
        &local()
            .config_of("EC2", "222233334444")
            .await
            .to_builder()
            .region(aws_config::Region::new("eu-west-1"))
            .build(),
    );
    let tagged = aws_sdk_ec2::types::Filter::builder().name("tag:stasis:case").values(&case).build();
    let copies = there.describe_snapshots().owner_ids("self").filters(tagged).send().await.expect("copies");
    assert_eq!(copies.snapshots().len(), 1);
    // And the way back.
    let released = local().release(&json!({"caseId": case, "reason": "a test"})).await.output();
    assert_eq!(released["status"], "RELEASED", "{released:#}");
    assert_eq!(member.groups().await, groups.1);
    assert!(home.is_quarantined().await && home.groups().await != groups.0);
}

#[tokio::test]
async fn by_hand_an_account_is_named_and_its_role_may_be_revoked() {
    let suspect = planted_in(MEMBER);
    // Without the account it is looked for at home.
    match local().contain(&json!({"instanceId": suspect.id})).await {
        crate::local::Ended::Failed { error, cause } => assert!(error == "NotFound", "{cause}"),
        other => panic!("{other:?}"),
    }
    let input = json!({"instanceId": suspect.id, "account": MEMBER, "ticket": "INC-9"});
    let triaged = local().invoke("triage", &input).await.expect("triage");
    let mut case = triaged["cases"][0].clone();
    case["policy"]["credentials"] = json!("revoke");
    case["playbooks"] = json!(["coin-miner"]);
    for stage in ["protect", "detach", "prepare", "quarantine", "scope", "revoke"] {
        let answer = local().invoke(stage, &case).await.expect(stage);
        assert_eq!(answer["status"], "DONE", "{answer:#}");
    }
    let described = local().describe(&suspect.planted);
    let profile = &described["profiles"]["IamInstanceProfileAssociations"][0]["IamInstanceProfile"]["Arn"];
    assert_eq!(*profile, json!(format!("arn:aws:iam::{MEMBER}:instance-profile/stasis-quarantine")));
    assert_eq!(described["role policies"]["PolicyNames"].as_array().map(Vec::len), Some(1), "{described:#}");
}

#[tokio::test]
async fn an_instance_of_its_own_account_in_another_region_is_contained_by_the_roles_there() {
    const REGION: &str = "eu-west-2";
    let suspect = Suspect::plant(&json!({"region": REGION, "data_volumes": 0}));
    let groups = suspect.groups().await;
    let output = local().contain(&json!({"instanceId": suspect.id, "region": REGION})).await.output();
    assert_eq!(output["status"], "CONTAINED", "{output:#}");
    assert!(suspect.is_quarantined().await, "{:?}", suspect.groups().await);
    assert_eq!(suspect.protection().await, (true, true, "stop".to_owned()));
    assert_eq!((suspect.scaling_group().await, suspect.serving_targets().await), (None, 0));
    assert_eq!(suspect.snapshots().await.len(), 1);
    // Its evidence is at home, and each change there was made in a session that bears the case's name.
    let case = output["caseId"].as_str().expect("a case");
    let kept = local().keys(&format!("cases/{case}/custody/")).await;
    let custody = local().json(kept.last().expect("a chain of custody")).await;
    let acts = custody["acts"].as_array().expect("acts");
    let ours: Vec<&Value> = acts.iter().filter(|act| act["stage"].is_string()).collect();
    assert!(ours.len() > 5 && ours.iter().all(|act| act["inSession"] == true), "{custody:#}");
    let keys = local().keys(&format!("cases/{case}/")).await;
    // (No endpoint here keeps to its region; docs/accounts.md says what does at AWS.)
    assert!(keys.iter().any(|key| key.contains("/memory/image")), "{keys:?}");
    let released = local().release(&json!({"caseId": case, "reason": "a test"})).await.output();
    assert_eq!(released["status"], "RELEASED", "{released:#}");
    assert_eq!(suspect.groups().await, groups);
    // Where there are no roles, nothing is done, and it is said what to deploy.
    match local().contain(&json!({"instanceId": suspect.id, "region": "eu-central-2"})).await {
        crate::local::Ended::Failed { error, cause } => {
            assert_eq!(error, "Denied", "{cause}");
            assert!(cause.contains("eu-central-2: deploy infra/member.yaml there"), "{cause}");
            assert!(cause.contains("HubRegion=eu-central-1 and ProfileRegion=eu-central-1"), "{cause}");
        }
        other => panic!("{other:?}"),
    }
}
