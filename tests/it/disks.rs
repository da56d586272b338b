//! The disks: snapshots, locks and copies, from an account and region to another account and region. What became of
//! them is read from EC2, in both.

use crate::local::local;
use crate::suspect::{Suspect, checklist, stage};
use aws_sdk_ec2::types::{Filter, LockedSnapshotsInfo, Snapshot, SnapshotAttributeName, SnapshotState};
use serde_json::{Value, json};
use std::collections::BTreeMap;

const OTHER_ACCOUNT: &str = "222233334444";
const OTHER_REGION: &str = "eu-west-1";

/// EC2 as the account of the copies sees it.
async fn elsewhere() -> aws_sdk_ec2::Client {
    let config = local().config("EC2").await;
    let credentials = aws_sdk_ec2::config::Credentials::new(OTHER_ACCOUNT, "local", None, None, "local");
    let there = aws_sdk_ec2::config::Builder::from(&config)
        .region(aws_sdk_ec2::config::Region::new(OTHER_REGION))
        .credentials_provider(credentials);
    aws_sdk_ec2::Client::from_conf(there.build())
}

async fn of_case(ec2: &aws_sdk_ec2::Client, case: &str) -> Vec<Snapshot> {
    let filter = Filter::builder().name("tag:stasis:case").values(case).build();
    let answer = ec2.describe_snapshots().owner_ids("self").filters(filter).send().await.expect("snapshots");
    answer.snapshots().to_vec()
}

fn tag<'a>(snapshot: &'a Snapshot, key: &str) -> Option<&'a str> {
    snapshot.tags().iter().find(|t| t.key() == Some(key)).and_then(|t| t.value())
}

async fn locks(ec2: &aws_sdk_ec2::Client, snapshots: &[Snapshot]) -> BTreeMap<String, LockedSnapshotsInfo> {
    let ids = snapshots.iter().filter_map(|s| s.snapshot_id().map(str::to_owned)).collect();
    let answer = ec2.describe_locked_snapshots().set_snapshot_ids(Some(ids)).send().await.expect("locks");
    answer.snapshots().iter().map(|lock| (lock.snapshot_id().unwrap_or_default().to_owned(), lock.clone())).collect()
}

async fn shared_with(ec2: &aws_sdk_ec2::Client, snapshots: &[Snapshot]) -> usize {
    let mut shared = 0;
    for snapshot in snapshots {
        let call = ec2.describe_snapshot_attribute().attribute(SnapshotAttributeName::CreateVolumePermission);
        let answer = call.snapshot_id(snapshot.snapshot_id().expect("an id")).send().await.expect("the attribute");
        shared += answer.create_volume_permissions().len();
    }
    shared
}

/// The copies that are whole, by the volume that they are of.
fn whole(copies: &[Snapshot]) -> BTreeMap<String, &Snapshot> {
    let whole = copies.iter().filter(|s| s.state() == Some(&SnapshotState::Completed));
    whole.map(|s| (tag(s, "stasis:volume").expect("a volume").to_owned(), s)).collect()
}

fn case_id(output: &Value) -> &str {
    output["caseId"].as_str().unwrap_or_else(|| panic!("no case: {output:#}"))
}

async fn contain(suspect: &Suspect) -> Value {
    local().contain(&json!({"instanceId": suspect.id, "ticket": "INC-5"})).await.output()
}

fn plant(disks: &[&str]) -> Suspect {
    Suspect::plant(&json!({"scaling_group": false, "target_groups": 0, "disks": disks}))
}

/// The stage, called with a case until it no longer waits: its last answer and report.
async fn settled(stage: &str, case: &Value) -> (Value, Value) {
    let mut case = case.clone();
    let mut looks = tokio::time::interval(std::time::Duration::from_millis(100));
    for _ in 0..100 {
        looks.tick().await;
        let outcome = local().invoke(stage, &case).await.expect(stage);
        if outcome["status"] != "WAITING" {
            let report = local().json(outcome["report"]["key"].as_str().expect("a report")).await;
            return (outcome, report);
        }
        case["stages"][stage] = outcome;
    }
    panic!("{stage} waits for ever");
}

#[tokio::test]
async fn three_disks_of_one_account_and_region_are_kept_in_another_locked_and_never_twice() {
    let suspect = plant(&["none", "customer", "aws/ebs"]);
    let output = contain(&suspect).await;
    assert_eq!((output["status"].as_str(), stage(&output, "replicate")), (Some("CONTAINED"), "DONE"), "{output:#}");
    let case = case_id(&output);
    let (here, there) = (local().ec2().await, elsewhere().await);
    let (kept, copies) = (of_case(&here, case).await, of_case(&there, case).await);

    // Beside the instance: three originals, and one copy under our key of what nobody else could read.
    let volumes: Vec<&str> =
        suspect.planted["volumeIds"].as_array().expect("volumes").iter().filter_map(Value::as_str).collect();
    let between: Vec<&Snapshot> = kept.iter().filter(|s| tag(s, "stasis:copy-of").is_some()).collect();
    assert_eq!((kept.len(), between.len(), copies.len()), (4, 1, 3), "{kept:#?}");
    assert_eq!(tag(between[0], "stasis:volume"), Some(volumes[2]));
    // Elsewhere: one whole copy of each, under the key there, with every tag of the case.
    let by_volume = whole(&copies);
    assert_eq!(by_volume.keys().map(String::as_str).collect::<Vec<_>>(), {
        let mut sorted = volumes.clone();
        sorted.sort_unstable();
        sorted
    });
    for (volume, copy) in &by_volume {
        assert_eq!(copy.owner_id(), Some(OTHER_ACCOUNT));
        let key = copy.kms_key_id().unwrap_or_default();
        assert!(key.starts_with("arn:aws:kms:eu-west-1:222233334444:key/"), "{key}");
        for (name, value) in [("IncidentTicket", "INC-5"), ("Evidence", "Yes"), ("Owner", "SecurityTeam")] {
            assert_eq!(tag(copy, name), Some(value), "{name}");
        }
        let original = kept.iter().find(|s| s.volume_id() == Some(volume)).and_then(|s| s.snapshot_id());
        assert_eq!(tag(copy, "stasis:copy-of"), original);
    }
    // All of it locked, none of it shared any longer.
    for (ec2, snapshots) in [(&here, &kept), (&there, &copies)] {
        let locks = locks(ec2, snapshots).await;
        assert_eq!(locks.len(), snapshots.len());
        for lock in locks.values() {
            assert_eq!((lock.lock_state().map(|s| s.as_str()), lock.lock_duration()), (Some("governance"), Some(365)));
        }
    }
    assert_eq!(shared_with(&here, &kept).await, 0);
    let checks = checklist(&output);
    for name in [
        "snapshots encrypted and tagged",
        "snapshots complete",
        "snapshots locked",
        "snapshots copied elsewhere",
        "snapshots shared with nobody",
        "evidence bucket versioned and Object-Locked",
        "evidence bucket encrypts with a key of its own",
        "evidence bucket closed to the public",
        "evidence bucket takes TLS only",
    ] {
        assert_eq!(checks.get(name).map(String::as_str), Some("PASS"), "{name}: {checks:#?}");
    }

    // What EC2 was asked for: all volumes in one call, the session there named after the case, each copy signed at home.
    let asked: Vec<(String, Value)> = local().requests(&suspect.id);
    let created = asked.iter().filter(|(operation, _)| operation.starts_with("CreateSnapshot"));
    assert_eq!(created.map(|(operation, _)| operation.as_str()).collect::<Vec<_>>(), ["CreateSnapshots"]);
    let sent: Vec<&Value> = asked.iter().filter(|(o, _)| o == "CopySnapshot").map(|(_, p)| p).collect();
    assert_eq!(sent.len(), 4);
    for copy in sent {
        assert_eq!(copy["Encrypted"], "true");
        assert_eq!(copy["SourceRegion"], "eu-central-1");
        let signed = copy["PresignedUrl"].as_str();
        let source = kept.iter().find(|s| s.snapshot_id() == copy["SourceSnapshotId"].as_str()).expect("a source");
        let from_afar = copy["KmsKeyId"] == "alias/stasis-evidence-copies";
        assert_eq!(signed.is_some(), from_afar && source.encrypted() == Some(true), "{copy:#}");
    }

    // Once more, stage by stage: nothing is made a second time.
    for name in ["preserve", "replicate"] {
        let again = local().invoke(name, &json!({"caseId": case})).await.expect(name);
        assert_eq!(again["status"], "DONE", "{again:#}");
        let report = local().json(again["report"]["key"].as_str().expect("a report")).await;
        assert_eq!(report["actions"], json!([]), "{name}");
    }
    assert_eq!((of_case(&here, case).await.len(), of_case(&there, case).await.len()), (4, 3));
}

#[tokio::test]
async fn no_room_for_a_copy_is_waited_for_and_no_failure() {
    let suspect = plant(&["none", "customer"]);
    local().fault_times("ec2", "CopySnapshot", &suspect.id, "ResourceLimitExceeded", 400, 2);
    local().fault_times("ec2", "CreateSnapshots", &suspect.id, "ConcurrentSnapshotLimitExceeded", 400, 1);
    let output = contain(&suspect).await;
    assert_eq!(output["status"], "CONTAINED", "{output:#}");
    assert_eq!(suspect.snapshots().await.len(), 2);
    assert_eq!(whole(&of_case(&elsewhere().await, case_id(&output)).await).len(), 2);
}

#[tokio::test]
async fn copies_that_are_refused_for_good_leave_the_rest_whole_and_the_answer_true() {
    let suspect = plant(&["none", "customer"]);
    local().fault("ec2", "CopySnapshot", &suspect.id, "UnauthorizedOperation", 403);
    let output = contain(&suspect).await;
    assert_eq!((output["status"].as_str(), stage(&output, "replicate")), (Some("PARTIAL"), "INCOMPLETE"), "{output:#}");
    let reason = output["reason"].as_str().expect("a reason");
    assert!(reason.starts_with("the instance is cut off from the network, but"), "{reason}");
    assert!(reason.contains("no copy of snap-") && reason.contains("UnauthorizedOperation"), "{reason}");
    let checks = checklist(&output);
    assert_eq!(
        (checks["snapshots copied elsewhere"].as_str(), checks["snapshots encrypted and tagged"].as_str()),
        ("FAIL", "FAIL"),
        "one of the two is not encrypted: {checks:#?}"
    );
    assert_eq!((checks["snapshots complete"].as_str(), checks["snapshots locked"].as_str()), ("PASS", "PASS"));
    let kept = suspect.snapshots().await;
    assert_eq!((kept.len(), shared_with(&local().ec2().await, &kept).await), (2, 0), "and nothing stays shared");
}

#[tokio::test]
async fn a_key_that_the_other_account_may_not_use_is_gone_round_and_one_that_nobody_may_use_is_said() {
    let suspect = plant(&["closed", "disabled", "customer"]);
    let output = contain(&suspect).await;
    assert_eq!((output["status"].as_str(), stage(&output, "replicate")), (Some("PARTIAL"), "INCOMPLETE"), "{output:#}");
    let (here, there) = (local().ec2().await, elsewhere().await);
    let (kept, copies) = (of_case(&here, case_id(&output)).await, of_case(&there, case_id(&output)).await);
    let volumes = &suspect.planted["volumeIds"];
    let found = whole(&copies);
    assert!(found.contains_key(volumes[0].as_str().expect("a volume")), "by way of a copy under our own key");
    assert!(found.contains_key(volumes[2].as_str().expect("a volume")));
    assert_eq!(found.len(), 2);
    let reason = output["reason"].as_str().expect("a reason");
    assert!(reason.contains("Given key ID is not accessible"), "{reason}");
    let originals: Vec<Snapshot> = suspect.snapshots().await;
    assert_eq!((originals.len(), shared_with(&here, &kept).await), (3, 0));
}

#[tokio::test]
async fn a_broken_volume_is_named_and_the_others_are_of_one_instant_all_the_same() {
    let suspect = plant(&["customer", "broken", "customer"]);
    let output = contain(&suspect).await;
    assert_eq!((output["status"].as_str(), stage(&output, "preserve")), (Some("PARTIAL"), "INCOMPLETE"), "{output:#}");
    let broken = suspect.planted["volumeIds"][1].as_str().expect("a volume");
    let reason = output["reason"].as_str().expect("a reason");
    assert!(reason.contains(broken) && reason.contains("state error"), "{reason}");
    assert!(suspect.is_quarantined().await);
    assert_eq!(suspect.snapshots().await.len(), 2);
    assert_eq!(whole(&of_case(&elsewhere().await, case_id(&output)).await).len(), 2, "and copied");
    let asked = local().requests(&suspect.id);
    let set = asked.iter().find(|(operation, _)| operation == "CreateSnapshots").expect("a set");
    assert_eq!(set.1["InstanceSpecification.ExcludeDataVolumeId.1"], broken, "{:#}", set.1);
}

#[tokio::test]
async fn where_the_set_is_refused_each_volume_is_taken_alone_and_the_report_says_so() {
    let suspect = plant(&["customer", "customer"]);
    local().fault("ec2", "CreateSnapshots", &suspect.id, "InvalidParameterCombination", 400);
    let case = suspect.case_with(&[]).await;
    let (outcome, report) = settled("preserve", &case).await;
    assert_eq!(outcome["status"], "DONE", "{report:#}");
    assert!(report["notes"].to_string().contains("not all of one instant"), "{report:#}");
    let taken = suspect.snapshots().await;
    assert!(taken.len() == 2 && taken.iter().all(|s| tag(s, "stasis:taken-alone") == Some("Yes")));
}

#[tokio::test]
async fn a_volume_that_is_detached_after_the_case_was_opened_is_preserved_all_the_same() {
    let suspect = plant(&["customer", "customer"]);
    let case = suspect.case_with(&[]).await;
    let volume = suspect.planted["volumeIds"][1].as_str().expect("a volume");
    let ec2 = local().ec2().await;
    let described = ec2.describe_volumes().volume_ids(volume).send().await.expect("the volume");
    let device = described.volumes()[0].attachments()[0].device().expect("a device");
    #[expect(clippy::disallowed_methods, reason = "somebody else's doing")]
    let detach = ec2.detach_volume().volume_id(volume).instance_id(&suspect.id).device(device);
    detach.send().await.expect("detached");
    let (outcome, report) = settled("preserve", &case).await;
    assert_eq!(outcome["status"], "DONE", "{report:#}");
    let taken = suspect.snapshots().await;
    assert!(taken.iter().any(|s| s.volume_id() == Some(volume) && tag(s, "stasis:taken-alone") == Some("Yes")));
    assert_eq!(taken.len(), 2);
    assert!(report["notes"].to_string().contains("is not any more"), "{report:#}");
}

#[tokio::test]
async fn a_snapshot_of_before_the_case_is_not_taken_for_evidence_whatever_its_tags_say() {
    use aws_sdk_ec2::types::{ResourceType, Tag, TagSpecification};
    let suspect = plant(&["customer"]);
    let case = suspect.case_with(&[]).await;
    let tag_of = |key: &str, value: &str| Tag::builder().key(key).value(value).build();
    let tags = [
        tag_of("stasis:case", case["caseId"].as_str().expect("an id")),
        tag_of("local:started", "2026-01-01T00:00:00+00:00"),
    ];
    let specification =
        TagSpecification::builder().resource_type(ResourceType::Snapshot).set_tags(Some(tags.to_vec())).build();
    let ec2 = local().ec2().await;
    let volume = suspect.planted["volumeIds"][0].as_str().expect("a volume");
    let decoy = ec2.create_snapshot().volume_id(volume).tag_specifications(specification).send().await.expect("one");
    let decoy = decoy.snapshot_id().expect("an id");

    let (outcome, report) = settled("preserve", &case).await;
    assert_eq!(outcome["status"], "DONE", "{report:#}");
    assert!(report["notes"].to_string().contains(&format!("{decoy} carries the tag of this case")), "{report:#}");
    let taken = suspect.snapshots().await;
    let ours = taken.iter().find(|s| s.snapshot_id() != Some(decoy)).expect("one of our own");
    let listed = report["evidence"].to_string();
    assert!(listed.contains(ours.snapshot_id().expect("an id")) && !listed.contains(decoy), "{listed}");
    // Neither locked nor counted by the checklist.
    assert_eq!(locks(&ec2, &taken).await.keys().collect::<Vec<_>>(), [ours.snapshot_id().expect("an id")]);
    let verified = local().invoke("verify", &case).await.expect("verify");
    assert!(!verified["checklist"].to_string().contains(decoy), "{verified:#}");
}

#[tokio::test]
async fn an_instance_without_an_ebs_volume_is_contained_and_what_is_lost_is_said() {
    let suspect = plant(&["none"]);
    let volume = suspect.planted["volumeIds"][0].as_str().expect("a volume");
    let ec2 = local().ec2().await;
    let described = ec2.describe_volumes().volume_ids(volume).send().await.expect("the volume");
    let device = described.volumes()[0].attachments()[0].device().expect("a device");
    #[expect(clippy::disallowed_methods, reason = "an instance that was launched from instance store has none")]
    let detach = ec2.detach_volume().volume_id(volume).instance_id(&suspect.id).device(device);
    detach.send().await.expect("detached");
    let output = contain(&suspect).await;
    assert_eq!((output["status"].as_str(), stage(&output, "preserve")), (Some("PARTIAL"), "INCOMPLETE"), "{output:#}");
    assert!(suspect.is_quarantined().await);
    assert!(output["reason"].as_str().is_some_and(|r| r.contains("no EBS volume")), "{output:#}");
    assert_eq!(checklist(&output)["snapshots encrypted and tagged"], "MISSING");
}

#[tokio::test]
async fn snapshots_that_aws_gives_up_are_taken_once_more_and_then_said_to_have_failed() {
    let suspect = Suspect::plant(&json!({"scaling_group": false, "extra_tags": {"local:snapshot": "error"}}));
    let output = contain(&suspect).await;
    assert_eq!((output["status"].as_str(), stage(&output, "preserve")), (Some("PARTIAL"), "INCOMPLETE"), "{output:#}");
    assert_eq!(suspect.snapshots().await.len(), 4, "each twice");
    assert_eq!(checklist(&output)["snapshots complete"], "FAIL");
    assert!(output["reason"].as_str().is_some_and(|r| r.contains("2 times in all")), "{output:#}");
}

#[tokio::test]
async fn by_policy_snapshots_are_locked_for_good_or_not_at_all_and_a_refused_lock_is_said() {
    let suspect = plant(&["customer"]);
    let disks = |lock: &str| json!({"lock": lock, "lockDays": 400, "key": "", "destination": null});
    let case = suspect.case_with(&[("disks", disks("none"))]).await;
    let (outcome, _) = settled("preserve", &case).await;
    assert_eq!(outcome["status"], "DONE", "{outcome:#}");
    let ec2 = local().ec2().await;
    let taken = suspect.snapshots().await;
    assert!(locks(&ec2, &taken).await.is_empty());

    let id = taken[0].snapshot_id().expect("an id");
    local().fault_times("ec2", "LockSnapshot", id, "UnauthorizedOperation", 403, 1);
    let mut strict = case.clone();
    strict["policy"]["disks"] = disks("compliance");
    let (outcome, report) = settled("preserve", &strict).await;
    assert_eq!(outcome["status"], "INCOMPLETE", "{report:#}");
    let message = report["failures"][0]["message"].as_str().expect("a failure");
    assert!(message.contains(id) && message.contains("not locked and could be deleted"), "{message}");
    let (outcome, _) = settled("preserve", &strict).await;
    assert_eq!(outcome["status"], "DONE", "{outcome:#}");
    let locked = locks(&ec2, &taken).await;
    let lock = locked.get(id).expect("a lock");
    assert_eq!((lock.lock_state().map(|s| s.as_str()), lock.lock_duration()), (Some("compliance"), Some(400)));
    #[expect(clippy::disallowed_methods, reason = "it must be refused")]
    let deleted = ec2.delete_snapshot().snapshot_id(id).send().await;
    deleted.expect_err("it cannot be deleted");
}

#[tokio::test]
async fn without_a_key_and_a_place_for_copies_what_is_not_encrypted_is_said() {
    let suspect = plant(&["none", "customer"]);
    let disks = json!({"lock": "governance", "lockDays": 365, "key": "", "destination": null});
    let case = suspect.case_with(&[("disks", disks)]).await;
    for name in ["preserve", "replicate"] {
        assert_eq!(settled(name, &case).await.0["status"], "DONE", "{name}");
    }
    let verified = local().invoke("verify", &case).await.expect("verify");
    let checks = verified["checklist"].as_array().expect("checks");
    let check = |name: &str| checks.iter().find(|c| c["name"] == name);
    let encrypted = check("snapshots encrypted and tagged").expect("a check");
    assert_eq!(encrypted["status"], "FAIL");
    assert!(encrypted["observed"].as_str().is_some_and(|o| o.contains("is not encrypted and has no encrypted copy")));
    assert!(check("snapshots copied elsewhere").is_none(), "nobody asked for it");
}

#[tokio::test]
async fn a_destination_that_cannot_be_entered_is_said_and_what_is_here_is_kept() {
    let suspect = plant(&["aws/ebs"]);
    let case = suspect.case_with(&[]).await;
    assert_eq!(settled("preserve", &case).await.0["status"], "DONE");
    let mut wrong = case.clone();
    wrong["policy"]["disks"]["destination"]["role"] = json!("no-role");
    let (outcome, report) = settled("replicate", &wrong).await;
    assert_eq!(outcome["status"], "INCOMPLETE", "{report:#}");
    assert_eq!(report["failures"][0]["code"], "DestinationUnreadable");
    assert!(report["failures"][0]["message"].as_str().is_some_and(|m| m.contains("sts:AssumeRole of no-role")));
}

#[tokio::test]
async fn what_is_given_up_while_it_is_shared_is_closed() {
    let suspect = plant(&["customer"]);
    let triaged = local().invoke("triage", &json!({"instanceId": suspect.id})).await.expect("triage");
    let mut case = triaged["cases"][0].clone();
    let mut looks = tokio::time::interval(std::time::Duration::from_millis(200));
    for _ in 0..100 {
        looks.tick().await;
        if local().invoke("preserve", &case).await.expect("preserve")["status"] == "DONE" {
            break;
        }
    }
    // As replicate leaves it that dies between the share and the end of the copy, which comes at once here.
    let (kept, ec2) = (suspect.snapshots().await, local().ec2().await);
    ec2.modify_snapshot_attribute()
        .snapshot_id(kept[0].snapshot_id().expect("an id"))
        .attribute(aws_sdk_ec2::types::SnapshotAttributeName::CreateVolumePermission)
        .operation_type(aws_sdk_ec2::types::OperationType::Add)
        .user_ids("222233334444")
        .send()
        .await
        .expect("shared");
    assert_eq!(shared_with(&ec2, &kept).await, 1);
    // As the state machine calls it once it has given up.
    case["stages"]["replicate"] = json!({"stage": "replicate", "status": "FAILED", "summary": "GivenUp: it took too long",
        "failures": [{"code": "GivenUp", "message": "it took too long"}]});
    let closed = local().invoke("replicate", &case).await.expect("replicate");
    assert_eq!(
        (&closed["status"], &closed["failures"][0]["code"]),
        (&json!("INCOMPLETE"), &json!("GivenUp")),
        "{closed:#}"
    );
    assert_eq!(shared_with(&ec2, &kept).await, 0, "and no longer");
}
