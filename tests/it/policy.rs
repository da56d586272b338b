//! The policy document: what follows from which finding. That of these tests is policy.json, put where the stack reads it.

use crate::local::local;
use crate::suspect::Suspect;
use serde_json::{Value, json};

/// A finding of a type, last seen `hours` ago.
pub(crate) fn finding(instance: &str, kind: &str, severity: f64, hours: i64) -> Value {
    let text = include_str!("../../events/guardduty/coin-miner.json");
    let event: Value = serde_json::from_str(text).expect("JSON");
    let mut detail = event["detail"].clone();
    detail["resource"]["instanceDetails"]["instanceId"] = json!(instance);
    detail["id"] = json!(format!("finding-of-{instance}-{}", kind.len()));
    detail["type"] = json!(kind);
    detail["severity"] = json!(severity);
    let seen = stasis_model::now() - chrono::TimeDelta::hours(hours);
    detail["service"]["eventLastSeen"] = json!(seen.to_rfc3339());
    detail["updatedAt"] = json!(seen.to_rfc3339());
    detail
}

fn small() -> Suspect {
    Suspect::plant(&json!({"scaling_group": false, "target_groups": 0, "data_volumes": 0}))
}

async fn ran(detail: &Value) -> (String, String, Value) {
    let output = local().contain(detail).await.output();
    let text = |key: &str| output[key].as_str().unwrap_or_default().to_owned();
    (text("status"), text("reason"), output)
}

#[tokio::test]
async fn a_rule_to_notify_tells_people_once_and_touches_nothing() {
    let suspect = small();
    let writes = suspect.writes();
    let probe = finding(&suspect.id, "Recon:EC2/PortProbeEMRUnprotectedPort", 8.0, 1);
    let (status, reason, _) = ran(&probe).await;
    assert_eq!(status, "IGNORED", "{reason}");
    assert!(reason.contains("rule \"probes\"") && reason.contains("/stasis/policy, version 1"), "{reason}");
    let told = local().messages(&suspect.id).await;
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(
        told[0].contains("Recon:EC2/PortProbeEMRUnprotectedPort") && told[0].contains("Nothing was done"),
        "{told:?}"
    );
    assert_eq!((suspect.writes(), suspect.is_claimed().await), (writes, false));
    let kept = local().keys(&format!("notified/111122223333/eu-central-1/{}/", suspect.id)).await;
    assert_eq!(kept.len(), 1, "the finding is kept: {kept:?}");
    // GuardDuty sends it again while it goes on.
    let (status, reason, _) = ran(&probe).await;
    assert!(status == "IGNORED" && reason.contains("told of this finding before"), "{reason}");
    assert_eq!(local().messages(&suspect.id).await.len(), 1);
}

#[tokio::test]
async fn what_is_old_or_low_or_ignored_is_never_contained_and_says_so() {
    let suspect = small();
    let writes = suspect.writes();
    for (kind, severity, hours, part) in [
        ("CryptoCurrency:EC2/BitcoinTool.B!DNS", 8.0, 30, "last seen 30 hours ago, and 24 is the limit"),
        ("CryptoCurrency:EC2/BitcoinTool.B", 2.0, 1, "its severity 2 is below 4"),
        ("UnauthorizedAccess:EC2/TorRelay", 8.0, 1, "rule \"relays\""),
    ] {
        let (status, reason, _) = ran(&finding(&suspect.id, kind, severity, hours)).await;
        assert!(status == "IGNORED" && reason.contains(part), "{reason}");
    }
    assert_eq!((suspect.writes(), suspect.is_claimed().await), (writes, false));
}

#[tokio::test]
async fn a_rule_to_preserve_leaves_the_network_and_a_low_finding_joins_its_case() {
    let suspect = small();
    let (status, reason, output) = ran(&finding(&suspect.id, "Behavior:EC2/NetworkPortUnusual", 5.0, 1)).await;
    assert!(status == "PARTIAL" && reason.contains("NOT cut off"), "{reason}");
    assert!(!suspect.is_quarantined().await && suspect.snapshots().await.len() == 1);
    let case = output["caseId"].as_str().expect("a case");
    let kept = local().json(&format!("cases/{case}/case.json")).await;
    assert_eq!(kept["decided"]["by"], "rule \"odd ports\"");
    let (status, reason, joined) = ran(&finding(&suspect.id, "Recon:EC2/PortProbeUnprotectedPort", 2.0, 1)).await;
    assert!(status == "DUPLICATE" && joined["caseId"] == case, "{reason}");
    assert!(reason.contains("leaves") && reason.contains("on the network"), "{reason}");
    assert!(local().keys(&format!("cases/{case}/findings/")).await.len() == 2);
}

#[tokio::test]
async fn the_settings_of_a_rule_are_those_of_its_cases() {
    let suspect = small();
    let (status, reason, output) = ran(&finding(&suspect.id, "Trojan:EC2/DropPoint!DNS", 8.0, 1)).await;
    // Without a way out Systems Manager does not reach the host: what is missing is said.
    assert!(["CONTAINED", "PARTIAL"].contains(&status.as_str()), "{reason}");
    let case = local().json(&format!("cases/{}/case.json", output["caseId"].as_str().expect("a case"))).await;
    assert_eq!((&case["policy"]["egress"], &case["policy"]["disks"]["lockDays"]), (&json!("none"), &json!(400)));
    assert_eq!(case["decided"]["by"], "rule \"drop points\"");
    assert!(suspect.groups().await.values().flatten().all(|group| !group.is_empty()));
}

#[tokio::test]
async fn a_policy_that_cannot_be_used_is_told_loudly_and_the_built_in_one_counts() {
    let suspect = small();
    local().put_parameter("/stasis/broken", "{\"version\": 1, \"otherwise\": {\"decision\": \"destroy\"}}").await;
    let function = local().function_like("triage", &[("STASIS_POLICY_PARAMETER", "/stasis/broken")]).await;
    let answer = local().invoke_by_name(&function, &finding(&suspect.id, "Trojan:EC2/BlackholeTraffic", 8.0, 1)).await;
    let answer = answer.expect("triage answers");
    assert_eq!(answer["decision"], "OPEN", "{answer:#}");
    let case = &answer["cases"][0];
    assert!(
        case["decided"]["policy"]
            .as_str()
            .is_some_and(|words| words.contains("/stasis/broken, version 1, is invalid: otherwise.decision")),
        "{case:#}"
    );
    assert_eq!(case["stages"]["triage"]["status"], "INCOMPLETE");
    assert_eq!(case["stages"]["triage"]["failures"][0]["code"], "PolicyUnusable");
    // It is said in what the run comes to.
    let case_id = json!({"caseId": case["caseId"]});
    let result = local().invoke("report", &case_id).await.expect("report");
    assert_eq!(result["status"], "PARTIAL");
    assert!(
        result["reason"].as_str().is_some_and(|reason| reason.contains("the built-in policy was used")),
        "{result:#}"
    );
    // And where there is none, the built-in one is meant.
    let function = local().function_like("triage", &[("STASIS_POLICY_PARAMETER", "/stasis/absent")]).await;
    let other = small();
    let answer = local()
        .invoke_by_name(&function, &finding(&other.id, "Trojan:EC2/BlackholeTraffic", 8.0, 1))
        .await
        .expect("triage");
    assert_eq!(answer["cases"][0]["stages"]["triage"]["status"], "DONE", "{answer:#}");
}

#[tokio::test]
async fn a_policy_that_cannot_be_read_for_a_moment_is_read_again() {
    let suspect = small();
    let document = r#"{"version": 1, "otherwise": {"decision": "preserve"}}"#;
    local().put_parameter("/stasis/throttled", document).await;
    // More than the SDK tries by itself, and more than its waits between tries leave time for.
    local().fault_times("ssm", "GetParameter", "/stasis/throttled", "ThrottlingException", 400, 5);
    let function = local().function_like("triage", &[("STASIS_POLICY_PARAMETER", "/stasis/throttled")]).await;
    let answer = local().invoke_by_name(&function, &finding(&suspect.id, "Trojan:EC2/BlackholeTraffic", 8.0, 1)).await;
    let case = &answer.expect("triage answers")["cases"][0];
    assert_eq!((&case["mode"], &case["stages"]["triage"]["status"]), (&json!("preserve"), &json!("DONE")), "{case:#}");
    assert!(case["decided"]["policy"].as_str().is_some_and(|words| words.contains("/stasis/throttled")), "{case:#}");
}

#[tokio::test]
async fn a_policy_that_cannot_be_read_for_long_is_given_up_in_time() {
    let suspect = small();
    local().fault("ssm", "GetParameter", "/stasis/unreachable", "InternalServerError", 500);
    let function = local().function_like("triage", &[("STASIS_POLICY_PARAMETER", "/stasis/unreachable")]).await;
    let begun = std::time::Instant::now();
    let answer = local().invoke_by_name(&function, &finding(&suspect.id, "Trojan:EC2/BlackholeTraffic", 8.0, 1)).await;
    let case = &answer.expect("triage answers")["cases"][0];
    assert!(begun.elapsed().as_secs() < 10, "{:?}", begun.elapsed());
    assert_eq!(case["stages"]["triage"]["failures"][0]["code"], "PolicyUnusable", "{case:#}");
}
