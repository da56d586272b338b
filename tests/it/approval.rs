//! Approval: people are asked before an instance is contained, and their answer counts.

use crate::local::{Ended, local};
use crate::policy::finding;
use crate::suspect::{Suspect, stage};
use serde_json::{Value, json};
use std::time::Duration;

/// Sixty minutes, and thirty seconds here; without an answer the instance stays on the network.
const ASKED: &str = "UnauthorizedAccess:EC2/SSHBruteForce";
/// Five minutes, and three seconds here; without an answer it is contained.
const AT_ONCE: &str = "UnauthorizedAccess:EC2/RDPBruteForce";
/// Five minutes; without an answer it stays on the network.
const NEVER: &str = "UnauthorizedAccess:EC2/TorClient";

/// The case of a suspect, once its question was put, and the token of the answer.
async fn asked(suspect: &Suspect) -> (String, String) {
    let mut looks = tokio::time::interval(Duration::from_millis(150));
    let waiting = async {
        loop {
            looks.tick().await;
            if let Some(case) = suspect.cases().await.first() {
                let keys = local().keys(&format!("cases/{case}/stages/approval/")).await;
                if !keys.is_empty() {
                    let token = local().object(&format!("cases/{case}/approval/token")).await;
                    return (case.clone(), String::from_utf8(token).expect("text"));
                }
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(60), waiting).await.expect("people are asked")
}

async fn send(token: &str, answer: &Value) {
    let sfn = aws_sdk_sfn::Client::new(&local().config("SFN").await);
    sfn.send_task_success().task_token(token).output(answer.to_string()).send().await.expect("the answer is taken");
}

async fn is_protected_and_preserved(suspect: &Suspect) -> bool {
    let mut looks = tokio::time::interval(Duration::from_millis(150));
    for _ in 0..100 {
        looks.tick().await;
        if suspect.protection().await == (true, true, "stop".to_owned()) && !suspect.snapshots().await.is_empty() {
            return true;
        }
    }
    false
}

#[tokio::test]
async fn what_is_approved_is_contained_and_who_approved_is_in_the_case() {
    let suspect = Suspect::plant(&json!({"data_volumes": 0}));
    let before = (suspect.groups().await, suspect.serving_targets().await, suspect.scaling_group().await);
    let execution = local().start_contain(&finding(&suspect.id, ASKED, 8.0, 1)).await;
    let (case, token) = asked(&suspect).await;
    // Meanwhile: safe, and on the network.
    assert!(is_protected_and_preserved(&suspect).await);
    assert_eq!((suspect.groups().await, suspect.serving_targets().await, suspect.scaling_group().await), before);
    let question = local().messages(&case).await;
    assert_eq!(question.len(), 1, "{question:?}");
    for part in [
        "Stasis ASKS",
        ASKED,
        "send-task-success",
        "rule \"ask\"",
        "detach from scaling group",
        "swap the security groups of eni-",
    ] {
        assert!(question[0].contains(part), "{part}: {}", question[0]);
    }
    assert!(!question[0].contains(&token), "the token is a secret");
    // A second finding waits for the same answer.
    let second = local().contain(&finding(&suspect.id, "Backdoor:EC2/Spambot", 8.0, 1)).await.output();
    assert!(
        second["status"] == "DUPLICATE" && second["reason"].as_str().is_some_and(|r| r.contains("asks before")),
        "{second:#}"
    );
    send(&token, &json!({"decision": "approve", "by": "ada@example.com", "reason": "it is real"})).await;
    let output = local().end_of(&execution).await.output();
    assert_eq!(output["status"], "CONTAINED", "{output:#}");
    assert!(suspect.is_quarantined().await && suspect.scaling_group().await.is_none());
    assert_eq!(suspect.snapshots().await.len(), 1, "made once");
    let answer = &output["instances"][0]["stages"]["approval"]["answer"];
    assert_eq!((&answer["verdict"], &answer["by"]), (&json!("approved"), &json!("ada@example.com")));
    let page = String::from_utf8(local().object(&format!("cases/{case}/report.html")).await).expect("text");
    assert!(page.contains("approved by ada@example.com (it is real)"));
    let told = local().messages(&case).await;
    assert!(told.iter().any(|message| message.contains("after the approval")), "{told:?}");
}

#[tokio::test]
async fn what_is_rejected_is_put_back_and_its_evidence_kept() {
    let suspect = Suspect::plant(&json!({"data_volumes": 0}));
    let before = (suspect.protection().await, suspect.groups().await, suspect.serving_targets().await);
    let execution = local().start_contain(&finding(&suspect.id, ASKED, 8.0, 1)).await;
    let (case, token) = asked(&suspect).await;
    assert!(is_protected_and_preserved(&suspect).await);
    // Nobody knows what this means: the question is put again.
    send(&token, &json!({"decision": "perhaps"})).await;
    let mut looks = tokio::time::interval(Duration::from_millis(150));
    let token = loop {
        looks.tick().await;
        let now = local().object(&format!("cases/{case}/approval/token")).await;
        let now = String::from_utf8(now).expect("text");
        if now != token {
            break now;
        }
    };
    send(&token, &json!({"decision": "reject", "by": "grace", "reason": "<b>a test</b>"})).await;
    let output = local().end_of(&execution).await.output();
    assert_eq!(output["status"], "REJECTED", "{output:#}");
    assert!(
        output["reason"].as_str().is_some_and(|r| r.starts_with("rejected by grace (<b>a test</b>)")),
        "{output:#}"
    );
    assert_eq!((suspect.protection().await, suspect.groups().await, suspect.serving_targets().await), before);
    assert_eq!(suspect.tags_of(&suspect.id).await.get("stasis:status").map(String::as_str), Some("released"));
    assert_eq!(suspect.snapshots().await.len(), 1, "evidence is kept");
    assert!(!suspect.is_claimed().await, "a new finding opens a new case");
    let page = String::from_utf8(local().object(&format!("cases/{case}/report.html")).await).expect("text");
    assert!(page.contains("&lt;b&gt;a test&lt;/b&gt;") && !page.contains("<b>a test"));
    assert_eq!(local().messages("put back").await.iter().filter(|m| m.contains(&case)).count(), 1);
}

#[tokio::test]
async fn without_an_answer_the_policy_says_what_follows() {
    let small = || Suspect::plant(&json!({"scaling_group": false, "target_groups": 0, "data_volumes": 0}));
    let (contained, left) = (small(), small());
    let (first, second) = futures_of(&contained, &left).await;
    assert_eq!(first["status"], "CONTAINED", "{first:#}");
    assert!(contained.is_quarantined().await);
    assert_eq!(first["instances"][0]["stages"]["approval"]["answer"]["verdict"], "expired");
    assert_eq!(second["status"], "PARTIAL", "{second:#}");
    assert!(!left.is_quarantined().await && left.protection().await.0);
    let reason = second["reason"].as_str().expect("a reason");
    assert!(reason.contains("NOT cut off") && reason.contains("nobody answered within 5 minutes"), "{reason}");
    assert_eq!((stage(&second, "verify"), stage(&second, "preserve")), ("DONE", "DONE"));
}

async fn futures_of(contained: &Suspect, left: &Suspect) -> (Value, Value) {
    let (at_once, never) = (finding(&contained.id, AT_ONCE, 8.0, 1), finding(&left.id, NEVER, 8.0, 1));
    let (first, second) = tokio::join!(local().contain(&at_once), local().contain(&never));
    (first.output(), second.output())
}

#[tokio::test]
async fn who_fails_the_task_rejects_and_a_request_may_ask_too() {
    let suspect = Suspect::plant(&json!({"scaling_group": false, "target_groups": 0, "data_volumes": 0}));
    let execution = local().start_contain(&json!({"instanceId": suspect.id, "approve": "ask", "reason": "odd"})).await;
    let (_, token) = asked(&suspect).await;
    let sfn = aws_sdk_sfn::Client::new(&local().config("SFN").await);
    sfn.send_task_failure().task_token(token).error("Rejected").cause("a freeze").send().await.expect("taken");
    let output = local().end_of(&execution).await.output();
    assert_eq!(output["status"], "REJECTED", "{output:#}");
    assert!(output["reason"].as_str().is_some_and(|r| r.contains("Rejected a freeze")), "{output:#}");
}

#[tokio::test]
async fn an_instance_that_asks_by_its_tag_is_asked_about_unless_the_request_says_otherwise() {
    let suspect = Suspect::plant(&json!({"scaling_group": false, "target_groups": 0, "data_volumes": 0}));
    let ec2 = local().ec2().await;
    let tag = aws_sdk_ec2::types::Tag::builder().key("stasis:exempt").value("please").build();
    ec2.create_tags().resources(&suspect.id).tags(tag).send().await.expect("tagged");
    let execution = local().start_contain(&finding(&suspect.id, "CryptoCurrency:EC2/BitcoinTool.B!DNS", 8.0, 1)).await;
    let (case, token) = asked(&suspect).await;
    let kept = local().json(&format!("cases/{case}/case.json")).await;
    assert!(kept["decided"]["by"].as_str().is_some_and(|by| by.contains("its tag stasis:exempt")), "{kept:#}");
    assert_eq!(kept["decided"]["approval"]["onExpiry"], "contain", "a tag buys no night");
    send(&token, &json!({"decision": "reject"})).await;
    assert_eq!(local().end_of(&execution).await.output()["status"], "REJECTED");
    let output = local().contain(&json!({"instanceId": suspect.id, "approve": "auto"})).await.output();
    assert_eq!(output["status"], "CONTAINED", "{output:#}");
}

#[tokio::test]
async fn where_nobody_can_be_asked_the_policy_says_what_follows_and_the_run_is_partial() {
    let suspect = Suspect::plant(&json!({"scaling_group": false, "target_groups": 0, "data_volumes": 0}));
    let input = json!({"case": {"schema": 1}, "token": "t"});
    let (error, message) = local().invoke("approval", &input).await.expect_err("refused");
    assert!(error == "InvalidInput" && message.contains("token"), "{message}");
    // The function of a run that cannot write to the bucket any more is what this stands for.
    let triaged = local().invoke("triage", &finding(&suspect.id, ASKED, 8.0, 1)).await.expect("triage");
    let case = &triaged["cases"][0];
    let heard = json!({"error": {"Error": "Denied", "Cause": "sns:Publish is denied"}});
    let outcome =
        local().invoke("approval", &json!({"case": case, "asked": 1, "heard": heard})).await.expect("settled");
    assert_eq!((outcome["status"].as_str(), &outcome["answer"]["contain"]), (Some("INCOMPLETE"), &json!(false)));
    let result = local().invoke("report", &json!({"caseId": case["caseId"]})).await.expect("report");
    assert!(result["reason"].as_str().is_some_and(|r| r.contains("sns:Publish is denied")), "{result:#}");
    match local().contain(&json!({"instanceId": suspect.id, "approve": "perhaps"})).await {
        Ended::Failed { error, .. } => assert_eq!(error, "InvalidInput"),
        other => panic!("{other:?}"),
    }
}
