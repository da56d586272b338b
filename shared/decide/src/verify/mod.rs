//! Verify: the security checklist, filled from what AWS says now. It trusts no stage: what a stage reported
//! is not among its facts. What could not be read is UNKNOWN, and UNKNOWN is never a pass.

pub(crate) mod bucket;
mod disks;

use crate::checks::verify::{
    CLASSIC, COMMAND, INSTANCE_ONLINE, INTERFACES, MEMORY, NO_INBOUND, OUTBOUND, SCALING, SHUTDOWN, STOP_PROTECTION,
    TAGGED, TARGETS, TERMINATION_PROTECTION, VOLATILE, VOLUMES_KEPT,
};
use crate::protect;
use crate::quarantine;
use ipnet::IpNet;
use stasis_model::action::Action;
use stasis_model::baseline::{Instance, Interface, Observed, Protection};
use stasis_model::case::{Case, Egress};
use stasis_model::check::{Check, CheckStatus};
use stasis_model::custody::{is_command_waited_for, is_waited_for};
use stasis_model::facts::{Allows, Peer, QuarantineFacts, VerifyFacts};
use stasis_model::ids::GroupId;
use stasis_model::memory::{AcquisitionStatus, MemoryChoice};
use stasis_model::open_cases::HeldFacts;
use stasis_model::stage::{Next, Plan, Stage, StageStatus};
use stasis_model::tags;
use std::collections::BTreeSet;
use std::net::IpAddr;

/// How often to ask CloudTrail, in seconds: LookupEvents is limited to two calls a second per account and region.
const TRAIL_WAIT: u32 = 60;

/// The checks that say whether the instance is cut off and held; the others say whether evidence is safe.
const CONTAINMENT: [&str; 11] = [
    INSTANCE_ONLINE,
    TERMINATION_PROTECTION,
    STOP_PROTECTION,
    SHUTDOWN,
    VOLUMES_KEPT,
    TAGGED,
    SCALING,
    TARGETS,
    CLASSIC,
    INTERFACES,
    NO_INBOUND,
];
/// Whether a check is about the instance being held and cut off.
pub fn is_containment(check: &Check) -> bool {
    check.name == OUTBOUND || CONTAINMENT.contains(&check.name.as_str())
}

/// Whether the instance is off the network, as the checklist says; none where that could not be read.
pub fn is_cut_off(checklist: &[Check]) -> Option<bool> {
    let status = |name| checklist.iter().find(|c| c.name == name).map(|c| c.status);
    match (status(INTERFACES)?, status(NO_INBOUND)?) {
        (CheckStatus::Pass, CheckStatus::Pass) => Some(true),
        (CheckStatus::Unknown, _) | (_, CheckStatus::Unknown) => None,
        _ => Some(false),
    }
}

/// The checklist, and whether it is worth asking again for what AWS does not show yet.
pub fn plan(case: &Case, facts: &VerifyFacts) -> Plan {
    let mut plan = Plan::nothing();
    plan.checks = checklist(case, facts);
    if case.contains() && case.policy.egress == Egress::Endpoints {
        plan.notes.extend(closed_endpoints(facts));
    }
    let command = facts.command.known().and_then(Option::as_ref);
    let trail_pending = is_command_waited_for(case, command, &facts.recorded, facts.now);
    let custody_pending = custody(case, facts, &mut plan);
    if trail_pending || custody_pending {
        plan.next = Next::Wait(TRAIL_WAIT);
    }
    plan
}

/// Who did what, once CloudTrail shows all that the stages did, or will not be waited for any longer. Whether to look again.
fn custody(case: &Case, facts: &VerifyFacts, plan: &mut Plan) -> bool {
    let custody = match &facts.custody {
        Observed::Known(Some(custody)) => custody,
        Observed::Known(None) => return false,
        Observed::Unknown(why) => {
            plan.notes.push(format!("who did what could not be read from CloudTrail: {why}"));
            return false;
        }
    };
    let missing = custody.unconfirmed.len();
    if missing > 0 && is_waited_for(case, facts.now) {
        return true;
    }
    plan.step(vec![Action::KeepCustody {
        instance: case.instance.instance_id.clone(),
        custody: Box::new(custody.clone()),
    }]);
    if missing > 0 {
        let first = custody.unconfirmed.first().map_or("", |one| one.words.as_str());
        plan.notes.push(format!(
            "CloudTrail does not show {missing} of the {} calls of this case that it should, such as: {first}",
            missing + custody.confirmed()
        ));
    }
    let others = custody.by_others().count();
    if others > 0 {
        plan.notes.push(format!(
            "CloudTrail shows {others} calls by others that name this instance or what belongs to it, since a minute before the case was opened: see the file in custody/"
        ));
    }
    false
}

/// Endpoints of Systems Manager whose own security groups keep the quarantined instance out: the quarantine is as
/// tight as it should be, and whatever is to be read from the instance's memory will not be.
fn closed_endpoints(facts: &VerifyFacts) -> Vec<String> {
    let interfaces = facts.quarantine.interfaces.known().map_or(&[][..], Vec::as_slice);
    let mut notes = Vec::new();
    for (vpc, known) in &facts.quarantine.vpcs {
        let (Some(Some(quarantine)), Some(endpoints)) = (known.group.known(), known.endpoints.known()) else {
            continue;
        };
        let addresses: Vec<IpAddr> = interfaces
            .iter()
            .filter(|i| &i.vpc_id == vpc)
            .flat_map(|i| &i.addresses)
            .filter_map(|address| address.parse().ok())
            .collect();
        for (service, groups) in &endpoints.services {
            let inbound = match &facts.endpoint_groups {
                Observed::Known(inbound) => inbound,
                Observed::Unknown(why) => {
                    return vec![format!(
                        "whether the endpoints of Systems Manager let the quarantine group in could not be read: {why}"
                    )];
                }
            };
            let rules = groups.iter().filter_map(|group| inbound.get(group)).flatten();
            if !rules.into_iter().any(|rule| lets_in(rule, Some(&quarantine.group_id), &addresses)) {
                let names: Vec<&str> = groups.iter().map(GroupId::as_str).collect();
                notes.push(format!(
                    "{vpc}: the endpoint of {service} ({}) does not let quarantine group {} in on 443, so Systems Manager will not reach the instance; add an inbound rule for 443 from that group",
                    names.join(", "),
                    quarantine.group_id
                ));
            }
        }
    }
    notes
}

/// Whether an inbound rule of an endpoint lets HTTPS of interfaces in that are in the quarantine group, where there is one.
pub(crate) fn lets_in(rule: &Allows, quarantine: Option<&GroupId>, addresses: &[IpAddr]) -> bool {
    let protocol = matches!(rule.protocol.as_str(), "tcp" | "6" | "-1");
    let port = rule.protocol == "-1" || rule.from_port == -1 || (rule.from_port..=rule.to_port).contains(&443);
    let peer = match &rule.peer {
        Peer::Group(group) => Some(group) == quarantine,
        Peer::Cidr4(range) | Peer::Cidr6(range) => {
            range.parse::<IpNet>().is_ok_and(|range| addresses.iter().any(|address| range.contains(address)))
        }
        Peer::PrefixList(_) | Peer::Other(_) => false,
    };
    protocol && port && peer
}

/// Every check of the case, in the order of the stages.
pub fn checklist(case: &Case, facts: &VerifyFacts) -> Vec<Check> {
    let mut checks = vec![online(&facts.instance)];
    checks.extend(protection(case, &facts.protection));
    checks.push(volumes_kept(&facts.instance));
    checks.push(tagged(case, facts));
    if case.contains() {
        checks.extend(memberships(facts));
        checks.extend(quarantined(case, &facts.quarantine));
    }
    checks.push(command(facts));
    checks.push(volatile(facts));
    checks.extend(memory(case, facts));
    checks.extend(disks::checks(case, facts));
    checks.extend(bucket::checks(&case.policy.disks, &facts.bucket));
    checks
}

/// The checks of whether the instance is held: on, protected, cut off. They need no right to read evidence.
pub fn held(case: &Case, facts: &HeldFacts) -> Vec<Check> {
    let mut checks = vec![online(&facts.instance)];
    checks.extend(protection(case, &facts.protection));
    checks.push(volumes_kept(&facts.instance));
    if case.contains() {
        checks.extend(quarantined(case, &facts.network));
    }
    checks
}

/// A check of a fact, or UNKNOWN where it could not be read.
fn of_fact<T>(name: &str, expected: &str, fact: &Observed<T>, judge: impl FnOnce(&T) -> Check) -> Check {
    match fact {
        Observed::Known(fact) => judge(fact),
        Observed::Unknown(why) => Check::unknown(name, expected, format!("could not be read: {why}")),
    }
}

fn online(instance: &Observed<Instance>) -> Check {
    let expected = "running";
    of_fact(INSTANCE_ONLINE, expected, instance, |i| {
        Check::of(INSTANCE_ONLINE, expected, i.state == expected, &i.state)
    })
}

fn protection(case: &Case, observed: &Observed<Protection>) -> Vec<Check> {
    let spot = case.baseline.instance.spot;
    let on = |name: &str, attribute: &str, read: fn(&stasis_model::baseline::Protection) -> bool| {
        let expected = format!("{attribute}=true");
        of_fact(name, &expected.clone(), observed, |p| {
            let note = if spot { " (Spot Instance: EC2 does not offer it)" } else { "" };
            Check::of(name, expected, read(p), format!("{attribute}={}{note}", read(p)))
        })
    };
    vec![
        on(TERMINATION_PROTECTION, "DisableApiTermination", |p| p.termination),
        on(STOP_PROTECTION, "DisableApiStop", |p| p.stop),
        of_fact(SHUTDOWN, "stop", observed, |p| {
            Check::of(SHUTDOWN, "stop", p.shutdown_behavior == "stop", &p.shutdown_behavior)
        }),
    ]
}

fn volumes_kept(instance: &Observed<Instance>) -> Check {
    let expected = "DeleteOnTermination=false on every EBS volume";
    of_fact(VOLUMES_KEPT, expected, instance, |i| {
        let lost: Vec<String> =
            i.volumes.iter().filter(|v| v.delete_on_termination).map(|v| v.volume_id.to_string()).collect();
        let observed = if lost.is_empty() {
            format!("false on {} volumes", i.volumes.len())
        } else {
            format!("true on {}", lost.join(", "))
        };
        Check::of(VOLUMES_KEPT, expected, lost.is_empty(), observed)
    })
}

fn tagged(case: &Case, facts: &VerifyFacts) -> Check {
    let expected = format!("{}={}, {}, {}, {}", tags::TICKET, case.ticket, tags::OWNER, tags::EVIDENCE, tags::CASE);
    let (Observed::Known(instance), Observed::Known(present)) = (&facts.instance, &facts.tags) else {
        return Check::unknown(TAGGED, expected, "could not be read");
    };
    let resources = instance.resources(&case.instance.instance_id);
    let lacking: Vec<&str> = resources
        .iter()
        .filter(|r| !protect::has_tags(present, r, &protect::wanted_tags(case, r)))
        .map(String::as_str)
        .collect();
    let observed = if lacking.is_empty() {
        format!("on all {} resources", resources.len())
    } else {
        format!("not on {}", lacking.join(", "))
    };
    Check::of(TAGGED, expected, lacking.is_empty(), observed)
}

fn memberships(facts: &VerifyFacts) -> Vec<Check> {
    let memberships = &facts.memberships;
    let names = |names: Vec<String>| if names.is_empty() { "in none".to_owned() } else { names.join(", ") };
    vec![
        of_fact(SCALING, "in none", &memberships.scaling, |membership| match membership {
            None => Check::of(SCALING, "in none", true, "in none"),
            // Detaching is irrevocable and no longer health-checked; only connection draining is still going on.
            Some(m) if m.lifecycle_state.starts_with("Detach") => {
                Check::of(SCALING, "in none", true, format!("{} ({})", m.group, m.lifecycle_state))
            }
            Some(m) => Check::of(SCALING, "in none", false, format!("{} ({})", m.group, m.lifecycle_state)),
        }),
        of_fact(TARGETS, "registered in none, or draining", &memberships.targets, |targets| {
            let left: Vec<String> = targets
                .iter()
                .filter(|t| !t.is_leaving())
                .map(|t| format!("{} in {}", t.target, stasis_model::action::target_group_name(&t.target_group)))
                .collect();
            let draining = targets.iter().filter(|t| t.is_leaving()).count();
            let observed = if left.is_empty() && draining > 0 {
                format!("in none; {draining} draining")
            } else {
                names(left.clone())
            };
            Check::of(TARGETS, "registered in none, or draining", left.is_empty(), observed)
        }),
        of_fact(CLASSIC, "in none", &memberships.classic_load_balancers, |left| {
            Check::of(CLASSIC, "in none", left.is_empty(), names(left.clone()))
        }),
    ]
}

fn quarantined(case: &Case, facts: &QuarantineFacts) -> Vec<Check> {
    let ours: BTreeSet<&GroupId> =
        facts.vpcs.values().filter_map(|v| v.group.known()?.as_ref().map(|g| &g.group_id)).collect();
    let unread: Vec<String> = facts
        .vpcs
        .iter()
        .filter_map(|(vpc, v)| match &v.group {
            Observed::Unknown(why) => Some(format!("{vpc}: {why}")),
            Observed::Known(_) => None,
        })
        .collect();
    let expected = "the quarantine group and no other";
    let interfaces = match (&facts.interfaces, unread.is_empty()) {
        (Observed::Known(interfaces), true) => {
            let words = |i: &Interface| {
                let groups: Vec<&str> = i.groups.iter().map(GroupId::as_str).collect();
                format!("{} in {}", i.interface_id, groups.join(", "))
            };
            let outside: Vec<String> = interfaces
                .iter()
                .filter(|i| !matches!(i.groups.as_slice(), [only] if ours.contains(only)))
                .map(words)
                .collect();
            let pass = outside.is_empty() && !interfaces.is_empty();
            let observed = if pass {
                let all: Vec<String> = interfaces.iter().map(words).collect();
                all.join("; ")
            } else if interfaces.is_empty() {
                "no interface was found".to_owned()
            } else {
                outside.join("; ")
            };
            Check::of(INTERFACES, expected, pass, observed)
        }
        (Observed::Unknown(why), _) => Check::unknown(INTERFACES, expected, format!("could not be read: {why}")),
        (_, false) => Check::unknown(INTERFACES, expected, format!("could not be read: {}", unread.join("; "))),
    };
    vec![interfaces, rules_of(case, facts, NO_INBOUND, &unread), rules_of(case, facts, OUTBOUND, &unread)]
}

/// The rules of every quarantine group in use, one direction.
fn rules_of(case: &Case, facts: &QuarantineFacts, name: &str, unread: &[String]) -> Check {
    let inbound = name == NO_INBOUND;
    let expected = if inbound { "no inbound rule".to_owned() } else { format!("egress policy {}", case.policy.egress) };
    if !unread.is_empty() {
        return Check::unknown(name, expected, format!("could not be read: {}", unread.join("; ")));
    }
    let mut surplus = Vec::new();
    let mut groups = 0;
    let mut allowed = Vec::new();
    let mut unknown = None;
    for facts in facts.vpcs.values() {
        let Some(Some(group)) = facts.group.known() else { continue };
        groups += 1;
        let wanted = quarantine::wanted_egress(case.policy.egress, &facts.endpoints);
        if let (Egress::Endpoints, Observed::Unknown(why)) = (case.policy.egress, &facts.endpoints) {
            unknown = Some(why);
        }
        for rule in &group.rules {
            let foreign = if inbound { !rule.egress } else { rule.egress && !wanted.contains(&rule.allows) };
            if foreign {
                surplus.push(format!("{} {}", group.group_id, rule.allows));
            } else if rule.egress && !inbound {
                allowed.push(rule.allows.to_string());
            }
        }
    }
    if groups == 0 {
        return Check::missing(name, expected, "there is no quarantine group");
    }
    let clean = match (inbound, allowed.is_empty()) {
        (true, _) => "none".to_owned(),
        (false, true) => "nothing goes out".to_owned(),
        (false, false) => allowed.join("; "),
    };
    let pass = surplus.is_empty();
    // A rule to an endpoint that nobody could ask about is no rule too many.
    if let Some(why) = unknown.filter(|_| !pass && !inbound) {
        return Check::unknown(name, expected, format!("the endpoints could not be read: {why}"));
    }
    Check::of(name, expected, pass, if pass { clean } else { surplus.join("; ") })
}

/// Whether a check that fails now shows what the same check did not show when it passed. An endpoint that is gone makes a rule
/// to it one too many, though nobody has touched the rules.
pub(crate) fn is_other_than(now: &Check, then: &Check) -> bool {
    let allows = |rule: &str| rule.split_once(' ').map_or_else(|| rule.to_owned(), |(_, allows)| allows.to_owned());
    let known = |rule: &str| then.observed.split("; ").any(|known| known == allows(rule));
    now.name != OUTBOUND || !now.observed.split("; ").all(known)
}

fn command(facts: &VerifyFacts) -> Check {
    let expected = "SendCommand in Systems Manager's history and in CloudTrail";
    of_fact(COMMAND, expected, &facts.command, |command| {
        let Some(command) = command else {
            return Check::missing(COMMAND, expected, "no command was sent");
        };
        let id = &command.command_id;
        match &facts.recorded {
            Observed::Known(Some(true)) => {
                Check::of(COMMAND, expected, true, format!("command {id} ({}) in both", command.status))
            }
            Observed::Known(_) => Check::unknown(
                COMMAND,
                expected,
                format!(
                    "command {id} ({}) in Systems Manager; pending in CloudTrail, which takes some minutes",
                    command.status
                ),
            ),
            Observed::Unknown(why) => Check::unknown(
                COMMAND,
                expected,
                format!("command {id} in Systems Manager; CloudTrail could not be read: {why}"),
            ),
        }
    })
}

fn volatile(facts: &VerifyFacts) -> Check {
    let expected = "what the host printed, kept in the case file";
    if let Observed::Known(Some(command)) = &facts.command
        && !command.is_over()
    {
        return Check::unknown(
            VOLATILE,
            expected,
            format!("in progress: command {} is {}", command.command_id, command.status),
        );
    }
    of_fact(VOLATILE, expected, &facts.volatile, |objects| {
        let size: u64 = objects.iter().map(|o| o.size).sum();
        if size == 0 {
            return Check::missing(VOLATILE, expected, format!("{} objects, 0 bytes", objects.len()));
        }
        Check::of(VOLATILE, expected, true, format!("{} objects, {size} bytes", objects.len()))
    })
}

/// The memory, where the policy asks for it. Anything less than the whole is no pass.
fn memory(case: &Case, facts: &VerifyFacts) -> Option<Check> {
    let expected = "captured";
    if case.policy.memory.choice != MemoryChoice::Acquire {
        return None;
    }
    Some(match &facts.memory {
        Observed::Unknown(why) => Check::unknown(MEMORY, expected, format!("could not be read: {why}")),
        Observed::Known(Some(outcome)) => {
            let whole = outcome.status == AcquisitionStatus::Captured;
            let reason = outcome.reason.as_ref().map_or_else(String::new, |reason| format!(": {reason}"));
            Check::of(
                MEMORY,
                expected,
                whole,
                format!("{}, {}{reason}", outcome.status, crate::memory::in_words(outcome)),
            )
        }
        Observed::Known(None) => match case.stages.get(&Stage::Memory) {
            Some(stage) if stage.status == StageStatus::Waiting => Check::unknown(MEMORY, expected, &stage.summary),
            _ => Check::missing(MEMORY, expected, "nothing was acquired"),
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample;
    use chrono::TimeDelta;
    use stasis_model::custody::TRAIL_SECONDS;
    use stasis_model::facts::Command;

    fn statuses(facts: &VerifyFacts) -> Vec<(String, CheckStatus)> {
        checklist(&sample::case(), facts).into_iter().map(|c| (c.name, c.status)).collect()
    }

    fn status_of(facts: &VerifyFacts, name: &str) -> CheckStatus {
        statuses(facts).into_iter().find(|(n, _)| n == name).map(|(_, s)| s).expect("a check of that name")
    }

    #[test]
    fn who_did_what_is_kept_once_cloudtrail_shows_all_of_it_or_takes_too_long() {
        use stasis_model::custody::{Act, Custody, Unconfirmed};
        let act = |stage: Option<&str>| Act {
            at: sample::time(),
            by: "arn:aws:sts::111122223333:assumed-role/stasis/x/stasis-protect".to_owned(),
            what: "ec2:ModifyInstanceAttribute".to_owned(),
            on: vec!["i-0a1b2c3d4e5f67890".to_owned()],
            from: None,
            refused: None,
            request_id: None,
            event_id: "e".to_owned(),
            stage: stage.map(str::to_owned),
            in_session: stage.is_some(),
        };
        let missing =
            Unconfirmed { stage: "protect".to_owned(), words: "tag it".to_owned(), request_id: "r".to_owned() };
        let custody = |unconfirmed: Vec<Unconfirmed>| Custody {
            schema: 1,
            case_id: sample::case().case_id,
            account: sample::case().instance.account,
            region: sample::case().instance.region,
            read_at: sample::time(),
            acts: vec![act(Some("protect")), act(None)],
            unconfirmed,
            cut: false,
        };
        let planned = |custody: Option<Custody>, minutes: i64| {
            let mut facts = sample::contained();
            facts.custody = Observed::Known(custody);
            facts.now = sample::time() + TimeDelta::minutes(minutes);
            let plan = plan(&sample::case(), &facts);
            (plan.steps.len(), plan.next, plan.notes.iter().filter(|note| note.contains("CloudTrail")).count())
        };
        assert_eq!(planned(None, 1), (0, Next::Finish, 0));
        assert_eq!(planned(Some(custody(vec![missing.clone()])), 1), (0, Next::Wait(TRAIL_WAIT), 0));
        assert_eq!(planned(Some(custody(vec![])), 1), (1, Next::Finish, 1), "what others did is told");
        assert_eq!(planned(Some(custody(vec![missing])), 31), (1, Next::Finish, 2), "and what is not shown");
        let mut unread = sample::contained();
        unread.custody = Observed::Unknown("AccessDenied".to_owned());
        let plan = plan(&sample::case(), &unread);
        assert!(plan.steps.is_empty() && plan.notes.iter().any(|note| note.contains("AccessDenied")));
    }

    #[test]
    fn a_contained_instance_passes_every_check_and_is_not_asked_again() {
        let facts = sample::contained();
        assert!(
            statuses(&facts).iter().all(|(_, s)| *s == CheckStatus::Pass),
            "{:#?}",
            checklist(&sample::case(), &facts)
        );
        assert_eq!(plan(&sample::case(), &facts).next, Next::Finish);
    }

    #[test]
    fn every_check_fails_when_what_it_is_about_is_otherwise() {
        type Spoil = fn(&mut VerifyFacts);
        let table: [(&str, Spoil); 15] = [
            (INSTANCE_ONLINE, |f| {
                if let Observed::Known(i) = &mut f.instance {
                    i.state = "stopped".to_owned()
                }
            }),
            (TERMINATION_PROTECTION, |f| {
                if let Observed::Known(p) = &mut f.protection {
                    p.termination = false
                }
            }),
            (STOP_PROTECTION, |f| {
                if let Observed::Known(p) = &mut f.protection {
                    p.stop = false
                }
            }),
            (SHUTDOWN, |f| {
                if let Observed::Known(p) = &mut f.protection {
                    p.shutdown_behavior = "terminate".to_owned()
                }
            }),
            (VOLUMES_KEPT, |f| {
                if let Observed::Known(i) = &mut f.instance {
                    i.volumes.iter_mut().for_each(|v| v.delete_on_termination = true)
                }
            }),
            (TAGGED, |f| {
                if let Observed::Known(t) = &mut f.tags {
                    t.clear()
                }
            }),
            (SCALING, |f| f.memberships.scaling = sample::case().baseline.scaling),
            (TARGETS, |f| f.memberships.targets = sample::case().baseline.targets),
            (CLASSIC, |f| f.memberships.classic_load_balancers = sample::case().baseline.classic_load_balancers),
            (INTERFACES, |f| f.quarantine.interfaces = Observed::Known(sample::case().baseline.instance.interfaces)),
            (NO_INBOUND, |f| {
                sample::rules(f, |r| {
                    if let Some(r) = r.first_mut() {
                        r.egress = false
                    }
                })
            }),
            (OUTBOUND, |f| {
                sample::rules(f, |r| {
                    if let Some(r) = r.first_mut() {
                        r.allows.from_port = 22
                    }
                })
            }),
            (crate::checks::verify::SNAPSHOTS, |f| {
                if let Observed::Known(s) = &mut f.snapshots {
                    s.iter_mut().for_each(|s| s.encrypted = false)
                }
            }),
            (crate::checks::verify::COMPLETE, |f| {
                if let Observed::Known(s) = &mut f.snapshots {
                    s.iter_mut().for_each(|s| s.state = "error".to_owned())
                }
            }),
            (crate::checks::verify::BUCKET, |f| {
                if let Observed::Known(b) = &mut f.bucket {
                    b.lock = None
                }
            }),
        ];
        for (name, spoil) in table {
            let mut facts = sample::contained();
            spoil(&mut facts);
            assert_eq!(status_of(&facts, name), CheckStatus::Fail, "{name}");
        }
    }

    #[test]
    fn an_endpoint_that_keeps_the_quarantine_group_out_is_named() {
        let rule = |port, peer| Allows { protocol: "tcp".to_owned(), from_port: port, to_port: port, peer };
        let quarantine: GroupId = "sg-0fffffffffffffff1".parse().expect("id");
        let table = [
            (vec![rule(443, Peer::Cidr4("10.0.0.0/16".to_owned()))], 0),
            (vec![rule(443, Peer::Cidr4("10.9.0.0/16".to_owned()))], 1),
            (vec![rule(22, Peer::Cidr4("0.0.0.0/0".to_owned()))], 1),
            (vec![rule(443, Peer::Group(quarantine))], 0),
            (vec![rule(443, Peer::Group("sg-0aaaaaaaaaaaaaaa1".parse().expect("id")))], 1),
            (Vec::new(), 1),
        ];
        for (rules, expected) in table {
            let mut facts = sample::contained();
            let groups = [("sg-0bbbbbbbbbbbbbbb1".parse().expect("id"), rules.clone())];
            facts.endpoint_groups = Observed::Known(groups.into());
            let plan = plan(&sample::case(), &facts);
            assert_eq!(plan.notes.len(), expected, "{rules:?}: {:?}", plan.notes);
            assert!(plan.checks.iter().all(Check::passed), "the instance is contained either way");
        }
    }

    #[test]
    fn an_interface_in_the_quarantine_group_and_another_is_not_quarantined() {
        let mut facts = sample::contained();
        if let Observed::Known(interfaces) = &mut facts.quarantine.interfaces {
            interfaces.iter_mut().for_each(|i| i.groups.push("sg-0eeeeeeeeeeeeeee9".parse().expect("id")));
        }
        assert_eq!(status_of(&facts, INTERFACES), CheckStatus::Fail);
    }

    #[test]
    fn what_cannot_be_read_is_unknown_everywhere() {
        let facts = sample::unreadable();
        assert!(statuses(&facts).iter().all(|(_, s)| *s == CheckStatus::Unknown), "{:#?}", statuses(&facts));
    }

    #[test]
    fn what_is_not_there_is_missing() {
        let mut facts = sample::contained();
        facts.command = Observed::Known(None);
        facts.recorded = Observed::Known(None);
        facts.volatile = Observed::Known(Vec::new());
        facts.snapshots = Observed::Known(Vec::new());
        facts.quarantine.vpcs.values_mut().for_each(|v| v.group = Observed::Known(None));
        for name in
            [COMMAND, VOLATILE, crate::checks::verify::SNAPSHOTS, crate::checks::verify::COMPLETE, NO_INBOUND, OUTBOUND]
        {
            assert_eq!(status_of(&facts, name), CheckStatus::Missing, "{name}");
        }
        assert_eq!(status_of(&facts, INTERFACES), CheckStatus::Fail);
    }

    #[test]
    fn cloudtrail_is_waited_for_and_given_up() {
        let case = sample::case();
        let mut facts = sample::contained();
        facts.recorded = Observed::Known(Some(false));
        assert_eq!(plan(&case, &facts).next, Next::Wait(TRAIL_WAIT));
        assert_eq!(status_of(&facts, COMMAND), CheckStatus::Unknown);
        facts.now = case.opened_at + TimeDelta::seconds(TRAIL_SECONDS);
        assert_eq!(plan(&case, &facts).next, Next::Finish);
        assert_eq!(status_of(&facts, COMMAND), CheckStatus::Unknown);
    }

    #[test]
    fn who_did_what_is_asked_for_once_the_command_is_shown_or_given_up() {
        let (case, facts) = (sample::case(), sample::contained());
        let over = facts.command.known().and_then(Option::as_ref).expect("a command").clone();
        let running = Command { status: "InProgress".to_owned(), ..over.clone() };
        let (early, late) = (case.opened_at, case.opened_at + TimeDelta::seconds(TRAIL_SECONDS));
        let unread = Observed::Unknown("AccessDenied".to_owned());
        for (command, recorded, now, waits) in [
            (Some(&over), Observed::Known(Some(false)), early, true),
            (Some(&over), Observed::Known(Some(false)), late, false),
            (Some(&over), Observed::Known(Some(true)), early, false),
            (Some(&over), unread, early, false),
            (Some(&running), Observed::Known(Some(false)), early, false),
            (None, Observed::Known(None), early, false),
        ] {
            assert_eq!(is_command_waited_for(&case, command, &recorded, now), waits, "{command:?} {recorded:?} {now}");
        }
    }

    #[test]
    fn a_command_that_runs_is_in_progress_not_missing() {
        let mut facts = sample::contained();
        facts.command = Observed::Known(Some(Command {
            command_id: "c".to_owned(),
            status: "InProgress".to_owned(),
            undelivered: false,
            requested_at: sample::case().opened_at,
            steps: Vec::new(),
        }));
        facts.volatile = Observed::Known(Vec::new());
        assert_eq!(status_of(&facts, VOLATILE), CheckStatus::Unknown);
    }

    #[test]
    fn only_the_whole_memory_passes_and_none_is_missed_where_none_was_asked_for() {
        let mut case = sample::case();
        let status = |case: &Case, memory| {
            let facts = VerifyFacts { memory, ..sample::contained() };
            checklist(case, &facts).into_iter().find(|c| c.name == MEMORY).map(|c| c.status)
        };
        assert_eq!(status(&case, Observed::Known(None)), None);
        case.policy.memory.choice = MemoryChoice::Acquire;
        assert_eq!(status(&case, Observed::Known(None)), Some(CheckStatus::Missing));
        assert_eq!(status(&case, Observed::Unknown("AccessDenied".to_owned())), Some(CheckStatus::Unknown));
        for (outcome, expected) in [
            (AcquisitionStatus::Captured, CheckStatus::Pass),
            (AcquisitionStatus::Partial, CheckStatus::Fail),
            (AcquisitionStatus::Procmem, CheckStatus::Fail),
            (AcquisitionStatus::Unsupported, CheckStatus::Fail),
            (AcquisitionStatus::Failed, CheckStatus::Fail),
        ] {
            assert_eq!(status(&case, Observed::Known(Some(sample::acquisition(outcome)))), Some(expected), "{outcome}");
        }
    }
}
