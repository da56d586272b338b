//! The memory, through the whole state machine: the real collector on a simulated host, presigned addresses that the
//! local S3 checks, and an image that is read back and compared.

use crate::local::local;
use crate::suspect::{Suspect, checklist, stage};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use stasis_acquisition::lime::Walk;

const CHECK: &str = "memory in the evidence bucket";

/// A file of the case's memory.
async fn file(output: &Value, name: &str) -> Vec<u8> {
    let case = output["caseId"].as_str().expect("a case");
    local().object(&format!("cases/{case}/memory/{name}")).await
}

async fn acquisition(output: &Value) -> Value {
    serde_json::from_slice(&file(output, "acquisition.json").await).expect("JSON")
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[tokio::test]
async fn the_image_of_a_contained_instance_is_whole_and_is_verified() {
    // 20 MiB: three parts.
    let suspect = Suspect::plant(&json!({"instance_type": "m6i.xlarge"}));
    let output = local().contain(&json!({"instanceId": suspect.id})).await.output();
    assert_eq!((output["status"].as_str(), stage(&output, "memory")), (Some("CONTAINED"), "DONE"), "{output:#}");
    assert_eq!(checklist(&output)[CHECK], "PASS");
    let outcome = acquisition(&output).await;
    assert_eq!(outcome["status"], "captured", "{outcome:#}");
    let image = file(&output, "image.lime").await;
    assert_eq!(outcome["receivedBytes"].as_u64(), Some(image.len() as u64));
    assert_eq!(outcome["sha256"].as_str(), Some(sha256(&image).as_str()), "what the host hashed is what is there");
    let mut walk = Walk::new(image.len() as u64);
    while !walk.is_over() {
        let at = usize::try_from(walk.at()).expect("small");
        walk.take(&image[at..at + 32]).expect("a header");
    }
    let records = walk.records().expect("records");
    assert_eq!(records.iter().map(|r| r.end - r.start).sum::<u64>(), 20 << 20);
    let last = format!("memory of {}, page {}. ", suspect.id, (20 << 20) / 4096 - 1);
    assert!(image.windows(last.len()).any(|w| w == last.as_bytes()), "the last page is in the image");
    let summary: Value = serde_json::from_slice(&file(&output, "host/summary.json").await).expect("JSON");
    assert_eq!(summary["stream"]["parts"].as_array().map(Vec::len), Some(3));
    let state = String::from_utf8(file(&output, "host/state.jsonl").await).expect("text");
    let process: Value = state.lines().map(|l| serde_json::from_str(l).expect("JSON")).next().expect("a process");
    assert_eq!((&process["name"], &process["deleted"]), (&json!("miner"), &json!(true)));
    // The manifest of the case lists it with its hash.
    let case = output["caseId"].as_str().expect("a case");
    let manifest = local().object(&format!("cases/{case}/manifest.json")).await;
    let manifest: Value = serde_json::from_slice(&manifest).expect("JSON");
    let listed = manifest["files"].as_array().expect("files").iter();
    let entry =
        listed.into_iter().find(|f| f["key"].as_str().is_some_and(|k| k.ends_with("image.lime"))).expect("listed");
    assert_eq!(entry["sha256"], outcome["sha256"]);
}

#[tokio::test]
async fn the_memory_is_asked_for_once_the_network_is_cut_and_never_with_a_key() {
    let suspect = Suspect::plant(&json!({}));
    let output = local().contain(&json!({"instanceId": suspect.id})).await.output();
    assert_eq!(output["status"], "CONTAINED", "{output:#}");
    let ours: Vec<_> = local()
        .requests(&suspect.id)
        .into_iter()
        .filter(|(o, p)| o == "SendCommand" && p.to_string().contains("Stasis-AcquireMemory"))
        .collect();
    assert_eq!(ours.len(), 1, "one command, and no second one at a later look");
    let text = ours[0].1.to_string();
    for secret in ["SecretAccessKey", "SessionToken\"", "AWS_SECRET"] {
        assert!(!text.contains(secret), "{secret}");
    }
    let moved = local().timed_requests(&suspect.interfaces()[0]);
    let moved = moved.into_iter().filter(|(o, _)| o == "ModifyNetworkInterfaceAttribute").map(|(_, at)| at).max();
    let commanded =
        local().timed_requests(&suspect.id).into_iter().filter(|(o, _)| o == "SendCommand").map(|(_, at)| at).max();
    assert!(moved.expect("moved") < commanded.expect("commanded"));
    // No report holds an address that still works.
    let case = output["caseId"].as_str().expect("a case");
    for name in ["report.html", "manifest.json", "stages/memory/1.json"] {
        let body = local().object(&format!("cases/{case}/{name}")).await;
        assert!(!String::from_utf8_lossy(&body).contains("X-Amz-Signature"), "{name}");
    }
}

/// The local S3 checks signatures: an address is good for its part of its upload, or for one creation, and no more.
#[tokio::test]
async fn an_address_allows_nothing_else() {
    let suspect = Suspect::plant(&json!({}));
    let output = local().contain(&json!({"instanceId": suspect.id})).await.output();
    let manifest: Value = serde_json::from_slice(&file(&output, "manifest-1.json").await).expect("JSON");
    let summary = manifest["objects"]["summary"].as_str().expect("an address");
    assert!(
        summary.contains("X-Amz-SignedHeaders=host%3Bif-none-match") || summary.contains("host;if-none-match"),
        "{summary}"
    );
    assert!(!summary.to_lowercase().contains("x-amz-checksum"), "{summary}");
    let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
    let put = |address: &str, condition: bool| {
        let request = agent.put(address);
        let request = if condition { request.header("if-none-match", "*") } else { request };
        request.send(&b"forged"[..]).expect("an answer").status().as_u16()
    };
    assert_eq!(put(summary, true), 412, "it is there already");
    assert_eq!(put(summary, false), 403, "without the condition the signature is another");
    let other = summary.replace("host/summary.json", "acquisition.json");
    assert_eq!(put(&other, true), 403, "another object");
    let read = agent.get(summary).call().expect("an answer").status().as_u16();
    assert_eq!(read, 403, "reading");
    let delete = agent.delete(summary).call().expect("an answer").status().as_u16();
    assert_eq!(delete, 403, "deleting");
    let template = manifest["parts"]["template"].as_str().expect("a template");
    let signature = manifest["parts"]["signatures"][0].as_str().expect("a signature");
    assert!(!template.to_lowercase().contains("x-amz-checksum"), "{template}");
    let part = |number: &str| template.replace("{part}", number).replace("{signature}", signature);
    assert_eq!(put(&part("2"), false), 403, "another part by the signature of the first");
    assert_eq!(put(&part("1"), false), 404, "the upload is over");
}

#[tokio::test]
async fn a_kernel_that_refuses_gives_the_memory_of_its_processes_and_it_is_said() {
    let suspect = Suspect::plant(&json!({"memory": "refused"}));
    let output = local().contain(&json!({"instanceId": suspect.id})).await.output();
    assert_eq!(
        (output["status"].as_str(), checklist(&output)[CHECK].as_str()),
        (Some("PARTIAL"), "FAIL"),
        "{output:#}"
    );
    assert!(suspect.is_quarantined().await);
    let outcome = acquisition(&output).await;
    assert_eq!(outcome["status"], "procmem", "{outcome:#}");
    let archive = file(&output, "image.lime").await;
    assert_eq!(outcome["sha256"].as_str(), Some(sha256(&archive).as_str()));
    let page = format!("memory of {}, page 1. ", suspect.id);
    assert!(archive.windows(page.len()).any(|w| w == page.as_bytes()));
}

#[tokio::test]
async fn a_host_that_shows_less_than_it_has_is_partial() {
    for (memory, reason) in [("half", "EC2 says 4"), ("gaps", "could not be read")] {
        let suspect = Suspect::plant(&json!({"memory": memory}));
        let output = local().contain(&json!({"instanceId": suspect.id})).await.output();
        assert_eq!(output["status"], "PARTIAL", "{output:#}");
        let outcome = acquisition(&output).await;
        assert_eq!(outcome["status"], "partial", "{outcome:#}");
        assert!(outcome["reason"].as_str().is_some_and(|r| r.contains(reason)), "{outcome:#}");
        assert!(outcome["receivedBytes"].as_u64().is_some_and(|b| b > 0), "what came is kept");
    }
}

#[tokio::test]
async fn a_host_that_says_it_sent_everything_and_sent_nothing_is_not_believed() {
    let suspect = Suspect::plant(&json!({"agent": "lying"}));
    let output = local().contain(&json!({"instanceId": suspect.id})).await.output();
    assert_eq!((output["status"].as_str(), stage(&output, "memory")), (Some("PARTIAL"), "INCOMPLETE"), "{output:#}");
    let outcome = acquisition(&output).await;
    assert_eq!(outcome["status"], "failed");
    assert!(outcome["reason"].as_str().is_some_and(|r| r.contains("no summary")), "{outcome:#}");
    let told = local().messages(output["caseId"].as_str().expect("a case")).await;
    let subjects: Vec<&str> = told.iter().filter_map(|message| message.split(": ").next()).collect();
    let (opened, last) = ("Stasis OPENED", "Stasis PARTIAL");
    // Capture and memory, while other work goes on.
    assert_eq!(subjects.iter().filter(|s| **s == "Stasis STAGE FAILED").count(), 2, "{told:#?}");
    assert_eq!(
        (subjects.first(), subjects.last().map(|s| s.starts_with(last))),
        (Some(&opened), Some(true)),
        "{told:#?}"
    );
}

#[tokio::test]
async fn what_has_no_memory_to_give_says_why() {
    for (options, status, reason) in [
        (json!({"agent": "offline"}), "failed", "AgentOffline"),
        (json!({"platform": "macos"}), "unsupported", "MacOS"),
    ] {
        let suspect = Suspect::plant(&options);
        let output = local().contain(&json!({"instanceId": suspect.id})).await.output();
        assert!(suspect.is_quarantined().await);
        let outcome = acquisition(&output).await;
        assert_eq!(outcome["status"], status, "{outcome:#}");
        assert!(outcome["reason"].as_str().is_some_and(|r| r.contains(reason)), "{outcome:#}");
    }
}

#[tokio::test]
async fn the_memory_of_a_host_whose_agent_was_away_is_taken_once_it_is_back_and_somebody_asks() {
    use aws_sdk_ec2::types::Tag;
    let suspect = Suspect::plant(&json!({"agent": "offline"}));
    let output = local().contain(&json!({"instanceId": suspect.id})).await.output();
    assert_eq!((output["status"].as_str(), stage(&output, "memory")), (Some("PARTIAL"), "INCOMPLETE"), "{output:#}");
    let first = acquisition(&output).await;
    assert_eq!((&first["status"], &first["takeover"]), (&json!("failed"), &json!(0)), "{first:#}");

    let back = Tag::builder().key("local:agent").value("online").build();
    let ec2 = local().ec2().await;
    ec2.create_tags().resources(&suspect.id).tags(back).send().await.expect("the agent is back");
    let again = local().contain(&json!({"instanceId": suspect.id, "reason": "its agent is back"})).await.output();
    assert_eq!((&again["status"], &again["caseId"]), (&json!("CONTAINED"), &output["caseId"]), "{again:#}");
    assert_eq!(
        (stage(&again, "memory"), stage(&again, "capture"), checklist(&again)[CHECK].as_str()),
        ("DONE", "DONE", "PASS")
    );
    let second: Value = serde_json::from_slice(&file(&again, "acquisition-1.json").await).expect("JSON");
    assert_eq!((&second["status"], &second["takeover"]), (&json!("captured"), &json!(1)), "{second:#}");
    assert_eq!(second["sha256"].as_str(), Some(sha256(&file(&again, "image.lime").await).as_str()));
    assert_eq!(acquisition(&again).await, first, "what came of the first stays");
}

/// What runs on a Windows host is played here (tests/windows shows it): this shows what is asked of it, and what is made
/// of its image.
#[tokio::test]
async fn a_windows_host_is_asked_by_the_operators_tool_and_its_image_is_judged_by_its_length() {
    for (memory, status, ending) in [("whole", "captured", "DONE"), ("half", "partial", "INCOMPLETE")] {
        let suspect = Suspect::plant(&json!({"platform": "windows", "memory": memory}));
        let output = local().contain(&json!({"instanceId": suspect.id})).await.output();
        assert_eq!(stage(&output, "memory"), ending, "{output:#}");
        let outcome = acquisition(&output).await;
        assert_eq!((&outcome["status"], &outcome["format"]), (&json!(status), &json!("raw")), "{outcome:#}");
        let image = file(&output, "image.raw").await;
        assert_eq!(outcome["receivedBytes"].as_u64(), Some(image.len() as u64));
        assert_eq!(outcome["sha256"].as_str(), Some(sha256(&image).as_str()));
        let commands = local().requests(&suspect.id).into_iter().filter(|(o, _)| o == "SendCommand");
        let sent: Vec<String> = commands.map(|(_, p)| p.to_string()).filter(|p| p.contains("AcquireMemory")).collect();
        assert_eq!(sent.len(), 1, "{sent:?}");
        assert!(sent[0].contains("ToolArguments") && sent[0].contains("{output}"), "{}", sent[0]);
    }
}

#[tokio::test]
async fn the_stage_run_again_changes_nothing() {
    let suspect = Suspect::plant(&json!({}));
    let output = local().contain(&json!({"instanceId": suspect.id})).await.output();
    let before = (file(&output, "acquisition.json").await, suspect.writes());
    let again = local().invoke("memory", &json!({"caseId": output["caseId"]})).await.expect("an answer");
    assert_eq!(again["status"], "DONE", "{again:#}");
    assert_eq!((file(&output, "acquisition.json").await, suspect.writes()), before);
}
