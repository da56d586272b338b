//! What comes in for an instance whose case is open already: it joins a case that is worked on, and is swallowed by none.

use crate::local::{Ended, local};
use crate::policy::finding;
use crate::suspect::{Suspect, stage};
use serde_json::{Value, json};
use std::time::Duration;

/// Contained at once, by the policy of the tests.
const AT_ONCE: &str = "Backdoor:EC2/Spambot";
/// Asked about for five minutes, three seconds here; without an answer it stays on the network.
const NEVER: &str = "UnauthorizedAccess:EC2/TorClient";

fn small() -> Suspect {
    Suspect::plant(&json!({"scaling_group": false, "target_groups": 0, "data_volumes": 0}))
}

/// The case of a suspect, once it is open.
async fn opened(suspect: &Suspect) -> String {
    let mut looks = tokio::time::interval(Duration::from_millis(100));
    let waiting = async {
        loop {
            looks.tick().await;
            if let Some(case) = suspect.cases().await.first()
                && !local().keys(&format!("cases/{case}/stages/triage/")).await.is_empty()
            {
                return case.clone();
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(60), waiting).await.expect("a case is opened")
}

async fn stop(execution: &str) {
    let sfn = aws_sdk_sfn::Client::new(&local().config("SFN").await);
    sfn.stop_execution().execution_arn(execution).send().await.expect("it is stopped");
}

async fn takeovers(case: &str) -> Vec<Value> {
    let mut found = Vec::new();
    for key in local().keys(&format!("cases/{case}/takeovers/")).await {
        found.push(local().json(&key).await);
    }
    found
}

fn same_case(output: &Value, case: &str) {
    assert_eq!(output["caseId"], case, "{output:#}");
}

#[tokio::test]
async fn a_run_that_died_before_containment_is_followed_by_one_of_those_that_come_next() {
    let suspect = Suspect::plant(&json!({}));
    local().fault_delay("autoscaling", "DetachInstances", &suspect.id, 5.0);
    let dead = local().start_contain(&finding(&suspect.id, AT_ONCE, 8.0, 1)).await;
    let case = opened(&suspect).await;
    stop(&dead).await;
    assert!(!suspect.is_quarantined().await, "it died before");
    let mut starts = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let finding = finding(&suspect.id, AT_ONCE, 8.0, 1);
        starts.spawn(async move { local().contain(&finding).await.output() });
    }
    let outputs = starts.join_all().await;
    for output in &outputs {
        same_case(output, &case);
    }
    let mut statuses: Vec<&str> = outputs.iter().filter_map(|output| output["status"].as_str()).collect();
    statuses.sort_unstable();
    let reasons: Vec<&Value> = outputs.iter().map(|output| &output["reason"]).collect();
    assert!(
        statuses.iter().copied().eq(std::iter::once("CONTAINED").chain(["DUPLICATE"; 7])),
        "{statuses:?} {reasons:#?}"
    );
    assert!(suspect.is_quarantined().await);
    assert_eq!((suspect.cases().await.len(), suspect.snapshots().await.len()), (1, 2));
    let taken = takeovers(&case).await;
    assert_eq!((taken.len(), &taken[0]["takenOver"]["from"]), (1, &json!(dead)), "{taken:?}");
    let page = String::from_utf8(local().object(&format!("cases/{case}/report.html")).await).expect("text");
    assert!(page.contains("Taken over") && page.contains("ABORTED"));
    assert!(local().messages(&case).await.iter().any(|message| message.contains("ABORTED")), "people are told why");
    // It is the way back that was written down before the first run began.
    let released = local().release(&json!({"caseId": case, "reason": "a test"})).await.output();
    assert_eq!(released["status"], "RELEASED", "{released:#}");
    assert!(!suspect.is_claimed().await && suspect.scaling_group().await.is_some());
}

#[tokio::test]
async fn a_case_that_was_opened_by_hand_is_taken_over_by_a_run_and_not_by_hand() {
    let suspect = small();
    let opened = local().invoke("triage", &json!({"instanceId": suspect.id})).await.expect("triage");
    let case = opened["cases"][0]["caseId"].as_str().expect("a case");
    let again = local().invoke("triage", &json!({"instanceId": suspect.id})).await.expect("triage");
    assert_eq!(again["output"]["status"], "DUPLICATE", "{again:#}");
    assert!(again["output"]["reason"].as_str().is_some_and(|r| r.contains("no run works on it")), "{again:#}");
    let output = local().contain(&json!({"instanceId": suspect.id})).await.output();
    assert_eq!(output["status"], "CONTAINED", "{output:#}");
    same_case(&output, case);
    assert!(suspect.is_quarantined().await);
}

#[tokio::test]
async fn a_case_that_only_preserves_is_taken_on_to_containment() {
    let suspect = small();
    let first = local().contain(&json!({"instanceId": suspect.id, "mode": "preserve"})).await.output();
    assert_eq!(first["status"], "PARTIAL", "{first:#}");
    let case = first["caseId"].as_str().expect("a case");
    let low = local().contain(&finding(&suspect.id, "Recon:EC2/PortProbe", 8.0, 1)).await.output();
    assert_eq!(low["status"], "DUPLICATE", "{low:#}");
    let output = local().contain(&finding(&suspect.id, AT_ONCE, 8.0, 1)).await.output();
    assert_eq!(output["status"], "CONTAINED", "{output:#}");
    same_case(&output, case);
    assert!(suspect.is_quarantined().await);
    assert_eq!((suspect.cases().await.len(), suspect.snapshots().await.len()), (1, 1));
    let taken = takeovers(case).await;
    assert_eq!((taken.len(), &taken[0]["mode"]), (1, &json!("contain")), "{taken:?}");
    assert_eq!(local().json(&format!("cases/{case}/case.json")).await["mode"], "preserve", "what was opened stays");
    // By its id alone the case is what it is now.
    let verified = local().invoke("verify", &json!({"caseId": case})).await.expect("verify");
    assert!(verified["checklist"].to_string().contains("quarantine group"), "{verified:#}");
    let after = local().contain(&finding(&suspect.id, AT_ONCE, 8.0, 1)).await.output();
    assert_eq!(after["status"], "DUPLICATE", "{after:#}");
}

#[tokio::test]
async fn a_run_that_only_preserves_and_goes_on_is_outdone_and_does_not_report_over_the_other() {
    let suspect =
        Suspect::plant(&json!({"scaling_group": false, "target_groups": 0, "data_volumes": 0, "agent": "slow"}));
    let weak = local().start_contain(&json!({"instanceId": suspect.id, "mode": "preserve"})).await;
    let case = opened(&suspect).await;
    let output = local().contain(&finding(&suspect.id, AT_ONCE, 8.0, 1)).await.output();
    assert!(suspect.is_quarantined().await, "{output:#}");
    assert_eq!(output["status"], "CONTAINED", "{output:#}");
    same_case(&output, &case);
    let weak = local().end_of(&weak).await.output();
    assert_eq!(weak["status"], "DUPLICATE", "{weak:#}");
    assert!(weak["reason"].as_str().is_some_and(|reason| reason.contains("taken case")), "{weak:#}");
    let page = String::from_utf8(local().object(&format!("cases/{case}/report.html")).await).expect("text");
    assert!(page.contains("<h1>Contained</h1>"));
}

#[tokio::test]
async fn a_question_that_nobody_answered_does_not_hold_off_what_is_to_be_contained() {
    let suspect = small();
    let first = local().contain(&finding(&suspect.id, NEVER, 8.0, 1)).await.output();
    assert_eq!(first["status"], "PARTIAL", "{first:#}");
    assert!(!suspect.is_quarantined().await);
    let output = local().contain(&finding(&suspect.id, AT_ONCE, 8.0, 1)).await.output();
    assert_eq!(output["status"], "CONTAINED", "{output:#}");
    assert_eq!((&output["caseId"], stage(&output, "approval")), (&first["caseId"], "none"));
    assert!(suspect.is_quarantined().await);
}

#[tokio::test]
async fn a_run_that_died_while_it_asked_asks_again() {
    let suspect = small();
    let dead = local().start_contain(&finding(&suspect.id, "UnauthorizedAccess:EC2/SSHBruteForce", 8.0, 1)).await;
    let case = opened(&suspect).await;
    stop(&dead).await;
    let next = local().start_contain(&finding(&suspect.id, "UnauthorizedAccess:EC2/RDPBruteForce", 8.0, 1)).await;
    let output = local().end_of(&next).await.output();
    same_case(&output, &case);
    assert_eq!(stage(&output, "approval"), "DONE", "{output:#}");
    assert_eq!(takeovers(&case).await.len(), 1);
}

#[tokio::test]
async fn a_quarantine_that_somebody_undid_is_not_taken_for_one() {
    let suspect = small();
    let finding = finding(&suspect.id, AT_ONCE, 8.0, 1);
    let first = local().contain(&finding).await.output();
    assert_eq!(first["status"], "CONTAINED", "{first:#}");
    assert_eq!(local().contain(&finding).await.output()["status"], "DUPLICATE", "nothing to do");
    // As whoever holds a role in the account could.
    local()
        .ec2()
        .await
        .modify_network_interface_attribute()
        .network_interface_id(&suspect.interfaces()[0])
        .groups(suspect.text("productionGroupId"))
        .send()
        .await
        .expect("put back");
    assert!(!suspect.is_quarantined().await);
    let again = local().contain(&finding).await.output();
    assert_eq!((&again["status"], &again["caseId"]), (&json!("CONTAINED"), &first["caseId"]), "{again:#}");
    assert!(suspect.is_quarantined().await);
    // A group of ours that lets something in holds nothing, either.
    let group = suspect.quarantine_group().await.expect("a group");
    let open = aws_sdk_ec2::types::IpPermission::builder()
        .ip_protocol("-1")
        .ip_ranges(aws_sdk_ec2::types::IpRange::builder().cidr_ip("0.0.0.0/0").build())
        .build();
    local()
        .ec2()
        .await
        .authorize_security_group_ingress()
        .group_id(&group)
        .ip_permissions(open)
        .send()
        .await
        .expect("opened");
    assert_eq!(local().contain(&finding).await.output()["status"], "CONTAINED");
    assert!(suspect.rules(&group).await.iter().all(|rule| rule.is_egress() == Some(true)), "closed again");
}

#[tokio::test]
async fn a_claim_that_names_another_instances_case_silences_nobody() {
    let (contained, other) = (small(), small());
    let output = local().contain(&json!({"instanceId": contained.id})).await.output();
    let keys = local().keys("open/").await;
    let key = keys.iter().find(|key| key.contains(&contained.id)).expect("a claim");
    let forged = key.replace(&contained.id, &other.id);
    let body = local().object(key).await;
    local()
        .s3()
        .await
        .put_object()
        .bucket(local().bucket())
        .key(&forged)
        .body(body.into())
        .send()
        .await
        .expect("forged");
    let ended = local().contain(&finding(&other.id, AT_ONCE, 8.0, 1)).await;
    let Ended::Failed { error: name, cause } = ended else { panic!("it failed: {ended:?}") };
    assert_eq!(name, "EvidenceAtRisk", "{cause}");
    assert!(cause.contains(&forged) && cause.contains(output["caseId"].as_str().expect("a case")), "{cause}");
}
