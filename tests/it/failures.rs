//! One thing fails, for good: the rest is done all the same, and the run says PARTIAL and why. Each of these
//! failures stops or hides containment in tools that came before.

use crate::local::local;
use crate::suspect::{Suspect, checklist, stage};
use serde_json::{Value, json};

async fn contain(suspect: &Suspect) -> Value {
    let output = local().contain(&json!({"instanceId": suspect.id, "ticket": "INC-9"})).await.output();
    assert_eq!(output["status"], "PARTIAL", "{output:#}");
    output
}

fn assert_reason(output: &Value, part: &str) {
    assert!(output["reason"].as_str().is_some_and(|reason| reason.contains(part)), "{part} in {output:#}");
}

#[tokio::test]
async fn systems_manager_fails_and_the_instance_is_contained_and_preserved() {
    let suspect = Suspect::plant(&json!({}));
    for operation in ["DescribeInstanceInformation", "SendCommand", "ListCommands"] {
        local().fault("ssm", operation, &suspect.id, "InternalServerError", 500);
    }
    let output = contain(&suspect).await;
    assert!(suspect.is_quarantined().await, "{output:#}");
    assert_eq!(suspect.protection().await, (true, true, "stop".to_owned()));
    assert_eq!((suspect.scaling_group().await, suspect.snapshots().await.len()), (None, 2));
    assert_reason(&output, "capture");
    assert_ne!(checklist(&output)["Run Command recorded"], "PASS");
}

#[tokio::test]
async fn interfaces_cannot_be_looked_up_and_those_known_before_are_quarantined() {
    let suspect = Suspect::plant(&json!({"extra_interfaces": 1}));
    local().fault("ec2", "DescribeNetworkInterfaces", &suspect.id, "InternalError", 500);
    let output = contain(&suspect).await;
    // The test reads the groups without the filter that is made to fail.
    let ec2 = local().ec2().await;
    let group = suspect.quarantine_group().await.expect("a group");
    let seen = ec2
        .describe_network_interfaces()
        .set_network_interface_ids(Some(suspect.interfaces()))
        .send()
        .await
        .expect("seen");
    assert_eq!(seen.network_interfaces().len(), 2);
    for interface in seen.network_interfaces() {
        let groups: Vec<&str> = interface.groups().iter().filter_map(|g| g.group_id()).collect();
        assert_eq!(groups, [group.as_str()]);
    }
    assert_eq!(stage(&output, "quarantine"), "INCOMPLETE");
    assert_eq!(checklist(&output)["every interface in the quarantine group only"], "UNKNOWN");
    assert_eq!(suspect.snapshots().await.len(), 2);
}

#[tokio::test]
async fn what_somebody_else_did_at_the_same_moment_is_no_failure() {
    let suspect = Suspect::plant(&json!({}));
    let group = suspect.scaling_group().await.expect("a group");
    local().fault_delay("autoscaling", "DetachInstances", &suspect.id, 4.0);
    let execution = local().start_contain(&json!({"instanceId": suspect.id})).await;
    local().fault_met("DetachInstances", &suspect.id).await;
    // While the call of Stasis is on its way.
    aws_sdk_autoscaling::Client::new(&local().config("AUTO_SCALING").await)
        .detach_instances()
        .auto_scaling_group_name(group)
        .instance_ids(&suspect.id)
        .should_decrement_desired_capacity(true)
        .send()
        .await
        .expect("detached");
    let output = local().end_of(&execution).await.output();
    assert_eq!((&output["status"], stage(&output, "detach")), (&json!("CONTAINED"), "DONE"), "{output:#}");
    let key = output["instances"][0]["stages"]["detach"]["report"]["key"].as_str().expect("a report");
    let report = local().json(key).await;
    assert!(report["notes"].to_string().contains("so all the same"), "{report:#}");
}

#[tokio::test]
async fn the_scaling_group_refuses_and_the_network_is_cut_all_the_same() {
    let suspect = Suspect::plant(&json!({}));
    local().fault("autoscaling", "DetachInstances", &suspect.id, "ValidationError", 400);
    let output = contain(&suspect).await;
    assert!(suspect.is_quarantined().await, "{output:#}");
    assert_eq!(
        (stage(&output, "detach"), stage(&output, "quarantine"), stage(&output, "preserve")),
        ("INCOMPLETE", "DONE", "DONE")
    );
    assert_eq!(checklist(&output)["out of the Auto Scaling group"], "FAIL");
    assert_eq!(suspect.serving_targets().await, 0, "load balancers are left whatever the scaling group says");
    assert_reason(&output, "ValidationError");
}

#[tokio::test]
async fn snapshots_are_refused_and_the_instance_is_contained() {
    let suspect = Suspect::plant(&json!({}));
    for operation in ["CreateSnapshots", "CreateSnapshot"] {
        local().fault("ec2", operation, &suspect.id, "SnapshotLimitExceeded", 400);
    }
    let output = contain(&suspect).await;
    assert!(suspect.is_quarantined().await, "{output:#}");
    assert_eq!(suspect.snapshots().await.len(), 0);
    assert_eq!(checklist(&output)["snapshots encrypted and tagged"], "MISSING");
    assert_reason(&output, "SnapshotLimitExceeded");
    // A finding about it finds it cut off, and changes nothing. Who asks once more, when that is mended, has the case go on.
    local().mend(&suspect.id);
    let joined = local().contain(&crate::contain::finding(&suspect.id)).await.output();
    assert_eq!((&joined["status"], suspect.snapshots().await.len()), (&json!("DUPLICATE"), 0), "{joined:#}");
    let again = local().contain(&json!({"instanceId": suspect.id, "reason": "the quota was raised"})).await.output();
    assert_eq!((&again["status"], &again["caseId"]), (&json!("CONTAINED"), &output["caseId"]), "{again:#}");
    assert_eq!(suspect.snapshots().await.len(), 2);
    let third = local().contain(&json!({"instanceId": suspect.id})).await.output();
    assert_eq!(third["status"], "DUPLICATE", "{third:#}");
}

#[tokio::test]
async fn protection_is_denied_and_everything_else_is_done() {
    let suspect = Suspect::plant(&json!({}));
    local().fault("ec2", "ModifyInstanceAttribute", &suspect.id, "UnauthorizedOperation", 403);
    let output = contain(&suspect).await;
    assert!(suspect.is_quarantined().await, "{output:#}");
    assert_eq!(checklist(&output)["termination protection on"], "FAIL");
    assert_reason(&output, "grant the function's role");
    assert_eq!(suspect.snapshots().await.len(), 2);
}

#[tokio::test]
async fn an_interface_that_refuses_the_group_is_named_and_never_called_quarantined() {
    let suspect = Suspect::plant(&json!({}));
    let interface = suspect.interfaces()[0].clone();
    local().fault("ec2", "ModifyNetworkInterfaceAttribute", &interface, "UnauthorizedOperation", 403);
    let output = contain(&suspect).await;
    assert!(!suspect.is_quarantined().await);
    assert_eq!(checklist(&output)["every interface in the quarantine group only"], "FAIL");
    assert_reason(&output, &interface);
}

#[tokio::test]
async fn a_throttled_call_is_tried_again_and_nothing_is_missing() {
    let suspect = Suspect::plant(&json!({}));
    local().fault_times("ec2", "ModifyInstanceAttribute", &suspect.id, "RequestLimitExceeded", 503, 4);
    let output = local().contain(&json!({"instanceId": suspect.id})).await.output();
    assert_eq!(output["status"], "CONTAINED", "{output:#}");
}

#[tokio::test]
async fn a_scaling_group_that_is_busy_is_asked_again_before_the_network_is_cut() {
    let suspect = Suspect::plant(&json!({}));
    local().fault_times("autoscaling", "DetachInstances", &suspect.id, "ResourceContention", 400, 3);
    let output = local().contain(&json!({"instanceId": suspect.id})).await.output();
    assert_eq!(output["status"], "CONTAINED", "{output:#}");
    let calls: Vec<String> = local().requests(&suspect.id).into_iter().map(|(operation, _)| operation).collect();
    assert_eq!(calls.iter().filter(|c| *c == "DetachInstances").count(), 4, "{calls:?}");
}

#[tokio::test]
async fn no_ticket_can_be_opened_and_the_case_id_stands_in() {
    let suspect = Suspect::plant(&json!({}));
    local().fault("ssm", "CreateOpsItem", &suspect.id, "AccessDeniedException", 400);
    let output = local().contain(&json!({"instanceId": suspect.id})).await.output();
    assert_eq!(output["status"], "CONTAINED", "{output:#}");
    assert_eq!(output["ticket"], output["caseId"]);
    assert_eq!(suspect.tags_of(&suspect.id).await.get("IncidentTicket").map(String::as_str), output["caseId"].as_str());
}

#[tokio::test]
async fn an_agent_that_is_offline_or_absent_is_a_clear_result() {
    for agent in ["offline", "unmanaged"] {
        let suspect = Suspect::plant(&json!({"agent": agent}));
        let output = contain(&suspect).await;
        assert!(suspect.is_quarantined().await && suspect.snapshots().await.len() == 2, "{agent}: {output:#}");
        assert_eq!(
            output["instances"][0]["stages"]["capture"]["failures"][0]["code"], "AgentOffline",
            "{agent}: {output:#}"
        );
        assert_eq!(checklist(&output)["Run Command recorded"], "MISSING");
        // What EC2 itself has of the console needs no agent.
        let case = output["caseId"].as_str().expect("a case");
        let printed = local().object(&format!("cases/{case}/console/output.txt")).await;
        assert!(String::from_utf8_lossy(&printed).contains("Linux version"), "{}", String::from_utf8_lossy(&printed));
        let picture = local().object(&format!("cases/{case}/console/screenshot.jpg")).await;
        assert!(picture.starts_with(&[0xFF, 0xD8, 0xFF]), "a JPEG");
    }
}

#[tokio::test]
async fn an_agent_that_reports_success_and_sends_nothing_is_not_believed() {
    let suspect = Suspect::plant(&json!({"agent": "lying"}));
    let output = contain(&suspect).await;
    assert_eq!(output["instances"][0]["stages"]["capture"]["failures"][0]["code"], "NothingReceived", "{output:#}");
    assert_eq!(checklist(&output)["volatile data in the evidence bucket"], "MISSING");
    assert!(suspect.is_quarantined().await);
}

#[tokio::test]
async fn a_group_that_cannot_be_brought_in_order_is_not_used_and_it_is_said() {
    let suspect = Suspect::plant(&json!({}));
    let output = local().contain(&json!({"instanceId": suspect.neighbour().await})).await.output();
    assert!(output["caseId"].is_string(), "{output:#}");
    let group = suspect.quarantine_group().await.expect("a group");
    let ssh = aws_sdk_ec2::types::IpPermission::builder().ip_protocol("tcp").from_port(22).to_port(22);
    let ssh = ssh.ip_ranges(aws_sdk_ec2::types::IpRange::builder().cidr_ip("0.0.0.0/0").build()).build();
    let ec2 = local().ec2().await;
    ec2.authorize_security_group_ingress().group_id(&group).ip_permissions(ssh).send().await.expect("opened");
    local().fault("ec2", "RevokeSecurityGroupIngress", &group, "UnauthorizedOperation", 403);
    let before = suspect.groups().await;
    let output = contain(&suspect).await;
    assert_eq!((stage(&output, "quarantine"), suspect.groups().await), ("INCOMPLETE", before));
    let reason = output["reason"].as_str().expect("a reason");
    assert!(
        reason.starts_with("the instance is NOT cut off") && reason.contains("RevokeSecurityGroupIngress"),
        "{reason}"
    );
}

#[tokio::test]
async fn a_spot_instance_is_contained_and_said_to_be_at_risk() {
    let suspect = Suspect::plant(&json!({"spot": true, "scaling_group": false}));
    let output = contain(&suspect).await;
    assert!(suspect.is_quarantined().await && suspect.delete_on_termination().await == [false, false]);
    assert_eq!(output["instances"][0]["stages"]["protect"]["failures"][0]["code"], "SpotInstance", "{output:#}");
    let released = local().release(&json!({"caseId": output["caseId"], "reason": "x"})).await.output();
    assert_eq!(
        (released["status"].as_str(), suspect.delete_on_termination().await),
        (Some("RELEASED"), vec![true, true])
    );
}

#[tokio::test]
async fn a_slow_agent_is_waited_for() {
    let suspect = Suspect::plant(&json!({"agent": "slow"}));
    let output = local().contain(&json!({"instanceId": suspect.id})).await.output();
    assert_eq!(output["status"], "CONTAINED", "{output:#}");
}

#[tokio::test]
async fn what_a_windows_host_cannot_run_here_is_said_to_have_failed() {
    let suspect = Suspect::plant(&json!({"platform": "windows"}));
    let output = contain(&suspect).await;
    assert_eq!(stage(&output, "capture"), "INCOMPLETE", "{output:#}");
    assert!(suspect.is_quarantined().await);
}
