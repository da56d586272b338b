//! The way back: everything as it was, nothing of others' overwritten, and nothing released that should not be.

use crate::local::{Ended, local};
use crate::suspect::{Suspect, checklist};
use serde_json::{Value, json};

/// Tags that stay, on purpose: evidence and status.
const OURS: [&str; 5] = ["IncidentTicket", "Owner", "Evidence", "stasis:case", "stasis:status"];

/// The same description without our tags, wherever AWS shows tags.
fn without_our_tags(value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            let kept = fields.iter().map(|(key, value)| {
                let value = match (key.as_str(), value) {
                    ("Tags" | "TagSet", Value::Array(tags)) => {
                        let theirs = |tag: &&Value| !tag["Key"].as_str().is_some_and(|key| OURS.contains(&key));
                        tags.iter().filter(theirs).cloned().collect()
                    }
                    _ => without_our_tags(value),
                };
                (key.clone(), value)
            });
            Value::Object(kept.filter(|(_, value)| *value != json!([])).collect())
        }
        Value::Array(items) => items.iter().map(without_our_tags).collect(),
        other => other.clone(),
    }
}

/// The ways in which two descriptions differ.
fn differences(path: &str, before: &Value, after: &Value, found: &mut Vec<String>) {
    match (before, after) {
        (Value::Object(a), Value::Object(b)) => {
            for key in a.keys().chain(b.keys().filter(|key| !a.contains_key(*key))) {
                let null = Value::Null;
                differences(&format!("{path}/{key}"), a.get(key).unwrap_or(&null), b.get(key).unwrap_or(&null), found);
            }
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            for (n, (a, b)) in a.iter().zip(b).enumerate() {
                differences(&format!("{path}/{n}"), a, b, found);
            }
        }
        (a, b) if a == b => {}
        (a, b) => found.push(format!("{path}: {a} became {b}")),
    }
}

#[tokio::test]
async fn an_instance_with_everything_is_as_it_was_before() {
    let suspect = Suspect::plant(&json!({
        "extra_interfaces": 2, "spread": true, "min_size": 2, "ip_ports": [8080, 8081], "classic": true,
        "owner": "web-team",
    }));
    let before = local().describe(&suspect.planted);
    let contained = local().contain(&json!({"instanceId": suspect.id, "ticket": "INC-7"})).await.output();
    assert_eq!(contained["status"], "CONTAINED", "{contained:#}");
    let case = contained["caseId"].as_str().expect("a case");
    let held = local().describe(&suspect.planted);
    let mut changed = Vec::new();
    differences("", &without_our_tags(&before), &without_our_tags(&held), &mut changed);
    for part in
        ["interfaces", "attributes", "scaling group", "memberships", "targets web", "targets metrics", "classic"]
    {
        assert!(changed.iter().any(|c| c.starts_with(&format!("/{part}"))), "{part} was not touched: {changed:#?}");
    }
    assert_eq!((suspect.is_quarantined().await, suspect.groups().await.len()), (true, 3));

    let released = local().release(&json!({"caseId": case, "reason": "a false alarm"})).await.output();
    assert_eq!(released["status"], "RELEASED", "{released:#}");
    assert_eq!((&released["caseId"], &released["ticket"]), (&json!(case), &json!("INC-7")));
    assert!(checklist(&released).values().all(|status| status == "PASS"), "{released:#}");
    let after = local().describe(&suspect.planted);
    let mut left = Vec::new();
    differences("", &without_our_tags(&before), &without_our_tags(&after), &mut left);
    assert!(left.is_empty(), "{left:#?}");

    // Tags: ours stay, theirs that ours had replaced are back.
    let tags = suspect.tags_of(&suspect.id).await;
    let tag = |key: &str| tags.get(key).map(String::as_str);
    assert_eq!((tag("stasis:status"), tag("Owner")), (Some("released"), Some("web-team")));
    assert_eq!((tag("Evidence"), tag("stasis:case"), tag("IncidentTicket")), (Some("Yes"), Some(case), Some("INC-7")));
    // Evidence stays, and every report of it.
    assert_eq!(suspect.snapshots().await.len(), 2);
    let folder = format!("cases/{case}/");
    let page = String::from_utf8(local().object(&format!("{folder}report.html")).await).expect("text");
    assert!(page.contains("<h1>Released</h1>") && page.contains("a false alarm"), "{page}");
    let manifest = local().json(&format!("{folder}manifest.json")).await;
    for file in manifest["files"].as_array().expect("files") {
        let key = file["key"].as_str().expect("a key");
        assert_eq!(file["sha256"], stasis_decide::sha256(&local().object(key).await), "{key}");
    }
    assert!(
        manifest["files"]
            .as_array()
            .is_some_and(|f| f.iter().any(|f| f["key"] == format!("{folder}stages/release/1.json")))
    );

    // Protections came off last: while anything else was still held, nobody could terminate the instance.
    let sent = local().requests(&suspect.id);
    let position = |operation: &str, key: &str, value: &str| {
        sent.iter().rposition(|(o, p)| o == operation && (key.is_empty() || p[key] == value)).expect(operation)
    };
    let unprotected = position("ModifyInstanceAttribute", "DisableApiTermination.Value", "false");
    assert!(position("AttachInstances", "", "") < unprotected);
    assert!(position("RegisterTargets", "", "") < position("AttachInstances", "", ""), "healthy before it is attached");

    // The claim is closed: the next finding opens a new case, and what was is not opened again.
    assert!(!suspect.is_claimed().await);
    let again = local().contain(&json!({"instanceId": suspect.id})).await.output();
    assert_eq!(again["status"], "CONTAINED", "{again:#}");
    assert_ne!(again["caseId"], json!(case));
}

#[tokio::test]
async fn what_must_not_be_released_is_a_clear_error_and_nothing_changes() {
    let suspect = Suspect::plant(&json!({}));
    let refused = async |input: &Value, name: &str, part: &str| {
        let before = suspect.writes();
        match local().release(input).await {
            Ended::Failed { error, cause } => {
                assert_eq!(error, name, "{cause}");
                assert!(cause.contains(part), "{cause}");
            }
            Ended::Succeeded(output) => panic!("{output:#}"),
        }
        assert_eq!(suspect.writes(), before, "{part}");
    };
    let unknown = json!({"caseId": "case-20200101T000000Z-00000000", "reason": "x"});
    refused(&unknown, "NotFound", "there is no case case-20200101T000000Z-00000000").await;
    refused(&json!({"reason": "x"}), "InvalidInput", "caseId: missing").await;
    refused(&json!({"caseId": "i-0a1b2c3d", "reason": "x"}), "InvalidInput", "is not a case id").await;
    refused(&json!({"caseId": "case-20200101T000000Z-00000000", "force": true}), "InvalidInput", "force").await;

    let dry = local().contain(&json!({"instanceId": suspect.id, "mode": "dry-run"})).await.output();
    refused(&json!({"caseId": dry["caseId"]}), "InvalidInput", "was a dry run").await;

    let contained = local().contain(&json!({"instanceId": suspect.id})).await.output();
    let case = json!({"caseId": contained["caseId"], "reason": "x"});
    let released = local().release(&case).await.output();
    assert_eq!(released["status"], "RELEASED", "{released:#}");
    // Once more: nothing is done, and nobody is told again.
    let told = local().messages(contained["caseId"].as_str().expect("a case")).await.len();
    let again = async |before: Vec<String>| {
        let output = local().release(&case).await.output();
        assert_eq!(output["status"], "RELEASED", "{output:#}");
        assert!(output["reason"].as_str().is_some_and(|r| r.contains("was released already, at 2")), "{output:#}");
        assert_eq!(suspect.writes(), before);
    };
    again(suspect.writes()).await;
    assert_eq!(local().messages(contained["caseId"].as_str().expect("a case")).await.len(), told);

    // The older case is not the one that holds the instance now.
    let second = local().contain(&json!({"instanceId": suspect.id})).await.output();
    assert_eq!(second["status"], "CONTAINED", "{second:#}");
    again(suspect.writes()).await;
    assert!(suspect.is_quarantined().await);
}

#[tokio::test]
async fn a_case_that_is_still_worked_on_is_not_released() {
    // Its snapshots take so long that the run goes on when the release is asked for.
    let suspect = Suspect::plant(&json!({}));
    local().fault_delay("ec2", "CreateSnapshots", &suspect.id, 6.0);
    let execution = local().start_contain(&json!({"instanceId": suspect.id})).await;
    let case = suspect.case_once_opened().await;
    match local().release(&json!({"caseId": case, "reason": "too early"})).await {
        Ended::Failed { error, cause } => {
            assert_eq!(error, "InvalidInput");
            assert!(cause.contains("still being worked on") && cause.contains(&execution), "{cause}");
        }
        Ended::Succeeded(output) => panic!("{output:#}"),
    }
    local().end_of(&execution).await;
    assert!(suspect.is_quarantined().await && suspect.is_claimed().await);
}

#[tokio::test]
async fn what_somebody_else_changed_is_reported_and_left_alone() {
    let suspect = Suspect::plant(&json!({"extra_interfaces": 1, "min_size": 2, "classic": true}));
    let contained = local().contain(&json!({"instanceId": suspect.id})).await.output();
    assert_eq!(contained["status"], "CONTAINED", "{contained:#}");
    // Meanwhile people work on it: another group on an interface, another minimum, a target group gone.
    let ec2 = local().ec2().await;
    let group = ec2
        .create_security_group()
        .vpc_id(suspect.text("vpcId"))
        .group_name("forensics")
        .description("forensics")
        .send()
        .await
        .expect("made");
    let group = group.group_id().expect("an id").to_owned();
    let theirs = suspect.interfaces()[1].clone();
    let call = ec2.modify_network_interface_attribute().network_interface_id(&theirs).groups(&group);
    call.send().await.expect("moved");
    let scaling = aws_sdk_autoscaling::Client::new(&local().config("AUTO_SCALING").await);
    let call = scaling.update_auto_scaling_group().auto_scaling_group_name(suspect.text("autoScalingGroup"));
    call.min_size(0).send().await.expect("set");
    let classic = aws_sdk_elasticloadbalancing::Client::new(&local().config("ELASTIC_LOAD_BALANCING").await);
    let name = suspect.text("classicLoadBalancer");
    classic.delete_load_balancer().load_balancer_name(name).send().await.expect("deleted");

    let released = local().release(&json!({"caseId": contained["caseId"], "reason": "x"})).await.output();
    assert_eq!(released["status"], "RELEASED", "{released:#}");
    let groups = suspect.groups().await;
    assert_eq!(groups[&theirs], [group], "what they chose stays");
    assert_eq!(groups[&suspect.interfaces()[0]], [suspect.text("productionGroupId")]);
    assert_eq!(suspect.scaling_sizes().await.0, 0);
    let key = released["instances"][0]["stages"]["release"]["report"]["key"].as_str().expect("a key").to_owned();
    let notes = local().json(&key).await["notes"].to_string();
    for part in [theirs.as_str(), "has the minimum 0 and had 2", name] {
        assert!(notes.contains(part), "{part}: {notes}");
    }
}

#[tokio::test]
async fn a_release_that_fails_half_way_says_so_stays_protected_and_can_be_run_again() {
    let suspect = Suspect::plant(&json!({}));
    let before = local().describe(&suspect.planted);
    let contained = local().contain(&json!({"instanceId": suspect.id})).await.output();
    let case = json!({"caseId": contained["caseId"], "reason": "x"});
    local().fault_times("autoscaling", "AttachInstances", &suspect.id, "ValidationError", 400, 1);
    let first = local().release(&case).await.output();
    assert_eq!(first["status"], "PARTIAL", "{first:#}");
    assert!(first["reason"].as_str().is_some_and(|r| r.contains("AttachInstances")), "{first:#}");
    assert_eq!(suspect.protection().await, (true, true, "stop".to_owned()), "protected until everything is back");
    assert!(suspect.is_claimed().await);
    let second = local().release(&case).await.output();
    assert_eq!(second["status"], "RELEASED", "{second:#}");
    let mut left = Vec::new();
    differences("", &without_our_tags(&before), &without_our_tags(&local().describe(&suspect.planted)), &mut left);
    assert!(left.is_empty(), "{left:#?}");
}

#[tokio::test]
async fn a_terminated_instance_and_one_only_preserved() {
    let preserved = Suspect::plant(&json!({"scaling_group": false, "target_groups": 0}));
    let before = local().describe(&preserved.planted);
    let output = local().contain(&json!({"instanceId": preserved.id, "mode": "preserve"})).await.output();
    let released = local().release(&json!({"caseId": output["caseId"], "reason": "x"})).await.output();
    assert_eq!(released["status"], "RELEASED", "{released:#}");
    let mut left = Vec::new();
    differences("", &without_our_tags(&before), &without_our_tags(&local().describe(&preserved.planted)), &mut left);
    assert!(left.is_empty(), "{left:#?}");

    let gone = Suspect::plant(&json!({"scaling_group": false, "target_groups": 0}));
    let output = local().contain(&json!({"instanceId": gone.id})).await.output();
    let ec2 = local().ec2().await;
    let off = aws_sdk_ec2::types::AttributeBooleanValue::builder().value(false).build();
    let call = ec2.modify_instance_attribute().instance_id(&gone.id).disable_api_stop(off.clone());
    call.send().await.expect("off");
    let call = ec2.modify_instance_attribute().instance_id(&gone.id).disable_api_termination(off);
    call.send().await.expect("off");
    #[expect(clippy::disallowed_methods, reason = "what somebody else may do to a suspect of this test")]
    ec2.terminate_instances().instance_ids(&gone.id).send().await.expect("terminated");
    match local().release(&json!({"caseId": output["caseId"], "reason": "x"})).await {
        Ended::Failed { error, cause } => {
            assert_eq!(error, "NotFound");
            assert!(cause.contains(&gone.id) && cause.contains("evidence is kept"), "{cause}");
        }
        Ended::Succeeded(output) => panic!("{output:#}"),
    }
}
