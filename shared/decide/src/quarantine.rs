//! Quarantine: every network interface into a group that lets nothing in, and out only to where Systems
//! Manager is reached. The group is made where it is missing and brought back where somebody changed it;
//! a group that is not as it must be is never attached.

use stasis_model::action::Action;
use stasis_model::baseline::{Interface, Observed};
use stasis_model::case::{Case, Egress};
use stasis_model::facts::{Allows, Endpoints, Peer, QuarantineFacts, QuarantineGroup, Rule, VpcFacts};
use stasis_model::ids::VpcId;
use stasis_model::stage::{Failure, Next, Plan};
use stasis_model::tags::{self, Tag};

/// The port of Systems Manager and S3.
const HTTPS: i32 = 443;

/// What quarantine does next. It is asked again after groups were made or changed, until interfaces are moved.
pub fn plan(case: &Case, facts: &QuarantineFacts) -> Plan {
    let mut plan = Plan::nothing();
    let mut actions = Vec::new();
    let interfaces = interfaces(case, facts, &mut plan);
    let mut vpcs: Vec<&VpcId> = interfaces.iter().map(|i| &i.vpc_id).collect();
    vpcs.sort();
    vpcs.dedup();
    for vpc in vpcs {
        let Some(known) = facts.vpcs.get(vpc) else {
            plan.obstacles
                .push(Failure::lasting("Unreadable", format!("the quarantine group of {vpc} could not be looked up")));
            continue;
        };
        let wanted = wanted_egress(case.policy.egress, &known.endpoints);
        match &known.group {
            Observed::Unknown(why) => plan.obstacles.push(Failure::lasting(
                "Unreadable",
                format!("the quarantine group of {vpc} could not be read, so it is not used: {why}"),
            )),
            Observed::Known(None) => {
                actions.push(Action::CreateQuarantineGroup { vpc: vpc.clone(), tags: group_tags(case) });
                if case.is_dry_run() {
                    plan.notes.push(to_come(vpc, interfaces));
                }
                plan.next = Next::ObserveAgain;
            }
            Observed::Known(Some(group)) => {
                let mending = converge(group, &wanted);
                if mending.is_empty() {
                    actions.extend(interfaces.iter().filter(|i| &i.vpc_id == vpc).filter_map(|i| swap(i, group)));
                    plan.notes.push(egress_note(case.policy.egress, vpc, known, &wanted));
                } else {
                    actions.extend(mending);
                    plan.next = Next::ObserveAgain;
                }
            }
        }
    }
    plan.step(actions);
    plan
}

/// The interfaces to move. Where they cannot be looked up, those of the baseline: too few is better than none.
fn interfaces<'a>(case: &'a Case, facts: &'a QuarantineFacts, plan: &mut Plan) -> &'a [Interface] {
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

fn swap(interface: &Interface, group: &QuarantineGroup) -> Option<Action> {
    (interface.groups != [group.group_id.clone()]).then(|| Action::Quarantine {
        interface: interface.interface_id.clone(),
        group: group.group_id.clone(),
        from: interface.groups.clone(),
    })
}

/// What a dry run cannot show as an action, because the group has no id yet.
fn to_come(vpc: &VpcId, interfaces: &[Interface]) -> String {
    let ids: Vec<&str> = interfaces.iter().filter(|i| &i.vpc_id == vpc).map(|i| i.interface_id.as_str()).collect();
    format!("{vpc}: once the group is made and has only its own rules, {} would be moved into it", ids.join(", "))
}

fn group_tags(case: &Case) -> Vec<Tag> {
    vec![
        Tag::new("Name", "stasis-quarantine"),
        Tag::new(tags::QUARANTINE, tags::QUARANTINE_VALUE),
        Tag::new(tags::OWNER, case.policy.owner.clone()),
    ]
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
    let is_ours = |rule: &&Rule| rule.egress && wanted.contains(&rule.allows);
    let mut actions = Vec::new();
    for egress in [false, true] {
        let surplus: Vec<&Rule> = group.rules.iter().filter(|r| r.egress == egress && !is_ours(r)).collect();
        if !surplus.is_empty() {
            actions.push(Action::RevokeRules {
                group: group.group_id.clone(),
                egress,
                rules: surplus.iter().map(|r| r.rule_id.clone()).collect(),
                allows: surplus.iter().map(|r| r.allows.clone()).collect(),
            });
        }
    }
    let missing: Vec<Allows> =
        wanted.iter().filter(|w| !group.rules.iter().any(|r| r.egress && &r.allows == *w)).cloned().collect();
    if !missing.is_empty() {
        actions.push(Action::AllowEgress { group: group.group_id.clone(), allows: missing });
    }
    actions
}

fn egress_note(egress: Egress, vpc: &VpcId, facts: &VpcFacts, wanted: &[Allows]) -> String {
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
            Observed::Known(_) => format!("{vpc}: out goes only {}", rules.join("; ")),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample;
    use proptest::prelude::*;

    fn facts(group: Option<QuarantineGroup>) -> QuarantineFacts {
        sample::quarantine_facts(group)
    }

    fn clean(wanted: &[Allows]) -> QuarantineGroup {
        QuarantineGroup {
            group_id: "sg-0fffffffffffffff1".parse().expect("id"),
            rules: wanted
                .iter()
                .enumerate()
                .map(|(n, allows)| Rule { rule_id: format!("sgr-{n}"), egress: true, allows: allows.clone() })
                .collect(),
        }
    }

    fn everything() -> Allows {
        Allows { protocol: "-1".to_owned(), from_port: -1, to_port: -1, peer: Peer::Cidr4("0.0.0.0/0".to_owned()) }
    }

    #[test]
    fn a_missing_group_is_made_and_no_interface_is_moved_yet() {
        let plan = plan(&sample::case(), &facts(None));
        assert_eq!(plan.next, Next::ObserveAgain);
        assert!(plan.actions().all(|a| matches!(a, Action::CreateQuarantineGroup { .. })), "{plan:?}");
        assert_eq!(plan.actions().count(), 1);
    }

    #[test]
    fn the_rule_that_aws_adds_is_gone_before_the_group_is_used() {
        let mut group = clean(&[]);
        group.rules.push(Rule { rule_id: "sgr-default".to_owned(), egress: true, allows: everything() });
        let plan = plan(&sample::case(), &facts(Some(group)));
        assert_eq!(plan.next, Next::ObserveAgain);
        assert!(!plan.actions().any(|a| matches!(a, Action::Quarantine { .. })), "{plan:?}");
        assert!(
            plan.actions()
                .any(|a| matches!(a, Action::RevokeRules { egress: true, rules, .. } if rules == &["sgr-default"]))
        );
    }

    #[test]
    fn a_group_as_it_must_be_is_used_at_once_and_a_quarantined_interface_stays() {
        let case = sample::case();
        let wanted = wanted_egress(case.policy.egress, &facts(None).vpcs.values().next().expect("vpc").endpoints);
        assert_eq!(wanted.len(), 2, "one endpoint group, one prefix list");
        let group = clean(&wanted);
        let mut facts = facts(Some(group.clone()));
        let first = plan(&case, &facts);
        assert_eq!(first.next, Next::Finish);
        assert!(matches!(first.actions().next(), Some(Action::Quarantine { .. })), "{first:?}");
        let Observed::Known(interfaces) = &mut facts.interfaces else { panic!("known") };
        interfaces.iter_mut().for_each(|i| i.groups = vec![group.group_id.clone()]);
        assert_eq!(plan(&case, &facts).actions().count(), 0);
    }

    #[test]
    fn interfaces_that_cannot_be_looked_up_are_those_of_the_baseline_and_it_is_said() {
        let case = sample::case();
        let mut facts = facts(Some(clean(&[])));
        for vpc in facts.vpcs.values_mut() {
            vpc.endpoints = Observed::Known(Endpoints::default());
        }
        facts.interfaces = Observed::Unknown("InternalError".to_owned());
        let plan = plan(&case, &facts);
        assert_eq!(plan.actions().count(), case.baseline.instance.interfaces.len());
        assert!(plan.obstacles.iter().any(|o| o.message.contains("InternalError")), "{plan:?}");
    }

    #[test]
    fn a_group_that_cannot_be_read_is_not_used() {
        let mut facts = facts(None);
        for vpc in facts.vpcs.values_mut() {
            vpc.group = Observed::Unknown("AccessDenied".to_owned());
        }
        let plan = plan(&sample::case(), &facts);
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
        let plan = plan(&case, &facts);
        assert!(matches!(plan.actions().next(), Some(Action::Quarantine { .. })));
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
            for (n, (egress, allows)) in rules.into_iter().enumerate() {
                group.rules.push(Rule { rule_id: format!("sgr-{n}"), egress, allows });
            }
            for action in converge(&group, &wanted) {
                match action {
                    Action::RevokeRules { rules, .. } => group.rules.retain(|r| !rules.contains(&r.rule_id)),
                    Action::AllowEgress { allows, .. } => group.rules.extend(
                        allows.into_iter().map(|allows| Rule { rule_id: "new".to_owned(), egress: true, allows })),
                    other => prop_assert!(false, "{other:?}"),
                }
            }
            prop_assert!(group.rules.iter().all(|r| r.egress && wanted.contains(&r.allows)));
            prop_assert!(wanted.iter().all(|w| group.rules.iter().any(|r| &r.allows == w)));
            prop_assert!(converge(&group, &wanted).is_empty());
        }
    }
}
