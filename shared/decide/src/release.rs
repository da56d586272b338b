//! Release: the way back from a false alarm. What is put back is the difference between the baseline and now, as
//! far as it is what Stasis' own actions make; what somebody else changed meanwhile is reported and left alone.
//! Evidence stays, and so does every protection until everything else is back.
//!
//! In this order, each part only once the one before is done: the network; targets and load balancers; the
//! scaling group, which would terminate an instance that fails its health checks; the group's sizes; the
//! protections and tags; and last the claim, so that a release that stops half way can be run again.

use crate::checks::release::{CLASSIC, EVIDENCE, FLOW_LOGS, GROUPS, PROTECTION, SCALING, TARGETS, VOLUMES};
use crate::preserve;
use chrono::TimeDelta;
use stasis_model::action::{AclEntry, Action, Device, Target, arn_name, target_group_name};
use stasis_model::baseline::{Interface, Observed, ScalingMembership, TargetRegistration};
use stasis_model::case::{Case, Credentials, RemoteAddresses, claim_key};
use stasis_model::check::Check;
use stasis_model::facts::ReleaseFacts;
use stasis_model::ids::GroupId;
use stasis_model::stage::{Failure, Next, Plan};
use stasis_model::tags::{self, Tag};
use std::collections::{BTreeMap, BTreeSet};

/// How long to wait for targets to be healthy before the instance goes back into its scaling group. A target
/// group's slowest ordinary setting takes 10 checks of 30 s
/// (<https://docs.aws.amazon.com/elasticloadbalancing/latest/application/target-group-health-checks.html>).
const HEALTH_SECONDS: i64 = 600;
/// How often to look meanwhile, in seconds.
const HEALTH_WAIT: u32 = 10;

/// What release does next. It is asked again after each part.
pub fn plan(case: &Case, facts: &ReleaseFacts) -> Plan {
    let mut plan = Plan::nothing();
    let parts = [network, traffic, scaling, sizes, protections, closing];
    for part in parts {
        let steps = part(case, facts, &mut plan);
        if plan.next != Next::Finish {
            return plan;
        }
        let mut any = false;
        for step in steps {
            any |= !step.is_empty();
            plan.step(step);
        }
        if any {
            plan.next = Next::ObserveAgain;
            return plan;
        }
        // What could not be put back keeps what comes after it from being put back: it would not be safe there.
        if !plan.obstacles.is_empty() {
            break;
        }
    }
    plan.checks = checklist(case, facts);
    plan
}

/// A fact, or else an obstacle.
fn read<'a, T>(fact: &'a Observed<T>, what: &str, plan: &mut Plan) -> Option<&'a T> {
    match fact {
        Observed::Known(fact) => Some(fact),
        Observed::Unknown(why) => {
            plan.obstacles.push(Failure::lasting(
                "Unreadable",
                format!("{what} could not be read, so nothing was put back there: {why}; run the release again"),
            ));
            None
        }
    }
}

fn network(case: &Case, facts: &ReleaseFacts, plan: &mut Plan) -> Vec<Vec<Action>> {
    let mut actions = Vec::new();
    if case.contains() {
        let interfaces = read(&facts.interfaces, "the network interfaces", plan);
        let ours = read(&facts.our_groups, "the quarantine groups", plan);
        let former = read(&facts.former_groups, "the former security groups", plan);
        if let (Some(interfaces), Some(ours), Some(former)) = (interfaces, ours, former) {
            actions.extend(interfaces.iter().filter_map(|i| restore_groups(case, facts, i, ours, former, plan)));
            for gone in case
                .baseline
                .instance
                .interfaces
                .iter()
                .filter(|b| !interfaces.iter().any(|i| i.interface_id == b.interface_id))
            {
                plan.notes
                    .push(format!("interface {} is no longer attached: somebody else took it off", gone.interface_id));
            }
        }
    }
    actions.extend(allow_addresses(case, facts, plan));
    actions.extend(restore_credentials(case, facts, plan));
    if let Some(logs) = read(&facts.flow_logs, "the flow logs", plan) {
        actions.extend(logs.iter().map(|log| Action::DeleteFlowLog { flow_log: log.clone() }));
    }
    vec![actions]
}

/// The groups an interface had before: of the baseline, or of the record for one that was attached later.
fn groups_before<'a>(case: &'a Case, facts: &'a ReleaseFacts, interface: &Interface) -> Option<&'a [GroupId]> {
    let known = case.baseline.instance.interfaces.iter().find(|b| b.interface_id == interface.interface_id);
    known.map(|b| b.groups.as_slice()).or_else(|| {
        facts.done.iter().find_map(|action| match action {
            Action::Quarantine { interface: moved, from, .. } if *moved == interface.interface_id => {
                Some(from.as_slice())
            }
            _ => None,
        })
    })
}

fn restore_groups(
    case: &Case,
    facts: &ReleaseFacts,
    interface: &Interface,
    ours: &BTreeSet<GroupId>,
    former: &BTreeSet<GroupId>,
    plan: &mut Plan,
) -> Option<Action> {
    let id = &interface.interface_id;
    let before = groups_before(case, facts, interface);
    let in_ours = interface.groups.iter().any(|g| ours.contains(g)) && before != Some(interface.groups.as_slice());
    if !in_ours {
        if before.is_some_and(|before| before != interface.groups.as_slice()) {
            plan.notes.push(format!(
                "interface {id} has the groups {}, which somebody else gave it: left as they are",
                names(&interface.groups)
            ));
        }
        return None;
    }
    let Some(before) = before else {
        plan.obstacles.push(Failure::lasting(
            "UnknownGroups",
            format!("interface {id} was attached after the baseline and its former groups are not on record: give it its groups by hand, then run the release again"),
        ));
        return None;
    };
    // What somebody else added to it meanwhile stays.
    let mut groups: Vec<GroupId> = interface.groups.iter().filter(|g| !ours.contains(g)).cloned().collect();
    let gone: Vec<GroupId> = before.iter().filter(|g| !former.contains(g)).cloned().collect();
    let back: Vec<GroupId> = before.iter().filter(|g| former.contains(g) && !groups.contains(g)).cloned().collect();
    if !gone.is_empty() {
        plan.notes.push(format!("interface {id} cannot get {} back: deleted meanwhile", names(&gone)));
    }
    groups.splice(0..0, back);
    if groups.is_empty() {
        plan.obstacles.push(Failure::lasting(
            "FormerGroupsGone",
            format!("every former group of interface {id} was deleted ({}): give it groups by hand, then run the release again", names(&gone)),
        ));
        return None;
    }
    Some(Action::RestoreGroups { interface: id.clone(), groups, from: interface.groups.clone() })
}

fn names(groups: &[GroupId]) -> String {
    let names: Vec<&str> = groups.iter().map(GroupId::as_str).collect();
    names.join(", ")
}

/// Our entries, where they are still as we made them. An entry that is not on record may be somebody else's: taking
/// it away could open what others closed.
fn allow_addresses(case: &Case, facts: &ReleaseFacts, plan: &mut Plan) -> Vec<Action> {
    let entries: BTreeSet<&AclEntry> = facts
        .done
        .iter()
        .filter_map(|action| match action {
            Action::DenyAddress { entry } => Some(entry),
            _ => None,
        })
        .collect();
    if entries.is_empty() && case.policy.remote_addresses == RemoteAddresses::Leave {
        return Vec::new();
    }
    let Some(acls) = read(&facts.acls, "the network ACLs", plan) else { return Vec::new() };
    let denied = |cidr: &str| {
        case.remote_addresses
            .iter()
            .any(|a| cidr.strip_prefix(&a.to_string()).is_some_and(|rest| rest.starts_with('/')))
    };
    for (acl, e) in acls.iter().flat_map(|acl| acl.entries.iter().map(move |e| (acl, e))) {
        let on_record =
            entries.iter().any(|o| o.network_acl == acl.id && o.egress == e.egress && o.rule_number == e.rule_number);
        if e.deny && denied(&e.cidr) && !on_record {
            plan.notes.push(format!(
                "entry {} of network ACL {} denies {} and is not on record as ours: left as it is",
                e.rule_number, acl.id, e.cidr
            ));
        }
    }
    let mut actions = Vec::new();
    for entry in entries {
        let there = acls
            .iter()
            .filter(|acl| acl.id == entry.network_acl)
            .flat_map(|acl| &acl.entries)
            .find(|e| e.egress == entry.egress && e.rule_number == entry.rule_number);
        match there {
            None => {}
            Some(e) if e.deny && e.protocol == "-1" && e.cidr == entry.cidr => {
                actions.push(Action::AllowAddress { entry: entry.clone() });
            }
            Some(_) => plan.notes.push(format!(
                "entry {} of network ACL {} is no longer ours: left as it is",
                entry.rule_number, entry.network_acl
            )),
        }
    }
    actions
}

fn restore_credentials(case: &Case, facts: &ReleaseFacts, plan: &mut Plan) -> Vec<Action> {
    let mut actions = Vec::new();
    let recorded = facts.done.iter().find_map(|action| match action {
        Action::ReplaceInstanceProfile { from, .. } => Some(from),
        _ => None,
    });
    let may_be_ours = case.policy.credentials == Credentials::Revoke;
    let from = recorded.or_else(|| case.baseline.instance.instance_profile.as_ref().filter(|_| may_be_ours));
    if let Some(from) = from
        && let Some(association) = read(&facts.association, "the instance profile", plan)
    {
        match association {
            Some(now) if arn_name(&now.profile) == case.policy.quarantine_profile => {
                actions.push(Action::ReplaceInstanceProfile {
                    instance: case.instance.instance_id.clone(),
                    association: now.id.clone(),
                    from: now.profile.clone(),
                    to: from.clone(),
                })
            }
            Some(now) if &now.profile == from => {}
            Some(now) => plan.notes.push(format!(
                "the instance profile is {}, which somebody else gave it: left as it is",
                arn_name(&now.profile)
            )),
            None => plan.notes.push("somebody else took the instance profile off: left as it is".to_owned()),
        }
    }
    let revoked = facts.done.iter().any(|action| matches!(action, Action::RevokeSessions { .. }));
    if (revoked || may_be_ours)
        && let Some(policies) = read(&facts.revocations, "the role's policies", plan)
    {
        actions.extend(
            policies
                .iter()
                .map(|(role, policy)| Action::RestoreSessions { role: role.clone(), policy: policy.clone() }),
        );
    }
    actions
}

/// The registrations to have again: those of the baseline, and those that were found and taken away later.
pub fn registrations_before(case: &Case, done: &[Action]) -> Vec<TargetRegistration> {
    let known = case.baseline.targets.known().into_iter().flatten().filter(|t| !t.is_leaving()).cloned();
    let mut all: Vec<TargetRegistration> =
        known.map(|registration| TargetRegistration { health: None, ..registration }).collect();
    for action in done {
        if let Action::DeregisterTargets { target_group, targets } = action {
            all.extend(targets.iter().map(|target| TargetRegistration {
                target_group: target_group.clone(),
                target: target.id.clone(),
                port: target.port,
                availability_zone: target.availability_zone.clone(),
                health: None,
            }));
        }
    }
    all.sort();
    all.dedup();
    all
}

/// The classic load balancers to be behind again.
pub fn classic_before(case: &Case, done: &[Action]) -> BTreeSet<String> {
    let known = case.baseline.classic_load_balancers.known().into_iter().flatten().cloned();
    let left = done.iter().filter_map(|action| match action {
        Action::DeregisterFromClassicLoadBalancer { load_balancer, .. } => Some(load_balancer.clone()),
        _ => None,
    });
    known.chain(left).collect()
}

fn same_target(a: &TargetRegistration, b: &TargetRegistration) -> bool {
    (&a.target_group, &a.target) == (&b.target_group, &b.target) && (a.port == b.port || a.port.is_none())
}

fn traffic(case: &Case, facts: &ReleaseFacts, plan: &mut Plan) -> Vec<Vec<Action>> {
    let mut actions = Vec::new();
    if !case.contains() {
        return vec![actions];
    }
    if let Some(now) = read(&facts.targets, "the target groups", plan) {
        let mut by_group: BTreeMap<String, Vec<Target>> = BTreeMap::new();
        for before in registrations_before(case, &facts.done) {
            if facts.gone_target_groups.contains(&before.target_group) {
                plan.notes.push(format!(
                    "target group {} was deleted meanwhile: nothing to register with",
                    target_group_name(&before.target_group)
                ));
            } else if !now.iter().any(|t| same_target(&before, t) && !t.is_leaving()) {
                by_group.entry(before.target_group).or_default().push(Target {
                    id: before.target,
                    port: before.port,
                    availability_zone: before.availability_zone,
                });
            }
        }
        actions.extend(
            by_group.into_iter().map(|(target_group, targets)| Action::RegisterTargets { target_group, targets }),
        );
    }
    if let Some(now) = read(&facts.classic_load_balancers, "the classic load balancers", plan) {
        for load_balancer in classic_before(case, &facts.done) {
            match now.get(&load_balancer) {
                Some(true) => {}
                Some(false) => actions.push(Action::RegisterWithClassicLoadBalancer {
                    load_balancer,
                    instance: case.instance.instance_id.clone(),
                }),
                None => plan.notes.push(format!(
                    "classic load balancer {load_balancer} was deleted meanwhile: nothing to register with"
                )),
            }
        }
    }
    vec![actions]
}

/// The scaling group that the instance was in when it was found.
fn membership_before(case: &Case) -> Option<&ScalingMembership> {
    let membership = case.baseline.scaling.known()?.as_ref()?;
    // One that was on its way out already does not go back.
    let leaving = ["Detach", "Terminat"].iter().any(|state| membership.lifecycle_state.starts_with(state));
    (case.contains() && !leaving).then_some(membership)
}

fn scaling(case: &Case, facts: &ReleaseFacts, plan: &mut Plan) -> Vec<Vec<Action>> {
    let Some(before) = membership_before(case) else { return Vec::new() };
    let Some(now) = read(&facts.scaling, "the Auto Scaling group", plan) else { return Vec::new() };
    match now {
        Some(now) if now.group != before.group => {
            plan.notes.push(format!(
                "the instance is in scaling group {}, where somebody else put it: left there",
                now.group
            ));
            return Vec::new();
        }
        // It is being detached still: attaching is refused until that is over.
        Some(now) if now.lifecycle_state.starts_with("Detach") => {
            plan.notes.push(format!("scaling group {} is still detaching the instance", now.group));
            plan.next = Next::Wait(HEALTH_WAIT);
            return Vec::new();
        }
        Some(_) => return Vec::new(),
        None => {}
    }
    let Some(group) = read(&facts.scaling_group, "the Auto Scaling group's sizes", plan) else { return Vec::new() };
    let Some(sizes) = group else {
        plan.notes.push(format!("scaling group {} was deleted meanwhile: nothing to attach to", before.group));
        return Vec::new();
    };
    if sizes.desired >= sizes.max {
        plan.obstacles.push(Failure::lasting(
            "ScalingGroupFull",
            format!(
                "scaling group {} has {} of at most {} instances, so the instance cannot be attached: raise its maximum or take another out, then run the release again",
                before.group, sizes.desired, sizes.max
            ),
        ));
        return Vec::new();
    }
    if facts.instance.state != "running" {
        plan.obstacles.push(Failure::lasting(
            "NotRunning",
            format!("the instance is {}, and a scaling group takes only a running one: start it, then run the release again", facts.instance.state),
        ));
        return Vec::new();
    }
    let unwell: Vec<String> = facts
        .targets
        .known()
        .into_iter()
        .flatten()
        .filter(|t| matches!(t.health.as_deref(), Some("initial" | "unhealthy" | "draining")))
        .map(|t| format!("{} in {}", t.health.as_deref().unwrap_or_default(), target_group_name(&t.target_group)))
        .collect();
    if !unwell.is_empty() {
        let since = facts.waiting_since.unwrap_or(facts.now);
        if facts.now - since < TimeDelta::seconds(HEALTH_SECONDS) {
            plan.notes.push(format!("waiting for the targets before attaching: {}", unwell.join(", ")));
            plan.next = Next::Wait(HEALTH_WAIT);
        } else {
            plan.obstacles.push(Failure::lasting(
                "NotHealthy",
                format!(
                    "after {HEALTH_SECONDS} s the instance is {}: scaling group {} would terminate it, so it is not attached; mend it, then run the release again",
                    unwell.join(", "),
                    before.group
                ),
            ));
        }
        return Vec::new();
    }
    vec![vec![Action::AttachToScalingGroup {
        group: before.group.clone(),
        instance: case.instance.instance_id.clone(),
    }]]
}

fn sizes(case: &Case, facts: &ReleaseFacts, plan: &mut Plan) -> Vec<Vec<Action>> {
    let Some(before) = membership_before(case) else { return Vec::new() };
    let Some(Some(now)) = facts.scaling.known() else { return Vec::new() };
    if now.group != before.group {
        return Vec::new();
    }
    let instance = case.instance.instance_id.clone();
    let group = before.group.clone();
    if now.lifecycle_state.starts_with("Pending") || now.lifecycle_state.starts_with("EnteringStandby") {
        plan.notes.push(format!("the instance is {} in scaling group {group}", now.lifecycle_state));
        plan.next = Next::Wait(HEALTH_WAIT);
        return Vec::new();
    }
    let mut actions = Vec::new();
    if let (Some(was), Some(is)) = (before.sizes, now.sizes) {
        let lowered_to = facts.done.iter().rev().find_map(|action| match action {
            Action::LowerMinimumSize { group: lowered, to, .. } if lowered == &group => Some(*to),
            _ => None,
        });
        // A record may be lost with the function that made it; what the action makes is known all the same.
        let at_minimum = before.lifecycle_state == "InService" && was.desired <= was.min && was.min > 0;
        match lowered_to.or_else(|| at_minimum.then_some(was.desired - 1)) {
            Some(to) if is.min == to && was.min > to => {
                actions.push(Action::RestoreMinimumSize { group: group.clone(), from: is.min, to: was.min });
            }
            _ if is.min != was.min => plan.notes.push(format!(
                "scaling group {group} has the minimum {} and had {}: somebody else changed it, left as it is",
                is.min, was.min
            )),
            _ => {}
        }
        if is.max != was.max {
            plan.notes.push(format!(
                "scaling group {group} has the maximum {} and had {}: somebody else changed it, left as it is",
                is.max, was.max
            ));
        }
        let standing_by = i32::from(before.lifecycle_state == "Standby" && now.lifecycle_state != "Standby");
        if is.desired - standing_by != was.desired {
            plan.notes.push(format!(
                "scaling group {group} aims for {} instances and aimed for {}: a replacement was started, or somebody else changed it; left as it is, because shrinking would terminate an instance of the group's choice",
                is.desired - standing_by, was.desired
            ));
        }
    }
    if before.protected_from_scale_in && !now.protected_from_scale_in {
        actions.push(Action::ProtectFromScaleIn { group: group.clone(), instance: instance.clone() });
    }
    let mut steps = vec![actions];
    if before.lifecycle_state == "Standby" && now.lifecycle_state == "InService" {
        steps.push(vec![Action::EnterStandby { group, instance }]);
    }
    steps
}

fn protections(case: &Case, facts: &ReleaseFacts, plan: &mut Plan) -> Vec<Vec<Action>> {
    let instance = &case.instance.instance_id;
    let mut actions = Vec::new();
    if let (Some(before), Some(now)) =
        (case.baseline.protection.known(), read(&facts.protection, "the protections", plan))
    {
        let mut differs = |name: &str, was: bool, is: bool, back: Action| match (was, is) {
            (false, true) => actions.push(back),
            (true, false) => {
                plan.notes.push(format!("{name} was on and is off: somebody else turned it off, left as it is"));
            }
            _ => {}
        };
        if !case.baseline.instance.spot {
            let back = Action::DisableTerminationProtection { instance: instance.clone() };
            differs("termination protection", before.termination, now.termination, back);
            let back = Action::DisableStopProtection { instance: instance.clone() };
            differs("stop protection", before.stop, now.stop, back);
        }
        if before.shutdown_behavior != now.shutdown_behavior {
            if now.shutdown_behavior == "stop" {
                actions.push(Action::RestoreShutdownBehavior {
                    instance: instance.clone(),
                    behavior: before.shutdown_behavior.clone(),
                });
            } else {
                plan.notes.push(format!(
                    "a shutdown from inside {}s and used to {}: somebody else changed it, left as it is",
                    now.shutdown_behavior, before.shutdown_behavior
                ));
            }
        }
    }
    let (mut devices, mut changed) = (Vec::new(), Vec::new());
    for before in &case.baseline.instance.volumes {
        match facts.instance.volumes.iter().find(|v| v.volume_id == before.volume_id) {
            Some(now) if before.delete_on_termination && !now.delete_on_termination => {
                devices.push(Device { device: now.device.clone(), volume_id: now.volume_id.clone() });
            }
            Some(now) if !before.delete_on_termination && now.delete_on_termination => {
                changed.push(format!(
                    "{} now goes with the instance: somebody else set that, left as it is",
                    before.volume_id
                ));
            }
            Some(_) => {}
            None => changed.push(format!("{} is no longer attached: somebody else took it off", before.volume_id)),
        }
    }
    plan.notes.extend(changed);
    if !devices.is_empty() {
        actions.push(Action::RestoreDeleteOnTermination { instance: instance.clone(), devices });
    }
    actions.extend(former_tags(case, facts, plan));
    vec![actions]
}

/// Tags of others that ours had replaced. The tags of an earlier case are ours too, and stay.
fn former_tags(case: &Case, facts: &ReleaseFacts, plan: &mut Plan) -> Vec<Action> {
    let Some(before) = case.baseline.tags.known() else { return Vec::new() };
    let Some(now) = read(&facts.tags, "the tags", plan) else { return Vec::new() };
    let mut by_tags: BTreeMap<Vec<Tag>, Vec<String>> = BTreeMap::new();
    for (resource, before) in before {
        let earlier_case = before.contains_key(tags::CASE);
        let former: Vec<Tag> = tags::evidence_tags(case)
            .into_iter()
            .filter(|ours| ours.key == tags::OWNER || (!earlier_case && ours.key != tags::CASE))
            .filter_map(|ours| {
                let was = before.get(&ours.key).filter(|was| **was != ours.value)?;
                let is_ours = now.get(resource).and_then(|t| t.get(&ours.key)) == Some(&ours.value);
                is_ours.then(|| Tag::new(ours.key.clone(), was.clone()))
            })
            .collect();
        if !former.is_empty() {
            by_tags.entry(former).or_default().push(resource.clone());
        }
    }
    by_tags.into_iter().map(|(tags, resources)| Action::RestoreTags { resources, tags }).collect()
}

fn closing(case: &Case, facts: &ReleaseFacts, plan: &mut Plan) -> Vec<Vec<Action>> {
    let Some(now) = read(&facts.tags, "the tags", plan) else { return Vec::new() };
    let status = now.get(case.instance.instance_id.as_str()).and_then(|tags| tags.get(tags::STATUS));
    let mark = (status.map(String::as_str) != Some(tags::RELEASED))
        .then(|| Action::MarkReleased { instance: case.instance.instance_id.clone() });
    let Some(claim) = read(&facts.claim, "the claim", plan) else { return Vec::new() };
    let close = (claim.as_ref() == Some(&case.case_id)).then(|| Action::CloseClaim { key: claim_key(&case.instance) });
    vec![mark.into_iter().collect(), close.into_iter().collect()]
}

/// What AWS says of the result. What somebody else changed is no failure of the release: it is in the notes.
fn checklist(case: &Case, facts: &ReleaseFacts) -> Vec<Check> {
    let mut checks = Vec::new();
    if case.contains() {
        checks.push(groups_check(case, facts));
        checks.push(scaling_check(case, facts));
        checks.push(targets_check(case, facts));
        checks.push(classic_check(case, facts));
    }
    checks.push(match (&case.baseline.protection, &facts.protection) {
        (Observed::Known(before), Observed::Known(now)) => {
            let words = |p: &stasis_model::baseline::Protection| {
                format!("termination {}, stop {}, shutdown {}", p.termination, p.stop, p.shutdown_behavior)
            };
            // More protected than before only where somebody else saw to it; less never by us.
            let ours = (now.termination && !before.termination)
                || (now.stop && !before.stop)
                || (now.shutdown_behavior == "stop" && before.shutdown_behavior != "stop");
            Check::of(PROTECTION, words(before), !ours || case.baseline.instance.spot, words(now))
        }
        _ => Check::unknown(PROTECTION, "as in the baseline", "could not be read, before or now"),
    });
    let kept: Vec<String> = case
        .baseline
        .instance
        .volumes
        .iter()
        .filter(|b| b.delete_on_termination)
        .filter(|b| facts.instance.volumes.iter().any(|v| v.volume_id == b.volume_id && !v.delete_on_termination))
        .map(|b| b.volume_id.to_string())
        .collect();
    let observed = if kept.is_empty() { "as before".to_owned() } else { format!("still kept: {}", kept.join(", ")) };
    checks.push(Check::of(VOLUMES, "as in the baseline", kept.is_empty(), observed));
    if facts.done.iter().any(|action| matches!(action, Action::CreateFlowLogs { .. })) {
        let expected = "none of the case; what they delivered stays";
        checks.push(match &facts.flow_logs {
            Observed::Unknown(why) => Check::unknown(FLOW_LOGS, expected, format!("could not be read: {why}")),
            Observed::Known(logs) if logs.is_empty() => Check::of(FLOW_LOGS, expected, true, "none"),
            Observed::Known(logs) => {
                let names: Vec<&str> = logs.iter().map(String::as_str).collect();
                Check::of(FLOW_LOGS, expected, false, names.join(", "))
            }
        });
    }
    let made = facts.done.iter().any(|action| matches!(action, Action::CreateSnapshots { .. }));
    checks.push(match &facts.snapshots {
        Observed::Unknown(why) => {
            Check::unknown(EVIDENCE, "every snapshot of the case", format!("could not be read: {why}"))
        }
        Observed::Known(snapshots) if snapshots.is_empty() && made => {
            Check::missing(EVIDENCE, "every snapshot of the case", "there is no snapshot of this case any more")
        }
        Observed::Known(snapshots) if snapshots.is_empty() => {
            Check::of(EVIDENCE, "every snapshot of the case", true, "the case made no snapshot")
        }
        Observed::Known(snapshots) => {
            Check::of(EVIDENCE, "every snapshot of the case", true, preserve::progress(snapshots))
        }
    });
    checks
}

fn groups_check(case: &Case, facts: &ReleaseFacts) -> Check {
    let expected = "no interface in a group of Stasis";
    let (Observed::Known(interfaces), Observed::Known(ours)) = (&facts.interfaces, &facts.our_groups) else {
        return Check::unknown(GROUPS, expected, "could not be read");
    };
    let held: Vec<String> = interfaces
        .iter()
        .filter(|i| i.groups.iter().any(|g| ours.contains(g)))
        .filter(|i| groups_before(case, facts, i) != Some(i.groups.as_slice()))
        .map(|i| format!("{} in {}", i.interface_id, names(&i.groups)))
        .collect();
    let observed = if held.is_empty() {
        let all: Vec<String> =
            interfaces.iter().map(|i| format!("{} in {}", i.interface_id, names(&i.groups))).collect();
        all.join("; ")
    } else {
        held.join("; ")
    };
    Check::of(GROUPS, expected, held.is_empty(), observed)
}

fn scaling_check(case: &Case, facts: &ReleaseFacts) -> Check {
    let words = |m: Option<&ScalingMembership>| {
        m.map_or_else(
            || "in none".to_owned(),
            |m| match m.sizes {
                Some(s) => {
                    format!("{} ({}), min {} desired {} max {}", m.group, m.lifecycle_state, s.min, s.desired, s.max)
                }
                None => format!("{} ({})", m.group, m.lifecycle_state),
            },
        )
    };
    let before = match &case.baseline.scaling {
        Observed::Known(before) => before.as_ref(),
        Observed::Unknown(why) => {
            return Check::unknown(SCALING, "as in the baseline", format!("was not known before: {why}"));
        }
    };
    let expected = words(before);
    match (&facts.scaling, &facts.scaling_group) {
        (Observed::Unknown(why), _) => Check::unknown(SCALING, expected, format!("could not be read: {why}")),
        (Observed::Known(now), group) => {
            let gone = membership_before(case).is_none() || *group == Observed::Known(None);
            Check::of(SCALING, expected, now.is_some() || gone, words(now.as_ref()))
        }
    }
}

fn targets_check(case: &Case, facts: &ReleaseFacts) -> Check {
    let before = registrations_before(case, &facts.done);
    let words = |t: &TargetRegistration| {
        let port = t.port.map(|p| format!(":{p}")).unwrap_or_default();
        format!("{}{port} in {}", t.target, target_group_name(&t.target_group))
    };
    let list = |items: Vec<String>| if items.is_empty() { "in none".to_owned() } else { items.join(", ") };
    let expected = list(before.iter().map(words).collect());
    match (&facts.targets, &case.baseline.targets) {
        (Observed::Known(now), Observed::Known(_)) => {
            let missing: Vec<String> = before
                .iter()
                .filter(|b| !facts.gone_target_groups.contains(&b.target_group))
                .filter(|b| !now.iter().any(|t| same_target(b, t) && !t.is_leaving()))
                .map(words)
                .collect();
            let observed = if missing.is_empty() {
                list(now.iter().map(words).collect())
            } else {
                format!("not {}", missing.join(", "))
            };
            Check::of(TARGETS, expected, missing.is_empty(), observed)
        }
        _ => Check::unknown(TARGETS, expected, "could not be read, before or now"),
    }
}

fn classic_check(case: &Case, facts: &ReleaseFacts) -> Check {
    let before = classic_before(case, &facts.done);
    let list = |items: Vec<&String>| {
        let names: Vec<&str> = items.into_iter().map(String::as_str).collect();
        if names.is_empty() { "behind none".to_owned() } else { names.join(", ") }
    };
    let expected = list(before.iter().collect());
    match (&facts.classic_load_balancers, &case.baseline.classic_load_balancers) {
        (Observed::Known(now), Observed::Known(_)) => {
            let missing = before.iter().any(|name| now.get(name) == Some(&false));
            Check::of(
                CLASSIC,
                expected,
                !missing,
                list(now.iter().filter(|(_, is)| **is).map(|(name, _)| name).collect()),
            )
        }
        _ => Check::unknown(CLASSIC, expected, "could not be read, before or now"),
    }
}
