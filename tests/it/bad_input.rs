//! Inputs that must not be acted on: each ends with a word that helps, and nothing is left half open.

use crate::local::{Ended, local};
use crate::suspect::Suspect;
use serde_json::{Value, json};

fn sample(text: &str) -> Value {
    serde_json::from_str(text).expect("JSON")
}

#[tokio::test]
async fn an_event_that_is_not_about_an_instance_is_ignored_with_the_reason() {
    let suspect = Suspect::plant(&json!({}));
    let before = suspect.writes();
    let mut event = sample(include_str!("../../events/ignored/access-key-with-instance-details.json"));
    event["detail"]["resource"]["instanceDetails"]["instanceId"] = json!(suspect.id);
    let output = local().contain(&event).await.output();
    assert_eq!(output["status"], "IGNORED", "{output:#}");
    assert!(output["reason"].as_str().is_some_and(|r| r.contains("AccessKey")), "{output:#}");
    assert!(suspect.writes() == before && !suspect.is_claimed().await && suspect.cases().await.is_empty());
}

#[tokio::test]
async fn malformed_input_fails_at_once_and_names_the_key() {
    for (input, key) in [
        (sample(include_str!("../../events/invalid/unknown-key.json")), "tickett"),
        (sample(include_str!("../../events/invalid/malformed-id.json")), "instanceId"),
        (sample(include_str!("../../events/invalid/unknown-mode.json")), "mode"),
        (json!({}), "instanceId"),
    ] {
        match local().contain(&input).await {
            Ended::Failed { error, cause } => {
                assert_eq!(error, "InvalidInput");
                assert!(cause.contains(key), "{cause}");
            }
            Ended::Succeeded(output) => panic!("{output:#}"),
        }
    }
}

#[tokio::test]
async fn an_unknown_instance_is_a_mistake_in_a_request_and_everyday_news_in_a_finding() {
    let unknown = "i-0fedcba9876543210";
    match local().contain(&json!({"instanceId": unknown})).await {
        Ended::Failed { error, cause } => {
            assert_eq!(error, "NotFound");
            assert!(cause.contains(unknown), "{cause}");
        }
        Ended::Succeeded(output) => panic!("{output:#}"),
    }
    let finding =
        sample(&include_str!("../../events/guardduty/coin-miner.json").replace("i-0a1b2c3d4e5f67890", unknown));
    let output = local().contain(&finding).await.output();
    assert_eq!(output["status"], "IGNORED", "{output:#}");
    assert!(output["reason"].as_str().is_some_and(|r| r.contains(unknown) && r.contains("does not exist any more")));
    assert!(!local().keys("open/").await.iter().any(|key| key.contains(unknown)));
}

#[tokio::test]
async fn an_instance_of_another_account_than_the_finding_says_is_left_alone() {
    let suspect = Suspect::plant(&json!({}));
    let before = suspect.writes();
    match local().contain(&json!({"instanceId": suspect.id, "account": "333344445555"})).await {
        Ended::Failed { error, cause } => {
            assert!(error == "NotFound" && cause.contains(&suspect.id), "{error} {cause}")
        }
        Ended::Succeeded(output) => panic!("{output:#}"),
    }
    assert!(suspect.writes() == before && !suspect.is_claimed().await);
}

#[tokio::test]
async fn a_terminated_instance_is_ignored_as_a_finding_and_not_found_as_a_request() {
    let suspect = Suspect::plant(&json!({"scaling_group": false, "target_groups": 0}));
    let ec2 = local().ec2().await;
    #[expect(clippy::disallowed_methods, reason = "the test plays the world, not Stasis")]
    ec2.terminate_instances().instance_ids(&suspect.id).send().await.expect("terminated");
    match local().contain(&json!({"instanceId": suspect.id})).await {
        Ended::Failed { error, cause } => {
            assert!(error == "NotFound" && cause.contains("terminated"), "{error} {cause}")
        }
        Ended::Succeeded(output) => panic!("{output:#}"),
    }
    let finding =
        sample(&include_str!("../../events/guardduty/coin-miner.json").replace("i-0a1b2c3d4e5f67890", &suspect.id));
    let output = local().contain(&finding).await.output();
    assert_eq!(output["status"], "IGNORED", "{output:#}");
    assert!(!suspect.is_claimed().await);
}
