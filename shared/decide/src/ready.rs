//! Ready: whether an instance could be contained and captured now, found out before there is an incident. It asks the
//! stages' own plans over what AWS says now, in a case that is only supposed: what it says cannot drift from what they do.

use crate::verify::{bucket, lets_in};
use crate::{detach, memory, preserve, revoke};
use stasis_model::action::{Action, arn_name};
use stasis_model::baseline::{Agent, Baseline, Observed};
use stasis_model::case::{Case, Credentials, Decided, Egress, InstanceRef, MinimumSize, Mode, Policy};
use stasis_model::check::{Check, CheckStatus};
use stasis_model::disks::{VolumeFacts, destination_of, is_cross_account};
use stasis_model::error::InputError;
use stasis_model::facts::{BucketFacts, DetachFacts, VpcFacts};
use stasis_model::ids::{AccountId, CaseId, GroupId, InstanceId, Region, VpcId};
use stasis_model::memory::MemoryChoice;
use stasis_model::policy::Decision;
use stasis_model::ready::{
    Allowed, Effect, InstanceReadiness, Needed, PlaceFacts, Readiness, ReadyCheck, ReadyFacts, Verdict,
};
use stasis_model::stage::{Failure, Stage};
use stasis_model::trigger::Source;
use stasis_model::{SCHEMA, Timestamp};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// The services that an agent under quarantine needs; `ec2messages` by agents before 3.3.40 only
/// (<https://docs.aws.amazon.com/systems-manager/latest/userguide/setup-create-vpc.html>).
const SERVICES: [&str; 2] = ["ssm", "ssmmessages"];

/// The id of a case that nobody opened.
///
/// # Errors
/// Never for a time of this millennium.
pub fn case_id(now: Timestamp) -> Result<CaseId, InputError> {
    format!("case-{}-00000000", now.format("%Y%m%dT%H%M%SZ")).parse()
}

/// The case that an instance is looked at in: one that nobody opened, and in which nothing may be changed.
///
/// # Errors
/// Never for a time of this millennium.
pub fn supposed(
    instance: InstanceRef,
    baseline: Baseline,
    policy: Policy,
    bucket: &str,
    now: Timestamp,
) -> Result<Case, InputError> {
    Ok(Case {
        schema: SCHEMA,
        case_id: case_id(now)?,
        ticket: "readiness".parse()?,
        ticket_by: None,
        mode: Mode::DryRun,
        reason: None,
        opened_at: now,
        execution: None,
        taken_over: None,
        source: Source::Request,
        decided: Decided {
            decision: Decision::Contain,
            by: "readiness".to_owned(),
            policy: "the settings of the stack".to_owned(),
            approval: None,
            playbooks: Vec::new(),
            notes: Vec::new(),
        },
        remote_addresses: Vec::new(),
        instance,
        bucket: bucket.to_owned(),
        policy,
        baseline,
        stages: BTreeMap::new(),
    })
}

/// What is said of an instance.
pub fn instance(case: &Case, facts: &ReadyFacts, now: Timestamp) -> InstanceReadiness {
    let mut checks = vec![running(case), protectable(case)];
    checks.extend(memberships(case));
    checks.push(agent(&case.baseline.agent));
    checks.extend(reachable(case, facts));
    checks.extend(memory_of(case, facts));
    checks.push(disks(case, facts, now));
    checks.push(copies(case, facts));
    checks.extend(role(case, facts, now));
    checks.extend(claim(facts));
    InstanceReadiness {
        instance_id: case.instance.instance_id.clone(),
        name: case.baseline.instance.name().map(str::to_owned),
        verdict: Verdict::of(&checks),
        checks,
    }
}

/// What is said of an instance that could not be described.
pub fn unreadable(id: &InstanceId, why: &str) -> InstanceReadiness {
    let checks = vec![line("running", Effect::Containment, Check::unknown("running", "running", why), None)];
    InstanceReadiness { instance_id: id.clone(), name: None, verdict: Verdict::of(&checks), checks }
}

/// What holds for every instance of a place.
pub fn place(policy: &Policy, kept: &Observed<BucketFacts>, facts: &PlaceFacts) -> Vec<ReadyCheck> {
    let mut checks = vec![documents(policy, &facts.documents)];
    checks.extend(bucket::checks(&policy.disks, kept).into_iter().map(|check| {
        let name = check.name.clone();
        let remedy = "mend the evidence bucket: it is not as the stack made it";
        line(&name, Effect::Evidence, check, Some(remedy.to_owned()))
    }));
    checks.extend(permissions(&facts.permissions));
    checks
}

/// The whole answer; its verdict is the worst of its parts.
pub fn readiness(
    account: &AccountId,
    region: &Region,
    now: Timestamp,
    place: Vec<ReadyCheck>,
    instances: Vec<InstanceReadiness>,
) -> Readiness {
    let of_place = if place.is_empty() { Verdict::Ready } else { Verdict::of(&place) };
    let worst = instances.iter().map(|instance| instance.verdict).max().unwrap_or(Verdict::Ready);
    Readiness {
        schema: SCHEMA,
        checked_at: now,
        account: account.clone(),
        region: region.clone(),
        verdict: of_place.max(worst),
        place,
        instances,
        next: None,
        unasked: 0,
    }
}

/// A check with its meaning; a remedy only where it does not pass.
fn line(name: &str, effect: Effect, check: Check, remedy: Option<String>) -> ReadyCheck {
    let remedy = remedy.filter(|_| !check.passed());
    ReadyCheck { check: Check { name: name.to_owned(), ..check }, effect, remedy }
}

fn judged(name: &str, effect: Effect, expected: &str, trouble: Option<String>, remedy: &str) -> ReadyCheck {
    let observed = trouble.clone().unwrap_or_else(|| "so it is".to_owned());
    line(name, effect, Check::of(name, expected, trouble.is_none(), observed), Some(remedy.to_owned()))
}

fn unknown(name: &str, effect: Effect, expected: &str, why: &str) -> ReadyCheck {
    let remedy = "let the function stasis-ready read it, or look again".to_owned();
    line(name, effect, Check::unknown(name, expected, format!("could not be read: {why}")), Some(remedy))
}

fn running(case: &Case) -> ReadyCheck {
    let state = &case.baseline.instance.state;
    let check = Check::of("running", "running", state == "running", state);
    let remedy = "nothing of it can be contained or captured while it does not run; its disks can be preserved";
    line("running", Effect::Containment, check, Some(remedy.to_owned()))
}

fn protectable(case: &Case) -> ReadyCheck {
    let (name, expected) = ("can be protected", "EC2 offers it termination and stop protection");
    let spot = case.baseline.instance.spot.then(|| {
        "a Spot Instance: EC2 offers it neither protection, and may interrupt it while it is examined".to_owned()
    });
    judged(name, Effect::Evidence, expected, spot, "run what matters as evidence on demand; else expect PARTIAL")
}

/// What the stage detach would meet.
fn memberships(case: &Case) -> Vec<ReadyCheck> {
    let baseline = &case.baseline;
    let facts = DetachFacts {
        scaling: baseline.scaling.clone(),
        targets: baseline.targets.clone(),
        targets_unasked: baseline.targets_unasked,
        classic_load_balancers: baseline.classic_load_balancers.clone(),
    };
    let plan = detach::plan(case, &facts);
    let (name, expected) = ("can be detached", "its scaling group and load balancers let it go");
    let mut checks = Vec::new();
    let lasting: Vec<&Failure> = plan.obstacles.iter().filter(|failure| failure.code != "Unreadable").collect();
    let unread: Vec<&str> =
        plan.obstacles.iter().filter(|f| f.code == "Unreadable").map(|f| f.message.as_str()).collect();
    if let (true, false) = (lasting.is_empty(), unread.is_empty()) {
        checks.push(unknown(name, Effect::Containment, expected, &unread.join("; ")));
    } else {
        let trouble = (!lasting.is_empty()).then(|| messages(&plan.obstacles));
        let remedy =
            "bring it InService, or out of the group: a group that heeds health checks terminates what is cut off";
        checks.push(judged(name, Effect::Containment, expected, trouble, remedy));
    }
    let at_minimum = plan.actions().find_map(|action| match action {
        Action::LowerMinimumSize { group, from, to } => Some(format!(
            "{group} is at its minimum of {from}, which would be lowered to {to}: no replacement would be started"
        )),
        Action::DetachFromScalingGroup { group, decrement: false, .. }
            if case.policy.minimum_size == MinimumSize::Replace =>
        {
            Some(format!("{group} would start a replacement from the same template, which may be as vulnerable"))
        }
        _ => None,
    });
    checks.push(judged(
        "scaling group above its minimum",
        Effect::Advice,
        "one instance less than now is allowed",
        at_minimum,
        "raise the group's desired capacity above its minimum, or accept what the policy MinimumSize does",
    ));
    let unasked = (baseline.targets_unasked > 0).then(|| {
        format!(
            "{} target groups of the region were not asked; in an incident they are asked once it is cut off",
            baseline.targets_unasked
        )
    });
    checks.push(judged(
        "target groups known",
        Effect::Advice,
        "every target group was asked",
        unasked,
        "nothing: it is only slower",
    ));
    checks
}

fn messages(failures: &[Failure]) -> String {
    failures.iter().map(|failure| failure.message.as_str()).collect::<Vec<_>>().join("; ")
}

fn agent(agent: &Observed<Option<Agent>>) -> ReadyCheck {
    let (name, expected) = ("agent online", "Systems Manager reaches its agent");
    let remedy =
        "give it the agent, a role with AmazonSSMManagedInstanceCore, and a way to Systems Manager (docs/readiness.md)";
    let check = match agent {
        Observed::Unknown(why) => return unknown(name, Effect::Evidence, expected, why),
        Observed::Known(None) => {
            Check::missing(name, expected, "not managed by Systems Manager: neither volatile data nor memory")
        }
        Observed::Known(Some(agent)) => {
            let version = agent.version.as_deref().map(|version| format!(", agent {version}")).unwrap_or_default();
            Check::of(name, expected, agent.is_online(), format!("{}{version}", agent.ping_status))
        }
    };
    line(name, Effect::Evidence, check, Some(remedy.to_owned()))
}

/// Whether Systems Manager and S3 are reached from quarantine.
fn reachable(case: &Case, facts: &ReadyFacts) -> Vec<ReadyCheck> {
    let (agent, upload) = ("Systems Manager reached from quarantine", "S3 reached from quarantine");
    let expected = "443 to endpoints of the VPC, which let the quarantine in";
    let ok = |name: &str, how: &str| line(name, Effect::Evidence, Check::of(name, expected, true, how), None);
    match case.policy.egress {
        Egress::Https => {
            let how = "443 to anywhere (policy https), which any C2 on 443 may use too";
            return vec![ok(agent, how), ok(upload, how)];
        }
        Egress::None => {
            let why = || Some("nothing goes out of quarantine (policy none)".to_owned());
            let remedy = "set Egress to endpoints";
            return [agent, upload].map(|name| judged(name, Effect::Evidence, expected, why(), remedy)).into();
        }
        Egress::Endpoints => {}
    }
    let mut by_vpc: BTreeMap<&VpcId, Vec<IpAddr>> = BTreeMap::new();
    for interface in &case.baseline.instance.interfaces {
        let addresses = interface.addresses.iter().filter_map(|address| address.parse::<IpAddr>().ok());
        by_vpc.entry(&interface.vpc_id).or_default().extend(addresses);
    }
    let mut missing = Vec::new();
    for (vpc, addresses) in &by_vpc {
        let Some(known) = facts.vpcs.get(*vpc) else { continue };
        match closed(vpc, known, facts, addresses) {
            Ok(closed) => missing.extend(closed),
            Err(why) => return [agent, upload].map(|name| unknown(name, Effect::Evidence, expected, &why)).into(),
        }
    }
    let no_s3 = by_vpc.keys().filter(|vpc| {
        let endpoints = facts.vpcs.get(**vpc).and_then(|known| known.endpoints.known());
        endpoints.is_some_and(|endpoints| endpoints.s3_prefix_list.is_none())
    });
    let (here, bucket) = (&case.instance.region, &facts.bucket_region);
    let (no_s3, remedy) = if here == bucket {
        let missing = no_s3.map(|vpc| format!("{vpc} has no gateway endpoint of S3")).collect();
        (missing, "make a gateway endpoint of S3, which costs nothing, on the route tables of the instance's subnets")
    } else {
        let why = format!("the evidence bucket is in {bucket}, and a gateway endpoint in {here} serves {here} alone");
        (
            vec![why],
            "let these instances out to https by a rule of the policy, or run Stasis in their region; else their memory is not taken",
        )
    };
    let joined = |list: Vec<String>| (!list.is_empty()).then(|| list.join("; "));
    vec![
        judged(
            agent,
            Effect::Evidence,
            expected,
            joined(missing),
            "make interface endpoints of ssm and ssmmessages in the VPC, and let its own addresses in on 443 (docs/readiness.md)",
        ),
        judged(
            upload,
            Effect::Evidence,
            "a gateway endpoint of S3 in the VPC, in the bucket's region",
            joined(no_s3),
            remedy,
        ),
    ]
}

/// The services of Systems Manager that an instance in quarantine would not reach.
fn closed(vpc: &VpcId, known: &VpcFacts, facts: &ReadyFacts, addresses: &[IpAddr]) -> Result<Vec<String>, String> {
    let endpoints = match &known.endpoints {
        Observed::Known(endpoints) => endpoints,
        Observed::Unknown(why) => return Err(why.clone()),
    };
    let quarantine = known.group.known().and_then(Option::as_ref).map(|group| &group.group_id);
    let mut closed = Vec::new();
    for service in SERVICES {
        let Some(groups) = endpoints.services.get(service) else {
            closed.push(format!("{vpc} has no endpoint of {service}"));
            continue;
        };
        let inbound = match &facts.endpoint_groups {
            Observed::Known(inbound) => inbound,
            Observed::Unknown(why) => return Err(why.clone()),
        };
        let mut rules = groups.iter().filter_map(|group| inbound.get(group)).flatten();
        if !rules.any(|rule| lets_in(rule, quarantine, addresses)) {
            let names: Vec<&str> = groups.iter().map(GroupId::as_str).collect();
            closed
                .push(format!("the endpoint of {service} ({}) lets none of its addresses in on 443", names.join(", ")));
        }
    }
    Ok(closed)
}

fn memory_of(case: &Case, facts: &ReadyFacts) -> Option<ReadyCheck> {
    (case.policy.memory.choice == MemoryChoice::Acquire).then(|| {
        let (name, expected) = ("memory can be acquired", "a system that Stasis has a collector for");
        if let Observed::Unknown(why) = &facts.memory.machine {
            return unknown(name, Effect::Evidence, expected, why);
        }
        let remedy = "see docs/memory.md for what is supported; its disks are preserved all the same";
        judged(name, Effect::Evidence, expected, memory::obstacle(case, &facts.memory), remedy)
    })
}

/// What the stage preserve would meet.
fn disks(case: &Case, facts: &ReadyFacts, now: Timestamp) -> ReadyCheck {
    let (name, expected) = ("disks can be preserved", "every disk is a sound EBS volume");
    let preserve = match &facts.preserve {
        Observed::Known(preserve) => preserve,
        Observed::Unknown(why) => return unknown(name, Effect::Evidence, expected, why),
    };
    if let Observed::Unknown(why) = &preserve.volumes {
        return unknown(name, Effect::Evidence, expected, why);
    }
    let mut troubles: Vec<String> =
        preserve::plan(case, preserve, now, &[]).obstacles.into_iter().map(|failure| failure.message).collect();
    if let Observed::Known(Some(size)) = &preserve.instance_store_gb {
        troubles.push(format!("{size} GB of instance store, which no snapshot preserves"));
    }
    let trouble = (!troubles.is_empty()).then(|| troubles.join("; "));
    judged(name, Effect::Evidence, expected, trouble, "keep what matters on EBS volumes")
}

/// Whether snapshots would come where the policy wants them, under a key that is used there.
fn copies(case: &Case, facts: &ReadyFacts) -> ReadyCheck {
    let (name, expected) =
        ("disks encrypted and copied", "keys under which a copy can be made where the policy wants it");
    let Some(preserve) = facts.preserve.known() else {
        return unknown(name, Effect::Evidence, expected, "the disks could not be read");
    };
    let Some(volumes) = preserve.volumes.known() else {
        return unknown(name, Effect::Evidence, expected, "the volumes could not be read");
    };
    let own_key = !case.policy.disks.key.is_empty();
    let managed = preserve.aws_ebs_key.known().and_then(Option::as_deref);
    let trouble = |volume: &VolumeFacts| match (&volume.key, destination_of(case)) {
        (None, None) if !own_key => {
            Some(format!("{} is not encrypted, and so its snapshot would not be", volume.volume_id))
        }
        (Some(key), Some(to)) if is_cross_account(case) && !own_key && Some(key.as_str()) == managed => Some(format!(
            "{} is encrypted with aws/ebs, which account {} cannot use",
            volume.volume_id, to.place.account
        )),
        _ => None,
    };
    let troubles: Vec<String> = volumes.values().filter_map(trouble).collect();
    let trouble = (!troubles.is_empty()).then(|| troubles.join("; "));
    judged(name, Effect::Evidence, expected, trouble, "set the parameter SnapshotKey: a copy is made under it first")
}

/// What the stage revoke would meet; under policy keep, that the role is left.
fn role(case: &Case, facts: &ReadyFacts, now: Timestamp) -> Option<ReadyCheck> {
    let profile = case.baseline.instance.instance_profile.as_deref()?;
    let name = "sessions of its role can be revoked";
    Some(match case.policy.credentials {
        Credentials::Keep => judged(
            name,
            Effect::Advice,
            "credentials taken from it end with the incident",
            Some(format!("{} keeps its power (policy keep)", arn_name(profile))),
            "set Credentials to revoke, where each instance has a role of its own",
        ),
        Credentials::Revoke => {
            let obstacles = revoke::plan(case, &facts.revoke, now).obstacles;
            let trouble = (!obstacles.is_empty()).then(|| messages(&obstacles));
            let remedy = "give the instance a role of its own, and deploy infra/member.yaml for the quarantine profile";
            judged(name, Effect::Evidence, "a role of its own, and the quarantine profile", trouble, remedy)
        }
    })
}

/// That a case is open; nothing where none is.
fn claim(facts: &ReadyFacts) -> Option<ReadyCheck> {
    let (name, expected) = ("no case is open for it", "none");
    match &facts.claim {
        Observed::Known(None) => None,
        Observed::Known(Some(case)) => Some(judged(
            name,
            Effect::Advice,
            expected,
            Some(format!("{case} is open")),
            "see stasis show; what is found here is of an instance that is contained, or about to be",
        )),
        Observed::Unknown(why) => Some(unknown(name, Effect::Advice, expected, why)),
    }
}

fn documents(policy: &Policy, there: &Observed<BTreeSet<String>>) -> ReadyCheck {
    let (name, expected) =
        ("documents of Stasis deployed", "the Command documents of infra/member.yaml are in this region");
    let there = match there {
        Observed::Known(there) => there,
        Observed::Unknown(why) => return unknown(name, Effect::Evidence, expected, why),
    };
    let missing: Vec<&str> = wanted_documents(policy).filter(|wanted| !there.contains(*wanted)).collect();
    let remedy = "deploy infra/member.yaml in this account and region";
    let check = match missing.as_slice() {
        [] => Check::of(name, expected, true, "so it is"),
        missing => Check::missing(name, expected, format!("not there: {}", missing.join(", "))),
    };
    line(name, Effect::Evidence, check, Some(remedy.to_owned()))
}

/// The Command documents that a run would send.
pub fn wanted_documents(policy: &Policy) -> impl Iterator<Item = &str> {
    let memory = (policy.memory.choice == MemoryChoice::Acquire).then_some(policy.memory.document.as_str());
    std::iter::once(policy.capture_document.as_str()).chain(memory)
}

/// What the stages must be allowed to do to this instance, as far as it decides whether it can be held, cut off and kept.
/// Only what does not depend on what is made first, so that IAM can be asked beforehand.
pub fn needed(case: &Case) -> Vec<Needed> {
    let instance = &case.instance;
    let (account, region) = (&instance.account, &instance.region);
    let partition = region.partition();
    let ec2 = |kind: &str, id: &str| format!("arn:{partition}:ec2:{region}:{account}:{kind}/{id}");
    let itself = ec2("instance", instance.instance_id.as_str());
    let mut needed = vec![
        Needed { stage: Stage::Protect, action: "ec2:ModifyInstanceAttribute", resource: itself.clone() },
        Needed { stage: Stage::Capture, action: "ssm:SendCommand", resource: itself.clone() },
        Needed { stage: Stage::Preserve, action: "ec2:CreateSnapshots", resource: itself },
    ];
    needed.extend(case.baseline.instance.interfaces.iter().map(|interface| Needed {
        stage: Stage::Quarantine,
        action: "ec2:ModifyNetworkInterfaceAttribute",
        resource: ec2("network-interface", interface.interface_id.as_str()),
    }));
    needed.extend(case.baseline.scaling.known().into_iter().flatten().map(|membership| Needed {
        stage: Stage::Detach,
        action: "autoscaling:DetachInstances",
        // The group's own id is in its ARN, and nobody has asked for it; any will do, for a role that is for every group.
        resource: format!(
            "arn:{partition}:autoscaling:{region}:{account}:autoScalingGroup:00000000-0000-0000-0000-000000000000:autoScalingGroupName/{}",
            membership.group
        ),
    }));
    let groups: BTreeSet<&str> =
        case.baseline.targets.known().into_iter().flatten().map(|target| target.target_group.as_str()).collect();
    needed.extend(groups.into_iter().map(|group| Needed {
        stage: Stage::Detach,
        action: "elasticloadbalancing:DeregisterTargets",
        resource: group.to_owned(),
    }));
    needed
}

fn permissions(asked: &[(Needed, Observed<Allowed>)]) -> Vec<ReadyCheck> {
    let mut by_stage: BTreeMap<Stage, Vec<&(Needed, Observed<Allowed>)>> = BTreeMap::new();
    for one in asked {
        by_stage.entry(one.0.stage).or_default().push(one);
    }
    let mut checks = Vec::new();
    for (stage, asked) in by_stage {
        let name = format!("stage {stage} is allowed to do its work");
        let expected = asked.iter().map(|(needed, _)| needed.action).collect::<BTreeSet<_>>();
        let expected = expected.into_iter().collect::<Vec<_>>().join(", ");
        let (mut refused, mut open) = (Vec::new(), Vec::new());
        for (needed, allowed) in asked {
            let what = format!("{} on {}", needed.action, needed.resource);
            match allowed {
                Observed::Known(Allowed::Yes) => {}
                Observed::Known(Allowed::No(by)) => refused.push(format!("{what} is denied by {by}")),
                Observed::Known(Allowed::Depends(on)) => open.push(format!("{what} depends on {}", on.join(", "))),
                Observed::Unknown(why) => open.push(format!("{what}: {why}")),
            }
        }
        let effect = match stage {
            Stage::Capture | Stage::Preserve => Effect::Evidence,
            _ => Effect::Containment,
        };
        let check = match (refused.as_slice(), open.as_slice()) {
            ([], []) => Check::of(&name, expected, true, "allowed, as IAM's simulation says"),
            ([], open) => Check::unknown(&name, expected, open.join("; ")),
            (refused, _) => Check { status: CheckStatus::Fail, ..Check::unknown(&name, expected, refused.join("; ")) },
        };
        let remedy =
            "look for a service control policy, a permissions boundary or a changed role; deploy the stack anew";
        checks.push(line(&name, effect, check, Some(remedy.to_owned())));
    }
    checks
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample;
    use stasis_model::baseline::{ScalingMembership, ScalingSizes};
    use stasis_model::disks::{Destination, Place};
    use stasis_model::facts::{Allows, Endpoints, Peer, RevokeFacts};
    use stasis_model::memory::{Machine, MemoryFacts};

    fn case() -> Case {
        let mut case = sample::case();
        case.mode = Mode::DryRun;
        case.policy.memory.choice = MemoryChoice::Acquire;
        case.policy.memory.collector_x86_64 = "a".repeat(64);
        if let Observed::Known(Some(ScalingMembership { sizes: Some(sizes), .. })) = &mut case.baseline.scaling {
            *sizes = ScalingSizes { min: 1, desired: 3, max: 4 };
        }
        case
    }

    fn vpc() -> VpcId {
        "vpc-0aaaaaaaaaaaaaaa1".parse().expect("id")
    }

    fn group() -> GroupId {
        "sg-0bbbbbbbbbbbbbbb1".parse().expect("id")
    }

    fn https_from(peer: Peer) -> Allows {
        Allows { protocol: "tcp".to_owned(), from_port: 443, to_port: 443, peer }
    }

    fn facts() -> ReadyFacts {
        let services = SERVICES.map(|service| (service.to_owned(), vec![group()])).into();
        let endpoints = Endpoints { services, s3_prefix_list: Some("pl-1".to_owned()) };
        let known = VpcFacts {
            group: Observed::Known(None),
            pass_through: Observed::Known(None),
            endpoints: Observed::Known(endpoints),
        };
        let anywhere = https_from(Peer::Cidr4("0.0.0.0/0".to_owned()));
        let nobody = || Observed::Unknown("not read".to_owned());
        ReadyFacts {
            vpcs: BTreeMap::from([(vpc(), known)]),
            endpoint_groups: Observed::Known(BTreeMap::from([(group(), vec![anywhere])])),
            preserve: Observed::Known(sample::preserve_facts(&[])),
            memory: MemoryFacts::unbegun(
                case().baseline.agent,
                Observed::Known(Machine { architecture: "x86_64".to_owned(), memory_mib: 4096 }),
            ),
            revoke: RevokeFacts {
                association: nobody().map(|(): ()| None),
                role: nobody().map(|(): ()| None),
                shared_with: nobody().map(|(): ()| Vec::new()),
                quarantine_profile: nobody().map(|(): ()| None),
                revoked: nobody().map(|(): ()| false),
            },
            claim: Observed::Known(None),
            bucket_region: case().instance.region,
        }
    }

    fn told(case: &Case, facts: &ReadyFacts) -> (Verdict, Vec<(String, CheckStatus)>) {
        let said = instance(case, facts, sample::time());
        let bad = said.checks.iter().filter(|c| !c.check.passed() && c.effect != Effect::Advice);
        (said.verdict, bad.map(|c| (c.check.name.clone(), c.check.status)).collect())
    }

    #[test]
    fn an_ordinary_instance_is_ready_and_every_check_has_its_remedy_where_it_fails() {
        assert_eq!(told(&case(), &facts()), (Verdict::Ready, vec![]));
        for check in instance(&case(), &facts(), sample::time()).checks {
            assert_eq!(check.remedy.is_some(), !check.check.passed(), "{check:?}");
        }
    }

    #[test]
    fn each_thing_that_is_missing_is_told_with_what_it_means() {
        use CheckStatus::{Fail, Missing, Unknown};
        type Spoil = fn(&mut Case, &mut ReadyFacts);
        type Line = (Spoil, Verdict, Vec<(&'static str, CheckStatus)>);
        fn endpoints(facts: &mut ReadyFacts) -> &mut Endpoints {
            match facts.vpcs.values_mut().next().map(|known| &mut known.endpoints) {
                Some(Observed::Known(endpoints)) => endpoints,
                _ => panic!("endpoints"),
            }
        }
        fn volumes(facts: &mut ReadyFacts, change: fn(&mut VolumeFacts)) {
            if let Observed::Known(preserve) = &mut facts.preserve
                && let Observed::Known(volumes) = &mut preserve.volumes
            {
                volumes.values_mut().for_each(change);
            }
        }
        fn elsewhere(case: &mut Case) {
            case.policy.disks.destination = Some(Destination {
                place: Place {
                    account: "222233334444".parse().expect("id"),
                    region: "eu-west-1".parse().expect("region"),
                },
                role: "arn:aws:iam::222233334444:role/stasis-copies".to_owned(),
                key: "alias/copies".to_owned(),
            });
        }
        const SSM: &str = "Systems Manager reached from quarantine";
        const S3: &str = "S3 reached from quarantine";
        const KEYS: &str = "disks encrypted and copied";
        const DETACH: &str = "can be detached";
        let table: Vec<Line> = vec![
            (|c, _| c.baseline.instance.state = "stopped".to_owned(), Verdict::NotReady, vec![("running", Fail)]),
            (|c, _| c.baseline.instance.spot = true, Verdict::Limited, vec![("can be protected", Fail)]),
            (
                |c, _| {
                    if let Observed::Known(Some(membership)) = &mut c.baseline.scaling {
                        membership.lifecycle_state = "Pending:Wait".to_owned();
                    }
                },
                Verdict::NotReady,
                vec![(DETACH, Fail)],
            ),
            (
                |c, _| c.baseline.scaling = Observed::Unknown("AccessDenied".to_owned()),
                Verdict::Unknown,
                vec![(DETACH, Unknown)],
            ),
            (
                |c, f| {
                    c.baseline.agent = Observed::Known(None);
                    f.memory.agent = Observed::Known(None);
                },
                Verdict::Limited,
                vec![("agent online", Missing), ("memory can be acquired", Fail)],
            ),
            (|_, f| drop(endpoints(f).services.remove("ssmmessages")), Verdict::Limited, vec![(SSM, Fail)]),
            (|_, f| endpoints(f).s3_prefix_list = None, Verdict::Limited, vec![(S3, Fail)]),
            (|_, f| f.bucket_region = "eu-west-2".parse().expect("region"), Verdict::Limited, vec![(S3, Fail)]),
            (
                |_, f| {
                    let other = https_from(Peer::Cidr4("192.0.2.0/24".to_owned()));
                    f.endpoint_groups = Observed::Known(BTreeMap::from([(group(), vec![other])]));
                },
                Verdict::Limited,
                vec![(SSM, Fail)],
            ),
            (
                |_, f| f.endpoint_groups = Observed::Unknown("AccessDenied".to_owned()),
                Verdict::Limited,
                vec![(SSM, Unknown), (S3, Unknown)],
            ),
            (|c, _| c.policy.egress = Egress::None, Verdict::Limited, vec![(SSM, Fail), (S3, Fail)]),
            (
                |_, f| {
                    f.memory.machine = Observed::Known(Machine { architecture: "riscv64".to_owned(), memory_mib: 1 })
                },
                Verdict::Limited,
                vec![("memory can be acquired", Fail)],
            ),
            (
                |_, f| volumes(f, |v| v.state = "error".to_owned()),
                Verdict::Limited,
                vec![("disks can be preserved", Fail)],
            ),
            (|_, f| volumes(f, |v| v.key = None), Verdict::Limited, vec![(KEYS, Fail)]),
            (
                |c, f| {
                    elsewhere(c);
                    volumes(f, |v| v.key = Some(sample::AWS_EBS_KEY.to_owned()));
                },
                Verdict::Limited,
                vec![(KEYS, Fail)],
            ),
            (
                |c, f| {
                    elsewhere(c);
                    c.policy.disks.key = "alias/stasis-snapshots".to_owned();
                    volumes(f, |v| v.key = Some(sample::AWS_EBS_KEY.to_owned()));
                },
                Verdict::Ready,
                vec![],
            ),
            (
                |c, f| {
                    c.policy.credentials = Credentials::Revoke;
                    c.baseline.instance.instance_profile = Some("arn:aws:iam::1:instance-profile/web".to_owned());
                    f.revoke.quarantine_profile = Observed::Known(Some("arn:aws:iam::1:instance-profile/q".to_owned()));
                    f.revoke.association = Observed::Known(None);
                    f.revoke.role = Observed::Known(Some("web".to_owned()));
                    f.revoke.revoked = Observed::Known(false);
                    f.revoke.shared_with = Observed::Known(vec!["i-0bbbbbbb".parse().expect("id")]);
                },
                Verdict::Limited,
                vec![("sessions of its role can be revoked", Fail)],
            ),
        ];
        for (number, (spoil, verdict, lacking)) in table.into_iter().enumerate() {
            let (mut case, mut facts) = (case(), facts());
            spoil(&mut case, &mut facts);
            let lacking: Vec<_> = lacking.into_iter().map(|(name, status)| (name.to_owned(), status)).collect();
            assert_eq!(told(&case, &facts), (verdict, lacking), "line {number} of the table");
        }
    }

    #[test]
    fn a_group_at_its_minimum_is_good_to_know_and_no_obstacle() {
        let mut case = case();
        if let Observed::Known(Some(ScalingMembership { sizes: Some(sizes), .. })) = &mut case.baseline.scaling {
            *sizes = ScalingSizes { min: 3, desired: 3, max: 4 };
        }
        for minimum in [MinimumSize::LowerMin, MinimumSize::Replace] {
            case.policy.minimum_size = minimum;
            let said = instance(&case, &facts(), sample::time());
            assert_eq!(said.verdict, Verdict::Ready);
            assert!(said.checks.iter().any(|c| c.check.name.contains("minimum") && !c.check.passed()), "{minimum:?}");
        }
    }

    #[test]
    fn a_rule_for_the_quarantine_group_counts_once_there_is_such_a_group() {
        let mut facts = facts();
        let quarantine: GroupId = "sg-0ccccccccccccccc1".parse().expect("id");
        let rule = https_from(Peer::Group(quarantine.clone()));
        facts.endpoint_groups = Observed::Known(BTreeMap::from([(group(), vec![rule])]));
        assert_eq!(told(&case(), &facts).0, Verdict::Limited);
        if let Some(known) = facts.vpcs.get_mut(&vpc()) {
            known.group =
                Observed::Known(Some(stasis_model::facts::QuarantineGroup { group_id: quarantine, rules: vec![] }));
        }
        assert_eq!(told(&case(), &facts).0, Verdict::Ready);
    }

    #[test]
    fn a_function_that_may_not_do_its_work_is_named_and_what_is_not_known_is_not_a_pass() {
        let needed = needed(&case());
        let actions: BTreeSet<&str> = needed.iter().map(|n| n.action).collect();
        assert!(actions.contains("ec2:ModifyNetworkInterfaceAttribute") && actions.contains("ssm:SendCommand"));
        assert!(needed.iter().all(|n| n.resource.starts_with("arn:aws:")), "{needed:?}");
        let answer = |allowed: fn(&Needed) -> Observed<Allowed>| {
            let permissions = needed.iter().map(|n| (n.clone(), allowed(n))).collect();
            let documents = Observed::Known(wanted_documents(&case().policy).map(str::to_owned).collect());
            let bucket = sample::contained().bucket;
            Verdict::of(&place(&case().policy, &bucket, &PlaceFacts { documents, permissions }))
        };
        assert_eq!(answer(|_| Observed::Known(Allowed::Yes)), Verdict::Ready);
        assert_eq!(answer(|_| Observed::Unknown("AccessDenied".to_owned())), Verdict::Unknown);
        assert_eq!(
            answer(|_| Observed::Known(Allowed::Depends(vec!["aws:ResourceTag/a".to_owned()]))),
            Verdict::Unknown
        );
        let only = |stage: Stage| {
            move |n: &Needed| match n.stage == stage {
                true => Observed::Known(Allowed::No("the organisation".to_owned())),
                false => Observed::Known(Allowed::Yes),
            }
        };
        let of = |allowed: &dyn Fn(&Needed) -> Observed<Allowed>| {
            let permissions = needed.iter().map(|n| (n.clone(), allowed(n))).collect();
            let documents = Observed::Known(BTreeSet::new());
            place(&case().policy, &sample::contained().bucket, &PlaceFacts { documents, permissions })
        };
        assert_eq!(Verdict::of(&of(&only(Stage::Quarantine))), Verdict::NotReady);
        let captured = of(&only(Stage::Capture));
        assert_eq!(Verdict::of(&captured), Verdict::Limited);
        assert!(captured.iter().any(|c| c.check.observed.contains("Stasis-CaptureVolatile")), "{captured:?}");
        assert!(captured.iter().any(|c| c.check.observed.contains("denied by the organisation")), "{captured:?}");
    }
}
