//! Readiness: what is said of instances before an incident, and that nothing is changed by saying it.

use crate::local::local;
use crate::suspect::Suspect;
use serde_json::{Value, json};
use std::collections::BTreeMap;

async fn said(suspect: &Suspect) -> Value {
    let answer = local().invoke("ready", &json!({"instanceIds": [suspect.id]})).await.expect("readiness");
    answer["instances"][0].clone()
}

/// What is not as it must be, good to know left aside: name of the check, and what was found.
fn lacking(said: &Value) -> BTreeMap<String, String> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let checks = said["checks"].as_array().expect("checks").iter();
    checks
        .filter(|check| check["status"] != "PASS" && check["effect"] != "advice")
        .inspect(|check| assert!(check["remedy"].as_str().is_some_and(|remedy| !remedy.is_empty()), "{check:#}"))
        .map(|check| (text(&check["name"]), text(&check["observed"])))
        .collect()
}

#[tokio::test]
async fn an_ordinary_instance_is_ready_and_looking_changes_nothing() {
    let suspect = Suspect::plant(&json!({}));
    let (before, written) = (local().describe(&suspect.planted), suspect.writes());
    let answer = local().invoke("ready", &json!({"instanceIds": [suspect.id]})).await.expect("readiness");
    let said = &answer["instances"][0];
    assert_eq!((said["verdict"].as_str(), lacking(said)), (Some("READY"), BTreeMap::new()), "{answer:#}");
    assert_eq!(answer["verdict"], "READY", "{answer:#}");
    let place = answer["place"].as_array().expect("checks");
    for stage in ["protect", "detach", "quarantine", "capture", "preserve"] {
        let allowed = |check: &Value| check["name"].as_str().is_some_and(|name| name.contains(stage));
        assert!(place.iter().any(|check| allowed(check) && check["status"] == "PASS"), "{stage}: {answer:#}");
    }
    assert_eq!(local().describe(&suspect.planted), before, "nothing is changed");
    assert_eq!(suspect.writes(), written);
    assert!(suspect.cases().await.is_empty() && !suspect.is_claimed().await);
}

#[tokio::test]
async fn what_is_missing_is_named_before_it_is_needed() {
    let table = [
        (json!({"agent": "offline"}), "LIMITED", vec!["agent online", "memory can be acquired"]),
        (json!({"agent": "unmanaged"}), "LIMITED", vec!["agent online", "memory can be acquired"]),
        (json!({"spot": true}), "LIMITED", vec!["can be protected"]),
        (json!({"platform": "macos"}), "LIMITED", vec!["memory can be acquired"]),
        (
            json!({"endpoints": false}),
            "LIMITED",
            vec!["S3 reached from quarantine", "Systems Manager reached from quarantine"],
        ),
        (json!({"endpoint_range": "192.0.2.0/24"}), "LIMITED", vec!["Systems Manager reached from quarantine"]),
        (json!({"disks": ["broken"], "data_volumes": 0}), "LIMITED", vec!["disks can be preserved"]),
    ];
    for (options, verdict, names) in table {
        let suspect = Suspect::plant(&options);
        let said = said(&suspect).await;
        let found = lacking(&said);
        assert_eq!(said["verdict"], verdict, "{options}: {said:#}");
        assert_eq!(found.keys().map(String::as_str).collect::<Vec<_>>(), names, "{options}: {said:#}");
    }
}

#[tokio::test]
async fn an_instance_at_the_minimum_of_its_group_or_with_an_open_case_is_told_as_such() {
    let suspect = Suspect::plant(&json!({"min_size": 3}));
    let output = local().contain(&json!({"instanceId": suspect.id, "mode": "preserve"})).await.output();
    let said = said(&suspect).await;
    let text = said.to_string();
    assert!(text.contains("at its minimum of 3"), "{said:#}");
    assert!(text.contains(output["caseId"].as_str().expect("a case")), "{said:#}");
}

#[tokio::test]
async fn a_function_that_may_not_do_its_work_makes_the_place_not_ready() {
    let suspect = Suspect::plant(&json!({"scaling_group": false, "target_groups": 0}));
    let iam = aws_sdk_iam::Client::new(&local().config("IAM").await);
    let name = format!("may-not-{}", suspect.id);
    let policy = json!({"Version": "2012-10-17", "Statement": [
        {"Effect": "Allow", "Action": "ec2:*", "Resource": "*"},
        {"Effect": "Deny", "Action": "ec2:ModifyNetworkInterfaceAttribute", "Resource": "*"},
    ]});
    // Readiness may ask about the roles of Stasis alone.
    let made = iam
        .create_role()
        .path("/stasis/")
        .role_name(&name)
        .assume_role_policy_document(json!({}).to_string())
        .send()
        .await;
    let arn = made.expect("a role").role().expect("it").arn().to_owned();
    iam.put_role_policy()
        .role_name(&name)
        .policy_name("all-but-one")
        .policy_document(policy.to_string())
        .send()
        .await
        .expect("its policy");
    let roles = format!("protect={arn},quarantine={arn}");
    let function = local().function_like("ready", &[("STASIS_ROLES", &roles)]).await;
    let answer = local().invoke_by_name(&function, &json!({"instanceIds": [suspect.id]})).await.expect("readiness");
    assert_eq!(answer["verdict"], "NOT_READY", "{answer:#}");
    let place: Vec<_> = answer["place"].as_array().expect("checks").iter().filter(|c| c["status"] != "PASS").collect();
    assert_eq!(place.len(), 1, "{place:#?}");
    assert!(
        place[0]["observed"].as_str().is_some_and(|o| o.contains("ec2:ModifyNetworkInterfaceAttribute")),
        "{place:#?}"
    );
    assert_eq!(answer["instances"][0]["verdict"], "READY", "{answer:#}");
}

#[tokio::test]
async fn by_policy_a_role_that_others_have_too_is_told_before_its_sessions_are_to_be_revoked() {
    let function = local().function_like("ready", &[("STASIS_CREDENTIALS", "revoke")]).await;
    let (alone, shares, with) = (
        Suspect::plant(&json!({"own_profile": true})),
        Suspect::plant(&json!({})),
        Suspect::plant(&json!({"scaling_group": false})),
    );
    let answer =
        local().invoke_by_name(&function, &json!({"instanceIds": [alone.id, shares.id]})).await.expect("ready");
    assert_eq!(lacking(&answer["instances"][0]), BTreeMap::new(), "{answer:#}");
    let found = lacking(&answer["instances"][1]);
    assert_eq!(
        found.keys().collect::<Vec<_>>(),
        ["sessions of its role can be revoked"],
        "{with}: {found:?}",
        with = with.id
    );
}

#[tokio::test]
async fn what_the_schedule_asks_for_is_kept_and_told() {
    // A place of its own: every running instance there is looked at, and other tests plant theirs elsewhere.
    let place = json!({"publish": true, "account": "333344445555", "region": "eu-north-1"});
    let answer = local().invoke("ready", &place).await.expect("readiness");
    assert_eq!((answer["instances"].as_array().map(Vec::len), &answer["next"]), (Some(0), &Value::Null), "{answer:#}");
    let kept = local().keys("readiness/333344445555/eu-north-1/").await;
    assert_eq!(kept.len(), 1, "{kept:?}");
    assert_eq!(local().json(&kept[0]).await, answer);
    let told = local().messages(&kept[0]).await;
    assert!(told.iter().any(|message| message.contains("0 of 0 running instances")), "{told:?}");
}

#[tokio::test]
async fn an_instance_of_another_account_is_looked_at_by_the_role_there_and_one_that_is_gone_is_said() {
    let there = Suspect::plant(&json!({"owner": "333344445555"}));
    let account = there.planted["account"].as_str().expect("an account");
    let asked = json!({"instanceIds": [there.id, "i-0123456789abcdef0"], "account": account});
    let answer = local().invoke("ready", &asked).await.expect("readiness");
    assert_eq!(answer["account"], account);
    assert_eq!(answer["instances"][0]["checks"][0]["status"], "PASS", "{answer:#}");
    let gone = &answer["instances"][1];
    assert_eq!((&gone["verdict"], &gone["checks"][0]["status"]), (&json!("UNKNOWN"), &json!("UNKNOWN")), "{gone:#}");
    for (wrong, named) in [(json!({}), "instanceIds"), (json!({"all": true, "publish": true}), "instanceIds")] {
        let (name, message) = local().invoke("ready", &wrong).await.expect_err("refused");
        assert!(name == "InvalidInput" && message.contains(named), "{name}: {message}");
    }
}

#[test]
fn the_command_line_tells_it_and_its_exit_code_says_whether_all_is_well() {
    let run = |arguments: &[&str]| {
        let output = local().command_line(arguments, &[]).output().expect("stasis runs");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    };
    let (good, bad) =
        (Suspect::plant(&json!({})), Suspect::plant(&json!({"agent": "offline", "name": "web\u{202e}gpj"})));
    let (code, out, err) = run(&["ready", &good.id]);
    assert!(code == Some(0) && out.contains("1 of 1 instances"), "{out}{err}");
    let (code, out, err) = run(&["ready", &good.id, &bad.id]);
    assert_eq!(code, Some(1), "{out}{err}");
    assert!(out.contains("1 of 2 instances") && out.contains("not so: agent online"), "{out}");
    assert!(out.contains("->") && !out.contains('\u{202e}'), "{out}");
    let (code, out, err) = run(&["--json", "ready", &bad.id]);
    let answer: Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!((code, &answer["instances"][0]["verdict"]), (Some(1), &json!("LIMITED")), "{out}{err}");
    let (code, _, err) = run(&["ready", "--all", "--account", "999988887777"]);
    assert!(code == Some(4) || code == Some(5), "{code:?} {err}");
    assert!(err.contains("999988887777") && err.contains("member.yaml"), "{err}");
}
