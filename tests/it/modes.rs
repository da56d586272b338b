//! Dry run and preserve.

use crate::local::local;
use crate::suspect::{Suspect, stage};
use serde_json::json;

#[tokio::test]
async fn a_dry_run_writes_nothing_outside_the_case_file() {
    let suspect = Suspect::plant(&json!({}));
    let before = suspect.writes();
    let output = local().contain(&json!({"instanceId": suspect.id, "mode": "dry-run"})).await.output();
    assert_eq!(output["status"], "DRY_RUN", "{output:#}");
    assert_eq!(suspect.writes(), before);
    assert!(!suspect.is_claimed().await && suspect.quarantine_group().await.is_none());
    for name in ["protect", "detach", "quarantine", "capture", "preserve", "replicate"] {
        assert_eq!(stage(&output, name), "PLANNED", "{name}");
    }
    // What EC2 can be asked about was asked, and only asked.
    let asked: Vec<String> = local()
        .requests(&suspect.id)
        .into_iter()
        .filter(|(_, parameters)| parameters["DryRun"] == "true")
        .map(|(operation, _)| operation)
        .collect();
    for operation in ["ModifyInstanceAttribute", "CreateTags", "CreateSnapshots"] {
        assert!(asked.iter().any(|name| name == operation), "{operation}: {asked:?}");
    }
    // And it keeps nobody from acting.
    let output = local().contain(&json!({"instanceId": suspect.id})).await.output();
    assert_eq!(output["status"], "CONTAINED", "{output:#}");
}

#[tokio::test]
async fn a_dry_run_finds_out_which_permissions_are_missing() {
    let suspect = Suspect::plant(&json!({"scaling_group": false, "target_groups": 0, "data_volumes": 0}));
    // A first run makes the group, so that the second can plan the cut itself.
    let first = local().contain(&json!({"instanceId": suspect.id})).await.output();
    let released = local().release(&json!({"caseId": first["caseId"], "reason": "a test"})).await.output();
    assert_eq!(released["status"], "RELEASED", "{released:#}");
    let interface = suspect.interfaces()[0].clone();
    local().fault("ec2", "ModifyNetworkInterfaceAttribute", &interface, "UnauthorizedOperation", 403);
    let before = suspect.writes();
    let output = local().contain(&json!({"instanceId": suspect.id, "mode": "dry-run"})).await.output();
    assert_eq!(output["status"], "DRY_RUN", "{output:#}");
    let reason = output["reason"].as_str().expect("a reason");
    for part in [
        "1 of them would be refused",
        "ec2:ModifyNetworkInterfaceAttribute",
        interface.as_str(),
        "UnauthorizedOperation",
    ] {
        assert!(reason.contains(part), "{part}: {reason}");
    }
    assert_eq!(stage(&output, "quarantine"), "PLANNED");
    assert_eq!(suspect.writes(), before);
}

#[tokio::test]
async fn preserve_leaves_the_instance_on_the_network_and_never_calls_it_contained() {
    let suspect = Suspect::plant(&json!({}));
    let groups = suspect.groups().await;
    let output = local().contain(&json!({"instanceId": suspect.id, "mode": "preserve"})).await.output();
    assert_eq!(output["status"], "PARTIAL", "{output:#}");
    assert!(output["reason"].as_str().is_some_and(|r| r.contains("mode preserve")), "{output:#}");
    assert_eq!(suspect.groups().await, groups);
    assert!(suspect.scaling_group().await.is_some() && suspect.serving_targets().await == 2);
    assert_eq!((suspect.protection().await.0, suspect.snapshots().await.len()), (true, 2));
    assert_eq!((stage(&output, "detach"), stage(&output, "quarantine")), ("none", "none"));
}
