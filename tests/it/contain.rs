//! The main job, on instances as they really are.

use crate::local::local;
use crate::suspect::{Suspect, checklist};
use serde_json::{Value, json};

pub(crate) fn finding(instance: &str) -> Value {
    let text = include_str!("../../events/guardduty/coin-miner.json");
    let event: Value = serde_json::from_str(text).expect("JSON");
    let mut detail = event["detail"].clone();
    detail["resource"]["instanceDetails"]["instanceId"] = json!(instance);
    detail["id"] = json!(format!("finding-of-{instance}"));
    // As GuardDuty would deliver it now.
    detail["service"]["eventLastSeen"] = json!(stasis_model::now().to_rfc3339());
    detail
}

#[tokio::test]
async fn a_finding_contains_and_preserves_an_ordinary_instance() {
    let suspect = Suspect::plant(&json!({"name": "<script>alert(1)</script>", "classic": true}));
    let before = suspect.writes().len();
    let detail = finding(&suspect.id);
    let output = local().send_event("stasis.drill", "GuardDuty Finding", &detail, &suspect.id).await.output();
    assert_eq!(output["status"], "CONTAINED", "{output:#}");

    // The instance, as AWS tells it.
    assert_eq!(suspect.state().await, "running");
    assert_eq!(suspect.protection().await, (true, true, "stop".to_owned()));
    assert_eq!(suspect.delete_on_termination().await, [false, false]);
    assert!(suspect.is_quarantined().await, "{:?}", suspect.groups().await);
    assert_eq!(suspect.scaling_group().await, None);
    assert_eq!(suspect.scaling_sizes().await, (1, 1, 1), "shrunk by one, no replacement started");
    assert_eq!((suspect.serving_targets().await, suspect.classic_load_balancers().await), (0, 0));

    // The quarantine group lets nothing in, and out only to where Systems Manager and S3 are.
    let group = suspect.quarantine_group().await.expect("a quarantine group");
    let rules = suspect.rules(&group).await;
    assert!(
        rules.iter().all(|r| r.is_egress() == Some(true) && r.from_port() == Some(443) && r.to_port() == Some(443)),
        "{rules:?}"
    );
    let endpoints: Vec<&str> = rules.iter().filter_map(|r| r.referenced_group_info()?.group_id()).collect();
    assert_eq!(endpoints, [suspect.text("endpointGroupId")]);
    assert_eq!((rules.len(), rules.iter().filter(|r| r.prefix_list_id().is_some()).count()), (2, 1));

    // Tags, on everything.
    let case_id = output["caseId"].as_str().expect("a case");
    let ticket = output["ticket"].as_str().expect("a ticket");
    let mut tagged = vec![suspect.id.clone()];
    tagged.extend(suspect.interfaces());
    tagged.extend(
        suspect.planted["volumeIds"].as_array().expect("volumes").iter().map(|v| v.as_str().expect("id").to_owned()),
    );
    for resource in &tagged {
        let tags = suspect.tags_of(resource).await;
        for (key, value) in
            [("IncidentTicket", ticket), ("Owner", "SecurityTeam"), ("Evidence", "Yes"), ("stasis:case", case_id)]
        {
            assert_eq!(tags.get(key).map(String::as_str), Some(value), "{key} of {resource}");
        }
    }
    assert_eq!(suspect.tags_of(&suspect.id).await.get("stasis:status").map(String::as_str), Some("contained"));

    // The disks: one set, encrypted, tagged, with the volumes' own tags.
    let snapshots = suspect.snapshots().await;
    assert_eq!(snapshots.len(), 2);
    for snapshot in &snapshots {
        let tag = |key: &str| snapshot.tags().iter().find(|t| t.key() == Some(key)).and_then(|t| t.value());
        assert_eq!(
            (tag("stasis:case"), tag("IncidentTicket"), tag("Service")),
            (Some(case_id), Some(ticket), Some("storefront"))
        );
        assert!(
            snapshot.encrypted() == Some(true) && snapshot.state().is_some_and(|s| s.as_str() == "completed"),
            "{snapshot:?}"
        );
    }
    assert_eq!(local().requests(&suspect.id).iter().filter(|(o, _)| o == "CreateSnapshots").count(), 1);

    // The order: detached before cut off; and nothing that could lose evidence was ever asked for.
    let writes = suspect.writes();
    let sent = local().requests(&suspect.id);
    let detached = sent.iter().position(|(o, _)| o == "DetachInstances").expect("detached");
    let protected =
        sent.iter().position(|(o, p)| o == "ModifyInstanceAttribute" && p["DisableApiTermination.Value"] == "true");
    assert!(protected.expect("protected") < detached);
    assert!(writes.len() > before);
    for never in ["Terminate", "Stop", "Reboot", "Delete", "DetachVolume"] {
        assert!(!writes.iter().any(|w| w.starts_with(never)), "{writes:?}");
    }

    // What matters is also asserted on the requests: an emulator's yes is not AWS'.
    let request = |operation: &str, of: &str| {
        let found: Vec<Value> = local()
            .requests(of)
            .into_iter()
            .filter(|(o, p)| o == operation && p["DocumentName"] != "Stasis-AcquireMemory")
            .map(|(_, parameters)| parameters)
            .collect();
        assert_eq!(found.len(), 1, "{operation} of {of}: {found:?}");
        found[0].clone()
    };
    let detach = request("DetachInstances", &suspect.id);
    assert_eq!(detach["ShouldDecrementDesiredCapacity"], "true");
    // Each interface passes through the open group, into quarantine with the next call, and no other way.
    let pass_through = suspect.pass_through_group().await.expect("a pass-through group");
    let moved: Vec<Value> = local()
        .requests(&suspect.interfaces()[0])
        .into_iter()
        .filter(|(operation, _)| operation == "ModifyNetworkInterfaceAttribute")
        .map(|(_, parameters)| parameters)
        .collect();
    let groups: Vec<(&Value, &Value)> =
        moved.iter().map(|m| (&m["SecurityGroupId.1"], &m["SecurityGroupId.2"])).collect();
    assert_eq!(groups, [(&json!(pass_through), &Value::Null), (&json!(group), &Value::Null)]);
    // It was open both ways, in both address families, and has no rule any more.
    let opened: Vec<(String, Value)> =
        local().requests(&pass_through).into_iter().filter(|(o, _)| o.starts_with("AuthorizeSecurityGroup")).collect();
    let ranges = |direction: &str| -> Vec<String> {
        let mut ranges: Vec<String> = opened
            .iter()
            .filter(|(operation, _)| operation.ends_with(direction))
            .flat_map(|(_, p)| {
                p.as_object().expect("parameters").values().filter_map(|v| v.as_str().map(str::to_owned))
            })
            .filter(|v| v.contains("/0"))
            .collect();
        ranges.sort();
        ranges
    };
    assert_eq!(ranges("Ingress"), ["0.0.0.0/0", "::/0"]);
    // Outwards AWS itself had opened IPv4 when the group was made.
    assert_eq!(ranges("Egress"), ["::/0"]);
    assert!(suspect.rules(&pass_through).await.is_empty(), "closed behind it");
    let taken = request("CreateSnapshots", &suspect.id);
    assert_eq!(taken["CopyTagsFromSource"], "volume");
    assert_eq!(taken["TagSpecification.1.ResourceType"], "snapshot");
    let command = request("SendCommand", &suspect.id);
    assert_eq!(command["DocumentName"], "Stasis-CaptureVolatile");
    assert_eq!(command["InstanceIds"], json!([suspect.id]));
    assert_eq!(command["OutputS3BucketName"], local().bucket());
    assert!(command["Parameters"].is_null() && command["Targets"].is_null(), "no free-form parameter: {command}");
    let modified = local().requests(&suspect.id).into_iter().filter(|(o, _)| o == "ModifyInstanceAttribute");
    for (_, parameters) in modified {
        let attributes =
            ["DisableApiTermination.Value", "DisableApiStop.Value", "InstanceInitiatedShutdownBehavior.Value"];
        let named = attributes.iter().filter(|a| !parameters[**a].is_null()).count();
        let devices = !parameters["BlockDeviceMapping.1.DeviceName"].is_null();
        assert_eq!(named + usize::from(devices), 1, "one attribute a call: {parameters}");
        assert!(parameters["DisableApiTermination.Value"] != "false" && parameters["DisableApiStop.Value"] != "false");
        assert!(!devices || parameters["BlockDeviceMapping.1.Ebs.DeleteOnTermination"] == "false", "{parameters}");
    }

    // The case file.
    let folder = format!("cases/{case_id}/");
    let keys = local().keys(&folder).await;
    for name in ["case.json", "baseline.json", "manifest.json", "report.html", "stages/quarantine/1.json"] {
        assert!(keys.contains(&format!("{folder}{name}")), "{name} in {keys:?}");
    }
    let kept = local().object(&format!("{folder}findings/finding-of-{}.json", suspect.id)).await;
    let kept: Value = serde_json::from_slice(&kept).expect("JSON");
    assert_eq!(kept["detail"], detail);
    let baseline = local().json(&format!("{folder}baseline.json")).await;
    assert_eq!(baseline["protection"]["known"]["termination"], false);
    assert_eq!(baseline["instance"]["interfaces"][0]["groups"][0], suspect.text("productionGroupId"));
    let volume = suspect.planted["volumeIds"][0].as_str().expect("a volume");
    assert_eq!(baseline["tags"]["known"][volume]["Service"], "storefront");
    let sockets = keys.iter().filter(|k| k.starts_with(&format!("{folder}volatile/"))).count();
    assert!(sockets > 8, "{keys:?}");

    // Every hash of the manifest is that of the object, and nothing is left out of it.
    let manifest = local().json(&format!("{folder}manifest.json")).await;
    let files = manifest["files"].as_array().expect("files");
    let sequence = manifest["sequence"].as_u64().expect("a number");
    let own = [
        "manifest.json".into(),
        "manifest.sig".into(),
        format!("manifests/{sequence}.json"),
        format!("manifests/{sequence}.sig"),
    ];
    let listed: Vec<&str> = files.iter().filter_map(|file| file["key"].as_str()).collect();
    let others: Vec<&String> =
        keys.iter().filter(|key| !own.iter().any(|own| **key == format!("{folder}{own}"))).collect();
    assert_eq!(listed, others);
    assert_eq!(manifest["writer"]["function"], "stasis-report");
    let baseline = files.iter().find(|file| file["key"] == format!("{folder}baseline.json")).expect("the baseline");
    assert_eq!(baseline["writer"]["function"], "stasis-triage");
    assert_eq!(baseline["lock"]["mode"], "GOVERNANCE");
    for file in files {
        let key = file["key"].as_str().expect("a key");
        assert_eq!(file["sha256"], stasis_decide::sha256(&local().object(key).await), "{key}");
    }
    let page = String::from_utf8(local().object(&format!("{folder}report.html")).await).expect("text");
    assert!(page.contains("<h1>Contained</h1>") && page.contains("&lt;script&gt;") && !page.contains("<script"));

    // And what the run says agrees.
    assert!(checklist(&output).values().all(|status| status == "PASS"), "{output:#}");
    assert!(ticket.starts_with("oi-"), "an OpsItem is the ticket: {ticket}");
}

#[tokio::test]
async fn a_second_run_is_a_duplicate_and_changes_nothing() {
    let suspect = Suspect::plant(&json!({}));
    let first = local().contain(&json!({"instanceId": suspect.id, "ticket": "INC-1"})).await.output();
    assert_eq!(first["status"], "CONTAINED", "{first:#}");
    let (writes, groups, snapshots) = (suspect.writes(), suspect.groups().await, suspect.snapshots().await.len());
    let second = local().contain(&json!({"instanceId": suspect.id, "ticket": "INC-2"})).await.output();
    assert_eq!(second["status"], "DUPLICATE", "{second:#}");
    assert_eq!(second["caseId"], first["caseId"]);
    assert_eq!(suspect.writes(), writes);
    assert_eq!((suspect.groups().await, suspect.snapshots().await.len()), (groups, snapshots));
    assert_eq!(suspect.tags_of(&suspect.id).await.get("IncidentTicket").map(String::as_str), Some("INC-1"));
    assert_eq!(suspect.cases().await.len(), 1);
}

#[tokio::test]
async fn a_hundred_deliveries_at_the_same_moment_open_one_case() {
    const DELIVERIES: usize = 100;
    let suspect = Suspect::plant(&json!({}));
    let mut starts = tokio::task::JoinSet::new();
    for _ in 0..DELIVERIES {
        let finding = finding(&suspect.id);
        starts.spawn(async move { local().start_contain(&finding).await });
    }
    let mut statuses = Vec::new();
    for execution in starts.join_all().await {
        statuses.push(local().end_of(&execution).await.output()["status"].as_str().expect("a status").to_owned());
    }
    statuses.sort();
    let duplicates = std::iter::repeat_n("DUPLICATE", DELIVERIES - 1);
    assert!(statuses.iter().map(String::as_str).eq(std::iter::once("CONTAINED").chain(duplicates)), "{statuses:?}");
    assert_eq!((suspect.cases().await.len(), suspect.snapshots().await.len()), (1, 2));
    assert_eq!(local().granted("CreateOpsItem", &suspect.id), 1, "one ticket");
}

#[tokio::test]
async fn every_interface_is_moved_and_a_group_at_its_minimum_lets_go() {
    let suspect = Suspect::plant(&json!({"extra_interfaces": 2, "min_size": 2}));
    let output = local().contain(&json!({"instanceId": suspect.id})).await.output();
    assert_eq!(output["status"], "CONTAINED", "{output:#}");
    assert_eq!(suspect.groups().await.len(), 3);
    assert!(suspect.is_quarantined().await, "{:?}", suspect.groups().await);
    assert_eq!(suspect.scaling_sizes().await, (1, 1, 1), "the minimum was lowered by one");
    assert_eq!(suspect.scaling_group().await, None);
}

#[tokio::test]
async fn a_quarantine_group_that_drifted_is_brought_back_before_it_is_used() {
    let suspect = Suspect::plant(&json!({}));
    let vpc = suspect.text("vpcId");
    let ec2 = local().ec2().await;
    let tag = |key: &str, value: &str| aws_sdk_ec2::types::Tag::builder().key(key).value(value).build();
    let group = ec2
        .create_security_group()
        .vpc_id(vpc)
        .group_name(format!("stasis-quarantine-{vpc}"))
        .description("somebody added to it")
        .tag_specifications(
            aws_sdk_ec2::types::TagSpecification::builder()
                .resource_type(aws_sdk_ec2::types::ResourceType::SecurityGroup)
                .tags(tag("stasis:role", "quarantine"))
                .build(),
        )
        .send()
        .await
        .expect("made");
    let group = group.group_id().expect("an id");
    let ssh = aws_sdk_ec2::types::IpPermission::builder()
        .ip_protocol("tcp")
        .from_port(22)
        .to_port(22)
        .ip_ranges(aws_sdk_ec2::types::IpRange::builder().cidr_ip("0.0.0.0/0").build())
        .build();
    ec2.authorize_security_group_ingress().group_id(group).ip_permissions(ssh).send().await.expect("opened");
    assert_eq!(suspect.rules(group).await.len(), 2, "ssh in, and everything out, which is what AWS adds");
    let output = local().contain(&json!({"instanceId": suspect.id})).await.output();
    assert_eq!(output["status"], "CONTAINED", "{output:#}");
    assert_eq!(suspect.quarantine_group().await.as_deref(), Some(group), "the same group, no second one");
    let rules = suspect.rules(group).await;
    assert!(
        rules.len() == 2 && rules.iter().all(|r| r.is_egress() == Some(true) && r.cidr_ipv4().is_none()),
        "{rules:?}"
    );
}

#[tokio::test]
async fn two_instances_of_one_vpc_at_the_same_moment_share_one_quarantine_group() {
    let suspect = Suspect::plant(&json!({"scaling_group": false, "target_groups": 0}));
    let neighbour = suspect.neighbour().await;
    let first = local().start_contain(&json!({"instanceId": suspect.id})).await;
    let second = local().start_contain(&json!({"instanceId": neighbour})).await;
    for execution in [first, second] {
        let output = local().end_of(&execution).await.output();
        assert_eq!(checklist(&output)["every interface in the quarantine group only"], "PASS", "{output:#}");
    }
    assert!(suspect.is_quarantined().await, "and there is one group, or it could not be told by its name");
}

#[tokio::test]
async fn names_of_groups_that_others_have_taken_keep_nobody_from_being_cut_off() {
    let suspect = Suspect::plant(&json!({}));
    let vpc = suspect.text("vpcId");
    let mut taken = Vec::new();
    for role in ["quarantine", "pass-through"] {
        let call = local().ec2().await.create_security_group().vpc_id(vpc);
        let name = format!("stasis-{role}-{vpc}");
        let made = call.group_name(name).description("not ours").send().await.expect("made");
        taken.push(made.group_id().expect("an id").to_owned());
    }
    let output = local().contain(&json!({"instanceId": suspect.id})).await.output();
    assert_eq!(output["status"], "CONTAINED", "{output:#}");
    let case = output["caseId"].as_str().expect("a case");
    let ours =
        suspect.group_named(&format!("stasis-quarantine-{vpc}-{case}")).await.expect("a group of the case's own");
    let groups = suspect.groups().await;
    assert!(!groups.is_empty() && groups.values().all(|g| *g == [ours.clone()]), "{groups:?}");
    assert!(suspect.rules(&ours).await.iter().all(|r| r.is_egress() == Some(true) && r.cidr_ipv4().is_none()));
    for group in &taken {
        assert_eq!(suspect.rules(group).await.len(), 1, "as AWS made it");
    }
    let report = local().json(&format!("cases/{case}/stages/prepare/1.json")).await;
    let notes = report["notes"].to_string();
    assert!(taken.iter().all(|group| notes.contains(group.as_str())), "{notes}");
    // Another case there makes its own, so that neither looks at the other's; both are in quarantine, and the way back is as ever.
    let neighbour = suspect.neighbour().await;
    let second = local().contain(&json!({"instanceId": neighbour})).await.output();
    assert_eq!(checklist(&second)["every interface in the quarantine group only"], "PASS", "{second:#}");
    let other = second["caseId"].as_str().expect("a case");
    assert!(suspect.group_named(&format!("stasis-quarantine-{vpc}-{other}")).await.is_some());
    for id in [&suspect.id, &neighbour] {
        let again = local().contain(&finding(id)).await.output();
        assert_eq!(again["status"], "DUPLICATE", "{again:#}");
    }
    let released = local().release(&json!({"caseId": case, "reason": "a false alarm"})).await.output();
    assert_eq!(released["status"], "RELEASED", "{released:#}");
}

#[tokio::test]
async fn without_endpoints_nothing_goes_out_at_all() {
    let suspect = Suspect::plant(&json!({"endpoints": false}));
    let output = local().contain(&json!({"instanceId": suspect.id})).await.output();
    assert!(suspect.is_quarantined().await, "{output:#}");
    let group = suspect.quarantine_group().await.expect("a group");
    assert!(suspect.rules(&group).await.is_empty());
}

#[tokio::test]
async fn a_bare_instance_in_no_group_and_behind_nothing_is_contained() {
    let suspect = Suspect::plant(&json!({"scaling_group": false, "target_groups": 0, "data_volumes": 0}));
    let output = local().contain(&json!({"instanceId": suspect.id})).await.output();
    assert_eq!(output["status"], "CONTAINED", "{output:#}");
    assert_eq!((suspect.is_quarantined().await, suspect.snapshots().await.len()), (true, 1));
}

#[tokio::test]
async fn who_did_what_is_in_the_case_as_cloudtrail_has_it() {
    let suspect = Suspect::plant(&json!({}));
    let execution = local().start_contain(&json!({"instanceId": suspect.id})).await;
    let case = suspect.case_once_opened().await;
    // Somebody else touches it meanwhile.
    let tag = aws_sdk_ec2::types::Tag::builder().key("touched").value("yes").build();
    local().ec2().await.create_tags().resources(&suspect.id).tags(tag).send().await.expect("a tag");
    let output = local().end_of(&execution).await.output();
    assert_eq!(output["status"], "CONTAINED", "{output:#}");
    let kept = local().keys(&format!("cases/{case}/custody/")).await;
    let custody = local().json(kept.last().expect("a chain of custody")).await;
    let acts = custody["acts"].as_array().expect("acts");
    assert_eq!((&custody["unconfirmed"], &custody["cut"]), (&json!([]), &json!(false)), "{custody:#}");
    let by = |stage: Option<&str>, what: &str| {
        acts.iter().filter(|act| act["stage"].as_str() == stage && act["what"] == what).count()
    };
    for (stage, what) in [
        ("protect", "ec2:ModifyInstanceAttribute"),
        ("detach", "autoscaling:DetachInstances"),
        ("quarantine", "ec2:ModifyNetworkInterfaceAttribute"),
        ("capture", "ssm:SendCommand"),
        ("preserve", "ec2:CreateSnapshots"),
    ] {
        assert!(by(Some(stage), what) > 0, "{stage} {what}: {custody:#}");
    }
    assert_eq!(by(None, "ec2:CreateTags"), 1, "what somebody else did is told apart: {custody:#}");
    // A ticket is no stage's action, and nobody else's: it was made in a session of Stasis.
    let ticket = acts.iter().find(|act| act["what"] == "ssm:CreateOpsItem").expect("the ticket");
    assert_eq!((&ticket["stage"], &ticket["inSession"]), (&Value::Null, &json!(true)), "{custody:#}");
    let requests = |stage: &str| {
        let key = output["instances"][0]["stages"][stage]["report"]["key"].as_str().expect("a report").to_owned();
        async move { local().json(&key).await["actions"][0]["requestId"].clone() }
    };
    let protect = requests("protect").await;
    assert!(acts.iter().any(|act| act["requestId"] == protect), "{protect} {custody:#}");
}
