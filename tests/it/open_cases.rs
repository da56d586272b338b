//! Open cases, looked after by the clock: what was undone is told at the second look, and nothing is changed.

use crate::local::local;
use crate::suspect::Suspect;
use aws_sdk_ec2::types::AttributeBooleanValue;
use serde_json::{Value, json};

/// What is said of the suspect's case.
async fn look(suspect: &Suspect) -> Value {
    let asked = json!({"openCases": true, "instanceIds": [suspect.id]});
    let answer = local().invoke("ready", &asked).await.expect("an answer");
    assert_eq!(answer["unasked"], 0, "{answer:#}");
    let cases = answer["cases"].as_array().expect("cases");
    assert!(cases.len() <= 1, "{answer:#}");
    cases.first().cloned().unwrap_or(Value::Null)
}

async fn told(suspect: &Suspect, word: &str) -> Vec<String> {
    let subject = format!("Stasis {word}: {}", suspect.id);
    local().messages(&suspect.id).await.into_iter().filter(|message| message.starts_with(&subject)).collect()
}

fn plant() -> Suspect {
    Suspect::plant(&json!({"scaling_group": false, "target_groups": 0, "data_volumes": 0}))
}

/// Names of the checks that are different now.
fn changed(standing: &Value) -> Vec<&str> {
    assert_eq!(standing["standing"], "undone", "{standing:#}");
    standing["changed"].as_array().expect("checks").iter().filter_map(|check| check["name"].as_str()).collect()
}

#[tokio::test]
async fn what_was_undone_is_told_at_the_second_look_and_held_again_where_somebody_asks() {
    let suspect = plant();
    let output = local().contain(&json!({"instanceId": suspect.id})).await.output();
    assert_eq!(output["status"], "CONTAINED", "{output:#}");
    let case = &output["caseId"];
    let before = look(&suspect).await;
    assert_eq!((&before["standing"], &before["caseId"]), (&json!("asVerified"), case), "{before:#}");

    let ec2 = local().ec2().await;
    let production = suspect.planted["productionGroupId"].as_str().expect("a group");
    let interface = suspect.interfaces()[0].clone();
    // A look on this day sees it for the first time; after that every one has seen it before.
    for (round, first) in [(1, 0), (2, 2)] {
        let open = ec2.modify_network_interface_attribute().network_interface_id(&interface).groups(production);
        open.send().await.expect("somebody takes it out of quarantine");
        let writes = suspect.writes();
        for told_by_now in [first, round, round] {
            assert_eq!(changed(&look(&suspect).await), ["every interface in the quarantine group only"]);
            assert_eq!(told(&suspect, "UNDONE").await.len(), told_by_now, "once each time that it is undone");
        }
        assert_eq!(suspect.writes(), writes, "nothing was changed");
        assert!(!suspect.is_quarantined().await);
        let again = local().contain(&json!({"instanceId": suspect.id})).await.output();
        assert_eq!((&again["status"], &again["caseId"]), (&json!("CONTAINED"), case), "{again:#}");
        assert_eq!(look(&suspect).await["standing"], "asVerified");
    }
    let message = told(&suspect, "UNDONE").await.remove(0);
    for part in
        ["every interface in the quarantine group only", production, &interface, "stasis contain", "stasis release"]
    {
        assert!(message.contains(part), "{part}: {message}");
    }
    let released = local().release(&json!({"caseId": case})).await.output();
    assert_eq!(released["status"], "RELEASED", "{released:#}");
    assert_eq!(look(&suspect).await, Value::Null, "its case is closed");
}

#[tokio::test]
async fn a_protection_that_somebody_took_off_is_set_again_where_somebody_asks() {
    let suspect = plant();
    let output = local().contain(&json!({"instanceId": suspect.id})).await.output();
    assert_eq!(output["status"], "CONTAINED", "{output:#}");
    let ec2 = local().ec2().await;
    let off = AttributeBooleanValue::builder().value(false).build();
    let off = ec2.modify_instance_attribute().instance_id(&suspect.id).disable_api_termination(off);
    off.send().await.expect("somebody takes its protection off");
    assert_eq!(changed(&look(&suspect).await), ["termination protection on"]);
    // Also once verify itself has seen it.
    let verified = local().invoke("verify", &json!({"caseId": output["caseId"]})).await.expect("verify");
    assert!(verified["checklist"].to_string().contains("DisableApiTermination=false"), "{verified:#}");
    assert_eq!(changed(&look(&suspect).await), ["termination protection on"]);
    // A finding comes again by itself, and holds nothing again that is cut off.
    let joined = local().contain(&crate::contain::finding(&suspect.id)).await.output();
    assert_eq!(joined["status"], "DUPLICATE", "{joined:#}");
    let again = local().contain(&json!({"instanceId": suspect.id})).await.output();
    assert_eq!((&again["status"], &again["caseId"]), (&json!("CONTAINED"), &output["caseId"]), "{again:#}");
    assert_eq!(look(&suspect).await["standing"], "asVerified");
    let third = local().contain(&json!({"instanceId": suspect.id})).await.output();
    assert_eq!(third["status"], "DUPLICATE", "nothing is undone any more: {third:#}");
}

#[tokio::test]
async fn an_instance_that_is_gone_or_cannot_be_looked_at_is_told_and_one_that_only_waits_is_not() {
    let suspect = plant();
    let triaged = local().invoke("triage", &json!({"instanceId": suspect.id})).await.expect("triage");
    assert_eq!(triaged["decision"], "OPEN");
    assert_eq!(look(&suspect).await["standing"], "unverified");
    let output = local().contain(&json!({"instanceId": suspect.id})).await.output();
    assert_eq!(output["status"], "CONTAINED", "{output:#}");
    local().fault("ec2", "DescribeNetworkInterfaces", &suspect.id, "UnauthorizedOperation", 403);
    for told_by_now in [0, 1, 1] {
        let unknown = look(&suspect).await;
        assert!(unknown["why"].as_str().is_some_and(|why| why.contains("UnauthorizedOperation")), "{unknown:#}");
        assert_eq!(told(&suspect, "NOT SEEN").await.len(), told_by_now);
    }
    local().mend(&suspect.id);
    assert_eq!(look(&suspect).await["standing"], "asVerified");
    let ec2 = local().ec2().await;
    let off = AttributeBooleanValue::builder().value(false).build();
    let off = ec2.modify_instance_attribute().instance_id(&suspect.id).disable_api_termination(off);
    off.send().await.expect("somebody takes its protection off");
    #[expect(clippy::disallowed_methods, reason = "somebody else's doing")]
    let terminated = ec2.terminate_instances().instance_ids(&suspect.id).send().await;
    terminated.expect("somebody terminates it");
    for told_by_now in [0, 1, 1] {
        assert_eq!(look(&suspect).await["standing"], "gone");
        assert_eq!(told(&suspect, "GONE").await.len(), told_by_now);
    }
    assert!(told(&suspect, "UNDONE").await.is_empty());
}
