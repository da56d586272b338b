//! The ticket of a case: opened where there is none, and told how far the case has come.

use crate::local::local;
use crate::policy::finding;
use crate::suspect::Suspect;
use serde_json::{Value, json};

async fn ops_item(id: &str) -> aws_sdk_ssm::types::OpsItem {
    let ssm = aws_sdk_ssm::Client::new(&local().config("SSM").await);
    let answer = ssm.get_ops_item().ops_item_id(id).send().await.expect("the OpsItem");
    answer.ops_item().expect("the OpsItem").clone()
}

fn data<'a>(item: &'a aws_sdk_ssm::types::OpsItem, key: &str) -> &'a str {
    item.operational_data().and_then(|data| data.get(key)?.value()).unwrap_or_default()
}

#[tokio::test]
async fn an_ops_item_follows_the_case_from_its_opening_to_its_release() {
    let suspect = Suspect::plant(&json!({"scaling_group": false, "target_groups": 0, "data_volumes": 0}));
    let kind = "Trojan:EC2/BlackholeTraffic";
    let output = local().contain(&finding(&suspect.id, kind, 7.5, 1)).await.output();
    assert_eq!(output["status"], "CONTAINED", "{output:#}");
    let ticket = output["ticket"].as_str().expect("a ticket");
    let item = ops_item(ticket).await;
    assert_eq!((item.category(), item.severity()), (Some("Security"), Some("2")));
    assert_eq!(item.status().map(|status| status.as_str()), Some("InProgress"));
    assert_eq!(data(&item, "stasis-status"), "CONTAINED");
    assert_eq!(data(&item, "stasis-case"), output["caseId"].as_str().expect("a case"));
    assert!(data(&item, "stasis-finding").starts_with(kind) && data(&item, "/aws/resources").contains(&suspect.id));
    assert_eq!(data(&item, "stasis-evidence"), output["evidence"].as_str().expect("evidence"));
    let released = local().release(&json!({"caseId": output["caseId"], "reason": "a test"})).await.output();
    assert_eq!(released["status"], "RELEASED", "{released:#}");
    let item = ops_item(ticket).await;
    assert_eq!(item.status().map(|status| status.as_str()), Some("Resolved"));
    assert_eq!(data(&item, "stasis-status"), "RELEASED");
}

#[tokio::test]
async fn by_policy_events_tell_whoever_keeps_tickets_elsewhere() {
    let policy =
        json!({"version": 1, "ticket": {"by": "event", "bus": "default"}, "otherwise": {"decision": "contain"}});
    local().put_parameter("/stasis/tickets-elsewhere", &policy.to_string()).await;
    let function = local().function_like("triage", &[("STASIS_POLICY_PARAMETER", "/stasis/tickets-elsewhere")]).await;
    let suspect = Suspect::plant(&json!({"scaling_group": false, "target_groups": 0, "data_volumes": 0}));
    let kind = "Backdoor:EC2/Spambot";
    let opened = local().invoke_by_name(&function, &finding(&suspect.id, kind, 9.5, 1)).await.expect("triage");
    let case = opened["cases"][0]["caseId"].as_str().expect("a case").to_owned();
    assert_eq!(opened["cases"][0]["ticket"], case.as_str(), "the case's own id, until somebody has another");
    let asking = json!({"case": opened["cases"][0], "token": "a token that nobody waits for"});
    local().invoke("approval", &asking).await.expect("approval");
    local().invoke("report", &json!({"caseId": case})).await.expect("report");
    let told: Vec<Value> = local()
        .messages(&case)
        .await
        .iter()
        .filter_map(|message| serde_json::from_str(message.strip_prefix("event Stasis Case\n")?).ok())
        .collect();
    let said: Vec<_> = told.iter().map(|event| event["status"].as_str().unwrap_or_default()).collect();
    assert_eq!(said, ["OPENED", "AWAITING_APPROVAL", "PARTIAL"], "{told:#?}");
    assert_eq!((&told[0]["findingType"], &told[0]["severity"]), (&json!(kind), &json!("1")));
    assert_eq!(told[0]["instance"]["instanceId"], suspect.id.as_str());
    // A bus that is not there: the case goes on, and its answer says so.
    let lost = json!({"version": 1, "ticket": {"by": "event", "bus": "nowhere"}, "otherwise": {"decision": "contain"}});
    local().put_parameter("/stasis/tickets-nowhere", &lost.to_string()).await;
    let function = local().function_like("triage", &[("STASIS_POLICY_PARAMETER", "/stasis/tickets-nowhere")]).await;
    let other = Suspect::plant(&json!({"scaling_group": false, "target_groups": 0, "data_volumes": 0}));
    let opened = local().invoke_by_name(&function, &finding(&other.id, kind, 9.5, 1)).await.expect("triage");
    assert_eq!(opened["decision"], "OPEN", "{opened:#}");
}

#[tokio::test]
async fn a_ticket_that_cannot_be_told_spoils_nothing_and_is_said() {
    let suspect = Suspect::plant(&json!({"scaling_group": false, "target_groups": 0, "data_volumes": 0}));
    let opened = local().invoke("triage", &json!({"instanceId": suspect.id})).await.expect("triage");
    let ticket = opened["cases"][0]["ticket"].as_str().expect("a ticket").to_owned();
    local().fault("ssm", "UpdateOpsItem", &ticket, "AccessDeniedException", 400);
    let result = local().invoke("report", &json!({"caseId": opened["cases"][0]["caseId"]})).await.expect("report");
    let reason = result["reason"].as_str().expect("a reason");
    assert!(reason.contains(&format!("the ticket {ticket} was not told")), "{reason}");
    assert_eq!(result["instances"][0]["stages"]["report"]["status"], "INCOMPLETE");
}
