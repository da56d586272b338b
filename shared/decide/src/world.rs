//! A small world that the plans act on: what AWS holds, and what each action makes of it. For properties
//! that hold for every instance, stopped at every point.

use crate::{detach, protect, quarantine, sample};
use proptest::prelude::*;
use stasis_model::action::Action;
use stasis_model::baseline::{
    Instance, Interface, Observed, Protection, ScalingMembership, ScalingSizes, TagsByResource, TargetRegistration,
    Volume,
};
use stasis_model::case::{Case, Egress};
use stasis_model::facts::{
    Allows, DetachFacts, Endpoints, Peer, ProtectFacts, QuarantineFacts, QuarantineGroup, Rule, VpcFacts,
};
use stasis_model::ids::{GroupId, VpcId};
use stasis_model::stage::{Next, Plan};
use std::collections::BTreeMap;

#[derive(Debug, Clone)]
struct World {
    instance: Instance,
    protection: Protection,
    tags: TagsByResource,
    scaling: Option<ScalingMembership>,
    targets: Vec<TargetRegistration>,
    classic: Vec<String>,
    groups: BTreeMap<VpcId, QuarantineGroup>,
    endpoints: BTreeMap<VpcId, Endpoints>,
    rules_made: usize,
}

/// What AWS adds to every new group.
fn everything_out() -> Allows {
    Allows { protocol: "-1".to_owned(), from_port: -1, to_port: -1, peer: Peer::Cidr4("0.0.0.0/0".to_owned()) }
}

impl World {
    fn protect_facts(&self) -> ProtectFacts {
        ProtectFacts {
            instance: self.instance.clone(),
            protection: Observed::Known(self.protection.clone()),
            tags: Observed::Known(self.tags.clone()),
        }
    }

    fn detach_facts(&self) -> DetachFacts {
        DetachFacts {
            scaling: Observed::Known(self.scaling.clone()),
            targets: Observed::Known(self.targets.clone()),
            classic_load_balancers: Observed::Known(self.classic.clone()),
        }
    }

    fn quarantine_facts(&self) -> QuarantineFacts {
        let vpcs = self.instance.interfaces.iter().map(|i| i.vpc_id.clone());
        let facts = vpcs.map(|vpc| {
            let facts = VpcFacts {
                group: Observed::Known(self.groups.get(&vpc).cloned()),
                endpoints: Observed::Known(self.endpoints.get(&vpc).cloned().unwrap_or_default()),
            };
            (vpc, facts)
        });
        QuarantineFacts { interfaces: Observed::Known(self.instance.interfaces.clone()), vpcs: facts.collect() }
    }

    fn add_rule(&mut self, group: &GroupId, allows: Allows) {
        self.rules_made += 1;
        let rule_id = format!("sgr-{}", self.rules_made);
        let found = self.groups.values_mut().find(|g| &g.group_id == group).expect("the group exists");
        assert!(!found.rules.iter().any(|r| r.egress && r.allows == allows), "AWS refuses a rule that is there");
        found.rules.push(Rule { rule_id, egress: true, allows });
    }

    fn apply(&mut self, action: &Action) {
        match action {
            Action::EnableTerminationProtection { .. } => self.protection.termination = true,
            Action::EnableStopProtection { .. } => self.protection.stop = true,
            Action::StopOnShutdown { .. } => self.protection.shutdown_behavior = "stop".to_owned(),
            Action::KeepVolumes { devices, .. } => {
                for volume in self.instance.volumes.iter_mut().filter(|v| devices.iter().any(|d| d.device == v.device))
                {
                    volume.delete_on_termination = false;
                }
            }
            Action::Tag { resources, tags } => {
                for resource in resources {
                    let entry = self.tags.entry(resource.clone()).or_default();
                    entry.extend(tags.iter().map(|t| (t.key.clone(), t.value.clone())));
                }
            }
            Action::LowerMinimumSize { to, .. } => {
                let sizes = self.scaling.as_mut().and_then(|m| m.sizes.as_mut()).expect("a group");
                sizes.min = *to;
            }
            Action::DetachFromScalingGroup { .. } => {
                let membership = self.scaling.take().expect("it is a member");
                let sizes = membership.sizes.expect("sizes");
                let counted = i32::from(membership.lifecycle_state == "InService");
                assert!(sizes.desired - counted >= sizes.min, "AWS refuses to go below the minimum: {sizes:?}");
            }
            Action::DeregisterTargets { target_group, targets } => self.targets.retain(|r| {
                &r.target_group != target_group || !targets.iter().any(|t| t.id == r.target && t.port == r.port)
            }),
            Action::DeregisterFromClassicLoadBalancer { load_balancer, .. } => {
                self.classic.retain(|name| name != load_balancer);
            }
            Action::CreateQuarantineGroup { vpc, .. } => {
                let group_id: GroupId = format!("sg-0fffffffffffff{:03}", self.groups.len()).parse().expect("id");
                let made = QuarantineGroup { group_id: group_id.clone(), rules: Vec::new() };
                assert!(self.groups.insert(vpc.clone(), made).is_none(), "AWS refuses a second group of the name");
                self.add_rule(&group_id, everything_out());
            }
            Action::RevokeRules { group, rules, .. } => {
                let found = self.groups.values_mut().find(|g| &g.group_id == group).expect("the group exists");
                found.rules.retain(|r| !rules.contains(&r.rule_id));
            }
            Action::AllowEgress { group, allows } => {
                for allowed in allows {
                    self.add_rule(group, allowed.clone());
                }
            }
            Action::Quarantine { interface, group, .. } => {
                let found = self.groups.values().find(|g| &g.group_id == group).expect("the group exists");
                let clean = found.rules.iter().all(|r| r.egress && r.allows != everything_out());
                assert!(clean, "an interface never enters a group that is not as it must be: {found:?}");
                assert!(self.scaling.is_none() && self.targets.is_empty() && self.classic.is_empty(), "detached first");
                let all = self.instance.interfaces.iter_mut();
                all.filter(|i| &i.interface_id == interface).for_each(|i| i.groups = vec![group.clone()]);
            }
            other => panic!("{other:?} is not an action of containment"),
        }
    }
}

/// Works through protect, detach and quarantine, and stops after `stop` actions.
fn contain(case: &Case, world: &mut World, stop: usize) -> usize {
    type Stage = fn(&Case, &World) -> Plan;
    let stages: [Stage; 3] = [
        |case, world| protect::plan(case, &world.protect_facts()),
        |case, world| detach::plan(case, &world.detach_facts()),
        |case, world| quarantine::plan(case, &world.quarantine_facts()),
    ];
    let mut done = 0;
    for plan in stages {
        for round in 0.. {
            assert!(round < 5, "a stage is through after a few rounds");
            let planned = plan(case, world);
            for action in planned.actions() {
                if done == stop {
                    return done;
                }
                world.apply(action);
                done += 1;
            }
            if planned.next != Next::ObserveAgain {
                break;
            }
        }
    }
    done
}

fn any_world() -> impl Strategy<Value = World> {
    let case = sample::case();
    let vpc = |n: usize| -> VpcId { format!("vpc-0aaaaaaaaaaaaaa{n}").parse().expect("id") };
    let volume = any::<bool>();
    let interface = (0_usize..2, 1_usize..4);
    let membership = (prop_oneof![Just("InService"), Just("Standby")], 0..3_i32, 0..3_i32, 0..2_i32);
    let drift = prop_oneof![Just(None), Just(Some(Vec::new())), Just(Some(vec![everything_out()]))];
    (
        (any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>()),
        proptest::collection::vec(volume, 0..4),
        proptest::collection::vec(interface, 1..5),
        proptest::option::of(membership),
        proptest::collection::vec((0..3_usize, proptest::option::of(80..83_i32)), 0..5),
        0..3_usize,
        drift,
        any::<bool>(),
    )
        .prop_map(move |(flags, volumes, interfaces, scaling, targets, classic, drift, has_endpoints)| {
            let (termination, stop, stops, spot) = flags;
            let mut instance = case.baseline.instance.clone();
            instance.spot = spot;
            instance.volumes = volumes
                .into_iter()
                .enumerate()
                .map(|(n, delete_on_termination)| Volume {
                    volume_id: format!("vol-0{n}").parse().expect("id"),
                    device: format!("/dev/sd{n}"),
                    delete_on_termination,
                })
                .collect();
            instance.interfaces = interfaces
                .into_iter()
                .enumerate()
                .map(|(n, (of, groups))| Interface {
                    interface_id: format!("eni-0{n}").parse().expect("id"),
                    device_index: 0,
                    vpc_id: vpc(of),
                    groups: (0..groups).map(|g| format!("sg-0{g}").parse().expect("id")).collect(),
                    ..case.baseline.instance.interfaces[0].clone()
                })
                .collect();
            let endpoints = Endpoints {
                services: BTreeMap::from([("ssm".to_owned(), vec!["sg-0e".parse().expect("id")])]),
                s3_prefix_list: Some("pl-1".to_owned()),
            };
            let mut world = World {
                instance,
                protection: Protection {
                    termination,
                    stop,
                    shutdown_behavior: if stops { "stop" } else { "terminate" }.to_owned(),
                },
                tags: TagsByResource::new(),
                scaling: scaling.map(|(state, min, above, room)| ScalingMembership {
                    group: "web".to_owned(),
                    lifecycle_state: state.to_owned(),
                    protected_from_scale_in: false,
                    sizes: Some(ScalingSizes {
                        min,
                        desired: (min + above).max(i32::from(state == "InService")),
                        max: min + above + room + 1,
                    }),
                }),
                targets: targets
                    .into_iter()
                    .map(|(group, port)| TargetRegistration {
                        target_group: format!("arn:tg/{group}/x"),
                        target: case.instance.instance_id.to_string(),
                        port,
                        availability_zone: None,
                        health: None,
                    })
                    .collect(),
                classic: (0..classic).map(|n| format!("old-{n}")).collect(),
                groups: BTreeMap::new(),
                endpoints: BTreeMap::new(),
                rules_made: 0,
            };
            if has_endpoints {
                world.endpoints = BTreeMap::from([(vpc(0), endpoints.clone()), (vpc(1), endpoints)]);
            }
            if let Some(rules) = drift {
                let group_id: GroupId = "sg-0fffffffffffffd1".parse().expect("id");
                world.groups.insert(vpc(0), QuarantineGroup { group_id: group_id.clone(), rules: Vec::new() });
                rules.into_iter().for_each(|allows| world.add_rule(&group_id, allows));
            }
            world
        })
}

proptest! {
    /// Stopped after any number of actions and begun again, the instance ends contained, and then there is
    /// nothing left to do. On the way no interface enters a group that is not as it must be, nothing is cut
    /// off before it is detached, and AWS is asked for nothing that it refuses.
    #[test]
    fn stopped_anywhere_and_begun_again_it_ends_contained(
        world in any_world(), stop in 0_usize..20, egress in 0..3_usize
    ) {
        let mut case = sample::case();
        case.policy.egress = [Egress::Endpoints, Egress::Https, Egress::None][egress];
        let mut world = world;
        contain(&case, &mut world, stop);
        contain(&case, &mut world, usize::MAX);
        let left = contain(&case, &mut world.clone(), usize::MAX);
        prop_assert_eq!(left, 0, "{:?}", world);
        for interface in &world.instance.interfaces {
            let group = &world.groups[&interface.vpc_id];
            prop_assert_eq!(&interface.groups, &vec![group.group_id.clone()]);
            prop_assert!(group.rules.iter().all(|r| r.egress && r.allows.from_port == 443));
        }
        prop_assert!(world.scaling.is_none() && world.targets.is_empty() && world.classic.is_empty());
        prop_assert!(world.instance.volumes.iter().all(|v| !v.delete_on_termination));
        prop_assert!(world.instance.spot || (world.protection.termination && world.protection.stop));
    }
}
