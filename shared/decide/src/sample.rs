//! An ordinary case for the unit tests: a web server in a scaling group, a target group and a classic load
//! balancer, with two volumes, in a VPC that has endpoints.

use crate::protect;
use chrono::{TimeDelta, TimeZone as _, Utc};
use stasis_model::action::Action;
use stasis_model::baseline::{
    Agent, Baseline, Instance, Interface, Observed, Protection, ScalingMembership, ScalingSizes, TargetRegistration,
    Volume,
};
use stasis_model::case::{
    Case, Credentials, Decided, Egress, InstanceRef, Language, MinimumSize, Mode, Policy, RemoteAddresses,
    TrackedConnections,
};
use stasis_model::disks::{DiskPolicy, Lock, PreserveFacts, Snapshot, VolumeFacts};
use stasis_model::facts::{
    Allows, BucketFacts, Command, DetachFacts, Endpoints, Peer, PublicAccessBlock, QuarantineFacts, QuarantineGroup,
    Rule, StoredObject, VerifyFacts, VpcFacts,
};
use stasis_model::memory::{Acquisition, AcquisitionStatus, Format, MemoryPolicy};
use stasis_model::policy::Decision;
use stasis_model::stage::{ActionRecord, Failure, Outcome, Stage, StageReport, StageStatus};
use stasis_model::tags;
use stasis_model::trigger::{Request, Source};
use stasis_model::{SCHEMA, Timestamp};
use std::collections::{BTreeMap, BTreeSet};

pub(crate) fn time() -> Timestamp {
    Utc.with_ymd_and_hms(2026, 11, 23, 6, 11, 26).single().expect("a time")
}

pub(crate) fn request() -> Request {
    Request {
        instance: "i-0a1b2c3d4e5f67890".parse().expect("id"),
        account: None,
        region: None,
        ticket: None,
        reason: None,
        mode: Mode::Contain,
        approve: None,
        last_seen: None,
        source: Source::Request,
        remote_addresses: Vec::new(),
    }
}

pub(crate) fn decided() -> Decided {
    Decided {
        decision: Decision::Contain,
        by: "the request".to_owned(),
        policy: "the built-in policy".to_owned(),
        approval: None,
        playbooks: Vec::new(),
        notes: Vec::new(),
    }
}

pub(crate) fn case() -> Case {
    let volume = |n: u8, device: &str| Volume {
        volume_id: format!("vol-0aaaaaaaaaaaaaaa{n}").parse().expect("id"),
        device: device.to_owned(),
        delete_on_termination: true,
    };
    Case {
        schema: SCHEMA,
        case_id: "case-20261123T061126Z-1f2e3d4c".parse().expect("id"),
        ticket: "INC-42".parse().expect("ticket"),
        ticket_by: None,
        mode: Mode::Contain,
        reason: None,
        opened_at: time(),
        execution: Some("execution-1".to_owned()),
        taken_over: None,
        source: Source::Request,
        decided: decided(),
        remote_addresses: Vec::new(),
        instance: InstanceRef {
            instance_id: "i-0a1b2c3d4e5f67890".parse().expect("id"),
            account: "111122223333".parse().expect("id"),
            region: "eu-central-1".parse().expect("region"),
        },
        bucket: "evidence".to_owned(),
        policy: Policy {
            owner: "SecurityTeam".to_owned(),
            egress: Egress::Endpoints,
            tracked_connections: TrackedConnections::Cut,
            remote_addresses: RemoteAddresses::Leave,
            minimum_size: MinimumSize::LowerMin,
            credentials: Credentials::Keep,
            quarantine_profile: "stasis-quarantine".to_owned(),
            capture_document: "Stasis-CaptureVolatile".to_owned(),
            capture_limit_seconds: 600,
            memory: MemoryPolicy::default(),
            disks: DiskPolicy::default(),
            report_language: Language::English,
        },
        baseline: Baseline {
            schema: SCHEMA,
            observed_at: time(),
            instance: Instance {
                state: "running".to_owned(),
                instance_type: "m7g.large".to_owned(),
                image_id: None,
                platform: Some("Linux/UNIX".to_owned()),
                launched_at: None,
                spot: false,
                vpc_id: Some("vpc-0aaaaaaaaaaaaaaa1".parse().expect("id")),
                availability_zone: None,
                instance_profile: None,
                root_device: Some("/dev/xvda".to_owned()),
                tags: BTreeMap::from([("Name".to_owned(), "web-7".to_owned())]),
                volumes: vec![volume(1, "/dev/xvda"), volume(2, "/dev/xvdb")],
                interfaces: vec![Interface {
                    interface_id: "eni-0aaaaaaaaaaaaaaa1".parse().expect("id"),
                    device_index: 0,
                    vpc_id: "vpc-0aaaaaaaaaaaaaaa1".parse().expect("id"),
                    subnet_id: "subnet-1".to_owned(),
                    groups: vec!["sg-0aaaaaaaaaaaaaaa1".parse().expect("id")],
                    addresses: vec!["10.0.0.5".to_owned()],
                    public_address: None,
                    source_dest_check: Some(true),
                }],
            },
            protection: Observed::Known(Protection {
                termination: false,
                stop: false,
                shutdown_behavior: "terminate".to_owned(),
            }),
            scaling: Observed::Known(Some(ScalingMembership {
                group: "web".to_owned(),
                lifecycle_state: "InService".to_owned(),
                protected_from_scale_in: false,
                sizes: Some(ScalingSizes { min: 1, max: 4, desired: 2 }),
            })),
            targets: Observed::Known(vec![TargetRegistration {
                target_group: "arn:aws:elasticloadbalancing:eu-central-1:111122223333:targetgroup/web/0123456789abcdef"
                    .to_owned(),
                target: "i-0a1b2c3d4e5f67890".to_owned(),
                port: Some(8080),
                availability_zone: None,
                health: Some("healthy".to_owned()),
            }]),
            targets_unasked: 0,
            classic_load_balancers: Observed::Known(vec!["old-web".to_owned()]),
            tags: Observed::Known(BTreeMap::new()),
            agent: Observed::Known(Some(Agent {
                ping_status: "Online".to_owned(),
                platform_type: "Linux".to_owned(),
                platform_name: None,
                version: None,
            })),
        },
        stages: BTreeMap::new(),
    }
}

/// A customer key of the instance's account.
pub(crate) const CUSTOMER_KEY: &str = "arn:aws:kms:eu-central-1:111122223333:key/0a0a0a0a-0000-4000-8000-000000000001";
/// The key that AWS manages there.
pub(crate) const AWS_EBS_KEY: &str = "arn:aws:kms:eu-central-1:111122223333:key/0a0a0a0a-0000-4000-8000-000000000002";

/// The record of an action that was done, or refused with a code.
pub(crate) fn record(action: Action, code: Option<&str>) -> ActionRecord {
    ActionRecord {
        words: action.to_string(),
        target: action.target(),
        action,
        outcome: if code.is_some() { Outcome::Failed } else { Outcome::Applied },
        error: code.map(|code| Failure::lasting(code, "AWS said no")),
        request_id: None,
        at: time(),
    }
}

pub(crate) fn governance() -> Lock {
    Lock { state: "governance".to_owned(), days: Some(365), expires_at: Some(time() + TimeDelta::days(365)) }
}

pub(crate) fn preserve_facts(states: &[&str]) -> PreserveFacts {
    let instance = case().baseline.instance;
    let volumes = instance.volumes.iter().map(|volume| {
        let facts = VolumeFacts {
            volume_id: volume.volume_id.clone(),
            state: "in-use".to_owned(),
            kind: "gp3".to_owned(),
            size_gib: 8,
            key: Some(CUSTOMER_KEY.to_owned()),
            others: Vec::new(),
        };
        (volume.volume_id.clone(), facts)
    });
    PreserveFacts {
        volumes: Observed::Known(volumes.collect()),
        aws_ebs_key: Observed::Known(Some(AWS_EBS_KEY.to_owned())),
        snapshots: snapshots(states),
        older: Vec::new(),
        instance_store_gb: Observed::Known(None),
        instance,
    }
}

pub(crate) fn snapshots(states: &[&str]) -> Vec<Snapshot> {
    let case = case();
    states
        .iter()
        .enumerate()
        .map(|(n, state)| Snapshot {
            snapshot_id: format!("snap-0aaaaaaaaaaaaaaa{}", n + 1).parse().expect("id"),
            volume_id: format!("vol-0aaaaaaaaaaaaaaa{}", n + 1).parse().expect("id"),
            state: (*state).to_owned(),
            message: None,
            progress: if *state == "completed" { 100 } else { 40 },
            encrypted: true,
            key: Some(CUSTOMER_KEY.to_owned()),
            size_gib: 8,
            started_at: Some(time()),
            lock: Observed::Known(Some(governance())),
            shared_with: Observed::Known(BTreeSet::new()),
            tags: tags::evidence_tags(&case).into_iter().map(|tag| (tag.key, tag.value)).collect(),
        })
        .collect()
}

pub(crate) fn quarantine_facts(group: Option<QuarantineGroup>) -> QuarantineFacts {
    let case = case();
    QuarantineFacts {
        interfaces: Observed::Known(case.baseline.instance.interfaces),
        vpcs: BTreeMap::from([(
            "vpc-0aaaaaaaaaaaaaaa1".parse().expect("id"),
            VpcFacts {
                group: Observed::Known(group),
                pass_through: Observed::Known(None),
                endpoints: Observed::Known(Endpoints {
                    services: BTreeMap::from([("ssm".to_owned(), vec!["sg-0bbbbbbbbbbbbbbb1".parse().expect("id")])]),
                    s3_prefix_list: Some("pl-1".to_owned()),
                }),
            },
        )]),
        acls: Observed::Known(Vec::new()),
    }
}

/// A VPC with its quarantine group in order and its pass-through group open.
pub(crate) fn ready(case: &Case, known: &VpcFacts) -> VpcFacts {
    let wanted = crate::quarantine::wanted_egress(case.policy.egress, &known.endpoints);
    let everything = ["0.0.0.0/0", "::/0"].map(|range| Allows {
        protocol: "-1".to_owned(),
        from_port: -1,
        to_port: -1,
        peer: if range == "::/0" { Peer::Cidr6(range.to_owned()) } else { Peer::Cidr4(range.to_owned()) },
    });
    VpcFacts {
        group: Observed::Known(Some(QuarantineGroup {
            group_id: "sg-0fffffffffffffff1".parse().expect("id"),
            rules: wanted.into_iter().map(|allows| Rule { egress: true, allows }).collect(),
        })),
        pass_through: Observed::Known(Some(QuarantineGroup {
            group_id: "sg-0fffffffffffffff2".parse().expect("id"),
            rules: [true, false]
                .into_iter()
                .flat_map(|egress| everything.clone().map(|allows| Rule { egress, allows }))
                .collect(),
        })),
        endpoints: known.endpoints.clone(),
    }
}

/// A report of a stage that was through at once.
pub(crate) fn stage_report(stage: Stage, status: StageStatus, at: Timestamp) -> StageReport {
    StageReport {
        schema: SCHEMA,
        case_id: case().case_id,
        stage,
        attempt: 1,
        status,
        started_at: at,
        finished_at: at,
        wait_seconds: None,
        summary: String::new(),
        previous: None,
        actions: Vec::new(),
        failures: Vec::new(),
        evidence: Vec::new(),
        checks: Vec::new(),
        notes: Vec::new(),
        answer: None,
    }
}

/// What came of an acquisition of 1 GiB.
pub(crate) fn acquisition(status: AcquisitionStatus) -> Acquisition {
    Acquisition {
        schema: SCHEMA,
        takeover: 0,
        status,
        reason: (status != AcquisitionStatus::Captured).then(|| "a reason".to_owned()),
        machine_bytes: Some(1 << 30),
        host_bytes: Some(1 << 30),
        expected_bytes: Some((1 << 30) + 32),
        received_bytes: (1 << 30) + 32,
        gap_bytes: 0,
        gaps: 0,
        format: Format::Lime,
        sha256: Some("aa".repeat(32)),
        crc64nvme: None,
        version_id: None,
        kernel: None,
        command_id: Some("c-2".to_owned()),
        undelivered: false,
        notes: Vec::new(),
    }
}

/// What AWS says when everything is as it must be.
pub(crate) fn contained() -> VerifyFacts {
    let case = case();
    let mut instance = case.baseline.instance.clone();
    instance.volumes.iter_mut().for_each(|v| v.delete_on_termination = false);
    let mut quarantine = quarantine_facts(None);
    let wanted = quarantine
        .vpcs
        .values()
        .flat_map(|v| crate::quarantine::wanted_egress(case.policy.egress, &v.endpoints))
        .collect::<Vec<_>>();
    let group = QuarantineGroup {
        group_id: "sg-0fffffffffffffff1".parse().expect("id"),
        rules: wanted.into_iter().map(|allows| Rule { egress: true, allows }).collect(),
    };
    if let Observed::Known(interfaces) = &mut quarantine.interfaces {
        interfaces.iter_mut().for_each(|i| i.groups = vec![group.group_id.clone()]);
    }
    quarantine.vpcs.values_mut().for_each(|v| v.group = Observed::Known(Some(group.clone())));
    let tags = instance
        .resources(&case.instance.instance_id)
        .into_iter()
        .map(|resource| {
            let tags = protect::wanted_tags(&case, &resource).into_iter().map(|tag| (tag.key, tag.value)).collect();
            (resource, tags)
        })
        .collect();
    VerifyFacts {
        now: time(),
        instance: Observed::Known(instance),
        protection: Observed::Known(Protection { termination: true, stop: true, shutdown_behavior: "stop".to_owned() }),
        tags: Observed::Known(tags),
        memberships: DetachFacts {
            scaling: Observed::Known(None),
            targets: Observed::Known(Vec::new()),
            targets_unasked: 0,
            classic_load_balancers: Observed::Known(Vec::new()),
        },
        quarantine,
        endpoint_groups: Observed::Known(BTreeMap::from([(
            "sg-0bbbbbbbbbbbbbbb1".parse().expect("id"),
            vec![Allows {
                protocol: "tcp".to_owned(),
                from_port: 443,
                to_port: 443,
                peer: Peer::Cidr4("10.0.0.0/16".to_owned()),
            }],
        )])),
        command: Observed::Known(Some(Command {
            command_id: "c-1".to_owned(),
            status: "Success".to_owned(),
            undelivered: false,
            requested_at: time(),
            steps: Vec::new(),
        })),
        recorded: Observed::Known(Some(true)),
        custody: Observed::Known(None),
        snapshots: Observed::Known(snapshots(&["completed", "completed"])),
        copies: Observed::Known(Vec::new()),
        volatile: Observed::Known(vec![StoredObject { key: "cases/x/volatile/clockLinux.txt".to_owned(), size: 12 }]),
        memory: Observed::Known(None),
        bucket: Observed::Known(BucketFacts {
            versioned: true,
            lock: Some(("GOVERNANCE".to_owned(), 365)),
            encryption: Observed::Known(Some("aws:kms".to_owned())),
            public_access: Observed::Known(PublicAccessBlock {
                block_acls: true,
                ignore_acls: true,
                block_policy: true,
                restrict_buckets: true,
            }),
            tls_only: Observed::Known(true),
            replicated_to: Observed::Known(Vec::new()),
        }),
    }
}

/// What is known when every read is refused.
pub(crate) fn unreadable() -> VerifyFacts {
    fn no<T>() -> Observed<T> {
        Observed::Unknown("AccessDenied".to_owned())
    }
    let mut quarantine = quarantine_facts(None);
    quarantine.interfaces = no();
    quarantine.vpcs.values_mut().for_each(|v| *v = VpcFacts { group: no(), pass_through: no(), endpoints: no() });
    VerifyFacts {
        now: time(),
        instance: no(),
        protection: no(),
        tags: no(),
        memberships: DetachFacts { scaling: no(), targets: no(), targets_unasked: 0, classic_load_balancers: no() },
        quarantine,
        endpoint_groups: no(),
        command: no(),
        recorded: no(),
        custody: no(),
        snapshots: no(),
        copies: no(),
        volatile: no(),
        memory: no(),
        bucket: no(),
    }
}

/// Changes the rules of every quarantine group.
pub(crate) fn rules(facts: &mut VerifyFacts, change: impl Fn(&mut Vec<Rule>)) {
    for vpc in facts.quarantine.vpcs.values_mut() {
        if let Observed::Known(Some(group)) = &mut vpc.group {
            change(&mut group.rules);
        }
    }
}
