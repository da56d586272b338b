//! One stage by itself, as an engineer calls it.

use crate::local::local;
use crate::suspect::Suspect;
use serde_json::{Value, json};

#[tokio::test]
async fn every_stage_can_be_called_by_itself_and_finds_nothing_left_to_do() {
    let suspect = Suspect::plant(&json!({}));
    let triaged =
        local().invoke("triage", &json!({"instanceId": suspect.id, "ticket": "INC-3"})).await.expect("triage");
    assert_eq!(triaged["decision"], "OPEN", "{triaged:#}");
    assert!(suspect.is_claimed().await);
    let by_instance = json!({"instanceId": suspect.id});
    let by_case = json!({"caseId": triaged["cases"][0]["caseId"]});
    for stage in ["protect", "detach", "prepare", "quarantine", "scope", "revoke"] {
        let first = local().invoke(stage, &by_instance).await.expect(stage);
        assert_eq!((first["status"].as_str(), first["attempt"].as_u64()), (Some("DONE"), Some(1)), "{first:#}");
        let writes = suspect.writes();
        let second = local().invoke(stage, &by_case).await.expect(stage);
        assert_eq!((second["status"].as_str(), second["attempt"].as_u64()), (Some("DONE"), Some(2)), "{second:#}");
        assert_eq!(suspect.writes(), writes, "{stage} again changes nothing");
        // Each report names the one before by its hash.
        let second = local().json(second["report"]["key"].as_str().expect("a key")).await;
        assert_eq!(second["previous"], first["report"], "{stage}");
        assert_eq!(second["actions"], json!([]), "{stage}");
    }
    assert!(suspect.is_quarantined().await);
    for stage in ["capture", "memory", "preserve", "replicate"] {
        let mut looks = tokio::time::interval(std::time::Duration::from_millis(200));
        let mut outcome = Value::Null;
        for _ in 0..100 {
            looks.tick().await;
            outcome = local().invoke(stage, &by_instance).await.expect(stage);
            if outcome["status"] != "WAITING" {
                break;
            }
        }
        assert_eq!(outcome["status"], "DONE", "{outcome:#}");
    }
    assert_eq!(suspect.snapshots().await.len(), 2, "made once, however often it is called");
    let verified = local().invoke("verify", &by_instance).await.expect("verify");
    assert_eq!(verified["summary"], "24 of 24 checks pass", "{verified:#}");
    let result = local().invoke("report", &by_instance).await.expect("report");
    assert_eq!(result["status"], "CONTAINED", "{result:#}");
}

#[tokio::test]
async fn a_stage_of_no_case_says_what_to_name() {
    for (input, name, part) in [
        (json!({"instanceId": "i-0fedcba9876543210"}), "NotFound", "no case is open for i-0fedcba9876543210"),
        (
            json!({"caseId": "case-20200101T000000Z-00000000"}),
            "NotFound",
            "there is no case case-20200101T000000Z-00000000",
        ),
        (json!({"caseId": "../../x"}), "InvalidInput", "is not a case id"),
        (json!({}), "InvalidInput", "caseId: missing"),
    ] {
        let (error, message) = local().invoke("protect", &input).await.expect_err("refused");
        assert_eq!(error, name, "{message}");
        assert!(message.contains(part), "{message}");
    }
}
