//! A small world that the plans act on: what AWS holds, and what each action makes of it. For properties
//! that hold for every instance and policy, stopped at every point.

use crate::{detach, prepare, protect, quarantine, release, revoke, sample};
use proptest::prelude::*;
use stasis_model::action::Action;
use stasis_model::baseline::{
    Instance, Interface, Observed, Protection, ScalingMembership, ScalingSizes, TagsByResource, TargetRegistration,
    Volume,
};
use stasis_model::case::{Case, Credentials, Egress, MinimumSize, RemoteAddresses, TrackedConnections};
use stasis_model::facts::{
    Allows, DetachFacts, Endpoints, NetworkAcl, NetworkAclEntry, Peer, ProfileAssociation, ProtectFacts,
    QuarantineFacts, QuarantineGroup, ReleaseFacts, RevokeFacts, Rule, VpcFacts,
};
use stasis_model::ids::{GroupId, VpcId};
use stasis_model::stage::{Next, Plan};
use stasis_model::tags;
use std::collections::{BTreeMap, BTreeSet};

#[derive(Debug, Clone, PartialEq)]
struct World {
    instance: Instance,
    protection: Protection,
    tags: TagsByResource,
    /// The group that the instance was planted in, and its state there while it is a member.
    group: Option<ScalingSizes>,
    member: Option<(String, bool)>,
    targets: Vec<TargetRegistration>,
    classic: BTreeMap<String, bool>,
    groups: BTreeMap<(VpcId, &'static str), QuarantineGroup>,
    endpoints: BTreeMap<VpcId, Endpoints>,
    acl: Vec<NetworkAclEntry>,
    profile: Option<String>,
    policies: BTreeSet<(String, String)>,
    claimed: bool,
}

const ROLE: &str = "web";
const PROFILE: &str = "arn:aws:iam::111122223333:instance-profile/web";
const QUARANTINE_PROFILE: &str = "arn:aws:iam::111122223333:instance-profile/stasis-quarantine";

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

    fn membership(&self) -> Option<ScalingMembership> {
        self.member.as_ref().map(|(state, protected)| ScalingMembership {
            group: "web".to_owned(),
            lifecycle_state: state.clone(),
            protected_from_scale_in: *protected,
            sizes: self.group,
        })
    }

    fn detach_facts(&self) -> DetachFacts {
        DetachFacts {
            scaling: Observed::Known(self.membership()),
            targets: Observed::Known(self.targets.clone()),
            targets_unasked: 0,
            classic_load_balancers: Observed::Known(self.behind()),
        }
    }

    fn behind(&self) -> Vec<String> {
        self.classic.iter().filter(|(_, is)| **is).map(|(name, _)| name.clone()).collect()
    }

    fn quarantine_facts(&self) -> QuarantineFacts {
        let vpcs = self.instance.interfaces.iter().map(|i| i.vpc_id.clone());
        let facts = vpcs.map(|vpc| {
            let group = |role| Observed::Known(self.groups.get(&(vpc.clone(), role)).cloned());
            let facts = VpcFacts {
                group: group(tags::QUARANTINE_VALUE),
                pass_through: group(tags::PASS_THROUGH_VALUE),
                endpoints: Observed::Known(self.endpoints.get(&vpc).cloned().unwrap_or_default()),
            };
            (vpc.clone(), facts)
        });
        QuarantineFacts {
            interfaces: Observed::Known(self.instance.interfaces.clone()),
            vpcs: facts.collect(),
            acls: Observed::Known(vec![NetworkAcl { id: "acl-1".to_owned(), entries: self.acl.clone() }]),
        }
    }

    fn association(&self) -> Observed<Option<ProfileAssociation>> {
        Observed::Known(self.profile.clone().map(|profile| ProfileAssociation { id: "a-1".to_owned(), profile }))
    }

    fn revoke_facts(&self, case: &Case) -> RevokeFacts {
        RevokeFacts {
            association: self.association(),
            role: Observed::Known(Some(ROLE.to_owned())),
            shared_with: Observed::Known(Vec::new()),
            quarantine_profile: Observed::Known(Some(QUARANTINE_PROFILE.to_owned())),
            revoked: Observed::Known(self.policies.contains(&(ROLE.to_owned(), revoke::policy_name(&case.case_id)))),
        }
    }

    fn release_facts(&self, done: &[Action]) -> ReleaseFacts {
        let former: BTreeSet<GroupId> = (0..9).map(|g| format!("sg-0{g}").parse().expect("id")).collect();
        ReleaseFacts {
            now: sample::time(),
            done: done.to_vec(),
            waiting_since: None,
            instance: self.instance.clone(),
            protection: Observed::Known(self.protection.clone()),
            tags: Observed::Known(self.tags.clone()),
            interfaces: Observed::Known(self.instance.interfaces.clone()),
            our_groups: Observed::Known(self.groups.values().map(|g| g.group_id.clone()).collect()),
            former_groups: Observed::Known(former),
            scaling: Observed::Known(self.membership()),
            scaling_group: Observed::Known(self.group),
            targets: Observed::Known(self.targets.clone()),
            gone_target_groups: BTreeSet::new(),
            classic_load_balancers: Observed::Known(self.classic.clone()),
            association: self.association(),
            revocations: Observed::Known(self.policies.clone()),
            flow_logs: Observed::Known(BTreeSet::new()),
            acls: Observed::Known(vec![NetworkAcl { id: "acl-1".to_owned(), entries: self.acl.clone() }]),
            snapshots: Observed::Known(Vec::new()),
            claim: Observed::Known(self.claimed.then(|| sample::case().case_id)),
        }
    }

    fn group_mut(&mut self, id: &GroupId) -> &mut QuarantineGroup {
        self.groups.values_mut().find(|g| &g.group_id == id).expect("the group exists")
    }

    fn add_rules(&mut self, group: &GroupId, egress: bool, allows: &[Allows]) {
        let found = self.group_mut(group);
        for allows in allows {
            let there = found.rules.iter().any(|r| r.egress == egress && &r.allows == allows);
            assert!(!there, "AWS refuses a rule that is there");
            found.rules.push(Rule { egress, allows: allows.clone() });
        }
    }

    fn make_group(&mut self, vpc: &VpcId, role: &'static str) {
        let group_id: GroupId = format!("sg-0fffffffffffff{:03}", self.groups.len()).parse().expect("id");
        let made = QuarantineGroup { group_id: group_id.clone(), rules: Vec::new() };
        assert!(self.groups.insert((vpc.clone(), role), made).is_none(), "AWS refuses a second group of the name");
        self.add_rules(&group_id, true, &[everything_out()]);
    }

    fn role_of(&self, group: &GroupId) -> Option<&'static str> {
        self.groups.iter().find(|(_, g)| &g.group_id == group).map(|((_, role), _)| *role)
    }

    fn move_to(&mut self, interface: &stasis_model::ids::InterfaceId, groups: &[GroupId]) {
        let all = self.instance.interfaces.iter_mut();
        all.filter(|i| &i.interface_id == interface).for_each(|i| i.groups = groups.to_vec());
    }

    fn keep_volumes(&mut self, devices: &[stasis_model::action::Device], delete: bool) {
        for volume in self.instance.volumes.iter_mut().filter(|v| devices.iter().any(|d| d.device == v.device)) {
            assert_ne!(volume.delete_on_termination, delete, "it is so already");
            volume.delete_on_termination = delete;
        }
    }

    fn tag(&mut self, resources: &[String], given: &[tags::Tag]) {
        for resource in resources {
            let entry = self.tags.entry(resource.clone()).or_default();
            entry.extend(given.iter().map(|t| (t.key.clone(), t.value.clone())));
        }
    }

    fn sizes(&mut self) -> &mut ScalingSizes {
        self.group.as_mut().expect("a group")
    }

    /// What AWS makes of an action. Panics where AWS would refuse it, and where it would do harm.
    fn apply(&mut self, action: &Action) {
        match action {
            Action::EnableTerminationProtection { .. } => self.protection.termination = true,
            Action::EnableStopProtection { .. } => self.protection.stop = true,
            Action::StopOnShutdown { .. } => self.protection.shutdown_behavior = "stop".to_owned(),
            Action::KeepVolumes { devices, .. } => self.keep_volumes(devices, false),
            Action::Tag { resources, tags } | Action::RestoreTags { resources, tags } => self.tag(resources, tags),
            Action::LowerMinimumSize { to, .. } => self.sizes().min = *to,
            Action::DetachFromScalingGroup { decrement, .. } => {
                let (state, _) = self.member.take().expect("it is a member");
                assert!(!decrement || state == "InService", "one that stands by is not counted");
                let sizes = self.sizes();
                sizes.desired -= i32::from(*decrement);
                assert!(sizes.desired >= sizes.min, "AWS refuses to go below the minimum: {sizes:?}");
            }
            Action::DeregisterTargets { target_group, targets } => self.targets.retain(|r| {
                &r.target_group != target_group || !targets.iter().any(|t| t.id == r.target && t.port == r.port)
            }),
            Action::DeregisterFromClassicLoadBalancer { load_balancer, .. } => {
                self.classic.insert(load_balancer.clone(), false);
            }
            Action::CreateQuarantineGroup { vpc, .. } => self.make_group(vpc, tags::QUARANTINE_VALUE),
            Action::CreatePassThroughGroup { vpc, .. } => self.make_group(vpc, tags::PASS_THROUGH_VALUE),
            Action::RevokeRules { group, egress, allows } | Action::ClosePassThroughGroup { group, egress, allows } => {
                self.group_mut(group).rules.retain(|r| r.egress != *egress || !allows.contains(&r.allows));
            }
            Action::AllowEgress { group, allows } => self.add_rules(group, true, allows),
            Action::OpenPassThroughGroup { group, egress, allows } => self.add_rules(group, *egress, allows),
            Action::Quarantine { interface, group, via, .. } => {
                assert_eq!(self.role_of(group), Some(tags::QUARANTINE_VALUE));
                let clean = self.group_mut(group).rules.iter().all(|r| r.egress && r.allows != everything_out());
                assert!(clean, "an interface never enters a group that is not as it must be");
                if let Some(via) = via {
                    assert_eq!(self.group_mut(via).rules.len(), 4, "both ways, both address families");
                }
                assert!(self.member.is_none() && self.targets.is_empty() && self.behind().is_empty(), "detached first");
                self.move_to(interface, std::slice::from_ref(group));
            }
            Action::DenyAddress { entry } => {
                let taken = |e: &NetworkAclEntry| e.egress == entry.egress && e.rule_number == entry.rule_number;
                assert!(!self.acl.iter().any(taken), "AWS refuses a number that is taken");
                self.acl.push(NetworkAclEntry {
                    rule_number: entry.rule_number,
                    egress: entry.egress,
                    deny: true,
                    protocol: "-1".to_owned(),
                    cidr: entry.cidr.clone(),
                });
            }
            Action::ReplaceInstanceProfile { from, to, .. } => {
                assert_eq!(self.profile.as_ref(), Some(from));
                self.profile = Some(to.clone());
            }
            Action::RevokeSessions { role, policy, .. } => {
                self.policies.insert((role.clone(), policy.clone()));
            }
            other => self.put_back(other),
        }
    }

    fn put_back(&mut self, action: &Action) {
        match action {
            Action::RestoreGroups { interface, groups, .. } => {
                assert!(self.protection.termination || self.instance.spot, "protected until everything is back");
                self.move_to(interface, groups);
            }
            Action::AllowAddress { entry } => {
                let before = self.acl.len();
                self.acl.retain(|e| e.egress != entry.egress || e.rule_number != entry.rule_number);
                assert_eq!(self.acl.len() + 1, before);
            }
            Action::RestoreSessions { role, policy } => {
                assert!(self.policies.remove(&(role.clone(), policy.clone())));
            }
            Action::RegisterTargets { target_group, targets } => {
                self.targets.extend(targets.iter().map(|t| TargetRegistration {
                    target_group: target_group.clone(),
                    target: t.id.clone(),
                    port: t.port,
                    availability_zone: t.availability_zone.clone(),
                    health: None,
                }));
                self.targets.sort();
            }
            Action::RegisterWithClassicLoadBalancer { load_balancer, .. } => {
                assert_eq!(self.classic.insert(load_balancer.clone(), true), Some(false));
            }
            Action::AttachToScalingGroup { .. } => {
                let ours: BTreeSet<GroupId> = self.groups.values().map(|g| g.group_id.clone()).collect();
                let open = self.instance.interfaces.iter().all(|i| !i.groups.iter().any(|g| ours.contains(g)));
                assert!(open, "a scaling group terminates what fails its health checks");
                assert!(self.member.is_none());
                self.member = Some(("InService".to_owned(), false));
                let sizes = self.sizes();
                assert!(sizes.desired < sizes.max, "AWS refuses to go above the maximum");
                sizes.desired += 1;
            }
            Action::RestoreMinimumSize { to, .. } => {
                let sizes = self.sizes();
                assert!(sizes.desired >= *to, "AWS would start an instance");
                sizes.min = *to;
            }
            Action::EnterStandby { .. } => {
                self.member.as_mut().expect("a member").0 = "Standby".to_owned();
                self.sizes().desired -= 1;
            }
            Action::ProtectFromScaleIn { .. } => self.member.as_mut().expect("a member").1 = true,
            Action::DisableTerminationProtection { .. } => self.protection.termination = false,
            Action::DisableStopProtection { .. } => self.protection.stop = false,
            Action::RestoreShutdownBehavior { behavior, .. } => self.protection.shutdown_behavior = behavior.clone(),
            Action::RestoreDeleteOnTermination { devices, .. } => self.keep_volumes(devices, true),
            Action::MarkReleased { instance } => {
                self.tag(&[instance.to_string()], &[tags::Tag::new(tags::STATUS, tags::RELEASED)]);
            }
            Action::CloseClaim { .. } => self.claimed = false,
            other => panic!("{other:?} is not an action that this world knows"),
        }
    }
}

/// What was done, by the place of its stage in the order of work.
type Trace = Vec<(usize, Action)>;

type Planner = fn(&Case, &World, &[Action]) -> Plan;

/// Works through the stages and stops after `stop` actions; gives what was done.
fn work(case: &Case, world: &mut World, stages: &[Planner], done: &[Action], stop: usize) -> Trace {
    let mut trace = Trace::new();
    for (at, plan) in stages.iter().enumerate() {
        for round in 0.. {
            assert!(round < 8, "a stage is through after a few rounds");
            let planned = plan(case, world, done);
            assert!(planned.obstacles.iter().all(|o| o.code == "SpotInstance"), "{:?}", planned.obstacles);
            for action in planned.actions() {
                if trace.len() == stop {
                    return trace;
                }
                world.apply(action);
                trace.push((at, action.clone()));
            }
            if planned.next != Next::ObserveAgain {
                break;
            }
        }
    }
    trace
}

const CONTAIN: [Planner; 5] = [
    |case, world, _| protect::plan(case, &world.protect_facts()),
    |case, world, _| detach::plan(case, &world.detach_facts()),
    |case, world, _| prepare::plan(case, &world.quarantine_facts()),
    |case, world, _| quarantine::plan(case, &world.quarantine_facts(), &[]),
    |case, world, _| revoke::plan(case, &world.revoke_facts(case), sample::time()),
];

const RELEASE: [Planner; 1] = [|case, world, done| release::plan(case, &world.release_facts(done))];

/// The case of a world that nobody has touched.
fn case_of(world: &World, policy: (usize, bool, bool, bool, bool)) -> Case {
    let (egress, cut, deny, replace, revoke) = policy;
    let mut case = sample::case();
    case.policy.egress = [Egress::Endpoints, Egress::Https, Egress::None][egress];
    case.policy.tracked_connections = if cut { TrackedConnections::Cut } else { TrackedConnections::Leave };
    case.policy.remote_addresses = if deny { RemoteAddresses::Deny } else { RemoteAddresses::Leave };
    case.policy.minimum_size = if replace { MinimumSize::Replace } else { MinimumSize::LowerMin };
    case.policy.credentials = if revoke { Credentials::Revoke } else { Credentials::Keep };
    case.remote_addresses = vec!["198.51.100.7".parse().expect("an address")];
    case.baseline.instance = world.instance.clone();
    case.baseline.instance.instance_profile = world.profile.clone();
    case.baseline.protection = Observed::Known(world.protection.clone());
    case.baseline.tags = Observed::Known(world.tags.clone());
    let before = world.detach_facts();
    case.baseline.scaling = before.scaling;
    case.baseline.targets = before.targets;
    case.baseline.classic_load_balancers = before.classic_load_balancers;
    case
}

fn any_policy() -> impl Strategy<Value = (usize, bool, bool, bool, bool)> {
    (0..3_usize, any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>())
}

fn any_world() -> impl Strategy<Value = World> {
    let case = sample::case();
    let vpc = |n: usize| -> VpcId { format!("vpc-0aaaaaaaaaaaaaa{n}").parse().expect("id") };
    let volume = any::<bool>();
    let interface = (0_usize..2, 1_usize..4);
    let membership = (prop_oneof![Just("InService"), Just("Standby")], any::<bool>(), 0..3_i32, 0..3_i32, 0..2_i32);
    let drift = prop_oneof![Just(None), Just(Some(Vec::new())), Just(Some(vec![everything_out()]))];
    (
        (any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>()),
        proptest::collection::vec(volume, 0..4),
        proptest::collection::vec(interface, 1..5),
        proptest::option::of(membership),
        proptest::collection::btree_set((0..3_usize, proptest::option::of(80..83_i32)), 0..5),
        0..3_usize,
        (drift, any::<bool>(), any::<bool>()),
        any::<bool>(),
    )
        .prop_map(move |(flags, volumes, interfaces, scaling, targets, classic, drift, has_endpoints)| {
            let (termination, stop, stops, spot) = flags;
            let (drift, has_profile, has_owner) = drift;
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
            let owner = BTreeMap::from([("Owner".to_owned(), "web-team".to_owned())]);
            let mut world = World {
                tags: has_owner.then(|| (case.instance.instance_id.to_string(), owner)).into_iter().collect(),
                instance,
                protection: Protection {
                    termination: termination && !spot,
                    stop: stop && !spot,
                    shutdown_behavior: if stops { "stop" } else { "terminate" }.to_owned(),
                },
                group: None,
                member: None,
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
                classic: (0..classic).map(|n| (format!("old-{n}"), true)).collect(),
                groups: BTreeMap::new(),
                endpoints: BTreeMap::new(),
                acl: [false, true]
                    .map(|egress| NetworkAclEntry {
                        rule_number: 100,
                        egress,
                        deny: false,
                        protocol: "-1".to_owned(),
                        cidr: "0.0.0.0/0".to_owned(),
                    })
                    .to_vec(),
                profile: has_profile.then(|| PROFILE.to_owned()),
                policies: BTreeSet::new(),
                claimed: true,
            };
            if let Some((state, protected, min, above, room)) = scaling {
                world.member = Some((state.to_owned(), protected));
                world.group = Some(ScalingSizes {
                    min,
                    desired: (min + above).max(i32::from(state == "InService")),
                    max: min + above + room + 1,
                });
            }
            if has_endpoints {
                world.endpoints = BTreeMap::from([(vpc(0), endpoints.clone()), (vpc(1), endpoints)]);
            }
            if let Some(rules) = drift {
                let group_id: GroupId = "sg-0fffffffffffffd1".parse().expect("id");
                let group = QuarantineGroup { group_id: group_id.clone(), rules: Vec::new() };
                world.groups.insert((vpc(0), tags::QUARANTINE_VALUE), group);
                world.add_rules(&group_id, true, &rules);
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
        world in any_world(), stop in 0_usize..24, policy in any_policy()
    ) {
        let case = case_of(&world, policy);
        let mut world = world;
        work(&case, &mut world, &CONTAIN, &[], stop);
        let trace = work(&case, &mut world, &CONTAIN, &[], usize::MAX);
        prop_assert!(trace.is_sorted_by_key(|(at, _)| *at), "protect, detach, quarantine, in this order: {:?}", trace);
        let left = work(&case, &mut world.clone(), &CONTAIN, &[], usize::MAX);
        prop_assert_eq!(left.len(), 0, "{:?} {:?}", left, world);
        for interface in &world.instance.interfaces {
            let group = &world.groups[&(interface.vpc_id.clone(), tags::QUARANTINE_VALUE)];
            prop_assert_eq!(&interface.groups, &vec![group.group_id.clone()]);
            prop_assert!(group.rules.iter().all(|r| r.egress && r.allows.from_port == 443));
            let pass = world.groups.get(&(interface.vpc_id.clone(), tags::PASS_THROUGH_VALUE));
            prop_assert!(pass.is_none_or(|pass| pass.rules.is_empty()), "closed behind them: {:?}", pass);
        }
        prop_assert!(world.member.is_none() && world.targets.is_empty() && world.behind().is_empty());
        prop_assert!(world.instance.volumes.iter().all(|v| !v.delete_on_termination));
        prop_assert!(world.instance.spot || (world.protection.termination && world.protection.stop));
    }

    /// Whatever containment did, wherever it was stopped, release gives the former state back, wherever it was
    /// stopped itself; and then there is nothing left to put back. Protections stay until everything else is back.
    #[test]
    fn release_gives_the_baseline_back(
        before in any_world(), stop in 0_usize..30, stop_release in 0_usize..20, policy in any_policy(),
        lost in any::<bool>()
    ) {
        let case = case_of(&before, policy);
        let mut world = before.clone();
        let mut trace = work(&case, &mut world, &CONTAIN, &[], stop);
        // A function that dies loses the record of its last stage; an ACL entry without record is left and said.
        if let Some((last, _)) = trace.last().cloned().filter(|_| lost) {
            trace.retain(|(at, action)| *at != last || matches!(action, Action::DenyAddress { .. }));
        }
        let done: Vec<Action> = trace.into_iter().map(|(_, action)| action).collect();
        work(&case, &mut world, &RELEASE, &done, stop_release);
        work(&case, &mut world, &RELEASE, &done, usize::MAX);
        let again = work(&case, &mut world.clone(), &RELEASE, &done, usize::MAX);
        prop_assert_eq!(again.len(), 0, "{:?}", again);
        let checks = release::plan(&case, &world.release_facts(&done)).checks;
        prop_assert!(!checks.is_empty() && checks.iter().all(|c| c.passed()), "{:#?}", checks);

        let instance = case.instance.instance_id.to_string();
        prop_assert_eq!(world.tags[&instance].get(tags::STATUS).map(String::as_str), Some(tags::RELEASED));
        prop_assert_eq!(
            world.tags[&instance].get("Owner").filter(|o| *o != "SecurityTeam"),
            before.tags.get(&instance).and_then(|t| t.get("Owner"))
        );
        prop_assert!(!world.claimed);
        // Status and evidence tags stay, our groups stay empty of interfaces, and a replacement stays too.
        world.tags = before.tags.clone();
        world.groups = before.groups.clone();
        world.claimed = true;
        let in_service = before.member.as_ref().is_some_and(|(state, _)| state == "InService");
        let kept_size = |a: &Action| matches!(a, Action::DetachFromScalingGroup { decrement: false, .. });
        let replaced = in_service && done.iter().any(kept_size);
        let lost_replacement = lost && case.policy.minimum_size == MinimumSize::Replace;
        if (replaced || lost_replacement) && let (Some(now), Some(was)) = (&mut world.group, &before.group) {
            now.desired = was.desired;
        }
        world.acl.sort_by_key(|e| (e.egress, e.rule_number));
        let mut before = before;
        before.targets.sort();
        world.targets.sort();
        prop_assert_eq!(world, before);
    }
}
