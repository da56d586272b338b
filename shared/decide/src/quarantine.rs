//! Quarantine: every network interface into a group that lets nothing in, and out only to where Systems
//! Manager is reached. The group is made where it is missing and brought back where somebody changed it;
//! a group that is not as it must be is never attached.
//!
//! A swapped group does not cut connections that are tracked. By policy `cut` each interface therefore passes
//! through a group that is open to everything, in which no connection is tracked, and into quarantine with the
//! next call. That group has no rule but while it is passed through.

use crate::network_acl;
use stasis_model::action::Action;
use stasis_model::baseline::{Interface, Observed};
use stasis_model::case::{Case, Egress, TrackedConnections};
use stasis_model::facts::{Allows, Endpoints, Peer, QuarantineFacts, QuarantineGroup, VpcFacts};
use stasis_model::ids::{GroupId, VpcId};
use stasis_model::stage::{ActionRecord, Failure, Next, Outcome, Plan};
use stasis_model::tags::{self, Tag};

/// The port of Systems Manager and S3.
const HTTPS: i32 = 443;

/// What quarantine does next, after what it has `tried` in this call. It is asked again after groups were made or
/// changed, until interfaces are moved, and once more to close the group that they passed through.
pub fn plan(case: &Case, facts: &QuarantineFacts, tried: &[ActionRecord]) -> Plan {
    let mut plan = Plan::nothing();
    let (mut first, mut then) = (Vec::new(), Vec::new());
    let interfaces = interfaces(case, facts, &mut plan);
    let pass_through = pass_through_trouble(case, tried, &mut plan);
    for vpc in vpcs(interfaces) {
        let mut ready = make_ready(case, facts, interfaces, vpc, &mut plan);
        let Some(group) = ready.group else {
            if case.is_dry_run() && !ready.actions.is_empty() {
                plan.notes.push(to_come(vpc, interfaces));
            }
            if !ready.actions.is_empty() {
                plan.next = Next::ObserveAgain;
            }
            first.extend(ready.actions);
            continue;
        };
        if let Some(known) = facts.vpcs.get(vpc) {
            plan.notes.push(egress_note(case.policy.egress, vpc, known));
        }
        let here = || interfaces.iter().filter(|i| &i.vpc_id == vpc);
        // An interface that a run which died left in the open is closed before anything else.
        let passing: Vec<Action> = here()
            .filter(|i| is_passing(i, ready.pass_through))
            .filter_map(|i| swap(i, &group.group_id, None))
            .collect();
        if !passing.is_empty() {
            first.extend(passing);
            plan.next = Next::ObserveAgain;
            continue;
        }
        if pass_through.is_none() && ready.actions.iter().any(|a| matches!(a, Action::CreatePassThroughGroup { .. })) {
            first.append(&mut ready.actions);
            plan.next = Next::ObserveAgain;
            continue;
        }
        let via = ready.pass_through.filter(|_| pass_through.is_none()).map(|pass| &pass.group_id);
        let swaps: Vec<Action> = here().filter_map(|i| swap(i, &group.group_id, via)).collect();
        if swaps.is_empty() {
            first.extend(close_pass_through(facts, vpc));
        } else if via.is_some() {
            first.append(&mut ready.actions);
            // To close the group behind them, and to see that they are where they should be.
            plan.next = Next::ObserveAgain;
        }
        then.extend(swaps);
    }
    plan.step(first);
    plan.step(then);
    let denials = network_acl::denials(case, facts, &mut plan);
    plan.step(denials);
    if pass_through.is_none() {
        plan.notes.push(tracked_note(case.policy.tracked_connections).to_owned());
    }
    plan
}

/// Why interfaces are moved without passing through, where that was tried and did not work: an open network is
/// worse than an open connection.
fn pass_through_trouble(case: &Case, tried: &[ActionRecord], plan: &mut Plan) -> Option<()> {
    let failed = tried.iter().find(|record| {
        let opens =
            matches!(record.action, Action::CreatePassThroughGroup { .. } | Action::OpenPassThroughGroup { .. });
        opens && record.outcome == Outcome::Failed
    })?;
    if case.policy.tracked_connections == TrackedConnections::Leave {
        return None;
    }
    let why = failed.error.as_ref().map_or("no reason given", |e| e.message.as_str());
    plan.obstacles.push(Failure::lasting(
        "ConnectionsNotCut",
        format!(
            "connections that were open may go on until they time out: the pass-through group could not be used: {why}"
        ),
    ));
    Some(())
}

/// The interfaces to move. Where they cannot be looked up, those of the baseline: too few is better than none.
pub(crate) fn interfaces<'a>(case: &'a Case, facts: &'a QuarantineFacts, plan: &mut Plan) -> &'a [Interface] {
    match &facts.interfaces {
        Observed::Known(interfaces) => interfaces,
        Observed::Unknown(why) => {
            plan.obstacles.push(Failure::lasting(
                "Unreadable",
                format!(
                    "the interfaces of {} could not be looked up ({why}); those known from before are moved, one attached since would be missed",
                    case.instance.instance_id
                ),
            ));
            &case.baseline.instance.interfaces
        }
    }
}

/// The VPCs of the interfaces, each once.
pub(crate) fn vpcs(interfaces: &[Interface]) -> Vec<&VpcId> {
    let mut vpcs: Vec<&VpcId> = interfaces.iter().map(|i| &i.vpc_id).collect();
    vpcs.sort();
    vpcs.dedup();
    vpcs
}

/// How far the groups of a VPC are.
pub(crate) struct Ready<'a> {
    /// The quarantine group, once it is as it must be.
    pub(crate) group: Option<&'a QuarantineGroup>,
    /// The pass-through group, where there is one.
    pub(crate) pass_through: Option<&'a QuarantineGroup>,
    /// What is left to do before interfaces can be moved.
    pub(crate) actions: Vec<Action>,
}

/// What makes the groups of a VPC ready. What stands in the way becomes an obstacle of the plan.
pub(crate) fn make_ready<'a>(
    case: &Case,
    facts: &'a QuarantineFacts,
    interfaces: &[Interface],
    vpc: &VpcId,
    plan: &mut Plan,
) -> Ready<'a> {
    let mut ready = Ready { group: None, pass_through: None, actions: Vec::new() };
    let Some(known) = facts.vpcs.get(vpc) else {
        plan.obstacles
            .push(Failure::lasting("Unreadable", format!("the quarantine group of {vpc} could not be looked up")));
        return ready;
    };
    match &known.group {
        Observed::Unknown(why) => {
            plan.obstacles.push(Failure::lasting(
                "Unreadable",
                format!("the quarantine group of {vpc} could not be read, so it is not used: {why}"),
            ));
            return ready;
        }
        Observed::Known(None) => ready.actions.push(Action::CreateQuarantineGroup {
            vpc: vpc.clone(),
            tags: group_tags(case, "stasis-quarantine", tags::QUARANTINE_VALUE),
        }),
        Observed::Known(Some(group)) => {
            let mending = converge(group, &wanted_egress(case.policy.egress, &known.endpoints));
            if mending.is_empty() {
                ready.group = Some(group);
            }
            ready.actions.extend(mending);
        }
    }
    let all_inside = ready.group.is_some_and(|group| {
        interfaces.iter().filter(|i| &i.vpc_id == vpc).all(|i| i.groups == [group.group_id.clone()])
    });
    if case.policy.tracked_connections == TrackedConnections::Cut {
        match &known.pass_through {
            // Without it interfaces are moved all the same: an open network is worse than an open connection.
            Observed::Unknown(why) => plan.obstacles.push(Failure::lasting(
                "Unreadable",
                format!("the pass-through group of {vpc} could not be read, so open connections are not cut: {why}"),
            )),
            Observed::Known(None) if !all_inside => ready.actions.push(Action::CreatePassThroughGroup {
                vpc: vpc.clone(),
                tags: group_tags(case, "stasis-pass-through", tags::PASS_THROUGH_VALUE),
            }),
            Observed::Known(None) => {}
            Observed::Known(Some(group)) => {
                ready.pass_through = Some(group);
                if !all_inside {
                    ready.actions.extend(open_pass_through(group));
                }
            }
        }
    }
    ready
}

fn group_tags(case: &Case, name: &str, role: &str) -> Vec<Tag> {
    vec![Tag::new("Name", name), Tag::new(tags::QUARANTINE, role), Tag::new(tags::OWNER, case.policy.owner.clone())]
}

/// Everything, in both address families: only then does EC2 not track a connection.
fn everything() -> Vec<Allows> {
    ["0.0.0.0/0", "::/0"]
        .into_iter()
        .map(|range| Allows {
            protocol: "-1".to_owned(),
            from_port: -1,
            to_port: -1,
            peer: if range.contains(':') { Peer::Cidr6(range.to_owned()) } else { Peer::Cidr4(range.to_owned()) },
        })
        .collect()
}

/// What opens the pass-through group; empty when it is open.
fn open_pass_through(group: &QuarantineGroup) -> Vec<Action> {
    [false, true]
        .into_iter()
        .filter_map(|egress| {
            let mut allows = everything();
            allows.retain(|a| !group.rules.iter().any(|r| r.egress == egress && &r.allows == a));
            (!allows.is_empty()).then(|| Action::OpenPassThroughGroup { group: group.group_id.clone(), egress, allows })
        })
        .collect()
}

/// What closes the pass-through group once nothing of the instance is in it.
fn close_pass_through(facts: &QuarantineFacts, vpc: &VpcId) -> Vec<Action> {
    let Some(Some(group)) = facts.vpcs.get(vpc).and_then(|known| known.pass_through.known()) else {
        return Vec::new();
    };
    [false, true]
        .into_iter()
        .filter_map(|egress| {
            let allows: Vec<Allows> =
                group.rules.iter().filter(|r| r.egress == egress).map(|r| r.allows.clone()).collect();
            (!allows.is_empty()).then(|| Action::ClosePassThroughGroup {
                group: group.group_id.clone(),
                egress,
                allows,
            })
        })
        .collect()
}

/// Whether the interface stands in the pass-through group.
fn is_passing(interface: &Interface, pass_through: Option<&QuarantineGroup>) -> bool {
    pass_through.is_some_and(|pass| interface.groups.contains(&pass.group_id))
}

fn swap(interface: &Interface, group: &GroupId, via: Option<&GroupId>) -> Option<Action> {
    (interface.groups != [group.clone()]).then(|| Action::Quarantine {
        interface: interface.interface_id.clone(),
        group: group.clone(),
        via: via.cloned(),
        from: interface.groups.clone(),
    })
}

/// What a dry run cannot show as an action, because the group has no id yet.
fn to_come(vpc: &VpcId, interfaces: &[Interface]) -> String {
    let ids: Vec<&str> = interfaces.iter().filter(|i| &i.vpc_id == vpc).map(|i| i.interface_id.as_str()).collect();
    format!("{vpc}: once the group is made and has only its own rules, {} would be moved into it", ids.join(", "))
}

/// The only rules that the quarantine group may have.
pub fn wanted_egress(egress: Egress, endpoints: &Observed<Endpoints>) -> Vec<Allows> {
    let https = |peer| Allows { protocol: "tcp".to_owned(), from_port: HTTPS, to_port: HTTPS, peer };
    let mut wanted = match egress {
        Egress::None => Vec::new(),
        Egress::Https => vec![https(Peer::Cidr4("0.0.0.0/0".to_owned())), https(Peer::Cidr6("::/0".to_owned()))],
        Egress::Endpoints => endpoints.known().map_or_else(Vec::new, |known| {
            let groups = known.services.values().flatten().map(|group| https(Peer::Group(group.clone())));
            groups.chain(known.s3_prefix_list.iter().map(|list| https(Peer::PrefixList(list.clone())))).collect()
        }),
    };
    wanted.sort();
    wanted.dedup();
    wanted
}

/// What brings the group to exactly the wanted rules; empty when it has them.
pub fn converge(group: &QuarantineGroup, wanted: &[Allows]) -> Vec<Action> {
    let mut actions = Vec::new();
    for egress in [false, true] {
        let mut surplus: Vec<Allows> = group
            .rules
            .iter()
            .filter(|r| r.egress == egress && !(egress && wanted.contains(&r.allows)))
            .map(|r| r.allows.clone())
            .collect();
        surplus.sort();
        surplus.dedup();
        if !surplus.is_empty() {
            actions.push(Action::RevokeRules { group: group.group_id.clone(), egress, allows: surplus });
        }
    }
    let missing: Vec<Allows> =
        wanted.iter().filter(|w| !group.rules.iter().any(|r| r.egress && &r.allows == *w)).cloned().collect();
    if !missing.is_empty() {
        actions.push(Action::AllowEgress { group: group.group_id.clone(), allows: missing });
    }
    actions
}

/// What goes out, and why.
fn egress_note(egress: Egress, vpc: &VpcId, facts: &VpcFacts) -> String {
    let wanted = wanted_egress(egress, &facts.endpoints);
    let rules: Vec<String> = wanted.iter().map(ToString::to_string).collect();
    match egress {
        Egress::None => format!("{vpc}: nothing goes out (policy none)"),
        Egress::Https => {
            format!("{vpc}: 443 goes out to anywhere (policy https): command and control over 443 stays possible")
        }
        Egress::Endpoints => match &facts.endpoints {
            Observed::Unknown(why) => {
                format!(
                    "{vpc}: nothing goes out, because its endpoints could not be read ({why}); Systems Manager will not reach the instance"
                )
            }
            Observed::Known(_) if wanted.is_empty() => format!(
                "{vpc}: nothing goes out, because it has no endpoints of Systems Manager (policy endpoints); Systems Manager will not reach the instance while it is quarantined"
            ),
            Observed::Known(_) => {
                format!("{vpc}: out goes only what Systems Manager needs (policy endpoints): {}", rules.join("; "))
            }
        },
    }
}

/// What becomes of connections that were open. AWS: a tracked connection is not broken by a change of rules, and
/// "connections made through" these are "automatically tracked, even if the security group configuration does not
/// otherwise require tracking" (docs/containment.md).
fn tracked_note(policy: TrackedConnections) -> &'static str {
    match policy {
        TrackedConnections::Cut => {
            "open connections were made untracked and so cut (policy cut), except ICMP and those through a NAT gateway, egress-only internet gateway, network or gateway load balancer, interface endpoint, Global Accelerator, Network Firewall or transit gateway: AWS tracks these always, and they go on until they time out"
        }
        TrackedConnections::Leave => {
            "connections that were open and tracked go on until they time out (policy leave): security groups do not cut them"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample;
    use proptest::prelude::*;
    use stasis_model::facts::Rule;

    fn facts(group: Option<QuarantineGroup>) -> QuarantineFacts {
        sample::quarantine_facts(group)
    }

    fn clean(wanted: &[Allows]) -> QuarantineGroup {
        QuarantineGroup {
            group_id: "sg-0fffffffffffffff1".parse().expect("id"),
            rules: wanted.iter().map(|allows| Rule { egress: true, allows: allows.clone() }).collect(),
        }
    }

    fn all_out() -> Allows {
        Allows { protocol: "-1".to_owned(), from_port: -1, to_port: -1, peer: Peer::Cidr4("0.0.0.0/0".to_owned()) }
    }

    #[test]
    fn a_missing_group_is_made_and_no_interface_is_moved_yet() {
        let plan = plan(&sample::case(), &facts(None), &[]);
        assert_eq!(plan.next, Next::ObserveAgain);
        let made =
            |a: &Action| matches!(a, Action::CreateQuarantineGroup { .. } | Action::CreatePassThroughGroup { .. });
        assert!(plan.actions().all(made), "{plan:?}");
        assert_eq!(plan.actions().count(), 2);
    }

    #[test]
    fn the_rule_that_aws_adds_is_gone_before_the_group_is_used() {
        let mut group = clean(&[]);
        group.rules.push(Rule { egress: true, allows: all_out() });
        let plan = plan(&sample::case(), &facts(Some(group)), &[]);
        assert_eq!(plan.next, Next::ObserveAgain);
        assert!(!plan.actions().any(|a| matches!(a, Action::Quarantine { .. })), "{plan:?}");
        assert!(
            plan.actions()
                .any(|a| matches!(a, Action::RevokeRules { egress: true, allows, .. } if allows == &[all_out()]))
        );
    }

    fn leave() -> Case {
        let mut case = sample::case();
        case.policy.tracked_connections = TrackedConnections::Leave;
        case
    }

    fn ready() -> QuarantineFacts {
        let mut facts = facts(None);
        facts.vpcs.values_mut().for_each(|known| *known = sample::ready(&sample::case(), known));
        facts
    }

    fn groups(facts: &mut QuarantineFacts, groups: &[&str]) {
        let Observed::Known(interfaces) = &mut facts.interfaces else { panic!("known") };
        for interface in interfaces {
            interface.groups = groups.iter().map(|g| g.parse().expect("id")).collect();
        }
    }

    const QUARANTINE: &str = "sg-0fffffffffffffff1";
    const PASS_THROUGH: &str = "sg-0fffffffffffffff2";

    #[test]
    fn open_connections_are_cut_by_way_of_the_open_group_which_is_closed_behind() {
        let case = sample::case();
        let mut facts = ready();
        let first = plan(&case, &facts, &[]);
        let [Action::Quarantine { via: Some(via), .. }] = first.actions().collect::<Vec<_>>()[..] else {
            panic!("{first:?}")
        };
        assert_eq!((via.as_str(), first.next), (PASS_THROUGH, Next::ObserveAgain));
        groups(&mut facts, &[QUARANTINE]);
        let second = plan(&case, &facts, &[]);
        assert!(second.actions().all(|a| matches!(a, Action::ClosePassThroughGroup { .. })), "{second:?}");
        assert_eq!((second.actions().count(), second.next), (2, Next::Finish));
    }

    #[test]
    fn an_interface_that_a_dead_run_left_open_is_closed_before_anything_else() {
        let mut facts = ready();
        groups(&mut facts, &[PASS_THROUGH]);
        let plan = plan(&sample::case(), &facts, &[]);
        let [Action::Quarantine { via: None, group, .. }] = plan.actions().collect::<Vec<_>>()[..] else {
            panic!("{plan:?}")
        };
        assert_eq!(group.as_str(), QUARANTINE);
    }

    #[test]
    fn where_the_open_group_cannot_be_used_the_network_is_cut_all_the_same_and_it_is_said() {
        let (case, mut facts) = (sample::case(), ready());
        facts.vpcs.values_mut().for_each(|known| known.pass_through = Observed::Known(None));
        let first = plan(&case, &facts, &[]);
        let [create @ Action::CreatePassThroughGroup { .. }] = first.actions().collect::<Vec<_>>()[..] else {
            panic!("{first:?}")
        };
        let tried = ActionRecord {
            action: create.clone(),
            words: String::new(),
            target: String::new(),
            outcome: Outcome::Failed,
            error: Some(Failure::lasting("UnauthorizedOperation", "not allowed")),
            request_id: None,
            at: sample::time(),
        };
        let second = plan(&case, &facts, &[tried]);
        assert!(matches!(second.actions().next(), Some(Action::Quarantine { via: None, .. })), "{second:?}");
        assert!(second.obstacles.iter().any(|o| o.code == "ConnectionsNotCut" && o.message.contains("not allowed")));
        assert!(!second.notes.iter().any(|n| n.contains("so cut")), "{:?}", second.notes);
    }

    #[test]
    fn a_group_as_it_must_be_is_used_at_once_and_a_quarantined_interface_stays() {
        let case = leave();
        let wanted = wanted_egress(case.policy.egress, &facts(None).vpcs.values().next().expect("vpc").endpoints);
        assert_eq!(wanted.len(), 2, "one endpoint group, one prefix list");
        let group = clean(&wanted);
        let mut facts = facts(Some(group.clone()));
        let first = plan(&case, &facts, &[]);
        assert_eq!(first.next, Next::Finish);
        assert!(matches!(first.actions().next(), Some(Action::Quarantine { .. })), "{first:?}");
        let Observed::Known(interfaces) = &mut facts.interfaces else { panic!("known") };
        interfaces.iter_mut().for_each(|i| i.groups = vec![group.group_id.clone()]);
        assert_eq!(plan(&case, &facts, &[]).actions().count(), 0);
    }

    #[test]
    fn interfaces_that_cannot_be_looked_up_are_those_of_the_baseline_and_it_is_said() {
        let case = sample::case();
        let mut facts = facts(Some(clean(&[])));
        for vpc in facts.vpcs.values_mut() {
            vpc.endpoints = Observed::Known(Endpoints::default());
        }
        facts.interfaces = Observed::Unknown("InternalError".to_owned());
        let plan = plan(&case, &facts, &[]);
        assert_eq!(plan.actions().count(), case.baseline.instance.interfaces.len());
        assert!(plan.obstacles.iter().any(|o| o.message.contains("InternalError")), "{plan:?}");
    }

    #[test]
    fn a_group_that_cannot_be_read_is_not_used() {
        let mut facts = facts(None);
        for vpc in facts.vpcs.values_mut() {
            vpc.group = Observed::Unknown("AccessDenied".to_owned());
        }
        let plan = plan(&sample::case(), &facts, &[]);
        assert_eq!(plan.actions().count(), 0);
        assert_eq!(plan.obstacles.len(), 1);
    }

    #[test]
    fn without_endpoints_nothing_goes_out_and_the_note_says_what_that_means() {
        let case = sample::case();
        let mut facts = facts(Some(clean(&[])));
        for vpc in facts.vpcs.values_mut() {
            vpc.endpoints = Observed::Known(Endpoints::default());
        }
        let plan = plan(&leave(), &facts, &[]);
        assert!(matches!(plan.actions().next(), Some(Action::Quarantine { .. })), "{case:?}");
        assert!(plan.notes.iter().any(|n| n.contains("will not reach")), "{:?}", plan.notes);
    }

    fn any_rule() -> impl Strategy<Value = (bool, Allows)> {
        let peer = prop_oneof![
            Just(Peer::Cidr4("0.0.0.0/0".to_owned())),
            Just(Peer::Cidr6("::/0".to_owned())),
            Just(Peer::Group("sg-0bbbbbbbbbbbbbbb1".parse().expect("id"))),
            Just(Peer::PrefixList("pl-1".to_owned())),
            "[a-z]{1,8}".prop_map(Peer::Other),
        ];
        let ports = prop_oneof![Just((443, 443)), Just((-1, -1)), Just((22, 22)), Just((0, 65535))];
        let protocol = prop_oneof![Just("tcp"), Just("udp"), Just("-1")];
        (any::<bool>(), protocol, ports, peer).prop_map(|(egress, protocol, (from_port, to_port), peer)| {
            (egress, Allows { protocol: protocol.to_owned(), from_port, to_port, peer })
        })
    }

    proptest! {
        /// Whatever the group held, what is planned leaves exactly the wanted rules, and then nothing is planned.
        #[test]
        fn any_group_converges_in_one_round(rules in proptest::collection::vec(any_rule(), 0..12), egress in 0..3) {
            let egress = [Egress::Endpoints, Egress::Https, Egress::None][egress as usize];
            let wanted = wanted_egress(egress, &facts(None).vpcs.values().next().expect("vpc").endpoints);
            let mut group = clean(&[]);
            for (egress, allows) in rules {
                group.rules.push(Rule { egress, allows });
            }
            for action in converge(&group, &wanted) {
                match action {
                    Action::RevokeRules { egress, allows, .. } => {
                        group.rules.retain(|r| r.egress != egress || !allows.contains(&r.allows));
                    }
                    Action::AllowEgress { allows, .. } => group.rules.extend(
                        allows.into_iter().map(|allows| Rule { egress: true, allows })),
                    other => prop_assert!(false, "{other:?}"),
                }
            }
            prop_assert!(group.rules.iter().all(|r| r.egress && wanted.contains(&r.allows)));
            prop_assert!(wanted.iter().all(|w| group.rules.iter().any(|r| &r.allows == w)));
            prop_assert!(converge(&group, &wanted).is_empty());
        }
    }
}
