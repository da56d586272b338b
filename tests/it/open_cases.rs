//! Open cases, looked after by the clock: what somebody undid is told, once, and nothing is changed.

use crate::local::local;
use crate::suspect::Suspect;
use serde_json::{Value, json};

/// What is said of the suspect's case.
async fn standing(suspect: &Suspect) -> Value {
    let asked = json!({"openCases": true, "instanceIds": [suspect.id]});
    let answer = local().invoke("ready", &asked).await.expect("an answer");
    assert_eq!(answer["unasked"], 0, "{answer:#}");
    let cases = answer["cases"].as_array().expect("cases");
    assert!(cases.len() <= 1, "{answer:#}");
    cases.first().cloned().unwrap_or(Value::Null)
}

async fn told(suspect: &Suspect, word: &str) -> usize {
    let subject = format!("Stasis {word}: {}", suspect.id);
    local().messages(&suspect.id).await.iter().filter(|s| s.starts_with(&subject)).count()
}

#[tokio::test]
async fn what_somebody_undid_is_told_once_and_held_again_only_where_somebody_asks() {
    let suspect = Suspect::plant(&json!({"scaling_group": false, "target_groups": 0, "data_volumes": 0}));
    let output = local().contain(&json!({"instanceId": suspect.id})).await.output();
    assert_eq!(output["status"], "CONTAINED", "{output:#}");
    let held = standing(&suspect).await;
    assert_eq!((&held["standing"], &held["caseId"]), (&json!("held"), &output["caseId"]), "{held:#}");
    assert_eq!(told(&suspect, "UNDONE").await, 0);

    let ec2 = local().ec2().await;
    let production = suspect.planted["productionGroupId"].as_str().expect("a group");
    let interface = suspect.interfaces()[0].clone();
    let open = ec2.modify_network_interface_attribute().network_interface_id(&interface).groups(production);
    open.send().await.expect("somebody takes it out of quarantine");
    let writes = suspect.writes();
    for _ in 0..2 {
        let undone = standing(&suspect).await;
        assert_eq!(undone["standing"], "undone", "{undone:#}");
        let changed = undone["changed"].as_array().expect("checks");
        assert_eq!(changed.len(), 1, "{undone:#}");
        assert_eq!(changed[0]["name"], "every interface in the quarantine group only");
        assert!(changed[0]["observed"].as_str().is_some_and(|o| o.contains(&interface) && o.contains(production)));
        assert_eq!(told(&suspect, "UNDONE").await, 1, "once");
    }
    assert_eq!(suspect.writes(), writes, "nothing was changed");
    assert!(!suspect.is_quarantined().await);
    let message =
        local().messages(&suspect.id).await.into_iter().find(|m| m.contains("no longer held")).expect("a message");
    for part in ["every interface in the quarantine group only", production, "stasis contain", "stasis release"] {
        assert!(message.contains(part), "{part}: {message}");
    }

    let again = local().contain(&json!({"instanceId": suspect.id})).await.output();
    assert_eq!((&again["status"], &again["caseId"]), (&json!("CONTAINED"), &output["caseId"]), "{again:#}");
    assert_eq!(standing(&suspect).await["standing"], "held");
    let released = local().release(&json!({"caseId": output["caseId"]})).await.output();
    assert_eq!(released["status"], "RELEASED", "{released:#}");
    assert_eq!(standing(&suspect).await, Value::Null, "its case is closed");
}

#[tokio::test]
async fn an_instance_that_cannot_be_looked_at_is_told_and_one_that_only_waits_is_not() {
    let suspect = Suspect::plant(&json!({"scaling_group": false, "target_groups": 0, "data_volumes": 0}));
    let triaged = local().invoke("triage", &json!({"instanceId": suspect.id})).await.expect("triage");
    assert_eq!(triaged["decision"], "OPEN");
    assert_eq!(standing(&suspect).await["standing"], "unverified");
    let output = local().contain(&json!({"instanceId": suspect.id})).await.output();
    assert_eq!(output["status"], "CONTAINED", "{output:#}");
    local().fault("ec2", "DescribeNetworkInterfaces", &suspect.id, "UnauthorizedOperation", 403);
    let unknown = standing(&suspect).await;
    assert_eq!(unknown["standing"], "unknown", "{unknown:#}");
    assert!(unknown["why"].as_str().is_some_and(|why| why.contains("UnauthorizedOperation")), "{unknown:#}");
    assert_eq!((told(&suspect, "NOT SEEN").await, told(&suspect, "UNDONE").await), (1, 0));
    local().mend(&suspect.id);
    assert_eq!(standing(&suspect).await["standing"], "held");
}
